"""`non-finite`: a NaN or infinite loss or gradient, also where the Trainer hides it.

How the Trainer hides a NaN training loss (transformers 4.57 and 5.23, ``logging_nan_inf_filter=True``): each
NaN micro-batch adds ``total / (1 + steps since the last log)`` to the running total instead. In the first row
that holds one, of n steps of mean m of which the first j were finite, the log says ``m * j * (n + 1) /
(n * (j + 1))``, 0.5 m to 0.99 m. From the next row on the total stays 0, and so does the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import median
from ko_cpt_callbacks.signal.signals import Signals, faulty

__all__ = ["NonFinite", "NonFiniteState"]

Fault: TypeAlias = tuple[str, dict[str, Any]]
"""Which sentence, and the numbers in it."""

_DECIDED: Final = {"scaler-repeated": Severity.WARNING, "zeros": Severity.WARNING}
"""Severity of a note, where it is more than info."""


@dataclass(frozen=True, slots=True)
class NonFiniteState:
    """What of the rows so far the next one needs.

    Args:
        episodes: Per set with an episode of NaN or infinite losses going on, the rows without one since.
        notes: Which notes were given, each once a run.
        scaler_rows: Training rows with a NaN or infinite gradient norm and a healthy loss.
        searching: No gradient norm was finite yet: the loss scaler has not found its scale.
        search: Rows before that.
        zeros: Training rows of exactly 0 in a row.
        unfilled: The logged losses are NaN since a batch without a target: without its filter the Trainer adds to that.
    """

    episodes: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scaler_rows: int = 0
    searching: bool = True
    search: int = 0
    zeros: int = 0
    unfilled: bool = False


@dataclass(frozen=True, slots=True)
class NonFinite(Rule):
    """Reports NaN and infinite losses, once per episode, and the fp16 loss scaler's skipped steps.

    A row in which a hidden NaN begins looks like that of a skipped step. Where the forward pass was not watched, a
    loss that falls at once tells, unless the learning rate stood still; else the row after it does.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "non-finite", (Severity.ERROR, Severity.WARNING, Severity.INFO), (TrainObservation, EvalObservation),
        may_stop=True, place=50,
    )

    healthy_rows: int = limits.FINITE_ROWS
    clearly_above_zero: float = limits.ZERO_NATS
    small: float = limits.ZERO_SMALL_NATS
    zero_rows: int = limits.ZERO_ROWS
    scaler_warning: int = limits.SCALER_ROWS
    search_rows: int = limits.SCALER_SEARCH

    @property
    def wakes(self) -> Wakes:
        """A row with a fault, those of an episode, and those before the first finite gradient norm."""
        return Wakes((faulty,), open=("episodes", "searching", "zeros", "unfilled"))

    def initial(self) -> NonFiniteState:
        """No row seen."""
        return NonFiniteState()

    def step(self, state: NonFiniteState, seen: Observation, signals: Signals) -> tuple[NonFiniteState, Found]:
        """Judges a training or evaluation row."""
        if isinstance(seen, EvalObservation):
            return self._episode(state, seen, _eval_fault(seen))
        if not isinstance(seen, TrainObservation):
            return state, ()
        fault = self._train_fault(seen, state, signals)
        state, findings = self._episode(state, seen, fault)
        if fault is not None or seen.loss is None:
            return state, findings
        state, note, values = self._noted(state, seen, signals)
        if note is None or note in state.notes:
            return state, ()
        values = {keys.LOSS: seen.loss, keys.GRAD_NORM: seen.grad_norm, **values}
        severity = _DECIDED.get(note, Severity.INFO)
        finding = Finding(self.code, severity, seen.step, seen.split, values, variant=note)
        return replace(state, notes=(*state.notes, note)), (finding,)

    def _episode(
        self, state: NonFiniteState, seen: TrainObservation | EvalObservation, fault: Fault | None
    ) -> tuple[NonFiniteState, Found]:
        """The state after a row, and the error if the row begins an episode."""
        healthy = state.episodes.get(seen.split)
        if fault is None and healthy is None:
            return state, ()
        others = {name: rows for name, rows in state.episodes.items() if name != seen.split}
        if fault is None:
            rows = (healthy or 0) + 1
            return replace(state, episodes=others if rows >= self.healthy_rows else {**others, seen.split: rows}), ()
        state = replace(state, episodes={**others, seen.split: 0})
        if healthy is not None:
            return state, ()
        variant, values = fault
        finding = Finding(self.code, Severity.ERROR, seen.step, seen.split, values, asks_to_stop=True, variant=variant)
        return state, (finding,)

    def _train_fault(self, seen: TrainObservation, state: NonFiniteState, signals: Signals) -> Fault | None:
        values: dict[str, Any] = {keys.LOSS: seen.loss, keys.GRAD_NORM: seen.grad_norm}
        if seen.nonfinite_steps:
            values[keys.NONFINITE_STEPS] = seen.nonfinite_steps
            if seen.nonfinite_first_step is None:
                return "steps", values
            return "steps-first", {**values, keys.NONFINITE_FIRST_STEP: seen.nonfinite_first_step}
        if seen.loss is None:
            return None
        bad_gradient = seen.grad_norm is not None and not math.isfinite(seen.grad_norm)
        if not math.isfinite(seen.loss):
            # Counted, and the only loss that is no number is the mean over no target: its gradient is 0.
            explained = bool(seen.targetless_micro_batches) or state.unfilled
            return None if explained and seen.nonfinite_steps == 0 and not bad_gradient else ("loss", values)
        if seen.nonfinite_steps is not None:
            return None  # Counted, none: whatever the row looks like, no loss was NaN.
        if seen.loss == 0.0:
            if bad_gradient:
                return "zero", values
            last = () if seen.grad_norm is not None or state.zeros else _before(signals)[-limits.ZERO_LAST :]
            if last and median(last) > self.clearly_above_zero:
                return "zero-after", {**values, "previous_loss": last[-1]}
        elif bad_gradient and (fall := _fallen(seen.loss, seen.learning_rate, signals)):
            return "drop", {**values, **fall}
        return None

    def _noted(
        self, state: NonFiniteState, seen: TrainObservation, signals: Signals
    ) -> tuple[NonFiniteState, str | None, dict[str, Any]]:
        """The state after a row without a fault, the note that it calls for, and its numbers."""
        loss, norm = seen.loss or 0.0, seen.grad_norm
        state = replace(state, unfilled=not math.isfinite(loss))
        if seen.targetless_micro_batches or state.unfilled:  # its loss is NaN, or made up by the filter
            return state, "no-target", {keys.TARGETLESS_MICRO_BATCHES: seen.targetless_micro_batches}
        # A gradient norm tells that a zero is one.
        zeros = state.zeros + 1 if loss == 0.0 and norm is None and seen.nonfinite_steps is None else 0
        state = replace(state, zeros=zeros)
        if seen.split in state.episodes:
            return state, None, {}
        if zeros and zeros == self.zero_rows and (last := _before(signals)[-1:]) and last[0] > self.small:
            return state, "zeros", {"zero_rows": zeros, "previous_loss": last[0]}
        if norm is None or math.isfinite(norm):
            return replace(state, searching=state.searching and norm is None), None, {}
        if state.searching and seen.learning_rate is not None and state.search < self.search_rows:
            # The first scale is always too high.
            return replace(state, search=state.search + 1), "scaler", {"scaler_rows": state.scaler_rows}
        rows = state.scaler_rows + 1
        note = "scaler-repeated" if rows >= self.scaler_warning else "scaler"
        return replace(state, scaler_rows=rows), note, {"scaler_rows": rows}


