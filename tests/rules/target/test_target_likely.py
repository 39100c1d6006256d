"""target-likely: a target that the forecast is sure of, said once, at two evaluations in a row."""

from __future__ import annotations

from rules.target.heading_rows import END, EVERY, LAST, heading

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.heading import TargetLikely
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.watch.target import parse_targets


def findings(until: float, target: str) -> list[Finding]:
    """What it says of a target."""
    return list(Monitor([TargetLikely(parse_targets(target))]).fold(heading(until))[1])


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


def test_how_much_is_likely() -> None:
    """More than nineteen in twenty of the drawn ends."""
    assert TargetLikely().agrees(0.951) and not TargetLikely().agrees(0.95)
