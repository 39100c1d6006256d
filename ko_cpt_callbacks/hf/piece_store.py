"""Many short byte strings in little memory: a large vocabulary as single objects would take tens of megabytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate


class PieceStore:
    """Byte strings by index, kept end to end.

    Args:
        pieces: The strings, in order.

    >>> store = PieceStore([b"a", b"", b"bc"])
    >>> store[0], store[1], store[2], len(store)
    (b'a', b'', b'bc', 3)
    """

    __slots__ = ("_bounds", "joined")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        kept = list(pieces)
        self.joined = b"".join(kept)
        self._bounds = array("q", accumulate(map(len, kept), initial=0))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.joined[self._bounds[index] : self._bounds[index + 1]]
