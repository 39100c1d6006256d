"""A number as a source prints it, and the range that its last digit leaves open."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(
    r"(?:about )?(?P<digits>-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+))?) ?(?P<unit>k|K|M|B|T|kB|MB|GB|TB|%)?"
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
