"""Signs that a row belongs to another run: each alone, what explains it, and what they say together."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.run.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.restart import NEW, Counters, Sign, announced, begins_anew, follow


def _run(points: int = 20, start: Counters = NEW) -> Counters:
    """Steps, epochs, tokens and a learning rate that go on evenly: 10, 0.01, 1,000 and -1e-6 a row."""
    trail = start
    for i in range(1, points + 1):
        trail, signs = follow(
            trail, TrainObservation(10 * i, 0.01 * i, 2.0, None, 1e-4 - 1e-6 * i, input_tokens=1000 * i)
        )
        assert signs == ()
    return trail


def _next(**changes: float | int | None) -> TrainObservation:
    """The row that goes on, with something else in it."""
    usual = {"step": 210, "epoch": 0.21, "loss": 2.0, "learning_rate": 7.9e-5, "input_tokens": 21_000}
    return TrainObservation(**{**usual, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "name", "strong", "before", "after"),
    [
        ({"step": 190}, "step-back", True, 200, 190),
        ({"epoch": 0.1}, "epoch-back", True, 0.2, 0.1),
        ({"epoch": 3.2}, "epoch-jump", False, 0.2, 3.2),
        ({"input_tokens": 1000}, "tokens-back", False, 20_000, 1000),
        ({"input_tokens": 90_000}, "tokens-jump", False, 20_000, 90_000),
        ({"learning_rate": 1.6e-4}, "rate-break", False, 8e-5, 1.6e-4),
    ],
)
def test_each_sign(changes: dict[str, float], name: str, strong: bool, before: float, after: float) -> None:
    """One number that does not go on, and what it was and is."""
    _, (sign,) = follow(_run(), _next(**changes))
    assert (sign.name, sign.strong, sign.explained) == (name, strong, False)
    assert (sign.before, sign.after) == (pytest.approx(before), pytest.approx(after))


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"epoch": 0.18}, {"epoch": None, "input_tokens": None, "learning_rate": None}, {"learning_rate": 2e-5},
        {"step": 260, "epoch": 0.26, "input_tokens": 26_000}, {"epoch": math.nan, "learning_rate": math.inf},
        {"learning_rate": 8.2e-5}, {"input_tokens": 24_000}, {"input_tokens": 25_000},
        {"step": 200, "epoch": 0.2, "input_tokens": 20_000},
    ],
)  # fmt: skip
def test_what_is_no_sign(changes: dict[str, float | None]) -> None:
    """Rounded epochs, missing numbers, a drop of the rate alone, rows farther apart, a rate that rises a little."""
    assert follow(_run(), _next(**changes))[1] == ()


def test_a_drop_is_a_sign_beside_another() -> None:
    """With a counter that starts again."""
    _, signs = follow(_run(), _next(input_tokens=1000, learning_rate=4e-5))
    assert [sign.name for sign in signs] == ["tokens-back", "rate-drop"]


def test_a_second_warm_up() -> None:
    """Two rises that are large, or three that are not."""
    for size, needed in ((6e-6, 2), (1e-6, 3)):
        trail, rises = _run(), 0
        names: list[str] = []
        while not names:
            rises += 1
            row = _next(step=200 + 10 * rises, epoch=0.2 + 0.01 * rises, input_tokens=20_000 + 1000 * rises)
            trail, signs = follow(
                trail,
                TrainObservation(row.step, row.epoch, 2.0, None, 8e-5 + size * rises, input_tokens=row.input_tokens),
            )
            names = [sign.name for sign in signs]
        assert (names, rises) == (["rewarm"], needed)


def test_restarts_at_even_distances_are_explained() -> None:
    """The first is not, the second is; so is the first where the run was told so."""
    explained: list[bool] = []
    trail = NEW
    for i in range(1, 61):
        trail, signs = follow(trail, TrainObservation(i, learning_rate=1e-4 * (1 - (i % 20) / 20)))
        explained += [sign.explained for sign in signs]
    assert explained == [False, True, True]
    trail = announced(NEW, SetupObservation(0, "plan", {"restarts": True}))
    for i in range(1, 25):
        trail, signs = follow(trail, TrainObservation(i, learning_rate=1e-4 * (1 - (i % 20) / 20)))
        assert all(sign.explained for sign in signs)


def test_an_announcement_covers_the_next_rows() -> None:
    """A plan or stage row in the middle of a log: a counter may start again in five rows. Only where other parts of the
    model move than before is it another stage."""
    trail = announced(_run(), SetupObservation(200, "stage", {}))
    assert (trail.resumed, trail.handed) == (5, 0)
    after, signs = follow(trail, _next(input_tokens=1000))
    assert (signs, after.resumed) == ((), 4)
    assert announced(_run(), SetupObservation(200, "audit", {})).resumed == 0
    assert announced(NEW, SetupObservation(0, "plan", {})).resumed == 0

    words = {"input": "all", "output": "all", "layers": "none", "adapter": "none"}
    first = announced(_run(), SetupObservation(200, "stage", words))
    assert first.handed == 0
    assert announced(first, SetupObservation(200, "stage", words)).handed == 0
    assert announced(first, SetupObservation(200, "stage", {**words, "layers": "odd"})).handed == 5


def test_tokens_per_step() -> None:
    """Of the last row, where it can be told."""
    trail = _run()
    assert trail.pace == 100.0
    assert follow(trail, _next(input_tokens=None))[0].pace is None
    assert follow(trail, _next(input_tokens=500))[0].pace is None


def test_together() -> None:
    """One strong sign or two weak ones; what is explained does not count."""
    weak, strong, known = Sign("a", False, 0, 1), Sign("b", True, 0, 1), Sign("c", True, 0, 1, explained=True)
    assert not begins_anew([])
    assert not begins_anew([weak])
    assert not begins_anew([weak, known])
    assert begins_anew([weak, weak])
    assert begins_anew([strong])


def test_another_run_is_judged_by_itself() -> None:
    """After a seam neither its pace nor its schedule is compared with the first one's."""
    trail, signs = follow(_run(), TrainObservation(1, 0.0, 3.0, None, 1e-6, input_tokens=50_000))
    assert begins_anew(signs)
    for i in range(2, 30):
        trail, signs = follow(trail, TrainObservation(i, 0.5 * i, 3.0, None, 1e-6 * i, input_tokens=50_000 * i))
        assert signs == ()


