"""Where every evaluation set of a run stands beside its baseline, as the rows come. Part of the monitor's fold.

Rows say neither the tokenizer nor the row by row sums. What only the live run knows arrives as set-up rows:

* ``stage``: ``baseline_stage`` is the baseline's stage that the model at hand matches, ``quantization`` its weights'
  number format. Without it, or where it names none, ``auto`` is the last stage that is a reference and has figures.
* ``baseline-difference``: ``split``, ``step``, ``unit``, ``difference``, ``se``, ``rows`` (or ``reasons``, codes of why
  there is none) of `compare.pairing.paired_with`, before or right after the evaluation's own row. Without
  it nothing is exact: the two are compared by their bits per byte, as an indication.

An evaluation whose text is the baseline's waits for its difference until the next row of another kind or step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.comparison import compare
from ko_cpt_callbacks.compare.reference import AUTO, checked_stage, reference_of
from ko_cpt_callbacks.compare.resolution import start_of
from ko_cpt_callbacks.compare.stage import STAGE
from ko_cpt_callbacks.compare.value import BITS, NATS, Comparison, Measured, Paired, Reason
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, finite_number
from ko_cpt_callbacks.run.retention import is_retention

__all__ = ["DIFFERENCE", "ComparedSets", "JudgedEvaluation", "WatchedBaseline", "advance", "settle", "values_of"]

DIFFERENCE: Final = "baseline-difference"
"""Kind of the set-up row that carries a paired difference."""


@dataclass(frozen=True, slots=True)
class WatchedBaseline:
    """What a run is compared with.

    Args:
        baseline: The reference; ``None``: nothing is compared.
        stage: Its stage, or ``auto``.
        retention: Names of evaluation sets that are never compared.

    Raises:
        ConfigurationError: If the baseline has no stage of that name.
    """

    baseline: Baseline | None = None
    stage: str = AUTO
    retention: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a stage that is not there, before training and not at the first evaluation."""
        if self.baseline is not None:
            checked_stage(self.baseline, self.stage)


@dataclass(frozen=True, slots=True)
class JudgedEvaluation:
    """One evaluation beside the baseline."""

    split: str
    step: int
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class _ComparedEvaluation:
    """What is known of a set's last evaluation: its numbers, its paired difference, and what came of them."""

    step: int
    measured: Measured | None = None
    paired: Paired | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class ComparedSets:
    """Every set of a run beside its baseline, as far as the rows go; every number is finite."""

    stage: str | None = None
    unmatched: bool = False
    quantization: str | None = None
    start: str = ""
    evaluations: Mapping[str, _ComparedEvaluation] = field(default_factory=dict)

    def last(self) -> tuple[JudgedEvaluation, ...]:
        """The last comparison of every set."""
        return tuple(
            JudgedEvaluation(split, last.step, last.comparison)
            for split, last in self.evaluations.items()
            if last.comparison is not None
        )


Judged: TypeAlias = tuple[ComparedSets, tuple[JudgedEvaluation, ...]]
"""The sets, and what was judged on the way to them."""


def advance(watched: WatchedBaseline, state: ComparedSets, seen: Observation) -> Judged:
    """The sets after one more row, and what it let be judged."""
    baseline = watched.baseline
    if baseline is None:
        return state, ()
    if isinstance(seen, SetupObservation):
        if seen.kind == STAGE:
            return _staged(baseline, state, seen), ()
        split, step = seen.values.get("split"), seen.values.get("step", seen.step)
        ours = seen.kind == DIFFERENCE and seen.values.get("baseline") in (None, baseline.id)
        paired = _read_paired(seen.values) if ours else None
        if paired is None or not isinstance(split, str) or not isinstance(step, int):
            return state, ()
        return _placed(watched, baseline, state, split, step, paired=paired)
    if not isinstance(seen, EvalObservation):
        return settle(watched, state)
    measured = Measured.of(seen)
    if measured is not None:
        measured = replace(measured, quantization=state.quantization, start=state.start)
    return _placed(watched, baseline, state, seen.split, seen.step, measured=measured)


