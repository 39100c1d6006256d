"""What was counted in training, over all ranks: read where a row or a checkpoint is due, kept until it comes.

The training loss that the Trainer logs stands beside what its own forward passes came to. Where a model's loss is a
mean over its micro-batch and the Trainer takes it for a sum that was divided already (a ``compute_loss`` of one's own,
a forward that ignores ``num_items_in_batch``), the logged loss is the mean times the gradient accumulation:
transformers issues 37766 and 47688. No perplexity comes of such a number. Where a ``compute_loss`` adds a small term
of its own (distillation, z-loss), the perplexity is that of the model's own losses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.measurement import PaddingCounts, add_padding
from ko_cpt_callbacks.hf.measure.train_meter import LossKind, TrainMeter
from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.fold import LOSS_SCALED

__all__ = ["StepCounts", "TrainLoss", "TrainTotals", "resumed_totals"]

_SCALED: Final = 1.5
"""A logged loss beyond so many times the measured one, or below its inverse, is no average of the same losses: steps
have unlike token counts, and transformers 4.57 divides by a count of unshifted labels, which is 4/3 of the targets in
rows of four tokens. Chosen, not measured."""
_AS_LOGGED: Final = 1e-3
_ROUNDED: Final = 1e-4
"""A logged loss is the model's own within this share, and what transformers 4.57 rounds away. Chosen, not measured."""
_NEAR: Final = 0.1  # how far a factor may lie off a count that explains it, or off the window's before


