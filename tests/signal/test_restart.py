"""Signs that a row belongs to another run: each alone, what explains it, and what they say together."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.core.observation import SetupObservation, TrainObservation
from ko_cpt_callbacks.signal.restart import NEW, Sign, Trail, begins_anew, follow, told


def _run(points: int = 20, start: Trail = NEW) -> Trail:
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
        {"learning_rate": 8.2e-5}, {"input_tokens": 24_000},
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
    trail = told(NEW, SetupObservation(0, "plan", {"restarts": True}))
    for i in range(1, 25):
        trail, signs = follow(trail, TrainObservation(i, learning_rate=1e-4 * (1 - (i % 20) / 20)))
        assert all(sign.explained for sign in signs)


def test_an_announcement_covers_the_next_rows() -> None:
    """A plan or stage row in the middle of a log: a counter may start again in five rows. Only where other parts of the
    model move than before is it another stage."""
    trail = told(_run(), SetupObservation(200, "stage", {}))
    assert (trail.resumed, trail.handed) == (5, 0)
    after, signs = follow(trail, _next(input_tokens=1000))
    assert (signs, after.resumed) == ((), 4)
    assert told(_run(), SetupObservation(200, "audit", {})).resumed == 0
    assert told(NEW, SetupObservation(0, "plan", {})).resumed == 0

    words = {"input": "all", "output": "all", "layers": "none", "adapter": "none"}
    first = told(_run(), SetupObservation(200, "stage", words))
    assert first.handed == 0
    assert told(first, SetupObservation(200, "stage", words)).handed == 0
    assert told(first, SetupObservation(200, "stage", {**words, "layers": "odd"})).handed == 5


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
