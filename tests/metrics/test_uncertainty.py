"""Standard errors: hand-computed values, and a seeded simulation that the intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.metrics.uncertainty import RatioEstimate, paired_difference, ratio_estimate


def test_ratio_estimate_by_hand() -> None:
    """Sums 2, 4, 12 over 1, 2, 3 tokens: loss 18/6 = 3; residuals -1, -2, 3; se = sqrt(14 * 3/2) / 6."""
    found = ratio_estimate([2.0, 4.0, 12.0], [1, 2, 3])
    assert found.value == 3.0
    assert found.se == pytest.approx(math.sqrt(14 * 3 / 2) / 6, rel=1e-15)
    assert found.n == 3


def test_equal_rows_give_the_plain_standard_error() -> None:
    """With one token a row the estimator is s / sqrt(n), s with n - 1."""
    rng = np.random.default_rng(1)
    losses = rng.normal(3.0, 0.5, size=40)
    found = ratio_estimate(losses, np.ones(40))
    assert found.se == pytest.approx(losses.std(ddof=1) / math.sqrt(40), rel=1e-12)


def test_rows_without_target_tokens_do_not_count() -> None:
    """A row of 0 tokens changes neither the value, nor the error, nor D, whatever its sum says."""
    assert ratio_estimate([2.0, math.nan, 4.0, 12.0], [1, 0, 2, 3]) == ratio_estimate([2.0, 4.0, 12.0], [1, 2, 3])


def test_too_few_rows() -> None:
    """One row has a value and no error; no row has neither."""
    assert ratio_estimate([6.0], [2]) == RatioEstimate(3.0, None, 1)
    empty = ratio_estimate([], [])
    assert math.isnan(empty.value)
    assert (empty.se, empty.n) == (None, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_row_has_no_error_bar(bad: float) -> None:
    """NaN in a counted row makes the value non-finite, and the error absent rather than NaN."""
    found = ratio_estimate([2.0, bad], [1, 2])
    assert not math.isfinite(found.value)
    assert found.se is None


def test_sums_are_float64() -> None:
    """Counts given as int32 near their limit do not wrap."""
    big = np.full(4, 2**30, dtype=np.int32)
    assert ratio_estimate(big, big).value == 1.0


def test_misuse_is_refused() -> None:
    """Different lengths, negative or non-finite denominators, and tables raise."""
    with pytest.raises(ValueError, match="numerator has 2 rows, denominator 1"):
        ratio_estimate([1.0, 2.0], [1])
    with pytest.raises(ValueError, match="not negative"):
        ratio_estimate([1.0], [-1])
    with pytest.raises(ValueError, match="finite"):
        ratio_estimate([1.0], [math.nan])
    with pytest.raises(ValueError, match="shape"):
        ratio_estimate(np.ones((2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="run A has 1 rows, run B 2"):
        paired_difference([1.0], [1], [1.0, 2.0], [1, 1])


def test_paired_difference_by_hand() -> None:
    """Sums 2, 4 against 1, 5, one token each: both losses are 3; d = 0.5, -0.5; se = sqrt(2 * 0.5) = 1."""
    found = paired_difference([2.0, 4.0], [1, 1], [1.0, 5.0], [1, 1])
    assert found.value == 0.0
    assert found.se == pytest.approx(1.0, rel=1e-15)
    assert found.n == 2


def test_paired_difference_of_equal_rows_is_the_paired_standard_error() -> None:
    """With one token a row it is the standard error of the row differences, and the difficulty cancels."""
    rng = np.random.default_rng(2)
    difficulty = rng.normal(3.0, 1.0, size=60)
    a = difficulty + rng.normal(0.1, 0.02, size=60)
    ones = np.ones(60)
    found = paired_difference(a, ones, difficulty, ones)
    delta = a - difficulty
    assert found.value == pytest.approx(delta.mean(), rel=1e-9)
    assert found.se == pytest.approx(delta.std(ddof=1) / math.sqrt(60), rel=1e-9)
    separate = ratio_estimate(a, ones).se
    assert found.se is not None
    assert separate is not None
    assert found.se < separate / 10


def test_paired_difference_with_two_tokenizers() -> None:
    """Denominators may differ; a row with tokens in one run only still counts in that run."""
    found = paired_difference([6.0, 3.0, 9.0], [2, 1, 0], [4.0, 2.0, 0.0], [4, 2, 0])
    assert found.value == pytest.approx(3.0 - 1.0)
    assert found.se == pytest.approx(0.0, abs=1e-12)
    assert found.n == 2
    nothing = paired_difference([1.0], [0], [1.0], [1])
    assert math.isnan(nothing.value)


def test_interval_is_the_normal_one() -> None:
    """95 % is 1.959964 standard errors to each side; 99 % 2.575829."""
    assert interval(3.0, 0.1) == pytest.approx((3.0 - 0.1959964, 3.0 + 0.1959964), abs=1e-7)
    assert interval(0.0, 1.0, confidence=0.99)[1] == pytest.approx(2.5758293, abs=1e-6)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, math.nan])
def test_confidence_is_a_share(confidence: float) -> None:
    """A confidence of 95 (percent) is refused, not misread."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        interval(3.0, 0.1, confidence=confidence)


