"""Counts of training through the same forward hook: target tokens, and losses that are no numbers.

The Trainer replaces a NaN loss before it logs (``logging_nan_inf_filter``), so the only place to see it is the
forward pass. Counters stay on the device and are read when the Trainer logs, where it waits for the device anyway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.evidence import IGNORE, Alignment, Output
from ko_cpt_callbacks.hf.padding import count_padding
from ko_cpt_callbacks.hf.rank import Ranks
from ko_cpt_callbacks.hf.train_loss import LossProbe, LossSums, probe_loss


@dataclass(frozen=True, slots=True)
class TrainCounts:
    """Counts of one logging window, over all ranks.

    Attributes:
        tokens: Target tokens; None when some forward pass had no labels, or other ranks cannot be reached.
        bad_micro_batches: Non-finite micro-batches of each optimizer step of the window, in order; None when some
            forward pass returned no loss, or other ranks cannot be reached.
        targetless: Micro-batches without a target token: their loss is 0/0 and changes no weight.
        seconds: Mean seconds of training, evaluation and saving left out.
        losses: What the losses of the passes come to; None when some pass had no labels or no loss.
        probe: The first pass since training began, looked at closely; None where it gave no logits.
    """

    tokens: int | None
    bad_micro_batches: tuple[int, ...] | None
    seconds: float
    targetless: int = 0
    losses: LossSums | None = None
    probe: LossProbe | None = None


class TrainMeter:
    """Counts micro-batches in training mode.

    Args:
        ranks: The processes to add up over.
        on_error: Told of an exception in counting; the row lacks the counts then.
    """

    def __init__(self, ranks: Ranks, on_error: Callable[[Exception], None] | None = None) -> None:
        self._ranks = ranks
        self._on_error = on_error
        self._tokens: Tensor | None = None
        self._bad: Tensor | None = None
        self._steps: list[Tensor | None] = []
        self._targetless: Tensor | None = None
        self._without_labels = False
        self._without_loss = False
        self._losses: Tensor | None = None
        self._probe: Tensor | None = None
        self._probed = False
        self._padding: Tensor | None = None
        self._watched_padding = False
        self._started = time.perf_counter()
        self._mark = self._started
        self._excluded = 0.0

    def observe(
        self,
        kwargs: Mapping[str, Any],
        output: Output,
        *,
        shifts: bool,
        pad_id: int | None = None,
        alignment: Alignment | None = None,
        virtual_tokens: int = 0,
    ) -> None:
        """A forward pass in training mode.

        Args:
            kwargs: Keyword arguments of the call.
            output: Its output.
            shifts: Whether the model's loss leaves the first label of a row out.
            pad_id: The pad token, which the first batch is searched for.
            alignment: How its logits and labels belong together; None where that is not known.
            virtual_tokens: Positions that an adapter puts before every row.
        """
        if not self._watched_padding:
            self._watched_padding, self._padding = True, count_padding(kwargs, pad_id)
        labels, empty = kwargs.get("labels"), None
        if isinstance(labels, Tensor):
            counted = labels[..., 1:] if shifts else labels
            count = (counted.detach() != IGNORE).sum()
            self._tokens = count if self._tokens is None else self._tokens + count.to(self._tokens.device)
            empty = count == 0
            known = 0 if self._targetless is None else self._targetless.to(empty.device)
            self._targetless = known + empty.to(torch.int64)
        else:
            self._without_labels = True
        if output.loss is None:
            self._without_loss = True
            return
        if not self._probed:
            self._probed, self._probe = True, probe_loss(kwargs, output, alignment, virtual_tokens)
        if isinstance(labels, Tensor):
            self._add_loss(output.loss, count, kwargs.get("num_items_in_batch"))
        bad = (~output.loss.isfinite()).any()
        if empty is not None:  # the mean over no target is 0/0, and its gradient is 0: no broken batch
            bad = bad & ~empty.to(bad.device)
        bad = bad.to(torch.int64)
        self._bad = bad if self._bad is None else self._bad + bad.to(self._bad.device)

    def _add_loss(self, loss: Tensor, count: Tensor, divisor: Any) -> None:
        mean = loss.detach().float().mean()
        own = count.to(mean.device)
        told = own if divisor is None else torch.as_tensor(divisor, device=mean.device).float().max()
        mean = torch.where(own > 0, mean, torch.zeros_like(mean))  # a mean over no target adds nothing
        sums = torch.stack([mean * told, mean * own])
        self._losses = sums if self._losses is None else self._losses + sums.to(self._losses.device)

    def lose(self) -> None:
        """A forward pass could not be counted: no counts for this window."""
        self._without_labels = self._without_loss = True

    def end_step(self) -> None:
        """The optimizer step is over."""
        self._steps.append(self._bad)
        self._bad = None
        self._mark = time.perf_counter()

    def first_padding(self) -> list[int] | None:
        """Pads among the labels of this rank's first batch, for `add_padding`; None where they were not counted."""
        try:
            local = None if self._padding is None else [int(item) for item in self._padding.tolist()]
        except Exception as error:  # the others are waiting
            local = None
            self._tell(error)
        self._padding, self._watched_padding = None, True
        return local

    def exclude(self) -> None:
        """What happened since the last mark (an evaluation, a save) is not training time."""
        now = time.perf_counter()
        self._excluded += now - self._mark
        self._mark = now

    def restart(self) -> None:
        """Training begins now: what was counted before is none of it."""
        self._tokens, self._targetless, self._steps = None, None, []
        self._without_labels = self._without_loss = False
        self.restart_clock()

    def restart_clock(self) -> None:
        """Training begins now: earlier time, and a step that was broken off, are none of it."""
        self._bad = self._losses = self._probe = None
        self._watched_padding = self._probed = False
        self._started = self._mark = time.perf_counter()
        self._excluded = 0.0

    def part(self) -> dict[str, Any]:
        """This rank's counts since the last call, for :func:`add_counts`; it never raises."""
        now = time.perf_counter()
        try:
            local = self._local(now)
        except Exception as error:  # the others are waiting
            self._tell(error)
            local = {"tokens": None, "bad": None, "seconds": now - self._started, "targetless": 0, "losses": None,
                     "probe": None}  # fmt: skip
        if self._ranks.alone:
            local.update(tokens=None, bad=None, losses=None)  # this rank's share is not the run's
        self._tokens, self._targetless, self._steps, self._losses = None, None, [], None
        self._without_labels = self._without_loss = False
        self._started, self._mark, self._excluded = now, now, 0.0
        return local

    def _tell(self, error: Exception) -> None:
        if self._on_error is not None:
            self._on_error(error)

    def read(self) -> TrainCounts:
        """Counts since the last call, of this process alone."""
        return add_counts([self.part()])

    def _local(self, now: float) -> dict[str, Any]:
        bad = None
        if not self._without_loss:
            present = [step for step in self._steps if step is not None]
            values = iter(torch.stack(present).tolist() if present else [])
            bad = [0 if step is None else int(next(values)) for step in self._steps]
        tokens = None if self._without_labels else int(self._tokens) if self._tokens is not None else 0
        targetless = 0 if self._targetless is None else int(self._targetless)
        seconds = now - self._started - self._excluded
        counts = {"tokens": tokens, "bad": bad, "seconds": seconds, "targetless": targetless}
        return {**counts, **self._local_losses()}

    def _local_losses(self) -> dict[str, Any]:
        losses: list[float] | None = [0.0, 0.0] if self._losses is None else self._losses.tolist()
        if self._without_labels or self._without_loss or not all(map(math.isfinite, losses or ())):
            losses = None
        probe: list[float | None] | None = None if self._probe is None else self._probe.tolist()
        if probe is not None:
            probe = [None if one is None or math.isnan(one) else one for one in probe]
            probe = None if any(probe[place] is None for place in (0, 2, 3)) else probe
        return {"losses": losses, "probe": probe}


def add_counts(parts: Sequence[Mapping[str, Any]]) -> TrainCounts:
    """The counts of all ranks together; what one rank does not know is not known."""
    tokens = None if any(part["tokens"] is None for part in parts) else sum(part["tokens"] for part in parts)
    bad = None
    if all(part["bad"] is not None for part in parts) and len({len(part["bad"]) for part in parts}) == 1:
        bad = tuple(sum(step) for step in zip(*(part["bad"] for part in parts), strict=True))
    seconds = sum(part["seconds"] for part in parts) / len(parts)
    losses = None
    if tokens is not None and all(part["losses"] is not None for part in parts):
        divided, averaged = (sum(part["losses"][place] for part in parts) for place in (0, 1))
        losses = LossSums(divided, averaged, tokens)
    probe = next((LossProbe(*part["probe"]) for part in parts if part["probe"] is not None), None)
    return TrainCounts(tokens, bad, seconds, sum(part["targetless"] for part in parts), losses, probe)
