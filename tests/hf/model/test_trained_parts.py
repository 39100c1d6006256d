"""What is being trained, read from real models in the states that staged trainings put them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from packaging.version import Version
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from ko_cpt_callbacks.compare.stage import Trains
from ko_cpt_callbacks.hf.model.trained_parts import read_stage
from ko_cpt_callbacks.training.model.layout import empty_model

pytestmark = pytest.mark.both_versions

VOCABULARY, HIDDEN, LAYERS, OLD = 40, 16, 4, 36
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": 32, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2,
}  # fmt: skip
MATRIX = VOCABULARY * HIDDEN


def llama(tied: bool = False) -> Any:
    """A Llama; its embeddings and head are two matrices unless ``tied``."""
    return tiny.llama(VOCABULARY, hidden=HIDDEN, layers=LAYERS, tie_word_embeddings=tied)


def model_of(config: Any) -> Any:
    """A model with seeded weights from a configuration."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def gemma() -> Any:
    """Gemma: embeddings and head are one matrix."""
    return model_of(GemmaConfig(**SIZES))


def qwen() -> Any:
    """Qwen2: two matrices, biases in the attention."""
    sizes = {name: value for name, value in SIZES.items() if name != "head_dim"}
    return model_of(Qwen2Config(**sizes, tie_word_embeddings=False))


def only(model: Any, *parts: nn.Module) -> Any:
    """The model with only these parts trained."""
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    return model


def embeddings(model: Any) -> Any:
    """Embeddings and head trained, nothing else."""
    return only(model, model.get_input_embeddings(), model.get_output_embeddings())


def blocks(model: Any, first: int, step: int = 2) -> Any:
    """Every ``step``-th block from ``first`` trained, nothing else."""
    return only(model, *list(model.model.layers)[first::step])


def lora(model: Any, **settings: Any) -> Any:
    """LoRA on two linears of the attention, 4 x rank x hidden parameters a block."""
    from peft import LoraConfig, get_peft_model

    defaults = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    return get_peft_model(model, LoraConfig(**{**defaults, **settings}))


