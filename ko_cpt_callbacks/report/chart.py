"""Curves over the steps of a run as inline SVG: drawn here, so that the page shows them without its script.

The SVG is stretched to its place: x is the step less the chart's first, y is `scale.HEIGHT` units from the top, and
strokes keep their width. The script reads the values back from the paths, moves the view for a zoom, and shows what is
under the pointer in every chart of the same run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.drawing import (
    HEIGHT,
    Content,
    Element,
    Format,
    Line,
    Point,
    Scale,
    element,
    number,
    round_steps,
    table,
    tick,
)

__all__ = ["EDGE", "INTERVAL", "STEPS", "Axis", "Chart", "ChartMark", "Drawing", "drawn", "frame"]

INTERVAL: Final = 1.96
"""Standard errors on either side in a 95 % interval."""
EDGE: Final = 0.012
"""Of the steps, free on either side."""
STEPS: Final = 6
"""Steps that are written below a chart, about."""
_DOTS: Final = 80
_LISTED: Final = 24


@dataclass(frozen=True, slots=True)
class ChartMark:
    """A step that a chart marks: the step, the kind (a severity, or ``seam``) and its name."""

    step: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The steps that every chart of a run shows.

    Args:
        start: The first.
        end: The last.
        marks: Steps that are marked.
        unit: Units of x a step; 1 in a page, whose script reads the steps back.
    """

    start: int
    end: int
    marks: tuple[ChartMark, ...] = ()
    unit: float = 1

    @property
    def width(self) -> int:
        """Steps from first to last, at least 1."""
        return max(self.end - self.start, 1)

    def x(self, step: int) -> float:
        """Units from the left."""
        return round((step - self.start) * self.unit, 2)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart, before it is drawn.

    Args:
        title: Its title.
        note: What to know about it.
        lines: Its curves.
        format: Of its values.
        perplexity: Whether ``exp`` of a value is shown too.
        levels: Values that are marked: name and value.
        logarithmic: Whether its values are drawn so; None: as `Scale.of` decides.
    """

    title: str
    note: str
    lines: tuple[Line, ...]
    format: Format = "loss"
    perplexity: bool = False
    levels: tuple[tuple[str, float], ...] = ()
    logarithmic: bool | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn of a chart over its steps.

    Args:
        lines: Its curves, thinned.
        scale: Of their values.
        paths: Everything in the box.
    """

    lines: tuple[Line, ...]
    scale: Scale
    paths: tuple[Element, ...]

    @classmethod
    def of(cls, chart: Chart, axis: Axis) -> Drawing | None:
        """The drawing; None where no curve has a point."""
        lines = tuple(line.thin(axis.start, axis.end) for line in chart.lines if line.points)
        if not lines:
            return None
        bands = [end for line in lines for point in line.points for end in _ends(point)]
        values = [value for line in lines for value in line.values] + [level for _, level in chart.levels] + bands
        scale = Scale.of(values, logarithmic=chart.logarithmic)
        curves = [path for line in lines for path in _paths(line, scale, axis)]
        grid = "".join(_across(scale, one) for one in scale.ticks())
        levels = [element("path", class_="level", d=_across(scale, level)) for _, level in chart.levels]
        return cls(lines, scale, (element("path", class_="grid", d=grid), *_marked(axis), *levels, *curves))


def drawn(chart: Chart, axis: Axis, words: Catalogue) -> Element | None:
    """The chart as a figure with its legend and its table; None where no curve has a point."""
    drawing = Drawing.of(chart, axis)
    if drawing is None:
        return None
    lines, scale, paths = drawing.lines, drawing.scale, drawing.paths
    beside = [
        element("div", *(_tick(tick(one, chart.format), "top", scale.height(one)) for one in scale.ticks()), class_="y")
    ]
    if chart.perplexity:
        ends = [_tick(number(_exp(one), "short"), "top", scale.height(one)) for one in scale.ticks()]
        beside.append(element("div", *ends, class_="y right"))
    legend = [_legend(line, words) for line in lines]
    legend += [element("li", name, class_="level") for name, _ in chart.levels]
    described = "; ".join(_described(line, chart.format, words) for line in chart.lines if line.points)
    return element(
        "figure",
        element("figcaption", element("h3", chart.title), element("p", chart.note)),
        element("ul", *legend, class_="legend"),
        frame(paths, beside, axis, f"{chart.title}: {described}", format=chart.format, scale=scale,
              perplexity=chart.perplexity),
        element("details", element("summary", words.say("values")), _listed(chart, words)),
        class_="chart",
    )  # fmt: skip


