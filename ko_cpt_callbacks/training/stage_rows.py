"""Which rows each stage trains on: a stage goes on in the corpus where the one before ended.

With one seed and one set of rows every stage would see the same ones in the same order, and what no stage reaches
would never be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


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
