"""What the loss may still become: a regression on the learning-rate schedule, averaged over a grid.

The curve is ``L0 + A * ((S + o) / (S_now + o))^-alpha - kappa * a`` plus a discrepancy and noise. ``S`` is the learning
rate summed over steps in units of its peak (Tissue et al. 2024, arXiv 2408.11029) and ``a`` is how much of the
annealing has taken effect (Luo et al. 2025, the Multi-Power Law, arXiv 2503.12811). For every ``(r, o, alpha)`` of
the grid the rest is linear, so its posterior has a closed form: nothing is optimized.
``L0`` and ``alpha`` cannot be separated by a curve and are no result.

Losses are in units of the present loss. The numbers of both priors were chosen on curves of published runs;
``benchmarks/forecast.py`` measures what they come to, and docs/forecast.md has the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["HEALTHY", "STEEP", "Floats", "Future", "Past", "Prior", "annealing", "draw_curves"]

Floats = npt.NDArray[np.float64]

RESPONSE_RATES: Final = (0.113, 0.01)
"""How fast annealing takes effect, per step at peak rate: the Multi-Power Law's ``C * peak^(1 - gamma)`` at the 3e-4 of
its 100M runs, and a tenth of it for runs with fewer and larger steps (chosen, not measured)."""
RESPONSE_GAMMA: Final = 0.64
"""The Multi-Power Law's exponent of the rate after a drop, as fitted there."""
RESPONSE_BETA: Final = 0.6
"""The Multi-Power Law's exponent of the response, as fitted there."""
SMALLEST_RATE: Final = 1e-6
"""Part of the peak below which a rate counts as this: a negative power of zero has no value."""
MODEL_ERROR: Final = 3e-4
"""Standard deviation that no number of points makes smaller, part of the loss (chosen, not measured)."""
ANNEALING_ERROR: Final = 0.2
"""How far the effect of annealing is off, part of it, at a full decay (chosen, not measured)."""
DRAWS: Final = 4000
"""Curves that are drawn: the 5 % quantile then has a standard error of 1.5 % of the interval."""
SEED: Final = 20_250_101
"""Every call draws the same numbers, so every rank and every replay gives the same forecast."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before the first point is seen, in units of the present loss.

    Args:
        floors: Alternatives ``(weight, mean L0, sd, mean A, sd)``: a curve with little left to fall, and one with much.
        kappa: Mean and standard deviation of what a full decay of the rate is worth.
        alpha: Median and standard deviation of the logarithm of the exponent.
        alphas: The exponents of the grid.
        offsets: Offsets of ``S``, in parts of the first one that is used.
        late_offset: A further offset, in parts of the present ``S``.
        drifts: Standard deviations by which the curve leaves its law while the step number grows by a factor e.
        width: What the distances of drawn ends from their median are multiplied by.
    """

    floors: tuple[tuple[float, float, float, float, float], ...]
    kappa: tuple[float, float]
    alpha: tuple[float, float]
    alphas: tuple[float, ...]
    offsets: tuple[float, ...]
    late_offset: float
    drifts: tuple[float, ...]
    width: float = 1.0


_ALPHAS: Final = tuple(0.08 * 25 ** (k / 11) for k in range(12))
HEALTHY: Final = Prior(
    floors=((0.8, 0.85, 0.12, 0.15, 0.12), (0.2, 0.4, 0.3, 0.6, 0.5)),
    kappa=(0.042, 0.016),
    alpha=(0.5, 0.4),
    alphas=_ALPHAS,
    offsets=(-0.6, -0.3, 0.0),
    late_offset=1.0,
    drifts=(0.002, 0.005, 0.012, 0.03),
    width=0.98,
)
"""A pretraining or continued-pretraining run after its first fall. A full decay of the rate is worth 4.2 +- 1.6 % of
the loss: without it the interval at 30 % is three times as wide. The mean is the one of five that is best on four
curves of continued pretraining and instruction tuning and 18 of pretraining with 25M and 400M parameters, and the width
is the narrowest that holds nine in ten ends of each kind of run (both by benchmarks/forecast.py)."""
STEEP: Final = Prior(
    floors=((0.5, 0.7, 0.25, 0.3, 0.25), (0.5, 0.3, 0.4, 0.7, 0.6)),
    kappa=(0.06, 0.05),
    alpha=(0.6, 0.6),
    alphas=_ALPHAS,
    offsets=(-0.8, -0.4, 0.0),
    late_offset=1.0,
    drifts=(0.01, 0.03, 0.06, 0.1),
)
"""A run that still falls by a third within what is used of it: broader in everything."""


