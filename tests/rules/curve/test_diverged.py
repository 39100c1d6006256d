"""diverged: the loss left its level and does not come back; bumps, spikes, restarts and shifts of the level are not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from messages.shown import shown
from run.curve import cosine, falling, findings, noisy, rows

from ko_cpt_callbacks.rules.curve.diverged import Diverged, DivergedState
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.evaluations import Evaluations, Mark, Series
from ko_cpt_callbacks.signal.excursion import Low, Watch
from ko_cpt_callbacks.signal.signals import Signals
from ko_cpt_callbacks.signal.window import Recent

RULE = Diverged()
FAULTS: dict[str, Callable[[int], float]] = {
    "fast": lambda i: 6.0 * (1 - math.exp(-(i - 80) / 5)),
    "to a plateau": lambda i: 3.0 * (1 - math.exp(-(i - 80) / 2)),
    "slow": lambda i: 1.5 * min((i - 80) / 60, 1),
    "ever faster": lambda i: min(2.0, 2.0 * math.expm1(3 * (i - 80) / 14) / math.expm1(3)),
    "after a spike": lambda i: 1.0 + 3.0 * math.exp(-(i - 80) / 4),
    "swinging": lambda i: 1.5 + 1.2 * math.sin((i - 80) / 3),
}


@pytest.mark.parametrize("name", FAULTS)
def test_failures(name: str) -> None:
    """However it leaves: one error that asks to stop, after the onset and within 60 points."""
    losses = falling(200, extra=lambda i: FAULTS[name](i) if i > 80 else 0.0)
    (found,) = findings(RULE, rows(losses, rates=cosine(200)))
    assert (found.severity, found.asks_to_stop, found.split) == (Severity.ERROR, True, "train")
    assert 810 < (found.step or 0) <= 1410
    assert found.values["lowest"] == pytest.approx(2.5, abs=0.05)
    assert found.values["rise"] >= found.values["threshold"] >= 0.4  # type: ignore[operator]
    assert found.values["noise"] > 0 and found.values["points"] > 0  # type: ignore[operator]


def test_sentence() -> None:
    """The level, how far above which lowest, what was needed; what to do, from which step."""
    losses = falling(200, extra=lambda i: FAULTS["to a plateau"](i) if i > 80 else 0.0)
    (found,) = findings(RULE, rows(losses))
    assert shown(found) == (
        "staying",
        {
            "level": 5.5042, "lowest": 2.5112, "lowest_step": 750, "noise": 0.0221, "rise": 2.993, "threshold": 0.4,
        },
    )  # fmt: skip


def test_from_the_start() -> None:
    """A learning rate that is too high: 4.0, a little lower while it warms up, then 8."""
    losses = [4.0 - 0.3 * min(i / 5, 1) + 4.0 * (1 - math.exp(-max(i - 5, 0) / 10)) + e
              for i, e in enumerate(noisy(100))]  # fmt: skip
    (found,) = findings(RULE, rows(losses, rates=cosine(100)))
    assert (found.step or 0) <= 350


def test_ever_faster_is_seen_on_the_way() -> None:
    """Up by 2 nats in 14 points, ever faster: said before it is there."""
    losses = falling(96, extra=lambda i: FAULTS["ever faster"](i) if i > 80 else 0.0)
    assert [one.variant for one in findings(RULE, rows(losses))] == ["rising"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sd", [0.005, 0.03, 0.1])
def test_healthy_runs(seed: int, sd: float) -> None:
    """Noise of any size, on short and long logs, with and without learning rates."""
    for points in (12, 60, 400):
        assert findings(RULE, rows(falling(points, sd, seed=seed))) == []
        assert findings(RULE, rows(falling(points, sd, seed=seed), rates=cosine(points))) == []


@pytest.mark.parametrize("width", [1, 5, 12, 20])
@pytest.mark.parametrize("size", [0.5, 2.0, 5.0])
def test_spikes_come_back(width: int, size: float) -> None:
    """A hill or a jump that decays, of up to 20 points and 5 nats."""
    hill = falling(200, extra=lambda i: size * math.sin(math.pi * (i - 79.5) / width) * (80 <= i < 80 + width))
    decay = falling(200, extra=lambda i: size * math.exp(-3 * (i - 80) / width) * (i >= 80))
    assert findings(RULE, rows(hill)) == []
    assert findings(RULE, rows(decay)) == []


def test_the_bump_of_a_warm_up() -> None:
    """Up by 0.5 nats over a tenth of the run while the learning rate warms up, and back."""
    losses = falling(200, extra=lambda i: 0.5 * math.exp(-(((i - 16) / 8) ** 2)))
    assert findings(RULE, rows(losses, rates=cosine(200, warmup=0.1))) == []


def test_the_rise_of_a_warm_up_that_comes_back_slowly() -> None:
    """Up by 0.55 nats while the learning rate warms up, and slowly back: no divergence; 0.9 nats are."""
    for height, said in ((0.55, 0), (0.9, 1)):
        bump = [height * min(1.0, i / 20) * math.exp(-max(0, i - 20) / 60) for i in range(200)]
        losses = [loss + up for loss, up in zip(falling(200, fall=0.1), bump, strict=True)]
        assert len(findings(RULE, rows(losses, rates=cosine(200, warmup=0.1)))) == said


@pytest.mark.parametrize("slope", [0.4, 1.0])
def test_a_huge_rise_in_a_short_log(slope: float) -> None:
    """A log of 24 points that rises from its half to many times the level has diverged before it ends."""
    losses = falling(24, extra=lambda i: slope * max(0, i - 12))
    (found,) = findings(RULE, rows(losses, rates=cosine(24)))
    assert (found.variant, found.asks_to_stop) == ("rising", True)


def test_a_re_warm_after_a_known_restart() -> None:
    """The learning rate comes back from 0, as planned, and the loss rises by 0.5 nats: the window begins anew."""
    rates = cosine(100) + cosine(100)
    losses = falling(200, extra=lambda i: 0.5 * math.exp(-(i - 100) / 30) if i >= 100 else 0.0)
    assert findings(RULE, [SetupObservation(0, "plan", {"restarts": True}), *rows(losses, rates=rates)]) == []
    assert findings(RULE, rows(losses, rates=rates)) == []


def test_one_noisy_stretch() -> None:
    """Ten times the noise for 30 points, about the same level."""
    loud = noisy(200, 0.2, seed=3)
    assert findings(RULE, rows(falling(200, extra=lambda i: loud[i] if 80 <= i < 110 else 0.0))) == []


@pytest.mark.parametrize("size", [0.45, 0.7, 0.95])
def test_a_shift_of_the_level_is_no_divergence(size: float) -> None:
    """Between two points, and flat or falling on as before: `level-shift` says it, and nothing asks to stop."""
    assert findings(RULE, rows(falling(200, extra=lambda i: size if i >= 80 else 0.0))) == []
    # What rises again from the new level is one.
    again = falling(250, extra=lambda i: (size if i >= 80 else 0.0) + 3.0 * min(max(i - 150, 0) / 40, 1))
    (found,) = findings(RULE, rows(again))
    assert (found.step or 0) > 1500


def test_once_per_run_joined() -> None:
    """Said once; a second run in the same log, whose steps begin anew, may be said again."""
    losses = falling(200, extra=lambda i: FAULTS["fast"](i) if i > 80 else 0.0)
    assert len(findings(RULE, [*rows(losses), *rows(losses)])) == 2
    # The second of them starts where the first began: nothing to compare with.
    assert findings(RULE, [*rows(falling(100)), *rows(falling(100, level=4.5))]) == []


def test_numbers_that_are_none() -> None:
    """NaN and infinite losses neither rise nor count; what happens around them is seen."""
    for odd in (math.nan, math.inf, -math.inf, None):
        bad = {10, 82, 90, 120}
        losses = falling(200, extra=lambda i: FAULTS["fast"](i) if i > 80 else 0.0)
        assert len(findings(RULE, rows([odd if i in bad else loss for i, loss in enumerate(losses)]))) == 1
        healthy = falling(200)
        assert findings(RULE, rows([odd if i in bad else loss for i, loss in enumerate(healthy)])) == []


def test_repeats_count_once() -> None:
    """Every row twice says the same; one high row given many times is one point."""
    losses = falling(200, extra=lambda i: FAULTS["slow"](i) if i > 80 else 0.0)
    seen = rows(losses)
    assert findings(RULE, [one for row in seen for one in (row, row)]) == findings(RULE, seen)
    high = [TrainObservation(810, loss=9.0)] * 40
    assert findings(RULE, [*rows(falling(80)), *high, *rows(falling(80), start=810)]) == []


@pytest.mark.parametrize("points", range(8, 14))
def test_a_short_window_after_a_seam(points: int) -> None:
    """As many short medians as points: however few they are, the thirds of the way up are looked for among them."""
    losses = [7.8, 7.85, *(7.7 - 0.02 * i for i in range(points - 2))]
    assert findings(RULE, rows([*losses, 4.8, 4.75])) == []
    rise = [2.0 + 0.02 * i * i for i in range(points)]
    assert len(findings(RULE, rows(rise))) <= 1


def _with_evaluations(losses: list[float], values: dict[int, float]) -> list[Observation]:
    """The rows, with an evaluation of the same rows after some of them."""
    seen = rows(losses, rates=[1e-4] * len(losses))
    for after in sorted(values, reverse=True):
        one = EvalObservation(10 * after, exact_loss=values[after], exact_loss_se=0.03, fingerprint="utf8-01")
        seen.insert(after, one)
    return seen


# A stage that learned its rows, 3.4 to 2.0, and another one that begins with rows which are new to it.
STAGES = [2.0 + 1.4 * math.exp(-i / 12) + e for i, e in enumerate(noisy(60))]
STAGES += [3.4 - 0.004 * i + e for i, e in enumerate(noisy(60, seed=1))]


def test_a_better_evaluation_is_looked_at_first() -> None:
    """The loss is 1.4 nats above its lowest and stays there, while the evaluation beside it is better than ever:
    the model learns. With an evaluation that is worse, or none, it has diverged."""
    falling_on = {0: 3.5, 30: 3.2, 60: 3.1, 70: 3.06, 80: 3.03, 90: 3.0, 100: 2.98, 110: 2.96, 120: 2.95}
    assert findings(RULE, _with_evaluations(STAGES, falling_on)) == []
    worse = {at: value + (0.8 if at > 60 else 0.0) for at, value in falling_on.items()}
    for values in ({}, worse, {at: value for at, value in falling_on.items() if at <= 60}):
        (found,) = findings(RULE, _with_evaluations(STAGES, values))
        assert found.severity is Severity.ERROR and 600 < (found.step or 0) <= 900


def test_an_evaluation_explains_no_rise_after_it() -> None:
    """Better at a loss of 3.4, and then the loss goes on to 6: the old evaluation does not hide that."""
    losses = [loss + max(0.0, 0.1 * (i - 80)) for i, loss in enumerate(STAGES)]
    values = {0: 3.5, 30: 3.2, 60: 3.1, 70: 3.06, 80: 3.03}
    (found,) = findings(RULE, _with_evaluations(losses, values))
    assert 800 < (found.step or 0) <= 1100


# -- how much it takes: levels with exactly these numbers ----


def _variant(
    path: Sequence[float], *, flat: int = 30, losses: Sequence[float] = (), level: float = 2.0, noise: float = 0.01,
    since: int = 200, index: int | None = None, rule: Diverged = RULE, **watch: Any,
) -> str | None:  # fmt: skip
    """What is said after short medians that were flat at the lowest level and then took a path; ``losses``: the points
    since the lowest, none of which is looked at where there are none."""
    middles = (*[level] * flat, *path)[-40:]
    at = since - len(losses) + 1 if index is None else index
    low = Low(level, noise, at, 10 * at)
    signals = Signals(
        window=Recent(step=10 * since, losses=tuple(losses) or (path[-1],), grew=True, count=since),
        watch=Watch(since=since, middles=middles, low=low, **watch),
    )
    found = rule.step(rule.initial(), TrainObservation(10 * since, loss=path[-1]), signals)[1]
    return found[0].variant if found else None


def _ramp(points: int, end: float, start: float = 0.3) -> list[float]:
    return [2.0 + start + (end - start) * i / (points - 1) for i in range(points)]


@pytest.mark.parametrize(
    ("points", "end", "said"),
    [(11, 1.1, None), (12, 1.1, "rising")],
)
def test_how_long_it_rises(points: int, end: float, said: str | None) -> None:
    """Twelve points."""
    assert _variant(_ramp(points, end)) == said


def test_a_rise_that_still_goes_on() -> None:
    """Its last three points bring 0.12 of it, and the last is the highest."""
    for step, said in ((0.11, None), (0.13, "rising")):
        assert _variant([*[3.1 - step * 1.1] * 12, *[3.1 - step * 0.5] * 2, 3.1]) == said
    assert _variant([*_ramp(12, 1.1), 3.09]) is None
    assert _variant([*_ramp(12, 1.1), 3.1]) == "rising"


def test_how_high_it_is() -> None:
    """0.4 nats and 5.5 noises."""
    for told, needed in (({}, 0.4), ({"noise": 0.2}, 1.1)):
        for share, said in ((0.98, None), (1.02, "rising")):
            assert _variant(_ramp(16, share * needed, 0.25 * share * needed), **told) == said  # type: ignore[arg-type]


def test_where_a_rise_begins() -> None:
    """At a fifth of it, or at 0.6 of the height that is needed, where that is less."""
    for start, said in ((0.21, None), (0.23, "rising")):
        assert _variant(_ramp(12, 1.1, start)) == said
    for start, said in ((0.235, None), (0.245, "rising")):
        assert _variant(_ramp(12, 1.5, start)) == said


@pytest.mark.parametrize(("height", "said"), [(0.64, None), (0.66, "rising")])
def test_how_high_it_is_in_a_young_run(height: float, said: str | None) -> None:
    """0.65 nats, while a learning rate may still warm up; 0.4 later."""
    for count, expected in ((30, said), (31, "rising")):
        assert _variant(_ramp(12, height, 0.3 * height), since=count) == expected


@pytest.mark.parametrize(
    ("points", "height", "since", "said"),
    [
        (8, 1.21, 40, "rising"), (7, 1.21, 40, None), (8, 1.19, 40, None), (8, 1.21, 41, None),
        (11, 1.21, 41, None), (12, 1.0, 41, "rising"),
    ],
)  # fmt: skip
def test_how_soon_a_huge_rise_in_a_short_log_is_said(points: int, height: float, since: int, said: str | None) -> None:
    """Of three times what is needed, among the first forty points: eight are enough while it rises."""
    path = _ramp(points, height, 0.25 * height)
    assert _variant(path, since=since) == said


@pytest.mark.parametrize(("points", "since", "said"), [(11, 40, "staying"), (10, 40, None), (11, 41, None)])
def test_a_huge_rise_that_stays_in_a_short_log(points: int, since: int, said: str | None) -> None:
    """Eleven points are enough."""
    rule = replace(RULE, shift_nats=0.0)
    assert _variant([3.3] * points, losses=[2.0, *[3.3] * points], since=since, rule=rule) == said


def _staying(*last: float, points: int = 20) -> list[float]:
    return [2.0, *[3.0] * (points - len(last)), *last]


@pytest.mark.parametrize(
    ("since", "points", "said"), [(200, 15, None), (200, 16, "staying"), (2000, 15, None), (2000, 16, "staying")]
)
def test_how_long_it_stays(since: int, points: int, said: str | None) -> None:
    """Sixteen points, however long the run is."""
    rule = replace(RULE, shift_nats=0.0)
    assert _variant([3.0] * points, losses=[2.0, *[3.0] * points], since=since, rule=rule) == said


def test_what_is_no_staying() -> None:
    """Two points below the half of it; a level that has come down by more than 0.15 of it in eight points."""
    rule = replace(RULE, shift_nats=0.0)
    for low, said in ((1, "staying"), (2, None)):
        losses = [2.0, *[3.0] * 6, *[2.4] * low, *[3.0] * (14 - low)]
        assert _variant([3.0] * 20, losses=losses, rule=rule) == said
    for fall, said in ((0.14, "staying"), (0.16, None)):
        path = [*[3.0 + fall] * 12, *[3.0] * 8]
        assert _variant(path, losses=[2.0, *path], rule=rule) == said


@pytest.mark.parametrize("times", [0.5, 3.0])
def test_shares_are_of_the_rise(times: float) -> None:
    """What stays, eases, swings or goes on does so by shares of its own height, whatever that is."""
    rule = replace(RULE, shift_nats=0.0, nats=0.2 * times)

    def high(*values: float) -> list[float]:
        return [2.0 + times * (value - 2.0) for value in values]

    for low, said in ((2.49, None), (2.51, "staying")):
        after = [2.0, *high(*[3.0] * 6, low, low, *[3.0] * 12)]
        assert _variant(high(*[3.0] * 20), losses=after, rule=rule) == said
    for fall, said in ((0.14, "staying"), (0.16, None)):
        path = high(*[3.0 + fall] * 12, *[3.0] * 8)
        assert _variant(path, losses=[2.0, *path], rule=rule) == said
    for bottom, said in ((2.64, "swinging"), (2.66, None)):
        highs = high(*[3.0] * 9, *[bottom] * 8, *[3.0] * 9)
        assert _variant(high(*[2.8] * 5), losses=highs, rule=rule) == said
    for step, said in ((0.11, None), (0.13, "rising")):
        path = high(*[3.1 - step * 1.1] * 12, *[3.1 - step * 0.5] * 2, 3.1)
        assert _variant(path, rule=rule) == said


@pytest.mark.parametrize(
    ("before", "way", "after", "said"),
    [
        (6, [], [2.9] * 20, None), (5, [], [2.9] * 20, "staying"),
        (10, [2.15, 2.3, 2.45, 2.6, 2.75], [2.9] * 20, "staying"),
        (10, [2.5], [2.9] * 20, None), (10, [], [3.05] * 20, "staying"), (10, [], [2.99] * 20, None),
        (10, [], [3.0] * 20, None),
        (10, [], [*[2.72] * 15, *[2.9] * 5], "staying"), (10, [], [*[2.84] * 15, *[2.9] * 5], None),
        (10, [], [*[2.82] * 15, *[2.915] * 5], "staying"),
    ],
)  # fmt: skip
def test_what_is_a_shift(before: int, way: list[float], after: list[float], said: str | None) -> None:
    """Up to one nat between two points, most of the rise, and five points before it; what goes on rising is none."""
    losses = [*[2.0] * before, *way, *after]
    index = 200 - len(way) - len(after)
    assert _variant([after[-1]] * 20, losses=losses, index=index) == said


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ([2.25, 2.25, 2.3, 2.5, 2.6, 2.648, 2.8, 2.9, 3.052], "rising"),
        ([2.25, 2.25, 2.3, 2.5, 2.6, 2.642, 2.8, 2.9, 3.052], None),
        ([2.25, 2.25, 2.3, 2.5, 2.6, 2.648, 2.8, 2.9, 3.044], None),
        ([2.25, 2.3, 2.5, 2.65, 2.8, 3.06], "rising"),
        ([2.25, 2.28, 2.4, 2.6, 3.05], None),
        ([2.15, 2.2, 2.3, 2.45, 2.6, 2.79], None),
        ([2.25, 2.29, 2.35, 2.4, 2.48, 2.6, 2.65, 2.71, 2.8, 2.9, 3.0], "rising"),
        ([2.25, 2.31, 2.35, 2.4, 2.49, 2.6, 2.65, 2.71, 2.8, 2.9, 3.0], None),
    ],
)
def test_ever_faster(path: list[float], said: str | None) -> None:
    """Each third by 0.15 steeper than the one before, of six points that bring 0.7 of a rise twice what is needed."""
    assert _variant(path) == said


@pytest.mark.parametrize(
    ("points", "index", "level", "last", "said"),
    [
        (6, 1, 2.0, 5.1, "rising"), (5, 1, 2.0, 5.1, None), (6, 2, 2.0, 5.1, "rising"), (6, 3, 2.0, 5.1, None),
        (20, 1, 2.0, 5.1, "rising"), (21, 1, 2.0, 5.1, None), (6, 1, 2.0, 4.9, None), (6, 1, 0.5, 2.4, None),
        (6, 1, 0.5, 2.6, "rising"),
    ],
)  # fmt: skip
def test_a_run_that_only_rises(points: int, index: int, level: float, last: float, said: str | None) -> None:
    """Of six to twenty points, the lowest within the first two, to 2.5 times that and two nats above it."""
    losses = [level + (last - level) * i / (points - 1) for i in range(points)]
    assert _variant([last], losses=losses, since=points, index=index, level=level, flat=3) == said
    losses[-1], losses[-3] = losses[-3], losses[-1]
    assert _variant([last], losses=losses, since=points, index=index, level=level, flat=3) is None


def test_each_third_steeper() -> None:
    """Of six points at least; two thirds as steep are none, nor is a rise most of which was before."""
    assert _variant([2.25, 2.27, 2.3, 2.4, 2.5, 2.7, 2.95]) == "rising"
    assert _variant([2.25, 2.27, 2.3, 2.4, 2.5, 2.6, 2.75]) is None
    assert _variant([2.27, 2.3, 2.4, 2.5, 2.95]) is None


def test_evaluations_of_other_rows_explain_nothing() -> None:
    """An easier set under the same name is no improvement."""
    seen = _with_evaluations(STAGES, {0: 3.5, 30: 3.2, 60: 3.1, 70: 2.0})
    seen[-51] = replace(seen[-51], fingerprint="utf8-02")  # type: ignore[call-arg]
    assert isinstance(seen[-51], EvalObservation) and seen[-51].step == 700
    assert len(findings(RULE, seen)) == 1


@pytest.mark.parametrize("points", [8, 10, 14])
@pytest.mark.parametrize("power", [0.7, 1.4])
def test_a_log_that_only_rises(points: int, power: float) -> None:
    """From 1 to 30 in ten rows, from the second on: said by its last row, and before it in a longer one."""
    losses = [1.0 + 29.0 * (i / (points - 1)) ** power for i in range(points)]
    (found,) = findings(RULE, rows(losses))
    assert (found.variant, found.asks_to_stop) == ("rising", True)
    assert 60 <= (found.step or 0) <= 100


def test_what_rises_a_little_from_the_start() -> None:
    """By one nat, or to what is no many times: not in so few rows. Nor a spike there that is over."""
    assert findings(RULE, rows([4.0 + 0.2 * i for i in range(8)])) == []
    assert findings(RULE, rows([8.0 + 0.4 * i for i in range(8)])) == []
    hill = [2.5 + 4.0 * math.sin(math.pi * min(i, 8) / 8) for i in range(30)]
    assert findings(RULE, rows(hill)) == []


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rows_grouped_by_length(sign: float) -> None:
    """The loss drifts by 1.2 nats over 25 points and jumps back, again and again, with its counter of tokens."""
    losses = falling(300, 0.05, level=3.5, extra=lambda i: 1.2 * sign * ((i % 25) / 25 - 0.5))
    count, tokens = 0, []
    for i in range(300):
        count += int(16_000 * math.exp(-(i % 25) / 10))
        tokens.append(count)
    assert findings(RULE, rows(losses, tokens=tokens, every=1)) == []


# -- what else a rise may be: made windows ----


def _rises(
    losses: Sequence[float] = (), *, state: DivergedState | None = None, points: int = 10,
    paces: Sequence[float] = (), jitter: float | None = None, noise: float | None = 0.01, segment: int = 0,
    evaluations: Evaluations | None = None, before: Sequence[float] = (2.0,) * 12,
) -> tuple[DivergedState, tuple[Finding, ...]]:  # fmt: skip
    """The rule's step at point 200, on the way from 2.0 to 3.1; ``points``: how many since the lowest."""
    path = _ramp(12, 1.1)
    window = Recent(
        step=2000, losses=tuple(losses) or (path[-1],), paces=tuple(paces), jitter=jitter, grew=True, count=200,
        segment=segment,
    )  # fmt: skip
    low = Low(2.0, noise, 200 - points, 10 * (200 - points))
    signals = Signals(
        window=window, watch=Watch(since=200, middles=(*before, *path), low=low, first=4.0),
        evaluations=evaluations or Evaluations(),
    )  # fmt: skip
    return RULE.step(state or RULE.initial(), TrainObservation(2000, loss=path[-1]), signals)


