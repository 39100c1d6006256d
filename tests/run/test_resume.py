"""What of an earlier record still holds when an attempt begins."""

from __future__ import annotations

from typing import Any

import pytest

from ko_cpt_callbacks.run.resume import last_attempt, plan_attempt
from ko_cpt_callbacks.run.rows import line_of


def _line(step: int, kind: str = "train", attempt: int = 1, **more: Any) -> dict[str, Any]:
    split = {"split": "eval"} if kind == "eval" else {}
    return {"kind": kind, "attempt": attempt, "step": step, **split, **more}


def _superseded(lines: Any) -> list[Any]:
    return [line["step"] for line in lines if line.get("superseded")]


def test_line_of_each_kind_of_row() -> None:
    """A training, an evaluation and the last row become one line each, with kind, attempt, step and the row."""
    row = {"loss": 2.0, "step": 10, "epoch": 0.5}
    assert line_of(row, 3) == [{"kind": "train", "attempt": 3, **row}]
    row = {"eval_ko_loss": 2.0, "eval_ko_runtime": 1.0, "step": 10}
    assert line_of(row, 3) == [{"kind": "eval", "attempt": 3, "split": "eval_ko", **row}]
    row = {"train_runtime": 5.0, "train_loss": 2.0, "step": 10}
    assert line_of(row, 3) == [{"kind": "end", "attempt": 3, **row}]
    assert line_of({"num_tokens": 5, "step": 10}, 3) == []


def test_a_row_with_several_parts() -> None:
    """A training row that holds an evaluation too: a line each, the numbers once."""
    row = {"loss": 2.0, "eval_loss": 3.0, "eval_runtime": 1.0, "step": 10}
    first, second = line_of(row, 1)
    assert first == {"kind": "train", "attempt": 1, **row}
    assert second == {"kind": "eval", "attempt": 1, "step": 10, "split": "eval"}


def test_last_attempt() -> None:
    """The highest number, 0 for nothing."""
    assert last_attempt([]) == 0
    assert last_attempt([_line(1, attempt=2), _line(1, attempt=1), {"step": 1}]) == 2


def test_fresh_folder() -> None:
    """Nothing earlier, nothing restored."""
    assert plan_attempt([], [], 0, None).lines == ()


def test_fresh_start_supersedes_everything() -> None:
    """Training from step 0: all earlier lines are superseded, kept in their order, and the input is untouched."""
    earlier = [_line(1), _line(1, "eval"), _line(2), _line(2, "end")]
    plan = plan_attempt(earlier, [], 0, None)
    assert _superseded(plan.lines) == [1, 1, 2, 2]
    assert plan.live == ()
    assert not any("superseded" in line for line in earlier)


def test_resume_keeps_what_was_before() -> None:
    """Lines up to the checkpoint's step hold; those beyond it, and the row that ended the attempt, do not."""
    earlier = [_line(1), _line(2), _line(2, "eval"), _line(2, "checkpoint"), _line(3), _line(3, "end")]
    plan = plan_attempt(earlier, [], 2, None)
    assert _superseded(plan.lines) == [3, 3]
    assert [line["kind"] for line in plan.live] == ["train", "train", "eval", "checkpoint"]


def test_resume_after_the_end() -> None:
    """Training on from the last step of a finished run: its end is no end any more."""
    plan = plan_attempt([_line(1), _line(2), _line(2, "end")], [], 2, None)
    assert [line["kind"] for line in plan.live] == ["train", "train"]


def test_superseded_once_superseded_for_ever() -> None:
    """A line an earlier resume gave up does not come back when a later one resumes beyond it."""
    earlier = [_line(1), _line(2, superseded=True), _line(2, attempt=2)]
    plan = plan_attempt(earlier, [], 2, None)
    assert [line["attempt"] for line in plan.live] == [1, 2]


def test_lone_evaluations_are_not_resumed() -> None:
    """Evaluations made in the folder without training are no part of a training that begins or resumes there."""
    earlier = [_line(1), _line(0, "eval", 2, mode="evaluate")]
    assert _superseded(plan_attempt(earlier, [], 1, None).lines) == [0]
    assert _superseded(plan_attempt(earlier, [], 1, 2).lines) == [0]


def test_own_evaluations_start_a_fresh_run() -> None:
    """What this process evaluated before training from step 0 is that run's start, no longer apart."""
    plan = plan_attempt([_line(0, "eval", 2, mode="evaluate")], [], 0, 2)
    assert plan.live == (_line(0, "eval", 2),)


