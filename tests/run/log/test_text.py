"""Tables: what W&B exports, other delimiters, what is no table. Printed dicts, and whence their steps are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.row import LogNote
from ko_cpt_callbacks.run.log.text import printed_log
from ko_cpt_callbacks.run.reading import Run, read_run

COUNTED, FROM_EPOCHS = LogNote("log-counted"), LogNote("log-epochs")


def _read(path: Path, text: str) -> Run:
    path.write_text(text, "utf-8")
    return read_run(path)


def test_a_history_of_wandb(tmp_path: Path) -> None:
    """The optimizer step stands beside W&B's own counter; empty cells are no values."""
    text = "_step,train/global_step,train/loss,eval/ko_loss,eval/ko_runtime\n0,10,2.5,,\n1,10,,2.25,0.5\n2,20,NaN,,\n"
    run = _read(tmp_path / "history.csv", text)
    assert repr(list(run.rows)) == repr(
        [
            {"loss": 2.5, "step": 10},
            {"eval_ko_loss": 2.25, "eval_ko_runtime": 0.5, "step": 10},
            {"loss": float("nan"), "step": 20},
        ]
    )
    assert len(run.notes) == 1


def test_a_call_that_no_optimizer_step_stands_beside(tmp_path: Path) -> None:
    """What somebody logged without the Trainer's step, beside rows that have it, is not put at the count of calls."""
    text = "_step,train/global_step,train/loss,eval/loss\n0,10,2.5,\n1,,,9.0\n2,20,2.25,\n"
    run = _read(tmp_path / "history.csv", text)
    assert list(run.rows) == [{"loss": 2.5, "step": 10}, {"loss": 2.25, "step": 20}]


@pytest.mark.parametrize("order", [("loss", "train/loss"), ("train/loss", "loss")])
def test_the_trackers_own_loss_counts(tmp_path: Path, order: tuple[str, str]) -> None:
    """Of a loss that somebody logged beside the Trainer's, the Trainer's is read, whichever column is first."""
    cells = {"loss": "9", "train/loss": "2.5"}
    text = f"train/global_step,{','.join(order)}\n10,{','.join(cells[name] for name in order)}\n"
    assert list(_read(tmp_path / "history.csv", text).rows) == [{"loss": 2.5, "step": 10}]


def test_an_export_of_a_chart(tmp_path: Path) -> None:
    """A column a run, with the least and greatest beside it; its Step is none of the optimizer, which is said."""
    text = (
        '"Step","a - train/loss","a - train/loss__MIN","a - train/loss__MAX","b - train/loss","b - train/loss__MIN"\n'
        '"0","2.5","2.4","2.6","3.5","3"\n"1","2.25","2.25","2.25","",""\n'
    )
    run = _read(tmp_path / "chart.csv", text)
    assert list(run.rows) == [{"loss": 2.5, "step": 0}, {"loss": 2.25, "step": 1}]
    assert run.notes[0] == LogNote("log-calls")
    assert run.notes[1] == LogNote("log-one-of-runs", {"run": "a", "runs": 2})


