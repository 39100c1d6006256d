"""Run folders with checkpoints, made here: rows, per-row sums of evaluations, and what a Trainer leaves on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from ko_cpt_callbacks.metrics.row_sums import HASH_WORDS, RowSums, exact_numbers

ROWS = 200
LONG_AGO = 1_700_000_000.0
LOSSES = {10: 3.30, 20: 3.05, 30: 3.001, 40: 3.000, 50: 3.002}
"""Of these 30, 40 and 50 are equal: their rows differ by 0.03 nats, of which the mean of 200 has an error of 0.002."""


def sums(loss: float, step: int, *, text: int = 0) -> RowSums:
    """Rows of one text, whose hardness differs by 0.4 nats; of one model to the next each moves by 0.03."""
    rng = np.random.default_rng(text)
    tokens = rng.integers(50, 400, ROWS)
    hardness = rng.normal(0.0, 0.4, ROWS)
    own = np.random.default_rng(1000 + step).normal(0.0, 0.03, ROWS)
    values = hardness + own
    values -= np.sum(values * tokens) / tokens.sum()
    return RowSums(
        nll=(loss + values) * tokens,
        tokens=tokens.astype(np.int64),
        bytes=(tokens * 4).astype(np.int64),
        hash=rng.integers(1, 2**62, (ROWS, HASH_WORDS)).astype(np.uint64),
        order=np.array([[1, 0, at] for at in range(ROWS)], dtype=np.int64),
    )


def checkpoint(folder: Path, step: int, *, rows: object = (), best: str | None = None) -> Path:
    """A checkpoint's folder as a Trainer leaves it, written long ago."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"\0" * 1000 * step)
    state = {"log_history": list(rows), "global_step": step, "max_steps": 50, "best_model_checkpoint": best}  # type: ignore[call-overload]
    (path / "trainer_state.json").write_text(json.dumps(state), "utf-8")
    for one in (*path.iterdir(), path):
        os.utime(one, (LONG_AGO, LONG_AGO))
    return path


def made_run(
    folder: Path,
    losses: Mapping[int, float] | None = None,
    *,
    on_disk: Collection[int] = (40, 50),
    with_rows: Collection[int] | None = None,
    exact: bool = True,
    ended: bool = True,
    other_text: Collection[int] = (),
) -> Path:
    """A run that saved a checkpoint after every evaluation.

    Args:
        folder: Where.
        losses: By step.
        on_disk: Steps whose checkpoint is still there.
        with_rows: Steps whose per-row sums are there; None: all.
        exact: Whether exact losses were measured, or only the Trainer's.
        ended: Whether the Trainer's closing row is there.
        other_text: Steps at which other rows were evaluated.
    """
    record = folder / "ko_cpt"
    (record / "eval_rows").mkdir(parents=True)
    (record / "run.json").write_text(json.dumps({"format": 1, "told": {"task": "cpt"}}), "utf-8")
    lines: list[Mapping[str, object]] = []
    for step, loss in (losses or LOSSES).items():
        found = sums(loss, step, text=int(step in other_text))
        row: dict[str, object] = {"kind": "eval", "attempt": 1, "step": step, "eval_loss": loss, "eval_runtime": 1.0}
        if exact:
            row |= exact_numbers(found, "eval", 0, with_bytes=True)
            row["eval_fingerprint"] = f"utf8-{found.fingerprint()}"
            if with_rows is None or step in with_rows:
                (record / "eval_rows" / f"eval-{step}.npz").write_bytes(found.to_payload())
        lines += [{"kind": "train", "attempt": 1, "step": step, "loss": loss}, row]
        lines.append({"kind": "checkpoint", "attempt": 1, "step": step})
        if step in on_disk:
            checkpoint(folder, step, rows=[row])
    if ended:
        end = {"kind": "end", "attempt": 1, "step": max(losses or LOSSES)}
        lines.append({**end, "train_loss": 3.0, "train_runtime": 1})
    (record / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    os.utime(record / "rows.jsonl", (LONG_AGO, LONG_AGO))
    return folder
