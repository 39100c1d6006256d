"""`target-implausible`: a target that no published Korean run comes near, or that a guessing model meets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.measurement import measure
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.core.perplexity import perplexity
from ko_cpt_callbacks.core.plausibility import LOWEST_PUBLISHED_BITS, LOWEST_PUBLISHED_LOSS, Doubt, doubt
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.rules.rule import ANY_ROW, Found, Rule, RuleInfo
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["TargetImplausible", "TargetImplausibleState"]


@dataclass(frozen=True, slots=True)
class TargetImplausibleState:
    """Whether the fixed targets were looked at, and which relative ones were."""

    looked: bool = False
    relative: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetImplausible(Rule):
    """Says once per target that it is out of reach or says nothing; a relative one at its set's first evaluation.

    Args:
        targets: What the run must reach.
        task: As in `ko_cpt_callbacks.core.plausibility.doubt`.
    """

    info: ClassVar = RuleInfo("target-implausible", (Severity.WARNING,), ANY_ROW)

    targets: tuple[Target, ...] = ()
    task: str = "cpt"

    @property
    def asks(self) -> tuple[type[Observation], ...]:
        """All rows where there are targets."""
        return self.info.rows if self.targets else ()

    def initial(self) -> TargetImplausibleState:
        """Nothing said."""
        return TargetImplausibleState()

    def step(
        self, state: TargetImplausibleState, seen: Observation, signals: Signals
    ) -> tuple[TargetImplausibleState, Found]:
        """Speaks at the first row, whatever it is."""
        found = self.close(state, signals)
        state = replace(state, looked=True)
        if isinstance(seen, EvalObservation):
            for target in self.targets:
                if not target.relative or target in state.relative or target.split != seen.split:
                    continue
                measured = measure(target, seen)
                if measured.fault is None:
                    state = replace(state, relative=(*state.relative, target))
                    found += self._said(target, measured.level, seen.step)
        return state, found

    def close(self, state: TargetImplausibleState, signals: Signals) -> Found:
        """Speaks where the history is empty."""
        if state.looked:
            return ()
        fixed = [target for target in self.targets if not target.relative]
        return tuple(found for target in fixed for found in self._said(target, _level(target), None))

    def _said(self, target: Target, level: float, step: int | None) -> Found:
        why = doubt(target.metric, level, self.task)
        if why is None:
            return ()
        bits = target.metric == keys.BITS_PER_BYTE
        values: dict[str, Any] = {
            "target": str(target),
            "below": target.below,
            "level": level,
            "level_ppl": None if bits else perplexity(level),
            "task": self.task,
            "lowest_published": LOWEST_PUBLISHED_BITS if bits else LOWEST_PUBLISHED_LOSS,
        }
        if not bits:
            values["lowest_published_ppl"] = perplexity(LOWEST_PUBLISHED_LOSS)
        variant, meant = self._variant(target, level, why)
        if meant is not None:
            # What was probably meant, on both scales: "loss < 3.0, perplexity < 20.1".
            values |= {"meant_loss": meant, "meant_ppl": perplexity(meant)}
        return (Finding(self.code, Severity.WARNING, step, target.split, values, variant=variant),)

    def _variant(self, target: Target, level: float, why: Doubt) -> tuple[str, float | None]:
        if target.relative:
            return "relative" if why is Doubt.LOW else "trivial", None
        if why is Doubt.TRIVIAL:
            # loss<20 is a perplexity that was called a loss; ppl<1e6 is nothing of the kind.
            swapped = target.metric != keys.PPL and doubt(keys.PPL, math.log(target.below), self.task) is None
            return ("trivial-ppl", math.log(target.below)) if swapped else ("trivial", None)
        if target.metric == keys.PPL:
            swapped = doubt(keys.LOSS, target.below, self.task) is None
            return ("ppl", target.below) if swapped else ("ppl-low", None)
        if target.metric == keys.BITS_PER_BYTE:
            return "bits", None
        swapped = doubt(keys.BITS_PER_BYTE, target.below, self.task) is None
        return "loss-bits" if swapped else "loss", None


def _level(target: Target) -> float:
    return math.log(target.below) if target.metric == keys.PPL else target.below
