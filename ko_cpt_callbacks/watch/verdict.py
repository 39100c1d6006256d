"""Whether a target is met: a fold over the rows, shared by the rules that report it.

One evaluation is *below* the target when the upper end of its interval is strictly below the bound, an interval that
holds however often one looks (`ko_cpt_callbacks.watch.measurement`); *above* it when the lower end of its own interval
is strictly above; in between it does not tell. Without an error bar the value itself decides: below, or else above. The
target is

* **met** as soon as ``confirm`` evaluations in a row are below, the last of them no later than the deadline
  evaluation. That stands, whatever comes later.
* **missed** when the deadline evaluation is above.
* **inconclusive** when the deadline has passed and neither holds, or the rows hold only another loss than the one that
  the target is set on: a verdict never stands on a substitute.

A NaN or infinite loss, or a NaN batch, is never below and breaks the row of confirmations. An evaluation of the same
step as the last replaces it. Why two outcomes are kept apart so: Miller 2024 (arXiv 2411.00640), section 4.

The deadline evaluation is the first at or after ``step:N``, or the first after whose last training row ``tokens_seen``
is at least N; for ``end``, the first at or after the planned last step (a set-up row ``plan`` with ``planned_steps``),
or the last one when the run ends. A run that ends before its deadline is judged at its end. When a history merely
stops (`close`), a deadline that it did not reach is no miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.fold import NO_ROWS, NOTHING_SEEN, PLAN, PLANNED_STEPS, EvalRows, KindSeen
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Level,
    Observation,
    SetupObservation,
    count_from_one,
    finite_error,
    level_of,
)
from ko_cpt_callbacks.watch.measurement import NO_LOOKS, Looks, MeasuredLevel, measure, rows_needed, shown, unit
from ko_cpt_callbacks.watch.plausibility import DOUBTED_NATS, Implausible, doubt, fell_at_once
from ko_cpt_callbacks.watch.target import END, Target

__all__ = ["Outcome", "TargetState", "Verdict", "advance", "close", "keep"]


class Outcome(StrEnum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Fall:
    """Whether the set's loss fell suddenly to where a tokenizer made for Korean has none.

    ``last``: the last two losses of the kind ``source``, nats per token; ``lowest``: the lowest before them.
    """

    source: str = ""
    last: tuple[float, ...] = ()
    lowest: float | None = None
    fell: bool = False

    def then(self, level: Level) -> Fall:
        """After one more evaluation; a loss of another kind is compared with none of these."""
        past = self if self.source == level.source else Fall(level.source, fell=self.fell)
        if len(past.last) < 2:
            return replace(past, last=(*past.last, level.value))
        earlier, before = past.last
        fell = level.value < DOUBTED_NATS and fell_at_once(earlier, before, level.value, past.lowest)
        lowest = earlier if past.lowest is None else min(past.lowest, earlier)
        return Fall(level.source, (before, level.value), lowest, past.fell or fell)


@dataclass(frozen=True, slots=True)
class Track:
    """The evaluations of the target's set."""

    step: int | None = None
    last: MeasuredLevel | None = None
    sure: MeasuredLevel | None = None
    """The last one with an interval that holds however often one looks."""
    looks: Looks = NO_LOOKS
    firsts: Mapping[str, Level] = field(default_factory=dict)
    """The first level of each kind of loss, of the rows that are evaluated now: a change is only one between like and
    like."""
    rows: EvalRows = NO_ROWS
    streak: int = 0
    """Evaluations in a row that are below."""
    bytes_per_token: float | None = None
    """UTF-8 bytes per token, as the last evaluation that has them tells."""
    fall: Fall = Fall()
    before: Track | None = None
    """The track without the last evaluation, which a repeat of its step replaces."""


@dataclass(frozen=True, slots=True)
class TargetState:
    """Where a target stands."""

    track: Track = Track()
    tokens_seen: int | None = None
    planned_steps: int | None = None
    last_step: int | None = None
    ended: bool = False
    passed: bool = False
    """A deadline at a step or a token count is behind; nothing changes any more."""
    said: tuple[Outcome, ...] = ()
    sets: tuple[str, ...] = ()
    """Other sets that were evaluated: what the target's set may have been meant to be."""
    seen: KindSeen = NOTHING_SEEN
    """What is trained: no floor is one of a loss that is no language model's."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target, when, and the numbers behind it.

    Args:
        variant: Which sentence of the outcome fits.
        midway: Whether it was decided while the run could still go on.
    """

    outcome: Outcome
    target: Target
    step: int | None
    variant: str
    values: Mapping[str, Any]
    midway: bool = False


