"""The suite is what the benchmark and the tests of the rules take it for."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from suite.generator import FAULTS, kinds, make, new_kinds, runs
from suite.new_lengths import MEGA, order
from suite.run import LabelledRun, state
from suite.score import last_row

from ko_cpt_callbacks.messages.catalogue import codes

OLD_KINDS = Path(__file__).with_name("old_kinds.json")
"""Per old kind a digest of its second run of seed 7, rows and label."""


@pytest.fixture(scope="module")
def new() -> list[LabelledRun]:
    """Three seeds of the new kinds, in full."""
    return [run for seed in range(3) for run in runs(seed, group="new")]


def _plain(value: Any) -> Any:
    """Numbers to six digits, so that the last bit of an exponential is no other run; sets in order."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def digest(run: LabelledRun) -> str:
    """Eight hexadecimal digits of everything that a run of an old kind is."""
    label = [run.name, run.kind, run.expected, run.allowed, run.task, run.healthy, run.max_steps]
    label += [run.num_train_epochs, float(run.size), run.onset, dict(run.least), dict(run.either), run.rows]
    return hashlib.sha256(json.dumps(_plain(label)).encode()).hexdigest()[:8]


def test_the_same_seed_gives_the_same_runs_and_another_one_others() -> None:
    """Name, number, seed and noise say everything."""
    name = "level-shift/up-small"

    assert make(name, 1, seed=3) == make(name, 1, seed=3)
    assert make(name, 1, seed=3).rows != make(name, 1, seed=4).rows
    assert make(name, 1, seed=3).rows != make(name, 2, seed=3).rows
    assert make(name, 1, seed=3).rows != make(name, 1, seed=3, noise=2.0).rows


def test_old_kinds_are_what_they_were() -> None:
    """Rows and labels of every kind that results were reported on, so that old figures can be compared with new ones.

    A kind that is changed on purpose is another kind, with another name. One label was changed: of `below-floor` kinds
    whose rows tell no bytes (``falling`` and ``all-along``) a note is all that is asked, since floors are in bits per
    byte.
    """
    kept = json.loads(OLD_KINDS.read_text("utf-8"))

    assert {name: digest(make(name, 1, 7)) for name in kinds()} == kept


def test_new_kinds_stand_apart() -> None:
    """Who asks for no group gets the old kinds alone; no name is in both groups, and ``all`` is both."""
    old, new, both = (
        [run.name for run in runs(5, size=0.0, group=group)] for group in ("old", "new", "all")
    )  # fmt: skip

    assert [run.name for run in runs(5, size=0.0)] == old
    assert not set(kinds()) & set(new_kinds())
    assert both == old + new
    assert all(3 <= count <= 8 for _, count in new_kinds().values())


def test_a_new_kind_is_its_seed_and_no_single_curve() -> None:
    """The same seed gives the same run, another number, seed or noise another one."""
    for name in new_kinds():
        one = make(name, 1, seed=3)
        assert repr(make(name, 1, seed=3)) == repr(one), name  # NaN is no equal of itself
        for other in (make(name, 2, seed=3), make(name, 1, seed=4), make(name, 1, seed=3, noise=2.0)):
            assert repr(other.rows) != repr(one.rows), name


def test_new_rows_are_rows_of_a_trainer(new: list[LabelledRun]) -> None:
    """Steps and epochs of a log do not fall, epochs but at an announced stage; a loss is finite, and 0 only in a fault
    of zeros or a policy's log."""
    for run in new:
        rows = [row for row in run.rows if row.get("kind") != "setup"]
        assert all(before["step"] <= after["step"] for before, after in pairwise(run.rows)), run.name
        if "stages-announced" not in run.kind:
            assert all(before["epoch"] <= after["epoch"] for before, after in pairwise(rows)), run.name
        losses = [row["loss"] for row in rows if "loss" in row]
        assert all(math.isfinite(loss) for loss in losses), run.name
        if "/rl-" not in run.kind and "zero" not in run.kind:
            assert min(losses) > 0, run.name


def test_lengths_are_grouped_as_the_trainers_sampler_groups_them() -> None:
    """Every row once; within each mega-batch the longest first; the longest row of all in front of everything."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 900, 1000)
    rows = order(lengths, 4, rng)
    size = MEGA * 4

    assert sorted(rows.tolist()) == list(range(1000))
    assert lengths[rows[0]] == lengths.max()
    for first in range(0, 1000, size):
        # The swap of the longest row leaves a shorter one at the head of its mega-batch.
        assert (np.diff(lengths[rows[first + 1 : first + size]]) <= 0).all()


def test_a_grouped_log_jumps_where_a_mega_batch_begins() -> None:
    """On one process every 50 steps: the counted tokens of a step rise there, and fall nearly everywhere else."""
    found = 0
    for number in range(12):
        run = make("healthy/grouped-wide-counted", number, 2)
        name = next((key for key in ("num_tokens", "tokens_seen") if key in run.rows[0]), None)
        counts = np.diff([row[name] for row in run.rows if "loss" in row]) if name else np.zeros(0)
        rises = np.flatnonzero(np.diff(counts) > 0) + 2
        found += len(rises) >= 2 and set(rises[:2].tolist()) == {50, 100}

    assert found >= 2


def test_a_skipped_step_is_seen_in_the_rate() -> None:
    """Where the gradient norm is no number the learning rate is the row before's, and the loss is an ordinary one."""
    for number in range(8):
        rows = [row for row in make("healthy/skipped-step", number, 1).rows if "loss" in row]
        skipped = [i for i, row in enumerate(rows) if not math.isfinite(row["grad_norm"])]
        assert skipped
        for i in skipped:
            assert rows[i]["learning_rate"] == (rows[i - 1]["learning_rate"] if i else 0.0)
            assert rows[i]["loss"] > 0.3


