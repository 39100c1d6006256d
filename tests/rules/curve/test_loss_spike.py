"""loss-spike: a sudden rise far above the noise that comes back; noise, bumps, mega-batches and steps are none."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from messages.shown import shown
from run.curve import cosine, falling, findings, noisy, rows

from ko_cpt_callbacks.rules.curve.loss_spike import LossSpike
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import TrainObservation
from ko_cpt_callbacks.signal.excursion import Rise, Watch
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import Recent

RULE = LossSpike()


def test_one_point() -> None:
    """A point 1.5 nats up is said with the next, which is back; a warning that does not ask to stop, with evidence."""
    losses = falling(100, extra=lambda i: 1.5 * (i == 60))
    (found,) = findings(RULE, rows(losses))
    assert (found.severity, found.step, found.split, found.asks_to_stop) == (Severity.WARNING, 620, "train", False)
    assert (found.variant, found.values["points"], found.values["peak_step"]) == ("point", 1, 610)
    assert found.values["peak"] == losses[60]
    assert found.values["back"] == losses[61]
    assert found.values["level"] == pytest.approx(2.5, abs=0.04)
    assert found.values["noise"] == pytest.approx(0.02, rel=0.5)
    assert found.values["height"] > found.values["threshold"] > 9.1 * found.values["noise"]  # type: ignore[operator]
    assert found.values["window"] == 49


def test_sentence() -> None:
    """Peak, step, level, noise, height in noises and what was needed; what to do."""
    (found,) = findings(RULE, rows(falling(100, extra=lambda i: 1.5 * (i == 60))))
    assert shown(found) == (
        "point",
        {
            "back": 2.4789, "level": 2.5042, "noise": 0.0283, "noises": 53.2, "peak": 4.0118, "peak_step": 610,
            "threshold": 0.2607,
        },
    )  # fmt: skip


@pytest.mark.parametrize("width", [2, 5, 12, 20])
@pytest.mark.parametrize("size", [0.6, 3.0])
def test_wider_ones(width: int, size: float) -> None:
    """Up and down again within 20 points, as a hill or as a jump that decays: one finding, when 70 % are gone."""
    hill = falling(200, extra=lambda i: size * math.sin(math.pi * (i - 99.5) / width) * (100 <= i < 100 + width))
    decay = falling(200, extra=lambda i: size * math.exp(-3 * (i - 100) / width) * (i >= 100))
    for losses in (hill, decay):
        (found,) = findings(RULE, rows(losses))
        assert 1010 < (found.step or 0) <= 1000 + 10 * (width + 3)
        assert 1010 <= found.values["first_step"] <= 1040  # type: ignore[operator]


@pytest.mark.parametrize("at", [14, 20, 26])
def test_early_on_a_steep_curve(at: int) -> None:
    """While the loss still falls by a noise or more a point: the level is where the curve was going."""
    losses = [3.0 + 4.0 * math.exp(-i / 8) + e for i, e in enumerate(noisy(60, 0.01))]
    losses[at] += 1.5
    assert [one.values["first_step"] for one in findings(RULE, rows(losses))] == [10 * (at + 1)]


def test_coarse_logs() -> None:
    """One of 20 points, far up."""
    assert len(findings(RULE, rows(falling(20, extra=lambda i: 2.0 * (i == 12)), every=500))) == 1


def test_what_stays_up_is_no_spike() -> None:
    """A level that is left for good, by a jump or a ramp, and a rise of more than 30 points: other rules' business."""
    for extra in (lambda i: 1.5 * (i >= 60), lambda i: 0.05 * max(i - 60, 0), lambda i: 1.5 * (60 <= i < 100)):
        assert findings(RULE, rows(falling(160, extra=extra))) == []


def _autocorrelated(points: int, r: float, sd: float, seed: int) -> list[float]:
    out, last = [], 0.0
    for e in noisy(points, sd * math.sqrt(1 - r * r), seed):
        last = r * last + e
        out.append(last)
    return out


@pytest.mark.parametrize("seed", range(6))
def test_noise_is_no_spike(seed: int) -> None:
    """Quiet, loud, heavy-tailed (clipped t4) and auto-correlated noise, on 500 points each."""
    rng = random.Random(seed)
    tails = [max(-6.0, min(6.0, rng.gauss(0, 1) / math.sqrt(rng.gammavariate(2, 0.5)))) for _ in range(500)]
    assert findings(RULE, rows(falling(500, 0.005, seed=seed))) == []
    assert findings(RULE, rows(falling(500, 0.1, seed=seed))) == []
    assert findings(RULE, rows([2.5 + 0.015 * t for t in tails])) == []
    assert findings(RULE, rows([2.5 + e for e in _autocorrelated(500, 0.6, 0.03, seed)])) == []


def test_rounded_losses_are_not_quiet() -> None:
    """Two decimals, most of them equal: the spread is 0, the noise is not."""
    assert findings(RULE, rows([round(2.5 + e, 2) for e in noisy(300, 0.004)])) == []


