"""What explains that the loss left its level: an epoch's end, the learning rate, rows grouped by length."""

from __future__ import annotations

import math

import pytest
from run.curve import noisy, rows

from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.excursion import (
    epoch_ends,
    first_mega_batch,
    groups_lengths,
    mega_batch,
    paces_differ,
    rate_falls,
    rate_rises,
)
from ko_cpt_callbacks.signal.window import EMPTY, Recent


def _window(losses: list[float]) -> Recent:
    now = EMPTY
    for one in rows(losses):
        now = now.add(one)
    return now


def _epochs(*epochs: float) -> Recent:
    return Recent(losses=(*[2.5] * (len(epochs) - 6), *[2.0] * 6), epochs=epochs)


def test_where_an_epoch_ends() -> None:
    """Between two rows, also where the row at the end is the epoch's last; rounded rows that read the end itself."""
    assert epoch_ends(_epochs(0.96, 0.97, 0.98, 0.99, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06), 6)
    assert epoch_ends(_epochs(0.96, 0.97, 0.98, 1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06), 6)
    assert epoch_ends(_epochs(0.99, 0.99, 1.0, 1.0, 1.0, 1.0, 1.01, 1.01, 1.01, 1.01), 6)
    assert not epoch_ends(_epochs(0.5, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56, 0.57, 0.58, 0.59), 6)
    assert not epoch_ends(_epochs(0.96, 0.99, 1.01, 1.03, 1.05, 1.07, 1.09, 1.11, 1.13, 1.15, 1.17, 1.19), 6)


def test_the_learning_rate() -> None:
    """Rises from row to row, or falls at once; a schedule that comes down evenly is neither."""
    even = [1e-4 * (1 - i / 60) for i in range(40)]
    rising = [1e-4 * i / 40 for i in range(1, 41)]
    fallen = [1e-4 if i < 34 else 5e-5 for i in range(40)]
    for rates, rises, falls in ((even, False, False), (rising, True, False), (fallen, False, True)):
        window = Recent(rates=tuple(rates), rate_peak=max(rates))
        assert (rate_rises(window, 6), rate_falls(window, 6)) == (rises, falls)
    assert not rate_falls(Recent(rates=tuple(fallen[:-20] + fallen[-20:] + [5e-5] * 20), rate_peak=1e-4), 6)
    unknown = Recent(rates=(*rising[:-1], None), rate_peak=1e-4)
    assert not rate_rises(unknown, 6)


def test_a_jump_back_to_where_the_loss_drifted_from() -> None:
    """Where it came there from elsewhere before; not up from a flat run, nor to where a learning curve began."""
    assert mega_batch([2.8 - 0.3 * ((i + 15) % 25) / 25 for i in range(35)], 2.8, 0.3, declared=False)
    assert not mega_batch([2.5] * 40, 2.8, 0.3, declared=False)
    assert not mega_batch([2.5 + 1.0 * math.exp(-i / 10) for i in range(40)], 2.8, 0.3, declared=False)
    down = [2.8 + 0.3 * ((i + 15) % 25) / 25 for i in range(35)]
    assert mega_batch(down, 2.8, -0.3, declared=False)
    assert not mega_batch(down, 2.8, 0.3, declared=False)
    assert not mega_batch([], 2.8, 0.3, declared=False)


@pytest.mark.parametrize(("level", "told"), [(2.79, True), (2.81, False), (2.31, True), (2.29, False)])
def test_rows_that_the_arguments_say_are_grouped(level: float, told: bool) -> None:
    """Explain each level among those of the last fifty points."""
    levels = [9.0, *(2.3 + 0.5 * i / 49 for i in range(50))]
    assert mega_batch(levels, level, 5.0, declared=True) is told
    assert not mega_batch(levels, level, 5.0, declared=False)
    assert not mega_batch([], level, 5.0, declared=True)


@pytest.mark.parametrize(("away", "told"), [(0.79, True), (0.81, False)])
def test_how_far_off_it_may_have_been(away: float, told: bool) -> None:
    """By the median of the levels since then 0.8 of the jump: a spike leaves its level at once, and is at 1."""
    assert mega_batch([2.0, 2.5, *[2.5 - 0.5 * away] * 9], 2.5, 0.5, declared=False) is told


@pytest.mark.parametrize(
    ("arguments", "grouped"),
    [
        ({"group_by_length": True}, True), ({"train_sampling_strategy": "group_by_length"}, True),
        ({"group_by_length": False, "train_sampling_strategy": "random"}, False), ({"group_by_length": 1}, False),
        ({}, False), ("group_by_length", None), (None, None),
    ],
)  # fmt: skip
def test_what_the_arguments_say_of_groups(arguments: object, grouped: bool | None) -> None:
    """In the names of transformers 4 and 5; a row of another kind, or without arguments, says nothing."""
    assert groups_lengths(SetupObservation(0, "attempt", {"arguments": arguments})) is grouped
    assert groups_lengths(SetupObservation(0, "plan", {"arguments": arguments})) is None


def test_an_end_near_the_first_and_the_last_row() -> None:
    """The rows around the place are those that there are; one epoch alone tells of no end."""
    for count in (1, 2, 3):
        losses, epochs = [2.5] * (8 - count) + [2.0] * count, [0.9] * (8 - count) + [1.1] * count
        assert epoch_ends(Recent(losses=tuple(losses), epochs=tuple(epochs)), count)
        assert not epoch_ends(Recent(losses=tuple(losses), epochs=(1.1,) * 8), count)
    one = (*[None] * 6, 1.0, *[None] * 5)
    assert not epoch_ends(Recent(losses=(*[2.5] * 6, *[2.0] * 6), epochs=one), 6)


