"""trackers-not-reached: said once, from the set-up row in which the callback noted it."""

from __future__ import annotations

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.trackers_not_reached import TrackersNotReached


def _findings(*seen: Observation) -> list[Finding]:
    rule = TrackersNotReached()
    return list(Monitor([rule]).judge(seen)[1])


def test_said_once() -> None:
    """The row of a resumed attempt does not say it again."""
    noted = SetupObservation(0, "trackers-not-reached")
    (found,) = _findings(noted, TrainObservation(10, loss=2.0), SetupObservation(10, "trackers-not-reached"))
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.INFO, 0, False)
    assert found.message() == (
        "The trackers do not get this callback's numbers because it could not move to the front of the "
        "callback list; log_history and metrics have them. Use KoCPTCallback(...).attach(trainer)."
    )


def test_other_rows_are_silent() -> None:
    """Other set-up rows and training rows say nothing."""
    assert _findings(SetupObservation(0, "stage"), TrainObservation(10, loss=2.0)) == []
