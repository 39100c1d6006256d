"""target-likely: a target that the forecast is sure of, said once, at two evaluations in a row."""

from __future__ import annotations

import dataclasses

from rules.target.heading_rows import END, EVERY, LAST, heading

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.heading import TargetLikely
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.watch.target import parse_targets


def findings(until: float, target: str, less: float = 0.0) -> list[Finding]:
    """What it says of a target, of losses that are so much less."""
    rows = [
        dataclasses.replace(row, exact_loss=row.exact_loss - less)
        if isinstance(row, EvalObservation) and row.exact_loss is not None else row for row in heading(until)
    ]  # fmt: skip
    return list(Monitor([TargetLikely(parse_targets(target))]).fold(rows)[1])


def test_a_target_within_reach() -> None:
    """An info that stops nothing, with the step at which the median gets there."""
    (found,) = findings(0.5, "eval_exact_loss<2.46")
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.INFO, int(0.3 * LAST) + EVERY, False)
    values = found.values
    assert values["probability"] == 0.99 and values["upper"] < 2.46
    assert found.step < values["step_to_reach"] < LAST


def test_where_it_is_silent() -> None:
    """A target at the true end is open, one out of reach is another finding, one that is met needs no forecast."""
    assert findings(0.5, f"eval_exact_loss<{END}") == findings(0.5, "eval_exact_loss<2.1") == []
    assert findings(0.5, "eval_exact_loss<3") == []


def test_a_bound_that_one_evaluation_was_below() -> None:
    """Since step 600 the loss is below 2.6, which it began above: nothing is ahead. So also where all that is less than
    one nat per token. A loss that is the bound itself is not below it."""
    assert findings(0.5, "eval_exact_loss<2.6") == findings(0.5, "eval_exact_loss<0.9", less=1.6) == []
    assert [one.step for one in findings(0.5, "eval_exact_loss<0.86", less=1.6)] == [1300]
    (last,) = [row for row in heading(0.5) if isinstance(row, EvalObservation) and row.step == 1300]
    assert [one.step for one in findings(0.5, f"eval_exact_loss<{last.exact_loss}")] == [1300]


def test_how_much_is_likely() -> None:
    """More than nineteen in twenty of the drawn ends."""
    assert TargetLikely().agrees(0.951) and not TargetLikely().agrees(0.95)
