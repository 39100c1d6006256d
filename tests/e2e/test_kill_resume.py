"""A real run killed with SIGKILL and resumed comes to the same findings, and no file is ever half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job, run_files

# NaN losses at 3, 7 and 11, healthy between: three findings, each of which needs the rows before it.
EVERY_STEP: dict[str, Any] = {"nan_steps": [3, 7, 11], "changes": {"logging_steps": 1}}
# Logs at 3, 6, 9, 12; the NaN of step 7 is in the window that checkpoint 8 cuts.
EVERY_THIRD: dict[str, Any] = {"nan_steps": [7]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run with a log at every step that nothing interrupts."""
    return _whole(tmp_path_factory.mktemp("whole"), EVERY_STEP)


@pytest.fixture(scope="module")
def whole_third(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The run with a log at every third step that nothing interrupts."""
    return _whole(tmp_path_factory.mktemp("third"), EVERY_THIRD)


def _whole(folder: Path, plan: dict[str, Any]) -> dict[str, Any]:
    result = forked.value(forked.run(job.train, str(folder / "run"), folder=folder, **plan))
    codes = [item["code"] for item in result["findings"]]
    assert codes == ["note", *["non-finite"] * len(plan["nan_steps"])]
    return {**result, "folder": folder / "run"}


def _killed(tmp_path: Path, plan: dict[str, Any], kill: tuple[str, int]) -> Path:
    """A run that killed itself; its folder."""
    outcome = forked.run(job.train, str(tmp_path / "run"), folder=tmp_path, kill=kill, **plan)
    assert outcome.code == -9, f"not killed: {outcome.code}\n{outcome.text[-3000:]}"
    return tmp_path / "run"


def _resumed(tmp_path: Path, folder: Path, plan: dict[str, Any], checkpoint: Path, **more: Any) -> dict[str, Any]:
    outcome = forked.run(job.train, str(folder), folder=tmp_path, resume=str(checkpoint), **{**plan, **more})
    return dict(forked.value(outcome))


def _tokens(result: dict[str, Any]) -> int | None:
    return [row for row in result["log_history"] if "loss" in row][-1].get("tokens_seen")


def _of_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings that the Trainer's own log is enough for: it has no set-up rows."""
    return [item for item in found if item["variant"] != "no-first-evaluation"]


def _apart_from_loss(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings without the Trainer's own loss: after a resume it averages over fewer steps."""
    return [
        {
            **item, "short": None, "detail": None,
            "values": {name: v for name, v in item["values"].items() if name != "loss"},
        }
        for item in found
    ]


@pytest.mark.parametrize(
    ("moment", "step", "start"),
    [
        pytest.param("step begins", 5, 4, marks=pytest.mark.both_versions),
        ("after a log", 9, 8),
        ("in an evaluation", 8, 4),
        ("in a save", 8, 4),
        ("after a save", 8, 8),
        ("in a row", 10, 8),
        ("in a file", 8, 4),
    ],
)
def test_killed_and_resumed_equals_the_whole_run(
    moment: str, step: int, start: int, whole: dict[str, Any], tmp_path: Path
) -> None:
    """Whatever the moment of the kill: every file parses when the process is dead; the resumed run has the findings
    and the token count of the run that was never interrupted; superseded rows are marked and kept, no row counts
    twice, and run.json lists both attempts with the step each began at."""
    folder = _killed(tmp_path, EVERY_STEP, (moment, step))
    path = folder / "ko_cpt" / "rows.jsonl"
    if moment == "in a row":
        text = path.read_text("utf-8")
        assert not text.endswith("\n"), "this test should leave half a line"
        before = [json.loads(line) for line in text.split("\n")[:-1]]
    else:
        before = run_files.rows(folder)
    run_files.findings(folder)
    assert [entry["start_step"] for entry in run_files.run(folder)["attempts"]] == [0]

    checkpoint = run_files.checkpoint(folder)
    assert checkpoint.name == f"checkpoint-{start}"
    result = _resumed(tmp_path, folder, EVERY_STEP, checkpoint)

    assert result["findings"] == whole["findings"]
    assert run_files.findings(folder) == run_files.findings(whole["folder"]) == whole["findings"]
    assert _tokens(result) == _tokens(whole) is not None
    after = run_files.rows(folder)
    assert run_files.double(after) == []
    kept = [{name: v for name, v in line.items() if name != "superseded"} for line in after if line["attempt"] == 1]
    assert kept == before
    assert all(line.get("superseded", False) == (line["step"] > start) for line in after if line["attempt"] == 1)
    assert [(one["attempt"], one["start_step"]) for one in run_files.run(folder)["attempts"]] == [(1, 0), (2, start)]


def test_resume_from_a_step_that_is_no_logging_step(whole_third: dict[str, Any], tmp_path: Path) -> None:
    """Checkpoint 8 lies inside the logging window 7-9, whose NaN was at step 7: the resumed run still counts it in
    the row of step 9, names step 7 as the first, and has seen as many tokens. Only the Trainer's own loss of that
    row is another, because a resumed Trainer averages over the steps since the resume."""
    folder = _killed(tmp_path, EVERY_THIRD, ("after a log", 9))
    result = _resumed(tmp_path, folder, EVERY_THIRD, run_files.checkpoint(folder))

    (found,) = _of_rows(result["findings"])
    assert (found["step"], found["values"]["nonfinite_first_step"]) == (9, 7)
    assert _apart_from_loss(result["findings"]) == _apart_from_loss(whole_third["findings"])
    assert _tokens(result) == _tokens(whole_third)


def test_a_checkpoint_without_its_line_claims_nothing(tmp_path: Path) -> None:
    """Killed when checkpoint 8 was complete and the callback had not yet noted it: what happened between row 6 and
    the checkpoint is unknown, so the resumed run publishes neither a token count nor "no non-finite step" for the
    window that it did not see whole, and counts again from the next one."""
    folder = _killed(tmp_path, EVERY_THIRD, ("after a save", 8))
    result = _resumed(tmp_path, folder, EVERY_THIRD, run_files.checkpoint(folder))

    ninth, twelfth = ([row for row in result["log_history"] if "loss" in row])[-2:]
    assert (ninth["step"], twelfth["step"]) == (9, 12)
    assert "tokens_seen" not in ninth and "tokens_seen" not in twelfth
    assert "nonfinite_steps" not in ninth
    assert twelfth["nonfinite_steps"] == 0


def test_killed_twice(whole: dict[str, Any], tmp_path: Path) -> None:
    """A run that is killed, resumed and killed again, and resumed: three attempts, the same findings, each row once."""
    folder = _killed(tmp_path, EVERY_STEP, ("after a log", 6))
    again = forked.run(
        job.train,
        str(folder),
        folder=tmp_path,
        resume=str(run_files.checkpoint(folder)),
        kill=("step begins", 10),
        **EVERY_STEP,
    )
    assert again.code == -9
    result = _resumed(tmp_path, folder, EVERY_STEP, run_files.checkpoint(folder))

    assert result["findings"] == whole["findings"] == run_files.findings(folder)
    assert _tokens(result) == _tokens(whole)
    assert run_files.double(run_files.rows(folder)) == []
    assert [one["start_step"] for one in run_files.run(folder)["attempts"]] == [0, 4, 8]


def test_a_finished_run_goes_on(tmp_path: Path) -> None:
    """A short run ends with ``not-enough-data``. Continued to more steps it is one run with enough data: the end of
    the first part is superseded, the finding is gone, and the state file says the same as our rows."""
    plan = {"changes": {"logging_steps": 4, "eval_steps": 4, "max_steps": 4}}
    first = forked.value(forked.run(job.train, str(tmp_path / "run"), folder=tmp_path, **plan))
    assert [item["code"] for item in first["findings"]] == ["note", "not-enough-data"]

    longer = {"changes": {"logging_steps": 4, "eval_steps": 4}}
    folder = tmp_path / "run"
    result = _resumed(tmp_path, folder, longer, folder / "checkpoint-4")
    assert [item["code"] for item in result["findings"]] == ["note"]
    assert run_files.findings(folder) == result["findings"]
    assert [line["step"] for line in run_files.live(run_files.rows(folder)) if line["kind"] == "end"] == [12]


def test_a_fresh_start_in_an_old_folder(whole: dict[str, Any], tmp_path: Path) -> None:
    """Training anew into the ``output_dir`` of an earlier run: the earlier rows stay, all superseded; findings are
    those of the new run alone."""
    folder = tmp_path / "run"
    shutil.copytree(whole["folder"], folder)
    before = run_files.rows(folder)
    result = forked.value(
        forked.run(job.train, str(folder), folder=tmp_path, nan_steps=[5], changes={"logging_steps": 1})
    )
    assert [item["step"] for item in _of_rows(result["findings"])] == [5]
    assert run_files.findings(folder) == result["findings"]
    after = run_files.rows(folder)
    assert [line for line in after if line["attempt"] == 1] == [{**line, "superseded": True} for line in before]
    assert {line["attempt"] for line in run_files.live(after)} == {2}
    assert [one["start_step"] for one in run_files.run(folder)["attempts"]] == [0, 0]


def test_resume_into_a_new_folder(whole: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint resumed into another ``output_dir``: the rows before it are taken from its log_history, so that
    findings and token count are those of the whole run, but for the set-up's, and the new folder's files keep their
    schemas."""
    result = _resumed(tmp_path, tmp_path / "new", EVERY_STEP, whole["folder"] / "checkpoint-8")
    assert result["findings"] == _of_rows(whole["findings"]) == run_files.findings(tmp_path / "new")
    assert _tokens(result) == _tokens(whole)
    lines = run_files.rows(tmp_path / "new")
    assert run_files.double(lines) == []
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 13))
    assert [one["start_step"] for one in run_files.run(tmp_path / "new")["attempts"]] == [8]
    assert not any(line["attempt"] == 1 and line["step"] < 8 for line in lines), "attempt 1 began at step 8"


def test_damaged_rows_are_set_aside(whole: dict[str, Any], tmp_path: Path) -> None:
    """A damaged line in the middle of rows.jsonl: the file is kept under another name, byte for byte, the record is
    rebuilt from the checkpoint's log_history, and findings are those of the whole run, but for the set-up's."""
    folder = tmp_path / "run"
    shutil.copytree(whole["folder"], folder)
    path = folder / "ko_cpt" / "rows.jsonl"
    damaged = path.read_bytes().replace(b'"step": 2,', b'"step": 2,,', 1)
    path.write_bytes(damaged)
    result = _resumed(tmp_path, folder, EVERY_STEP, folder / "checkpoint-8")

    (aside,) = path.parent.glob("rows.jsonl.damaged-*")
    assert aside.read_bytes() == damaged
    assert result["findings"] == _of_rows(whole["findings"]) == run_files.findings(folder)
    assert run_files.double(run_files.rows(folder)) == []
    assert [one["start_step"] for one in run_files.run(folder)["attempts"]] == [0, 8]


@pytest.mark.parametrize("cut", [False, True])
def test_evaluate_in_a_trained_folder(cut: bool, whole: dict[str, Any], tmp_path: Path) -> None:
    """``evaluate()`` in another process, in the folder of a trained run (whose last line was cut off by a kill, or
    not): the findings, what the run was and what it was told stay as they are; the new row says that it is an
    evaluation of its own; and the training can still be resumed to the same findings. What the evaluation finds (here:
    a NaN model) is in the callback, not in the training's file."""
    folder = tmp_path / "run"
    shutil.copytree(whole["folder"], folder)
    path = folder / "ko_cpt" / "rows.jsonl"
    if cut:
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    findings = (folder / "ko_cpt" / "findings.jsonl").read_bytes()
    told = run_files.run(folder)
    sums = {p.name: p.read_bytes() for p in (folder / "ko_cpt" / "eval_rows").iterdir()}

    for broken in (False, True):
        result = forked.value(
            forked.run(job.evaluate, str(folder), str(folder / "checkpoint-12"), folder=tmp_path, broken=broken)
        )
        assert [item["code"] for item in result["findings"]] == ["non-finite"] * broken
        if not broken:
            assert result["metrics"]["eval_exact_loss"] == pytest.approx(whole["best"][1])
    assert (folder / "ko_cpt" / "findings.jsonl").read_bytes() == findings
    line = run_files.rows(folder)[-1]
    assert (line["kind"], line["mode"], line["attempt"]) == ("eval", "evaluate", 3)
    now = run_files.run(folder)
    assert {name: v for name, v in now.items() if name != "attempts"} == {
        name: v for name, v in told.items() if name != "attempts"
    }
    assert [one["mode"] for one in now["attempts"]] == ["train", "evaluate", "evaluate"]
    assert {p.name: p.read_bytes() for p in (folder / "ko_cpt" / "eval_rows").iterdir() if p.name in sums} == sums

    resumed = _resumed(tmp_path, folder, EVERY_STEP, folder / "checkpoint-8")
    assert resumed["findings"] == whole["findings"]
    assert not list(path.parent.glob("rows.jsonl.damaged-*"))


def test_evaluate_then_resume_in_one_process(whole: dict[str, Any], tmp_path: Path) -> None:
    """``evaluate()`` and then ``train(resume_from_checkpoint=…)`` with one Trainer in a trained folder: the training's
    findings are written again although the evaluation's were not."""
    folder = tmp_path / "run"
    shutil.copytree(whole["folder"], folder)
    result = forked.value(
        forked.run(job.evaluate, str(folder), str(folder / "checkpoint-8"), folder=tmp_path, then_resume=True)
    )
    assert result["findings"] == whole["findings"] == run_files.findings(folder)
    assert [one["start_step"] for one in run_files.run(folder)["attempts"]] == [0, 0, 8]
    assert run_files.run(folder)["planned_steps"] == job.STEPS
