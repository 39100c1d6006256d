"""Where a run stands among finished runs of the same set-up, and where those say that it ends.

Losses are compared in their logarithm, at the same step. Of a family's runs ``x`` is where they were at the present
step and ``y`` where they ended. Curves that are divided by their ends fall onto each other (arXiv 2509.25087), so that
a run that is 1 % above the others now ends 1 % above them; but noise does not last. The part of the present offset that
is carried to the end is ``var(y) / var(x)``, at most 1: what it is of a lasting offset beside a passing one. How far
this misses is measured on the family itself, each run left out in its turn. The interval is Student's t of these
misses: of few runs it is wide.

It holds where the run differs from its family as those differ among themselves, by their seed. Of a run that has left
their band that is not so, and the family says nothing of its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.forecast.evidence import Doubt
from ko_cpt_callbacks.forecast.family import (
    BAND,
    FEWEST,
    SAME_RATE,
    SAME_TOKENS,
    Apart,
    EvalCurve,
    FamilyRun,
    eval_curve,
    thinned,
)
from ko_cpt_callbacks.forecast.forecast import KEPT, LEVEL, PATH, Forecast
from ko_cpt_callbacks.forecast.posterior import MODEL_ERROR, Floats
from ko_cpt_callbacks.forecast.schedule import UNKNOWN, Schedule, schedule_of

if TYPE_CHECKING:
    from ko_cpt_callbacks.forecast.outlook import Outlook

__all__ = ["Band", "band_of", "carried", "missed", "narrowed", "students_t"]

STAYS: Final = (Doubt.NON_FINITE, Doubt.STEP_RESET, Doubt.NO_LEARNING_RATE, Doubt.FINISHED)
"""What is wrong with the run's own rows; the other doubts are of a law that a family does not need."""
ANGLES: Final = 4001
"""Places at which the distribution is known: a quantile is right to one part in 100,000 (measured against tables)."""


@dataclass(frozen=True, slots=True)
class Band:
    """Where the last evaluation of a set stands.

    Args:
        step: Its step.
        loss: Its exact loss, nats per token.
        compared: The runs that it is compared with, `FEWEST` or more; none where `apart` says why not.
        apart: Why it is compared with none; None where it is.
        lower: The band's lower end, nats per token; NaN where there is none, as the upper one.
        upper: Its upper end.
        rate_ratio: The highest learning rate of this run over the median of the others'.
    """

    step: int
    loss: float
    compared: tuple[FamilyRun, ...] = ()
    apart: Apart | None = None
    lower: float = math.nan
    upper: float = math.nan
    rate_ratio: float = 1.0

    @property
    def left(self) -> bool:
        """Whether the evaluation lies outside."""
        return self.apart is None and not self.lower <= self.loss <= self.upper


def band_of(outlook: Outlook, split: str) -> Band | None:
    """The band at the last evaluation of a set; None without a family, a plan, or an evaluation."""
    whole, planned = outlook.curve(split), outlook.planned
    if not outlook.family or whole is None or planned is None or split not in outlook.sets:
        return None
    step, loss = whole.points[-1]
    none = Band(int(step), loss)
    if whole.metric != keys.EXACT_LOSS or not loss > 0:
        return replace(none, apart=Apart.NO_EXACT_LOSS)
    curve = eval_curve(outlook, split)
    schedule = schedule_of(outlook.ahead, outlook.rates(), outlook.done, planned)
    reasons = [_apart(outlook, split, curve, schedule, step, run) for run in outlook.family]
    compared = tuple(run for run, reason in zip(outlook.family, reasons, strict=True) if reason is None)
    if len(compared) < FEWEST:
        return replace(none, apart=next((reason for reason in reasons if reason is not None), Apart.FEW_RUNS))
    logs = _logs(compared, split, step)
    own = float(logs.std(ddof=1)) * math.sqrt(1 + 1 / len(compared))
    spread = math.hypot(own, MODEL_ERROR, _between(compared, split, step))
    reach = spread * float(students_t(np.array([(1 + BAND) / 2]), len(compared) - 1)[0])
    center, ratio = float(logs.mean()), max(schedule.rates) / float(np.median([run.peak for run in compared]))
    with np.errstate(over="ignore"):  # of losses that are orders of magnitude apart the band has no end
        lower, upper = np.exp([center - reach, center + reach]).tolist()
    return Band(int(step), loss, compared, None, lower, upper, ratio)


