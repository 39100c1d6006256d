"""non-finite: NaN and infinite losses, also where the Trainer hides them; the fp16 scaler is no error."""

from __future__ import annotations

import math
from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.curve.non_finite import NonFinite
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation

NAN, INF = math.nan, math.inf



def _findings(*seen: Observation) -> list[Finding]:
    rule = NonFinite()
    return list(Monitor([rule]).judge(seen)[1])


def _healthy(steps: range, grad_norm: float | None = 1.0, level: float = 3.65) -> list[TrainObservation]:
    """Rows around ``level`` with a little deterministic noise."""
    noise = [0.01, -0.012, 0.004, -0.006, 0.009, -0.003]
    return [
        TrainObservation(step, loss=level + noise[i % len(noise)], grad_norm=grad_norm) for i, step in enumerate(steps)
    ]


def test_healthy_rows_are_silent() -> None:
    """Falling and noisy losses, with and without a gradient norm, and healthy evaluations say nothing."""
    assert _findings(*_healthy(range(10, 300, 10)), EvalObservation(290, loss=3.6, nonfinite_batches=0)) == []
    assert _findings(*_healthy(range(10, 300, 10), grad_norm=None)) == []


@pytest.mark.parametrize(("loss", "kept"), [(NAN, "NaN"), (INF, "Infinity"), (-INF, "-Infinity")])
def test_non_finite_loss(loss: float, kept: str) -> None:
    """A NaN or infinite training loss is an error that asks to stop."""
    (found,) = _findings(*_healthy(range(10, 50, 10)), TrainObservation(50, loss=loss, grad_norm=1.0))
    assert (found.severity, found.step, found.split, found.asks_to_stop) == (
        Severity.ERROR,
        50,
        "train",
        True,
    )
    assert shown(found) == ("loss", {"loss": kept})


def test_counted_steps_name_the_first() -> None:
    """What the hook counted decides alone, with a healthy-looking loss, and the first step is named."""
    row = TrainObservation(1250, loss=2.75, grad_norm=1.0, nonfinite_steps=3, nonfinite_first_step=1248)
    (found,) = _findings(row)
    assert found.asks_to_stop
    assert shown(found) == ("steps-first", {"loss": 2.75, "nonfinite_first_step": 1248, "nonfinite_steps": 3})


def test_counted_steps_without_the_first() -> None:
    """One step, first unknown: singular, and no step invented."""
    (found,) = _findings(TrainObservation(20, loss=0.0, nonfinite_steps=1))
    assert shown(found) == ("steps", {"loss": 0.0, "nonfinite_steps": 1})


@pytest.mark.parametrize("norm", [NAN, INF])
def test_zero_loss_with_nan_grad_norm_is_non_finite(norm: float) -> None:
    """0.0 with a NaN or infinite gradient norm is how the Trainer logs NaN, also in the first row."""
    (found,) = _findings(TrainObservation(10, loss=0.0, grad_norm=norm))
    assert found.asks_to_stop
    assert shown(found) == ("zero", {"grad_norm": "NaN" if math.isnan(norm) else "Infinity"})


def test_zero_loss_without_grad_norm() -> None:
    """Before transformers 4.38 there is no gradient norm: 0.0 after a loss clearly above zero is an error."""
    (found,) = _findings(*_healthy(range(10, 50, 10), grad_norm=None), TrainObservation(50, loss=0.0))
    assert shown(found) == ("zero-after", {"previous_loss": 3.644})


def test_zero_loss_without_grad_norm_after_a_partly_filled_row() -> None:
    """0.69, then 0.46 as the Trainer fills the row in which the NaN begins, then 0: the last three tell."""
    rows = [*_healthy(range(10, 130, 10), grad_norm=None, level=0.69), TrainObservation(130, loss=0.46)]
    assert [one.variant for one in _findings(*rows, TrainObservation(140, loss=0.0))] == ["zero-after"]


