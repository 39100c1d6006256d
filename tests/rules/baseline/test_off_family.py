"""off-family: the loss leaves the band of runs of the same set-up, or there is none, and why."""

from __future__ import annotations

import dataclasses

import pytest
from forecast.family_rows import member, planned_otherwise, seed_rows, with_family
from rules.target.heading_rows import EVERY, LAST

from ko_cpt_callbacks.forecast.family import FamilyRun
from ko_cpt_callbacks.rules.baseline.off_family import FamilyCount, OffFamily
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import RATE_AHEAD
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

SUDDEN = int(0.4 * LAST)


@pytest.fixture(scope="module")
def family() -> tuple[FamilyRun, ...]:
    """Five finished runs."""
    return tuple(member(seed) for seed in range(1, 6))


def found_in(rows: list[Observation], **limits: float) -> list[Finding]:
    """What it says of the rows."""
    return list(Monitor([dataclasses.replace(OffFamily(), **limits)]).fold(rows)[1])  # type: ignore[arg-type]


def raised(rows: list[Observation], by: float, *, steps: tuple[int, ...] = ()) -> list[Observation]:
    """The rows with the loss of some evaluations raised; without steps, of all from `SUDDEN` on."""
    return [
        dataclasses.replace(row, exact_loss=(row.exact_loss or 0.0) + by)
        if isinstance(row, EvalObservation) and (row.step in steps or (not steps and row.step >= SUDDEN)) else row
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("by", [0.1, -0.1])
def test_a_run_that_leaves_the_band(by: float, family: tuple[FamilyRun, ...]) -> None:
    """Above or below: a warning at the second evaluation outside, once, that stops nothing."""
    (found,) = found_in(with_family(raised(seed_rows(0), by), family))
    assert (found.severity, found.variant, found.split) == (Severity.WARNING, "left", "eval")
    assert found.step == SUDDEN + EVERY and not found.asks_to_stop
    values = found.values
    assert values["runs"] == 5 and values["level"] == 0.998 and values["evaluations"] == 2
    assert not values["lower"] <= values["loss"] <= values["upper"]  # type: ignore[operator]
    assert found_in(with_family(raised(seed_rows(0), by), family), evaluations=4)[0].step == SUDDEN + 3 * EVERY


def test_a_run_that_begins_outside(family: tuple[FamilyRun, ...]) -> None:
    """It takes two evaluations from the first on too."""
    steps = tuple(range(EVERY, LAST + 1, EVERY))
    rows = with_family(raised(seed_rows(0), 0.3, steps=steps), family)
    assert [one.step for one in found_in(rows)] == [2 * EVERY]
    assert [one.step for one in found_in(rows, evaluations=1)] == [EVERY]


def test_a_run_of_the_family_is_silent(family: tuple[FamilyRun, ...]) -> None:
    """Five other seeds are inside from beginning to end, and a run without a family hears nothing."""
    assert [found_in(with_family(seed_rows(seed), family)) for seed in range(6, 11)] == [[]] * 5
    assert found_in(raised(seed_rows(0), 0.1)) == []


def test_one_evaluation_outside_is_not_enough(family: tuple[FamilyRun, ...]) -> None:
    """Two that are outside with one inside between them are two beginnings."""
    rows = with_family(raised(seed_rows(0), 0.1, steps=(SUDDEN, SUDDEN + 2 * EVERY)), family)
    assert found_in(rows) == []
    assert [one.step for one in found_in(rows, evaluations=1)] == [SUDDEN]


def at_rate(times: float) -> list[Observation]:
    """A run at so many times the family's learning rate."""
    return [
        dataclasses.replace(row, values={**row.values, "rates": [times * rate for rate in row.values["rates"]]})
        if isinstance(row, SetupObservation) and row.kind == RATE_AHEAD
        else dataclasses.replace(row, learning_rate=times * (row.learning_rate or 0.0))
        if isinstance(row, TrainObservation) else row
        for row in seed_rows(0)
    ]  # fmt: skip


def test_another_learning_rate_is_named(family: tuple[FamilyRun, ...]) -> None:
    """The shape of the schedule must agree, not its height: a run at twice the rate that leaves the band says so."""
    rows = at_rate(2.0)
    (found,) = found_in(with_family(raised(rows, -0.1), family))
    assert found.variant == "left-rate" and found.values["rate_ratio"] == pytest.approx(2.0)
    assert found_in(with_family(rows, family)) == []
    assert found_in(with_family(raised(rows, -0.1), family), rate_apart=1.5)[0].variant == "left"


@pytest.mark.parametrize(
    ("times", "variant"), [(0.979, "left-rate"), (0.981, "left"), (1.019, "left"), (1.021, "left-rate")]
)
def test_which_learning_rate_is_another(times: float, variant: str, family: tuple[FamilyRun, ...]) -> None:
    """One that differs by more than 2 % of the family's."""
    assert [one.variant for one in found_in(with_family(raised(at_rate(times), -0.1), family))] == [variant]


def test_a_set_up_that_differs_is_named_once(family: tuple[FamilyRun, ...]) -> None:
    """Information, with the reason, at the second evaluation: the first may come before any training row."""
    (found,) = found_in(with_family(planned_otherwise(raised(seed_rows(0), 0.1)), family))
    assert (found.severity, found.variant, found.step) == (Severity.INFO, "apart", 2 * EVERY)
    assert found.values == {"evaluations": 2, "reason": "other-schedule", "runs": 5}
    early = [EvalObservation(0, exact_loss=5.0, fingerprint="utf8-v2-aa"), *seed_rows(0)[2:]]
    assert found_in(with_family([*seed_rows(0)[:2], *early], family)) == []


def test_before_the_family_was_evaluated(family: tuple[FamilyRun, ...]) -> None:
    """A run that is evaluated more often than its family at first is compared later: it is not reported as apart."""
    first = [
        TrainObservation(10, loss=5.0, learning_rate=2e-4, tokens_seen=10_000),
        *(EvalObservation(step, exact_loss=5.0, tokens=1000, fingerprint="utf8-v2-aa") for step in (10, 20, 30)),
    ]
    rows = seed_rows(0)
    assert found_in(with_family([*rows[:2], *first, *rows[2:]], family)) == []


def test_a_log_that_does_not_tell_its_schedule_yet(family: tuple[FamilyRun, ...]) -> None:
    """By its log alone a run is compared from when its rate has fallen: until then it is not reported as apart."""
    rows = [row for row in seed_rows(0) if not isinstance(row, SetupObservation) or row.kind != RATE_AHEAD]
    assert found_in(with_family(rows, family)) == []
    assert found_in(with_family(raised(rows, 0.1), family))[0].variant == "left"


def test_an_evaluation_that_is_not_compared_ends_nothing(family: tuple[FamilyRun, ...]) -> None:
    """Evaluated twice as often as its family, a run is compared at every second one; two outside are two in a row."""
    rows = [
        more for row in raised(seed_rows(0), 0.1) for more in (
            [dataclasses.replace(row, step=row.step - EVERY // 2), row] if isinstance(row, EvalObservation) else [row]
        )
    ]  # fmt: skip
    rows.sort(key=lambda row: row.step)
    (found,) = found_in(with_family(rows, family))
    assert (found.variant, found.step) == ("left", SUDDEN + EVERY)


def test_the_trainers_loss_is_no_substitute(family: tuple[FamilyRun, ...]) -> None:
    """However far it is from the band, it is not compared."""
    rows = [
        dataclasses.replace(row, loss=9.0, exact_loss=None) if isinstance(row, EvalObservation) else row
        for row in seed_rows(0)
    ]
    (found,) = found_in(with_family(rows, family))
    assert (found.variant, found.values["reason"]) == ("apart", "no-exact-loss")


def test_a_repeated_evaluation_says_nothing_twice(family: tuple[FamilyRun, ...]) -> None:
    """The evaluation that was spoken of comes again, inside: what was said stands, and is said no more."""
    rows = with_family(raised(seed_rows(0), 0.1), family)
    inside = {row.step: row for row in seed_rows(0) if isinstance(row, EvalObservation)}
    again = [
        more for row in rows for more in (
            [row, inside[row.step]] if isinstance(row, EvalObservation) and row.step == SUDDEN + EVERY else [row]
        )
    ]  # fmt: skip
    assert [one.step for one in found_in(again)] == [SUDDEN + EVERY]


def test_evaluations_that_are_no_longer_compared(family: tuple[FamilyRun, ...]) -> None:
    """Two in a row of other rows, after some that were compared: that is said at the second."""
    rows = [
        dataclasses.replace(row, fingerprint="utf8-v2-bb")
        if isinstance(row, EvalObservation) and row.step >= SUDDEN else row for row in seed_rows(0)
    ]  # fmt: skip
    assert [(one.variant, one.step) for one in found_in(with_family(rows, family))] == [("apart", SUDDEN + EVERY)]


def test_what_was_said_stands_for_that_set_and_rule_alone(family: tuple[FamilyRun, ...]) -> None:
    """The monitor tells each rule what was said of a step that it folds anew: only a finding of its own is the rule's,
    and only of its set."""
    (found,) = found_in(with_family(raised(seed_rows(0), 0.1), family))
    before = {"eval": FamilyCount(1), "eval_ko": FamilyCount(2)}
    after = OffFamily().keep(before, (found,))
    assert after == {"eval": FamilyCount(1, said=frozenset({"left"})), "eval_ko": FamilyCount(2)}
    assert OffFamily().keep(before, (dataclasses.replace(found, code="baseline-ahead"),)) == before


def test_cut_anywhere(family: tuple[FamilyRun, ...]) -> None:
    """A fold that is taken up at any row says what a whole one says."""
    monitor, rows = Monitor([OffFamily()]), with_family(raised(seed_rows(0, 0.45), 0.1), family)
    whole, found = monitor.fold(rows)
    for cut in range(1, len(rows), 6):
        state, first = monitor.fold(rows[:cut])
        state, rest = monitor.fold(rows[cut:], state)
        assert (state, first + rest) == (whole, found)
