"""What a finding's code means, in words."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``ko-cpt explain CODE`` says: what the code means, how it is decided, what to do."""

    meaning: str
    decided: str
    action: str