class Past(NamedTuple):
    """The binned points, oldest first.

    Args:
        steps: Mean step of each bin, > 0.
        rate_sums: ``S`` there.
        losses: Mean loss there, in units of the present loss.
        noise: Standard error of each of these means.
    """

    steps: Floats
    rate_sums: Floats
    losses: Floats
    noise: Floats


class Future(NamedTuple):
    """Steps that are asked for, the present one first, and ``S`` at each."""

    steps: Floats
    rate_sums: Floats


def annealing(node_sums: Floats, node_rates: Floats, at: Floats, response: float) -> Floats:
    """How much of the annealing has taken effect: 0 at the peak rate, near 1 long after a full decay.

    Args:
        node_sums: ``S`` at the nodes of the schedule, from the peak on.
        node_rates: The rate there, in units of its peak.
        at: Values of ``S`` that are asked for.
        response: Speed of the effect, per step at the peak rate.
    """
    drops = node_rates[:-1] - node_rates[1:]
    moved = np.flatnonzero(drops)
    drops, begun = drops[moved], node_sums[:-1][moved]
    speed = response * np.maximum(node_rates[1:][moved], SMALLEST_RATE) ** -RESPONSE_GAMMA
    since = np.maximum(at[:, None] - begun[None, :], 0.0)
    effect: Floats = (1.0 - (1.0 + speed * since) ** -RESPONSE_BETA) @ drops
    return effect


def draw_curves(past: Past, future: Future, nodes: tuple[Floats, Floats], prior: Prior) -> Floats:
    """Curves drawn from the posterior, a row each: the loss without its noise at every step of ``future``.

    Args:
        past: What was seen.
        future: What is asked for.
        nodes: ``S`` and the rate in units of its peak, at the nodes of the schedule from the peak on.
        prior: What is believed beforehand.

    Returns:
        At most `DRAWS` rows, fewer where a drawn floor, fall or effect of annealing is negative and is thrown away;
        none where all are.
    """
    now, count = float(future.steps[0]), len(past.steps)
    sums = np.concatenate([past.rate_sums, future.rate_sums])
    bases = np.concatenate([_bases(prior, sums, count, annealing(*nodes, sums, r)) for r in RESPONSE_RATES])
    cells = len(bases) // len(RESPONSE_RATES)
    ages = np.log(np.maximum(now / past.steps, 1.0))
    common_age = np.minimum(ages[:, None], ages[None, :])
    tried = []
    for index in range(len(RESPONSE_RATES)):
        of_rate = bases[index * cells : (index + 1) * cells]
        effect = -of_rate[0, :, 2]
        lack = np.abs(effect[count] - effect[:count])
        annealed = (ANNEALING_ERROR * prior.kappa[0]) ** 2 * np.minimum(lack[:, None], lack[None, :])
        for drift in prior.drifts:
            covariance = np.diag(past.noise**2 + MODEL_ERROR**2) + drift**2 * common_age + annealed
            tried.append(_fitted(of_rate[:, :count], past.losses, covariance, prior))
    log_evidence = np.array([one[0] for one in tried]).reshape(
        len(RESPONSE_RATES), len(prior.drifts), len(prior.floors), cells
    )
    log_evidence += _log_alpha(prior, cells)
    weights = np.exp(log_evidence - log_evidence.max()).ravel()
    means = np.array([one[1] for one in tried]).reshape(-1, 3)
    roots = np.array([one[2] for one in tried]).reshape(-1, 3, 3)
    random = np.random.Generator(np.random.PCG64(SEED))
    places = (np.arange(DRAWS) + 0.5) / DRAWS * weights.sum()
    chosen = np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)
    drawn = means[chosen] + np.einsum("dij,dj->di", roots[chosen], random.standard_normal((DRAWS, 3)))
    shocks = random.standard_normal((DRAWS, 2, len(future.steps) - 1))
    kept = (drawn >= 0).all(axis=1)
    drawn, chosen, shocks = drawn[kept], chosen[kept], shocks[kept]
    rate, drift, _, cell = np.unravel_index(chosen, log_evidence.shape)
    shapes = bases[:, count:][rate * cells + cell]
    curves: Floats = np.einsum("dni,di->dn", shapes, drawn)
    spread = np.sqrt(np.maximum(np.diff(np.log(future.steps)), 0.0)) * np.array(prior.drifts)[drift][:, None]
    off = ANNEALING_ERROR * prior.kappa[0] * np.sqrt(np.abs(np.diff(shapes[:, :, 2], axis=1)))
    curves[:, 1:] += np.cumsum(spread * shocks[:, 0] + off * shocks[:, 1], axis=1)
    return curves


