"""How small a difference is one: what the documents leave open, and what another seed would change.

total² = document part² + seed part². The document part is the standard error of the difference, paired where both sides
kept their rows. The seed part comes from repeats of one's own, from the seeds that the reference printed, or else from
the registry by what a run began from. Where that is not known of a side there is no seed part, and the comparison says
so: its interval then is about the documents alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.run.observation import count_from_one

__all__ = [
    "NO_TRAINING", "SEED_SD_BITS", "STAGE_START", "SeedSpread", "Seeds", "resolution_of", "seed_spread", "start_of",
]  # fmt: skip

SEED_SD_BITS: Final[Mapping[str, float]] = {
    "good base": 0.000144,
    "vocabulary surgery": 0.001234,
    "from scratch": 0.01957,
}
"""Bits per byte by which Korean runs that differ in their seed alone spread, by what they began from: of the registry's
standard deviations the largest (kotokenlab-constant, kotokenlab-noise-30k, jamoflow-entropy-full). They are of three or
five runs of 0.5B and 1.25M parameters: each is known to a factor of two at best."""

STAGE_START: Final = "vocabulary surgery"
"""What a stage of a staged training is taken to have begun from; chosen, not measured: new rows are why there are
stages, and of continued pretraining it is the wider one."""

NO_TRAINING: Final = "no training"
"""The word for a base model: no seed has any part in its figure."""

_KOREAN_BYTES_PER_TOKEN: Final = 3.6
"""Where the bytes per token are not known: the middle of what Korean text has (2 to 5). Chosen, not measured."""
_T_95: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t at 95 %, two-sided, of 1 to 10 degrees of freedom. Source: any table of it (Student 1908)."""
_Z_95: Final = 1.96
_LN2: Final = math.log(2.0)
_BITS: Final = "bits per byte"


@dataclass(frozen=True, slots=True)
class Seeds:
    """What is known of one side's seeds.

    Args:
        start: A word of `SEED_SD_BITS`, or `NO_TRAINING`; empty where not known.
        sd: Standard deviation between seeds in the comparison's unit; None where it was not measured.
        runs: How many seeds the side's figure is the mean of.
        measured_on: How many runs ``sd`` is of.
    """

    start: str = ""
    sd: float | None = None
    runs: int = 1
    measured_on: int = 0

    def error(self, unit: str, bytes_per_token: float | None) -> float | None:
        """The standard error that the choice of the seeds gives the side's figure; None where it is not known."""
        if self.start == NO_TRAINING:
            return 0.0
        sd = self.sd
        if sd is None:
            bits = SEED_SD_BITS.get(self.start)
            if bits is None:
                return None
            sd = bits if unit == _BITS else bits * _LN2 * (bytes_per_token or _KOREAN_BYTES_PER_TOKEN)
        return sd / math.sqrt(self.runs)

    @property
    def widening(self) -> float:
        """By how much a 95 % interval is wider because the deviation is of few runs; 1 of the registry's classes."""
        few = self.measured_on - 1
        if self.sd is None or self.start == NO_TRAINING or not 0 < few <= len(_T_95):
            return 1.0
        return _T_95[few - 1] / _Z_95

    @property
    def source(self) -> str:
        """Where that comes from, in a word."""
        return self.start if self.sd is None or self.start == NO_TRAINING else "its own seeds"


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """What other seeds would change in a difference.

    Args:
        se: Standard error, in the difference's unit.
        wide: The same for an interval: a deviation of few runs is itself not well known.
        run: Where the run's share comes from.
        reference: Where the reference's share comes from.
    """

    se: float
    wide: float
    run: str
    reference: str


def seed_spread(unit: str, bytes_per_token: float | None, run: Seeds, reference: Seeds) -> SeedSpread | None:
    """The seed part of a difference, in nats per token or bits per byte; None where that of a side is not known."""
    ours, theirs = run.error(unit, bytes_per_token), reference.error(unit, bytes_per_token)
    if ours is None or theirs is None:
        return None
    wide = math.hypot(ours * run.widening, theirs * reference.widening)
    return SeedSpread(math.hypot(ours, theirs), wide, run.source, reference.source)


def resolution_of(se: float, seeds: float | None, confidence: float = 0.95) -> float:
    """The smallest difference that is called one: half the interval of the whole error.

    Args:
        se: The document part, a standard error.
        seeds: The seed part, as wide as an interval needs it; None where it is not known.
        confidence: Of the interval, two-sided.
    """
    return interval(0.0, math.hypot(se, seeds or 0.0), confidence)[1]


def start_of(stage: Mapping[str, Any]) -> str:
    """What a set-up row ``stage`` shows of what its run began from: rows that are new are surgery; else nothing."""
    return "vocabulary surgery" if count_from_one(stage.get("new_rows")) else ""
