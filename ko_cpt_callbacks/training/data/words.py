"""Texts as token ids, word by word: a word that came before is not encoded again.

A tokenizer spends its time on each place of a word anew; a corpus has few different ones (measured on Korean prose:
8 times the speed of ``encode_batch``, ids equal). That is the same only where no token reaches from a word into the
space behind it. What says so is the tokenizer's own description, see `words_are_apart`, and the first texts that are
encoded, which are encoded both ways; where one of them says no, texts are encoded whole. Where a line is apart from the
next one too, it is cut there: the last word of a line and the first of the next are seldom the same two again.

``gigatoken`` 0.10 keeps words too, in Rust: three times as fast as this on the same text, ids equal. Of the eight kinds
of tokenizers that are tested here it refuses three, whose pattern it does not know; and encoding is no longer what
takes the time.
"""

from __future__ import annotations

import json
import pickle
import re
import string
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
from tokenizers import AddedToken, Tokenizer

from ko_cpt_callbacks.training.data.encode import batches, control_ids, encode_texts
from ko_cpt_callbacks.training.data.sketch import BLANKS, spans
from ko_cpt_callbacks.training.model.bpe import steps_of

Ids = npt.NDArray[np.int32]

# Characters of words that are kept: a million words. Chosen, not measured.
_KEPT: Final = 4_000_000
# Texts that are encoded both ways before words are trusted. Chosen, not measured.
_TRIED: Final = 64
# Stands in front of a text: no text has such a byte.
_FIRST: Final = b"\xff"
_SPACE, _LINE_END = b" \n"
# Stands behind a word where words are encoded together, and is a token of its own there.
_CUT: Final = "\0"
# White space beyond ASCII, as one number each, and the bytes that it begins with: some letters begin with them too.
_BLANKS: Final = [int.from_bytes(chr(code).encode().ljust(3, b"\0")) for code in BLANKS if code > 127]
_BLANK_LEADS: Final = sorted({code >> 16 for code in _BLANKS})
_PERHAPS: Final = 2
_WHITE: Final = np.zeros(256, dtype=np.uint8)
_WHITE[[*(code for code in BLANKS if code < 128), _FIRST[0]]] = 1
_WHITE[_BLANK_LEADS] = _PERHAPS
_MARK: Final = "▁"
# A pattern that looks behind, or knows where a text begins and ends, sees what a word alone does not show.
_LOOKS_AROUND: Final = re.compile(r"\(\?<|\(\?!(?!\\S\))|\(\?=|\\[bBAzZGK]|(?<!\[)\^|\$")
# A character of each kind that patterns know, to be tried at both sides of a space, and those that some pattern names.
_KINDS: Final = f"가aZé漢1²…\u0301\u200b\x01🙂{string.punctuation}"


def words_are_apart(layout: Mapping[str, Any], pre_tokenizer: Any) -> bool:
    """Whether no token reaches from a word into the space behind it, whatever the words.

    Args:
        layout: The tokenizer's ``tokenizer.json``.
        pre_tokenizer: The same tokenizer's.
    """
    model = layout["model"]
    if model["type"] != "BPE" or model.get("dropout"):
        return False
    steps = steps_of(layout["normalizer"])
    if not all(step["type"] in ("NFC", "NFKC", "NFD", "Prepend") or _is_mark(step) for step in steps):
        return False
    prepends = any(step["type"] == "Prepend" for step in steps)
    for token in layout["added_tokens"]:
        # It is looked for in the whole text.
        if re.search(r"\s|▁", token["content"]) or token["lstrip"] or token["rstrip"] or token["single_word"]:
            return False
        # The space in front of it and the text behind it would each get a mark of their own.
        if prepends and not token["special"] and not token["normalized"]:
            return False
    steps = steps_of(layout["pre_tokenizer"])
    if not all(map(_cuts_alike, steps)):
        return False
    if any(step["type"] == "Metaspace" and step.get("split", True) for step in steps):
        return True
    if _cuts(pre_tokenizer, "", " "):
        return True
    # Not cut there, so merges must not go over: then each side is merged by itself.
    marked = not any(step["type"] == "ByteLevel" for step in steps)
    known = bool(marked and _MARK in model["vocab"] and not model.get("ignore_merges"))
    return known and not any(_goes_over(*_pair(merge)) for merge in model["merges"])


