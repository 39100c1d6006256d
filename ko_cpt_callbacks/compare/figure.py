"""A figure as a source prints it, and the ways in which one may be derived: a closed set, and no code in a file."""

from __future__ import annotations

import inspect
import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(
    r"(?:about )?"
    r"(?P<digits>[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+))?) ?(?P<unit>k|K|M|B|T|kB|MB|GB|TB|%)?"
)
_COUNTS: Final = {"": 1.0, "%": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
# Some write GB for 10^9 bytes and some for 2^30; who prints "43.9 GB" does not say which.
_SIZES: Final = {"kB": (1e3, 2.0**10), "MB": (1e6, 2.0**20), "GB": (1e9, 2.0**30), "TB": (1e12, 2.0**40)}


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed number.

    Attributes:
        value: What it says; of a size in bytes the decimal reading.
        low: The lowest number that is printed so.
        high: The highest.
        readings: Factors to the readings of its unit: ``(1.0,)``, or two for a size that may be binary.
    """

    value: float
    low: float
    high: float
    readings: tuple[float, ...] = (1.0,)


def read_printed(text: str) -> Printed:
    """The number of a text such as ``2.8064``, ``9.7B``, ``about 498``, ``3,150`` or ``43.9 GB``.

    Raises:
        ValueError: If the text is no such number.

    >>> read_printed("3.1").low, read_printed("3.1").high
    (3.05, 3.15)
    """
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise ValueError(f"no printed number: {text!r}")
    unit = parts["unit"] or ""
    scale, *others = _SIZES.get(unit) or (_COUNTS[unit],)
    value = float(parts["digits"].replace(",", ""))
    decimals = len(parts["decimals"] or "")
    half = 0.5 * 10.0**-decimals
    # One digit more than was printed holds the half; what binary fractions add beyond it is rounded away.
    low, high = round(value - half, decimals + 1), round(value + half, decimals + 1)
    return Printed(value * scale, low * scale, high * scale, (1.0, *(other / scale for other in others)))


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


# By the names of the inputs. Each rises or falls all the way in each of them: the extremes are at the corners.
_FORMULAS: Final[Mapping[str, Callable[..., float]]] = {
    "loss / ln 2 / (bytes / tokens)": lambda loss, tokens, bytes: loss / math.log(2.0) / (bytes / tokens),
    "bytes / tokens": lambda bytes, tokens: bytes / tokens,
    "tokens / GPU hours": lambda tokens, gpu_hours: tokens / gpu_hours,
    "tokens / steps": lambda tokens, steps: tokens / steps,
    "ln(ppl / reference)": lambda ppl, reference: math.log(ppl / reference),
    "ln ppl": lambda ppl: math.log(ppl),
    "log2 ppl": lambda ppl: math.log2(ppl),
    "rate in % * 8 / 100": lambda rate: rate * 8.0 / 100.0,
    "reference + difference": lambda reference, difference: reference + difference,
    "old + new - shared": lambda old, new, shared: old + new - shared,
}
MEAN: Final = "mean of the losses"
SPREAD: Final = "standard deviation of the losses"
OVER_MANY: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    MEAN: lambda losses: math.fsum(losses) / len(losses),
    SPREAD: statistics.stdev,
}
"""The formulas over numbers of any count, all of them in the file; the deviation is the sample's, by one less."""

FORMULAS: Final = (*_FORMULAS, *OVER_MANY)


def input_names(formula: str) -> tuple[str, ...]:
    """The names of a formula's inputs."""
    return ("losses",) if formula in OVER_MANY else tuple(inspect.signature(_FORMULAS[formula]).parameters)


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
    if formula in OVER_MANY:
        losses = inputs["losses"]
        if isinstance(losses, str) or len(losses) < (2 if formula == SPREAD else 1):
            raise ValueError("losses that are no list of numbers")
        found = OVER_MANY[formula](losses)
        return Derived(found, found, found)
    printed = []
    for name in names:
        text = inputs[name]
        if not isinstance(text, str):
            raise ValueError(f"{name}: a list, where a printed number is expected")
        printed.append(read_printed(text))
    try:
        return _derive(_FORMULAS[formula], printed)
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
