"""Documents that a given causal model finds neither too easy nor too hard.

RedWhale and Thunder filter by the perplexity of a model trained on clean Korean; very low is boilerplate, very high
is noise. The band is in perplexity per token of that model's tokenizer, so its numbers hold for that model only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.encode import batches, encode_texts


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
