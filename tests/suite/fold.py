"""Does a run say the same however its fold is cut, resumed, or mixed with another one?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from suite.run import LabelledRun

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.fold import PLAN, PLANNED_STEPS
from ko_cpt_callbacks.run.observation import Observation, SetupObservation
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.watch.spec import WatchSpec

__all__ = ["differences", "places", "resumed_differences"]

_COVERED = 6
"""Rows after a resume in which a counter that jumps is the resume's doing, and no seam that nobody told of."""


def differences(run: LabelledRun, seed: int, cuts: int = 5) -> list[str]:
    """What differs between the uninterrupted fold of a run and others of it; empty where nothing does.

    * A second monitor that is fed the same rows in turn with the first: what a resumed run does, which folds its rows
      again, and what two Trainers in one process do.
    * The fold taken up at ``cuts`` random rows from the state kept there: no rule may change a state it was given.
    """
    seen = observations_of(run.rows)
    first, second, third = (Monitor(rules_for(WatchSpec(task=run.task)), task=run.task) for _ in range(3))
    ends = sorted({0, len(seen), *np.random.default_rng([seed, len(seen)]).integers(0, len(seen) + 1, cuts).tolist()})
    state, other = first.initial(), second.initial()
    kept, found = {0: (state, 0)}, []
    told = []
    differing: list[str] = []
    for i, one in enumerate(seen, 1):
        state, new = first.step(state, one)
        found.extend(new)
        other, also = second.step(other, one)
        told.extend(also)
        if i in ends:
            kept[i] = (state, len(found))
            if state != other:
                differing.append(f"{run.name}: the states of two folds after {i} observations")
    if found != told:
        differing.append(f"{run.name}: the findings of two folds")
    for begin, end in pairwise(ends):
        again, new = third.fold(seen[begin:end], kept[begin][0])
        if again != kept[end][0]:
            differing.append(f"{run.name}: the state after {end} observations, taken up at {begin}")
        if list(new) != found[kept[begin][1] : kept[end][1]]:
            differing.append(f"{run.name}: the findings up to {end} observations, taken up at {begin}")
    return differing


def places(seen: Sequence[Observation], findings: Sequence[Finding]) -> list[int]:
    """Where a run can have been stopped and resumed: between two steps, and not right before a seam.

    A resume explains what the counters do in the rows after it, so that a seam there is none: another run, not the same
    one resumed.
    """
    seams = {one.step for one in findings if one.code == "run-seam"}
    return [
        i for i in range(1, len(seen))
        if seen[i - 1].step < seen[i].step and not seams & {one.step for one in seen[i : i + 2 * _COVERED]}
    ]  # fmt: skip


def resumed_differences(run: LabelledRun, seed: int, cuts: int = 5) -> list[str]:
    """What differs between the findings of a run and of the same one stopped and resumed, at ``cuts`` random rows.

    A resumed run folds its rows anew, and among them stands what the callback notes when training begins again.
    """
    seen = observations_of(run.rows)
    monitor = Monitor(rules_for(WatchSpec(task=run.task)), task=run.task)

    def begins(step: int) -> SetupObservation:
        return SetupObservation(step, PLAN, {PLANNED_STEPS: run.max_steps})

    whole = monitor.judge([begins(0), *seen])[1]
    spots = places(seen, whole)
    chosen = np.random.default_rng([seed, len(seen)]).choice(spots, min(cuts, len(spots)), replace=False).tolist()
    return [
        f"{run.name}: the findings of the run resumed after step {seen[at - 1].step}"
        for at in chosen
        if monitor.judge([begins(0), *seen[:at], begins(seen[at - 1].step), *seen[at:]])[1] != whole
    ]
