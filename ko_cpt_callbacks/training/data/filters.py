"""Which documents of a corpus are kept, and a report of what was dropped.

Own code, about a hundred lines in all. ``datatrove`` (Apache-2.0, kept up, few dependencies) was looked at: its
filters are steps of pipelines that read and write files with workers of their own, where here a stream goes on into
the packer; the filter for repeated n-grams wants a word splitter for Korean (a further package), has no n-grams of
characters, and the perplexity filter wants a KenLM model, where the perplexity of a given causal model is wanted.
There is no filter for the share of Hangul. One filter of three would have come from it, so it is not a dependency.

After the repetition rules of MassiveText (Gopher, https://arxiv.org/abs/2112.11446, table A1): of all characters,
the share inside the most frequent n-gram, for small n, and the share inside n-grams that come more than once, for
larger n; characters where such n-grams overlap count once. White space counts on neither side.

Two things the paper leaves open are decided here. An n-gram that comes once is never "the most frequent": otherwise
every text of two words would be all repetition. And every place of an n-gram that comes twice is counted, the first
one too, which is what the words say; ``datatrove`` counts from the second place on, and drops less.

RedWhale and Thunder filter by the perplexity of a model trained on clean Korean; very low is boilerplate, very high
is noise. The band is in perplexity per token of that model's tokenizer, so its numbers hold for that model only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.encode import Document, batches, encode_texts
from ko_cpt_callbacks.training.tokenizer.bpe import HANGUL

Unit = Literal["word", "character"]
Numbers = npt.NDArray[np.int64]


def _gopher_top() -> dict[int, float]:
    return {2: 0.20, 3: 0.18, 4: 0.16}


def _gopher_duplicate() -> dict[int, float]:
    return {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


@dataclass(frozen=True, slots=True)
class RepeatedNgrams:
    """Drops documents in which too much is repeated.

    Attributes:
        unit: What an n-gram is made of: a ``word`` (what white space separates; in Korean an eojeol, with its
            particles) or a ``character``.
        top: For each n, the largest share of characters inside the most frequent n-gram. By default Gopher's.
        duplicate: For each n, the largest share of characters inside n-grams that come more than once. By default
            Gopher's. They are meant for words: with characters, give larger n and shares of your own.
    """

    unit: Unit = "word"
    top: Mapping[int, float] = field(default_factory=_gopher_top)
    duplicate: Mapping[int, float] = field(default_factory=_gopher_duplicate)

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            raise ConfigurationError(f"repeated-ngrams: found the unit {self.unit!r}, expected word or character")
        for size, share in (*self.top.items(), *self.duplicate.items()):
            if size < 1 or not 0 <= share <= 1:
                raise ConfigurationError(
                    f"repeated-ngrams: found {share} for n = {size}, expected n of 1 or more and a share from 0 to 1"
                )

    @property
    def name(self) -> str:
        """In reports."""
        return "repeated-ngrams"

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return {"unit": self.unit, "top": sorted(self.top.items()), "duplicate": sorted(self.duplicate.items())}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        return [self._reason(text) for text in texts]

    def _reason(self, text: str) -> str | None:
        words, lengths = _units(text, self.unit)
        wanted = max((*self.top, *self.duplicate), default=0)
        for size, ngrams in _ngrams(words, wanted):
            counts = np.bincount(ngrams)
            limit = self.top.get(size)
            if limit is not None and counts.max() > 1:
                share = _top_share(ngrams, counts, lengths, size)
                if share > limit:
                    return f"{share:.1%} in one {size}-gram"
            limit = self.duplicate.get(size)
            if limit is not None:
                share = _share(counts[ngrams] > 1, lengths, size)
                if share > limit:
                    return f"{share:.1%} in repeated {size}-grams"
        return None


def _units(text: str, unit: Unit) -> tuple[Numbers, Numbers]:
    """The units of a text as numbers, equal for equal units, and their characters."""
    parts: Sequence[str] = text.split()
    if unit == "character":
        parts = "".join(parts)
    numbers: dict[str, int] = {}
    words = np.fromiter((numbers.setdefault(part, len(numbers)) for part in parts), dtype=np.int64, count=len(parts))
    return words, np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))


def _ngrams(words: Numbers, largest: int) -> Iterator[tuple[int, Numbers]]:
    """For n from 1 on, the number of the n-gram that begins at each place; ends where the text is too short."""
    ngrams = words
    for size in range(1, min(largest, len(words)) + 1):
        if size > 1:
            # A pair of an (n-1)-gram and the next word, both below the length of the text: no two pairs collide.
            pairs = ngrams[:-1] * len(words) + words[size - 1 :]
            ngrams = np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)
        yield size, ngrams


def _top_share(ngrams: Numbers, counts: Numbers, lengths: Numbers, size: int) -> float:
    """The share inside the most frequent n-gram; of equally frequent ones, the one with the largest share."""
    most = np.flatnonzero(counts == counts.max())
    ends = np.concatenate(([0], np.cumsum(lengths)))
    first = np.zeros(len(counts), dtype=np.int64)
    first[ngrams[::-1]] = np.arange(len(ngrams))[::-1]
    long = first[most]
    chosen = most[np.argmax(ends[long + size] - ends[long])]
    return _share(ngrams == chosen, lengths, size)


def _share(starts: npt.NDArray[np.bool_], lengths: Numbers, size: int) -> float:
    """The share of characters inside the n-grams that begin where ``starts`` says so."""
    steps = np.zeros(len(lengths) + 1, dtype=np.int64)
    steps[: len(starts)] += starts
    steps[size : size + len(starts)] -= starts
    inside = np.cumsum(steps)[:-1] > 0
    return float(lengths[inside].sum() / lengths.sum())


# Enough to see what a filter does, few enough to read. Chosen, not measured.
_EXAMPLES: Final = 5
_EXAMPLE_CHARACTERS: Final = 120
_HANGUL: Final = re.compile(f"[{HANGUL}]")
_LETTER: Final = re.compile(r"[^\W\d_]")


class Filter(Protocol):
    """Judges documents, a few at a time and each by itself."""

    @property
    def name(self) -> str:
        """In reports: kebab-case."""
        ...

    def settings(self) -> dict[str, Any]:
        """All that its judgement depends on, as JSON."""
        ...

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped; None to keep it."""
        ...


