"""The terms of the memory are those of real models, optimizers and losses, where these can be made on a CPU."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from training.made_recipe import LORA, ROWS, loaded, made_model, made_recipe
from training.weight_bytes import standing, weight_bytes
from transformers import AutoConfig, AutoModelForCausalLM, Trainer

from ko_cpt_callbacks import Recipe
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.memory import EVAL_LOGIT_BYTES, GIB, LOGIT_BYTES, StageMemory, recipe_memory
from ko_cpt_callbacks.recipe.reading import read_recipe

FAMILIES = ["llama", "gemma3", "qwen2", "gpt_neox"]
NEOX_LORA = {**LORA, "target_modules": ["query_key_value", "dense_4h_to_h"]}
STAGES: dict[str, dict[str, Any]] = {
    "embedding": {"input": "all", "output": "all"},
    "odd": {"layers": "odd"},
    "all": {"input": "all", "output": "all", "layers": "all"},
}


def _lora(family: str) -> dict[str, Any]:
    return NEOX_LORA if family == "gpt_neox" else LORA


def _term(memory: StageMemory, name: str) -> int:
    return sum(term.bytes for term in memory.terms if term.name == name)


def _trained(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", ["whole", "LoRA", "8-bit", "4-bit"])
def test_weights_are_those_of_the_model(tmp_path: Path, family: str, dtype: str, way: str) -> None:
    """After each stage's preparation: bytes of the weights with scales, adapters and copies, and what is trained."""
    kind = way if way.endswith("bit") else "none"
    adapters = {} if way == "whole" else dict.fromkeys(("odd", "all"), _lora(family))
    recipe = made_recipe(tmp_path, STAGES, family=family, quantization=kind, adapters=adapters, base={"dtype": dtype})
    model = loaded(recipe, made_model(family), tmp_path / "model")
    for memory in recipe_memory(recipe.page):
        model = recipe.apply_trainable(model, memory.stage)
        assert memory.trainable == _trained(model)
        # Scales of 4-bit scales have an offset and two tables more, a few bytes of each matrix.
        assert standing(memory) == pytest.approx(weight_bytes(model), rel=0.002 if kind == "4-bit" else 0)


@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_8bit", "paged_adamw_32bit", "sgd"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_optimizer_keeps_as_much(tmp_path: Path, optim: str, dtype: str) -> None:
    """Bytes of the moments after a step that the Trainer's optimizer makes: an 8-bit one keeps those of the input
    embedding in float32, AdamW's have the type of the weights."""
    trains = {"input": "all", "output": "all", "layers": "all"}
    recipe = made_recipe(tmp_path, {"all": trains}, base={"dtype": dtype}, arguments={"optim": optim})
    model = recipe.apply_trainable(loaded(recipe, made_model("llama"), tmp_path / "model"), "all")
    trainer = Trainer(model=model, args=recipe.training_arguments("all", tmp_path / "run"))
    optimizer = trainer.create_optimizer()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    kept = 0
    for state in optimizer.state.values():
        tensors = [item for name, item in state.items() if torch.is_tensor(item) and name != "step"]
        kept += sum(item.numel() * item.element_size() for item in tensors if item.numel() != 256)  # bnb's tables
    (memory,) = recipe_memory(recipe.page)

    # bitsandbytes keeps matrices of fewer than 4,096 numbers, here the norms, in float32.
    assert _term(memory, "optimizer") == pytest.approx(kept, rel=0.03 if "8bit" in optim else 0)
    assert (kept == 0) == (optim == "sgd")


def test_logits_take_twelve_bytes() -> None:
    """Peak of the loss that transformers computes from 16-bit logits: forward and backward, per logit."""
    tokens, width, rows = 128, 16, 20_000
    hidden = torch.randn(tokens, width, dtype=torch.bfloat16, requires_grad=True)
    head = torch.randn(rows, width, dtype=torch.bfloat16)
    labels = torch.randint(0, rows, (tokens,))

    def step(backward: bool) -> None:
        logits = hidden @ head.T
        loss = cross_entropy(logits.float(), labels, reduction="sum") / tokens
        if backward:
            del logits  # the Trainer has let go of the model's output by then
            loss.backward()

    assert _peak(lambda: step(True)) / (tokens * rows) == pytest.approx(LOGIT_BYTES, rel=0.01)
    with torch.no_grad():
        assert _peak(lambda: step(False)) / (tokens * rows) == pytest.approx(EVAL_LOGIT_BYTES, rel=0.01)


