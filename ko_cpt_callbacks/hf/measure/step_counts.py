"""What was counted in training, over all ranks: read where a row or a checkpoint is due, kept until it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ko_cpt_callbacks.hf.measure.measurement import PaddingCounts, add_padding
from ko_cpt_callbacks.hf.measure.train_loss import LossProbe, LossSums
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter, TrainTotals, add_counts, resumed_totals
from ko_cpt_callbacks.hf.ranks import Ranks

__all__ = ["StepCounts"]


class StepCounts:
    """Counts of a training, brought up to date at the end of a step.

    The row itself is no place for the ranks to meet: ``Trainer.log`` may be called, or overridden, on one rank alone.

    Args:
        meter: Counts on this rank.
        ranks: The processes to add up over.
        devices: Accelerators at work; 0 on CPU.
        counting: Whether this rank's forward passes are seen at all.
    """

    def __init__(self, meter: TrainMeter, ranks: Ranks, devices: int, counting: Callable[[], bool]) -> None:
        self._meter = meter
        self._ranks = ranks
        self._counting = counting
        self._totals = TrainTotals(devices=devices)
        self._first = True
        self._probe: LossProbe | None = None
        self.step: int | None = None
        self.blind = False

    @property
    def tokens_seen(self) -> int | None:
        """Target tokens since the start of the run; None where they are not known."""
        return self._totals.tokens_seen

    def begin(self, live: Sequence[Mapping[str, Any]], step: int) -> None:
        """Training begins at ``step``, with the lines on record that hold."""
        self._totals = resumed_totals(live, step, self._totals.devices)
        self._meter.restart()
        self._first, self.step, self.blind, self._probe = True, None, False, None

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

    def losses(self, step: int) -> tuple[LossSums | None, LossProbe | None]:
        """What the losses since the last row come to, and a pass looked at closely; None where it is not known."""
        return (self._totals.losses if self.up_to(step) else None), self._probe

    def close_row(self, step: int) -> dict[str, int | float]:
        """The keys of a training row at ``step``; empty where they are not known, and then the next row has them."""
        if not self.up_to(step):
            return {}
        self.blind = False
        return self._totals.close_row(step)

    def _read(self, step: int) -> PaddingCounts | None:
        first, self._first = self._first, False
        parts = [json.loads(part) for part in self._ranks.exchange(lambda: self._part(first))]
        counts = add_counts(parts)
        self._totals.add(counts)
        self._probe = counts.probe or self._probe
        self.step = step
        self.blind = self.blind or any(part["bad"] is None for part in parts)
        return add_padding([part["padding"] for part in parts]) if first else None

    def _part(self, first: bool) -> bytes:
        part = self._meter.part()
        if not self._counting():
            part.update(tokens=None, bad=None, losses=None)  # not counted, which is not none
        part["padding"] = self._meter.first_padding() if first else None
        return json.dumps(part).encode()
