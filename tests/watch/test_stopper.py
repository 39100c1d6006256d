"""When a finding may stop the run."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.watch.stopping import Grace, Stopper

MET = Finding("target-met", Severity.INFO, 10, "eval", asks_to_stop=True)
SPIKE = Finding("loss-spike", Severity.WARNING, 10, "train")


@pytest.mark.parametrize(
    ("grace", "step", "tokens", "over"),
    [
        (Grace(), 0, None, True),
        (Grace(steps=10), 9, None, False),
        (Grace(steps=10), 10, None, True),
        (Grace(tokens=100), 50, 99, False),
        (Grace(tokens=100), 50, 100, True),
        (Grace(tokens=100), 50, None, False),
    ],
)
def test_grace(grace: Grace, step: int, tokens: int | None, over: bool) -> None:
    """Steps and tokens are counted to the bound itself; unknown tokens never end a grace in tokens."""
    assert grace.over(step, tokens) is over


def test_only_named_codes_that_ask() -> None:
    """A finding stops the run when its code is named and it asks to; otherwise never."""
    assert Stopper((), Grace()).consider([MET], 10, None) is None
    assert Stopper({"loss-spike"}, Grace()).consider([MET, SPIKE], 10, None) is None
    assert Stopper({"target-met"}, Grace()).consider([SPIKE, MET], 10, None) == MET


def test_the_reason_is_given_once_and_kept() -> None:
    """The first reason stands; later calls return none."""
    stopper = Stopper({"target-met"}, Grace())
    stopper.consider([MET], 10, None)
    assert stopper.consider([MET], 12, None) is None
    assert stopper.reason == MET


def test_what_was_found_in_the_grace_stops_after_it() -> None:
    """A finding is reported once; the stop it asks for waits for the end of the grace."""
    stopper = Stopper({"target-met"}, Grace(steps=20))
    assert stopper.consider([MET], 10, None) is None
    assert stopper.consider([], 19, None) is None
    assert stopper.consider([], 20, None) == MET


def test_a_new_attempt_forgets_unless_it_was_replayed() -> None:
    """A second training starts without a reason; a resumed one knows what already asked."""
    stopper = Stopper({"target-met"}, Grace())
    stopper.consider([MET], 10, None)
    assert stopper.begin([]) is None
    assert stopper.reason is None
    assert stopper.begin([SPIKE, MET]) == MET
    assert stopper.consider([], 11, None) == MET
