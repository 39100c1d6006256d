"""From a value to its height in a chart, and the numbers beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["HEIGHT", "Format", "Scale", "measured", "number", "round_steps", "tick"]

Format: TypeAlias = Literal["loss", "signed", "short", "percent"]
"""``loss``: three decimals; ``signed``: with a sign; ``short``: three significant digits; ``percent``: a share."""

HEIGHT: Final = 1000
"""Units of a chart from bottom to top."""
_TICKS: Final = 5
_DECADES: Final = 2.0
"""Orders of magnitude from which a chart of positive values is logarithmic. Chosen, not measured."""
_MARGIN: Final = 0.06
_ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of a chart's values, of their logarithms to 10 where it is logarithmic; ``low`` is below ``high``."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def of(cls, values: Sequence[float], *, logarithmic: bool | None = None) -> Scale:
        """The scale that shows all of these, with a margin.

        Args:
            values: Finite numbers; of none the scale is 0 to 1.
            logarithmic: None: where all are positive and range over more than two orders of magnitude.
        """
        low, high = min(values, default=0.0), max(values, default=1.0)
        wide = low > 0 and math.log10(high) - math.log10(low) > _DECADES
        if wide if logarithmic is None else logarithmic and low > 0:
            ends, log = (math.log10(low), math.log10(high)), True
        else:
            ends, log = (low, high), False
        room = _MARGIN * (ends[1] - ends[0]) or 0.5 * abs(ends[0]) or 1.0
        return cls(ends[0] - room, ends[1] + room, log)

    def height(self, value: float) -> float:
        """Units from the top of the chart."""
        at = math.log10(value) if self.logarithmic else value
        return round(HEIGHT * (self.high - at) / (self.high - self.low), 3)

    def ticks(self) -> list[float]:
        """Round values to write beside the chart."""
        if not self.logarithmic:
            return list(round_steps(self.low, self.high, _TICKS))
        first, last = math.ceil(self.low), math.floor(self.high)
        every = max(1, round((last - first) / _TICKS))
        return [10.0**power for power in range(first, last + 1, every)]


def round_steps(low: float, high: float, count: int) -> Iterator[float]:
    """About ``count`` round numbers from low to high.

    >>> list(round_steps(0.3, 9.7, 5))
    [2.0, 4.0, 6.0, 8.0]
    """
    rough = (high - low) / count
    if not rough > 0 or not math.isfinite(rough):
        return
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(one * power for one in _ROUND if one * power >= rough * 0.999)
    first = math.ceil(low / step)
    for at in range(first, first + 2 * count + 2):
        if at * step > high:
            return
        yield round(at * step, 12)


def number(value: float, format: Format) -> str:
    """A number as the page shows it everywhere."""
    if format == "short":
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    if format == "percent":
        return f"{100 * value:+.1f} %"
    return f"{value:{'+' if format == 'signed' else ''}.3f}" if abs(value) < 1e6 else f"{value:.2e}"


def tick(value: float, format: Format) -> str:
    """A round number beside a chart, no longer than it needs to be.

    >>> tick(2.5, "loss"), tick(0.5, "signed"), tick(0.015, "percent"), tick(1e-05, "short")
    ('2.5', '+0.5', '+1.5 %', '1e-05')
    """
    if format == "percent":
        return f"{100 * value:+.3g} %" if value else "0 %"
    return number(value, "short") if abs(value) >= 1000 else f"{value:{'+' if format == 'signed' and value else ''}.4g}"


def measured(value: float | None, error: float | None) -> str:
    """A loss, or bits per byte, with its standard error where it has one; a dash where there is none."""
    if value is None:
        return "–"
    return number(value, "loss") + ("" if error is None else f" ± {number(error, 'loss')}")