@np.errstate(over="ignore")
def narrowed(found: Forecast, outlook: Outlook, split: str) -> Forecast:
    """A set's forecast by the family where that is surer, else as it was made without one; either says which."""
    band, last = band_of(outlook, split), found.last_step
    if band is None or band.step >= last:
        return found
    compared = [run for run in band.compared if run.curves[split].loss_at(last, run.steps) is not None]
    apart = band.apart or (Apart.LEFT_BAND if band.left else None)
    if apart is not None or len(compared) < FEWEST:
        return replace(found, apart=apart or Apart.OTHER_EVALUATIONS)
    now, then = math.log(band.loss), _logs(compared, split, band.step)
    ends = _logs(compared, split, last)
    center = carried(then, ends, now)
    spread = math.hypot(missed(then, ends), _between(compared, split, band.step), _between(compared, split, last))
    chances = np.concatenate([(np.arange(KEPT) + 0.5) / KEPT, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]])
    *kept, lower, upper = np.exp(center + spread * students_t(chances, len(compared) - 1)).tolist()
    width = math.inf if found.withheld or found.upper is None else found.upper - (found.lower or 0.0)
    if width <= upper - lower or upper == math.inf:
        return found
    median = float(np.exp(center))
    shared = [step for step, _ in compared[0].curves[split].points if band.step < step < last]
    between = [(step, 0.0) for step in shared if all(run.curves[split].loss_at(step, run.steps) for run in compared)]
    steps = thinned([(0.0, 0.0), *between, (0.0, 0.0)], PATH + 1)[1:-1]
    path = [(step, float(np.exp(carried(then, _logs(compared, split, step), now)))) for step, _ in steps]
    whole = [(float(band.step), band.loss), *path, (float(last), median)]
    return replace(
        found, median=median, lower=lower, upper=upper, now=band.step, ends=tuple(kept), family=len(compared),
        withheld=tuple(doubt for doubt in found.withheld if doubt in STAYS),
        path=tuple((int(step), loss) for step, loss in whole),
    )  # fmt: skip


def students_t(chances: Floats, dof: int) -> Floats:
    """Quantiles of Student's t, read off its distribution: for whole degrees of freedom a finite sum.

    Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, in the angle ``atan(t / sqrt(dof))``.

    Args:
        chances: In (0, 1).
        dof: Degrees of freedom, >= 2.
    """
    angles = np.linspace(0.0, math.pi / 2, ANGLES)
    term, total = np.cos(angles) if dof % 2 else np.ones_like(angles), np.zeros_like(angles)
    for power in range(1 + dof % 2, dof, 2):
        total += term
        term = term * np.cos(angles) ** 2 * power / (power + 1)
    held = np.sin(angles) * total
    held = 2 / math.pi * (angles + held) if dof % 2 else held
    found: Floats = math.sqrt(dof) * np.tan(np.interp(np.abs(2 * chances - 1), held, angles))
    return np.sign(chances - 0.5) * found


def _apart(
    outlook: Outlook, split: str, curve: EvalCurve | None, schedule: Schedule, step: float, run: FamilyRun
) -> Apart | None:
    """What speaks against comparing a set of this run with a run of the family at a step."""
    tokens, other = outlook.tokens_per_step, run.curves.get(split)
    if run.steps != outlook.planned:
        return Apart.OTHER_STEPS
    if not schedule.known or not _same_shape(schedule, run, math.inf):
        untold = schedule.kind == UNKNOWN and _same_shape(schedule, run, schedule.steps[-1])  # what was logged
        return Apart.UNTOLD_SCHEDULE if untold else Apart.OTHER_SCHEDULE
    if tokens is None or abs(tokens / run.tokens_per_step - 1) > SAME_TOKENS:
        return Apart.OTHER_TOKENS
    if curve is None or other is None or not curve.same_rows(other):
        return Apart.OTHER_ROWS
    if step < other.points[0][0]:
        return Apart.NOT_YET
    return Apart.OTHER_EVALUATIONS if other.loss_at(step, run.steps) is None else None


def _same_shape(schedule: Schedule, run: FamilyRun, until: float) -> bool:
    """Whether both rates are the same up to a step, from where both are known: a log begins in or after the warm-up."""
    steps, rates = (np.array(column) for column in zip(*run.nodes, strict=True))
    peak, both = max(schedule.rates), (steps >= schedule.steps[0]) & (steps <= until)
    apart = np.abs(schedule.at(steps[both]) / peak - rates[both] / run.peak) if peak > 0 else np.empty(0)
    return bool(len(apart)) and float(apart.max()) <= SAME_RATE


def _logs(compared: Sequence[FamilyRun], split: str, step: float) -> Floats:
    """Logarithms of the losses of a set at a step that each run has."""
    return np.log([run.curves[split].loss_at(step, run.steps) or math.nan for run in compared])


def _between(compared: Sequence[FamilyRun], split: str, step: float) -> float:
    """How far their losses are unsure between two evaluations, as a standard deviation: half of what they fall there.

    All are off the same way, since a loss falls faster at first: no spread of theirs shows it.
    """
    return abs(float(np.mean([run.curves[split].fall_at(step) for run in compared]))) / 2


def carried(then: Floats, ends: Floats, now: float) -> float:
    """Where a run ends that is now at ``now``, of the runs that were at ``then`` and came to ``ends``."""
    spread = float(then.var())
    carry = min(float(ends.var()) / spread, 1.0) if spread > 0 else 1.0
    return float(ends.mean() + carry * (now - then.mean()))


def missed(then: Floats, ends: Floats) -> float:
    """How far that is off as a rule: the root of the mean square over runs that are left out in their turn."""
    others = ~np.eye(len(then), dtype=bool)
    misses = [ends[i] - carried(then[rest], ends[rest], float(then[i])) for i, rest in enumerate(others)]
    return math.hypot(math.sqrt(float(np.mean(np.square(misses)))), MODEL_ERROR)
