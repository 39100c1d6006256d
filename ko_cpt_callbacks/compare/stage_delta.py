"""How much a training stage changed the loss: its end against the end of the stage before, on the same text.

Where both kept their per-row sums of the same rows the difference is a paired one, and its error bar much narrower
than the two losses' own. Loss per token is compared where the text was cut into the same tokens, bits per byte where
it was not. Two texts are never compared. What a stage of a published run changed stands beside it: shown, never judged,
since a difference per token belongs to the tokenizer that it was measured with.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.compare.resolution import STAGE_START, Seeds, resolution_of
from ko_cpt_callbacks.compare.value import BITS, NATS, Paired, Relation, relation_of
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.fold import same_text
from ko_cpt_callbacks.run.observation import EvalObservation, finite_number

__all__ = ["STAGE_DIFFERENCE", "BaselineDelta", "EvalEnd", "StageDelta", "baseline_delta", "stage_delta"]

STAGE_DIFFERENCE: Final = "stage-difference"
"""Kind of the set-up row that hands a stage's difference to the rule `stage-regression`."""

Outcome: TypeAlias = Literal["paired", "unpaired", "shown", "not comparable"]


@dataclass(frozen=True, slots=True)
class EvalEnd:
    """The last evaluation of one set in one stage: fields as in `EvalObservation`. ``None`` means not known.

    Args:
        stage: The stage's name.
        step: Optimizer step within the stage.
        loss: Nats per token; None where it was not finite, or a batch behind it was not.
        metric: ``exact_loss``, or ``loss`` (the Trainer's own).
        tokenizer: Hash of the vocabulary, as ``run.json`` has it (``tokenizer.hash``).
        rows: Per-row sums.
    """

    stage: str
    split: str
    step: int
    loss: float | None
    metric: str = keys.EXACT_LOSS
    loss_se: float | None = None
    bits_per_byte: float | None = None
    bits_per_byte_se: float | None = None
    tokens: int | None = None
    bytes: int | None = None
    fingerprint: str | None = None
    tokenizer: str | None = None
    rows: RowSums | None = None

    @classmethod
    def of(
        cls, stage: str, seen: EvalObservation, tokenizer: str | None = None, rows: RowSums | None = None
    ) -> EvalEnd:
        """The end that an evaluation's row says."""
        exact = seen.exact_loss is not None
        loss = finite_number(seen.exact_loss if exact else seen.loss)
        return cls(
            stage=stage,
            split=seen.split,
            step=seen.step,
            loss=None if seen.nonfinite_batches else loss,
            metric=keys.EXACT_LOSS if exact else keys.LOSS,
            loss_se=finite_number(seen.exact_loss_se) if exact else None,
            bits_per_byte=finite_number(seen.bits_per_byte),
            bits_per_byte_se=finite_number(seen.bits_per_byte_se),
            tokens=seen.tokens,
            bytes=seen.bytes,
            fingerprint=seen.fingerprint,
            tokenizer=tokenizer,
            rows=rows,
        )

    def side(self, unit: str) -> tuple[float | None, float | None, int | None]:
        """The value in a unit, its standard error, and of how many tokens or bytes it is the mean."""
        if unit == NATS:
            return self.loss, self.loss_se, self.tokens
        return self.bits_per_byte, self.bits_per_byte_se, self.bytes


@dataclass(frozen=True, slots=True)
class StageDelta:
    """A stage's change of the loss; every number is finite.

    Args:
        stage: The later stage.
        before: The stage before it.
        split: The evaluation's prefix.
        step: Step of the later stage's evaluation.
        outcome: ``paired`` or ``unpaired`` (with an error bar), ``shown`` (a difference without one, or of which
            it is not sure that the text is the same: not judged), ``not comparable`` (no difference).
        unit: ``nats per token`` or ``bits per byte``; None where there is no difference.
        difference: After less before: negative where the stage helped.
        se: Its standard error.
        low: Lower end of the interval.
        high: Upper end.
        resolution: The smallest difference that is called one, in that unit: another seed of the later stage included.
            None where there is no error bar.
        value_before: What the stage before ended at, in that unit.
        value_after: What this stage ended at.
        rows: Rows that were paired; 0 where none were.
        reasons: Codes of why it is no better than the outcome says.
    """

    stage: str
    before: str
    split: str
    step: int
    outcome: Outcome
    unit: str | None = None
    difference: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    resolution: float | None = None
    value_before: float | None = None
    value_after: float | None = None
    rows: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def judged(self) -> bool:
        """Whether the difference has an error bar to be judged by."""
        return self.outcome in ("paired", "unpaired")

    @property
    def relation(self) -> Relation | None:
        """``ahead`` where the stage helped, ``level`` or ``behind``; None where there is no error bar to tell by."""
        if self.difference is None or self.low is None or self.high is None or self.resolution is None:
            return None
        return relation_of(self.difference, self.low, self.high, self.resolution)

    def as_dict(self) -> dict[str, Any]:
        """As JSON, and as the values of a set-up row ``stage-difference``."""
        values = asdict(self)
        # "step" is the row's own.
        values["at_step"] = values.pop("step")
        return {**values, "reasons": list(self.reasons), "paired": self.outcome == "paired"}


