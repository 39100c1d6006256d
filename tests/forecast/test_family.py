"""Finished runs of the same set-up: they narrow a forecast, or it says why they do not."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from forecast.family_rows import TEXT, member, planned_otherwise, seed_rows, with_family
from rules.target.heading_rows import EVERY, LAST

from ko_cpt_callbacks.forecast.band import students_t
from ko_cpt_callbacks.forecast.chance import row_numbers
from ko_cpt_callbacks.forecast.family import (
    KEPT_POINTS,
    EvalCurve,
    FamilyRun,
    Unfit,
    family_in,
    family_row,
    family_run,
    others,
    thinned,
)
from ko_cpt_callbacks.forecast.forecast import Forecast
from ko_cpt_callbacks.forecast.outlook import Outlook, outlook_of
from ko_cpt_callbacks.run.fold import FAMILY, PLAN, PLANNED_STEPS
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

Rows = list[Observation]


@pytest.fixture(scope="module")
def family() -> tuple[FamilyRun, ...]:
    """Five finished runs."""
    return tuple(member(seed) for seed in range(1, 6))


def ends(rows: Sequence[Observation], runs: Sequence[FamilyRun] = ()) -> Forecast:
    """The forecast of the set."""
    found = outlook_of(with_family(rows, runs)).forecast("eval")
    assert found is not None
    return found


def changed(rows: Rows, **values: Any) -> Rows:
    """The rows with other values in every evaluation."""
    return [dataclasses.replace(row, **values) if isinstance(row, EvalObservation) else row for row in rows]


def test_a_family_narrows_the_interval(family: tuple[FamilyRun, ...]) -> None:
    """At 30 % of the run it is a fifth as wide as without, and the median is nearer to the end."""
    rows = seed_rows(0, 0.3)
    alone, found, end = ends(rows), ends(rows, family), seed_rows(0)[-1].exact_loss  # type: ignore[union-attr]
    assert (alone.family, found.family, found.apart, found.withheld) == (0, 5, None, ())
    assert None not in (found.lower, found.upper, alone.lower, alone.upper, found.median, alone.median)
    assert found.lower < end < found.upper  # type: ignore[operator]
    assert found.upper - found.lower < 0.2 * (alone.upper - alone.lower)  # type: ignore[operator]
    assert abs(found.median - end) < abs(alone.median - end)  # type: ignore[operator]
    assert found.probability_below(end + 0.03) == 1.0 and found.probability_below(end - 0.03) == 0.0
    assert found.path[0][0] == found.now == int(0.3 * LAST) and found.path[-1] == (LAST, found.median)
    reached = found.step_to_reach((found.path[0][1] + found.path[-1][1]) / 2)
    assert reached is not None and found.now < reached < LAST


def test_the_row_of_an_evaluation_counts_the_family(family: tuple[FamilyRun, ...]) -> None:
    """As many runs as its forecast is made from; a run without a family has no such number."""
    rows = seed_rows(0, 0.3)
    last = rows[-1]
    assert isinstance(last, EvalObservation)
    assert row_numbers(outlook_of(with_family(rows, family)), last, ())["eval_final_loss_family"] == 5
    assert "eval_final_loss_family" not in row_numbers(outlook_of(rows), last, ())


def test_what_the_interval_holds() -> None:
    """Of twelve runs that are left out in their turn nine in ten are held."""
    runs = [member(seed) for seed in range(12)]
    held = 0
    for seed in range(12):
        others = [run for run in runs if run.name != f"seed-{seed}"][:6]
        found = ends(seed_rows(seed, 0.3), others)
        assert found.lower is not None and found.upper is not None
        held += found.lower <= runs[seed].curves["eval"].points[-1][1] <= found.upper
    assert held >= 10


def test_a_family_speaks_where_the_law_does_not(family: tuple[FamilyRun, ...]) -> None:
    """Before a quarter of the run no law is trusted; where the others ended is known all the same."""
    rows = seed_rows(0, 0.2)
    alone, found = ends(rows), ends(rows, family)
    assert [str(doubt) for doubt in alone.withheld] == ["too-early"] and found.withheld == ()
    assert found.family == 5 and found.probability_below(2.0) == 0.0


def test_few_runs_are_little_evidence(family: tuple[FamilyRun, ...]) -> None:
    """Three runs give a wider interval than five; two give none."""
    rows = seed_rows(0, 0.5)
    three, five = ends(rows, family[:3]), ends(rows, family)
    assert three.family == 3
    assert three.upper - three.lower > five.upper - five.lower  # type: ignore[operator]
    assert ends(rows, family[:2]).family == 0


def other_tokens(rows: Rows) -> Rows:
    """The same run with half of the tokens a step."""
    return [
        dataclasses.replace(row, tokens_seen=500 * row.step) if isinstance(row, TrainObservation) else row
        for row in rows
    ]


def longer(rows: Rows) -> Rows:
    """The same run, planned to go on for longer."""
    return [SetupObservation(0, PLAN, {PLANNED_STEPS: LAST + EVERY}), *rows[1:]]


def beside(rows: Rows) -> Rows:
    """The same run, evaluated half a distance later."""
    return [
        dataclasses.replace(row, step=row.step + EVERY // 2) if isinstance(row, EvalObservation) else row
        for row in rows
    ]


def untold(rows: Rows) -> Rows:
    """The same run by its log alone, in the first hundredth of a cosine."""
    return [rows[0], *(row for row in rows[2:] if row.step <= 0.05 * LAST)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (untold, "untold-schedule"),
        (longer, "other-steps"),
        (planned_otherwise, "other-schedule"),
        (other_tokens, "other-tokens"),
        (beside, "other-evaluations"),
        (lambda rows: [row for row in rows if not isinstance(row, TrainObservation)], "other-tokens"),
        (lambda rows: changed(rows, fingerprint="utf8-v2-bb"), "other-rows"),
        (lambda rows: changed(rows, fingerprint="ids-v2-aa"), "other-rows"),
        (lambda rows: changed(rows, fingerprint=None), "other-rows"),
        (lambda rows: changed(rows, tokens=999), "other-rows"),
        (lambda rows: changed(rows, exact_loss=None, loss=2.4), "no-exact-loss"),
        (lambda rows: [rows[0], *rows[2:]], None),  # the log alone shows the same cosine
    ],
)
def test_what_must_agree(change: Callable[[Rows], Rows], why: str | None, family: tuple[FamilyRun, ...]) -> None:
    """A set-up that is another, or not known, is named, and the forecast is that of the run alone."""
    rows = change(seed_rows(0, 0.5))
    found = outlook_of([*rows[:1], SetupObservation(0, FAMILY, family_row(family)), *rows[1:]]).forecast("eval")
    assert found is not None
    assert found.apart == why
    if why is not None:
        assert dataclasses.replace(found, apart=None) == outlook_of(rows).forecast("eval")


def test_a_run_that_left_the_band_is_forecast_alone(family: tuple[FamilyRun, ...]) -> None:
    """What the others did says nothing of the end of a run that no longer goes as they did."""
    rows = seed_rows(0, 0.5, off=0.1)
    assert ends(rows, family).apart == "left-band"
    assert dataclasses.replace(ends(rows, family), apart=None) == ends(rows)


def test_a_lasting_offset_is_carried_to_the_end(family: tuple[FamilyRun, ...]) -> None:
    """A run above the others ends above them, by less than it is above now: some of that is noise that passes."""
    rows: Rows = [
        dataclasses.replace(row, exact_loss=1.005 * row.exact_loss)
        if isinstance(row, EvalObservation) and row.exact_loss is not None else row
        for row in seed_rows(0, 0.5)
    ]  # fmt: skip
    step = rows[-1].step
    now = np.mean([run.curves["eval"].loss_at(step, LAST) for run in family])
    end = np.mean([run.curves["eval"].points[-1][1] for run in family])
    above, found = rows[-1].exact_loss / now - 1, ends(rows, family)  # type: ignore[union-attr, operator]
    assert found.family == 5 and 0.1 * above < found.median / end - 1 < above  # type: ignore[operator]


def test_runs_that_are_too_unlike_say_less_than_the_run_itself() -> None:
    """Where the family's interval is the wider one, the run's own stands."""
    runs = [member(seed, seed_rows(seed, off=0.1 * (seed - 3))) for seed in range(1, 6)]
    rows = seed_rows(0, 0.7)
    assert ends(rows, runs) == ends(rows)


def test_a_deadline_before_the_end(family: tuple[FamilyRun, ...]) -> None:
    """The family is asked for the deadline's step where it was evaluated there; elsewhere it is not gone by."""
    outlook = outlook_of(with_family(seed_rows(0, 0.5), family))
    at, between = outlook.forecast("eval", 3000), outlook.forecast("eval", 3050)
    assert at is not None and between is not None
    assert (at.family, at.last_step, between.family, between.apart) == (5, 3000, 0, "other-evaluations")


