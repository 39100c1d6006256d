"""Loss, perplexity and bits per byte are one number in three units."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.metrics import perplexity as unit


def test_perplexity_is_exp_of_the_loss() -> None:
    """Loss 5.617 nats per token is perplexity 275; loss 0 is perplexity 1."""
    assert unit.perplexity(5.617) == pytest.approx(275.06, abs=0.01)
    assert unit.perplexity(0.0) == 1.0


def test_perplexity_never_raises() -> None:
    """An overflow is infinite; NaN stays NaN; minus infinity is 0."""
    assert unit.perplexity(710.0) == math.inf
    assert unit.perplexity(math.inf) == math.inf
    assert unit.perplexity(-math.inf) == 0.0
    assert math.isnan(unit.perplexity(math.nan))


def test_bits_per_byte_of_a_coin_per_byte_is_one() -> None:
    """Eight bytes at one bit each are 8 ln 2 nats: 1 bit per byte."""
    assert unit.bits_per_byte(8 * math.log(2), 8) == pytest.approx(1.0, rel=1e-15)


def test_bits_per_byte_follow_the_pile_formula() -> None:
    """With 0.29335 tokens per byte a loss of 2 nats per token is 0.29335 * 2 / ln 2 bits per byte."""
    found = unit.bits_per_byte_from_loss(2.0, tokens=29335, n_bytes=100000)
    assert found == pytest.approx(0.29335 * 2 / math.log(2), rel=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: unit.bits_per_byte(1.0, 0),
        lambda: unit.bits_per_byte_from_loss(1.0, 1, -1),
    ],
)
def test_nothing_to_divide_by_is_an_error(call: object) -> None:
    """Zero bytes, or fewer, raise, and the text shows the number found."""
    with pytest.raises(ValueError, match="found"):
        call()  # type: ignore[operator]
