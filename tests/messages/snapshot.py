"""How every sentence reads, with the same values in each language: ``python tests/messages/snapshot.py`` writes it.

``en.txt`` and ``ko.txt`` hold, for every code and variant, the line and the detail; then the doubts about targets and
the reasons of comparisons. The test compares; a change is looked at in the diff and kept by this script.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from messages.samples import every_value, values_of

from ko_cpt_callbacks.messages.catalogue import LANGUAGES, catalogue

FOLDER: Final = Path(__file__).parent / "snapshots"
_SEVERITY: Final = "warning"


def shown(language: str) -> str:
    """All sentences of a language."""
    return "\n".join(_shown(language))


def _shown(language: str) -> Iterator[str]:
    sentences = catalogue(language)
    for (code, variant), wording in sorted(sentences.wordings.items()):
        values = values_of(code, wording)
        yield f"## {code}" + (f" {variant}" if variant else "")
        yield sentences.line(_SEVERITY, code, variant, values)
        yield f"{sentences.detail(code, variant, values)}\n"
    for name in sentences.doubts:
        short, detail = sentences.doubt(name, every_value())
        yield f"## doubt {name}\n{short}\n{detail}\n"
    yield "## reasons"
    for code in sentences.reasons:
        reason: dict[str, Any] = {**every_value(), "code": code}
        yield f"{code}: {sentences.reason(reason)}"
    yield ""


def main() -> None:
    """Write both files."""
    FOLDER.mkdir(exist_ok=True)
    for language in LANGUAGES:
        (FOLDER / f"{language}.txt").write_text(shown(language), "utf-8")


if __name__ == "__main__":
    main()
