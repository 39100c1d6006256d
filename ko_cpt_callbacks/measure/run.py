"""From a model and a text to its numbers: what is kept already is not scored again, processes share the documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.measure.row_reader import TokenTable
from ko_cpt_callbacks.hf.model import facts as inspection
from ko_cpt_callbacks.measure.document import CAUSAL, DocumentReader
from ko_cpt_callbacks.measure.measurement import MeasuredModel, measured_model
from ko_cpt_callbacks.measure.model import ModelChoice, is_8_bit, load_measured, place_files
from ko_cpt_callbacks.measure.record import MeasureFolder
from ko_cpt_callbacks.measure.scorer import WindowScorer, batch_tokens
from ko_cpt_callbacks.measure.text import MeasuredText
from ko_cpt_callbacks.training.data.encode import Document, encode_texts

__all__ = ["MeasureSettings", "measure_model"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MeasureSettings:
    """How models are measured.

    Attributes:
        folder: Where each has a folder of its own.
        window: Tokens of a forward pass; None: 2,048, or what the model takes.
        context: Tokens of text before the first scored one where a document goes on; None: half a window.
        batch_size: Windows of a batch; None: as many as have room for their logits, and one in 8-bit.
        old_rows: Rows of the old vocabulary, so that bits are shared out by old and new ones; None: they are not.
    """

    folder: Path
    window: int | None = None
    context: int | None = None
    batch_size: int | None = None
    old_rows: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.context is not None and self.context >= self.window - 1:
            raise ConfigurationError(
                f"--context: found {self.context} tokens of a window of {self.window}, expected at most "
                f"{self.window - 2}"
            )


def measure_model(
    choice: ModelChoice, text: MeasuredText, settings: MeasureSettings, progress: Progress | None = None
) -> MeasuredModel:
    """Measure a model, or read what was measured of it.

    Args:
        choice: Which.
        text: On what.
        settings: How.
        progress: Called with the UTF-8 bytes that are done, and of all.

    Raises:
        ConfigurationError: If the model, the text or the folder cannot be used.
    """
    if choice.measured:
        return _kept(Path(choice.name), text)
    state = PartialState(cpu=choice.device == "cpu")
    # bitsandbytes seeks the outliers of 8-bit activations in the whole batch: alone, a window has one loss.
    alone = is_8_bit(choice)
    # What asks for numbers under one name gets those of one text, one model and one way of cutting.
    asked = {
        "text": text.name, "text_sha256": text.digest, "window": settings.window, "context": settings.context,
        **({"batch_size": settings.batch_size} if alone else {}), **place_files(choice),
        **({} if settings.old_rows is None else {"old_rows": settings.old_rows}),
    }  # fmt: skip
    folder = MeasureFolder(settings.folder / choice.short_name, asked, state.process_index)
    places = [(item.name, document) for item in text.sets for document in item.documents]
    if folder.measured is not None and all((name, one.id) in folder.documents for name, one in places):
        return measured_model(choice.name, text, folder.documents.values(), folder.measured)
    # By its place and not by what is missing: another process may have begun already.
    own = [place for at, place in enumerate(places) if at % state.num_processes == state.process_index]
    missing = [place for place in own if (place[0], place[1].id) not in folder.documents]
    loaded = load_measured(choice)
    table = TokenTable(state.process_index, CAUSAL)
    table.use(loaded.tokenizer)
    window = loaded.window(settings.window)
    context = min(settings.context or window // 2, window - 2)
    if missing:
        folder.begin()
        rows = settings.batch_size or (1 if alone else None)
        tokens = batch_tokens(loaded.model, loaded.device) if rows is None else None
        scorer = WindowScorer(loaded, window, context, tokens, rows)
        reader = DocumentReader(table, loaded.prefix, settings.old_rows)
        _score(scorer, reader, loaded.tokenizer, missing, folder, progress)
    state.wait_for_everyone()
    folder.read_again()
    model = inspection.model_facts(loaded.model)
    how = {
        "model": choice.name, "label": choice.short_name, "text": text.name, "text_sha256": text.digest,
        "languages": text.set_languages, "window": window, "context": context,
        "prefix": None if loaded.prefix is None else loaded.tokenizer.convert_ids_to_tokens(loaded.prefix),
        "dtypes": model["dtypes"], "quantization": model["quantization"], "adapter": choice.adapter,
        "parameters": model["parameters"], "bytes_absent": table.absent(),
        "old_rows": settings.old_rows,
    }  # fmt: skip
    measured = measured_model(choice.name, text, folder.documents.values(), how)
    if state.is_main_process:
        facts = {
            "evaluations": _evaluations(measured, table),
            "versions": inspection.versions(),
            "model": {**model, "name_or_path": choice.name},
            "tokenizer": table.facts(),
            "device": loaded.device.type,
            "world_size": state.num_processes,
        }
        folder.finish({item.name: (item.entries, item.rows) for item in measured.sets}, facts, how)
    state.wait_for_everyone()
    return measured


def _kept(path: Path, text: MeasuredText) -> MeasuredModel:
    """What was measured and is named by its folder, so that a model that is gone stands in a ladder too."""
    folder = MeasureFolder(path, None)
    whole = all((item.name, one.id) in folder.documents for item in text.sets for one in item.documents)
    if folder.measured is None or not whole or folder.measured.get("text_sha256") != text.digest:
        raise ConfigurationError(
            f"MODEL: found a measurement in {path} that is not whole or of another text, expected one of {text.name}; "
            "name the model, or the text with --text"
        )
    return measured_model(str(path), text, folder.documents.values(), folder.measured)


def _score(
    scorer: WindowScorer,
    reader: DocumentReader,
    tokenizer: Any,
    missing: Sequence[tuple[str, Document]],
    folder: MeasureFolder,
    progress: Progress | None,
) -> None:
    encoded = encode_texts(tokenizer, [document.text for _, document in missing])
    done, whole = 0, sum(document.size for _, document in missing)
    for place, nll in scorer.score(encoded):
        name, document = missing[place]
        folder.add(reader.read(name, document, encoded[place], nll))
        done += document.size
        if progress is not None:
            progress(done, whole)


def _evaluations(measured: MeasuredModel, table: TokenTable) -> dict[str, Any]:
    note = None if table.table is None else table.table.note
    return {
        keys.key("eval", item.name): {
            "evidence": "logits",
            keys.EXACT_LOSS_ABSENT: item.entries.get(keys.EXACT_LOSS_ABSENT),
            keys.BITS_PER_BYTE_ABSENT: item.entries.get(keys.BITS_PER_BYTE_ABSENT),
            "error_bar": keys.EXACT_LOSS_SE in item.entries,
            "fingerprint": item.entries.get(keys.FINGERPRINT),
            "bytes_note": note,
        }
        for item in measured.sets
    }
