"""What a stage of a staged training trains, as plain words that a model's state and a published run share.

A name for people, and the stage of a published run that trains the same. Where the words do not decide, neither
does this module: an unknown word gives the name ``unknown``, two stages that fit give no match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:  # a baseline's stages hold `Trains`
    from ko_cpt_callbacks.core.baseline import Baseline

__all__ = [
    "NOT_STATED", "UNKNOWN", "Adapter", "Layers", "MatchReason", "Rows", "StageMatch", "Trains", "matching_stage",
    "stage_name",
]

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


MatchReason: TypeAlias = Literal["same", "as-stated", "through-lora", "nothing-trains", "unknown", "several", "none"]


@dataclass(frozen=True, slots=True)
class StageMatch:
    """Which stage of a baseline trains the same.

    Args:
        stage: Its name; None where no stage does, or more than one.
        reason: ``same`` (word for word), ``as-stated`` (all that the source states is the same), ``through-lora``
            (the same parts, here through LoRA); or why there is no match: ``nothing-trains``, ``unknown`` (what
            this model trains could not be read), ``several`` (see ``candidates``), ``none``.
        candidates: The stages that fit.
    """

    stage: str | None
    reason: MatchReason
    candidates: tuple[str, ...] = ()


def matching_stage(trains: Trains, baseline: Baseline) -> StageMatch:
    """The stage of ``baseline`` that trains what ``trains`` says.

    Word for word first; then every stage whose source states nothing else (``not stated`` fits any word, but a
    stage of which nothing is stated fits nothing); then, for LoRA, a stage that trains the same parts themselves.
    Stages that are no reference for pretraining are left out.

    Args:
        trains: What a model trains.
        baseline: The run to find the stage in.
    """
    if trains == Trains():
        return StageMatch(None, "nothing-trains")
    known = [(stage.name, stage.trains) for stage in baseline.stages if stage.reference and stage.trains is not None]
    direct = replace(trains, adapter="none") if trains.adapter == "lora" else None
    ways: tuple[tuple[MatchReason, list[str]], ...] = (
        ("same", [name for name, other in known if other == trains]),
        ("as-stated", [name for name, other in known if _fits(trains, other)]),
        ("through-lora", [name for name, other in known if direct is not None and _fits(direct, other)]),
    )
    for reason, names in ways:
        if len(names) == 1:
            return StageMatch(names[0], reason, tuple(names))
        if names:
            return StageMatch(None, "several", tuple(names))
    return StageMatch(None, "unknown" if UNKNOWN in trains.as_dict().values() else "none")


def _fits(trains: Trains, stated: Trains) -> bool:
    mine, words = trains.as_dict(), stated.as_dict()
    return set(words.values()) != {NOT_STATED} and all(words[name] in (NOT_STATED, mine[name]) for name in mine)
