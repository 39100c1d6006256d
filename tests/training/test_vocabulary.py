"""A tokenizer is extended such that nothing old is disturbed."""

from __future__ import annotations

import json
import random
import unicodedata
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
from ko_cpt_callbacks.training.tokenizer.extend import (
    Extension,
    ExtensionSettings,
    extend_tokenizer,
    measure_fertility,
    old_pieces,
)

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
SETTINGS = ExtensionSettings(size=200, min_count=3)


@lru_cache
def extended(name: str) -> Extension:
    """A base of each kind with 200 tokens more."""
    return extend_tokenizer(BASES[name](), korean(), SETTINGS)


def ids(tokenizer: Any, text: str) -> list[int]:
    """Of the text alone."""
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


@lru_cache
def tables(name: str) -> tuple[TokenBytes, TokenBytes]:
    """The bytes of every id, of the base and of the extended one."""
    return build_token_bytes(BASES[name]()), build_token_bytes(extended(name).tokenizer)


def expand(name: str, new_ids: list[int], text: str) -> list[int]:
    """The new ids of a text with every new token replaced by as many old ones as spell its bytes."""
    old, made = ids(BASES[name](), text), extended(name)
    before, after = tables(name)
    found: list[int] = []
    for index in new_ids:
        if index < made.first_id:
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
    before, after = base.get_vocab(), made.tokenizer.get_vocab()
    assert before.items() <= after.items()
    assert sorted(after.values()) == list(range(len(after)))
    assert made.first_id == len(before) == len(after) - made.size
    assert made.tokenizer.all_special_tokens == base.all_special_tokens
    assert made.tokenizer.eos_token_id == base.eos_token_id
    assert made.size == 200


@pytest.mark.parametrize("name", BASES)
def test_new_tokens_are_old_ones_joined(name: str) -> None:
    """Of any text: replace the new tokens by the old ones they spell, and it is what the base makes of it."""
    for text in TEXTS:
        assert expand(name, ids(extended(name).tokenizer, text), text) == ids(BASES[name](), text)


@pytest.mark.parametrize("name", ["gpt2-korean", "llama3", "llama2-korean", "gemma"])
def test_new_tokens_are_old_ones_joined_anywhere(name: str) -> None:
    """Also of text that no one would write."""
    draw = random.Random(0)
    for _ in range(60):
        text = "".join(draw.choices("사람은모든 권리자유가a e는\n이다🙂中ㄱ한국의th", k=draw.randrange(1, 40)))
        assert expand(name, ids(extended(name).tokenizer, text), text) == ids(BASES[name](), text)


@pytest.mark.parametrize("name", BASES)
def test_every_text_decodes_to_what_it_did(name: str) -> None:
    """Korean, English, emoji, NFD, white space; a byte-level base gives back the text itself."""
    base, made = BASES[name](), extended(name).tokenizer
    for text in TEXTS:
        decoded = made.decode(ids(made, text), clean_up_tokenization_spaces=False)
        assert decoded == base.decode(ids(base, text), clean_up_tokenization_spaces=False)
        if name in ("gpt2", "gpt2-korean", "llama3", "gemma"):
            assert decoded == text


@pytest.mark.parametrize("name", BASES)
def test_english_is_left_alone(name: str) -> None:
    """A text without Hangul has the ids that it had."""
    for text in english():
        assert ids(extended(name).tokenizer, text) == ids(BASES[name](), text)


@pytest.mark.parametrize("name", BASES)
def test_korean_takes_fewer_tokens(name: str) -> None:
    """Fewer tokens per character and more bytes per token."""
    before, after = measure_fertility(korean(), BASES[name](), extended(name).tokenizer)
    assert (before.characters, before.bytes) == (after.characters, after.bytes)
    assert after.tokens_per_character < 0.9 * before.tokens_per_character
    assert after.bytes_per_token > before.bytes_per_token
    assert after.bytes == sum(len(text.encode()) for text in korean())
    assert after.tokens == sum(len(ids(extended(name).tokenizer, text)) for text in korean())


@pytest.mark.parametrize("name", BASES)
def test_new_tokens_are_hangul(name: str) -> None:
    """With a space in front or not; a byte-level one may end inside a character, and begins with a whole one."""
    made = extended(name)
    _, table = tables(name)
    for index in range(made.first_id, made.first_id + made.size):
        text = table.pieces[index].decode("utf-8", "ignore").lstrip(" ")
        assert all("HANGUL" in unicodedata.name(character) for character in text)
        assert not 0x80 <= table.pieces[index].lstrip(b" ")[0] < 0xC0


