"""What a recipe may say of its texts: sources, filters, rows, mixture, evaluation sets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from ko_cpt_callbacks.recipe.model_schema import MOST, Amount, Count, Language, Limit, Name, Part, Share, Size, Text


def _list_or_text(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<text>"


class HangulShare(Part):
    """Keeps documents whose letters are Hangul, for the most part."""

    minimum: Limit


class Repetition(Part):
    """Drops documents that repeat themselves: for each n, the largest share of characters in n-grams."""

    unit: Literal["word", "character"] = "word"
    top: dict[Size, Limit] | None = None
    """Inside the most frequent n-gram, by n in quotation marks. None: Gopher's."""
    duplicate: dict[Size, Limit] | None = None
    """Inside n-grams that come more than once. None: Gopher's."""


class PerplexityBand(Part):
    """Keeps documents that a given model finds neither too easy nor too hard."""

    model: Text
    revision: Text | None = None
    low: Annotated[float, Field(ge=0)]
    high: Amount
    max_tokens: Annotated[int, Field(ge=2, le=MOST)] = 512
    """Of a longer document the beginning is judged."""


class Filters(Part):
    """What documents must pass, in this order."""

    hangul_share: HangulShare | None = None
    repetition: Repetition | None = None
    perplexity: PerplexityBand | None = None


class Source(Part):
    """Texts of one language: one of ``bundled``, ``files`` and ``hub``."""

    language: Language
    bundled: Annotated[list[Text], Field(min_length=1)] | None = None
    """Names of files that come with the package, in ``recipes/text``."""
    files: (
        Annotated[
            Annotated[list[Text], Field(min_length=1), Tag("<list>")] | Annotated[Text, Tag("<text>")],
            Discriminator(_list_or_text),
        ]
        | None
    ) = None
    """A path, a folder or a pattern, or several, from the recipe's folder on: ``.txt``, ``.jsonl``, ``.json``,
    ``.csv``, ``.parquet``, as they are or packed (``.gz``, ``.zst``, ``.xz``, ``.bz2``). Of a folder every such file in
    it and below, sorted by name."""
    hub: Text | None = None
    """The id of a data set, read as a stream."""
    revision: Text | None = None
    """Of ``hub``: its commit, 40 hex digits; a branch would be another corpus tomorrow."""
    config: Text | None = None
    """Of ``hub``: the configuration. None: its only one."""
    split: Text | None = None
    """Of ``hub``. None: ``train``."""
    field: Text = "text"
    """Where the text is, in everything but ``.txt``; for ``task: sft`` the answer."""
    prompt: Text | None = None
    """Where the prompt is that the answer is trained after; for ``task: sft`` only."""
    unit: Literal["line", "paragraph", "file"] = "line"
    """What a document is in a ``.txt``."""
    passes: Count = 1
    """How often it is read, from its beginning each time."""
    filters: Filters = Filters()
    """What its documents must pass to be trained on; what is held out is not filtered."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """``files`` as several, also where there is one or none."""
        return (self.files,) if isinstance(self.files, str) else tuple(self.files or ())


class Data(Part):
    """Texts, and how they become rows."""

    sequence_length: Annotated[int, Field(ge=16, le=10**8)]
    """Tokens of a row; the largest is chosen, not measured."""
    packing: bool
    """Whether documents are laid end to end and cut into rows of that length. Otherwise every document begins a row,
    and a longer one is cut into several. Dropped and counted: the last tokens of a packed corpus, a last token that
    would be alone in its row, and for ``task: sft`` what does not fit into the one row of a prompt and its answer."""
    held_out: Share
    """Share of every source that is never trained on; whole documents only."""
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    mix: Annotated[dict[Name, Amount], Field(min_length=1)]
    """What the stages train on: one source in proportion to the others."""
    mix_by: Literal["bytes", "tokens"] = "bytes"
    """What the proportions are of."""


class EvalSet(Part):
    """Held-out documents of a source, evaluated as ``eval_<name>``."""

    source: Name
    retention: bool = False
    """Whether it stands for what must not be forgotten, rather than for what is to be learnt."""
    max_documents: Count | None = None
    """At most so many of the held-out documents. None: all."""
