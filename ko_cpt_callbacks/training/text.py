"""Bundled texts, cut into pieces; and which texts are held out. The same on every machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.recipe.bundle import bundled_text

# Where an article of a declaration or a statute begins.
_ARTICLE: Final = re.compile(r"Article \d+$|제 ?\d+ ?조")


@dataclass(frozen=True, slots=True)
class Piece:
    """A text that stays in one part: a story, an article with its paragraphs.

    Attributes:
        id: Unique within its file.
        text: What it says.
    """

    id: str
    text: str

    @property
    def size(self) -> int:
        """UTF-8 bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Split:
    """The pieces of a source: what is trained on, and what is not."""

    train: tuple[Piece, ...]
    held_out: tuple[Piece, ...]


def read_pieces(name: str) -> tuple[Piece, ...]:
    """The pieces of a bundled text, in its order.

    Args:
        name: The file's name; ``.jsonl`` has a piece a line, another is cut before every article.
    """
    text = bundled_text(name)
    if name.endswith(".jsonl"):
        entries = [json.loads(line) for line in text.splitlines() if line]
        return tuple(Piece(entry["id"], entry["text"]) for entry in entries)
    # Without the language, so that translations of one text are held out together.
    work = name.partition("_")[2].rpartition(".")[0]
    parts: list[list[str]] = [[]]
    for line in filter(None, text.splitlines()):
        if _ARTICLE.match(line):
            parts.append([])
        parts[-1].append(line)
    return tuple(Piece(f"{work}-{number:03}", "\n".join(lines)) for number, lines in enumerate(parts) if lines)


def split_pieces(pieces: Sequence[Piece], held_out: float) -> Split:
    """Hold whole pieces out, in an order that only their ids decide.

    Args:
        pieces: All pieces of a file.
        held_out: The least share to hold out, of the bytes and of the pieces; between 0 and 1.
    """
    bytes_wanted = held_out * sum(piece.size for piece in pieces)
    pieces_wanted = held_out * len(pieces)
    chosen: set[str] = set()
    size = 0
    for piece in sorted(pieces, key=_rank):
        if size >= bytes_wanted and len(chosen) >= pieces_wanted:
            break
        chosen.add(piece.id)
        size += piece.size
    return Split(
        tuple(piece for piece in pieces if piece.id not in chosen),
        tuple(piece for piece in pieces if piece.id in chosen),
    )


def is_held_out(text: str, share: float) -> bool:
    """Whether a text of a large corpus is held out: a hash of it decides, so that nothing has to be counted before.

    Args:
        text: All of it.
        share: Of all texts; from 0 to 1. Of few texts it may be rather more or less.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _rank(piece: Piece) -> bytes:
    return hashlib.sha256(piece.id.encode()).digest()
