"""What a run's texts became before it trained on them: its ``data/report.json``, as tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.drawing import Content, table
from ko_cpt_callbacks.run.file import read_text

__all__ = ["data_tables"]

_FILE: Final = Path("data", "report.json")
_FORMAT: Final = 1
_FERTILITY: Final = ("tokens_per_character", "bytes_per_token")
_NO_REPORT: Final = (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError, UnreadableRunError)
"""Of a file that another program wrote, or that was damaged: it is not shown."""


def data_tables(run: str, words: Catalogue) -> list[Content]:
    """What was taken of each source, what each filter dropped, and the fertility of an extended tokenizer.

    Args:
        run: The folder of a run, as the user named it.
        words: Of the page's language.

    Returns:
        Nothing where there is no report of texts.
    """
    try:
        report = json.loads(read_text(Path(run) / _FILE))
        if report["format"] != _FORMAT:
            return []
        parts = [(words.say("training"), report["train"]), *report["eval"].items()]
        head = ["set", "source", "documents-read", "share-kept", "documents-taken", "tokens", "bytes-per-token"]
        found = [_table(head, [row for part in parts for row in _taken(*part)], words, "data")]
        dropped = [row for part in parts for row in _dropped(*part)]
        if dropped:
            head = ["set", "source", "filter", "documents-judged", "documents-dropped", "share-dropped"]
            found.append(_table(head, dropped, words, "dropped", 3))
        fertility = report["fertility"]
        if fertility is not None:
            head = ["fertility", "tokens-per-character", "bytes-per-token"]
            sides = [(words.say(f"fertility-{side}"), fertility[side]) for side in ("before", "after")]
            rows = [[name, *map(_number, (side[key] for key in _FERTILITY))] for name, side in sides]
            found.append(_table(head, rows, words, "fertility", 1))
        return found
    except (OSError, *_NO_REPORT):
        return []


def _table(head: list[str], rows: list[list[str]], words: Catalogue, name: str, numbers: int = 2) -> Content:
    return table([words.say(title) for title in head], rows, numbers=numbers, name=words.say(name))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _taken(name: str, part: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a source."""
    for source, entry in part["sources"].items():
        dropped = sum(filter["dropped_documents"] for filter in entry["filters"])
        judged = max((filter["documents"] for filter in entry["filters"]), default=entry["read"])
        kept = f"{1 - dropped / judged:.1%}" if judged else ""
        counts = f"{entry['documents']:,}", f"{entry['tokens']:,}", f"{entry['bytes'] / entry['tokens']:.2f}"
        yield [name, source, f"{entry['read']:,}", kept, *counts]


def _dropped(name: str, part: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a filter; duplicates are dropped by one too."""
    for source, entry in part["sources"].items():
        for filter in entry["filters"]:
            judged, dropped = filter["documents"], filter["dropped_documents"]
            share = f"{dropped / judged:.1%}" if judged else ""
            yield [name, source, filter["filter"], f"{judged:,}", f"{dropped:,}", share]
