"""A run of the user's, and its losses, as what a baseline's file says of it: plain values, nothing written yet."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.figure import MEAN
from ko_cpt_callbacks.compare.resolution import start_of
from ko_cpt_callbacks.compare.stage import NOT_STATED, STAGE, Trains
from ko_cpt_callbacks.compare.value import BITS, NATS
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.observation import (
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
    count_from_one,
    finite_number,
)
from ko_cpt_callbacks.run.reading import LogSource, Run
from ko_cpt_callbacks.run.retention import retention_names
from ko_cpt_callbacks.yaml.reading import mapping

_WHOLE: Final = "whole"
_NOT_NAMES: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class OwnRun:
    """What is kept of a run.

    Attributes:
        values: What its file will say.
        rows_files: Files of per-row sums to copy, by the name they get.
        left_out: What could not be kept, and why, a sentence each.
    """

    values: dict[str, Any]
    rows_files: Mapping[str, Path]
    left_out: tuple[str, ...]


def own_run(run: Run, run_file: Mapping[str, Any], id: str, title: str | None = None, *, best: bool = False) -> OwnRun:
    """The baseline that a run is; ``run_file`` is its ``run.json``, empty where there is none. The rest as `add_own`.

    Raises:
        UnreadableRunError: If the run has neither an evaluation nor a training loss that is a number.
    """
    seen = run.observations()
    evaluations = counting_evaluations([item for item in seen if isinstance(item, EvalObservation)], best=best)
    stages = [item for item in seen if isinstance(item, SetupObservation) and item.kind == STAGE]
    stage, trains = _stage(stages)
    values: list[dict[str, Any]] = []
    files: dict[str, Path] = {}
    left_out: list[str] = []
    for item in evaluations.values():
        rows, problem = rows_file_of(run, item)
        if rows is not None:
            files[rows.name] = rows
        if problem:
            left_out.append(problem)
        values.extend(measured_values(item, stage["name"], None if rows is None else f"{id}/{rows.name}"))
    if not values:
        left_out.append("no evaluation that is a number: a training loss is compared with nothing")
    values.extend(training_values([item for item in seen if isinstance(item, TrainObservation)], stage["name"]))
    if not values:
        raise UnreadableRunError(
            f"{run.path}: found no loss that is a number, expected a run with one; nothing is added"
        )
    model, tokenizer, measured = (mapping(run_file, name) for name in ("model", "tokenizer", keys.MEASURED))
    name, hash = model.get("name_or_path"), tokenizer.get("hash")
    url = run.path.absolute().as_uri()
    title = title or f"{'Measured' if measured else 'Own run'}{f' of {name}' if isinstance(name, str) and name else ''}"
    method = f"{stage['title']}, as its rows and its {keys.RUN_FILE} have it"
    if measured:
        method = f"ko-cpt measure on {measured.get('text')}, windows of {measured.get('window')} tokens"
        for value in values:
            value["position"] = "as loaded"
            value.update(_language(value["set"].removeprefix("eval_"), measured))
    content = _known(
        id=id,
        title=title,
        version=1,
        status="own",
        kind="base model" if measured else "continued pretraining",
        language="ko",
        start=(start_of(stages[-1].values) if stages else "") or None,
        why_not=None if evaluations else "it has no evaluation: there is a training loss only",
        base_model=_text(name),
        parameters=_number(model.get("parameters")),
        tokenizer=_known(
            name=_text(tokenizer.get("class")),
            vocabulary=_number(tokenizer.get("vocabulary")),
            bytes_per_token=_bytes_per_token(evaluations, run_file),
            hash=hash if isinstance(hash, str) and hash else None,
        ),
        data={"text": NOT_STATED, "tokens": _tokens(seen), "bytes": NOT_STATED, "documents": NOT_STATED},
        hardware={
            "gpu": _text(run_file.get("device")),
            "gpu_hours": NOT_STATED,
            "quantization": _text(model.get("quantization")),
        },
        method={"summary": method, "new_rows": NOT_STATED, "hyper_parameters": _hyper_parameters(run_file)},
        stages=[{**stage, "trains": trains, "reference": True, "grade": OWN, "source": "run", "locator": "rows"}],
        values=values,
        benchmarks=NOT_STATED,
        efficiency=_efficiency(run),
        sources={
            "run": {
                "title": "This run",
                "url": url,
                "bibtex": f"@misc{{{_NOT_NAMES.sub('_', id)},\n  title = {{Own run {id}}},\n  url = {{{url}}}\n}}",
            }
        },
    )
    return OwnRun(content, files, tuple(left_out))


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _stage(rows: list[SetupObservation]) -> tuple[dict[str, str], Any]:
    """Name and title of what was trained, and its four words; ``whole`` where it was not looked at."""
    for row in reversed(rows):
        trains = Trains.in_row(row.values)
        title = row.values.get("name")
        name = _NOT_NAMES.sub("-", title.lower()).strip("-") if isinstance(title, str) else ""
        if trains is not None and name[:1].isalpha():
            return {"name": name, "title": str(title)}, trains.as_dict()
    return {"name": _WHOLE, "title": "the whole run"}, NOT_STATED


def _language(name: str, measured: Mapping[str, Any]) -> dict[str, str]:
    """The language of a measured set, where it is not Korean."""
    language = mapping(measured, "languages").get(name)
    return {} if not isinstance(language, str) or language == "ko" else {"language": language or "und"}


def _text(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip():
        return NOT_STATED
    return {"quoted": value.strip(), "origin": "measured", "grade": OWN}


def _number(value: Any, note: str = "") -> Any:
    if finite_number(value) is None:
        return NOT_STATED
    return _known(value=value, origin="measured", grade=OWN, note=note or None)


def _bytes_per_token(evaluations: Mapping[str, EvalObservation], run_file: Mapping[str, Any]) -> Any:
    """Of the first set that is to be learned: sets in other languages have others."""
    retention = (mapping(run_file, "watch") or mapping(run_file, "told")).get("retention")
    texts = [item for item in retention if isinstance(item, str)] if isinstance(retention, list) else []
    kept = [f"eval_{name}" for name in retention_names(texts)]
    for item in sorted(evaluations.values(), key=lambda item: item.split in kept):
        if item.bytes and item.tokens:
            return _number(item.bytes / item.tokens, f"the text of {item.split}")
    return NOT_STATED


def _tokens(seen: Sequence[Observation]) -> Any:
    counts = (item.tokens_seen for item in seen if isinstance(item, TrainObservation))
    return _number(max((count for count in counts if count), default=None), "target tokens trained on")


def _efficiency(run: Run) -> Any:
    speeds = [finite_number(row.get(keys.TOKENS_PER_GPU_HOUR)) for row in run.rows]
    numbers = [speed for speed in speeds if speed is not None and speed > 0]
    return _number(statistics.median(numbers), "median over the training rows") if numbers else NOT_STATED


def _hyper_parameters(run_file: Mapping[str, Any]) -> dict[str, Any]:
    arguments, world = mapping(run_file, "arguments"), run_file.get("world_size")
    found = {
        name: _text(value) if isinstance(value, str) else _number(value)
        for name, value in arguments.items()
        if re.fullmatch(r"[a-z][a-z0-9_-]*", name)
    }
    parts = (arguments.get("per_device_train_batch_size"), arguments.get("gradient_accumulation_steps"), world)
    counts = [count for part in parts if (count := count_from_one(part))]
    if len(counts) == len(parts):
        found["batch_size"] = _number(math.prod(counts), "rows per step")
    return {name: value for name, value in found.items() if value != NOT_STATED}


LAST_POINTS: Final = 50
"""Training points in the mean that stands for a run's training loss; chosen: the public runs were averaged so."""

