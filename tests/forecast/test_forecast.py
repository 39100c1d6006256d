"""Where a loss will end: on curves whose end is known, and on logs that no forecast can be made from."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from ko_cpt_callbacks.forecast.forecast import Forecast, forecast
from ko_cpt_callbacks.forecast.posterior import HEALTHY
from ko_cpt_callbacks.forecast.schedule import Schedule, inferred_schedule

LAST = 10_000
POINTS = list[tuple[float, float]]


def rates(kind: str = "cosine", last: int = LAST, warmup: int = 200) -> POINTS:
    """The logged rate of a whole run, a row every ten steps."""
    decay = {
        "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2,
        "linear": lambda part: 1 - part,
        "constant": lambda part: 1.0,
    }[kind]
    return [
        (step, 3e-4 * min(step / warmup, decay(max(0, step - warmup) / (last - warmup))))
        for step in range(10, last + 1, 10)
    ]


def schedule(kind: str = "cosine") -> Schedule:
    """The schedule of that run."""
    logged = rates(kind)
    return inferred_schedule(logged, LAST, LAST)


def curve(kind: str = "cosine", noise: float = 0.02, seed: int = 0, floor: float = 2.0, kappa: float = 0.1) -> POINTS:
    """A loss that falls with the summed rate, and by ``kappa`` in all with the rate itself."""
    random = np.random.default_rng(seed)
    rate = np.array([value for _, value in rates(kind)]) / 3e-4
    total = np.cumsum(rate) * 10
    loss = floor + 3.0 * (total + 100) ** -0.25 - kappa * (1 - rate)
    return [(10 * (i + 1), float(value)) for i, value in enumerate(loss + noise * random.standard_normal(len(loss)))]


def seen(points: POINTS, part: float = 0.5) -> POINTS:
    """The first part of a curve."""
    return [point for point in points if point[0] <= part * LAST]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
def test_the_end_of_a_lawful_curve_is_in_the_interval(kind: str, part: float) -> None:
    """The true end lies inside, the median is within 1.5 %, and nothing is withheld."""
    points = curve(kind)
    truth = float(np.mean([loss for _, loss in points[-10:]]))
    found = forecast(seen(points, part), schedule(kind), LAST)
    assert found.withheld == ()
    assert found.median is not None and found.lower is not None and found.upper is not None
    assert found.lower < truth < found.upper
    assert abs(found.median / truth - 1) < 0.015
    assert (found.now, found.last_step) == (part * LAST, LAST)


def test_the_interval_narrows() -> None:
    """The later, the surer."""
    widths = []
    for part in (0.3, 0.6, 0.9):
        found = forecast(seen(curve(), part), schedule(), LAST)
        assert found.upper is not None and found.lower is not None
        widths.append(found.upper - found.lower)
    assert widths[0] > widths[1] > widths[2]


def test_the_width_of_a_prior_scales_the_interval_alone() -> None:
    """Half of it halves both sides of the interval; the median stays."""
    whole, half = (
        forecast(seen(curve()), schedule(), LAST, prior=replace(HEALTHY, width=width)) for width in (1.0, 0.5)
    )
    assert whole.median is not None and whole.lower is not None and whole.upper is not None
    assert half.median == pytest.approx(whole.median)
    assert half.lower == pytest.approx((whole.lower + whole.median) / 2)
    assert half.upper == pytest.approx((whole.upper + whole.median) / 2)


def test_a_schedule_that_decays_ends_lower() -> None:
    """The same points, with the rate held and decayed from now on: the decay is worth part of the loss."""
    points = seen(curve("constant"))
    logged = [row for row in rates("constant") if row[0] <= LAST / 2]
    held = Schedule("constant", *zip(*[*logged, (LAST, 3e-4)], strict=True))
    decayed = Schedule("linear", *zip(*[*logged, (LAST, 0.0)], strict=True))
    flat, fallen = forecast(points, held, LAST).median, forecast(points, decayed, LAST).median
    assert flat is not None and fallen is not None
    assert 0.01 < (flat - fallen) / flat < 0.08


def test_the_same_points_give_the_same_forecast() -> None:
    """Every call, every rank, every replay: also after other forecasts were made."""
    points = seen(curve())
    first = forecast(points, schedule(), LAST)
    forecast(seen(curve(seed=1)), schedule("linear"), LAST)
    assert forecast(list(points), schedule(), LAST) == first


def test_points_ahead_of_the_cut_are_not_needed() -> None:
    """A point twice, as after a resume, is that of the later row, and a resume that repeats rows changes no number."""
    points = seen(curve())
    whole = forecast(points, schedule(), LAST)
    resumed = forecast([*points, *points[-50:]], schedule(), LAST)
    assert (resumed.median, resumed.lower, resumed.upper) == (whole.median, whole.lower, whole.upper)
    assert resumed.withheld == ("step-reset",)


def test_a_target_is_likely_above_the_interval_and_unlikely_below() -> None:
    """The probability rises with the target from 0 to 1: 5 % at the lower end, one half at the median."""
    found = forecast(seen(curve()), schedule(), LAST)
    assert found.median is not None and found.lower is not None and found.upper is not None
    odds = [found.probability_below(x) for x in (0.5 * found.lower, found.lower, found.median, found.upper, 9.0)]
    assert odds == pytest.approx([0.0, 0.05, 0.5, 0.95, 1.0], abs=0.005)


def test_when_a_target_is_reached() -> None:
    """A target the curve has already passed is reached now, one below its end never, one between on the way."""
    found = forecast(seen(curve()), schedule(), LAST)
    assert found.median is not None
    assert found.step_to_reach(9.0) == LAST / 2
    assert found.step_to_reach(found.median - 0.3) is None
    between = (found.path[0][1] + found.median) / 2
    step = found.step_to_reach(between)
    assert step is not None and LAST / 2 < step < LAST
    before = found.step_to_reach(between + 0.01)
    assert before is not None and before < step


def test_evaluations_are_few_and_enough() -> None:
    """Ten evaluations at half of the run give a forecast; six do not, as three are left out and four are needed."""
    points = curve(noise=0.003)[49::50]
    truth = points[-1][1]
    found = forecast(seen(points), schedule(), LAST, kind="eval")
    assert found.lower is not None and found.upper is not None and found.lower < truth < found.upper
    assert forecast(points[:6], schedule(), LAST, kind="eval").withheld == ("too-few-points",)


def withheld(points: POINTS, of: Schedule | None = None, last: int = LAST) -> tuple[str, ...]:
    """Why no probability is given; none is, then."""
    found = forecast(points, of or schedule(), last)
    assert not found.withheld or found.probability_below(2.0) is None
    assert not found.withheld or found.step_to_reach(9.0) is None
    json.dumps(found.as_dict(), allow_nan=False)
    return tuple(str(doubt) for doubt in found.withheld)


def test_why_it_is_withheld() -> None:
    """Each thing that speaks against a forecast is named, alone where it is alone."""
    half = seen(curve())
    step = [(s, loss - (0.3 if s > 3000 else 0.0)) for s, loss in half]
    jump = [(s, loss + (0.3 if s > 3000 else 0.0)) for s, loss in half]
    steep = [(s, 8.0 * (s + 100) ** -0.2) for s, _ in half]
    spike = [(s, loss * (2 if s == 3000 else 1)) for s, loss in half]
    rising = [(s, loss + max(0.0, s - 2500) * 8e-5) for s, loss in half]
    restart = Schedule("logged", (0, 2000, 2001, LAST), (1e-4, 0.0, 1e-4, 0.0))
    assert withheld(half) == ()
    assert withheld([]) == withheld(half[:1]) == withheld(half[:4]) == ("too-few-points",)
    assert withheld([(s, math.nan if s == 3000 else loss) for s, loss in half]) == ("non-finite",)
    assert withheld(half, Schedule("logged", (0, LAST), (0.0, 0.0))) == ("no-learning-rate",)
    assert withheld(half, Schedule("unknown", (0, LAST), (1e-4, 1e-4))) == ("schedule-unknown",)
    assert "restart" in withheld(half, restart)
    assert withheld(seen(curve(), 0.2)) == ("too-early",)
    assert "warm-up" in withheld(half, Schedule("logged", (0, 4000, LAST), (0.0, 1e-4, 0.0)))
    assert "steep" in withheld(steep)
    assert "jump" in withheld(step)
    assert "jump" in withheld(jump)
    assert withheld(spike) == ("jump",)
    assert "rising" in withheld(rising)
    assert withheld([p for p in half if not 2500 < p[0] < 4200]) == ("gap",)
    assert withheld(half, last=LAST // 2) == ("finished",)


def test_a_loss_that_falls_faster_and_faster() -> None:
    """Before the first bend of a model that knows nothing no law holds; a decay of the rate explains a faster fall."""
    before_the_bend = [(s, 6.4 - 0.2 * (s / LAST) ** 1.5) for s, _ in seen(curve("constant"))]
    straight = [(s, 6.4 - 0.2 * s / LAST) for s, _ in before_the_bend]
    bent = [(s, 6.4 - 0.2 * (s / LAST) ** 0.7) for s, _ in before_the_bend]
    assert "faster" in withheld(before_the_bend, schedule("constant"))
    assert "faster" not in withheld(straight, schedule("constant")) + withheld(bent, schedule("constant"))
    assert "faster" not in withheld(seen(curve(kappa=0.2), 0.8), last=LAST)


def test_a_curve_that_the_law_does_not_hold_is_found_by_its_own_past() -> None:
    """A loss that stops falling at 40 % as if held is no law's: what would have been said earlier of now is wrong."""
    bent = [(s, loss - max(0, s - 3000) * 3e-5) for s, loss in seen(curve(kappa=0.0), 0.6)]
    assert "back-test" in withheld(bent)


