"""Whether two rows mean the same text."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.metrics.fingerprint import is_of_rows, same_text

OLD, NEW = "utf8-0123456789abcdef", "utf8-v2-" + 64 * "a"


@pytest.mark.parametrize("other", [None, "", "ids-0123456789abcdef", NEW, "ids-v2-" + 64 * "a"])
def test_made_in_different_ways_is_unknown(other: str | None) -> None:
    """An absent one, one of token ids, one of another version: neither the same text nor another."""
    assert same_text(OLD, other) is None
    assert same_text(other, OLD) is None


def test_made_in_one_way() -> None:
    """Equal or not, in the old way and in the new."""
    assert same_text(OLD, OLD) is same_text(NEW, NEW) is True
    assert same_text(OLD, OLD[:-1] + "0") is same_text(NEW, NEW[:-1] + "0") is False


def test_of_rows() -> None:
    """A row says before it what was hashed; nothing but the whole of it counts."""
    assert is_of_rows(NEW, "v2-" + 64 * "a") and is_of_rows(OLD, "0123456789abcdef") and is_of_rows("ab", "ab")
    assert not is_of_rows(NEW, 64 * "b") and not is_of_rows(None, "ab") and not is_of_rows(OLD, "9abcdef")
