"""What a stage of a recipe needs of each GPU's memory, term by term. An estimate from shapes: nothing is loaded.

It follows what the parts do rather than a rule of thumb: bitsandbytes keeps one scale for each row (8-bit) or for
each block (4-bit) and leaves embeddings, head, norms and biases alone; PEFT's adapters are float32, and a matrix that
is trained beside them is a copy; AdamW's moments have the type of the weight they belong to, unless the optimizer is
an 8-bit one. What no arithmetic gives (`CONTEXT_BYTES`) is named and counted too.

Counted from what autograd keeps of each block of transformers (``torch.autograd.graph.saved_tensors_hooks``), not
from a formula of another architecture; the tests count again. Attention is computed without a matrix of all pairs of
tokens (PyTorch's scaled_dot_product_attention), so it adds nothing that grows with the square of the length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.adapter import Adapter, layer_indices, stage_adapter
from ko_cpt_callbacks.recipe.model_schema import Family, Quantization, Shape
from ko_cpt_callbacks.recipe.parameter_count import ParameterCount, count_page, count_parameters, head_width
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.recipe.stage_schema import Lora
from ko_cpt_callbacks.yaml.reading import whole

Part = Literal["input", "other", "adapter"]

_SCALE_8_BIT: Final = 4 / 256
"""Bytes of a moment's scale: a float32 for 256 numbers, in bitsandbytes' 8-bit optimizers."""

# Moments of an optimizer by the beginning of its name in ``TrainingArguments.optim``; any other is taken for an AdamW.
_MOMENTS: Final = (("sgd", 0), ("lion", 1), ("paged_lion", 1), ("adagrad", 1), ("rmsprop", 1), ("adafactor", 0))


def state_bytes(optim: str, parts: Mapping[Part, tuple[int, int]]) -> tuple[int, str]:
    """What an optimizer keeps, and in words.

    Args:
        optim: As in ``TrainingArguments``.
        parts: How many numbers train, and the bytes of each, by part: the input embedding, an adapter, the rest.

    Returns:
        Bytes, and how they come about. ``adafactor`` is taken for nothing: it keeps a number for each row and
        column. Plain ``sgd`` keeps nothing.
    """
    moments = next((number for begin, number in _MOMENTS if optim.startswith(begin)), 2)
    count = {part: number for part, (number, _) in parts.items()}
    if not moments:
        return 0, f"{optim}: no moments"
    if "8bit" in optim:
        # The Trainer asks bitsandbytes to keep those of an nn.Embedding in float32.
        wide = count.get("input", 0)
        narrow = sum(count.values()) - wide
        total = moments * (4 * wide + round((1 + _SCALE_8_BIT) * narrow))
        return total, f"{optim}: {moments} moments in 1 byte, of the input embedding in 4"
    if optim.endswith("32bit"):
        return moments * 4 * sum(count.values()), f"{optim}: {moments} moments in 4 bytes"
    total = moments * sum(number * size for number, size in parts.values())
    sizes = sorted({size for number, size in parts.values() if number})
    return total, f"{optim}: {moments} moments in {' or '.join(map(str, sizes)) or '0'} bytes, as the gradients"


@dataclass(frozen=True, slots=True)
class _Kept:
    """Bytes in 16-bit, for each number of the width, of all queries, of all keys, and of the inner width."""

    width: float
    query: float
    key: float
    inner: float


# Measured with transformers 5.23 and torch 2.13; rounded up.
_LLAMA: Final = _Kept(8, 4.25, 4, 6)
_FROZEN: Final[dict[Family, _Kept]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "gemma3": _Kept(16.5, 8.5, 7.5, 6),
    "gpt_neox": _Kept(2, 4.5, 4, 2),
}
"""Of a block that only passes gradients on."""

_LLAMA_TRAINED: Final = _Kept(8, 0, 0, 2)
_TRAINED: Final[dict[Family, _Kept]] = {
    "llama": _LLAMA_TRAINED,
    "mistral": _LLAMA_TRAINED,
    "qwen2": _LLAMA_TRAINED,
    "gemma3": _Kept(20.5, 4, 4, 2),
    "gpt_neox": _Kept(6, 0, 0, 2),
}
"""What is kept more where its own weights train: what goes into linear layers and norms."""

_INPUTS: Final = _Kept(4, 0, 0, 2)
"""What LLM.int8 keeps more: what goes into each linear layer, for those with the same input once."""

_MASK: Final = 4  # what dropout keeps of each number on a CPU; a GPU keeps a byte
_ADAPTED: Final = 2  # the number itself, in 16-bit, once for each adapter


def block_bytes(shape: Shape, *, computed: int, trained: bool, quantization: Quantization, lora: Lora | None) -> int:
    """What one block keeps, for each token.

    Args:
        shape: Of the model.
        computed: Bytes of a number: 2 in 16-bit, 4 in float32. Of float32 weights under autocast 4 is a little much.
        trained: Whether a block's own weights train.
        quantization: How its matrices are loaded.
        lora: The adapters on it; None: none.
    """
    parts = [_FROZEN[shape.family]]
    if trained:
        parts.append(_TRAINED[shape.family])
    elif quantization == "8-bit":
        parts.append(_INPUTS)
    total = sum(_weigh(part, shape) for part in parts)
    if lora is not None:
        linears = [linear for linear in count_parameters(shape).linears if linear.name in lora.target_modules]
        each = _ADAPTED + (_MASK if lora.lora_dropout else 0)
        total += sum(each * linear.inputs + 2 * lora.r for linear in linears)
    return round(total * computed / 2)


def block_input_bytes(shape: Shape, *, computed: int) -> int:
    """What a checkpointed block keeps, for each token: its input."""
    return shape.hidden_size * computed


def _weigh(kept: _Kept, shape: Shape) -> float:
    head = head_width(shape)
    query = shape.num_attention_heads * head
    key = (shape.num_key_value_heads or shape.num_attention_heads) * head
    return kept.width * shape.hidden_size + kept.query * query + kept.key * key + kept.inner * shape.intermediate_size


Sharding = Literal["none", "zero2", "full"]
"""How several GPUs share a model: ``none`` (DDP: each has all), ``zero2`` (gradients and optimizer state are shared,
DeepSpeed ZeRO-2), ``full`` (the weights too: FSDP, DeepSpeed ZeRO-3)."""

SHARDINGS: Final[tuple[Sharding, ...]] = get_args(Sharding)

GIB: Final = 2**30
CONTEXT_BYTES: Final = GIB
"""CUDA's context, cuBLAS's workspace and what the allocator cannot use; chosen, not measured."""

LOGIT_BYTES: Final = 12
"""Bytes for each logit where the loss goes backward: float32 log-probabilities, their gradient and that of the logits
(``ForCausalLMLoss`` and ``cross_entropy``). Going forward it is 10: 16-bit logits, float32 ones, log-probabilities."""

EVAL_LOGIT_BYTES: Final = 10
"""The same in evaluation, which has no backward."""

_SIZES: Final = {"bfloat16": 2, "float16": 2, "float32": 4}
_TRAIN_BATCH: Final = 8  # of the installed TrainingArguments, as of transformers 4.57 and 5.23
_BLOCK_4_BIT: Final = 64  # weights that share a scale: bitsandbytes' default
_SCALES_4_BIT: Final = 256  # scales that share a scale of their own, where they are quantised once more


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the memory.

    Attributes:
        name: What it is.
        bytes: How much.
        how: Its arithmetic, in words.
        counted: Whether it is in the sum: of two moments that cannot be at once, the larger one is.
    """

    name: str
    bytes: int
    how: str
    counted: bool = True


