"""Where the loss of a run will end, how sure, and whether a target is reached.

What the interval means: of runs like those that the method was measured on, about nine in ten end inside their 90 %
interval, **if the run goes on as planned**: the same data, the same batch, the schedule that is named. It says nothing
of a divergence, a change of the data or a resume with other settings. What it was measured on is in docs/forecast.md.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ko_cpt_callbacks.forecast.evidence import Doubt, Evidence, Points, RateSums, gathered, rate_sums, usable
from ko_cpt_callbacks.forecast.family import Apart
from ko_cpt_callbacks.forecast.posterior import HEALTHY, STEEP, Floats, Future, Prior, draw_curves
from ko_cpt_callbacks.forecast.schedule import Schedule

__all__ = ["LEVEL", "Forecast", "forecast"]

LEVEL: Final = 0.9
"""Part of the drawn ends that the interval holds."""
BACK_TEST_PART: Final = 0.6
"""Part of what was seen that the forecast of the present is made from."""
BACK_TEST_WIDTHS: Final = 1.5
"""Half-widths of its interval by which that forecast may miss."""
BACK_TEST_MISS: Final = 0.01
"""And part of the loss: a smaller miss does not count."""
FEWEST_DRAWS: Final = 200
"""Drawn curves from which quantiles are taken: below, 5 % of them are fewer than ten."""
WHAT_IF: Final = 1.5
"""How many times as wide the interval is for a schedule that was asked for: no curve was measured that changed its
schedule on the way (chosen, not measured)."""
LAST_PART: Final = 0.01
"""The end of a run is the mean loss of its last hundredth."""
PATH: Final = 16
"""Steps between now and the end at which the curve is drawn."""
KEPT: Final = 401
"""Quantiles that are kept of the drawn ends."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where a loss will end. Losses are in nats per token; None where no forecast could be made.

    Args:
        median: As likely too high as too low.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        withheld: Why no probability is given; empty where one is.
        now: The last point's step.
        last_step: The step that is forecast.
        schedule: Kind of the schedule that was gone by.
        ends: Quantiles of the drawn ends, evenly spaced, increasing.
        path: ``(step, median loss)`` from now to the end.
        level: Part of the drawn ends between ``lower`` and ``upper``.
        family: How many finished runs of the same set-up it is made from; 0: it is made from the run's own curve.
        apart: Why those that were given are not used; None where they are, or none was given.
    """

    median: float | None
    lower: float | None
    upper: float | None
    withheld: tuple[Doubt, ...]
    now: int | None
    last_step: int
    schedule: str
    ends: tuple[float, ...] = ()
    path: tuple[tuple[int, float], ...] = ()
    level: float = LEVEL
    family: int = 0
    apart: Apart | None = None

    def probability_below(self, target: float) -> float | None:
        """How likely the loss ends below ``target`` nats per token, in [0, 1]; None where that is withheld."""
        return None if self.withheld or not self.ends else self.odds_below(target)

    def odds_below(self, target: float) -> float:
        """The same, withheld or not; NaN where no curve was drawn. For measuring the method, not for a decision."""
        if not self.ends:
            return math.nan
        return bisect.bisect_left(self.ends, target) / len(self.ends)

    def step_to_reach(self, target: float) -> int | None:
        """The first step at which the median is at most ``target``; None where it is not until the end, or withheld."""
        if self.withheld:
            return None
        before: tuple[int, float] | None = None
        for step, loss in self.path:
            if loss <= target:
                if before is None or before[1] <= loss:
                    return step
                return math.ceil(before[0] + (step - before[0]) * (before[1] - target) / (before[1] - loss))
            before = (step, loss)
        return None

    def as_dict(self) -> dict[str, Any]:
        """The forecast as JSON values; ``withheld`` holds codes."""
        return {
            "median": self.median,
            "lower": self.lower,
            "upper": self.upper,
            "level": self.level,
            "withheld": [str(doubt) for doubt in self.withheld],
            "step": self.now,
            "last_step": self.last_step,
            "schedule": self.schedule,
            "family": self.family,
            "family_withheld": None if self.apart is None else str(self.apart),
        }


@np.errstate(all="ignore")  # what overflows is found by its result, whatever the caller makes of warnings
def forecast(
    points: Sequence[tuple[float, float]],
    schedule: Schedule,
    last_step: int,
    *,
    kind: str = "train",
    prior: Prior = HEALTHY,
) -> Forecast:
    """Say where the loss will end. Never raises for what a log can hold; the same points give the same forecast.

    Args:
        points: ``(step, loss in nats per token)`` in the order of the log, of training rows or of one evaluation set.
        schedule: The learning rate, past and future.
        last_step: The last step that the run is to have.
        kind: ``train``, or ``eval``: those are few, so all from the fourth on are used.
        prior: What is believed of a curve that is not steep; another one is for measuring the method.
    """
    used, wrong = usable(points)
    now = float(used.steps[-1]) if len(used.steps) else None

    def none(*doubts: Doubt) -> Forecast:
        at = None if now is None else int(now)
        return Forecast(None, None, None, (*doubts, *wrong), at, last_step, schedule.kind)

    if now is None:
        return none(Doubt.TOO_FEW_POINTS)
    if now >= last_step:
        return none(Doubt.FINISHED)
    sums = rate_sums(schedule, now, last_step)
    if sums is None:
        return none(Doubt.NO_LEARNING_RATE)
    evidence = gathered(used, sums, last_step, kind)
    if evidence is None:
        return none(Doubt.TOO_FEW_POINTS)
    doubts = [*wrong, *evidence.doubts, *([] if schedule.known else [Doubt(f"schedule-{schedule.kind}")])]
    ends, path = _ends(evidence, sums, last_step, prior, PATH)
    if not len(ends):
        return none(*evidence.doubts, Doubt.UNSTABLE)
    if _misses(used, schedule, kind, evidence, prior):
        doubts.append(Doubt.BACK_TEST)
    if schedule.asked:
        ends = np.maximum(np.median(ends) + WHAT_IF * (ends - np.median(ends)), 0.0)
    lower, median, upper = np.quantile(ends, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2]).tolist()
    kept = tuple(np.quantile(ends, np.linspace(0.0, 1.0, KEPT)).tolist())
    return Forecast(
        median, lower, upper, tuple(dict.fromkeys(doubts)), int(evidence.now), last_step, schedule.kind, kept, path
    )


def _ends(
    evidence: Evidence, sums: RateSums, last_step: float, prior: Prior, parts: int
) -> tuple[Floats, tuple[tuple[int, float], ...]]:
    """Drawn losses of the end, with its noise, and the median on the way there."""
    steps = np.linspace(evidence.now, last_step, parts + 1)
    prior = STEEP if Doubt.STEEP in evidence.doubts else prior
    try:
        curves = draw_curves(evidence.past, Future(steps, sums.at(steps)), sums.after_peak(), prior) * evidence.scale
    except np.linalg.LinAlgError:  # losses so far apart that no number of digits holds them
        return np.empty(0), ()
    if len(curves) < FEWEST_DRAWS or not np.isfinite(curves).all():
        return np.empty(0), ()
    averaged = max(1.0, LAST_PART * last_step / evidence.spacing)
    noise = np.random.Generator(np.random.PCG64(1)).standard_normal(len(curves)) * evidence.noise / math.sqrt(averaged)
    path = [(int(step), loss) for step, loss in zip(steps.tolist(), np.median(curves, axis=0).tolist(), strict=True)]
    ends = curves[:, -1] + noise
    middle = np.median(ends)
    return np.maximum(middle + prior.width * (ends - middle), 0.0), tuple(path)


def _misses(points: Points, schedule: Schedule, kind: str, evidence: Evidence, prior: Prior) -> bool:
    """Whether the forecast of the present from the first part of the points is wrong."""
    count = int(np.searchsorted(points.steps, BACK_TEST_PART * evidence.now, side="right"))
    if not count:
        return False
    early = Points(points.steps[:count], points.losses[:count])
    sums = rate_sums(schedule, float(early.steps[-1]), evidence.now)
    before = None if sums is None else gathered(early, sums, evidence.now, kind)
    if sums is None or before is None:
        return False
    ends, _ = _ends(before, sums, evidence.now, prior, 1)
    if not len(ends):
        return True
    lower, median, upper = np.quantile(ends, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    miss = abs(float(median) - evidence.scale)
    return miss > BACK_TEST_WIDTHS * float(upper - lower) / 2 and miss > BACK_TEST_MISS * evidence.scale
