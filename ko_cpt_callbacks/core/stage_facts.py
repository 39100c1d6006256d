"""What a model trains, as it was read from the model: plain values, and the set-up row made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ko_cpt_callbacks.core.baseline import Baseline
from ko_cpt_callbacks.core.stage import Trains, matching_stage, stage_name

__all__ = ["GROUPS", "STAGE", "LoraFacts", "StageFacts", "Tied", "stage_values"]

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
        notes: Why a word is unknown, as keys of the catalogue's ``readings``.
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


def stage_values(facts: StageFacts, baseline: Baseline | None = None) -> dict[str, Any]:
    """The values of the set-up row ``stage``, JSON-safe.

    Args:
        facts: What the model trains.
        baseline: The run that is compared with; the row then names its stage that trains the same
            (``baseline_stage``, None where there is no single one) and why (``baseline_stage_reason``).
    """
    match = None if baseline is None else matching_stage(facts.trains, baseline)
    values = {
        "name": facts.name,
        **facts.trains.as_dict(),
        "layer_indices": list(facts.layer_indices),
        "layer_count": facts.layer_count,
        "adapters": list(facts.adapters),
        "lora": None if facts.lora is None else _lists(asdict(facts.lora)),
        "quantization": facts.quantization,
        "tied": facts.tied,
        "rows": facts.rows,
        "new_rows": facts.new_rows,
        "parameters": facts.parameters,
        "trainable_parameters": facts.trainable_parameters,
        "trainable": dict(facts.trainable),
        "other": list(facts.other),
        "notes": list(facts.notes),
        "baseline": None if baseline is None else baseline.id,
        "baseline_stage": None if match is None else match.stage,
        "baseline_stage_reason": None if match is None else match.reason,
    }
    if match is not None and match.reason == "several":
        values["baseline_stages"] = list(match.candidates)
    return values


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
