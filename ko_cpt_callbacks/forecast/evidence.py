"""What of a curve a forecast is made from, and what speaks against making one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from ko_cpt_callbacks.forecast.posterior import Floats, Past
from ko_cpt_callbacks.forecast.schedule import AT_PEAK, Schedule

__all__ = ["Doubt", "Evidence", "Points", "RateSums", "gathered", "rate_sums", "usable"]

BINS: Final = 40
"""Groups that the points are averaged in: the cost of a fit grows with the cube of their number."""
CLIP: Final = 4.0
"""Median absolute deviations from its group's median at which a point is clipped (chosen, not measured)."""
LEFT_OUT_RUN: Final = 0.02
"""Part of the run whose points are never used: its first fall follows no law (chosen, not measured)."""
LEFT_OUT_SEEN: Final = 0.3
"""The same, part of what was seen: with 0.1 the median error of three families is 0.05 to 0.2 points larger."""
LEFT_OUT_EVALUATIONS: Final = 3
"""Evaluations at the start that are never used."""
FEWEST_POINTS: Final = {"train": 8, "eval": 4}
"""Usable points from which a forecast is made."""
EARLIEST: Final = 0.25
"""Part of the run before which no probability is given: facts of 44 curves, see docs/forecast.md."""
AFTER_WARMUP: Final = 1.5
"""How many times the step of the highest rate the present step must be."""
STEEP_RATIO: Final = 1.35
"""First tenth of the used groups over the last tenth from which on a curve is steep."""
STEEP_SLOPE: Final = 0.17
"""Slope of the logarithm of the loss over that of the step from which on it is steep, too: at most 0.143 in 12 healthy
curves at 30, 50 and 70 %, at least 0.21 in tiny models and memorizing runs."""
JUMP: Final = 8.0
"""Standard errors by which neighboring groups must rise to be a jump: 2.6 at most in 12 healthy curves."""
JUMP_PART: Final = 0.02
"""And part of the loss: noise of smooth curves is so small that any wave exceeds it. 0.012 at most in those curves."""
FALL: Final = 4.0
"""Standard errors by which neighboring groups must fall to be a jump: an epoch end that is one reaches 4.3."""
FALL_PART: Final = 0.06
"""And part of the loss: 0.021 at most in those curves, 0.16 at an epoch end of a run that memorizes."""
FALL_SHARE: Final = 0.5
"""And part of all that the groups fall by: a steep curve falls as far, but not at once (chosen, not measured)."""
SPIKE: Final = 12.0
"""Standard deviations of the noise above its group's median at which a point is a spike (chosen, not measured)."""
SPIKE_PART: Final = 0.25
"""And part of the loss."""
RISING: Final = 0.02
"""How much higher the last tenth of the groups may be than the lowest three neighboring ones, part of the loss."""
RISING_ERRORS: Final = 4.0
"""And standard errors of a group (chosen, not measured)."""
GAP: Final = 0.3
"""Part of the used steps that may lie between two neighboring points (chosen, not measured)."""
GAP_SPACINGS: Final = 5.0
"""And how many usual distances: with few points each is far from the next (chosen, not measured)."""
FASTER: Final = 1.0
"""Fall per summed rate of the last third of the groups over that of the middle one, from which on a curve falls faster
and faster: 0.96 at most in 12 healthy curves whose rate is above `FASTER_RATE`, 1.2 to 4.6 in tiny models that have not
come to their first bend, where forecasts are 2 to 8 % too high (benchmarks/heading.py)."""
FASTER_HEALTHY: Final = 0.8
"""The same of a healthy curve, which noise alone must not carry beyond `FASTER`."""
FASTER_ERRORS: Final = 1.0
"""Standard errors by which it must lie above that (chosen, not measured)."""
FASTER_RATE: Final = 0.5
"""Part of the peak that the rate of the last third must have: below, the decay itself is what the loss falls by."""
FASTER_DECAY: Final = 0.038
"""Part of the loss that a full decay is worth until then: what 44 published curves have in common. The figures of
`FASTER` are with it."""
RESTART: Final = 0.05
"""Part of the peak by which the rate may rise again after the peak."""