def stage_delta(before: EvalEnd, after: EvalEnd, confidence: float = 0.95) -> StageDelta:
    """The change from the end of a stage to the end of the next, on one evaluation set."""
    plain = StageDelta(after.stage, before.stage, after.split, after.step, "not comparable")
    if before.loss is None or after.loss is None:
        return replace(plain, reasons=("not-finite",))
    if before.metric != after.metric:
        return replace(plain, reasons=("other-metric",))
    text, same = same_text(before.fingerprint, after.fingerprint), _same_tokens(before, after)
    if text is False:
        return replace(plain, reasons=("different-text",))
    unit = BITS if same is False else NATS
    (first, first_se, first_count), (second, second_se, second_count) = before.side(unit), after.side(unit)
    if first is None or second is None:
        return replace(plain, reasons=("other-tokenizer",))
    if None not in (first_count, second_count) and first_count != second_count:
        return replace(plain, reasons=("scored-differently",))
    difference = second - first
    found = replace(
        plain, outcome="shown", unit=unit, difference=difference, value_before=first, value_after=second
    )
    doubts = {
        "trainer-loss": before.metric != keys.EXACT_LOSS,
        "text-unknown": text is None,
        "tokenizer-unknown": same is None,
    }
    if any(doubts.values()):
        return replace(found, reasons=tuple(code for code, applies in doubts.items() if applies))
    paired = _paired(before, after, unit == NATS)
    if paired is not None and paired.difference is not None and paired.se is not None:
        difference, se = paired.difference, paired.se
        found = replace(found, outcome="paired", difference=difference, rows=paired.rows)
    elif first_se is None or second_se is None:
        return replace(found, reasons=("no-error-bar",))
    else:
        se = math.hypot(first_se, second_se)
        reasons = ("no-rows",) if paired is None else paired.reasons or ("one-row",)
        found = replace(found, outcome="unpaired", reasons=reasons)
    low, high = interval(difference, se, confidence)
    reach = after.bytes / after.tokens if after.bytes and after.tokens else None
    resolution = resolution_of(se, Seeds(STAGE_START).error(unit, reach), confidence)
    return replace(found, se=se, low=low, high=high, resolution=resolution)


def _same_tokens(before: EvalEnd, after: EvalEnd) -> bool | None:
    """Whether the text was cut into the same tokens; None where it is not known.

    One text in equally many tokens gives one unit, whatever the vocabularies are called.
    """
    if before.tokenizer is not None and after.tokenizer is not None:
        return before.tokenizer == after.tokenizer
    if before.tokens is None or after.tokens is None:
        return None
    return before.tokens == after.tokens


def _paired(before: EvalEnd, after: EvalEnd, same: bool) -> Paired | None:
    if before.rows is None or after.rows is None:
        return None
    # A file of another evaluation under the same name must not speak for this one.
    for end, rows in ((before, before.rows), (after, after.rows)):
        if rows.contradiction(loss=end.loss, tokens=end.tokens, bytes=end.bytes, fingerprint=end.fingerprint):
            return Paired(NATS, reasons=("other-rows",))
    return paired_with(before.rows, after.rows, same)


@dataclass(frozen=True, slots=True)
class BaselineDelta:
    """A stage's change in a baseline.

    Args:
        baseline: The baseline's id.
        title: Its title.
        stage: Its stage.
        before: The stage that it is measured from.
        unit: ``nats per token`` (of the baseline's own tokenizer), or ``bits per byte``.
        difference: End of ``stage`` less end of ``before``.
        low: Lowest difference that the two figures' print leaves possible.
        high: Highest such difference.
        tokenizer: The baseline's tokenizer; empty where not known.
        grade: Grade of the weaker figure.
    """

    baseline: str
    title: str
    stage: str
    before: str
    unit: str
    difference: float
    low: float
    high: float
    tokenizer: str
    grade: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def baseline_delta(baseline: Baseline, before: str | None, stage: str | None) -> BaselineDelta | None:
    """The change between two stages of a baseline, on held-out text.

    Args:
        baseline: The run.
        before: Its earlier stage; None where one's own matches none.
        stage: The later one.

    Returns:
        None where one of the two is missing or has no figure, or ``stage`` does not come after ``before``. Loss per
        token where both report it, else bits per byte.
    """
    stages = {item.name: item for item in baseline.stages}
    order = list(stages)
    if before not in stages or stage not in stages or order.index(before) >= order.index(stage):
        return None
    first, second = stages[before], stages[stage]
    for metric, unit in ((keys.LOSS, NATS), (keys.BITS_PER_BYTE, BITS)):
        one, other = first.value(metric, "eval"), second.value(metric, "eval")
        if one is not None and other is not None and one.set == other.set:
            return BaselineDelta(
                baseline=baseline.id,
                title=baseline.title,
                stage=stage,
                before=before,
                unit=unit,
                difference=other.value - one.value,
                low=other.low - one.high,
                high=other.high - one.low,
                tokenizer=baseline.tokenizer,
                grade=other.grade if other.grade == one.grade else f"{one.grade}, {other.grade}",
            )
    return None
