"""Who else reads the callback's numbers: a search's objective, a notebook's table, a model card, the state."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import TrainerCallback, trainer_utils
from transformers.hyperparameter_search import ALL_HYPERPARAMETER_SEARCH_BACKENDS, HyperParamSearchBackendBase
from transformers.trainer_utils import BestRun, HPSearchBackend

from ko_cpt_callbacks import KoCPTCallback, keys
from ko_cpt_callbacks.hf.publication import add_numbers

pytestmark = pytest.mark.both_versions

ROWS = tiny.rows(tiny.korean()[:12], tiny.byte_level_tokenizer(), 40)
TRAIN, EVAL = ROWS[:6], ROWS[6:9]
VOCABULARY = len(tiny.byte_level_tokenizer())
OURS = {keys.key("eval", suffix) for suffix in keys.EVAL_SUFFIXES}


class Grid(HyperParamSearchBackendBase):
    """Learning rates one after the other, as run_hp_search_optuna does it: train with a trial, or else evaluate."""

    name = "optuna"

    @staticmethod
    def is_available() -> bool:
        """Always: it needs nothing."""
        return True

    def run(self, trainer: Any, n_trials: int, direction: str, **kwargs: Any) -> BestRun:
        """The best of the trials."""
        values = []
        for number in range(n_trials):
            trainer.objective = None
            trainer.train(trial=_Trial({"learning_rate": 10.0 ** -(number + 2)}))
            if trainer.objective is None:
                trainer.objective = trainer.compute_objective(trainer.evaluate())
            values.append(trainer.objective)
        best = min(range(n_trials), key=values.__getitem__)
        return BestRun(str(best), values[best], {"values": values})

    @staticmethod
    def default_hp_space(trial: Any) -> dict[str, float]:
        """What the trial says."""
        return dict(trial.params)


class _Trial:
    def __init__(self, params: dict[str, float]) -> None:
        self.params, self.number = params, 0


class Keeps(TrainerCallback):
    """A tracker: keeps every row that it is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep it."""
        self.rows.append(dict(logs))


def _search(folder: Path, callbacks: list[Any], objective: Any = None, **settings: Any) -> tuple[Any, list[float]]:
    """A search of two trials in the Trainer's own method; the Trainer and each trial's objective."""
    trainer = tiny.trainer(
        None, folder, TRAIN, EVAL, callbacks=callbacks, max_steps=2,
        model_init=lambda: tiny.llama(VOCABULARY, layers=1), **settings,
    )  # fmt: skip
    best = trainer.hyperparameter_search(backend="optuna", n_trials=2, compute_objective=objective)
    return trainer, best.hyperparameters["values"]


@pytest.fixture
def _grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search has a backend."""
    monkeypatch.setitem(ALL_HYPERPARAMETER_SEARCH_BACKENDS, HPSearchBackend.OPTUNA, Grid)
    # Both know three libraries' trials by their classes; none of them needs to be installed here.
    monkeypatch.setattr("transformers.Trainer._report_to_hp_search", _reports)
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: trial.params)


def _reports(self: Any, trial: Any, step: int, metrics: dict[str, float]) -> None:
    if self.hp_search_backend is not None and trial is not None:
        self.objective = self.compute_objective(metrics.copy())


@pytest.mark.usefixtures("_grid")
@pytest.mark.parametrize("settings", [{}, {"eval_strategy": "steps", "eval_steps": 1}], ids=["after", "during"])
def test_the_default_objective_of_a_search(settings: dict[str, Any], tmp_path: Path) -> None:
    """The sum of all metrics is the evaluation loss, as without the callback, while trackers and log_history have our
    numbers all the same; when the search is over, so have the metrics."""
    tracker = Keeps()
    _, plain = _search(tmp_path / "plain", [], **settings)
    trainer, watched = _search(tmp_path / "watched", [KoCPTCallback(outputs=[]), tracker], **settings)
    assert watched == plain
    evaluations = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert evaluations[-1]["eval_exact_loss"] > 0
    assert all("eval_exact_loss" in row for row in tracker.rows if "eval_loss" in row)
    assert "eval_exact_loss" in trainer.evaluate()


@pytest.mark.usefixtures("_grid")
def test_an_objective_of_ones_own(tmp_path: Path) -> None:
    """It may name our numbers."""
    _, values = _search(tmp_path, [KoCPTCallback(outputs=[])], lambda metrics: metrics["eval_exact_loss"])
    assert len(values) == 2 and all(0 < value < 10 for value in values)


@pytest.mark.usefixtures("_grid")
def test_the_best_model_of_a_trial(tmp_path: Path) -> None:
    """Where the best model is chosen by a number of ours, that one stays: the Trainer would die without it."""
    trainer, _ = _search(
        tmp_path, [KoCPTCallback(outputs=[])], eval_strategy="steps", eval_steps=1,
        metric_for_best_model="exact_loss",
    )  # fmt: skip
    assert trainer.state.best_metric == trainer.state.log_history[-2]["eval_exact_loss"]


