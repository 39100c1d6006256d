"""Pruning: what may go, and that nothing else does, in hostile layouts too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint.made_checkpoints import LONG_AGO, checkpoint, made_run
from typer.testing import CliRunner

from ko_cpt_callbacks.checkpoint.account import account_of
from ko_cpt_callbacks.checkpoint.prune import PrunePlan, free, plan_of
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.reading import read_run

ALL = (10, 20, 30, 40, 50)
NOW = LONG_AGO + 10_000.0


def _plan(folder: Path, now: float = NOW) -> PrunePlan:
    return plan_of(account_of(read_run(folder)), now)


def _steps(plan: PrunePlan) -> list[int]:
    return [one.step for one in plan.free]


def _run(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["checkpoints", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.output


def _tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_dry_run_deletes_nothing(tmp_path: Path) -> None:
    """It lists paths and sizes; the same with --yes leaves the recommended one alone."""
    made_run(tmp_path, on_disk=ALL)
    before = _tree(tmp_path)
    code, text = _run(tmp_path, "--prune")
    assert (code, _tree(tmp_path)) == (0, before)
    assert "4 checkpoints, " in text and f"{tmp_path / 'checkpoint-40'}" in text
    code, text = _run(tmp_path, "--prune", "--yes", "--json")
    told = json.loads(text)["runs"][0]["prune"]
    assert (code, len(told["freed"])) == (0, 4)
    assert before - _tree(tmp_path) == {one for one in before if one.startswith(("checkpoint-1", "checkpoint-2",
                                        "checkpoint-3", "checkpoint-4"))}  # fmt: skip


def test_a_run_to_resume_keeps_what_a_resume_needs(tmp_path: Path) -> None:
    """The newest, and the one that the Trainer would load at the end, stay though others are better."""
    losses = {10: 3.4, 20: 3.2, 30: 3.0, 40: 3.3, 50: 3.5}
    made_run(tmp_path, losses, on_disk=(10, 20, 30, 40), ended=False)
    checkpoint(tmp_path, 50, best="/elsewhere/checkpoint-10")
    plan = _plan(tmp_path)
    assert (_steps(plan), dict(plan.kept)) == ([20, 40], {10: "trainers-best", 30: "recommended", 50: "newest"})


def test_a_run_that_was_just_written_is_left_alone(tmp_path: Path) -> None:
    """Without a closing row it may be training on another machine."""
    made_run(tmp_path, on_disk=ALL, ended=False)
    with pytest.raises(ConfigurationError, match="has not ended and was written 30 s ago"):
        _plan(tmp_path, LONG_AGO + 30)


def test_a_run_whose_record_grows_is_left_alone(tmp_path: Path) -> None:
    """Where no lock reaches, rows that were written just now say that it trains, however old its checkpoints are."""
    made_run(tmp_path, on_disk=ALL, ended=False)
    os.utime(tmp_path / "ko_cpt" / "rows.jsonl", (NOW - 30, NOW - 30))
    with pytest.raises(ConfigurationError, match="has not ended and was written 30 s ago"):
        _plan(tmp_path)


def test_a_run_that_went_back_keeps_what_it_wrote_last(tmp_path: Path) -> None:
    """After a resume from an earlier step the last written checkpoint is not the one of the highest step: both stay."""
    made_run(tmp_path, on_disk=ALL, ended=False)
    for path in (tmp_path / "checkpoint-20").iterdir():
        os.utime(path, (LONG_AGO + 100, LONG_AGO + 100))
    plan = _plan(tmp_path)
    assert (_steps(plan), dict(plan.kept)) == ([10, 30, 40], {20: "newest", 50: "recommended"})


def test_what_could_not_be_deleted_whole_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion that fails midway names what is left, which is no checkpoint any more; so does the next attempt."""
    made_run(tmp_path, on_disk=(10, 50))

    def fails(path: str, *, dir_fd: int) -> None:
        raise PermissionError(13, "Permission denied")

    fails.avoids_symlink_attacks = True  # type: ignore[attr-defined]
    monkeypatch.setattr("shutil.rmtree", fails)
    code, text = _run(tmp_path, "--prune", "--yes")
    assert code == 1 and "Permission denied; what is left of it is .pruned-10" in text
    assert (tmp_path / ".pruned-10" / "model.safetensors").is_file()
    checkpoint(tmp_path, 10)
    monkeypatch.undo()
    code, text = _run(tmp_path, "--prune", "--yes")
    assert code == 1 and ".pruned-10 is in the way" in text and (tmp_path / "checkpoint-10").is_dir()


