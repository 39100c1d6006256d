"""A recipe's filters, as a corpus asks them; the model of a perplexity band is loaded when a text is judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ko_cpt_callbacks.recipe.text_part import Filters
from ko_cpt_callbacks.recipe.text_part import PerplexityBand as Band
from ko_cpt_callbacks.training.filter import Filter, HangulShare
from ko_cpt_callbacks.training.repetition import RepeatedNgrams


def recipe_filters(wanted: Filters, device: str) -> tuple[Filter, ...]:
    """The filters of a source, in the order in which they are asked.

    Args:
        wanted: What the recipe says.
        device: Where the model of a perplexity band runs.
    """
    found: list[Filter] = []
    if wanted.hangul_share is not None:
        found.append(HangulShare(wanted.hangul_share.minimum))
    if wanted.repetition is not None:
        part = wanted.repetition
        limits = {
            name: {int(size): limit for size, limit in given.items()}
            for name, given in (("top", part.top), ("duplicate", part.duplicate))
            if given is not None
        }
        found.append(RepeatedNgrams(unit=part.unit, **limits))
    if wanted.perplexity is not None:
        found.append(_LazyBand(wanted.perplexity, device))
    return tuple(found)


class _LazyBand:
    """A perplexity band whose model is loaded with the first text: rows that are made already need none."""

    def __init__(self, band: Band, device: str) -> None:
        self._band = band
        self._device = device
        self._filter: Any = None

    @property
    def name(self) -> str:
        """In reports."""
        return "perplexity-band"

    def settings(self) -> dict[str, Any]:
        """What the judgement depends on."""
        return self._band.model_dump()

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """For every text, why it is dropped."""
        if self._filter is None:
            self._filter = self._load()
        found: list[str | None] = self._filter.judge(texts)
        return found

    def _load(self) -> Filter:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from ko_cpt_callbacks.training.hub import load_pretrained
        from ko_cpt_callbacks.training.perplexity_band import PerplexityBand

        band = self._band
        given = {} if band.revision is None else {"revision": band.revision}
        key = "filters.perplexity.model"
        model = load_pretrained(AutoModelForCausalLM, band.model, key, dtype="auto", **given).to(self._device)
        tokenizer = load_pretrained(AutoTokenizer, band.model, key, **given)
        name = f"{band.model}@{band.revision}"
        return PerplexityBand(model, tokenizer, name, band.low, band.high, band.max_tokens)