def test_training_has_no_family(family: tuple[FamilyRun, ...]) -> None:
    """Batches are others with another seed: of training rows nothing is compared."""
    found = outlook_of(with_family(seed_rows(0, 0.5), family)).forecast("train")
    assert found is not None and (found.family, found.apart) == (0, None)


def test_a_fold_cut_anywhere(family: tuple[FamilyRun, ...]) -> None:
    """At every row the fold so far equals that of the rows; a row that was written and read again is the same."""
    rows, outlook = with_family(seed_rows(0, 0.4), family), Outlook()
    written = [
        SetupObservation(row.step, row.kind, json.loads(json.dumps(dict(row.values))))
        if isinstance(row, SetupObservation) else row for row in rows
    ]  # fmt: skip
    for place, row in enumerate(rows, start=1):
        outlook = outlook.add(row)
        assert outlook == outlook_of(written[:place])
        assert outlook.band("eval") == outlook_of(written[:place]).band("eval")
    assert outlook.forecast("eval") == outlook_of(written).forecast("eval")


def test_a_finished_run_as_data() -> None:
    """It comes back from JSON as it was; of many evaluations and rates some are kept, first and last among them."""
    run = member(1)
    assert family_in(SetupObservation(0, FAMILY, json.loads(json.dumps(family_row([run]))))) == (run,)
    assert family_in(SetupObservation(0, PLAN, {})) is None
    points = [(float(step), 3.0) for step in range(1000)]
    few = thinned(points, KEPT_POINTS)
    assert len(few) == KEPT_POINTS and few[0] == points[0] and few[-1] == points[-1]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (seed_rows(1)[1:], Unfit.UNPLANNED),
        (seed_rows(1, 0.9), Unfit.UNFINISHED),
        ([row for row in seed_rows(1) if not isinstance(row, TrainObservation)], Unfit.NO_TOKENS),
        (seed_rows(1, text=None), Unfit.NO_EVALUATIONS),
        (changed(seed_rows(1), exact_loss=None, loss=2.4), Unfit.NO_EVALUATIONS),
        ([row for row in seed_rows(1) if not isinstance(row, EvalObservation) or row.step < 0.9 * LAST],
         Unfit.NO_EVALUATIONS),
    ],
)  # fmt: skip
def test_a_run_that_cannot_be_one_of_a_family(rows: Rows, why: Unfit) -> None:
    """It is not at its end, or what must agree is not known of it."""
    assert family_run(outlook_of(rows), "one") is why


