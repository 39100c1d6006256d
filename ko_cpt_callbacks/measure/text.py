"""What models are measured on: the reference text of the package, or files of the user's, as sets of documents."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, get_args

from ko_cpt_callbacks.check.terminal import one_of
from ko_cpt_callbacks.errors import ConfigurationError, refuse_empty
from ko_cpt_callbacks.recipe.text_files import NAMES, format_of
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.sources import Source, Unit, read_documents

__all__ = ["REFERENCE", "MeasuredText", "TextSet", "read_text_sets"]

REFERENCE: Final = "reference"
"""The name of the text that comes with the package."""

_MANIFEST: Final = "manifest.json"
_NOT_NAMES: Final = re.compile(r"[^\w.-]+")
_LANGUAGE: Final = re.compile(r"([a-z]{2})(?:[_-].*)?$")


@dataclass(frozen=True, slots=True)
class TextSet:
    """Documents that are measured together.

    Attributes:
        name: Short: ``ko_help``.
        language: ISO 639 code that the name begins with; empty where it begins with none.
        documents: Its texts, none of them blank.
    """

    name: str
    language: str
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class MeasuredText:
    """All that a model is measured on.

    Attributes:
        name: ``reference`` with its version, or the files' names.
        sets: In the order in which they were named; no two of one name.
    """

    name: str
    sets: tuple[TextSet, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of every set's name and documents, in order."""
        digest = hashlib.sha256()
        for item in self.sets:
            for document in item.documents:
                line = json.dumps([item.name, document.id, document.text])
                digest.update(f"{line}\n".encode())
        return digest.hexdigest()

    @property
    def set_languages(self) -> dict[str, str]:
        """The language of every set, totals among them; empty where a set's name says none."""
        return {**{one: one for one in self.languages}, **{item.name: item.language for item in self.sets}}

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages with more than one set, which have a total of their own; a set may carry the total's name."""
        found = [item.language for item in self.sets if item.language]
        names = {item.name for item in self.sets}
        return tuple(one for one in dict.fromkeys(found) if found.count(one) > 1 and one not in names)


def read_text_sets(names: Sequence[str], unit: str = "paragraph") -> MeasuredText:
    """The text that was named.

    Args:
        names: ``reference``, or files; each file is a set, named as it is without its ending.
        unit: What a document is in a ``.txt``: a line, a paragraph (up to a blank line), the file.

    Raises:
        ConfigurationError: If there is no such file, it holds no text, or two have one name.
    """
    one_of("--unit", unit, get_args(Unit))
    told: list[str] = []
    sets: list[TextSet] = []
    for name in dict.fromkeys(names):
        if name == REFERENCE and not Path(name).is_file():
            version, found = _reference()
            told.append(f"{REFERENCE} {version}")
            sets.extend(found)
        else:
            told.append(Path(name).name)
            sets.append(_file_set(name, unit))
    seen: set[str] = set()
    for item in sets:
        if item.name in seen:
            raise ConfigurationError(f"--text: found two sets named {item.name}, expected another name; rename a file")
        seen.add(item.name)
    return MeasuredText(", ".join(told), tuple(sets))


def _reference() -> tuple[str, list[TextSet]]:
    folder = files("ko_cpt_callbacks") / REFERENCE
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except OSError:
        raise ConfigurationError(
            f"--text: found no {REFERENCE} text in this installation ({folder}), expected it; install the package "
            "again, or name a file"
        ) from None
    return manifest["version"], [_reference_set(folder, entry) for entry in manifest["sets"]]


def _reference_set(folder: Any, entry: dict[str, Any]) -> TextSet:
    payload = (folder / entry["file"]).read_bytes()
    found = hashlib.sha256(payload).hexdigest()
    if found != entry["sha256"]:  # a number measured on another text would carry this one's name
        raise ConfigurationError(
            f"{folder / entry['file']}: found SHA-256 {found[:12]}…, expected {entry['sha256'][:12]}…: the reference "
            "text was changed; install the package again"
        )
    lines = [json.loads(line) for line in payload.decode().splitlines()]
    documents = tuple(
        Document(f"{entry['set']}/{line['id']}", line["text"], len(line["text"].encode()), number=place)
        for place, line in enumerate(lines)
    )
    return TextSet(entry["set"], entry["language"], documents)


def _file_set(name: str, unit: Any) -> TextSet:
    path = Path(name)
    refuse_empty("--text", name, "a file")
    if path.is_dir():
        raise ConfigurationError(f"--text: found the folder {name}, expected {REFERENCE} or files; name each one in it")
    if format_of(path) is None:
        raise ConfigurationError(f"--text: found {name}, expected {REFERENCE} or a file that ends in {NAMES}")
    if not path.is_file():
        raise ConfigurationError(f"--text: found no file {name}, expected {REFERENCE} or a file; check the path")
    set_name = _NOT_NAMES.sub("-", path.name.partition(".")[0]) or "text"
    try:
        documents = tuple(read_documents(Source(set_name, (path,), unit=unit)))
    except ConfigurationError as error:
        raise ConfigurationError(f"--text: {error}") from error
    if not documents:
        raise ConfigurationError(f"--text: found no text in {name}, expected documents that are not blank")
    language = _LANGUAGE.match(set_name)
    return TextSet(set_name, "" if language is None else language[1], documents)
