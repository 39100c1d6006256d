"""level-shift: another level from one point to the next, which stays; no bends, mega-batches, or planned changes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from messages.shown import shown
from run.curve import cosine, falling, findings, noisy, rows

from ko_cpt_callbacks.rules.curve.level_shift import LevelShift, LevelShiftState
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation

RULE = LevelShift()


def _shifted(size: float, at: int = 100, points: int = 200, sd: float = 0.02, **given: float) -> list[float]:
    return falling(points, sd, extra=lambda i: size if i >= at else 0.0, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0.14, 0.4, 1.5, 5.0, -0.14, -0.4, -1.5])
def test_shifts(size: float) -> None:
    """Up and down from seven noises on: one warning that asks for no stop, six to nine points after, with evidence."""
    (found,) = findings(RULE, rows(_shifted(size), rates=cosine(200), epochs=0.9))
    assert (found.severity, found.asks_to_stop, found.split) == (Severity.WARNING, False, "train")
    assert found.variant == ("up" if size > 0 else "down")
    assert 1050 < (found.step or 0) <= 1100
    assert found.values["shift"] == pytest.approx(size, abs=0.05)
    assert found.values["after"] - found.values["before"] == pytest.approx(found.values["shift"])  # type: ignore[operator]
    assert found.values["noise"] == pytest.approx(0.02, rel=0.6)
    shift, noise = float(str(found.values["shift"])), float(str(found.values["noise"]))
    assert found.values["share"] == pytest.approx(shift / float(str(found.values["before"])))
    assert found.values["noises"] == round(abs(shift) / noise, 1)
    assert abs(found.values["shift"]) > found.values["threshold"] > 3.4 * found.values["noise"]  # type: ignore[operator, arg-type]
    assert (found.values["points"] in (6, 9), found.values["window"]) == (True, 14)
    assert abs(found.values["first_step"] - 1010) <= 30  # type: ignore[operator]


def test_sentence() -> None:
    """From where to where, how sure, for how long; what to compare."""
    (found,) = findings(RULE, rows(_shifted(0.5)))
    assert shown(found) == (
        "up",
        {
            "after": 2.9819, "before": 2.5067, "first_step": 1010, "noise": 0.0238, "noises": 20.0, "points": 6,
        },
    )  # fmt: skip


def test_within_a_logging_window() -> None:
    """The first point holds both levels."""
    losses = _shifted(0.5)
    losses[100] -= 0.25
    assert len(findings(RULE, rows(losses))) == 1


def test_while_the_loss_falls() -> None:
    """Up by 0.3 nats on a curve that falls by 0.01 a point, and goes on falling."""
    losses = [4.0 - 0.01 * i + (0.3 if i >= 60 else 0.0) + e for i, e in enumerate(noisy(100))]
    losses = [3.0 * math.exp(-i / 10) + loss for i, loss in enumerate(losses)]
    assert [one.variant for one in findings(RULE, rows(losses))] == ["up"]


def _tailed(points: int, seed: int) -> list[float]:
    pairs = zip(noisy(points, 1, seed), noisy(points, 1, seed + 50), strict=True)
    return [max(-6.0, min(6.0, e / abs(f) ** 0.5)) for e, f in pairs]


def _wandering(points: int, seed: int, r: float) -> list[float]:
    out, last = [], 0.0
    for e in noisy(points, math.sqrt(1 - r * r), seed):
        last = r * last + e
        out.append(last)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_no_shift(seed: int) -> None:
    """Quiet, loud, heavy-tailed and auto-correlated (0.6) noise on 400 points, rounded or not."""
    assert findings(RULE, rows(falling(400, 0.005, seed=seed))) == []
    assert findings(RULE, rows(falling(400, 0.1, seed=seed))) == []
    assert findings(RULE, rows([round(loss, 2) for loss in falling(400, 0.006, seed=seed)])) == []
    assert findings(RULE, rows([2.5 + 0.01 * e for e in _tailed(400, seed)])) == []
    assert findings(RULE, rows([2.5 + 0.02 * e for e in _wandering(400, seed, 0.6)])) == []


CURVES: dict[str, Callable[[int], float]] = {
    "falls": lambda i: 2.5 + 4.0 * math.exp(-i / 20),
    "falls by a power": lambda i: 2.0 + 4.0 / (i + 2) ** 0.5,
    "stands still, then falls over ten points": lambda i: 2.5 - 1.2 / (1 + math.exp(-(i - 80) / 2.5)),
    "falls within six points": lambda i: 2.5 - 0.5 * min(max(i - 80, 0) / 6, 1),
    "rises over twenty points": lambda i: 2.5 + 0.5 * min(max(i - 80, 0) / 20, 1),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_bend_is_not_sudden(name: str) -> None:
    """Steep curves, late falls and ramps."""
    for seed in range(5):
        losses = [CURVES[name](i) + e for i, e in enumerate(noisy(200, 0.02, seed))]
        assert findings(RULE, rows(losses)) == []


def test_a_ramp_in_noise() -> None:
    """Down by twelve noises over seven points: one in ten may be taken for a step, not half of them."""
    runs = [[2.5 - 0.5 * min(max(i - 80, 0) / 7, 1) + e for i, e in enumerate(noisy(160, 0.04, s))] for s in range(20)]
    assert sum(len(findings(RULE, rows(losses))) for losses in runs) <= 2


@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_spike_is_no_shift(width: int) -> None:
    """Up for some points and back: neither the way up nor the way down."""
    assert findings(RULE, rows(falling(200, extra=lambda i: 1.5 * (100 <= i < 100 + width)))) == []


def test_the_return_of_a_shift_is_not_said_again() -> None:
    """Up for 20 points, said; back to where it was: what was said has ended. After 60 it is another shift."""
    for width, said in ((20, ["up"]), (60, ["up", "down"])):
        losses = falling(250, extra=lambda i, width=width: 0.5 if 80 <= i < 80 + width else 0.0)  # type: ignore[misc]
        assert [one.variant for one in findings(RULE, rows(losses))] == said


def test_a_learning_rate_that_drops() -> None:
    """The loss falls by 0.2 nats at once with the rate; without the drop it is a shift."""
    losses = _shifted(-0.2)
    drop = [1e-4 if i < 100 else 1e-5 for i in range(200)]
    assert findings(RULE, rows(losses, rates=drop)) == []
    assert len(findings(RULE, rows(losses, rates=[1e-4] * 200))) == 1


def test_the_decay_of_wsd() -> None:
    """The rate comes down over a tenth of the run, and the loss by 0.3 nats with it."""
    rates = [1e-4 * min(1.0, (200 - i) / 20) for i in range(200)]
    losses = falling(200, extra=lambda i: -0.3 * max(i - 180, 0) / 20)
    assert findings(RULE, rows(losses, rates=rates)) == []


@pytest.mark.parametrize(("warmup", "size", "said"), [(150, 0.1, 0), (150, 1.0, 1), (150, -1.0, 1), (60, 0.3, 1)])
def test_a_change_while_the_rate_warms_up(warmup: int, size: float, said: int) -> None:
    """A small one is the warm-up's; a nat is not, nor is one after the warm-up."""
    rates = [1e-4 * min(1.0, (i + 1) / warmup) for i in range(200)]
    assert len(findings(RULE, rows(_shifted(size), rates=rates))) == said


