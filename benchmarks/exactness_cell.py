"""Runs cells of the exactness table; every cell is a real Trainer, one step of training, and the evaluation after it.

    python benchmarks/exactness_cell.py CELLS.json ANSWER.json

is what ``exactness.py`` starts, once per transformers version. Imports are shared: the ranks are forked from one
server that has made them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import forked  # noqa: E402

# What a rank imports once; the package itself is not needed to build a model or a reference.
_SHARED = ("trl.trainer.sft_trainer", "exactness_reference", "exactness_kind")
forked.PRELOAD.extend(name for name in _SHARED if name not in forked.PRELOAD)

# Texts of 12 to 90 tokens: none is cut, so a row's text is the same however its Trainer frames it.
SHORTEST, LONGEST = 12, 90


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Attributes:
        transformers: Version that must be installed where it runs.
        processes: Ranks, over gloo.
        batch: Rows per process and evaluation batch.
        rows: ``12 texts`` or ``13 texts`` (padded), ``13 free`` (the same, flattened without padding), ``blocks``
            (packed to 64 tokens before the Trainer), ``wrapped`` or ``bfd`` (packed by SFTTrainer).
        trainer: ``plain`` or ``sft``.
        model: ``full``, ``lora`` (with trained embeddings and head) or ``8-bit`` (that on an 8-bit base); with
            `` bf16`` behind it in bfloat16; ``lora only`` without the trained embeddings and head.
        quick: Part of the short table.
        settings: Further training arguments.
        kind: Name of what is unlike the plain table (``exactness_kind.py``); trainer and model then only describe it.
    """

    transformers: str
    processes: int
    batch: int
    rows: str
    trainer: str
    model: str
    quick: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""

    @property
    def texts(self) -> str:
        """Which text its rows hold: equal for cells whose fingerprints must be equal."""
        # Packed "bfd" with room for every text, and flattened batches, keep whole texts as documents.
        return {"13 free": "13 texts", "bfd": "12 texts"}.get(self.rows, self.rows)


def run_cells(cells: Sequence[Mapping[str, Any]], folder: str) -> list[dict[str, Any]]:
    """What this rank saw in every cell. The process group, if any, is that of the environment."""
    import os

    import exactness_models

    rank = int(os.environ.get("RANK", "0"))
    # Before there is a process group: with one, only its first rank saves a model.
    save_base(Path(folder) / f"base-{rank}")
    exactness_models.save(Path(folder) / f"base-{rank}")
    return [_run(Cell(**cell), Path(folder), number, rank) for number, cell in enumerate(cells)]


def _run(cell: Cell, place: Path, number: int, rank: int) -> dict[str, Any]:
    import transformers
    from exactness_reference import Reference, row_name

    from ko_cpt_callbacks import KoCPTCallback

    folder = place / f"cell-{number}"
    if cell.kind:
        return _run_kind(cell, folder, rank, place / f"base-{rank}")
    model = build_model(cell.model, place / f"base-{rank}")
    trainer = build_trainer(cell, model, folder, KoCPTCallback(outputs=["files"]))
    reference = Reference(trainer.model, rank)
    trainer.add_callback(reference)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "eval_loss" in row]
    dataset, slots = trainer.eval_dataset, cell.batch * cell.processes
    dropped = len(dataset) % slots if trainer.args.dataloader_drop_last else 0
    evaluated = [dataset[at] for at in range(len(dataset) - dropped)]
    file = folder / "out" / "ko_cpt" / "run.json"
    return {
        "transformers": transformers.__version__,
        "sights": reference.evaluations,
        "names": [row_name(ids) for row in evaluated for ids in _documents(row)],
        "unequal": len(evaluated) % slots != 0,
        "logged": logged,
        "evidence": json.loads(file.read_text("utf-8"))["evaluations"] if rank == 0 else None,
    }


def _run_kind(cell: Cell, folder: Path, rank: int, base: Path) -> dict[str, Any]:
    import exactness_kind
    import tiny
    import transformers
    from exactness_reference import Reference, row_name

    from ko_cpt_callbacks import KoCPTCallback

    tokenizer = tiny.byte_level_tokenizer()
    texts = texts_of(12 if cell.rows == "12 texts" else 13)
    found = tiny.packed(texts, tokenizer) if cell.rows == "blocks" else tiny.rows(texts, tokenizer)
    rows = [{"input_ids": list(row["input_ids"])} for row in found]
    callback = KoCPTCallback(outputs=["files"])
    trainer = exactness_kind.build(cell.kind, _arguments(cell, folder), rows, base, callback)
    kind = exactness_kind.KINDS[cell.kind]
    answer: dict[str, Any] = {"transformers": transformers.__version__, "unequal": False}
    watched = Reference(trainer.model, rank) if kind.watched else None
    alone = exactness_kind.RowReference(trainer.model, rows) if kind.compared and not kind.watched else None
    for reference in (watched, alone):
        if reference is not None:
            trainer.add_callback(reference)
    trainer.train()
    if watched is not None:
        answer.update(sights=watched.evaluations, names=[row_name(row["input_ids"]) for row in rows])
    if alone is not None:
        answer.update(reference=alone.losses[-1], reference_tokens=alone.tokens)
    file = folder / "out" / "ko_cpt" / "run.json"
    answer["logged"] = [row for row in trainer.state.log_history if "eval_loss" in row]
    answer["evidence"] = json.loads(file.read_text("utf-8"))["evaluations"] if rank == 0 else None
    return answer


def _documents(row: Mapping[str, Any]) -> list[list[int]]:
    """The documents of a packed row that keeps them apart, else the row itself."""
    ids, start, parts = list(row["input_ids"]), 0, []
    for length in row.get("seq_lengths") or [len(ids)]:
        parts.append(ids[start : start + length])
        start += length
    return parts


