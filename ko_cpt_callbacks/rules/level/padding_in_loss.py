"""`padding-in-loss`: pad tokens that the model is trained to predict, or that an evaluation scores.

They are the easiest tokens there are, so the loss falls far below what the text allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import median
from typing import Any, ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.rules.setup.setup_rule import some_of, text_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.fit import fitted
from ko_cpt_callbacks.signal.level import abrupt_drop, floor_of, least_fall, lowest_level
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["Counter", "PaddingInLoss", "PaddingInLossState"]


@dataclass(frozen=True, slots=True)
class Counter:
    """How the log's token count grows; ``target`` counts labeled tokens, otherwise input tokens."""

    target: bool = False
    step: int | None = None
    tokens: int | None = None
    rates: tuple[Fraction, ...] = ()
    """The last tokens per step, exactly."""
    streak: int = 0
    """Rows in a row with the last rate."""
    longest: int = 1
    """The longest such row of rows that another rate has ended."""
    varied: bool = False
    """At some time each of a few rows in a row had its own."""
    always: bool = True
    """No row has had another rate than the first."""


@dataclass(frozen=True, slots=True)
class PaddingInLossState:
    """The count, recent losses, and what was reported."""

    counter: Counter = Counter()
    step: int | None = None
    losses: tuple[float, ...] = ()
    lowest: float | None = None
    """The lowest level of the losses that are kept no more."""
    first: float | None = None
    """The first loss of the run."""
    said: tuple[str, ...] = ()
    counts: bool = True
    """Whether token counts are judged: the first training batch was not looked at, or a pad was among its labels."""


