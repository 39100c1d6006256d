"""The facts that every verdict carries: state, completeness, steps, verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.facts import (
    RunFacts,
    RunState,
    RunVerdict,
    facts_of,
    joined_facts,
)
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)


def plan(steps: int, **more: Any) -> SetupObservation:
    """How long the run is to be."""
    return SetupObservation(0, "plan", {"planned_steps": steps, **more})


def trained(until: int, loss: float = 3.0) -> list[Observation]:
    """Training rows every ten steps, the loss falling a little."""
    return [TrainObservation(step, loss=loss - 0.0005 * step, grad_norm=1.0) for step in range(10, until + 1, 10)]


def facts(*rows: Observation, **more: Any) -> RunFacts:
    """The facts of a history."""
    state, found = Monitor(task="other").judge(rows)
    return facts_of(state.summary(), found, **more)


@pytest.mark.parametrize(
    ("rows", "state", "complete", "steps"),
    [
        ([plan(10_000), *trained(300)], "unfinished", False, (300, 10_000)),
        ([plan(300), *trained(300)], "finished", True, (300, 300)),
        ([plan(304), *trained(300), EndObservation(304)], "finished", True, (304, 304)),
        ([plan(304, global_step=304), *trained(300)], "finished", True, (304, 304)),
        ([plan(400), *trained(300), EndObservation(300)], "unfinished", False, (300, 400)),
        ([*trained(300)], "unfinished", False, (300, None)),
        ([*trained(300), EndObservation(300)], "finished", True, (300, None)),
        ([EvalObservation(0, loss=2.0)], "finished", True, (0, None)),
        ([plan(400), *trained(300), SetupObservation(300, "ended-early", {"by": "target-met"})],
         "stopped", False, (300, 400)),
        ([plan(300), *trained(300), SetupObservation(300, "ended-early", {"by": "target-met"})],
         "finished", True, (300, 300)),
        ([plan(400), *trained(300), SetupObservation(300, "ended-early", {"by": "x"}), plan(400),
          *[TrainObservation(step, loss=2.8) for step in range(310, 351, 10)]], "unfinished", False, (350, 400)),
        ([plan(300), *trained(290), TrainObservation(300, loss=math.nan)], "failed", True, (300, 300)),
        ([plan(300), *trained(290), TrainObservation(300, loss=0.0, grad_norm=math.nan)], "failed", True, (300, 300)),
        ([plan(300), *trained(200), TrainObservation(210, loss=2.9, nonfinite_steps=1),
          *[TrainObservation(step, loss=2.8) for step in range(220, 301, 10)]], "finished", True, (300, 300)),
        ([plan(300), *trained(300), EvalObservation(300, loss=math.nan)], "failed", True, (300, 300)),
        (
            [plan(300), *trained(300), EvalObservation(300, loss=math.nan, tokens=0, nonfinite_batches=0)],
            "finished", True, (300, 300),
        ),
    ],
)  # fmt: skip
def test_states(rows: list[Observation], state: str, complete: bool, steps: tuple[int, int | None]) -> None:
    """Where a run stands, from its rows alone."""
    found = facts(*rows)
    assert (found.state, found.complete, (found.steps_done, found.steps_planned)) == (state, complete, steps)


def test_verdicts() -> None:
    """An error stops, a warning, too little and an unfinished run are to be looked at, the rest is well."""
    assert facts(plan(300), *trained(300)).verdict is RunVerdict.OK
    assert facts(plan(900), *trained(300)).verdict is RunVerdict.LOOK
    assert facts(plan(900), *trained(300), running=True).verdict is RunVerdict.OK
    assert facts(plan(20), *trained(20)).verdict is RunVerdict.LOOK
    assert facts(plan(300), *trained(290), TrainObservation(300, loss=math.inf)).verdict is RunVerdict.STOP
    stopped = SetupObservation(300, "ended-early", {"by": "target-met"})
    assert facts(plan(900), *trained(300), stopped).verdict is RunVerdict.OK


def test_running_is_what_the_callback_knows() -> None:
    """While it trains a run is neither unfinished nor stopped; rows alone never say that it runs."""
    assert facts(plan(900), *trained(300), running=True).state is RunState.RUNNING
    assert facts(plan(900), *trained(300)).state is RunState.UNFINISHED


def test_what_stopped_it_may_stand_beside_its_rows() -> None:
    """`run.json` of an earlier version names the stop; what the rows say comes first."""
    assert facts(plan(900), *trained(300), stopped_by="no-improvement").stopped_by == "no-improvement"
    row = SetupObservation(300, "ended-early", {"by": "target-met"})
    assert facts(plan(900), *trained(300), row, stopped_by="no-improvement").stopped_by == "target-met"


def test_facts_do_not_depend_on_the_cut() -> None:
    """A fold cut anywhere and taken up again comes to the same."""
    rows = [plan(900), *trained(300), SetupObservation(300, "ended-early", {"by": "target-met"}), EndObservation(300)]
    monitor = Monitor(task="other")
    whole = monitor.fold(rows)[0]
    for cut in range(len(rows)):
        assert monitor.fold(rows[cut:], monitor.fold(rows[:cut])[0])[0] == whole


def test_stages_together() -> None:
    """The worst state and verdict, the sum of steps; a stage that has not begun leaves the whole unfinished."""
    whole, cut = facts(plan(300), *trained(300)), facts(plan(900), *trained(300))
    both = joined_facts([whole, whole])
    assert (both.state, both.complete, both.steps_done, both.steps_planned) == ("finished", True, 600, 600)
    assert both.verdict is RunVerdict.OK
    early = joined_facts([cut, whole])
    assert (early.state, early.complete, early.steps_done, early.steps_planned) == ("unfinished", False, 600, 1200)
    begun = joined_facts([whole, None])
    assert (begun.state, begun.complete, begun.steps_planned, begun.verdict) == ("unfinished", False, None, "look")
