"""Losses of a run of the user's as figures of a baseline's file: evaluations measured, training losses averaged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.baselines.formula import MEAN
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.observation import EvalObservation, TrainObservation
from ko_cpt_callbacks.run.reading import Run, Source

LAST_POINTS: Final = 50
"""Training points in the mean that stands for a run's training loss; chosen: the public runs were averaged so."""

OWN: Final = "OWN"


def counting_evaluations(seen: list[EvalObservation], *, best: bool) -> dict[str, EvalObservation]:
    """The evaluation of each set that counts: the last one, or the one with the lowest loss."""
    by_step: dict[tuple[str, int], EvalObservation] = {}
    for item in seen:
        by_step[item.split, item.step] = item  # a later row of the same step counts
    found: dict[str, EvalObservation] = {}
    for item in by_step.values():
        loss = _loss(item)
        if loss is None:
            continue
        kept = found.get(item.split)
        better = kept is None or (loss < (_loss(kept) or math.inf) if best else item.step >= kept.step)
        if better:
            found[item.split] = item
    return found


def _loss(item: EvalObservation) -> float | None:
    loss = item.loss if item.exact_loss is None else item.exact_loss
    return loss if loss is not None and math.isfinite(loss) and loss > 0 else None


def measured_values(item: EvalObservation, stage: str, rows_file: str | None) -> Iterator[dict[str, Any]]:
    """The loss of an evaluation and its bits per byte, as they were measured.

    Args:
        item: The evaluation; its loss is a number.
        stage: Name of the stage it belongs to.
        rows_file: Where its per-row sums will be; None where there are none.
    """
    shared = {
        "stage": stage,
        "split": "eval",
        "origin": "measured",
        "grade": OWN,
        "position": f"step {item.step:,}",
        "set": item.split,
        **{
            name: value
            for name in ("fingerprint", "tokens", "bytes", "rows")
            if (value := getattr(item, name)) is not None and value != 0
        },
        **({} if rows_file is None else {"rows_file": rows_file}),
    }
    note = {} if item.exact_loss is not None else {"note": "the Trainer's own loss, a mean of batch means"}
    yield {
        "metric": "loss",
        "unit": "nats per token",
        "value": _loss(item),
        **_se(item.exact_loss_se),
        **shared,
        **note,
    }
    bits = item.bits_per_byte
    if bits is not None and math.isfinite(bits) and bits > 0:
        yield {
            "metric": keys.BITS_PER_BYTE,
            "unit": "bits per byte",
            "value": bits,
            **_se(item.bits_per_byte_se),
            **shared,
        }


def _se(value: float | None) -> dict[str, float]:
    return {} if value is None or not math.isfinite(value) else {"se": value}


def training_values(seen: list[TrainObservation], stage: str) -> Iterator[dict[str, Any]]:
    """The mean of the last training points; those that hide a NaN do not count."""
    points = {
        item.step: item.loss
        for item in seen
        if item.loss is not None and math.isfinite(item.loss) and item.loss > 0 and not item.nonfinite_steps
    }
    last = sorted(points)[-LAST_POINTS:]
    if not last:
        return
    losses = [float(points[step]) for step in last]
    steps = f"steps {last[0]:,} to {last[-1]:,}"
    yield {
        "metric": "loss",
        "unit": "nats per token",
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
    told = run.run_file()
    record = run.path.absolute().parent if run.source is Source.ROWS else told and told.parent
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
