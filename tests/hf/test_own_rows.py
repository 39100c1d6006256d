"""Rows that the Trainer's own loop did not make: they count for nothing, live and in a log read later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import Trainer, TrainerCallback

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.hf.publication import OwnRows
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.run.rows import eval_prefixes, observations_of, own_rows

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(8)
VOCABULARY = len(tiny.byte_level_tokenizer())


def _trainer(folder: Path, callbacks: list[Any], **settings: Any) -> Any:
    model = tiny.llama(VOCABULARY, layers=1)
    counts = {"max_steps": 8, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 4, "learning_rate": 5e-3}
    return tiny.trainer(model, folder, ROWS, ROWS, callbacks=callbacks, **counts, **settings)


class LogsParts(Trainer):
    """Logs the parts of its loss, as a mixture of experts or a distillation does; in evaluation too."""

    extra: dict[str, float]

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Log a row in the middle of the step."""
        self.log({**self.extra, "aux_loss": 0.1 + self.state.global_step})
        return super().compute_loss(*args, **kwargs)


@pytest.mark.parametrize(
    "extra",
    [{}, {"loss": 9.0}, {"eval_aux_loss": 0.3}, {"generation_runtime": 1.0}],
    ids=["aux_loss", "loss", "a name like an evaluation's", "somebody's stopwatch"],
)
def test_rows_of_a_users_compute_loss(extra: dict[str, float], tmp_path: Path) -> None:
    """They neither stop (patience), nor count (best), nor cost the real set its exact loss; a state file with them
    reads as the callback saw it."""
    callback = KoCPTCallback(patience=1, min_delta=0.01, outputs=["files"])
    LogsParts.extra = extra
    trainer = _trainer(tmp_path, [callback], trainer_class=LogsParts)
    trainer.train()
    trainer.save_state()
    assert trainer.state.global_step == 8
    assert set(callback.summary()["splits"]) == {"eval"}
    exact = [row["eval_exact_loss"] for row in trainer.state.log_history if "eval_exact_loss" in row]
    assert len(exact) == 2
    assert callback.best is not None and callback.best[1] == pytest.approx(min(exact))
    lines = [json.loads(line) for line in (tmp_path / "ko_cpt" / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 9))
    assert not any("aux_loss" in line for line in lines)
    bare = read_run(tmp_path / "trainer_state.json").observations()
    splits = Monitor().fold(bare)[0].summary().splits
    assert {name: point.evaluations for name, point in splits.items()} == {"eval": 2}
    trained = [seen for seen in bare if type(seen).__name__ == "TrainObservation"]
    assert [seen.step for seen in trained] == list(range(1, 9))


class LogsAgain(TrainerCallback):
    """Logs the metrics of an evaluation once more, as scripts do."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Log them."""
        self.trainer.log(dict(metrics))
        self.trainer.log_metrics("eval", metrics)


def test_metrics_logged_again(tmp_path: Path) -> None:
    """The same numbers once more are no other evaluation, and their exact loss stays."""
    callback, again = KoCPTCallback(outputs=["files"]), LogsAgain()
    trainer = _trainer(tmp_path, [callback, again])
    again.trainer = trainer
    trainer.train()
    lines = [json.loads(line) for line in (tmp_path / "ko_cpt" / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "eval"] == [4, 8]
    assert callback.summary()["splits"]["eval"]["evaluations"] == 2


class OwnLoop(Trainer):
    """Evaluates in a loop of its own, of which no callback sees a step."""

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """A loss out of the air."""
        from transformers.trainer_utils import EvalLoopOutput

        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": 2.0}, 8)


def test_an_evaluation_loop_of_its_own(tmp_path: Path) -> None:
    """An evaluation without prediction steps is one when it ends as one; it has no exact loss, with the reason."""
    callback = KoCPTCallback(outputs=["files"])
    trainer = _trainer(tmp_path, [callback], trainer_class=OwnLoop)
    trainer.train()
    assert callback.summary()["splits"]["eval"]["evaluations"] == 2
    row = next(row for row in trainer.state.log_history if "eval_loss" in row)
    assert row["eval_exact_loss_absent"] == "no prediction step was seen"


def test_own_training_row() -> None:
    """One training row between two steps; in the middle of a step none; with a learning rate once one had it."""
    own, row = OwnRows(), {"loss": 2.0, "learning_rate": 0.1}
    assert not own.training_row(row)
    own.step_begins()
    assert not own.training_row(row)
    own.step_ends()
    assert own.training_row(row)
    assert not own.training_row(row)
    own.step_begins()
    own.step_ends()
    assert not own.training_row({"loss": 2.0})
    assert own.training_row({"loss": 2.0, "grad_norm": 1.0})


def test_evaluation_needs_prediction_steps() -> None:
    """A row with a runtime is an evaluation's where prediction steps were seen; one without only after their end."""
    own, timed, bare = OwnRows(), {"eval_loss": 2.0, "eval_runtime": 1.0}, {"eval_loss": 2.0}
    assert own.evaluation(timed, running=False, ended=False) is None
    assert own.evaluation(bare, running=True, ended=False) is None
    assert own.evaluation(bare, running=False, ended=True) == "eval"
    assert own.evaluation(timed, running=True, ended=False) == "eval"
    assert own.evaluation(bare, running=False, ended=True) is None, "this Trainer times its evaluations"


def test_a_log_of_another_tool() -> None:
    """Without runtimes and learning rates anywhere, rows are read by their names; parts of a loss are no sets."""
    rows: list[dict[str, Any]] = [
        {"loss": 2.0, "step": 1},
        {"eval_loss": 2.1, "step": 1},
        {"val_loss": 2.2, "step": 1},
        {"aux_loss": 0.1, "z_loss": 0.2, "step": 1},
    ]
    assert own_rows(rows) == rows
    assert [type(seen).__name__ for seen in observations_of(rows)] == ["TrainObservation"] + ["EvalObservation"] * 2
    assert eval_prefixes({"aux_loss": 0.1}) == ()


def test_a_log_that_goes_on_without_learning_rates() -> None:
    """Rows without a learning rate are others' between rows that have one, and the Trainer's where they only follow."""
    rated = [{"loss": 2.0, "learning_rate": 1e-4, "step": step} for step in (10, 20)]
    bare = [{"loss": 1.9, "step": step} for step in (15, 25)]
    assert own_rows([*rated, *bare]) == [*rated, *bare]
    assert own_rows([rated[0], bare[0], rated[1], bare[1]]) == rated
