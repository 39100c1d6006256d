"""How a document that is longer than the window is cut, so that every token is scored once with text before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["TokenWindow", "token_windows"]


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """One forward pass over a part of a document.

    Attributes:
        start: Index of its first token in the document.
        scored: Index of the first token that is scored; those before it are context.
        end: Index behind its last token.
    """

    start: int
    scored: int
    end: int


def token_windows(tokens: int, room: int, context: int) -> Iterator[TokenWindow]:
    """The windows of a document: each token is scored in exactly one, with at least ``context`` tokens before it.

    The first window scores all it holds. A later one reaches back as far as it has room for.

    Args:
        tokens: Tokens of the document.
        room: Tokens that a window holds, without the one that stands in front of a text.
        context: Tokens of text before the first scored one of a later window; 1 or more, less than ``room``.

    >>> [(one.start, one.scored, one.end) for one in token_windows(10, 6, 3)]
    [(0, 0, 6), (3, 6, 9), (4, 9, 10)]
    """
    scored = 0
    while scored < tokens:
        end = min(tokens, scored + (room - context if scored else room))
        yield TokenWindow(max(0, end - room), scored, end)
        scored = end
