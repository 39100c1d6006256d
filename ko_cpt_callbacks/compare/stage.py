"""What a stage of a staged training trains, as plain words that a model's state and a published run share.

Also what was read from a model of what it trains. Where the words do not decide, neither does this module: an unknown
word gives the name ``unknown``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

__all__ = [
    "GROUPS", "NOT_STATED", "STAGE", "UNKNOWN", "Adapter", "Layers", "LoraFacts", "Rows", "StageFacts", "Tied",
    "Trains", "stage_name",
]  # fmt: skip

NOT_STATED: Final = "not stated"
"""Of a published run: its source does not say. Never of a model that is at hand."""

UNKNOWN: Final = "unknown"
"""Of a model that is at hand: what is there does not tell."""

Rows: TypeAlias = Literal["none", "new", "all", "unknown", "not stated"]
Layers: TypeAlias = Literal["none", "odd", "even", "all", "some", "unknown", "not stated"]
Adapter: TypeAlias = Literal["none", "lora", "other", "unknown", "not stated"]


@dataclass(frozen=True, slots=True)
class Trains:
    """Which parts of a model move.

    Args:
        input: Rows of the input embeddings: none, only rows added to the vocabulary (``new``), or all.
        output: The same of the output head.
        layers: Transformer blocks, counted from 0: ``odd`` is 1, 3, 5, …
        adapter: Whether the blocks move through an adapter (``lora``) or themselves (``none``).
    """

    input: Rows = "none"
    output: Rows = "none"
    layers: Layers = "none"
    adapter: Adapter = "none"

    def as_dict(self) -> dict[str, str]:
        """The four words by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trains:
        """The inverse of :meth:`as_dict`.

        Raises:
            ValueError: For a name or a word that is none of the four's.
        """
        words: dict[str, Any] = {"input": Rows, "output": Rows, "layers": Layers, "adapter": Adapter}
        for name, word in values.items():
            if name not in words or word not in get_args(words[name]):
                raise ValueError(f"trains: found {name} = {word!r}")
        return cls(**dict(values))

    @classmethod
    def in_row(cls, values: Mapping[str, Any]) -> Trains | None:
        """What a set-up row `STAGE` says; None where a word is missing, or none that is known."""
        try:
            return cls.from_dict({name: values.get(name) for name in ("input", "output", "layers", "adapter")})
        except (ValueError, TypeError):
            return None


_LAYERS: Final[Mapping[str, str]] = {
    "odd": "odd layers",
    "even": "even layers",
    "all": "all layers",
    "some": "some layers",
}
_ROWS: Final[Mapping[tuple[str, str], str]] = {
    ("none", "none"): "",
    ("all", "all"): "embedding",
    ("new", "new"): "new rows",
    ("new", "none"): "new input rows",
    ("none", "new"): "new output rows",
    ("all", "none"): "input embedding",
    ("none", "all"): "output head",
    ("new", "all"): "new input rows and output head",
    ("all", "new"): "input embedding and new output rows",
}


def stage_name(trains: Trains) -> str:
    """What moves, in a few words.

    Args:
        trains: Its four words. One that is ``not stated`` adds nothing to the name.

    Returns:
        ``embedding`` (with the head), ``new rows``, ``odd layers``, ``LoRA``, ``LoRA on odd layers``, ``full``,
        ``frozen``, …; ``unknown`` where one of the words is.

    >>> stage_name(Trains(layers="odd", adapter="lora"))
    'LoRA on odd layers'
    """
    words = trains.as_dict()
    if UNKNOWN in words.values():
        return UNKNOWN
    if set(words.values()) == {NOT_STATED}:
        return NOT_STATED
    if trains == Trains("all", "all", "all", "none"):
        return "full"
    stated = {name: "none" if word == NOT_STATED else word for name, word in words.items()}
    rows = _ROWS[stated["input"], stated["output"]]
    layers = _LAYERS.get(stated["layers"], "")
    if stated["adapter"] == "none":
        return " and ".join(part for part in (layers, rows) if part) or "frozen"
    adapter = "LoRA" if stated["adapter"] == "lora" else "another adapter"
    if not layers and rows:
        return f"{adapter} on {rows}"
    where = "" if stated["layers"] in ("all", "none") else f" on {layers}"
    return f"{adapter}{where}" + (f" and {rows}" if rows else "")


STAGE: Final = "stage"
"""Kind of the set-up row that says what is trained."""

GROUPS: Final = ("input", "output", "layers", "adapter", "norm", "other")
"""Where a trainable parameter belongs. A matrix that is input and output at once counts under ``input``; ``norm`` is
a norm outside the blocks; ``other`` is what was not recognised."""

Tied: TypeAlias = Literal["tied", "untied", "silently untied", "no head", "unknown"]


@dataclass(frozen=True, slots=True)
class LoraFacts:
    """The settings of a LoRA, as its configuration has them.

    Args:
        rank: ``r``.
        alpha: ``lora_alpha``.
        target_modules: Names, sorted; a pattern as its text alone.
        layers_to_transform: The blocks asked for; None: all. Where they really are is `StageFacts.layer_indices`.
        modules_to_save: Modules trained whole beside the adapters, sorted.
        token_rows: Rows of the embeddings in ``trainable_token_indices``; None where it is not used.
        dora: ``use_dora``.
        rslora: ``use_rslora``.
        bias: ``none``, ``all`` or ``lora_only``.
        rank_varies: Whether a ``rank_pattern`` gives some modules another rank.
    """

    rank: int | None = None
    alpha: float | None = None
    target_modules: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    token_rows: int | None = None
    dora: bool = False
    rslora: bool = False
    bias: str = "none"
    rank_varies: bool = False


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What a model trains.

    Args:
        trains: The four words.
        layer_count: Transformer blocks; None where they were not found.
        layer_indices: The blocks that move, from 0; empty where none does or they were not found.
        adapters: Kinds of the active adapters in PEFT's words (``LORA``), trained or frozen.
        lora: Settings of the active LoRA; None where there is none.
        quantization: ``none``, ``8-bit``, ``4-bit``, or a method's own name.
        tied: Whether input embeddings and output head are one: ``silently untied`` where the configuration says
            so and they are two; ``no head`` where the model has none.
        rows: Rows of the input embeddings; None where they were not found.
        new_rows: How many rows move, where not all do; None where all or none do, or it is not known.
        parameters: All parameters; packed ones (4-bit) count whole.
        trainable: Of them trainable, by `GROUPS`. A matrix of which a gradient hook lets only some rows move
            counts whole: the optimizer holds all of it.
        other: Names of trainable parameters that were not recognised, the first few.
        notes: Why a word is unknown: ``blocks-not-found``.
    """

    trains: Trains = field(default_factory=Trains)
    layer_count: int | None = None
    layer_indices: tuple[int, ...] = ()
    adapters: tuple[str, ...] = ()
    lora: LoraFacts | None = None
    quantization: str = "none"
    tied: Tied = "unknown"
    rows: int | None = None
    new_rows: int | None = None
    parameters: int = 0
    trainable: Mapping[str, int] = field(default_factory=dict)
    other: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What moves, in a few words: `stage_name`."""
        return stage_name(self.trains)

    @property
    def trainable_parameters(self) -> int:
        """Trainable parameters of all groups."""
        return sum(self.trainable.values())
