"""Texts as token ids, word by word: a word that came before is not encoded again.

A tokenizer spends its time on each place of a word anew; a corpus has few different ones (measured on Korean prose:
8 times the speed of ``encode_batch``, ids equal). That is the same only where no token reaches from a word into the
space behind it. What says so is the tokenizer's own description, see `words_are_apart`, and the first texts that are
encoded, which are encoded both ways; where one of them says no, texts are encoded whole.

``gigatoken`` 0.10 keeps words too, in Rust: three times as fast as this on the same text, ids equal. Of the eight kinds
of tokenizers that are tested here it refuses three, whose pattern it does not know; and encoding is no longer what
takes the time.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ko_cpt_callbacks.training.data.encode import control_ids, encode_texts

Ids = npt.NDArray[np.int32]

# Characters of words that are kept: some hundred megabytes with their ids. Chosen, not measured.
_KEPT: Final = 8_000_000
# Texts that are encoded both ways before words are trusted. Chosen, not measured.
_TRIED: Final = 64
# A space between two characters that are none; it begins with the space, which is looked for fast.
_BOUNDARY: Final = re.compile(r" (?<=\S )(?=\S)")
# Stands in front of the first word of a text, which has no space there: no text has half of a surrogate pair.
_FIRST: Final = "\udcff"
_MARK: Final = "▁"
# A pattern that looks behind, or knows where a text begins and ends, sees what a word alone does not show.
_LOOKS_AROUND: Final = re.compile(r"\(\?<|\(\?!(?!\\S\))|\(\?=|\\[bBAzZGK]|(?<!\[)\^|\$")
# A character of each kind that patterns know, to be tried at both sides of a space.
_KINDS: Final = "가aZé漢1.'(_-…\u0301🙂"


def words_are_apart(layout: Mapping[str, Any], pre_tokenizer: Any) -> bool:
    """Whether no token reaches from a word into the space behind it, whatever the words.

    Args:
        layout: The tokenizer's ``tokenizer.json``.
        pre_tokenizer: The same tokenizer's.
    """
    model = layout["model"]
    if model["type"] != "BPE" or model.get("dropout"):
        return False
    for token in layout["added_tokens"]:
        # It is looked for in the whole text.
        if re.search(r"\s|▁", token["content"]) or token["lstrip"] or token["rstrip"] or token["single_word"]:
            return False
    if not all(
        part["type"] in ("NFC", "NFKC", "NFD", "Prepend") or _is_mark(part) for part in _parts(layout, "normalizer")
    ):
        return False
    steps = _parts(layout, "pre_tokenizer")
    if any(step["type"] == "Metaspace" and step.get("split", True) for step in steps):
        return True
    if not all(map(_cuts_alike, steps)):
        return False
    if pre_tokenizer is not None and all(_cuts(pre_tokenizer, one, other) for one in _KINDS for other in _KINDS):
        return True
    # Not cut there, so merges must not go over: then each side is merged by itself.
    marked = not any(step["type"] == "ByteLevel" for step in steps)
    known = bool(marked and _MARK in model["vocab"] and not model.get("ignore_merges"))
    return known and not any(_goes_over(*_pair(merge)) for merge in model["merges"])


def _parts(layout: Mapping[str, Any], name: str) -> list[Any]:
    step = layout[name]
    if step is None:
        return []
    inner = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}[name]
    return list(step[inner]) if step["type"] == "Sequence" else [step]


def _is_mark(part: Mapping[str, Any]) -> bool:
    return dict(part) == {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}


def _cuts_alike(step: Mapping[str, Any]) -> bool:
    """Whether a pre-tokenizer cuts a word as it cuts it in a text."""
    if step["type"] == "Split":
        pattern = step["pattern"]
        return "Regex" not in pattern or _LOOKS_AROUND.search(pattern["Regex"]) is None
    return str(step["type"]) in ("ByteLevel", "Metaspace", "Digits", "Punctuation")


def _cuts(pre_tokenizer: Any, one: str, other: str) -> bool:
    begins = {begin for _, (begin, _) in pre_tokenizer.pre_tokenize_str(f"{one}{one} {other}{other}")}
    return 2 in begins


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _goes_over(left: str, right: str) -> bool:
    return left[-1] != _MARK and right[0] == _MARK


class WordEncoder:
    """Encodes texts as `encode_texts` does, and keeps the ids of words.

    Args:
        tokenizer: One of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._control = control_ids(tokenizer)
        self._known: dict[str, bytes] = {}
        self._spelled: set[str] = set()
        self._kept = 0
        self._apart, self._space = False, " "
        given = getattr(tokenizer, "backend_tokenizer", None)
        if given is not None:
            # A copy: what calls of transformers set in it (truncation, special tokens) stays as it is.
            self._backend: Any = Tokenizer.from_str(given.to_str())
            self._backend.no_truncation()
            self._backend.no_padding()
            self._backend.encode_special_tokens = True
            layout = json.loads(given.to_str())
            self._apart = words_are_apart(layout, given.pre_tokenizer)
            if any(part["type"] == "Prepend" for part in _parts(layout, "normalizer")):
                self._space = ""  # one is put in front of every text: here it is that of the word
        self._untried = _TRIED

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of some texts, without begin and end tokens."""
        if not self._apart:
            return _arrays(encode_texts(self._tokenizer, texts))
        found = self._by_word(texts)
        if self._untried:
            tried = _arrays(encode_texts(self._tokenizer, texts[: self._untried]))
            self._untried -= len(tried)
            if not all(map(np.array_equal, tried, found)):
                self._apart = False
                return self.encode(texts)
        return found

    def _by_word(self, texts: Sequence[str]) -> list[Ids]:
        # The first word of a text has no space in front: it is another one.
        words = [_words(text) for text in texts]
        self._learn(set(chain.from_iterable(words)))
        whole = (
            [place for place, parts in enumerate(words) if not self._spelled.isdisjoint(parts)] if self._spelled else []
        )
        ids = self._known.__getitem__
        found = [np.frombuffer(b"".join(map(ids, parts)), dtype=np.int32) for parts in words]
        # A text that spells a control token is cut inside it, and so are the other ones that it spells.
        spelled = _arrays(encode_texts(self._tokenizer, [texts[place] for place in whole]))
        for place, item in zip(whole, spelled, strict=True):
            found[place] = item
        return found

    def _learn(self, words: set[str]) -> None:
        if self._kept > _KEPT:
            self._known.clear()
            self._spelled.clear()
            self._kept = 0
        new = sorted(words - self._known.keys())
        self._kept += sum(map(len, new))
        texts = [word[1:] if word[0] == _FIRST else self._space + word for word in new]
        for word, encoded in zip(new, self._backend.encode_batch_fast(texts, add_special_tokens=False), strict=True):
            self._known[word] = array("i", encoded.ids).tobytes()
            if not self._control.isdisjoint(encoded.ids):
                self._spelled.add(word)


def _words(text: str) -> list[str]:
    """What stands between single spaces; `_FIRST` in front of the first."""
    first, *rest = _BOUNDARY.split(text)
    return [_FIRST + first, *rest] if text else []


def _arrays(rows: Iterable[Sequence[int]]) -> list[Ids]:
    return [np.asarray(ids, dtype=np.int32) for ids in rows]