@dataclass(frozen=True, slots=True)
class PaddingInLoss(Rule):
    """Reports padding in the loss, from the first batches (live) or from the log's token counts.

    * A set-up row of this code's name, written at the first training and the first evaluation batch, with
      ``masked_labels`` (labeled positions whose attention mask is 0) or ``pad_run_rows`` (rows that start or end
      with two or more labeled pad tokens) above 0: ``error``, asks to stop.
    * Tokens per step become an exact constant where they varied before, as rows padded to one length do: ``warning``.
      With rows grouped by length the longest batches, all cut at one length, are constant too, for some rows of each
      mega-batch; so a row of rows as long as twice one that ended is asked for, and more where the loss does not fall.
    * They are constant from the start, which packed rows are too, while the loss collapses: ``warning``. It comes down
      to a share of the first loss, or falls suddenly, to below the floor: in bits per byte where an evaluation gave
      the bytes per token, else to below ``floor_nats``.

    Token counts are not judged where the callback looked at the first batch and saw no pad: what was seen wins.
    Target tokens (our ``tokens_seen``) are taken where the log has them, because padding outside the loss does not
    count there; else input tokens.

    Args:
        constant_rows: Rows in a row with exactly the same number of tokens per step while the loss is below what it
            was.
        quiet_rows: The same while it is not.
        fall: Nats per token by which the loss must be below the rows before, and
        fall_noises: standard deviations of one point.
        varied_rows: Rows in a row, each with its own, that show that the rows were not padded or packed.
        window: Training points of which the median is the level after a collapse.
        floor: Where a collapse ends, bits per byte.
        floor_nats: The same while bytes are not known, and for a sudden fall, nats per token.
        share: A collapse from the start ends, within twice ``window`` rows, below this share of the first loss,
        early_share: within fewer, below this one.
        deep: Or, where bytes are known, within the first epoch, below ``share`` and this share of the floor: no text is
            learned by heart in one.
        equal_tokens: Labels in runs of one token at the rows' ends.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        "padding-in-loss", (Severity.ERROR, Severity.WARNING), (SetupObservation, TrainObservation), may_stop=True,
        place=60,
    )

    constant_rows: int = limits.EQUAL_ROWS
    quiet_rows: int = limits.EQUAL_QUIET_ROWS
    fall: float = limits.PADDED_FALL_NATS
    fall_noises: float = limits.PADDED_FALL_NOISES
    varied_rows: int = limits.VARIED_ROWS
    window: int = limits.LEVEL_POINTS
    floor: float = limits.FLOOR_BITS
    floor_nats: float = limits.FLOOR_NATS
    early_share: float = limits.COLLAPSE_EARLY_SHARE
    share: float = limits.COLLAPSE_SHARE
    deep: float = limits.COLLAPSE_DEPTH
    equal_tokens: int = limits.EQUAL_LABELS

    @property
    def wakes(self) -> Wakes:
        """Each row of a run whose first batch was not looked at."""
        return Wakes(open=("counts",))

    def initial(self) -> PaddingInLossState:
        """No row seen."""
        return PaddingInLossState()

    def step(self, state: PaddingInLossState, seen: Observation, signals: Signals) -> tuple[PaddingInLossState, Found]:
        """Judges a set-up row of this code's name, or a training row."""
        if isinstance(seen, SetupObservation) and seen.kind == self.code:
            return self._batch(state, seen)
        if isinstance(seen, TrainObservation) and state.counts:
            return self._row(state, seen, signals.bytes_per_token)
        return state, ()

    def _batch(self, state: PaddingInLossState, seen: SetupObservation) -> tuple[PaddingInLossState, Found]:
        split = text_of(seen, keys.SPLIT) or keys.TRAIN_PREFIX
        masked, runs, rows, tokens, ends, equal = (
            some_of(seen, name) or 0
            for name in ("masked_labels", "pad_run_rows", "rows", "tokens", "equal_ends", "equal_tokens")
        )
        said = f"batch {split}"
        alike = ends > 0 and 2 * ends >= rows and equal >= self.equal_tokens
        if split == keys.TRAIN_PREFIX:
            counts = not tokens or bool(masked or runs or alike)
            if counts != state.counts:  # at a resume that finds what was found before, counting goes on
                state = PaddingInLossState(said=state.said, counts=counts)
        if not (masked or runs or alike) or said in state.said:
            return state, ()
        values = {"masked_labels": masked, "pad_run_rows": runs, "rows": rows, "tokens": tokens}
        if masked or runs:
            variant = "masked" if masked else "pads"
            finding = Finding(self.code, Severity.ERROR, seen.step, split, values, asks_to_stop=True, variant=variant)
        else:
            values = {"equal_ends": ends, "equal_tokens": equal, "rows": rows, "tokens": tokens}
            finding = Finding(self.code, Severity.WARNING, seen.step, split, values, variant="equal")
        return replace(state, said=(*state.said, said)), (finding,)

    def _row(
        self, state: PaddingInLossState, seen: TrainObservation, reach: float | None
    ) -> tuple[PaddingInLossState, Found]:
        counter, losses, lowest = state.counter, state.losses, state.lowest
        if state.step is not None and seen.step < state.step:
            counter, losses, lowest = replace(counter, step=None, tokens=None), (), None
        kept, least, first = losses, lowest, state.first
        if seen.loss is not None and math.isfinite(seen.loss):
            first = seen.loss if first is None else first
            kept, keep = (*losses, seen.loss), 2 * self.window + limits.FALL_SIDE
            kept, least = kept[-keep:], lowest_level(kept, keep, lowest)
        now = self._counted(counter, seen)
        state = PaddingInLossState(now, seen.step, kept, least, first, state.said)
        return self._judged(state, seen, reach)

    def _counted(self, counter: Counter, seen: TrainObservation) -> Counter:
        target = seen.tokens_seen is not None
        tokens = seen.tokens_seen if target else seen.input_tokens
        if tokens is None:
            return counter
        if counter.target != target:
            return Counter(target=target, step=seen.step, tokens=tokens)
        if counter.step is None or counter.tokens is None or tokens <= counter.tokens or seen.step <= counter.step:
            # The first count, one that starts again (a resume), or a step that comes again after another's evaluation.
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
            longest=counter.longest if same else max(counter.longest, counter.streak),
            varied=counter.varied or len(set(rates)) == self.varied_rows,
            always=counter.always and (same or not counter.rates),
        )

    def _judged(
        self, state: PaddingInLossState, seen: TrainObservation, reach: float | None
    ) -> tuple[PaddingInLossState, Found]:
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
        if counter.varied and counter.streak > 2 * counter.longest and self._fell(state):
            variant = "constant"
        elif counter.always and (fall := self._collapse(state, seen.epoch, reach)) is not None:
            variant = "collapse"
            values |= {"from": fall[0], "to": fall[1]}
        else:
            return state, ()
        finding = Finding(self.code, Severity.WARNING, seen.step, seen.split, values, variant=variant)
        return replace(state, said=(*state.said, "constant")), (finding,)

    def _fell(self, state: PaddingInLossState) -> bool:
        """Whether the loss of the constant rows is below that of the rows before; or there are many of them."""
        count = state.counter.streak
        if count >= self.quiet_rows:
            return True
        before, after = state.losses[-count - self.window : -count], state.losses[-count:]
        if len(before) < limits.ENOUGH:
            return False
        return median(before) - median(after) > max(self.fall, self.fall_noises * fitted(before).jitter)

    def _collapse(
        self, state: PaddingInLossState, epoch: float | None, reach: float | None
    ) -> tuple[float, float] | None:
        """The levels before and after the loss went below the floor at once, early or late."""
        last, first = state.losses[-self.window :], state.first
        floor = floor_of(reach, self.floor, self.floor_nats)
        level = median(last) if len(last) == self.window else math.inf
        if level >= max(floor, self.floor_nats) or first is None or first < floor:
            return None
        if level >= floor:  # low for most tokenizers, but not for this one: only a fall that is one in any tells
            return abrupt_drop(state.losses, state.lowest, max(least_fall(reach), limits.FALL_NATS))
        rows = len(state.losses)
        share = self.early_share if rows <= limits.COLLAPSE_EARLY * self.window else self.share
        if level < share * first and rows <= 2 * self.window:
            return first, level
        in_first_epoch = epoch is None or epoch <= 1.0
        if reach is not None and in_first_epoch and level < min(self.deep * floor, self.share * first):
            return first, level
        return abrupt_drop(state.losses, state.lowest, least_fall(reach))