def hooked(model: Any, *parts: nn.Module) -> Any:
    """The matrices of these parts train, and a hook holds their old rows back."""
    only(model, *parts)

    def hold(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[:OLD] = 0
        return gradient

    for weight in {id(part.weight): part.weight for part in parts}.values():
        weight.register_hook(hold)
    return model


def norms(model: Any) -> Any:
    """The norms of all blocks trained, and nothing else of them."""
    return only(model, *(module for name, module in model.named_modules() if "layernorm" in name))


PAIR = 2 * 2 * 2 * HIDDEN  # LoRA of rank 2 on two square linears of a block


@dataclass(frozen=True)
class Case:
    """A model's state, and what is to be read of it."""

    make: Callable[[], Any]
    name: str
    trains: Trains
    layers: tuple[int, ...] = ()
    tied: str = "untied"
    trainable: dict[str, int] | None = None
    new_rows_from: int | None = None
    new_rows: int | None = None
    notes: tuple[str, ...] = field(default=())


ALL = (0, 1, 2, 3)
SAVED = {"modules_to_save": ["embed_tokens", "lm_head"]}
CASES: dict[str, Case] = {
    "llama full": Case(llama, "full", Trains("all", "all", "all"), ALL),
    "llama tied full": Case(lambda: llama(True), "full", Trains("all", "all", "all"), ALL, "tied"),
    "llama frozen": Case(lambda: only(llama()), "frozen", Trains(), trainable={}),
    "llama embeddings": Case(
        lambda: embeddings(llama()), "embedding", Trains("all", "all"), trainable={"input": MATRIX, "output": MATRIX}
    ),
    "llama head": Case(
        lambda: only(m := llama(), m.lm_head), "output head", Trains("none", "all"), trainable={"output": MATRIX}
    ),
    "llama odd": Case(lambda: blocks(llama(), 1), "odd layers", Trains(layers="odd"), (1, 3)),
    "llama even": Case(lambda: blocks(llama(), 0), "even layers", Trains(layers="even"), (0, 2)),
    "llama last": Case(lambda: blocks(llama(), 3), "some layers", Trains(layers="some"), (3,)),
    "llama layers": Case(lambda: blocks(llama(), 0, 1), "all layers", Trains(layers="all"), ALL),
    "gemma embeddings": Case(
        lambda: embeddings(gemma()), "embedding", Trains("all", "all"), (), "tied", {"input": MATRIX}
    ),
    "gemma odd": Case(lambda: blocks(gemma(), 1), "odd layers", Trains(layers="odd"), (1, 3), "tied"),
    "qwen even": Case(lambda: blocks(qwen(), 0), "even layers", Trains(layers="even"), (0, 2)),
    "lora": Case(
        lambda: lora(llama()), "LoRA", Trains(layers="all", adapter="lora"), ALL, trainable={"adapter": 4 * PAIR}
    ),
    "lora odd": Case(
        lambda: lora(llama(), layers_to_transform=[1, 3]), "LoRA on odd layers", Trains(layers="odd", adapter="lora"),
        (1, 3), trainable={"adapter": 2 * PAIR},
    ),
    "qwen lora even": Case(
        lambda: lora(qwen(), layers_to_transform=[0, 2]), "LoRA on even layers", Trains(layers="even", adapter="lora"),
        (0, 2),
    ),
    "lora one": Case(
        lambda: lora(llama(), layers_to_transform=2), "LoRA on some layers", Trains(layers="some", adapter="lora"), (2,)
    ),
    "dora": Case(
        lambda: lora(llama(), use_dora=True), "LoRA", Trains(layers="all", adapter="lora"), ALL,
        trainable={"adapter": 4 * PAIR + 4 * 2 * HIDDEN},
    ),
    "lora with embeddings": Case(
        lambda: lora(llama(), **SAVED), "LoRA and embedding", Trains("all", "all", "all", "lora"), ALL,
        trainable={"input": MATRIX, "output": MATRIX, "adapter": 4 * PAIR},
    ),
    "gemma lora, untied": Case(
        lambda: lora(gemma(), **SAVED), "LoRA and embedding", Trains("all", "all", "all", "lora"), ALL,
        "silently untied", {"input": MATRIX, "output": MATRIX, "adapter": 4 * PAIR},
    ),
    "gemma lora, half untied": Case(
        lambda: lora(gemma(), modules_to_save=["embed_tokens"]), "LoRA and input embedding",
        Trains("all", "none", "all", "lora"), ALL, "silently untied",
    ),
    "gemma lora, kept tied": Case(
        lambda: lora(gemma(), modules_to_save=["embed_tokens"], ensure_weight_tying=True), "LoRA and embedding",
        Trains("all", "all", "all", "lora"), ALL, "tied", {"input": MATRIX, "adapter": 4 * PAIR},
    ),
    "lora new rows": Case(
        lambda: lora(llama(), trainable_token_indices=[36, 37, 38, 39]), "LoRA and new input rows",
        Trains("new", "none", "all", "lora"), ALL, trainable={"input": 4 * HIDDEN, "adapter": 4 * PAIR}, new_rows=4,
    ),
    "gemma new rows": Case(
        lambda: _token_rows(gemma(), [36, 37, 38, 39]), "new rows", Trains("new", "new"), (), "tied",
        {"input": 4 * HIDDEN}, new_rows=4,
    ),
    "rows in the middle": Case(
        lambda: _token_rows(llama(), [5, 6]), "unknown", Trains("unknown"), new_rows=2, notes=("rows-not-last",)
    ),
    "rows in the middle, told": Case(
        lambda: _token_rows(llama(), [30, 31]), "new input rows", Trains("new"), new_rows_from=30, new_rows=2
    ),
    "hook, not told": Case(
        lambda: hooked(m := llama(), m.model.embed_tokens), "unknown", Trains("unknown"), notes=("rows-behind-hook",)
    ),
    "hook on input": Case(
        lambda: hooked(m := llama(), m.model.embed_tokens), "new input rows", Trains("new"), new_rows_from=OLD,
        new_rows=4, trainable={"input": MATRIX},
    ),
    "hook on output": Case(
        lambda: hooked(m := llama(), m.lm_head), "new output rows", Trains("none", "new"), new_rows_from=OLD, new_rows=4
    ),
    "hooks on both": Case(
        lambda: hooked(m := llama(), m.model.embed_tokens, m.lm_head), "new rows", Trains("new", "new"),
        new_rows_from=OLD, new_rows=4,
    ),
    "hook on input, whole head": Case(
        lambda: _with_head(hooked(m := llama(), m.model.embed_tokens)), "new input rows and output head",
        Trains("new", "all"), new_rows_from=OLD, new_rows=4,
    ),
    "gemma hook": Case(
        lambda: hooked(m := gemma(), m.model.embed_tokens, m.lm_head), "new rows", Trains("new", "new"), (), "tied",
        new_rows_from=OLD, new_rows=4,
    ),
    "every gradient is clipped": Case(
        lambda: _clipped(llama()), "full", Trains("all", "all", "all"), ALL
    ),
    "norms of the layers": Case(
        lambda: norms(llama()), "unknown", Trains(layers="all", adapter="unknown"), ALL, notes=("blocks-in-part",)
    ),
    "last norm": Case(
        lambda: only(m := llama(), m.model.norm), "unknown", Trains(adapter="unknown"), trainable={"norm": HIDDEN},
        notes=("nothing-recognised",),
    ),
    "lora and a whole layer": Case(
        lambda: _with_layer(lora(llama())), "unknown", Trains(layers="all", adapter="unknown"), ALL,
        notes=("adapter-and-weights",),
    ),
    "frozen lora": Case(lambda: only(lora(llama())), "frozen", Trains(), trainable={}),
    "lora on embeddings": Case(
        lambda: lora(llama(), target_modules=["embed_tokens"]), "LoRA on input embedding",
        Trains("all", adapter="lora"),
    ),
    "gemma lora on embeddings": Case(
        lambda: lora(gemma(), target_modules=["embed_tokens"]), "LoRA on input embedding",
        Trains("all", adapter="lora"), (), "silently untied",
    ),
}  # fmt: skip


def _token_rows(model: Any, rows: list[int]) -> Any:
    from peft import TrainableTokensConfig, get_peft_model

    return get_peft_model(model, TrainableTokensConfig(token_indices=rows, target_modules=["embed_tokens"]))


def _with_head(model: Any) -> Any:
    model.lm_head.requires_grad_(True)
    return model


def _with_layer(model: Any) -> Any:
    model.get_base_model().model.layers[2].requires_grad_(True)
    return model


def _clipped(model: Any) -> Any:
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient.clamp(-1, 1))
    return model


