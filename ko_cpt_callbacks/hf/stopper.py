"""When a finding may stop the run. Every rank asks the same question of the same rows, so all stop alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ko_cpt_callbacks.core.finding import Finding


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

    def consider(self, found: Iterable[Finding], step: int, tokens: int | None) -> Finding | None:
        """New findings at ``step``; the reason to stop now, when there is one for the first time."""
        self._asked = self._asked or self._first(found)
        if self._asked is None or self.reason is not None or not self._grace.over(step, tokens):
            return None
        self.reason = self._asked
        return self.reason

    def _first(self, found: Iterable[Finding]) -> Finding | None:
        return next((item for item in found if item.asks_to_stop and item.code in self._codes), None)
