"""What a comparison takes and gives: the run's side, a paired difference, what came of it and why, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.observation import EvalObservation, level_of

__all__ = [
    "BITS", "NATS", "QUANTIZATION_COST", "TEXT_SPREAD", "Comparison", "Measured", "Outcome", "Paired", "Range",
    "Reason", "Relation", "quantization_note", "relation_of",
]  # fmt: skip

QUANTIZATION_COST: Final[Mapping[str, float]] = {"8-bit": 0.0109, "4-bit": 0.0779}
"""Nats per token that quantised weights cost: Chinese-LLaMA-2-7B, perplexity 9.373 in fp16, 9.476 in 8-bit, 10.132 in
4-bit at a context of 4,096 (ymcui/Chinese-LLaMA-Alpaca-2, README_EN.md). llama.cpp's formats cost the same model less:
9.128 in fp16, 9.129 in Q8_0 (+0.0001), 9.240 in Q4_K (+0.0122). On Korean text NF4 cost Kanana 1.5 V 3B 0.0444 and
Llama 3.2 11B Vision 0.0742: the larger figure is kept. For 8 bits no figure of another model is known."""

TEXT_SPREAD: Final = (1.735, 3.233)
"""Nats per token of one model with one tokenizer on C4-ko and on namuwiki: FRANKENSTALLM 1B, perplexity 5.6698 and
25.3436 (pathcosmos/FRANKENSTALLM, eval/reports/01_perplexity_report.md). So much is the text's doing alone."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason or note.

    Args:
        code: Its key among the catalogue's reasons.
        values: The numbers and names of its sentence: JSON values, finite.
    """

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Code and values in one flat dict, as a finding keeps it and the sentence table reads it."""
        return {"code": self.code, **self.values}


def quantization_note(run: str | None, reference: str) -> Reason | None:
    """What a difference in the weights' number format means for the loss; None where there is none or none is known.

    Args:
        run: ``none``, ``8-bit``, ``4-bit`` or another method's name; None where not known.
        reference: The same of the reference; ``not stated`` where not known.
    """
    costs = [QUANTIZATION_COST.get(name or "", 0.0) for name in (run, reference)]
    if run is None or run == reference or not any(costs):
        return None
    coarser = reference if costs[1] > costs[0] else run
    return Reason("quantization", {"run": run, "reference": reference, "coarser": coarser, "cost": max(costs)})


Outcome: TypeAlias = Literal["exact", "indicative", "not comparable"]
Relation: TypeAlias = Literal["ahead", "level", "behind"]
Range: TypeAlias = tuple[float, float]

NATS: Final = "nats per token"
BITS: Final = "bits per byte"


def relation_of(difference: float, low: float, high: float, resolution: float) -> Relation:
    """How a difference is called: the one rule, for two runs and for two stages of one.

    Args:
        difference: Less what it is compared with: negative where the loss is lower.
        low: Lower end of its interval.
        high: Upper end.
        resolution: `ko_cpt_callbacks.compare.resolution.resolution_of`.

    Returns:
        ``level`` where the interval holds zero or the difference is below the resolution.
    """
    if low <= 0.0 <= high or abs(difference) < resolution:
        return "level"
    return "behind" if low > 0.0 else "ahead"


