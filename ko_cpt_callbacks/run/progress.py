"""What a run has reached so far: first, last and best of every set. Part of the monitor's fold.

NaN and infinite values never get in: a value that is not finite is ``None`` with ``finite`` false, cannot be
the best, and cannot poison a later comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.fold import NO_ROWS, NO_STEP, NOTHING_SEEN, EvalRows, KindSeen, Length
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
    finite_number,
)

__all__ = ["LOADS_BEST", "EvalPoint", "EvalProgress", "RunProgress", "Summary", "TrainProgress", "trace"]

LOADS_BEST: Final = "load_best_model_at_end"
"""Value of a ``plan`` row: whether the best model is loaded when training is over."""
_SAME_MODEL: Final = 1e-6
"""How far two losses of one model on the same rows differ, relatively: sums of the same terms. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class EvalPoint:
    """One evaluation as a summary shows it.

    Args:
        step: Optimizer step.
        value: Loss in nats per token; ``None`` where it was NaN or infinite.
        metric: Which loss that is: ``exact_loss``, or ``loss`` (the Trainer's) where there is none.
        finite: False where the loss, or any batch behind it, was NaN or infinite.
        se: Standard error of the exact loss; ``None`` with the Trainer's.
        ppl: ``exp(value)``; ``None`` where the loss is known to be no cross-entropy of tokens.
        bits_per_byte: Bits per byte of the scored text.
        bits_per_byte_se: Its standard error.
        tokens: Target tokens.
        bytes: UTF-8 bytes of the scored text.
        rows: Rows with a target token.
    """

    step: int
    value: float | None
    metric: str
    finite: bool = True
    se: float | None = None
    ppl: float | None = None
    bits_per_byte: float | None = None
    bits_per_byte_se: float | None = None
    tokens: int | None = None
    bytes: int | None = None
    rows: int | None = None

    @classmethod
    def of(cls, seen: EvalObservation) -> EvalPoint | None:
        """The point of an evaluation; ``None`` where it logged no loss of either kind, or no token had one."""
        exact = seen.exact_loss is not None
        loss = seen.exact_loss if exact else seen.loss
        # Without any loss, counted bad batches still make it an evaluation: one that failed.
        if not seen.nonfinite_batches and (loss is None or (not exact and seen.tokens == 0)):
            return None
        value = finite_number(loss)
        return cls(
            step=seen.step,
            value=value,
            metric=keys.EXACT_LOSS if exact else keys.LOSS,
            finite=value is not None and not seen.nonfinite_batches,
            se=finite_number(seen.exact_loss_se) if exact else None,
            ppl=None if value is None else finite_number(perplexity(value)),
            bits_per_byte=finite_number(seen.bits_per_byte),
            bits_per_byte_se=finite_number(seen.bits_per_byte_se),
            tokens=seen.tokens,
            bytes=seen.bytes,
            rows=seen.rows,
        )


def _better(best: EvalPoint | None, point: EvalPoint) -> EvalPoint | None:
    """The lower of two evaluations; an exact loss is never compared with the Trainer's, it replaces it."""
    if not point.finite or point.value is None:
        return best
    if best is None or best.value is None:
        return point
    if best.metric != point.metric:
        return point if point.metric == keys.EXACT_LOSS else best
    return point if point.value < best.value else best


