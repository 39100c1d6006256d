"""Four rules that people use today, written anew from what is known of them, to be run on the same logs.

Each says (code, step) pairs; the code is what its alarm can be taken for, generously. What each is pinned to is in
``test_peers.py``; the sources are named at the classes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from suite.run import LabelledRun

__all__ = ["PEERS", "HFEarlyStopping", "KillLossSpike", "LightningEarlyStopping", "LossWatchdog", "Peer", "Said"]

Said = tuple[str, int]
RETENTION = ("eval_en_loss", "eval_english_loss", "eval_retention_loss", "eval_base_loss", "eval_orig_loss")


class Peer(Protocol):
    """A rule of another project."""

    @property
    def name(self) -> str:
        """Whose."""
        ...

    def judge(self, run: LabelledRun) -> list[Said]:
        """What it says of a run, in the order of the rows, to the end: a stop is not obeyed."""
        ...


def evaluations(run: LabelledRun) -> Iterator[tuple[int, float]]:
    """Steps and losses of the first set that is not one of retention: what a user would name as the metric."""
    first: str | None = None
    for row in run.rows:
        for name, value in row.items():
            if (name.startswith("eval_") and name.endswith("_loss")) or name == "eval_loss":
                if name.endswith("_exact_loss") or name in RETENTION:
                    continue
                first = first or name
                if name == first:
                    yield row["step"], float(value)


def training(run: LabelledRun) -> Iterator[tuple[int, float]]:
    """Steps and losses of the training rows."""
    for row in run.rows:
        if "loss" in row:
            yield row["step"], float(row["loss"])


@dataclass(frozen=True)
class HFEarlyStopping:
    """``transformers.EarlyStoppingCallback`` (5.23): ``patience`` evaluations that are not better than the best.

    Better is lower, and by more than ``threshold``. The best is the Trainer's own, which any lower value replaces, and
    it is replaced after the callback has looked.
    """

    patience: int = 3
    threshold: float = 0.0
    name: str = "HF"

    def stops(self, values: list[float]) -> list[int]:
        """The evaluations, from 0, at which it asks to stop."""
        best: float | None = None
        counter, found = 0, []
        for i, value in enumerate(values):
            if best is None or (value < best and abs(value - best) > self.threshold):
                counter = 0
            else:
                counter += 1
            if counter >= self.patience:
                found.append(i)
            if best is None or value < best:
                best = value
        return found

    def judge(self, run: LabelledRun) -> list[Said]:
        """Not better for some time: taken for overfitting."""
        seen = list(evaluations(run))
        return [("overfitting", seen[i][0]) for i in self.stops([value for _, value in seen])]


@dataclass(frozen=True)
class LightningEarlyStopping:
    """Lightning's ``EarlyStopping``, in its order: finite, divergence, improved by more than ``min_delta``, patience.

    It watches one metric: the evaluation, or where a log has none the training loss, without patience then.

    Args:
        patience: Lightning's default.
        min_delta: Likewise.
        divergence: The threshold as a multiple of the first value; Lightning has none by default.
    """

    patience: int = 3
    min_delta: float = 0.0
    divergence: float = 1.5
    name: str = "Lightning"

    def stops(
        self, values: list[float], *, threshold: float | None, patience: float | None = None
    ) -> list[tuple[str, int]]:
        """Reason (``finite``, ``diverged``, ``patience``) and evaluation, from 0, of every request to stop."""
        patience = self.patience if patience is None else patience
        best, waited, found = math.inf, 0, []
        for i, value in enumerate(values):
            if not math.isfinite(value):
                found.append(("finite", i))
            elif threshold is not None and value > threshold:
                found.append(("diverged", i))
            elif value < best - self.min_delta:
                best, waited = value, 0
            else:
                waited += 1
                if waited >= patience:
                    found.append(("patience", i))
        return found

    def judge(self, run: LabelledRun) -> list[Said]:
        """Its three reasons, as our codes."""
        seen = list(evaluations(run))
        patience = None
        if not seen:
            seen, patience = list(training(run)), math.inf
        if not seen:
            return []
        codes = {"finite": "non-finite", "diverged": "diverged", "patience": "overfitting"}
        values = [value for _, value in seen]
        found = self.stops(values, threshold=self.divergence * values[0], patience=patience)
        return [(codes[reason], seen[i][0]) for reason, i in found]


@dataclass(frozen=True)
class LossWatchdog:
    """Axolotl's ``loss_watchdog_threshold`` and ``loss_watchdog_patience``.

    It looks at the last logged row after every optimizer step, so that one row counts as often as there are steps
    before the next. NaN is not above a threshold. The threshold is an absolute one that the user has to name; its
    description says about twice the loss at the start.
    """

    multiple: float = 2.0
    patience: int = 3
    name: str = "Axolotl"

    def stops(self, rows: list[tuple[int, float]], threshold: float) -> list[int]:
        """The steps at which it asks to stop, of (step, loss) rows."""
        found, above = [], 0
        for i, (step, loss) in enumerate(rows):
            until = rows[i + 1][0] if i + 1 < len(rows) else step + 1
            if not loss > threshold:
                above = 0
                continue
            # Polled at this step and at each one before the next row.
            first = self.patience - above - 1
            above += max(1, until - step)
            if above >= self.patience:
                found.append(step + max(0, first))
        return found

    def judge(self, run: LabelledRun) -> list[Said]:
        """Above the threshold for a while: taken for a divergence and for a spike."""
        rows = list(training(run))
        if not rows or not math.isfinite(rows[0][1]):
            return []
        steps = self.stops(rows, self.multiple * rows[0][1])
        return [(code, step) for step in steps for code in ("diverged", "loss-spike")]


@dataclass(frozen=True)
class KillLossSpike:
    """llm-foundry's ``KillLossSpike`` (snapshot 8c8dd48), a log point for a batch.

    Outlier: at least twice the mean of the window; more than four in a row are a spike. High loss: at least half of the
    window above the cap, after two windows; the cap is the highest loss of the first window, at most 10. Outliers enter
    the window; a NaN is no outlier and ends the row of them.
    """

    patience: int = 4
    multiplier: float = 2.0
    window: int = 100
    cap: float = 10.0
    name: str = "llm-foundry"

    def flags(self, losses: list[float], planned: int = 0) -> list[tuple[str, int]]:
        """Reason (``spike``, ``high``) and batch, from 0."""
        size = max(self.window, round(0.05 * planned))
        recent: deque[float] = deque(maxlen=size)
        outliers, cap, found = 0, self.cap, []
        for i, loss in enumerate(losses):
            if len(recent) == size:
                if i == size:
                    cap = min(max(recent), self.cap)
                mean = sum(recent) / size
                outliers = outliers + 1 if loss >= self.multiplier * mean else 0
                if outliers > self.patience:
                    found.append(("spike", i))
                    outliers = 0
                elif i >= 2 * size and sum(one > cap for one in recent) >= size / 2:
                    found.append(("high", i))
            recent.append(loss)
        return found

    def judge(self, run: LabelledRun) -> list[Said]:
        """Its two reasons, as our codes."""
        seen = list(training(run))
        codes = {"spike": "loss-spike", "high": "diverged"}
        return [(codes[reason], seen[i][0]) for reason, i in self.flags([loss for _, loss in seen])]


PEERS: tuple[Peer, ...] = (HFEarlyStopping(), LightningEarlyStopping(), LossWatchdog(), KillLossSpike())