@pytest.mark.parametrize(("share", "said"), [(0.95, 0), (1.05, 1)])
def test_which_change_is_small(share: float, said: int) -> None:
    """One of less than 0.05 of the level, where that is more than nine noises."""
    for sign in (1, -1):
        assert len(_step(sign * share * 0.1, rates=[1e-6 * (i + 1) for i in range(90)])) == said


def test_where_an_epoch_ends() -> None:
    """A step down of 10 % at an epoch's end is `memorizing`'s business; half of the level is not, nor the middle."""
    assert findings(RULE, rows(_shifted(-0.25), epochs=2.0)) == []
    assert len(findings(RULE, rows(_shifted(-0.25), epochs=1.6))) == 1
    assert len(findings(RULE, rows(_shifted(-1.6), epochs=2.0))) == 1
    for level, size in ((2.0, 1.0), (0.8, 0.5)):
        for share, said in ((0.95, 0), (1.05, 1)):
            assert len(_step(-share * size, level=level, before=60, points=60, epochs=2.0)) == said


@pytest.mark.parametrize("argument", [{"group_by_length": True}, {"train_sampling_strategy": "group_by_length"}])
def test_rows_that_the_arguments_say_are_grouped_by_length(argument: dict[str, Any]) -> None:
    """A return to a level of the mega-batches before is no shift, of whatever sizes and lengths they are."""
    for seed in (5, 6, 7):
        rng, drift = random.Random(seed), [0.0]
        while len(drift) < 200:
            points, size = rng.randint(20, 50), rng.uniform(0.4, 1.2)
            drift += [size * (0.5 - i / points) for i in range(points)]
        seen = rows(falling(200, extra=drift[1:].__getitem__), every=1)
        grouped = SetupObservation(0, "attempt", {"arguments": argument})
        assert findings(RULE, [grouped, *seen]) == []


