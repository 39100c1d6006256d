"""The callback in a real Trainer on one process: how it joins, what it counts, what it writes, when it stops."""

from __future__ import annotations

import gc
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode
from transformers import LlamaForCausalLM, TrainerCallback

from ko_cpt_callbacks import ConfigurationError, Finding, KoCPTCallback, MemoryOutput, Output, keys
from ko_cpt_callbacks.hf import trainer_access
from ko_cpt_callbacks.rules.curve.memorizing import Memorizing
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.rows import observations_of

pytestmark = pytest.mark.both_versions

ROWS = tiny.uneven_rows(8)
OTHER = tiny.uneven_rows(5, first=20)
VOCABULARY = len(tiny.byte_level_tokenizer())
EXACT = 1e-5


@pytest.fixture
def model() -> LlamaForCausalLM:
    """Fresh weights, no hooks."""
    return tiny.llama(VOCABULARY, layers=1)


def _hooks(model: torch.nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def _targets(rows: list[dict[str, Any]]) -> int:
    return sum(len(row["input_ids"]) - 1 for row in rows)


def _lines(folder: Path, name: str = "rows.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ko_cpt" / name).read_text("utf-8").splitlines()]


def _run(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "ko_cpt" / "run.json").read_text("utf-8"))


class Tracker(TrainerCallback):
    """What a tracker is: a callback that keeps a copy of every row it is told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Copy the row."""
        self.rows.append(dict(logs))


class BreaksIn(LlamaForCausalLM):
    """Gives NaN in training from step ``at`` on, or raises in an evaluation batch."""

    at: int | None = None
    raises = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Count training passes; break when told to."""
        output = super().forward(*args, **kwargs)
        if self.training:
            self.seen = getattr(self, "seen", 0) + 1
            if self.at is not None and self.seen >= self.at:
                output.loss = output.loss * float("nan")
        elif self.raises:
            raise RuntimeError("out of memory, say")
        return output


def _breaks(at: int | None = None) -> BreaksIn:
    torch.manual_seed(0)
    model = BreaksIn(tiny.llama(VOCABULARY, layers=1).config)
    model.at = at
    return model


# -- joining ----


@pytest.mark.parametrize("form", ["class", "instance"])
def test_joins_by_argument(form: str, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``callbacks=[KoCPTCallback]`` and ``[KoCPTCallback()]``: first in the list, exact loss at the first evaluate."""
    reference = tiny.exact_loss(model, ROWS)
    given = KoCPTCallback if form == "class" else KoCPTCallback(outputs=[])
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[given])
    assert isinstance(trainer.callback_handler.callbacks[0], KoCPTCallback)
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert (tmp_path / "ko_cpt" / "rows.jsonl").exists() is (form == "class")


