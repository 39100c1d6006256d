"""The quickstart's tokenizer loses no byte."""

from __future__ import annotations

from ko_cpt_callbacks.training.data.sources import read_pieces
from ko_cpt_callbacks.training.model.vocabulary import train_tokenizer

TEXTS = list(read_pieces("ko_udhr.txt").values())


def test_every_text_comes_back() -> None:
    """Also text in a script that it has never seen."""
    tokenizer = train_tokenizer(TEXTS, 400)
    assert len(tokenizer) == 400
    for text in (TEXTS[3], "Ελληνικά 🙂\n\tx"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_it_is_the_same_again() -> None:
    """Trained twice on the same text it has the same vocabulary."""
    assert train_tokenizer(TEXTS, 400).get_vocab() == train_tokenizer(TEXTS, 400).get_vocab()


def test_a_text_begins_with_the_begin_token() -> None:
    """As Llama's tokenizer does it, and only where special tokens are asked for."""
    tokenizer = train_tokenizer(TEXTS, 400)
    assert tokenizer("가나")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in tokenizer("가나", add_special_tokens=False)["input_ids"]