@pytest.mark.parametrize("until", [0.4, 1.0])
def test_a_run_is_not_in_its_own_family(until: float) -> None:
    """Neither whole nor as a checkpoint, whose future the finished one has; another seed of the same base is."""
    first = EvalObservation(0, exact_loss=5.0, tokens=1000, fingerprint=TEXT)

    def begun(seed: int, until: float = 1.0) -> list[Observation]:
        rows = seed_rows(seed, until)
        return [*rows[:2], first, *rows[2:]]

    runs = [member(seed, begun(seed)) for seed in (1, 2, 3)]
    assert [run.name for run in others(runs, outlook_of(begun(2, until)))] == ["seed-1", "seed-3"]
    assert others(runs, outlook_of(begun(4, until))) == tuple(runs)


def test_a_loss_at_a_step() -> None:
    """An evaluation's own, between two near ones a straight line, at the end the last; elsewhere none."""
    curve = EvalCurve(((0.0, 4.0), (10.0, 3.0), (500.0, 2.0), (990.0, 1.0)), ((TEXT, None),))
    assert [curve.loss_at(step, 1000) for step in (0, 5, 10, 11, 990, 1000)] == [4.0, 3.5, 3.0, None, 1.0, 1.0]
    assert curve.loss_at(1001, 1000) is None and curve.loss_at(-1, 1000) is None
    assert EvalCurve(((970.0, 1.0),), ()).loss_at(1000, 1000) is None


