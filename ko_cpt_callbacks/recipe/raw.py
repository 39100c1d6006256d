"""Raw values of a document, whatever shape they have: what is not there, or is something else, is empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ko_cpt_callbacks.document.mistake import Key

Told: TypeAlias = tuple[Key, str, str, str | None]
"""A mistake without its line: key, found, expected, what was probably meant."""

Said: TypeAlias = Iterator[Told]


def at(values: Any, *key: str | int) -> Any:
    """The value at a place of mappings; None where there is none."""
    for part in key:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def mapping(values: Any, *key: str) -> Mapping[str, Any]:
    """The mapping at a place; empty where there is none."""
    found = at(values, *key)
    return found if isinstance(found, Mapping) else {}


def entries(values: Any, *key: str) -> Sequence[Any]:
    """The list at a place; empty where there is none."""
    found = at(values, *key)
    return found if isinstance(found, list) else []


def whole(value: Any) -> int | None:
    """A whole number of at least 1; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