@pytest.mark.parametrize("name", CASES)
def test_state(name: str) -> None:
    """Words, layers, ties, new rows and the trainable parameters of each group, and why something is unknown."""
    case = CASES[name]
    model = case.make()
    found = read_stage(model, new_rows_from=case.new_rows_from)
    assert (found.name, found.trains) == (case.name, case.trains)
    assert found.layer_indices == case.layers
    assert found.layer_count == LAYERS
    assert found.tied == case.tied
    assert (found.new_rows, found.notes) == (case.new_rows, case.notes)
    assert found.rows == VOCABULARY
    if case.trainable is not None:
        assert found.trainable == case.trainable
    assert found.trainable_parameters == sum(item.numel() for item in model.parameters() if item.requires_grad)
    assert found.parameters == sum(item.numel() for item in model.parameters())
    assert found.other == ()


FAMILIES: dict[str, tuple[Callable[[], Any], str]] = {
    "gemma2": (lambda: Gemma2Config(**SIZES), "tied"),
    "gemma3": (lambda: Gemma3TextConfig(**SIZES), "tied"),
    "qwen3": (lambda: Qwen3Config(**SIZES, tie_word_embeddings=True), "tied"),
    "gpt_neox": (
        lambda: GPTNeoXConfig(
            vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=32, num_hidden_layers=LAYERS,
            num_attention_heads=2, max_position_embeddings=64,
        ),
        "untied",
    ),
    "gpt2": (
        lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=LAYERS, n_head=2, n_positions=64), "tied"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name: str) -> None:
    """Blocks, embeddings and head of other families are found, whatever they are called there."""
    config, tied = FAMILIES[name]
    model = model_of(config())
    found = read_stage(model)
    assert (found.name, found.layer_indices, found.tied) == ("full", ALL, tied)
    listed = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    assert read_stage(only(model, *list(listed)[1::2])).trains == Trains(layers="odd")
    assert read_stage(embeddings(model)).name == "embedding"


