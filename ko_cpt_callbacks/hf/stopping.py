"""When a finding may stop the run. Every rank asks the same question of the same rows, so all stop alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.run.finding import Finding

STEP_END: Final = "step-end"
"""The moment after an optimizer step, at which something is looked at in some steps only."""


@dataclass(frozen=True, slots=True)
class Grace:
    """What must have happened before anything stops.

    Args:
        steps: Optimizer steps.
        tokens: Target tokens trained on.
    """

    steps: int = 0
    tokens: int = 0

    def over(self, step: int, tokens: int | None) -> bool:
        """Whether stopping is allowed at ``step``; with unknown tokens a grace in tokens never ends."""
        return step >= self.steps and (self.tokens == 0 or (tokens is not None and tokens >= self.tokens))


class Stopper:
    """Remembers the first finding that may stop the run, through the grace period.

    Args:
        codes: Codes of findings that may stop the run, as far as they ask to.
        grace: What must have happened before.
    """

    def __init__(self, codes: Collection[str], grace: Grace) -> None:
        self._codes = frozenset(codes)
        self._grace = grace
        self._asked: Finding | None = None
        self.reason: Finding | None = None

    @property
    def armed(self) -> bool:
        """Whether anything can stop the run at all."""
        return bool(self._codes)

    def begin(self, replayed: Iterable[Finding]) -> Finding | None:
        """Training begins: forget, and return what already asked to stop before a resume, if anything did."""
        self.reason = None
        self._asked = self._first(replayed)
        return self._asked

    def asks(self, found: Iterable[Finding], step: int, tokens: int | None) -> bool:
        """Whether new findings ask to stop for the first time, or what asked earlier may stop the run now."""
        if self._asked is None:
            return self._first(found) is not None
        return self.reason is None and self._grace.over(step, tokens)

    def disarm(self) -> None:
        """Nothing stops the run from here on."""
        self._codes, self._asked = frozenset(), None

    def consider(self, found: Iterable[Finding], step: int, tokens: int | None) -> Finding | None:
        """New findings at ``step``; the reason to stop now, when there is one for the first time."""
        self._asked = self._asked or self._first(found)
        if self._asked is None or self.reason is not None or not self._grace.over(step, tokens):
            return None
        self.reason = self._asked
        return self.reason

    def _first(self, found: Iterable[Finding]) -> Finding | None:
        return next((item for item in found if item.asks_to_stop and item.code in self._codes), None)


class StopOrder:
    """Lets a finding stop the run where every rank came to the same; a stop on one rank leaves the others waiting.

    Args:
        stopper: Which finding asks.
        ranks: The processes that must agree.
        report: Says something once, by its subject.
    """

    def __init__(self, stopper: Stopper, ranks: Ranks, report: Callable[[str, str], None]) -> None:
        self._stopper = stopper
        self._ranks = ranks
        self._report = report
        self._step = -1
        self._moments: Counter[str] = Counter()

    def take(self, found: Sequence[Finding], step: int, tokens: int | None, moment: str) -> Finding | None:
        """New findings; the reason to stop now, when there is one for the first time.

        Args:
            found: What was found since the last call.
            step: Optimizer steps done.
            tokens: Target tokens trained on; None where they are not known.
            moment: What comes to be judged now, the same word on every rank; empty where a rank may be alone with it.
        """
        stopper, ranks = self._stopper, self._ranks
        if ranks.alone:  # also for what asked before a resume
            if any(item.asks_to_stop for item in found):
                self._report(
                    "stop", "stop_on is not obeyed: the callback is not on every rank; the others would wait"
                )
            return None
        asks = stopper.asks(found, step, tokens)
        together = stopper.armed and stopper.reason is None and ranks.together and (moment or asks)
        # Ranks that failed, or that saw other rows, must not be left alone in the next step.
        if together and not ranks.agree(self._question(step, moment), asks) and asks:
            stopper.disarm()
            self._report("stop", "stop_on is not obeyed: not every rank came to the same; the others would wait")
            return None
        return stopper.consider(found, step, tokens)

    def _question(self, step: int, moment: str) -> str:
        """The same question of the same step twice (an evaluation repeated) is two questions."""
        if step != self._step:
            self._step, self._moments = step, Counter()
        self._moments[moment] += 1
        return f"stop/{step}/{moment}/{self._moments[moment]}"