def evaluated(run: FamilyRun, *points: tuple[float, float]) -> FamilyRun:
    """The run with these evaluations."""
    return dataclasses.replace(run, curves={"eval": EvalCurve(points, run.curves["eval"].rows)})


@pytest.mark.parametrize(("loss", "left"), [(4.2, False), (1.0, True)])
def test_between_two_evaluations_the_loss_is_unsure(loss: float, left: bool, family: tuple[FamilyRun, ...]) -> None:
    """A loss falls faster at first than a straight line: that is no leaving, a loss far below both is."""
    spread = [1 + place / 1000 for place in range(5)]
    runs = [evaluated(run, (20, 5 * by), (60, 4 * by), (LAST, 2 * by)) for run, by in zip(family, spread, strict=True)]
    rows: Rows = [
        *seed_rows(0)[:2],
        TrainObservation(30, loss=4.5, learning_rate=2e-4, tokens_seen=30_000),
        EvalObservation(30, exact_loss=loss, tokens=1000, fingerprint=TEXT),
    ]
    band = outlook_of(with_family(rows, runs)).band("eval")
    assert band is not None and band.apart is None and band.left is left


def test_losses_that_are_far_apart(family: tuple[FamilyRun, ...]) -> None:
    """A band that is wider than numbers reach has no upper end, and nothing raises."""
    runs = [
        evaluated(run, *[(step, loss) for step, _ in run.curves["eval"].points])
        for run, loss in zip(family, (1e38, 1.0, 1e-300), strict=False)
    ]
    outlook = outlook_of(with_family(seed_rows(0, 0.5), runs))
    band = outlook.band("eval")
    assert band is not None and band.upper == math.inf and not band.left
    assert ends(seed_rows(0, 0.5), runs).median is not None


def test_students_t() -> None:
    """Quantiles as the tables have them, for even and odd degrees of freedom (Student 1908)."""
    table = {2: (2.920, 4.303), 3: (2.353, 3.182), 4: (2.132, 2.776), 5: (2.015, 2.571), 9: (1.833, 2.262)}
    for dof, (of_90, of_95) in table.items():
        found = students_t(np.array([0.95, 0.975, 0.025, 0.5]), dof)
        assert found == pytest.approx([of_90, of_95, -of_95, 0.0], abs=6e-4)


def test_runs_without_a_spread() -> None:
    """Runs that are equal to the digit have an interval all the same: no run is known better than the method is."""
    run = member(1)
    equal = [dataclasses.replace(run, name=str(number)) for number in range(3)]
    found, band = ends(seed_rows(1, 0.5), equal), outlook_of(with_family(seed_rows(1, 0.5), equal)).band("eval")
    assert found.lower is not None and found.upper is not None
    assert found.lower < run.curves["eval"].points[-1][1] < found.upper
    assert band is not None and band.lower < 0.999 * band.loss and band.upper > 1.001 * band.loss


def test_a_damaged_family_raises_nowhere(family: tuple[FamilyRun, ...]) -> None:
    """Whatever stands in the row: a run that cannot be read is left out, and the run is forecast."""
    chance, junk = random.Random(0), [None, True, "x", -1, 0, 1e400, math.nan, [], [[]], {}, [[1, 2], [1, 2]], 10**400]
    rows = seed_rows(0, 0.5)
    for _ in range(100):
        values: Any = json.loads(json.dumps(family_row(family)))
        for _ in range(chance.randint(1, 4)):
            place: Any = values
            while isinstance(place, (dict, list)) and place and chance.random() < 0.8:
                key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
                if chance.random() < 0.3 or not isinstance(place[key], (dict, list)):
                    place[key] = chance.choice(junk)
                    break
                place = place[key]
        outlook = outlook_of([*rows[:2], SetupObservation(0, FAMILY, values), *rows[2:]])
        band = outlook.band("eval")
        assert band is None or band.apart is not None or band.lower <= band.upper
    assert outlook_of([SetupObservation(0, FAMILY, {"runs": value}) for value in junk]).family == ()
    for value in (5, True, 1.5):
        values = json.loads(json.dumps(family_row(family[:1])))
        values["runs"][0]["sets"]["eval"]["rows"] = value
        assert family_in(SetupObservation(0, FAMILY, values)) == ()