class Around(nn.Module):
    """Stands for DistributedDataParallel: the model under ``module``, and no method of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def compiled(module: nn.Module) -> Any:
    """The module compiled, without a compiler's machine code."""
    return torch.compile(module, backend="eager")


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize(
    "wrap",
    [Around, compiled, lambda model: Around(compiled(model))],
    ids=["around", "compiled", "around compiled"],
)
def test_wrapped(wrap: Callable[[Any], Any]) -> None:
    """Inside DDP and torch.compile the same is read, with and without adapters."""
    for make in (lambda: blocks(llama(), 1), lambda: lora(gemma(), layers_to_transform=[1, 3], **SAVED)):
        assert read_stage(wrap(make())) == read_stage(make())


@pytest.mark.usefixtures("compiling")
def test_compiled_parts() -> None:
    """Compiled one by one, embeddings and blocks are still found."""
    model = blocks(llama(), 1)
    model.model.layers[1] = compiled(model.model.layers[1])
    model.model.embed_tokens = compiled(model.model.embed_tokens)
    assert read_stage(model).trains == Trains(layers="odd")
    assert read_stage(model).rows == VOCABULARY


def test_adapter_added_to_the_model_itself() -> None:
    """Without a PeftModel around it: transformers' own add_adapter; 5.24 asks for a PEFT that there was not yet."""
    from peft import LoraConfig, __version__
    from transformers.integrations.peft import MIN_PEFT_VERSION

    if Version(__version__) < Version(MIN_PEFT_VERSION):
        pytest.skip(f"transformers asks for PEFT {MIN_PEFT_VERSION}")
    model = llama()
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[1, 3]))
    found = read_stage(model)
    assert (found.name, found.adapters) == ("LoRA on odd layers", ("LORA",))
    assert found.lora is not None and found.lora.rank == 2


def test_settings_of_a_lora() -> None:
    """Rank, alpha, targets, layers, saved modules, DoRA, rank-stabilised, rows: as the configuration has them."""
    model = lora(
        llama(), r=8, lora_alpha=16, use_rslora=True, use_dora=True, layers_to_transform=[3, 1],
        modules_to_save=["lm_head"], trainable_token_indices=[38, 39], rank_pattern={"q_proj": 2},
    )  # fmt: skip
    found = read_stage(model).lora
    assert found is not None
    assert (found.rank, found.alpha, found.target_modules) == (8, 16, ("q_proj", "v_proj"))
    assert (found.layers_to_transform, found.modules_to_save, found.token_rows) == ((3, 1), ("lm_head",), 2)
    assert (found.dora, found.rslora, found.rank_varies, found.bias) == (True, True, True, "none")
    plain = read_stage(lora(llama(), target_modules="all-linear")).lora
    assert plain is not None
    assert (plain.dora, plain.rslora, plain.rank_varies, plain.token_rows) == (False, False, False, None)
    assert "q_proj" in plain.target_modules
    assert read_stage(llama()).lora is None


def test_biases_of_a_lora_are_no_layer_of_their_own() -> None:
    """LoRA on the even layers that also trains every bias is still LoRA on the even layers."""
    found = read_stage(lora(qwen(), layers_to_transform=[0, 2], bias="all"))
    assert (found.name, found.notes) == ("LoRA on even layers", ())
    assert found.trainable["layers"] > 0


def test_other_adapters() -> None:
    """IA3, LoHa, prefix and prompt tuning: an adapter, and none that is given another's name."""
    from peft import IA3Config, LoHaConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model

    for config in (
        IA3Config(task_type="CAUSAL_LM"),
        LoHaConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"]),
        PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ):
        found = read_stage(get_peft_model(llama(), config))
        assert (found.name, found.trains.adapter, found.lora) == ("another adapter", "other", None), config
        assert found.adapters == (config.peft_type.value,)
        assert set(found.trainable) == {"adapter"}


