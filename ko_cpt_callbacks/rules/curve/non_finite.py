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
from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals, faulty

__all__ = ["FiniteTrack", "NonFinite", "NonFiniteState"]

Fault: TypeAlias = tuple[str, dict[str, Any]]
"""Which sentence, and the numbers in it."""

_DECIDED: Final = {"scaler-repeated": Severity.WARNING, "zeros": Severity.WARNING}
"""Severity of a note, where it is more than info."""


@dataclass(frozen=True, slots=True)
class FiniteTrack:
    """The rows of one set, as far as the next one needs them."""

    rows: int = 0
    """Training rows that are taken in."""
    step: int | None = None
    faulty: bool = False
    """An episode of NaN or infinite losses is going on."""
    healthy: int = 0
    """Rows without one since."""
    recent: tuple[float, ...] = ()
    """The last healthy training losses, newest last."""
    rates: tuple[float, ...] = ()
    """The last learning rates, newest last."""
    scaler_rows: int = 0
    """Rows with a NaN or infinite gradient norm and a healthy loss."""
    searching: bool = True
    """No gradient norm was finite yet: the loss scaler has not found its scale."""
    search: int = 0
    """Rows before that."""
    zeros: int = 0
    """Rows of exactly 0 in a row, as many of them as are healthy."""
    nonzero: float | None = None
    """The loss before these."""
    unfilled: bool = False
    """The logged losses are NaN since a batch without a target: without its filter the Trainer adds to that NaN."""