@dataclass(frozen=True, slots=True)
class Measured:
    """One loss of the run that is to be compared. ``None`` means not known; every number is finite.

    Args:
        split: ``eval`` for held-out text, ``train`` for a training loss.
        set: The evaluation's prefix, as logged.
        loss: Nats per token.
        loss_se: Its standard error.
        bits_per_byte: Bits per byte of the scored text.
        bits_per_byte_se: Its standard error.
        bytes_per_token: UTF-8 bytes of the scored text per target token.
        tokenizer: Hash of the vocabulary, as ``run.json`` has it (``tokenizer.hash``).
        vocabulary: Its entries.
        quantization: ``none``, ``8-bit``, ``4-bit``, another method's name.
        fingerprint: Which text was scored.
        tokens: Target tokens.
        bytes: UTF-8 bytes of the scored text.
        metric: ``exact_loss``, or ``loss`` (the Trainer's own, which depends on the batch size).
        retention: Whether the set is there to see what is forgotten: such a set is never compared.
        start: What the run began from, a word of `ko_cpt_callbacks.compare.resolution.SEED_SD_BITS`; empty: not known.
        seed_sd: Standard deviation between repeats of the run with other seeds, by unit; empty where there are none.
        seed_runs: How many runs that is of, this one among them; 0 where there are none.
    """

    split: Literal["train", "eval"] = "eval"
    set: str = "eval"
    loss: float | None = None
    loss_se: float | None = None
    bits_per_byte: float | None = None
    bits_per_byte_se: float | None = None
    bytes_per_token: float | None = None
    tokenizer: str | None = None
    vocabulary: int | None = None
    quantization: str | None = None
    fingerprint: str | None = None
    metric: str = keys.EXACT_LOSS
    retention: bool = False
    tokens: int | None = None
    bytes: int | None = None
    start: str = ""
    seed_sd: Mapping[str, float] = field(default_factory=dict)
    seed_runs: int = 0

    @classmethod
    def of(cls, seen: EvalObservation) -> Measured | None:
        """What an evaluation's row says; the tokenizer is not in it. ``None`` where no finite loss is."""
        loss, bits = level_of(keys.EXACT_LOSS, seen), level_of(keys.BITS_PER_BYTE, seen)
        if loss == "substitute":  # shown as what it is (`metric`), and never compared exactly
            loss = level_of(keys.LOSS, seen)
        if isinstance(loss, str) and isinstance(bits, str):
            return None
        exact = seen.exact_loss is not None
        return cls(
            set=seen.split,
            loss=None if isinstance(loss, str) else loss.value,
            loss_se=None if isinstance(loss, str) else loss.se,
            bits_per_byte=None if isinstance(bits, str) else bits.value,
            bits_per_byte_se=None if isinstance(bits, str) else bits.se,
            bytes_per_token=seen.bytes / seen.tokens if seen.bytes and seen.tokens else None,
            fingerprint=seen.fingerprint,
            metric=keys.EXACT_LOSS if exact else keys.LOSS,
            tokens=seen.tokens,
            bytes=seen.bytes,
        )


@dataclass(frozen=True, slots=True)
class Paired:
    """The difference of two evaluations row by row, as `ko_cpt_callbacks.compare.pairing.paired_with` makes it.

    Args:
        unit: ``nats per token`` (one tokenizer) or ``bits per byte``.
        difference: The run less the reference; ``None`` where the rows do not allow an exact one.
        se: Its standard error; ``None`` below two rows.
        rows: Rows that count.
        reasons: Codes of why there is none; empty where there is.
    """

    unit: str
    difference: float | None = None
    se: float | None = None
    rows: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where a run stands beside a reference. ``None`` means that it is not known; every number is finite.

    Args:
        baseline: Id of the reference.
        title: Its title.
        stage: Its stage.
        reference_set: Its text, as it names it.
        set: The run's evaluation set (``train``: its training loss).
        outcome: ``exact``, ``indicative`` or ``not comparable``.
        relation: ``ahead`` (a lower loss), ``level`` or ``behind``, where the interval decides.
        unit: Unit of the values and the difference.
        value: The run's value.
        reference: The reference's value; of a range its middle.
        reference_low: Lowest value that the reference's print or derivation leaves possible.
        reference_high: Highest such value.
        difference: The run less the reference.
        se: Its standard error.
        se_kind: ``paired``, ``at most`` (both sides' errors added as if independent: the true one on the same text is
            smaller as long as the same rows are hard for both), or ``independent`` (different text).
        seed_se: What other seeds add to that error, apart from it; ``None`` where it is not known.
        resolution: The smallest difference that is called one, in the unit: half the interval of both parts.
        low: Lower end of the interval of the difference, both parts and the reference's range included.
        high: Its upper end.
        confidence: Of the interval, two-sided.
        rows: Rows behind a paired difference.
        reasons: Why the outcome is not a better one.
        notes: What else to know about it.
        would_help: What would make it comparable, or exact.
        equal_loss: Losses per token, with this run's bytes per token, that equal the reference's range.
        equal_bytes_per_token: Bytes per token at which the run's loss equals the reference's range: the first of the
            two is for the reference's higher bits per byte.
    """

    baseline: str
    title: str
    stage: str
    reference_set: str
    set: str
    outcome: Outcome
    relation: Relation | None = None
    unit: str | None = None
    value: float | None = None
    reference: float | None = None
    reference_low: float | None = None
    reference_high: float | None = None
    difference: float | None = None
    se: float | None = None
    se_kind: str | None = None
    seed_se: float | None = None
    resolution: float | None = None
    low: float | None = None
    high: float | None = None
    confidence: float = 0.95
    rows: int | None = None
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()
    would_help: tuple[Reason, ...] = ()
    equal_loss: Range | None = None
    equal_bytes_per_token: Range | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it as strict JSON."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        for name in ("reasons", "notes", "would_help"):
            plain[name] = [reason.as_dict() for reason in plain[name]]
        for name in ("equal_loss", "equal_bytes_per_token"):
            plain[name] = None if plain[name] is None else list(plain[name])
        return plain
