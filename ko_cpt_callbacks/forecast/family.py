"""Finished runs of the same set-up: their evaluations as data, small enough to stand in a row of the run that has them.

What must agree for two runs to be compared step by step is what the axes mean: the planned last step, the shape of the
learning rate over steps, the target tokens per step, and the rows that are evaluated. What is left (the height of the
rate, the data, the weights they begin with, the seed) is what their band then tells apart.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.fold import FAMILY, same_text
from ko_cpt_callbacks.run.observation import SetupObservation, finite_number

if TYPE_CHECKING:
    from ko_cpt_callbacks.forecast.outlook import Outlook

__all__ = ["BAND", "Apart", "EvalCurve", "FamilyRun", "Unfit", "family_in", "family_row", "family_run", "others"]

KEPT_POINTS: Final = 200
"""Evaluations that are kept of a set: a run of five sets and five runs of its family is then 200 kB."""
KEPT_NODES: Final = 128
"""Nodes that are kept of a schedule; a run's rate is asked at these steps (chosen, not measured)."""
NEAR: Final = 0.01
"""Part of the run that two neighboring evaluations may be apart for the loss between them to be known: twice what
`KEPT_POINTS` makes of many evaluations."""
AT_END: Final = 0.98
"""Part of the run from which on an evaluation stands for its end: that of a log that is whole (`inferred_schedule`)."""
SAME_TOKENS: Final = 0.05
"""How far target tokens per step may differ, part of them: rows of many lengths come in another order with another
seed. Chosen, not measured; packed rows do not differ at all."""
SAME_RATE: Final = 0.02
"""How far two rates may differ, each part of its own highest: logged a step late, and after a skipped step."""

FEWEST: Final = 3
"""Runs from which a family has a spread that one of them can be left out of."""
BAND: Final = 0.998
"""Part of the runs of a family that its band holds at one evaluation. Two in a row are outside in at most 0.5 % of the
runs that are of it with 20 evaluations, 2 % with 100 (simulated); runs at twice the rate leave it at most two
evaluations later than one of 99.5 % (benchmarks/family.py)."""


class Apart(StrEnum):
    """What speaks against comparing two runs step by step."""

    FEW_RUNS = "few-runs"
    NO_EXACT_LOSS = "no-exact-loss"
    OTHER_STEPS = "other-steps"
    OTHER_SCHEDULE = "other-schedule"
    UNTOLD_SCHEDULE = "untold-schedule"
    OTHER_TOKENS = "other-tokens"
    OTHER_ROWS = "other-rows"
    OTHER_EVALUATIONS = "other-evaluations"
    NOT_YET = "not-yet"
    LEFT_BAND = "left-band"


class Unfit(StrEnum):
    """Why a run cannot be one of a family."""

    UNPLANNED = "no last step is planned"
    UNFINISHED = "the planned last step is not reached"
    NO_TOKENS = "no target tokens are counted"
    NO_RATE = "no learning rate is logged"
    NO_EVALUATIONS = "no set has an exact loss at the end, of the same known rows throughout"


@dataclass(frozen=True, slots=True)
class EvalCurve:
    """The evaluations of one set, all of the same rows.

    Args:
        points: ``(step, exact loss in nats per token)``, steps increasing, losses finite and above zero.
        rows: Fingerprint and target tokens (None where not counted) of the rows; one entry a form of fingerprints.
    """

    points: tuple[tuple[float, float], ...]
    rows: tuple[tuple[str, int | None], ...]

    def loss_at(self, step: float, steps: int) -> float | None:
        """The loss at a step of a run of so many; None where no evaluation is there, or two are near."""
        place = bisect_left(self.points, (step,))
        after = self.points[place] if place < len(self.points) else None
        if after is not None and after[0] == step:
            return after[1]
        before = self.points[place - 1] if place else None
        if after is None or before is None:
            ends = after is None and before is not None and step <= steps and before[0] >= AT_END * steps
            return before[1] if ends and before is not None else None
        if after[0] - before[0] > NEAR * steps:
            return None
        return before[1] + (after[1] - before[1]) * (step - before[0]) / (after[0] - before[0])

    def fall_at(self, step: float) -> float:
        """How far the logarithm of the loss falls between the evaluations around a step; 0 at one, and outside.

        A straight line between the two is off by that at most where the loss only falls.
        """
        place = bisect_left(self.points, (step,))
        if not 0 < place < len(self.points) or self.points[place][0] == step:
            return 0.0
        return math.log(self.points[place - 1][1]) - math.log(self.points[place][1])

    def same_rows(self, other: EvalCurve) -> bool:
        """Whether both are surely of the same rows, and the same tokens of them."""
        both = [(same_text(a, b), m, n) for a, m in self.rows for b, n in other.rows]
        alike = [(m, n) for found, m, n in both if found]
        other_text = any(found is False for found, _, _ in both)
        return bool(alike) and not other_text and all(m == n for m, n in alike if m is not None and n is not None)


