"""A part of the suite meets the bar, and is judged alike offline, live, cut and resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suite.fold import differences, places, resumed_differences
from suite.generator import make, runs
from suite.judge import live, offline
from suite.real import DATA, bases
from suite.run import LabelledRun, cut
from suite.score import Score, Verdict, last_row, score, verdict

from ko_cpt_callbacks.check.asked import CheckOptions, asked_of, read_recorded_run
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Patience

SEED = 20_260
"""Not the benchmark's: other runs of the same kinds."""

RESUMED = (
    "healthy/wsd", "healthy/stability-gap", "loss-spike/narrow", "diverged/slow", "level-shift/down-middle",
    "run-seam/rewarm", "padding-in-loss/from-some-row", "overfitting/u-shape", "memorising/steps-middle",
    "forgetting/fast", "plateau/constant", "no-learning/flat",
)  # fmt: skip


@pytest.fixture(scope="module")
def suite() -> list[LabelledRun]:
    """A sixth of a suite, every kind in it, without the longest logs: the benchmark has them all."""
    return [run for run in runs(SEED, size=1 / 6) if len(run.rows) <= 700]


@pytest.fixture(scope="module")
def verdicts(suite: list[LabelledRun]) -> list[Verdict]:
    """That part, each run judged as the command does it."""
    return [verdict(run, offline(run)) for run in suite]


@pytest.fixture(scope="module")
def judged(verdicts: list[Verdict]) -> Score:
    """What they come to."""
    return score(verdicts)


def test_failures_are_named_within_their_window(judged: Score) -> None:
    """Mean recall over the codes is 0.95 or more, none below 0.85 where there are enough runs to say so."""
    low = {code: share for code, share in judged.recall().items() if share < 0.85 and judged.expected[code] >= 7}

    assert judged.macro >= 0.95, judged.missed
    assert not low, judged.missed


def test_healthy_runs_are_left_alone(judged: Score) -> None:
    """At most three alarms in a hundred healthy runs."""
    assert judged.healthy >= 50
    assert judged.alarm_rate <= 0.03, judged.alarms


def test_no_future_is_used(verdicts: list[Verdict]) -> None:
    """What is found in a whole log, short of its end, is found where the log ends with the fault's window."""
    lost = []
    for whole in verdicts[1::2]:
        run = whole.run
        for code, delay in whole.hits.items():
            if delay is None:
                continue
            ended = cut(run, last_row(run, run.expected[code][1]))
            if verdict(ended, offline(ended)).hits.get(code) is None:
                lost.append((run.name, code))

    assert lost == []


def test_a_fold_cut_at_five_rows_gives_the_same(suite: list[LabelledRun]) -> None:
    """Taken up from a kept state, or folded by another monitor in between, findings and states are the same: no rule
    changes a state it was given, or keeps anything beside it."""
    assert [text for run in suite[::4] for text in differences(run, SEED)] == []


def test_resumed_at_five_rows_it_finds_the_same(suite: list[LabelledRun]) -> None:
    """A row says that training begins again there; but for counters that jump, which it explains, nothing changes."""
    assert [text for run in suite[2::8] for text in resumed_differences(run, SEED)] == []


