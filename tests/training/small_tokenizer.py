"""Small base tokenizers of both kinds, trained on English and a little Korean of the bundled texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tiny import SPECIAL, english, korean
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_FALLBACK = [f"<0x{byte:02X}>" for byte in range(256)]
# As Llama 3 cuts: a letter run takes one character that is no letter in front of it along.
_WORDS = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
_Wrapper: Any = PreTrainedTokenizerFast


def wrap(tokenizer: Tokenizer, **settings: Any) -> Any:
    """As transformers has it."""
    return _Wrapper(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", **settings)


@lru_cache
def byte_level(*, korean_texts: int = 0, like: str = "gpt2") -> Any:
    """Byte-level BPE.

    ``like``: ``gpt2``; ``qwen`` (NFC first); ``llama3`` (whole words before merges, special tokens outside the
    model); ``roberta`` (a space in front of every text).
    """
    tokenizer = Tokenizer(models.BPE())
    step = pre_tokenizers.ByteLevel(add_prefix_space=like == "roberta", use_regex=like in ("gpt2", "roberta"))
    if like in ("gpt2", "roberta"):
        tokenizer.pre_tokenizer = step
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(_WORDS, "isolated"), step])
    if like == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    outside = like == "llama3"
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=[] if outside else SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*english(), *korean()[:korean_texts]], trainer)
    if outside:
        tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
        layout = json.loads(tokenizer.to_str())
        layout["model"]["ignore_merges"] = True
        tokenizer = Tokenizer.from_str(json.dumps(layout))
    return wrap(tokenizer, add_prefix_space=like == "roberta")


@lru_cache
def sentencepiece(*, korean_texts: int = 0, like: str = "llama") -> Any:
    """BPE of characters with byte fallback.

    ``like``: ``llama`` (a Metaspace step), ``llama2`` (▁ by a normalizer, in front too), ``gemma`` (without).
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if like == "llama":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    else:
        prepend = [normalizers.Prepend("▁")] if like == "llama2" else []
        tokenizer.normalizer = normalizers.Sequence([*prepend, normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence(back if like == "gemma" else [*back, decoders.Strip(" ", 1, 0)])
    special = ["<unk>", *SPECIAL, *_FALLBACK]
    trainer = trainers.BpeTrainer(vocab_size=1300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*english(), *korean()[:korean_texts]], trainer)
    layout = json.loads(tokenizer.to_str())
    # The trainer lists the byte tokens among the added ones; in a real vocabulary they are ordinary.
    layout["added_tokens"] = [token for token in layout["added_tokens"] if token["content"] not in _FALLBACK]
    if like == "llama2":
        layout["pre_tokenizer"] = None  # as in the real one: the whole text is one word
    return wrap(Tokenizer.from_str(json.dumps(layout)), unk_token="<unk>")


BASES: dict[str, Callable[[], Any]] = {
    "gpt2": byte_level,
    "gpt2-korean": lambda: byte_level(korean_texts=20),
    "qwen": lambda: byte_level(korean_texts=20, like="qwen"),
    "llama3": lambda: byte_level(korean_texts=20, like="llama3"),
    "roberta": lambda: byte_level(like="roberta"),
    "llama": sentencepiece,
    "llama2-korean": lambda: sentencepiece(korean_texts=20, like="llama2"),
    "gemma": lambda: sentencepiece(like="gemma"),
}