def test_what_a_link_in_the_folder_leads_to_stays(tmp_path: Path) -> None:
    """Whoever made a link ``best`` to a checkpoint, or to a file of one, still uses it."""
    made_run(tmp_path, on_disk=ALL)
    (tmp_path / "best").symlink_to("checkpoint-10")
    (tmp_path / "weights").symlink_to(tmp_path / "checkpoint-20" / "model.safetensors")
    (tmp_path / "elsewhere").symlink_to("/")
    plan = _plan(tmp_path)
    assert (_steps(plan), dict(plan.kept)) == ([30, 40], {10: "linked", 20: "linked", 50: "recommended"})


def test_a_live_run_is_left_alone(tmp_path: Path) -> None:
    """Another process that holds the run's lock is training it."""
    made_run(tmp_path, on_disk=ALL)
    plan = _plan(tmp_path)
    code = (
        "import sys\nfrom pathlib import Path\nfrom ko_cpt_callbacks.run.lock import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1]))\nlock.take()\nprint('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ko_cpt")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout is not None and holder.stdin is not None
        holder.stdout.readline()
        with pytest.raises(ConfigurationError, match="is being trained"):
            _plan(tmp_path)
        with pytest.raises(ConfigurationError, match="is being trained"):
            list(free(plan))
        holder.stdin.close()
    assert (tmp_path / "checkpoint-10").is_dir()


def test_without_a_basis_nothing_goes(tmp_path: Path) -> None:
    """Few evaluations of the Trainer's own loss tell no checkpoint from another."""
    made_run(tmp_path, on_disk=ALL, exact=False)
    with pytest.raises(ConfigurationError, match="no checkpoint on disk that its evaluations can tell"):
        _plan(tmp_path)


def test_arguments_that_cannot_be_used(tmp_path: Path) -> None:
    """--yes alone, an empty run and a staged run to prune are refused with status 2."""
    made_run(tmp_path / "stages" / "01-a", on_disk=ALL)
    (tmp_path / "ko_cpt").mkdir()
    plan = {"format": 1, "stages": [{"name": "a", "folder": "stages/01-a"}]}
    (tmp_path / "ko_cpt" / "plan.json").write_text(json.dumps(plan))
    assert _run(tmp_path)[0] == 0
    for arguments in ((tmp_path, "--prune"), (tmp_path, "--yes"), ("",)):
        code, text = _run(*arguments)
        assert code == 2 and text.startswith("ko-cpt checkpoints: ")


# ---- hostile layouts: each changes a prunable checkpoint-10 or its surroundings, and says what must still be there


def _replace_by_link(run: Path, outside: Path) -> None:
    _gone(run / "checkpoint-10")
    (run / "checkpoint-10").symlink_to(outside, target_is_directory=True)


def _gone(path: Path) -> None:
    for one in path.iterdir():
        one.unlink()
    path.rmdir()


def _as_file(run: Path, outside: Path) -> None:
    _gone(run / "checkpoint-10")
    (run / "checkpoint-10").write_text("a file")


def _dangling(run: Path, outside: Path) -> None:
    _gone(run / "checkpoint-10")
    (run / "checkpoint-10").symlink_to(run / "nowhere")


def _link_to_sibling(run: Path, outside: Path) -> None:
    _gone(run / "checkpoint-10")
    (run / "checkpoint-10").symlink_to("checkpoint-50", target_is_directory=True)


def _link_up(run: Path, outside: Path) -> None:
    _gone(run / "checkpoint-10")
    (run / "checkpoint-10").symlink_to("..", target_is_directory=True)


def _holds_link(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "global_step").symlink_to(outside, target_is_directory=True)


def _holds_file_link(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "optimizer.pt").symlink_to(outside / "precious")


