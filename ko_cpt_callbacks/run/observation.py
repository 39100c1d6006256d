"""One logged row as plain numbers with units.

An observation is identified by its (split, step): a later one with the same pair replaces the earlier one for
every later decision (the Trainer can evaluate a step twice: ``eval_on_start``, a resume). ``None`` always
means "not in the row"; NaN and infinities are kept as floats, because they are what some rules look for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import bits_per_byte, bits_per_byte_from_loss
from ko_cpt_callbacks.run.kind import TrainerKind

__all__ = [
    "EndObservation", "EvalObservation", "Level", "Observation", "SetupObservation", "TrainObservation",
    "count_from_one", "finite_error", "finite_number", "level_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainObservation:
    """A training row.

    Args:
        step: Optimizer step at which the row was logged, >= 0.
        epoch: Epochs trained so far.
        loss: The Trainer's loss in nats per token: a mean over the steps since the previous row. May be NaN,
            infinite, or the 0.0 that the Trainer writes in place of NaN.
        grad_norm: Norm of the gradient before clipping, of the last step of the row. Absent before
            transformers 4.38.
        learning_rate: As scheduled at this step.
        nonfinite_steps: Optimizer steps since the previous row whose raw loss was NaN or infinite, counted by
            our forward hook. ``None``: not counted. 0: counted, none.
        nonfinite_first_step: The first of them.
        targetless_micro_batches: Micro-batches since the previous row without a target token, whose loss of 0/0
            counts in ``nonfinite_steps`` no more. ``None``: none.
        tokens_seen: Target tokens since the start, over all ranks.
        tokens_per_second: Target tokens per second of training.
        input_tokens: Tokens fed to the model so far, as TRL (``num_tokens``: the attention masks' sum) or the
            Trainer (``num_input_tokens_seen``) counts them; pads count in the latter, and in the former where the
            mask is all ones. May restart at a resume.
        kind: What the row's other keys say that is trained; ``None``, as mostly: nothing.
        tokens_per_gpu_hour: Target tokens per accelerator and hour of training; ``None`` on a CPU.
    """

    step: int
    epoch: float | None = None
    loss: float | None = None
    grad_norm: float | None = None
    learning_rate: float | None = None
    nonfinite_steps: int | None = None
    nonfinite_first_step: int | None = None
    tokens_seen: int | None = None
    tokens_per_second: float | None = None
    input_tokens: int | None = None
    targetless_micro_batches: int | None = None
    kind: TrainerKind | None = None
    tokens_per_gpu_hour: float | None = None

    @property
    def split(self) -> str:
        """The name under which training rows are identified."""
        return keys.TRAIN_PREFIX


@dataclass(frozen=True, slots=True)
class EvalObservation:
    """One evaluation of one set.

    Args:
        step: Optimizer step at which the model was evaluated, >= 0.
        epoch: Epochs trained so far.
        split: The prefix as logged: ``eval``, ``eval_ko``, ``test``.
        loss: The Trainer's own loss in nats per token: a mean of per-batch means, which depends on the
            batch size, and from which transformers 5.23 leaves NaN batches out.
        exact_loss: Sum of the negative log-likelihood / number of target tokens, in nats per token.
        exact_loss_se: Its standard error in nats per token, the row as cluster.
        bits_per_byte: The same sum in bits over the UTF-8 bytes of the scored text.
        bits_per_byte_se: Its standard error.
        tokens: Target tokens.
        bytes: UTF-8 bytes of the scored text.
        rows: Rows with at least one target token.
        nonfinite_batches: Batches with a NaN or infinite loss over all ranks. ``None``: not counted.
        targetless_batches: Batches without a target token over all ranks. ``None``: none, or not counted.
        fingerprint: Which text was evaluated.
        exact_loss_change_se: Standard error of the exact loss's change since the set's evaluation before on these rows.
        exact_loss_absent: Why the callback measured no exact loss.
        error_bar_absent: Why its exact loss has no standard error.
        bits_per_byte_absent: Why it measured no bits per byte.
        kind: What the row's other keys say that is trained; ``None``, as mostly: nothing.
    """

    step: int
    epoch: float | None = None
    split: str = "eval"
    loss: float | None = None
    exact_loss: float | None = None
    exact_loss_se: float | None = None
    bits_per_byte: float | None = None
    bits_per_byte_se: float | None = None
    tokens: int | None = None
    bytes: int | None = None
    rows: int | None = None
    nonfinite_batches: int | None = None
    targetless_batches: int | None = None
    fingerprint: str | None = None
    exact_loss_change_se: float | None = None
    exact_loss_absent: str | None = None
    error_bar_absent: str | None = None
    bits_per_byte_absent: str | None = None
    kind: TrainerKind | None = None

    @property
    def is_over_no_target(self) -> bool:
        """Whether the Trainer's loss is NaN only as the mean over no target, 0/0.

        So it is where each batch with a target was counted as finite, and one had none or none had one.
        """
        counted = self.nonfinite_batches == 0 and (self.tokens == 0 or bool(self.targetless_batches))
        return counted and self.loss is not None and math.isnan(self.loss)

    @property
    def bytes_per_token(self) -> float | None:
        """UTF-8 bytes of the scored text per target token, above 0; ``None`` where the row does not tell.

        From the counts, or else from a loss and the bits per byte of the same sum.

        >>> EvalObservation(0, tokens=300, bytes=1000).bytes_per_token
        3.3333333333333335
        """
        if self.tokens is not None and self.bytes is not None and self.tokens > 0 and self.bytes > 0:
            return self.bytes / self.tokens
        loss = self.loss if self.exact_loss is None else self.exact_loss
        bits = self.bits_per_byte
        if loss is None or bits is None or not (0.0 < loss < math.inf and 0.0 < bits < math.inf):
            return None
        reach = bits_per_byte(loss, 1) / bits
        return reach if 0.0 < reach < math.inf else None


@dataclass(frozen=True, slots=True)
class EndObservation:
    """The Trainer's last row: training is over.

    Args:
        step: The last optimizer step.
        train_loss: Mean of the training loss over the whole run, in nats per token. It is *not* the loss at
            this step and is never compared with one.
    """

    step: int
    train_loss: float | None = None


@dataclass(frozen=True, slots=True)
class SetupObservation:
    """Something seen once at the start (stage, audit of the arguments, padding in the first batch).

    Args:
        step: Optimizer step at which it was seen.
        kind: What was looked at.
        values: What was seen, JSON values.
    """

    step: int
    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)


Observation: TypeAlias = TrainObservation | EvalObservation | EndObservation | SetupObservation


def count_from_one(value: object) -> int | None:
    """A value of a file as a whole number of at least 1; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def finite_number(value: object) -> float | None:
    """A value of a file as a number; None for truth values, texts, NaN, infinities, and integers beyond 1e308.

    >>> finite_number(3), finite_number(True), finite_number(10**400)
    (3.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Level:
    """A metric of one evaluation: nats per token (for ``ppl`` too) or bits per byte; finite.

    ``source`` is the loss it comes from, ``notes`` say how it was come by.
    """

    value: float
    se: float | None
    source: str
    notes: tuple[str, ...] = ()


def level_of(metric: str, seen: EvalObservation) -> Level | str:
    """A metric of an evaluation, or why there is none: ``non-finite``, ``substitute`` or ``unmeasured``.

    ``ppl`` and ``bits_per_byte`` come from the exact loss, whose sum over tokens they are defined by. The Trainer's
    loss never stands in for it: it is a mean of batch means, and with label smoothing or a loss function of one's own
    another quantity. The exact loss does stand in for a Trainer's that is not there, and a note says so.
    """
    own = None if seen.is_over_no_target else seen.loss
    losses = (seen.exact_loss, own)
    if seen.nonfinite_batches or any(loss is not None and not math.isfinite(loss) for loss in losses):
        return "non-finite"
    if metric == keys.BITS_PER_BYTE and seen.bits_per_byte is not None:
        if not math.isfinite(seen.bits_per_byte):
            return "non-finite"
        return _with_bar(Level(seen.bits_per_byte, finite_error(seen.bits_per_byte_se), metric))
    if metric == keys.LOSS and own is not None:
        return _with_bar(Level(own, None, keys.LOSS))
    value, se = seen.exact_loss, finite_error(seen.exact_loss_se)
    if value is None:
        return "unmeasured" if own is None else "substitute"
    if metric != keys.BITS_PER_BYTE:
        return _with_bar(Level(value, se, keys.EXACT_LOSS, ("exact-loss",) if metric == keys.LOSS else ()))
    if not seen.tokens or not seen.bytes:
        return "unmeasured"
    bits = bits_per_byte_from_loss(value, seen.tokens, seen.bytes)
    error = None if se is None else finite_error(bits_per_byte_from_loss(se, seen.tokens, seen.bytes))
    if not math.isfinite(bits):
        return "non-finite"
    return _with_bar(Level(bits, error, keys.EXACT_LOSS, ("bits-from-loss",)))


def finite_error(se: float | None) -> float | None:
    """A standard error, in the unit of its value; ``None`` where it is none: negative, NaN or infinite."""
    return se if se is not None and math.isfinite(se) and se >= 0 else None


def _with_bar(level: Level) -> Level:
    return level if level.se is not None else replace(level, notes=(*level.notes, "no-error-bar"))
