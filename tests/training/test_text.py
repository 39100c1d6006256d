"""Bundled texts become pieces, and pieces are held out whole: the same ones everywhere, and enough of them."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from ko_cpt_callbacks.recipe.bundle import bundled_text, bundled_texts
from ko_cpt_callbacks.training.data.sources import (
    Part,
    Source,
    held_out_pieces,
    is_held_out,
    read_documents,
    read_pieces,
)


@pytest.mark.parametrize("name", bundled_texts())
def test_pieces_are_the_whole_text(name: str) -> None:
    """Every line is in exactly one piece, in order; ids are unique; no piece is empty."""
    pieces = read_pieces(name)
    assert len(pieces) > 20
    assert all(text.strip() for text in pieces.values())
    if name.endswith(".txt"):
        assert "\n".join(pieces.values()) == bundled_text(name).rstrip("\n")
    else:
        assert [json.loads(line)["text"] for line in bundled_text(name).splitlines()] == list(pieces.values())


def test_an_article_is_one_piece() -> None:
    """A declaration is cut before its articles: 30 and what comes before, in both languages alike."""
    korean, english = read_pieces("ko_udhr.txt"), read_pieces("en_udhr.txt")
    assert len(korean) == len(english) == 31
    assert korean["udhr-001"].startswith("제 1 조\n") and english["udhr-001"].startswith("Article 1\n")
    assert list(korean) == list(english)


@pytest.mark.parametrize("held_out", [0.1, 0.3, 0.33, 0.5])
@pytest.mark.parametrize("name", bundled_texts())
def test_enough_is_held_out(name: str, held_out: float) -> None:
    """At least the share asked for, in bytes (three a Hangul syllable) and in pieces; something is left to train on."""
    pieces = read_pieces(name)
    chosen = held_out_pieces(pieces, held_out)
    assert held_out * len(pieces) <= len(chosen) < len(pieces)
    assert chosen < pieces.keys()
    sizes = {id: len(text.encode()) for id, text in pieces.items()}
    assert sum(sizes[id] for id in chosen) >= held_out * sum(sizes.values())


def test_the_split_is_decided_by_ids() -> None:
    """The same pieces are held out again, and in whatever order they come; these ones, on every machine."""
    pieces = read_pieces("ko_prose.jsonl")
    chosen = held_out_pieces(pieces, 0.33)
    assert chosen == held_out_pieces(dict(reversed(pieces.items())), 0.33)
    assert sorted(chosen)[:5] == ["ko-004", "ko-006", "ko-010", "ko-012", "ko-014"]


def test_each_piece_is_on_one_side() -> None:
    """What is trained on and what is held out are all there is, in order."""
    parts = {part: Source("x", bundled=("ko_udhr.txt",), held_out=0.3, part=part) for part in get_args(Part)}
    ids = {part: [document.id for document in read_documents(source)] for part, source in parts.items()}
    assert sorted(ids["train"] + ids["held-out"], key=ids["all"].index) == ids["all"]
    assert len(ids["all"]) == 31


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