@dataclass(frozen=True, slots=True)
class NonFiniteState:
    """A track per set, and which notes on the loss scaler were given (each once a run)."""

    train: FiniteTrack = FiniteTrack()
    evals: Mapping[str, FiniteTrack] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NonFinite(Rule):
    """Reports NaN and infinite losses, once per episode, and the fp16 loss scaler's skipped steps.

    A NaN gradient norm where the loss falls at once is no NaN loss where the learning rate, which had been moving,
    stands still at that row: the loss scaler skipped the step of an overflow, and the schedule with it.

    Args:
        healthy_rows: Healthy rows in a row that end an episode.
        window: Recent training losses from which the next one is expected.
        min_recent: Fewer than these tell nothing about a drop.
        drop_sds: A drop counts beyond this many standard deviations of the recent losses around their line,
        min_drop: and beyond this share of the expected loss.
        clearly_above_zero: A loss, the median of the last three, that cannot fall to 0 within a row, nats per token.
        small: A loss from which it cannot fall to 0 in small steps, nats per token: after it
        zero_rows: so many rows of exactly 0, without a gradient norm, are a warning: NaN, or known by heart.
        scaler_warning: This many rows with a NaN or infinite gradient norm and a healthy loss are a warning, but for
        search_rows: so many before the first finite one, where the loss scaler looks for its scale.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "non-finite", (Severity.ERROR, Severity.WARNING, Severity.INFO), (TrainObservation, EvalObservation),
        may_stop=True, place=50,
    )

    healthy_rows: int = limits.FINITE_ROWS
    window: int = limits.DROP_WINDOW
    min_recent: int = limits.DROP_LEAST_POINTS
    drop_sds: float = limits.DROP_SDS
    min_drop: float = limits.DROP_SHARE
    clearly_above_zero: float = limits.ZERO_NATS
    small: float = limits.ZERO_SMALL_NATS
    zero_rows: int = limits.ZERO_ROWS
    scaler_warning: int = limits.SCALER_ROWS
    search_rows: int = limits.SCALER_SEARCH

    @property
    def wakes(self) -> Wakes:
        """A row with a fault, those of an episode, and those before the first finite gradient norm."""
        return Wakes((faulty,), open=("train.faulty", "train.searching"))

    def initial(self) -> NonFiniteState:
        """No row seen."""
        return NonFiniteState()

    def step(self, state: NonFiniteState, seen: Observation, signals: Signals) -> tuple[NonFiniteState, Found]:
        """Judges a training or evaluation row."""
        if isinstance(seen, TrainObservation):
            base = _base(_caught_up(state.train, signals.outlook, self.window), seen.step)
            if (plain := self._plain(base, seen)) is not None:
                return NonFiniteState(plain, state.evals, state.notes), ()
            fault = self._train_fault(seen, base)
            track, findings = self._advance(replace(base, rates=_rates(base, seen)), seen, fault)
            if fault is not None:
                return replace(state, train=track), findings
            track, note = self._healthy(track, seen)
            if note is None or note in state.notes:
                return replace(state, train=track), ()
            return replace(state, train=track, notes=(*state.notes, note)), (self._note(note, track, seen),)
        if isinstance(seen, EvalObservation):
            known = _base(state.evals.get(seen.split, FiniteTrack()), seen.step)
            track, findings = self._advance(known, seen, _eval_fault(seen))
            return replace(state, evals={**state.evals, seen.split: track}), findings
        return state, ()

    def _plain(self, base: FiniteTrack, seen: TrainObservation) -> FiniteTrack | None:
        """The track after a row that needs no report: nearly every row is one; ``None`` for any other."""
        loss, norm = seen.loss, seen.grad_norm
        if not loss or not math.isfinite(loss) or seen.nonfinite_steps or seen.targetless_micro_batches:
            return None
        if norm is not None and not math.isfinite(norm):
            return None
        healthy = base.healthy + 1
        ill = base.faulty and healthy < self.healthy_rows
        return FiniteTrack(
            base.rows, seen.step, ill, healthy, (*base.recent, loss)[-self.window :], _rates(base, seen),
            base.scaler_rows, base.searching and (norm is None or ill), base.search, 0, loss,
        )  # fmt: skip

    def _advance(
        self, base: FiniteTrack, seen: TrainObservation | EvalObservation, fault: Fault | None
    ) -> tuple[FiniteTrack, Found]:
        """The track after a row, and the error if the row begins an episode."""
        if fault is None:
            healthy = base.healthy + 1
            ill = base.faulty and healthy < self.healthy_rows
            return replace(base, step=seen.step, faulty=ill, healthy=healthy), ()
        track = replace(base, step=seen.step, faulty=True, healthy=0)
        if base.faulty:
            return track, ()
        variant, values = fault
        finding = Finding(self.code, Severity.ERROR, seen.step, seen.split, values, asks_to_stop=True, variant=variant)
        return track, (finding,)

    def _train_fault(self, seen: TrainObservation, base: FiniteTrack) -> Fault | None:
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
            last = base.recent[-limits.ZERO_LAST :]
            if seen.grad_norm is None and last and median(last) > self.clearly_above_zero:
                return "zero-after", {**values, "previous_loss": last[-1]}
        elif bad_gradient and not _stood_still(base.rates, seen) and len(base.recent) >= self.min_recent:
            expected, sd = _expected(base.recent)
            if expected - seen.loss > max(self.drop_sds * sd, self.min_drop * expected):
                return "drop", {
                    **values,
                    "expected_loss": expected,
                    "noise_sd": sd,
                    "window": len(base.recent),
                }
        return None

    def _healthy(self, track: FiniteTrack, seen: TrainObservation) -> tuple[FiniteTrack, str | None]:
        """The track with a healthy row's numbers, and the note that its gradient norm calls for."""
        if seen.loss is None:
            return track, None
        track = replace(track, unfilled=not math.isfinite(seen.loss))
        if seen.targetless_micro_batches or track.unfilled:  # its loss is NaN, or made up by the Trainer's filter
            return track, "no-target"
        track = replace(track, recent=(*track.recent, seen.loss)[-self.window :], **_zeros(track, seen))
        if track.faulty:
            return track, None
        if track.zeros == self.zero_rows and track.nonzero is not None and track.nonzero > self.small:
            return track, "zeros"
        if seen.grad_norm is None or math.isfinite(seen.grad_norm):
            return replace(track, searching=track.searching and seen.grad_norm is None), None
        if track.searching and seen.learning_rate is not None and track.search < self.search_rows:
            return replace(track, search=track.search + 1), "scaler"  # its first scale is always too high
        track = replace(track, scaler_rows=track.scaler_rows + 1)
        if track.scaler_rows >= self.scaler_warning:
            return track, "scaler-repeated"
        return track, "scaler"

    def _note(self, note: str, track: FiniteTrack, seen: TrainObservation) -> Finding:
        severity = _DECIDED.get(note, Severity.INFO)
        values: dict[str, Any] = {keys.LOSS: seen.loss, keys.GRAD_NORM: seen.grad_norm}
        if note == "no-target":
            values[keys.TARGETLESS_MICRO_BATCHES] = seen.targetless_micro_batches
        elif note == "zeros":
            values |= {"zero_rows": track.zeros, "previous_loss": track.nonzero}
        else:
            values["scaler_rows"] = track.scaler_rows
        return Finding(self.code, severity, seen.step, seen.split, values, variant=note)


