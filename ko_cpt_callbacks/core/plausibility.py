"""Which losses a Korean run can be expected to reach, and which mean that something else was measured.

A loss per token depends on the tokenizer, so these are bounds for what to ask twice about, not for what is good.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from ko_cpt_callbacks import keys

__all__ = [
    "FLOOR", "LARGEST_GUESS", "LOWEST_PUBLISHED_BITS", "LOWEST_PUBLISHED_LOSS", "NEAR_ZERO", "Doubt", "doubt",
    "lowest_level", "sudden_fall",
]  # fmt: skip

FLOOR: Final = math.log(3.0)
"""Nats per token, perplexity 3: no published Korean pretraining run is below it. Logs that are were padding counted
in the loss (a public run went 2.68 -> 9.51 -> 0.44 so), fine-tuning on short answers, or masked language models."""

NEAR_ZERO: Final = 0.05
"""Nats per token. Chosen, not measured: the lowest healthy value in 14 real logs is 0.125 (a masked language model);
a run that learned its text by heart logged 0.0001."""

LOWEST_PUBLISHED_LOSS: Final = 1.466
"""Nats per token: the final training loss of FRANKENSTALLM 3B (vocabulary 64,000; README of
pathcosmos/FRANKENSTALLM), the lowest of any Korean pretraining. Its held-out perplexity is 5.23 (1.654 nats); the
RedWhale stages (arXiv 2408.11294) are said to end at 2.81 held-out, 1.63 in training."""

LOWEST_PUBLISHED_BITS: Final = 0.519
"""Bits per byte: RedWhale's LoRA stage in training, derived from its 1.6279 nats; held-out it is 0.895."""

LARGEST_VOCABULARY: Final = 282_721
"""Entries of the largest tokenizer of a published Korean run (ormastes/medgemma_korean). A model that guesses
uniformly among them has a loss of 12.55."""
LARGEST_GUESS: Final = math.log(LARGEST_VOCABULARY)
"""Nats per token of that guess: no cross-entropy of a model that is any good is above it."""

_NEAR: Final = 0.95  # "comes near" is within 5 %. Chosen, not measured.


class Doubt(StrEnum):
    """Why a target is to be asked twice about."""

    LOW = "low"
    """No published Korean run comes near."""
    TRIVIAL = "trivial"
    """A model that guesses is there already."""


def doubt(metric: str, level: float, task: str) -> Doubt | None:
    """What speaks against a target.

    Args:
        metric: As in `ko_cpt_callbacks.core.target.METRICS`.
        level: The bound in nats per token (of ``ppl`` too), or in bits per byte.
        task: The floor is that of ``cpt``. With ``sft`` only what is near zero is too low, because answers of a few
            words are well below it; with ``other`` nothing is.
    """
    bits = metric == keys.BITS_PER_BYTE
    lowest = {"cpt": _NEAR * (LOWEST_PUBLISHED_BITS if bits else LOWEST_PUBLISHED_LOSS), "sft": NEAR_ZERO}
    if level < lowest.get(task, -math.inf):
        return Doubt.LOW
    if not bits and level > LARGEST_GUESS:
        return Doubt.TRIVIAL
    return None


_SIDE: Final = 5
_BEFORE: Final = 15
_MIN_FALL: Final = 0.5
_RATIO: Final = 3.0


def sudden_fall(losses: tuple[float, ...], lowest: float | None = None) -> tuple[float, float] | None:
    """The levels before and after the largest sudden fall in a row of logged training losses, oldest first.

    A fall is sudden where the median of five points is more than 0.5 nats below that of the five before, and more
    than three times as far as the level had moved in the ten points before those: a curve that has been falling all
    the time is not. It must also be so far below the lowest such median of all points before: the return from a spike,
    however wide, is none. Chosen, and tried on 14 real logs: only the one whose padding entered the loss has such a
    fall after its first 15 points.

    Args:
        losses: Finite losses, in nats per token.
        lowest: `lowest_level` of the points before these; ``None`` where there are none.

    Returns:
        ``None`` where there is none, also with fewer than 20 points.
    """
    if len(losses) < _BEFORE + _SIDE or max(losses) - min(losses) <= _MIN_FALL:
        return None
    middles = [_median(losses[i : i + _SIDE]) for i in range(len(losses) - _SIDE + 1)]
    found: tuple[float, float] | None = None
    floor = min([*middles[: _BEFORE - _SIDE], *(() if lowest is None else (lowest,))])
    for i in range(_BEFORE, len(middles)):
        before, after = middles[i - _SIDE], middles[i]
        floor = min(floor, before)
        needed = max(_MIN_FALL, _RATIO * abs(middles[i - _BEFORE] - before))
        fall = before - after
        if fall > needed and floor - after > _MIN_FALL and (found is None or fall > found[0] - found[1]):
            found = before, after
    return found


def lowest_level(losses: tuple[float, ...], keep: int, lowest: float | None = None, side: int = _SIDE) -> float | None:
    """The lowest short median among points of which all but the last ``keep`` are forgotten.

    Args:
        losses: Oldest first.
        keep: How many stay.
        lowest: The same of points that were forgotten before.
        side: Points of a short median; five, as in `sudden_fall`.
    """
    for i in range(len(losses) - max(keep, side)):
        level = _median(losses[i : i + side])
        lowest = level if lowest is None or level < lowest else lowest
    return lowest


def _median(five: tuple[float, ...]) -> float:
    return sorted(five)[len(five) // 2]
