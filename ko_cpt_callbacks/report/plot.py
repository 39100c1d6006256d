"""The loss curves of runs as a picture by itself: ``ko-cpt check RUN --plot FILE``, SVG or PNG.

The report's own drawing, on steps that are scaled to the picture, so that any program shows it: no script, no HTML, and
no stroke that has to keep its width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from ko_cpt_callbacks.check.judgement import Judgement
from ko_cpt_callbacks.check.staged import PlanJudgement
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.messages.terminal import columns, shortened
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.report.chart import EDGE, STEPS, Axis, Chart, Drawing
from ko_cpt_callbacks.report.curves import axis_of, fans_of, shared_axis
from ko_cpt_callbacks.report.drawing import HEIGHT, Element, Line, element, number, round_steps, tick
from ko_cpt_callbacks.report.page import names_of, refuse_folder, shared_charts, write_page
from ko_cpt_callbacks.report.run_section import progress_line, run_charts
from ko_cpt_callbacks.report.subject import Subject

__all__ = ["checked_plot", "plot", "write_plot"]

_WIDTH: Final = 880
_LEFT, _RIGHT = 58, 822
_BOX: Final = 270
"""Height of the box with the curves; the next in pixels too."""
_LINE: Final = 20
_BELOW: Final = 46
_SCALE: Final = _BOX / HEIGHT
_COLUMN: Final = 7.2
"""Pixels of a terminal column at 13 pixels a letter: about right for Latin and for Hangul, which counts two."""
_MOST_RUNS: Final = 8
"""Curves that have a color of their own."""
_NAMED: Final = 6
"""Findings that are named in the picture; of all, the step is marked. Chosen, not measured."""
_COLOR: Final = re.compile(r"--([\w-]+): (#[0-9a-f]{3,6});")


def checked_plot(path: Path, runs: int) -> None:
    """See that a picture can be made, before runs are judged for it.

    Raises:
        ConfigurationError: If the name ends in neither .svg nor .png, if nothing draws a PNG here, or if there are more
            runs than colors.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise ConfigurationError(f"--plot: found {str(path)!r}, expected a file that ends in .svg or .png")
    refuse_folder(path, f"losses{path.suffix}")
    if runs > _MOST_RUNS:
        raise ConfigurationError(f"--plot: found {runs} runs, expected at most {_MOST_RUNS}, each with its own color")
    if path.suffix.lower() == ".png":
        try:
            import resvg_py  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                f"--plot: found {str(path)!r} and no resvg_py, which draws a PNG; expected "
                "pip install 'ko-cpt-callbacks[png]', or a file that ends in .svg"
            ) from None


def write_plot(judged: Sequence[tuple[str, Judgement | PlanJudgement]], output: Path, words: Catalogue) -> None:
    """Write the picture of runs.

    Args:
        judged: Each with its path as the user named it.
        output: The file, as `checked_plot` takes it.
        words: Of the picture's language.

    Raises:
        ConfigurationError: If there is no place for it, or no run has a loss.
    """
    names = names_of([path for path, _ in judged])
    picture = plot([Subject.of(path, name, one) for name, (path, one) in zip(names, judged, strict=True)], words)
    if output.suffix.lower() == ".svg":
        write_page(output, picture)
        return
    import resvg_py

    write_page(output, bytes(resvg_py.svg_to_bytes(svg_string=picture, zoom=2)))


def plot(subjects: Sequence[Subject], words: Catalogue) -> str:
    """The picture as SVG: of one run its losses with what was found, of several a chart a set.

    Raises:
        ConfigurationError: If no run has a loss.
    """
    if len(subjects) == 1:
        ahead = fans_of(subjects[0], words).lines
        axis, charts = axis_of(subjects[0], ahead), run_charts(subjects[0], words, ahead)[:1]
        heads = [element("text", subjects[0].name, x=16, y=26, class_="head")]
        verdict = words.say(f"short {subjects[0].facts.verdict.value}")
        text = shortened(f"{verdict} · {progress_line(subjects[0], words)}", 118)
        heads.append(element("text", text, x=16, y=47, class_="soft"))
    else:
        axis, charts, heads = shared_axis(subjects), shared_charts(subjects, words), []
    wide = (1 + 2 * EDGE) * axis.width
    axis = replace(axis, unit=(_RIGHT - _LEFT) / _SCALE / wide)
    top, panels = 56 if heads else 8, []
    for chart in charts:
        drawing = Drawing.of(chart, axis)
        if drawing is not None:
            panel, high = _panel(chart, drawing, axis, words)
            panels.append(element("g", *panel, transform=f"translate(0 {top})"))
            top += high
    if not panels:
        raise ConfigurationError(f"--plot: {words.say('no-losses')}")
    title = ", ".join(subject.name for subject in subjects)
    ground = element("rect", width=_WIDTH, height=top, rx=8, class_="ground")
    return ElementTree.tostring(
        element(
            "svg", element("title", title), element("style", _style()), ground, *heads, *panels,
            xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {top}", width=_WIDTH, height=top, role="img",
        ),
        encoding="unicode",
    ) + "\n"  # fmt: skip


