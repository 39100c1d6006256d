"""How many numbers a model has, part by part, and what a recipe makes of them: more rows, untied matrices, adapters.

Stages share adapters: a quantized body cannot take an adapter's product into its weights without loss, and cannot be
trained without one, so there the run has one adapter, from the first stage to the last. Elsewhere stages that follow
each other with the same settings share one, and it is merged into the weights before a stage with other settings or
without.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ko_cpt_callbacks.recipe.schema import Lora, Page


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer.

    Attributes:
        path: Where it is, from its block or, outside the blocks, from the model: ``self_attn.q_proj``.
        inputs: Numbers in.
        outputs: Numbers out.
        bias: Whether it adds one number to each output.
        quantized: Whether bitsandbytes takes it: of transformers 5 it takes no class made from ``nn.Linear``.
    """

    path: str
    inputs: int
    outputs: int
    bias: bool = False
    quantized: bool = True

    @property
    def name(self) -> str:
        """The last word of the path, as it usually stands in LoRA's ``target_modules``."""
        return self.path.rpartition(".")[2]

    @property
    def weights(self) -> int:
        """Numbers of its matrix."""
        return self.inputs * self.outputs

    def adapter(self, rank: int) -> int:
        """Numbers of a LoRA adapter on it."""
        return rank * (self.inputs + self.outputs)


@dataclass(frozen=True, slots=True)
class PartCount:
    """Numbers of one transformer block, or of what is outside of the blocks.

    Attributes:
        linears: Its linear layers.
        rest: Numbers outside their matrices: norms, biases, positions, fused experts. They are never quantized.
        experts: Paths of the fused experts, all experts of a layer in one parameter: ``mlp.experts.gate_up_proj``. No
            LoRA on linear layers reaches them.
    """

    linears: tuple[Linear, ...] = ()
    rest: int = 0
    experts: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All of it."""
        return sum(linear.weights for linear in self.linears) + self.rest


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Numbers of a model, part by part.

    Attributes:
        rows: Of the embedding and of the head, those of new tokens too.
        width: ``hidden_size``.
        tied: Whether embedding and head are one matrix.
        blocks: The transformer blocks, in order.
        outside: What the language model has outside of its blocks and its two matrices: the last norm, positions. It
            trains with ``layers: all``.
        still: What is beside the language model, such as a vision tower; it never trains.
        head_bias: Whether the head adds one number to each row.
    """

    rows: int
    width: int
    tied: bool
    blocks: tuple[PartCount, ...]
    outside: PartCount
    still: PartCount = PartCount()
    head_bias: bool = False

    @property
    def matrix(self) -> int:
        """The embedding alone, or the head without its bias."""
        return self.rows * self.width

    @property
    def head(self) -> int:
        """The head with its bias."""
        return self.matrix + self.rows * self.head_bias

    @property
    def matrices(self) -> int:
        """Embedding and head, each number once."""
        return self.head + (0 if self.tied else self.matrix)

    @property
    def total(self) -> int:
        """The model, without adapters."""
        return self.matrices + sum(block.total for block in self.blocks) + self.outside.total + self.still.total

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Linear layers of the blocks, each path once."""
        return tuple({linear.path: linear for block in self.blocks for linear in block.linears}.values())

    @property
    def experts(self) -> tuple[str, ...]:
        """Paths of fused experts, each once."""
        return tuple(dict.fromkeys(path for block in self.blocks for path in block.experts))

    def adapter(self, rank: int, targets: Collection[str] | str, layers: Iterable[int] | None = None) -> int:
        """Numbers of LoRA adapters.

        Args:
            rank: Of the adapters.
            targets: Names of linear layers, or ``all-linear``: PEFT's word for all but the head, here those of blocks.
            layers: The blocks that have them; None: all.
        """
        wanted = range(len(self.blocks)) if layers is None else layers
        return sum(linear.adapter(rank) for index in wanted for linear in targeted(self.blocks[index].linears, targets))


def targeted(linears: Iterable[Linear], targets: Collection[str] | str) -> list[Linear]:
    """The linear layers that LoRA's ``target_modules`` name."""
    if isinstance(targets, str):
        return list(linears)
    return [linear for linear in linears if is_named(linear.path, targets)]


def is_named(path: str, targets: Iterable[str]) -> bool:
    """Whether LoRA's ``target_modules`` name a linear layer: by the last word of its path, or by more of it."""
    return any(path == target or path.endswith(f".{target}") for target in targets)


def when_stages_begin(page: Page, count: ParameterCount) -> ParameterCount:
    """A base's numbers after its recipe has extended and untied it.

    Where the base has rows that no token uses, new tokens take those first: the count of rows is then too high by
    as many (63 of 282,784 for Gemma 3).
    """
    rows = count.rows
    if page.tokenizer is not None:
        extend = page.tokenizer.extend
        rows += extend.tokens
        rows += -rows % (extend.pad_to_multiple_of or 1)
    return replace(count, rows=rows, tied=count.tied and not page.base.untie)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, and what is trained whole beside it while it is there.

    Attributes:
        settings: Of LoRA.
        stages: The stages that share it, in order.
        layers: The layers that one of them moves; None for all.
        input: Whether one of them trains the input embedding, or rows of it.
        output: The same of the head.
    """

    settings: Lora
    stages: tuple[str, ...]
    layers: tuple[int, ...] | None
    input: bool
    output: bool


def stage_lora(page: Page, name: str) -> Lora | None:
    """The settings that a stage's layers move through, where it names another stage those of that one."""
    lora = page.stages[name].lora
    while isinstance(lora, str):
        lora = page.stages[lora].lora
    return lora


def stage_adapter(page: Page, name: str) -> Adapter | None:
    """The adapter that is on the model in a stage of a recipe without mistakes; None where there is none.

    Over a quantised body the stage need not use it itself.
    """
    shared = [(lora, tuple(names)) for lora, names in groupby(page.stages, lambda stage: stage_lora(page, stage))]
    if page.base.quantization == "none":
        settings, names = next(item for item in shared if name in item[1])
    else:
        settings, names = next((lora for lora, _ in shared if lora is not None), None), tuple(page.stages)
    if settings is None:
        return None
    count = page.base.sizes.num_hidden_layers
    trains = [page.stages[stage].trains for stage in names]
    moved = {index for part in trains for index in layer_indices(part.layers, count)}
    return Adapter(
        settings,
        names,
        None if len(moved) == count else tuple(sorted(moved)),
        any(part.input != "none" for part in trains),
        any(part.output != "none" for part in trains),
    )


def layer_indices(layers: str | Sequence[int], count: int) -> tuple[int, ...]:
    """The layers that a word stands for, counted from 0.

    >>> layer_indices("odd", 5)
    (1, 3)
    """
    if not isinstance(layers, str):
        return tuple(sorted(layers))
    every = {"none": range(0), "odd": range(1, count, 2), "even": range(0, count, 2), "all": range(count)}
    return tuple(every[layers])