def settle(watched: WatchedBaseline, state: ComparedSets) -> Judged:
    """The sets once no paired difference will come any more for the evaluations seen so far."""
    if watched.baseline is None:
        return state, ()
    return _settled(watched, watched.baseline, state, list(state.evaluations))


def values_of(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a finding keeps it."""
    return {name: value for name, value in comparison.as_dict().items() if name != "set"}


def _staged(baseline: Baseline, state: ComparedSets, seen: SetupObservation) -> ComparedSets:
    named, weights = seen.values.get("baseline_stage"), seen.values.get("quantization")
    known = isinstance(named, str) and baseline.stage(named) is not None
    return replace(
        state,
        stage=str(named) if known else None,
        unmatched=not known,
        quantization=weights if isinstance(weights, str) else None,
        start=start_of(seen.values),
    )


def _placed(
    watched: WatchedBaseline, baseline: Baseline, state: ComparedSets, split: str, step: int, **known: Any
) -> Judged:
    """The sets with what is now known of an evaluation: its numbers, or its paired difference."""
    if is_retention(split, watched.retention):
        return state, ()
    before = state.evaluations.get(split)
    judged: tuple[JudgedEvaluation, ...] = ()
    if before is not None and before.step != step:
        state, judged = _settled(watched, baseline, state, [split])
        before = None
    last = replace(before or _ComparedEvaluation(step), comparison=None, **known)
    state, now = _compared(watched, baseline, state, split, last, waits=True)
    return state, judged + now


def _read_paired(values: Mapping[str, Any]) -> Paired | None:
    """The paired difference of a set-up row; None where it is none that can be used."""
    reasons = values.get("reasons") or ()
    if isinstance(reasons, (list, tuple)) and reasons and all(code in catalogue().reasons for code in reasons):
        return Paired(str(values.get("unit", BITS)), reasons=tuple(reasons))
    difference, se = finite_number(values.get("difference")), finite_number(values.get("se"))
    rows = values.get("rows")
    if difference is None or values.get("unit") not in (NATS, BITS):
        return None
    se = se if se is not None and se >= 0 else None
    return Paired(str(values["unit"]), difference, se, rows if isinstance(rows, int) else 0)


def _compared(
    watched: WatchedBaseline, baseline: Baseline, state: ComparedSets, split: str, last: _ComparedEvaluation, *,
    waits: bool,
) -> Judged:  # fmt: skip
    """The sets with a set's evaluation in its place; judged, unless a paired difference may still come."""
    stage = state.stage if watched.stage == AUTO else watched.stage
    measured = last.measured
    if measured is not None and not (waits and last.paired is None and _awaited(baseline, stage, measured)):
        found = compare(measured, baseline, stage, last.paired)
        if watched.stage == AUTO and state.unmatched and found.stage and len(baseline.stages) > 1:
            found = replace(found, notes=(*found.notes, Reason("stage-not-matched", {"stage": found.stage})))
        last = replace(last, comparison=found)
    state = replace(state, evaluations={**state.evaluations, split: last})
    return state, () if last.comparison is None else (JudgedEvaluation(split, last.step, last.comparison),)


def _awaited(baseline: Baseline, stage: str | None, measured: Measured) -> bool:
    """Whether the baseline has the rows of this very text, so that a difference is to be expected."""
    found = reference_of(baseline, stage, set=measured.set, fingerprint=measured.fingerprint)
    if isinstance(found, Reason) or found.rows_file is None:
        return False
    return found.fingerprint is not None and found.fingerprint == measured.fingerprint


def _settled(watched: WatchedBaseline, baseline: Baseline, state: ComparedSets, splits: list[str]) -> Judged:
    judged: tuple[JudgedEvaluation, ...] = ()
    for split in splits:
        last = state.evaluations[split]
        if last.measured is not None and last.comparison is None:
            state, now = _compared(watched, baseline, state, split, last, waits=False)
            judged += now
    return state, judged
