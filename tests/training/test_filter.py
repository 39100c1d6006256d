"""Documents are dropped for a stated reason, and every dropped byte is counted."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from tiny import byte_level_tokenizer, english, korean, llama, row_losses

from ko_cpt_callbacks.recipe.schema import PerplexityBand as Band
from ko_cpt_callbacks.training.data import filters, sketch
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import (
    Filter,
    FilterReport,
    HangulShare,
    PerplexityBand,
    keep_documents,
)
from ko_cpt_callbacks.training.data.repetition import RepeatedNgrams

pytestmark = pytest.mark.both_versions


def documents(*texts: str) -> list[Document]:
    """With their place as the id."""
    return [Document(f"x/{place}", text, len(text.encode())) for place, text in enumerate(texts)]


class Shorter:
    """Drops texts above a length, and remembers what it was asked."""

    name = "shorter"

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen: list[str] = []

    def settings(self) -> dict[str, Any]:
        """Its only number."""
        return {"most": self.most}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """By length alone."""
        self.seen += texts
        return [f"{len(text)} long" if len(text) > self.most else None for text in texts]


def test_what_is_dropped_is_counted() -> None:
    """Documents, bytes and examples of every filter; a dropped document is not shown to the next filter."""
    judges = Shorter(4), HangulShare(0.5)
    reports = [FilterReport(part.name) for part in judges]
    kept = list(keep_documents(documents("가나다", "abc", "가나다라마", "가"), judges, reports))
    assert [document.text for document in kept] == ["가나다", "가"]
    shorter, hangul = reports
    assert (shorter.documents, shorter.bytes) == (4, 9 + 3 + 15 + 3)
    assert (shorter.dropped_documents, shorter.dropped_bytes) == (1, 15)
    assert [(example.id, example.reason, example.text) for example in shorter.examples] == [
        ("x/2", "5 long", "가나다라마")
    ]
    assert (hangul.documents, hangul.bytes, hangul.dropped_documents, hangul.dropped_bytes) == (3, 15, 1, 3)
    assert [example.reason for example in hangul.examples] == ["0.0% Hangul"]


def test_examples_are_few_and_short() -> None:
    """The first five, each cut to 120 characters."""
    report = FilterReport("shorter")
    assert not list(keep_documents(documents(*("x" * 500 for _ in range(9))), [Shorter(4)], [report]))
    assert report.dropped_documents == 9
    assert [example.id for example in report.examples] == ["x/0", "x/1", "x/2", "x/3", "x/4"]
    assert {len(example.text) for example in report.examples} == {120}


def test_it_is_a_stream() -> None:
    """A few documents are read ahead, never all."""
    read = 0

    def endless() -> Iterator[Document]:
        nonlocal read
        while True:
            read += 1
            yield Document(str(read), "가", 3)

    stream = keep_documents(endless(), [HangulShare(0.5)], [FilterReport("hangul-share")])
    assert [next(stream).id for _ in range(600)] == [str(place) for place in range(1, 601)]
    assert read < 1200
    assert [kept.id for kept in keep_documents(iter(documents("a", "b")), [], [])] == ["x/0", "x/1"]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("가나ab", 0.5),
        ("가 1234 !?\n나ㄱᄀ", 1.0),
        ("abcd漢", 0.0),
        ("가漢a", 1 / 3),
    ],
)
def test_hangul_share(text: str, share: float) -> None:
    """Of the letters: digits, punctuation and white space count on neither side, jamo are Hangul."""
    assert HangulShare(share).judge([text]) == [None]
    if share < 1:
        assert HangulShare(share + 0.01).judge([text]) == [f"{share:.1%} Hangul"]


def test_no_letters_no_share() -> None:
    """A document without a letter is dropped, whatever the share."""
    assert HangulShare(0.0).judge(["123 !", ""]) == ["no letters", "no letters"]


def test_bundled_texts_by_hangul_share() -> None:
    """Korean is kept and English is not."""
    assert set(HangulShare(0.5).judge(korean())) == {None}
    assert None not in HangulShare(0.5).judge(english())


def repeated(text: str, **settings: Any) -> str | None:
    """Judged with no rule but those given."""
    return RepeatedNgrams(**{"top": {}, "duplicate": {}, **settings}).judge([text])[0]


def test_top_ngram_by_hand() -> None:
    """aa bb | aa bb | cc: the 2-gram "aa bb" holds 8 of 10 characters."""
    assert repeated("aa bb  aa\nbb cc", top={2: 0.79}) == "80.0% in one 2-gram"
    assert repeated("aa bb aa bb cc", top={2: 0.8}) is None
    # Overlapping places count once: a a a holds three characters, not four.
    assert repeated("a a a b c d", top={2: 0.49}) == "50.0% in one 2-gram"
    # Two n-grams are equally frequent: the longer one counts.
    assert repeated("a b x a b longer words y longer words", top={2: 0.6}) == "78.6% in one 2-gram"


def test_an_ngram_that_comes_once_repeats_nothing() -> None:
    """A text of two words is not all repetition."""
    assert repeated("하나 둘", top={1: 0.0, 2: 0.0, 3: 0.0}, duplicate={1: 0.0, 2: 0.0}) is None
    assert repeated("", top={2: 0.0}, duplicate={5: 0.0}) is None


def test_duplicate_ngrams_by_hand() -> None:
    """Every place of an n-gram that comes twice counts, the first one too, and no character counts twice."""
    text = "a b c d x a b c d"
    assert repeated(text, duplicate={3: 0.88}) == "88.9% in repeated 3-grams"
    assert repeated(text, duplicate={3: 0.89}) is None
    assert repeated(text, duplicate={4: 0.88}) == "88.9% in repeated 4-grams"
    assert repeated(text, duplicate={5: 0.0}) is None


def test_a_nul_is_a_character() -> None:
    """A word with one is another word: texts of the hub may have them."""
    assert repeated("a b\0 a\0 b", top={2: 0.0}) is None


def test_characters() -> None:
    """The same with characters; white space is left out."""
    assert repeated("가나 다가나 다라", unit="character", duplicate={3: 0.85}) == "85.7% in repeated 3-grams"
    assert repeated("가나 다가나 다라", unit="word", duplicate={2: 0.0}) is None


def test_ngrams_as_counted_plainly() -> None:
    """The arrays give what sets of word tuples give."""
    words = ["한", "둘", "셋", "한", "둘", "넷", "셋", "한", "둘", "셋", "다섯", "한", "한", "한"]
    for size in range(1, 6):
        grams = [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]
        inside = {
            place + step for place, gram in enumerate(grams) if grams.count(gram) > 1 for step in range(size)
        }
        share = sum(len(words[place]) for place in inside) / sum(map(len, words))
        wanted = f"{share:.1%} in repeated {size}-grams" if share else None
        assert repeated(" ".join(words), duplicate={size: 0.0}) == wanted


def test_documents_are_judged_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands beside it, and however many are judged at once."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(["a", "bb", "ccc", "d"], k=draw.randrange(30))) for _ in range(200)]
    judge = RepeatedNgrams(top={1: 0.4, 2: 0.3}, duplicate={3: 0.5, 5: 0.2})
    alone = [judge.judge([text])[0] for text in texts]
    assert judge.judge(texts) == alone
    assert {reason.split(" in ")[1] for reason in alone if reason} > {"one 1-gram", "repeated 3-grams"}
    monkeypatch.setattr(sketch, "TOGETHER", 40)
    assert judge.judge(texts) == alone


def test_gophers_numbers() -> None:
    """The defaults are table A1's; ordinary prose passes them, a looping text does not."""
    default = RepeatedNgrams()
    assert dict(default.top) == {2: 0.20, 3: 0.18, 4: 0.16}
    assert dict(default.duplicate) == {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
    assert default.judge([english()[0]]) == [None]
    assert default.judge(["이 글은 같은 말을 되풀이한다. " * 20]) != [None]


def band(low: float, high: float, **settings: Any) -> PerplexityBand:
    """With a tiny model."""
    tokenizer = byte_level_tokenizer()
    found = PerplexityBand(Band(model="tiny", low=low, high=high, **settings), "cpu")
    found.model_and_tokenizer = llama(len(tokenizer)).eval(), tokenizer
    return found


def test_perplexity_is_that_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """exp of the mean loss after a begin token, the same for every batch size, up to the longest prefix."""
    texts = [*korean()[:4], "가", "a"]
    tokenizer = byte_level_tokenizer()
    rows = [{"input_ids": [0, *tokenizer(text)["input_ids"]][:60]} for text in texts]
    sums, counts = row_losses(llama(len(tokenizer)), rows)
    for batch_size in (1, 4):
        monkeypatch.setattr(filters, "_MEASURED", batch_size)
        found = band(1, 2, max_tokens=60).measure(texts)
        torch.testing.assert_close(torch.tensor(found).double(), (sums / counts).exp(), rtol=1e-4, atol=0)


def test_perplexity_band() -> None:
    """Kept inside, ends included; dropped outside with the number."""
    texts = korean()[:6]
    values = band(0, 1e9).measure(texts)
    inside = sorted(values)[1:-1]
    reasons = band(min(inside), max(inside)).judge(texts)
    assert [reason is None for reason in reasons] == [value in inside for value in values]
    assert f"perplexity {max(values):.3g}" in reasons


def test_no_perplexity_of_nothing() -> None:
    """A text without a token to predict is kept; what a broken model says is dropped."""
    assert math.isnan(band(1, 2).measure([""])[0])
    assert band(1, 2).judge([""]) == [None]
    broken = band(1, 2)
    with torch.no_grad():
        broken.model_and_tokenizer[0].get_output_embeddings().weight.fill_(math.nan)
    assert broken.judge(["가나다"]) == ["perplexity inf"]


def test_settings_name_what_decides() -> None:
    """They are JSON, and differ where the judgement does."""
    every: list[Filter] = [
        HangulShare(0.5),
        HangulShare(0.6),
        RepeatedNgrams(),
        RepeatedNgrams(unit="character"),
        RepeatedNgrams(top={}),
        band(1, 2),
        band(1, 3),
    ]
    assert len({f"{part.name} {part.settings()}" for part in every}) == len(every)
