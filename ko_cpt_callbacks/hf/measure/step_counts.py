"""What was counted in training, over all ranks: read where a row or a checkpoint is due, kept until it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.measurement import PaddingCounts, add_padding
from ko_cpt_callbacks.hf.measure.train_loss import LossProbe, TrainLoss
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter, TrainTotals, add_counts, resumed_totals
from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.run.fold import LOSS_SCALED

__all__ = ["StepCounts"]


class StepCounts:
    """Counts of a training, brought up to date at the end of a step.

    The row itself is no place for the ranks to meet: ``Trainer.log`` may be called, or overridden, on one rank alone.

    Args:
        meter: Counts on this rank.
        ranks: The processes to add up over.
        devices: Accelerators at work; 0 on CPU.
        counting: Whether this rank's forward passes are seen at all.
        loss: What a logged training loss is.
    """

    def __init__(
        self, meter: TrainMeter, ranks: Ranks, devices: int, counting: Callable[[], bool], loss: TrainLoss
    ) -> None:
        self._meter = meter
        self._ranks = ranks
        self._counting = counting
        self._totals = TrainTotals(devices=devices)
        self._first = True
        self._probe: LossProbe | None = None
        self.loss = loss
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
        self._first, self.step, self._probe = True, None, None
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

        Args:
            logs: The row as the Trainer made it.
            step: Optimizer steps done.
            nan_filter: Whether the Trainer's ``logging_nan_inf_filter`` is on.
        """
        known, notes = self.up_to(step), list[tuple[str, dict[str, Any]]]()
        if self._blind and nan_filter and not self._blind_noted:
            self._blind_noted = True
            notes.append(("nan-filter-on", {}))
        sums = self._totals.losses if known else None
        numbers: dict[str, int | float] = {}
        if known:
            self._blind = False
            numbers.update(self._totals.close_row(step))
        loss = logs.get(keys.LOSS)
        # 0.0 is what the Trainer logs in place of NaN: its perplexity of 1.0 would look like success.
        if isinstance(loss, (int, float)) and loss > 0 and not numbers.get(keys.NONFINITE_STEPS):
            value, scaled = self.loss.judge(float(loss), sums, self._probe)
            if value is not None:
                numbers[keys.PPL] = value
            if scaled is not None:
                notes.append((LOSS_SCALED, scaled))
        return numbers, notes

    def _read(self, step: int) -> PaddingCounts | None:
        first, self._first = self._first, False
        parts = [json.loads(part) for part in self._ranks.exchange(lambda: self._part(first))]
        counts = add_counts(parts)
        self._totals.add(counts)
        self._probe = counts.probe or self._probe
        self.step = step
        self._blind = self._blind or any(part["bad"] is None for part in parts)
        return add_padding([part["padding"] for part in parts]) if first else None

    def _part(self, first: bool) -> bytes:
        part = self._meter.part()
        if not self._counting():
            part.update(tokens=None, bad=None, losses=None)  # not counted, which is not none
        part["padding"] = self._meter.first_padding() if first else None
        return json.dumps(part).encode()