@dataclass(frozen=True, slots=True)
class DroppedExample:
    """A document that was dropped.

    Attributes:
        id: Of the document.
        reason: With the number that decided.
        text: Its beginning.
    """

    id: str
    reason: str
    text: str


@dataclass(slots=True)
class FilterReport:
    """What a filter did so far.

    Attributes:
        filter: Its name.
        documents: Documents that it judged; those that an earlier filter dropped are not among them.
        bytes: Of their text, in UTF-8.
        dropped_documents: Of them.
        dropped_bytes: Of them.
        examples: The first few that were dropped.
    """

    filter: str
    documents: int = 0
    bytes: int = 0
    dropped_documents: int = 0
    dropped_bytes: int = 0
    examples: list[DroppedExample] = field(default_factory=list)

    def note(self, document: Document, reason: str | None) -> None:
        """Count a judgement."""
        size = document.size
        self.documents += 1
        self.bytes += size
        if reason is None:
            return
        self.dropped_documents += 1
        self.dropped_bytes += size
        if len(self.examples) < _EXAMPLES:
            self.examples.append(DroppedExample(document.id, reason, document.text[:_EXAMPLE_CHARACTERS]))


def keep_documents(
    documents: Iterable[Document], filters: Sequence[Filter], reports: Sequence[FilterReport]
) -> Iterator[Document]:
    """The documents that every filter keeps, in their order.

    Args:
        documents: A stream; a few of them are held at a time.
        filters: Asked one after the other; what one drops, the next does not see.
        reports: One a filter, counted up.
    """
    if not filters:
        yield from documents
        return
    for batch in batches(documents):
        kept = batch
        for part, report in zip(filters, reports, strict=True):
            if not kept:
                break
            reasons = part.judge([document.text for document in kept])
            for document, reason in zip(kept, reasons, strict=True):
                report.note(document, reason)
            kept = [document for document, reason in zip(kept, reasons, strict=True) if reason is None]
        yield from kept


