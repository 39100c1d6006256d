"""Real Trainers of every kind: what they train is read from them, and no number is called what it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import (
    EarlyStoppingCallback,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Trainer,
    TrainerCallback,
)

from ko_cpt_callbacks import KoCPTCallback, keys
from ko_cpt_callbacks.hf.publication import best_exact
from ko_cpt_callbacks.hf.trainer_reading import read_trainer
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.facts import facts_of
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.run.trainer_state import read_state_rows

ROWS = tiny.uneven_rows(16)
OTHER = tiny.uneven_rows(5, first=20)
VOCABULARY = len(tiny.byte_level_tokenizer())


def quiet(**settings: Any) -> KoCPTCallback:
    """A callback that keeps everything to itself."""
    return KoCPTCallback(outputs=(), **settings)


EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 1}


def train_rows(trainer: Any) -> list[dict[str, Any]]:
    """The training rows of its log."""
    return [row for row in trainer.state.log_history if keys.LOSS in row]


def eval_rows(trainer: Any) -> list[dict[str, Any]]:
    """The evaluation rows of its log."""
    return [row for row in trainer.state.log_history if "eval_runtime" in row]


# -- ordinary Trainers -----------------------------------------------------------------------------------------------


@pytest.mark.both_versions
def test_a_language_model(tmp_path: Path) -> None:
    """Causal, its training loss a perplexity, no multiple with accumulation; the facts say that it is whole."""
    callback = quiet()
    trainer = tiny.trainer(
        tiny.llama(VOCABULARY, layers=1), tmp_path, ROWS, OTHER, max_steps=4, gradient_accumulation_steps=4,
        callbacks=[callback], **EVALUATED,
    )  # fmt: skip
    trainer.train()
    for row in train_rows(trainer):
        assert row[keys.PPL] == pytest.approx(math.exp(row[keys.LOSS]))
    facts = callback.summary()
    assert (facts["kind"], facts["state"], facts["complete"]) == ("causal", "finished", True)
    assert (facts["steps_done"], facts["steps_planned"], facts["stopped_by"]) == (4, 4, None)
    assert "loss-scaled" not in [found.code for found in callback.findings]


class Ignoring(LlamaForCausalLM):
    """A model that takes ``num_items_in_batch`` and returns the mean of the micro-batch all the same."""

    def forward(self, input_ids: Any = None, num_items_in_batch: Any = None, **inputs: Any) -> Any:
        """See the class."""
        return super().forward(input_ids=input_ids, **inputs)


class Averaging(Trainer):
    """A Trainer whose loss is the mean of the micro-batch."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **others: Any) -> Any:
        """See the class."""
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def _ignoring() -> tuple[Any, type[Trainer]]:
    return Ignoring(tiny.llama(VOCABULARY, layers=1).config), Trainer


def _averaging() -> tuple[Any, type[Trainer]]:
    return tiny.llama(VOCABULARY, layers=1), Averaging


@pytest.mark.parametrize("made", [_ignoring, _averaging])
def test_a_loss_times_the_accumulation(made: Callable[[], tuple[Any, type[Trainer]]], tmp_path: Path) -> None:
    """Said once, with the factor, at the first row; no training row has a perplexity. A resume says nothing new."""
    model, kind = made()
    callback = quiet()
    trainer = tiny.trainer(
        model, tmp_path, ROWS, OTHER, max_steps=4, gradient_accumulation_steps=4, **EVALUATED, callbacks=[callback],
        trainer_class=kind,
    )  # fmt: skip
    trainer.train()
    (found,) = [found for found in callback.findings if found.code == "loss-scaled"]
    assert (found.variant, found.step) == ("accumulation", 1)
    assert found.values["factor"] == pytest.approx(4.0, rel=0.1)
    assert not found.asks_to_stop
    assert all(keys.PPL not in row for row in train_rows(trainer))
    if kind is Averaging:  # its evaluation is the model's own: the exact loss is what it is without the callback
        exact = tiny.exact_loss(trainer.model, OTHER)
        assert eval_rows(trainer)[-1]["eval_exact_loss"] == pytest.approx(exact, abs=1e-5)