@dataclass(frozen=True, slots=True)
class StageMemory:
    """What one stage needs of one GPU.

    Attributes:
        stage: Its name.
        gpus: How many GPUs share the work.
        sharding: How.
        trainable: Numbers that are trained, all GPUs together.
        terms: The parts, in order.
    """

    stage: str
    gpus: int
    sharding: Sharding
    trainable: int
    terms: tuple[Term, ...]

    @property
    def bytes(self) -> int:
        """The sum."""
        return sum(term.bytes for term in self.terms if term.counted)


def recipe_memory(page: Page, *, gpus: int = 1, sharding: Sharding = "none") -> tuple[StageMemory, ...]:
    """What each stage of a recipe needs of each GPU.

    Args:
        page: A recipe without mistakes.
        gpus: How many share the work, each with ``per_device_train_batch_size`` rows.
        sharding: How they share it; with one GPU there is nothing to share.

    Raises:
        ConfigurationError: If the weights are to be shared and are quantised.
    """
    return tuple(stage_memory(page, name, gpus=gpus, sharding=sharding) for name in page.stages)


def stage_memory(page: Page, name: str, *, gpus: int = 1, sharding: Sharding = "none") -> StageMemory:
    """What a stage needs of each GPU: see `recipe_memory`."""
    if sharding == "full" and page.base.quantization != "none":
        raise ConfigurationError(
            f"sharding: found full with a base in {page.base.quantization}, expected none or zero2: what bitsandbytes "
            "has quantised cannot be cut up"
        )
    use = _Use(page, name, gpus, "none" if gpus == 1 else sharding)
    terms = [*use.weights(), *use.training(), *use.moments()]
    terms.append(Term("CUDA", CONTEXT_BYTES, "context and what cannot be used: 1 GiB; chosen, not measured"))
    return StageMemory(name, gpus, use.sharding, use.trained_whole + use.trained_adapter, tuple(terms))


