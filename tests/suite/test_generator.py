"""The suite is what the benchmark and the tests of the rules take it for."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from suite.generator import FAULTS, kinds, make, runs
from suite.run import LabelledRun, state
from suite.score import last_row

from ko_cpt_callbacks.core.message import CODES

ONE_OF_EACH = list(runs(size=0.0))


def test_the_same_seed_gives_the_same_runs_and_another_one_others() -> None:
    """Name, number, seed and noise say everything."""
    name = "level-shift/up-small"

    assert make(name, 1, seed=3) == make(name, 1, seed=3)
    assert make(name, 1, seed=3).rows != make(name, 1, seed=4).rows
    assert make(name, 1, seed=3).rows != make(name, 2, seed=3).rows
    assert make(name, 1, seed=3).rows != make(name, 1, seed=3, noise=2.0).rows


def test_the_healthy_ones_are_the_larger_half() -> None:
    """Of a full suite of 500 runs and more, from 50 healthy kinds and more."""
    healthy = sum(count for name, (_, count) in kinds().items() if name.startswith("healthy/"))
    faulty = sum(count for _, count in FAULTS.values())

    assert healthy > faulty
    assert healthy + faulty >= 500
    assert sum(name.startswith("healthy/") for name in kinds()) >= 50


def test_every_code_of_the_judge_is_there_several_times() -> None:
    """At least eight runs for each, and each is a code that the package has."""
    expected = Counter(code for run in runs() for code in run.expected)

    assert set(expected) <= set(CODES)
    assert {
        "loss-spike", "diverged", "level-shift", "run-seam", "padding-in-loss", "non-finite", "below-floor",
        "overfitting", "gap-widening", "memorising", "forgetting", "plateau", "no-learning", "not-enough-data",
    } <= set(expected)  # fmt: skip
    assert min(expected.values()) >= 8


@pytest.mark.parametrize("run", ONE_OF_EACH, ids=lambda run: run.kind)
def test_a_label_fits_its_rows(run: LabelledRun) -> None:
    """A healthy run expects nothing; a window lies within the log and begins before it ends; rows are JSON."""
    steps = [row["step"] for row in run.rows]

    assert run.healthy is not bool(run.expected)
    for first, last in run.expected.values():
        assert min(steps) <= first <= last <= max(steps)
        assert 0 < last_row(run, last) <= len(run.rows)
    assert not set(run.expected) & run.allowed
    assert run.max_steps >= max(steps) or "seam" in run.kind or "logging-changed" in run.kind
    assert len(json.loads(json.dumps(state(run)))["log_history"]) == len(run.rows)