def test_what_the_objective_would_be_with_our_numbers(tmp_path: Path) -> None:
    """The fact behind it: outside a search the default objective adds tokens and bytes up."""
    trainer = tiny.trainer(
        tiny.llama(VOCABULARY, layers=1), tmp_path, TRAIN, EVAL, callbacks=[KoCPTCallback(outputs=[])]
    )
    metrics = trainer.evaluate()
    assert trainer_utils.default_compute_objective(metrics) > metrics["eval_tokens"] > metrics["eval_loss"]


# -- a notebook ----


def _columns(folder: Path, callbacks: list[Any], evaluation: Any) -> list[str]:
    """The columns of the table that a notebook shows."""
    from transformers.utils import notebook

    trainer = tiny.trainer(
        tiny.llama(VOCABULARY, layers=1), folder, TRAIN, evaluation, callbacks=callbacks, max_steps=2,
        eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    bar = notebook.NotebookProgressCallback()
    trainer.add_callback(bar)
    tables: list[Any] = []
    track = notebook.NotebookTrainingTracker
    plain = track.write_line

    def write(self: Any, values: Any) -> None:
        plain(self, values)
        tables.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(track, "write_line", write)
        trainer.train()
    return list(tables[-1].inner_table[0])


@pytest.fixture
def _screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something to draw on, where IPython is not installed."""
    if importlib.util.find_spec("IPython") is None:
        display = types.ModuleType("IPython.display")
        display.display, display.HTML = (lambda *args, **kwargs: Drawn()), str  # type: ignore[attr-defined]
        whole = types.ModuleType("IPython")
        whole.display = display  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", whole)
        monkeypatch.setitem(sys.modules, "IPython.display", display)


class Drawn:
    """What a notebook gives back of what it shows."""

    def update(self, *args: Any) -> None:
        """Nothing is drawn."""


@pytest.mark.usefixtures("_screen")
@pytest.mark.parametrize("evaluation", [EVAL, {"ko": EVAL}], ids=["one set", "a dict"])
def test_the_table_of_a_notebook(evaluation: Any, tmp_path: Path) -> None:
    """It shows our numbers beside its own, and no run time or speed: those it drops under the prefix of the last
    loss."""
    plain = _columns(tmp_path / "plain", [], evaluation)
    found = _columns(tmp_path / "watched", [KoCPTCallback(outputs=[])], evaluation)
    assert set(plain) < set(found) and not [name for name in found if "Runtime" in name or "Second" in name]
    assert len(found) - len(plain) <= len(keys.EVAL_SUFFIXES) - 3  # the texts are in no table


def test_the_trainers_loss_stays_last() -> None:
    """Losses that are not ours keep their order, behind ours."""
    metrics = {"eval_loss": 1.0, "eval_runtime": 2.0, "eval_aux_loss": 3.0}
    add_numbers(metrics, {"eval_exact_loss": 1.1, "eval_ppl": 3.0})
    assert list(metrics) == ["eval_runtime", "eval_exact_loss", "eval_ppl", "eval_loss", "eval_aux_loss"]
    assert metrics["eval_loss"] == 1.0


# -- a model card ----


def test_a_model_card_has_no_texts(tmp_path: Path) -> None:
    """Neither fingerprints nor reasons become columns; log_history keeps them."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(
        tiny.llama(VOCABULARY, layers=1), tmp_path, TRAIN, EVAL, callbacks=[callback], max_steps=4,
        processing_class=None, eval_strategy="steps", eval_steps=2,
    )  # fmt: skip
    trainer.train()
    texts = {
        name: value for row in trainer.state.log_history for name, value in row.items() if isinstance(value, str)
    }
    assert {"eval_fingerprint", "eval_bits_per_byte_absent"} <= set(texts)
    trainer.create_model_card(model_name="tiny")
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "Exact Loss" in card and "| Training Loss |" in card
    assert not [word for word in ("Fingerprint", "Absent", *texts.values()) if word in card]
    assert any("eval_fingerprint" in row for row in trainer.state.log_history)


# -- the state ----


def test_equal_runs_have_equal_states(tmp_path: Path) -> None:
    """Two runs with one seed: their rows differ in what the Trainer itself takes by the clock and in nothing else;
    trackers and our files have the speed."""
    states = []
    for name in ("a", "b"):
        tracker = Keeps()
        trainer = tiny.trainer(
            tiny.llama(VOCABULARY, layers=1), tmp_path / name, TRAIN, EVAL,
            callbacks=[KoCPTCallback(outputs=["files"]), tracker], max_steps=4, eval_strategy="steps", eval_steps=2,
        )  # fmt: skip
        trainer.train()
        clock = ("_runtime", "_per_second")
        states.append([
            {name: value for name, value in row.items() if not (name.startswith(("eval", "train_")) and
                                                                 name.endswith(clock))}
            for row in trainer.state.log_history
        ])  # fmt: skip
        assert any(keys.TOKENS_PER_SECOND in row for row in tracker.rows)
        lines = (tmp_path / name / keys.FOLDER / keys.ROWS_FILE).read_text("utf-8").splitlines()
        assert any(json.loads(line).get(keys.TOKENS_PER_SECOND, 0) > 0 for line in lines)
    assert states[0] == states[1]
    assert not [row for row in states[0] if set(keys.CLOCK_KEYS) & row.keys()]