def _peak(step: Any) -> int:
    """The most bytes that were allocated at one time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda item: item.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


KINDS = {
    "whole, 16-bit": ("bfloat16", False, 0.0, (0.98, 1.3)),
    "LoRA, 16-bit": ("bfloat16", True, 0.0, (0.98, 1.3)),
    "LoRA with dropout, 16-bit": ("bfloat16", True, 0.1, (0.98, 1.3)),
    # A norm that computes in float32 makes no second copy of what is float32 already, and Gemma has six of them.
    "whole, float32": ("float32", False, 0.0, (0.98, 1.6)),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_keeps_about_as_much(tmp_path: Path, family: str, kind: str) -> None:
    """What autograd keeps of one block more, for each token: never more than the formula says, and not much less."""
    dtype, adapted, dropout, (least, most) = KINDS[kind]
    settings = {**_lora(family), "lora_dropout": dropout, "target_modules": _all_linears(family)}
    kept = []
    for layers in (2, 3):
        recipe = made_recipe(
            tmp_path,
            {"all": {"layers": "all"}},
            family=family,
            adapters={"all": settings} if adapted else {},
            base={"dtype": dtype},
            arguments={"bf16": dtype == "bfloat16", "per_device_train_batch_size": 1},
            overrides=(f"base.shape.num_hidden_layers={layers}", "data.sequence_length=512"),
        )
        model = _of_layers(recipe, layers)
        model = recipe.apply_trainable(model, "all").train()
        (memory,) = recipe_memory(recipe.page)
        tokens = recipe.page.data.sequence_length
        kept.append((_kept(model, tokens, autocast=dtype == "bfloat16"), _term(memory, "activations")))
    ((real, said),) = [[b - a for a, b in zip(*both, strict=True)] for both in pairwise(kept)]

    assert least <= said / real <= most


def _of_layers(recipe: Recipe, layers: int) -> Any:
    """A model of the recipe's shape, every block of one kind."""
    shape = recipe.page.base.sizes
    kind = "gemma3_text" if shape.family == "gemma3" else shape.family
    values = shape.model_dump(exclude={"family"}, exclude_none=True)
    if shape.family != "gpt_neox":
        values["num_key_value_heads"] = shape.num_attention_heads
    if shape.family == "gemma3":
        values["head_dim"] = shape.hidden_size // shape.num_attention_heads
    more = {"layer_types": ["full_attention"] * layers} if shape.family == "gemma3" else {}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values, **more), dtype=recipe.dtype)


