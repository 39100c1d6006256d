"""Bundled texts become pieces, and pieces are held out whole: the same ones everywhere, and enough of them."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.recipe.bundle import bundled_text, bundled_texts
from ko_cpt_callbacks.recipe.reading import find_recipe, read_recipe
from ko_cpt_callbacks.training.text import Piece, mix_sources, read_pieces, read_sources, split_pieces

QUICKSTART = read_recipe(find_recipe("quickstart")).recipe


@pytest.mark.parametrize("name", bundled_texts())
def test_pieces_are_the_whole_text(name: str) -> None:
    """Every line is in exactly one piece, in order; ids are unique; no piece is empty."""
    pieces = read_pieces(name)
    assert len({piece.id for piece in pieces}) == len(pieces) > 20
    assert all(piece.text.strip() for piece in pieces)
    if name.endswith(".txt"):
        assert "\n".join(piece.text for piece in pieces) == bundled_text(name).rstrip("\n")


def test_an_article_is_one_piece() -> None:
    """A declaration is cut before its articles: 30 and what comes before, in both languages alike."""
    korean, english = read_pieces("ko_udhr.txt"), read_pieces("en_udhr.txt")
    assert len(korean) == len(english) == 31
    assert korean[1].text.startswith("제 1 조\n") and english[1].text.startswith("Article 1\n")
    assert [piece.id for piece in korean] == [piece.id for piece in english]


@pytest.mark.parametrize("held_out", [0.1, 0.3, 0.33, 0.5])
@pytest.mark.parametrize("name", bundled_texts())
def test_enough_is_held_out(name: str, held_out: float) -> None:
    """At least the share asked for, in bytes and in pieces; nothing is lost and nothing is on both sides."""
    pieces = read_pieces(name)
    split = split_pieces(pieces, held_out)
    assert len(split.held_out) >= held_out * len(pieces)
    assert sum(piece.size for piece in split.held_out) >= held_out * sum(piece.size for piece in pieces)
    assert sorted([*split.train, *split.held_out], key=lambda piece: piece.id) == sorted(pieces, key=lambda p: p.id)
    assert split.train


def test_the_split_is_decided_by_ids() -> None:
    """The same pieces are held out again, and in whatever order they come; these ones, on every machine."""
    pieces = read_pieces("ko_prose.jsonl")
    split = split_pieces(pieces, 0.33)
    turned = split_pieces(pieces[::-1], 0.33)
    assert split == split_pieces(pieces, 0.33)
    assert {piece.id for piece in split.held_out} == {piece.id for piece in turned.held_out}
    assert [piece.id for piece in split.held_out][:5] == ["ko-004", "ko-006", "ko-010", "ko-012", "ko-014"]


def test_what_is_held_out_is_never_trained_on() -> None:
    """In the quickstart no held-out text, nor the same article of the declaration in the other language, is trained
    on by the base model or the stage; at least 30 % of both languages is held out."""
    sources = read_sources(QUICKSTART.data)
    trained = {piece.id for split in sources.values() for piece in split.train}
    held_out = {piece.id for split in sources.values() for piece in split.held_out}
    assert trained.isdisjoint(held_out)
    texts = {piece.text for split in sources.values() for piece in split.train}
    for split in sources.values():
        assert texts.isdisjoint(piece.text for piece in split.held_out)
        share = sum(p.size for p in split.held_out) / sum(p.size for p in [*split.train, *split.held_out])
        assert 0.3 <= share < 0.45
    assert {piece.id for piece in mix_sources(sources, QUICKSTART.data.mix)} <= trained


def test_the_mix_is_kept() -> None:
    """Korean and English three to one in bytes, within half a piece; the scarcer source is used whole."""
    sources = read_sources(QUICKSTART.data)
    mixed = mix_sources(sources, {"ko": 3, "en": 1})
    korean = set(sources["ko"].train)
    size = sum(piece.size for piece in mixed if piece in korean)
    other = sum(piece.size for piece in mixed if piece not in korean)
    assert korean <= set(mixed)
    assert other == pytest.approx(size / 3, abs=max(piece.size for piece in sources["en"].train) / 2)
    assert len(mixed) == len(set(mixed))


def test_one_source_alone_is_used_whole() -> None:
    """A mix of one source is all of it, whatever its weight."""
    sources = read_sources(QUICKSTART.data)
    assert set(mix_sources(sources, {"en": 0.5})) == set(sources["en"].train)


def test_size_is_in_bytes() -> None:
    """A Hangul syllable is three bytes."""
    assert Piece("x", "가a").size == 4
