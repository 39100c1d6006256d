"""What the rows so far say, once for all rules: the one value that the monitor folds and hands to each of them.

A row is looked at here once; a rule keeps nothing but what it has reported and what it alone counts. A row that
repeats a step is no matter of this fold: the monitor goes back to before it and folds that step anew
(`ko_cpt_callbacks.rules.monitor`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal.evaluations import Evaluations
from ko_cpt_callbacks.signal.excursion import IDLE, Watch
from ko_cpt_callbacks.signal.explanation import groups_lengths, saw
from ko_cpt_callbacks.signal.level import fewest_bytes
from ko_cpt_callbacks.signal.trend import LEVEL, Trend
from ko_cpt_callbacks.signal.window import EMPTY, Recent

__all__ = ["SILENT", "Signals"]


@dataclass(frozen=True, slots=True)
class Signals:
    """The run up to a row.

    Args:
        window: The recent training points and what is normal among them.
        past: The window before the last training row.
        watch: Where the training loss stands against what was normal.
        evaluations: The evaluations of every set.
        bytes_per_token: UTF-8 bytes per token of the evaluated text, of the set with the fewest; ``None``: no row has
            them.
        trend: The start of the segment, for what it has come to since.
        total: Sum of the segment's losses.
        groups_by_length: Whether the attempt's arguments say that rows are grouped by length.
        outlook: What a forecast is made from.
        run: What the run has reached, and of what kind it is.
    """

    window: Recent = EMPTY
    past: Recent = EMPTY
    watch: Watch = IDLE
    evaluations: Evaluations = field(default_factory=Evaluations)
    bytes_per_token: float | None = None
    trend: Trend = LEVEL
    total: float = 0.0
    groups_by_length: bool = False
    outlook: Outlook = field(default_factory=Outlook)
    run: RunProgress = field(default_factory=RunProgress)

    @property
    def grouped(self) -> bool:
        """Whether rows are grouped by length: the arguments say so, or the loss is a saw."""
        return self.groups_by_length or saw(self.watch.jumps)

    def add(self, seen: Observation) -> Signals:
        """The signals after one more row."""
        outlook, run = self.outlook.add(seen), self.run.add(seen)
        if isinstance(seen, TrainObservation):
            past = self.window
            window = past.add(seen)
            total = (0.0 if window.seam else self.total) + (window.losses[-1] if window.grew else 0.0)
            known = self.evaluations
            if window.seam or known.now is not None:
                known = known.trained(window)
            return Signals(
                window, past, self.watch.add(window, past), known, self.bytes_per_token, self.trend.add(window, past),
                total, self.groups_by_length, outlook, run,
            )  # fmt: skip
        if isinstance(seen, EvalObservation):
            evaluations = self.evaluations.evaluated(seen, self.window, self.total)
            reach = fewest_bytes(self.bytes_per_token, seen)
            return replace(self, evaluations=evaluations, bytes_per_token=reach, outlook=outlook, run=run)
        declared = groups_lengths(seen) if isinstance(seen, SetupObservation) else None
        window = self.window.add(seen)
        if window is self.window and declared in (None, self.groups_by_length) and outlook is self.outlook:
            return self if run is self.run else replace(self, run=run)
        groups = self.groups_by_length if declared is None else declared
        return replace(self, window=window, groups_by_length=groups, outlook=outlook, run=run)


SILENT: Final = Signals()
"""Before the first row."""
