"""Texts that are encoded word by word have the ids of texts that are encoded whole."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import english, korean
from tokenizers import Tokenizer
from training.small_tokenizer import BASES, byte_level, wrap

from ko_cpt_callbacks.training.data import words as words_module
from ko_cpt_callbacks.training.data.encode import encode_texts
from ko_cpt_callbacks.training.data.words import WordEncoder, lines_are_apart, words_are_apart

pytestmark = pytest.mark.both_versions


def odd_texts() -> list[str]:
    """Every mixture of blanks, scripts, signs and spelled control tokens."""
    draw = random.Random(0)
    letters = [*" \n\t\0가나ab1.'/▁é\u0301🙂漢Z\u3000", "  ", "</s>", "<pad> ", " 한국어"]
    return ["", " ", " a  b", "가 ", *("".join(draw.choices(letters, k=60)) for _ in range(400))]


def changed(tokenizer: Any, **parts: Any) -> Any:
    """The same tokenizer with another description."""
    layout = json.loads(tokenizer.backend_tokenizer.to_str())
    layout["model"].update(parts.pop("model", {}))
    return wrap(Tokenizer.from_str(json.dumps({**layout, **parts})))


def apart(tokenizer: Any) -> bool:
    """What its description says."""
    backend = tokenizer.backend_tokenizer
    return words_are_apart(json.loads(backend.to_str()), backend.pre_tokenizer)


@pytest.mark.parametrize("base", BASES)
def test_ids_are_those_of_the_whole_text(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every kind of tokenizer, on prose and on odd texts, also when the words are forgotten in between."""
    monkeypatch.setattr(words_module, "_TRIED", 0)
    tokenizer = BASES[base]()
    assert apart(tokenizer)
    texts = [*odd_texts(), *korean()[:20], *english()[:5]]
    whole = encode_texts(tokenizer, texts)
    encoder = WordEncoder(tokenizer)
    assert [ids.tolist() for ids in encoder.encode(texts)] == whole
    monkeypatch.setattr(words_module, "_KEPT", 50)
    parts = [ids.tolist() for place in range(0, len(texts), 9) for ids in encoder.encode(texts[place : place + 9])]
    assert parts == whole


def test_a_line_is_apart_from_the_next_where_the_pattern_cuts_there() -> None:
    """Not where a space is put in front of a text, nor where a pattern takes what follows the end of a line along."""

    def lines(tokenizer: Any) -> bool:
        backend = tokenizer.backend_tokenizer
        return lines_are_apart(json.loads(backend.to_str()), backend.pre_tokenizer)

    cut = {name for name, base in BASES.items() if lines(base())}
    assert {"gpt2", "qwen", "llama3"} <= cut
    assert cut.isdisjoint({"roberta", "llama", "llama2", "gemma"})
    signs = {"Regex": r"[^\s\p{L}]+[\r\n/]*|\p{L}+|\s+"}
    step = json.loads(byte_level().backend_tokenizer.to_str())["pre_tokenizer"] | {"use_regex": False}
    steps = [{"type": "Split", "pattern": signs, "behavior": "Isolated", "invert": False}, step]
    reaching = changed(byte_level(), pre_tokenizer={"type": "Sequence", "pretokenizers": steps})
    assert apart(reaching) and not lines(reaching)
    texts = ["가.\n/나 가.\n나", "가\n나.\n/"] * 3
    assert [ids.tolist() for ids in WordEncoder(reaching).encode(texts)] == encode_texts(reaching, texts)


def test_tokens_that_reach_over_a_space() -> None:
    """A description in which a word is not apart from the next one is not trusted; the ids are the same."""
    gemma = BASES["gemma"]()
    model = json.loads(gemma.backend_tokenizer.to_str())["model"]
    reaching = changed(
        gemma,
        pre_tokenizer=None,
        model={"vocab": {**model["vocab"], "a▁": len(model["vocab"])}, "merges": [["a", "▁"], *model["merges"]]},
    )
    phrase = {"id": 899, "content": "a b", "single_word": False, "lstrip": False, "rstrip": False}
    added = changed(byte_level(), added_tokens=[{**phrase, "normalized": False, "special": False}])
    behind = {"type": "Split", "pattern": {"Regex": r"(?<= )\S+"}, "behavior": "Isolated", "invert": False}
    looking = changed(BASES["llama"](), pre_tokenizer=behind)
    metaspace = json.loads(BASES["llama"]().backend_tokenizer.to_str())["pre_tokenizer"]
    before = changed(BASES["llama"](), pre_tokenizer={"type": "Sequence", "pretokenizers": [behind, metaspace]})
    # No pattern's match, and so of one piece with the space beside it.
    rest = {"type": "Split", "pattern": {"Regex": r"[\p{L}\p{P}\p{S}]+"}, "behavior": "Isolated", "invert": False}
    unmatched = changed(byte_level(), pre_tokenizer=rest)
    for tokenizer in (reaching, added, looking, before, unmatched):
        assert not apart(tokenizer)
        texts = ["a b a a b", "bab a"]
        assert [ids.tolist() for ids in WordEncoder(tokenizer).encode(texts)] == encode_texts(tokenizer, texts)


