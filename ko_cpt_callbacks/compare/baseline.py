"""A run to compare with, as plain values: published, or one of the user's own; and its stage that trains the same.

Where the values come from (a file of the registry, a run folder) is not known here; each carries its
grade of evidence and the range that its print or its derivation leaves open. Where two stages fit, none is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from ko_cpt_callbacks.compare.stage import NOT_STATED, UNKNOWN, StageFacts, Trains

__all__ = [
    "GRADES", "PRETRAINING", "Baseline", "BaselineStage", "BaselineValue", "Efficiency", "Grade", "Kind", "MatchReason",
    "Metric", "Split", "StageMatch", "Start", "matching_stage", "stage_values",
]  # fmt: skip

Grade: TypeAlias = Literal["V", "S", "D", "UNCONFIRMED", "M", "OWN"]
"""How well a figure is known: read in a primary source, in a secondary source, derived here from graded figures,
stated by one research note and confirmed nowhere else, from memory, measured by this package."""

GRADES: Final[Mapping[Grade, str]] = {
    "V": "read in a primary source",
    "S": "read in a secondary source",
    "D": "derived here by arithmetic from graded figures",
    "UNCONFIRMED": "stated by one research note and confirmed nowhere else",
    "M": "from memory, unverified",
    "OWN": "measured by this package",
}

Kind: TypeAlias = Literal["continued pretraining", "from scratch", "base model", "instruction tuning", "note"]
PRETRAINING: Final[tuple[Kind, ...]] = ("continued pretraining", "from scratch", "base model")
"""Kinds whose loss on held-out text a run of continued pretraining may be compared with."""

Start: TypeAlias = Literal["good base", "vocabulary surgery", "from scratch"]
"""What a run began from: a base with its tokenizer whole, one whose vocabulary was changed, random weights."""

Metric: TypeAlias = Literal["loss", "ppl", "bits_per_byte"]
Split: TypeAlias = Literal["train", "eval", "unknown"]
"""``unknown``: its source calls it one thing and what is left of the run shows another, so that it
is compared with neither."""


@dataclass(frozen=True, slots=True)
class BaselineValue:
    """One figure of a baseline.

    Args:
        metric: ``loss`` in nats per token, ``ppl``, or ``bits_per_byte``.
        split: ``train`` or ``eval``: a training loss is a mean over changing weights and is never compared with
            a loss on held-out text; ``unknown`` where that is in doubt, and then it is compared with nothing.
        value: The figure as quoted or derived; for a derived range its middle.
        low: Lowest value that the print's rounding, or the derivation's open question, leaves possible.
        high: Highest such value.
        rounding: Of a figure with an open question (``low`` is one reading, ``high`` the other): how far beyond the
            two the printed digits of its inputs reach. 0 where ``low`` and ``high`` have the rounding in them.
        grade: Grade of the figure itself: a figure derived from an UNCONFIRMED value is no better,
            whatever the arithmetic; its grade is ``D`` and ``origin`` names what it was derived from.
        origin: ``reported``, ``computed`` (then ``formula`` says how), ``note-only`` or ``measured``.
        formula: How a computed value was made, or what is to be known of another; may be empty.
        set: Name of the text it was measured on, as the source names it; empty where it does not.
        se: Standard error, same unit; None where not known.
        fingerprint: Fingerprint of the scored text; None where not known (every published run).
        tokens: Target tokens that were scored; None where not known.
        bytes: UTF-8 bytes of the scored text; likewise.
        rows_file: File with the per-row sums of the evaluation; None where there is none.
        locator: Where in the source it stands.
        position: When in training: ``end of stage``, a step, or empty where the source does not say.
        quantization: How the model was loaded for it; empty where that is the run's.
        language: Language of the text; empty where that is the run's.
        seeds: Of a mean over runs that differ in their seed: how many; None for one run.
        seed_sd: Their standard deviation, same unit; None where not known.
    """

    metric: Metric
    split: Split
    value: float
    low: float
    high: float
    grade: Grade
    origin: str = "reported"
    formula: str = ""
    set: str = ""
    se: float | None = None
    fingerprint: str | None = None
    rows_file: str | None = None
    locator: str = ""
    position: str = ""
    quantization: str = ""
    rounding: float = 0.0
    tokens: int | None = None
    bytes: int | None = None
    language: str = ""
    seeds: int | None = None
    seed_sd: float | None = None

    @property
    def lowest(self) -> float:
        """The lowest value that is possible at all: what a verdict must be sure against."""
        return self.low - self.rounding

    @property
    def highest(self) -> float:
        """The highest value that is possible at all."""
        return self.high + self.rounding


@dataclass(frozen=True, slots=True)
class BaselineStage:
    """One stage of a baseline, in its order.

    Args:
        name: Short name (``embedding``, ``odd-layers``, …); a run without stages has one, ``whole``.
        title: One line for people.
        trains: What moves in it; None where nothing is known of it.
        values: Its figures; empty where none was published.
        reference: Whether its figures may be compared with a run of continued pretraining (an SFT stage's are not).
    """

    name: str
    title: str = ""
    trains: Trains | None = None
    values: tuple[BaselineValue, ...] = ()
    reference: bool = True

    def value(self, metric: str, split: str, set: str | None = None) -> BaselineValue | None:
        """The figure of a metric and split (of a named set, where one is given); None where there is none."""
        for item in self.values:
            if item.metric == metric and item.split == split and set in (None, item.set):
                return item
        return None


@dataclass(frozen=True, slots=True)
class Baseline:
    """A run to compare with.

    Args:
        id: Its name in the registry.
        title: One line for people.
        kind: What it was; only those of `PRETRAINING` are references for pretraining.
        grade: The weakest grade among the figures that a comparison uses.
        tokenizer: Name of its tokenizer; empty where not known.
        vocabulary: Entries of its vocabulary; None where not known or the sources contradict each other.
        bytes_per_token_low: Lowest possible UTF-8 bytes per token of its text; None where not known.
        bytes_per_token_high: Highest such value.
        quantization: ``none``, ``8-bit``, ``4-bit``, or ``not stated``.
        stages: In the order they were trained.
        why_not: For a run that is no reference: why.
        version: Version of the entry: raised when a number moves.
        language: Language of the text it was trained and evaluated on: ``ko``.
        tokenizer_hash: Of the vocabulary, as ``run.json`` has it; empty for a published run.
        superseded_by: Id of the entry that took its place; empty where it stands.
        start: What it began from, in a word of `Start`; empty where not known.
    """

    id: str
    title: str
    kind: Kind
    grade: Grade
    tokenizer: str = ""
    vocabulary: int | None = None
    bytes_per_token_low: float | None = None
    bytes_per_token_high: float | None = None
    quantization: str = "not stated"
    stages: tuple[BaselineStage, ...] = field(default_factory=tuple)
    why_not: str = ""
    version: int = 1
    language: str = "ko"
    tokenizer_hash: str = ""
    superseded_by: str = ""
    start: str = ""

    def stage(self, name: str) -> BaselineStage | None:
        """The stage of a name; None where there is none."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values, so that ``run.json`` can keep what a run was compared with."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Baseline:
        """The inverse of :meth:`as_dict`.

        Raises:
            ValueError, TypeError, KeyError: If it is not such a dict.
        """
        stages = tuple(
            BaselineStage(
                **{
                    **stage,
                    "trains": None if stage.get("trains") is None else Trains.from_dict(stage["trains"]),
                    "values": tuple(BaselineValue(**value) for value in stage.get("values", ())),
                }
            )
            for stage in values.get("stages", ())
        )
        return cls(**{**values, "stages": stages})


@dataclass(frozen=True, slots=True)
class Efficiency:
    """How many tokens a run trained on per GPU and hour, to place another run on.

    Args:
        id: The baseline's id.
        title: The baseline's title.
        gpu: The GPU as its source names it: tokens per hour of unlike GPUs are no comparison of methods.
        tokens_per_gpu_hour: Tokens / GPU hours.
        low: Lowest value that the printed digits of the two leave possible.
        high: Highest such value.
        grade: Grade of the weaker of the two.
    """

    id: str
    title: str
    gpu: str
    tokens_per_gpu_hour: float
    low: float
    high: float
    grade: Grade


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


def stage_values(facts: StageFacts, baseline: Baseline | None = None) -> dict[str, Any]:
    """The values of the set-up row ``stage``, JSON-safe.

    Args:
        facts: What the model trains.
        baseline: The run that is compared with; the row then names its stage that trains the same
            (``baseline_stage``, None where there is no single one) and why (``baseline_stage_reason``).
    """
    match = None if baseline is None else matching_stage(facts.trains, baseline)
    read = asdict(facts, dict_factory=_plain)
    values = {
        "name": facts.name,
        **read.pop("trains"),
        **read,
        "trainable_parameters": facts.trainable_parameters,
        "baseline": None if baseline is None else baseline.id,
        "baseline_stage": None if match is None else match.stage,
        "baseline_stage_reason": None if match is None else match.reason,
    }
    if match is not None and match.reason == "several":
        values["baseline_stages"] = list(match.candidates)
    return values


def _plain(values: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values}
