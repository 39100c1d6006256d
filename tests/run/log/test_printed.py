"""Output of a training: dicts among other lines, and from where the steps are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.printed import printed_log
from ko_cpt_callbacks.run.log.row import LogNote
from ko_cpt_callbacks.run.reading import read_run

COUNTED, FROM_EPOCHS = LogNote("log-counted"), LogNote("log-epochs")


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
