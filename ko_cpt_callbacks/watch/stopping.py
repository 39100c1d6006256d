"""When a run is to stop: how long it may go on without getting better, and which finding may end it, and from when."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.finding import Finding

__all__ = ["Grace", "Patience", "Stopper", "read_grace", "read_patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """Evaluations without improvement before a run is judged to stand still.

    Args:
        evaluations: Evaluations in a row, >= 1; None for no limit.
        min_delta: What the loss must fall by to count as better: nats per token, or a fraction of the best loss
            where ``relative``; >= 0.
        relative: Whether ``min_delta`` is a fraction.
    """

    evaluations: int | None = None
    min_delta: float = 0.0
    relative: bool = False


def read_patience(patience: object, min_delta: object) -> Patience:
    """Patience from the values a user writes.

    Args:
        patience: Evaluations, a whole number of at least 1; None for no limit.
        min_delta: A number of nats per token, or a percentage as text (``"1%"``); None for 0.

    Raises:
        ConfigurationError: For any other value, or a ``min_delta`` without ``patience``.

    >>> read_patience(3, "1%")
    Patience(evaluations=3, min_delta=0.01, relative=True)
    """
    if patience is None:
        if min_delta is not None:
            raise ConfigurationError(
                f"min_delta={min_delta!r}: found no patience with it, expected both; write patience=3, "
                f"min_delta={min_delta!r}"
            )
        return Patience()
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
        raise ConfigurationError(
            f"patience={patience!r}: expected a whole number of evaluations, at least 1; write patience=3"
        )
    relative = isinstance(min_delta, str) and min_delta.strip().endswith("%")
    number = _number(str(min_delta).strip().removesuffix("%") if relative else min_delta)
    if number is None or number < 0:
        raise ConfigurationError(
            f"min_delta={min_delta!r}: expected nats per token (0.01) or a percentage as text ('1%'), 0 or more"
        )
    return Patience(patience, number / 100 if relative else number, relative)


def _number(value: object) -> float | None:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # an integer beyond 1e308
        return None
    return number if math.isfinite(number) else None


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


def read_grace(value: int | str | None) -> Grace:
    """Grace from what a user writes: steps as a number, or ``step:N`` or ``tokens:N`` as a target's deadline.

    Raises:
        ConfigurationError: For any other value.

    >>> read_grace("tokens:1e6")
    Grace(steps=0, tokens=1000000)
    """
    unit, _, number = value.partition(":") if isinstance(value, str) else ("step", "", value)
    try:
        amount = float(0 if number is None else number)
    except (TypeError, ValueError):
        amount = -1.0
    whole = not isinstance(value, bool) and amount >= 0 and amount.is_integer()
    if not whole or unit not in ("step", "tokens"):
        raise ConfigurationError(
            f"KoCPTCallback(grace={value!r}): expected a number of steps, 0 or more, or 'step:N' or 'tokens:N'; "
            "write grace=500 or grace='tokens:1e6'"
        )
    return Grace(steps=int(amount)) if unit == "step" else Grace(tokens=int(amount))


class Stopper:
    """Remembers the first finding that may stop the run, through the grace period.

    Args:
        codes: Codes of findings that may stop the run, as far as they ask to.
        grace: What must have happened before.
    """

    def __init__(self, codes: Collection[str], grace: Grace) -> None:
        self._codes = frozenset(codes)
        self._grace = grace
        # The first finding that asked to stop; it may wait for the end of the grace period.
        self.asked: Finding | None = None
        self.reason: Finding | None = None

    @property
    def armed(self) -> bool:
        """Whether anything can stop the run at all."""
        return bool(self._codes)

    def begin(self, replayed: Iterable[Finding]) -> Finding | None:
        """Training begins: forget, and return what already asked to stop before a resume, if anything did."""
        self.reason = None
        self.asked = self._first(replayed)
        return self.asked

    def asks(self, found: Iterable[Finding], step: int, tokens: int | None) -> bool:
        """Whether new findings ask to stop for the first time, or what asked earlier may stop the run now."""
        if self.asked is None:
            return self._first(found) is not None
        return self.reason is None and self._grace.over(step, tokens)

    def disarm(self) -> None:
        """Nothing stops the run from here on."""
        self._codes, self.asked = frozenset(), None

    def consider(self, found: Iterable[Finding], step: int, tokens: int | None) -> Finding | None:
        """New findings at ``step``; the reason to stop now, when there is one for the first time."""
        self.asked = self.asked or self._first(found)
        if self.asked is None or self.reason is not None or not self._grace.over(step, tokens):
            return None
        self.reason = self.asked
        return self.reason

    def _first(self, found: Iterable[Finding]) -> Finding | None:
        return next((item for item in found if item.asks_to_stop and item.code in self._codes), None)