@dataclass(slots=True)
class TrainTotals:
    """What the counts of all ranks add up to: the numbers of the next training row.

    Attributes:
        tokens_seen: Target tokens since the start of the run; None once they are not known.
        step: Last optimizer step that was counted.
        devices: Accelerators at work; 0 on CPU.
        bad: Non-finite micro-batches of each step since the last training row.
        targetless: Micro-batches without a target token since the last training row.
        loss_kind: What the model returns; None while that is not known.
    """

    tokens_seen: int | None = 0
    step: int = 0
    devices: int = 0
    bad: dict[int, int] = field(default_factory=dict)
    targetless: int = 0
    loss_kind: LossKind | None = None
    _bad_known: bool = True
    _tokens: int | None = 0
    _seconds: float = 0.0
    _processes: int = 1
    _losses: tuple[float, ...] = (0.0,) * 5
    _row_step: int = 0
    _several_rows: bool = False

    def add(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Add what every rank counted since the last call (a row or a checkpoint), as `TrainMeter.part` has it.

        What one rank does not know is not known.
        """
        tokens = _sum(part["tokens"] for part in parts)
        self.tokens_seen, self._tokens = _sum((self.tokens_seen, tokens)), _sum((self._tokens, tokens))
        self._seconds += sum(part["seconds"] for part in parts) / len(parts)
        self.targetless += sum(part["targetless"] for part in parts)
        self._processes = len(parts)
        self._losses = tuple(map(sum, zip(self._losses, *(part["losses"] for part in parts), strict=True)))
        self.loss_kind = self.loss_kind or next((part["loss_kind"] for part in parts if part["loss_kind"]), None)
        steps = [part["bad"] for part in parts]
        if None in steps or len(set(map(len, steps))) > 1:
            self._bad_known = False
            return
        for bad in zip(*steps, strict=True):
            self.step += 1
            if any(bad):
                self.bad[self.step] = sum(bad)

    @property
    def measured(self) -> float | None:
        """Mean cross-entropy of the targets since the last training row, nats per token; None where it is not known.

        A model whose loss could not be looked at is believed to divide by what it was given.
        """
        if not self._tokens or self.loss_kind == "other":
            return None
        divided, averaged, *_ = self._losses
        value = (averaged if self.loss_kind == "mean" else divided) / self._tokens
        return value if value > 0.0 and math.isfinite(value) else None

    def logs(self, loss: float, step: int) -> bool:
        """Whether the loss of a training row at ``step`` is what the model returned, and nothing else is in it.

        The Trainer logs the mean over steps, and processes, of the sum of a step's losses where the model divides by
        the count of all, else of their mean. Where that count is one over all processes it multiplies by their number.
        A ``compute_loss`` that weighs a step's micro-batches by their targets has the mean over all of these.
        Of counts that reach back over a row before, which had none, that cannot be said: its loss is believed.
        """
        if self._several_rows:
            return True
        _, _, summed, *means = (total / max(1, step - self._row_step) / self._processes for total in self._losses)
        known = (summed, summed * self._processes, *means)
        return any(abs(loss - own) <= _AS_LOGGED * own + _ROUNDED for own in known)

    def miss_row(self) -> None:
        """A training row was logged that the counts do not reach: the next one has its counts too."""
        self._several_rows = True

    def pending(self) -> dict[str, int]:
        """Tokens so far and the non-finite steps since the last training row."""
        row = {} if self.tokens_seen is None else {keys.TOKENS_SEEN: self.tokens_seen}
        if self._bad_known:
            row[keys.NONFINITE_STEPS] = len(self.bad)
            row[keys.NONFINITE_MICRO_BATCHES] = sum(self.bad.values())
            if self.bad:
                row[keys.NONFINITE_FIRST_STEP] = min(self.bad)
        if self.targetless:
            row[keys.TARGETLESS_MICRO_BATCHES] = self.targetless
        return row

    def close_row(self, step: int) -> dict[str, int | float]:
        """The keys of a training row at ``step``; the next row begins after it."""
        row: dict[str, int | float] = dict(self.pending())
        if self._tokens and self._seconds > 0.0:
            rate = self._tokens / self._seconds
            row[keys.TOKENS_PER_SECOND] = rate
            if self.devices:
                row[keys.TOKENS_PER_GPU_HOUR] = rate * 3600.0 / self.devices
        self.bad, self._bad_known, self.step = {}, True, step
        self._tokens, self._seconds, self.targetless, self._losses, self._row_step = 0, 0.0, 0, (0.0,) * 5, step
        self._several_rows = False
        return row


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(known)  # type: ignore[arg-type]


def resumed_totals(live: Sequence[Mapping[str, Any]], start_step: int, devices: int) -> TrainTotals:
    """The totals of a training that begins at ``start_step``, from the lines on record that hold.

    Args:
        live: Lines of ``rows.jsonl`` up to ``start_step``.
        start_step: Optimizer steps done; 0 for a training that begins anew.
        devices: Accelerators at work.
    """
    totals = TrainTotals(step=start_step, devices=devices, _row_step=start_step)
    if not start_step:
        return totals
    counted = [line for line in live if keys.TOKENS_SEEN in line]
    at_start = [line for line in counted if line.get(keys.STEP) == start_step]
    # A checkpoint's line holds the steps since the last log row too; without it they are unknown.
    totals.tokens_seen = int(at_start[-1][keys.TOKENS_SEEN]) if at_start else None
    if not any(line.get(keys.STEP) == start_step for line in live if _closes_window(line)):
        totals._bad_known = False  # what went before in this window is not known
    last = counted[-1] if counted else {}
    if last.get(keys.KIND) == keys.KIND_CHECKPOINT and last.get(keys.STEP) == start_step:
        totals.targetless = int(last.get(keys.TARGETLESS_MICRO_BATCHES) or 0)
        first, steps = last.get(keys.NONFINITE_FIRST_STEP), int(last.get(keys.NONFINITE_STEPS) or 0)
        if first is not None and steps:
            bad = int(last.get(keys.NONFINITE_MICRO_BATCHES) or steps)
            totals.bad = {int(first) + offset: 0 for offset in range(steps)} | {int(first): bad}
    return totals


def _closes_window(line: Mapping[str, Any]) -> bool:
    """Whether nothing before this line is unknown to a row after it: a training row, or a checkpoint's counts."""
    kind = line.get(keys.KIND)
    return kind == keys.KIND_TRAIN or (kind == keys.KIND_CHECKPOINT and keys.NONFINITE_STEPS in line)


class StepCounts:
    """Counts of a training, brought up to date at the end of a step.

    The row itself is no place for the ranks to meet: ``Trainer.log`` may be called, or overridden, on one rank alone.
    """

    def __init__(self, meter: TrainMeter, ranks: Ranks, devices: int, loss: TrainLoss) -> None:
        self._meter = meter
        self._ranks = ranks
        self._totals = TrainTotals(devices=devices)
        self.loss = loss
        self._first = True
        self.step: int | None = None
        self._blind = self._blind_noted = False

    @property
    def tokens_seen(self) -> int | None:
        """Target tokens since the start of the run; None where they are not known."""
        return self._totals.tokens_seen

    def begin(self, live: Sequence[Mapping[str, Any]], step: int) -> None:
        """Training begins at ``step``, with the lines on record that hold."""
        self._totals = resumed_totals(live, step, self._totals.devices)
        self._meter.restart()
        self._first, self.step = True, None
        self._blind = self._blind_noted = False

    def step_ends(self, step: int, due: Callable[[], bool]) -> PaddingCounts | None:
        """An optimizer step is over; every rank must call it.

        Args:
            step: Its number.
            due: Whether a row or a checkpoint is to come; asked where there are other ranks.

        Returns:
            After the first step of an attempt: pads among its labels; None where it was not looked at.
        """
        self._meter.end_step()
        if self._first or (self._ranks.together and due()):
            return self._read(step)
        return None

    def epoch_ends(self, step: int, due: Callable[[], bool]) -> None:
        """An epoch is over; likewise."""
        if self.step != step and self._ranks.together and due():
            self._read(step)

    def up_to(self, step: int) -> bool:
        """Whether the counts reach up to ``step``; where they do not, other ranks cannot be asked now."""
        if self.step != step and not self._ranks.together:
            self._read(step)
        return self.step == step

    def pending(self, step: int) -> dict[str, int]:
        """What a checkpoint at ``step`` keeps; empty where it is not known."""
        return self._totals.pending() if self.up_to(step) else {}

    def close_row(
        self, logs: Mapping[str, Any], step: int, *, nan_filter: bool
    ) -> tuple[dict[str, int | float], list[tuple[str, dict[str, Any]]]]:
        """What the training row of ``step`` gets, and set-up rows that go with it.

        Counts that are not known are left out, and then the next row has them.
        """
        known, notes = self.up_to(step), list[tuple[str, dict[str, Any]]]()
        if self._blind and nan_filter and not self._blind_noted:
            self._blind_noted = True
            notes.append(("nan-filter-on", {}))
        logged = logs.get(keys.LOSS)
        loss = float(logged) if isinstance(logged, (int, float)) else 0.0
        measured, own = (self._totals.measured, self._totals.logs(loss, step)) if known else (None, False)
        numbers: dict[str, int | float] = {}
        if known:
            self._blind = False
            numbers.update(self._totals.close_row(step))
        else:
            self._totals.miss_row()
        # 0.0 is what the Trainer logs in place of NaN: its perplexity of 1.0 would look like success.
        if loss > 0 and not numbers.get(keys.NONFINITE_STEPS):
            value, scaled = self.loss.judge(loss, measured, own=own)
            if value is not None:
                numbers[keys.PPL] = value
            if scaled is not None:
                notes.append((LOSS_SCALED, scaled))
        return numbers, notes

    def _read(self, step: int) -> PaddingCounts | None:
        first, self._first = self._first, False
        parts = [json.loads(part) for part in self._ranks.exchange(lambda: self._part(first))]
        self._totals.add(parts)
        self.step = step
        self._blind = self._blind or any(part["bad"] is None for part in parts)
        return add_padding([part["padding"] for part in parts]) if first else None

    def _part(self, first: bool) -> bytes:
        part = self._meter.part()
        part["padding"] = self._meter.first_padding() if first else None
        return json.dumps(part).encode()


class TrainLoss:
    """What a logged training loss is."""

    def __init__(self, accumulation: int, processes: int) -> None:
        self._counts = {"accumulation": accumulation, "processes": processes, "both": accumulation * processes}
        self._before: float | None = None
        self._said = False
        self.cross_entropy = True
        """Whether nothing says that the training loss is another quantity."""

    def judge(
        self, logged: float, measured: float | None, *, own: bool
    ) -> tuple[float | None, dict[str, Any] | None]:
        """The perplexity of a row, and what must be reported once: the loss is a multiple of the measured one.

        Args:
            logged: The row's loss, nats per token, above 0.
            measured: What the window's forward passes came to; None where that is not known.
            own: Whether the row's loss is the mean of the model's own, with nothing that somebody added.
        """
        if not self.cross_entropy or measured is None:
            return None, None
        factor = logged / measured
        if not 1.0 / _SCALED < factor < _SCALED:
            return None, self._scaled(logged, measured, factor)
        self._before = factor
        value = perplexity(logged if own else measured)
        return (value if math.isfinite(value) else None), None

    def _scaled(self, logged: float, measured: float, factor: float) -> dict[str, Any] | None:
        before, self._before = self._before, factor
        by = next((name for name, n in self._counts.items() if n > 1 and _near(factor, n)), None)
        # A factor that nothing explains is one only where it stays.
        if self._said or (by is None and (before is None or not _near(factor, before))):
            return None
        self._said = True
        return {
            "factor": factor,
            "logged": logged,
            "measured": measured,
            "by": by,
            "accumulation": self._counts["accumulation"],
            "processes": self._counts["processes"],
        }


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= _NEAR * other
