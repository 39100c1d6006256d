"""H: order of callbacks and events, and what reaches whom."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import LlamaForCausalLM, TrainerCallback, TrainingArguments
from transformers.trainer_callback import CallbackHandler

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(6)
VOCABULARY = len(tiny.byte_level_tokenizer())


@pytest.fixture
def model() -> LlamaForCausalLM:
    """Fresh weights."""
    return tiny.llama(VOCABULARY, layers=1)


class Records(TrainerCallback):
    """Notes the name of every event and a copy of what was logged; ``adds`` goes into every evaluation's logs."""

    def __init__(self, adds: dict[str, float] | None = None) -> None:
        self.adds = adds or {}
        self.events: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add, then copy."""
        if any(name.startswith("eval_") for name in logs):
            logs.update(self.adds)
        self.rows.append(dict(logs))
        self.events.append("eval log" if "eval_runtime" in logs else "log")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Copy the metrics."""
        self.metrics.append(dict(metrics))
        self.events.append("evaluate")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note it."""
        self.events.append("save")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note it."""
        self.events.append("step")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note it."""
        self.events.append("prediction step")


def test_h1_order_of_callbacks(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """DefaultFlow, trackers, user callbacks, printer; ``add_callback`` appends at the very end."""
    pytest.importorskip("tensorboard")
    trainer = tiny.trainer(model, tmp_path, callbacks=[Records()], report_to="tensorboard")
    trainer.add_callback(TrainerCallback())
    names = [type(item).__name__ for item in trainer.callback_handler.callbacks]
    assert names == ["DefaultFlowCallback", "TensorBoardCallback", "Records", "PrinterCallback", "TrainerCallback"]


def test_h2_what_a_callback_adds_to_logs(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Later callbacks, on_evaluate, the result and best-model selection see it; earlier ones and log_history do not."""
    before, adds = Records(), Records({"eval_extra": 1.5, "eval_extra_loss": 2.5})
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[before, adds],
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model="eval_extra_loss",
    )
    trainer.train()
    assert trainer.state.best_metric == 2.5
    assert adds.metrics[0]["eval_extra"] == 1.5 and before.metrics[0]["eval_extra"] == 1.5
    assert trainer.evaluate()["eval_extra"] == 1.5
    assert not any("eval_extra" in row for row in (*before.rows, *trainer.state.log_history))


def test_h2_first_in_the_list_reaches_everyone(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """At index 0 every other callback sees the addition, and ``log_history[-1]`` can be written in ``on_log``."""

    class Writes(Records):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            logs["added"] = 1.0
            assert state.log_history[-1] is not logs
            state.log_history[-1]["added"] = 1.0

    after = Records()
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[after])
    trainer.callback_handler.callbacks.insert(0, Writes())
    trainer.evaluate()
    assert after.rows[0]["added"] == 1.0 and trainer.state.log_history[-1]["added"] == 1.0


def test_h4_a_dict_of_sets_is_logged_set_by_set(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``on_log`` and ``on_evaluate`` once per set, keys ``eval_<name>_…``."""
    records = Records()
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        {"a": ROWS, "b": ROWS},
        callbacks=[records],
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    assert ["eval_a_loss" in row for row in records.rows] == [False, True, False, False]
    assert ["eval_b_loss" in row for row in records.rows] == [False, False, True, False]
    assert ["eval_a_loss" in row for row in records.metrics] == [True, False]


def test_h5_order_within_a_step(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Step end, train log, prediction steps, evaluation's log, on_evaluate, save; the checkpoint holds that row."""
    records = Records()
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[records],
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
    )
    trainer.train()
    steps = ["step", "log", "prediction step", "prediction step", "eval log", "evaluate", "save"]
    assert records.events[: len(steps)] == steps
    saved = json.loads((tmp_path / "checkpoint-1" / "trainer_state.json").read_text("utf-8"))
    assert saved["log_history"][-1]["step"] == 1 and "eval_loss" in saved["log_history"][-1]


class Stops(TrainerCallback):
    """Asks to stop at the first evaluation, and to save where told."""

    def __init__(self, save: bool) -> None:
        self.save = save

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Ask."""
        control.should_training_stop = True
        if self.save:
            control.should_save = True
        return control


class Unbeatable(Records):
    """The best value so far was better than any to come."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set it."""
        state.best_metric = 0.5


