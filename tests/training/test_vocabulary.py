"""A tokenizer is extended such that nothing old is disturbed."""

from __future__ import annotations

import json
import random
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import transformers
from tiny import english, korean
from tokenizers import AddedToken, Tokenizer, models
from training.small_tokenizer import BASES, byte_level, sentencepiece, wrap
from transformers import AutoTokenizer

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.tokenizer.reading import byte_level_piece
from ko_cpt_callbacks.hf.tokenizer.token_bytes import TokenBytes, build_token_bytes
from ko_cpt_callbacks.training.model.vocabulary import extend_tokenizer, measure_fertility, old_pieces

pytestmark = pytest.mark.both_versions

TEXTS = (
    *korean(),
    *english(),
    unicodedata.normalize("NFD", "대한민국 헌법, 모든 사람은"),
    "👩‍👩‍👧 🙂 é",
    "  두 칸\n\n\t모든  줄 \r\n",
    " 사람",
    "中은 모든 사람ABC사람(사람)을「사람」",
    "뷁쀍 ㄱㄴ ᄀ",
    "</s>사람<s>",
    "",
)
SIZE, LEAST = 200, 3


@lru_cache
def extended(name: str) -> Any:
    """A base of each kind with 200 tokens more."""
    return extend_tokenizer(BASES[name](), korean(), SIZE, LEAST)


def first_new(name: str) -> int:
    """The first id that is new."""
    return len(BASES[name]().get_vocab())


def ids(tokenizer: Any, text: str) -> list[int]:
    """Of the text alone."""
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


@lru_cache
def tables(name: str) -> tuple[TokenBytes, TokenBytes]:
    """The bytes of every id, of the base and of the extended one."""
    return build_token_bytes(BASES[name]()), build_token_bytes(extended(name))


def expand(name: str, new_ids: list[int], text: str) -> list[int]:
    """The new ids of a text with every new token replaced by as many old ones as spell its bytes."""
    old = ids(BASES[name](), text)
    before, after = tables(name)
    found: list[int] = []
    for index in new_ids:
        if index < first_new(name):
            found.append(index)
            continue
        spelt, start = b"", len(found)
        while len(spelt) < after.lengths[index]:
            spelt += before.pieces[old[len(found)]]
            found.append(old[len(found)])
        assert spelt == after.pieces[index], (start, spelt)
    return found


@pytest.mark.parametrize("name", BASES)
def test_old_tokens_keep_their_ids(name: str) -> None:
    """New ids follow the old ones without a gap; no token is spelt twice; special tokens are what they were."""
    base, made = BASES[name](), extended(name)
    before, after = base.get_vocab(), made.get_vocab()
    assert before.items() <= after.items()
    assert sorted(after.values()) == list(range(len(after)))
    assert len(after) == len(before) + SIZE
    assert made.all_special_tokens == base.all_special_tokens
    assert made.eos_token_id == base.eos_token_id


@pytest.mark.parametrize("name", BASES)
def test_new_tokens_are_old_ones_joined(name: str) -> None:
    """Of any text: replace the new tokens by the old ones they spell, and it is what the base makes of it."""
    for text in TEXTS:
        assert expand(name, ids(extended(name), text), text) == ids(BASES[name](), text)


@pytest.mark.parametrize("name", ["gpt2-korean", "llama3", "llama2-korean", "gemma"])
def test_new_tokens_are_old_ones_joined_anywhere(name: str) -> None:
    """Also of text that no one would write."""
    draw = random.Random(0)
    for _ in range(60):
        text = "".join(draw.choices("사람은모든 권리자유가a e는\n이다🙂中ㄱ한국의th", k=draw.randrange(1, 40)))
        assert expand(name, ids(extended(name), text), text) == ids(BASES[name](), text)


@pytest.mark.parametrize("name", BASES)
def test_every_text_decodes_to_what_it_did(name: str) -> None:
    """Korean, English, emoji, NFD, white space; a byte-level base gives back the text itself."""
    base, made = BASES[name](), extended(name)
    for text in TEXTS:
        decoded = made.decode(ids(made, text), clean_up_tokenization_spaces=False)
        assert decoded == base.decode(ids(base, text), clean_up_tokenization_spaces=False)
        if name in ("gpt2", "gpt2-korean", "llama3", "gemma"):
            assert decoded == text


@pytest.mark.parametrize("name", BASES)
def test_english_is_left_alone(name: str) -> None:
    """A text without Hangul has the ids that it had."""
    for text in english():
        assert ids(extended(name), text) == ids(BASES[name](), text)


@pytest.mark.parametrize("name", BASES)
def test_korean_takes_fewer_tokens(name: str) -> None:
    """Fewer tokens per character and more bytes per token."""
    before, after = measure_fertility(korean(), BASES[name](), extended(name))
    assert (before.characters, before.bytes) == (after.characters, after.bytes)
    assert after.tokens_per_character < 0.9 * before.tokens_per_character
    assert after.bytes_per_token > before.bytes_per_token
    assert after.bytes == sum(len(text.encode()) for text in korean())
    assert after.tokens == sum(len(ids(extended(name), text)) for text in korean())


@pytest.mark.parametrize("name", BASES)
def test_new_tokens_are_hangul(name: str) -> None:
    """With a space in front or not; a byte-level one may end inside a character, and begins with a whole one."""
    _, table = tables(name)
    for index in range(first_new(name), first_new(name) + SIZE):
        text = table.pieces[index].decode("utf-8", "ignore").lstrip(" ")
        assert all("HANGUL" in unicodedata.name(character) for character in text)
        assert not 0x80 <= table.pieces[index].lstrip(b" ")[0] < 0xC0