def _names(*rates: float | None) -> list[tuple[str, bool]]:
    """The signs of learning rates, one a row, and whether each is explained."""
    trail, found = NEW, []
    for i, rate in enumerate(rates):
        trail, signs = follow(trail, TrainObservation(10 * i, learning_rate=rate))
        found += [(sign.name, sign.explained) for sign in signs]
    return found


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"epoch": 0.171}, ""), ({"epoch": 0.169}, "epoch-back"),
        ({"epoch": 0.279}, ""), ({"epoch": 0.281}, "epoch-jump"),
        ({"input_tokens": 20_000}, ""), ({"input_tokens": 19_999}, "tokens-back"),
        ({"input_tokens": 24_990}, ""), ({"input_tokens": 25_010}, "tokens-jump"),
        ({"learning_rate": 1.09e-4}, ""), ({"learning_rate": 1.1e-4}, "rate-break"),
    ],
)  # fmt: skip
def test_how_much_is_a_sign(changes: dict[str, float], name: str) -> None:
    """Back: 0.03 epochs or one token. On: five times the fastest pace. A rate: 0.3 of its peak at once."""
    assert [sign.name for sign in follow(_run(), _next(**changes))[1]] == [name] * bool(name)


@pytest.mark.parametrize("since", [0, 5, 20])
@pytest.mark.parametrize(("tokens", "name"), [(14_990, ""), (15_010, "tokens-jump")])
def test_the_fastest_row_is_remembered(since: int, tokens: int, name: str) -> None:
    """A row of three times the pace makes room for fifteen times it, however long ago: so do rows grouped by length."""
    trail, _ = follow(_run(), _next(step=210, input_tokens=23_000))
    for i in range(1, since + 1):
        trail, signs = follow(trail, _next(step=210 + 10 * i, epoch=0.21 + 0.01 * i, input_tokens=23_000 + 1000 * i))
        assert signs == ()
    step = 220 + 10 * since
    _, signs = follow(trail, _next(step=step, epoch=step / 1000, input_tokens=23_000 + 1000 * since + tokens))
    assert [sign.name for sign in signs] == [name] * bool(name)


def test_no_jump_before_six_rows() -> None:
    """A pace that is not known yet explains everything."""
    for rows, name in ((6, ""), (7, "tokens-jump")):
        _, signs = follow(_run(rows), _next(step=10 * rows + 10, epoch=0.01 * rows, input_tokens=90_000))
        assert [sign.name for sign in signs] == [name] * bool(name)


