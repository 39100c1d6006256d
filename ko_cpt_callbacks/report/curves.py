"""The curves of a run from its observations, on one axis of steps, and the forecasts that go on from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.forecast.outlook import outlook_of
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.chart import Axis, ChartMark
from ko_cpt_callbacks.report.drawing import Line, Point, number
from ko_cpt_callbacks.report.subject import ShownRun, Subject
from ko_cpt_callbacks.run.facts import RunState
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation, finite_number
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.run.retention import is_retention

__all__ = [
    "Fans", "axis_of", "bits", "fans_of", "gaps", "losses", "of_training", "retained", "shared_axis",
    "speeds", "splits_of", "trainer_losses",
]  # fmt: skip

_GRAVE: Final = (Severity.ERROR, Severity.WARNING)


def axis_of(subject: Subject, ahead: Iterable[Line] = ()) -> Axis:
    """From the first step to the last, forecast ones too, with seams between stages and the steps of grave findings."""
    starts = [part.judgement.counts.first_step or 0 for part in subject.parts]
    ends = [*(part.end for part in subject.parts), *(point.x for line in ahead for point in line.points)]
    seams = [ChartMark(part.offset, "seam", part.name) for part in subject.parts[1:]]
    grave = [
        ChartMark(part.offset + found.step, found.severity.value, found.code)
        for part, found in subject.findings if found.step is not None and found.severity in _GRAVE
    ]  # fmt: skip
    return Axis(min(starts, default=0), max(ends, default=0), (*seams, *grave))


def shared_axis(subjects: Iterable[Subject]) -> Axis:
    """From the first step of all to the last, without marks."""
    axes = [axis_of(subject) for subject in subjects]
    return Axis(min(axis.start for axis in axes), max(axis.end for axis in axes))


def splits_of(subject: Subject, *, retention: bool | None = None) -> list[str]:
    """The evaluation sets, in the order they came: those that must not be forgotten, the others, or (None) all."""
    found: dict[str, bool] = {}
    for part in subject.parts:
        for split in part.judgement.summary.splits:
            found.setdefault(split, is_retention(split, part.judgement.watch.retention))
    return [split for split, kept in found.items() if retention in (None, kept)]


def of_training(subject: Subject, name: str, value: str, color: int) -> Line:
    """A number of the training rows, ``value`` being an attribute of `TrainObservation`."""

    def point(seen: Observation, step: int) -> Point | None:
        number = getattr(seen, value) if isinstance(seen, TrainObservation) else None
        if number is None:
            return None
        # The Trainer writes 0.0 in place of a loss that is NaN.
        return Point(step, finite_number(number) if number or value != keys.LOSS else None)

    return _by_step(subject, name, point, color, "thin")


def losses(subject: Subject, split: str, name: str, color: int) -> Line:
    """The loss of an evaluation set: exact where it was measured, else the Trainer's."""

    def point(seen: EvalObservation, step: int) -> Point | None:
        found = EvalPoint.of(seen)
        if found is None:
            return None
        return Point(step, found.value if found.finite else None, found.se)

    return _evaluations(subject, split, name, point, color)


def trainer_losses(subject: Subject, split: str, name: str, color: int) -> Line:
    """The Trainer's own loss of an evaluation set where there is an exact one beside it."""

    def point(seen: EvalObservation, step: int) -> Point | None:
        if seen.loss is None or seen.exact_loss is None:
            return None
        return Point(step, finite_number(seen.loss))

    return _evaluations(subject, split, name, point, color, "dashed")


def bits(subject: Subject, split: str, name: str, color: int) -> Line:
    """Bits per byte of an evaluation set."""

    def point(seen: EvalObservation, step: int) -> Point | None:
        if seen.bits_per_byte is None:
            return None
        value = finite_number(seen.bits_per_byte)
        return Point(step, value, None if value is None else finite_number(seen.bits_per_byte_se))

    return _evaluations(subject, split, name, point, color)


def retained(subject: Subject, split: str, name: str, color: int) -> Line:
    """By what share the loss of a retention set lies above its first value; of one kind of loss only."""
    first: list[EvalPoint] = []

    def point(seen: EvalObservation, step: int) -> Point | None:
        found = EvalPoint.of(seen)
        if found is None:
            return None
        if not found.finite or not found.value:
            return Point(step, None)
        if not first:
            first.append(found)
        start = first[0]
        if start.metric != found.metric or not start.value:
            return None
        return Point(step, found.value / start.value - 1.0)

    return _evaluations(subject, split, name, point, color)


