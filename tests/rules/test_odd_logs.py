"""No rule raises on a log of plausible numbers in an implausible order.

Some hundred logs here; ``make fuzz`` folds 20,000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from suite.odd_log import failures, odd_rows, rule_sets

SETS = rule_sets()
FIRST = 1_000_000  # of seeds that `make fuzz` does not begin with
# Two logs that were found in the field to break a rule each.
RESTART: Sequence[dict[str, Any]] = [
    {"step": 60, "loss": 0.9996275550313842, "learning_rate": 0.00018915398677193506, "num_tokens": 6006},
    {"step": 70, "loss": math.inf, "learning_rate": 0.00014375702994667066, "num_tokens": 1000},
]
_GAP = [
    (300, 7.7917, 2.76e-6), (310, 7.8575, 2.74e-6), (320, 7.7952, 3.6e-5), (340, 7.6583), (350, 7.7131), (360, 7.7154),
    (370, 7.5717), (380, 7.6822), (390, 7.5722), (490, 4.7994), (500, 4.7498),
]  # fmt: skip
GAP = [dict(zip(("step", "loss", "learning_rate"), row, strict=False)) for row in _GAP]


@pytest.mark.parametrize("part", range(10))
def test_no_rule_raises(part: int) -> None:
    """Thirty logs of each part, by every rule, its findings written with their sentences."""
    raised = [
        (seed, code, repr(error))
        for seed in range(FIRST + 30 * part, FIRST + 30 * (part + 1))
        for code, error in failures(odd_rows(seed), SETS[seed % len(SETS)])
    ]
    assert raised == []


@pytest.mark.parametrize("rows", [RESTART, GAP], ids=["restart-then-infinite", "short-log-with-a-gap"])
@pytest.mark.parametrize("rules", SETS, ids=["plain", "other", "told-cpt", "told-sft", "told-other"])
def test_the_logs_that_broke_a_rule(rows: Sequence[dict[str, Any]], rules: Any) -> None:
    """Every rule judges them to their end, cut anywhere."""
    for end in range(len(rows) + 1):
        assert [(code, repr(error)) for code, error in failures(rows[:end], rules)] == []


def test_the_logs_are_what_they_claim() -> None:
    """Two hundred of them hold restarts, repeats, gaps, NaN, infinities and numbers beyond any loss; seeded."""
    logs = [odd_rows(seed) for seed in range(FIRST, FIRST + 200)]
    assert repr(logs) == repr([odd_rows(seed) for seed in range(FIRST, FIRST + 200)])
    steps = [[row["step"] for row in rows if "step" in row] for rows in logs]
    assert sum(any(b < a for a, b in pairwise(s)) for s in steps) > 40
    assert sum(any(b == a for a, b in pairwise(s)) for s in steps) > 40
    losses = [row["loss"] for rows in logs for row in rows if isinstance(row.get("loss"), float | int)]
    assert sum(not math.isfinite(loss) for loss in losses if isinstance(loss, float)) > 200
    assert sum(abs(loss) > 1e16 for loss in losses) > 20
