"""A stop on which all ranks agree. Every rank asks the same question of the same rows, so all stop alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from ko_cpt_callbacks.hf.ranks import Ranks
from ko_cpt_callbacks.rules.target.outcome import TargetMet
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.watch.stopping import Stopper

STEP_END: Final = "step-end"
"""The moment after an optimizer step, at which something is looked at in some steps only."""


class StopOrder:
    """Lets a finding stop the run where every rank came to the same; a stop on one rank leaves the others waiting."""

    def __init__(self, stopper: Stopper, ranks: Ranks, report: Callable[[str, str], None]) -> None:
        self._stopper = stopper
        self._ranks = ranks
        self._report = report
        self._step = -1
        self._moments: Counter[str] = Counter()

    def begin(self, earlier: Sequence[Finding]) -> dict[str, Any] | None:
        """Training begins: what asked to stop it before a resume, for a row; None where nothing did."""
        asked = self._stopper.begin(earlier)
        reached = asked or next((item for item in earlier if item.code == TargetMet().code), None)
        if reached is None:
            return None
        return {"reason": reached.code, "reason_step": reached.step, "stops": asked is not None}

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
