"""What the forecasts of a run are made from, folded row by row, so that live, offline and resumed runs forecast alike.

A forecast is made when it is asked for, and once: the value keeps it. Who asks for none pays for none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.forecast.family import FamilyRun, family_in
from ko_cpt_callbacks.run.fold import NO_ROWS, NO_STEP, RATE_AHEAD, EvalRows, Length
from ko_cpt_callbacks.run.observation import (
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
    finite_number,
)
from ko_cpt_callbacks.watch.target import LARGEST_STEP

if TYPE_CHECKING:  # numpy: only for who forecasts
    from ko_cpt_callbacks.forecast.band import Band
    from ko_cpt_callbacks.forecast.forecast import Forecast

__all__ = ["Ahead", "Curve", "Outlook", "outlook_of"]

CHUNK: Final = 256
"""Training rows that are copied at most when one is added."""

HOUR: Final = 3600.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A loss over steps.

    Args:
        name: ``train``, or the evaluation set's prefix.
        metric: ``loss``, the Trainer's or a file's, or ``exact_loss``.
        points: ``(step, nats per token)``, in the order of the log.
        bytes_per_token: UTF-8 bytes of the scored text per target token; None where not known.
    """

    name: str
    metric: str
    points: tuple[tuple[float, float], ...]
    bytes_per_token: float | None = None

    @property
    def kind(self) -> str:
        """``train``, or ``eval``: those are few."""
        return "train" if self.name == keys.TRAIN_PREFIX else "eval"

    def until(self, step: float) -> Curve:
        """The curve as it was at a step."""
        return replace(self, points=tuple(point for point in self.points if point[0] <= step))


@dataclass(frozen=True, slots=True)
class Ahead:
    """The learning rate of a whole run, as its scheduler has planned it.

    Args:
        name: The scheduler's class.
        steps: Nodes, increasing; none where the class follows no plan.
        rates: The rate at each; straight lines between them.
    """

    name: str
    steps: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()


Row = tuple[float, float | None, float | None]
"""A training row: step, loss, learning rate. An evaluation: step, the Trainer's loss, the exact one."""


@dataclass(frozen=True, slots=True)
class Trail:
    """Training rows in their order, in whole chunks and a begun one."""

    chunks: tuple[tuple[Row, ...], ...] = ()
    begun: tuple[Row, ...] = ()

    def add(self, row: Row) -> Trail:
        """The trail with one more row."""
        begun = (*self.begun, row)
        return Trail((*self.chunks, begun)) if len(begun) == CHUNK else Trail(self.chunks, begun)

    def __iter__(self) -> Iterator[Row]:
        return self.since(0)

    def __len__(self) -> int:
        return CHUNK * len(self.chunks) + len(self.begun)

    def missed(self, count: int) -> tuple[Row, ...]:
        """The rows between the first so many and the last one: those that a rule which was not asked has not seen."""
        return tuple(self.since(count))[:-1] if count + 1 < len(self) else ()

    def since(self, count: int) -> Iterator[Row]:
        """The rows but for the first so many."""
        first, rest = divmod(count, CHUNK)
        for chunk in (*self.chunks[first:], self.begun):
            yield from chunk[rest:]
            rest = 0


@dataclass(frozen=True, slots=True)
class SetRows:
    """The evaluations of one set since its rows last changed.

    Args:
        seen: The evaluations.
        exact: Whether one of them has an exact loss: then the others do not count.
        bytes_per_token: As the last one that has it tells.
        rows: Which rows they are of.
    """

    seen: tuple[Row, ...] = ()
    exact: bool = False
    bytes_per_token: float | None = None
    rows: EvalRows = NO_ROWS

    def add(self, seen: EvalObservation) -> SetRows:
        """With one more evaluation."""
        rows = self.rows.add(seen)
        before = SetRows() if rows.anew else self
        return SetRows(
            (*before.seen, (seen.step, _sound(seen.loss), _sound(seen.exact_loss))),
            before.exact or seen.exact_loss is not None,
            seen.bytes_per_token or before.bytes_per_token,
            rows,
        )

    def curve(self, name: str) -> Curve | None:
        """The curve of the set; None where no loss was logged."""
        both = [(step, exact if self.exact else loss) for step, loss, exact in self.seen]
        points = tuple((float(step), loss) for step, loss in both if loss is not None)
        metric = keys.EXACT_LOSS if self.exact else keys.LOSS
        return Curve(name, metric, points, self.bytes_per_token) if points else None