def test_its_evidence() -> None:
    """The level, the lowest and where it was, by how much, of how much that was needed, and for how long."""
    state, (found,) = _rises()
    assert (found.severity, found.step, found.split, found.variant) == (Severity.ERROR, 2000, "train", "rising")
    assert found.values == {
        "level": pytest.approx(3.1), "lowest": 2.0, "lowest_step": 1900, "rise": pytest.approx(1.1), "noise": 0.01,
        "threshold": 0.4, "points": 10, "window": 5, "first": 4.0,
    }  # fmt: skip
    assert state.said == 0


def test_once_per_segment() -> None:
    """What was said of this one is not said again, of another it is."""
    for said, again in ((3, False), (2, True), (None, True)):
        state, found = _rises(state=DivergedState(said=said), segment=3)
        assert (bool(found), state.said) == (again, 3)


def test_the_noise_where_the_lowest_has_none() -> None:
    """That of first differences: 5.5 of them are needed."""
    for jitter, said in ((0.19, True), (0.21, False), (None, True)):
        found = _rises(noise=None, jitter=jitter)[1]
        assert bool(found) is said
        for one in found:
            assert one.values["noise"] == (jitter or 0.0)


def test_what_another_rule_said_is_not_counted() -> None:
    """A shift since the loss was lowest; that since another lowest level counts for nothing."""
    low = Low(2.0, 0.01, 190, 1900)
    for shift, said in ((0.1, True), (0.5, False), (0.8, False)):
        state, found = _rises(state=DivergedState(shifted=(low, shift)))
        assert (bool(found), state.shifted) == (said, (low, shift))
        for one in found:
            assert one.values["rise"] == pytest.approx(1.1 - shift)
    state, found = _rises(state=DivergedState(shifted=(replace(low, index=191), 0.5)))
    assert len(found) == 1


