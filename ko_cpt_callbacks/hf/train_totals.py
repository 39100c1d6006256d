"""What a training adds up to from row to row, and how a resumed one takes it up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.train_loss import LossSums
from ko_cpt_callbacks.hf.train_meter import TrainCounts

__all__ = ["TrainTotals", "resumed_totals"]


@dataclass(slots=True)
class TrainTotals:
    """What the counts add up to: the numbers of the next training row.

    Attributes:
        tokens_seen: Target tokens since the start of the run; None once they are not known.
        step: Last optimizer step that was counted.
        devices: Accelerators at work; 0 on CPU.
        bad: Non-finite micro-batches of each step since the last training row.
        targetless: Micro-batches without a target token since the last training row.
        losses: What the losses since the last training row come to; None once they are not known.
    """

    tokens_seen: int | None = 0
    step: int = 0
    devices: int = 0
    bad: dict[int, int] = field(default_factory=dict)
    targetless: int = 0
    losses: LossSums | None = field(default_factory=LossSums)
    _bad_known: bool = True
    _tokens: int | None = 0
    _seconds: float = 0.0

    def add(self, counts: TrainCounts) -> None:
        """Add what was counted since the last call (a row or a checkpoint)."""
        if counts.tokens is None:
            self.tokens_seen = self._tokens = None
        else:
            self.tokens_seen = None if self.tokens_seen is None else self.tokens_seen + counts.tokens
            self._tokens = None if self._tokens is None else self._tokens + counts.tokens
        self._seconds += counts.seconds
        self.targetless += counts.targetless
        both = self.losses, counts.losses
        self.losses = None if both[0] is None or both[1] is None else both[0].plus(both[1])
        if counts.bad_micro_batches is None:
            self._bad_known = False
            return
        for offset, bad in enumerate(counts.bad_micro_batches, start=1):
            if bad:
                self.bad[self.step + offset] = bad
        self.step += len(counts.bad_micro_batches)

    def forget_window(self) -> None:
        """What went before in the current window is not known: its row claims no count of non-finite steps."""
        self._bad_known = False

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
        self._tokens, self._seconds, self.targetless, self.losses = 0, 0.0, 0, LossSums()
        return row


def resumed_totals(live: Sequence[Mapping[str, Any]], start_step: int, devices: int) -> TrainTotals:
    """The totals of a training that begins at ``start_step``, from the lines on record that hold.

    Args:
        live: Lines of ``rows.jsonl`` up to ``start_step``.
        start_step: Optimizer steps done; 0 for a training that begins anew.
        devices: Accelerators at work.
    """
    totals = TrainTotals(tokens_seen=0, step=start_step, devices=devices)
    if not start_step:
        return totals
    counted = [line for line in live if keys.TOKENS_SEEN in line]
    at_start = [line for line in counted if line.get(keys.STEP) == start_step]
    # A checkpoint's line holds the steps since the last log row too; without it they are unknown.
    totals.tokens_seen = int(at_start[-1][keys.TOKENS_SEEN]) if at_start else None
    if not any(line.get(keys.STEP) == start_step for line in live if _closes_window(line)):
        totals.forget_window()
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