def _bases(prior: Prior, sums: Floats, count: int, effect: Floats) -> Floats:
    """Columns that the loss is linear in, for every offset and exponent; the bins first, then the present and on."""
    first, now = sums[0], sums[count]
    offsets = np.array([*(part * first for part in prior.offsets), prior.late_offset * now])
    ratio = (sums[None, :] + offsets[:, None]) / (now + offsets[:, None])
    power = np.exp(-np.array(prior.alphas)[:, None, None] * np.log(ratio)[None, :, :])
    power = power.reshape(-1, len(sums))
    return np.stack([np.ones_like(power), power, np.broadcast_to(-effect, power.shape)], axis=2)


def _log_alpha(prior: Prior, cells: int) -> Floats:
    """Logarithm of the prior of each cell; the exponents are evenly spaced in their logarithm, as the prior is."""
    logs = -0.5 * (np.log(np.array(prior.alphas) / prior.alpha[0]) / prior.alpha[1]) ** 2
    return np.repeat(logs, cells // len(prior.alphas))


def _fitted(columns: Floats, losses: Floats, covariance: Floats, prior: Prior) -> tuple[Floats, Floats, Floats]:
    """Log evidence, mean and a root of the covariance of ``(L0, A, kappa)``, for every alternative and cell."""
    inverse = np.linalg.inv(covariance)
    log_determinant = float(np.linalg.slogdet(covariance)[1])
    weighted = inverse @ columns
    gram = np.swapaxes(columns, 1, 2) @ weighted
    moment = np.einsum("cni,n->ci", weighted, losses)
    square = float(losses @ inverse @ losses)
    evidence, means, roots = [], [], []
    for weight, floor, floor_sd, fall, fall_sd in prior.floors:
        center = np.array([floor, fall, prior.kappa[0]])
        precision = np.array([floor_sd, fall_sd, prior.kappa[1]]) ** -2.0
        posterior = gram + np.diag(precision)
        right = moment + precision * center
        spread = np.linalg.inv(posterior)
        mean = np.einsum("cij,cj->ci", spread, right)
        explained = np.einsum("ci,ci->c", mean, right)
        misfit = log_determinant + square + float(precision @ center**2) - explained
        root = np.linalg.cholesky(spread)
        size = -2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1) - float(np.log(precision).sum())
        evidence.append(math.log(weight) - 0.5 * (misfit + size))
        means.append(mean)
        roots.append(root)
    return np.array(evidence), np.array(means), np.array(roots)
