"""target-unreachable: a target that the forecast gives no chance, said once, at two evaluations in a row."""

from __future__ import annotations

import dataclasses
import math

import pytest
from rules.target.heading_rows import END, EVERY, LAST, heading, planned

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.heading import TargetUnreachable
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.fold import PLAN, TRAINER_KIND
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.watch.target import parse_targets

OUT_OF_REACH = "eval_exact_loss<2.1"
BEGINS = int(0.3 * LAST)


def spoken(rows: list[Observation], *targets: str, **limits: float) -> list[int | None]:
    """The steps at which it speaks."""
    rule = dataclasses.replace(TargetUnreachable(parse_targets(targets or OUT_OF_REACH)), **limits)  # type: ignore[arg-type]
    return [one.step for one in Monitor([rule]).fold(rows)[1]]


def test_a_target_out_of_reach() -> None:
    """A warning that may stop the run: where the loss is heading, what the target needs, and how likely that is."""
    (found,) = Monitor([TargetUnreachable(parse_targets(OUT_OF_REACH))]).fold(heading())[1]
    assert (found.code, found.severity, found.split, found.variant) == (
        "target-unreachable", Severity.WARNING, "eval", ""
    )  # fmt: skip
    assert found.asks_to_stop
    values = found.values
    assert values["target"] == f"{OUT_OF_REACH}@end" and values["bound"] == 2.1 and values["last_step"] == LAST
    assert 2.1 < values["lower"] < values["median"] < values["upper"]
    assert values["probability"] == 0.01 and values["step_to_reach"] is None


def test_it_speaks_at_the_second_evaluation_and_not_before_thirty_percent() -> None:
    """One evaluation after 30 % of the run is not enough; how many, and from when, are limits."""
    rows = heading(0.45)
    assert spoken(rows, evaluations=1) == [BEGINS]
    assert spoken(rows) == [BEGINS + EVERY]
    assert spoken(rows, evaluations=3) == [BEGINS + 2 * EVERY]
    assert spoken(rows, from_part=0.4) == [int(0.4 * LAST) + EVERY]
    assert spoken(rows, from_part=0.0)[0] >= 0.25 * LAST  # type: ignore[operator]  # withheld before


def test_how_little_is_no_chance() -> None:
    """Less than one in twenty of the drawn ends."""
    assert TargetUnreachable().agrees(0.049) and not TargetUnreachable().agrees(0.05)


def test_the_earlier_the_deadline_the_earlier_it_speaks() -> None:
    """Steps to a deadline count, not to the end; tokens are steps at the tokens per step so far; past it, silence."""
    rows = heading(0.5)
    early = spoken(rows, "eval_exact_loss<2.1@step:3000")
    assert early == [0.3 * 3000 + EVERY]
    assert spoken(rows, "eval_exact_loss<2.1@tokens:3000000") == early
    assert spoken([row for row in rows if row.step > 1600 or row.step == 0], "eval_exact_loss<2.1@step:1600") == []


@pytest.mark.parametrize(
    "target", [f"eval_exact_loss<{END}", "eval_exact_loss<3", "eval_ko_exact_loss<2.1", "eval_loss<2.1"]
)
def test_where_it_is_silent(target: str) -> None:
    """A target at the true end, one that was met, one of a set that is not evaluated, one of the Trainer's loss."""
    assert spoken(heading(), target) == []


@pytest.mark.parametrize("target", ["eval_ppl<8.1", "eval_bits_per_byte<1.0", "eval_exact_loss<-30%", "eval_ppl<-70%"])
def test_every_metric_of_an_exact_loss(target: str) -> None:
    """Perplexity, bits per byte and changes are compared as nats per token."""
    assert spoken(heading(0.4), target) == [BEGINS + EVERY]


@pytest.mark.parametrize("target", ["eval_ppl<8.1", "eval_ppl<-70%", "eval_bits_per_byte<-40%", "eval_exact_loss<-40%"])
def test_the_trainers_loss_is_no_substitute(target: str) -> None:
    """No run is stopped for a perplexity or bits per byte, or their change, that only the Trainer's loss speaks of."""
    rows = [
        dataclasses.replace(row, loss=row.exact_loss, exact_loss=None) if isinstance(row, EvalObservation) else row
        for row in heading(0.4)
    ]
    assert spoken(rows, target) == []
    assert spoken(rows, "eval_loss<-40%") == [BEGINS + EVERY]
    unmeasured = [dataclasses.replace(row, bytes=None) if isinstance(row, EvalObservation) else row
                  for row in heading(0.4)]  # fmt: skip
    assert spoken(unmeasured, "eval_bits_per_byte<-40%") == []