def gaps(subject: Subject, split: str, name: str, color: int) -> Line:
    """Evaluation loss less training loss over the same steps, in nats per token.

    As the rules see it: the mean of two evaluations in a row less the mean of the training losses between them.
    """

    def points(part: ShownRun) -> Iterable[Point]:
        trained: list[float] = []
        marks: dict[int, tuple[EvalPoint, list[float]]] = {}
        for seen in part.seen:
            if isinstance(seen, TrainObservation):
                loss = finite_number(seen.loss)
                trained.extend([loss] if loss else [])
            elif isinstance(seen, EvalObservation) and seen.split == split:
                found = EvalPoint.of(seen)
                if found is not None and found.finite:
                    # One of the same step replaces the other and is of the same training.
                    between = trained if trained or seen.step not in marks else marks[seen.step][1]
                    marks[seen.step], trained = (found, between), []
        for (before, _), (now, between) in pairwise(marks.values()):
            if between and before.value is not None and now.value is not None and before.metric == now.metric:
                value = 0.5 * (before.value + now.value) - sum(between) / len(between)
                yield Point(part.offset + now.step, value)

    return _line(subject, name, points, color)


def speeds(subject: Subject, name: str) -> Line:
    """Tokens per GPU hour of the rows, where they have it: in our own record on accelerators."""

    def points(part: ShownRun) -> Iterable[Point]:
        for row in part.judgement.run.rows:
            step, speed = row.get(keys.STEP), finite_number(row.get(keys.TOKENS_PER_GPU_HOUR))
            if isinstance(step, int) and speed is not None and speed > 0:
                yield Point(part.offset + step, speed)

    return _line(subject, name, points, 4, "line")


def _evaluations(
    subject: Subject, split: str, name: str, point: Callable[[EvalObservation, int], Point | None], color: int,
    style: str = "line",
) -> Line:  # fmt: skip
    def of_set(seen: Observation, step: int) -> Point | None:
        return point(seen, step) if isinstance(seen, EvalObservation) and seen.split == split else None

    return _by_step(subject, name, of_set, color, style)


def _by_step(
    subject: Subject, name: str, point: Callable[[Observation, int], Point | None], color: int, style: str
) -> Line:
    """The curve of what is a point among the observations; of one step the last."""

    def points(part: ShownRun) -> Iterable[Point]:
        made = ((seen.step, point(seen, part.offset + seen.step)) for seen in part.seen)
        return {step: one for step, one in made if one is not None}.values()

    return _line(subject, name, points, color, style)


def _line(
    subject: Subject, name: str, points: Callable[[ShownRun], Iterable[Point]], color: int, style: str = "line"
) -> Line:
    segments = (tuple(sorted(points(part), key=lambda point: point.x)) for part in subject.parts)
    return Line(name, tuple(segment for segment in segments if segment), color, style)


@dataclass(frozen=True, slots=True)
class Fans:
    """What is forecast of a run.

    Args:
        lines: A curve a set from now to its end, the interval at the end.
        withheld: A sentence for each set of which nothing is drawn, and why.
    """

    lines: tuple[Line, ...] = ()
    withheld: tuple[str, ...] = ()


def fans_of(subject: Subject, words: Catalogue) -> Fans:
    """The forecasts of the sets of a run that has not come to its end; of a staged run those of the stage it is in."""
    if not subject.parts or subject.facts.state not in (RunState.UNFINISHED, RunState.RUNNING):
        return Fans()
    part = subject.parts[-1]
    outlook = outlook_of(part.seen)
    splits = {split: color for color, split in enumerate(splits_of(subject, retention=False))}
    lines: list[Line] = []
    withheld: list[str] = []
    for split, color in splits.items() or ((keys.TRAIN_PREFIX, 0),):
        found = outlook.forecast(split)
        if found is None:
            continue
        name = words.say("training") if split == keys.TRAIN_PREFIX else split
        if found.withheld or found.lower is None or found.upper is None or not found.path:
            why = "; ".join(words.line_of(f"withheld-{doubt}") for doubt in found.withheld)
            withheld.append(words.say("no-forecast", name=name, why=why))
            continue
        (first, loss), *between, (last, _) = found.path
        points = [
            Point(first, loss, ends=(loss, loss)), *(Point(*one) for one in between),
            Point(last, found.median, ends=(found.lower, found.upper)),
        ]  # fmt: skip
        numbers = {
            key: number(one, "loss")
            for key, one in (("median", found.median or 0.0), ("low", found.lower), ("high", found.upper))
        }
        sentence = "forecast-curve-family" if found.family else "forecast-curve"
        end = part.offset + last
        title = words.say(sentence, name=name, step=end, level=found.level, runs=found.family, **numbers)
        moved = tuple(Point(part.offset + one.x, one.y, ends=one.ends) for one in points)
        lines.append(Line(title, (moved,), color, "forecast"))
    return Fans(tuple(lines), tuple(withheld))