def lines_are_apart(layout: Mapping[str, Any], pre_tokenizer: Any) -> bool:
    """Whether that is so of the single end of a line and the word behind it too, which is as it were a text's first.

    Args:
        layout: The ``tokenizer.json`` of one whose words are apart.
        pre_tokenizer: The same tokenizer's.
    """
    normal = all(part["type"] in ("NFC", "NFD") for part in steps_of(layout["normalizer"]))
    return normal and all(map(_cuts_alike, steps_of(layout["pre_tokenizer"]))) and _cuts(pre_tokenizer, "\n", "")


def _is_mark(part: Mapping[str, Any]) -> bool:
    return dict(part) == {"type": "Replace", "pattern": {"String": " "}, "content": _MARK}


def _cuts_alike(step: Mapping[str, Any]) -> bool:
    """Whether a pre-tokenizer cuts a word as it cuts it in a text."""
    if step["type"] == "Split":
        pattern = step["pattern"]
        return "Regex" not in pattern or _LOOKS_AROUND.search(pattern["Regex"]) is None
    return str(step["type"]) in ("ByteLevel", "Metaspace", "Digits", "Punctuation")


def _cuts(pre_tokenizer: Any, end: str, begin: str) -> bool:
    """Whether a text of two words, with that end of the first and begin of the second, is cut as each by itself is."""
    if pre_tokenizer is None:
        return False
    firsts = {kind: _cut(pre_tokenizer, 2 * kind + end) for kind in _KINDS}
    others = {kind: _cut(pre_tokenizer, begin + 2 * kind) for kind in _KINDS}
    return all(
        _cut(pre_tokenizer, f"{2 * one}{end}{begin}{2 * other}") == firsts[one] + others[other]
        for one in _KINDS
        for other in _KINDS
    )