def test_the_bump_of_a_warm_up() -> None:
    """A slow rise by 0.4 nats while the learning rate warms up, or just after."""
    losses = falling(100, extra=lambda i: 0.4 * math.exp(-(((i - 10) / 4) ** 2)))
    assert findings(RULE, rows(losses, rates=cosine(100, warmup=0.1))) == []


def test_short_batches_at_epoch_ends() -> None:
    """The point that closes an epoch is 0.4 nats off; the same point in the middle of one is a spike."""
    ends = [2.5 + e + (0.4 if (i + 1) % 40 == 0 else 0.0) for i, e in enumerate(noisy(160, 0.01))]
    assert findings(RULE, rows(ends, epochs=4.0)) == []
    assert len(findings(RULE, rows(ends, epochs=2.7))) >= 1


def test_rows_grouped_by_length() -> None:
    """The loss jumps up to where it was 40 points ago and comes down evenly: none of the jumps is a spike."""
    losses = [2.5 + 0.3 * (1 - (i % 40) / 40) + e for i, e in enumerate(noisy(240, 0.01))]
    assert findings(RULE, rows(losses)) == []


def test_short_runs_are_silent() -> None:
    """Twelve points of a healthy run."""
    for seed in range(20):
        assert findings(RULE, rows(falling(12, 0.03, seed=seed))) == []


def test_many_spikes_do_not_flood() -> None:
    """Ten a run at most."""
    sparse = falling(1500, extra=lambda i: 2.0 * (i > 60 and i % 60 == 0))
    assert len(findings(RULE, rows(sparse))) == 10
    assert len(findings(replace(RULE, most=100), rows(sparse))) == 23


def test_numbers_that_are_none() -> None:
    """NaN and infinite losses, and NaN logged as 0, neither rise nor count; the spike beside them is seen."""
    losses = falling(100, extra=lambda i: 1.5 * (i == 60))
    for odd in (math.nan, math.inf, -math.inf, 0.0, None):
        seen = rows([odd if i in (10, 30, 58, 75) else loss for i, loss in enumerate(losses)])
        assert [one.values["peak_step"] for one in findings(RULE, seen)] == [610]
    assert findings(RULE, rows([math.inf] * 50)) == []


def test_a_repeat_replaces() -> None:
    """The row of the spike again: nothing more. A healthy row of the same step takes it back; and the other way."""
    losses = falling(100, extra=lambda i: 1.5 * (i == 60))
    seen = rows(losses)
    assert [one.step for one in findings(RULE, [one for row in seen for one in (row, row)])] == [620]
    healthy = TrainObservation(610, loss=2.5)
    assert findings(RULE, [*seen[:61], healthy, *seen[61:]]) == []
    assert [one.step for one in findings(RULE, [*seen[:60], healthy, *seen[60:]])] == [620]

# -- how high it must be, of a rise with exactly these numbers ----


def _rise(**changes: Any) -> Rise:
    """A single point above a quiet level of 2.5 nats, of a window of 30; each number decides where it is large."""
    window, points, first = changes.pop("window", 30), changes.pop("points", 1), changes.pop("first", 3.5)
    after = (first, *[3.5] * (points - 1)) if points > 1 else (changes.pop("peak", first),)
    odd = {0: changes.pop("ceiling", 2.5)}
    odd[1] = odd[0]
    if far := changes.pop("far", 0.0):
        odd |= {3: 2.5 + far, 4: 2.5 + far}
    if dip := changes.pop("dip", 0.0):
        odd[window - 1] = 2.5 - dip
    before = tuple(odd.get(i, 2.5) for i in range(window))
    return Rise(base=2.5, noise=changes.pop("noise", 0.01), before=before, after=after)


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({}, 9.2 * 0.01),
        ({"points": 2, "noise": 0.1}, 7.4 * 0.1),
        ({"points": 3, "noise": 0.1}, 7.4 * 0.1),
        ({"points": 3, "far": 0.3}, 0.7 * 0.3),
        ({"points": 4, "far": 0.3}, 0.08),
        ({"points": 4, "dip": 0.1}, 0.25),
        ({"points": 4, "noise": 0.1}, 7.4 * 0.1),
        ({"points": 4, "noise": 0.001}, 0.08),
        ({"window": 11}, 0.65),
        ({"window": 12}, 9.2 * 0.01),
        ({"points": 8, "ceiling": 2.78}, 0.4),
        ({"points": 7, "ceiling": 2.78}, 0.08),
        ({"points": 8, "ceiling": 2.78, "first": 3.21}, 0.4),
        ({"points": 8, "ceiling": 2.78, "first": 3.19}, 0.08),
    ],
    ids=str,
)
def test_how_high_a_rise_must_be(changes: dict[str, Any], needed: float) -> None:
    """What each number of a rise asks for."""
    assert RULE.needed(_rise(**changes), 100) == pytest.approx(needed)