def test_how_near_the_level_was_and_how_far_before_that() -> None:
    """Within 0.4 of the jump, and away from it by 0.55 at some time before."""
    for near, far, undoes in ((0.35, 0.6, True), (0.35, 0.5, False), (0.45, 0.6, False)):
        even = [2.8 - 0.3 * (near + (1 - near) * i / 20) for i in range(1, 21)]
        losses = [*[2.8 - 0.3 * far] * 10, *[2.8 - 0.3 * near] * 3, *even]
        assert mega_batch(losses, 2.8, 0.3, declared=False) is undoes, (near, far)


def _first(levels: list[float], shift: float = 0.3, *, first: int = 76, epoch: float = 0.5, every: int = 1) -> bool:
    """Whether six points after a jump begin the second mega-batch; ``first``: step of the first of them."""
    steps = tuple(first + every * (i - len(levels)) for i in range(len(levels) + 6))
    return first_mega_batch(Recent(steps=steps, epochs=(epoch,) * len(steps)), 6, levels, shift)


def test_a_jump_where_a_mega_batch_begins() -> None:
    """After a multiple of 25 steps of the first epoch, where each step has a row: up, to where the loss began."""
    even = [2.8 - 0.3 * i / 30 for i in range(30)]
    assert [first for first in range(60, 110) if _first(even, first=first)] == [76, 77, 101, 102]
    assert not _first(even, epoch=1.01)
    assert not any(_first(even, first=first, every=2) for first in range(200, 250))
    assert not _first([2.5] * 30)
    assert not _first([2.5 + 0.3 * i / 30 for i in range(30)], -0.3)
    for began, undoes in ((0.17, False), (0.19, True)):  # six tenths of the jump above where it begins
        assert _first([2.5 + began, *[2.5] * 29]) is undoes


# -- how much it takes ----


@pytest.mark.parametrize(
    ("epochs", "ends"),
    [
        ((0.96, 0.97, 0.98, 0.99, 0.9999995, 1.01, 1.02, 1.03, 1.04, 1.05), True),
        ((0.5, 0.51, 0.52, 0.53, 0.9999985, 0.9999986, 0.9999987, 0.9999988, 0.9999989, 0.999999), False),
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), False),
    ],
)
def test_how_near_an_end_is(epochs: tuple[float, ...], ends: bool) -> None:
    """Within a millionth of an epoch; the beginning of the first is no end."""
    assert epoch_ends(_epochs(*epochs), 6) is ends


def test_the_place_is_where_the_loss_went_most() -> None:
    """Of the points around it, three before to two after; the end is from two rows before it to one after."""
    for place, at, ends in (
        (-6, -6, True), (-6, -7, True), (-6, -5, True), (-6, -8, False), (-6, -4, False),
        (-9, -9, True), (-9, -6, False), (-4, -4, True), (-4, -6, False),
    ):  # fmt: skip
        losses = (*[2.5] * (30 + place), *[2.0] * -place)
        epochs = tuple(0.9 if i < 30 + at else 1.1 for i in range(30))
        assert epoch_ends(Recent(losses=losses, epochs=epochs), 6) is ends, (place, at)
    assert not epoch_ends(Recent(losses=(2.0,) * 30, epochs=(None,) * 30), 6)


def test_how_much_the_rate_rises() -> None:
    """By 0.02 of its peak from six points before the place on."""
    for rise, rises in ((0.019, False), (0.021, True)):
        early = (*[0.5] * 18, *[0.5 + rise] * 12)
        assert rate_rises(Recent(rates=early, rate_peak=1.0), 6) is False
        late = (*[0.5] * 19, *[0.5 + rise] * 11)
        assert rate_rises(Recent(rates=late, rate_peak=1.0), 6) is rises
    assert not rate_rises(Recent(), 6)


def test_how_much_the_rate_falls() -> None:
    """By 0.08 of its peak, and by four times its usual change, from six points before the place on."""
    for fall, falls in ((0.079, False), (0.081, True)):
        assert rate_falls(Recent(rates=(*[0.5] * 19, *[0.5 - fall] * 11), rate_peak=1.0), 6) is falls
        assert rate_falls(Recent(rates=(*[0.5] * 17, *[0.5 - fall] * 13), rate_peak=1.0), 6) is False
        steady = [2.0 - 0.025 * i for i in range(19)]
        rates = (*steady, *(steady[-1] - 0.1 * fall / 0.08 - 0.025 * i for i in range(11)))
        assert rate_falls(Recent(rates=rates, rate_peak=1.0), 6) is falls
    assert not rate_falls(Recent(), 6)


@pytest.mark.parametrize(("now", "differ"), [(125.0, False), (135.0, True), (78.0, False), (76.0, True), (None, False)])
def test_other_tokens_per_step(now: float | None, differ: bool) -> None:
    """By a factor of 1.3 either way, of six points before at least, and of two now."""
    assert paces_differ((*[100.0] * 20, *[now] * 4), 4) is differ
    assert paces_differ((*[None] * 14, *[100.0] * 6, *[now] * 4), 4) is differ
    assert not paces_differ((*[None] * 15, *[100.0] * 5, *[now] * 4), 4)
    assert not paces_differ((*[100.0] * 20, None, None, None, now), 4)
    assert paces_differ((*[300.0] * 20, *[100.0] * 14, *[now] * 4), 4) is differ


def test_paces() -> None:
    """Rows of a third more tokens per step than before, or fewer, are of another length; a tenth is not."""
    usual = [2000.0 + e for e in noisy(20, 40)]
    for now, differ in ((2700.0, True), (1500.0, True), (2200.0, False), (1800.0, False)):
        assert paces_differ((*usual, *[now] * 6), 6) is differ
    assert not paces_differ((*[None] * 20, *[2700.0] * 6), 6)
    assert not paces_differ((*usual, *[None] * 6), 6)
