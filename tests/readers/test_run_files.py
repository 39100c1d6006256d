"""Files and folders to rows: what can be read, and one clear line for what cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import KoCPTError, UnreadableRunError
from ko_cpt_callbacks.readers.rows_file import live_rows, read_rows
from ko_cpt_callbacks.readers.run_folder import Source, read_run
from ko_cpt_callbacks.readers.trainer_state import read_trainer_state

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
    rows = read_trainer_state(_state(tmp_path / "trainer_state.json"))
    assert [row["step"] for row in rows] == [10, 20, 30, 40, 50]
    assert rows[0]["grad_norm"] != rows[0]["grad_norm"]


def test_state_with_crlf_and_bom(tmp_path: Path) -> None:
    """Windows line ends and a byte order mark do no harm."""
    path = tmp_path / "trainer_state.json"
    text = json.dumps({"log_history": [{"loss": 1.0, "step": 1}]}, indent=2).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(read_trainer_state(path)) == 1


def test_empty_history_is_readable(tmp_path: Path) -> None:
    """An empty history is a run with nothing in it; entries that are no rows are left out."""
    assert read_trainer_state(_state(tmp_path / "a.json", [])) == []
    assert read_trainer_state(_state(tmp_path / "b.json", [1, None, {"step": 1}])) == [{"step": 1}]


def test_metrics_file_is_one_row(tmp_path: Path) -> None:
    """all_results.json has no step and no history: one row, at step 0."""
    path = tmp_path / "all_results.json"
    path.write_text(json.dumps({"eval_loss": 0.3, "eval_runtime": 81.0, "train_loss": 1.6, "train_runtime": 9.0}))
    run = read_run(path)
    assert [type(seen).__name__ for seen in run.observations()] == ["EvalObservation", "EndObservation"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
            ": a Git-LFS pointer, not the file itself; fetch it with `git lfs pull` and try again",
        ),
        (
            "",
            ": JSON cut off or damaged (line 1); no log row could be read; expected a ",
        ),
        (
            '{"train/loss": 1.0, "_runtime": 2}',
            ": not a Trainer's state (found: train/loss, _runtime); expected a ",
        ),
        ('{"train/train_runtime": 1.0}', ": not a Trainer's state (found: train/train_runtime); expected a "),
        ("{}", ": not a Trainer's state (found: nothing); expected a trainer_state.json"),
        ("[1]", ": holds a JSON list; expected a trainer_state.json"),
        ('{"log_history": {"a": 1}}', ': "log_history" is a JSON dict, a list of rows was expected'),
        ("[" * 100_000, ": JSON cut off or damaged (too deep or too large); no log row could be read;"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, expected: str) -> None:
    """One line: where, what was found, what was expected."""
    path = tmp_path / "trainer_state.json"
    path.write_text(text, "utf-8")
    assert _refused(path).startswith(expected)


def test_cut_off_state_says_how_many_rows_are_whole(tmp_path: Path) -> None:
    """A file cut off inside its fourth row has three whole ones."""
    path = _state(tmp_path / "trainer_state.json")
    text = path.read_text("utf-8")
    fourth = text.index('"step": 40')
    path.write_text(text[:fourth], "utf-8")
    assert "; its first 3 log rows could still be read; expected" in _refused(path)


def test_other_bad_files(tmp_path: Path) -> None:
    """Binary files and missing paths; all errors share one base."""
    path = tmp_path / "trainer_state.json"
    path.write_bytes(b"\x80\x02\xff")
    assert _refused(path).startswith(": not UTF-8 text (byte 0); expected a trainer_state.json")
    assert _refused(tmp_path / "nothing") == ": no such file or folder"
    assert issubclass(UnreadableRunError, KoCPTError)


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
    assert _refused(path).startswith(":2: not a JSON object: '{\"kind\"'; expected one row a line.")


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
    assert (run.path, run.source, len(run.rows)) == (rows, Source.ROWS, 1)
    assert read_run(tmp_path / keys.FOLDER).path == rows
    assert read_run(tmp_path / "checkpoint-10").source is Source.TRAINER_STATE


def test_folders_without_a_run(tmp_path: Path) -> None:
    """No run: what to name. Several runs inside: their names."""
    assert "name the output_dir of a Trainer" in _refused(tmp_path)
    _state(tmp_path / "b" / "trainer_state.json")
    _state(tmp_path / "a" / "checkpoint-5" / "trainer_state.json")
    assert _refused(tmp_path) == ": several folders of runs (a, b); name one of them"
