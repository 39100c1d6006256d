"""What run.json says a run is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerState, TrainingArguments, get_scheduler

from ko_cpt_callbacks.hf.model import facts

pytestmark = pytest.mark.both_versions


def test_versions() -> None:
    """Of this package and of what its numbers depend on; a package that is not there is None."""
    found = facts.versions()
    assert found["transformers"] == __import__("transformers").__version__
    assert set(found) >= {"python", "ko_cpt_callbacks", "torch", "peft", "bitsandbytes", "trl"}


def test_plain_model() -> None:
    """Class, vocabulary, rows of the embedding, parameters, formats."""
    model = tiny.llama(50, hidden=8, layers=1)
    model.resize_token_embeddings(64)
    model.config.vocab_size = 50
    model.lm_head.weight.requires_grad_(False)
    found = facts.model_facts(model.to(torch.bfloat16))
    total = sum(weight.numel() for weight in model.parameters())
    assert found["class"] == "LlamaForCausalLM"
    assert found["model_type"] == "llama"
    assert (found["vocab_size"], found["embedding_rows"]) == (50, 64)
    assert found["parameters"] == total
    assert found["trainable_share"] == pytest.approx(1 - 64 * 8 / total)
    assert (found["dtypes"], found["quantization"], found["adapter"]) == (["bfloat16"], "none", None)


def test_eight_bit_lora(tmp_path: Path) -> None:
    """8-bit LoRA: named as such; the class is the base model's; parameters of packed weights are counted whole."""
    plain = tiny.llama(50, hidden=32, layers=1)
    total = sum(weight.numel() for weight in plain.parameters())
    model = tiny.lora(tiny.eight_bit(plain, tmp_path))
    found = facts.model_facts(model)
    assert (found["quantization"], found["adapter"], found["class"]) == ("8-bit", "LORA", "LlamaForCausalLM")
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert found["trainable_parameters"] == trained
    # modules_to_save keeps a copy of embedding and head beside the originals.
    assert found["parameters"] == total + trained
    assert "int8" in found["dtypes"]


def test_other_quantisation() -> None:
    """A method's own name, from the config as an object or a dict; 4-bit by its flag."""
    model = tiny.llama(50, hidden=8, layers=1)
    model.config.quantization_config = {"quant_method": "gptq"}
    assert facts.quantization(model) == "gptq"
    model.is_loaded_in_4bit = True
    assert facts.quantization(model) == "4-bit"


def test_module_of_nobodys_family() -> None:
    """A bare module is described as far as it goes."""
    found = facts.model_facts(torch.nn.Linear(3, 2))
    assert (found["class"], found["parameters"], found["model_type"]) == ("Linear", 8, None)
    assert facts.model_facts(torch.nn.Identity())["trainable_share"] is None


def test_arguments_are_plain() -> None:
    """Enums as their values, JSON-safe, only what this version has."""
    args = TrainingArguments(output_dir="unused", use_cpu=True, report_to="none", lr_scheduler_type="cosine", seed=7)
    found = facts.run_facts(args, torch.nn.Linear(3, 2), {}, TrainerState(), None)["arguments"]
    assert (found["lr_scheduler_type"], found["seed"], found["eval_strategy"]) == ("cosine", 7, "no")
    assert "packing" not in found  # SFTConfig's
    json.dumps(found, allow_nan=False)


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def _scheduler(name: str, steps: int, warmup: int = 0, **more: Any) -> Any:
    return get_scheduler(
        name, _optimizer(), num_warmup_steps=warmup, num_training_steps=steps, scheduler_specific_kwargs=more
    )


def _rates(scheduler: Any, step: int, last: int) -> list[list[float]] | None:
    found = facts.planned_rates(scheduler, step, last)
    return None if found is None else [list(point) for point in zip(*found, strict=True)]


def test_short_schedule_is_whole() -> None:
    """Every step of a short run, the rate in effect before each step and the last."""
    found = _rates(_scheduler("linear", 4, warmup=2), 0, 4)
    assert found == [[0, 0.0], [1, 1.0], [2, 2.0], [3, 1.0], [4, 0.0]]


def test_long_schedule_is_sampled() -> None:
    """About 200 points from step 0 to the last, each the schedule's own value at that step."""
    found = _rates(_scheduler("cosine", 1000), 0, 1000)
    assert found is not None
    assert len(found) == 201
    assert (found[0], found[-1][0], found[100]) == ([0, 2.0], 1000, [500, pytest.approx(1.0)])
    assert [step for step, _ in found] == sorted({step for step, _ in found})


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("warmup_stable_decay", {"num_decay_steps": 333, "num_stable_steps": 19_650}), ("polynomial", {"power": 2.0}),
        ("cosine_with_restarts", {"num_cycles": 3}), ("inverse_sqrt", {}), ("constant_with_warmup", {}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}), ("linear", {}),
    ],
)  # fmt: skip
def test_between_the_points_a_rate_is_straight(name: str, more: dict[str, Any]) -> None:
    """Of 20,000 steps with 17 of warm-up each is within 0.2 % of the peak of the line through the points."""
    scheduler = _scheduler(name, 20_000, 17, **more)
    found = facts.planned_rates(scheduler, 0, 20_000)
    assert found is not None and len(found[0]) < 300
    every = np.arange(20_001)
    true = np.array([2.0 * scheduler.lr_lambdas[0](int(step)) for step in every])
    assert np.abs(np.interp(every, *found) - true).max() < 0.002 * 2.0


def test_looking_at_a_schedule_does_not_move_it() -> None:
    """Sampling leaves the scheduler where it was, and an object that counts its calls uncounted."""

    class Counting:
        calls = 0

        def __call__(self, step: int) -> float:
            self.calls += 1
            return 1.0

    rule = Counting()
    scheduler = LambdaLR(_optimizer(), rule)
    before = rule.calls
    assert _rates(scheduler, 0, 10) is not None
    assert (scheduler.last_epoch, scheduler.get_last_lr(), rule.calls) == (0, [2.0], before)


def test_a_schedule_that_began_anew() -> None:
    """After a resume without its state a scheduler is at its beginning: its rates are those from the resume on."""
    found = _rates(_scheduler("linear", 4), 2, 6)
    assert found == [[0, 2.0], [1, 2.0], [2, 2.0], [3, 1.5], [4, 1.0], [5, 0.5], [6, 0.0]]


def test_schedule_that_depends_on_more_than_the_step() -> None:
    """None: of ReduceLROnPlateau, a class of one's own, a table that ends before the run, a rate that is another now,
    a run of unknown length, and no scheduler."""

    class Own(LambdaLR):
        def get_lr(self) -> Any:
            return [1.0]

    moved = _scheduler("linear", 4)
    moved._last_lr = [0.3]
    table = LambdaLR(_optimizer(), [1.0, 0.5].__getitem__)
    for scheduler in (_scheduler("reduce_lr_on_plateau", 4), Own(_optimizer(), lambda step: 1.0), table, moved, None):
        assert _rates(scheduler, 0, 4) is None
    assert _rates(_scheduler("linear", 4), 0, 0) is None
