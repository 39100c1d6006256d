"""Which evaluation sets stand for what must not be forgotten."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

__all__ = ["RETENTION_NAMES", "is_retention"]

RETENTION_NAMES: Final = ("en", "english", "retention", "base", "orig")
"""Names that mean it undeclared: in continued pretraining on Korean the base model's language is English."""


def is_retention(split: str, declared: Collection[str] = ()) -> bool:
    """Whether an evaluation's prefix names a retention set.

    Args:
        split: ``eval``, ``eval_en``, ``test_base``: what follows the first ``_`` is the set's name.
        declared: Names, or whole prefixes, that were declared beside `RETENTION_NAMES`.

    >>> is_retention("eval_en"), is_retention("eval_ko"), is_retention("eval_old", ["old"])
    (True, False, True)
    """
    name = split.partition("_")[2]
    return name.lower() in RETENTION_NAMES or name in declared or split in declared