def test_a_rise_as_high_as_needed_is_none() -> None:
    """It must be higher."""
    for peak, said in ((3.5, False), (3.5078125, True)):
        window = Recent(losses=(2.5,) * 40, steps=tuple(range(40)), epochs=(None,) * 40, count=40)
        signals = Signals(window=window, watch=Watch(ended=_rise(peak=peak)))
        assert bool(LossSpike(least_nats=1.0).step(0, TrainObservation(20, loss=2.5), signals)[1]) is said


def test_how_high_a_point_must_be_among_many() -> None:
    """A twentieth more with each doubling beyond 128; a single one only."""
    for count, times in ((64, 1.0), (128, 1.0), (256, 1.05), (1024, 1.15)):
        assert RULE.needed(_rise(noise=0.1), count) == pytest.approx(9.2 * 0.1 * times)
    assert RULE.needed(_rise(points=2, noise=0.1), 1024) == pytest.approx(7.4 * 0.1)


@pytest.mark.parametrize(("height", "said"), [(0.79, 0), (0.81, 1)])
def test_how_high_a_rise_must_be_where_an_epoch_ends(height: float, said: int) -> None:
    """0.8 nats; of a point in the middle of an epoch any of this size is a spike."""
    losses = [2.5 + (height if i == 100 else 0.0) for i in range(200)]
    assert len(findings(RULE, rows(losses, epochs=2.0))) == said
    assert len(findings(RULE, rows(losses, epochs=0.9))) == 1


def test_steps_going_back_begin_anew() -> None:
    """The second run starts at 3.3 after the first ended at 2.5: no rise."""
    assert findings(RULE, [*rows(falling(80)), *rows(falling(80, seed=1))]) == []


def test_the_same_order_again() -> None:
    """With a new epoch the loss is up by a quarter of a nat and drifts down again: the text begins anew. In the middle
    of an epoch it is a spike."""
    losses = falling(300, 0.02, fall=0.3, extra=lambda i: 0.3 * math.exp(-(i - 150) / 8) if i >= 150 else 0.0)
    assert findings(RULE, rows(losses, epochs=2.0)) == []
    assert len(findings(RULE, rows(losses, epochs=0.9))) == 1


@pytest.mark.parametrize(("points", "times", "said"), [(12, 2, 0), (12, 1, 1), (2, 2, 0), (2, 1, 1), (1, 2, 1)])
def test_longer_rows_for_a_while(points: int, times: int, said: int) -> None:
    """Points half a nat up whose tokens per step doubled are other rows; with the same tokens, or a single one, they
    are a spike."""
    up = range(150, 150 + points)
    losses = falling(300, 0.02, fall=0.3, extra=lambda i: 0.5 * math.exp(-(i - 150) / 8) if i in up else 0.0)
    tokens, count = [], 0
    for i in range(300):
        count += 20_000 * (times if i in up else 1)
        tokens.append(count)
    assert len(findings(RULE, rows(losses, tokens=tokens))) == said


@pytest.mark.parametrize("points", [1, 2])
def test_a_short_spike_like_the_one_before(points: int) -> None:
    """Three points may be another mega-batch of rows grouped by length; one or two that come back are another spike."""
    losses = falling(140, extra=lambda i: 1.0 if 0 <= i - 60 < 3 or 0 <= i - 100 < points else 0.0)
    assert len(findings(RULE, rows(losses))) == 2


def test_a_rise_that_may_be_the_end_of_the_first_mega_batch() -> None:
    """Four points are enough for one in the first 50 points of a run that leads half of the way back, eight later."""
    for points, count, needed in ((4, 55, 0.4), (4, 56, 0.08), (7, 1000, 0.08), (8, 1000, 0.4)):
        assert RULE.needed(_rise(points=points, ceiling=2.78), count) == pytest.approx(needed)
    for ceiling, needed in ((4.49, 1.99 / 0.7), (4.51, 0.08)):
        assert RULE.needed(_rise(points=4, ceiling=ceiling), 30) == pytest.approx(needed)


@pytest.mark.parametrize("size", [1.0, 0.3])
def test_a_longer_rise_like_the_one_before(size: float) -> None:
    """Is another spike: a mega-batch of rows grouped by length drifts back, and does not leave its level at once."""
    losses = falling(140, sd=0.005, extra=lambda i: 1.0 if 60 <= i < 64 else size if 100 <= i < 104 else 0.0)
    assert len(findings(RULE, rows(losses))) == 2


@pytest.mark.parametrize(("points", "said"), [(1, True), (2, False)])
def test_a_rise_that_undoes_a_drift(points: int, said: bool) -> None:
    """Of more than one point is a mega-batch's."""
    drift = [*[2.0] * 20, *(3.0 - i / 40 for i in range(40))]
    losses = [x + e for x, e in zip([*drift, *[3.0] * points, 2.0, 2.0], noisy(62 + points, 0.005), strict=True)]
    assert any(one.values["points"] == points for one in findings(RULE, rows(losses))) is said