def test_nothing_is_said_while_a_probability_is_withheld() -> None:
    """A scheduler without a plan, a run without a last step, a spike on the way: silence."""
    rows = heading()
    unplanned = [rows[0], SetupObservation(0, "rate-ahead", {"scheduler": "ReduceLROnPlateau"}), *rows[2:]]
    assert spoken(unplanned) == []
    assert spoken([row for row in rows if getattr(row, "kind", None) != PLAN]) == []
    spiked = [
        dataclasses.replace(row, exact_loss=4.5) if isinstance(row, EvalObservation) and row.step == 800 else row
        for row in rows
    ]
    assert spoken(spiked) == []


def test_evaluations_that_do_not_agree_begin_anew() -> None:
    """An evaluation that is NaN lies between two that agree: its own forecast is withheld, and those after it."""
    rows = [
        dataclasses.replace(row, exact_loss=math.nan)
        if isinstance(row, EvalObservation) and row.step == BEGINS + EVERY else row for row in heading()
    ]  # fmt: skip
    assert spoken(rows) == []


def test_a_run_that_is_no_language_model() -> None:
    """The forecast was measured on losses of language models: of others nothing is said."""
    kind = SetupObservation(0, PLAN, {"planned_steps": LAST, TRAINER_KIND: "preference"})
    assert spoken([kind, *heading()[1:]]) == []


def test_each_target_once_and_both_are_asked() -> None:
    """Two targets out of reach are two findings; none is said a second time, whatever comes later."""
    assert len(spoken(heading(0.8), OUT_OF_REACH, "eval_ppl<8.1")) == 2


def test_a_repeated_evaluation_takes_back_nothing_and_says_nothing_twice() -> None:
    """The evaluation that was spoken of comes again with a lower loss: what was said stands, and is said no more."""
    rows = heading(0.4)
    again = [
        more for row in rows for more in (
            [row, dataclasses.replace(row, exact_loss=2.05)]
            if isinstance(row, EvalObservation) and row.step == BEGINS + EVERY else [row]
        )
    ]  # fmt: skip
    assert spoken(again) == [BEGINS + EVERY]


def test_a_repeat_of_other_rows_says_nothing_twice() -> None:
    """The evaluation that was spoken of comes again, of other rows: the loss of these is forecast anew, long after."""

    def of_rows(name: str) -> list[Observation]:
        return [dataclasses.replace(row, fingerprint=name) if isinstance(row, EvalObservation) else row
                for row in heading(0.6)]  # fmt: skip

    of_first = [row for row in of_rows("utf8-01") if row.step <= BEGINS + EVERY]
    later = [row for row in of_rows("utf8-02") if row.step > BEGINS]
    assert spoken([*of_first, *later]) == [BEGINS + EVERY]
    assert spoken([*of_first[:-1], *later]) == [2200]


def test_what_was_said_stands_for_that_target_and_rule_alone() -> None:
    """The monitor tells each rule what was said of a step that it folds anew: only a finding of its own is the rule's,
    and only of the target that it names."""
    rule, other = (TargetUnreachable(parse_targets([name, "eval_ppl<8.1"])) for name in (OUT_OF_REACH, "eval_loss<1"))
    (first, second) = Monitor([rule]).fold(heading(0.4))[1]
    before = rule.initial()
    assert [one.said for one in rule.keep(before, (first,))] == [True, False]
    assert [one.said for one in rule.keep(before, (second,))] == [False, True]
    assert [one.said for one in other.keep(other.initial(), (first, second))] == [False, True]
    assert rule.keep(before, (dataclasses.replace(first, code="target-missed"),)) == before


def test_an_evaluation_without_a_loss_agrees_with_none() -> None:
    """Its row has no number of its own: the forecast is that of the evaluation before it, and the count begins anew."""
    rows = [
        dataclasses.replace(row, exact_loss=None)
        if isinstance(row, EvalObservation) and row.step == BEGINS + EVERY else row for row in heading(0.4)
    ]  # fmt: skip
    assert spoken(rows) == [BEGINS + 3 * EVERY]


def test_nothing_is_said_at_the_deadline_itself() -> None:
    """There is nothing left to save: nine evaluations agree before step 1600, and the tenth is the one that decides."""
    rows = heading(0.5)
    assert spoken(rows, "eval_exact_loss<2.1@step:1600", evaluations=9) == [1500]
    assert spoken(rows, "eval_exact_loss<2.1@step:1600", evaluations=10) == []


def test_rows_of_a_plan_that_is_damaged() -> None:
    """A planned rate that is no list of numbers counts as no plan."""
    rows = heading(0.4)
    for damage in ({"steps": "many"}, {"rates": [1.0]}, {"steps": [3.0, 2.0], "rates": [1.0, 1.0]}, {"rates": None}):
        (plan, ahead), rest = planned(), rows[2:]
        assert isinstance(ahead, SetupObservation)
        assert spoken([plan, dataclasses.replace(ahead, values={**ahead.values, **damage}), *rest]) == []