@pytest.mark.parametrize("name", ["gpt2", "gemma"])
def test_every_new_token_is_used_or_needed(name: str) -> None:
    """A token that is written less often than asked for is there only because another is built from it."""
    made = extended(name)
    written = Counter(index for text in korean() for index in ids(made, text))
    parts = {part for pair in json.loads(made.backend_tokenizer.to_str())["model"]["merges"] for part in pair}
    for index in range(first_new(name), len(made)):
        assert written[index] >= LEAST or made.convert_ids_to_tokens(index) in parts


def test_a_large_least_count_gives_few_tokens() -> None:
    """Fewer than asked for, each frequent; with one that nothing reaches there is none, and nothing is changed."""
    few = extend_tokenizer(sentencepiece(), korean(), 5000, 20)
    assert len(sentencepiece()) < len(few) < len(sentencepiece()) + 1000
    none = extend_tokenizer(sentencepiece(), korean(), 5000, 10**6)
    assert none.get_vocab() == sentencepiece().get_vocab()


def test_letters_of_every_script() -> None:
    """Without the limit to Hangul, English is learnt too."""
    texts = ["xylophone xylophone xylophone"] * 9
    made = extend_tokenizer(byte_level(korean_texts=20), texts, 100, 2, only_hangul=False)
    assert len(ids(made, " xylophone")) == 1
    assert len(ids(made, "사람")) == len(ids(byte_level(korean_texts=20), "사람"))


def test_the_base_is_left_as_it_was() -> None:
    """A second extension of the same base gives the same tokenizer."""
    base = byte_level()
    before = base.backend_tokenizer.to_str()
    first, second = (extend_tokenizer(base, korean(), SIZE, LEAST) for _ in range(2))
    assert base.backend_tokenizer.to_str() == before
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_few_words_in_memory() -> None:
    """With room for fewer words than there are the frequent ones are still learnt."""
    made = extend_tokenizer(byte_level(), korean(), 50, 3, max_words=500)
    before, after = measure_fertility(korean(), byte_level(), made)
    assert len(made) == len(byte_level()) + 50
    assert after.tokens < 0.8 * before.tokens


@pytest.mark.parametrize("name", BASES)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    """It is the same when it comes back from disk, by its class and by AutoTokenizer."""
    made = extended(name)
    made.save_pretrained(tmp_path)
    for loaded in (type(made).from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)):
        assert len(loaded) == len(made)
        assert [ids(loaded, text) for text in TEXTS] == [ids(made, text) for text in TEXTS]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("GPT2TokenizerFast", "gpt2-korean"),
        ("Qwen2TokenizerFast", "qwen"),
        ("LlamaTokenizerFast", "llama"),
        ("GemmaTokenizerFast", "gemma"),
    ],
)
def test_classes_of_models(kind: str, name: str, tmp_path: Path) -> None:
    """The class of a model's tokenizer stays, here and on disk, with its special tokens."""
    BASES[name]().save_pretrained(tmp_path / "base")
    base = getattr(transformers, kind).from_pretrained(tmp_path / "base")
    made = extend_tokenizer(base, korean(), SIZE, LEAST)
    made.save_pretrained(tmp_path / "new")
    loaded = type(base).from_pretrained(tmp_path / "new")
    assert type(made) is type(base)
    assert not list((tmp_path / "new").glob("*.model"))
    assert len(loaded) == len(base) + SIZE
    for text in TEXTS:
        assert ids(loaded, text) == ids(made, text)
        assert base.decode(ids(base, text)) == made.decode(ids(made, text))


def test_a_token_added_later_gets_a_free_id() -> None:
    """Also where the base's special tokens were outside the model."""
    made = extend_tokenizer(byte_level(korean_texts=20, like="llama3"), korean(), SIZE, LEAST)
    size = len(made)
    made.add_tokens([AddedToken("<|extra|>", special=True)])
    assert made.convert_tokens_to_ids("<|extra|>") == size
    assert len(made) == size + 1


@pytest.mark.parametrize("name", BASES)
def test_old_pieces(name: str) -> None:
    """What every new token was before: the old ids that spell it."""
    base, made = BASES[name](), extended(name)
    pieces = old_pieces(base, made)
    before, after = tables(name)
    assert list(pieces) == list(range(first_new(name), len(made)))
    for index, parts in pieces.items():
        assert len(parts) > 1
        assert b"".join(before.pieces[part] for part in parts) == after.pieces[index]


def test_old_pieces_of_an_added_token() -> None:
    """A token that was added whole is made of what its text was."""
    base, made = byte_level(), wrap(Tokenizer.from_str(byte_level().backend_tokenizer.to_str()))
    made.add_tokens(["헌법"])
    assert old_pieces(base, made) == {len(base): tuple(ids(base, "헌법"))}
    assert byte_level_piece("".join(base.convert_ids_to_tokens(ids(base, "헌법")))).decode() == "헌법"


def test_other_tokenizers_are_refused() -> None:
    """Another model, dropout, gaps, words without marks: each with what was found."""
    unigram = wrap(Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0)))
    dropout = Tokenizer.from_str(byte_level().backend_tokenizer.to_str())
    dropout.model.dropout = 0.1
    bare = wrap(Tokenizer(models.BPE({"a": 0, "b": 1}, [])))
    gaps = Tokenizer.from_str(byte_level().backend_tokenizer.to_str().replace('"<pad>":2', '"<pad>":5002'))
    for tokenizer, found in (
        (unigram, "a Unigram model"),
        (wrap(dropout), "a BPE model with dropout"),
        (bare, "neither a ByteLevel nor a Metaspace"),
        (wrap(gaps), "ids with gaps"),
        (object(), "without a backend"),
    ):
        with pytest.raises(ConfigurationError, match=found):
            extend_tokenizer(tokenizer, korean(), SIZE, LEAST)
