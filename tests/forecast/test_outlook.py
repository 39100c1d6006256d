"""What forecasts are made from, as a fold: the same at every cut; a rate that is planned, logged or unknown."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from rules.target.heading_rows import LAST, cosine, heading, planned

from ko_cpt_callbacks.forecast.chance import chance_of, row_numbers
from ko_cpt_callbacks.forecast.outlook import CHUNK, Outlook, outlook_of
from ko_cpt_callbacks.rules.monitor import Monitor, SetAside
from ko_cpt_callbacks.rules.target.heading import TargetLikely, TargetUnreachable
from ko_cpt_callbacks.run.fold import PLAN, PLANNED_STEPS, RATE_AHEAD
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.watch.target import parse_target, parse_targets


def withheld(rows: list[Observation]) -> tuple[str, ...]:
    """Why the forecast of the set gives no probability."""
    found = outlook_of(rows).forecast("eval")
    assert found is not None
    return tuple(map(str, found.withheld))


def test_a_fold_cut_anywhere_forecasts_the_same() -> None:
    """At every evaluation the fold so far, and one that was taken up there, forecast what the whole rows do."""
    rows, outlook = heading(0.4), Outlook()
    for place, row in enumerate(rows, start=1):
        outlook = outlook.add(row)
        if isinstance(row, EvalObservation) and row.step >= 0.3 * LAST:
            whole = outlook_of(rows[:place])
            assert outlook == whole
            assert outlook.forecast("eval") == whole.forecast("eval") is not None


def test_a_forecast_is_made_once() -> None:
    """Whoever asks again of the same row gets the same value; one more row asks anew."""
    outlook = outlook_of(heading(0.4))
    first = outlook.forecast("eval")
    assert outlook.forecast("eval", LAST) is first
    step = int(0.4 * LAST) + 1
    later = outlook.add(TrainObservation(step, loss=2.5, learning_rate=2e-4 * cosine(step)))
    assert later.forecast("eval") is not first and later.forecast("eval") == first


def test_more_rows_than_a_chunk() -> None:
    """All training rows are kept in their order."""
    count = 3 * CHUNK + 1
    curve = outlook_of([TrainObservation(step, loss=1.0 + step) for step in range(count)]).curve("train")
    assert curve is not None and curve.points == tuple((float(step), 1.0 + step) for step in range(count))


def test_nothing_without_a_plan_or_a_loss() -> None:
    """A run that does not say when it ends, and a set that is not there, have no forecast."""
    rows = heading(0.4)
    assert outlook_of([row for row in rows if not isinstance(row, SetupObservation)]).forecast("eval") is None
    assert outlook_of(rows).forecast("eval_ko") is None
    assert outlook_of(rows[:2]).forecast("eval") is None


def test_the_planned_rate_is_gone_by() -> None:
    """What the live scheduler has planned needs no guess; a rate logged elsewhere is another plan; none is no plan."""
    rows = heading(0.5)
    assert withheld(rows) == ()
    flat = [
        dataclasses.replace(row, learning_rate=2e-4) if isinstance(row, TrainObservation) else row for row in rows
    ]
    assert withheld(flat) == ("schedule-unknown",)
    unplanned = [rows[0], SetupObservation(0, RATE_AHEAD, {"scheduler": "ReduceLROnPlateau"}), *rows[2:]]
    assert withheld(unplanned) == ("schedule-unplanned",)
    assert withheld([rows[0], *rows[2:]]) == ()  # the log alone shows a cosine
    skipped = [  # a loss scaler skipped five optimizer steps
        dataclasses.replace(row, learning_rate=2e-4 * cosine(row.step - 5)) if isinstance(row, TrainObservation)
        else row for row in rows
    ]  # fmt: skip
    assert withheld(skipped) == ()


def test_a_resume_plans_anew_from_its_step_on() -> None:
    """The rate up to the resume is that of the first plan; from there on that of the second."""
    second = planned(lambda step: 0.5)[1]
    assert isinstance(second, SetupObservation)
    outlook = outlook_of([*planned(), dataclasses.replace(second, step=2000)])
    assert outlook.ahead is not None
    rate = dict(zip(outlook.ahead.steps, outlook.ahead.rates, strict=True))
    assert rate[1000] == pytest.approx(2e-4 * cosine(1000))
    assert rate[1980] == pytest.approx(2e-4 * cosine(1980))
    assert rate[2000] == rate[LAST] == pytest.approx(1e-4)


def test_other_rows_begin_the_curve_anew() -> None:
    """Where a set's fingerprint changes, what was evaluated before is no point of its curve."""
    rows = [
        dataclasses.replace(row, fingerprint="utf8-0" if row.step < 1000 else "utf8-1")
        if isinstance(row, EvalObservation) else row for row in heading(0.4)
    ]  # fmt: skip
    curve = outlook_of(rows).curve("eval")
    assert curve is not None and curve.points[0][0] == 1000
    assert "too-few-points" in withheld(rows[: 2 + 2 * 13])


