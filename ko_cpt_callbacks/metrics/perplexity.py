"""Loss (nats per token), perplexity, and bits per byte: three ways to say one sum.

Loss and perplexity depend on the tokenizer; bits per byte do not, so they are what runs with different
vocabularies are compared by. Source: Gao et al. 2020 (The Pile, arXiv 2101.00027) section 3.1:
``bits per byte = tokens / bytes * loss / ln 2``.
"""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["bits_per_byte", "bits_per_byte_from_loss", "interval", "perplexity"]


def perplexity(loss: float) -> float:
    """Perplexity of a loss in nats per token: ``exp(loss)``; infinite where that overflows, NaN for NaN.

    >>> round(perplexity(3.078), 1)
    21.7
    >>> perplexity(1000.0)
    inf
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def bits_per_byte(nll_sum: float, n_bytes: float) -> float:
    """Bits per byte of a text.

    Args:
        nll_sum: Sum of the negative log-likelihood over the scored tokens, in nats.
        n_bytes: UTF-8 bytes of exactly the text those tokens spell, > 0.

    Raises:
        ValueError: If ``n_bytes`` is not above 0.
    """
    if not n_bytes > 0:
        raise ValueError(f"bits per byte need at least one byte of scored text, found {n_bytes!r}")
    return nll_sum / (math.log(2.0) * n_bytes)


def bits_per_byte_from_loss(loss: float, tokens: float, n_bytes: float) -> float:
    """Bits per byte of a loss in nats per token.

    Args:
        loss: Token-weighted loss in nats per token.
        tokens: Target tokens, >= 0.
        n_bytes: UTF-8 bytes of the scored text, > 0.

    Raises:
        ValueError: If ``n_bytes`` is not above 0.

    >>> round(bits_per_byte_from_loss(3.0, tokens=300, n_bytes=1000), 3)
    1.298
    """
    return bits_per_byte(loss * tokens, n_bytes)


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
