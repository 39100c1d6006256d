"""The learning rate of a whole run, past and future: as logged, as its kind continues it, or as it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.forecast.outlook import Ahead
from ko_cpt_callbacks.forecast.posterior import Floats

__all__ = ["KINDS", "UNKNOWN", "Schedule", "asked_schedule", "inferred_schedule", "schedule_of"]

KINDS: Final = ("constant", "cosine", "linear", "wsd")
"""What the rate can be asked to do from now on."""
LOGGED: Final = "logged"
PLANNED: Final = "planned"
UNPLANNED: Final = "unplanned"
UNKNOWN: Final = "unknown"

NODES: Final = 512
"""Steps at which a schedule that continues is sampled: a change within 0.2 % of the run is not resolved."""
AT_PEAK: Final = 0.999
"""Part of the highest rate from which on a row counts as at the peak (chosen, not measured)."""
FIT: Final = 2e-3
"""How far a logged rate may be from the formula of a kind, part of the peak: trainers log a rate up to one step late,
which is this much of a linear decay over 500 steps."""
FEWEST: Final = 6
"""Rows after the peak from which a kind is known (chosen, not measured): a formula has up to three free numbers."""
FALLEN: Final = 0.01
"""Part of the peak by which the rate must have fallen for its kind to be known: before that all kinds look constant
(chosen, not measured)."""
WARMUPS: Final = 64
"""Starts of a decay that are tried."""
ASTRAY: Final = 0.02
"""How far the last logged rate may be from the planned one, part of the peak, for the plan to hold: a loss scaler that
skips optimizer steps holds the rate back by as many (chosen, not measured)."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A learning rate over steps, straight lines between its nodes.

    Args:
        kind: ``planned`` (by the live scheduler), ``logged``, a kind that was asked for or inferred (``cosine``,
            ``linear``, ``inverse-sqrt``), or one whose last rate is held: ``unplanned`` (the live scheduler follows no
            plan) and ``unknown``.
        steps: Nodes, increasing.
        rates: The rate at each, >= 0.
        asked: Whether the kind was asked for: a what-if.
    """

    kind: str
    steps: tuple[float, ...]
    rates: tuple[float, ...]
    asked: bool = False

    @property
    def known(self) -> bool:
        """Whether the future rate is known."""
        return self.kind not in (UNPLANNED, UNKNOWN)

    def at(self, steps: Floats) -> Floats:
        """The rate at steps; before the first node and after the last one it is theirs."""
        found: Floats = np.interp(steps, self.steps, self.rates)
        return found


def schedule_of(ahead: Ahead | None, logged: Sequence[tuple[float, float]], now: float, last_step: float) -> Schedule:
    """The schedule of a run: the live scheduler's plan while the logged rate follows it, else what the log shows.

    Args:
        ahead: What the scheduler has planned; None where nothing says it.
        logged: ``(step, rate)``, in the order of the log.
        now: The present step.
        last_step: The last step that the run is to have.
    """
    if ahead is None:
        return inferred_schedule(logged, now, last_step)
    if not ahead.steps:
        return _through(UNPLANNED, *_clean([one for one in logged if one[0] <= now]))
    planned = Schedule(PLANNED, ahead.steps, ahead.rates)
    step, rate = next((one for one in reversed(logged) if one[0] <= now), (0.0, ahead.rates[0]))
    near = planned.at(step + np.array([-1.0, 0.0, 1.0]))  # logged a step early or late
    slack = ASTRAY * max(ahead.rates)
    follows = near.min() - slack <= rate <= near.max() + slack
    return planned if follows else inferred_schedule(logged, now, last_step)


def inferred_schedule(logged: Sequence[tuple[float, float]], now: float, last_step: float) -> Schedule:
    """The schedule of a run whose rate was logged.

    Where the log reaches the last step (within one part in fifty), it is the schedule. Otherwise the rows up to ``now``
    say the kind: a half cosine to zero or to a floor, a straight line to zero, or the inverse square root. A rate that
    has not fallen yet may be constant or the plateau of any other kind, so its kind is unknown.

    Args:
        logged: ``(step, rate)``, in the order of the log; a later row of a step counts.
        now: The present step.
        last_step: The last step that the run is to have.
    """
    steps, rates = _clean(logged)
    if len(steps) and steps[-1] >= 0.98 * last_step:
        return _through(LOGGED, steps, rates)
    past = steps <= now
    steps, rates = steps[past], rates[past]
    found = _continued(steps, rates, last_step) if len(steps) else None
    if found is None:
        return _through(UNKNOWN, steps, rates)
    kind, rule = found
    return _joined(kind, steps, rates, last_step, rule)


def asked_schedule(text: str, logged: Sequence[tuple[float, float]], now: float, last_step: float) -> Schedule:
    """The logged rate up to now and, from there to the last step, what ``text`` says.

    ==================  =============================================================================================
    ``constant``        the present rate
    ``cosine``          a half cosine from its present height: one in progress goes on
    ``linear``          a straight line
    ``wsd:0.2``         the present rate, and a straight line to zero over the last 20 % of the run (default 10 %)
    ==================  =============================================================================================

    ``cosine:0.1`` and ``linear:0.1`` end at 10 % of the peak; without a number at zero.

    Raises:
        ConfigurationError: If the text is none of these, or no rate was logged.
    """
    kind, colon, number = text.partition(":")
    part = _part(number) if colon else {"wsd": 0.1}.get(kind, 0.0)
    if kind not in KINDS or part is None or (kind == "constant" and colon):
        raise ConfigurationError(
            f"--schedule: found {text!r}, expected constant, cosine[:END], linear[:END] or wsd[:DECAY], "
            "numbers from 0 to 1"
        )
    steps, rates = _clean([(step, rate) for step, rate in logged if step <= now])
    if not len(steps) or rates.max() <= 0:
        raise ConfigurationError("--schedule: the run has no logged learning rate to go on from, expected one above 0")
    peak, present, begun = float(rates.max()), float(rates[-1]), float(steps[-1])
    end, span = part * peak, max(last_step - begun, 1.0)

    def rule(at: Floats) -> Floats:
        done = (at - begun) / span
        if kind == "constant":
            return np.full_like(at, present)
        if kind == "linear":
            return present + (end - present) * done
        if kind == "wsd":
            return present * np.clip((last_step - at) / max(part * last_step, 1.0), 0.0, 1.0)
        height = min(max((present - end) / max(peak - end, 1e-30), 0.0), 1.0)
        phase = math.acos(2 * height - 1)
        return end + (peak - end) * (1 + np.cos(phase + (math.pi - phase) * done)) / 2

    return _joined(kind, steps, rates, last_step, rule, asked=True)


def _part(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number <= 1 else None


def _clean(logged: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Steps and rates that are numbers, by step; the later row of a step."""
    last = {float(step): float(rate) for step, rate in logged if math.isfinite(rate) and rate >= 0 and step >= 0}
    steps = np.array(sorted(last))
    return steps, np.array([last[step] for step in steps])