def _caught_up(track: FiniteTrack, outlook: Outlook | None, most: int) -> FiniteTrack:
    """The track after the rows since the last one that concerned the rule: all healthy, and none with a loss of 0."""
    if outlook is None:  # its signals are lost
        return track
    rows = len(outlook.trail)
    for step, loss, rate in outlook.trail.missed(max(track.rows, rows - 1 - most)):
        base = _base(track, step)
        recent = base.recent if loss is None else (*base.recent, loss)[-most:]
        rates = () if rate is None else (*base.rates, rate)[-limits.RATE_ROWS :]
        track = replace(base, step=step, recent=recent, rates=rates, zeros=0, nonzero=loss, unfilled=False)
    return replace(track, rows=rows)


def _base(track: FiniteTrack, step: int) -> FiniteTrack:
    """The track that a row of ``step`` continues: steps that go back are two runs joined."""
    if track.step is None or step >= track.step:
        return track
    return replace(track, recent=(), rates=(), zeros=0, nonzero=None)


def _rates(track: FiniteTrack, seen: TrainObservation) -> tuple[float, ...]:
    rate = seen.learning_rate
    return () if rate is None or not math.isfinite(rate) else (*track.rates, rate)[-limits.RATE_ROWS :]


def _zeros(track: FiniteTrack, seen: TrainObservation) -> dict[str, Any]:
    """The count of zeros after a healthy row, and the loss before them; a gradient norm tells that a zero is one."""
    if seen.loss == 0.0 and seen.grad_norm is None and seen.nonfinite_steps is None:
        return {"zeros": track.zeros + 1}
    return {"zeros": 0, "nonzero": seen.loss}


def _stood_still(rates: tuple[float, ...], seen: TrainObservation) -> bool:
    """Whether the learning rate of a row is that of the row before, and had been moving."""
    return bool(rates) and seen.learning_rate == rates[-1] and len(set(rates)) > 1


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
    if seen.loss is None or math.isfinite(seen.loss):
        return None
    # Every batch with a target was counted as finite: what is left is the mean over no target, 0/0.
    counted = seen.nonfinite_batches == 0 and (seen.tokens == 0 or seen.exact_loss is not None)
    return None if counted and math.isnan(seen.loss) else ("eval", values)


def _expected(recent: tuple[float, ...]) -> tuple[float, float]:
    """The next loss if the recent ones go on along their (Theil-Sen) line, and the noise around that line."""
    slope = median((later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(enumerate(recent), 2))
    start = median(loss - slope * i for i, loss in enumerate(recent))
    sd = limits.MAD_TO_SD * median(abs(loss - slope * i - start) for i, loss in enumerate(recent))
    return start + slope * len(recent), sd