def test_back_from_nothing_or_in_the_middle() -> None:
    """A rate below a tenth of its peak has come to nothing; a rise at once from above it breaks the schedule."""
    assert _names(1e-4, 0.9e-5, 5e-5) == [("rate-back", False)]
    assert _names(1e-4, 1.1e-5, 5e-5) == [("rate-break", False)]
    assert _names(1.0, 0.0, 0.3) == [("rate-back", False)]
    assert _names(1e-6, 1e-4, 9e-5, 9.2e-5) == []


def test_a_warm_up_is_no_second_one() -> None:
    """Rates that have not fallen may rise as they like; a fall of less than a billionth is none."""
    assert _names(1e-6, 5e-5, 1e-4, 1e-4, 3e-4) == []
    assert _names(1e-4, 1e-4 * (1 - 7e-10), 3e-4) == []
    assert _names(1e-4, 1e-4 * (1 - 15e-10), 3e-4) == [("rate-break", False)]


def test_how_much_is_a_second_warm_up() -> None:
    """Three rises by more than 0.005 of the peak in all, two by more than a tenth; a fall begins them anew."""
    assert _names(1e-4, 5e-5, 5.02e-5, 5.03e-5, 5.04e-5) == []
    assert _names(1e-4, 5e-5, 5.02e-5, 5.03e-5, 5.06e-5) == [("rewarm", False)]
    assert _names(1e-4, 5e-5, 5.5e-5, 5.9e-5) == []
    assert _names(1e-4, 5e-5, 5.5e-5, 6.1e-5) == [("rewarm", False)]
    assert _names(1e-4, 5e-5, 6.5e-5) == []
    assert _names(1e-4, 5e-5, 5.3e-5, 5.3e-5, 5.3e-5) == []
    assert _names(1.0, 0.0, 0.001, 0.002, 0.005) == []
    assert _names(1e-4, 5e-5, 5.2e-5, 5.4e-5, 5.3e-5, 5.4e-5, 5.5e-5) == []
    assert _names(1e-4, 5e-5, 5.2e-5, 5.2e-5, None, 5.4e-5, 5.5e-5) == [("rewarm", False)]


def test_back_at_once_and_higher_still() -> None:
    """By more than a tenth in the next row: a second warm-up of two rows. Later, or from the middle, it is none."""
    back = (1e-4, 5e-6, 5e-5)
    assert _names(*back, 5.4e-5) == [("rate-back", False)]
    assert _names(*back, 5.6e-5) == [("rate-back", False), ("rewarm", False)]
    assert _names(*back, 5.4e-5, 9e-5) == [("rate-back", False)]
    assert _names(1e-4, 5e-5, 9e-5, 1.2e-4) == [("rate-break", False)]


def test_a_drop_beside_another_sign() -> None:
    """A fifth of the rate at once."""
    for rate, names in ((6.5e-5, ["tokens-back"]), (6.3e-5, ["tokens-back", "rate-drop"])):
        assert [sign.name for sign in follow(_run(), _next(input_tokens=1000, learning_rate=rate))[1]] == names


@pytest.mark.parametrize(
    ("second", "explained"), [(17, False), (18, True), (22, True), (23, False), (35, False), (37, True), (43, True)]
)
def test_which_distances_are_even(second: int, explained: bool) -> None:
    """A schedule as long as the one before, or twice as long, within a tenth."""
    rates = [1e-4, *([1e-5] * 19), 1e-4, *([1e-5] * (second - 1)), 1e-4]
    assert _names(*rates) == [("rate-back", False), ("rate-back", explained)]


def test_an_announcement_covers_five_rows() -> None:
    """A token counter that starts again in the fifth row after it is no sign, in the sixth it is."""
    for rows, names in ((4, []), (5, ["tokens-back"])):
        trail = announced(_run(), SetupObservation(200, "plan", {}))
        for i in range(1, rows + 1):
            trail, signs = follow(trail, _next(step=200 + 10 * i, epoch=0.2 + 0.01 * i, input_tokens=20_000 + 1000 * i))
            assert signs == ()
        _, signs = follow(trail, _next(step=210 + 10 * rows, epoch=0.21 + 0.01 * rows, input_tokens=10))
        assert [sign.name for sign in signs] == names


def test_the_pace_of_target_tokens_comes_first() -> None:
    """Where both counters go on, and where only one does."""
    trail = NEW
    for i in range(3):
        trail, _ = follow(trail, TrainObservation(10 * i, tokens_seen=300 * i, input_tokens=1000 * i))
    assert trail.pace == 30.0
    assert follow(trail, TrainObservation(30, tokens_seen=600, input_tokens=3000))[0].pace == 100.0
    assert follow(trail, TrainObservation(30, tokens_seen=600, input_tokens=2000))[0].pace is None


