"""Counts of training through the same forward hook: target tokens, and losses that are no numbers.

The Trainer replaces a NaN loss before it logs (``logging_nan_inf_filter``), so the only place to see it is the
forward pass. Counters stay on the device and are read when the Trainer logs, where it waits for the device anyway.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.evidence import IGNORE, Output
from ko_cpt_callbacks.hf.padding import PaddingCounts, add_padding, count_padding
from ko_cpt_callbacks.hf.rank import Ranks


@dataclass(frozen=True, slots=True)
class TrainCounts:
    """Counts of one logging window, over all ranks.

    Attributes:
        tokens: Target tokens; None when some forward pass had no labels, or other ranks cannot be reached.
        bad_micro_batches: Non-finite micro-batches of each optimizer step of the window, in order; None when some
            forward pass returned no loss, or other ranks cannot be reached.
        seconds: Mean seconds of training, evaluation and saving left out.
    """

    tokens: int | None
    bad_micro_batches: tuple[int, ...] | None
    seconds: float


class TrainMeter:
    """Counts micro-batches in training mode.

    Args:
        ranks: The processes to add up over.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._tokens: Tensor | None = None
        self._bad: Tensor | None = None
        self._steps: list[Tensor | None] = []
        self._without_labels = False
        self._without_loss = False
        self._padding: Tensor | None = None
        self._watched_padding = False
        self._started = time.perf_counter()
        self._mark = self._started
        self._excluded = 0.0

    def observe(
        self, kwargs: Mapping[str, Any], output: Output, *, shifts: bool, pad_id: int | None = None
    ) -> None:
        """A forward pass in training mode.

        Args:
            kwargs: Keyword arguments of the call.
            output: Its output.
            shifts: Whether the model's loss leaves the first label of a row out.
            pad_id: The pad token, which the first batch is searched for.
        """
        if not self._watched_padding:
            self._watched_padding, self._padding = True, count_padding(kwargs, pad_id)
        labels = kwargs.get("labels")
        if isinstance(labels, Tensor):
            counted = labels[..., 1:] if shifts else labels
            count = (counted.detach() != IGNORE).sum()
            self._tokens = count if self._tokens is None else self._tokens + count.to(self._tokens.device)
        else:
            self._without_labels = True
        if output.loss is None:
            self._without_loss = True
            return
        bad = (~output.loss.isfinite()).any().to(torch.int64)
        self._bad = bad if self._bad is None else self._bad + bad.to(self._bad.device)

    def lose(self) -> None:
        """A forward pass could not be counted: no counts for this window."""
        self._without_labels = self._without_loss = True

    def end_step(self) -> None:
        """The optimizer step is over."""
        self._steps.append(self._bad)
        self._bad = None
        self._mark = time.perf_counter()

    def first_padding(self) -> PaddingCounts | None:
        """Pads among the labels of the first batch, over all ranks; every rank must call it."""
        try:
            local = None if self._padding is None else self._padding.tolist()
        except Exception:  # the others are waiting
            local = None
        self._padding, self._watched_padding = None, True
        return add_padding([json.loads(part) for part in self._ranks.gather(json.dumps(local).encode())])

    def exclude(self) -> None:
        """What happened since the last mark (an evaluation, a save) is not training time."""
        now = time.perf_counter()
        self._excluded += now - self._mark
        self._mark = now

    def restart_clock(self) -> None:
        """Training begins now: earlier time, and a step that was broken off, are none of it."""
        self._bad = None
        self._watched_padding = False
        self._started = self._mark = time.perf_counter()
        self._excluded = 0.0

    def read(self) -> TrainCounts:
        """Counts since the last call, over all ranks; every rank must call it."""
        now = time.perf_counter()
        try:
            local = self._local(now)
        except Exception:  # the others are waiting
            local = {"tokens": None, "bad": None, "seconds": now - self._started}
        if self._ranks.alone:
            local.update(tokens=None, bad=None)  # this rank's share is not the run's
        self._tokens, self._steps = None, []
        self._without_labels = self._without_loss = False
        self._started, self._mark, self._excluded = now, now, 0.0
        parts = [json.loads(part) for part in self._ranks.gather(json.dumps(local).encode())]
        tokens = None if any(part["tokens"] is None for part in parts) else sum(part["tokens"] for part in parts)
        bad = None
        if all(part["bad"] is not None for part in parts) and len({len(part["bad"]) for part in parts}) == 1:
            bad = tuple(sum(step) for step in zip(*(part["bad"] for part in parts), strict=True))
        return TrainCounts(tokens, bad, sum(part["seconds"] for part in parts) / len(parts))

    def _local(self, now: float) -> dict[str, Any]:
        bad = None
        if not self._without_loss:
            present = [step for step in self._steps if step is not None]
            values = iter(torch.stack(present).tolist() if present else [])
            bad = [0 if step is None else int(next(values)) for step in self._steps]
        tokens = None if self._without_labels else int(self._tokens) if self._tokens is not None else 0
        return {"tokens": tokens, "bad": bad, "seconds": now - self._started - self._excluded}


@dataclass(slots=True)
class TrainTotals:
    """What the counts add up to: the numbers of the next training row.

    Attributes:
        tokens_seen: Target tokens since the start of the run; None once they are not known.
        step: Last optimizer step that was counted.
        devices: Accelerators at work; 0 on CPU.
        bad: Non-finite micro-batches of each step since the last training row.
    """

    tokens_seen: int | None = 0
    step: int = 0
    devices: int = 0
    bad: dict[int, int] = field(default_factory=dict)
    _bad_known: bool = True
    _tokens: int | None = 0
    _seconds: float = 0.0

    def add(self, counts: TrainCounts) -> None:
        """Add what was counted since the last call (a row or a checkpoint)."""
        if counts.tokens is None:
            self.tokens_seen = self._tokens = None
        else:
            self.tokens_seen = None if self.tokens_seen is None else self.tokens_seen + counts.tokens
            self._tokens = None if self._tokens is None else self._tokens + counts.tokens
        self._seconds += counts.seconds
        if counts.bad_micro_batches is None:
            self._bad_known = False
            return
        for offset, bad in enumerate(counts.bad_micro_batches, start=1):
            if bad:
                self.bad[self.step + offset] = bad
        self.step += len(counts.bad_micro_batches)

    def forget_window(self) -> None:
        """What went before in the current window is not known: its row claims no count of non-finite steps."""
        self._bad_known = False

    def pending(self) -> dict[str, int]:
        """Tokens so far and the non-finite steps since the last training row."""
        row = {} if self.tokens_seen is None else {keys.TOKENS_SEEN: self.tokens_seen}
        if self._bad_known:
            row[keys.NONFINITE_STEPS] = len(self.bad)
            row[keys.NONFINITE_MICRO_BATCHES] = sum(self.bad.values())
            if self.bad:
                row[keys.NONFINITE_FIRST_STEP] = min(self.bad)
        return row

    def close_row(self, step: int) -> dict[str, int | float]:
        """The keys of a training row at ``step``; the next row begins after it."""
        row: dict[str, int | float] = dict(self.pending())
        if self._tokens and self._seconds > 0.0:
            rate = self._tokens / self._seconds
            row[keys.TOKENS_PER_SECOND] = rate
            if self.devices:
                row[keys.TOKENS_PER_GPU_HOUR] = rate * 3600.0 / self.devices
        self.bad, self._bad_known, self.step = {}, True, step
        self._tokens, self._seconds = 0, 0.0
        return row
