"""What is said of what goes wrong in the callback itself: once for every subject, with event, rank and error."""

from __future__ import annotations

import logging

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf.ranks import Ranks

__all__ = ["Reporter"]

_log = logging.getLogger("ko_cpt_callbacks")


class Reporter:
    """Logs warnings, each subject's once.

    Args:
        ranks: Which rank this is, and which event is at hand.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._reported: set[str] = set()

    def report(self, what: str, text: str) -> None:
        """Log a warning once per subject.

        Args:
            what: The subject.
            text: The warning.
        """
        if what not in self._reported:
            self._reported.add(what)
            _log.warning("%s", text)

    def report_error(self, error: Exception) -> None:
        """An exception of ours that the run must not see, and that costs one number only."""
        where, kind = self._ranks.where, type(error).__name__
        on = "" if self._ranks.size == 1 else f" on rank {self._ranks.index}"
        self.report(
            f"error {where} {kind}",
            f"The callback met an error and goes on without the number at hand: {where}{on}: {error_text(error)}",
        )