@pytest.mark.parametrize(
    "rows",
    [
        [TrainObservation(10, loss=0.0)],
        [*[TrainObservation(10 * i, loss=0.05) for i in range(1, 9)], TrainObservation(90, loss=0.0)],
        [TrainObservation(10, loss=0.02), TrainObservation(20, loss=0.0)],
        [TrainObservation(10, loss=3.0), TrainObservation(20, loss=0.0, grad_norm=0.001)],
        [TrainObservation(10, loss=3.0), TrainObservation(20, loss=0.0, nonfinite_steps=0)],
        [TrainObservation(10, loss=0.0, grad_norm=1.0, nonfinite_steps=0)],
    ],
)
def test_zero_loss_that_is_no_disguise(rows: list[TrainObservation]) -> None:
    """Nothing before it, a memorizing run, a finite gradient norm, or a count of 0: no finding."""
    assert _findings(*rows) == []


def _filled(mean: float, finite: int, steps: int) -> float:
    """What the Trainer logs for a row of ``steps`` steps of which only the first ``finite`` were not NaN."""
    total = 0.0
    for step in range(steps):
        total += mean if step < finite else total / (1 + step)
    return total / steps


def test_how_the_trainer_fills() -> None:
    """The closed form in the rule's docstring is what the Trainer's loop gives."""
    for finite in (1, 3, 9):
        assert _filled(2.0, finite, 10) == pytest.approx(2.0 * finite * 11 / (10 * (finite + 1)))


def test_nan_late_in_a_window_shows_one_row_later() -> None:
    """9 of 10 steps finite: the row looks like the loss scaler (info); the next is 0.0, and the error."""
    rows = [
        *_healthy(range(10, 130, 10)),
        TrainObservation(130, loss=_filled(3.65, 9, 10), grad_norm=NAN),
        TrainObservation(140, loss=0.0, grad_norm=NAN),
        TrainObservation(150, loss=0.0, grad_norm=NAN),
    ]
    assert [(f.variant, f.step) for f in _findings(*rows)] == [("scaler", 130), ("zero", 140)]


def test_drop_that_is_no_fault() -> None:
    """A drop with a finite gradient norm, with a count of 0, or after too few rows to tell is no error."""
    earlier = _healthy(range(10, 130, 10))
    assert _findings(*earlier, TrainObservation(130, loss=2.7, grad_norm=1.0)) == []
    counted = _findings(*earlier, TrainObservation(130, loss=2.7, grad_norm=NAN, nonfinite_steps=0))
    assert [f.variant for f in counted] == ["scaler"]
    early = _findings(*earlier[:3], TrainObservation(40, loss=2.7, grad_norm=NAN))
    assert [f.variant for f in early] == ["scaler"]


def test_a_steep_healthy_fall_is_expected() -> None:
    """A run that falls by 6 % a row along a line goes on falling: the scaler's NaN there is an info."""
    rows = [TrainObservation(10 * i, loss=4.0 - 0.24 * i, grad_norm=1.0) for i in range(1, 9)]
    found = _findings(*rows, TrainObservation(90, loss=4.0 - 0.24 * 9, grad_norm=NAN))
    assert [f.severity for f in found] == [Severity.INFO]


@pytest.mark.parametrize(("size", "least"), [(0.01, 0.15), (0.05, None)])
def test_how_far_a_loss_must_have_fallen(size: float, least: float | None) -> None:
    """By 6 deviations of a point, and by 0.05 of what was expected."""
    rows = [TrainObservation(10 * i, loss=3.0 + (-1.0) ** i * size, grad_norm=1.0) for i in range(1, 31)]
    window = Monitor([]).fold(rows)[0].signals.window
    assert window.line is not None and window.noise is not None
    least = 6.0 * window.noise if least is None else least
    for share, variant in ((0.98, "scaler"), (1.02, "drop")):
        last = TrainObservation(310, loss=sum(window.line) - share * least, grad_norm=NAN)
        assert [found.variant for found in _findings(*rows, last)] == [variant]