def frame(
    paths: Sequence[Element], beside: Sequence[Element], axis: Axis, label: str, *, format: Format = "loss",
    scale: Scale | None = None, perplexity: bool = False, class_: str = "plot",
) -> Element:  # fmt: skip
    """What is drawn over the steps, with the numbers of the steps below it."""
    low, wide = -EDGE * axis.width, (1 + 2 * EDGE) * axis.width
    steps = [
        _tick(f"{at:,.0f}", "left", HEIGHT * (at - axis.start - low) / wide)
        for at in round_steps(axis.start, axis.end, STEPS) if at == int(at)
    ] or [_tick(f"{axis.start:,}", "left", HEIGHT * -low / wide)]  # fmt: skip
    svg = element(
        "svg", *paths, viewBox=f"{low:g} 0 {wide:g} {HEIGHT}", preserveAspectRatio="none", role="img", aria_label=label
    )
    return element(
        "div", *beside, svg, element("div", *steps, class_="x"), class_=class_, data_start=axis.start,
        data_width=axis.width, data_format=format, data_log=scale is not None and scale.logarithmic,
        data_low=None if scale is None else scale.low, data_high=None if scale is None else scale.high,
        data_perplexity=perplexity,
    )  # fmt: skip


def _tick(text: str, side: str, at: float) -> Element:
    return element("span", text, style=f"{side}:{100 * at / HEIGHT:.2f}%")


def _across(scale: Scale, value: float) -> str:
    """The path of a line over all steps."""
    return f"M-1e9 {scale.height(value)}H1e9"


def _marked(axis: Axis) -> Iterator[Element]:
    """A line from top to bottom at every mark, one path a kind."""
    for kind in dict.fromkeys(mark.kind for mark in axis.marks):
        steps = sorted({axis.x(mark.step) for mark in axis.marks if mark.kind == kind})
        yield element("path", class_=f"mark {kind}", d="".join(f"M{step} 0V{HEIGHT}" for step in steps))


def _paths(line: Line, scale: Scale, axis: Axis) -> Iterator[Element]:
    """The error band, the curve, its points where they are few, and where it is no number."""

    def at(x: int, y: float) -> str:
        return f"{axis.x(x)} {scale.height(y)}"

    color = f"c{line.color % 8}"
    pieces = list(line.pieces())
    for piece in pieces:
        ends = [(point.x, end[0], end[1]) for point in piece if (end := _ends(point))]
        if len(ends) > 1:
            there = "L".join(at(x, high) for x, _, high in ends)
            back = "L".join(at(x, low) for x, low, _ in reversed(ends))
            yield element("path", class_=f"band {color}", d=f"M{there}L{back}Z")
        elif ends:
            ((x, low, high),) = ends
            yield element("path", class_=f"bar {color}", d=f"M{at(x, low)}L{at(x, high)}")
    errors = [point.error for piece in pieces for point in piece]
    yield element(
        "path", class_=f"curve {line.style} {color}", data_name=line.name,
        data_errors=",".join("" if one is None else f"{one:.4g}" for one in errors) if any(errors) else None,
        d="".join("M" + "L".join(at(point.x, point.y) for point in piece if point.y is not None) for piece in pieces),
    )  # fmt: skip
    if (len(line.points) <= _DOTS and line.style not in ("thin", "forecast")) or len(line.points) == 1:
        dots = "".join(f"M{at(point.x, point.y)}h0" for point in line.points if point.y is not None)
        yield element("path", class_=f"dots {color}", d=dots)
    lost = "".join(f"M{axis.x(point.x)} 0V{HEIGHT}" for point in line.points if point.y is None)
    if lost:
        yield element("path", class_="lost", d=lost)


def _ends(point: Point) -> tuple[float, ...]:
    """The interval, of an error the 95 % one; nothing where there is neither."""
    if point.ends is not None:
        return point.ends
    if point.error is None or point.y is None:
        return ()
    return point.y - INTERVAL * point.error, point.y + INTERVAL * point.error


def _legend(line: Line, words: Catalogue) -> Element:
    lost = sum(point.y is None for point in line.points)
    text = line.name if not lost else f"{line.name} ({words.say('lost', count=lost)})"
    return element("li", text, class_=f"c{line.color % 8} {line.style}")


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _described(line: Line, format: Format, words: Catalogue) -> str:
    """The curve in a sentence, for those who hear the page."""
    values = line.values
    if not values:
        return words.say("described-lost", name=line.name)
    low, high, first, last = (number(one, format) for one in (min(values), max(values), values[0], values[-1]))
    return words.say("described", name=line.name, first=first, last=last, low=low, high=high)


def _listed(chart: Chart, words: Catalogue) -> Element:
    """The values of every curve: all of a few, else first, lowest, highest, last and some between."""
    head = [words.say(word) for word in ("curve", "step", "value", "error")]
    rows: list[list[Content]] = []
    for line in chart.lines:
        points = line.points
        chosen = range(len(points))
        if len(points) > _LISTED:
            spread = {round(at * (len(points) - 1) / (_LISTED - 1)) for at in range(_LISTED)}
            known = [at for at in chosen if points[at].y is not None]
            extremes = [choose(known, key=lambda at: points[at].y or 0.0) for choose in (min, max) if known]
            chosen = sorted({*spread, *extremes})  # type: ignore[assignment]
        for at in chosen:
            point = points[at]
            shown = words.say("no-number") if point.y is None else number(point.y, chart.format)
            error = "" if point.error is None else f"± {number(point.error, 'loss')}"
            rows.append([line.name, f"{point.x:,}", shown, error])
        if len(points) > _LISTED:
            rows.append([words.say("more-points", shown=len(chosen), count=len(points)), "", "", ""])
    return table(head, rows, name=chart.title)
