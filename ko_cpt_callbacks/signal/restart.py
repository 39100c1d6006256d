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
place (`Trail.resumed`); everything else is as telling as without it. Only where another stage begins, by the four words
of its row, does all start again as planned (`Trail.handed`).

On 14 real logs they give one seam, the one that is there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal import limits

__all__ = ["NEW", "RESTARTS", "Counters", "Sign", "announced", "begins_anew", "follow"]

RESTARTS: Final = "restarts"
"""Value of a ``plan`` row: whether the scheduler restarts by itself."""
_STAGE: Final = "stage"
_TELLING: Final = ("plan", _STAGE)
"""Kinds of set-up rows that announce what follows."""

_TARGET: Final = "target"
_INPUT: Final = "input"
"""The two counters of tokens."""

_WORDS: Final = ("input", "output", "layers", "adapter")  # of a stage row: what moves


@dataclass(frozen=True, slots=True)
class Sign:
    """One thing that a run which goes on does not do."""

    name: str
    strong: bool
    before: float
    after: float
    explained: bool = False
    """A scheduler that restarts by itself does so: it speaks for nothing."""


@dataclass(frozen=True, slots=True)
class RateTrail:
    """What the learning rates so far say about how they go on."""

    rate: float | None = None
    peak: float = 0.0
    """Highest learning rate since the start or the last restart."""
    falling: bool = False
    """The learning rate has fallen since."""
    rises: int = 0
    """Rows in a row in which it rose after that."""
    trough: float = 0.0
    """Where it rose from."""
    back: bool = False
    """The row before brought it back at once."""
    origin: int | None = None
    """The step at which the present schedule began."""
    span: int | None = None
    """How many steps the one before it took."""


_UNKNOWN: Final = RateTrail()