class _Use:
    """The terms of one stage."""

    def __init__(self, page: Page, name: str, gpus: int, sharding: Sharding) -> None:
        self.page, self.stage = page, page.stages[name]
        self.gpus, self.sharding = gpus, sharding
        self.count: ParameterCount = count_page(page)
        self.adapter: Adapter | None = stage_adapter(page, name)
        self.arguments: Mapping[str, Any] = self.stage.arguments
        self.size = _SIZES[page.base.dtype]
        self.mixed = bool(self.arguments.get("bf16") or self.arguments.get("fp16"))
        rank = 0 if self.adapter is None else self.adapter.settings.r
        modules = () if self.adapter is None else self.adapter.settings.target_modules
        layers = None if self.adapter is None or self.adapter.layers is None else len(self.adapter.layers)
        self.adapter_size = self.count.adapter(rank, modules, layers)
        moved = len(layer_indices(self.stage.trains.layers, self.count.blocks))
        through = self.stage.lora is not None
        self.trained_adapter = self.count.adapter(rank, modules, moved) if through else 0
        self.rows_input = self.count.matrix if self.stage.trains.input != "none" else 0
        self.rows_output = self.count.matrix if self.stage.trains.output != "none" and not self._one_matrix else 0
        body = 0 if through else moved * self.count.block
        if self.stage.trains.layers == "all" and not through:
            body += self.count.last_norm
        self.trained_body = body
        self.trained_whole = self.rows_input + self.rows_output + body

    @property
    def _one_matrix(self) -> bool:
        return self.count.tied

    # -- what stands still in memory ----------------------------------------------------------------------------------

    def weights(self) -> list[Term]:
        """The model, what trains beside it, and copies of both."""
        count, size = self.count, self.size
        matrices = count.matrix * (1 if count.tied else 2)
        outside = matrices + count.last_norm
        terms = []
        if self.sharding == "full":
            trained = 4 if self.mixed else size
            whole = self.trained_whole * trained + (outside + count.blocks * count.block - self.trained_whole) * size
            how = f"a share of 1/{self.gpus}: {_billions(count.total)}, {trained} bytes where trained, else {size}"
            terms.append(Term("weights", whole // self.gpus, how))
            gathered = (2 * count.block + matrices) * (2 if self.mixed else size)
            terms.append(Term("gathered weights", gathered, "two blocks, embedding and head, whole while they work"))
        else:
            how = f"{_billions(matrices)} in embedding and head, {size} bytes each"
            terms.append(Term("embedding and head", outside * size, how))
            terms.append(Term("blocks", count.blocks * self._block_bytes(), self._block_words()))
            if self.sharding == "zero2" and self.mixed:
                own = self.trained_whole * 4 // self.gpus
                terms.append(Term("master weights", own, f"float32 of what trains, a share of 1/{self.gpus}"))
        if self.adapter is not None:
            copies = count.matrix * (self.adapter.input + (self.adapter.output and not count.tied))
            if copies:
                how = f"{_billions(copies)}: PEFT trains a copy of a matrix and keeps the matrix"
                terms.append(Term("copies beside the adapter", copies * size, how))
            how = f"{_billions(self.adapter_size)} of rank {self.adapter.settings.r}, float32"
            terms.append(Term("adapter", self.adapter_size * 4, how))
        wide = self.trained_adapter + (count.total if size == 4 else 0)
        if self.mixed and wide and self.sharding != "full":
            terms.append(Term("16-bit copies", wide * 2, "of float32 weights, made by autocast for each step"))
        return terms

    def _block_bytes(self) -> int:
        """One block as it is loaded."""
        count, kind = self.count, self.page.base.quantization
        if kind == "none":
            return count.block * self.size
        kept = count.rest * self.size
        if kind == "8-bit":
            return kept + sum(linear.weights + 4 * linear.outputs for linear in count.linears)
        blocks = [-(-linear.weights // _BLOCK_4_BIT) for linear in count.linears]
        scales = sum(blocks) + 4 * sum(-(-number // _SCALES_4_BIT) for number in blocks)
        return kept + sum(linear.weights for linear in count.linears) // 2 + scales

    def _block_words(self) -> str:
        numbers = _billions(self.count.blocks * self.count.block)
        kind = self.page.base.quantization
        if kind == "none":
            return f"{numbers} in {self.count.blocks} blocks, {self.size} bytes each"
        scale = "4 bytes a row" if kind == "8-bit" else "1 byte and a little for 64 weights"
        return f"{numbers} in {self.count.blocks} blocks, {kind[0]} bits each; scales: {scale}; norms {self.size} bytes"

    # -- what training adds -------------------------------------------------------------------------------------------

    def training(self) -> list[Term]:
        """Gradients and the optimizer's state."""
        share = self.gpus if self.sharding != "none" else 1
        whole = 4 if self.sharding != "none" and self.mixed else self.size
        gradients = self.trained_whole * whole + self.trained_adapter * 4
        part = f", a share of 1/{share}" if share > 1 else ""
        how = f"{_billions(self.trained_whole)} in {whole} bytes, {_billions(self.trained_adapter)} in 4{part}"
        terms = [Term("gradients", gradients // share, how)]
        state, words = state_bytes(
            str(self.arguments.get("optim", "adamw_torch_fused")),
            {"input": (self.rows_input, whole), "other": (self.trained_whole - self.rows_input, whole),
             "adapter": (self.trained_adapter, 4)},
        )  # fmt: skip
        terms.append(Term("optimizer", state // share, f"{words}{part}"))
        if self.gpus > 1 and self.sharding == "none":
            terms.append(Term("DDP's buckets", gradients, "the gradients a second time, to be added up"))
        return terms

    # -- what a batch adds --------------------------------------------------------------------------------------------

    def moments(self) -> list[Term]:
        """What is kept from the forward pass, and the largest of the moments that follow each other."""
        count, length = self.count, self.page.data.sequence_length
        rows = self._rows("per_device_train_batch_size")
        tokens, computed = rows * length, 4 if self.size == 4 else 2
        block = tokens * block_bytes(
            self.page.base.sizes,
            computed=computed,
            trained=self.stage.lora is None and self.stage.trains.layers != "none",
            quantization=self.page.base.quantization,
            lora=None if self.adapter is None else self.adapter.settings,
        )
        said = f"{rows} rows × {length:,} tokens"
        if self.stage.checkpointing:
            kept = count.blocks * tokens * block_input_bytes(self.page.base.sizes, computed=computed)
            terms = [Term("activations", kept, f"{said}: what goes into each of {count.blocks} blocks (checkpointing)")]
        else:
            how = f"{said}: all that {count.blocks} blocks keep (no checkpointing)"
            terms = [Term("activations", count.blocks * block, how)]
            block = 0
        unpacked = 0
        if self.page.base.quantization != "none":
            unpacked = 2 * max(linear.weights for linear in count.linears)
        eval_rows = self._rows("per_device_eval_batch_size")
        widest = count.rows
        moments = [
            Term("logits", tokens * widest * LOGIT_BYTES, f"{said} × {widest:,} logits × {LOGIT_BYTES} bytes (loss)"),
            Term("one block", block + unpacked, "a block going backward" + (", a matrix unpacked" if unpacked else "")),
            Term(
                "logits of evaluation",
                eval_rows * length * widest * EVAL_LOGIT_BYTES - terms[0].bytes,
                f"{eval_rows} rows × {length:,} tokens × {widest:,} × {EVAL_LOGIT_BYTES} bytes, less the activations",
            ),
        ]
        largest = max(moment.bytes for moment in moments)
        first = next(moment for moment in moments if moment.bytes == largest)
        terms += [Term(moment.name, max(moment.bytes, 0), moment.how, counted=moment is first) for moment in moments]
        return terms

    def _rows(self, argument: str) -> int:
        """A batch's rows on one GPU; where the recipe names none, as many as the installed class has."""
        return whole(self.arguments.get(argument)) or _TRAIN_BATCH


def _billions(number: int) -> str:
    return f"{number / 1e9:.3f}B" if number >= 1e6 else f"{number:,}"