def test_a_deadline_in_tokens() -> None:
    """It is the step at the tokens per step so far, at most the last one; without token counts there is none."""
    outlook = outlook_of(heading(0.4))
    chance = chance_of(parse_target("eval_exact_loss<2.3@tokens:3e6"), outlook)
    assert chance is not None and chance.by.last_step == 3000
    late = chance_of(parse_target("eval_exact_loss<2.3@tokens:9e6"), outlook)
    assert late is not None and late.by.last_step == LAST
    bare = [dataclasses.replace(row, tokens_seen=None) if isinstance(row, TrainObservation) else row
            for row in heading(0.4)]  # fmt: skip
    assert chance_of(parse_target("eval_exact_loss<2.3@tokens:3e6"), outlook_of(bare)) is None


def test_training_stands_in_for_a_set_with_few_evaluations() -> None:
    """Under its own name, where that is asked for; not for a set whose own curve speaks against a forecast."""
    rows = [row for row in heading(0.5) if not isinstance(row, EvalObservation) or row.step >= 1900]
    last, targets = rows[-1], parse_targets("eval_exact_loss<2.3")
    assert isinstance(last, EvalObservation)
    found = row_numbers(outlook_of(rows), last, targets, training=True)
    assert list(found) == ["train_final_loss_median", "train_final_loss_lower", "train_final_loss_upper"]
    assert row_numbers(outlook_of(rows), last, targets) == {}
    spiked = [dataclasses.replace(row, exact_loss=4.5) if isinstance(row, EvalObservation) and row.step == 800 else row
              for row in heading(0.5)]  # fmt: skip
    assert row_numbers(outlook_of(spiked), last, targets, training=True) == {}
    assert len(row_numbers(outlook_of(heading(0.5)), last, targets, training=True)) == 4


def test_no_random_series_breaks_the_rules() -> None:
    """A thousand odd runs (no point, NaN, a zero rate, a reset, gaps, damaged plans): no rule is set aside."""
    random = np.random.default_rng(11)
    odd = [math.nan, math.inf, 0.0, -1.0, 1e300, None]
    targets = parse_targets(["exact_loss<2.0", "eval_ppl<-20%@step:40", "bits_per_byte<0.9@tokens:9"])
    rules = [TargetUnreachable(targets), TargetLikely(targets)]
    for _ in range(1000):
        count, last = int(random.integers(0, 13)), int(random.integers(1, 60))
        rate = random.choice([0.0, 1e-4])
        nodes = sorted(random.choice(130, 3, replace=False).tolist())
        rows: list[Observation] = [
            SetupObservation(0, PLAN, {PLANNED_STEPS: last}),
            SetupObservation(0, RATE_AHEAD, {"scheduler": "X", "steps": nodes, "rates": [rate, rate, 0.0]}),
        ]
        step = 0
        for loss in 3.0 * np.exp(-random.choice([0.0, 0.01, 0.3]) * np.arange(count)):
            step += int(random.integers(-1, 6))
            value = random.choice(odd) if random.random() < 0.05 else float(loss)
            rows.append(TrainObservation(max(step, 0), loss=value, learning_rate=random.choice([rate, math.nan, None])))
            rows.append(EvalObservation(max(step, 0), exact_loss=value, tokens=9, bytes=20))
        state, _ = Monitor(rules).fold(rows)
        assert not any(isinstance(one, SetAside) for one in state.rules), state.rules
