"""A run stops when it was asked to and not before, alike on every rank, and leaves a checkpoint behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_stop

from ko_cpt_callbacks.forecast.chance import row_numbers
from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import parse_targets

pytestmark = pytest.mark.both_versions


def _run(folder: Path, **plan: Any) -> dict[str, Any]:
    outcome = forked.run(job_stop.stopping, str(folder / "run"), folder=folder, timeout=90, **plan)
    result: dict[str, Any] = forked.value(outcome)
    return result


def _codes(result: dict[str, Any]) -> list[str]:
    return [found["variant"] if found["code"] == "note" else found["code"] for found in result["findings"]]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run on one process that stopped on its target."""
    folder = tmp_path_factory.mktemp("stopped")
    return folder / "run", _run(folder, changes={"save_strategy": "no"})


def test_nothing_stops_unless_asked(tmp_path: Path) -> None:
    """A met target is reported and the run goes on to its planned end."""
    result = _run(tmp_path, told={"targets": [job_stop.TARGET]})
    assert "target-met" in _codes(result)
    assert result["step"] == 40
    assert result["stop_reason"] is None


def test_stops_when_the_target_is_met(stopped: tuple[Path, dict[str, Any]]) -> None:
    """The run ends at the evaluation that met the target; run.json has the code and the sentence."""
    folder, result = stopped
    assert 2 < result["step"] < 40
    assert result["stop_reason"]["code"] == "target-met"
    assert result["stop_reason"]["step"] == result["step"]
    stop = json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))["stop"]
    assert (stop["code"], stop["step"]) == ("target-met", result["step"])
    assert stop["detail"] == result["stop_reason"]["detail"]


@pytest.mark.parametrize("strategy", ["no", "steps", "best"])
def test_a_stop_leaves_its_checkpoint(strategy: str, tmp_path: Path, stopped: tuple[Path, dict[str, Any]]) -> None:
    """The step at which the run stopped is on disk, whatever save_strategy says, best included."""
    changes = {"save_strategy": strategy, "save_steps": 100}
    result = stopped[1] if strategy == "no" else _run(tmp_path, changes=changes)
    assert f"checkpoint-{result['step']}" in result["checkpoints"]


def test_two_processes_stop_at_the_same_step(tmp_path: Path) -> None:
    """Both ranks stop at one step for one reason, with a checkpoint."""
    outcomes = forked.run_ranks(job_stop.stopping, str(tmp_path / "run"), ranks=2, folder=tmp_path, timeout=90)
    first, second = (forked.value(outcome) for outcome in outcomes)
    assert first["step"] == second["step"] < 40
    assert first["stop_reason"] == second["stop_reason"] is not None
    assert f"checkpoint-{first['step']}" in first["checkpoints"]


def test_a_target_out_of_reach_stops_both_processes(tmp_path: Path) -> None:
    """From 30 % of the run on, at the second evaluation whose forecast rules the target out: both ranks stop there with
    a checkpoint; the rows have the forecasts, the same on both, and the fold of the folder says the same again."""
    told = {"targets": ["eval_exact_loss<5.0"], "stop_on": ["target-unreachable"]}
    changes = {"save_strategy": "no"}
    outcomes = forked.run_ranks(
        job_stop.stopping, str(tmp_path / "run"), ranks=2, folder=tmp_path, timeout=90, told=told, changes=changes
    )
    first, second = (forked.value(outcome) for outcome in outcomes)
    assert first["stop_reason"] == second["stop_reason"] is not None
    assert first["stop_reason"]["code"] == "target-unreachable"
    assert first["step"] == second["step"] == first["stop_reason"]["step"] == 16
    assert f"checkpoint-{first['step']}" in first["checkpoints"]
    suffixes = ("final_loss_median", "final_loss_lower", "final_loss_upper", "target_probability")
    logged = [[row for row in one["log_history"] if "eval_loss" in row] for one in (first, second)]
    both = [[{name: row[name] for name in row if name.endswith(suffixes)} for row in rows] for rows in logged]
    assert both[0] == both[1] and [len(row) for row in both[0]] == [0] * 6 + [4, 4]
    run = read_run(tmp_path / "run")
    lines = [row for row in run.rows if row.get("kind") == "eval"]
    assert [{name: row[name] for name in row if name.endswith(suffixes)} for row in lines] == both[0]
    observations, targets = list(run.observations()), parse_targets(told["targets"])
    outlook = Outlook()
    for seen in observations:
        outlook = outlook.add(seen)
        if isinstance(seen, EvalObservation):
            assert row_numbers(outlook, seen, targets) == both[0].pop(0)
    spec = WatchSpec(targets, rules=("target-unreachable",))
    assert [one.step for one in Monitor(rules_for(spec)).fold(observations)[1]] == [16]


