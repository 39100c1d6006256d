"""Rows of runs of one set-up: the curve of `heading_rows` times what another seed makes of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np
from rules.target.heading_rows import LAST, heading, planned

from ko_cpt_callbacks.forecast.family import FamilyRun, family_row, family_run
from ko_cpt_callbacks.forecast.outlook import outlook_of
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

TEXT = "utf8-v2-aa"
SPREAD = 0.002
"""Standard deviation of what a seed adds to the logarithm of a loss from beginning to end."""


def seed_rows(seed: int, until: float = 1.0, *, off: float = 0.0, text: str | None = TEXT) -> list[Observation]:
    """A run: an offset of its seed that lasts, noise that does not, and ``off``, which grows to its end."""
    random = np.random.default_rng(1000 + seed)
    lasts = SPREAD * float(random.standard_normal())
    rows: list[Observation] = []
    for row in heading(until, seed=seed):
        if isinstance(row, EvalObservation) and row.exact_loss is not None:
            loss = row.exact_loss * math.exp(lasts + off * row.step / LAST)
            row = dataclasses.replace(row, exact_loss=loss, fingerprint=text)
        rows.append(row)
    return rows


def member(seed: int, rows: Iterable[Observation] | None = None) -> FamilyRun:
    """A finished run as one of a family."""
    found = family_run(outlook_of(seed_rows(seed) if rows is None else rows), f"seed-{seed}")
    assert isinstance(found, FamilyRun)
    return found


def with_family(rows: Sequence[Observation], runs: Sequence[FamilyRun]) -> list[Observation]:
    """The rows of a run that was given a family: after its plan, as the callback notes it."""
    return [*rows[:2], SetupObservation(0, FAMILY, family_row(runs)), *rows[2:]]


def planned_otherwise(rows: Sequence[Observation]) -> list[Observation]:
    """The same run under a linear schedule."""

    def rate(step: float) -> float:
        return 1 - step / LAST

    rest = [
        dataclasses.replace(row, learning_rate=2e-4 * rate(row.step)) if isinstance(row, TrainObservation) else row
        for row in rows[2:]
    ]
    return [*planned(rate), *rest]
