"""Histories as a Trainer logs them, made here: what real logs show, small enough to read."""

from __future__ import annotations

import math
from typing import Any


def train_rows(losses: list[float], first_step: int = 10, every: int = 10, **more: Any) -> list[dict[str, Any]]:
    """Training rows with a gradient norm and a learning rate."""
    return [
        {"loss": loss, "grad_norm": 1.0 + 0.1 * math.sin(index), "learning_rate": 1e-4, "epoch": index / 100,
         "step": first_step + index * every, **more}
        for index, loss in enumerate(losses)
    ]  # fmt: skip


def falling(count: int, start: float = 6.0, end: float = 2.8) -> list[float]:
    """A loss that falls, with some noise that is the same every time."""
    return [end + (start - end) * math.exp(-4 * i / count) + 0.03 * math.sin(7.0 * i) for i in range(count)]


def evaluation(step: int, loss: float, prefix: str = "eval", se: float | None = None) -> dict[str, Any]:
    """An evaluation as the Trainer logs it; with ``se`` also what the callback measures."""
    row: dict[str, Any] = {f"{prefix}_loss": loss + 0.05, f"{prefix}_runtime": 1.0, "step": step}
    if se is not None:
        row |= {
            f"{prefix}_exact_loss": loss, f"{prefix}_exact_loss_se": se, f"{prefix}_ppl": math.exp(loss),
            f"{prefix}_bits_per_byte": loss / 2.5, f"{prefix}_bits_per_byte_se": se / 2.5, f"{prefix}_tokens": 12_345,
            f"{prefix}_bytes": 44_443, f"{prefix}_rows": 200, f"{prefix}_nonfinite_batches": 0,
        }  # fmt: skip
    return row


def healthy() -> list[dict[str, Any]]:
    """Forty training rows and four evaluations, ending at an exact loss of 2.9 with an error of 0.02."""
    rows = train_rows(falling(40))
    for step, loss in ((100, 4.0), (200, 3.3), (300, 3.0), (400, 2.9)):
        rows.insert(next(i for i, row in enumerate(rows) if row["step"] == step) + 1, evaluation(step, loss, se=0.02))
    return rows


def joined() -> list[dict[str, Any]]:
    """Two runs in one log: healthy to step 600, then rows padded to one length with the pads in the loss."""
    rows = train_rows(falling(60))
    tokens = 0
    for index, row in enumerate(rows):
        tokens += 80_000 + 997 * index % 4001
        row["num_tokens"] = float(tokens)
    after = [9.5, *[0.45 + 4.0 * math.exp(-i / 3) for i in range(40)]]
    tokens = 0
    for row in train_rows(after, first_step=610):
        tokens += 327_680
        rows.append({**row, "num_tokens": float(tokens)})
    return rows
