"""`padding-in-loss`: pad tokens that the model is trained to predict, or that an evaluation scores.

They are the easiest tokens there are, so the loss falls far below what the text allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.core.plausibility import FLOOR, sudden_fall

__all__ = ["Counter", "PaddingInLoss", "PaddingInLossState"]


@dataclass(frozen=True, slots=True)
class Counter:
    """How the log's token count grows; ``target`` counts labelled tokens, otherwise input tokens."""

    target: bool = False
    step: int | None = None
    tokens: int | None = None
    rates: tuple[Fraction, ...] = ()
    """The last tokens per step, exactly."""
    streak: int = 0
    """Rows in a row with the last rate."""
    varied: bool = False
    """At some time each of a few rows in a row had its own."""
    always: bool = True
    """No row has had another rate than the first."""


@dataclass(frozen=True, slots=True)
class PaddingInLossState:
    """The count with and without the last row (a repeat replaces it), recent losses, and what was said."""

    counter: Counter = Counter()
    before: Counter = Counter()
    step: int | None = None
    losses: tuple[float, ...] = ()
    losses_before: tuple[float, ...] = ()
    first: float | None = None
    """The first loss of the run."""
    said: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PaddingInLoss:
    """Reports padding in the loss, from the first batches (live) or from the log's token counts.

    * A set-up row of this code's name, written at the first training and the first evaluation batch, with
      ``masked_labels`` (labelled positions whose attention mask is 0) or ``pad_run_rows`` (rows that start or end
      with two or more labelled pad tokens) above 0: ``error``, asks to stop.
    * Tokens per step become an exact constant where they varied before, as rows padded to one length do: ``warning``.
    * They are constant from the start, which packed rows are too, while the loss collapses: ``warning``.

    Target tokens (our ``tokens_seen``) are taken where the log has them, because padding outside the loss does not
    count there; else input tokens.

    Args:
        constant_rows: Rows in a row with exactly the same number of tokens per step. Chosen, not measured: among
            2,099 different rates of a healthy log of 2,666 rows no two neighbours are equal.
        varied_rows: Rows in a row, each with its own, that show that the rows were not padded or packed.
        window: Training points of which the median is the level after a collapse.
        floor: Where a collapse ends, nats per token.
        share: A collapse from the start ends, within twice ``window`` rows, below this share of the first loss.
            Chosen, not measured.
    """

    constant_rows: int = 5
    varied_rows: int = 5
    window: int = 20
    floor: float = FLOOR
    share: float = 0.25

    @property
    def code(self) -> str:
        """``padding-in-loss``."""
        return "padding-in-loss"

    def initial(self) -> PaddingInLossState:
        """No row seen."""
        return PaddingInLossState()

    def close(self, state: PaddingInLossState) -> tuple[Finding, ...]:
        """Nothing: every row was judged when it came."""
        return ()

    def step(self, state: PaddingInLossState, seen: Observation) -> tuple[PaddingInLossState, tuple[Finding, ...]]:
        """Judges a set-up row of this code's name, or a training row."""
        if isinstance(seen, SetupObservation) and seen.kind == self.code:
            return self._batch(state, seen)
        if isinstance(seen, TrainObservation):
            return self._row(state, seen)
        return state, ()

    def _batch(
        self, state: PaddingInLossState, seen: SetupObservation
    ) -> tuple[PaddingInLossState, tuple[Finding, ...]]:
        split = seen.values.get(keys.SPLIT)
        split = split if isinstance(split, str) else keys.TRAIN_PREFIX
        masked, runs = _count(seen.values, "masked_labels"), _count(seen.values, "pad_run_rows")
        said = f"batch {split}"
        if not (masked or runs) or said in state.said:
            return state, ()
        values = {
            "masked_labels": masked, "pad_run_rows": runs, "rows": _count(seen.values, "rows"),
            "tokens": _count(seen.values, "tokens"),
        }  # fmt: skip
        variant = "masked" if masked else "pads"
        finding = Finding(self.code, Severity.ERROR, seen.step, split, values, asks_to_stop=True, variant=variant)
        return replace(state, said=(*state.said, said)), (finding,)

    def _row(self, state: PaddingInLossState, seen: TrainObservation) -> tuple[PaddingInLossState, tuple[Finding, ...]]:
        repeat = state.step == seen.step
        counter, losses = (state.before, state.losses_before) if repeat else (state.counter, state.losses)
        if state.step is not None and seen.step < state.step:
            counter, losses = replace(counter, step=None, tokens=None), ()
        state = replace(state, step=seen.step, before=counter, losses_before=losses)
        if seen.loss is not None and math.isfinite(seen.loss):
            first = seen.loss if state.first is None else state.first
            losses = (*losses, seen.loss)[-2 * self.window - 5 :]
            state = replace(state, first=first)
        state = replace(state, counter=self._counted(counter, seen), losses=losses)
        return self._judged(state, seen)

    def _counted(self, counter: Counter, seen: TrainObservation) -> Counter:
        target = seen.tokens_seen is not None
        tokens = seen.tokens_seen if target else seen.input_tokens
        if tokens is None:
            return counter
        if counter.target != target:
            return Counter(target=target, step=seen.step, tokens=tokens)
        if counter.step is None or counter.tokens is None or tokens <= counter.tokens:
            # The first count, or one that starts again (a resume): nothing to subtract from.
            return replace(counter, step=seen.step, tokens=tokens)
        rate = Fraction(tokens - counter.tokens, seen.step - counter.step)
        same = bool(counter.rates) and rate == counter.rates[-1]
        rates = (*counter.rates, rate)[-self.varied_rows :]
        return Counter(
            target=target,
            step=seen.step,
            tokens=tokens,
            rates=rates,
            streak=counter.streak + 1 if same else 1,
            varied=counter.varied or len(set(rates)) == self.varied_rows,
            always=counter.always and (same or not counter.rates),
        )

    def _judged(
        self, state: PaddingInLossState, seen: TrainObservation
    ) -> tuple[PaddingInLossState, tuple[Finding, ...]]:
        counter = state.counter
        if "constant" in state.said or not counter.rates or counter.streak < self.constant_rows:
            return state, ()
        rate = counter.rates[-1]
        values: dict[str, Any] = {
            "tokens_per_step": int(rate) if rate.denominator == 1 else float(rate),
            "constant_rows": counter.streak,
            "counted": "target tokens" if counter.target else "input tokens",
            "loss": state.losses[-1] if state.losses else None,
        }
        if counter.varied:
            variant = "constant"
        elif counter.always and (fall := self._collapse(state)) is not None:
            variant = "collapse"
            values |= {"from": fall[0], "to": fall[1]}
        else:
            return state, ()
        finding = Finding(self.code, Severity.WARNING, seen.step, seen.split, values, variant=variant)
        return replace(state, said=(*state.said, "constant")), (finding,)

    def _collapse(self, state: PaddingInLossState) -> tuple[float, float] | None:
        """The levels before and after the loss went below the floor at once, early or late."""
        last = state.losses[-self.window :]
        level = median(last) if len(last) == self.window else math.inf
        if level >= self.floor or state.first is None:
            return None
        if len(state.losses) <= 2 * self.window and level < self.share * state.first:
            return state.first, level
        return sudden_fall(state.losses)


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
