"""One mistake of a file: where, what was found, what is expected, what was probably meant."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

Key = tuple[str | int, ...]
"""The way to a value: names of mappings, places in lists."""

_SHOWN: Final = 60
_ADDRESS: Final = re.compile(r"://[^\s{}]+")


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at one place.

    Attributes:
        key: The way to the value; empty for the whole file.
        line: The line in the file, from 1; None where there is none.
        found: What stands there.
        expected: What should.
        near: What was probably meant.
        origin: Where the value comes from, when not from the file.
        hides: Whether what is reported of the values below is no news: what is wrong with a value that could not be
            read follows from that. What a value does not agree with says nothing of the values below it.
    """

    key: Key
    line: int | None
    found: str
    expected: str
    near: str | None = None
    origin: str | None = None
    hides: bool = True

    def sentence(self, file: str) -> str:
        """The mistake in one line: ``FILE:LINE: KEY: found …, expected …. Did you mean …?``."""
        place = self.origin or (file if self.line is None else f"{file}:{self.line}")
        key = f" {dotted(self.key)}:" if self.key else ""
        hint = "" if self.near is None else f" Did you mean {self.near}?"
        return f"{place}:{key} found {self.found}, expected {self.expected}.{hint}"


def one_each(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """One mistake a place, the first found, by line; those that are not the file's own come first."""
    kept: dict[Key, Mistake] = {}
    loose = []
    for mistake in mistakes:
        key = mistake.key
        if not key:
            loose.append(mistake)
        # A value that could not be read stands as None: what else is wrong with it is no news.
        elif key not in kept and not any(key[: len(known)] == known and item.hides for known, item in kept.items()):
            kept[key] = mistake
    return loose + sorted(kept.values(), key=lambda item: (item.origin is None, item.line or 0))


def dotted(key: Key) -> str:
    """``stages.lora.watch.targets[0]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def near_miss(found: str, known: Iterable[str]) -> str | None:
    """The known word that ``found`` was probably meant to be."""
    return next(iter(difflib.get_close_matches(found, list(known), n=1)), None)


def shown(value: Any) -> str:
    """A value as an error shows it: its kind where the kind may be the mistake."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {json.dumps(cut(_scheme_only(value)), ensure_ascii=False)}"
    if isinstance(value, dict):
        return f"a mapping ({cut(_scheme_only(', '.join(map(str, value)))) or 'empty'})"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return cut(str(value))


def _scheme_only(text: str) -> str:
    """A text without what follows a scheme: of a webhook (``slack://``, ``https://``) it is a secret."""
    return _ADDRESS.sub("://…", text)


def cut(text: str) -> str:
    """The text, or its beginning where it is long."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
