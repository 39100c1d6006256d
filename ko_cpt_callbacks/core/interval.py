"""Intervals around a loss and a perplexity. Without numpy, so that a log is judged without loading it."""

from __future__ import annotations

from statistics import NormalDist

from ko_cpt_callbacks.core.perplexity import perplexity

__all__ = ["interval", "perplexity_interval"]


def interval(value: float, se: float, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided normal interval around a value.

    Args:
        value: The estimate.
        se: Its standard error, >= 0.
        confidence: How often such intervals hold the truth, between 0 and 1 (both excluded).

    Raises:
        ValueError: If ``confidence`` or ``se`` is out of range.

    >>> tuple(round(x, 3) for x in interval(3.0, 0.1))
    (2.804, 3.196)
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: a number between 0 and 1 expected, found {confidence!r}")
    if not se >= 0.0:
        raise ValueError(f"se: a standard error is not negative, found {se!r}")
    half = NormalDist().inv_cdf(0.5 + confidence / 2.0) * se
    return value - half, value + half


def perplexity_interval(loss: float, se: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the perplexity: the ends of the loss's interval, each through ``exp``.

    Args:
        loss: Nats per token.
        se: Standard error of the loss, nats per token, >= 0.
        confidence: As in `interval`.

    Raises:
        ValueError: If ``confidence`` or ``se`` is out of range.
    """
    low, high = interval(loss, se, confidence)
    return perplexity(low), perplexity(high)
