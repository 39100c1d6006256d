"""Help and the pages written by hand are in the words of CONTRIBUTING.md; `tests/messages` asks the sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from ko_cpt_callbacks.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HAND_WRITTEN = [
    ROOT / "README.md", ROOT / "recipes" / "README.md",
    *(
        DOCS / f"{name}.md"
        for name in ("index", "guide", "checkpoints", "recipes", "baselines", "numbers", "extending")
    ),
    *sorted((ROOT / "examples").rglob("*.md")),
]  # fmt: skip
KOREAN = [ROOT / "README.ko.md", *sorted((DOCS / "ko").glob("*.md"))]

AVOIDED = re.compile(
    r"\b(told|nobody|whoever|by way of indication|(is|are) to be|noises|nothing is said|is said (only )?where)\b", re.I
)
BRITISH = re.compile(
    r"\b(behaviours?|colou(?:r|rs|red)|favou(?:r|rs|red)|labell(?:ed|ing)|licences?|learnt|neighbours?|grey|judgements?"
    r"|(?:general|initial|memor|normal|optim|organ|real|recogn|special|summar)is(?:e|es|ed|ation))\b",
    re.I,
)
KOREAN_AVOIDED = re.compile(r"견주|본체|까닭")


def _help(command: Any, name: str = "ko-cpt") -> Iterator[tuple[str, str]]:
    """The help of a command, of its options, and of the commands in it."""
    yield name, command.help or ""
    for option in command.params:
        yield f"{name} {option.name}", getattr(option, "help", None) or ""
    for child, one in getattr(command, "commands", {}).items():
        yield from _help(one, f"{name} {child}")


def _wrong(text: str) -> list[str]:
    return [match[0] for pattern in (AVOIDED, BRITISH) for match in pattern.finditer(text)]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("The rule is told of it by nobody.", ["told", "nobody"]),
        ("The labelled behaviour is to be memorised.", ["is to be", "labelled", "behaviour", "memorised"]),
        ("The rule reports labeled rows. memorizing is a code; colors are fine.", []),
    ],
)
def test_the_words_are_seen(text: str, wrong: list[str]) -> None:
    """Words of the style page's right column are found, the left column's are not."""
    assert _wrong(text) == wrong


def test_korean_pages() -> None:
    """비교, 모델, 이유: no Korean page has a word that the style page replaces."""
    assert [page.name for page in KOREAN if KOREAN_AVOIDED.search(page.read_text("utf-8"))] == []


def test_help() -> None:
    """No help of a command or option has such a word."""
    found = dict(_help(get_command(app)))

    assert len(found) > 40
    assert {name: wrong for name, text in found.items() if (wrong := _wrong(text))} == {}


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page: Path) -> None:
    """No page written by hand has such a word outside of code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)

    assert _wrong(prose) == []


def test_class_names_are_used_once() -> None:
    """One class has a name in the package; those of a schema are called as the keys that they read."""
    homes: dict[str, list[str]] = {}
    for path in sorted((ROOT / "ko_cpt_callbacks").rglob("*.py")):
        if not path.stem.endswith("schema"):
            for name in re.findall(r"^class (\w+)", path.read_text("utf-8"), re.MULTILINE):
                homes.setdefault(name, []).append(str(path.relative_to(ROOT)))

    assert len(homes) > 300
    assert {name: paths for name, paths in homes.items() if len(paths) > 1} == {}
