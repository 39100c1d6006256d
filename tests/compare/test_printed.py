"""A printed number is a range: its last digit is rounded."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.compare.figure import read_printed


@pytest.mark.parametrize(
    ("text", "value", "low", "high"),
    [
        ("3.1", 3.1, 3.05, 3.15),
        ("2.8064", 2.8064, 2.80635, 2.80645),
        ("2.690", 2.69, 2.6895, 2.6905),
        ("9.7B", 9.7e9, 9.65e9, 9.75e9),
        ("2B", 2e9, 1.5e9, 2.5e9),
        ("about 498", 498, 497.5, 498.5),
        ("3,150", 3150, 3149.5, 3150.5),
        ("4.60 %", 4.6, 4.595, 4.605),
        ("102K", 102e3, 101.5e3, 102.5e3),
        ("+0.0027", 0.0027, 0.00265, 0.00275),
    ],
)
def test_half_a_unit_of_the_last_digit(text: str, value: float, low: float, high: float) -> None:
    """The range is half a unit of the last printed digit to either side, a trailing zero included."""
    found = read_printed(text)

    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), rel=1e-12)
    assert found.readings == (1.0,)


def test_a_size_has_two_readings() -> None:
    """GB is 10^9 bytes to some and 2^30 to others: both are kept, the decimal one is the value."""
    found = read_printed("43.9 GB")

    assert (found.value, found.readings) == (43.9e9, (1.0, 2**30 / 1e9))


@pytest.mark.parametrize("text", ["", "SOLAR", "3.1.2", "1,00", "nan", "1e9", ">40B", "5-10", "__import__('os')"])
def test_what_is_no_printed_number(text: str) -> None:
    """Anything else is refused, above all what could be read in two ways."""
    with pytest.raises(ValueError, match="no printed number"):
        read_printed(text)