@dataclass(frozen=True, slots=True)
class FamilyRun:
    """A run, as far as another is compared with it.

    Args:
        name: What it is called: its folder, or its id.
        steps: Its planned last step, >= 1.
        tokens_per_step: Target tokens per optimizer step, over all ranks.
        nodes: ``(step, learning rate)``, steps increasing; straight lines between them.
        curves: By set.
    """

    name: str
    steps: int
    tokens_per_step: float
    nodes: tuple[tuple[float, float], ...]
    curves: Mapping[str, EvalCurve] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        """Its highest learning rate."""
        return max(rate for _, rate in self.nodes)

    def is_run(self, other: FamilyRun) -> bool:
        """Whether both are one run under two names: a set ends at the same number, whatever one of them has more."""
        return any(
            name in other.curves and curve.points[-1] == other.curves[name].points[-1]
            for name, curve in self.curves.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """The run as JSON values; `family_in` reads them."""
        return {
            "name": self.name, "steps": self.steps, "tokens_per_step": self.tokens_per_step,
            "rates": [list(one) for one in self.nodes],
            "sets": {
                name: {"points": [list(one) for one in curve.points], "rows": [list(one) for one in curve.rows]}
                for name, curve in self.curves.items()
            },
        }  # fmt: skip


def family_row(runs: Sequence[FamilyRun]) -> dict[str, Any]:
    """The values of the set-up row `FAMILY`."""
    return {"runs": [run.as_dict() for run in runs]}


def family_in(seen: SetupObservation) -> tuple[FamilyRun, ...] | None:
    """The family that a set-up row names; None where it is another row. A run that is damaged is left out."""
    if seen.kind != FAMILY:
        return None
    runs = seen.values.get("runs")
    found = (_run_in(one) for one in runs) if isinstance(runs, (list, tuple)) else ()
    return tuple(run for run in found if run is not None)


def family_run(outlook: Outlook, name: str) -> FamilyRun | Unfit:
    """A whole, finished run as one of a family, or why it cannot be one."""
    planned = outlook.planned
    if planned is None:
        return Unfit.UNPLANNED
    if outlook.done < planned:
        return Unfit.UNFINISHED
    tokens = outlook.tokens_per_step
    if tokens is None:
        return Unfit.NO_TOKENS
    ahead = outlook.ahead
    both = outlook.rates() if ahead is None or not ahead.steps else zip(ahead.steps, ahead.rates, strict=True)
    nodes = thinned(sorted(dict(both).items()), KEPT_NODES)
    if not any(rate > 0 for _, rate in nodes):
        return Unfit.NO_RATE
    curves = {split: curve for split in outlook.sets if (curve := eval_curve(outlook, split)) is not None}
    whole = {split: curve for split, curve in curves.items() if curve.points[-1][0] >= AT_END * planned}
    return FamilyRun(name, planned, tokens, nodes, whole) if whole else Unfit.NO_EVALUATIONS


def others(runs: Sequence[FamilyRun], outlook: Outlook) -> tuple[FamilyRun, ...]:
    """The runs of a family without the run itself: compared with itself it would be like its family.

    A checkpoint of one of them is that run too, which knows its future.
    """
    own = {split: curve for split in outlook.sets if (curve := eval_curve(outlook, split)) is not None}
    return tuple(
        run for run in runs
        if not any(split in own and _goes_on(own[split], curve) for split, curve in run.curves.items())
    )  # fmt: skip


def _goes_on(curve: EvalCurve, other: EvalCurve) -> bool:
    """Whether the other one is of the same run, as far or farther: the last step of both has one loss.

    Before training all runs of one base have the same.
    """
    known = dict(other.points)
    both = [point for point in curve.points if point[0] > 0 and point[0] in known]
    return bool(both) and known[both[-1][0]] == both[-1][1]


def eval_curve(outlook: Outlook, split: str) -> EvalCurve | None:
    """The evaluations of a set; None where they have no exact loss, or the rows are not known, or drawn anew."""
    curve, rows = outlook.curve(split), outlook.sets[split].rows
    if curve is None or curve.metric != keys.EXACT_LOSS or rows.drawn or not rows.known:
        return None
    points = sorted({step: loss for step, loss in curve.points if 0 < loss < math.inf}.items())
    return EvalCurve(thinned(points, KEPT_POINTS), tuple(rows.known.values())) if points else None


def thinned(points: Sequence[tuple[float, float]], most: int) -> tuple[tuple[float, float], ...]:
    """At most so many points, evenly by their number, the first and the last among them."""
    if len(points) <= most:
        return tuple(points)
    return tuple(points[round(place * (len(points) - 1) / (most - 1))] for place in range(most))


def _run_in(value: object) -> FamilyRun | None:
    if not isinstance(value, Mapping):
        return None
    steps, tokens = finite_number(value.get("steps")), finite_number(value.get("tokens_per_step"))
    nodes, sets = _pairs(value.get("rates"), lowest=0.0), value.get("sets")
    if not steps or steps < 1 or not tokens or tokens <= 0 or not any(rate > 0 for _, rate in nodes):
        return None
    found = dict(_sets_in(sets if isinstance(sets, Mapping) else {}))
    return FamilyRun(str(value.get("name", "")), int(steps), tokens, nodes, found) if found else None


def _sets_in(sets: Mapping[str, Any]) -> Iterator[tuple[str, EvalCurve]]:
    for name, one in sets.items():
        held = one if isinstance(one, Mapping) else {}
        points, rows = _pairs(held.get("points"), lowest=math.ulp(0.0)), held.get("rows")
        listed = rows if isinstance(rows, (list, tuple)) else ()
        known = [row for row in listed if isinstance(row, (list, tuple)) and len(row) == 2]
        texts = tuple(
            (text, count if isinstance(count, int) else None) for text, count in known if isinstance(text, str)
        )
        if points and texts:
            yield name, EvalCurve(points, texts)


def _pairs(value: object, *, lowest: float) -> tuple[tuple[float, float], ...]:
    """Pairs of numbers, steps increasing; none where anything else is among them."""
    try:
        found = [(finite_number(step), finite_number(number)) for step, number in value]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return ()
    known = tuple(
        (step, number) for step, number in found if step is not None and number is not None and number >= lowest
    )
    return known if len(known) == len(found) and all(a < b for (a, _), (b, _) in pairwise(known)) else ()
