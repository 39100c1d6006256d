"""A resumed run that evaluates when it begins (``eval_on_start``) is the run that was never interrupted."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from e2e import job, run_files

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Patience

pytestmark = pytest.mark.both_versions

LAST = 30
# No evaluation is better than the first by five nats: the third without improvement, at step 30, stops the run. An
# evaluation more would stop it at step 20.
PLAN: dict[str, Any] = {
    "patience": 3,
    "min_delta": 5.0,
    "changes": {
        "max_steps": 40,
        "logging_steps": 1,
        "eval_on_start": True,
        "eval_steps": 10,
        "save_steps": 1,
    },
}
# Between evaluations, right before one and right after one; `benchmarks/eval_on_start.py` asks at twenty.
MOMENTS = (3, 10, 19)


def moments(count: int, seed: int = 0) -> list[int]:
    """Steps to resume from, by chance, each once."""
    return sorted(random.Random(seed).sample(range(1, LAST), count))


def resumed(whole: Path, folder: Path, step: int) -> dict[str, Any]:
    """The run of ``whole`` as it stood at a step, resumed from the checkpoint of that step."""
    shutil.copytree(whole / "ko_cpt", folder / "ko_cpt")
    shutil.copytree(whole / f"checkpoint-{step}", folder / f"checkpoint-{step}")
    return job.train(str(folder), resume=str(folder / f"checkpoint-{step}"), **PLAN)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, job.train(str(folder), **PLAN)


def test_the_run_that_nobody_interrupts(whole: tuple[Path, dict[str, Any]]) -> None:
    """It stops at its third evaluation without improvement: a point more would change that."""
    assert [(one["code"], one["step"]) for one in whole[1]["findings"] if one["asks_to_stop"]] == [
        ("no-improvement", LAST)
    ]


@pytest.mark.parametrize("step", MOMENTS)
def test_resumed_between_evaluations(whole: tuple[Path, dict[str, Any]], step: int, tmp_path: Path) -> None:
    """The evaluation made because the run resumed is logged with its exact loss and marked; it is no point of the run:
    findings, summary and best are those of the whole run, live, from the record and from the Trainer's own state."""
    result = resumed(whole[0], tmp_path / "run", step)
    expected = whole[1]
    for name in ("step", "findings", "best"):
        assert result[name] == expected[name], name
    assert result["summary"]["splits"] == expected["summary"]["splits"]
    marked = [row for row in result["log_history"] if row.get("eval_at_resume")]
    assert [row["step"] for row in marked] == [step]
    assert all(row["eval_exact_loss"] > 0 for row in marked)
    assert run_files.findings(tmp_path / "run") == expected["findings"]
    monitor = Monitor(rules_for(WatchSpec(patience=Patience(3, 5.0), retention=("en",))))
    for file in (tmp_path / "run", tmp_path / "run" / "trainer_state.json"):
        assert [one.as_dict() for one in monitor.judge(read_run(file).observations())[1]] == expected["findings"]


def test_a_set_that_was_never_evaluated(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Where nothing was evaluated before the resume, the evaluation at the resume is the run's first."""
    plan = {**PLAN, "changes": {**PLAN["changes"], "eval_on_start": False}}
    job.train(str(tmp_path / "run"), **{**plan, "changes": {**plan["changes"], "max_steps": 5}})
    result = job.train(
        str(tmp_path / "run"),
        resume=str(tmp_path / "run" / "checkpoint-5"),
        **{**PLAN, "changes": {**PLAN["changes"], "max_steps": 8}},
    )
    assert result["summary"]["splits"]["eval"]["first"]["step"] == 5