def test_short_epochs_explain_only_their_ends() -> None:
    """Twenty points an epoch: a shift in the middle of one is said."""
    assert len(findings(RULE, rows(_shifted(0.4, at=110), epochs=10.0))) == 1
    assert findings(RULE, rows(_shifted(0.4, at=100), epochs=10.0)) == []


@pytest.mark.parametrize("period", [5, 10, 20])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rows_grouped_by_length(period: int, sign: float) -> None:
    """The loss drifts by 0.3 nats and jumps back, again and again."""
    losses = falling(300, 0.015, fall=0.3, extra=lambda i: 0.3 * sign * ((i % period) / period - 0.5))
    assert findings(RULE, rows(losses)) == []


def test_lengths_that_jump_with_the_loss() -> None:
    """Of a mega-batch of 50 the rows get shorter and the loss lower; a counter of tokens shows it."""
    losses = falling(400, 0.005, fall=0.5, extra=lambda i: 0.08 * (0.5 - (i % 50) / 50))
    count, tokens = 0, []
    for i in range(400):
        count += 10 * int(16_000 * math.exp(-(i % 50) / 30))
        tokens.append(count)
    assert findings(RULE, rows(losses, tokens=tokens)) == []


def test_short_runs_are_silent() -> None:
    """Twelve points of a healthy run."""
    for seed in range(20):
        assert findings(RULE, rows(falling(12, 0.03, seed=seed))) == []


def test_a_re_warm_begins_anew() -> None:
    """The learning rate is back at once and the loss 0.3 nats up: the window begins anew."""
    losses, rates = _shifted(0.3), cosine(100) + cosine(100, warmup=1e-9)
    assert findings(RULE, [SetupObservation(0, "plan", {"restarts": True}), *rows(losses, rates=rates)]) == []


def test_across_a_seam_only_a_fall() -> None:
    """A second run in the log may begin anywhere above the first, but not half a nat below it."""
    first = rows(falling(100))
    for level, said in ((4.0, []), (2.3, []), (0.6, ["seam"])):
        second = rows(falling(100, level=level, fall=0.0, seed=1))
        assert [one.variant for one in findings(RULE, [*first, *second])] == said


def test_numbers_that_are_none() -> None:
    """NaN, infinite and missing losses are no level; the shift beside them is seen, and the healthy run is not said."""
    for odd in (math.nan, math.inf, -math.inf, None):
        for losses, said in ((_shifted(0.5), 1), (falling(200), 0)):
            seen = rows([odd if i in (20, 98, 103, 150) else loss for i, loss in enumerate(losses)])
            assert len(findings(RULE, seen)) == said


