"""Bundled texts become pieces, and pieces are held out whole: the same ones everywhere, and enough of them."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.recipe.bundle import bundled_text, bundled_texts
from ko_cpt_callbacks.training.data.sources import Piece, is_held_out, read_pieces, split_pieces


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


def test_a_hash_holds_out_a_share() -> None:
    """Of many texts about the share that was asked for; of a larger share all those of a smaller one; the same again;
    with 0 none, with 1 all."""
    texts = [f"{number}번째 글" for number in range(4000)]
    tenth, third = ({text for text in texts if is_held_out(text, share)} for share in (0.1, 0.33))
    assert 340 < len(tenth) < 460
    assert 1230 < len(third) < 1410
    assert tenth < third
    assert not any(is_held_out(text, 0.0) for text in texts)
    assert all(is_held_out(text, 1.0) for text in texts)
    assert [text for text in texts[:40] if is_held_out(text, 0.1)] == ["16번째 글", "36번째 글"]


def test_size_is_in_bytes() -> None:
    """A Hangul syllable is three bytes."""
    assert Piece("x", "가a").size == 4
