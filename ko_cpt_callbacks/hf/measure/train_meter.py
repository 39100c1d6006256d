"""Counts of training through the same forward hook: target tokens, and losses that are no numbers.

The Trainer replaces a NaN loss before it logs (``logging_nan_inf_filter``), so the only place to see it is the
forward pass. Counters stay on the device and are read when the Trainer logs, where it waits for the device anyway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import LossEvidence, read_evidence
from ko_cpt_callbacks.hf.measure.measurement import count_padding
from ko_cpt_callbacks.hf.measure.model_output import Alignment, ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.ranks import Ranks

__all__ = ["LossKind", "TrainMeter"]

# Two losses of one forward pass agree within this share: bfloat16 keeps 0.4 %. Chosen, not measured.
_EQUAL: Final = 0.02

LossKind = Literal["sum", "mean", "other"]
"""What a model returns: the sum of its tokens' losses over the count in its call, their mean, or something else."""


class TrainMeter:
    """Counts micro-batches in training mode."""

    def __init__(self, ranks: Ranks, on_error: Callable[[Exception], None]) -> None:
        self._ranks, self._on_error = ranks, on_error
        self.watches = False
        """Whether the forward passes of any model are seen."""
        self.restart()

    def restart(self) -> None:
        """Training begins now: what was counted before, and a step that was broken off, are none of it."""
        self._bad: Tensor | None = None
        self._step_losses: Tensor | None = None
        self._step_means: list[Tensor] = []
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}
        self._probe: Tensor | None = None
        self._padding: Tensor | None = None
        self._probed = self._padding_seen = False
        self._begin_window(time.perf_counter())

    def _begin_window(self, now: float) -> None:
        self._tokens: Tensor | None = None
        self._targetless: Tensor | None = None
        self._losses: Tensor | None = None
        self._steps: list[Tensor | None] = []
        self._without_labels = self._without_loss = False
        self._started = self._mark = now
        self._excluded = 0.0

    def observe(
        self,
        kwargs: Mapping[str, Any],
        output: ForwardOutput,
        *,
        alignment: Alignment | None,
        virtual_tokens: int = 0,
        pad_id: int | None = None,
    ) -> None:
        """A forward pass in training mode.

        Args:
            kwargs: Keyword arguments of the call.
            output: Its output.
            alignment: How its logits and labels belong together; None where that is not known.
            virtual_tokens: Positions that an adapter puts before every row.
            pad_id: The pad token, which the first batch is searched for.
        """
        if not self._padding_seen:
            self._padding_seen, self._padding = True, count_padding(kwargs, pad_id)
        labels, loss, count = kwargs.get("labels"), output.loss, None
        again = id(labels) in self._seen  # R-Drop and its like: one micro-batch, whose targets count once
        if isinstance(labels, Tensor):
            # The first label of a row has no prediction, unless virtual tokens stand before it.
            scored = labels[..., 1:] if alignment == "causal" and not virtual_tokens else labels
            count = (scored.detach() != IGNORE).sum()
            if not again:
                self._tokens = _plus(self._tokens, count)
                self._targetless = _plus(self._targetless, (count == 0).to(torch.int64))
                self._seen[id(labels)] = labels, torch.zeros((), dtype=torch.bool)
        else:
            self._without_labels = True
        if loss is None:
            self._without_loss = True
            return
        if not self._probed:
            self._probed, self._probe = True, _probe(kwargs, output, alignment, virtual_tokens)
        bad = (~loss.isfinite()).any()
        if isinstance(labels, Tensor) and count is not None:
            own, broken = count.to(loss.device), self._seen[id(labels)][1].to(loss.device)
            # The mean over no target is 0/0, and its gradient is 0: it adds nothing, and is no broken batch.
            bad = bad & (own > 0) & ~broken
            self._seen[id(labels)] = labels, bad | broken
        if count is not None and not again:
            mean, divisor = loss.detach().float().mean(), kwargs.get("num_items_in_batch")
            given = own if divisor is None else torch.as_tensor(divisor, device=mean.device).float().max()
            mean = torch.where(own > 0, mean, torch.zeros_like(mean))
            parts = torch.stack([mean * given, mean * own, mean, own.to(mean.dtype)])
            self._step_losses = _plus(self._step_losses, parts)
            self._step_means.append(mean.to(loss.dtype))
        self._bad = _plus(self._bad, bad.to(torch.int64))

    def lose(self) -> None:
        """A forward pass could not be counted: no counts for this window."""
        self._without_labels = self._without_loss = True

    def end_micro_batch(self) -> None:
        """The next forward pass is another micro-batch's, whatever its labels are."""
        self._seen = {}

    def end_step(self) -> None:
        """The optimizer step is over."""
        self.end_micro_batch()
        self._steps.append(self._bad)
        if self._step_losses is not None:
            *parts, mean, own = self._step_losses
            # The Trainer divides each loss before it adds them up: in the precision of the loss, as here.
            passes = [(item / len(self._step_means)).to(mean.device, mean.dtype) for item in self._step_means]
            sums = torch.stack([*parts, mean, torch.stack(passes).sum(), parts[-1] / own.clamp(min=1)])
            self._losses = _plus(self._losses, sums)
        self._bad, self._step_losses, self._step_means = None, None, []
        self._mark = time.perf_counter()

    def first_padding(self) -> list[int] | None:
        """Pads among the labels of this rank's first batch, for `add_padding`; None where they were not counted."""
        try:
            local = None if self._padding is None else [int(item) for item in self._padding.tolist()]
        except Exception as error:  # the others are waiting
            local = None
            self._on_error(error)
        self._padding, self._padding_seen = None, True
        return local

    def exclude(self) -> None:
        """What happened since the last mark (an evaluation, a save) is not training time."""
        now = time.perf_counter()
        self._excluded += now - self._mark
        self._mark = now

    def part(self) -> dict[str, Any]:
        """This rank's counts since the last call, JSON-safe; it never raises.

        Returns:
            ``tokens``: target tokens; None when some pass had no labels. ``bad``: non-finite micro-batches of each
            optimizer step; None when some pass returned no loss. ``seconds``: of training, evaluations and saving left
            out. ``targetless``: micro-batches without a target: their loss is 0/0 and changes no weight. ``losses``:
            sums of each loss times the count that the model was given to divide by, of each times the micro-batch's
            own targets, and over the steps of the sum, of the mean and of the mean over all targets of their losses;
            NaN where not known. ``loss_kind``: what the first pass of the training returned; None where it gave no
            logits to compare with.
        """
        now = time.perf_counter()
        try:
            local = self._local(now)
        except Exception as error:  # the others are waiting
            self._on_error(error)
            local = {**_UNKNOWN, "seconds": now - self._started, "targetless": 0}
        if self._ranks.alone or not self.watches:
            local |= _UNKNOWN  # this rank's share is not the run's, and what was not counted is not none
        self._begin_window(now)
        return local

    def _local(self, now: float) -> dict[str, Any]:
        bad, losses = None, _NO_LOSSES
        if not self._without_loss:
            present = [step for step in self._steps if step is not None]
            values = iter(torch.stack(present).tolist() if present else [])
            bad = [0 if step is None else int(next(values)) for step in self._steps]
            if not self._without_labels:
                losses = [0.0] * 5 if self._losses is None else self._losses.tolist()
        return {
            "tokens": None if self._without_labels else 0 if self._tokens is None else int(self._tokens),
            "bad": bad,
            "seconds": now - self._started - self._excluded,
            "targetless": 0 if self._targetless is None else int(self._targetless),
            "losses": losses,
            "loss_kind": None if self._probe is None else _kind(*self._probe.tolist()),
        }


_NO_LOSSES: Final = [math.nan] * 5
_UNKNOWN: Final[dict[str, Any]] = {"tokens": None, "bad": None, "losses": _NO_LOSSES, "loss_kind": None}


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total + more.to(total.device)


def _probe(
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


def _kind(loss: float, divisor: float, tokens: float, cross_entropy: float) -> LossKind | None:
    if math.isnan(loss + cross_entropy):
        return None
    if _equal(loss * divisor / tokens, cross_entropy):
        return "sum"
    return "mean" if _equal(loss, cross_entropy) else "other"


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= _EQUAL * abs(other)
