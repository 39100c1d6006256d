"""The page of a run as a notebook shows it: HTML with a table, where a kernel of Jupyter or Colab runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, Final

from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.page import PageLine, RunPage, table_cells

__all__ = ["notebook_display", "page_html"]

_COLORS: Final = {
    "ok": "#18743a", "look": "#9a5b00", "stop": "#c02626", "error": "#c02626", "warning": "#9a5b00", "info": "#2f6db3",
}  # fmt: skip
_BOLD: Final = ("ok", "look", "stop", "bold")


def notebook_display() -> Any:
    """IPython's module of displays in a notebook; None anywhere else, a terminal of IPython among it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # The test of transformers.utils.notebook: a kernel has an application, a terminal none.
    if shell is None or "IPKernelApp" not in shell.config:
        return None
    import IPython.display

    return IPython.display


def page_html(page: RunPage) -> str:
    """The page as one HTML element; every text of a run is escaped."""
    head, curves, *rest = page.parts()
    cells = table_cells(page.summary, catalogue(page.language))
    kept = [at for at in range(len(cells[0])) if at == 0 or any(row[at] for row in cells[1:])]
    rows = [[row[at] for at in kept] for row in cells]
    table = "".join(_row(row, "td" if at else "th") for at, row in enumerate(rows)) if len(rows) > 1 else ""
    lines = "".join(f"<pre style='margin:0'>{_text(line.text)}</pre>" for line in curves)
    parts = [*_lines(head), f"<table>{table}</table>", lines, *(text for part in rest for text in _lines(part))]
    return f"<div style='line-height:1.6'>{''.join(parts)}</div>"


def _row(cells: Sequence[str], tag: str) -> str:
    sides = ("left" if not at else "right" for at, _ in enumerate(cells))
    made = (f"<{tag} style='text-align:{side}'>{_text(cell)}</{tag}>" for cell, side in zip(cells, sides, strict=True))
    return f"<tr>{''.join(made)}</tr>"


def _lines(lines: Iterable[PageLine]) -> Iterator[str]:
    for line in lines:
        style = f"color:{_COLORS[line.style]};" if line.style in _COLORS else ""
        style += "font-weight:600;font-size:1.1em;" if line.style in _BOLD else ""
        style += "opacity:.7;" if line.style == "dim" else ""
        yield f"<div style='{style}'>{_text(line.text)}</div>"


def _text(text: str) -> str:
    return escape(printable(text))
