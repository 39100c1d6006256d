"""`below-floor`: a loss that no continued pretraining on Korean text has reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.core.perplexity import perplexity
from ko_cpt_callbacks.core.plausibility import FLOOR, NEAR_ZERO, lowest_level, sudden_fall
from ko_cpt_callbacks.core.progress import EvalPoint
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["BelowFloor", "BelowFloorState", "Recent"]


@dataclass(frozen=True, slots=True)
class Recent:
    """The last losses of one set, oldest first; the last of them belongs to ``step``."""

    step: int | None = None
    losses: tuple[float, ...] = ()
    lowest: float | None = None
    """The lowest level of the losses that are kept no more."""
    metric: str = keys.LOSS


@dataclass(frozen=True, slots=True)
class BelowFloorState:
    """The recent losses of each set, and which sentence was said of which set."""

    train: Recent = Recent()
    evals: Mapping[str, Recent] = field(default_factory=dict)
    said: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class BelowFloor(Rule):
    """Reports, once per set and sentence, a level below the floor, near zero, or reached by a sudden fall.

    The return from a spike, however wide, is no fall: that is measured from the lowest level before.

    The level is an evaluation (the upper end of its 95 % interval where it has one), or the median of the last
    ``window`` training points: one training point, or an evaluation of one row, is never enough. ``info`` by itself,
    because fine-tuning and masked language models live there; ``warning`` when the run was declared continued
    pretraining, or got there by a sudden fall.

    Args:
        task: As in `ko_cpt_callbacks.rules.monitor.Monitor`.
        floor: Nats per token, see `ko_cpt_callbacks.core.plausibility.FLOOR`.
        near_zero: Nats per token.
        window: Training points behind the median.
        eval_fall: An evaluation fell suddenly to more than this many nats below all before it, and by more than three
            times what the last of them had fallen. Chosen, not measured.
    """

    info: ClassVar = RuleInfo("below-floor", (Severity.WARNING, Severity.INFO), (TrainObservation, EvalObservation))

    task: str = "cpt"
    floor: float = FLOOR
    near_zero: float = NEAR_ZERO
    window: int = 20
    eval_fall: float = 0.5

    def initial(self) -> BelowFloorState:
        """No row seen."""
        return BelowFloorState()


    def step(self, state: BelowFloorState, seen: Observation, signals: Signals) -> tuple[BelowFloorState, Found]:
        """Judges a training or evaluation row."""
        if isinstance(seen, TrainObservation):
            return self._train(state, seen)
        if isinstance(seen, EvalObservation):
            return self._evaluation(state, seen)
        return state, ()

    def _train(self, state: BelowFloorState, seen: TrainObservation) -> tuple[BelowFloorState, Found]:
        if seen.loss is None or not math.isfinite(seen.loss) or _disguised(seen):
            return state, ()
        # Twice the window, and what a sudden fall needs before it.
        recent = _with(state.train, seen.step, seen.loss, keep=2 * self.window + 5)
        state = replace(state, train=recent)
        last = recent.losses[-self.window :]
        level = median(last)
        if len(last) < self.window or level >= self.floor:
            return state, ()
        fall = sudden_fall(recent.losses, recent.lowest)
        values: dict[str, Any] = {"points": len(last)}
        return self._report(state, seen.step, seen.split, level, values, fall, "train")

    def _evaluation(self, state: BelowFloorState, seen: EvalObservation) -> tuple[BelowFloorState, Found]:
        point = EvalPoint.of(seen)
        if point is None or point.value is None or not point.finite:
            return state, ()
        known = state.evals.get(seen.split, Recent())
        # An exact loss after the Trainer's own is another measure, not a fall.
        known = replace(known if known.metric == point.metric else Recent(), metric=point.metric)
        recent = _with(known, seen.step, point.value, keep=3, side=1)
        state = replace(state, evals={**state.evals, seen.split: recent})
        upper = point.value + 1.96 * (point.se or 0.0)
        if upper >= self.floor or seen.rows == 1:
            return state, ()
        values: dict[str, Any] = {"metric": point.metric, "se": point.se, "rows": point.rows}
        fall = self._eval_fall(recent)
        return self._report(state, seen.step, seen.split, point.value, values, fall, "eval")

    def _eval_fall(self, recent: Recent) -> tuple[float, float] | None:
        if len(recent.losses) < 3:
            return None
        earlier, before, now = recent.losses
        lowest = min(earlier, before, before if recent.lowest is None else recent.lowest)
        if lowest - now <= self.eval_fall:
            return None  # a spike that comes back
        return (before, now) if before - now > 3.0 * abs(earlier - before) else None

    def _report(
        self, state: BelowFloorState, step: int, split: str, level: float, values: dict[str, Any],
        fall: tuple[float, float] | None, kind: str,
    ) -> tuple[BelowFloorState, Found]:  # fmt: skip
        # The gravest that has not been said; each also stands for the lesser ones.
        steps = ["near-zero"] if level < self.near_zero else []
        steps += ["fall"] if fall is not None else []
        new = next((name for name in [*steps, "level"] if (split, name) not in state.said), None)
        if new is None or (new == "level" and any(one == split for one, _ in state.said)):
            return state, ()
        values = {
            "level": level, "level_ppl": perplexity(level), "floor": self.floor, "floor_ppl": perplexity(self.floor),
            "task": self.task, **values,
        }  # fmt: skip
        if new == "fall" and fall is not None:
            values |= {"from": fall[0], "to": fall[1]}
        grave = self.task == "cpt" or fall is not None
        severity = Severity.WARNING if grave else Severity.INFO
        finding = Finding(self.code, severity, step, split, values, variant=f"{kind}-{new}")
        return replace(state, said=(*state.said, (split, new))), (finding,)


def _disguised(seen: TrainObservation) -> bool:
    """A NaN loss that was logged as 0, or counted steps with one: no level."""
    bad_gradient = seen.grad_norm is None or not math.isfinite(seen.grad_norm)
    return bool(seen.nonfinite_steps) or (seen.loss == 0.0 and seen.nonfinite_steps is None and bad_gradient)


def _with(recent: Recent, step: int, loss: float, keep: int, side: int = 5) -> Recent:
    losses, lowest = (*recent.losses, loss), recent.lowest
    if recent.step is not None and step < recent.step:
        losses, lowest = (loss,), None  # steps that go back are two runs joined
    return replace(recent, step=step, losses=losses[-keep:], lowest=lowest_level(losses, keep, lowest, side))
