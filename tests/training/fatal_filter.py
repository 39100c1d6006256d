"""A filter for processes of their own: what a worker imports for it is imported by every one, and this is little."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any


class Fatal:
    """Ends the process that asks it."""

    name = "fatal"

    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    def judge(self, texts: Sequence[str]) -> list[str | None]:
        """Not at all."""
        os.kill(os.getpid(), signal.SIGKILL)
        return [None for _ in texts]
