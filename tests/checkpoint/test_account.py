"""The checkpoints of a run folder: evaluated, lost, recommended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoint.made_checkpoints import checkpoint, made_run

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.checkpoint.account import Account, account_of
from ko_cpt_callbacks.checkpoint.choice import Basis
from ko_cpt_callbacks.checkpoint.page import keep_line
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.reading import read_run


def _account(folder: Path) -> Account:
    return account_of(read_run(folder))


def _oddities(account: Account) -> dict[int, str]:
    return {one.step: one.oddity for one in account.checkpoints if one.oddity}


def test_what_was_saved_is_there_or_lost(tmp_path: Path) -> None:
    """The newest equal one on disk is recommended; those that save_total_limit deleted are named."""
    account = _account(made_run(tmp_path))
    assert [one.step for one in account.lost] == [10, 20, 30]
    assert [one.step for one in account.equal] == [30, 40, 50]
    assert account.recommended is not None and account.recommended.step == 50
    assert account.choice is not None and account.choice.basis is Basis.ROWS
    line = keep_line(account, "en")
    assert line == (
        "Checkpoints: keep checkpoint-50, the newest on disk of 3 indistinguishable from the best; "
        "lost: checkpoint-10, checkpoint-20, checkpoint-30, of them as good as the best: checkpoint-30"
    )
    json.dumps(account.as_dict(), allow_nan=False)


def test_a_row_of_a_checkpoint_without_a_step_is_none(tmp_path: Path) -> None:
    """A damaged record's step may be anything that JSON has."""
    made_run(tmp_path)
    with (tmp_path / "ko_cpt" / "rows.jsonl").open("a", encoding="utf-8") as rows:
        rows.write(json.dumps({keys.KIND: keys.KIND_CHECKPOINT, keys.STEP: {"step": 1}}) + "\n")
    assert [one.step for one in _account(tmp_path).lost] == [10, 20, 30]


def test_many_lost_ones_are_counted(tmp_path: Path) -> None:
    """A long run's line names the first and the last of them, and how many."""
    losses = {10 * at: 3.0 + 1.0 / at for at in range(1, 31)}
    account = _account(made_run(tmp_path, losses, on_disk=(290, 300)))
    assert "lost: checkpoint-10 … checkpoint-280 (28)" in keep_line(account, "en")


def test_a_lost_best_is_said(tmp_path: Path) -> None:
    """Where all equal ones are lost, the lowest on disk is kept, and by how much the lost one was lower is said."""
    account = _account(made_run(tmp_path, {10: 3.0, 20: 3.2, 30: 3.3, 40: 3.4, 50: 3.5}))
    assert account.recommended is not None and account.recommended.step == 40
    assert keep_line(account, "en") == (
        "Checkpoints: keep checkpoint-40, the lowest on disk; "
        "lost: checkpoint-10, checkpoint-20, checkpoint-30, the best (checkpoint-10) among them, 0.400 lower"
    )


def test_only_the_trainers_loss(tmp_path: Path) -> None:
    """The basis is the curve's noise, and the metric says whose loss it is."""
    losses = {10 * at: 3.0 + 2.0 / at for at in range(1, 13)}
    account = _account(made_run(tmp_path, losses, on_disk=(110, 120), exact=False))
    assert (account.metric, account.choice and account.choice.basis) == (keys.LOSS, Basis.JITTER)
    assert "compared by the noise of successive differences" in keep_line(account, "en")


def test_sums_of_another_evaluation_are_not_used(tmp_path: Path) -> None:
    """A file whose sums contradict the row takes no part."""
    made_run(tmp_path)
    folder = tmp_path / "ko_cpt" / "eval_rows"
    (folder / "eval-30.npz").write_bytes((folder / "eval-10.npz").read_bytes())
    account = _account(tmp_path)
    assert account.choice is not None and account.choice.basis is Basis.PART


def test_other_rows_are_not_compared(tmp_path: Path) -> None:
    """What was evaluated on other rows than now has no gap, and is not recommended."""
    account = _account(made_run(tmp_path, {10: 2.0, 20: 2.0, 30: 3.0, 40: 3.0}, on_disk=(20, 40), other_text=(10, 20)))
    assert _oddities(account) == {10: "other-rows", 20: "other-rows"}
    assert account.recommended is not None and account.recommended.step == 40


def test_a_checkpoint_that_the_record_does_not_know(tmp_path: Path) -> None:
    """Its own state decides: with the run's evaluation it counts, with another one or none it does not."""
    made_run(tmp_path, on_disk=(40,))
    rows = tmp_path / "ko_cpt" / "rows.jsonl"
    kept = [line for line in rows.read_text().splitlines(True) if '"checkpoint"' not in line]
    rows.write_text("".join(kept))
    checkpoint(tmp_path, 20, rows=[{"step": 20, "eval_loss": 9.0, "eval_exact_loss": 9.0, "eval_runtime": 1}])
    checkpoint(tmp_path, 30)
    checkpoint(tmp_path, 35)
    account = _account(tmp_path)
    assert _oddities(account) == {20: "other-run", 30: "unevaluated", 35: "unevaluated"}
    assert account.recommended is not None and account.recommended.step == 40
    assert not account.ended


def test_an_evaluation_of_the_loaded_best_is_none_of_the_last_step(tmp_path: Path) -> None:
    """After training with load_best_model_at_end an evaluation at the last step is of another checkpoint."""
    made_run(tmp_path, {10: 3.0, 20: 3.2, 30: 3.4})
    rows = tmp_path / "ko_cpt" / "rows.jsonl"
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    again = {**next(one for one in lines if one["kind"] == "eval" and one["step"] == 10), "step": 30}
    plan = {"kind": "setup", "attempt": 1, "step": 0, "setup": "plan", "load_best_model_at_end": True}
    rows.write_text("".join(json.dumps(line) + "\n" for line in [plan, *lines, again]))
    account = _account(tmp_path)
    assert [one.loss for one in account.checkpoints if one.step == 30] == [pytest.approx(3.4)]


def test_a_set_that_was_never_evaluated_is_refused(tmp_path: Path) -> None:
    """The error names the sets there are."""
    with pytest.raises(ConfigurationError, match="found 'eval_ko', expected one of eval"):
        account_of(read_run(made_run(tmp_path)), split="eval_ko")


def test_nothing_evaluated_and_nothing_saved(tmp_path: Path) -> None:
    """A run without evaluations recommends nothing; one without checkpoints has no line."""
    run = tmp_path / "a"
    checkpoint(run, 10, rows=[{"step": 10, "loss": 3.0}])
    account = _account(run)
    assert (account.recommended, _oddities(account)) == (None, {10: "unevaluated"})
    assert keep_line(account, "en") == "Checkpoints: none on disk has an evaluation to judge it by"
    bare = tmp_path / "b"
    bare.mkdir()
    (bare / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "loss": 3.0}]}))
    assert keep_line(_account(bare), "ko") == ""