@pytest.mark.parametrize(
    ("save", "strategy", "saved"), [(True, "no", True), (False, "no", False), (True, "best", False)]
)
def test_h6_stop_and_save(save: bool, strategy: str, saved: bool, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """A save asked for in on_evaluate happens in the same step; only ``save_strategy="best"`` decides itself."""
    best = {"metric_for_best_model": "eval_own_loss"} if strategy == "best" else {}
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[Unbeatable({"eval_own_loss": 1.0}), Stops(save)],
        eval_strategy="steps",
        eval_steps=1,
        save_strategy=strategy,
        **best,
    )
    trainer.train()
    assert trainer.state.global_step == 1
    assert (tmp_path / "checkpoint-1").exists() is saved


def test_h7_the_name_of_the_metric_decides_its_direction(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """A name that does not end in ``loss`` is maximised: the perplexity would keep the worst model."""
    found = {
        name: TrainingArguments(
            output_dir=str(tmp_path),
            metric_for_best_model=name,
            load_best_model_at_end=True,
            eval_strategy="steps",
            eval_steps=1,
            save_steps=1,
            use_cpu=True,
            report_to="none",
        ).greater_is_better
        for name in ("eval_ppl", "eval_bits_per_byte", "eval_exact_loss", "eval_ko_exact_loss")
    }
    assert found == {
        "eval_ppl": True,
        "eval_bits_per_byte": True,
        "eval_exact_loss": False,
        "eval_ko_exact_loss": False,
    }


def test_h7_loss_of_a_dict_of_sets_is_no_metric(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """With a dict of evaluation sets ``metric_for_best_model="loss"`` raises KeyError."""
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        {"a": ROWS, "b": ROWS},
        max_steps=1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        metric_for_best_model="loss",
    )
    with pytest.raises(KeyError):
        trainer.train()


def test_h11_first_event_of_an_evaluation(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``add_callback`` then ``evaluate``: the first event is a prediction step, after the first forward pass."""
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))

    class First(TrainerCallback):
        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(len(passes))

        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                called.append(name)
            return super().__getattribute__(name)

    seen: list[int] = []
    called: list[str] = []
    trainer = tiny.trainer(model, tmp_path, None, ROWS)
    trainer.add_callback(First())
    trainer.evaluate()
    assert called[0] == "on_prediction_step" and seen[0] == 1


@pytest.mark.parametrize("event", ["on_init_end", "on_train_begin"])
def test_h12_moving_to_the_front_during_an_event(event: str, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """The calling frame holds the handler, no argument does; moving to index 0 skips nobody and calls nobody twice."""
    calls: list[str] = []

    class Named(TrainerCallback):
        def __init__(self, name: str) -> None:
            self.name = name

        def _called(self, *args: Any, **kwargs: Any) -> None:
            calls.append(self.name)

    class Moves(Named):
        def _called(self, *args: Any, **kwargs: Any) -> None:
            super()._called()
            assert not any(isinstance(value, CallbackHandler) for value in (*args, *kwargs.values()))
            frame = sys._getframe(1)
            handler = frame.f_locals["self"]
            assert isinstance(handler, CallbackHandler)
            handler.callbacks.remove(self)
            handler.callbacks.insert(0, self)

    for kind in (Named, Moves):
        setattr(kind, event, kind._called)
    trainer = tiny.trainer(model, tmp_path, ROWS, callbacks=[Named("a"), Moves("b"), Named("c")], max_steps=1)
    trainer.train()
    assert calls == ["a", "b", "c"]
    assert trainer.callback_handler.callbacks[0].name == "b"


def test_h13_a_text_in_logs_is_plotted(
    model: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker takes a text in ``logs`` for a value of the run: TensorBoard's callback makes a text panel of it."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))  # 5.x; 4.57 takes logging_dir
    trainer = tiny.trainer(model, tmp_path, None, ROWS, report_to="tensorboard")
    trainer.callback_handler.callbacks.insert(0, Records({"eval_text": "a text", "eval_number": 1.0}))  # type: ignore[dict-item]
    trainer.evaluate()
    written = next(path for path in tmp_path.rglob("events.out.tfevents*"))
    tags = events.EventAccumulator(str(written)).Reload().Tags()
    assert "eval/number" in tags["scalars"] and "eval/text/text_summary" in tags["tensors"]