def _holds_deep_link(run: Path, outside: Path) -> None:
    deep = run / "checkpoint-10" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "up").symlink_to("../../../..", target_is_directory=True)


def _holds_pipe(run: Path, outside: Path) -> None:
    os.mkfifo(run / "checkpoint-10" / "pipe")


def _state_is_pipe(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "trainer_state.json").unlink()
    os.mkfifo(run / "checkpoint-10" / "trainer_state.json")


def _state_is_link(run: Path, outside: Path) -> None:
    state = run / "checkpoint-10" / "trainer_state.json"
    state.rename(outside / "state.json")
    state.symlink_to(outside / "state.json")


def _being_written(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "trainer_state.json").unlink()


def _cut_state(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "trainer_state.json").write_text('{"log_history": [')


def _state_of_another_step(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "trainer_state.json").write_text(json.dumps({"log_history": [], "global_step": 99}))


def _holds_a_run(run: Path, outside: Path) -> None:
    (run / "checkpoint-10" / "ko_cpt").mkdir()


def _holds_checkpoints(run: Path, outside: Path) -> None:
    checkpoint(run / "checkpoint-10" / "old", 10)


def _aside_is_taken(run: Path, outside: Path) -> None:
    (run / ".pruned-10").symlink_to(outside, target_is_directory=True)


def _leading_zero(run: Path, outside: Path) -> None:
    (run / "checkpoint-10").rename(run / "checkpoint-010")


def _with_a_suffix(run: Path, outside: Path) -> None:
    (run / "checkpoint-10").rename(run / "checkpoint-10.bak")


def _other_digits(run: Path, outside: Path) -> None:
    (run / "checkpoint-10").rename(run / "checkpoint-\u0661\u0660")


LAYOUTS: tuple[Callable[[Path, Path], None], ...] = (
    _replace_by_link, _as_file, _dangling, _link_to_sibling, _link_up, _holds_link, _holds_file_link, _holds_deep_link,
    _holds_pipe, _state_is_pipe, _state_is_link, _being_written, _cut_state, _state_of_another_step, _holds_a_run,
    _holds_checkpoints, _aside_is_taken, _leading_zero, _with_a_suffix, _other_digits,
)  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> tuple[Path, Path]:
    """A run whose checkpoints 10 and 40 may go, and a folder outside it that must stay."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    return made_run(tmp_path / "run", on_disk=(10, 40, 50)), outside


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__.strip("_"))
def test_hostile_layouts(layout: tuple[Path, Path], make: Callable[[Path, Path], None]) -> None:
    """Whatever checkpoint-10 is made into, it stays as it is, all outside stays, and checkpoint-40 goes."""
    run, outside = layout
    make(run, outside)
    before, around = _tree(run), _tree(outside)
    code, _ = _run(run, "--prune", "--yes")
    assert code == int(make is _aside_is_taken)
    assert before - _tree(run) == {one for one in before if one.startswith("checkpoint-40")}
    assert _tree(outside) == around and (outside / "precious").read_text() == "precious"
    assert (run / "checkpoint-50" / "model.safetensors").is_file()


def test_what_is_swapped_after_the_look_is_not_deleted(layout: tuple[Path, Path]) -> None:
    """Between plan and deletion a folder becomes a link, or another folder: neither is touched."""
    run, outside = layout
    plan = _plan(run)
    assert _steps(plan) == [10, 40]
    _replace_by_link(run, outside)
    (run / "checkpoint-40").rename(run / "mine")
    checkpoint(run, 40)
    assert [problem for _, problem in free(plan)] == ["changed", "changed"]
    assert (outside / "precious").is_file() and (run / "checkpoint-40").is_dir() and (run / "mine").is_dir()


def test_a_run_that_becomes_a_link_is_not_entered(layout: tuple[Path, Path], tmp_path: Path) -> None:
    """The run's own folder is opened without following a link."""
    run, _ = layout
    plan = _plan(run)
    run.rename(tmp_path / "moved")
    run.symlink_to(tmp_path / "moved", target_is_directory=True)
    with pytest.raises(ConfigurationError, match="nothing is freed"):
        list(free(plan))
    assert (tmp_path / "moved" / "checkpoint-10").is_dir()
