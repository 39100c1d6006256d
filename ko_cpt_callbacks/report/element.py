"""HTML as a tree: a name or a number of a run is text of a node, never markup, because a serializer writes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Final, TypeAlias
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from ko_cpt_callbacks.messages.terminal import printable

__all__ = ["Content", "Element", "document", "element", "table"]

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
    """A whole page as text, with the style and script of this package in it.

    Args:
        title: Of the window.
        language: ``en`` or ``ko``.
        content: What its ``main`` holds.
    """
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
