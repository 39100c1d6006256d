"""The learning rate ahead: inferred from what was logged, or asked for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.forecast.schedule import asked_schedule, inferred_schedule

LAST, WARMUP, PEAK = 5000, 150, 2e-4


def logged(decay: Callable[[float], float], until: int = 2500, every: int = 10) -> list[tuple[float, float]]:
    """Logged rates with a warm-up; ``decay`` gets the step."""
    return [(s, PEAK * min(s / WARMUP, decay(float(s)))) for s in range(every, until + 1, every)]


def part(step: float) -> float:
    """How much of the decay is done."""
    return max(0.0, step - WARMUP) / (LAST - WARMUP)


DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda step: 1 - part(step),
    "cosine": lambda step: (1 + math.cos(math.pi * part(step))) / 2,
    "cosine to a floor": lambda step: 0.1 + 0.9 * (1 + math.cos(math.pi * part(step))) / 2,
    "inverse-sqrt": lambda step: math.sqrt(WARMUP / max(step, WARMUP)),
}


@pytest.mark.parametrize("name", DECAYS)
def test_a_kind_is_inferred_and_goes_on(name: str) -> None:
    """From half of the run the kind is named, and the rate ahead is its formula's within 1 % of the peak."""
    found = inferred_schedule(logged(DECAYS[name]), 2500, LAST)
    assert found.kind == name.split()[0]
    ahead = np.linspace(2500, LAST, 50)
    assert found.at(ahead) / PEAK == pytest.approx([DECAYS[name](step) for step in ahead], abs=0.01)


@pytest.mark.parametrize("every", [50, 100])
def test_few_rows_are_enough(every: int) -> None:
    """A row every 50 or 100 steps is as good; the peak itself is not among them."""
    assert inferred_schedule(logged(DECAYS["cosine"], every=every), 2500, LAST).kind == "cosine"
    assert inferred_schedule(logged(DECAYS["linear"], every=every), 2500, LAST).kind == "linear"


def test_what_cannot_be_told_is_unknown() -> None:
    """A rate that has not fallen yet, one of no formula, one that decays to another end, none at all."""
    flat = logged(lambda step: 1.0)
    shorter = logged(lambda step: max(0.0, 1 - step / 3000))
    stairs = logged(lambda step: 0.5 ** (step // 900))
    for rows in (flat, shorter, stairs, [], [(10.0, math.nan)], [(10.0, 0.0)] * 3):
        found = inferred_schedule(rows, 2500, LAST)
        assert not found.known
    assert inferred_schedule(flat, 2500, LAST).at(np.array([4000.0]))[0] == PEAK


def test_a_log_to_the_end_is_the_schedule() -> None:
    """Whatever its shape, and also where only its first part is looked at."""
    found = inferred_schedule(logged(lambda step: 0.5 ** (step // 900), until=LAST), 1500, LAST)
    assert found.kind == "logged"
    assert found.at(np.array([4600.0]))[0] == pytest.approx(PEAK / 32)


def test_asked_kinds_go_on_from_the_present_rate() -> None:
    """Every kind joins the logged past without a step and ends where it says."""
    rows = logged(DECAYS["cosine"])
    ends = {"constant": 0.524, "cosine": 0.0, "cosine:0.1": 0.1, "linear": 0.0, "linear:0.2": 0.2, "wsd:0.2": 0.0}
    for text, end in ends.items():
        found = asked_schedule(text, rows, 2500, LAST)
        assert found.asked and found.known and found.kind == text.split(":")[0]
        now, soon, last = found.at(np.array([2500.0, 2510.0, LAST])) / PEAK
        assert (now, soon) == (pytest.approx(rows[-1][1] / PEAK), pytest.approx(now, abs=0.01))
        assert last == pytest.approx(end, abs=0.001)
        assert found.at(np.array([500.0]))[0] == pytest.approx(PEAK * DECAYS["cosine"](500))
    assert asked_schedule("wsd:0.2", rows, 2500, LAST).at(np.array([3900.0]))[0] == pytest.approx(rows[-1][1])
    true = [PEAK * DECAYS["cosine"](step) for step in (3000, 4000)]
    assert asked_schedule("cosine", rows, 2500, LAST).at(np.array([3000.0, 4000.0])) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize("text", ["", "cosin", "cosine:", "cosine:2", "linear:x", "wsd:-1", "constant:0.1", "wsd:nan"])
def test_what_cannot_be_asked_for_is_refused(text: str) -> None:
    """The text names the option, what was found and what is expected."""
    with pytest.raises(ConfigurationError, match=r"--schedule: found .* expected constant, cosine"):
        asked_schedule(text, logged(DECAYS["cosine"]), 2500, LAST)


def test_nothing_to_go_on_from() -> None:
    """Without a logged rate above zero up to now a schedule cannot be asked for."""
    with pytest.raises(ConfigurationError, match="no logged learning rate"):
        asked_schedule("cosine", [(3000.0, 1e-4)], 2500, LAST)
