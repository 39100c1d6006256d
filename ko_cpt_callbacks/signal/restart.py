"""Does a training row continue the run, or is it the first of another one joined to it?

Two runs are joined in one log by a resume with other settings, by files put together, or by a trainer that is called
twice. The Trainer says nothing of it; its counters do. Nothing here looks at the loss.

===============  ======  =====================================================================================
sign             strong  what is seen
===============  ======  =====================================================================================
``step-back``    yes     the step is lower than that of the row before
``epoch-back``   yes     the epoch is
``rewarm``       yes     the learning rate was falling, or had come to nothing, and rises again row by row
``tokens-back``  no      the token counter is lower (of tokens seen, or of input tokens): TRL's is so at every resume
``epoch-jump``   no      the epoch goes on by many times what the steps between the rows explain
``tokens-jump``  no      the token counter does
``rate-back``    no      the learning rate is back at once from next to nothing
``rate-break``   no      the learning rate rises at once in the middle of its schedule
``rate-drop``    no      it falls at once; a sign only beside another, because schedules with steps do so
===============  ======  =====================================================================================

One strong sign or two weak ones say that this is another run (`begins_anew`).

A scheduler with restarts does ``rate-back`` too, and a cyclic one ``rewarm``. They are no signs once the run was set
to have one (a ``plan`` row with ``restarts``), nor once the same has happened before at the same distance, or at half
of it.

The callback writes a ``plan`` and a ``stage`` row at every resume. A resume goes on where the checkpoint was: after
such a row in the middle of a log a token counter that starts again is no sign, and the learning rate may have another
place (`Counters.resumed`); everything else is as telling as without it. Only where another stage begins, by the four
words of its row, does all start again as planned (`Counters.handed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation, finite_number
from ko_cpt_callbacks.signal import limits

__all__ = ["NEW", "RESTARTS", "Counters", "Sign", "announced", "begins_anew", "follow"]

RESTARTS: Final = "restarts"
"""Value of a ``plan`` row: whether the scheduler restarts by itself."""
_STAGE: Final = "stage"
_WORDS: Final = ("input", "output", "layers", "adapter")  # of a stage row: what moves


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that a run which goes on does not do; ``explained``: a scheduler that restarts by itself does so."""

    name: str
    strong: bool
    before: float
    after: float
    explained: bool = False


class CounterPace(NamedTuple):
    """A counter at the last row that has it; since it began or jumped: how many rows it went on for, and the fastest.

    The fastest stays, however long ago: rows grouped by length are back at it with each mega-batch.
    """

    value: float
    rows: int = 0
    fastest: float = 0.0
    """Per step; so is ``last``."""
    last: float | None = None


@dataclass(frozen=True, slots=True)
class RateTrail:
    """What the learning rates so far say about how they go on.

    ``peak``: the highest since the start or the last restart; ``falling``: it has fallen since; ``rises``: rows in a
    row in which it rose after that, from ``trough``; ``back``: the row before brought it back at once; ``origin``: step
    at which the present schedule began; ``span``: how many steps the one before it took.
    """

    rate: float | None = None
    peak: float = 0.0
    falling: bool = False
    rises: int = 0
    trough: float = 0.0
    back: bool = False
    origin: int | None = None
    span: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """What the rows so far say about how the counters and the learning rate go on. Holds no NaN.

    ``pace``: tokens per step of the last row; ``None`` where it is not known. ``restarting``: the scheduler restarts by
    itself. ``stage``: what the last ``stage`` row says that moves. ``resumed``: rows still covered by a resume, or,
    ``handed``, by the beginning of another stage.
    """

    step: int | None = None
    paces: Mapping[str, CounterPace] = field(default_factory=dict)
    pace: float | None = None
    schedule: RateTrail = RateTrail()
    restarting: bool = False
    stage: tuple[str, ...] | None = None
    resumed: int = 0
    handed: int = 0


NEW: Final = Counters()
"""Before the first row."""


def announced(trail: Counters, seen: SetupObservation) -> Counters:
    """The trail after a set-up row: ``plan`` and ``stage`` rows announce what follows."""
    if seen.kind not in ("plan", _STAGE):
        return trail
    restarting = seen.values.get(RESTARTS, trail.restarting)
    words = tuple(word for name in _WORDS if isinstance(word := seen.values.get(name), str))
    moves = words if seen.kind == _STAGE and len(words) == len(_WORDS) else trail.stage
    resumed, handed = trail.resumed, trail.handed
    if trail.step is not None:
        resumed = limits.ANNOUNCED_ROWS
        handed = handed if trail.stage in (None, moves) else limits.ANNOUNCED_ROWS
    restarting = restarting if isinstance(restarting, bool) else trail.restarting
    return replace(trail, restarting=restarting, stage=moves, resumed=resumed, handed=handed)