def _panel(chart: Chart, drawing: Drawing, axis: Axis, words: Catalogue) -> tuple[list[Element], int]:
    """A chart with its title, legend and numbers, and its height."""
    legend, rows = _legend(chart, drawing.lines)
    top = _LINE * (1 + rows) + 20
    box = element(
        "svg", *drawing.paths, x=_LEFT, y=top, width=_RIGHT - _LEFT, height=_BOX, preserveAspectRatio="none",
        viewBox=f"{-EDGE * axis.width * axis.unit:.2f} 0 {(_RIGHT - _LEFT) / _SCALE:.2f} {HEIGHT}",
    )  # fmt: skip
    parts = [
        element("text", f"{chart.title} · {words.say('nats')}", x=16, y=_LINE - 4, class_="title"),
        *legend,
        element("rect", x=_LEFT, y=top, width=_RIGHT - _LEFT, height=_BOX, class_="box"),
        box,
        *_named(axis, top),
    ]
    for value in drawing.scale.ticks():
        y = round(top + _SCALE * drawing.scale.height(value) + 4, 1)
        parts.append(element("text", tick(value, chart.format), x=_LEFT - 7, y=y, class_="end"))
        if chart.perplexity:
            parts.append(element("text", number(perplexity(value), "short"), x=_RIGHT + 7, y=y))
    if chart.perplexity:
        parts.append(element("text", "PPL", x=_RIGHT + 7, y=top - 14, class_="soft"))
    for step in round_steps(axis.start, axis.end, STEPS):
        if step == int(step):
            x = _across(axis, int(step))
            parts.append(element("text", f"{step:,.0f}", x=x, y=top + _BOX + 17, class_="middle"))
    name = words.say("step")
    parts.append(element("text", name, x=(_LEFT + _RIGHT) / 2, y=top + _BOX + 34, class_="middle soft"))
    return parts, top + _BOX + _BELOW


def _across(axis: Axis, step: int) -> float:
    """Pixels from the left edge of the picture."""
    return round(_LEFT + _SCALE * (axis.x(step) + EDGE * axis.width * axis.unit), 1)


def _legend(chart: Chart, lines: Sequence[Line]) -> tuple[list[Element], int]:
    """A dash and a name a curve and level, and the lines that they take."""
    entries = [(line.name, f"curve {line.style} c{line.color % 8}") for line in lines]
    entries += [(name, "level") for name, _ in chart.levels]
    made: list[Element] = []
    x, row = _LEFT, 1
    for name, kind in entries:
        text = shortened(name, 60)
        wide = 30 + round(columns(text) * _COLUMN) + 18
        if x > _LEFT and x + wide > _RIGHT:
            x, row = _LEFT, row + 1
        y = row * _LINE + 18
        dash = element("path", d=f"M0 0h{round(20 / _SCALE)}", class_=kind)
        made.append(element("g", dash, transform=f"translate({x} {y - 4}) scale({_SCALE})"))
        made.append(element("text", text, x=x + 27, y=y))
        x += wide
    return made, row


def _named(axis: Axis, top: int) -> Iterator[Element]:
    """The first steps of findings by code, and stages by name, one below the other."""
    first = {mark.name: mark for mark in reversed(axis.marks)}
    for at, mark in enumerate(sorted(first.values(), key=lambda one: one.step)[:_NAMED]):
        x = _across(axis, mark.step)
        left = x > 0.7 * _RIGHT
        yield element(
            "text", mark.name, x=x - 5 if left else x + 5, y=top + 17 + 17 * at,
            class_=f"name {mark.kind}{' end' if left else ''}",
        )  # fmt: skip


def _style() -> str:
    """The colors of the report on paper, and strokes in units of the drawing."""
    colors: dict[str, str] = {}
    for name, color in _COLOR.findall(files(__package__).joinpath("page.css").read_text("utf-8")):
        colors.setdefault(name, color)

    def stroke(pixels: float) -> str:
        return f"stroke-width:{pixels / _SCALE:.2f}"

    tones = {"error": "stop", "warning": "look", "seam": "soft"}
    return "".join([
        f"text{{font:13px system-ui,'Noto Sans CJK KR','Malgun Gothic',sans-serif;fill:{colors['ink']}}}",
        f".head{{font-size:17px;font-weight:600}}.title{{font-weight:600}}text.soft{{fill:{colors['soft']}}}",
        ".end{text-anchor:end}.middle{text-anchor:middle}",
        f".name{{paint-order:stroke;stroke:{colors['raised']};stroke-width:4px;stroke-linejoin:round}}",
        f".ground{{fill:{colors['paper']}}}.box{{fill:{colors['raised']}}}",
        f"path{{fill:none;stroke-linejoin:round;stroke-linecap:round;{stroke(2)}}}",
        *(f".c{at}{{stroke:{colors[f'c{at}']}}}path.band.c{at}{{fill:{colors[f'c{at}']}}}" for at in range(_MOST_RUNS)),
        f".grid{{stroke:{colors['rule']};{stroke(1)}}}.thin{{{stroke(1.2)}}}.dots{{{stroke(5.5)}}}",
        f".forecast{{{stroke(1.8)};stroke-dasharray:{2 / _SCALE:.1f} {4 / _SCALE:.1f}}}",
        f".dashed{{{stroke(1.6)};stroke-dasharray:{5 / _SCALE:.1f} {4 / _SCALE:.1f}}}",
        f".level{{stroke:{colors['soft']};{stroke(1.4)};stroke-dasharray:{2 / _SCALE:.1f} {4 / _SCALE:.1f}}}",
        f".band{{fill-opacity:.2;stroke:none}}.bar{{stroke-opacity:.45;{stroke(5)};stroke-linecap:butt}}",
        f".mark{{stroke-opacity:.5;{stroke(1)}}}.lost{{stroke:{colors['stop']};stroke-opacity:.6;{stroke(1.5)}}}",
        *(f"path.{kind}{{stroke:{colors[tone]}}}text.{kind}{{fill:{colors[tone]}}}" for kind, tone in tones.items()),
    ])  # fmt: skip
