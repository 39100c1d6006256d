"""What cannot be judged: exit 2, one line on stderr that says what to do, nothing on stdout, no traceback."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from check import sample
from check.command import check, write_state
from commands import offline
from privilege import unprivileged

from ko_cpt_callbacks import keys

STATE: Final = json.dumps({"epoch": 1.0, "log_history": sample.train_rows(sample.falling(20))}, indent=2)


def _file(name: str, data: bytes | str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)
        return path

    return make


def _state(data: bytes | str) -> Callable[[Path], Path]:
    return _file("trainer_state.json", data)


def _history(value: Any) -> Callable[[Path], Path]:
    return _state(json.dumps({"log_history": value}))


def _run_file(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        own = folder / keys.FOLDER
        own.mkdir()
        (own / keys.ROWS_FILE).write_text('{"kind": "train", "attempt": 1, "step": 1, "loss": 3.0}\n')
        (own / keys.RUN_FILE).write_text(text)
        return folder

    return make


def _told(**told: Any) -> Callable[[Path], Path]:
    return _run_file(json.dumps({"format": 1, "watch": {"task": "cpt", **told}}))


def _folder_as_state(folder: Path) -> Path:
    (folder / "trainer_state.json").mkdir()
    return folder


def _broken_link(folder: Path) -> Path:
    (folder / "trainer_state.json").symlink_to("gone.json")
    return folder / "trainer_state.json"


def _loop(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


def _damaged_rows(folder: Path) -> Path:
    line = '{"kind": "train", "attempt": 1, "step": 1, "loss": 3.0}\n'
    (folder / "rows.jsonl").write_text(f"{line}{{oops\n{line}")
    return folder


# What it is -> (how it is made, what the line must say)
BAD: Final[dict[str, tuple[Callable[[Path], Path], str]]] = {
    "nothing there": (lambda folder: folder / "nothing", "no such file or folder"),
    "a name with a slip": (
        lambda folder: _state(STATE)(folder).with_name("trainer_stat.json"),
        "no such file or folder; did you mean ",
    ),
    "name too long": (lambda folder: folder / ("a" * 300), "File name too long"),
    "broken link": (_broken_link, "no such file or folder"),
    "loop of links": (_loop, "loop"),
    "device": (lambda folder: Path("/dev/null"), "found a device or socket, expected a file"),
    "empty folder": (lambda folder: folder, "found an empty folder, expected ko_cpt/rows.jsonl"),
    "folder of something else": (lambda folder: _file("notes.txt", "x")(folder).parent, "found notes.txt, expected"),
    "folder called as the file": (_folder_as_state, "found trainer_state.json, expected"),
    "Git-LFS pointer": (
        _state("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        "found a Git-LFS pointer, expected the file itself; fetch it with `git lfs pull`",
    ),
    "Git-LFS pointer in a run folder": (
        lambda folder: _file("rows.jsonl", "version https://git-lfs.github.com/spec/v1\n")(folder).parent,
        "found a Git-LFS pointer",
    ),
    "empty file": (_state(""), "found an empty file"),
    "blank file": (_state("\r\n\r\n"), "found an empty file"),
    "zero bytes": (_state(b"\x00" * 5000), "found zero bytes only"),
    "cut off in a row": (
        _state(STATE[: STATE.index('"step": 150')]),
        "its first 14 log rows are whole (up to step 140)",
    ),
    "cut off before a row": (_state(STATE[:20]), "JSON cut off"),
    "cut off after the last row": (_state(STATE[:-1]), "its first 20 log rows are whole (up to step 200)"),
    "a comma too much": (_state(STATE.replace("\n  ]", ",\n  ]")), "its first 20 log rows are whole"),
    "two objects": (_state(f"{STATE}\n{STATE}"), "JSON ends here and more text follows"),
    "merge conflict": (_state(f"<<<<<<< HEAD\n{STATE}"), "JSON damaged (Expecting value)"),
    "nested without end": (_state("[" * 200_000), "JSON nested too deep"),
    "row nested without end": (
        _state('{"log_history": [{"step": 1}, {"step": ' + "[" * 200_000),
        "its first 1 log row is whole",
    ),
    "number without end": (_state('{"log_history": [{"step": ' + "9" * 6000 + "}]}"), "a number of too many digits"),
    "binary file": (_state(b"\x7fELF\x02\x01\x01\x00\x00\x00\x01"), "found a binary file"),
    "pickle": (_state(pickle.dumps({"log_history": []})), "expected JSON"),
    "pickled arguments": (_file("training_args.bin", pickle.dumps({})), "which are never opened"),
    "weights": (_file("model.safetensors", b"\x10\x00\x00\x00{}"), "which are never opened"),
    "gzip": (_file("trainer_state.json.gz", b"\x1f\x8b\x08\x00\x01"), "gzip-compressed file, expected text; unpack"),
    "UTF-16": (_state(STATE.encode("utf-16")), "found UTF-16 text, expected UTF-8"),
    "another encoding": (_state('{"log_history": [], "note": "한국어"}'.encode("cp949")), "not UTF-8 text (byte "),
    "web page": (_state("\n<!doctype html><html>404</html>"), "found a web page (HTML)"),
    "list": (_state("[1, 2]"), "found a list as the whole file"),
    "text": (_state('"trainer_state"'), "found a text as the whole file"),
    "NaN": (_state("NaN"), "found a number as the whole file"),
    "object without keys": (_state("{}"), "not a Trainer's state (found: an object without keys)"),
    "tracker's summary": (_state('{"train/loss": 0.4, "_wandb": {}}'), "a tracker's summary"),
    "model's config": (_file("config.json", '{"model_type": "llama"}'), "a model's config.json"),
    "our run.json": (_file("run.json", '{"format": 1, "watch": {}}'), "this package's run.json, which holds no rows"),
    "our findings": (_file("findings.jsonl", '{"code": "x"}\n'), "findings are made from the rows"),
    "another tool's log": (_file("trainer_log.jsonl", '{"current_steps": 5}\n'), "not a row of rows.jsonl"),
    "key that breaks the line": (_state('{"a\\nb\\u001b[31m": 1}'), "not a Trainer's state (found: a\\nb\\x1b[31m)"),
    "history of another type": (_history({"loss": 1}), "found an object under"),
    "history null": (_history(None), "found null under"),
    "history of no rows": (_history([1, "a", None]), "no row in any of its 3"),
    "no usable step": (_history([{"loss": 1.0, "step": "1"}, {"loss": 1.0}]), "a usable step in none of its 2"),
    "damaged line": (_damaged_rows, ":2: not a JSON object: '{oops'"),
    "run.json cut off": (_run_file('{"format": 1, "watch'), "JSON cut off or damaged; expected a run.json"),
    "run.json of another version": (_run_file('{"format": 7}'), '"format" is 7, expected 1'),
    "run.json without told": (_run_file('{"format": 1}'), 'found null under "watch"'),
    "unknown task in run.json": (_told(task="CPT"), "\"watch.task\" is 'CPT', expected one of cpt, sft, other"),
    "wrong target in run.json": (_told(targets=["eval_exact_loss<3,0"]), "run.json: target "),
    "rules of another type": (_told(rules={"a": 1}), '"watch.rules" is'),
}

# Options -> what the line must say
BAD_OPTIONS: Final[dict[tuple[str, ...], str]] = {
    ("--target", "loss"): "found a text that is no target",
    ("--target", ""): "found a text that is no target",
    ("--target", "ppl>20"): "'ppl<20'",
    ("--target", "accuracy<1"): "metric 'accuracy'",
    ("--target", "ppl<twenty"): "bound 'twenty'",
    ("--target", "ppl<nan"): "expected a finite number",
    ("--target", "ppl<0.5"): "no perplexity is below 1",
    ("--target", "ppl<20@tomorrow"): "deadline 'tomorrow'",
    ("--target", "ppl<20,confirm=0"): "confirm=0",
    ("--target", "ppl<20,confidence=95"): "confidence=0.95",
    ("--target", "ppl<20", "--target", "ppl<20"): "the same target twice",
    ("--task", "pretraining"): "--task: found 'pretraining', expected one of cpt, sft, other",
    ("--fail-on", "warn"): "--fail-on: found 'warn', expected one of info, warning, error; did you mean warning?",
}


def _one_line(stderr: str) -> str:
    assert stderr.startswith("ko-cpt check: ")
    assert stderr.endswith("\n")
    assert stderr.count("\n") == 1
    assert stderr[:-1].isprintable()
    assert "Traceback" not in stderr
    return stderr


def test_the_list_is_long_enough() -> None:
    """At least twenty-five kinds of unreadable input."""
    assert len(BAD) >= 25


@pytest.mark.parametrize("name", BAD)
def test_bad_input(tmp_path: Path, name: str) -> None:
    """One line that names the file, what it is and what to do; the same with --json."""
    make, said = BAD[name]
    path = make(tmp_path)
    for options in ((), ("--json",)):
        result = check(path, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in _one_line(result.stderr)
        assert str(path) in result.stderr


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=" ".join)
def test_bad_option(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A wrong target, task or severity is told before the run is read."""
    said = BAD_OPTIONS[options]
    for path in (write_state(tmp_path / "trainer_state.json", sample.healthy()), tmp_path / "nothing"):
        result = check(path, *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in _one_line(result.stderr)


def test_empty_path() -> None:
    """An unset variable in a script is not the folder one happens to be in."""
    result = check("")
    assert result.exit_code == 2
    assert _one_line(result.stderr).endswith("expected a path; is a variable unset?\n")


@pytest.mark.parametrize("closed", ["file", "folder", "rows", "run.json", "neighbour"])
def test_no_permission(tmp_path: Path, closed: str) -> None:
    """A file or folder that this user may not read; a closed folder beside a run does no harm."""
    state = write_state(tmp_path / "run" / "trainer_state.json", sample.healthy())
    own = tmp_path / "run" / keys.FOLDER
    rows, run = own / keys.ROWS_FILE, own / keys.RUN_FILE
    path = {"file": state, "folder": state.parent, "rows": rows, "run.json": run, "neighbour": tmp_path / "other"}[
        closed
    ]
    if closed in ("rows", "run.json"):
        own.mkdir()
        rows.write_text("")
        run.write_text('{"format": 1, "watch": {"task": "cpt"}}')
    path.mkdir(exist_ok=True) if closed == "neighbour" else None
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # the second where tests run on several cores
            parent.chmod(0o755)
    check(state)  # what is imported on use is imported while it may be read
    with unprivileged(path):
        if closed == "neighbour":
            assert check(state).exit_code == 0
            return
        result = check(state.parent if closed != "file" else state)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "permission denied" in _one_line(result.stderr)


def test_a_path_that_no_terminal_can_show(tmp_path: Path) -> None:
    """A name with a line end and a byte that is no text: still one line, and no traceback."""
    name = os.fsdecode(b"a\nb\xff.json")
    try:
        (tmp_path / name).write_text("{}")
    except OSError:
        pytest.skip("this file system takes no such names")
    result = check(tmp_path / name)
    assert result.exit_code == 2
    assert r"a\nb\udcff.json: not a Trainer's state" in _one_line(result.stderr)


def test_alone_in_a_process(tmp_path: Path) -> None:
    """The same from the outside: exit status 2, nothing on stdout, one line on stderr."""
    names = ("Git-LFS pointer", "cut off in a row", "nested without end")
    for name in names:
        (tmp_path / name).mkdir()
    ended = offline(*(["check", str(BAD[name][0](tmp_path / name))] for name in names))
    for name, result in zip(names, ended, strict=True):
        assert (result.returncode, result.stdout) == (2, "")
        assert BAD[name][1] in _one_line(result.stderr)


def test_a_terminal_that_knows_no_korean(tmp_path: Path) -> None:
    """What it cannot show is escaped; nothing fails for it."""
    path = str(write_state(tmp_path / "한국.json", sample.healthy()))
    ended = offline(["check", path], ["check", path, "--json"], ["check", f"{path}x"], encoding="latin-1")
    assert [result.returncode for result in ended] == [0, 0, 2]
    for result in ended:
        assert "Traceback" not in result.stderr
        assert r"\ud55c\uad6d.json" in result.stdout + result.stderr

