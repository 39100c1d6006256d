"""A staged training as this package leaves it: a plan, and of each stage rows, run.json and the sums per row."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.row_sums import RowSums, exact_numbers

WORDS = {
    "embedding": {"input": "all", "output": "all", "layers": "none", "adapter": "none"},
    "odd-layers": {"input": "none", "output": "none", "layers": "odd", "adapter": "none"},
    "even-layers": {"input": "none", "output": "none", "layers": "even", "adapter": "none"},
    "lora": {"input": "all", "output": "all", "layers": "all", "adapter": "lora"},
}
NAMES = {
    "embedding": "embedding",
    "odd-layers": "odd layers",
    "even-layers": "even layers",
    "lora": "LoRA and embedding",
}
TOLD = {"targets": [], "task": "cpt", "rules": None, "language": "en", "patience": None, "retention": ["en"]}


def sums(level: float, seed: int = 0, text: int = 0, count: int = 150) -> RowSums:
    """Rows at a level of loss in nats per token; ``text`` says which rows they are, ``seed`` their own noise."""
    shared, own = np.random.default_rng(text), np.random.default_rng(1000 + seed)
    tokens = shared.integers(10, 60, count)
    nll = tokens * (level + 0.4 * shared.standard_normal(count) + 0.01 * own.standard_normal(count))
    order = np.stack([np.arange(count)] * 3, axis=1)
    hashes = (np.arange(count) + 10_000 * text).astype(np.uint64)
    return RowSums(nll, tokens.astype(np.int64), tokens * 3, hashes, order)


def evaluation(prefix: str, step: int, rows: RowSums) -> dict[str, Any]:
    """An evaluation's line."""
    row = {keys.KIND: "eval", "attempt": 1, "step": step, "split": prefix}
    trainers = {f"{prefix}_loss": 3.0, f"{prefix}_runtime": 1.0, f"{prefix}_fingerprint": rows.fingerprint()}
    return {**row, **trainers, **exact_numbers(rows, prefix, 0, with_bytes=True)}


def stage(
    folder: Path,
    name: str,
    levels: tuple[float, float],
    *,
    seed: int = 0,
    text: int = 0,
    tokenizer: str = "abc",
    ended: bool = True,
    keep_rows: bool = True,
    told: dict[str, Any] | None = None,
    more: list[dict[str, Any]] | None = None,
) -> Path:
    """A stage of 400 steps, from one level of loss on ``eval_ko`` to another; ``eval_en`` always gets worse.

    Args:
        folder: Where it goes.
        name: Its name, for the words of what it trains.
        levels: Loss at its first and at its last evaluation.
        seed: Noise of its rows.
        text: Which text it was evaluated on.
        tokenizer: Hash of its vocabulary.
        ended: Whether the Trainer's last row is there.
        keep_rows: Whether the sums per row were kept.
        told: Entries of ``run.json``'s ``told``.
        more: Lines before the last.
    """
    record = folder / keys.FOLDER
    (record / keys.EVAL_ROWS_FOLDER).mkdir(parents=True)
    words = {**WORDS.get(name, {}), "name": NAMES[name]} if name in WORDS else {}
    lines: list[dict[str, Any]] = []
    if words:
        lines.append({"kind": "setup", "setup": "stage", "attempt": 1, "step": 0, **words})
    for index in range(1, 41):
        loss = levels[1] + (levels[0] - levels[1]) * math.exp(-index / 8)
        # Training learns, whatever becomes of the evaluations: what is asked here is how the stages stand.
        train = levels[0] - 0.2 + max(levels[0] - levels[1], 0.2) * math.exp(-index / 8)
        lines.append({"kind": "train", "attempt": 1, "step": 10 * index, "loss": train, "grad_norm": 1.0,
                      "learning_rate": 1e-4, "tokens_seen": 5000 * index, "nonfinite_steps": 0})  # fmt: skip
        if index in (1, 20, 40):
            level = levels[0] if index == 1 else loss if index == 20 else levels[1]
            for prefix, rows in (("eval_ko", sums(level, seed, text)), ("eval_en", sums(level + seed, seed, 9))):
                lines.append(evaluation(prefix, 10 * index, rows))
                if keep_rows:
                    path = record / keys.EVAL_ROWS_FOLDER / keys.eval_rows_file(prefix, 10 * index)
                    path.write_bytes(rows.to_payload())
    lines.extend({"attempt": 1, **line} for line in more or ())
    if ended:
        lines.append({"kind": "end", "attempt": 1, "step": 400, "train_loss": 3.0, "train_runtime": 9.0})
    (record / keys.ROWS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    run = {"format": 1, "watch": {**TOLD, **(told or {})}, "tokenizer": {"hash": tokenizer}, "stop": None}
    (record / keys.RUN_FILE).write_text(json.dumps(run), "utf-8")
    return folder


def plan(run: Path, names: list[str], **more: Any) -> list[Path]:
    """A plan of these stages; the folders of the stages."""
    folders = [f"stages/{index:02d}-{name}" for index, name in enumerate(names, start=1)]
    stages = [{"name": name, "folder": folder} for name, folder in zip(names, folders, strict=True)]
    write_plan(run, {"format": 1, "recipe": {"id": "tiny"}, "stages": stages, **more})
    return [run / folder for folder in folders]


def write_plan(run: Path, value: object) -> Path:
    """A plan.json as it is; a text is written unchanged."""
    path = run / keys.FOLDER / "plan.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path