def test_one_and_two_processes_stop_alike(tmp_path: Path, stopped: tuple[Path, dict[str, Any]]) -> None:
    """With the same global batch, two processes stop at the step at which one does."""
    changes = {"save_strategy": "no", "per_device_train_batch_size": 1}
    outcomes = forked.run_ranks(
        job_stop.stopping, str(tmp_path / "run"), ranks=2, folder=tmp_path, timeout=90, changes=changes
    )
    assert [forked.value(outcome)["step"] for outcome in outcomes] == [stopped[1]["step"]] * 2


def test_killed_after_the_stop_and_resumed(tmp_path: Path, stopped: tuple[Path, dict[str, Any]]) -> None:
    """SIGKILL right after the stop loses nothing: the resumed run knows what had stopped it."""
    step = stopped[1]["step"]
    outcome = forked.run(
        job_stop.stopping, str(tmp_path / "run"), folder=tmp_path, timeout=90,
        changes={"save_strategy": "no"}, die_at_end=True,
    )  # fmt: skip
    assert outcome.code == -9
    result = _run(tmp_path, resume=str(tmp_path / "run" / f"checkpoint-{step}"))
    assert result["step"] == step + 1
    assert {"target-met", "stopped-before"} <= set(_codes(result))


def test_a_resumed_run_says_that_its_target_was_met(stopped: tuple[Path, dict[str, Any]]) -> None:
    """Resumed from the stop, the run says why it had stopped and stops again after one step."""
    folder, before = stopped
    checkpoint = str(folder / f"checkpoint-{before['step']}")
    result = _run(folder.parent, resume=checkpoint)
    assert result["step"] == before["step"] + 1
    said = [finding for finding in result["findings"] if finding["variant"] == "stopped-before"]
    assert len(said) == 1
    assert "target-met asked to stop" in said[0]["short"]
    assert result["stop_reason"]["code"] == "target-met"


def test_a_lone_rank_does_not_obey_a_stop_from_before_the_resume(
    tmp_path: Path, stopped: tuple[Path, dict[str, Any]]
) -> None:
    """With the callback on rank 0 only, a stop replayed at a resume is not obeyed: rank 1 would wait for ever."""
    folder, before = stopped
    shutil.copytree(folder, tmp_path / "run")
    checkpoint = tmp_path / "run" / f"checkpoint-{before['step']}"
    # transformers 4.57 cannot load an optimizer's state on CPU ranks: it asks torch for the unknown device "cpu:0".
    (checkpoint / "optimizer.pt").unlink()
    plan = {
        "resume": str(checkpoint),
        "first_rank_only": True,
        "changes": {"max_steps": before["step"] + 4, "save_strategy": "no", "metric_for_best_model": "eval_loss"},
    }
    outcomes = forked.run_ranks(job_stop.stopping, str(tmp_path / "run"), ranks=2, folder=tmp_path, timeout=60, **plan)
    assert [forked.value(outcome)["step"] for outcome in outcomes] == [before["step"] + 4] * 2


def test_grace_delays_the_stop(tmp_path: Path) -> None:
    """A target met in the grace period stops the run when the grace is over."""
    told = {"targets": [job_stop.TARGET], "stop_on": ["target-met"], "grace": 31}
    result = _run(tmp_path, told=told, changes={"save_strategy": "no"})
    assert result["step"] == 31
    met = next(finding for finding in result["findings"] if finding["code"] == "target-met")
    assert met["step"] < 31


def test_patience_stops_and_a_second_stopper_is_named(tmp_path: Path) -> None:
    """Patience counts evaluations without enough improvement; EarlyStoppingCallback beside it is a finding."""
    told = {"patience": 2, "min_delta": "50%"}
    result = _run(
        tmp_path, told=told, early_stopping=True,
        changes={"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True},
    )  # fmt: skip
    assert result["stop_reason"]["code"] == "no-improvement"
    assert result["step"] == 6
    assert "early-stopping-twice" in _codes(result)