def follow(trail: Counters, seen: TrainObservation) -> tuple[Counters, tuple[Sign, ...]]:
    """The trail after a training row, and the signs that this row belongs to another run.

    A row of the same step as the last continues nothing and replaces nothing here: give the trail from before that.
    """
    signs: list[Sign] = []
    if trail.step is not None and seen.step < trail.step:
        signs.append(Sign("step-back", True, trail.step, seen.step))
    steps, paces, pace = 0 if trail.step is None else seen.step - trail.step, dict(trail.paces), None
    for name, kind, value in (
        ("epoch", "epoch", finite_number(seen.epoch)),
        ("target", "tokens", seen.tokens_seen),
        ("input", "tokens", seen.input_tokens),
    ):
        if value is None:
            continue
        paces[name], sign = _counted(paces.get(name), kind, value, steps)
        if kind == "tokens":
            pace = pace or paces[name].last
        known = any(other.name.startswith(kind) for other in signs)
        if sign is not None and not known and not (trail.resumed and sign.name == "tokens-back"):
            signs.append(sign)
    rate, anew, schedule = finite_number(seen.learning_rate), begins_anew(signs), trail.schedule
    if rate is not None and not anew:
        schedule, sign = _scheduled(schedule, rate, seen.step, bool(signs), trail.restarting)
        signs += [] if sign is None else [sign]
        anew = begins_anew(signs)
    if anew:
        paces = {name: CounterPace(one.value) for name, one in paces.items()}
        schedule = RateTrail(rate, rate or 0.0, origin=seen.step, span=schedule.span)
    after = Counters(
        seen.step, paces, pace, schedule, trail.restarting, trail.stage,
        max(trail.resumed - 1, 0), max(trail.handed - 1, 0),
    )  # fmt: skip
    return after, tuple(signs)


def begins_anew(signs: Sequence[Sign]) -> bool:
    """Whether signs, together, say that this is another run: one strong sign or two weak ones."""
    speaking = [sign for sign in signs if not sign.explained]
    return len(speaking) > 1 or any(sign.strong for sign in speaking)


def _counted(last: CounterPace | None, kind: str, value: float, steps: int) -> tuple[CounterPace, Sign | None]:
    """A counter after a row, ``steps`` after the one before, and the sign that it does not go on."""
    if last is None:
        return CounterPace(value), None
    went, slack = value - last.value, limits.EPOCH_SLACK if kind == "epoch" else 0.0
    if went < -slack:
        return CounterPace(value), Sign(f"{kind}-back", kind == "epoch", last.value, value)
    if steps <= 0:
        return last._replace(value=value, last=None), None
    if last.rows >= limits.PACES_KEPT and went > limits.PACE_JUMP * last.fastest * steps + slack:
        return CounterPace(value), Sign(f"{kind}-jump", False, last.value, value)
    return CounterPace(value, last.rows + 1, max(last.fastest, went / steps), went / steps if went else None), None


def _scheduled(
    last: RateTrail, rate: float, step: int, company: bool, restarting: bool
) -> tuple[RateTrail, Sign | None]:
    """The schedule after a row, and the sign that its learning rate is; ``company``: there are others."""
    before, peak = last.rate, last.peak
    if before is None:
        return replace(last, rate=rate, peak=rate, origin=step), None
    if company and before - rate >= limits.RATE_DROP * before:
        return last, Sign("rate-drop", False, before, rate)
    if rate <= before:
        falling = last.falling or rate < before * (1 - limits.RATE_SAME)
        fell = replace(last, rate=rate, falling=falling, rises=0, trough=rate, back=False)
        return last if rate == before else fell, None
    if not last.falling:
        # Back at once and then higher still: a second warm-up of two rows, which no scheduler with restarts makes.
        again = Sign("rewarm", True, last.trough, rate) if last.back and rate > limits.RATE_HIGHER * before else None
        return replace(last, rate=rate, peak=max(peak, rate), back=False), again
    rises = last.rises + 1
    least = limits.REWARM_SHARE if rises >= limits.REWARM_ROWS else limits.RATE_NOTHING
    if rate - before >= limits.RATE_AT_ONCE * peak:
        name, strong, low = "rate-back" if before <= limits.RATE_NOTHING * peak else "rate-break", False, before
    elif rises >= 2 and rate - last.trough > least * peak:
        name, strong, low = "rewarm", True, last.trough
    else:
        return replace(last, rate=rate, rises=rises), None
    span, earlier = step - (last.origin or 0), last.span or 0
    # As long as the schedule before it, or twice as long, as restarts with growing cycles are.
    alike = any(abs(span - times * earlier) <= limits.CYCLES_ALIKE * times * earlier for times in (1, 2))
    sign = Sign(name, strong, low, rate, explained=restarting or alike)
    back = name == "rate-back" and not sign.explained
    return RateTrail(rate, rate, trough=before, back=back, origin=step, span=span), sign