def test_added_later_then_train(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``add_callback`` then ``train``: first in the list from the start of training, trackers see every number."""
    trainer = tiny.trainer(
        model, tmp_path, ROWS, ROWS, callbacks=[tracker := Tracker()], eval_strategy="steps", eval_steps=3
    )
    trainer.add_callback(callback := KoCPTCallback(outputs=[]))
    trainer.train()
    assert trainer.callback_handler.callbacks[0] is callback
    assert tracker.rows[0]["tokens_seen"] > 0
    evaluated = [row for row in tracker.rows if "eval_loss" in row]
    assert evaluated[0]["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert "trackers-not-reached" not in {finding.topic for finding in callback.findings}


def test_added_later_then_evaluate(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Without training the first batch passes unseen: no exact loss and the way out; the next one is exact."""
    reference = tiny.exact_loss(model, ROWS)
    trainer = tiny.trainer(model, tmp_path, None, ROWS)
    trainer.add_callback(KoCPTCallback(outputs=["files"]))
    first = trainer.evaluate()
    assert "eval_exact_loss" not in first
    assert ".attach(trainer)" in trainer.state.log_history[-1]["eval_exact_loss_absent"]
    assert _run(tmp_path)["evaluations"]["eval"]["exact_loss_absent"]
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_attach(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``attach`` makes ``add_callback`` then ``evaluate`` exact, and doing it twice does no harm."""
    reference = tiny.exact_loss(model, ROWS)
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[tracker := Tracker()])
    callback = KoCPTCallback(outputs=[])
    trainer.add_callback(callback)
    assert callback.attach(trainer) is callback
    hooks = _hooks(model)
    assert callback.attach(trainer) is callback
    assert _hooks(model) == hooks > 0
    assert sum(item is callback for item in trainer.callback_handler.callbacks) == 1
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    assert tracker.rows[0]["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_attach_alone(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``attach`` needs no ``add_callback`` before it."""
    trainer = tiny.trainer(model, tmp_path, None, ROWS)
    KoCPTCallback(outputs=[]).attach(trainer)
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)


def test_an_event_takes_what_every_callback_s_takes() -> None:
    """Whoever asks for the signature of an event, such as a documentation, is told what the Trainer calls it with."""
    for name in (name for name in vars(KoCPTCallback) if name.startswith("on_")):
        taken = list(inspect.signature(getattr(KoCPTCallback, name)).parameters)
        assert taken[:4] == ["self", "args", "state", "control"], name
        assert taken[-1] == "kwargs", name


def test_notes_begin_a_training(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """What ``note`` is given comes back from ``notes()``, is a row of every training."""
    callback = KoCPTCallback()
    callback.note("mine", {"one": 1})
    tiny.trainer(model, tmp_path, ROWS, callbacks=[callback]).train()
    assert callback.notes() == (("mine", {"one": 1}),)
    assert [row["one"] for row in _lines(tmp_path) if row.get("setup") == "mine"] == [1]


def test_handler_not_found(model: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list cannot be reached, log_history and metrics are complete and one info finding names attach."""
    monkeypatch.setattr(trainer_access, "find_handler", lambda callback: None)
    tracker, callback = Tracker(), KoCPTCallback(outputs=[])
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[tracker, callback])
    trainer.train()
    metrics = trainer.evaluate()
    assert "tokens_seen" not in tracker.rows[0]
    assert "tokens_seen" in trainer.state.log_history[0]
    assert metrics["eval_exact_loss"] == trainer.state.log_history[-1]["eval_exact_loss"]
    found = [finding for finding in callback.findings if finding.topic == "trackers-not-reached"]
    assert [(one.severity.value, one.variant) for one in found] == [("info", "trackers-not-reached")]


def test_two_trainers_one_instance(tmp_path: Path) -> None:
    """Each Trainer has numbers, rows and folder of its own; the callback speaks of the one last at work."""
    first, second = tiny.llama(VOCABULARY, layers=1), tiny.llama(VOCABULARY, layers=1, seed=1)
    callback = KoCPTCallback(outputs=["files"])
    one = tiny.trainer(first, tmp_path / "one", ROWS, ROWS, callbacks=[callback], max_steps=1)
    two = tiny.trainer(second, tmp_path / "two", ROWS, OTHER, callbacks=[callback], max_steps=2)
    one.train()
    assert one.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(first, ROWS), rel=EXACT)
    assert callback.summary()["train"]["points"] == 1
    two.train()
    assert two.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(second, OTHER), rel=EXACT)
    assert callback.summary()["train"]["points"] == 2
    assert one.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(first, ROWS), rel=EXACT)
    begun = ["setup"] * 5
    assert [line["kind"] for line in _lines(tmp_path / "one")] == [*begun, "train", "end", "eval", "eval"]
    assert [line["kind"] for line in _lines(tmp_path / "two")] == [*begun, "train", "train", "end", "eval"]


def test_two_trainers_one_model(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Trainers that follow one another on one model (stages): only the one at work counts."""
    callback = KoCPTCallback(outputs=[])
    for stage in ("one", "two"):
        trainer = tiny.trainer(model, tmp_path / stage, ROWS[:3], ROWS, callbacks=[callback], max_steps=1)
        trainer.train()
        assert trainer.state.log_history[0]["tokens_seen"] == _targets(ROWS[:3])
        assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)


def test_the_trainer_at_work_has_the_only_hooks(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Two Trainers on one model, by turns: the one at work takes the other's hooks off, and only from that model."""
    callback, other = KoCPTCallback(outputs=[]), tiny.llama(VOCABULARY, layers=1, seed=1)
    one = tiny.trainer(model, tmp_path / "one", ROWS, ROWS, callbacks=[callback], max_steps=1)
    alone = _hooks(model)
    elsewhere = tiny.trainer(other, tmp_path / "else", ROWS, ROWS, callbacks=[callback], max_steps=1)
    two = tiny.trainer(model, tmp_path / "two", ROWS, ROWS, callbacks=[callback], max_steps=1)
    assert (_hooks(model), _hooks(other)) == (alone, alone)
    for trainer in (one, two, elsewhere):
        trainer.train()
        assert (_hooks(model), _hooks(other)) == (alone, alone)
    assert alone > 0


def test_two_instances_in_one_trainer(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Both measure the same and neither doubles the other's rows in the folder they share."""
    one, two = KoCPTCallback(), KoCPTCallback()
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[one, two], max_steps=2)
    trainer.train()
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert [line["kind"] for line in _lines(tmp_path)] == [*["setup"] * 5, "train", "train", "end", "eval"]
    assert one.best == two.best


def test_model_init(tmp_path: Path) -> None:
    """``model_init`` builds a new model when training begins: that one is measured, the old one is let go."""
    built: list[LlamaForCausalLM] = []

    def init() -> LlamaForCausalLM:
        built.append(tiny.llama(VOCABULARY, layers=1))
        return built[-1]

    trainer = tiny.trainer(
        None,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[KoCPTCallback(outputs=[])],
        model_init=init,
        eval_strategy="steps",
        eval_steps=3,
    )
    trainer.train()
    assert len(built) > 1 and _hooks(built[0]) == 0
    row = next(row for row in trainer.state.log_history if "eval_loss" in row)
    assert row["eval_exact_loss"] == pytest.approx(tiny.exact_loss(trainer.model, ROWS), rel=EXACT)


@pytest.mark.parametrize("way", ["pop", "pop class", "remove", "remove class", "detach"])
def test_hooks_are_taken_off(way: str, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``pop_callback``, ``remove_callback`` (instance or class) and ``detach`` leave no hook on the model."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[callback])
    assert _hooks(model) > 0
    trainer.evaluate()
    if way == "detach":
        callback.detach()
    else:
        verb, _, what = way.partition(" ")
        popped = getattr(trainer, f"{verb}_callback")(KoCPTCallback if what else callback)
        assert popped is (callback if verb == "pop" else None)
        assert callback not in trainer.callback_handler.callbacks
    assert _hooks(model) == 0
    assert callback.summary()["splits"]["eval"]["evaluations"] == 1  # what was found stays readable


def test_removed_callback_is_silent(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """After removal an evaluation is the Trainer's own; after coming back it is exact again."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[callback])
    trainer.remove_callback(callback)
    assert "eval_exact_loss" not in trainer.evaluate()
    callback.attach(trainer)
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    trainer.pop_callback(callback)
    assert _hooks(model) == 0


def test_hooks_end_with_the_trainer(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """When the Trainer is gone, the model it leaves behind has no hooks."""
    trainer = tiny.trainer(model, tmp_path, ROWS, None, callbacks=[KoCPTCallback(outputs=[])], max_steps=1)
    trainer.train()
    del trainer
    gc.collect()
    assert _hooks(model) == 0


def test_hooks_end_with_the_trainer_without_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the Trainer's list was never found: at the latest when another Trainer comes."""
    monkeypatch.setattr(trainer_access, "find_handler", lambda callback: None)
    callback = KoCPTCallback(outputs=[])
    models = [tiny.llama(VOCABULARY, layers=1) for _ in range(3)]
    trainers = [tiny.trainer(each, tmp_path, None, ROWS, callbacks=[callback]) for each in models[:2]]
    del trainers[0]
    gc.collect()
    trainers.append(tiny.trainer(models[2], tmp_path, None, ROWS, callbacks=[callback]))
    assert [_hooks(each) > 0 for each in models] == [False, True, True]


# -- counting ----


def test_passes_outside_an_evaluation_are_never_counted(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """The user's own forward passes, with labels, and generation: before, between and after; the result is exact."""
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=[])])
    reference = tiny.exact_loss(model, ROWS)
    for _ in range(2):
        model.eval()
        with torch.no_grad():
            for start in (0, 2):
                model(**tiny.collate(OTHER[start : start + 2]))
            model.generate(torch.tensor([[5, 6]]), max_new_tokens=2, do_sample=False)
        model.train()
        model(**tiny.collate(OTHER))
        assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_passes_of_another_callback_are_never_counted(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """A callback that probes the model during evaluation with generation, and at every step with labels."""

    class Probe(TrainerCallback):
        def on_prediction_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            model.generate(torch.tensor([[5, 6]]), max_new_tokens=1, do_sample=False)

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            model.eval()
            with torch.no_grad():
                model(**tiny.collate(OTHER))
            model.train()

    callbacks = [Probe(), KoCPTCallback(outputs=[])]
    trainer = tiny.trainer(
        model, tmp_path, ROWS[:6], ROWS, callbacks=callbacks, max_steps=2, eval_strategy="steps", eval_steps=2
    )
    trainer.train()
    evaluated = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert evaluated[-1]["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert trainer.state.log_history[1]["tokens_seen"] == _targets(ROWS[:6])


def test_own_loop_keeps_no_batches(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """A loop of the user's own over a hooked model does not fill the memory."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[callback])
    model.eval()
    with torch.no_grad():
        for _ in range(9):
            model(**tiny.collate(OTHER))
    gc.collect()
    kept = [item for item in gc.get_objects() if type(item).__name__ == "_Pending"]
    assert len(kept) <= 2
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)


def test_forward_that_raises(tmp_path: Path) -> None:
    """The model's error passes through unchanged, the loss window is closed, the next evaluation is exact."""
    model = _breaks()
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=[])])
    model.raises = True
    with pytest.raises(RuntimeError, match="out of memory, say"):
        trainer.evaluate()
    assert _get_current_dispatch_mode() is None
    model.raises = False
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)


@pytest.mark.parametrize("where", ["data", "between"])
def test_evaluation_broken_off(where: str, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """An evaluation that ends in an exception leaves nothing behind: the next one is exact."""

    class Rows(torch.utils.data.Dataset[dict[str, Any]]):
        broken = True

        def __len__(self) -> int:
            return len(ROWS)

        def __getitem__(self, index: int) -> dict[str, Any]:
            if self.broken and where == "data" and index == 5:
                raise OSError("the disk, say")
            return ROWS[index]

    data = Rows()

    class Interrupts(TrainerCallback):
        def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if data.broken and where == "between":
                raise KeyboardInterrupt

    trainer = tiny.trainer(model, tmp_path, None, data, callbacks=[Interrupts(), KoCPTCallback(outputs=[])])
    with pytest.raises((OSError, KeyboardInterrupt)):
        trainer.evaluate()
    data.broken = False
    metrics = trainer.evaluate()
    assert metrics["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert metrics["eval_rows"] == len(ROWS)


def test_broken_off_within_a_prediction_step(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """An exception after the forward pass and before the Trainer counts the step: that batch is not counted later."""
    broken = [True]

    def first(logits: Any, labels: Any) -> Any:
        if broken[0]:
            raise ValueError("a metric, say")
        return logits.argmax(-1)

    trainer = tiny.trainer(
        model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=[])], compute_metrics=lambda found: {}
    )
    trainer.preprocess_logits_for_metrics = first
    with pytest.raises(ValueError, match="a metric, say"):
        trainer.evaluate()
    broken[0] = False
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)


def test_other_set_and_prefix(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``evaluate(other, metric_key_prefix="test")``: the numbers of that set under that prefix."""
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=["files"])])
    metrics = trainer.evaluate(OTHER, metric_key_prefix="test")
    assert metrics["test_exact_loss"] == pytest.approx(tiny.exact_loss(model, OTHER), rel=EXACT)
    assert not any(name.startswith("eval_") for name in metrics)
    assert trainer.state.log_history[-1]["test_fingerprint"].startswith("utf8-")
    assert _lines(tmp_path)[0]["split"] == "test"
    assert (tmp_path / "ko_cpt" / "eval_rows" / "test-0.npz").exists()


def test_predict(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``predict``: the numbers are in its metrics, no row of the run, and the next evaluation is its own."""
    trainer = tiny.trainer(model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=["files"])])
    metrics = trainer.predict(OTHER).metrics
    assert metrics["test_exact_loss"] == pytest.approx(tiny.exact_loss(model, OTHER), rel=EXACT)
    assert all(not isinstance(value, str) for value in metrics.values())
    assert not trainer.state.log_history
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert [line["split"] for line in _lines(tmp_path)] == ["eval"]


def test_dict_of_sets(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """A dict of evaluation sets: each under its own name, exact, with its own fingerprint."""
    callback = KoCPTCallback(outputs=["files"])
    sets = {"ko": ROWS, "en": OTHER}
    trainer = tiny.trainer(
        model, tmp_path, ROWS, sets, callbacks=[callback], max_steps=1, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    rows = {name: row for row in trainer.state.log_history for name in sets if f"eval_{name}_loss" in row}
    for name, data in sets.items():
        assert rows[name][f"eval_{name}_exact_loss"] == pytest.approx(tiny.exact_loss(model, data), rel=EXACT)
    assert rows["ko"]["eval_ko_fingerprint"] != rows["en"]["eval_en_fingerprint"]
    assert set(_run(tmp_path)["evaluations"]) == {"eval_ko", "eval_en"}
    # "en" stands for what must not be forgotten, so the best evaluation is one of "ko".
    assert callback.best == (1, rows["ko"]["eval_ko_exact_loss"])


def test_with_metrics_and_gathered_logits(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``compute_metrics`` changes the Trainer's path and none of our numbers; batch size changes none either."""
    reference = tiny.exact_loss(model, ROWS)
    for size in (1, 5):
        trainer = tiny.trainer(
            model,
            tmp_path,
            None,
            ROWS,
            callbacks=[KoCPTCallback(outputs=[])],
            compute_metrics=lambda found: {"seen": float(len(found.label_ids))},
            per_device_eval_batch_size=size,
        )
        metrics = trainer.evaluate()
        assert metrics["eval_seen"] == len(ROWS)
        assert metrics["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)


def test_evaluation_at_the_start(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``eval_on_start``: exact at step 0, and its forward passes are no training tokens."""
    reference = tiny.exact_loss(model, ROWS)
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS[:3],
        ROWS,
        callbacks=[KoCPTCallback(outputs=[])],
        max_steps=1,
        eval_on_start=True,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    start = next(row for row in trainer.state.log_history if "eval_loss" in row)
    assert start["step"] == 0 and start["eval_exact_loss"] == pytest.approx(reference, rel=EXACT)
    row = next(row for row in trainer.state.log_history if "loss" in row)
    assert row["tokens_seen"] == _targets(ROWS[:3])


# -- training ----


def test_tokens_with_accumulation(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Target tokens are exact under gradient accumulation and cumulative over rows; speed is given, GPU hours not."""
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        None,
        callbacks=[KoCPTCallback(outputs=["files"])],
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert rows[-1]["tokens_seen"] == _targets(ROWS)  # 2 steps of 2 batches of 2: every row once
    assert 0 < rows[0]["tokens_seen"] < rows[1]["tokens_seen"]
    # What a clock says goes to trackers and files, so that equal runs have equal states.
    assert not {"tokens_per_second", "tokens_per_gpu_hour"} & rows[0].keys()
    lines = [row for row in _lines(tmp_path, "rows.jsonl") if "loss" in row]
    assert lines[0]["tokens_per_second"] > 0 and "tokens_per_gpu_hour" not in lines[0]
    assert rows[0]["ppl"] == pytest.approx(math.exp(rows[0]["loss"]))


def test_ignored_labels_are_no_tokens(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Tokens seen are targets: labels of -100 and the first of every row are none."""
    rows = [{**row, "labels": [-100, -100, *row["input_ids"][2:]]} for row in ROWS[:3]]
    trainer = tiny.trainer(model, tmp_path, rows, None, callbacks=[KoCPTCallback(outputs=[])], max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["tokens_seen"] == sum(len(row["input_ids"]) - 2 for row in rows)


def test_nan_within_a_logging_window(tmp_path: Path) -> None:
    """A NaN that starts inside a window: the row names how many steps and the first, though its loss looks fine."""
    callback = KoCPTCallback(outputs=["files"])
    trainer = tiny.trainer(
        _breaks(at=6), tmp_path, ROWS, None, callbacks=[callback], max_steps=8, logging_steps=4, max_grad_norm=0.0
    )
    trainer.train()
    first, second = [row for row in trainer.state.log_history if "loss" in row]
    assert first["nonfinite_steps"] == 0 and "nonfinite_first_step" not in first
    assert second["nonfinite_steps"] == 3 and second["nonfinite_first_step"] == 6
    assert second["nonfinite_micro_batches"] == 3
    assert 0.0 <= second["loss"] < first["loss"]  # the fake improvement
    assert "ppl" not in second and "ppl" in first
    found = next(finding for finding in callback.findings if finding.code == "non-finite")
    assert found.step == 8 and found.values["nonfinite_first_step"] == 6
    assert _lines(tmp_path, "findings.jsonl")[0]["code"] == "non-finite"


def test_nan_logged_as_zero(tmp_path: Path) -> None:
    """A NaN at every step is logged as loss 0.0: no perplexity of 1.0, an error at the first row, once."""
    callback = KoCPTCallback(outputs=[])
    trainer = tiny.trainer(_breaks(at=1), tmp_path, ROWS, None, callbacks=[callback])
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["loss"] for row in rows] == [0.0, 0.0, 0.0]
    assert all("ppl" not in row and row["nonfinite_steps"] == 1 for row in rows)
    assert next((item.code, item.severity, item.step) for item in callback.findings) == ("non-finite", "error", 1)
    assert sum(item.code == "non-finite" for item in callback.findings) == 1
    assert callback.stop_reason is None and trainer.state.global_step == 3  # nobody asked to stop


def test_a_rule_that_raises_blinds_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that raises at every training row is said once; the NaN two steps later is found all the same.

    It stops the run, and ``ko-cpt check`` of what it left finds the same.
    """

    def broken(self: object, state: Any, seen: Any, signals: Any) -> Any:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr(Memorizing, "step", broken)
    callback = KoCPTCallback(outputs=["files"], stop_on={"non-finite"})
    trainer = tiny.trainer(_breaks(at=3), tmp_path, ROWS, None, callbacks=[callback], max_steps=20)
    trainer.train()
    assert trainer.state.global_step == 3
    told = [finding for finding in callback.findings if finding.code in ("rule-failed", "non-finite")]
    assert [(item.code, item.step, item.asks_to_stop) for item in told] == [
        ("rule-failed", 1, False), ("non-finite", 3, True),
    ]  # fmt: skip
    assert told[0].values["rule"] == "memorizing"
    assert callback.stop_reason is not None and callback.stop_reason.code == "non-finite"
    again = Monitor().fold(observations_of(_lines(tmp_path)))[1]
    assert again == tuple(callback.findings)


def test_one_micro_batch_of_a_step(tmp_path: Path) -> None:
    """One non-finite micro-batch of a step's two: one step, one micro-batch."""
    model = _breaks(at=4)
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        None,
        callbacks=[KoCPTCallback(outputs=[])],
        max_steps=2,
        logging_steps=2,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        learning_rate=0.0,
    )
    trainer.train()
    row = trainer.state.log_history[0]
    assert (row["nonfinite_steps"], row["nonfinite_micro_batches"], row["nonfinite_first_step"]) == (1, 1, 2)


def test_label_smoothing_in_training(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Where the labels are kept from the model, tokens and non-finite steps are not known and not invented."""
    trainer = tiny.trainer(
        model, tmp_path, ROWS, None, callbacks=[KoCPTCallback(outputs=[])], max_steps=1, label_smoothing_factor=0.1
    )
    trainer.train()
    row = trainer.state.log_history[0]
    assert not {"tokens_seen", "tokens_per_second", "nonfinite_steps"} & set(row)


def test_zero_loss_is_no_perplexity(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """NaN logged as 0.0 where nobody could count it (label smoothing): still no perplexity of 1.0."""
    model.lm_head.weight.data.fill_(float("nan"))
    trainer = tiny.trainer(
        model, tmp_path, ROWS, None, callbacks=[KoCPTCallback(outputs=[])], max_steps=1, label_smoothing_factor=0.1
    )
    trainer.train()
    row = trainer.state.log_history[0]
    assert row["loss"] == 0.0
    assert "ppl" not in row


# -- rows and files ----


def test_logs_get_numbers_only(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Trackers, metrics and tables get numbers; fingerprint and reasons are in log_history and our rows only."""
    tracker = Tracker()
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[tracker, KoCPTCallback(outputs=["files"])],
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train()
    ours = {keys.key("eval", suffix) for suffix in keys.EVAL_SUFFIXES} | set(keys.TRAIN_KEYS)
    for row in tracker.rows:
        for name in ours & set(row):
            assert isinstance(row[name], (int, float)) and not isinstance(row[name], bool), name
    assert all("eval_fingerprint" not in row for row in tracker.rows)
    history = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert all(row["eval_fingerprint"].startswith("utf8-") for row in history)
    assert len({row["eval_fingerprint"] for row in history}) == 1
    saved = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text("utf-8"))["log_history"]
    assert saved[-1]["eval_fingerprint"] == history[-1]["eval_fingerprint"]
    assert saved[-1]["eval_exact_loss"] == history[-1]["eval_exact_loss"]
    lines = [line for line in _lines(tmp_path) if line["kind"] == "eval"]
    assert [line["eval_fingerprint"] for line in lines] == [row["eval_fingerprint"] for row in history]


def test_rows_are_the_log(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """rows.jsonl: every row of log_history, one a line, same numbers, plus kind and attempt."""
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[KoCPTCallback(outputs=["files"])],
        max_steps=2,
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    lines = _lines(tmp_path)
    assert [line["kind"] for line in lines if line["kind"] != "setup"] == ["train", "train", "eval", "end"]
    for line, row in zip([line for line in lines if line["kind"] != "setup"], trainer.state.log_history, strict=True):
        assert {name: line[name] for name in row} == row
        assert line["attempt"] == 1


def test_bytes_of_the_scored_text(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Bits per byte: the same sum over the UTF-8 bytes of the targets; special tokens have no bytes."""
    tokenizer = tiny.byte_level_tokenizer()
    texts = tuple(sorted(tiny.korean(), key=len)[:5])
    rows = tiny.rows(texts, tokenizer, 200)  # whole texts: <s> text </s>
    sums, _ = tiny.row_losses(model, rows)
    trainer = tiny.trainer(model, tmp_path, None, rows, callbacks=[KoCPTCallback(outputs=[])])
    metrics = trainer.evaluate()
    size = sum(len(text.encode()) for text in texts)
    assert all(len(row["input_ids"]) < 200 for row in rows)
    assert metrics["eval_bytes"] == size
    assert metrics["eval_bits_per_byte"] == pytest.approx(float(sums.sum()) / math.log(2) / size, rel=EXACT)
    assert metrics["eval_bits_per_byte_se"] > 0


def test_without_a_tokenizer(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``processing_class=None``: exact loss, no bits per byte and the reason; rows are told apart by their ids."""
    trainer = tiny.trainer(
        model, tmp_path, None, ROWS, callbacks=[KoCPTCallback(outputs=["files"])], processing_class=None
    )
    metrics = trainer.evaluate()
    row = trainer.state.log_history[-1]
    assert metrics["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert "eval_bits_per_byte" not in row and "eval_bytes" not in row
    assert "processing_class" in row["eval_bits_per_byte_absent"]
    assert row["eval_fingerprint"].startswith("ids-")
    assert _run(tmp_path)["evaluations"]["eval"]["bits_per_byte_absent"] == row["eval_bits_per_byte_absent"]


def test_fingerprint_is_the_text(tmp_path: Path) -> None:
    """The fingerprint knows the text and nothing else: not order, batch size or weights; another text differs."""
    found = []
    for seed, rows, size in ((0, ROWS, 3), (1, ROWS[::-1], 4), (0, OTHER, 3)):
        trainer = tiny.trainer(
            tiny.llama(VOCABULARY, seed=seed, layers=1),
            tmp_path,
            None,
            rows,
            callbacks=[KoCPTCallback(outputs=[])],
            per_device_eval_batch_size=size,
        )
        trainer.evaluate()
        found.append(trainer.state.log_history[-1]["eval_fingerprint"])
    assert found[0] == found[1] != found[2]


def test_run_file(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """run.json: what the run is, what it was told, its schedule sampled to max_steps, its attempts."""
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[KoCPTCallback(outputs=["files"], stop_on={"non-finite"}, grace=2)],
        max_steps=4,
        lr_scheduler_type="linear",
        learning_rate=0.5,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train()
    run = _run(tmp_path)
    assert run["watch"]["stop_on"] == ["non-finite"] and run["watch"]["grace"]["steps"] == 2
    assert run["planned_steps"] == 4 and run["world_size"] == 1 and run["device"] == "cpu"
    assert run["schedule"] == [[0, 0.5], [1, 0.375], [2, 0.25], [3, 0.125], [4, 0.0]]
    assert run["model"]["class"] == "LlamaForCausalLM" and run["model"]["quantization"] == "none"
    assert run["model"]["embedding_rows"] == VOCABULARY and run["model"]["trainable_share"] == 1.0
    assert run["tokenizer"]["hash"] and run["tokenizer"]["vocabulary"] >= VOCABULARY
    assert run["versions"]["transformers"] and run["arguments"]["learning_rate"] == 0.5
    assert [(item["attempt"], item["start_step"]) for item in run["attempts"]] == [(1, 0)]
    resumed = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[KoCPTCallback(outputs=["files"])],
        max_steps=4,
        lr_scheduler_type="linear",
        learning_rate=0.5,
    )
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    attempts = _run(tmp_path)["attempts"]
    assert [(item["attempt"], item["start_step"]) for item in attempts] == [(1, 0), (2, 2)]
    lines = _lines(tmp_path)
    beyond = [line for line in lines if line["attempt"] == 1 and line["step"] > 2]
    assert beyond and all(line["superseded"] for line in beyond)
    live = [line for line in lines if not line.get("superseded") and line["kind"] == "train"]
    assert [line["step"] for line in live] == [1, 2, 3, 4]
    assert live[-1]["tokens_seen"] == next(line for line in beyond if line["step"] == 4)["tokens_seen"]


def test_resume_with_restored_callbacks(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``restore_callback_states_from_checkpoint`` replaces the control object: still measured, removable."""
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[KoCPTCallback()], **settings).train()
    callback = KoCPTCallback(outputs=["files"])
    trainer = tiny.trainer(
        model, tmp_path, ROWS, ROWS, callbacks=[callback], restore_callback_states_from_checkpoint=True, **settings
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert [line["step"] for line in _lines(tmp_path) if line["kind"] == "train" and not line.get("superseded")] == [
        1,
        2,
    ]
    trainer.remove_callback(callback)
    assert _hooks(model) == 0


def test_evaluation_in_the_folder_of_a_trained_run(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """A later ``evaluate()`` in that folder adds its row and takes nothing of what run.json says of the training."""
    tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[KoCPTCallback(outputs=["files"])]).train()
    before, findings = _run(tmp_path), _lines(tmp_path, "findings.jsonl")
    tiny.trainer(model, tmp_path, None, OTHER, callbacks=[KoCPTCallback(outputs=["files"])]).evaluate()
    after = _run(tmp_path)
    assert [line.get("mode") for line in _lines(tmp_path)][-1] == "evaluate"
    assert _lines(tmp_path, "findings.jsonl") == findings
    assert {name: after[name] for name in ("schedule", "planned_steps", "watch")} == {
        name: before[name] for name in ("schedule", "planned_steps", "watch")
    }
    assert [item["mode"] for item in after["attempts"]] == ["train", "evaluate"]


def test_evaluate_then_train(model: LlamaForCausalLM, tmp_path: Path) -> None:
    """``evaluate()`` before ``train()`` is the first row of that run, not a run of its own."""
    callback = KoCPTCallback(outputs=["files"])
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[callback], max_steps=1)
    trainer.evaluate()
    assert callback.summary()["splits"]["eval"]["evaluations"] == 1
    trainer.train()
    lines = _lines(tmp_path)
    assert [line["kind"] for line in lines] == ["eval", *["setup"] * 5, "train", "end"]
    assert {line["attempt"] for line in lines} == {1} and not any("mode" in line for line in lines)


def test_best_model_by_exact_loss(tmp_path: Path) -> None:
    """``metric_for_best_model="eval_exact_loss"`` minimises it and ``load_best_model_at_end`` loads that checkpoint."""
    model = tiny.llama(VOCABULARY, layers=1)
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[callback := KoCPTCallback(outputs=[])],
        max_steps=3,
        learning_rate=3.0,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_exact_loss",
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "eval_exact_loss" in row]
    best = min(rows, key=lambda row: row["eval_exact_loss"])
    assert trainer.state.best_metric == best["eval_exact_loss"]
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{best['step']}")
    assert callback.best == (best["step"], best["eval_exact_loss"])
    assert tiny.exact_loss(model, ROWS) == pytest.approx(best["eval_exact_loss"], rel=EXACT)


# -- stopping ----


def test_stop_on_a_code(tmp_path: Path) -> None:
    """``stop_on={"non-finite"}``: training stops at that row with a checkpoint saved, and says why."""
    callback = KoCPTCallback(outputs=["files"], stop_on={"non-finite"})
    trainer = tiny.trainer(_breaks(at=2), tmp_path, ROWS, None, callbacks=[callback], max_steps=6)
    trainer.train()
    assert trainer.state.global_step == 2
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").exists()
    assert isinstance(callback.stop_reason, Finding)
    assert (callback.stop_reason.code, callback.stop_reason.step) == ("non-finite", 2)
    assert _run(tmp_path)["stop"]["code"] == "non-finite"


def test_stop_survives_an_evaluation_of_the_same_step(tmp_path: Path) -> None:
    """An evaluation that follows in the same step does not take the request to stop and save back."""
    trainer = tiny.trainer(
        _breaks(at=2),
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[KoCPTCallback(outputs=[], stop_on={"non-finite"})],
        max_steps=6,
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    assert trainer.state.global_step == 2 and (tmp_path / "checkpoint-2").exists()


def test_grace(tmp_path: Path) -> None:
    """Nothing stops before ``grace`` steps; the finding is there all the same."""
    callback = KoCPTCallback(outputs=[], stop_on={"non-finite"}, grace=10)
    trainer = tiny.trainer(_breaks(at=2), tmp_path, ROWS, None, callbacks=[callback], max_steps=4)
    trainer.train()
    assert trainer.state.global_step == 4 and callback.stop_reason is None
    assert any(finding.code == "non-finite" for finding in callback.findings)


def test_train_again_after_a_stop(tmp_path: Path) -> None:
    """Whoever trains on after a stop is not stopped by the old reason."""
    model = _breaks(at=2)
    callback = KoCPTCallback(outputs=[], stop_on={"non-finite"})
    trainer = tiny.trainer(
        model,
        tmp_path,
        ROWS,
        ROWS,
        callbacks=[callback],
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        learning_rate=0.0,
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert callback.stop_reason is not None
    model.at = trainer.optimizer = trainer.lr_scheduler = None  # the optimizer's moments are NaN too
    model.load_state_dict(tiny.llama(VOCABULARY, layers=1).state_dict())
    trainer.train()
    assert trainer.state.global_step == 4 and callback.stop_reason is None


# -- what must not happen ----


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the package warned of."""
    return [record.getMessage() for record in caplog.records if record.name == "ko_cpt_callbacks"]


def test_output_that_fails(model: LlamaForCausalLM, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An output that raises is reported once and dropped; the others and the run go on."""

    class Fails(Output):
        name = "fails"
        calls = 0

        def row(self, row: Mapping[str, Any]) -> None:
            self.calls += 1
            raise OSError("no space left on device")

    fails, memory = Fails(), MemoryOutput()
    trainer = tiny.trainer(model, tmp_path, ROWS, None, callbacks=[KoCPTCallback(outputs=[fails, memory])])
    trainer.train()
    assert fails.calls == 1
    assert [row["kind"] for row in memory.rows] == [*["setup"] * 5, "train", "train", "train", "end"]
    said = _said(caplog)
    assert len(said) == 1 and "fails" in said[0] and "no space left" in said[0]


def test_folder_that_cannot_be_written(
    model: LlamaForCausalLM, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the run folder cannot be made, training goes on and one warning says so."""
    (tmp_path / "ko_cpt").write_text("in the way")
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[KoCPTCallback(outputs=["files"])])
    trainer.train()
    assert trainer.evaluate()["eval_exact_loss"] == pytest.approx(tiny.exact_loss(model, ROWS), rel=EXACT)
    assert len(_said(caplog)) == 1


def test_own_error_never_reaches_the_run(
    model: LlamaForCausalLM, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours is one warning, not the end of a run, and no exact loss is made up."""
    from ko_cpt_callbacks.hf.measure import hooks as forward_watch

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(forward_watch, "read_evidence", broken)
    trainer = tiny.trainer(model, tmp_path, ROWS, ROWS, callbacks=[KoCPTCallback(outputs=[])], max_steps=1)
    trainer.train()
    metrics = trainer.evaluate()
    assert "eval_loss" in metrics and "eval_exact_loss" not in metrics
    assert "ZeroDivisionError" in trainer.state.log_history[-1]["eval_exact_loss_absent"]
    assert sum("ZeroDivisionError" in text for text in _said(caplog)) == 1


def test_before_any_run() -> None:
    """A callback that never ran has no findings, no summary, no best step, no reason to stop."""
    callback = KoCPTCallback()
    assert (callback.findings, callback.summary(), callback.best, callback.stop_reason) == ((), {}, None, None)
    callback.detach()


def test_wrong_arguments() -> None:
    """Arguments are keywords, and a wrong one is an error when the callback is built."""
    with pytest.raises(ConfigurationError, match="Did you mean 'non-finite'"):
        KoCPTCallback(stop_on={"nonfinite"})
    with pytest.raises(TypeError):
        KoCPTCallback("non-finite")  # type: ignore[misc]
