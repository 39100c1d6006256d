"""One text of a corpus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text that stands for itself.

    Attributes:
        id: The source's name and the document's place in it, from 0: ``ko/17``. Blank ones have a place too.
        text: What it says.
        prompt: What stands before it and is not learnt; empty for ordinary text.
    """

    id: str
    text: str
    prompt: str = ""

    @property
    def size(self) -> int:
        """UTF-8 bytes of the text."""
        return len(self.text.encode())
