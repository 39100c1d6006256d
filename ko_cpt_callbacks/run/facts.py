"""The facts that every verdict carries: how far a run came, whether it is whole, and what its findings come to.

Defined here once; ``callback.summary()``, every ``--json`` and every page take them from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.kind import TrainerKind
from ko_cpt_callbacks.run.progress import Summary

__all__ = ["VERDICTS", "RunFacts", "RunState", "RunVerdict", "facts_of", "joined_facts"]

_TOO_LITTLE: Final = "not-enough-data"


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    """It trains now: in this process, or in another one that holds its folder."""
    UNFINISHED = "unfinished"
    """Its rows end before its planned last step, and nothing says that they were to: killed, still running, cut."""
    FINISHED = "finished"
    """It came to its planned last step, or to the Trainer's closing row where no plan is known."""
    STOPPED = "stopped"
    """Something asked it to end before its planned last step; `RunFacts.stopped_by` names it."""
    FAILED = "failed"
    """Its last training loss, or last evaluation, is no number: the weights are lost."""


class RunVerdict(StrEnum):
    """What is to be done with it."""

    OK = "ok"
    """Nothing."""
    LOOK = "look"
    """Look at it: a warning, too little to judge, or not the whole run."""
    STOP = "stop"
    """Do not go on with it: an error, or a failed run."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is reported of every run that is judged.

    Args:
        state: Where it stands.
        complete: Whether every planned optimizer step is in what was judged.
        steps_done: The last optimizer step that was seen.
        steps_planned: The last step that the run was to have; ``None`` where nothing says it.
        verdict: What its findings and its state come to.
        kind: What is trained; ``None`` where nothing says it.
        stopped_by: What ended it early: a finding's code, or the class of another callback; ``None`` where nothing
            did, or nothing says what.
    """

    state: RunState
    complete: bool
    steps_done: int
    steps_planned: int | None
    verdict: RunVerdict
    kind: TrainerKind | None = None
    stopped_by: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As strict JSON."""
        return {name: getattr(value, "value", value) for name, value in asdict(self).items()}


def facts_of(
    summary: Summary, findings: Iterable[Finding], *, running: bool = False, stopped_by: str | None = None
) -> RunFacts:
    """The facts of one run.

    Args:
        running: Whether it trains now.
        stopped_by: What stopped it, where that stands beside its rows; what its rows say comes first.
    """
    length = summary.length
    by = length.stopped_by or stopped_by
    if length.planned is not None:
        complete = length.done >= length.planned
    else:  # an evaluation alone has nothing left to do
        complete = summary.ended or (summary.train.points == 0 and bool(summary.splits))
    if complete:
        by = None  # what would have stopped it came with its last step
    if length.broken or (summary.splits and all(one.last.value is None for one in summary.splits.values())):
        state = RunState.FAILED
    elif running:
        state = RunState.RUNNING
    elif complete:
        state = RunState.FINISHED
    else:
        state = RunState.STOPPED if by is not None else RunState.UNFINISHED
    found = list(findings)
    if state is RunState.FAILED or any(item.severity is Severity.ERROR for item in found):
        verdict = RunVerdict.STOP
    elif state is RunState.UNFINISHED or any(
        item.severity is Severity.WARNING or item.code == _TOO_LITTLE for item in found
    ):
        verdict = RunVerdict.LOOK
    else:
        verdict = RunVerdict.OK
    return RunFacts(state, complete, length.done, length.planned, verdict, summary.seen.kind, by)


_WORST_FIRST: Final = (RunState.FAILED, RunState.STOPPED, RunState.UNFINISHED, RunState.RUNNING)
VERDICTS: Final = (RunVerdict.STOP, RunVerdict.LOOK, RunVerdict.OK)
"""The gravest first."""


def joined_facts(stages: Sequence[RunFacts | None]) -> RunFacts:
    """The facts of a staged training, of those of its stages: ``None`` for one that has not begun, or is unreadable."""
    known = [stage for stage in stages if stage is not None]
    whole = len(known) == len(stages)
    states = [stage.state for stage in known]
    state = next((one for one in _WORST_FIRST if one in states), RunState.FINISHED)
    if not whole and state is RunState.FINISHED:
        state = RunState.UNFINISHED
    planned = [stage.steps_planned for stage in known]
    steps = [count for count in planned if count is not None]
    verdict = next((one for one in VERDICTS if any(stage.verdict is one for stage in known)), RunVerdict.LOOK)
    if state is RunState.UNFINISHED and verdict is RunVerdict.OK:
        verdict = RunVerdict.LOOK
    kinds = {stage.kind for stage in known}
    return RunFacts(
        state,
        whole and all(stage.complete for stage in known),
        sum(stage.steps_done for stage in known),
        sum(steps) if whole and len(steps) == len(planned) else None,
        verdict,
        kinds.pop() if len(kinds) == 1 else None,
        next((stage.stopped_by for stage in known if stage.stopped_by is not None), None),
    )
