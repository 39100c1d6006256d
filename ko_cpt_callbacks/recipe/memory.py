"""What a stage of a recipe needs of each GPU's memory, term by term. An estimate from shapes: nothing is loaded.

It follows what the parts do rather than a rule of thumb: bitsandbytes keeps one scale for each row (8-bit) or for
each block (4-bit) and leaves embeddings, head, norms and biases alone; PEFT's adapters are float32, and a matrix that
is trained beside them is a copy; AdamW's moments have the type of the weight they belong to, unless the optimizer is
an 8-bit one. What no arithmetic gives (`CONTEXT_BYTES`) is named and counted too.

How many numbers there are follows from the shape for some families (``family.py``); of any other model they are counted
in the model itself, on torch's meta device, and given here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.family import block_bytes, count_page, is_measured
from ko_cpt_callbacks.recipe.parameter_count import Adapter, ParameterCount, PartCount, layer_indices, stage_adapter
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.run.observation import count_from_one

ParameterKind = Literal["input", "other", "adapter"]

_SCALE_8_BIT: Final = 4 / 256
"""Bytes of a moment's scale: a float32 for 256 numbers, in bitsandbytes' 8-bit optimizers."""

# Moments of an optimizer by the beginning of its name in ``TrainingArguments.optim``; any other is taken for an AdamW.
_MOMENTS: Final = (("sgd", 0), ("lion", 1), ("paged_lion", 1), ("adagrad", 1), ("rmsprop", 1), ("adafactor", 0))


def state_bytes(optim: str, parts: Mapping[ParameterKind, tuple[int, int]]) -> tuple[int, str]:
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


def recipe_memory(
    page: Page, count: ParameterCount | None = None, *, gpus: int = 1, sharding: Sharding = "none"
) -> tuple[StageMemory, ...]:
    """What each stage of a recipe needs of each GPU.

    Args:
        page: A recipe without mistakes.
        count: The numbers of its model when the stages begin; None: as they follow from its shape.
        gpus: How many share the work, each with ``per_device_train_batch_size`` rows.
        sharding: How they share it; with one GPU there is nothing to share.

    Raises:
        NotCountedError: If no count is given, and none follows from the shape.
        ConfigurationError: If the weights are to be shared and are quantised.
    """
    count = count_page(page) if count is None else count
    if sharding == "full" and page.base.quantization != "none":
        raise ConfigurationError(
            f"sharding: found full with a base in {page.base.quantization}, expected none or zero2: what bitsandbytes "
            "has quantised cannot be cut up"
        )
    return tuple(_Use(page, name, count, gpus, "none" if gpus == 1 else sharding).memory() for name in page.stages)


class _Use:
    """The terms of one stage."""

    def __init__(self, page: Page, name: str, count: ParameterCount, gpus: int, sharding: Sharding) -> None:
        self.page, self.name, self.stage, self.count = page, name, page.stages[name], count
        self.gpus, self.sharding = gpus, sharding
        self.adapter: Adapter | None = stage_adapter(page, name)
        self.arguments: Mapping[str, Any] = self.stage.arguments
        self.size = _SIZES[page.base.dtype]
        self.mixed = bool(self.arguments.get("bf16") or self.arguments.get("fp16"))
        moved = layer_indices(self.stage.trains.layers, len(count.blocks))
        through = self.stage.lora is not None
        self.adapter_size = self._adapter_numbers(None if self.adapter is None else self.adapter.layers)
        self.trained_adapter = self._adapter_numbers(moved) if through else 0
        self.rows_input = self.count.matrix if self.stage.trains.input != "none" else 0
        self.rows_output = 0
        if self.stage.trains.output != "none":
            self.rows_output = count.head - (count.matrix if count.tied else 0)
        body = 0 if through else sum(count.blocks[index].total for index in moved)
        if self.stage.trains.layers == "all" and not through:
            body += count.outside.total
        self.trained_whole = self.rows_input + self.rows_output + body

    def _adapter_numbers(self, layers: Sequence[int] | None) -> int:
        if self.adapter is None:
            return 0
        return self.count.adapter(self.adapter.settings.r, self.adapter.settings.target_modules, layers)

    def memory(self) -> StageMemory:
        """All of them."""
        cuda = Term("CUDA", CONTEXT_BYTES, "context and what cannot be used: 1 GiB; chosen, not measured")
        terms = (*self.weights(), *self.training(), *self.moments(), cuda)
        return StageMemory(self.name, self.gpus, self.sharding, self.trained_whole + self.trained_adapter, terms)

    # -- what stands still in memory ----------------------------------------------------------------------------------

    def weights(self) -> list[Term]:
        """The model, what trains beside it, and copies of both."""
        count, size = self.count, self.size
        terms = []
        if self.sharding == "full":
            trained = 4 if self.mixed else size
            whole = self.trained_whole * trained + (count.total - self.trained_whole) * size
            how = f"a share of 1/{self.gpus}: {_billions(count.total)}, {trained} bytes where trained, else {size}"
            terms.append(Term("weights", whole // self.gpus, how))
            gathered = (2 * max(block.total for block in count.blocks) + count.matrices) * (2 if self.mixed else size)
            terms.append(Term("gathered weights", gathered, "two blocks, embedding and head, whole while they work"))
        else:
            how = f"{_billions(count.matrices)} in embedding and head, {size} bytes each"
            outside = count.matrices * size + self._loaded_bytes(count.outside)
            terms.append(Term("embedding and head", outside, how))
            blocks = sum(self._loaded_bytes(block) for block in count.blocks)
            terms.append(Term("blocks", blocks, self._block_words()))
            if count.still.total:
                how = f"{_billions(count.still.total)} beside the language model, such as a vision tower"
                terms.append(Term("what stands still", self._loaded_bytes(count.still), how))
            if self.sharding == "zero2" and self.mixed:
                own = self.trained_whole * 4 // self.gpus
                terms.append(Term("master weights", own, f"float32 of what trains, a share of 1/{self.gpus}"))
        if self.adapter is not None:
            copies = count.matrix * (self.adapter.input or (count.tied and self.adapter.output))
            copies += count.head * (self.adapter.output and not count.tied)
            if copies:
                how = f"{_billions(copies)}: PEFT trains a copy of a matrix and keeps the matrix"
                terms.append(Term("copies beside the adapter", copies * size, how))
            how = f"{_billions(self.adapter_size)} of rank {self.adapter.settings.r}, float32"
            terms.append(Term("adapter", self.adapter_size * 4, how))
        wide = self.trained_adapter + (count.total if size == 4 else 0)
        if self.mixed and wide and self.sharding != "full":
            terms.append(Term("16-bit copies", wide * 2, "of float32 weights, made by autocast for each step"))
        return terms

    def _loaded_bytes(self, part: PartCount) -> int:
        """A block, or what is outside of the blocks, as it is loaded."""
        kind = self.page.base.quantization
        taken = [linear for linear in part.linears if linear.quantized and kind != "none"]
        kept = (part.total - sum(linear.weights for linear in taken)) * self.size
        if kind == "8-bit":
            return kept + sum(linear.weights + 4 * linear.outputs for linear in taken)
        blocks = [-(-linear.weights // _BLOCK_4_BIT) for linear in taken]
        scales = sum(blocks) + 4 * sum(-(-number // _SCALES_4_BIT) for number in blocks)
        return kept + sum(linear.weights for linear in taken) // 2 + scales

    def _block_words(self) -> str:
        blocks, size = self.count.blocks, self.size
        numbers = _billions(sum(block.total for block in blocks))
        kind = self.page.base.quantization
        if kind == "none":
            return f"{numbers} in {len(blocks)} blocks, {size} bytes each"
        scale = "4 bytes a row" if kind == "8-bit" else "1 byte and a little for 64 weights"
        left = "norms, and fused experts, which bitsandbytes leaves alone," if self.count.experts else "norms"
        taken = sum(linear.weights for block in blocks for linear in block.linears if linear.quantized)
        said = f"{numbers} in {len(blocks)} blocks, {_billions(taken)} of them {kind[0]} bits each"
        return f"{said}; scales: {scale}; {left} {size} bytes"

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
        count, length, shape = self.count, self.page.data.sequence_length, self.page.base.sizes
        rows = self._rows("per_device_train_batch_size")
        tokens, computed = rows * length, 4 if self.size == 4 else 2
        largest_block = max(count.blocks, key=lambda block: block.total)
        block = tokens * block_bytes(
            shape,
            largest_block.linears,
            computed=computed,
            trained=self.stage.lora is None and self.stage.trains.layers != "none",
            quantization=self.page.base.quantization,
            lora=None if self.adapter is None else self.adapter.settings,
        )
        said = f"{rows} rows × {length:,} tokens"
        number = len(count.blocks)
        like = "" if is_measured(shape.family) else f"; estimated as llama's; not measured for {shape.family}"
        if self.stage.checkpointing:
            kept = number * tokens * shape.hidden_size * computed
            terms = [Term("activations", kept, f"{said}: what goes into each of {number} blocks (checkpointing)")]
        else:
            how = f"{said}: all that {number} blocks keep (no checkpointing){like}"
            terms = [Term("activations", number * block, how)]
            block, like = 0, ""
        unpacked = 0
        if self.page.base.quantization != "none":
            unpacked = 2 * max((linear.weights for linear in count.linears if linear.quantized), default=0)
        backward = "a block going backward" + (", a matrix unpacked" if unpacked else "")
        eval_rows = self._rows("per_device_eval_batch_size")
        widest = count.rows
        moments = [
            Term("logits", tokens * widest * LOGIT_BYTES, f"{said} × {widest:,} logits × {LOGIT_BYTES} bytes (loss)"),
            Term("one block", block + unpacked, backward + like),
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
        return count_from_one(self.arguments.get(argument)) or _TRAIN_BATCH


def _billions(number: int) -> str:
    return f"{number / 1e9:.3f}B" if number >= 1e6 else f"{number:,}"