@pytest.mark.parametrize("name", RESUMED)
def test_live_offline_and_resumed_say_the_same(name: str, tmp_path: Path) -> None:
    """The callback says what a fold of its own record says; stopped at a checkpoint and resumed, it says the same."""
    run = next(one for one in (make(name, number, SEED) for number in range(99)) if len(one.rows) <= 160)
    whole = live(run, tmp_path / "whole")
    monitor = Monitor(rules_for(WatchSpec(task=run.task, retention=("en",))), task=run.task)

    assert monitor.fold(observations_of(whole.rows))[1] == whole.findings

    ends = _ends(run, whole.findings)
    at = int(np.random.default_rng(SEED).choice(ends[len(ends) // 4 : -1]))
    begun = live(cut(run, at), tmp_path / "cut", files=True)
    resumed = live(run, tmp_path / "cut", files=True, start=at, history=begun.history)

    assert _said(resumed.findings) == _said(whole.findings)
    # Read again, the record ends there: what can be said only then comes after.
    reread = _said(judge_run(read_run(tmp_path / "cut"), asked_of(None, CheckOptions(task=run.task))).findings)
    assert reread[: len(_said(whole.findings))] == _said(whole.findings)


STOPS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("overfitting/u-shape", "overfitting", {}),
    ("overfitting/u-shape", "overfitting", {"patience": 3, "min_delta": "0.5 %"}),
    ("forgetting/fast", "forgetting", {}),
    ("diverged/slow", "diverged", {}),
    ("non-finite/loss", "non-finite", {}),
)


@pytest.mark.parametrize(("name", "code", "more"), STOPS)
def test_a_stop_leaves_its_reason(name: str, code: str, more: dict[str, Any], tmp_path: Path) -> None:
    """Named in ``stop_on``, a finding stops the run at its row; run.json has its code, and what was to be waited for,
    so that the record read again says the same."""
    run = make(name, 1, SEED)
    stopped = live(run, tmp_path, files=True, arguments={"stop_on": {code}, **more})
    kept = json.loads((tmp_path / "ko_cpt" / "run.json").read_text("utf-8"))
    (found,) = [one for one in stopped.findings if one.code == code and one.asks_to_stop]

    assert (kept["stop"]["code"], kept["stop"]["step"]) == (code, found.step)
    assert stopped.rows[-1]["step"] == found.step < run.rows[-1]["step"]
    assert found.values.get("evaluations") == (
        more.get("patience", 2) if code in ("overfitting", "forgetting") else None
    )
    told = read_recorded_run(tmp_path / "ko_cpt" / "run.json")
    assert told.spec.patience == (Patience(3, 0.005, relative=True) if more else Patience())
    assert found in judge_run(read_run(tmp_path), asked_of(told)).findings
    assert more or found in live(run, tmp_path / "on").findings


def _ends(run: LabelledRun, findings: Sequence[Finding]) -> list[int]:
    """Rows after which the run can have been resumed."""
    owner = [i for i, row in enumerate(run.rows) for _ in observations_of([row])]
    return sorted({owner[at] for at in places(observations_of(run.rows), findings)})


def _said(findings: Sequence[Finding]) -> list[Finding]:
    """Without what is said of the set-up, which a resumed run does not share."""
    return [one for one in findings if one.code != "note"]


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not beside the repository")
def test_public_healthy_logs_and_curves_are_left_alone() -> None:
    """Six logs that a reader found healthy, one up to where it breaks, fourteen curves: nothing above info."""
    runs_seen = list(bases())
    said = [(run.name, one.message()) for run in runs_seen for one in offline(run) if one.severity is not Severity.INFO]

    assert len(runs_seen) == 21
    assert said == []


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not beside the repository")
@pytest.mark.parametrize(
    ("number", "expected", "not_before"),
    [
        ("01", {"run-seam", "padding-in-loss", "level-shift", "below-floor"}, 3510),
        ("15", {"memorizing"}, 0),
        # Overfitting from the first evaluation on, at 1000: that its text is known by heart may be said from there on.
        ("59", {"overfitting", "memorizing"}, 1000),
        ("04", {"not-enough-data"}, 0),
        ("05", {"not-enough-data"}, 0),
    ],
)
def test_real_failures_are_named(number: str, expected: set[str], not_before: int) -> None:
    """The verdicts that a reader gave, and nothing above info before the fault."""
    (path,) = (DATA / "runs").glob(f"{number}_*.json")
    found = judge_run(read_run(path), asked_of(None, CheckOptions(task="cpt" if number == "01" else None))).findings

    assert expected <= {one.code for one in found}
    early = [one for one in found if one.severity is not Severity.INFO and (one.step or 0) < not_before]
    assert json.dumps([one.as_dict() for one in early]) == "[]"