@pytest.mark.parametrize(("other", "said"), [(6, False), (3, True), (0, True)])
def test_rows_of_another_length(other: int, said: bool) -> None:
    """Explain it, where the last six have other tokens per step than those before."""
    for times in (1.4, 0.7):
        assert bool(_rises(paces=[1000.0] * (30 - other) + [1000.0 * times] * other)[1]) is said


@pytest.mark.parametrize(
    ("highs", "said"),
    [
        ([3.0] * 7 + [2.0] * 11 + [3.0] * 8, "swinging"), ([3.0] * 6 + [2.0] * 12 + [3.0] * 8, None),
        ([3.0] * 6 + [2.0] * 11 + [3.0] * 8, None), ([3.0] * 14 + [2.0] * 8 + [3.0] * 4, "swinging"),
        ([3.0] * 9 + [2.64] * 8 + [3.0] * 9, "swinging"),
        ([3.0] * 9 + [2.66] * 8 + [3.0] * 9, None), ([3.0] * 18 + [2.5] * 8, None),
        ([3.0] * 7 + [2.41] * 11 + [3.0] * 8, "swinging"), ([3.0] * 6 + [2.39] * 12 + [3.0] * 8, None),
        ([3.0] * 6 + [2.41] * 12 + [3.0] * 8, "swinging"),
        ([3.0] * 6 + [2.0] * 6 + [3.0] * 6 + [2.0] * 4 + [3.0] * 4, "swinging"),
    ],
)  # fmt: skip
def test_what_swings(highs: list[float], said: str | None) -> None:
    """Of 26 points 0.55 are up; it came down and went up by 0.35 of the way."""
    assert _variant([2.8] * 5, losses=highs) == said


