"""What published runs make of a loss: bits per byte, and a sudden fall of an evaluation."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.watch.plausibility import Implausible, doubt, fell_at_once, most_bits


def test_a_loss_is_most_bits_where_a_token_is_one_byte() -> None:
    """By the bytes per token where they are known; else by one, as no token has less."""
    assert most_bits(math.log(2.0), None) == most_bits(math.log(2.0), 1.0) == 1.0
    assert most_bits(math.log(2.0), 4.0) == 0.25


@pytest.mark.parametrize(
    ("losses", "fell"),
    [
        ((2.7, 2.7, 2.19), True), ((2.7, 2.7, 2.21), False),  # half a nat
        ((2.9, 2.7, 2.05), True), ((2.9, 2.7, 2.15), False),  # three times the 0.2 before it
        ((2.5, 2.7, 2.05), False),  # half a nat below the lowest of all, not of the last
    ],
)  # fmt: skip
def test_how_far_an_evaluation_falls_at_once(losses: tuple[float, float, float], fell: bool) -> None:
    """By half a nat per token below all before it, and by three times what the loss had moved just before."""
    assert fell_at_once(*losses) is fell
    assert not fell_at_once(*losses, lowest=2.2)


def test_what_a_guess_meets() -> None:
    """12.55 nats per token, a guess among 282,721 tokens, whatever the task; a bound in bits per byte is none."""
    for task in ("cpt", "sft", "other"):
        assert doubt("loss", 12.56, task) is Implausible.TRIVIAL
        assert doubt("loss", 12.55, task) is None
        assert doubt("bits_per_byte", 12.56, task) is None
