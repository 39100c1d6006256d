"""Which rows the stages train on, how much of each source that is, and how often: known before the first step.

With one seed and one set of rows every stage would see the same ones in the same order, and what no stage reaches
would never be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.signal.limits import CORPUS_USED
from ko_cpt_callbacks.training.data.rows import PackedRows


def needed_rows(arguments: Any) -> int | None:
    """Rows that a training takes, over all its processes.

    Args:
        arguments: ``TrainingArguments``.

    Returns:
        None where it goes through whatever there is, by epochs.
    """
    if arguments.max_steps <= 0:
        return None
    rows = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(arguments.max_steps * rows * arguments.world_size)


def stage_rows(needed: Mapping[str, int | None], name: str, rows: int) -> Sequence[int]:
    """The places of a stage's rows.

    Args:
        needed: What each stage takes, in order; None: all there are.
        name: The stage.
        rows: How many there are; after the last comes the first again.

    Returns:
        As many as it takes, each once; all in order where it takes as many as there are, or more.
    """
    wanted = needed[name]
    if wanted is None or wanted >= rows:
        return range(rows)
    before = list(needed)[: list(needed).index(name)]
    start = sum(needed[stage] or 0 for stage in before) % rows
    end = start + wanted
    return range(start, end) if end <= rows else [*range(start, rows), *range(end - rows)]


@dataclass(frozen=True, slots=True)
class SourceUse:
    """How much of a source the stages train on.

    Attributes:
        name: Of the source.
        share: Of the mixture's tokens, from 0 to 1.
        read: Documents up to the last one that is in the rows, in one pass and before filters.
        available: All documents of one pass, before filters; None where they were not counted (a data set of the hub).
        passes: How often the stages go over the documents that are in the rows, on average.
        bytes: UTF-8 bytes of one pass, as far as documents were counted, reckoned from those in the rows; None where
            they were not.
    """

    name: str
    share: float
    read: int
    available: int | None
    passes: float
    bytes: int | None = None

    @property
    def used(self) -> float | None:
        """Share of the documents that the mixture reaches, from 0 to 1; None where they were not counted."""
        return None if not self.available else self.read / self.available


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
            None if entry["available"] is None else round(entry["bytes"] / entry["documents"] * entry["available"]),
        )
        for name, entry in sources.items()
    )


def use_notes(uses: Sequence[SourceUse]) -> Iterator[dict[str, Any]]:
    """A set-up row a source, distinguished by its set: whether something is odd about it, rules decide.

    ``shortest`` are the sources that are used up. Where none is, the mixture ended because the stages take no more.
    ``corpus_bytes`` are those of all sources; None where one was not counted.
    """
    shortest = [use.name for use in uses if use.used is not None and use.used >= CORPUS_USED]
    sizes = [use.bytes for use in uses if use.bytes is not None]
    whole = sum(sizes) if len(sizes) == len(uses) else None
    for use in uses:
        counts = {"read": use.read, "available": use.available, "passes": use.passes, "corpus_bytes": whole}
        yield {keys.SPLIT: use.name, "source": use.name, "share": use.share, **counts, "shortest": shortest}


def use_lines(uses: Sequence[SourceUse]) -> Iterator[str]:
    """A line a source."""
    for use in uses:
        documents = f"{use.read:,}" if use.available is None else f"{use.read:,} of {use.available:,}"
        yield f"  {use.name}: {use.share:.1%} of the tokens, {documents} documents, {use.passes:.2g} passes"