@pytest.mark.parametrize("counted", [None, 0])
def test_loss_scaler_one_and_two_are_info_the_third_a_warning(counted: int | None) -> None:
    """A NaN gradient norm with a healthy loss: info once, silence, warning once, and never an error."""
    rows = []
    for i, row in enumerate(_healthy(range(10, 200, 10))):
        norm = (NAN, INF)[i % 2] if i % 3 == 0 else 1.0
        rows.append(TrainObservation(row.step, loss=row.loss, grad_norm=norm, nonfinite_steps=counted))
    info, warning = _findings(*rows)
    assert (info.severity, info.step, info.asks_to_stop) == (Severity.INFO, 10, False)
    assert shown(info) == ("scaler", {"grad_norm": "NaN", "loss": 3.66})
    assert (warning.severity, warning.step, warning.asks_to_stop) == (Severity.WARNING, 70, False)
    assert shown(warning) == ("scaler-repeated", {"grad_norm": "NaN", "loss": 3.66, "scaler_rows": 3})


def test_one_finding_per_episode() -> None:
    """A run whose every later row is NaN says so once, however it is disguised."""
    lost = [TrainObservation(100, loss=NAN), TrainObservation(110, loss=0.0, grad_norm=NAN)]
    more = [TrainObservation(step, loss=0.0, grad_norm=NAN, nonfinite_steps=10) for step in range(120, 400, 10)]
    assert [f.step for f in _findings(*_healthy(range(10, 100, 10)), *lost, *more)] == [100]


def test_a_new_episode_after_three_healthy_rows() -> None:
    """Two healthy rows between NaNs are the same episode, three begin a new one."""
    one = [TrainObservation(100, loss=NAN), *_healthy(range(110, 130, 10)), TrainObservation(130, loss=NAN)]
    assert [f.step for f in _findings(*one)] == [100]
    two = [TrainObservation(100, loss=NAN), *_healthy(range(110, 140, 10)), TrainObservation(140, loss=NAN)]
    assert [f.step for f in _findings(*two)] == [100, 140]


def test_a_repeated_row_is_not_reported_twice() -> None:
    """The same step again, NaN again: one finding. The episode is the same afterwards."""
    nan = TrainObservation(20, loss=NAN)
    assert [f.step for f in _findings(nan, nan, TrainObservation(30, loss=NAN))] == [20]


def test_a_repeat_replaces_for_later_decisions() -> None:
    """A healthy repeat takes the NaN back: the next begins an episode. And the other way round."""
    taken_back = [
        TrainObservation(20, loss=NAN),
        TrainObservation(20, loss=3.0),
        TrainObservation(30, loss=NAN),
    ]
    assert [f.step for f in _findings(*taken_back)] == [20, 30]
    assert [f.step for f in _findings(TrainObservation(20, loss=3.0), TrainObservation(20, loss=NAN))] == [20]


def test_repeats_count_once_for_the_scaler() -> None:
    """Three rows of one step with a NaN gradient norm are one such row."""
    rows = [TrainObservation(20, loss=3.0, grad_norm=NAN)] * 3
    assert [f.severity for f in _findings(*rows)] == [Severity.INFO]


def test_eval_batches() -> None:
    """Counted NaN batches of a set decide, though the Trainer's loss of the set looks healthy."""
    (found,) = _findings(EvalObservation(200, split="eval", loss=3.771, exact_loss=NAN, nonfinite_batches=4))
    assert (found.severity, found.split, found.asks_to_stop) == (Severity.ERROR, "eval", True)
    assert shown(found) == ("eval-batches", {"loss": 3.771, "nonfinite_batches": 4})


def test_eval_losses() -> None:
    """The exact loss, else the Trainer's, being NaN or infinite is an error."""
    (exact,) = _findings(EvalObservation(200, loss=3.771, exact_loss=INF))
    assert shown(exact) == ("eval-exact", {"exact_loss": "Infinity", "loss": 3.771})
    (plain,) = _findings(EvalObservation(200, loss=NAN))
    assert shown(plain) == ("eval", {"loss": "NaN"})


