"""What the checks of the set-up share: reading a row's values."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.core.observation import SetupObservation
from ko_cpt_callbacks.rules.setup.setup_rule import count_of, names_of, some_names, some_of, text_of


@pytest.mark.parametrize(
    ("value", "count", "some"),
    [(0, 0, None), (1, 1, 1), (7, 7, 7), (-1, None, None), (2.5, None, None), ("3", None, None), (None, None, None),
     (10**400, None, None)],
)  # fmt: skip
def test_counts(value: object, count: int | None, some: int | None) -> None:
    """Integers from 0 on, or from 1 on; anything else is none."""
    seen = SetupObservation(0, "stage", {"n": value})
    assert (count_of(seen, "n"), some_of(seen, "n")) == (count, some)
    assert count_of(seen, "m") is None


@pytest.mark.parametrize(
    ("value", "names"), [(["a", "b"], ["a", "b"]), (("a", 3, None), ["a"]), ([], []), ("ab", []), (3, []), (None, [])]
)
def test_names(value: object, names: list[str]) -> None:
    """The texts of a sequence; a text is none. None where there is not one."""
    seen = SetupObservation(0, "stage", {"names": value})
    assert names_of(seen, "names") == names
    assert some_names(seen, "names") == (names or None)


def test_texts() -> None:
    """A text that is not empty."""
    values = {"a": "x", "b": "", "c": 3}
    assert [text_of(SetupObservation(0, "stage", values), name) for name in "abcd"] == ["x", None, None, None]