class Doubt(StrEnum):
    """Why no probability is given."""

    TOO_FEW_POINTS = "too-few-points"
    NON_FINITE = "non-finite"
    NO_LEARNING_RATE = "no-learning-rate"
    SCHEDULE_UNKNOWN = "schedule-unknown"
    SCHEDULE_UNPLANNED = "schedule-unplanned"
    RESTART = "restart"
    STEP_RESET = "step-reset"
    TOO_EARLY = "too-early"
    WARM_UP = "warm-up"
    STEEP = "steep"
    FASTER = "faster"
    JUMP = "jump"
    RISING = "rising"
    GAP = "gap"
    BACK_TEST = "back-test"
    FINISHED = "finished"
    UNSTABLE = "unstable"


class Points(NamedTuple):
    """Steps, increasing, and the loss at each in nats per token, finite and above zero."""

    steps: Floats
    losses: Floats


class RateSums(NamedTuple):
    """A schedule's nodes: steps, the rate in units of its peak, its sum over steps, and which node is the peak."""

    steps: Floats
    rates: Floats
    sums: Floats
    peak: int

    def at(self, steps: Floats) -> Floats:
        """``S`` at steps."""
        found: Floats = np.interp(steps, self.steps, self.sums)
        return found

    def after_peak(self) -> tuple[Floats, Floats]:
        """``S`` and the rate from the peak on."""
        return self.sums[self.peak :], self.rates[self.peak :]