@pytest.mark.parametrize("known", [{"tokens": 0}, {"tokens": 90, "exact_loss": 3.771, "targetless_batches": 1}])
def test_an_evaluation_batch_without_a_target_is_no_fault(known: dict[str, Any]) -> None:
    """Every batch with a target was counted as finite, and one has none: the Trainer's NaN is the mean over no target.
    Where none was counted, or each has a target, the NaN is a loss of the model's or of a function beside it.
    """
    assert _findings(EvalObservation(200, loss=NAN, nonfinite_batches=0, **known)) == []
    for unknown in ({**known, "nonfinite_batches": None}, {"tokens": 90, "exact_loss": 3.771, "nonfinite_batches": 0}):
        assert [found.variant for found in _findings(EvalObservation(200, loss=NAN, **unknown))] == ["eval"]


def test_eval_sets_are_apart() -> None:
    """Each set has its own episode, and training its own."""
    rows: list[Observation] = []
    for step in (10, 20):
        rows += [TrainObservation(step, loss=NAN), EvalObservation(step, split="eval_ko", loss=NAN)]
        rows += [EvalObservation(step, split="eval_en", loss=2.0)]
    rows += [EvalObservation(20, split="eval_en", loss=NAN)]
    found = [(f.step, f.split) for f in _findings(*rows)]
    assert found == [(10, "train"), (10, "eval_ko"), (20, "eval_en")]


def test_a_batch_without_a_target_is_no_fault() -> None:
    """Counted, and the only loss that is no number is that of a batch without a target: an info, once, whether the
    Trainer logs NaN, 0, or part of the earlier mean."""
    for loss in (math.nan, 0.0, 1.9):
        row = TrainObservation(100, loss=loss, grad_norm=0.0, nonfinite_steps=0, targetless_micro_batches=1)
        healthy = _healthy(range(10, 100, 10))
        again = TrainObservation(120, loss=loss, nonfinite_steps=0, targetless_micro_batches=2)
        (found,) = _findings(*healthy, row, TrainObservation(110, loss=3.6, nonfinite_steps=0), again)
        assert (found.severity, found.variant, found.step, found.asks_to_stop) == ("info", "no-target", 100, False)
        assert found.values["targetless_micro_batches"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"nonfinite_steps": 1}, {"nonfinite_steps": None}, {"targetless_micro_batches": None},
        {"grad_norm": math.nan},
    ],
    ids=str,
)  # fmt: skip
def test_a_batch_without_a_target_hides_nothing(changes: dict[str, float | None]) -> None:
    """Where another loss was no number, nobody counted, or the gradient is no number, it is the error it was."""
    known = {"loss": math.nan, "grad_norm": 0.0, "nonfinite_steps": 0, "targetless_micro_batches": 1, **changes}
    (found,) = _findings(*_healthy(range(10, 100, 10)), TrainObservation(100, **known))  # type: ignore[arg-type]
    assert (found.severity, found.asks_to_stop) == ("error", True)


def test_the_trainers_sum_stays_nan_after_it() -> None:
    """Without its filter the Trainer logs NaN from such a batch on: no error while every loss is counted and finite. A
    finite row ends it, and then a NaN that nothing explains is an error."""
    first = TrainObservation(100, loss=math.nan, nonfinite_steps=0, targetless_micro_batches=1)
    after = TrainObservation(110, loss=math.nan, grad_norm=1.0, nonfinite_steps=0)
    assert [item.variant for item in _findings(first, after)] == ["no-target"]
    ended = TrainObservation(120, loss=3.0, nonfinite_steps=0)
    again = TrainObservation(130, loss=math.nan, nonfinite_steps=0)
    assert [item.variant for item in _findings(first, after, ended, again)] == ["no-target", "loss"]
    assert [item.variant for item in _findings(first, TrainObservation(110, loss=math.nan, nonfinite_steps=1))] == [
        "no-target", "steps"
    ]  # fmt: skip


def _row_after(losses: list[float], last: float) -> list[Finding]:
    rows = [TrainObservation(10 * (i + 1), loss=loss, grad_norm=1.0) for i, loss in enumerate(losses)]
    return _findings(*rows, TrainObservation(10 * len(losses) + 10, loss=last, grad_norm=NAN))


# -- a step that the loss scaler skipped -------------------------------------------------------------------------------


