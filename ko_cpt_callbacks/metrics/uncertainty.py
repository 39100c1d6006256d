"""How sure a measured loss is: standard errors, intervals, and the difference of two runs on the same rows.

Tokens of one row depend on each other, so the row is the unit of sampling (the "cluster"), and a
token-weighted loss is a ratio of two sums over rows. Source: Miller 2024 (arXiv 2411.00640) for clustered and
paired errors; the ratio estimator is the textbook one (Cochran, Sampling Techniques, chapter 6), and so is the
combined one of rows drawn by stratum (the same, section 6.11).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["RatioEstimate", "paired_difference", "ratio_estimate"]

Numbers: TypeAlias = Sequence[float] | npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class RatioEstimate:
    """A ratio of sums over rows, or the difference of two.

    Args:
        value: The ratio (or difference), e.g. in nats per token. NaN where there was nothing to divide by.
        se: Its standard error, same unit. ``None`` where fewer than two rows count, or where it would not be
            a finite number.
        n: Rows that count.
    """

    value: float
    se: float | None
    n: int


def _column(numbers: Numbers, name: str) -> npt.NDArray[np.float64]:
    column = np.asarray(numbers, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"{name}: one number per row expected, found an array of shape {column.shape}")
    return column


def _checked(numerator: Numbers, denominator: Numbers) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    top, bottom = _column(numerator, "numerator"), _column(denominator, "denominator")
    if top.shape != bottom.shape:
        raise ValueError(f"numerator has {top.size} rows, denominator {bottom.size}: they must be the same rows")
    if not bool(np.all(np.isfinite(bottom) & (bottom >= 0))):
        raise ValueError("denominator: counts of tokens or bytes are finite and not negative")
    return top, bottom


def _standard_error(residuals: npt.NDArray[np.float64], strata: npt.NDArray[Any] | None = None) -> float | None:
    n = residuals.size
    if n < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        if strata is None:
            squares = n / (n - 1) * float(np.sum(residuals * residuals))
        else:
            squares = sum(_squares(residuals[strata == stratum]) for stratum in np.unique(strata))
    se = math.sqrt(squares)
    return se if math.isfinite(se) else None


def _squares(residuals: npt.NDArray[np.float64]) -> float:
    """What a stratum adds; one row alone does not show how far it is from its stratum's mean, and counts whole."""
    n = residuals.size
    return n * float(residuals.var(ddof=1)) if n > 1 else float(residuals[0] ** 2)


def ratio_estimate(numerator: Numbers, denominator: Numbers, strata: Sequence[Any] | None = None) -> RatioEstimate:
    """A token-weighted loss (or bits per byte) and its standard error, the row as cluster.

    ``value = sum(nll) / sum(T)`` and ``se = sqrt(sum((nll_d - value * T_d)^2) * D / (D - 1)) / sum(T)`` over
    the D rows with ``T_d > 0``. Of rows drawn by stratum, the squares of each stratum are around its own mean, with its
    own ``D_h / (D_h - 1)``: how far strata are apart is not left to the draw.

    Args:
        numerator: Sum of the negative log-likelihood of each row, in nats (or bits).
        denominator: Target tokens (or UTF-8 bytes) of each row, >= 0. Rows with 0 are left out.
        strata: The stratum of each row, where a fixed number of rows was drawn of each; None: all are one draw.

    Returns:
        The estimate; ``value`` is NaN when no row counts, ``se`` is ``None`` below two rows.

    Raises:
        ValueError: If the two do not hold the same rows, or a denominator is negative or not finite.

    >>> ratio_estimate([2.0, 4.0, 12.0], [1, 2, 3])
    RatioEstimate(value=3.0, se=0.7637626158259734, n=3)
    """
    top, bottom = _checked(numerator, denominator)
    counts = bottom > 0
    top, bottom = top[counts], bottom[counts]
    groups = None if strata is None else np.asarray(strata)[counts]
    if bottom.size == 0:
        return RatioEstimate(math.nan, None, 0)
    total = float(bottom.sum())
    with np.errstate(over="ignore", invalid="ignore"):
        value = float(top.sum()) / total
        residuals = (top - value * bottom) / total
    return RatioEstimate(value, _standard_error(residuals, groups), int(bottom.size))


def paired_difference(
    numerator_a: Numbers, denominator_a: Numbers, numerator_b: Numbers, denominator_b: Numbers
) -> RatioEstimate:
    """How much higher the loss of run A is than that of run B on the *same rows*, and how sure that is.

    The rows' own difficulty cancels, so this is much sharper than two separate intervals. With
    ``d_i = (a_i - L_a T_i) / sum(T) - (b_i - L_b U_i) / sum(U)``: ``se = sqrt(D / (D - 1) * sum(d_i^2))``.

    Args:
        numerator_a: Sum of the negative log-likelihood of each row in run A, in nats (or bits).
        denominator_a: Target tokens (or bytes) of each row in run A, >= 0.
        numerator_b: The same for run B, row by row in the same order.
        denominator_b: The same for run B. May differ from A's (another tokenizer: then use bytes).

    Returns:
        ``L_a - L_b``; rows that count in neither run are left out.

    Raises:
        ValueError: If the four do not hold the same rows, or a denominator is negative or not finite.
    """
    a, t = _checked(numerator_a, denominator_a)
    b, u = _checked(numerator_b, denominator_b)
    if a.shape != b.shape:
        raise ValueError(f"run A has {a.size} rows, run B {b.size}: a paired difference needs the same rows")
    counts = (t > 0) | (u > 0)
    # A row without a target token in one run has no loss there, whatever its sum says.
    a, b = np.where(t > 0, a, 0.0)[counts], np.where(u > 0, b, 0.0)[counts]
    t, u = t[counts], u[counts]
    total_t, total_u = float(t.sum()), float(u.sum())
    if total_t == 0.0 or total_u == 0.0:
        return RatioEstimate(math.nan, None, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        loss_a, loss_b = float(a.sum()) / total_t, float(b.sum()) / total_u
        residuals = (a - loss_a * t) / total_t - (b - loss_b * u) / total_u
    return RatioEstimate(loss_a - loss_b, _standard_error(residuals), int(t.size))
