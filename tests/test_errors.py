"""What is shown of an exception, whoever raised it, and which word was probably meant."""

from __future__ import annotations

from pathlib import Path

import ko_cpt_callbacks
from ko_cpt_callbacks.errors import error_text, near_miss


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


def test_near_miss() -> None:
    """The most alike of the known words; none where none is as alike as is asked for."""
    assert near_miss("lroa", ("embedding", "lora")) == "lora"
    assert near_miss(7, ("embedding", "lora")) is None
    assert near_miss("lora", ()) is None
    assert near_miss("xora", ("lora",), 0.8) is None
    assert near_miss("x", ("lora",), 0.0) == "lora"


def test_one_place_looks_for_what_was_meant() -> None:
    """Only `near_miss` compares words, so that every hint is as near as the others."""
    root = Path(ko_cpt_callbacks.__file__).parent
    assert [path.name for path in root.rglob("*.py") if "difflib." in path.read_text("utf-8")] == ["errors.py"]
