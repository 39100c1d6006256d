"""Which of K evaluated checkpoints cannot be separated from the best.

The lowest of K measured losses is low by luck too, so that two checkpoints are not compared as if one of them had been
named before. The set is that of *multiple comparisons with the best* (Hsu 1984, Annals of Statistics 12:1136; the same
question as the model confidence set of Hansen, Lunde and Nason 2011, Econometrica 79:453): checkpoint k stays unless

    max over j of (L_k - L_j) / se(L_k - L_j)

is above what that maximum has by chance. Where k is the best, every true difference is 0 or below, and the maximum of
the errors alone bounds it: the best is kept with the stated probability, however many checkpoints there are.

By chance means: drawn from the errors' covariance, which for the same rows is that of the rows' residuals. This is the
Gaussian multiplier bootstrap over rows (Chernozhukov, Chetverikov and Kato 2013, Annals of Statistics 41:2786), with
Student's t for few rows. The rows' own difficulty cancels in every difference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ko_cpt_callbacks.metrics.row_sums import RowSums

__all__ = ["LEVEL", "Basis", "Choice", "RowErrors", "Scored", "choose", "row_errors"]

LEVEL: Final = 0.95
"""Probability with which the true best is in the set: the field's."""
_DRAWS: Final = 2000
"""Of the maximum. Chosen, not measured: the 95 % point moves by 1 % between seeds."""
_FEWEST: Final = 4
"""Second differences from which the noise of a curve is known. Chosen, not measured."""
_ROUNDED: Final = 1e-6
"""Noise, part of the loss, below which successive losses are rounded or computed, not noisy. Chosen, not measured."""
_ABSURD: Final = 1e100
"""A standard error from here on, nats per token, is damage, and its square may be no number."""
_MAD: Final = 1.4826
"""Standard deviation of a normal sample over its median absolute deviation."""

Floats = NDArray[np.float64]


class Basis(StrEnum):
    """What separates checkpoints."""

    ROWS = "rows"
    """Row by row: all were evaluated on the same rows, and the sums of each row are there."""
    PART = "part"
    """Row by row where both have those sums, by their standard errors elsewhere."""
    ERRORS = "errors"
    """By the standard errors of their exact losses alone, as if each had rows of its own: a wider set."""
    JITTER = "jitter"
    """By the noise of successive differences of the curve: nothing else is known of the Trainer's own loss."""
    NONE = "none"
    """Not at all: too few evaluations to know their noise, or losses so rounded that they show none."""


@dataclass(frozen=True, slots=True)
class RowErrors:
    """What each row adds to the error of a loss, in an order that follows from the rows' text.

    Args:
        text: The same for two evaluations that scored the same tokens of the same rows.
        errors: Nats per token, shape (rows,).
    """

    text: bytes
    errors: Floats


def row_errors(rows: RowSums) -> RowErrors | None:
    """The errors of an evaluation's rows; ``None`` below two rows, or where a sum is no number."""
    rows_with_targets = rows.tokens > 0
    order = np.lexsort((rows.bytes, rows.tokens, *rows.hash.T))
    order = order[rows_with_targets[order]]
    nll, tokens = rows.nll[order], rows.tokens[order].astype(np.float64)
    count = len(order)
    if count < 2 or not np.isfinite(nll).all():
        return None
    total = float(tokens.sum())
    errors = (nll - float(nll.sum()) / total * tokens) / total * math.sqrt(count / (count - 1))
    same = (rows.hash[order], rows.tokens[order], rows.bytes[order])
    return RowErrors(blake2b(b"".join(part.astype("<u8").tobytes() for part in same)).digest(), errors)


@dataclass(frozen=True, slots=True)
class Scored:
    """A checkpoint's evaluation.

    Args:
        step: Its step.
        loss: Nats per token, finite.
        se: Its standard error; ``None`` where none is known.
        rows: The errors of its rows; ``None`` where they are not there.
    """

    step: int
    loss: float
    se: float | None = None
    rows: RowErrors | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What the evaluations say.

    Args:
        basis: What separated them.
        best: Step of the lowest loss.
        equal: Steps that cannot be separated from the best, itself among them; ``None`` where nothing tells.
        gaps: Loss less the lowest, with the standard error of that difference, by step.
        rows: Rows that were compared; ``None`` where none were.
        noise: Standard deviation of one evaluation's noise, with `Basis.JITTER`; else ``None``.
    """

    basis: Basis
    best: int
    equal: frozenset[int] | None
    gaps: Mapping[int, tuple[float, float | None]] = field(default_factory=dict)
    rows: int | None = None
    noise: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The choice as strict JSON."""
        return {
            "basis": self.basis.value,
            "level": LEVEL,
            "rows": self.rows,
            "noise": self.noise,
            "best": self.best,
            "equal": None if self.equal is None else sorted(self.equal),
        }