def test_a_stage_row_needs_its_four_words() -> None:
    """One that lacks a word, or has something else for it, says nothing of what moves."""
    words = {"input": "all", "output": "all", "layers": "none", "adapter": "none"}
    known = announced(_run(), SetupObservation(200, "stage", words))
    for values in ({**words, "layers": None}, {**words, "layers": 3}, {"input": "all"}):
        assert announced(known, SetupObservation(200, "stage", values)).stage == tuple(words.values())
        assert announced(known, SetupObservation(200, "stage", values)).handed == 0


def _after(trail: Counters, *rows: TrainObservation) -> list[list[str]]:
    """The names of each row's signs."""
    found = []
    for row in rows:
        trail, signs = follow(trail, row)
        found.append([sign.name for sign in signs])
    return found


def test_a_schedule_begins_anew_with_another_run() -> None:
    """Steps that went back, or two weak signs: a learning rate that rises then warms up, and does so once."""
    rising = [TrainObservation(step, learning_rate=rate) for step, rate in ((2, 9e-5), (3, 1e-4), (4, 1.1e-4))]
    assert _after(_run(), TrainObservation(1, learning_rate=7.5e-5), *rising) == [["step-back"], [], [], []]
    trail, signs = follow(_run(), _next(input_tokens=1000, learning_rate=4e-5))
    assert [(sign.name, sign.strong) for sign in signs] == [("tokens-back", False), ("rate-drop", False)]
    for rates in ((5e-5, 6e-5, 7e-5), (3.9e-5, 3.95e-5, 3.96e-5)):
        later = [TrainObservation(220 + 10 * i, learning_rate=rate) for i, rate in enumerate(rates)]
        assert _after(trail, *later) == [[], [], []]
    faster = TrainObservation(220, epoch=5.0, learning_rate=4e-5)
    assert _after(trail, faster) == [[]]
    assert _after(_run(), TrainObservation(220, epoch=5.0)) == [["epoch-jump"]]


def test_a_fifth_is_a_drop() -> None:
    """Exactly, beside another sign."""
    for rate, names in ((4.0, ["tokens-back", "rate-drop"]), (4.01, ["tokens-back"])):
        trail, _ = follow(NEW, TrainObservation(10, learning_rate=5.0, input_tokens=1000))
        assert _after(trail, TrainObservation(20, learning_rate=rate, input_tokens=10)) == [names]


def test_a_second_warm_up_is_a_strong_sign() -> None:
    """By itself it says that this is another run, also after a learning rate that was back at once."""
    for rates in ((1e-4, 5e-5, 5.5e-5, 6.1e-5), (1e-4, 5e-6, 5e-5, 5.6e-5)):
        trail = NEW
        for i, rate in enumerate(rates):
            trail, signs = follow(trail, TrainObservation(10 * i, learning_rate=rate))
        assert [(sign.name, sign.strong) for sign in signs] == [("rewarm", True)]


def test_a_jump_is_told_once() -> None:
    """The rows after it have its pace."""
    rows = [_next(step=200 + 10 * i, epoch=0.2 + 0.01 * i, input_tokens=20_000 + 70_000 * i) for i in (1, 2, 3)]
    assert _after(_run(), *rows) == [["tokens-jump"], [], []]


def test_a_jump_within_one_step() -> None:
    """Of a log of every step, after any number of rows from the seventh on."""
    for points in range(7, 20):
        rows = [TrainObservation(i, input_tokens=100 * i) for i in range(points)]
        assert _after(NEW, *rows, TrainObservation(points, input_tokens=100 * points + 900))[-1] == ["tokens-jump"]


def test_the_pace_is_that_of_the_last_row() -> None:
    """Not of the first that is remembered; and the fastest is remembered longest."""
    trail = NEW
    for i, count in enumerate((0, 9000, *range(10_000, 20_000, 1000))):
        trail, _ = follow(trail, TrainObservation(10 * i, input_tokens=count))
    assert trail.pace == 100.0
    assert _after(trail, TrainObservation(120, input_tokens=27_000)) == [[]]


def test_which_pace_is_remembered() -> None:
    """The fastest of all since the counter began or jumped, and that of the last row."""
    trail, count = NEW, 0
    for step, pace in enumerate((5, 10, 20, 60, 40, 50, 30, 15)):
        count += pace
        trail, _ = follow(trail, TrainObservation(step, loss=2.0, input_tokens=count))
    assert trail.paces["input"] == (count, 7, 60, 15)
