"""Files and folders to rows: what can be read, and one clear line for what cannot."""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
from privilege import unprivileged

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import KoCPTError, UnreadableRunError
from ko_cpt_callbacks.run.log.found import LOGS
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.run.reading import LogSource, read_run
from ko_cpt_callbacks.run.rows import live_rows, read_rows
from ko_cpt_callbacks.run.trainer_state import read_state_rows

HISTORY = [{"loss": 3.0 - i / 10, "step": 10 * i, "grad_norm": float("nan")} for i in range(1, 6)]


def _state(path: Path, history: Any = HISTORY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"epoch": 1.0, "log_history": history, "max_steps": 50}, indent=2), "utf-8")
    return path


def _line(kind: str, step: int, **more: Any) -> dict[str, Any]:
    return {keys.KIND: kind, keys.ATTEMPT: 1, keys.STEP: step, **more}


def _rows(path: Path, rows: list[dict[str, Any]], tail: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows) + tail, "utf-8")
    return path


def _refused(path: Path) -> str:
    """The error's text, checked to be one line that names the path."""
    with pytest.raises(UnreadableRunError) as caught:
        read_run(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


def test_state_with_bare_nan(tmp_path: Path) -> None:
    """log_history comes as it is; JSON's bare NaN is a float."""
    rows = read_state_rows(_state(tmp_path / "trainer_state.json")).rows
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50]
    assert rows[0]["grad_norm"] != rows[0]["grad_norm"]


def test_state_with_crlf_and_bom(tmp_path: Path) -> None:
    """Windows line ends and a byte order mark do no harm."""
    path = tmp_path / "trainer_state.json"
    text = json.dumps({"log_history": [{"loss": 1.0, "step": 1}]}, indent=2).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_state_rows(path).rows) == 1


@pytest.mark.parametrize(
    ("planned", "found"),
    [(50, 50), (50.0, 50), (0, None), (-1, None), (None, None), ("50", None), (True, None), (1.5, None)],
)
def test_a_state_tells_how_long_the_run_was_to_be(tmp_path: Path, planned: Any, found: int | None) -> None:
    """``max_steps`` comes before every row, as the callback notes it when training begins; not among the rows."""
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": HISTORY, "max_steps": planned}), "utf-8")
    run = read_run(path)
    plan = [] if found is None else [SetupObservation(0, "plan", {"planned_steps": found})]
    assert (run.rows[0]["step"], run.planned_steps, list(run.plan_rows())) == (10, found, plan)
    assert list(run.observations()[: len(plan)]) == plan
    assert len(run.observations()) == len(HISTORY) + len(plan)


def test_an_empty_state_tells_nothing(tmp_path: Path) -> None:
    """A plan without a row or a step is no observation of a run; with its steps it says how far the run came."""
    path = _state(tmp_path / "trainer_state.json", [])
    assert read_run(path).observations() == ()
    path.write_text(json.dumps({"log_history": [], "max_steps": 50, "global_step": 50}), "utf-8")
    (plan,) = read_run(path).observations()
    assert isinstance(plan, SetupObservation)
    assert plan.values == {"planned_steps": 50, "global_step": 50}


def test_every_file_of_a_run_tells_the_same_plan(tmp_path: Path) -> None:
    """The state of a run that was killed, its checkpoint's, and the callback's own rows."""
    plan = {"kind": "setup", "setup": "plan", "attempt": 1, "step": 0, "planned_steps": 50}
    rows = [plan, *({"kind": "train", "attempt": 1, **row} for row in HISTORY)]
    files = [
        _state(tmp_path / "trainer_state.json"),
        _state(tmp_path / "checkpoint-50" / "trainer_state.json"),
        _rows(tmp_path / "ko_cpt" / "rows.jsonl", rows),
    ]
    seen = [repr(read_run(path).observations()) for path in files]
    assert len(set(seen)) == 1


def test_empty_history_is_readable(tmp_path: Path) -> None:
    """An empty history is a run with nothing in it; entries that are no rows are left out."""
    assert read_state_rows(_state(tmp_path / "a.json", [])).rows == []
    assert read_state_rows(_state(tmp_path / "b.json", [1, None, {"step": 1}])).rows == [{"step": 1}]


