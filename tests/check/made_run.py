"""Run folders as the callback writes them, made here: rows, run.json, and the per-row sums of the last evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, OPENS, READ, SPECIAL_SCORED, RowSums, exact_numbers

ROWS = 60


def sums(
    loss: float = 3.0, *, seed: int = 0, reach: float = 4.0, text: int = 0, flags: int = READ | OPENS | SPECIAL_SCORED
) -> RowSums:
    """Sums of 60 rows of one text: the same hardness of its rows whatever the seed, which moves each a little.

    Args:
        loss: About the loss, in nats per token at four bytes per token.
        seed: Of what differs between two models.
        reach: Bytes per token.
        text: Which text.
        flags: What kind of rows they are.
    """
    rng = np.random.default_rng(text)
    size = rng.integers(200, 4000, ROWS)
    hardness = rng.normal(0.0, 0.4, ROWS)
    own = np.random.default_rng(1000 + seed).normal(0.0, 0.02, ROWS)
    return RowSums(
        nll=(loss + hardness + own) * size / 4.0,
        tokens=np.maximum(1, np.round(size / reach)).astype(np.int64),
        bytes=size.astype(np.int64),
        hash=rng.integers(1, 2**62, (ROWS, HASH_WORDS)).astype(np.uint64),
        order=np.array([[1, 0, at] for at in range(ROWS)], dtype=np.int64),
        flags=np.full(ROWS, flags, dtype=np.uint8),
    )


def write_run(
    folder: Path,
    evaluations: Mapping[str, RowSums] | None = None,
    *,
    step: int = 100,
    keep_rows: bool = True,
    run: Mapping[str, Any] | None = None,
    more: Sequence[Mapping[str, Any]] = (),
    trained: Mapping[str, Any] | None = None,
) -> str:
    """A run folder with these evaluations at a step; returns its path.

    Args:
        folder: Where.
        evaluations: Per-row sums by set.
        step: Optimizer step of the evaluations.
        keep_rows: Whether the per-row sums stay.
        run: What ``run.json`` says beside the usual.
        more: Rows before all others.
        trained: Keys that every training row has too.
    """
    inside = folder / "ko_cpt"
    (inside / "eval_rows").mkdir(parents=True)
    told = {"format": 1, "watch": {"task": "cpt", "retention": ["old"]}}
    facts = {"tokenizer": {"hash": "abc", "vocabulary": 600}, "model": {"quantization": "none"}, **(run or {})}
    (inside / "run.json").write_text(json.dumps({**told, **facts}), "utf-8")
    rows: list[Mapping[str, Any]] = [*more]
    for at in range(1, 61):
        loss = 3.0 + math.exp(-at / 10)
        rows.append({"kind": "train", "attempt": 1, "step": at, "loss": loss, "grad_norm": 1.0, **(trained or {})})
    for name, found in (evaluations or {}).items():
        row = {"kind": "eval", "attempt": 1, "step": step, f"{name}_loss": 3.0, f"{name}_runtime": 1.0}
        row |= exact_numbers(found, name, 0, with_bytes=True)
        row[f"{name}_fingerprint"] = f"utf8-{found.fingerprint()}"
        rows.append(row)
        if keep_rows:
            (inside / "eval_rows" / f"{name}-{step}.npz").write_bytes(found.to_payload())
    (inside / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return str(folder)