# -- how much it takes: losses with exactly these numbers ----


def _step(size: float, *, level: float = 2.0, zigzag: float = 0.0, after: Callable[[int], float] = lambda i: 0.0,
          before: int = 60, points: int = 30, rule: LevelShift = RULE, **given: Any) -> list[Finding]:  # fmt: skip
    """What is said of a flat loss that goes to another level between two points; ``after``: what is added there."""
    losses = [level + zigzag * (-1) ** i for i in range(before)]
    losses += [level + size + zigzag * (-1) ** i + after(i) for i in range(points)]
    return findings(rule, rows(losses, **given))


NOISE = 1.4826 * 0.2 / math.sqrt(6.0)
"""Of a loss that goes up and down by 0.05."""


@pytest.mark.parametrize(("noises", "points"), [(8.5, 9), (9.6, 6)])
def test_how_soon_a_shift_is_said(noises: float, points: int) -> None:
    """After nine points, and after six where it is nine noises large; the noise is that of the points before it."""
    (found,) = _step(noises * NOISE, zigzag=0.05, rule=LevelShift(jitters=0.0))
    assert (found.values["points"], found.values["noise"]) == (points, pytest.approx(NOISE))
    if points == 9:
        assert found.values["threshold"] == pytest.approx(4.2 * 0.88 * NOISE, rel=0.02)
        assert found.values["first_step"] == 610


def test_how_sure_a_shift_is() -> None:
    """4.2 standard errors of its size."""
    assert _step(0.9 * 4.2 * 0.88 * NOISE, zigzag=0.05) == []
    assert len(_step(1.12 * 4.2 * 0.88 * NOISE, zigzag=0.05)) == 1


@pytest.mark.parametrize(("first", "second", "said"), [(0.0, 0.6, False), (0.6, 0.7, True)])
def test_how_much_better_than_a_ramp_a_step_fits(first: float, second: float, said: bool) -> None:
    """By 1.5 squared noises, here by 1.25 and by 2.5, where the first two points are on their way."""
    after = [first, second, *[1.0] * 5]
    losses = [2.0 + (after[i - 60] if i >= 60 else 0.0) + 0.05 * (-1) ** i for i in range(67)]
    assert bool(_seen(losses, rule=LevelShift(large=6.0))[1]) is said


def test_how_many_noises_of_first_differences_a_shift_has() -> None:
    """3.6: the points before it may be quiet by chance."""
    losses = [2.0] * 60 + [2.36] * 6
    for jitter, said in ((0.098, True), (0.102, False)):
        seen = rows(losses)
        signals = Monitor([]).fold(seen)[0].signals
        signals = replace(signals, window=replace(signals.window, jitter=jitter))
        found = RULE.step(RULE.initial(), seen[-1], signals)[1]
        assert [one.values["threshold"] for one in found] == [pytest.approx(3.6 * jitter)] * said


def test_across_a_seam_by_how_much() -> None:
    """Half a nat down, and nothing up."""
    for fall, said in ((0.48, False), (0.52, True), (-3.0, False)):
        seen = [*rows([3.0] * 40), *rows([3.0 - fall] * 40)]
        found = findings(RULE, seen)
        assert [(one.variant, one.step) for one in found] == [("seam", 100)] * said
        for one in found:
            assert one.values["noises"] == round(fall / float(str(one.values["noise"])), 1)
            assert one.values["share"] == pytest.approx(-fall / 3.0)


def test_repeats_count_once() -> None:
    """Every row twice says the same once; a row given twenty times is one point."""
    seen = rows(_shifted(0.5))
    assert findings(RULE, [one for row in seen for one in (row, row)]) == findings(RULE, seen)
    assert findings(RULE, [*rows(falling(100)), *[TrainObservation(1010, loss=3.2)] * 20]) == []


# -- shifts that wait, because they may be mega-batches' ----


