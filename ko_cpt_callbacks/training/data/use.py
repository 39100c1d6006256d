"""How much of each source the stages train on, and how often: known before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks.recipe.plausibility import MOST_EPOCHS
from ko_cpt_callbacks.training.data.rows import PackedRows

LEAST_USED: Final = 0.9
"""Share of a source below which the mixture leaves too much of it. Chosen, not measured."""

MOST_PASSES: Final = MOST_EPOCHS
"""Passes over a source from which on it is repeated too often."""


@dataclass(frozen=True, slots=True)
class SourceUse:
    """How much of a source the stages train on.

    Attributes:
        name: Of the source.
        share: Of the mixture's tokens, from 0 to 1.
        read: Documents up to the last one that is in the rows, in one pass and before filters.
        available: All documents of one pass, before filters; None where they were not counted (a data set of the hub).
        passes: How often the stages go over the documents that are in the rows, on average.
    """

    name: str
    share: float
    read: int
    available: int | None
    passes: float

    @property
    def used(self) -> float | None:
        """Share of the documents that the mixture reaches, from 0 to 1; None where they were not counted."""
        return None if not self.available else self.read / self.available

    @property
    def is_left(self) -> bool:
        """Whether the mixture leaves too much of the source."""
        return self.used is not None and self.used < LEAST_USED

    @property
    def is_repeated(self) -> bool:
        """Whether the stages repeat the source too often."""
        return self.passes > MOST_PASSES


def source_uses(rows: PackedRows, wanted: float) -> tuple[SourceUse, ...]:
    """The use of each source.

    Args:
        rows: The mixture.
        wanted: Rows that all stages take together; a repeated row counts each time.
    """
    sources: Mapping[str, Any] = rows.report["sources"]
    tokens = sum(entry["tokens"] for entry in sources.values())
    times = wanted / rows.report["rows"]
    return tuple(
        SourceUse(
            name,
            entry["tokens"] / tokens,
            entry["read"],
            entry["available"],
            times * entry["documents"] / entry["distinct"],
        )
        for name, entry in sources.items()
    )


def use_lines(uses: Sequence[SourceUse]) -> Iterator[str]:
    """A line a source, and a line for what is odd about it, with the setting that changes it."""
    shortest = ", ".join(use.name for use in uses if not use.is_left)
    for use in uses:
        documents = f"{use.read:,}" if use.available is None else f"{use.read:,} of {use.available:,}"
        yield f"  {use.name}: {use.share:.1%} of the tokens, {documents} documents, {use.passes:.2g} passes"
        if use.is_left:
            yield (
                f"  {use.name}: {use.used:.2%} of its documents are used, because the mixture ends with {shortest}; "
                f"set a larger data.mix.{use.name}, more data.sources passes of {shortest}, or add text to it"
            )
        if use.is_repeated:
            yield (
                f"  {use.name}: {use.passes:.2g} passes are more than {MOST_PASSES:g}; add text, set a smaller "
                f"data.mix.{use.name}, or fewer max_steps"
            )
