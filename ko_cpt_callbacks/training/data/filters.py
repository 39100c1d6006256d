"""Which documents of a corpus are kept, and a report of what was dropped.

``datatrove`` (Apache-2.0) was tried again in version 0.10: it has no filter for the share of Hangul, its perplexity
filter wants a KenLM model where that of a given causal model is wanted, its repetition filter has no n-grams of
characters and counts otherwise (`repetition`). One filter of three would come from it, with a word splitter for Korean.

RedWhale and Thunder filter by the perplexity of a model trained on clean Korean; very low is boilerplate, very high
is noise. The band is in perplexity per token of that model's tokenizer, so its numbers hold for that model only.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.training.data.encode import Document, batches, encode_texts
from ko_cpt_callbacks.training.data.sketch import characters, few
from ko_cpt_callbacks.training.model.bpe import HANGUL

if TYPE_CHECKING:
    from ko_cpt_callbacks.recipe.schema import PerplexityBand as Band

# Enough to see what a filter does, few enough to read. Chosen, not measured.
_EXAMPLES: Final = 5
EXAMPLE_CHARACTERS: Final = 120
_HANGUL: Final = re.compile(f"[{HANGUL}]")
_UNKNOWN: Final = 255
_MODEL_KEY: Final = "filters.perplexity.model"
_MEASURED: Final = 8  # documents at once: their logits take as many tokens times the vocabulary; chosen, not measured


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

    def drop(self, size: int, name: str, reason: str, text: str) -> None:
        """Count one that is dropped among those that were judged: its bytes, its id, why, and how it begins."""
        self.dropped_documents += 1
        self.dropped_bytes += size
        if len(self.examples) < _EXAMPLES:
            self.examples.append(DroppedExample(name, reason, text[:EXAMPLE_CHARACTERS]))

    def add(self, other: FilterReport) -> None:
        """Count what it did elsewhere too."""
        self.documents += other.documents
        self.bytes += other.bytes
        self.dropped_documents += other.dropped_documents
        self.dropped_bytes += other.dropped_bytes
        self.examples += other.examples[: _EXAMPLES - len(self.examples)]


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
            report.documents += len(kept)
            report.bytes += sum(document.size for document in kept)
            for document, reason in zip(kept, reasons, strict=True):
                if reason is not None:
                    report.drop(document.size, document.id, reason, document.text)
            kept = [document for document, reason in zip(kept, reasons, strict=True) if reason is None]
        yield from kept


class HangulShare:
    """Keeps documents whose letters are Hangul, for the most part.

    Digits, punctuation and white space count on neither side; a document without a letter has no share and is
    dropped.

    Args:
        least: Share of the letters, from 0 to 1.
    """

    name = "hangul-share"

    def __init__(self, least: float) -> None:
        self._least = least
        # For every character 0, 1 where it is a letter, 2 where it is one of Hangul; looked up when it first comes.
        self._kinds: npt.NDArray[np.uint8] | None = None

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return {"least": self._least}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        return [self._reason(*counts) for batch in few(texts) for counts in self._counts(batch)]

    def _counts(self, texts: Sequence[str]) -> list[list[int]]:
        """Letters of each text that are none of Hangul, and that are."""
        document = np.repeat(np.arange(0, 3 * len(texts), 3), [len(text) for text in texts])
        counts = np.bincount(document + self._kinds_of(characters(texts)), minlength=3 * len(texts))
        found: list[list[int]] = counts.reshape(-1, 3)[:, 1:].tolist()
        return found

    def _kinds_of(self, codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
        if self._kinds is None:
            self._kinds = np.full(sys.maxunicode + 1, _UNKNOWN, dtype=np.uint8)
        for code in np.unique(codes[self._kinds[codes] == _UNKNOWN]).tolist():
            letter = chr(code)
            is_letter = letter.isalnum() and not letter.isdecimal()
            self._kinds[code] = 2 if _HANGUL.match(letter) else int(is_letter)
        return self._kinds[codes]

    def _reason(self, other: int, hangul: int) -> str | None:
        if not other + hangul:
            return "no letters"
        share = hangul / (other + hangul)
        return None if share >= self._least else f"{share:.1%} Hangul"


class PerplexityBand:
    """Keeps documents whose perplexity is in a band.

    Args:
        band: What the recipe says of it.
        device: Where its model runs.
    """

    name = "perplexity-band"

    def __init__(self, band: Band, device: str) -> None:
        self._band = band
        self._device = device

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return self._band.model_dump()

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped; a text of a single token has no perplexity and is kept."""
        return [None if math.isnan(value) else self._reason(value) for value in self.measure(texts)]

    def _reason(self, perplexity: float) -> str | None:
        return None if self._band.low <= perplexity <= self._band.high else f"perplexity {perplexity:.3g}"

    @cached_property
    def model_and_tokenizer(self) -> tuple[Any, Any]:
        """Loaded with the first text: rows that are made already need none."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from ko_cpt_callbacks.training.hub import load_pretrained

        given = {} if self._band.revision is None else {"revision": self._band.revision}
        model = load_pretrained(AutoModelForCausalLM, self._band.model, _MODEL_KEY, dtype="auto", **given)
        tokenizer = load_pretrained(AutoTokenizer, self._band.model, _MODEL_KEY, **given)
        return model.to(self._device).eval(), tokenizer

    def measure(self, texts: Sequence[str]) -> list[float]:
        """The perplexity of every text; NaN where there is no token to predict."""
        tokenizer = self.model_and_tokenizer[1]
        begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        rows = [(begin + ids)[: self._band.max_tokens] for ids in encode_texts(tokenizer, texts)]
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        found = [math.nan] * len(rows)
        for places in batches(order, _MEASURED):
            for place, loss in zip(places, self._losses([rows[place] for place in places]), strict=True):
                found[place] = math.nan if len(rows[place]) < 2 else _perplexity(loss)
        return found

    def _losses(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """Nats per predicted token of every row."""
        # Not at the top: a process that only encodes would take seconds for it.
        import torch
        from torch.nn import functional

        length = max(2, *(len(row) for row in rows))
        ids = torch.zeros((len(rows), length), dtype=torch.long)
        there = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
            there[place, : len(row)] = 1
        model = self.model_and_tokenizer[0]
        ids, there = ids.to(model.device), there.to(model.device)
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=there).logits
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
