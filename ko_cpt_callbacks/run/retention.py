"""Which evaluation sets stand for what must not be forgotten, and how far each may rise."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["RETENTION_NAMES", "checked_retention", "is_retention", "names_set", "retention_limit", "retention_names"]

_PURPOSE: Final = re.compile(r"[_-](?:eval|evaluation|val|valid|validation|dev|test)$", re.IGNORECASE)
RETENTION_NAMES: Final = ("en", "english", "retention", "base", "orig")
"""Names that mean it undeclared: in continued pretraining on Korean the base model's language is English."""


def is_retention(split: str, declared: Collection[str] = ()) -> bool:
    """Whether an evaluation's prefix names a retention set.

    Args:
        split: ``eval``, ``eval_en``, ``test_base``: what follows the first ``_`` is the set's name.
        declared: Sets that were declared beside `RETENTION_NAMES`: names or whole prefixes, with or without a limit.

    >>> is_retention("eval_en"), is_retention("eval_ko"), is_retention("eval_old", ["old<5%"])
    (True, False, True)
    >>> is_retention("eval_en_eval"), is_retention("eval_ko_eval")
    (True, False)
    """
    usual = _names(split)[-1].lower() in RETENTION_NAMES
    return usual or any(names_set(name, split) for name in retention_names(declared))


def names_set(name: str, split: str) -> bool:
    """Whether a declared name is that of an evaluation: its set, or its whole prefix.

    >>> names_set("old", "eval_old"), names_set("eval_old", "eval_old"), names_set("old", "eval_older")
    (True, True, False)
    """
    return name in _names(split)


def _names(split: str) -> tuple[str, ...]:
    """How an evaluation may be named: its prefix, its set, and the set without the word of what it is for.

    LLaMA-Factory's sets have the names of data sets: ``eval_en_eval``, ``eval_en_test``.
    """
    name = split.partition("_")[2]
    return split, name, _PURPOSE.sub("", name) or name


def retention_names(declared: Iterable[str]) -> tuple[str, ...]:
    """The names of declared sets, without limits.

    >>> retention_names(["en", "old<5%"])
    ('en', 'old')
    """
    return tuple(item.partition("<")[0].strip() for item in declared)


def retention_limit(split: str, declared: Iterable[str]) -> float | None:
    """How far the loss of an evaluation may rise, as a fraction of its first value; None where it was not declared.

    Args:
        split: The evaluation's prefix.
        declared: Declared sets; a limit is written behind the name: ``en<5%`` may end up to 5 % above its beginning.

    Raises:
        ConfigurationError: For a limit that is no percentage above zero.

    >>> retention_limit("eval_en", ["ko", "en<5%"])
    0.05
    """
    names = _names(split)
    for item in declared:
        named, limited, text = (part.strip() for part in item.partition("<"))
        if limited and named in names:
            return _fraction(item, text)
    return None


def checked_retention(declared: Iterable[str]) -> tuple[str, ...]:
    """The declared sets as they are, if each can be used.

    Raises:
        ConfigurationError: For one without a name, or with a limit that is no percentage above zero.
    """
    for item in declared:
        name, limited, text = (part.strip() for part in item.partition("<"))
        if not name:
            raise ConfigurationError(f"retention: found {item!r}, expected the name of an evaluation set; write 'en'")
        if limited:
            _fraction(item, text)
    return tuple(declared)


def _fraction(item: str, text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not text.endswith("%") or not 0.0 < percent < float("inf"):
        raise ConfigurationError(
            f"retention: found {item!r}, expected a percentage above 0 behind the name; write 'en<5%' for a loss that "
            "may end up to 5 % above its beginning"
        )
    return percent / 100.0