def test_rows_of_the_checkpoint_alone() -> None:
    """Rows the record lacks come from the checkpoint, in order of steps, training before evaluation."""
    history = [
        {"loss": 3.0, "step": 1},
        {"loss": 2.0, "step": 2},
        {"eval_loss": 2.0, "eval_runtime": 1.0, "step": 2},
        {"loss": 1.0, "step": 3},
    ]
    plan = plan_attempt([_line(1, loss=3.0), _line(4)], history, 2, None)
    assert [(line["kind"], line["step"], line["attempt"]) for line in plan.live] == [
        ("train", 1, 1),
        ("train", 2, 0),
        ("eval", 2, 0),
    ]
    assert _superseded(plan.lines) == [4]


def test_the_record_wins_over_the_checkpoint() -> None:
    """A row both know is taken from the record, which has more in it."""
    plan = plan_attempt([_line(1, loss=3.0, tokens_seen=5)], [{"loss": 3.0, "step": 1}], 1, None)
    assert plan.live == (_line(1, loss=3.0, tokens_seen=5),)


@pytest.mark.parametrize("step", [None, "3", 2.5])
def test_lines_without_a_step_do_not_hold(step: Any) -> None:
    """A line that names no whole step is superseded, not trusted."""
    plan = plan_attempt([{"kind": "train", "attempt": 1, "step": step}], [], 5, None)
    assert plan.live == ()


def _history(*steps: int, loss: float = 3.0, **more: Any) -> list[dict[str, Any]]:
    return [{"loss": loss - 0.1 * step, "step": step, **more} for step in steps]


def _line_of(row: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "train", "attempt": 1, **row}


def test_the_runs_own_record_is_not_foreign() -> None:
    """Equal numbers, numbers rounded to float32, NaN as text and as float, more rows on either side: one run."""
    own = [_line_of(row) for row in _history(1, 2, 3, learning_rate=0.1)]
    nan = [_line_of({"loss": "NaN", "step": 2})]
    for earlier, history in (
        (own, _history(1, 2, learning_rate=0.1)),
        (own, _history(1, 2, loss=3.0000001)),
        (own, _history(2)),
        (own[:1], _history(1, 2)),
        (own, []),
        ([], _history(1, 2)),
        ([_line(0, "setup")], _history(1, 2)),
        (nan, [{"loss": float("nan"), "step": 2}]),
        (nan, [{"loss": "NaN", "step": 2}]),
    ):
        plan = plan_attempt(earlier, history, 3, None)
        assert plan.foreign is None
        assert _superseded(plan.lines) == []


@pytest.mark.parametrize(
    ("change", "first"),
    [
        ({"loss": 3.5}, 1),
        ({"learning_rate": 0.2}, 1),
        ({"grad_norm": 2.0}, 1),
    ],
)
def test_another_runs_record_does_not_count(change: dict[str, Any], first: int) -> None:
    """Where no row has the checkpoint's numbers, all of the record is superseded, set-up rows too; the checkpoint's
    rows stand in its place, and the first step is told."""
    given = {"learning_rate": 0.1, "grad_norm": 1.0}
    earlier = [_line(0, "setup"), *(_line_of(row) for row in _history(1, 2, 3, **given))]
    plan = plan_attempt(earlier, _history(1, 2, **{**given, **change}), 2, None)
    assert plan.foreign == {"rows": 3, "first_step": first}
    assert _superseded(plan.lines) == [0, 1, 2, 3]
    assert [(line["step"], line["attempt"]) for line in plan.live] == [(1, 0), (2, 0)]
    again = plan_attempt(plan.lines, _history(1, 2, **{**given, **change}), 2, None)
    assert again.foreign is None and again.live == plan.live


def test_a_record_that_parts_from_the_checkpoint() -> None:
    """Two runs that were one up to a step: what they share stands, what follows is superseded."""
    earlier = [_line(0, "setup"), *(_line_of(row) for row in [*_history(1, 2), *_history(3, 4, loss=9.0)])]
    plan = plan_attempt(earlier, _history(1, 2, 3, 4), 4, None)
    assert plan.foreign == {"rows": 2, "first_step": 3}
    assert [(line["step"], line["attempt"]) for line in plan.live] == [(0, 1), (1, 1), (2, 1), (3, 0), (4, 0)]


def test_no_step_in_common() -> None:
    """Both have training rows and none at the same step: two runs. An evaluation alone says nothing."""
    plan = plan_attempt([_line_of(row) for row in _history(5, 10)], _history(4, 8), 12, None)
    assert plan.foreign == {"rows": 2, "first_step": None}
    assert [line["step"] for line in plan.live] == [4, 8]
    evaluated = [_line(5, "eval", eval_loss=3.0)]
    assert plan_attempt(evaluated, _history(4, 8), 12, None).foreign is None


def test_numbers_beyond_every_float() -> None:
    """A damaged record does not break the plan."""
    plan = plan_attempt([_line_of({"loss": 10**400, "step": 1})], _history(1), 1, None)
    assert plan.foreign == {"rows": 1, "first_step": 1}
    assert plan_attempt([_line_of({"loss": [], "step": 1})], _history(1), 1, None).foreign is not None