@pytest.mark.parametrize("sign", [1, -1])
def test_an_early_shift_waits(sign: int) -> None:
    """One within 27 points waits for as many again and three, and is said with what there was and all points since.

    A later one down waits for 24, up to the points of a mega-batch and one.
    """
    for before, step, points in ((20, 430, 23), (27, 570, 30), (28, 340, 6) if sign > 0 else (51, 750, 24)):
        (found,) = _step(sign * 0.5, before=before, points=60)
        assert (found.step, found.values["points"], found.variant) == (step, points, "up" if sign > 0 else "down")
        assert found.values["first_step"] == 10 * before + 10
        assert found.values["shift"] == pytest.approx(sign * 0.5)


@pytest.mark.parametrize(("sign", "variant"), [(1, "up"), (-1, "down")])
def test_a_log_that_ends_while_a_shift_waits(sign: int, variant: str) -> None:
    """It is said at the end, with the points up to there; not before, and not where none waits."""
    seen = rows([2.0] * 20 + [2.0 + sign * 0.5] * 22)
    assert Monitor([RULE]).fold(seen)[1] == ()
    (found,) = findings(RULE, seen)
    assert (found.severity, found.step, found.split, found.variant) == (Severity.WARNING, 420, "train", variant)
    assert (found.values["points"], found.values["first_step"]) == (22, 210)
    assert found.values["shift"] == pytest.approx(sign * 0.5)
    assert findings(RULE, rows([2.0] * 42)) == []


def test_an_early_shift_that_goes_back() -> None:
    """Half of it must be left until it is said: a mega-batch drifts back."""
    for left, said in ((0.45, []), (0.55, ["up"])):
        losses = [2.0] * 20 + [2.5] * 10 + [2.0 + 0.5 * left] * 40
        assert [one.variant for one in findings(RULE, rows(losses))] == said


def _seen(
    losses: Sequence[float], state: LevelShiftState | None = None, *, rule: LevelShift = RULE
) -> tuple[LevelShiftState, tuple[Finding, ...]]:
    """The rule's step at the last row of a log, from a made state."""
    seen = rows(losses)
    return rule.step(state or rule.initial(), seen[-1], Monitor([]).fold(seen)[0].signals)


def _flat(sign: int = 1) -> list[float]:
    return [2.0] * 60 + [2.0 + sign * 0.5] * 6


def test_a_row_without_a_level_shows_nothing() -> None:
    """Six points of a shift and a NaN: it was said at the sixth, and what waits goes on waiting."""
    waiting = LevelShiftState(doubt=({"before": 2.0, "shift": 0.5, "points": 6}, 20))
    assert _seen(_flat())[1]
    for state in (RULE.initial(), waiting):
        assert _seen([*_flat(), math.nan], state) == (state, ())


def test_a_window_that_begins_anew_forgets() -> None:
    """What was found in the one before; not the level before a seam, which is still to be judged."""
    state = LevelShiftState(66, (2.5, 0.01, 50), 0.5, ({"shift": 0.5}, 20))
    assert _seen([2.0], state) == (LevelShiftState(seam=state.seam), ())
    assert _seen([2.0, 2.0], replace(state, doubt=None))[0].quiet_until == 66


def test_a_shift_that_undoes_a_drift() -> None:
    """Is a mega-batch's, and waits for nothing; one like it, up to twice as large and the same way, is another."""
    losses = [*[2.0] * 15, *[2.5] * 5, *(2.5 - i / 60 for i in range(30)), *[2.5] * 6]
    state, found = _seen(losses, LevelShiftState(doubt=({}, 1)))
    assert (found, state.doubt, state.quiet_until) == ((), None, 56)
    assert state.mega_batch == pytest.approx(0.5, abs=0.05)
    for sign in (1, -1):
        for times, said in ((0.3, False), (1.9, False), (2.1, True), (-1.0, True)):
            before = LevelShiftState(mega_batch=sign * 0.5 / times)
            state, found = _seen(_flat(sign), before)
            assert (bool(found), state) == (said, replace(before, quiet_until=66))