def _joined(
    kind: str, steps: Floats, rates: Floats, last_step: float, rule: Callable[[Floats], Floats], asked: bool = False
) -> Schedule:
    """The logged rate, and from its last row to the last step what the rule says."""
    ahead = np.linspace(steps[-1], last_step, NODES + 1)[1:] if last_step > steps[-1] else np.empty(0)
    rates = np.concatenate([rates, np.maximum(rule(ahead), 0.0)])
    return _through(kind, np.concatenate([steps, ahead]), rates, asked)


def _through(kind: str, steps: Floats, rates: Floats, asked: bool = False) -> Schedule:
    """The schedule through nodes; where there are none the rate is 0."""
    if not len(steps):
        return Schedule(kind, (0.0,), (0.0,))
    return Schedule(kind, tuple(steps.tolist()), tuple(rates.tolist()), asked)


def _continued(steps: Floats, rates: Floats, last_step: float) -> tuple[str, Callable[[Floats], Floats]] | None:
    """The kind whose formula gives the logged rates after their peak, and the formula."""
    peak = float(rates.max())
    if peak <= 0:
        return None
    start = int(np.argmax(rates >= AT_PEAK * peak))
    if len(steps) - start < FEWEST or rates[-1] > (1 - FALLEN) * peak:
        return None
    # A few hundred rows tell a formula from another; whether it holds is asked of all.
    few = np.unique(np.linspace(start, len(steps) - 1, NODES).round().astype(int))
    after, seen = steps[few], rates[few] / peak

    def fit(shape: Callable[[Floats], Floats], floor: bool) -> tuple[float, Callable[[Floats], Floats]]:
        columns = np.stack([shape(after), np.full(len(after), float(floor))], axis=1)
        solved = np.linalg.lstsq(columns, seen, rcond=None)[0]
        miss = float(np.abs(columns @ solved - seen).max())
        return miss, lambda at: peak * (shape(at) * solved[0] + float(floor) * solved[1])

    def linear(at: Floats) -> Floats:
        return (last_step - at) / last_step

    tried = [("linear", *fit(linear, False))]
    begin = float(steps[start - 1]) if start else 0.0
    starts = np.linspace(begin, float(after[0]), WARMUPS)

    def cosine(begun: float) -> Callable[[Floats], Floats]:
        return lambda at: (1 + np.cos(np.pi * (at - begun) / (last_step - begun))) / 2

    for floor in (False, True):
        fitted = [fit(cosine(begun), floor) for begun in starts.tolist()]
        tried.append(("cosine", *min(fitted, key=lambda one: one[0])))
    slope, level = np.polyfit(after, seen**-2.0, 1) if seen.min() > 0 else (0.0, 0.0)
    if slope > 0 and level + slope * float(after[0]) > 0:

        def root(at: Floats) -> Floats:
            return 1 / np.sqrt(level + slope * at)

        tried.append(("inverse-sqrt", float(np.abs(root(after) - seen).max()), lambda at: peak * root(at)))
    kind, _, rule = min(tried, key=lambda one: one[1])
    return (kind, rule) if np.abs(rule(steps[start:]) - rates[start:]).max() <= FIT * peak else None