def _before(signals: Signals) -> tuple[float, ...]:
    """The losses before the row, of the same run."""
    return () if signals.window.seam else signals.past.losses


def _fallen(loss: float, rate: float | None, signals: Signals) -> dict[str, Any] | None:
    """The loss that was expected where it fell at once; None where it did not, or the step of the row was skipped.

    It was skipped where the learning rate, which had been moving, stands still: the loss scaler keeps the schedule too.
    """
    past = signals.past
    if signals.window.seam or past.line is None or past.noise is None:
        return None
    expected = past.line[0] + past.line[1]
    if rate is not None and rate == past.rates[-1] and len(set(past.rates)) > 1:
        return None
    if expected - loss <= max(limits.DROP_NOISES * past.noise, limits.DROP_SHARE * expected):
        return None
    return {"expected_loss": expected, "noise_sd": past.noise}


def _eval_fault(seen: EvalObservation) -> Fault | None:
    values: dict[str, Any] = {
        keys.LOSS: seen.loss,
        keys.EXACT_LOSS: seen.exact_loss,
        keys.NONFINITE_BATCHES: seen.nonfinite_batches,
    }
    if seen.nonfinite_batches:
        return "eval-batches", values
    if seen.exact_loss is not None and not math.isfinite(seen.exact_loss):
        return "eval-exact", values
    if seen.loss is None or math.isfinite(seen.loss) or seen.is_over_no_target:
        return None
    return "eval", values
