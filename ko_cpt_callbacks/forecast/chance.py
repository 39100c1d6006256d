"""How likely a loss is below its target at the deadline, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.forecast.outlook import Curve, Outlook
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.watch.target import LARGEST_STEP, Target

if TYPE_CHECKING:
    from ko_cpt_callbacks.forecast.forecast import Forecast

__all__ = ["Chance", "bound_of", "chance_of", "deadline_of", "row_numbers"]

TAIL: Final = 0.01
"""Probability beyond which a sentence names no other: the tails are not known any better (chosen, not measured)."""


@dataclass(frozen=True, slots=True)
class Chance:
    """A target beside the forecast of its deadline.

    Args:
        target: The target as it is written.
        bound: Its bound in nats per token.
        by: The forecast.
    """

    target: str
    bound: float
    by: Forecast

    @property
    def probability(self) -> float | None:
        """How likely the loss is below the bound at the deadline; None where that is withheld."""
        return self.by.probability_below(self.bound)

    @property
    def odds(self) -> float | None:
        """The probability as a sentence names it: whole percents, from 1 to 99."""
        odds = self.probability
        return None if odds is None else min(max(round(odds, 2), TAIL), 1 - TAIL)

    @property
    def step(self) -> int | None:
        """The first step at which the median is below the bound; None where it is not, or that is withheld."""
        return self.by.step_to_reach(self.bound)

    def as_dict(self) -> dict[str, Any]:
        """The chance as JSON values."""
        return {
            "target": self.target,
            "loss": self.bound if math.isfinite(self.bound) else None,
            "probability": self.probability,
            "step_to_reach": self.step,
        }


def chance_of(target: Target, outlook: Outlook) -> Chance | None:
    """The chance of a target; None where no forecast can be compared with it, or nothing says when the run ends."""
    curve, last = outlook.curve(target.split), deadline_of(target, outlook)
    bound = None if curve is None else bound_of(target, curve)
    by = None if bound is None or last is None else outlook.forecast(target.split, last)
    return None if bound is None or by is None else Chance(str(target), bound, by)


def row_numbers(
    outlook: Outlook, seen: EvalObservation, targets: Iterable[Target], *, training: bool = False
) -> dict[str, float]:
    """What an evaluation's row gets: where its set's loss will end, and the probability of the first target of the set.

    Nothing while that is withheld: a number in a row cannot name a doubt.

    Args:
        outlook: The run up to the evaluation, it included.
        seen: The evaluation.
        targets: What the run must reach.
        training: Whether training's end, under its own name, may stand in while the set has too few evaluations.
    """
    ends = outlook.forecast(seen.split)
    if ends is None or ends.now != seen.step:
        return {}
    from ko_cpt_callbacks.forecast.evidence import Doubt

    if Doubt.TOO_FEW_POINTS in ends.withheld:
        ends = outlook.forecast(keys.TRAIN_PREFIX) if training else None
        return {} if ends is None else _numbers(keys.TRAIN_PREFIX, ends)
    found = _numbers(seen.split, ends)
    first = next((target for target in targets if target.split == seen.split), None)
    chance = None if first is None else chance_of(first, outlook)
    if found and chance is not None and chance.probability is not None:
        found[keys.key(seen.split, keys.TARGET_PROBABILITY)] = chance.probability
    return found


def _numbers(name: str, ends: Forecast) -> dict[str, float]:
    both = zip(keys.FORECAST_SUFFIXES, (ends.median, ends.lower, ends.upper, ends.family or None), strict=False)
    return {} if ends.withheld else {keys.key(name, suffix): value for suffix, value in both if value is not None}


def bound_of(target: Target, curve: Curve) -> float | None:
    """The bound of a target as a loss in nats per token; None where the curve is of another loss, or has no bytes.

    A perplexity and bits per byte are those of an exact loss, as changes too: where the target's verdict refuses a
    substitute, so does its forecast. A change is one since the curve's first point; NaN where no point is a number.
    """
    reach = curve.bytes_per_token if target.metric == keys.BITS_PER_BYTE else 1.0
    if reach is None or curve.metric != (keys.LOSS if target.metric == keys.LOSS else keys.EXACT_LOSS):
        return None
    if target.relative:
        first = next((loss for _, loss in curve.points if math.isfinite(loss) and loss > 0), math.nan)
        return first + math.log1p(target.below) if target.metric == keys.PPL else first * (1 + target.below)
    if target.metric == keys.PPL:
        return math.log(target.below)
    return target.below * math.log(2.0) * reach if target.metric == keys.BITS_PER_BYTE else target.below


def deadline_of(target: Target, outlook: Outlook) -> int | None:
    """The step by which a target must be met; of one in tokens, at the tokens per step so far.

    None where nothing says it. No deadline is after the planned last step: there the run is judged.
    """
    planned, step = outlook.planned, target.deadline_step
    if planned is None or target.deadline_tokens is None:
        return planned if planned is None or step is None else min(step, planned)
    counted, tokens = outlook.tokens
    return min(math.ceil(target.deadline_tokens * counted / tokens), planned, LARGEST_STEP) if tokens else None
