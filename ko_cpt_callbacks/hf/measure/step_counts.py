"""What was counted in training, over all ranks: read where a row or a checkpoint is due, kept until it comes.

The training loss that the Trainer logs stands beside what its own forward passes came to. Where a model's loss is a
mean over its micro-batch and the Trainer takes it for a sum that was divided already (a ``compute_loss`` of one's own,
a forward that ignores ``num_items_in_batch``), the logged loss is the mean times the gradient accumulation:
transformers issues 37766 and 47688. No perplexity comes of such a number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.measurement import PaddingCounts, add_padding
from ko_cpt_callbacks.hf.measure.train_meter import (
    LossProbe,
    LossSums,
    TrainMeter,
    TrainTotals,
    add_counts,
    resumed_totals,
)
from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.fold import LOSS_SCALED

__all__ = ["StepCounts", "TrainLoss"]

_EQUAL: Final = 0.02
"""Two losses of one forward pass agree within this share: bfloat16 keeps 0.4 %. Chosen, not measured."""
_SCALED: Final = 1.5
"""A logged loss beyond so many times the measured one, or below its inverse, is no average of the same losses: steps
have unlike token counts, and transformers 4.57 divides by a count of unshifted labels, which is 4/3 of the targets in
rows of four tokens. Chosen, not measured."""
_NEAR: Final = 0.1  # how far a factor may lie off a count that explains it, or off the window's before


class StepCounts:
    """Counts of a training, brought up to date at the end of a step.

    The row itself is no place for the ranks to meet: ``Trainer.log`` may be called, or overridden, on one rank alone.

    Args:
        meter: Counts on this rank.
        ranks: The processes to add up over.
        devices: Accelerators at work; 0 on CPU.
        loss: What a logged training loss is.
    """

    def __init__(self, meter: TrainMeter, ranks: Ranks, devices: int, loss: TrainLoss) -> None:
        self._meter = meter
        self._ranks = ranks
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
        if not self._meter.watches:
            part.update(tokens=None, bad=None, losses=None)  # not counted, which is not none
        part["padding"] = self._meter.first_padding() if first else None
        return json.dumps(part).encode()


class TrainLoss:
    """What a logged training loss is.

    Args:
        accumulation: Micro-batches of an optimizer step.
        processes: Processes that train together.
    """

    def __init__(self, accumulation: int, processes: int) -> None:
        self._counts = {"accumulation": accumulation, "processes": processes, "both": accumulation * processes}
        self._probe: LossProbe | None = None
        self._before: float | None = None
        self._said = False
        self.cross_entropy = True
        """Whether nothing says that the training loss is another quantity."""

    def judge(
        self, logged: float, sums: LossSums | None, probe: LossProbe | None
    ) -> tuple[float | None, dict[str, Any] | None]:
        """The perplexity of a row, and what must be reported once: the loss is a multiple of the measured one.

        Args:
            logged: The row's loss, nats per token, above 0.
            sums: What the window's forward passes came to; None where they could not be counted, or held a NaN.
            probe: A micro-batch looked at closely; None where none could be.
        """
        self._probe = self._probe or probe
        if not self.cross_entropy:
            return None, None
        measured = None if sums is None or sums.tokens <= 0 else self._measured(sums)
        if measured is None or not measured > 0.0 or not math.isfinite(measured):
            return None, None
        factor = logged / measured
        value = perplexity(logged) if 1.0 / _SCALED < factor < _SCALED else math.inf
        return (value if math.isfinite(value) else None), self._scaled(logged, measured, factor)

    def _measured(self, sums: LossSums) -> float | None:
        """Mean cross-entropy of the window; None where the model's loss is seen to be something else."""
        probe = self._probe
        if probe is None:  # no logits to look at: believe that a model divides by what it was given
            return sums.divided / sums.tokens
        if probe.divisor is not None and _equal(probe.loss * probe.divisor / probe.tokens, probe.cross_entropy):
            return sums.divided / sums.tokens
        return sums.averaged / sums.tokens if _equal(probe.loss, probe.cross_entropy) else None

    def _scaled(self, logged: float, measured: float, factor: float) -> dict[str, Any] | None:
        before, self._before = self._before, factor
        if self._said or 1.0 / _SCALED < factor < _SCALED:
            return None
        by = next((name for name, n in self._counts.items() if n > 1 and _equal(factor, n, _NEAR)), None)
        # A factor that nothing explains is one only where it stays.
        if by is None and (before is None or not _equal(factor, before, _NEAR)):
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


def _equal(one: float, other: float, share: float = _EQUAL) -> bool:
    return abs(one - other) <= share * abs(other)
