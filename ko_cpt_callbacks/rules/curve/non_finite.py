"""`non-finite`: a NaN or infinite loss or gradient, also where the Trainer hides it.

How the Trainer hides a NaN training loss (transformers 4.57 and 5.23, ``logging_nan_inf_filter=True``): each
NaN micro-batch adds ``total / (1 + steps since the last log)`` to the running total instead. In the first row
that holds one, of n steps of mean m of which the first j were finite, the log says ``m * j * (n + 1) /
(n * (j + 1))``, 0.5 m to 0.99 m: a sudden gain. From the next row on the total stays 0, and so does the loss.
With gradient accumulation every NaN micro-batch of a step adds so, and the first row may as well rise: then
only the next row tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import median
from typing import Any, ClassVar, Final, TypeAlias

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["NonFinite", "NonFiniteState", "Track"]

Fault: TypeAlias = tuple[str, dict[str, Any]]
"""Which sentence, and the numbers in it."""

_MAD_TO_SD: Final = 1.4826  # for normal noise


@dataclass(frozen=True, slots=True)
class Track:
    """The rows of one set, as far as the next one needs them."""

    step: int | None = None
    faulty: bool = False
    """An episode of NaN or infinite losses is going on."""
    healthy: int = 0
    """Rows without one since."""
    recent: tuple[float, ...] = ()
    """The last healthy training losses, newest last."""
    scaler_rows: int = 0
    """Rows with a NaN or infinite gradient norm and a healthy loss."""
    unfilled: bool = False
    """The logged losses are NaN since a batch without a target: without its filter the Trainer adds to that NaN."""


@dataclass(frozen=True, slots=True)
class NonFiniteState:
    """A track per set, and which notes on the loss scaler were given (each once a run)."""

    train: Track = Track()
    evals: Mapping[str, Track] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NonFinite(Rule):
    """Reports NaN and infinite losses, once per episode, and the fp16 loss scaler's skipped steps.

    Args:
        healthy_rows: Healthy rows in a row that end an episode. Chosen, not measured.
        window: Recent training losses from which the next one is expected. Chosen, not measured.
        min_recent: Fewer than these tell nothing about a drop. Chosen, not measured.
        drop_sds: A drop counts beyond this many standard deviations of the recent losses around their line,
        min_drop: and beyond this share of the expected loss. Measured together: with 12, 4, 6 and 0.05, 11 of
            5,721 rows of 16 logs would have passed for a drop had their gradient norm been NaN, 6 of them
            in one broken run; of NaNs that start after 1, 3, 5, 7 of 10 steps 95, 89, 71, 4 % are seen at
            once, the rest one row later.
        clearly_above_zero: A loss, the median of the last three, that cannot fall to 0 within a row, in nats. Chosen,
            not measured: memorising runs reach 0.0000 in small steps from far below.
        scaler_warning: This many rows with a NaN or infinite gradient norm and a healthy loss are a warning.
            Chosen, not measured: a healthy fp16 run has shown two in 20 rows.
    """

    info: ClassVar = RuleInfo(
        "non-finite", (Severity.ERROR, Severity.WARNING, Severity.INFO), (TrainObservation, EvalObservation),
        may_stop=True,
    )

    healthy_rows: int = 3
    window: int = 12
    min_recent: int = 4
    drop_sds: float = 6.0
    min_drop: float = 0.05
    clearly_above_zero: float = 0.2
    scaler_warning: int = 3

    def initial(self) -> NonFiniteState:
        """No row seen."""
        return NonFiniteState()


    def step(self, state: NonFiniteState, seen: Observation, signals: Signals) -> tuple[NonFiniteState, Found]:
        """Judges a training or evaluation row."""
        if isinstance(seen, TrainObservation):
            base = _base(state.train, seen.step)
            fault = self._train_fault(seen, base)
            track, findings = self._advance(base, seen, fault)
            if fault is not None:
                return replace(state, train=track), findings
            track, note = self._healthy(track, seen)
            if note is None or note in state.notes:
                return replace(state, train=track), ()
            return replace(state, train=track, notes=(*state.notes, note)), (self._note(note, track, seen),)
        if isinstance(seen, EvalObservation):
            known = _base(state.evals.get(seen.split, Track()), seen.step)
            track, findings = self._advance(known, seen, _eval_fault(seen))
            return replace(state, evals={**state.evals, seen.split: track}), findings
        return state, ()

    def _advance(
        self, base: Track, seen: TrainObservation | EvalObservation, fault: Fault | None
    ) -> tuple[Track, Found]:
        """The track after a row, and the error if the row begins an episode."""
        if fault is None:
            healthy = base.healthy + 1
            faulty = base.faulty and healthy < self.healthy_rows
            return replace(base, step=seen.step, faulty=faulty, healthy=healthy), ()
        track = replace(base, step=seen.step, faulty=True, healthy=0)
        if base.faulty:
            return track, ()
        variant, values = fault
        finding = Finding(self.code, Severity.ERROR, seen.step, seen.split, values, asks_to_stop=True, variant=variant)
        return track, (finding,)

    def _train_fault(self, seen: TrainObservation, base: Track) -> Fault | None:
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
            explained = bool(seen.targetless_micro_batches) or base.unfilled
            return None if explained and seen.nonfinite_steps == 0 and not bad_gradient else ("loss", values)
        if seen.nonfinite_steps is not None:
            return None  # Counted, none: whatever the row looks like, no loss was NaN.
        if seen.loss == 0.0:
            if bad_gradient:
                return "zero", values
            if seen.grad_norm is None and base.recent and median(base.recent[-3:]) > self.clearly_above_zero:
                return "zero-after", {**values, "previous_loss": base.recent[-1]}
        elif bad_gradient and len(base.recent) >= self.min_recent:
            expected, sd = _expected(base.recent)
            if expected - seen.loss > max(self.drop_sds * sd, self.min_drop * expected):
                return "drop", {
                    **values,
                    "expected_loss": expected,
                    "noise_sd": sd,
                    "window": len(base.recent),
                }
        return None

    def _healthy(self, track: Track, seen: TrainObservation) -> tuple[Track, str | None]:
        """The track with a healthy row's numbers, and the note that its gradient norm calls for."""
        if seen.loss is None:
            return track, None
        track = replace(track, unfilled=not math.isfinite(seen.loss))
        if seen.targetless_micro_batches or track.unfilled:  # its loss is NaN, or made up by the Trainer's filter
            return track, "no-target"
        track = replace(track, recent=(*track.recent, seen.loss)[-self.window :])
        if track.faulty or seen.grad_norm is None or math.isfinite(seen.grad_norm):
            return track, None
        track = replace(track, scaler_rows=track.scaler_rows + 1)
        if track.scaler_rows >= self.scaler_warning:
            return track, "scaler-repeated"
        return track, "scaler"

    def _note(self, note: str, track: Track, seen: TrainObservation) -> Finding:
        severity = Severity.WARNING if note == "scaler-repeated" else Severity.INFO
        values: dict[str, Any] = {keys.LOSS: seen.loss, keys.GRAD_NORM: seen.grad_norm}
        if note == "no-target":
            values[keys.TARGETLESS_MICRO_BATCHES] = seen.targetless_micro_batches
        else:
            values["scaler_rows"] = track.scaler_rows
        return Finding(self.code, severity, seen.step, seen.split, values, variant=note)


def _base(track: Track, step: int) -> Track:
    """The track that a row of ``step`` continues: steps that go back are two runs joined."""
    return replace(track, recent=()) if track.step is not None and step < track.step else track


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
    if seen.loss is not None and not math.isfinite(seen.loss):
        return "eval", values
    return None


def _expected(recent: tuple[float, ...]) -> tuple[float, float]:
    """The next loss if the recent ones go on along their (Theil-Sen) line, and the noise around that line."""
    slope = median((later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(enumerate(recent), 2))
    start = median(loss - slope * i for i, loss in enumerate(recent))
    sd = _MAD_TO_SD * median(abs(loss - slope * i - start) for i, loss in enumerate(recent))
    return start + slope * len(recent), sd
