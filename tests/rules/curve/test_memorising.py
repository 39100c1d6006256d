"""memorising: steps where epochs end, or far below the first epoch after many."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import pytest

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.rules.curve.memorising import Memorising
from ko_cpt_callbacks.rules.monitor import Monitor

Curve = Callable[[float], float]


def _findings(seen: Sequence[Observation], rule: Memorising | None = None) -> list[Finding]:
    rule = rule or Memorising()
    return list(Monitor([rule]).judge(seen)[1])


def _run(
    loss: Curve, *, epochs: int = 4, each: int = 20, noise: float = 0.02, decimals: int | None = None,
    rate: Curve | None = None,
) -> list[Observation]:  # fmt: skip
    """A loss over epochs; the last row of an epoch is logged at its end."""
    rng = random.Random(1)
    seen: list[Observation] = []
    for i in range(1, epochs * each + 1):
        epoch = i / each
        logged = epoch if decimals is None else round(epoch, decimals)
        value = loss(epoch - 1e-9) + rng.gauss(0.0, noise)
        seen.append(TrainObservation(10 * i, logged, value, 1.0, None if rate is None else rate(epoch - 1e-9)))
    return seen


def _stairs(share: float) -> Curve:
    return lambda epoch: 2.5 * (1.0 - share) ** math.floor(epoch) - 0.02 * epoch


def test_steps_at_the_ends_of_epochs() -> None:
    """Said once, soon after the second."""
    (found,) = _findings(_run(_stairs(0.12)))
    assert (found.severity, found.variant, found.split, found.asks_to_stop) == (
        Severity.WARNING, "steps", "train", False,
    )  # fmt: skip
    assert 400 < (found.step or 0) <= 520
    assert found.values["epochs"] == [1, 2]
    assert found.message().startswith(
        f"Step {found.step}: the training loss steps down where epochs end, 2 times now, last by "
    )


@pytest.mark.parametrize(("each", "decimals"), [(8, 2), (12, None), (60, 2), (500, None)])
def test_epochs_of_any_length(each: int, decimals: int | None) -> None:
    """With eight points an epoch, and with five hundred; with epochs of two decimals."""
    assert len(_findings(_run(_stairs(0.15), each=each, epochs=3, decimals=decimals))) == 1


def test_a_row_that_is_a_bit_of_both_epochs() -> None:
    """Logged every 93 thousandths of an epoch, as in a public run: the row across the end does not hide the step."""
    seen = [
        TrainObservation(10 * i, 0.1075 * i, 2.15 * 0.82 ** max(0.0, math.floor(0.1075 * i)), 1.0) for i in range(1, 28)
    ]
    assert [one.variant for one in _findings(seen)] == ["steps"]


@pytest.mark.parametrize("share", [0.0, 0.008, 0.02])
def test_gentle_steps_are_what_epochs_are_for(share: float) -> None:
    """No step, and small ones."""
    assert _findings(_run(_stairs(share))) == []


def test_one_step_is_not_enough() -> None:
    """A drop at one end of an epoch, once."""
    assert _findings(_run(lambda epoch: 2.5 if epoch < 2 else 2.1)) == []


def test_a_fall_is_no_step() -> None:
    """Steep, bent, and without a break at the ends of epochs."""
    assert _findings(_run(lambda epoch: 2.0 + 2.0 * math.exp(-epoch / 0.5))) == []
    assert _findings(_run(lambda epoch: 4.0 / (1.0 + epoch), epochs=3)) == []


@pytest.mark.parametrize("period", [1.0, 0.5, 0.25])
def test_saw_teeth_are_no_steps(period: float) -> None:
    """Rows grouped by length: it falls at the end of an epoch, and rises again within."""
    assert _findings(_run(lambda epoch: 2.5 + 0.5 * (epoch % period) / period)) == []


def test_outliers_at_the_ends_are_no_steps() -> None:
    """The last point of each epoch, of a small batch, is far off."""

    def loss(epoch: float) -> float:
        return 2.5 + (0.4 if epoch % 1.0 > 0.95 else 0.0)

    assert _findings(_run(loss)) == []


def test_a_learning_rate_that_drops_there_explains_them() -> None:
    """A schedule by epochs; without it the same losses are steps."""
    assert _findings(_run(_stairs(0.12), rate=lambda epoch: 1e-4 * 0.3 ** math.floor(epoch))) == []
    assert len(_findings(_run(_stairs(0.12), rate=lambda epoch: 1e-4 * (1 - epoch / 4)))) == 1


def test_without_epochs_nothing_is_said() -> None:
    """Old headers and other writers."""
    seen = [
        TrainObservation(one.step, loss=one.loss) for one in _run(_stairs(0.2)) if isinstance(one, TrainObservation)
    ]
    assert _findings(seen) == []


def test_far_below_after_many_epochs() -> None:
    """Two points an epoch show no steps, but a small part of the first level does."""
    (found,) = _findings(_run(lambda epoch: 4.0 * math.exp(-epoch / 10), epochs=30, each=2))
    assert (found.variant, found.severity) == ("far-below", Severity.WARNING)
    assert 0.45 < float(str(found.values["share"])) < 0.5
    assert "% of the 3." in found.message()


def test_not_far_below() -> None:
    """Three epochs of anything, and many that fall by a third."""
    assert _findings(_run(lambda epoch: 4.0 * math.exp(-epoch / 2), epochs=3, each=2)) == []
    assert _findings(_run(lambda epoch: 2.0 + math.exp(-epoch / 3), epochs=30, each=2)) == []


@pytest.mark.parametrize(("split", "codes"), [("eval", []), ("eval_en", ["memorising"])])
def test_an_evaluation_that_falls_along_is_learning(split: str, codes: list[str]) -> None:
    """From scratch over many epochs, held-out text falls too; a retention set says nothing about it."""
    seen: list[Observation] = []
    for one in _run(lambda epoch: 4.0 * math.exp(-epoch / 10), epochs=30, each=2):
        assert isinstance(one, TrainObservation)
        seen += [one, EvalObservation(one.step, one.epoch, split, (one.loss or 0.0) + 0.1)]
    assert [one.code for one in _findings(seen)] == codes


def test_an_evaluation_that_stays_is_no_excuse() -> None:
    """It has not fallen along."""
    seen: list[Observation] = []
    for one in _run(lambda epoch: 4.0 * math.exp(-epoch / 10), epochs=30, each=2):
        seen += [one, EvalObservation(one.step, None, "eval", 3.5)]
    assert len(_findings(seen)) == 1


def test_what_is_learned_within_epochs_is_no_recognition() -> None:
    """A model that begins far off falls within its first two epochs, whatever it is evaluated on; what it comes to in
    the third is what the later ones are compared with."""
    assert _findings(_run(lambda epoch: 1.0 + 11.0 * math.exp(-2.0 * epoch), epochs=12, each=6)) == []
    (found,) = _findings(_run(lambda epoch: (1.0 + 11.0 * math.exp(-2.0 * epoch)) * 0.9**epoch, epochs=14, each=2))
    assert (found.variant, found.values["first_level"]) == ("far-below", pytest.approx(0.8, abs=0.15))


def test_the_last_end_is_judged_when_the_log_ends() -> None:
    """Fewer points after it than asked for are better than none."""
    assert [one.step for one in _findings(_run(_stairs(0.12))[: 2 * 20 + 7])] == [470]


def test_two_runs_joined() -> None:
    """Epochs that go back begin anew: the steps of one run are not counted with those of another."""
    one = _run(lambda epoch: 2.5 if epoch < 1 else 2.1, epochs=2)
    assert _findings([*one, *one]) == []


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("more", [0, 1, 12])
def test_a_seam_at_a_row_without_a_level(bad: float, more: int) -> None:
    """A restart whose first row is not finite brings no point: the epochs are counted from the next one that does."""
    first = [
        TrainObservation(60, 3.0, 0.9996, None, 1.9e-4, input_tokens=6006),
        TrainObservation(70, 0.1, bad, None, 1.4e-4, input_tokens=1000),
    ]
    seen = [*first, *_run(_stairs(0.12), epochs=1, each=max(more, 1))[:more]]
    monitor = Monitor([Memorising()])
    state = monitor.initial()
    for one in seen:
        state, found = monitor.step(state, one)
        assert found == ()
        # Those of the run before are gone: the points of this epoch are all there are.
        assert state.rules[0].began == 0
    assert monitor.close(state) == ()