@pytest.mark.parametrize("delimiter", ";\t")
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    """Semicolons and tabs."""
    run = _read(tmp_path / "log.csv", f"step{delimiter}loss\n1{delimiter}2.5\n")
    assert list(run.rows) == [{"loss": 2.5, "step": 1}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1: found an empty line; expected a table with a column step"),
        ("a,b\n1,2\n", ":1: found 'a', 'b'; expected a table with a column step"),
        ("step,loss\n1,2,3\n", ":2: found 3 cells, expected 2 as in the first line;"),
        ("step,loss,loss\n1,2,3\n", ":1: found the column 'loss' twice;"),
        ("step,loss\nx,y\n", ": found no row with a step and a number;"),
        ('step,loss\n1,"2\n', ": no table (unexpected end of data);"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, expected: str) -> None:
    """Where, what was found, what was expected."""
    path = tmp_path / "log.csv"
    with pytest.raises(UnreadableRunError) as caught:
        _read(path, text)
    assert str(caught.value).removeprefix(str(path)).startswith(expected)


def test_what_a_resume_trained_again_counts(tmp_path: Path) -> None:
    """Steps that were lost and trained again are those of the second time, and an evaluation of the lost ones goes."""
    text = "step,loss,eval_loss\n1,9,\n2,8,\n3,7,\n3,,6\n2,5,\n3,4,\n"
    run = _read(tmp_path / "log.csv", text)
    assert list(run.rows) == [{"loss": 9, "step": 1}, {"loss": 5, "step": 2}, {"loss": 4, "step": 3}]
    assert run.notes[-1] == LogNote("log-resumed", {"rows": 3})


def _bar(step: int, total: int = 40) -> str:
    return f"\r {step:2}%|##   | {step}/{total} [00:01<00:10,  3.1it/s]"


def _steps(text: str) -> tuple[list[int], tuple[LogNote, ...]]:
    log = printed_log(text)
    assert log is not None
    return [row["step"] for row in log.rows], log.notes


def test_the_bar_below_a_row_knows_its_step() -> None:
    """It is drawn anew after each dict; bars of evaluations and of data with another total are none of it."""
    text = (
        f"Map: 100%|##| 7/7 [00:00]\n{_bar(0)}{_bar(9)}{{'loss': 2.5, 'epoch': 0.5}}{_bar(10)}{_bar(1, 3)}"
        f"{{'eval_loss': 2.25, 'eval_runtime': 1.0, 'epoch': 0.5}}{_bar(10)}{{'loss': '2.0', 'epoch': 1.0}}{_bar(20)}"
    )
    steps, notes = _steps(text)
    assert steps == [10, 10, 20]
    assert len(notes) == 1


def test_where_the_output_was_buffered_the_epochs_say_it() -> None:
    """All dicts come after all bars: of a finished run the share of its epochs is the share of its steps."""
    rows = "".join(f"{{'loss': 2.5, 'epoch': {epoch}}}\n" for epoch in (0.25, 0.5, 0.75, 1.0))
    steps, notes = _steps(f"{_bar(0)}{_bar(40)}\n{rows}{{'train_runtime': 9.0, 'epoch': 1.0}}\n")
    assert steps == [10, 20, 30, 40, 40]
    assert notes[0] == FROM_EPOCHS


def test_without_a_bar_rows_are_counted() -> None:
    """And that is said."""
    steps, notes = _steps("{'loss': 2.5}\nmore\n{'loss': 2.25}\n{'eval_loss': 2.0, 'eval_runtime': 1}\n")
    assert steps == [1, 2, 2]
    assert notes[0] == COUNTED


def test_rows_that_say_their_step() -> None:
    """A step in the dict goes before any bar; NaN and infinities are numbers, as are texts of numbers."""
    log = printed_log(
        "[rank0]: {\"loss\": nan, 'step': 3, 'grad_norm': -inf}\n{'loss': '1.68e+04', 'step': 7, 'note': 'x'}"
    )
    assert log is not None
    assert repr(log.rows[0]) == "{'loss': nan, 'step': 3, 'grad_norm': -inf}"
    assert log.rows[1] == {"loss": 16800.0, "step": 7, "note": "x"}


def test_of_two_trainings_the_last_is_read() -> None:
    """Glued together they would be judged as one; it is said that there are more."""
    one = "{'loss': 2.5, 'step': 1}\n{'train_runtime': 1.0, 'step': 1}\n"
    log = printed_log(one + one.replace("2.5", "3.5"))
    assert log is not None
    assert [row.get("loss") for row in log.rows] == [3.5, None]
    assert log.notes[0] == LogNote("log-several-trainings")


@pytest.mark.parametrize("text", ["", "{'a': 1}", "{'loss': open('x')}", "{'loss': 1, **x}", "{" * 100_000])
def test_text_without_a_row(tmp_path: Path, text: str) -> None:
    """Code is no dict and is not run; one line says what was looked for."""
    assert printed_log(text) is None
    path = tmp_path / "train.log"
    path.write_text(text, "utf-8")
    with pytest.raises(UnreadableRunError, match=r"found no line like \{'loss': 2.5"):
        read_run(path)


@pytest.mark.parametrize("steps", ["'10', '20'", "10.0, 20.0"])
def test_a_step_that_was_printed_is_the_step(steps: str) -> None:
    """Also as a text or with a point; only where none is printed are rows counted."""
    first, second = steps.split(", ")
    log = printed_log(f"{{'loss': '2.5', 'step': {first}}}\n{{'loss': '2.4', 'step': {second}}}\n")
    assert log is not None
    assert [row["step"] for row in log.rows] == [10, 20]
    assert "log-counted" not in {note.name for note in log.notes}


def test_a_step_beyond_any_count() -> None:
    """It is none: the rows are counted."""
    log = printed_log("{'loss': 2.5, 'step': 1" + 400 * "0" + "}\n{'loss': 2.4}\n")
    assert log is not None and ([row["step"] for row in log.rows], log.notes[0]) == ([1, 2], COUNTED)