def test_metrics_file_is_one_row(tmp_path: Path) -> None:
    """all_results.json has no step and no history: one row, at step 0."""
    path = tmp_path / "all_results.json"
    path.write_text(json.dumps({"eval_loss": 0.3, "eval_runtime": 81.0, "train_loss": 1.6, "train_runtime": 9.0}))
    run = read_run(path)
    assert [type(seen).__name__ for seen in run.observations()] == ["EvalObservation", "EndObservation"]


LOST = '; expected a trainer_state.json (an object with the list "log_history")'
NAME_IT = "; name a Trainer's output_dir, checkpoint or trainer_state.json"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            ": found a Git-LFS pointer, expected the file itself; fetch it with `git lfs pull` and try again",
        ),
        ("", f": found an empty file{LOST}{NAME_IT}"),
        (" \n", f": found an empty file{LOST}{NAME_IT}"),
        (
            '{"train/loss": 1.0, "_runtime": 2}',
            f": not a Trainer's state (found: train/loss, _runtime: a tracker's summary){LOST}{NAME_IT}",
        ),
        ('{"train/train_runtime": 1.0}', f": not a Trainer's state (found: train/train_runtime){LOST}{NAME_IT}"),
        (
            '{"loghistory": [], "a": 1, "b": 2, "c": 3, "d\\n": 4}',
            ": not a Trainer's state (found: loghistory, a, b, c and 1 more; did 'loghistory' mean 'log_history'?)"
            f"{LOST}{NAME_IT}",
        ),
        ("{}", f": not a Trainer's state (found: an object without keys){LOST}{NAME_IT}"),
        ("[1]", f": found a list as the whole file{LOST}{NAME_IT}"),
        ("null", f": found null as the whole file{LOST}{NAME_IT}"),
        ('{"log_history": {"a": 1}}', f': found an object under "log_history", expected a list of rows{NAME_IT}'),
        ('{"log_history": null}', f': found null under "log_history", expected a list of rows{NAME_IT}'),
        (
            '{"log_history": [1, 2]}',
            ': found a number as the first entry of "log_history" and no row in any of its 2, expected objects'
            f"{NAME_IT}",
        ),
        (
            '{"log_history": [{"loss": 1, "step": "10"}]}',
            ': found "step" \'10\' in the first row of "log_history" and a usable step in none of its 1, expected '
            f"whole numbers from 0{NAME_IT}",
        ),
        (
            '{"log_history": [{"loss": 1}, {"step": -1}, {"step": 1.5}, {"step": true}, {"step": NaN}]}',
            ': found no "step" in the first row of "log_history" and a usable step in none of its 5, expected whole '
            f"numbers from 0{NAME_IT}",
        ),
        ("[" * 100_000, f": JSON nested too deep{LOST}; no log row could be read{NAME_IT}"),
        (
            '{"a": ' + "1" * 5000 + "}",
            f": JSON with a number of too many digits{LOST}; no log row could be read{NAME_IT}",
        ),
        ('{"a": tru}', f":1: JSON damaged (Expecting value){LOST}; no log row could be read{NAME_IT}"),
        ('{"a": 1}\n{"a": 2}\n', f":2: JSON ends here and more text follows{LOST}; no log row could be read{NAME_IT}"),
        ("<!DOCTYPE html>\n<html></html>", ": found a web page (HTML), expected the file itself; download the raw"),
    ],
    ids=lambda text: text[:24],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, expected: str) -> None:
    """One line: where, what was found, what was expected, what to do."""
    path = tmp_path / "trainer_state.json"
    path.write_text(text, "utf-8")
    assert _refused(path).startswith(expected)