def _steep(rates: list[float | None]) -> list[TrainObservation]:
    """Nine rows that hardly fall, then 4.05 to 2.56 at once with a NaN gradient norm, each with its learning rate."""
    losses = [4.3 - 0.03 * i for i in range(9)] + [2.56]
    return [
        TrainObservation(i, loss=loss, grad_norm=NAN if i == 9 else 8.0, learning_rate=rate)
        for i, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]


def test_a_skipped_step_in_a_steep_fall_is_a_note() -> None:
    """The learning rate, which had been moving, stands still at the row: the scaler skipped the step."""
    falling: list[float | None] = [1e-4 * (1 - 0.01 * i) for i in range(10)]
    still = [*falling[:9], falling[8]]
    assert [(f.variant, f.severity) for f in _findings(*_steep(still))] == [("scaler", Severity.INFO)]


def test_two_skipped_steps_in_a_row() -> None:
    """The learning rate has stood still before as well, and had been moving before that."""
    falling: list[float | None] = [1e-4 * (1 - 0.01 * i) for i in range(8)]
    assert [f.variant for f in _findings(*_steep([*falling, falling[7], falling[7]]))] == ["scaler"]


def test_the_scalers_search_for_its_scale_is_no_warning() -> None:
    """The first steps of fp16 are skipped until the scale fits: they do not count with those that are skipped later."""
    def rows(bad: set[int], rate: float | None = 1e-4) -> list[TrainObservation]:
        return [
            TrainObservation(i, loss=3.0, grad_norm=INF if i in bad else 1.0, learning_rate=rate) for i in range(40)
        ]

    assert [f.variant for f in _findings(*rows({0, 1, 2, 3, 20, 30}))] == ["scaler"]
    assert [(f.variant, f.step) for f in _findings(*rows({0, 1, 20, 30, 35}))] == [
        ("scaler", 0), ("scaler-repeated", 35)
    ]  # fmt: skip
    # A scale of 2 ** 16 is halved sixteen times at most.
    assert [(f.variant, f.step) for f in _findings(*rows(set(range(40))))] == [("scaler", 0), ("scaler-repeated", 18)]


# -- zeros after a small loss ------------------------------------------------------------------------------------------


def _zeros(*first: float, count: int = 30, **more: float) -> list[TrainObservation]:
    losses = [*first, *[0.0] * count]
    return [TrainObservation(10 * (i + 1), loss=loss, **more) for i, loss in enumerate(losses)]  # type: ignore[arg-type]


def test_zeros_after_a_small_loss_have_two_readings() -> None:
    """0.033, then exactly 0 and no gradient norm: a warning at the fifth, once, that does not ask to stop."""
    (found,) = _findings(*_zeros(0.0328))
    assert (found.severity, found.step, found.asks_to_stop) == (Severity.WARNING, 60, False)
    assert shown(found) == ("zeros", {"previous_loss": 0.0328, "zero_rows": 5})


@pytest.mark.parametrize(
    "rows",
    [
        _zeros(0.02, 0.006, 0.0019, 0.0007, 0.0001),  # learned away in small steps
        _zeros(),  # nothing before
        _zeros(0.0328, count=4),
        _zeros(0.0328, grad_norm=0.001),  # the gradient tells that a zero is one
        _zeros(0.0328, nonfinite_steps=0),
        _zeros(0.0019),
        [*_zeros(0.0328, count=3), TrainObservation(50, loss=0.001), *[TrainObservation(60, loss=0.0)]],
    ],
)
def test_zeros_that_are_no_such_sign(rows: list[TrainObservation]) -> None:
    """A way down in small steps, too few, or a gradient norm or a count that tells."""
    assert _findings(*rows) == []


def test_how_small_the_loss_before_them_may_be() -> None:
    """0.003 was above what four decimals round to 0; 0.0019 is silent."""
    assert [f.variant for f in _findings(*_zeros(0.003))] == ["zeros"]


@pytest.mark.parametrize(
    ("losses", "variants"),
    [
        ([0.21] * 6, ["zero-after"]),
        ([0.19] * 6, []),
        ([0.69, 0.69, 0.69, 0.15], ["zero-after"]),  # part of a mean that the Trainer filled
        ([0.5, 0.5, 0.5, 0.1, 0.1], []),
    ],
)
def test_from_where_a_loss_cannot_fall_to_zero(losses: list[float], variants: list[str]) -> None:
    """The median of the last three is above 0.2."""
    assert [f.variant for f in _findings(*_zeros(*losses, count=1))] == variants