def advance(target: Target, task: str, state: TargetState, seen: Observation) -> tuple[TargetState, Verdict | None]:
    """The state after a row that is none of training, and the verdict that it brings; each outcome once.

    What training rows bring (``tokens_seen``, ``seen``, ``ended``) stands in the state already.
    """
    state = replace(state, last_step=seen.step, seen=state.seen.add(seen))
    if isinstance(seen, SetupObservation):
        return _planned(state, seen), None
    if isinstance(seen, EndObservation):
        state = replace(state, ended=True)
        return _say(state, _decide(target, task, state, seen.step))
    if not isinstance(seen, EvalObservation) or _nothing(seen):
        return state, None
    if seen.split != target.split:
        return state if seen.split in state.sets else replace(state, sets=(*state.sets, seen.split)), None
    state = replace(state, track=_evaluated(target, state.track, seen))
    if state.passed:
        return state, None
    last = state.track.last
    enough = state.track.streak >= target.confirm and not state.track.looks.waits
    met = last is not None and enough and _doubted(target, task, state, last) is None
    due = _due(target, state, seen.step)
    if not met and not due:
        return state, None
    state, verdict = _say(state, _decide(target, task, state, seen.step, midway=target.by != END or not due))
    return replace(state, passed=due and target.by != END), verdict


def close(target: Target, task: str, state: TargetState) -> Verdict | None:
    """The verdict when no further row will come and the Trainer's last row did not either."""
    if state.ended:
        return None
    last = state.track.last
    uncounted = target.deadline_tokens is not None and state.tokens_seen is None
    planned = state.planned_steps is not None and (state.last_step or 0) < state.planned_steps
    early = planned if target.by == END or uncounted else True
    if early and not state.passed and last is not None and last.fault is None:
        verdict = _verdict(Outcome.INCONCLUSIVE, target, state, state.last_step, "not-due", last)
    else:
        verdict = _decide(target, task, state, state.last_step)
    return _say(state, verdict)[1]


def keep(target: Target, state: TargetState, found: Iterable[Finding]) -> TargetState:
    """The state with the outcomes that were reported of an evaluation which another of its step has replaced."""
    outcomes = {f"target-{one.value}": one for one in Outcome}
    own = (outcomes.get(one.code) for one in found if one.values.get("target") == str(target))
    said = dict.fromkeys([*state.said, *(one for one in own if one is not None)])
    return state if len(said) == len(state.said) else replace(state, said=tuple(said))


def _planned(state: TargetState, seen: SetupObservation) -> TargetState:
    planned = count_from_one(seen.values.get(PLANNED_STEPS))
    if seen.kind != PLAN or planned is None:
        return state
    return replace(state, planned_steps=planned, ended=False)


def _nothing(seen: EvalObservation) -> bool:
    """An evaluation that logged no loss and counted nothing wrong is none."""
    return seen.loss is None and seen.exact_loss is None and seen.bits_per_byte is None and not seen.nonfinite_batches


def _evaluated(target: Target, track: Track, seen: EvalObservation) -> Track:
    base = track.before if track.step == seen.step and track.before is not None else replace(track, before=None)
    rows, level = base.rows.add(seen), level_of(target.metric, seen)
    firsts, streak = ({}, 0) if rows.anew else (base.firsts, base.streak)
    first: Level | None = None
    if target.relative and isinstance(level, Level):
        first = firsts.get(level.source)
        if first is None:
            firsts = {**firsts, level.source: level}
    last = measure(target, seen, first)
    reach, fall = seen.bytes_per_token or base.bytes_per_token, Fall() if rows.anew else base.fall
    if isinstance(level, Level) and target.metric != keys.BITS_PER_BYTE:
        fall = fall.then(level)
    se, change = finite_error(seen.exact_loss_se), finite_error(seen.exact_loss_change_se)
    # Relative to one first evaluation, others are not independent of each other.
    weight = None if target.relative else seen.bytes if target.metric == keys.BITS_PER_BYTE else seen.tokens
    looks = base.looks.add(last, rows, target.confidence, se=se, change=change, weight=weight)
    sure = looks.widened(last, target.confidence)
    # Of a set that is drawn anew the mean decides; where the last evaluation is not below, the loss may be rising.
    streak = streak + 1 if sure.below and last.value < last.bound else 0
    return Track(seen.step, last, sure, looks, firsts, rows, streak, reach, fall, before=base)