@dataclass(frozen=True, slots=True)
class EvalProgress:
    """The evaluations of one set; first, last and best are of the rows that are evaluated now.

    Args:
        evaluations: How many, of other rows before included.
        first: The first.
        last: The last.
        best: The lowest; ``None`` while none was finite.
        rows: Which rows they are of.
        before: Without the last, which a repeat replaces.
    """

    evaluations: int
    first: EvalPoint
    last: EvalPoint
    best: EvalPoint | None
    rows: EvalRows = NO_ROWS
    before: EvalProgress | None = None

    @property
    def change(self) -> float | None:
        """The last loss less the first, in nats per token.

        None where there is one evaluation, where one of the two was not finite, and where an exact loss would be
        compared with the Trainer's. It has no standard error: both are of the same rows, and what the loss of each was
        is not kept here; the two losses' own errors added are too wide where the same rows are hard before and after.
        """
        first, last = self.first, self.last
        if first.step == last.step or first.metric != last.metric or not (first.finite and last.finite):
            return None
        if first.value is None or last.value is None:
            return None
        return last.value - first.value

    def of_kind(self, seen: KindSeen) -> EvalProgress:
        """The same, without the perplexities that such a run does not have."""
        if seen.language and seen.trained_on is None:
            return self
        first, last, best = (
            point if point is None or point.ppl is None or (seen.language and point.metric == keys.EXACT_LOSS)
            else replace(point, ppl=None)
            for point in (self.first, self.last, self.best)
        )  # fmt: skip
        assert first is not None and last is not None
        return replace(self, first=first, last=last, best=best)

    @classmethod
    def begin(cls, seen: EvalObservation, point: EvalPoint) -> EvalProgress:
        """The progress after a set's first evaluation."""
        return cls(evaluations=1, first=point, last=point, best=_better(None, point), rows=NO_ROWS.add(seen))

    def add(self, seen: EvalObservation, point: EvalPoint) -> EvalProgress:
        """The progress after one more evaluation; one of the same step as the last replaces it."""
        base = self
        if point.step == self.last.step:
            if self.before is None:
                return EvalProgress.begin(seen, point)
            base = self.before
        base = replace(base, before=None)
        rows, count = base.rows.add(seen), base.evaluations + 1
        if rows.anew:
            return EvalProgress(count, point, point, _better(None, point), rows, base)
        return EvalProgress(count, base.first, point, _better(base.best, point), rows, base)


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """The training rows: how many, the first and last loss (``None`` where NaN or infinite), speed."""

    points: int = 0
    first_step: int | None = None
    first_loss: float | None = None
    last_step: int | None = None
    last_loss: float | None = None
    tokens_seen: int | None = None
    tokens_per_second: float | None = None

    def add(self, seen: TrainObservation) -> TrainProgress:
        """The progress after one more training row; one of the same step as the last replaces it.

        A row without a loss that can be read has none to be first or last.
        """
        if seen.loss is None:
            tokens = self.tokens_seen if seen.tokens_seen is None else seen.tokens_seen
            return replace(self, tokens_seen=tokens)
        repeat = self.points > 0 and seen.step == self.last_step
        points = self.points if repeat else self.points + 1
        loss = finite_number(seen.loss)
        speed = finite_number(seen.tokens_per_second)
        return TrainProgress(
            points=points,
            first_step=seen.step if points == 1 else self.first_step,
            first_loss=loss if points == 1 else self.first_loss,
            last_step=seen.step,
            last_loss=loss,
            tokens_seen=self.tokens_seen if seen.tokens_seen is None else seen.tokens_seen,
            tokens_per_second=self.tokens_per_second if speed is None else speed,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in short: what ``callback.summary()`` returns and ``ko-cpt check`` shows.

    Args:
        train: The training rows.
        splits: Per evaluation set: number of evaluations; first, last and best point of the rows that are evaluated
            now, and the step since which they are (``rows_since``; ``None``: since the first evaluation).
        ended: Whether the Trainer's last row was seen.
        seen: What is known of the kind of training.
        length: How far it has come, and by what it was stopped.
    """

    train: TrainProgress
    splits: Mapping[str, EvalProgress]
    ended: bool
    seen: KindSeen = NOTHING_SEEN
    length: Length = NO_STEP

    def as_dict(self) -> dict[str, Any]:
        """The summary as strict JSON (it holds no NaN)."""
        splits = {
            name: {
                "evaluations": seen.evaluations,
                "first": asdict(seen.first),
                "last": asdict(seen.last),
                "best": None if seen.best is None else asdict(seen.best),
                "rows_since": seen.rows.since,
            }
            for name, seen in self.splits.items()
        }
        return {"train": asdict(self.train), "splits": splits, "ended": self.ended}


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The fold behind a `Summary`."""

    train: TrainProgress = TrainProgress()
    splits: Mapping[str, EvalProgress] = field(default_factory=dict)
    ended: bool = False
    seen: KindSeen = NOTHING_SEEN
    length: Length = NO_STEP
    loads_best: bool = False

    def settled(self, split: str, step: int) -> bool:
        """Whether training is over and its evaluation of a set at a step stands: a later one is of what was loaded."""
        known = self.splits.get(split)
        return self.ended and known is not None and known.last.step >= step

    def aside(self, seen: Observation) -> bool:
        """Whether an evaluation comes after training and is of the loaded best model, or repeats what stands.

        With ``load_best_model_at_end`` the best checkpoint is loaded when training is over. The Trainer's own log does
        not say so; there an evaluation whose loss is that of the best one tells it.
        """
        if not self.ended or not isinstance(seen, EvalObservation) or seen.split not in self.splits:
            return False
        known, point = self.splits[seen.split], EvalPoint.of(seen)
        if self.loads_best or point is None or self.settled(seen.split, seen.step):
            return True
        best = known.best
        if best is None or best.value is None or point.value is None or best.metric != point.metric:
            return False
        return best.step < known.last.step and math.isclose(best.value, point.value, rel_tol=_SAME_MODEL)

    def add(self, seen: Observation) -> RunProgress:
        """The progress after one more observation."""
        kind, length = self.seen.add(seen), self.length.add(seen)
        if isinstance(seen, TrainObservation):
            return RunProgress(self.train.add(seen), self.splits, False, kind, length, self.loads_best)
        if kind is not self.seen or length is not self.length:
            self = replace(self, seen=kind, length=length)
        if isinstance(seen, EvalObservation):
            point = EvalPoint.of(seen)
            if point is None:
                return self
            known = self.splits.get(seen.split)
            now = EvalProgress.begin(seen, point) if known is None else known.add(seen, point)
            return replace(self, splits={**self.splits, seen.split: now})
        if isinstance(seen, EndObservation):
            return replace(self, ended=True)
        if isinstance(seen, SetupObservation) and isinstance(seen.values.get(LOADS_BEST), bool):
            return replace(self, loads_best=seen.values[LOADS_BEST])
        return self

    def heard(self, findings: Iterable[Finding]) -> RunProgress:
        """The progress after findings were made."""
        kind = self.seen.heard(findings)
        return self if kind is self.seen else replace(self, seen=kind)

    def summary(self) -> Summary:
        """What a user is shown."""
        splits = {name: split.of_kind(self.seen) for name, split in self.splits.items()}
        return Summary(self.train, splits, self.ended, self.seen, self.length)


def trace(curves: MutableMapping[str, list[float | None]], seen: Observation) -> None:
    """Add what an observation shows of a loss to its curve: of training, or of an evaluation set."""
    if isinstance(seen, TrainObservation) and seen.loss is not None:
        curves.setdefault(keys.TRAIN_PREFIX, []).append(seen.loss)
    elif isinstance(seen, EvalObservation) and (point := EvalPoint.of(seen)) is not None:
        curves.setdefault(seen.split, []).append(point.value if point.finite else None)
