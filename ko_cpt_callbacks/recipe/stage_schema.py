"""What a recipe may say of a stage: what trains, through which adapter, how, and what to watch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, StringConstraints, Tag

from ko_cpt_callbacks.recipe.model_schema import Amount, Count, Index, LayersWord, Name, Part, RowsWord, Text


def _mapping_or_name(value: Any) -> str:
    return "<name>" if isinstance(value, str) else "<settings>"


def _list_or_word(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<word>"


def _text_or_number(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<number>"


TargetWord = Annotated[str, StringConstraints(pattern=r"^all-linear$")]


class Lora(Part):
    """For ``peft.LoraConfig``, under its own names. What is trained whole beside it, ``trains`` says."""

    r: Count
    lora_alpha: Amount
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[
        Annotated[list[Text], Field(min_length=1), Tag("<list>")] | Annotated[TargetWord, Tag("<word>")],
        Discriminator(_list_or_word),
    ]
    """Linear layers of the blocks: by the last word of their names, or by more of it; ``all-linear``: all of them."""
    use_rslora: bool = False


class Trains(Part):
    """Which parts of the model move."""

    input: RowsWord = "none"
    """Rows of the input embedding: those of new tokens, or all."""
    output: RowsWord = "none"
    """The same of the head."""
    layers: Annotated[
        Annotated[LayersWord, Tag("<word>")] | Annotated[list[Index], Field(min_length=1), Tag("<list>")],
        Discriminator(_list_or_word),
    ] = "none"
    """Transformer blocks, counted from 0: ``odd`` is 1, 3, 5, …; ``all`` without LoRA is everything but the
    embeddings, the last norm too."""


class Watch(Part):
    """For ``KoCPTCallback``."""

    targets: list[Text] = Field(default_factory=list)
    """Of sets of ``eval``; a preset is asked of the first set that is no retention set."""
    baseline: Text | None = None
    """An id of ``ko-cpt baselines``."""
    stage: Text = "auto"
    """One of the baseline's stages; ``auto``: the one that trains the same."""
    stop_on: list[Text] = Field(default_factory=list)
    """Finding codes that stop the stage; the next one begins."""
    grace: (
        Annotated[Annotated[Index, Tag("<number>")] | Annotated[Text, Tag("<text>")], Discriminator(_text_or_number)]
        | None
    ) = None
    """Before which nothing stops: optimizer steps, or ``tokens:1e6``."""
    patience: Count | None = None
    """Evaluations without improvement after which the stage stops."""
    min_delta: (
        Annotated[
            Annotated[float, Field(ge=0), Tag("<number>")] | Annotated[Text, Tag("<text>")],
            Discriminator(_text_or_number),
        ]
        | None
    ) = None
    """What counts as improvement: nats per token, or ``1%`` of the best loss."""


class Stage(Part):
    """One training."""

    trains: Trains
    lora: (
        Annotated[
            Annotated[Lora, Tag("<settings>")] | Annotated[Name, Tag("<name>")],
            Discriminator(_mapping_or_name),
        ]
        | None
    ) = None
    """The layers move through this adapter; a name: through that of an earlier stage, which goes on. None: they move
    themselves."""
    arguments: dict[Name, Any]
    """For ``transformers.TrainingArguments``, passed on unchanged."""
    watch: Watch = Watch()
    """What is said about this stage, and when it ends early."""

    @property
    def checkpointing(self) -> bool:
        """Whether blocks are computed again in the backward pass; transformers 5.23 has another name for it."""
        return any(self.arguments.get(name) for name in ("activation_checkpointing", "gradient_checkpointing"))


class Defaults(Part):
    """Written once for all stages; where a stage says the same key, the stage's value counts."""

    arguments: dict[Name, Any] = Field(default_factory=dict)
    """As in a stage."""
    watch: Watch = Watch()
    """As in a stage."""
