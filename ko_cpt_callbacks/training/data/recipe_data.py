"""A recipe's texts: to train a tokenizer on, and as rows for a Trainer, made once and kept in the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Filters
from ko_cpt_callbacks.recipe.text_checks import look_at_texts
from ko_cpt_callbacks.recipe.text_files import files_of
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import Filter, FilterReport, HangulShare, PerplexityBand, keep_documents
from ko_cpt_callbacks.training.data.packing import PackSettings
from ko_cpt_callbacks.training.data.reading import BadInputs
from ko_cpt_callbacks.training.data.removal import Duplicates
from ko_cpt_callbacks.training.data.repetition import RepeatedNgrams
from ko_cpt_callbacks.training.data.rows import Making, PackedRows, packed_rows
from ko_cpt_callbacks.training.data.sources import Part, Source, read_documents


def recipe_filters(wanted: Filters, device: str) -> tuple[Filter, ...]:
    """The filters of a source, in the order in which they are asked; a perplexity band's model runs on the device."""
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
        found.append(PerplexityBand(wanted.perplexity, device))
    return tuple(found)


class RecipeTexts:
    """The texts of a recipe.

    Args:
        file: The recipe.
        cache: Where rows are kept.
        device: Where a filter's model runs.
        making: How rows to train on are made.
        bad: Where what cannot be read is noted, and left out; None to refuse it.
    """

    def __init__(
        self,
        file: RecipeFile,
        cache: Path,
        device: str,
        making: Making | None = None,
        bad: BadInputs | None = None,
    ) -> None:
        self._making = making
        self.bad = bad
        self._file = file
        self._data = file.recipe.data
        self._cache = cache
        self._device = device

    def check(self) -> None:
        """Whether every file that the recipe names is there and can be read, as far as its beginning says.

        Raises:
            RecipeError: If a path leads nowhere, a pattern fits nothing, or a file is not what the recipe says.
        """
        mistakes = look_at_texts(self._file).mistakes
        if mistakes:
            raise self._file.error(mistakes)

    def train_texts(self, names: Sequence[str]) -> Iterator[str]:
        """Text to train on, source after source, each once; what a filter drops and what is held out is left out."""
        for name in names:
            source = self._source(name, "train")
            reports = [FilterReport(part.name) for part in source.filters]
            for document in keep_documents(read_documents(source), source.filters, reports):
                yield document.text

    def first_documents(self, name: str, most: int) -> Iterator[Document]:
        """What is first in a source, held-out documents too; what a filter drops is left out, no model is asked.

        Args:
            name: Of the source.
            most: Documents that are looked at, those that are dropped too.
        """
        source = self._source(name, "all")
        filters = [part for part in source.filters if not isinstance(part, PerplexityBand)]
        reports = [FilterReport(part.name) for part in filters]
        yield from keep_documents(islice(read_documents(source), most), filters, reports)

    def held_out_texts(self, name: str) -> Iterator[str]:
        """What is held out of a source; where every set that evaluates it has a limit, not more than that."""
        return (document.text for document in read_documents(self._held_out(name)))

    def _held_out(self, name: str) -> Source:
        limits = [part.max_documents for part in self._file.recipe.eval.values() if part.source == name]
        given = [limit for limit in limits if limit is not None]
        # Beyond, a corpus of the hub would be gone through whole once more.
        limit = max(given) if given and len(given) == len(limits) else None
        return self._source(name, "held-out", limit)

    def _duplicates(self) -> Duplicates | None:
        """What of the mixture is left out: also what is near to a document of an evaluation set."""
        kind = self._data.duplicates
        if kind == "keep":
            return None
        evaluated = sorted({part.source for part in self._file.recipe.eval.values()})
        return Duplicates(kind == "near", tuple(replace(self._held_out(name), filters=()) for name in evaluated))

    def mixed_rows(self, tokenizer: Any, max_rows: int | None = None) -> PackedRows:
        """What the stages train on; a corpus of the hub is not read beyond the rows that the run can use."""
        mix = self._data.mix
        sources = [self._source(name, "train") for name in mix]
        return packed_rows(
            sources,
            tokenizer,
            self._settings(tokenizer, packed=self._data.packing),
            self._cache,
            dict(mix) if len(mix) > 1 else None,
            self._data.mix_by,
            max_rows if any(source.hub for source in sources) else None,
            self._duplicates(),
            self._making,
        )

    def rows_of(self, names: Sequence[str], tokenizer: Any) -> PackedRows:
        """Sources whole, one after the other: what a model made on the spot is trained on."""
        sources = [self._source(name, "train") for name in names]
        return packed_rows(sources, tokenizer, self._settings(tokenizer, packed=self._data.packing), self._cache)

    def evaluation_rows(self, tokenizer: Any, names: Sequence[str]) -> dict[str, PackedRows]:
        """What is held out, by evaluation set.

        A document is a row of its own, or several, also where training rows are packed: rows then say nothing about
        each other, which the error bars take for granted.
        """
        found = {}
        for name in names:
            part = self._file.recipe.eval[name]
            source = self._source(part.source, "held-out", part.max_documents)
            try:
                found[name] = packed_rows([source], tokenizer, self._settings(tokenizer, packed=False), self._cache)
            except ConfigurationError as error:
                raise ConfigurationError(f"eval {name}: {error}") from None
        return found

    def _settings(self, tokenizer: Any, *, packed: bool) -> PackSettings:
        prompts = self._file.recipe.task == "sft"
        return PackSettings(
            self._data.sequence_length, begin=begins(tokenizer), packed=packed and not prompts, prompts=prompts
        )

    def _source(self, name: str, part: Part, limit: int | None = None) -> Source:
        given = self._data.sources[name]
        return Source(
            name=name,
            files=self._files(name, given.patterns),
            bundled=tuple(given.bundled or ()),
            hub=given.hub,
            config=given.config,
            revision=given.revision,
            split=given.split or "train",
            column=given.field,
            prompt=given.prompt,
            unit=given.unit,
            passes=given.passes if part == "train" else 1,
            filters=recipe_filters(given.filters, self._device),
            held_out=self._data.held_out,
            part=part,
            limit=limit,
            bad=self.bad,
        )

    def _files(self, name: str, patterns: Sequence[str]) -> tuple[Path, ...]:
        found: list[Path] = []
        for pattern in patterns:
            place = self._file.path.parent / pattern
            files = files_of(place)
            if not files:
                raise ConfigurationError(f"source {name}: found no file {place}, expected one or more")
            found += files
        return tuple(found)


def first_texts(texts: Iterable[str], max_bytes: int | None) -> Iterator[str]:
    """Whole texts until there are so many bytes of them in UTF-8, or all."""
    size = 0
    for text in texts:
        yield text
        size += len(text.encode())
        if max_bytes is not None and size >= max_bytes:
            return


def begins(tokenizer: Any) -> bool:
    """Whether a tokenizer puts its begin token before a text, and so did who trained the model."""
    if tokenizer.bos_token_id is None:
        return False
    ids: list[int] = tokenizer("a")["input_ids"]
    return ids[:1] == [tokenizer.bos_token_id]
