"""What recipes and baselines share: strict reading of YAML, with the name of what was expected in each error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field

from ko_cpt_callbacks.errors import BaselineError
from ko_cpt_callbacks.yaml.mistake import Mistake, one_each, shape_mistakes
from ko_cpt_callbacks.yaml.reading import read_document, read_text


class Inner(BaseModel):
    """A mapping inside."""

    model_config = ConfigDict(extra="forbid", strict=True)

    size: Annotated[int, Field(ge=1)]


class Outer(BaseModel):
    """A mapping with optional, listed and named mappings."""

    model_config = ConfigDict(extra="forbid", strict=True)

    maybe: Annotated[Inner | None, Field()] = None
    many: list[Inner] = []
    named: dict[str, Inner] = {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("maybe: {sise: 1}", "F:1: maybe.sise: found an unknown key, expected one of size. Did you mean size?"),
        ("many:\n  - size: 1\n    sise: 2", "F:3: many[0].sise: found an unknown key, expected one of size."),
        ("named:\n  a: {sise: 2}", "F:2: named.a.sise: found an unknown key, expected one of size."),
        ("many: [{size: 0}]", "F:1: many[0].size: found 0, expected at least 1."),
    ],
)
def test_a_schema_of_any_shape(text: str, expected: str) -> None:
    """The keys that are known at a place are found through optional values, lists and mappings."""
    _, mistakes = shape_mistakes(Outer, read_document(text))

    assert expected in [item.sentence("F") for item in mistakes] or any(
        item.sentence("F").startswith(expected) for item in mistakes
    )


def test_what_fits_is_read() -> None:
    """A document of the schema's shape is its model, without a mistake."""
    found, mistakes = shape_mistakes(Outer, read_document("maybe: {size: 2}"))

    assert (found, mistakes) == (Outer(maybe=Inner(size=2)), [])


def test_errors_name_what_was_expected(tmp_path: Path) -> None:
    """Each caller's own word stands in the error, and its own error class is raised."""
    assert read_document("[", "a plan").mistakes[0].expected == "a plan in YAML 1.2"
    with pytest.raises(BaselineError, match=r"nothing that can be read \(.*\), expected a plan\.$"):
        read_text(tmp_path / "absent", 10, BaselineError, "a plan", "a plan of a line")
    (tmp_path / "long").write_bytes(b"x" * 11)
    with pytest.raises(BaselineError, match=r"found more than 10 bytes, expected a plan of a line\.$"):
        read_text(tmp_path / "long", 10, BaselineError, "a plan", "a plan of a line")


def test_one_mistake_a_place() -> None:
    """The first mistake of a place is told, and none of what is inside it; the rest in the order of the lines."""
    told = one_each(
        [
            Mistake(("b",), 4, "x", "y"),
            Mistake(("a",), 2, "first", "y"),
            Mistake(("a",), 2, "second", "y"),
            Mistake(("a", "inside"), 3, "third", "y"),
            Mistake((), 1, "whole", "y"),
        ]
    )

    assert [item.found for item in told] == ["whole", "first", "x"]


def test_values_that_do_not_agree_hide_nothing_below() -> None:
    """They could be read, so what is inside is told too; but one mistake a place all the same."""
    told = one_each(
        [
            Mistake(("a",), 1, "first", "y", hides=False),
            Mistake(("a",), 1, "second", "y"),
            Mistake(("a", "inside"), 2, "third", "y"),
            Mistake(("a", "inside", "deeper"), 3, "fourth", "y"),
        ]
    )

    assert [item.found for item in told] == ["first", "third"]


def test_how_deep_a_document_may_be() -> None:
    """Up to 32 levels are read; of more, one mistake with its line, however much deeper it is."""
    for depth, mistakes in ((32, 0), (33, 1), (120, 1)):
        assert len(read_document(f"\n{'[' * depth}{']' * depth}").mistakes) == mistakes
    for depth in (120, 2_000):
        (mistake,) = read_document(f"\n{'[' * depth}").mistakes
        assert mistake.line is not None


def test_a_character_that_yaml_does_not_allow() -> None:
    """It is named, with its line."""
    (mistake,) = read_document("a: b\r\nc: d\x1b[0m\n").mistakes

    assert mistake.sentence("F") == (
        "F:2: found the character U+001B, which YAML does not allow, expected a document in YAML 1.2."
    )


def test_a_byte_order_mark(tmp_path: Path) -> None:
    """It is no part of the text, but of a copy it is."""
    path = tmp_path / "marked"
    path.write_bytes(b"\xef\xbb\xbfa\r\n")

    assert read_text(path, 10, BaselineError, "a plan", "a line") == "a\r\n"
    assert read_text(path, 10, BaselineError, "a plan", "a line", as_it_is=True) == "\ufeffa\r\n"
