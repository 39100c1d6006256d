"""How long a run may go on without getting better: evaluations, and what counts as better."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["Patience", "read_patience"]


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