def test_zeros_after_a_high_loss_are_the_error_alone() -> None:
    """What cannot fall to 0 is the error that it was, and no warning beside it."""
    assert [f.variant for f in _findings(*_zeros(2.0, 1.9))] == ["zero-after"]


def test_zeros_of_two_runs_joined_are_counted_apart() -> None:
    """Steps that go back begin anew: three zeros and three are not six, and the loss before them is another run's."""
    assert _findings(*_zeros(0.0328, count=3), *_zeros(count=3)) == []
    assert _findings(*_zeros(0.0328, count=3), *_zeros(count=6)) == []


def test_the_evidence_of_an_evaluation() -> None:
    """Both losses and the count; a count decides first, then the exact loss, then the Trainer's."""
    for given, variant in (
        ({"loss": NAN, "exact_loss": NAN, "nonfinite_batches": 2}, "eval-batches"),
        ({"loss": NAN, "exact_loss": INF, "nonfinite_batches": 0}, "eval-exact"),
        ({"loss": INF, "exact_loss": 2.0, "nonfinite_batches": 0}, "eval"), ({"loss": -INF}, "eval"),
    ):  # fmt: skip
        (found,) = _findings(EvalObservation(50, split="eval_ko", **given))  # type: ignore[arg-type]
        assert (found.variant, found.severity, found.split, found.asks_to_stop) == (
            variant, Severity.ERROR, "eval_ko", True,
        )  # fmt: skip
        assert set(found.values) == {"loss", "exact_loss", "nonfinite_batches"}
        assert found.values["nonfinite_batches"] == given.get("nonfinite_batches")
    assert _findings(EvalObservation(50, loss=2.0, exact_loss=2.0, nonfinite_batches=0)) == []


def test_an_episode_of_an_evaluation_ends_as_training_s_does() -> None:
    """After three healthy ones the next is another."""
    for healthy, said in ((2, 1), (3, 2)):
        losses = [NAN, *[2.0] * healthy, NAN, NAN]
        seen = [EvalObservation(10 * (i + 1), loss=loss) for i, loss in enumerate(losses)]
        assert len(_findings(*seen)) == said


def test_no_row_of_zero_is_no_zero() -> None:
    """A limit of no rows says nothing of a loss that is not 0."""
    seen = [TrainObservation(10 * i, loss=2.0) for i in range(1, 9)]
    assert Monitor([NonFinite(zero_rows=0)]).judge(seen)[1] == ()


@pytest.mark.parametrize("more", [0, 2])
def test_a_hidden_nan_is_said_in_the_row_that_it_begins_in(more: int) -> None:
    """3.65 -> 2.74 with a NaN gradient norm is an error there, also where the log ends with that row."""
    begun = TrainObservation(130, loss=_filled(3.65, 3, 10) - 0.27, grad_norm=NAN)
    zeros = [TrainObservation(140 + 10 * i, loss=0.0, grad_norm=NAN) for i in range(more)]
    (found,) = _findings(*_healthy(range(10, 130, 10)), begun, *zeros)
    assert (found.step, found.variant, found.asks_to_stop) == (130, "drop", True)
    assert found.values["expected_loss"] == pytest.approx(3.65, abs=0.03)


def test_a_skipped_step_in_a_steep_fall_is_no_nan() -> None:
    """The learning rate, which had been moving, stands still: the step was skipped. Where it moves: a NaN."""
    for last, variant in ((1.1e-5, "scaler"), (1.2e-5, "drop")):
        seen = [
            TrainObservation(10 * i, loss=3.0 - 0.01 * i, learning_rate=1e-6 * i, grad_norm=1.0) for i in range(1, 12)
        ]
        seen.append(TrainObservation(120, loss=2.2, learning_rate=last, grad_norm=NAN))
        assert [found.variant for found in _findings(*seen)] == [variant]
