"""Texts as token ids, nothing added and nothing read as a command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

# Texts encoded at once: enough for the tokenizer's threads, few enough to hold. Chosen, not measured.
_BATCH: Final = 256

T = TypeVar("T")


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of some texts, without begin and end tokens.

    A text that spells a special token (``</s>`` in a page about language models) is encoded as the letters that it
    is: read as the token, it would end a document that goes on.
    """
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # a document longer than the model's context is no mistake here
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def batches(items: Iterable[T], size: int = _BATCH) -> Iterator[list[T]]:
    """Items in lists of ``size``; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
