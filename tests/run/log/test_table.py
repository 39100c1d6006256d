"""Tables: what W&B exports, other delimiters, and what is no table."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.row import LogNote
from ko_cpt_callbacks.run.reading import Run, read_run


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
