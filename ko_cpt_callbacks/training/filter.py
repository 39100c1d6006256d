"""Which documents of a corpus are kept, and a report of what was dropped.

Own code, about a hundred lines in all. ``datatrove`` (Apache-2.0, kept up, few dependencies) was looked at: its
filters are steps of pipelines that read and write files with workers of their own, where here a stream goes on into
the packer; the filter for repeated n-grams wants a word splitter for Korean (a further package), has no n-grams of
characters, and the perplexity filter wants a KenLM model, where the perplexity of a given causal model is wanted.
There is no filter for the share of Hangul. One filter of three would have come from it, so it is not a dependency.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.document import Document
from ko_cpt_callbacks.training.encoding import batches
from ko_cpt_callbacks.training.word import HANGUL

# Enough to see what a filter does, few enough to read. Chosen, not measured.
_EXAMPLES: Final = 5
_EXAMPLE_CHARACTERS: Final = 120
_HANGUL: Final = re.compile(f"[{HANGUL}]")
_LETTER: Final = re.compile(r"[^\W\d_]")


class Filter(Protocol):
    """Judges documents, a few at a time and each by itself."""

    @property
    def name(self) -> str:
        """In reports: kebab-case."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that its judgement depends on, as JSON."""
        ...

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped; None to keep it."""
        ...


@dataclass(frozen=True, slots=True)
class DroppedExample:
    """A document that was dropped.

    Attributes:
        id: Of the document.
        reason: With the number that decided.
        text: Its beginning.
    """

    id: str
    reason: str
    text: str


@dataclass(slots=True)
class FilterReport:
    """What a filter did so far.

    Attributes:
        filter: Its name.
        documents: Documents that it judged; those that an earlier filter dropped are not among them.
        bytes: Of their text, in UTF-8.
        dropped_documents: Of them.
        dropped_bytes: Of them.
        examples: The first few that were dropped.
    """

    filter: str
    documents: int = 0
    bytes: int = 0
    dropped_documents: int = 0
    dropped_bytes: int = 0
    examples: list[DroppedExample] = field(default_factory=list)

    def note(self, document: Document, reason: str | None) -> None:
        """Count a judgement."""
        size = document.size
        self.documents += 1
        self.bytes += size
        if reason is None:
            return
        self.dropped_documents += 1
        self.dropped_bytes += size
        if len(self.examples) < _EXAMPLES:
            self.examples.append(DroppedExample(document.id, reason, document.text[:_EXAMPLE_CHARACTERS]))


def keep_documents(
    documents: Iterable[Document], filters: Sequence[Filter], reports: Sequence[FilterReport]
) -> Iterator[Document]:
    """The documents that every filter keeps, in their order.

    Args:
        documents: A stream; a few of them are held at a time.
        filters: Asked one after the other; what one drops, the next does not see.
        reports: One a filter, counted up.
    """
    if not filters:
        yield from documents
        return
    for batch in batches(documents):
        kept = batch
        for part, report in zip(filters, reports, strict=True):
            if not kept:
                break
            reasons = part.judge([document.text for document in kept])
            for document, reason in zip(kept, reasons, strict=True):
                report.note(document, reason)
            kept = [document for document, reason in zip(kept, reasons, strict=True) if reason is None]
        yield from kept


@dataclass(frozen=True, slots=True)
class HangulShare:
    """Keeps documents whose letters are Hangul, for the most part.

    Digits, punctuation and white space count on neither side; a document without a letter has no share and is
    dropped.

    Attributes:
        least: Share of the letters, from 0 to 1.
    """

    least: float

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise ConfigurationError(f"hangul-share: found {self.least}, expected a share from 0 to 1")

    @property
    def name(self) -> str:
        """In reports."""
        return "hangul-share"

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return asdict(self)

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        return [self._reason(text) for text in texts]

    def _reason(self, text: str) -> str | None:
        letters = len(_LETTER.findall(text))
        if not letters:
            return "no letters"
        share = len(_HANGUL.findall(text)) / letters
        return None if share >= self.least else f"{share:.1%} Hangul"
