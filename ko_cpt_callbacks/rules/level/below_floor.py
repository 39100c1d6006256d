"""`below-floor`: a loss that no continued pretraining on Korean text has reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.level import abrupt_drop, floor_of, least_fall, lowest_level
from ko_cpt_callbacks.signal.signals import Signals, faulty, is_low
from ko_cpt_callbacks.watch.plausibility import LOWEST_PUBLISHED_BITS, fell_at_once, most_bits

__all__ = ["BelowFloor", "BelowFloorState", "RecentLosses"]


@dataclass(frozen=True, slots=True)
class RecentLosses:
    """The last losses of one set, oldest first; the last of them belongs to ``step``."""

    step: int | None = None
    losses: tuple[float, ...] = ()
    lowest: float | None = None
    """The lowest level of the losses that are kept no more."""
    metric: str = keys.LOSS


@dataclass(frozen=True, slots=True)
class BelowFloorState:
    """The recent losses of each set, and which sentence was reported of which set."""

    train: RecentLosses = RecentLosses()
    evals: Mapping[str, RecentLosses] = field(default_factory=dict)
    said: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    """Training rows of the run that ``train`` has taken in,"""
    open: bool = True
    """and whether one of its last ones is low, or an evaluation may have shown how low that is."""


@dataclass(frozen=True, slots=True)
class BelowFloor(Rule):
    """Reports, once per set and sentence, a level below the floor, near zero, or reached by a sudden fall.

    The floor is one in bits per byte: of an evaluation by its own row, of training by the bytes per token of the run's
    evaluations. While bytes are not known, a level alone is ``info``: with a tokenizer of 1.2 to 1.6 bytes per token a
    healthy run is there. With bytes it is ``warning`` when the run was declared continued pretraining, else ``info``,
    because fine-tuning and masked language models live there. A sudden fall is a ``warning`` whatever the tokenizer.

    The return from a spike, however wide, is no fall: that is measured from the lowest level before.

    The level is an evaluation (the upper end of its 95 % interval where it has one), or the median of the last
    ``window`` training points: one training point, or an evaluation of one row, is never enough.

    Args:
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
        floor: Bits per byte.
        floor_nats: Nats per token, while bytes are not known, and where a sudden fall ends.
        near_zero: Bits per byte; while bytes are not known a token counts as one.
        window: Training points behind the median.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "below-floor", (Severity.WARNING, Severity.INFO), (TrainObservation, EvalObservation), place=80
    )

    task: str = "cpt"
    floor: float = limits.FLOOR_BITS
    floor_nats: float = limits.FLOOR_NATS
    near_zero: float = limits.NEAR_ZERO_BITS
    window: int = limits.LEVEL_POINTS

    @property
    def wakes(self) -> Wakes:
        """A low loss and the rows soon after it; and a loss that is none, which does not count."""
        return Wakes((faulty, partial(is_low, nats=self.floor_nats, bits=self.floor)), open=("open",))

    def initial(self) -> BelowFloorState:
        """No row seen."""
        return BelowFloorState()

    def step(self, state: BelowFloorState, seen: Observation, signals: Signals) -> tuple[BelowFloorState, Found]:
        """Judges a training or evaluation row."""
        if isinstance(seen, TrainObservation):
            return self._train(state, seen, signals)
        if isinstance(seen, EvalObservation):
            state, found = self._evaluation(state, seen, seen.bytes_per_token or signals.bytes_per_token)
            return replace(state, open=True), found
        return state, ()

    def _train(
        self, state: BelowFloorState, seen: TrainObservation, signals: Signals
    ) -> tuple[BelowFloorState, Found]:
        # Twice the window, and what a sudden fall needs before it.
        keep, reach, recent = 2 * self.window + limits.FALL_SIDE, signals.bytes_per_token, state.train
        for step, loss, _ in signals.outlook.trail.missed(state.rows):
            recent = recent if loss is None else _with(recent, int(step), loss, keep)
        rows = len(signals.outlook.trail)
        if seen.loss is None or not math.isfinite(seen.loss) or _disguised(seen):
            return BelowFloorState(recent, state.evals, state.said, rows), ()
        recent = _with(recent, seen.step, seen.loss, keep)
        last, highest = recent.losses[-self.window :], self._highest(reach)
        state = BelowFloorState(recent, state.evals, state.said, rows, min(last) < highest)
        if len(last) < self.window or min(last) >= highest or (level := median(last)) >= highest:
            return state, ()
        fall = abrupt_drop(recent.losses, recent.lowest, self._least_fall(level, reach))
        values: dict[str, Any] = {"points": len(last)}
        return self._report(state, seen, level, level, reach, values, fall)

    def _evaluation(
        self, state: BelowFloorState, seen: EvalObservation, reach: float | None
    ) -> tuple[BelowFloorState, Found]:
        point = EvalPoint.of(seen)
        if point is None or point.value is None or not point.finite:
            return state, ()
        known = state.evals.get(seen.split, RecentLosses())
        # An exact loss after the Trainer's own is another measure, not a fall.
        known = replace(known if known.metric == point.metric else RecentLosses(), metric=point.metric)
        recent = _with(known, seen.step, point.value, keep=limits.FALL_EVALS, side=1)
        state = replace(state, evals={**state.evals, seen.split: recent})
        upper = point.value + limits.LEVEL_ERRORS * (point.se or 0.0)
        if upper >= self._highest(reach) or seen.rows == 1:
            return state, ()
        values: dict[str, Any] = {"metric": point.metric, "se": point.se, "rows": point.rows}
        fall = _eval_fall(recent, self._least_fall(upper, reach))
        return self._report(state, seen, point.value, upper, reach, values, fall)

    def _floor(self, reach: float | None) -> float:
        return floor_of(reach, self.floor, self.floor_nats)

    def _highest(self, reach: float | None) -> float:
        """Nats per token at and above which nothing is reported."""
        return max(self._floor(reach), self.floor_nats)

    def _least_fall(self, level: float, reach: float | None) -> float:
        # A level that is none too low in bits per byte is reached by a fall only where that is one in any tokenizer.
        least = least_fall(reach)
        return least if level < self._floor(reach) else max(least, limits.FALL_NATS)

    def _report(
        self, state: BelowFloorState, seen: TrainObservation | EvalObservation, level: float, upper: float,
        reach: float | None, values: dict[str, Any], fall: tuple[float, float] | None,
    ) -> tuple[BelowFloorState, Found]:  # fmt: skip
        """The gravest sentence that has not been reported; each also stands for the lesser ones."""
        floor, split = self._floor(reach), seen.split
        shown = {
            "near-zero": most_bits(level, reach) < self.near_zero,
            "fall": fall is not None,
            "bits": upper < floor and reach is not None,
            "level": upper < floor,
        }
        said = [name for one, name in state.said if one == split]
        new = next((name for name, holds in shown.items() if holds and name not in said), None)
        ranks = [*shown]
        if new is None or (said and ranks.index(new) > min(map(ranks.index, said))):
            return state, ()
        if new == "bits" and said and self.task != "cpt":  # it is no graver there than the level was
            return state, ()
        values = {
            "level": level, "level_ppl": perplexity(level), "floor": floor, "floor_ppl": perplexity(floor),
            "floor_bits": self.floor, "bits": None if reach is None else most_bits(level, reach),
            "bytes_per_token": reach, "lowest_published": LOWEST_PUBLISHED_BITS,
            "healthy_below": most_bits(level, None) / self.floor, "task": self.task, **values,
        }  # fmt: skip
        if new == "fall" and fall is not None:
            values |= {"from": fall[0], "to": fall[1]}
        grave = fall is not None or (self.task == "cpt" and reach is not None)
        severity = Severity.WARNING if grave else Severity.INFO
        kind = "train" if isinstance(seen, TrainObservation) else "eval"
        finding = Finding(self.code, severity, seen.step, split, values, variant=f"{kind}-{new}")
        return replace(state, said=(*state.said, (split, new))), (finding,)


def _eval_fall(recent: RecentLosses, least: float) -> tuple[float, float] | None:
    if len(recent.losses) < limits.FALL_EVALS:
        return None
    earlier, before, now = recent.losses
    return (before, now) if fell_at_once(earlier, before, now, recent.lowest, least) else None


def _disguised(seen: TrainObservation) -> bool:
    """A NaN loss that was logged as 0, or counted steps with one: no level."""
    bad_gradient = seen.grad_norm is None or not math.isfinite(seen.grad_norm)
    return bool(seen.nonfinite_steps) or (seen.loss == 0.0 and seen.nonfinite_steps is None and bad_gradient)


def _with(recent: RecentLosses, step: int, loss: float, keep: int, side: int = limits.FALL_SIDE) -> RecentLosses:
    losses, lowest = (*recent.losses, loss), recent.lowest
    if recent.step is not None and step < recent.step:
        losses, lowest = (loss,), None  # steps that go back are two runs joined
    return RecentLosses(step, losses[-keep:], lowest_level(losses, keep, lowest, side), recent.metric)
