"""`no-improvement`: a number of evaluations in a row without a better loss, for those who asked for patience."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation
from ko_cpt_callbacks.core.patience import Patience

__all__ = ["NoImprovement", "NoImprovementState"]


@dataclass(frozen=True, slots=True)
class NoImprovementState:
    """The set that counts, its best loss, and the evaluations since; ``*_before`` undo a repeated evaluation."""

    split: str | None = None
    best: float | None = None
    best_step: int | None = None
    since: int = 0
    last_step: int | None = None
    before: tuple[float | None, int | None, int] = (None, None, 0)
    said: bool = False


@dataclass(frozen=True, slots=True)
class NoImprovement:
    """Counts as `transformers.EarlyStoppingCallback` does, on the exact loss, and survives a resume.

    An evaluation improves when its loss is lower than the best by more than ``min_delta``. A loss that is not
    finite neither improves nor counts: that is the business of ``non-finite``.

    Args:
        patience: Evaluations without improvement that make the finding, and what counts as one; without a number
            of evaluations the rule is silent.
        leave_out: Prefixes of sets that do not count (retention sets), as long as another set is evaluated first.
    """

    patience: Patience = field(default_factory=Patience)
    leave_out: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """``no-improvement``."""
        return "no-improvement"

    def initial(self) -> NoImprovementState:
        """No evaluation yet."""
        return NoImprovementState()

    def close(self, state: NoImprovementState) -> tuple[Finding, ...]:
        """Nothing: every evaluation was judged when it came."""
        return ()

    def step(
        self, state: NoImprovementState, seen: Observation
    ) -> tuple[NoImprovementState, tuple[Finding, ...]]:
        """Judges an evaluation of the set that counts: the first that is not left out."""
        limit = self.patience.evaluations
        if limit is None or not isinstance(seen, EvalObservation) or seen.split in self.leave_out:
            return state, ()
        if state.split not in (None, seen.split):
            return state, ()
        loss = seen.loss if seen.exact_loss is None else seen.exact_loss
        if loss is None or not math.isfinite(loss) or seen.nonfinite_batches:
            return state, ()
        best, best_step, since = state.before if seen.step == state.last_step else _now(state)
        now = replace(state, split=seen.split, last_step=seen.step, before=(best, best_step, since))
        if best is None or best - loss > self._least(best):
            return replace(now, best=loss, best_step=seen.step, since=0), ()
        now = replace(now, best=best, best_step=best_step, since=since + 1)
        if state.said or now.since < limit:
            return now, ()
        values = {
            "loss": loss,
            "best": best,
            "best_step": best_step,
            "patience": limit,
            "min_delta": self._least(best),
            "metric": keys.LOSS if seen.exact_loss is None else keys.EXACT_LOSS,
        }
        found = Finding(self.code, Severity.WARNING, seen.step, seen.split, values, asks_to_stop=True)
        return replace(now, said=True), (found,)

    def _least(self, best: float) -> float:
        least = self.patience.min_delta
        return abs(best) * least if self.patience.relative else least


def _now(state: NoImprovementState) -> tuple[float | None, int | None, int]:
    return state.best, state.best_step, state.since