def test_what_is_not_recognised_is_listed() -> None:
    """A head of somebody's own beside odd layers: the layers are named, the head is listed with its parameters."""
    model = blocks(llama(), 1)
    model.score = nn.Linear(HIDDEN, 2, bias=False)
    found = read_stage(model)
    assert (found.name, found.other) == ("odd layers", ("score.weight",))
    assert found.trainable["other"] == 2 * HIDDEN
    alone = only(llama())
    alone.score = nn.Linear(HIDDEN, 2, bias=False)
    assert (read_stage(alone).name, read_stage(alone).notes) == ("unknown", ("nothing-recognised",))


def test_two_lists_of_layers() -> None:
    """An encoder and a decoder of equal depth: full training is full, but which layers move is unknown."""
    config = T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, tie_word_embeddings=True)
    model = T5ForConditionalGeneration(config)
    assert read_stage(model).name == "full"
    found = read_stage(only(model, model.decoder.block[1]))
    assert (found.name, found.trains.layers, found.layer_count) == ("unknown", "unknown", None)
    assert "blocks-not-found" in found.notes


def test_experts_are_no_layers() -> None:
    """A list of as many experts as there are layers, inside a layer, is not taken for the layers."""
    model = llama()
    for layer in model.model.layers:
        layer.experts = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    assert read_stage(blocks(model, 1)).layer_indices == (1, 3)


def test_a_tower_of_equal_depth() -> None:
    """Another list of the same length beside the text model, as a vision tower has, is not taken for its layers."""
    model = llama()
    model.tower = nn.Module()
    model.tower.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(LAYERS))
    assert read_stage(blocks(model, 1)).layer_indices == (1, 3)


def test_a_module_of_nobodys_family() -> None:
    """No configuration, no embeddings: what trains is unknown; frozen it is frozen."""
    found = read_stage(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3)).requires_grad_(False))
    assert (found.name, found.rows, found.parameters) == ("frozen", None, 17)
    half = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    half[0].requires_grad_(False)
    found = read_stage(half)
    assert found.name == "unknown"
    assert found.other == ("1.weight", "1.bias")


def test_a_row_that_is_not_there() -> None:
    """A number beyond the embeddings is refused."""
    with pytest.raises(ValueError, match=r"new_rows_from: found 41, expected a row out of 40"):
        read_stage(llama(), new_rows_from=41)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised(bits: int, tmp_path: Path) -> None:
    """8-bit and 4-bit with LoRA on odd layers, embeddings and head trained: all read, packed weights count whole."""
    from peft import prepare_model_for_kbit_training

    plain = tiny.llama(VOCABULARY, hidden=32, layers=LAYERS)
    total = sum(item.numel() for item in plain.parameters())
    plain.save_pretrained(tmp_path)
    settings: dict[str, Any] = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True}
    model: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=BitsAndBytesConfig(**settings), device_map="cpu"
    )
    model = lora(prepare_model_for_kbit_training(model), layers_to_transform=[1, 3], **SAVED)
    found = read_stage(model)
    assert (found.name, found.quantization, found.tied) == (
        "LoRA on odd layers and embedding", f"{bits}-bit", "untied"
    )  # fmt: skip
    matrix = VOCABULARY * 32
    assert found.trainable == {"input": matrix, "output": matrix, "adapter": 2 * 2 * 2 * 2 * 32}
    assert found.parameters == total + found.trainable_parameters


def test_no_weight_is_looked_at() -> None:
    """A Llama of 10.7 billion parameters without any weights (meta device) is read whole, tied or not, with LoRA."""
    sizes = {"vocab_size": 49_072, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 48,
             "num_attention_heads": 32, "num_key_value_heads": 8}  # fmt: skip
    model, tied = (empty_model(LlamaConfig(**sizes, tie_word_embeddings=ties)) for ties in (False, True))
    assert read_stage(model).parameters > 10**10
    assert (read_stage(model).name, read_stage(model).tied) == ("full", "untied")
    assert (read_stage(tied).tied, read_stage(tied).trainable["input"]) == ("tied", 49_072 * 4096)
    found = read_stage(blocks(model, 1))
    assert (found.trains, found.layer_indices) == (Trains(layers="odd"), tuple(range(1, 48, 2)))
    with torch.device("meta"):
        adapted = lora(model, layers_to_transform=list(range(0, 48, 2)))
    assert read_stage(adapted).name == "LoRA on even layers"