def test_negative_or_nan_standard_error_is_refused() -> None:
    """A standard error below 0, or NaN, raises."""
    for se in (-0.1, math.nan):
        with pytest.raises(ValueError, match="not negative"):
            interval(3.0, se)


def test_the_interval_holds_the_truth() -> None:
    """Heavy-tailed row lengths, losses that share a row's difficulty: 92-98 % of 400 sets of 150 rows."""
    rng = np.random.default_rng(7)
    tokens = np.ceil(rng.lognormal(4.0, 0.9, size=20_000))
    nll = tokens * rng.normal(3.0, 0.6, size=tokens.size)
    truth = nll.sum() / tokens.sum()
    held = 0
    for _ in range(400):
        rows = rng.integers(0, tokens.size, size=150)
        found = ratio_estimate(nll[rows], tokens[rows])
        assert found.se is not None
        low, high = interval(found.value, found.se)
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.98


def test_strata_by_hand() -> None:
    """Losses 1, 3 of one stratum and 10, 14 of another, a token each: sqrt(2 * 2 + 2 * 8) / 4; one stratum is none."""
    found = ratio_estimate([1.0, 3.0, 10.0, 14.0], np.ones(4), ["a", "a", "b", "b"])
    assert (found.value, found.n) == (7.0, 4)
    assert found.se == pytest.approx(math.sqrt(2 * 2 + 2 * 8) / 4, rel=1e-12)
    rows = ([2.0, 4.0, 12.0], [1, 2, 3])
    assert ratio_estimate(*rows, strata=[5, 5, 5]).se == pytest.approx(ratio_estimate(*rows).se, rel=1e-12)


def test_a_row_alone_in_its_stratum() -> None:
    """It counts by how far it is from the value of all: residuals -3, -1 around -2, and 4."""
    found = ratio_estimate([1.0, 3.0, 8.0], np.ones(3), ["a", "a", "b"])
    assert found.se == pytest.approx(math.sqrt(2 * 2 + 4**2) / 3, rel=1e-12)
    assert ratio_estimate([6.0], [2], ["a"]).se is None
    assert ratio_estimate([1.0, 3.0, math.inf], np.ones(3), ["a", "a", "b"]).se is None


def test_rows_without_target_tokens_have_no_stratum() -> None:
    """They are left out with their strata."""
    found = ratio_estimate([1.0, math.nan, 3.0, 10.0, 14.0], [1, 0, 1, 1, 1], ["a", "c", "a", "b", "b"])
    assert found == ratio_estimate([1.0, 3.0, 10.0, 14.0], np.ones(4), ["a", "a", "b", "b"])


def test_the_interval_of_rows_drawn_by_stratum_holds_the_truth() -> None:
    """Seven kinds of other levels and lengths, a fixed number drawn of each: near 95 % of 1,000 sets, where the error
    of one draw of all is so wide that hardly any is missed."""
    rng = np.random.default_rng(11)
    kinds = []
    for level, length in zip(rng.normal(3.0, 0.5, size=7), rng.uniform(3.5, 5.5, size=7), strict=True):
        tokens = np.ceil(rng.lognormal(length, 0.7, size=4_000))
        kinds.append((tokens, tokens * rng.normal(level, 0.35, size=tokens.size)))
    share = np.array([99, 25, 19, 21, 21, 32, 25])
    # The pool has each kind in the share that is drawn of it.
    weights = share / sum(share)
    truth = sum(w * nll.mean() for w, (_, nll) in zip(weights, kinds, strict=True)) / sum(
        w * tokens.mean() for w, (tokens, _) in zip(weights, kinds, strict=True)
    )
    strata = np.repeat(np.arange(7), share)
    held = {"strata": 0, "one draw": 0}
    for _ in range(1000):
        drawn = [rng.integers(0, 4_000, size=count) for count in share]
        tokens, nll = (
            np.concatenate([kind[side][rows] for kind, rows in zip(kinds, drawn, strict=True)]) for side in (0, 1)
        )
        for name, given in (("strata", strata), ("one draw", None)):
            found = ratio_estimate(nll, tokens, given)
            assert found.se is not None
            low, high = interval(found.value, found.se)
            held[name] += bool(low <= truth <= high)
    assert 0.93 <= held["strata"] / 1000 <= 0.97
    assert held["one draw"] / 1000 > 0.98
