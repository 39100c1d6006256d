"""What explains that the loss left its level: an epoch's end, the learning rate, rows grouped by length."""

from __future__ import annotations

import math

import pytest
from run.curve import noisy, rows

from ko_cpt_callbacks.signal.excursion import (
    Jump,
    another_mega_batch,
    drifted,
    epoch_ends,
    lengths_jumped,
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


def _drifted(before: list[float], shift: float = 0.3, *, first: int = 1000, epoch: float = 0.5, every: int = 1) -> bool:
    """Whether six points at 2.8 undo a drift; ``first``: step of the first of them."""
    losses = [*before, before[-1], *[2.8] * 6]
    steps = tuple(first + every * (i - len(losses) + 6) for i in range(len(losses)))
    window = Recent(losses=tuple(losses), steps=steps, epochs=(epoch,) * len(losses))
    return drifted(window, 6, 2.8, shift)


def test_a_jump_back_to_where_the_loss_drifted_from() -> None:
    """Where it came there from elsewhere before; not up from a flat run, nor to where a learning curve began."""
    saw = [2.8 - 0.3 * ((i + 15) % 25) / 25 for i in range(35)]
    assert _drifted(saw)
    assert not _drifted([2.5] * 40)
    assert not _drifted([2.5 + 1.0 * math.exp(-i / 10) for i in range(40)])
    down = [2.8 + 0.3 * ((i + 15) % 25) / 25 for i in range(35)]
    assert _drifted(down, -0.3)
    assert not _drifted(down, 0.3)


def test_how_near_the_level_was_and_how_far_before_that() -> None:
    """Within 0.4 of the jump, and away from it by 0.55 at some time before."""
    for near, far, undoes in ((0.35, 0.6, True), (0.35, 0.5, False), (0.45, 0.6, False)):
        even = [2.8 - 0.3 * (near + (1 - near) * i / 20) for i in range(1, 21)]
        losses = [*[2.8 - 0.3 * far] * 10, *[2.8 - 0.3 * near] * 3, *even]
        assert _drifted(losses) is undoes, (near, far)


def test_a_jump_where_a_mega_batch_begins() -> None:
    """After a multiple of 25 steps of the first epoch, where each step has a row: up, to where the loss began."""
    even = [2.8 - 0.3 * i / 30 for i in range(30)]
    assert [first for first in range(60, 110) if _drifted(even, first=first)] == [76, 77, 101, 102]
    assert not _drifted(even, first=76, epoch=1.01)
    assert not any(_drifted(even, first=first, every=2) for first in range(200, 250))
    assert not _drifted([2.5] * 30, first=76)
    assert not _drifted([2.5 + 0.3 * i / 30 for i in range(30)], -0.3, first=76)


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


def test_how_much_lengths_drift() -> None:
    """By a tenth from the first third to the last three, and back by half of it; with thirteen points before."""
    for drift, jumped in ((0.125, False), (0.14, True)):
        paces = [100.0 * (1 - drift * i / 24) for i in range(25)]
        assert lengths_jumped((*paces, paces[-1], *[100.0] * 6), 6) is jumped
        assert not lengths_jumped((*paces, paces[-1], *[paces[-1] + 40.0 * drift] * 6), 6)
    drifted = [100.0 * (1 - 0.3 * i / 12) for i in range(13)]
    assert lengths_jumped((*drifted, *[100.0] * 6), 6)
    assert not lengths_jumped((*drifted[1:], *[100.0] * 6), 6)
    assert lengths_jumped((None, *drifted, *[100.0] * 6), 6)
    assert lengths_jumped((*[500.0] * 40, *[100.0 * (1 - 0.3 * i / 24) for i in range(24)], *[100.0] * 6), 6)


def test_lengths() -> None:
    """Tokens per step that drifted and are back are rows of other lengths; that vary, or change for good, are not."""
    drift = [2000 * math.exp(-(i % 50) / 30) for i in range(25, 56)]
    assert lengths_jumped(tuple(drift), 6)
    assert not lengths_jumped(tuple(2000.0 + e for e in noisy(31, 40)), 6)
    assert not lengths_jumped((*[2000.0] * 25, *[4000.0] * 6), 6)
    assert not lengths_jumped((*drift[:10], None, None, *drift[12:]), 6)
    assert not lengths_jumped((None,) * 31, 6)


def test_the_next_of_its_kind() -> None:
    """After a jump like it, if the loss has drifted back since, or the distance is what it was."""
    jumps = [Jump(20, 0.3, 2.8)]
    assert another_mega_batch(jumps, 50, 0.3, 2.5)
    assert not another_mega_batch(jumps, 50, 0.3, 2.79)
    assert another_mega_batch(jumps, 40, 0.3, 2.79)  # as far from the first as that from the start
    assert another_mega_batch([Jump(20, 0.3, 2.8), Jump(45, 0.28, 2.8)], 71, 0.3, 2.79)


@pytest.mark.parametrize("jump", [Jump(20, -0.3, 2.5), Jump(20, 0.05, 2.8), Jump(20, 2.0, 2.8), Jump(49, 0.3, 2.8)])
def test_another_kind(jump: Jump) -> None:
    """The other way, of another size, or the jump itself."""
    assert not another_mega_batch([jump], 50, 0.3, 2.5)


def test_none_before() -> None:
    """The first jump is no next one."""
    assert not another_mega_batch([], 50, 0.3, 2.5)


@pytest.mark.parametrize(
    ("size", "other"), [(0.3 * 0.34, False), (0.3 * 0.36, True), (0.3 * 2.85, True), (0.3 * 2.95, False)]
)
def test_how_alike_mega_batches_are(size: float, other: bool) -> None:
    """From 0.35 to 2.9 times as large."""
    assert another_mega_batch([Jump(20, size, 2.8)], 50, 0.3, 2.5) is other


def test_how_far_back_and_how_evenly() -> None:
    """Three tenths of the mega-batch; or a distance that is the one before but for 0.12 of it, or two points."""
    for base, other in ((2.72, False), (2.70, True)):
        assert another_mega_batch([Jump(20, 0.3, 2.8)], 50, 0.3, base) is other
    for start, other in ((94, False), (95, True), (106, True), (107, False)):
        assert another_mega_batch([Jump(50, 0.3, 2.8)], start, 0.3, 2.79) is other
    for start, other in ((17, False), (18, True), (22, True), (23, False)):
        assert another_mega_batch([Jump(10, 0.3, 2.8)], start, 0.3, 2.79) is other
    assert not another_mega_batch([Jump(47, 0.3, 2.8)], 50, 0.3, 2.5)
    assert another_mega_batch([Jump(46, 0.3, 2.8)], 50, 0.3, 2.5)