def _all_linears(family: str) -> list[str]:
    if family == "gpt_neox":
        return ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
    return ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def _kept(model: Any, tokens: int, *, autocast: bool) -> int:
    """Bytes that autograd keeps of a forward pass, weights left out."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, tuple[int, Any]] = {}  # the tensor too: its address must not be used again

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.requires_grad_(True))
    ids = torch.randint(0, ROWS, (1, tokens))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=autocast),
    ):
        model(input_ids=ids)
    return sum(size for size, _ in seen.values())


# -- arithmetic by hand ----------------------------------------------------------------------------------------------


def _of(id: str, *overrides: str, **how: Any) -> dict[str, StageMemory]:
    page = read_recipe(find_recipe(id), overrides).recipe
    return {memory.stage: memory for memory in recipe_memory(page, **how)}


def test_the_vocabulary_of_the_note_s_run() -> None:
    """MedGemma with 282,784 rows: 6.5 GiB for the logits of 2,048 tokens, more than two bodies of 8 bits."""
    memory = _of("medgemma-a6000-8bit")["lora"]

    assert _term(memory, "logits") == 4 * 512 * 282_784 * 12
    assert _term(memory, "logits") / GIB == pytest.approx(6.47, abs=0.01)
    assert _term(memory, "copies beside the adapter") == 2 * 282_784 * 2560 * 2
    assert memory.bytes < 48 * GIB


def test_checkpointing_keeps_the_blocks_inputs() -> None:
    """Without it every block keeps all it computes; with it only what goes in, and one block is there at a time."""
    with_it = _of("redwhale")["odd"]
    without = _of("redwhale", "stages.odd.arguments.gradient_checkpointing=false")["odd"]

    assert _term(with_it, "activations") == 48 * 4 * 2048 * 4096 * 2
    assert _term(without, "activations") == 48 * _term(with_it, "one block")
    assert without.bytes > with_it.bytes


def test_int8_keeps_what_goes_into_its_layers() -> None:
    """A frozen 8-bit block keeps the inputs of its linear layers, which a frozen 16-bit one does not: 2 bytes for each
    number of the width twice (attention, and what follows it) and of the inner width once."""
    small = ("base.dtype=bfloat16", "stages.embedding.arguments.gradient_checkpointing=false")
    eight = _of("redwhale-a6000-8bit", *small)["embedding"]
    four = _of("redwhale-a6000-8bit", "base.quantization=4-bit", *small)["embedding"]

    assert _term(eight, "activations") - _term(four, "activations") == 48 * 2 * 1024 * 2 * (2 * 4096 + 14336)


def test_batch_and_length_scale_what_a_batch_needs() -> None:
    """Twice the rows: twice the activations and logits, and nothing else."""
    one, two = (_of("redwhale", f"stages.lora.arguments.per_device_train_batch_size={n}")["lora"] for n in (4, 8))
    changed = {term.name for term, other in zip(one.terms, two.terms, strict=True) if term.bytes != other.bytes}

    assert changed == {"activations", "logits", "one block", "logits of evaluation"}
    assert _term(two, "logits") == 2 * _term(one, "logits")


def test_many_gpus() -> None:
    """DDP adds a copy of the gradients; ZeRO-2 cuts gradients and optimizer up, FSDP the weights too, in float32."""
    one, ddp = _of("redwhale")["odd"], _of("redwhale", gpus=8)["odd"]
    zero, full = (_of("redwhale", gpus=8, sharding=how)["odd"] for how in ("zero2", "full"))
    trained = 24 * 218_112_000

    assert one.trainable == trained
    assert ddp.bytes - one.bytes == _term(ddp, "DDP's buckets") == trained * 2
    assert _term(zero, "gradients") == _term(full, "gradients") == trained * 4 // 8
    assert _term(full, "optimizer") == trained * 8 // 8
    assert _term(full, "weights") == (trained * 4 + (10_871_377_920 - trained) * 2) // 8
    assert full.bytes < zero.bytes < ddp.bytes


def test_one_gpu_shares_with_nobody() -> None:
    """A way of sharing means nothing with one GPU."""
    assert _of("redwhale", gpus=1, sharding="full") == _of("redwhale")


def test_quantised_weights_are_not_cut_up() -> None:
    """FSDP over an 8-bit body is refused, with a way out."""
    with pytest.raises(ConfigurationError, match="found full with a base in 8-bit, expected none or zero2"):
        _of("redwhale-a6000-8bit", gpus=2, sharding="full")
    assert _of("redwhale-a6000-8bit", gpus=2, sharding="zero2")


@pytest.mark.parametrize("id", ["redwhale", "redwhale-a6000-8bit", "eeve", "thunder", "quickstart"])
def test_the_sum_is_that_of_the_terms(id: str) -> None:
    """Of the moments that follow each other the largest is counted, the others are shown."""
    for memory in _of(id).values():
        moments = [term for term in memory.terms if term.name in ("logits", "one block", "logits of evaluation")]
        counted = [term for term in moments if term.counted]

        assert len(moments) == 3
        assert [term.bytes for term in counted] == [max(term.bytes for term in moments)]
        assert memory.bytes == sum(term.bytes for term in memory.terms) - sum(
            term.bytes for term in moments if not term.counted
        )
        assert all(term.bytes >= 0 and term.how for term in memory.terms)