@pytest.mark.parametrize("name", ["gpt2", "llama2-korean"])
def test_every_new_token_is_used_or_needed(name: str) -> None:
    """A token that is written less often than asked for is there only because another is built from it."""
    made = extended(name)
    assert len(made.counts) == made.size
    assert made.steps == sum(count < SETTINGS.min_count for count in made.counts)
    layout = made.tokenizer.backend_tokenizer.to_str()
    parts = {part for pair in json.loads(layout)["model"]["merges"] for part in pair}
    for index, count in enumerate(made.counts, start=made.first_id):
        assert count >= SETTINGS.min_count or made.tokenizer.convert_ids_to_tokens(index) in parts


def test_counts_are_those_of_the_corpus() -> None:
    """How often a token comes in the encoded corpus."""
    made = extended("gemma")
    found = [0] * len(made.tokenizer)
    for text in korean():
        for index in ids(made.tokenizer, text):
            found[index] += 1
    assert tuple(found[made.first_id :]) == made.counts


def test_a_large_least_count_gives_few_tokens() -> None:
    """Fewer than asked for, each frequent; with one that nothing reaches there is none, and nothing is changed."""
    few = extend_tokenizer(sentencepiece(), korean(), ExtensionSettings(size=5000, min_count=20))
    assert 0 < few.size < 1000
    assert few.steps < few.size
    none = extend_tokenizer(sentencepiece(), korean(), ExtensionSettings(size=5000, min_count=10**6))
    assert (none.size, none.steps) == (0, 0)
    assert none.tokenizer.get_vocab() == sentencepiece().get_vocab()


def test_letters_of_every_script() -> None:
    """Without the limit to Hangul, English is learnt too."""
    settings = ExtensionSettings(size=100, min_count=2, only_hangul=False)
    made = extend_tokenizer(byte_level(korean_texts=20), ["xylophone xylophone xylophone"] * 9, settings)
    assert len(ids(made.tokenizer, " xylophone")) == 1
    assert len(ids(made.tokenizer, "사람")) == len(ids(byte_level(korean_texts=20), "사람"))


def test_the_base_is_left_as_it_was() -> None:
    """A second extension of the same base gives the same tokenizer."""
    base = byte_level()
    before = base.backend_tokenizer.to_str()
    first, second = (extend_tokenizer(base, korean(), SETTINGS) for _ in range(2))
    assert base.backend_tokenizer.to_str() == before
    assert first.tokenizer.backend_tokenizer.to_str() == second.tokenizer.backend_tokenizer.to_str()
    assert first.counts == second.counts


def test_few_words_in_memory() -> None:
    """With room for fewer words than there are the frequent ones are still learnt."""
    made = extend_tokenizer(byte_level(), korean(), ExtensionSettings(size=50, min_count=3, max_words=500))
    before, after = measure_fertility(korean(), byte_level(), made.tokenizer)
    assert made.size == 50
    assert after.tokens < 0.8 * before.tokens


@pytest.mark.parametrize("name", BASES)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    """It is the same when it comes back from disk, by its class and by AutoTokenizer."""
    made = extended(name).tokenizer
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
    made = extend_tokenizer(base, korean(), SETTINGS)
    made.tokenizer.save_pretrained(tmp_path / "new")
    loaded = type(base).from_pretrained(tmp_path / "new")
    assert type(made.tokenizer) is type(base)
    assert not list((tmp_path / "new").glob("*.model"))
    assert made.size == 200
    assert len(loaded) == len(base) + 200
    for text in TEXTS:
        assert ids(loaded, text) == ids(made.tokenizer, text)
        assert base.decode(ids(base, text)) == made.tokenizer.decode(ids(made.tokenizer, text))


def test_a_token_added_later_gets_a_free_id() -> None:
    """Also where the base's special tokens were outside the model."""
    made = extend_tokenizer(byte_level(korean_texts=20, like="llama3"), korean(), SETTINGS).tokenizer
    size = len(made)
    made.add_tokens([AddedToken("<|extra|>", special=True)])
    assert made.convert_tokens_to_ids("<|extra|>") == size
    assert len(made) == size + 1


@pytest.mark.parametrize("name", BASES)
def test_old_pieces(name: str) -> None:
    """What every new token was before: the old ids that spell it."""
    base, made = BASES[name](), extended(name)
    pieces = old_pieces(base, made.tokenizer)
    before, after = tables(name)
    assert list(pieces) == list(range(made.first_id, len(made.tokenizer)))
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
            extend_tokenizer(tokenizer, korean(), SETTINGS)


@pytest.mark.parametrize("name", ["size", "min_count", "max_words"])
def test_wrong_settings(name: str) -> None:
    """Nothing below 1."""
    with pytest.raises(ConfigurationError, match=f"{name}: found 0, expected 1 or more"):
        ExtensionSettings(**{"size": 1, "min_count": 1, name: 0})