def choose(scored: Sequence[Scored], curve: Sequence[float]) -> Choice:
    """Which checkpoints cannot be separated from the best.

    Args:
        scored: The checkpoints, at least one, of rows that losses may be compared on.
        curve: Losses of all evaluations of these rows, in order, of which the checkpoints' are a part.
    """
    losses = np.array([one.loss for one in scored])
    best = int(np.argmin(losses))
    gaps: dict[int, tuple[float, float | None]] = {one.step: (one.loss - scored[best].loss, None) for one in scored}
    if all(one.se is not None and one.se < _ABSURD for one in scored):
        basis, covariance, degrees = _measured(scored)
        noise = None
    elif (found := _jitter(curve)) is not None:
        noise, degrees = found
        basis, covariance = Basis.JITTER, np.eye(len(scored)) * noise * noise
    else:
        return Choice(Basis.NONE, scored[best].step, None, gaps)
    spread = _spread(covariance)
    for at, one in enumerate(scored):
        gaps[one.step] = (gaps[one.step][0], float(spread[at, best]))
    equal = _equal(losses, covariance, spread, degrees)
    kept = frozenset(one.step for one, stays in zip(scored, equal, strict=True) if stays)
    rows = None if basis in (Basis.ERRORS, Basis.JITTER) or degrees is None else degrees + 1
    return Choice(basis, scored[best].step, kept, gaps, rows, noise)


def _measured(scored: Sequence[Scored]) -> tuple[Basis, Floats, int | None]:
    """How the errors go together; of two without common rows not at all, which never makes a difference look surer."""
    covariance = np.diag([(one.se or 0.0) ** 2 for one in scored])
    groups: dict[bytes, list[int]] = {}
    for at, one in enumerate(scored):
        if one.rows is not None:
            groups.setdefault(one.rows.text, []).append(at)
    largest = max(groups.values(), key=len, default=[])
    degrees = None
    for members in groups.values():
        errors = np.stack([rows.errors for at in members if (rows := scored[at].rows) is not None])
        covariance[np.ix_(members, members)] = errors @ errors.T
        degrees = errors.shape[1] - 1 if degrees is None else min(degrees, errors.shape[1] - 1)
    basis = Basis.ROWS if len(largest) == len(scored) else Basis.PART if len(largest) > 1 else Basis.ERRORS
    return basis, covariance, degrees


def _jitter(curve: Sequence[float]) -> tuple[float, int] | None:
    """The noise of one evaluation and how many differences it is from: second ones, in which a slope cancels.

    ``None`` where they are too few, or mostly none: rounded losses hide their noise, and do not lack it.
    """
    losses = np.array([loss for loss in curve if math.isfinite(loss)])
    bends = np.diff(losses, 2)
    if len(bends) < _FEWEST:
        return None
    noise = _MAD * float(np.median(np.abs(bends))) / math.sqrt(6.0)
    return (noise, len(bends)) if noise > _ROUNDED * float(np.median(np.abs(losses))) else None


def _spread(covariance: Floats) -> Floats:
    """Standard errors of all differences."""
    variances = np.diag(covariance)
    return np.sqrt(np.maximum(variances[:, None] + variances[None, :] - 2.0 * covariance, 0.0))


def _equal(losses: Floats, covariance: Floats, spread: Floats, degrees: int | None) -> list[bool]:
    rng = np.random.default_rng(0)  # the same answer at every call
    values, vectors = np.linalg.eigh(covariance)
    draws = rng.standard_normal((_DRAWS, len(losses))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
    if degrees is not None:
        draws /= np.sqrt(rng.chisquare(degrees, _DRAWS) / degrees)[:, None]
    equal = []
    for at, loss in enumerate(losses):
        others = spread[at] > 0.0
        if bool(np.any((loss > losses) & ~others)):  # surely worse: no row differs otherwise
            equal.append(False)
            continue
        found = np.max((loss - losses[others]) / spread[at, others], initial=-math.inf)
        chance = np.max((draws[:, [at]] - draws[:, others]) / spread[at, others], axis=1, initial=-math.inf)
        equal.append(bool(found <= np.quantile(chance, LEVEL)) if others.any() else True)
    return equal