@pytest.mark.parametrize("bom", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_cut_off_state_says_how_many_rows_are_whole(tmp_path: Path, bom: str) -> None:
    """A file cut off inside its fourth row has three whole ones; the command given makes a readable file of them."""
    path = tmp_path / "the state.json"
    history = [{**row, "note": "한글"} for row in HISTORY]
    text = json.dumps({"epoch": 1.0, "log_history": history}, indent=2, ensure_ascii=False)
    path.write_text(bom + text[: text.index('"step": 40')], "utf-8")
    said = _refused(path)
    assert said.startswith(f":24: JSON cut off{LOST}; its first 3 log rows are whole (up to step 30): (head -c ")
    command = said.partition("(up to step 30): ")[2].removesuffix("; ko-cpt check whole.json")
    subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
    assert [row["step"] for row in read_state_rows(tmp_path / "whole.json").rows] == [10, 20, 30]


@pytest.mark.parametrize("end", ['"lo', "2", "2.", "-", "1e", "tru", "N", "", "[", ": "])
def test_cut_off_anywhere(tmp_path: Path, end: str) -> None:
    """Half a string, number, word or nothing at the end: cut off, not damaged."""
    path = tmp_path / "trainer_state.json"
    path.write_text(f'{{"log_history": [{{"step": {end}'.replace(": : ", ": "))
    assert _refused(path).startswith(":1: JSON cut off;")


def test_rows_that_no_bracket_can_save(tmp_path: Path) -> None:
    """Where the list lies deeper, the count is told without a command."""
    path = tmp_path / "trainer_state.json"
    path.write_text('{"a": {"log_history": [{"step": 1}, {"st', "utf-8")
    assert _refused(path) == f":1: JSON cut off{LOST}; its first 1 log row is whole (up to step 1)"


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.json", b"{\x00}", ": found a binary file, expected JSON"),
        ("a.json", b"\x00" * 9000, ": found zero bytes only (a crash or a full disk leaves that), expected JSON"),
        ("a.json", b'{"a": "\xb0\xa1"}', ": not UTF-8 text (byte 7 is 0xb0); expected JSON, which is UTF-8"),
        ("a.json", '{"log_history": []}'.encode("utf-16"), ": found UTF-16 text, expected UTF-8; save the file anew"),
        ("a.json.gz", b"\x1f\x8b\x08\x00", ": found a gzip-compressed file, expected text; unpack it first"),
        ("training_args.bin", b"PK\x03\x04", ": found weights or pickled arguments, which are never opened"),
        ("model.safetensors", b"\x08{}", ": found weights or pickled arguments, which are never opened"),
        ("findings.jsonl", b'{"code": "non-finite"}\n', ":1: not a row of rows.jsonl (found: code); expected lines"),
        ("rows.jsonl", b"\x80\x02\n{}\n", ": not UTF-8 text (byte 0 is 0x80); expected JSON"),
    ],
)  # fmt: skip
def test_other_kinds_of_file(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    """What a file is instead is said before anything larger of it is read."""
    path = tmp_path / name
    path.write_bytes(data)
    assert _refused(path).startswith(expected)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A pickle that would write a file when loaded is refused, and the file is not there."""
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (trap,)

    for name in ("training_args.bin", "trainer_state.json", "rows.jsonl"):
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        assert _refused(tmp_path / name)
    assert not trap.exists()


def test_the_state_beside_is_named(tmp_path: Path) -> None:
    """A wrong file with a trainer_state.json in its folder: that one was probably meant."""
    state = _state(tmp_path / "trainer_state.json")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert _refused(tmp_path / "config.json") == (
        f": not a Trainer's state (found: model_type: a model's config.json){LOST}; did you mean {state}?"
    )


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    """A missing path, with the name that was probably meant; a device; a name too long; a loop of links."""
    _state(tmp_path / "trainer_state.json")
    assert _refused(tmp_path / "trainer_sate.json") == (
        f": no such file or folder; did you mean {tmp_path / 'trainer_state.json'}?"
    )
    assert _refused(tmp_path / "x") == ": no such file or folder; expected a run; check the path"
    assert _refused(tmp_path / "x" / "y").startswith(": no such file or folder; ")
    assert _refused(Path("/dev/null")).startswith(": found a device or socket, expected a file; name a Trainer's")
    assert _refused(tmp_path / ("a" * 300)).startswith(": cannot be opened (File name too long); check the path")
    (tmp_path / "loop").symlink_to("loop")
    assert _refused(tmp_path / "loop").startswith(": ")
    assert issubclass(UnreadableRunError, KoCPTError)


def test_a_link_to_nothing(tmp_path: Path) -> None:
    """A link whose end is gone is called so; the name itself is not what was probably meant."""
    (tmp_path / "run").symlink_to(tmp_path / "gone")
    with pytest.raises(UnreadableRunError, match=r"no such file or folder; it is a link to nothing"):
        read_run(tmp_path / "run")


def test_no_permission(tmp_path: Path) -> None:
    """A file and a folder that this user may not read."""
    path = _state(tmp_path / "closed" / "trainer_state.json")
    with unprivileged(path, path.parent):
        assert _refused(path.parent).startswith(": permission denied; expected a file this user may read; chmod it")
        assert _refused(path).startswith(": permission denied")


def test_rows_file(tmp_path: Path) -> None:
    """All lines in order, blank ones skipped, a line separator inside a string is no line end."""
    path = _rows(tmp_path / "rows.jsonl", [_line("train", 10, loss=1.0), _line("setup", 0, note="a\u2028b")], "\n")
    assert [row[keys.STEP] for row in read_rows(path)] == [10, 0]
    (tmp_path / "empty.jsonl").write_text("")
    assert read_rows(tmp_path / "empty.jsonl") == []


@pytest.mark.parametrize("tail", ['{"kind": "train", "st', "{", "\x00\x00"])
def test_last_line_cut_off(tmp_path: Path, tail: str) -> None:
    """A last line without its end is left out."""
    path = _rows(tmp_path / "rows.jsonl", [_line("train", 10, loss=1.0)], tail)
    assert len(read_rows(path)) == 1


def test_damaged_line_within(tmp_path: Path) -> None:
    """A damaged line before the last is an error that names file and line."""
    path = _rows(tmp_path / "rows.jsonl", [_line("train", 10, loss=1.0)], '{"kind"\n{"kind": "train"}\n')
    assert _refused(path) == (
        ":2: not a JSON object: '{\"kind\"'; expected one row a line (1 before it whole); remove the line "
        "to judge the run without it"
    )


def test_live_rows() -> None:
    """Superseded rows do not count; lone evaluations count only where nothing was trained."""
    lone = _line("eval", 0, **{keys.MODE: keys.MODE_EVALUATE})
    gone = _line("train", 20, **{keys.SUPERSEDED: True})
    train = _line("train", 10)
    assert live_rows([lone, gone]) == [lone]
    assert live_rows([lone, gone, train]) == [train]


def test_a_folder_prefers_our_rows(tmp_path: Path) -> None:
    """rows.jsonl, then the folder's state, then that of the latest checkpoint by number."""
    _state(tmp_path / "checkpoint-9" / "trainer_state.json")
    latest = _state(tmp_path / "checkpoint-10" / "trainer_state.json")
    (tmp_path / "checkpoint-11").mkdir()
    assert read_run(tmp_path).path == latest
    own = _state(tmp_path / "trainer_state.json")
    assert read_run(tmp_path).path == own
    rows = _rows(tmp_path / keys.FOLDER / keys.ROWS_FILE, [_line("train", 10, loss=1.0)])
    run = read_run(tmp_path)
    assert (run.path, run.source, len(run.rows)) == (rows, LogSource.ROWS, 1)
    assert read_run(tmp_path / keys.FOLDER).path == rows
    assert read_run(tmp_path / "checkpoint-10").source is LogSource.TRAINER_STATE


def test_folders_without_a_run(tmp_path: Path) -> None:
    """No run: what is there and what to name. One run inside: that was meant. Several and no plan: their names."""
    expected = f"expected ko_cpt/rows.jsonl, trainer_state.json, a checkpoint-N with one, or {LOGS}"
    assert _refused(tmp_path) == f": found an empty folder, {expected}; name the output_dir of a Trainer"
    (tmp_path / "a.txt").write_text("")
    assert _refused(tmp_path) == f": found a.txt, {expected}; name the output_dir of a Trainer"
    (tmp_path / "all_results.json").write_text("{}")
    assert _refused(tmp_path).endswith(f"; did you mean {tmp_path / 'all_results.json'}?")
    _state(tmp_path / "b" / "trainer_state.json")
    assert _refused(tmp_path) == f": no run, but a folder with one; did you mean {tmp_path / 'b'}?"
    _state(tmp_path / "a" / "checkpoint-5" / "trainer_state.json")
    assert _refused(tmp_path) == (
        ": found 2 runs (a, b) and no plan that joins them, expected one run; name one of them"
    )


def test_run_file(tmp_path: Path) -> None:
    """run.json stands beside the rows, in the folder of the state, or in that of the checkpoint's run."""
    rows = _rows(tmp_path / keys.FOLDER / keys.ROWS_FILE, [_line("train", 10, loss=1.0)])
    state = _state(tmp_path / "trainer_state.json")
    later = _state(tmp_path / "checkpoint-10" / "trainer_state.json")
    assert read_run(rows).run_file() is None
    told = tmp_path / keys.FOLDER / keys.RUN_FILE
    told.write_text("{}")
    assert [read_run(path).run_file() for path in (tmp_path, rows, state, later)] == [told] * 4
    assert read_run(_state(tmp_path / "other" / "trainer_state.json")).run_file() is None