def _cut(pre_tokenizer: Any, text: str) -> list[str]:
    return [part for part, _ in pre_tokenizer.pre_tokenize_str(text)]


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
        self._packed: bytes | None = None
        self._control = control_ids(tokenizer)
        self._forget()
        self._apart, self._lines, self._space = False, False, " "
        given = getattr(tokenizer, "backend_tokenizer", None)
        if given is not None:
            # A copy: what calls of transformers set in it (truncation, special tokens) stays as it is.
            text = given.to_str()
            self._backend: Any = Tokenizer.from_str(text)
            self._backend.no_truncation()
            self._backend.no_padding()
            self._backend.encode_special_tokens = True
            layout = json.loads(text)
            self._apart = words_are_apart(layout, given.pre_tokenizer)
            self._lines = self._apart and lines_are_apart(layout, given.pre_tokenizer)
            self._backend.add_tokens([AddedToken(_CUT, normalized=False)])
            self._cut = self._backend.token_to_id(_CUT)
            # A vocabulary whose numbers have gaps may have given that number away.
            own = given.id_to_token(self._cut) in (None, _CUT) and self._cut not in self._control
            self._apart = self._apart and own
            if any(part["type"] == "Prepend" for part in steps_of(layout["normalizer"])):
                self._space = ""  # one is put in front of every text: here it is that of the word
        self._untried = _TRIED

    def __getstate__(self) -> dict[str, Any]:
        # The tokenizer as bytes: a process that never needs it does not import transformers, most of a second.
        packed = self._packed or pickle.dumps(self._tokenizer)
        words = ("_known", "_ids", "_ends", "_spelled", "_kept")
        kept = {name: value for name, value in self.__dict__.items() if name not in words}
        return {**kept, "_tokenizer": None, "_packed": packed}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def prepare(self, texts: Sequence[str]) -> None:
        """Try the first texts here, before other processes are given this, so that none of them has to.

        Args:
            texts: The first of a corpus; a single one, which may be of any length, is left to the others.
        """
        if self._packed is None:
            self._packed = pickle.dumps(self._tokenizer)
            if self._apart and len(texts) > 1:
                self.encode(texts[:_TRIED])
                self._untried = 0

    def _forget(self) -> None:
        self._known = pa.array([], pa.binary())  # the place of each is its number
        self._ids = array("i")  # of all known words, one after the other
        self._ends = array("q", [0])
        self._spelled: set[int] = set()
        self._kept = 0

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of some texts, without begin and end tokens."""
        if not texts:
            return []
        if not self._apart:
            return self._whole(texts)
        found = self._by_word(texts)
        if self._untried:
            tried = self._whole(texts[: self._untried])
            self._untried -= len(tried)
            if not all(map(np.array_equal, tried, found)):
                self._apart = False
                return self.encode(texts)
        return found

    def _whole(self, texts: Sequence[str]) -> list[Ids]:
        if self._tokenizer is None and self._packed is not None:
            self._tokenizer = pickle.loads(self._packed)
        return [np.asarray(ids, dtype=np.int32) for ids in encode_texts(self._tokenizer, texts)]

    def _by_word(self, texts: Sequence[str]) -> list[Ids]:
        words, firsts = _words(texts, lines=self._lines)
        if self._kept > _KEPT:
            self._forget()
        # Known words first: they keep their numbers, and new ones get the next. A dict takes twice the time.
        coded = pa.chunked_array([self._known, words]).dictionary_encode().chunks[-1]
        self._learn(coded.dictionary[len(self._known) :].to_pylist())
        self._known = coded.dictionary
        numbers = coded.indices.to_numpy()
        ends = np.frombuffer(self._ends, dtype=np.int64)
        begins, lengths = ends[numbers], ends[numbers + 1] - ends[numbers]
        stops = np.cumsum(lengths)
        ids = np.frombuffer(self._ids, dtype=np.int32)[spans(begins, lengths)]
        found = np.split(ids, stops[firsts[1:] - 1])
        if self._spelled:
            # A text that spells a control token is cut inside it, and so are the other ones that it spells.
            odd = np.flatnonzero(np.isin(numbers, list(self._spelled)))
            whole = np.unique(np.searchsorted(firsts, odd, "right") - 1).tolist()
            spelled = self._whole([texts[place] for place in whole])
            for place, item in zip(whole, spelled, strict=True):
                found[place] = item
        return found

    def _learn(self, words: Sequence[bytes]) -> None:
        """Encode new words, which get the next numbers."""
        first = np.fromiter((word[:1] == _FIRST for word in words), np.bool_, len(words))
        order = np.argsort(first, kind="stable")
        texts = [self._text(words[place]) for place in order.tolist()]
        self._kept += sum(map(len, texts))
        # Together in a third of the time that each by itself takes; but what begins a text begins one here too.
        inner = len(words) - int(first.sum())
        parts = ["".join(part) for part in batches(texts[:inner])] + texts[inner:]
        encoded = self._backend.encode_batch_fast(parts, add_special_tokens=False)
        flat = np.fromiter(chain.from_iterable(part.ids for part in encoded), np.int32)
        stops = np.flatnonzero(flat == self._cut)
        begins = np.append(0, stops + 1)[:-1]
        own = np.argsort(order)
        lengths = (stops - begins)[own]
        flat = flat[spans(begins[own], lengths)]
        stops = np.cumsum(lengths)
        spelled = np.searchsorted(stops, np.flatnonzero(np.isin(flat, list(self._control))), "right").tolist()
        # A word that has a `_CUT` itself stands in a text that is encoded whole, too.
        spelled += [place for place, word in enumerate(words) if b"\0" in word]
        known = len(self._ends) - 1
        self._spelled.update(known + place for place in spelled)
        self._ends.frombytes((stops + self._ends[-1]).tobytes())
        self._ids.frombytes(flat.tobytes())

    def _text(self, word: bytes) -> str:
        text = word.removeprefix(_FIRST).decode().replace(_CUT, "") + _CUT
        return self._space + text[1:] if word[:1] == b" " else text


def _words(texts: Sequence[str], *, lines: bool) -> tuple[Any, npt.NDArray[np.int64]]:
    """The words of some texts, one after the other, and which of them are the first of a text.

    A word begins with a single space between two characters that are none, or is a text's first and begins with
    `_FIRST`: binary, in one buffer.

    Args:
        texts: Of which words are wanted.
        lines: Whether a word also begins behind the end of a line that is no other white space's neighbor.
    """
    data = _FIRST + b"".join([text.encode() + _FIRST for text in texts])
    letters = np.frombuffer(data, dtype=np.uint8)
    white = _WHITE[letters]
    leads = np.flatnonzero(white == _PERHAPS)
    short = letters[leads] == _BLANK_LEADS[0]
    codes = (letters[leads].astype(np.int32) << 16) + (letters[leads + 1].astype(np.int32) << 8)
    blank = np.isin(codes + np.where(short, 0, letters[leads + 2]), _BLANKS)
    white[leads] = blank
    white[(leads + 2 - short)[blank]] = True
    first = letters == _FIRST[0]
    begin = first.copy()
    for letter, behind in ((_SPACE, 0), (_LINE_END, 1)) if lines else ((_SPACE, 0),):
        places = np.flatnonzero(letters == letter)
        begin[places[~(white[places - 1] | white[places + 1]).astype(np.bool_)] + behind] = True
    ends = np.flatnonzero(begin)
    words = pa.BinaryArray.from_buffers(
        pa.binary(), len(ends) - 1, [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data)]
    )
    return words, np.flatnonzero(first[ends])[:-1]
