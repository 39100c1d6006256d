"""The ways in which a figure may be derived: a closed set, so that a file names one and is never executed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ko_cpt_callbacks.baselines.printed import Printed, read_printed

Inputs = Mapping[str, str | Sequence[float]]
"""Printed numbers by name; or, for the mean, the numbers themselves."""


@dataclass(frozen=True, slots=True)
class Derived:
    """What a formula gives.

    Attributes:
        value: The figure; where an input has two readings, the middle of the two results.
        low: The lowest possible; where an input has two readings, the lower result.
        high: The highest possible, likewise.
        rounding: Where an input has two readings: how far the printed digits reach beyond ``low`` and ``high``.
    """

    value: float
    low: float
    high: float
    rounding: float = 0.0

    @property
    def open(self) -> bool:
        """Whether an input can be read in two ways."""
        return self.rounding > 0.0


@dataclass(frozen=True, slots=True)
class _Formula:
    names: tuple[str, ...]
    compute: Callable[..., float]


def _bits_per_byte(loss: float, tokens: float, bytes: float) -> float:
    return loss / math.log(2.0) / (bytes / tokens)


# Each rises or falls all the way in each of its inputs: the extremes are at the corners.
_FORMULAS: Final[Mapping[str, _Formula]] = MappingProxyType(
    {
        "loss / ln 2 / (bytes / tokens)": _Formula(("loss", "tokens", "bytes"), _bits_per_byte),
        "bytes / tokens": _Formula(("bytes", "tokens"), lambda bytes, tokens: bytes / tokens),
        "tokens / GPU hours": _Formula(("tokens", "gpu_hours"), lambda tokens, gpu_hours: tokens / gpu_hours),
        "tokens / steps": _Formula(("tokens", "steps"), lambda tokens, steps: tokens / steps),
        "ln(ppl / reference)": _Formula(("ppl", "reference"), lambda ppl, reference: math.log(ppl / reference)),
        "ln ppl": _Formula(("ppl",), math.log),
        "old + new - shared": _Formula(("old", "new", "shared"), lambda old, new, shared: old + new - shared),
    }
)
MEAN: Final = "mean of the losses"
"""The one formula over numbers of any count, all of them in the file."""

FORMULAS: Final = (*_FORMULAS, MEAN)


def input_names(formula: str) -> tuple[str, ...]:
    """The names of a formula's inputs."""
    return ("losses",) if formula == MEAN else _FORMULAS[formula].names


def derive(formula: str, inputs: Inputs) -> Derived:
    """What a formula gives for inputs.

    Args:
        formula: One of `FORMULAS`.
        inputs: Its inputs by name, all of them.

    Raises:
        ValueError: If an input is missing or unknown, is no printed number, or has no result.
    """
    names = input_names(formula)
    if set(inputs) != set(names):
        raise ValueError(f"inputs {', '.join(sorted(inputs)) or 'none'}, where it has {', '.join(names)}")
    if formula == MEAN:
        losses = inputs["losses"]
        if isinstance(losses, str) or not losses:
            raise ValueError("losses that are no list of numbers")
        mean = math.fsum(losses) / len(losses)
        return Derived(mean, mean, mean)
    printed = []
    for name in names:
        text = inputs[name]
        if not isinstance(text, str):
            raise ValueError(f"{name}: a list, where a printed number is expected")
        printed.append(read_printed(text))
    try:
        return _derive(_FORMULAS[formula].compute, printed)
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"inputs without a result ({error})") from None


def _derive(compute: Callable[..., float], printed: Sequence[Printed]) -> Derived:
    readings = list(itertools.product(*(item.readings for item in printed)))
    points = [compute(*(p.value * r for p, r in zip(printed, reading, strict=True))) for reading in readings]
    ends = [(item.low, item.high) for item in printed]
    corners = [
        compute(*(end * r for end, r in zip(corner, reading, strict=True)))
        for reading in readings
        for corner in itertools.product(*ends)
    ]
    if len(points) == 1:
        return Derived(points[0], min(corners), max(corners))
    low, high = min(points), max(points)
    return Derived((low + high) / 2.0, low, high, max(low - min(corners), max(corners) - high))
