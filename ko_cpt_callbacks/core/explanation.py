"""What a finding's code means, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Explanation"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``ko-cpt explain CODE`` says.

    Args:
        meaning: What the code means.
        decided: How it is decided.
        action: What to do.
        reasons: The same of each reason, where the code's findings differ by theirs.
    """

    meaning: str
    decided: str
    action: str
    reasons: Mapping[str, Explanation] = field(default_factory=dict)