def _due(target: Target, state: TargetState, step: int) -> bool:
    if target.deadline_step is not None:
        return step >= target.deadline_step
    if target.deadline_tokens is not None:
        return state.tokens_seen is not None and state.tokens_seen >= target.deadline_tokens
    return state.ended or (state.planned_steps is not None and step >= state.planned_steps)


def _doubted(target: Target, task: str, state: TargetState, last: MeasuredLevel) -> str | None:
    """Why being below the bound proves a fault, not success: the variant of the sentence; ``None`` where it does not.

    A bound that no published run comes near, in bits per byte: as the target has it, as the evaluation's bytes say, or
    whatever they are. While they are not known, a loss per token that is low for a tokenizer made for Korean is no such
    bound, as with one of 1.3 bytes per token a healthy run is there; but it does not fall there suddenly.
    """
    if not state.seen.language:
        return None
    why = doubt(target.metric, last.level, task, state.track.bytes_per_token)
    if why is Implausible.TOKENIZER:
        return "fell" if state.track.fall.fell else None
    return None if why is None else "implausible"


def _say(state: TargetState, verdict: Verdict | None) -> tuple[TargetState, Verdict | None]:
    """Each outcome once, and none after *met*."""
    if verdict is None or verdict.outcome in state.said or Outcome.MET in state.said or state.passed:
        return state, None
    return replace(state, said=(*state.said, verdict.outcome)), verdict


def _decide(target: Target, task: str, state: TargetState, step: int | None, *, midway: bool = False) -> Verdict:
    last, sure = state.track.last, state.track.sure
    extra: tuple[str, ...] = ()
    if target.deadline_tokens is not None and state.tokens_seen is None:
        extra = () if midway else ("no-token-count",)
    elif state.ended and target.by != END:
        extra = ("ended-early",)
    if last is None or sure is None:
        return _verdict(Outcome.INCONCLUSIVE, target, state, step, "no-evaluation", None)
    outcome, variant = Outcome.INCONCLUSIVE, "interval"
    if last.fault is not None:
        variant = last.fault
        if variant == "substitute":
            variant = variant if last.absent else "substitute-unsaid"
    elif sure.below and (doubted := _doubted(target, task, state, last)) is not None:
        variant = doubted
    elif state.track.streak >= target.confirm:
        outcome, variant = Outcome.MET, "" if last.half is not None else "point"
    elif sure.below:
        variant = "unconfirmed"
    elif last.above:
        outcome, variant, sure = Outcome.MISSED, "" if last.half is not None else "point", last
    return _verdict(outcome, target, state, step, variant, sure, extra, midway=midway)


def _verdict(
    outcome: Outcome, target: Target, state: TargetState, step: int | None, variant: str, last: MeasuredLevel | None,
    extra: tuple[str, ...] = (), *, midway: bool = False,
) -> Verdict:  # fmt: skip
    values: dict[str, Any] = {
        "target": str(target), "metric": target.metric, "below": target.below, "confidence": target.confidence,
        "confirm": target.confirm, "confirmed": state.track.streak, "unit": unit(target),
    }  # fmt: skip
    notes = extra
    if last is not None and last.fault is None:
        values["looks"] = state.track.looks.accounted
        needed = rows_needed(last.rows, last.half, abs(last.value - last.bound))
        if variant == "interval" and needed is None:
            variant = "close"
        values["value"] = shown(target, last.value)
        if last.half is not None:
            values |= {"low": shown(target, last.value - last.half), "high": shown(target, last.value + last.half)}
        values |= {"rows": last.rows, "rows_needed": needed}
        notes = (*last.notes, *extra)
    values |= {"evaluated_step": None if last is None else last.step, "notes": list(notes)}
    if last is None:
        values["sets"] = list(state.sets)
    elif last.fault == "substitute":
        values |= {"reason": last.absent, "split": target.split}
    return Verdict(outcome, target, step, variant, values, midway)