def test_when_a_shift_that_waits_is_settled() -> None:
    """Said when it is due; forgotten, as a mega-batch's, as soon as less than half of it is left."""
    for level, points, waits, said in (
        (2.5, 22, True, 0), (2.5, 23, False, 1), (2.27, 23, False, 1), (2.2, 10, False, 0), (2.2, 23, False, 0)
    ):  # fmt: skip
        losses = [*[2.0] * 20, *[2.5] * (points - 5), *[level] * 5]
        waiting = LevelShiftState(30, doubt=({"before": 2.0, "shift": 0.5, "points": 6}, 20))
        state, found = _seen(losses, waiting)
        assert (state.doubt is not None, [one.values["points"] for one in found]) == (waits, [points] * said)
        assert state.mega_batch == (0.0 if waits or said else 0.5)


@pytest.mark.parametrize(
    ("start", "sign", "left", "said"),
    [(28, -1, 0.94, False), (28, -1, 0.96, True), (27, -1, 0.94, True), (28, 1, 0.94, True)],
)
def test_how_much_of_a_late_fall_is_left(start: int, sign: int, left: float, said: bool) -> None:
    """0.95 of it once it is due, half before: what drifts up by then is a mega-batch's on a curve that falls."""
    waiting = LevelShiftState(start + 6, doubt=({"before": 2.0, "shift": sign * 0.5, "points": 6}, start))
    for points, due in ((23, False), (30, True)):
        losses = [*[2.0] * start, *[2.0 + sign * 0.5] * (points - 5), *[2.0 + sign * 0.5 * left] * 5]
        state, found = _seen(losses, waiting)
        assert (bool(found), state.doubt is not None) == (said and due, not due)


@pytest.mark.parametrize(("size", "said"), [(0.24, True), (0.26, False), (-0.2, True)])
def test_the_next_mega_batch_settles_it(size: float, said: bool) -> None:
    """A jump the same way after it, of more than half of its size, makes it a mega-batch's."""
    for sign in (1, -1):
        losses = [*[2.0] * 20, *[2.0 + sign * 0.5] * 20, *[2.0 + sign * (0.5 + size)] * 3]
        state, found = _seen(losses, LevelShiftState(40, doubt=({"before": 2.0, "shift": sign * 0.5, "points": 6}, 20)))
        assert (bool(found), state.doubt) == (said, None)
        assert state.mega_batch == (0.0 if said else sign * 0.5)


def test_a_slope_that_changes() -> None:
    """By less than 0.8 of the shift over the points after it, either way; one up that leads back soon is a spike."""
    for share, said in ((0.5, True), (1.0, False), (1.4, False)):
        assert bool(_step(0.6, after=lambda i, by=share: 0.6 * by * i / 6, points=6)) is said
    for share, said in ((0.7, True), (0.9, False)):
        assert bool(_step(-0.6, after=lambda i, by=share: 0.6 * by * i / 6, points=6)) is said
    for share, said in ((0.19, True), (0.22, False)):
        assert bool(_step(0.6, after=lambda i, by=share: -0.6 * by * i / 6, points=6)) is said


# -- what begins anew ----


def test_a_second_run_has_its_own_shift() -> None:
    """What the first one had, said, waiting or taken for a mega-batch's, is forgotten."""
    one = [2.0] * 60 + [2.4] * 30
    assert [each.step for each in findings(RULE, [*rows(one), *rows(one)])] == [660, 660]
    early = [2.0] * 20 + [2.4] * 15
    assert [each.step for each in findings(RULE, [*rows(early), *rows(one)])] == [660]


def test_how_long_the_run_before_a_seam_was() -> None:
    """Ten points have a level that a second one is compared with; nine have none."""
    for points, said in ((5, []), (9, []), (10, ["seam"])):
        found = findings(RULE, [*rows([3.0] * points), *rows([2.0] * 40)])
        assert [one.variant for one in found] == said