def test_ends_of_epochs_read_as_old_transformers_prints_them() -> None:
    """Epochs have two decimals, and around an end several rows read the same whole number."""
    for name in ("memorising/two-decimals", "healthy/two-decimals"):
        rows = [row for row in make(name, 3, 1).rows if "loss" in row]
        epochs = [row["epoch"] for row in rows]
        assert epochs == [round(epoch, 2) for epoch in epochs]
        assert epochs.count(1.0) >= 1 < len({epoch for epoch in epochs if epoch.is_integer()})


def test_tokenizers_span_their_range_and_bits_fit_the_bytes(new: list[LabelledRun]) -> None:
    """1.2 to 6.6 bytes per token; 0.5 bits per byte and more where a run is healthy, below 0.34 where it is not."""
    lengths = []
    for run in (one for one in new if one.kind == "healthy/tokenizer-measured"):
        row = next(row for row in reversed(run.rows) if any(key.endswith("_bytes") for key in row))
        prefix = next(key.removesuffix("_bytes") for key in row if key.endswith("_bytes"))
        length = row[f"{prefix}_bytes"] / row[f"{prefix}_tokens"]
        lengths.append(length)
        bits = row[f"{prefix}_bits_per_byte"]
        assert bits == pytest.approx(row[f"{prefix}_exact_loss"] / math.log(2) / length, rel=1e-4)
        assert 0.48 < bits < 1.9
    assert min(lengths) < 2.0 < 5.0 < max(lengths)
    for run in (one for one in new if one.kind == "below-floor/in-bytes"):
        assert [row["eval_bits_per_byte"] for row in run.rows if "eval_bits_per_byte" in row][-1] < 0.34
        assert min(row["loss"] for row in run.rows if "loss" in row) > math.log(3.0)


def test_the_healthy_ones_are_the_larger_half() -> None:
    """Of a full suite of 500 runs and more, from 50 healthy kinds and more."""
    healthy = sum(count for name, (_, count) in kinds().items() if name.startswith("healthy/"))
    faulty = sum(count for _, count in FAULTS.values())

    assert healthy > faulty
    assert healthy + faulty >= 500
    assert sum(name.startswith("healthy/") for name in kinds()) >= 50


def test_every_code_of_the_judge_is_there_several_times() -> None:
    """At least eight runs for each, and each is a code that the package has."""
    expected = Counter(code for run in runs() for code in run.expected)

    assert set(expected) <= set(codes())
    assert {
        "loss-spike", "diverged", "level-shift", "run-seam", "padding-in-loss", "non-finite", "below-floor",
        "overfitting", "gap-widening", "memorizing", "forgetting", "plateau", "no-learning", "not-enough-data",
    } <= set(expected)  # fmt: skip
    assert min(expected.values()) >= 8


def _assert_a_label_fits_its_rows(run: LabelledRun) -> None:
    steps = [row["step"] for row in run.rows]

    assert run.healthy is not bool(run.expected)
    for first, last in run.expected.values():
        assert min(steps) <= first <= last <= max(steps)
        assert 0 < last_row(run, last) <= len(run.rows)
    assert not set(run.expected) & run.allowed
    assert set(run.either) <= set(run.expected)
    assert {code for code in run.expected for code in run.counting(code)} | run.allowed <= set(codes())
    assert run.max_steps >= max(steps) or "seam" in run.kind or "logging-changed" in run.kind
    assert len(json.loads(json.dumps(state(run)))["log_history"]) == len(run.rows)


def test_labels_of_new_kinds_fit_their_rows(new: list[LabelledRun]) -> None:
    """Three seeds of them, in full, as `test_a_label_fits_its_rows` asks of one each."""
    for run in new:
        _assert_a_label_fits_its_rows(run)


@pytest.mark.parametrize("kind", [*kinds(), *new_kinds()])
def test_a_label_fits_its_rows(kind: str) -> None:
    """A healthy run expects nothing; a window lies within the log and begins before it ends; rows are JSON."""
    _assert_a_label_fits_its_rows(make(kind, 0))
