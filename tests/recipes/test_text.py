"""The bundled text collection: enough of it, clean, not repetitive, and each file's licence stated.

How repetition is measured, within one language and never across the border of two pieces:

* word 8-grams: eight consecutive whitespace-separated tokens;
* character 8-grams: eight consecutive letters once everything that is not a letter has been dropped. A Hangul
  character is a syllable of two or three letters, so for English the run that compares is 16 letters, which
  is eight syllables at the shortest; eight English letters are one or two words and repeat in any prose.

The figure is the share of n-gram occurrences whose n-gram occurs more than once.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

TEXT = Path(__file__).resolve().parents[2] / "recipes" / "text"
LANGUAGES = ("ko", "en")
LETTER_RUN = {"ko": 8, "en": 16}
MAX_REPEATED = 0.02

Piece = dict[str, str]


def read_pieces(language: str) -> list[Piece]:
    """The pieces of one language, in file order."""
    lines = (TEXT / f"{language}_prose.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def repeated_share(sequences: Sequence[Sequence[str]], n: int) -> float:
    """Share of n-gram occurrences, over all sequences, whose n-gram occurs more than once."""
    counts = Counter(tuple(s[i : i + n]) for s in sequences for i in range(len(s) - n + 1))
    return sum(c for c in counts.values() if c > 1) / sum(counts.values())


def sentences(text: str) -> list[str]:
    """The text cut after . ! or ? and any closing quotation mark."""
    return [s for s in re.split(r"""(?<=[.!?])\s+|(?<=[.!?][”’'"])\s+""", text) if s]


def is_hangul(character: str) -> bool:
    """Whether the character is a precomposed Hangul syllable or a Hangul letter."""
    return unicodedata.name(character, "").startswith("HANGUL ")


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    """Each language of the collection in turn."""
    return request.param


def test_repeated_share_counts_every_occurrence() -> None:
    """A run that occurs twice counts twice; a run is not carried over from one piece into the next."""
    assert repeated_share(["abcabc"], 3) == pytest.approx(2 / 4)
    assert repeated_share(["abc", "abd"], 3) == 0
    assert repeated_share(["abcd", "abcd"], 4) == 1


def test_sentences_end_with_their_quotation_mark() -> None:
    """A closing quotation mark stays with its sentence, and nothing is lost."""
    assert sentences("“가요?” 그가 물었다. “네.”") == ["“가요?”", "그가 물었다.", "“네.”"]


def test_there_are_enough_pieces(language: str) -> None:
    """Each language has at least 30 pieces; each is an id, a title and a text, none of them empty."""
    pieces = read_pieces(language)
    assert len(pieces) >= 30
    for piece in pieces:
        assert list(piece) == ["id", "title", "text"]
        assert all(isinstance(value, str) and value.strip() == value != "" for value in piece.values())


def test_there_is_enough_text(language: str) -> None:
    """Each language has at least 15 kB of text as UTF-8, titles not counted, and no piece is a stub."""
    sizes = [len(piece["text"].encode("utf-8")) for piece in read_pieces(language)]
    assert sum(sizes) >= 15_000
    assert min(sizes) >= 450


def test_ids_are_positions(language: str) -> None:
    """The id of the n-th piece is the language and n in three digits, so ids are unique."""
    pieces = read_pieces(language)
    assert [piece["id"] for piece in pieces] == [f"{language}-{n:03d}" for n in range(1, len(pieces) + 1)]


def test_titles_and_texts_are_distinct(language: str) -> None:
    """No title and no text occurs twice."""
    pieces = read_pieces(language)
    assert len({piece["title"] for piece in pieces}) == len(pieces)
    assert len({piece["text"] for piece in pieces}) == len(pieces)


@pytest.mark.parametrize("name", sorted(path.name for path in TEXT.iterdir() if path.is_file()))
def test_files_are_plain_utf8(name: str) -> None:
    """Every file is UTF-8 in NFC without a byte-order mark or carriage return, and ends with one newline."""
    raw = (TEXT / name).read_bytes()
    text = raw.decode("utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert not text.startswith("\ufeff")
    assert b"\r" not in raw
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_prose_is_readable_in_the_file(language: str) -> None:
    """The JSON lines hold the characters themselves, with no backslash escape, for people to read."""
    assert "\\" not in (TEXT / f"{language}_prose.jsonl").read_text(encoding="utf-8")


def test_spacing_is_clean(language: str) -> None:
    """A piece is one paragraph with single spaces only and none before a punctuation mark."""
    for piece in read_pieces(language):
        assert not re.search(r"[^\S ]| {2}| [.,?!]", piece["text"]), piece["id"]


def test_korean_is_hangul() -> None:
    """In every Korean piece more than 55 % of the characters, spaces and punctuation counted, are Hangul."""
    for piece in read_pieces("ko"):
        share = sum(map(is_hangul, piece["text"])) / len(piece["text"])
        assert share > 0.55, f"{piece['id']}: {share:.0%}"


def test_english_has_no_hangul() -> None:
    """No English piece or title holds a Hangul character."""
    for piece in read_pieces("en"):
        assert not any(map(is_hangul, piece["title"] + piece["text"])), piece["id"]


def test_word_8_grams_do_not_repeat(language: str) -> None:
    """Less than 2 % of the word 8-grams of a language occur more than once."""
    assert repeated_share([piece["text"].split() for piece in read_pieces(language)], 8) < MAX_REPEATED


def test_character_8_grams_do_not_repeat(language: str) -> None:
    """Less than 2 % of the letter runs of a language (8 Hangul, 16 Latin letters) occur more than once."""
    letters = ["".join(filter(str.isalpha, piece["text"])) for piece in read_pieces(language)]
    assert repeated_share(letters, LETTER_RUN[language]) < MAX_REPEATED


def test_no_sentence_occurs_twice(language: str) -> None:
    """All sentences of a language are different."""
    counts = Counter(s for piece in read_pieces(language) for s in sentences(piece["text"]))
    assert [s for s, count in counts.items() if count > 1] == []


def test_no_sentence_pattern_is_repeated(language: str) -> None:
    """No two sentences begin with the same three words, and no single word ends more than 5 % of them."""
    words = [s.split() for piece in read_pieces(language) for s in sentences(piece["text"])]
    openings = Counter(tuple(w[:3]) for w in words if len(w) >= 3)
    assert [o for o, count in openings.items() if count > 1] == []
    word, count = Counter(w[-1] for w in words).most_common(1)[0]
    assert count <= 0.05 * len(words), word


def test_pieces_open_differently(language: str) -> None:
    """The first two words of a piece are shared with no other piece."""
    openings = [tuple(piece["text"].split()[:2]) for piece in read_pieces(language)]
    assert len(set(openings)) == len(openings)


def test_declarations_are_aligned() -> None:
    """The Korean and the English declaration have the same number of lines, 92, none of them blank."""
    for name in ("ko_udhr.txt", "en_udhr.txt"):
        lines = (TEXT / name).read_text(encoding="utf-8").splitlines()
        assert len(lines) == 92
        assert all(line.strip() for line in lines)


def test_statute_is_the_whole_constitution() -> None:
    """ko_statute.txt is the Constitution, whole and alone: preamble, articles 1 to 130, addenda 1 to 6."""
    text = (TEXT / "ko_statute.txt").read_text(encoding="utf-8")
    assert text.startswith("대한민국헌법\n전문\n유구한 역사와 전통에 빛나는 우리 대한국민은 ")
    body, addenda = text.split("\n부칙\n", 1)
    assert [int(n) for n in re.findall(r"^제(\d+)조$", body, re.MULTILINE)] == list(range(1, 131))
    assert [int(n) for n in re.findall(r"^제(\d+)조 ", addenda, re.MULTILINE)] == list(range(1, 7))
    assert text.endswith("새로운 기관이 설치될 때까지 존속하며 그 직무를 행한다.\n")
    assert len(text.encode("utf-8")) <= 60_000


def test_licences_name_every_file() -> None:
    """LICENSES.md has a table row for each file in the folder and for no other."""
    licences = (TEXT / "LICENSES.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", licences, re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in TEXT.iterdir())


def test_licences_carry_the_notices() -> None:
    """LICENSES.md names Apache-2.0 and Article 7 and carries the MIT notice with its copyright line."""
    licences = (TEXT / "LICENSES.md").read_text(encoding="utf-8")
    for phrase in ("Apache-2.0", "Article 7", "Copyright (c) Titus Wormer", "Permission is hereby granted"):
        assert phrase in licences