@dataclass(frozen=True, slots=True)
class Outlook:
    """The run up to a row, as far as a forecast looks at it.

    Args:
        trail: The training rows.
        sets: The evaluations, by set.
        ahead: The learning rate that the scheduler has planned; None where nothing says it.
        length: How far the run has come.
        tokens: Step and target tokens seen of the last training row that has them; zeros before.
        per_second: Target tokens per second of the last training row that has them, in all processes.
        per_gpu_hour: The same per accelerator and hour; None on a CPU.
        family: Finished runs that this one is compared with step by step.
    """

    trail: Trail = Trail()
    sets: Mapping[str, SetRows] = field(default_factory=dict)
    ahead: Ahead | None = None
    length: Length = NO_STEP
    tokens: tuple[int, int] = (0, 0)
    per_second: float | None = None
    per_gpu_hour: float | None = None
    family: tuple[FamilyRun, ...] = ()
    # Forecasts that were made, by set and last step.
    _made: dict[tuple[str, int], Forecast] = field(init=False, default_factory=dict, compare=False, repr=False)

    def add(self, seen: Observation) -> Outlook:
        """The outlook after one more row."""
        if seen.step > LARGEST_STEP:
            return self
        length = self.length.add(seen)
        if isinstance(seen, TrainObservation):
            tokens = self.tokens if seen.tokens_seen is None else (seen.step, seen.tokens_seen)
            return Outlook(
                self.trail.add((seen.step, _sound(seen.loss), finite_number(seen.learning_rate))), self.sets,
                self.ahead, length, tokens, finite_number(seen.tokens_per_second) or self.per_second,
                finite_number(seen.tokens_per_gpu_hour) or self.per_gpu_hour, self.family,
            )  # fmt: skip
        if isinstance(seen, EvalObservation):
            known = self.sets.get(seen.split, SetRows())
            return replace(self, sets={**self.sets, seen.split: known.add(seen)}, length=length)
        ahead, family = self.ahead, self.family
        if isinstance(seen, SetupObservation):
            ahead, named = _joined(ahead, seen), family_in(seen)
            family = family if named is None else named
        same = length is self.length and ahead is self.ahead and family is self.family
        return self if same else replace(self, ahead=ahead, length=length, family=family)

    @property
    def planned(self) -> int | None:
        """The last step that the run is to have; None where nothing says it."""
        planned = self.length.planned
        return planned if planned is not None and planned <= LARGEST_STEP else None

    @property
    def done(self) -> int:
        """The last step that is known of."""
        return min(self.length.done, LARGEST_STEP)

    def curve(self, name: str) -> Curve | None:
        """The curve of training or of a set; None where it has no loss."""
        if name != keys.TRAIN_PREFIX:
            return self.sets[name].curve(name) if name in self.sets else None
        points = tuple((float(step), loss) for step, loss, _ in self.trail if loss is not None)
        return Curve(name, keys.LOSS, points) if points else None

    def curves(self) -> tuple[Curve, ...]:
        """All there is to be forecast from: training first, then every set."""
        found = (self.curve(name) for name in (keys.TRAIN_PREFIX, *self.sets))
        return tuple(one for one in found if one is not None)

    def forecast(self, name: str, last: int | None = None) -> Forecast | None:
        """Where a curve will end; None where it has no loss, or nothing says when.

        Args:
            name: ``train``, or a set.
            last: The step that is forecast; None: the planned last one.
        """
        curve, end = self.curve(name), self.planned if last is None else last
        if curve is None or end is None or self.planned is None:
            return None
        if (name, end) not in self._made:
            from ko_cpt_callbacks.forecast.forecast import forecast
            from ko_cpt_callbacks.forecast.schedule import schedule_of

            schedule = schedule_of(self.ahead, self.rates(), self.done, self.planned)
            found = forecast(curve.points, schedule, end, kind=curve.kind)
            if self.family:
                from ko_cpt_callbacks.forecast.band import narrowed

                found = narrowed(found, self, name)
            self._made[name, end] = found
        return self._made[name, end]

    def band(self, name: str) -> Band | None:
        """Where the last evaluation of a set stands among the runs of the family; None where there is none."""
        if not self.family:
            return None
        from ko_cpt_callbacks.forecast.band import band_of

        return band_of(self, name)

    @property
    def tokens_per_step(self) -> float | None:
        """Target tokens per optimizer step so far; None where they are not counted."""
        counted, tokens = self.tokens
        return tokens / counted if counted and tokens else None

    def tokens_until(self, step: int) -> float | None:
        """Target tokens from now to a step, at the tokens per step so far; None where they are not counted."""
        each = self.tokens_per_step
        return None if each is None else max(step - self.done, 0) * each

    def hours_for(self, tokens: float) -> tuple[float, bool] | None:
        """How long target tokens take at the last measured speed, and whether these are hours of one accelerator.

        Evaluations and checkpoints are not in it. None where no speed was measured.
        """
        if self.per_gpu_hour is not None:
            return tokens / self.per_gpu_hour, True
        return None if self.per_second is None else (tokens / self.per_second / HOUR, False)

    def rates(self) -> tuple[tuple[float, float], ...]:
        """``(step, learning rate)`` as logged."""
        return tuple((float(step), rate) for step, _, rate in self.trail if rate is not None)


def outlook_of(seen: Iterable[Observation]) -> Outlook:
    """The outlook of a whole run."""
    outlook = Outlook()
    for item in seen:
        outlook = outlook.add(item)
    return outlook


def _sound(loss: float | None) -> float | None:
    """A loss; what is no number is 0.0, which no forecast uses and each names."""
    return loss if loss is None or math.isfinite(loss) else 0.0


def _joined(before: Ahead | None, seen: SetupObservation) -> Ahead | None:
    """The rate as planned: up to a resume as it was planned before, from there on as it is planned now."""
    name = seen.values.get("scheduler")
    if seen.kind != RATE_AHEAD or not isinstance(name, str):
        return before
    steps, rates = (_numbers(seen.values.get(part)) for part in ("steps", "rates"))
    if not steps or len(steps) != len(rates) or any(b <= a for a, b in pairwise(steps)):
        return Ahead(name)
    past = [] if before is None else [one for one in zip(before.steps, before.rates, strict=True) if one[0] < seen.step]
    ahead = [one for one in zip(steps, rates, strict=True) if not past or one[0] >= seen.step]
    both = [*past, *ahead]
    return Ahead(name, tuple(step for step, _ in both), tuple(rate for _, rate in both))


def _numbers(values: object) -> list[float]:
    """The numbers of a list, 0 or more; none where it holds anything else."""
    found = [finite_number(one) for one in values] if isinstance(values, (list, tuple)) else []
    return [one for one in found if one is not None and one >= 0] if None not in found else []