OWN: Final = "OWN"


def counting_evaluations(seen: list[EvalObservation], *, best: bool) -> dict[str, EvalObservation]:
    """The evaluation of each set that counts: the last one, or the one with the lowest loss."""
    found: dict[str, list[EvalObservation]] = {}
    for item in {(item.split, item.step): item for item in seen}.values():  # a later row of the same step counts
        if _loss(item) is not None:
            found.setdefault(item.split, []).append(item)
    return {
        split: min(items, key=lambda item: _loss(item) or math.inf) if best else max(items, key=lambda item: item.step)
        for split, items in found.items()
    }


def _loss(item: EvalObservation) -> float | None:
    loss = finite_number(item.loss if item.exact_loss is None else item.exact_loss)
    return loss if loss is not None and loss > 0 else None


def measured_values(item: EvalObservation, stage: str, rows_file: str | None) -> Iterator[dict[str, Any]]:
    """The loss of an evaluation, which is a number, and its bits per byte, as they were measured."""
    shared = {
        "stage": stage,
        "split": "eval",
        "origin": "measured",
        "grade": OWN,
        "position": f"step {item.step:,}",
        "set": item.split,
        **{name: value for name in ("fingerprint", "tokens", "bytes", "rows") if (value := getattr(item, name))},
        **_known(rows_file=rows_file),
    }
    note = _known(note=None if item.exact_loss is not None else "the Trainer's own loss, a mean of batch means")
    loss, se = _loss(item), finite_number(item.exact_loss_se)
    yield {**_known(metric="loss", unit=NATS, value=loss, se=se), **shared, **note}
    bits, se = finite_number(item.bits_per_byte), finite_number(item.bits_per_byte_se)
    if bits is not None and bits > 0:
        yield {**_known(metric=keys.BITS_PER_BYTE, unit=BITS, value=bits, se=se), **shared}


def training_values(seen: list[TrainObservation], stage: str) -> Iterator[dict[str, Any]]:
    """The mean of the last training points; those that hide a NaN do not count."""
    points = {
        item.step: loss
        for item in seen
        if (loss := finite_number(item.loss)) is not None and loss > 0 and not item.nonfinite_steps
    }
    last = sorted(points)[-LAST_POINTS:]
    if not last:
        return
    losses = [points[step] for step in last]
    steps = f"steps {last[0]:,} to {last[-1]:,}"
    yield {
        "metric": "loss",
        "unit": NATS,
        "value": math.fsum(losses) / len(losses),
        "stage": stage,
        "split": "train",
        "origin": "computed",
        "formula": MEAN,
        "inputs": {"losses": losses},
        "grade": OWN,
        "note": f"mean of the last {len(losses)} training points, {steps}; on weights that still moved",
        "position": steps,
        "set": "training text",
    }


def rows_file_of(run: Run, item: EvalObservation) -> tuple[Path | None, str]:
    """The file with the per-row sums of an evaluation, and what is wrong with it."""
    run_file = run.run_file()
    record = run.path.absolute().parent if run.source is LogSource.ROWS else run_file and run_file.parent
    if record is None or item.exact_loss is None:
        return None, ""
    path = eval_rows_path(record, item.split, item.step)
    if not path.is_file():
        return None, f"the per-row sums of {item.split} at step {item.step:,} are not there: no paired comparison"
    try:
        rows = read_eval_rows(path)
    except UnreadableRunError as error:
        return None, str(error)
    wrong = rows.contradiction(
        loss=item.exact_loss, tokens=item.tokens, bytes=item.bytes, fingerprint=item.fingerprint
    )
    if wrong is not None:
        return None, f"{path}: found the per-row sums of another evaluation: {wrong}"
    return path, ""
