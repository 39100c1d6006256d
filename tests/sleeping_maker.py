"""A maker for processes of their own: it sleeps so many seconds, or fails."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class SleepingMaker:
    """Sleeps for as long as it is told, and says in which process."""

    def make(self, part: float) -> int:
        """Below 0: this process ends."""
        if part < 0:
            os._exit(1)
        time.sleep(part)
        return os.getpid()
