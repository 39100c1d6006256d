"""Where `patience` and `transformers.EarlyStoppingCallback` stop alike, and exactly where they do not."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import tiny
from transformers import EarlyStoppingCallback, Trainer, TrainerControl, TrainerState, TrainingArguments

from ko_cpt_callbacks.rules.generalization.no_improvement import NoImprovement
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.signal.signals import SILENT
from ko_cpt_callbacks.watch.stopping import Patience

pytestmark = pytest.mark.both_versions


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    """A Trainer that keeps the best model by its loss, as EarlyStoppingCallback asks for."""
    settings = TrainingArguments(
        output_dir=str(tmp_path), eval_strategy="steps", save_strategy="steps", eval_steps=10, save_steps=10,
        load_best_model_at_end=True, metric_for_best_model="eval_loss", greater_is_better=False, report_to="none",
        use_cpu=True,
    )  # fmt: skip
    return Trainer(model=tiny.llama(len(tiny.byte_level_tokenizer()), layers=1), args=settings, eval_dataset=[{}])


def _theirs(trainer: Trainer, losses: list[float], patience: int, threshold: float) -> tuple[int | None, bool]:
    """The evaluation after which theirs stops, and whether its best moved by no more than the threshold before."""
    trainer.state, control = TrainerState(), TrainerControl()
    watcher = EarlyStoppingCallback(early_stopping_patience=patience, early_stopping_threshold=threshold)
    crept = False
    for number, loss in enumerate(losses, start=1):
        metrics, best = {"eval_loss": loss}, trainer.state.best_metric
        watcher.on_evaluate(trainer.args, trainer.state, control, metrics)
        if control.should_training_stop:
            return number, crept
        trainer._determine_best_metric(metrics=metrics, trial=None)
        crept = crept or (best is not None and math.isfinite(best) and 0 < best - loss <= threshold)
    return None, crept


def _ours(losses: list[float], patience: int, threshold: float) -> int | None:
    rule = NoImprovement(Patience(patience, threshold))
    state = rule.initial()
    for number, loss in enumerate(losses, start=1):
        state, found = rule.step(state, EvalObservation(10 * number, loss=loss), SILENT)
        if found:
            return number
    return None


def _history(draw: random.Random) -> list[float]:
    """Two decimals, so that equal losses and steps of exactly the threshold occur; some evaluations are NaN or inf."""
    losses = [round(3.0 - 0.02 * i + draw.gauss(0.0, 0.05), 2) for i in range(draw.randint(2, 25))]
    bad = draw.choice((0.0, 0.0, 0.2))
    return [draw.choice((math.nan, math.inf)) if draw.random() < bad else loss for loss in losses]


def test_without_a_threshold_they_stop_alike(trainer: Trainer) -> None:
    """In every history, with NaN and infinite evaluations wherever they come, the first among them."""
    draw = random.Random(0)
    stopped = 0
    for _ in range(400):
        losses, patience = _history(draw), draw.randint(1, 5)
        theirs, _ = _theirs(trainer, losses, patience, 0.0)
        assert _ours(losses, patience, 0.0) == theirs, (losses, patience)
        stopped += theirs is not None
    assert 50 < stopped < 350


def test_with_a_threshold_they_differ_where_their_best_creeps(trainer: Trainer) -> None:
    """Only where a loss was lower than theirs by no more than the threshold: it is no improvement to either, but their
    best moves with it. A loss that falls slowly is then never far enough below it, and theirs stops the sooner."""
    draw = random.Random(1)
    earlier = 0
    for _ in range(600):
        losses, patience = _history(draw), draw.randint(1, 5)
        theirs, crept = _theirs(trainer, losses, patience, 0.03)
        ours = _ours(losses, patience, 0.03)
        assert ours == theirs or crept, (losses, patience)
        assert ours is None or (theirs is not None and theirs <= ours), (losses, patience)
        earlier += theirs != ours
    assert earlier > 10


def test_a_slow_fall(trainer: Trainer) -> None:
    """0.02 an evaluation with a threshold of 0.03: theirs stops a run that falls by 0.04 in two evaluations, ours, as
    Lightning's, sees the fall."""
    losses = [3.0 - 0.02 * i for i in range(12)]
    assert _theirs(trainer, losses, 3, 0.03)[0] == 4
    assert _ours(losses, 3, 0.03) is None