@dataclass(frozen=True, slots=True)
class Counters:
    """What the rows so far say about how the counters and the learning rate go on. Holds no NaN."""

    step: int | None = None
    epoch: float | None = None
    tokens: Mapping[str, int] = field(default_factory=dict)
    paces: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Epochs and tokens per step of the last rows."""
    pace: float | None = None
    """Tokens per step of the last row; ``None`` where it is not known."""
    schedule: RateTrail = _UNKNOWN
    restarting: bool = False
    """The scheduler restarts by itself."""
    stage: tuple[str, ...] | None = None
    """What the last ``stage`` row says that moves; ``None`` where there was none."""
    resumed: int = 0
    """Rows still covered by a resume,"""
    handed: int = 0
    """or by the beginning of another stage."""


NEW: Final = Counters()
"""Before the first row."""


def announced(trail: Counters, seen: SetupObservation) -> Counters:
    """The trail after a set-up row: ``plan`` and ``stage`` rows announce what follows."""
    if seen.kind not in _TELLING:
        return trail
    restarting = seen.values.get(RESTARTS)
    trail = replace(trail, restarting=restarting) if isinstance(restarting, bool) else trail
    moves, before = _moves(seen), trail.stage
    trail = trail if moves is None else replace(trail, stage=moves)
    if trail.step is None:
        return trail
    another = moves is not None and before is not None and moves != before
    return replace(trail, resumed=limits.ANNOUNCED_ROWS, handed=limits.ANNOUNCED_ROWS if another else trail.handed)


def _moves(seen: SetupObservation) -> tuple[str, ...] | None:
    words = [seen.values.get(name) for name in _WORDS]
    found = tuple(word for word in words if isinstance(word, str))
    return found if seen.kind == _STAGE and len(found) == len(_WORDS) else None


def follow(trail: Counters, seen: TrainObservation) -> tuple[Counters, tuple[Sign, ...]]:
    """The trail after a training row, and the signs that this row belongs to another run.

    A row of the same step as the last continues nothing and replaces nothing here: give the trail from before that.
    """
    signs: list[Sign] = []
    resumed, handed = max(trail.resumed - 1, 0), max(trail.handed - 1, 0)
    if trail.step is not None and seen.step < trail.step:
        signs.append(Sign("step-back", True, trail.step, seen.step))
    steps = None if trail.step is None else seen.step - trail.step
    paces = dict(trail.paces)

    epoch = _finite(seen.epoch)
    if epoch is not None and trail.epoch is not None:
        if epoch < trail.epoch - limits.EPOCH_SLACK:
            signs.append(Sign("epoch-back", True, trail.epoch, epoch))
        elif _jumps(paces, "epoch", epoch - trail.epoch, steps, limits.EPOCH_SLACK):
            signs.append(Sign("epoch-jump", False, trail.epoch, epoch))
    tokens = dict(trail.tokens)
    for name, count in ((_TARGET, seen.tokens_seen), (_INPUT, seen.input_tokens)):
        if count is None:
            continue
        last = tokens.get(name)
        tokens[name] = count
        if last is None or any(sign.name.startswith("tokens") for sign in signs):
            continue
        if count < last:
            if not trail.resumed:
                signs.append(Sign("tokens-back", False, last, count))
            paces.pop(name, None)
        elif _jumps(paces, name, count - last, steps, 0.0):
            signs.append(Sign("tokens-jump", False, last, count))
    counted = [name for name in (_TARGET, _INPUT) if name in paces and tokens[name] != trail.tokens.get(name)]
    pace = paces[counted[0]][-1] if counted else None
    schedule = trail.schedule if trail.schedule.origin is not None else replace(trail.schedule, origin=seen.step)
    if begins_anew(signs):
        schedule, paces = RateTrail(origin=seen.step), {}
    schedule, sign = _scheduled(schedule, seen, bool(signs), trail.restarting)
    if sign is not None:
        signs.append(sign)
        if begins_anew(signs):
            paces = {}
            schedule = replace(schedule, origin=seen.step, peak=schedule.rate or 0.0, falling=False)
    epoch = trail.epoch if epoch is None else epoch
    after = Counters(
        seen.step, epoch, tokens, paces, pace, schedule, trail.restarting, trail.stage, resumed, handed
    )  # fmt: skip
    return after, tuple(signs)


def begins_anew(signs: Sequence[Sign]) -> bool:
    """Whether signs, together, say that this is another run: one strong sign or two weak ones."""
    speaking = [sign for sign in signs if not sign.explained]
    return len(speaking) > 1 or any(sign.strong for sign in speaking)


def _scheduled(
    last: RateTrail, seen: TrainObservation, company: bool, restarting: bool
) -> tuple[RateTrail, Sign | None]:
    """The schedule after a row, and the sign that its learning rate is; ``company``: there are others."""
    rate, before = _finite(seen.learning_rate), last.rate
    if rate is None:
        return last, None
    if before is None:
        return replace(last, rate=rate, peak=rate), None
    if rate <= before:
        if company and before - rate >= limits.RATE_DROP * before:
            drop = Sign("rate-drop", False, before, rate)
            return replace(last, rate=rate), drop
        if rate == before:
            return last, None
        falling = last.falling or rate < before * (1 - limits.RATE_SAME)
        return replace(last, rate=rate, falling=falling, rises=0, trough=rate, back=False), None
    if not last.falling:
        # Back at once and then higher still: a second warm-up of two rows, which no scheduler with restarts makes.
        again = Sign("rewarm", True, last.trough, rate) if last.back and rate > limits.RATE_HIGHER * before else None
        return replace(last, rate=rate, peak=max(last.peak, rate), back=False), again
    peak, trough, rises = last.peak, last.trough, last.rises + 1
    sign: Sign | None = None
    if rate - before >= limits.RATE_AT_ONCE * peak:
        name = "rate-back" if before <= limits.RATE_NOTHING * peak else "rate-break"
        sign = Sign(name, False, before, rate)
    else:
        least = limits.REWARM_SHARE if rises >= limits.REWARM_ROWS else limits.RATE_NOTHING
        if rises >= 2 and rate - trough > least * peak:
            sign = Sign("rewarm", True, trough, rate)
    if sign is None:
        return replace(last, rate=rate, rises=rises), None
    span = seen.step - (last.origin or 0)
    explained = restarting or (last.span is not None and _alike(span, last.span))
    now = replace(
        last, rate=rate, peak=rate, falling=False, trough=before, origin=seen.step, span=span,
        back=sign.name == "rate-back" and not explained,
    )  # fmt: skip
    return now, replace(sign, explained=explained)


def _alike(span: int, earlier: int) -> bool:
    """Whether a schedule took as long as the one before it, or twice as long (as restarts with growing cycles do)."""
    return any(abs(span - times * earlier) <= limits.CYCLES_ALIKE * times * earlier for times in (1, 2))


def _jumps(paces: dict[str, tuple[float, ...]], name: str, went: float, steps: int | None, slack: float) -> bool:
    """Whether a counter went on faster than the rows before explain; notes its pace where it did not."""
    if steps is None or steps <= 0:
        return False
    known = paces.get(name, ())
    if len(known) == limits.PACES_KEPT and went > limits.PACE_JUMP * max(known) * steps + slack:
        paces.pop(name)
        return True
    # The fastest stays: rows grouped by length are back at it with each mega-batch.
    kept = (max(known[:2]), *known[2:]) if len(known) == limits.PACES_KEPT else known
    paces[name] = (*kept, went / steps)
    return False


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