def test_a_mega_batch() -> None:
    """Of rows grouped by length: to where the loss drifted from, nowhere else."""
    for top, said in ((3.1, False), (2.7, False), (2.6, True)):
        drift = [*[2.0] * 5, *(top - (top - 2.0) * i / 20 for i in range(20))]
        assert bool(_rises(before=drift)[1]) is said
    assert _rises()[1]


def test_only_the_points_since_the_lowest_count() -> None:
    """However many were high before it."""
    rule = replace(RULE, shift_nats=0.0)
    for index, said in ((186, None), (185, "staying")):
        assert _variant([3.0] * 16, losses=[3.0] * 30, index=index, rule=rule) == said


@pytest.mark.parametrize(("share", "said"), [(0.69, True), (0.71, False)])
def test_how_high_training_was_beside_a_better_evaluation(share: float, said: bool) -> None:
    """Seven tenths of the rise: one of points that had hardly risen explains nothing."""
    before, now = Mark(1000, 3.0, near=2.0), Mark(1990, 2.5, near=2.0 + share * 1.1)
    series = Series("loss", 2, before, now, (before, now))
    assert bool(_rises(evaluations=Evaluations({"eval": series}))[1]) is said


def test_exactly_as_high_as_needed() -> None:
    """Is high enough."""
    assert _variant(_ramp(16, 0.5, 0.125), rule=replace(RULE, nats=0.5)) == "rising"