@dataclass(frozen=True, slots=True)
class HangulShare:
    """Keeps documents whose letters are Hangul, for the most part.

    Digits, punctuation and white space count on neither side; a document without a letter has no share and is
    dropped.

    Attributes:
        least: Share of the letters, from 0 to 1.
    """

    least: float

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise ConfigurationError(f"hangul-share: found {self.least}, expected a share from 0 to 1")

    @property
    def name(self) -> str:
        """In reports."""
        return "hangul-share"

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return asdict(self)

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        return [self._reason(text) for text in texts]

    def _reason(self, text: str) -> str | None:
        letters = len(_LETTER.findall(text))
        if not letters:
            return "no letters"
        share = len(_HANGUL.findall(text)) / letters
        return None if share >= self.least else f"{share:.1%} Hangul"


@dataclass(frozen=True, slots=True, eq=False)
class PerplexityBand:
    """Keeps documents whose perplexity is in a band.

    Attributes:
        model: A causal language model, where it is to run.
        tokenizer: Its own.
        model_name: What names model and revision: it stands for both in the key of a cache.
        low: The least perplexity to keep.
        high: The largest.
        max_tokens: Of a longer document, the beginning is judged. At most the model's context.
        batch_size: Documents judged at once; their logits take ``batch_size * max_tokens`` times the vocabulary.
    """

    model: Any
    tokenizer: Any
    model_name: str
    low: float
    high: float
    max_tokens: int = 512  # chosen, not measured
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ConfigurationError(f"perplexity-band: found {self.low} to {self.high}, expected 0 <= low < high")
        if self.max_tokens < 2 or self.batch_size < 1:
            raise ConfigurationError("perplexity-band: found max_tokens below 2 or batch_size below 1, expected more")

    @property
    def name(self) -> str:
        """In reports."""
        return "perplexity-band"

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return {"model": self.model_name, "low": self.low, "high": self.high, "max_tokens": self.max_tokens}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped; a text of a single token has no perplexity and is kept."""
        return [None if math.isnan(value) else self._reason(value) for value in self.measure(texts)]

    def _reason(self, perplexity: float) -> str | None:
        return None if self.low <= perplexity <= self.high else f"perplexity {perplexity:.3g}"

    def measure(self, texts: Sequence[str]) -> list[float]:
        """The perplexity of every text; NaN where there is no token to predict."""
        begin = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        rows = [(begin + ids)[: self.max_tokens] for ids in encode_texts(self.tokenizer, texts)]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        found = [math.nan] * len(rows)
        training = self.model.training
        self.model.eval()
        try:
            for places in batches(order, self.batch_size):
                for place, loss in zip(places, self._losses([rows[place] for place in places]), strict=True):
                    found[place] = math.nan if len(rows[place]) < 2 else _perplexity(loss)
        finally:
            self.model.train(training)
        return found

    @torch.no_grad()
    def _losses(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Nats per predicted token of every row."""
        length = max(2, *(len(row) for row in rows))
        ids = torch.zeros((len(rows), length), dtype=torch.long)
        there = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
            there[place, : len(row)] = 1
        ids, there = ids.to(self.model.device), there.to(self.model.device)
        logits = self.model(input_ids=ids, attention_mask=there).logits
        losses = []
        for place, row in enumerate(rows):
            count = len(row) - 1
            if count < 1:
                losses.append(math.nan)
                continue
            # Row by row: float32 logits of a whole batch over a large vocabulary take gigabytes.
            predicted = logits[place, :count].float()
            losses.append(functional.cross_entropy(predicted, ids[place, 1 : count + 1]).item())
        return losses


def _perplexity(loss: float) -> float:
    # Of a model that is broken (NaN) too: everything dropped is seen, everything kept would not be.
    return math.exp(loss) if loss < 700 else math.inf
