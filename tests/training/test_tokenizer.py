"""The quickstart's tokenizer loses no byte, and rows lose no token."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.training.text import Piece, read_pieces
from ko_cpt_callbacks.training.tokenizer import token_rows, train_tokenizer

PIECES = read_pieces("ko_udhr.txt")


def test_every_text_comes_back() -> None:
    """Also text in a script that it has never seen."""
    tokenizer = train_tokenizer(PIECES, 400)
    assert len(tokenizer) == 400
    for text in (PIECES[3].text, "Ελληνικά 🙂\n\tx"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_it_is_the_same_again() -> None:
    """Trained twice on the same text it has the same vocabulary."""
    assert train_tokenizer(PIECES, 400).get_vocab() == train_tokenizer(PIECES, 400).get_vocab()


@pytest.mark.parametrize("length", [16, 64, 512])
def test_rows_hold_every_token(length: int) -> None:
    """A piece longer than a row goes on in the next; begin and end token once a piece; no row is longer."""
    tokenizer = train_tokenizer(PIECES, 400)
    rows = token_rows(PIECES[:5], tokenizer, length)
    assert all(1 < len(row["input_ids"]) <= length for row in rows)
    ids = [token for row in rows for token in row["input_ids"]]
    assert ids.count(tokenizer.bos_token_id) == 5
    assert tokenizer.decode([i for i in ids if i > 2]) == "".join(piece.text for piece in PIECES[:5])


def test_a_row_of_one_token_is_no_row() -> None:
    """It would have no target."""
    tokenizer = train_tokenizer(PIECES, 400)
    ids = len(tokenizer.encode("<s>가나</s>", add_special_tokens=False))
    assert len(token_rows([Piece("x", "가나")], tokenizer, ids - 1)) == 1