def build_trainer(cell: Cell, model: Any, folder: Path, callback: Any) -> Any:
    """The Trainer of a cell; the same on every rank."""
    import tiny
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = tiny.byte_level_tokenizer()
    texts = texts_of(12 if cell.texts == "12 texts" else 13)
    arguments = _arguments(cell, folder)
    common = {"model": model, "processing_class": tokenizer, "callbacks": [callback]}
    if cell.trainer == "plain":
        rows = tiny.packed(texts, tokenizer) if cell.rows == "blocks" else tiny.rows(texts, tokenizer)
        collator = None if cell.rows == "blocks" else DataCollatorForLanguageModeling(tokenizer, mlm=False)
        return Trainer(
            args=TrainingArguments(**arguments), train_dataset=rows, eval_dataset=rows, data_collator=collator, **common
        )
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    data = Dataset.from_dict({"text": list(texts)})
    shapes: dict[str, dict[str, Any]] = {
        "13 free": {"padding_free": True, "max_length": None},
        "wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 64},
        "bfd": {"packing": True, "packing_strategy": "bfd", "max_length": 128},
    }
    # Its own defaults round to bfloat16 and re-enter the backward pass, which DDP does not allow.
    shape = {"bf16": False, "gradient_checkpointing": False, **shapes.get(cell.rows, {"max_length": 96})}
    return SFTTrainer(args=SFTConfig(**{**shape, **arguments}), train_dataset=data, eval_dataset=data, **common)


def _arguments(cell: Cell, folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": cell.batch,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "learning_rate": 1e-3,
        **({"ddp_backend": "gloo"} if cell.processes > 1 else {}),
        **cell.settings,
    }


def save_base(folder: Path) -> None:
    """The weights that the 8-bit cells load: some columns pass LLM.int8's threshold of 6.0 in some batches only."""
    model = _llama()
    for layer in model.model.layers:
        layer.input_layernorm.weight.data[:3] = 2.2
        layer.post_attention_layernorm.weight.data[:3] = 2.2
    model.save_pretrained(folder)


def build_model(kind: str, base: Path) -> Any:
    """A small Llama whose rows differ in loss; adapters and trained copies are moved off their starting point."""
    import tiny
    import torch
    from transformers import BitsAndBytesConfig

    model = _llama()
    if kind.endswith("bf16"):
        model = model.to(torch.bfloat16)
    if kind.startswith("8-bit"):
        eight = BitsAndBytesConfig(load_in_8bit=True)
        model = type(model).from_pretrained(base, quantization_config=eight, device_map="cpu")
    if kind.startswith("full"):
        return model
    model = tiny.lora(model, **({"modules_to_save": None} if "only" in kind else {}))
    # Its default re-enters the backward pass, which DDP does not allow.
    model.gradient_checkpointing_disable()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def _llama() -> Any:
    import tiny

    # Wide weights: with the usual ones every row would cost about ln(vocabulary) per token.
    return tiny.llama(len(tiny.byte_level_tokenizer()), initializer_range=0.4)


def texts_of(count: int) -> tuple[str, ...]:
    """The first Korean texts that fit."""
    import tiny

    tokenizer = tiny.byte_level_tokenizer()
    fitting = (text for text in tiny.korean() if SHORTEST <= len(tokenizer.encode(text)) <= LONGEST)
    return tuple(text for text, _ in zip(fitting, range(count), strict=False))


def answers(cells: Sequence[Cell], seconds: float) -> list[dict[str, Any]]:
    """Runs cells of one process count and reports each against the reference.

    Args:
        cells: The cells; all with the same number of processes.
        seconds: Time limit for all of them.

    Returns:
        Per cell the evaluation's row, the reference, and what kind of evidence was used; or the ``error``.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plain = [asdict(cell) for cell in cells]
        try:
            outcomes = forked.run_ranks(
                run_cells, plain, place, ranks=cells[0].processes, folder=folder / "notes", timeout=seconds
            )
        except TimeoutError as error:
            return [{"error": str(error)} for _ in cells]
    broken = [f"rank {rank}: {outcome.text[-1500:]}" for rank, outcome in enumerate(outcomes) if outcome.code]
    if broken:
        return [{"error": "\n".join(broken)} for _ in cells]
    seen = [outcome.value for outcome in outcomes]
    return [_answer(list(ranks)) for ranks in zip(*seen, strict=True)]


def _answer(ranks: list[dict[str, Any]]) -> dict[str, Any]:
    from exactness_reference import merge

    first = ranks[0]
    try:
        if "sights" in first:
            reference, tokens = merge((sight for rank in ranks for sight in rank["sights"][-1]), first["names"])
        else:
            reference, tokens = first.get("reference"), first.get("reference_tokens")
    except ValueError as error:
        return {"error": str(error)}
    return {
        "transformers": first["transformers"],
        "reference": reference,
        "reference_tokens": tokens,
        "unequal": first["unequal"],
        "row": first["logged"][-1],
        "agree": all(
            rank["logged"][-1].get("eval_exact_loss") == first["logged"][-1].get("eval_exact_loss") for rank in ranks
        ),
        "evidence": first["evidence"].get("eval", {}).get("evidence"),
    }


def main() -> int:
    """Answers for the cells of a file, group by group."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    cells = [Cell(**cell) for cell in json.loads(source.read_text("utf-8"))]
    found: list[Any] = [None] * len(cells)
    for processes in sorted({cell.processes for cell in cells}):
        places = [place for place, cell in enumerate(cells) if cell.processes == processes]
        group = answers([cells[place] for place in places], seconds=30.0 + 10.0 * len(places))
        for place, answer in zip(places, group, strict=True):
            found[place] = answer
    target.write_text(json.dumps(found), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