def test_nothing_that_a_log_can_hold_raises() -> None:
    """A thousand random series of odd losses, steps and rates: a forecast or a reason, and JSON either way."""
    random = np.random.default_rng(7)
    odd = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 1e300]
    for _ in range(1000):
        count = int(random.integers(0, 60))
        steps = np.cumsum(random.integers(0, 40, count)).astype(float)
        size, spread = random.choice([1.0, 5.0, 1e-8, 1e8]), random.choice([0.0, 0.1, 3.0])
        losses = size * np.exp(spread * random.normal(size=count))
        for where in random.integers(0, max(count, 1), int(random.integers(0, 4))) if count else ():
            losses[where] = random.choice(odd)
            steps[where] = random.choice([steps[where], 0.0, 1e6, math.nan])
        values = np.abs(random.normal(size=count)) * random.choice([0.0, 1e-4, 1.0])
        if count:
            values[int(random.integers(0, count))] = random.choice([0.0, 1.0, math.nan])
        last = int(random.integers(0, 3000))
        points = list(zip(steps.tolist(), losses.tolist(), strict=True))
        of = inferred_schedule(list(zip(steps.tolist(), values.tolist(), strict=True)), last / 2, last)
        found = forecast(points, of, last, kind=str(random.choice(["train", "eval"])))
        assert isinstance(found, Forecast)
        json.dumps(found.as_dict(), allow_nan=False)
        assert found.withheld or found.probability_below(1.0) is not None
