"""Patience as users write it."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.watch.stopping import Patience, read_patience


@pytest.mark.parametrize(
    ("patience", "delta", "expected"),
    [
        (None, None, Patience()),
        (1, None, Patience(1)),
        (3, 0.01, Patience(3, 0.01)),
        (3, "0.01", Patience(3, 0.01)),
        (3, 0, Patience(3)),
        (3, "1%", Patience(3, 0.01, relative=True)),
        (3, " 0.5 % ", Patience(3, 0.005, relative=True)),
    ],
)
def test_values_that_can_be_used(patience: object, delta: object, expected: Patience) -> None:
    """Numbers are nats per token, a percentage is a share of the best loss."""
    assert read_patience(patience, delta) == expected


@pytest.mark.parametrize(
    ("patience", "delta", "text"),
    [
        (0, None, "patience=0: expected a whole number of evaluations, at least 1; write patience=3"),
        (True, None, "patience=True: expected a whole number of evaluations, at least 1; write patience=3"),
        (2.5, None, "patience=2.5: expected a whole number of evaluations, at least 1; write patience=3"),
        (None, 0.1, "min_delta=0.1: found no patience with it, expected both; write patience=3, min_delta=0.1"),
        (3, -1, "min_delta=-1: expected nats per token (0.01) or a percentage as text ('1%'), 0 or more"),
        (3, "a lot", "min_delta='a lot': expected nats per token (0.01) or a percentage as text ('1%'), 0 or more"),
        (3, float("nan"), "min_delta=nan: expected nats per token (0.01) or a percentage as text ('1%'), 0 or more"),
        (3, [1], "min_delta=[1]: expected nats per token (0.01) or a percentage as text ('1%'), 0 or more"),
    ],
)
def test_values_that_cannot(patience: object, delta: object, text: str) -> None:
    """Everything else is refused with what was found, what is expected and how to write it."""
    with pytest.raises(ConfigurationError) as caught:
        read_patience(patience, delta)
    assert str(caught.value) == text