def test_the_first_texts_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a description says too much, the first texts show it, and texts are encoded whole from there on."""
    monkeypatch.setattr(words_module, "words_are_apart", lambda *_: True)
    behind = {"type": "Split", "pattern": {"Regex": r"(?<=a) "}, "behavior": "MergedWithPrevious", "invert": False}
    tokenizer = changed(byte_level(), pre_tokenizer={"type": "Sequence", "pretokenizers": [behind]})
    merged = [" ", "a b"]
    encoder = WordEncoder(tokenizer)
    for _ in range(2):
        assert [ids.tolist() for ids in encoder.encode(merged)] == encode_texts(tokenizer, merged)


def test_a_mark_on_each_side_of_an_added_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one is put in front of all that stands between added tokens, a space before such a token has two."""
    monkeypatch.setattr(words_module, "_TRIED", 0)
    base = BASES["llama2-korean"]()
    layout = json.loads(base.backend_tokenizer.to_str())
    token = {"id": len(layout["model"]["vocab"]), "content": "<|n|>", "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": False}  # fmt: skip
    tokenizer = changed(base, added_tokens=[*layout["added_tokens"], token])
    texts = ["가 <|n|>나", "<|n|> 나", "가 나"]
    assert [ids.tolist() for ids in WordEncoder(tokenizer).encode(texts)] == encode_texts(tokenizer, texts)


@pytest.mark.parametrize("special", [False, True])
def test_the_number_of_the_cut_is_its_own(monkeypatch: pytest.MonkeyPatch, special: bool) -> None:
    """A token of a vocabulary whose numbers have gaps is not taken for it, nor a control token that is spelled so."""
    monkeypatch.setattr(words_module, "_TRIED", 0)
    layout = json.loads(byte_level().backend_tokenizer.to_str())
    vocab = layout["model"]["vocab"]
    if special:
        nul = {**layout["added_tokens"][0], "id": len(vocab), "content": "\0"}
        tokenizer = changed(byte_level(), added_tokens=[*layout["added_tokens"], nul])
    else:
        tokenizer = changed(byte_level(), model={"vocab": {**vocab, "a": len(vocab) + 1, "b": len(vocab)}})
    texts = ["abba baba", "가나 ba", "a\0b b"]
    assert [ids.tolist() for ids in WordEncoder(tokenizer).encode(texts)] == encode_texts(tokenizer, texts)


def test_the_tokenizer_is_left_as_it_is() -> None:
    """Its truncation counts neither here, nor is it changed."""
    tokenizer = wrap(Tokenizer.from_str(byte_level().backend_tokenizer.to_str()))
    tokenizer("가나다", truncation=True, max_length=2)
    before = tokenizer.backend_tokenizer.to_str()
    (ids,) = WordEncoder(tokenizer).encode(["가나다 라마바"])
    assert len(ids) > 2
    assert tokenizer.backend_tokenizer.truncation is not None or tokenizer.backend_tokenizer.to_str() != before


_ELSEWHERE = """
import json, pickle, sys
encoder = pickle.load(sys.stdin.buffer)
ids = [item.tolist() for item in encoder.encode(json.loads(sys.argv[1]))]
before = "transformers" in sys.modules
ids += [item.tolist() for item in encoder.encode(["</s> 가"])]
print(json.dumps([ids, before, "transformers" in sys.modules]))
"""


def test_another_process_needs_no_transformers() -> None:
    """Of what was tried before; a text that spells a control token is encoded by transformers there too."""
    texts, tokenizer = korean()[:80], byte_level()
    encoder = WordEncoder(tokenizer)
    encoder.prepare(texts)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, json.dumps(texts)],
        input=pickle.dumps(encoder),
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == [encode_texts(tokenizer, [*texts, "</s> 가"]), False, True]


def test_what_is_tried_here_counts_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first texts show that words are not apart, a process that is given the encoder knows it."""
    monkeypatch.setattr(words_module, "words_are_apart", lambda *_: True)
    behind = {"type": "Split", "pattern": {"Regex": r"(?<=a) "}, "behavior": "MergedWithPrevious", "invert": False}
    tokenizer = changed(byte_level(), pre_tokenizer={"type": "Sequence", "pretokenizers": [behind]})
    encoder = WordEncoder(tokenizer)
    encoder.prepare(["a b", "a b a"])
    other = pickle.loads(pickle.dumps(encoder))
    monkeypatch.setattr(words_module, "_TRIED", 0)
    assert [ids.tolist() for ids in other.encode(["b a b"])] == encode_texts(tokenizer, ["b a b"])
