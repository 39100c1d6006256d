"""The training loss that the Trainer logs, beside what its own forward passes came to.

Where a model's loss is a mean over its micro-batch and the Trainer takes it for a sum that was divided already (a
``compute_loss`` of one's own, a forward that ignores ``num_items_in_batch``), the logged loss is the mean times the
gradient accumulation: transformers issues 37766 and 47688. No perplexity comes of such a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.evidence import LossEvidence, read_evidence
from ko_cpt_callbacks.hf.measure.model_output import Alignment, ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.metrics.perplexity import perplexity

__all__ = ["LossProbe", "LossSums", "TrainLoss", "probe_loss"]

_EQUAL: Final = 0.02
"""Two losses of one forward pass agree within this share: bfloat16 keeps 0.4 %. Chosen, not measured."""
_SCALED: Final = 1.5
"""A logged loss beyond so many times the measured one, or below its inverse, is no average of the same losses: steps
have unlike token counts, and transformers 4.57 divides by a count of unshifted labels, which is 4/3 of the targets in
rows of four tokens. Chosen, not measured."""
_NEAR: Final = 0.1  # how far a factor may lie off a count that explains it, or off the window's before


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


class TrainLoss:
    """What a logged training loss is.

    Args:
        accumulation: Micro-batches of an optimizer step.
        processes: Processes that train together.
    """

    def __init__(self, accumulation: int, processes: int) -> None:
        self._counts = {"accumulation": accumulation, "processes": processes, "both": accumulation * processes}
        self._probe: LossProbe | None = None
        self._before: float | None = None
        self._said = False
        self.cross_entropy = True
        """Whether nothing says that the training loss is another quantity."""

    def judge(
        self, logged: float, sums: LossSums | None, probe: LossProbe | None
    ) -> tuple[float | None, dict[str, Any] | None]:
        """The perplexity of a row, and what must be reported once: the loss is a multiple of the measured one.

        Args:
            logged: The row's loss, nats per token, above 0.
            sums: What the window's forward passes came to; None where they could not be counted, or held a NaN.
            probe: A micro-batch looked at closely; None where none could be.
        """
        self._probe = self._probe or probe
        if not self.cross_entropy:
            return None, None
        measured = None if sums is None or sums.tokens <= 0 else self._measured(sums)
        if measured is None or not measured > 0.0 or not math.isfinite(measured):
            return None, None
        factor = logged / measured
        value = perplexity(logged) if 1.0 / _SCALED < factor < _SCALED else math.inf
        return (value if math.isfinite(value) else None), self._scaled(logged, measured, factor)

    def _measured(self, sums: LossSums) -> float | None:
        """Mean cross-entropy of the window; None where the model's loss is seen to be something else."""
        probe = self._probe
        if probe is None:  # no logits to look at: believe that a model divides by what it was given
            return sums.divided / sums.tokens
        if probe.divisor is not None and _equal(probe.loss * probe.divisor / probe.tokens, probe.cross_entropy):
            return sums.divided / sums.tokens
        return sums.averaged / sums.tokens if _equal(probe.loss, probe.cross_entropy) else None

    def _scaled(self, logged: float, measured: float, factor: float) -> dict[str, Any] | None:
        before, self._before = self._before, factor
        if self._said or 1.0 / _SCALED < factor < _SCALED:
            return None
        by = next((name for name, n in self._counts.items() if n > 1 and _equal(factor, n, _NEAR)), None)
        # A factor that nothing explains is one only where it stays.
        if by is None and (before is None or not _equal(factor, before, _NEAR)):
            return None
        self._said = True
        return {
            "factor": factor,
            "logged": logged,
            "measured": measured,
            "by": by,
            "accumulation": self._counts["accumulation"],
            "processes": self._counts["processes"],
        }


def _equal(one: float, other: float, share: float = _EQUAL) -> bool:
    return abs(one - other) <= share * abs(other)