def test_losses_that_are_no_cross_entropy(tmp_path: Path) -> None:
    """Label smoothing, a loss function of one's own, a model that adds to its loss: no training perplexity."""

    def third(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits, wanted = outputs["logits"][:, :-1].float(), labels[:, 1:]
        return 0.3 * torch.nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), wanted.reshape(-1))

    class Adding(LlamaForCausalLM):
        """Something is in its loss beside the text."""

        def forward(self, input_ids: Any = None, **inputs: Any) -> Any:
            """See the class."""
            output = super().forward(input_ids=input_ids, **inputs)
            output.loss = None if output.loss is None else output.loss + 0.7
            return output

    plain = tiny.llama(VOCABULARY, layers=1)
    cases: list[tuple[Any, dict[str, Any]]] = [
        (plain, {"label_smoothing_factor": 0.1}),
        (tiny.llama(VOCABULARY, layers=1), {"compute_loss_func": third}),
        (Adding(plain.config), {}),
    ]
    for index, (model, settings) in enumerate(cases):
        callback = quiet()
        folder = tmp_path / str(index)
        trainer = tiny.trainer(model, folder, ROWS, OTHER, max_steps=2, callbacks=[callback], **settings)
        trainer.train()
        assert train_rows(trainer), index
        assert all(keys.PPL not in row for row in train_rows(trainer)), index
        assert callback.summary()["kind"] == "causal"


