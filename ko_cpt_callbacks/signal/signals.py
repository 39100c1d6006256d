"""What the rows so far say, once for all rules: the one value that the monitor folds and hands to each of them.

A row is looked at here once; a rule keeps nothing but what it has reported and what it alone counts. Most training
rows show nothing that concerns any rule: what a row can show is a function each below `Signals`, by which a rule says
when it is asked (`ko_cpt_callbacks.rules.rule.Wakes`). A row that
repeats a step is no matter of this fold: the monitor goes back to before it and folds that step anew
(`ko_cpt_callbacks.rules.monitor`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.evaluations import Evaluations
from ko_cpt_callbacks.signal.excursion import IDLE, Watch, groups_lengths
from ko_cpt_callbacks.signal.level import fewest_bytes
from ko_cpt_callbacks.signal.window import EMPTY, LEVEL, Recent, Trend

__all__ = [
    "SILENT", "Signals", "began_anew", "began_epoch", "begun", "ended_rise", "faulty",
    "is_low", "is_time", "moved", "risen", "signed",
]  # fmt: skip


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
    def young(self) -> bool:
        """Whether the loss may rise and come back because the learning rate warms up, or did a moment ago."""
        window, warm = self.window, self.trend.peaked
        rate = window.rates[-1] if window.rates else None
        if rate is not None and rate < limits.YOUNG_RATE * window.rate_peak and window.count > warm:
            return False  # on its way down
        return window.count <= max(limits.YOUNG_WARM * warm, limits.YOUNG_POINTS)

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
        groups = self.groups_by_length if declared is None else declared
        window = self.window.add(seen)
        if window is self.window and groups is self.groups_by_length and outlook is self.outlook:
            return self if run is self.run else replace(self, run=run)
        return replace(self, window=window, groups_by_length=groups, outlook=outlook, run=run)


SILENT: Final = Signals()
"""Before the first row."""


def began_anew(_: TrainObservation, signals: Signals) -> bool:
    """Whether the row begins the window anew: the first of all, after a seam, or after a jump of the learning rate."""
    return signals.window.seam or signals.watch.since <= 1


def ended_rise(_: TrainObservation, signals: Signals) -> bool:
    """Whether a rise of the loss is over with the row."""
    return signals.watch.ended is not None


def signed(_: TrainObservation, signals: Signals) -> bool:
    """Whether anything speaks for a seam at the row."""
    return bool(signals.window.signs)


def risen(_: TrainObservation, signals: Signals, *, nats: float) -> bool:
    """Whether the short median is so many nats above the lowest one of the window."""
    low = signals.watch.low
    return low is not None and signals.watch.middles[-1] - low.level >= nats


def moved(_: TrainObservation, signals: Signals, *, points: tuple[int, ...], noises: float) -> bool:
    """Whether the short median has moved within so many points by so many noises of the window."""
    middles, jitter = signals.watch.middles, signals.window.jitter
    return jitter is not None and any(
        len(middles) >= count + 2 and abs(middles[-1] - middles[-count - 2]) >= noises * jitter for count in points
    )


def is_time(_: TrainObservation, signals: Signals, *, points: int) -> bool:
    """Whether the whole run is looked at again: once it has so many points, then forty times while it doubles."""
    count = signals.window.count
    return count >= points and count % max(1, count // limits.TREND_LOOKS) == 0


def is_low(seen: TrainObservation, signals: Signals, *, nats: float, bits: float) -> bool:
    """Whether the loss is below so many nats per token, or, where bytes are known, bits per byte."""
    floor = max(nats, bits * math.log(2.0) * (signals.bytes_per_token or 0.0))
    return seen.loss is not None and seen.loss < floor


def faulty(seen: TrainObservation, _: Signals) -> bool:
    """Whether the row has no loss above or below 0, or a step or gradient that is not finite, or no target."""
    loss, norm = seen.loss, seen.grad_norm
    return (
        not loss or not math.isfinite(loss) or bool(seen.nonfinite_steps or seen.targetless_micro_batches)
        or (norm is not None and not math.isfinite(norm))
    )  # fmt: skip


def began_epoch(_: TrainObservation, signals: Signals) -> bool:
    """Whether the last point is the first of an epoch, or the first whose epoch is known."""
    before, now = (None, None, *signals.window.epochs)[-2:]
    return now is not None and (before is None or begun(before) != begun(now))


def begun(epoch: float) -> int:
    """Epochs done at a row: 1 for every row after the first epoch, whose own last row is at 1.0.

    >>> begun(0.5), begun(1.0), begun(1.1)
    (0, 0, 1)
    """
    return max(math.ceil(epoch - limits.EPOCH_EXACT) - 1, 0)
