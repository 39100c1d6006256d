"""Counts of training through the same forward hook: target tokens, and losses that are no numbers.

The Trainer replaces a NaN loss before it logs (``logging_nan_inf_filter``), so the only place to see it is the
forward pass. Counters stay on the device and are read when the Trainer logs, where it waits for the device anyway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.evidence import LossEvidence, read_evidence
from ko_cpt_callbacks.hf.measure.measurement import count_padding
from ko_cpt_callbacks.hf.measure.model_output import Alignment, ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.ranks import Ranks

__all__ = ["LossProbe", "LossSums", "TrainCounts", "TrainMeter", "TrainTotals", "add_counts", "resumed_totals"]


@dataclass(frozen=True, slots=True)
class LossProbe:
    """One micro-batch, looked at closely.

    Args:
        loss: What the model returned.
        divisor: The count of targets that it divides by, as given; None where none was given.
        tokens: Its own targets.
        cross_entropy: Their mean cross-entropy, from the logits of the same pass.
    """

    loss: float
    divisor: float | None
    tokens: float
    cross_entropy: float


@dataclass(frozen=True, slots=True)
class LossSums:
    """The losses of one logging window, over all ranks.

    Args:
        divided: Sum of loss times the count that the model was given to divide by: its sums, where it did.
        averaged: Sum of loss times the micro-batch's own targets: its sums, where it averaged over those.
        tokens: Targets behind either.
    """

    divided: float = 0.0
    averaged: float = 0.0
    tokens: int = 0

    def plus(self, other: LossSums) -> LossSums:
        """Both windows together."""
        return LossSums(self.divided + other.divided, self.averaged + other.averaged, self.tokens + other.tokens)


def probe_loss(
    kwargs: Mapping[str, Any], output: ForwardOutput, alignment: Alignment | None, virtual_tokens: int
) -> Tensor | None:
    """Loss, divisor (NaN where none), targets and mean cross-entropy of a pass, on its device; None without logits."""
    found = read_evidence(kwargs, output, (), alignment, virtual_tokens=virtual_tokens)
    if not isinstance(found, LossEvidence) or found.nll is None or found.labels is None or output.loss is None:
        return None
    device, count = output.loss.device, (found.labels != IGNORE).sum()
    divisor = kwargs.get("num_items_in_batch")
    given = torch.tensor(math.nan) if divisor is None else torch.as_tensor(divisor).float()
    parts = (output.loss.float().mean(), given.max(), count.float(), found.nll.float().sum() / count)
    return torch.stack([part.detach().to(device) for part in parts])


@dataclass(slots=True)
class TrainTotals:
    """What the counts add up to: the numbers of the next training row.

    Attributes:
        tokens_seen: Target tokens since the start of the run; None once they are not known.
        step: Last optimizer step that was counted.
        devices: Accelerators at work; 0 on CPU.
        bad: Non-finite micro-batches of each step since the last training row.
        targetless: Micro-batches without a target token since the last training row.
        losses: What the losses since the last training row come to; None once they are not known.
    """

    tokens_seen: int | None = 0
    step: int = 0
    devices: int = 0
    bad: dict[int, int] = field(default_factory=dict)
    targetless: int = 0
    losses: LossSums | None = field(default_factory=LossSums)
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
        self.targetless += counts.targetless
        both = self.losses, counts.losses
        self.losses = None if both[0] is None or both[1] is None else both[0].plus(both[1])
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
        if self.targetless:
            row[keys.TARGETLESS_MICRO_BATCHES] = self.targetless
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
        self._tokens, self._seconds, self.targetless, self.losses = 0, 0.0, 0, LossSums()
        return row


def resumed_totals(live: Sequence[Mapping[str, Any]], start_step: int, devices: int) -> TrainTotals:
    """The totals of a training that begins at ``start_step``, from the lines on record that hold.

    Args:
        live: Lines of ``rows.jsonl`` up to ``start_step``.
        start_step: Optimizer steps done; 0 for a training that begins anew.
        devices: Accelerators at work.
    """
    totals = TrainTotals(tokens_seen=0, step=start_step, devices=devices)
    if not start_step:
        return totals
    counted = [line for line in live if keys.TOKENS_SEEN in line]
    at_start = [line for line in counted if line.get(keys.STEP) == start_step]
    # A checkpoint's line holds the steps since the last log row too; without it they are unknown.
    totals.tokens_seen = int(at_start[-1][keys.TOKENS_SEEN]) if at_start else None
    if not any(line.get(keys.STEP) == start_step for line in live if _closes_window(line)):
        totals.forget_window()
    last = counted[-1] if counted else {}
    if last.get(keys.KIND) == keys.KIND_CHECKPOINT and last.get(keys.STEP) == start_step:
        totals.targetless = int(last.get(keys.TARGETLESS_MICRO_BATCHES) or 0)
        first, steps = last.get(keys.NONFINITE_FIRST_STEP), int(last.get(keys.NONFINITE_STEPS) or 0)
        if first is not None and steps:
            bad = int(last.get(keys.NONFINITE_MICRO_BATCHES) or steps)
            totals.bad = {int(first) + offset: 0 for offset in range(steps)} | {int(first): bad}
    return totals


def _closes_window(line: Mapping[str, Any]) -> bool:
    """Whether nothing before this line is unknown to a row after it: a training row, or a checkpoint's counts."""
    kind = line.get(keys.KIND)
    return kind == keys.KIND_TRAIN or (kind == keys.KIND_CHECKPOINT and keys.NONFINITE_STEPS in line)


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
        on_error: Called with an exception in counting; the row lacks the counts then.
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
        self.watches = False
        """Whether the forward passes of any model are seen."""
        self._padding: Tensor | None = None
        self._watched_padding = False
        self._started = time.perf_counter()
        self._mark = self._started
        self._excluded = 0.0

    def observe(
        self,
        kwargs: Mapping[str, Any],
        output: ForwardOutput,
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
        given = own if divisor is None else torch.as_tensor(divisor, device=mean.device).float().max()
        mean = torch.where(own > 0, mean, torch.zeros_like(mean))  # a mean over no target adds nothing
        sums = torch.stack([mean * given, mean * own])
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