def test_only_the_seam_just_passed_is_judged() -> None:
    """After ten points; a third run that begins before is compared with none, as the second had no level yet."""
    first, low = rows([3.0] * 40), rows([2.0] * 9)
    assert findings(RULE, [*first, *low, *rows([2.0] * 40)]) == []
    (found,) = findings(RULE, [*first, *rows([2.0] * 10)])
    assert (found.step, found.values["points"], found.values["window"], found.values["first_step"]) == (100, 10, 40, 10)


# -- what a step is not ----


def test_a_jump_that_only_makes_up_for_a_slope() -> None:
    """By seven points of it: nothing has moved."""
    for size, said in ((0.30, False), (0.34, False), (0.45, True)):
        losses = [8.0 - 0.05 * i + (size if i >= 60 else 0.0) for i in range(66)]
        state, found = _seen(losses)
        assert (bool(found) or state.doubt is not None) is said


def test_the_points_of_the_shift_just_said() -> None:
    """Are those before no other one: it is looked for in a window that begins after it."""
    for quiet, said in ((59, True), (60, False)):
        assert bool(_seen(_flat(), LevelShiftState(quiet_until=quiet))[1]) is said
    nine = [2.0 + 0.05 * (-1) ** i + 7.5 * NOISE * (i >= 60) for i in range(69)]  # small: said after nine points
    for quiet, said in ((59, True), (60, False)):
        assert bool(_seen(nine, LevelShiftState(quiet_until=quiet))[1]) is said


def test_how_many_points_there_must_be_before() -> None:
    """Nine."""
    for points, waits in ((8, False), (9, True)):
        assert (_seen([2.0] * points + [2.5] * 6)[0].doubt is not None) is waits


@pytest.mark.parametrize(
    ("first", "second", "said"), [(0.1, 1.0, False), (0.3, 1.0, True), (0.3, 0.3, False), (0.55, 0.55, True)]
)
def test_how_the_points_after_it_keep_their_side(first: float, second: float, said: bool) -> None:
    """One may be as near the level before as 0.2 of the shift, a second one as near as 0.45."""
    for sign in (1, -1):
        after = [1.0, 1.0, first, second, 1.0, 1.0]
        assert bool(_seen([2.0] * 60 + [2.0 + sign * 0.5 * one for one in after])[1]) is said


@pytest.mark.parametrize(
    ("low", "points", "said"), [(2.0, 1, True), (2.0, 2, False), (2.82, 2, True), (2.78, 2, False), (2.78, 1, True)]
)
def test_a_level_that_the_loss_had_lately(low: float, points: int, said: bool) -> None:
    """For two points: a fall to no less than 0.6 of itself below it is the return from a spike, and no mega-batch's.

    One point is noise.
    """
    losses = [3.0] * 40 + [low] * points + [3.0] * (20 - points) + [2.5] * 6
    state, found = _seen(losses)
    assert (bool(found), state.mega_batch) == (said, 0.0)


def test_the_level_before_a_seam_is_its_last() -> None:
    """That of the last five points of a run that came down from 4.0 to 3.22."""
    first = rows([4.0 - 0.02 * i for i in range(40)])
    for level, said in ((2.78, []), (2.74, [pytest.approx(3.26)])):
        found = findings(RULE, [*first, *rows([level] * 40)])
        assert [one.values["before"] for one in found if one.variant == "seam"] == said


def test_how_far_the_level_moved() -> None:
    """2.4 noises from the short median before to that of now: else a line only makes up for its slope."""
    seen = rows([2.0 + 0.05 * (-1) ** i + 1.5 * (i >= 60) for i in range(66)])
    signals = Monitor([]).fold(seen)[0].signals
    for noises, said in ((2.35, False), (2.45, True)):
        middles = (*[2.0] * 10, *[2.0 + noises * NOISE] * 7)
        shifted = replace(signals, watch=replace(signals.watch, middles=middles))
        assert bool(LevelShift(jitters=0.0).step(RULE.initial(), seen[-1], shifted)[1]) is said