def test_a_target_is_never_met_by_another_loss(tmp_path: Path) -> None:
    """A third of the cross-entropy is below 3 from the start; the exact loss is not, and decides, or nothing."""

    def third(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits, wanted = outputs["logits"][:, :-1].float(), labels[:, 1:]
        return 0.3 * torch.nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), wanted.reshape(-1))

    callback = quiet(targets=["eval_exact_loss<3.0@end", "eval_ppl<-10%@end"], stop_on={"target-met"})
    trainer = tiny.trainer(
        tiny.llama(VOCABULARY, layers=1), tmp_path, ROWS, OTHER, max_steps=3, eval_on_start=True, **EVALUATED,
        compute_loss_func=third, callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 3
    assert eval_rows(trainer)[0]["eval_loss"] < 3.0
    assert "target-met" not in [found.code for found in callback.findings]
    assert callback.stop_reason is None
    assert callback.best is None or callback.best[1] > 3.0


def test_a_classifier(tmp_path: Path) -> None:
    """Its loss is over classes: kind other, no perplexity, no exact loss."""
    config = tiny.llama(VOCABULARY, layers=1, num_labels=2).config
    rows = [{"input_ids": (row["input_ids"] * 8)[:8], "labels": index % 2} for index, row in enumerate(ROWS)]

    def collate(features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {name: torch.tensor([feature[name] for feature in features]) for name in ("input_ids", "labels")}

    callback = quiet(task="other")
    trainer = tiny.trainer(
        LlamaForSequenceClassification(config), tmp_path, rows, rows[:4], max_steps=2, data_collator=collate,
        callbacks=[callback], **EVALUATED,
    )  # fmt: skip
    trainer.train()
    assert callback.summary()["kind"] == "other"
    assert all(keys.PPL not in row for row in train_rows(trainer))
    assert all("eval_exact_loss" not in row for row in eval_rows(trainer))
    assert callback.best is None


# -- how a run ends ----------------------------------------------------------------------------------------------------


class Enough(TrainerCallback):
    """A callback of the user's own that ends the run after two steps."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """See the class."""
        control.should_training_stop = state.global_step >= 2


@pytest.mark.both_versions
def test_who_stopped_a_run(tmp_path: Path) -> None:
    """Stopped by a finding, by early stopping, by another callback: named. Its rows alone say the same, and the
    Trainer's own state that it was stopped."""
    cases: list[tuple[str, dict[str, Any], list[Any], dict[str, Any]]] = [
        ("target-met", {"targets": "eval_exact_loss<9", "stop_on": ["target-met"]}, [], {}),
        ("EarlyStoppingCallback", {}, [EarlyStoppingCallback(1, 100.0)],
         {"metric_for_best_model": "eval_loss", "load_best_model_at_end": True, "save_strategy": "steps",
          "save_steps": 1, "greater_is_better": False}),
        ("should_training_stop", {}, [Enough()], {}),
    ]  # fmt: skip
    for by, settings, others, arguments in cases:
        callback = KoCPTCallback(outputs=("files",), **settings)
        trainer = tiny.trainer(
            tiny.llama(VOCABULARY, layers=1), tmp_path / by, ROWS, OTHER, max_steps=6, callbacks=[callback, *others],
            **EVALUATED, **arguments,
        )  # fmt: skip
        trainer.train()
        facts = callback.summary()
        assert (facts["state"], facts["complete"], facts["stopped_by"]) == ("stopped", False, by), by
        assert facts["steps_done"] < facts["steps_planned"] == 6
        trainer.save_state()
        bare = read_state_rows(tmp_path / by / "trainer_state.json").ended_by
        assert bare == ("EarlyStoppingCallback" if by == "EarlyStoppingCallback" else "should_training_stop")
        state, found = Monitor().judge(read_run(tmp_path / by).observations())
        again = facts_of(state.summary(), found).as_dict()
        assert {name: facts[name] for name in again if name != "verdict"} == {
            name: value for name, value in again.items() if name != "verdict"
        }


def test_a_run_says_that_it_runs(tmp_path: Path) -> None:
    """While it trains; afterwards it is finished."""
    seen: list[str] = []
    callback = quiet()

    class Looks(TrainerCallback):
        """Asks in the middle."""

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """See the class."""
            seen.append(callback.summary()["state"])

    trainer = tiny.trainer(
        tiny.llama(VOCABULARY, layers=1), tmp_path, ROWS, OTHER, max_steps=2, callbacks=[callback, Looks()]
    )
    trainer.train()
    assert seen == ["running", "running"]
    assert callback.summary()["state"] == "finished"


def test_the_closing_row_holds_no_evaluation() -> None:
    """What TRL logs beside `train_loss` is of training; a metrics file with an evaluation in it still has that."""
    closing = {"train_loss": 2.0, "train_runtime": 3.0, "aux_loss": 0.1, "policy_loss": 0.2, "step": 9}
    assert [type(seen).__name__ for seen in observations_of([closing])] == ["EndObservation"]
    both = {**closing, "eval_loss": 2.0, "eval_runtime": 1.0}
    assert [type(seen).__name__ for seen in observations_of([both])] == ["EvalObservation", "EndObservation"]


def test_the_best_is_an_exact_loss() -> None:
    """Of the first set that is no retention set; a Trainer's loss is never the best, however low."""

    def best(*rows: EvalObservation) -> tuple[int, float] | None:
        return best_exact(Monitor().judge(rows)[0].summary().splits, ("en",))

    assert best() is None
    assert best(EvalObservation(1, loss=0.1)) is None
    assert best(EvalObservation(1, exact_loss=3.0), EvalObservation(2, loss=0.1)) == (1, 3.0)
    rows = [EvalObservation(1, split="eval_en", exact_loss=1.0), EvalObservation(1, split="eval_ko", exact_loss=2.0)]
    assert best(*rows) == (1, 2.0)


# -- TRL ---------------------------------------------------------------------------------------------------------------


PROMPTS = [text[:12] for text in tiny.korean()[:12]]


def _tokenizer() -> Any:
    return tiny.byte_level_tokenizer()


def _arguments(kind: Any, folder: Path, **settings: Any) -> Any:
    return kind(
        output_dir=str(folder), max_steps=2, per_device_train_batch_size=2, per_device_eval_batch_size=2,
        logging_steps=1,
        eval_strategy="steps", eval_steps=1, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True, **settings,
    )  # fmt: skip


def _pairs() -> Any:
    from datasets import Dataset

    texts = tiny.korean()[:12]
    return Dataset.from_dict(
        {"prompt": PROMPTS, "chosen": [text[12:24] for text in texts], "rejected": [text[24:36] for text in texts]}
    )


def _saved(model: Any, folder: Path) -> Any:
    """A model that can be loaded again: a reference model is."""
    model.save_pretrained(folder / "base")
    _tokenizer().save_pretrained(folder / "base")
    return type(model).from_pretrained(folder / "base")


def _dpo(trl: Any, folder: Path, callback: KoCPTCallback) -> Any:
    model = _saved(tiny.llama(VOCABULARY, layers=1), folder)
    return trl.DPOTrainer(
        model=model, args=_arguments(trl.DPOConfig, folder, max_length=64), train_dataset=_pairs(),
        eval_dataset=_pairs().select(range(4)), processing_class=_tokenizer(), callbacks=[callback],
    )  # fmt: skip


def _kto(trl: Any, folder: Path, callback: KoCPTCallback) -> Any:
    from datasets import Dataset

    texts = tiny.korean()[:12]
    rows = Dataset.from_dict(
        {"prompt": PROMPTS, "completion": [text[12:24] for text in texts], "label": [bool(i % 2) for i in range(12)]}
    )
    return trl.KTOTrainer(
        model=_saved(tiny.llama(VOCABULARY, layers=1), folder), args=_arguments(trl.KTOConfig, folder, max_length=64),
        train_dataset=rows, eval_dataset=rows.select(range(4)), processing_class=_tokenizer(), callbacks=[callback],
    )  # fmt: skip


def _reward(trl: Any, folder: Path, callback: KoCPTCallback) -> Any:
    model = LlamaForSequenceClassification(tiny.llama(VOCABULARY, layers=1, num_labels=1).config)
    return trl.RewardTrainer(
        model=model, args=_arguments(trl.RewardConfig, folder, max_length=64), train_dataset=_pairs(),
        eval_dataset=_pairs().select(range(4)), processing_class=_tokenizer(), callbacks=[callback],
    )  # fmt: skip


def _grpo(trl: Any, folder: Path, callback: KoCPTCallback) -> Any:
    from datasets import Dataset

    rows = Dataset.from_dict({"prompt": PROMPTS})
    arguments = _arguments(trl.GRPOConfig, folder, num_generations=2, max_completion_length=4)
    return trl.GRPOTrainer(
        model=tiny.llama(VOCABULARY, layers=1), args=arguments, train_dataset=rows, eval_dataset=rows.select(range(4)),
        processing_class=_tokenizer(), callbacks=[callback],
        reward_funcs=lambda completions, **others: [float(len(text)) for text in completions],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "made"),
    [("preference", _dpo), ("preference", _kto), ("reward", _reward), ("rl", _grpo)],
    ids=["dpo", "kto", "reward", "grpo"],
)
def test_trainers_that_score_answers(kind: str, made: Callable[..., Any], tmp_path: Path) -> None:
    """No exact loss, with a reason that names the Trainer; no perplexity anywhere, no best, no verdict on one."""
    trl = pytest.importorskip("trl")
    callback = quiet(targets=["eval_ppl<1e5@end"], stop_on={"target-met"})
    trainer = made(trl, tmp_path, callback)
    trainer.train()
    name = type(trainer).__name__
    rows = eval_rows(trainer)
    assert len(rows) == 2
    for row in rows:
        assert row["eval_exact_loss_absent"].startswith(f"{name} ")
        assert not {"eval_exact_loss", "eval_ppl", "eval_bits_per_byte"} & set(row)
    assert all(keys.PPL not in row for row in train_rows(trainer))
    assert callback.best is None
    facts = callback.summary()
    assert (facts["kind"], facts["state"], facts["steps_done"]) == (kind, "finished", 2)
    assert facts["splits"]["eval"]["last"]["ppl"] is None
    codes = {found.topic for found in callback.findings}
    assert "exact-loss-absent" in codes
    assert not codes & {"target-met", "below-floor", "memorizing", "loss-scaled"}
    # What a bare log of it says without the callback's own keys.
    own = {"exact_loss_absent", "nonfinite"}
    bare = [{k: v for k, v in row.items() if not any(part in k for part in own)} for row in trainer.state.log_history]
    state, _ = Monitor(task="other").judge(observations_of(bare))
    assert state.progress.seen.kind == kind


def test_an_evaluation_without_training(tmp_path: Path) -> None:
    """`evaluate()` alone, and `predict()`, of a Trainer that scores answers has no exact loss either."""
    trl = pytest.importorskip("trl")
    callback = quiet()
    trainer = _dpo(trl, tmp_path, callback)
    assert not {"eval_exact_loss", "eval_ppl"} & set(trainer.evaluate())
    (row,) = eval_rows(trainer)
    assert row["eval_exact_loss_absent"].startswith("DPOTrainer scores pairs")
    assert callback.summary()["state"] == "finished"
    assert callback.best is None


def test_supervised_fine_tuning_with_another_loss(tmp_path: Path) -> None:
    """TRL's `dft` weighs tokens by their probability: causal, an exact loss, and no training perplexity."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = Dataset.from_dict({"text": list(tiny.korean()[:12])})
    for loss_type, has in (("nll", True), ("dft", False)):
        folder = tmp_path / loss_type
        callback = quiet(task="sft")
        trainer = trl.SFTTrainer(
            model=tiny.llama(VOCABULARY, layers=1),
            args=_arguments(trl.SFTConfig, folder, max_length=48, loss_type=loss_type), train_dataset=rows,
            eval_dataset=rows.select(range(4)), processing_class=_tokenizer(), callbacks=[callback],
        )  # fmt: skip
        trainer.train()
        assert callback.summary()["kind"] == "causal"
        assert [keys.PPL in row for row in train_rows(trainer)] == [has, has], loss_type
        assert all("eval_exact_loss" in row for row in eval_rows(trainer)), loss_type


def test_what_is_read_without_a_trainer() -> None:
    """Arguments and model say it where the Trainer itself is not known; nothing known is `other`."""
    read = read_trainer(None, object(), tiny.llama(VOCABULARY, layers=1))
    assert (read.kind, read.name, read.perplexity, read.absent) == ("causal", None, True, None)
    assert read_trainer(None, object(), None).kind == "other"

    class KTOConfig:
        """Arguments that name the kind."""

    kto = read_trainer(None, KTOConfig(), tiny.llama(VOCABULARY, layers=1))
    assert kto.kind == "preference"
    assert kto.absent is not None
    assert kto.absent.startswith("this Trainer scores pairs")
    assert not kto.perplexity
