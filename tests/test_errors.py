"""What is shown of an exception, whoever raised it, and which word was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

import ko_cpt_callbacks
from ko_cpt_callbacks.errors import ConfigurationError, error_text, meant, near_miss, refuse_empty


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
    assert (meant("lroa", ("embedding", "lora")), meant("x", ("lora",))) == (" Did you mean lora?", "")


def test_an_empty_text() -> None:
    """A shell makes it of a variable that is not set: the error asks for that."""
    refuse_empty("RUN", "run", "a path")
    with pytest.raises(ConfigurationError, match=r"^RUN: found an empty text, expected a path; is a variable unset\?$"):
        refuse_empty("RUN", "", "a path")


def test_one_place_looks_for_what_was_meant() -> None:
    """Only `near_miss` compares words, so that every hint is as near as the others."""
    root = Path(ko_cpt_callbacks.__file__).parent
    assert [path.name for path in root.rglob("*.py") if "difflib." in path.read_text("utf-8")] == ["errors.py"]
