"""Which text was evaluated, as a row says it, and whether two rows mean the same text.

A fingerprint reads ``utf8-v2-<64 digits>``: what was hashed (``utf8``: the text, ``ids``: token ids), how, and the hash
of all rows' hashes, whatever their order (`metrics.row_sums.RowSums.fingerprint`). Runs from before that
have 16 digits and no ``v2``: those of another kind cannot be compared with these.
"""

from __future__ import annotations

from typing import Final

__all__ = ["VERSION", "form_of", "is_of_rows", "same_text"]

VERSION: Final = "v2"
"""How rows are hashed and put together; before there were versions: the sum of 64-bit hashes."""


def same_text(one: str | None, other: str | None) -> bool | None:
    """Whether two fingerprints are of the same text.

    Returns:
        ``None`` where that is not known: one is absent, or they were made in different ways.

    >>> same_text("utf8-v2-aa", "utf8-v2-bb"), same_text("utf8-0123", "utf8-v2-bb")
    (False, None)
    """
    if not one or not other:
        return None
    if one == other:
        return True
    return None if form_of(one) != form_of(other) else False


def form_of(fingerprint: str) -> str:
    """What a fingerprint is of, how it is made and how long it is: two of one form can be compared.

    >>> form_of("utf8-v2-aabb"), form_of("ids-0011")
    ('utf8-v2-4', 'ids-4')
    """
    made, _, digits = fingerprint.rpartition("-")
    return f"{made}-{len(digits)}"


def is_of_rows(fingerprint: str | None, rows: str) -> bool:
    """Whether a row's fingerprint is that of per-row sums, which do not say what was hashed.

    >>> is_of_rows("utf8-v2-aa", "v2-aa")
    True
    """
    return fingerprint is not None and (fingerprint == rows or fingerprint.endswith(f"-{rows}"))
