"""How much a stage of a published run changed its loss, to stand beside one's own: shown, never judged.

A difference per token belongs to the tokenizer that it was measured with.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.baseline import Baseline, BaselineValue
from ko_cpt_callbacks.core.comparison_value import BITS, NATS

__all__ = ["BaselineDelta", "baseline_delta"]


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
    order = [item.name for item in baseline.stages]
    if before not in order or stage not in order or order.index(before) >= order.index(stage):
        return None
    first, second = baseline.stage(before), baseline.stage(stage)
    if first is None or second is None:
        return None
    for metric, unit in ((keys.LOSS, NATS), (keys.BITS_PER_BYTE, BITS)):
        one, other = first.value(metric, "eval"), second.value(metric, "eval")
        if one is not None and other is not None and one.set == other.set:
            return _between(baseline, (before, one), (stage, other), unit)
    return None


def _between(
    baseline: Baseline, before: tuple[str, BaselineValue], stage: tuple[str, BaselineValue], unit: str
) -> BaselineDelta:
    one, other = before[1], stage[1]
    return BaselineDelta(
        baseline=baseline.id,
        title=baseline.title,
        stage=stage[0],
        before=before[0],
        unit=unit,
        difference=other.value - one.value,
        low=other.low - one.high,
        high=other.high - one.low,
        tokenizer=baseline.tokenizer,
        grade=other.grade if other.grade == one.grade else f"{one.grade}, {other.grade}",
    )
