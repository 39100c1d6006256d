"""The errors this package raises.

::

    Exception
    └── KoCPTError                    everything below; catch this one to catch them all
        ├── BaselineError             a baseline that cannot be used (also a ValueError)
        ├── ConfigurationError        an argument that cannot be used (also a ValueError)
        ├── RecipeError               a recipe that cannot be used (also a ValueError)
        └── UnreadableRunError        a file or folder that is not a readable run (also a ValueError)

Errors of the first kind are raised when the callback is built or training begins, never in mid-run: a
monitor must not end a run that it was only asked to watch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BaselineError", "ConfigurationError", "KoCPTError", "RecipeError", "UnreadableRunError", "error_text", "meant",
    "near_miss", "refuse_empty",
]  # fmt: skip


class KoCPTError(Exception):
    """Base of all errors of this package."""


class BaselineError(KoCPTError, ValueError):
    """A baseline cannot be used; the text has one line per mistake: where, what was found, expected, and meant."""


class ConfigurationError(KoCPTError, ValueError):
    """An argument or setting cannot be used; the text says where, what was found, expected, and the fix."""


class RecipeError(KoCPTError, ValueError):
    """A recipe cannot be used; the text has one line per mistake: where, what was found, expected, and meant."""


class UnreadableRunError(KoCPTError, ValueError):
    """A path does not hold a run that can be read; the text says where, what was found, expected, and the fix."""


def error_text(error: BaseException, most: int = 500) -> str:
    """Return the kind and the text of an exception, the kind alone where it cannot tell its text.

    Exceptions of the user's own code reach the package too, and their ``__str__`` may raise.

    Args:
        error: The exception.
        most: Characters that are kept.
    """
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    return text if len(text) <= most else f"{text[:most]} ..."


def near_miss(found: object, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """Return the known word that was probably meant; None where none is near.

    Args:
        found: What stands in its place.
        known: The words that there are.
        likeness: How alike the two are at least, from 0 to 1, as difflib counts it.
    """
    return next(iter(difflib.get_close_matches(str(found), list(known), 1, likeness)), None)


def meant(found: object, known: Iterable[str]) -> str:
    """Return ``Did you mean …?`` with the blank before it, as an error ends; empty where nothing is near."""
    near = near_miss(found, known)
    return "" if near is None else f" Did you mean {near}?"


def refuse_empty(where: str, text: str, expected: str) -> None:
    """Refuse an empty text, which a shell makes of a variable that is not set.

    Args:
        where: The option or argument.
        text: What was given for it.
        expected: What it should be: ``a path``.

    Raises:
        ConfigurationError: If it is empty.
    """
    if not text:
        raise ConfigurationError(f"{where}: found an empty text, expected {expected}; is a variable unset?")