def rate_sums(schedule: Schedule, now: float, last_step: float) -> RateSums | None:
    """The schedule summed over steps in units of its peak up to now; None where the rate is never above zero."""
    nodes = np.unique(np.concatenate([np.linspace(0.0, last_step, 513), [now]]))
    rates = schedule.at(nodes)
    peak = float(rates[nodes <= now].max())
    if not peak > 0:
        return None
    rates = rates / peak
    sums = np.concatenate([[0.0], np.cumsum(np.diff(nodes) * (rates[1:] + rates[:-1]) / 2)])
    return RateSums(nodes, rates, sums, int(np.argmax(rates >= AT_PEAK)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is used of a curve.

    Args:
        past: The groups, losses in units of ``scale``.
        scale: The present loss, nats per token.
        now: The last point's step.
        noise: Standard deviation of a point, nats per token.
        spacing: Steps between points, as a median.
        doubts: What speaks against a probability.
    """

    past: Past
    scale: float
    now: float
    noise: float
    spacing: float
    doubts: tuple[Doubt, ...]


def usable(points: Sequence[tuple[float, float]]) -> tuple[Points, list[Doubt]]:
    """The points that can be used, by step, and what is wrong with the others.

    A point that is not finite or not above zero is left out. Where the step falls, a resume has repeated steps: the
    points after the fall replace those that they repeat.
    """
    both = np.array(points, dtype=np.float64).reshape(-1, 2)
    good = np.isfinite(both).all(axis=1) & (both[:, 1] > 0) & (both[:, 0] >= 0)
    steps, losses = both[good].T
    lowest_ahead = np.minimum.accumulate(np.append(steps[1:], math.inf)[::-1])[::-1]
    doubts = [] if good.all() else [Doubt.NON_FINITE]
    if (np.diff(steps) < 0).any():
        doubts.append(Doubt.STEP_RESET)
    kept = steps < lowest_ahead
    return Points(steps[kept], losses[kept]), doubts


def gathered(points: Points, sums: RateSums, last_step: float, kind: str) -> Evidence | None:
    """What is used of a curve; None where too few of its points are.

    Args:
        points: What can be used, at least one.
        sums: The schedule.
        last_step: The last step that the run is to have.
        kind: ``train`` or ``eval``.
    """
    steps, losses = points
    now = float(steps[-1])
    if kind == "eval":
        steps, losses = steps[LEFT_OUT_EVALUATIONS:], losses[LEFT_OUT_EVALUATIONS:]
    else:
        begin = max(float(sums.steps[sums.peak]), LEFT_OUT_RUN * last_step, LEFT_OUT_SEEN * now)
        steps, losses = steps[steps > begin], losses[steps > begin]
    if len(steps) < FEWEST_POINTS[kind]:
        return None
    differences = np.diff(losses)
    noise = _middle(np.abs(differences - _middle(differences))) * 1.4826 / math.sqrt(2.0)
    groups = np.array_split(np.arange(len(steps)), min(BINS, len(steps)))
    parts = [losses[group] for group in groups]
    middle = np.array([_middle(part) for part in parts])
    spread = np.array([1.4826 * _middle(np.abs(part - m)) for part, m in zip(parts, middle, strict=True)])
    reach = CLIP * np.where(spread > 0, spread, np.inf)
    means = np.array([np.clip(part, m - r, m + r).mean() for part, m, r in zip(parts, middle, reach, strict=True)])
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    at = np.array([steps[group].mean() for group in groups])
    scale = float(means[-1])
    past = Past(at, sums.at(at), means / scale, noise / scale / np.sqrt(sizes))
    spikes = np.array([part.max() for part in parts]) - middle
    doubts = _doubts(steps, past, spikes / scale, noise / scale, sums, now, last_step)
    return Evidence(past, scale, now, noise, _middle(np.diff(steps)), doubts)


def _middle(values: Floats) -> float:
    """The upper median: NumPy's own takes ten times as long for few values."""
    return float(np.sort(values)[len(values) // 2])


def _doubts(
    steps: Floats, past: Past, spikes: Floats, noise: float, sums: RateSums, now: float, last_step: float
) -> tuple[Doubt, ...]:
    """What the used points and the schedule say against a probability; losses in units of the present one."""
    means, errors = past.losses, past.noise
    tenth = max(1, len(means) // 10)
    end = float(means[-tenth:].mean())
    low = float(np.convolve(means, np.ones(3) / 3, "valid").min()) if len(means) > 3 else float(means.min())
    changes, sure = np.diff(means), np.hypot(errors[1:], errors[:-1])
    rises = changes > np.maximum(JUMP * sure, JUMP_PART * means[1:])
    falls = -changes > np.maximum(FALL * sure, np.maximum(FALL_PART * means[1:], FALL_SHARE * np.ptp(means)))
    slope = float(np.polyfit(np.log(past.steps), np.log(means), 1)[0])
    steep = float(means[:tenth].mean()) > STEEP_RATIO * end or slope < -STEEP_SLOPE
    spiked = bool((spikes > max(SPIKE * noise, SPIKE_PART * end)).any())
    rates = sums.after_peak()[1]
    held = {
        Doubt.TOO_EARLY: now < EARLIEST * last_step,
        Doubt.WARM_UP: now < AFTER_WARMUP * float(sums.steps[sums.peak]),
        Doubt.STEEP: steep,
        Doubt.FASTER: _falls_faster(past, np.interp(past.steps, sums.steps, sums.rates)),
        Doubt.JUMP: spiked or bool(rises.any()) or bool(falls.any()),
        Doubt.RISING: end > (1 + RISING) * low and end - low > RISING_ERRORS * float(errors[-tenth:].mean()),
        Doubt.GAP: bool(
            (np.diff(steps) > np.maximum(GAP * (steps[-1] - steps[0]), GAP_SPACINGS * _middle(np.diff(steps)))).any()
        ),
        Doubt.RESTART: bool((rates - np.minimum.accumulate(rates) > RESTART).any()),
    }
    return tuple(doubt for doubt, holds in held.items() if holds)


def _falls_faster(past: Past, rates: Floats) -> bool:
    """Whether the loss falls faster and faster for the learning rate that it got: no law of this method does."""
    parts = np.array_split(np.arange(len(rates)), 3)
    if len(rates) < len(parts) or rates[parts[-1]].mean() < FASTER_RATE:
        return False
    level = past.losses + FASTER_DECAY * (1 - rates)
    means, sums = (np.array([values[part].mean() for part in parts]) for values in (level, past.rate_sums))
    errors = np.array([math.sqrt(float((past.noise[part] ** 2).sum())) / len(part) for part in parts])
    early, late = -np.diff(means) / np.diff(sums)
    usual = FASTER_HEALTHY / (sums[1] - sums[0])
    sure = math.hypot(errors[0] * usual, errors[1] * (usual + 1 / (sums[2] - sums[1])), errors[2] / (sums[2] - sums[1]))
    return bool(late > FASTER * early > 0 and late - FASTER_HEALTHY * early > FASTER_ERRORS * sure)
