"""What a page is drawn of: curves of few enough points for any length of run, axes with round steps, elements.

HTML is a tree: a name or a number of a run is text of a node, never markup, because a serializer writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import groupby
from typing import Final, Literal, TypeAlias
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.page import with_error

__all__ = [
    "HEIGHT", "Content", "Element", "Format", "Line", "Point", "Scale", "document", "element", "measured", "number",
    "round_steps", "table", "thinned", "tick",
]  # fmt: skip

Content: TypeAlias = "Element | str | None"

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""The page asks for nothing, and a browser refuses whatever would."""


def element(tag: str, *content: Content, **attributes: object) -> Element:
    """An element with its attributes and content.

    Args:
        tag: Its name.
        content: Elements and texts in order; ``None`` is left out. What cannot be printed in a text, such as bidi
            marks and escapes, is shown as its code.
        attributes: By name, ``class_`` for ``class``, ``data_x`` for ``data-x``; ``None`` is left out, ``True`` is an
            attribute without a value.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None and value is not False:
            text = "" if value is True else printable(str(value))
            made.set(name.rstrip("_").replace("_", "-"), text)
    for part in content:
        if isinstance(part, str):
            _add_text(made, printable(part))
        elif part is not None:
            made.append(part)
    return made


def _add_text(made: Element, text: str) -> None:
    if len(made):
        made[-1].tail = (made[-1].tail or "") + text
    else:
        made.text = (made.text or "") + text


def table(
    head: Sequence[str], rows: Iterable[Sequence[Content]], *, numbers: int = 1, name: str | None = None
) -> Element:
    """A table in a box that scrolls by itself where the page is narrow.

    Args:
        head: Titles of the columns.
        rows: The cells.
        numbers: The first column of numbers, which stand to the right.
        name: What the table is, for those who hear it.
    """
    side = ["n" if at >= numbers else None for at in range(len(head))]
    columns = zip(head, side, strict=True)
    titles = element("tr", *(element("th", title, class_=of, scope="col") for title, of in columns))
    body = [
        element("tr", *(element("td", cell, class_=of) for cell, of in zip(row, side, strict=True))) for row in rows
    ]
    caption = None if name is None else element("caption", name)
    whole = element("table", caption, element("thead", titles), element("tbody", *body))
    return element("div", whole, class_="scroll", tabindex=0)


def document(title: str, language: str, *content: Content) -> str:
    """A whole page as text, with the style and script of this package in it."""
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        _raw("style", style),
    )
    page = element("html", head, element("body", element("main", *content), _raw("script", script)), lang=language)
    return f"<!DOCTYPE html>\n{ElementTree.tostring(page, encoding='unicode', method='html')}\n"


def _raw(tag: str, text: str) -> Element:
    """The style or the script: this package's own text, which the serializer leaves as it is."""
    made = Element(tag)
    made.text = f"\n{text}"
    return made


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
    return with_error(value, error)


COLUMNS: Final = 700
"""Columns into which a curve is cut: about the pixels that a chart is wide. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a step.

    Args:
        x: Optimizer step, of a staged training counted through.
        y: The value; None where it was NaN or infinite.
        error: Its standard error, same unit; None where it has none.
        ends: Its interval, where that does not follow from an error.
    """

    x: int
    y: float | None
    error: float | None = None
    ends: tuple[float, float] | None = None


Segment: TypeAlias = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve.

    Args:
        name: As the legend has it.
        segments: Its points, cut where two neighbors are not joined: between two stages.
        color: Number of its color, from 0.
        style: ``line``, ``thin`` (a noisy curve behind others), ``dashed`` or ``forecast``.
    """

    name: str
    segments: tuple[Segment, ...]
    color: int = 0
    style: str = "line"

    @property
    def points(self) -> Segment:
        """All its points."""
        return tuple(point for segment in self.segments for point in segment)

    @property
    def values(self) -> list[float]:
        """Those that are numbers."""
        return [point.y for point in self.points if point.y is not None]

    def pieces(self) -> Iterator[Segment]:
        """What is drawn without a break: the numbers between two that are none."""
        for segment in self.segments:
            for number, run in groupby(segment, lambda point: point.y is not None):
                if number:
                    yield tuple(run)

    def thin(self, start: int, end: int) -> Line:
        """The same curve with no more than four numbers and one that is none in each of `COLUMNS` columns."""
        return replace(self, segments=tuple(thinned(segment, start, end) for segment in self.segments))


def thinned(points: Sequence[Point], start: int, end: int, columns: int = COLUMNS) -> Segment:
    """The first, the lowest, the highest and the last point of every column, in their order.

    M4 (Jugel, Jerzak, Hackenbroich, Markl: "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014): a
    line through these four covers the pixels that the whole curve covers. The first value of a column that is no
    number is kept too.

    Args:
        points: By step.
        start: First step of the chart.
        end: Its last step.
        columns: How many.

    >>> [point.x for point in thinned([Point(x, abs(x - 7.0)) for x in range(100)], 0, 99, 2)]
    [0, 7, 49, 50, 99]
    """
    if len(points) <= 4 * columns:
        return tuple(points)
    width = max(end - start, 1) / columns
    kept: list[Point] = []
    for _, column in groupby(points, lambda point: min(int((point.x - start) / width), columns - 1)):
        kept.extend(_four(list(column)))
    return tuple(kept)


def _four(column: Sequence[Point]) -> Iterable[Point]:
    values = [math.nan if point.y is None else point.y for point in column]
    numbers = [at for at, value in enumerate(values) if math.isfinite(value)]
    lost = next((at for at, point in enumerate(column) if point.y is None), None)
    if not numbers:
        return column[:1]
    low, high = (choose(numbers, key=lambda at: values[at]) for choose in (min, max))
    chosen = {numbers[0], low, high, numbers[-1]} | (set() if lost is None else {lost})
    return [column[at] for at in sorted(chosen)]
