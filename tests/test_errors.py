"""What is shown of an exception, whoever raised it."""

from __future__ import annotations

from ko_cpt_callbacks.errors import error_text


class UntellableError(Exception):
    """Its text cannot be had, as of one that formats what it was not given."""

    def __str__(self) -> str:
        """Fail."""
        raise KeyError("text")


def test_kind_and_text() -> None:
    """The kind stands before the text, and a long text is cut."""
    assert error_text(ValueError("no such row")) == "ValueError: no such row"
    assert error_text(ValueError("x" * 600)) == f"ValueError: {'x' * 488} ..."
    assert len(error_text(ValueError("가" * 40), 20)) == 24


def test_an_exception_that_cannot_tell_its_text() -> None:
    """The kind is shown alone, and nothing is raised."""
    assert error_text(UntellableError()) == "UntellableError"
