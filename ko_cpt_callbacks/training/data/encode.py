"""Texts as token ids, nothing added and nothing read as a command."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar


class Document(NamedTuple):
    """A text that stands for itself.

    Attributes:
        id: The source's name and the document's place in it, from 0: ``ko/17``. Blank ones have a place too.
        text: What it says.
        size: UTF-8 bytes of the text.
        prompt: What stands before it and is not learned; empty for ordinary text.
        file: The file that it stands in, with its folder's name; empty where it is of the hub.
        number: How many documents of its part the source gave before it, in one pass.
    """

    id: str
    text: str
    size: int
    prompt: str = ""
    file: str = ""
    number: int = 0


# Texts encoded at once: enough for the tokenizer's threads, few enough to hold. Chosen, not measured.
_BATCH: Final = 256
# Where a text is cut: no text of a file holds half of a surrogate pair.
_CUT: Final = "\udcff"

T = TypeVar("T")


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of some texts, without begin and end tokens.

    A text that spells a control token (``</s>`` in a page about language models) is encoded as the letters that it
    is: read as the token, it would end a document that goes on. Most tokenizers have a switch. Where the model itself
    knows the token as a piece (Unigram, WordLevel), or the token is not marked as special, the text is cut inside its
    letters and the parts are encoded one by one.
    """
    if not texts:
        return []
    encoded = _encoded(tokenizer, texts)
    control = control_ids(tokenizer)
    spelled: re.Pattern[str] | None = None
    for place, ids in enumerate(encoded):
        if not control.isdisjoint(ids):
            spelled = spelled or _spelled(tokenizer, control)
            parts = _encoded(tokenizer, spelled.sub(rf"\1{_CUT}", texts[place]).split(_CUT))
            # A token of one letter, or one that a normalizer makes of other letters, cannot be cut: it is left out.
            encoded[place] = [id for part in parts for id in part if id not in control]
    return encoded


def control_ids(tokenizer: Any) -> frozenset[int]:
    """The ids that a text must never become: special tokens but the unknown one, however they were made known."""
    added = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset({*tokenizer.all_special_ids, *added} - {tokenizer.unk_token_id})


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    # Slow tokenizers of transformers 4.57 do not pass the argument on: they look at themselves.
    before = getattr(tokenizer, "split_special_tokens", None)
    try:
        tokenizer.split_special_tokens = True
        encoded = tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # a document longer than the model's context is no mistake here
        )
    finally:
        if before is not None:
            tokenizer.split_special_tokens = before
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def _spelled(tokenizer: Any, control: frozenset[int]) -> re.Pattern[str]:
    """What finds the first letter of a control token in a text, longer tokens first."""
    words = sorted(tokenizer.convert_ids_to_tokens(sorted(control)), key=len, reverse=True)
    either = "|".join(f"{re.escape(word[0])}(?={re.escape(word[1:])})" for word in words if len(word) > 1)
    return re.compile(f"({either})" if either else "($.)")


def batches(items: Iterable[T], size: int = _BATCH) -> Iterator[list[T]]:
    """Items in lists of ``size``; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def cut(
    items: Iterable[T], length: Callable[[T], int], longest: int, count: int = sys.maxsize, growing_to: int = 0
) -> Iterator[list[T]]:
    """Items in lists of so many, or fewer that are so long together; one alone may be of any length.

    Args:
        items: In order.
        length: Of an item.
        longest: Sum of the lengths in the first list.
        count: Items of the first list.
        growing_to: Up to that sum each list is twice as large as the one before; 0: all are as large as the first.
    """
    batch: list[T] = []
    size = 0
    for item in items:
        own = length(item)
        if batch and (len(batch) == count or size + own > longest):
            yield batch
            batch, size = [], 0
            if 2 * longest <= growing_to:
                longest, count = 2 * longest, 2 * count
        batch.append(item)
        size += own
    if batch:
        yield batch
