"""What counts as found, as a false alarm, as said of something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from suite.run import LabelledRun, cut, finished
from suite.score import last_row, score, verdict

from ko_cpt_callbacks.run.finding import Finding, Severity

ROWS = [{"loss": 2.0, "step": 10 * i} for i in range(1, 21)]
SPIKE = LabelledRun(
    "loss-spike/x/00", "loss-spike/x", ROWS, {"loss-spike": (50, 90)}, frozenset({"overfitting"}), healthy=False,
    onset=50,
)
HEALTHY = LabelledRun("healthy/x/00", "healthy/x", ROWS, allowed=frozenset({"run-seam"}))


def _said(code: str, step: int | None, severity: Severity = Severity.WARNING) -> Finding:
    return Finding(code, severity, step)


@pytest.mark.parametrize(
    ("finding", "delay"),
    [
        (_said("loss-spike", 50), 0),
        (_said("loss-spike", 80), 3),
        (_said("loss-spike", 90), 4),
        (_said("loss-spike", 91), None),  # too late
        (_said("loss-spike", 40), None),  # before it happened
        (_said("loss-spike", 80, Severity.INFO), None),  # a note is not enough
        (_said("loss-spike", 80, Severity.ERROR), 3),
        (_said("diverged", 80), None),
        (_said("loss-spike", None), None),
    ],
)
def test_a_code_is_found_in_its_window_at_its_severity(finding: Finding, delay: int | None) -> None:
    """Delay is in log points from the onset; None is a miss."""
    assert verdict(SPIKE, [finding]).hits == {"loss-spike": delay}


def test_a_note_is_enough_where_a_note_is_asked_for() -> None:
    """plateau is an info finding; a label can ask for less, or more, than its code does."""
    flat = LabelledRun("plateau/x/00", "plateau/x", ROWS, {"plateau": (100, 200)}, healthy=False)
    weak = LabelledRun("w/00", "w", ROWS, {"run-seam": (50, 90)}, healthy=False, least={"run-seam": "info"})
    grave = LabelledRun("g/00", "g", ROWS, {"non-finite": (50, 90)}, healthy=False, least={"non-finite": "error"})

    assert verdict(flat, [_said("plateau", 150, Severity.INFO)]).hits == {"plateau": 5}
    assert verdict(weak, [_said("run-seam", 50, Severity.INFO)]).hits == {"run-seam": 0}
    assert verdict(grave, [_said("non-finite", 50)]).hits == {"non-finite": None}


def test_where_a_log_bears_two_readings_either_counts() -> None:
    """A code named beside the expected one is found in its window, too early before it, and no alarm in a fault."""
    zeros = replace(SPIKE, either={"loss-spike": frozenset({"memorizing"})})

    assert verdict(zeros, [_said("memorizing", 70)]).hits == {"loss-spike": 2}
    assert verdict(zeros, [_said("memorizing", 70)]).alarms == ()
    assert [one.code for one in verdict(zeros, [_said("memorizing", 40)]).early] == ["memorizing"]
    assert verdict(SPIKE, [_said("memorizing", 70)]).hits == {"loss-spike": None}
    assert verdict(zeros, [_said("diverged", 70)]).hits == {"loss-spike": None}
    assert verdict(zeros, [_said("memorizing", 70, Severity.INFO)]).hits == {"loss-spike": None}


def test_an_alarm_is_a_warning_that_nobody_asked_for() -> None:
    """Notes and what the label allows are none; a code said before its window, and another code, are."""
    calm = verdict(HEALTHY, [_said("run-seam", 50), _said("plateau", 90, Severity.INFO), _said("diverged", 60)])
    spike = verdict(SPIKE, [_said("loss-spike", 20), _said("overfitting", 60), _said("level-shift", 70)])

    assert [(one.code, one.step) for one in calm.alarms] == [("diverged", 60)]
    assert [(one.code, one.step) for one in spike.early] == [("loss-spike", 20)]
    assert [(one.code, one.step) for one in spike.alarms] == [("level-shift", 70)]


def test_codes_weigh_alike_and_a_code_alarms_once_a_run() -> None:
    """Macro recall is the mean over codes, not over runs; three spikes in one healthy run are one alarm."""
    many = [verdict(SPIKE, [_said("loss-spike", 60)]) for _ in range(3)]
    other = LabelledRun("d/00", "diverged/x", ROWS, {"diverged": (50, 90)}, healthy=False)
    calm = verdict(HEALTHY, [_said("loss-spike", step) for step in (20, 40, 60)])
    total = score([*many, verdict(other, []), calm])

    assert total.recall() == {"loss-spike": 1.0, "diverged": 0.0}
    assert total.macro == 0.5
    assert total.alarm_rate == 1.0
    assert total.missed == [("d/00", "diverged", (50, 90))]
    assert total.confusion["healthy"] == {"loss-spike": 1}


def test_a_cut_run_keeps_what_it_can_still_be_asked() -> None:
    """Cut at the end of a window the window stands; one row earlier it does not."""
    assert cut(SPIKE, last_row(SPIKE, 90)).expected == SPIKE.expected
    assert cut(SPIKE, last_row(SPIKE, 90) - 1).expected == {}


def test_a_step_that_comes_twice_ends_at_its_second_row() -> None:
    """Where the counter starts again, a window's end is in the second part."""
    twice = LabelledRun("s/00", "run-seam/x", [*ROWS, *ROWS], {"run-seam": (10, 130)}, healthy=False)

    assert last_row(twice, 130) == 33


def test_a_finished_run_has_the_trainers_last_row_once() -> None:
    """It is added where it is missing."""
    once = finished(HEALTHY)

    assert len(once.rows) == len(ROWS) + 1
    assert finished(once) == once
