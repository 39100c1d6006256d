"""What a text spells never becomes a control token, whatever the tokenizer is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers
from tiny import english, korean
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from training.small_tokenizer import BASES, byte_level, wrap

from ko_cpt_callbacks.training.data.encode import control_ids, encode_texts

pytestmark = pytest.mark.both_versions

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
TEXTS = ("A model ends </s> here.", "</s>", "a</s>b</s></s>", "<s>모델은</s> 끝", "<pad><s>")
PLAIN = ("Nothing odd: a < b > c / s.", "가나다 <라> 마", "")


def _unigram() -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=2000, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*english(), *korean()], trainer)
    return wrap(tokenizer, unk_token="<unk>")


def _words() -> Any:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator([*english(), *korean()], trainer)
    return wrap(tokenizer, unk_token="<unk>")


def _not_marked() -> Any:
    """The file does not say that its tokens are special; the tokenizer's settings name them."""
    layout = json.loads(byte_level()._tokenizer.to_str())
    for token in layout["added_tokens"]:
        token["special"] = False
    return wrap(Tokenizer.from_str(json.dumps(layout)))


def _extra() -> Any:
    """A special token that is neither begin nor end nor pad, as chat models have."""
    tokenizer = wrap(Tokenizer.from_str(byte_level()._tokenizer.to_str()))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<s>모델"]})
    return tokenizer


FAST: dict[str, Callable[[], Any]] = {
    **BASES,
    "unigram": _unigram,
    "words": _words,
    "not marked as special": _not_marked,
    "one more": _extra,
}


def _checked(tokenizer: Any) -> list[list[int]]:
    control = control_ids(tokenizer)
    assert tokenizer.eos_token_id in control
    assert tokenizer.unk_token_id not in control
    encoded = encode_texts(tokenizer, TEXTS)
    for text, ids in zip(TEXTS, encoded, strict=True):
        assert ids, text
        assert control.isdisjoint(ids), (text, tokenizer.convert_ids_to_tokens(ids))
    return encoded


@pytest.mark.parametrize("name", FAST)
def test_fast_tokenizers(name: str) -> None:
    """No control token in any text; texts that spell none are encoded as ever; alone and together alike."""
    tokenizer = FAST[name]()
    encoded = _checked(tokenizer)
    assert encode_texts(tokenizer, PLAIN) == tokenizer(list(PLAIN), add_special_tokens=False)["input_ids"]
    assert [encode_texts(tokenizer, [text])[0] for text in TEXTS] == encoded
    assert encode_texts(tokenizer, []) == []


@pytest.mark.parametrize("name", [name for name in BASES if name not in ("llama", "llama2-korean", "gemma")])
def test_every_letter_comes_back(name: str) -> None:
    """A byte-level tokenizer gives the text back, the letters of a control token among them."""
    tokenizer = BASES[name]()
    for text, ids in zip(TEXTS, encode_texts(tokenizer, TEXTS), strict=True):
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip() == text


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Real SentencePiece models of both kinds."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("\n".join([*english(), *korean()]), "utf-8")
    for kind in ("bpe", "unigram"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text.txt"), model_prefix=str(folder / kind), vocab_size=1500, model_type=kind,
            byte_fallback=True, hard_vocab_limit=False, minloglevel=3,
        )  # fmt: skip
    return {kind: folder / f"{kind}.model" for kind in ("bpe", "unigram")}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("name", ["LlamaTokenizer", "T5Tokenizer", "XGLMTokenizer", "GPTSw3Tokenizer"])
def test_sentencepiece_tokenizers(name: str, kind: str, pieces: dict[str, Path]) -> None:
    """transformers' own classes on a SentencePiece model: in Python in 4.57. What they were set to stays as it was."""
    tokenizer = getattr(transformers, name)(vocab_file=str(pieces[kind]))
    if len(tokenizer) < len(SPECIAL) + 100:
        pytest.skip("this version makes it of other files")
    before = getattr(tokenizer, "split_special_tokens", None)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    _checked(tokenizer)
    assert getattr(tokenizer, "split_special_tokens", None) == before


def test_a_token_of_one_letter(tmp_path: Path) -> None:
    """It cannot be cut: it is left out of the text, and what is around it stays."""
    tokenizer = wrap(Tokenizer.from_str(byte_level()._tokenizer.to_str()))
    layout = json.loads(tokenizer._tokenizer.to_str())
    layout["added_tokens"].append(
        {"id": tokenizer.get_vocab()["§"] if "§" in tokenizer.get_vocab() else len(tokenizer), "content": "§",
         "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    )  # fmt: skip
    tokenizer = wrap(Tokenizer.from_str(json.dumps(layout)), mask_token="§")
    (ids,) = encode_texts(tokenizer, ["a§b"])
    assert tokenizer.decode(ids) == "ab"
