"""Duplicates left out of a corpus: of what is evaluated on first, then of what came before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ko_cpt_callbacks.training.data.duplicates import DuplicateIndex, Kind
from ko_cpt_callbacks.training.data.encode import batches
from ko_cpt_callbacks.training.data.filters import FilterReport
from ko_cpt_callbacks.training.data.shards import Shard, whole_text
from ko_cpt_callbacks.training.data.sketch import sketch
from ko_cpt_callbacks.training.data.sources import Source, read_documents, source_key

_NAMES: Final[Mapping[Kind, str]] = {
    "held-out": "held-out-duplicates", "exact": "exact-duplicates", "near": "near-duplicates"
}  # fmt: skip
Kept = npt.NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Which documents are left out because they are there already.

    Attributes:
        near: Whether near duplicates are; otherwise whole ones alone.
        held_out: What is evaluated on: no document of it is trained on, nor a near duplicate of one.
    """

    near: bool = True
    held_out: tuple[Source, ...] = ()

    def key(self) -> list[Any]:
        """What decides which documents are left out."""
        return [self.near, [source_key(source) for source in self.held_out]]

    def index(self, folder: Path) -> DuplicateIndex:
        """An index that knows what is held out, with its files in a folder."""
        found = DuplicateIndex(near=self.near, folder=folder)
        for source in self.held_out:
            for part in batches(read_documents(source)):
                found.hold_out(sketch([whole_text(document) for document in part]))
        return found


def removal_reports() -> list[FilterReport]:
    """A report for each kind of duplicates, over nothing yet."""
    return [FilterReport(name) for name in _NAMES.values()]


def remove_duplicates(shard: Shard, index: DuplicateIndex | None) -> tuple[list[FilterReport], Kept]:
    """Which documents of a shard stay, and a report for each kind of duplicates.

    Args:
        shard: The next one.
        index: Knows the documents that were kept; None to keep all.
    """
    if index is None or shard.sketches is None:
        return [], None
    found = index.add(shard.sketches)
    sizes, names, heads = (shard.columns[name] for name in ("size", "id", "head"))
    sizes = sizes.to_numpy()
    reports = removal_reports()
    kept = np.ones(len(found), dtype=np.bool_)
    for kind, report in zip(_NAMES, reports, strict=True):
        report.documents, report.bytes = int(kept.sum()), int(sizes[kept].sum())
        for place, duplicate in enumerate(found):
            if duplicate is not None and duplicate.kind == kind:
                reason = f"{duplicate.share:.0%} of it in a {'held-out' if kind == 'held-out' else 'former'} document"
                report.drop(int(sizes[place]), names[place].as_py(), reason, heads[place].as_py())
                kept[place] = False
    return reports, kept
