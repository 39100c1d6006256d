"""Derived figures: a closed set of formulas, ranges from the printed digits, two readings of a size kept apart."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.compare.figure import FORMULAS, MEAN, derive, input_names

BITS = "loss / ln 2 / (bytes / tokens)"


def test_redwhale_by_hand() -> None:
    """2.8064 nats at 43.9 GB for 9.7B tokens are 0.895 bits per byte if GB is 10^9 bytes, 0.833 if it is 2^30."""
    found = derive(BITS, {"loss": "2.8064", "tokens": "9.7B", "bytes": "43.9 GB"})

    assert found.high == pytest.approx(2.8064 / math.log(2) / (43.9e9 / 9.7e9))
    assert found.low == pytest.approx(2.8064 / math.log(2) / (43.9 * 2**30 / 9.7e9))
    assert (round(found.high, 3), round(found.low, 3)) == (0.895, 0.833)
    assert found.value == (found.low + found.high) / 2


def test_rounding_reaches_beyond_the_readings() -> None:
    """The printed digits of loss, tokens and bytes widen the range at either end, to the corner furthest out."""
    found = derive(BITS, {"loss": "2.8064", "tokens": "9.7B", "bytes": "43.9 GB"})
    highest = 2.80645 / math.log(2) / (43.85e9 / 9.75e9)
    lowest = 2.80635 / math.log(2) / (43.95 * 2**30 / 9.65e9)

    assert found.rounding == pytest.approx(max(highest - found.high, found.low - lowest))
    assert found.rounding > 0


def test_without_an_open_reading_the_range_is_the_rounding() -> None:
    """The offset of 8-bit loading: ln(9.476 / 9.373) = 0.0109, with the range that the printed digits leave."""
    found = derive("ln(ppl / reference)", {"ppl": "9.476", "reference": "9.373"})

    assert round(found.value, 4) == 0.0109
    assert found.low == pytest.approx(math.log(9.4755 / 9.3735))
    assert found.high == pytest.approx(math.log(9.4765 / 9.3725))
    assert found.rounding == 0


@pytest.mark.parametrize(
    ("formula", "inputs", "value"),
    [
        ("bytes / tokens", {"bytes": "43.9 GB", "tokens": "9.7B"}, (43.9e9 / 9.7e9 + 43.9 * 2**30 / 9.7e9) / 2),
        ("tokens / GPU hours", {"tokens": "33M", "gpu_hours": "13.2"}, 2.5e6),
        ("tokens / steps", {"tokens": "213B", "steps": "102K"}, 213e9 / 102e3),
        ("ln ppl", {"ppl": "6.9452"}, math.log(6.9452)),
        ("log2 ppl", {"ppl": "1.559"}, math.log2(1.559)),
        ("rate in % * 8 / 100", {"rate": "6.460"}, 0.5168),
        ("reference + difference", {"reference": "0.8477", "difference": "+0.0027"}, 0.8504),
        ("standard deviation of the losses", {"losses": [1.0, 2.0, 3.0]}, 1.0),
        ("old + new - shared", {"old": "32,000", "new": "20,000", "shared": "2,928"}, 49072),
        (MEAN, {"losses": [2.0, 3.0, 4.0]}, 3.0),
    ],
)
def test_every_formula(formula: str, inputs: dict[str, object], value: float) -> None:
    """Each formula gives what its name says."""
    assert derive(formula, inputs).value == pytest.approx(value)  # type: ignore[arg-type]
    assert set(input_names(formula)) == set(inputs)


def test_no_formula_is_left_untested() -> None:
    """The tests above cover the closed set."""
    tested = {case[0] for mark in test_every_formula.pytestmark for case in mark.args[1]}  # type: ignore[attr-defined]
    assert tested | {BITS, "ln(ppl / reference)"} == set(FORMULAS)


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"loss": "2.8", "tokens": "9.7B"},
        {"loss": "2.8", "tokens": "9.7B", "bytes": "43.9 GB", "more": "1"},
        {"loss": "2.8", "tokens": "9.7B", "bytes": "0"},
        {"loss": "__import__('os').system('id')", "tokens": "9.7B", "bytes": "43.9 GB"},
        {"loss": [2.8], "tokens": "9.7B", "bytes": "43.9 GB"},
    ],
)
def test_inputs_that_cannot_be_used(inputs: dict[str, object]) -> None:
    """Missing, additional, zero, worded and listed inputs are a ValueError; none is ever evaluated."""
    with pytest.raises(ValueError, match=r"inputs|printed number|list"):
        derive(BITS, inputs)  # type: ignore[arg-type]


def test_an_unknown_formula_is_none() -> None:
    """A formula that is not in the set is not looked at."""
    with pytest.raises(KeyError):
        derive("2 + 2", {})
