"""below-floor: a level, never one point; how grave depends on the bytes, on the task and on how it came about."""

from __future__ import annotations

import math

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.level.below_floor import BelowFloor
from ko_cpt_callbacks.rules.level.padding_in_loss import PaddingInLoss
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.watch.plausibility import FLOOR_BITS, most_bits

TOKENIZERS = [1.2, 1.3, 1.4, 1.6, 1.9, 2.3, 2.8, 3.4, 4.1, 4.9, 5.7, 6.6]
"""Bytes per token on Korean: GPT-2's and Llama 2's are the first four, large vocabularies made for Korean the last."""
HEALTHY = [0.5, 0.6, 0.75, 0.9, 1.1, 1.3]
"""Bits per byte at which a continued pretraining ends."""


def _findings(*seen: Observation, task: str = "other") -> list[Finding]:
    rule = BelowFloor(task)
    return list(Monitor([rule]).judge(seen)[1])


def _of(rule: BelowFloor, *seen: Observation) -> list[Finding]:
    return list(Monitor([rule]).judge(seen)[1])


def _train(*losses: float, start: int = 10) -> list[TrainObservation]:
    return [TrainObservation(start + 10 * i, loss=loss, grad_norm=1.0) for i, loss in enumerate(losses)]


def _evals(*losses: float, se: float | None = None, rows: int | None = None) -> list[EvalObservation]:
    return [
        EvalObservation(100 * (i + 1), exact_loss=loss, exact_loss_se=se, rows=rows) for i, loss in enumerate(losses)
    ]


def _measured(step: int, bits: float, reach: float, split: str = "eval", **more: float) -> EvalObservation:
    """An evaluation with its bytes: so many bits per byte, at so many bytes per token."""
    loss = bits * math.log(2.0) * reach
    counts: dict[str, object] = {"tokens": 100_000, "bytes": round(100_000 * reach), "rows": 500, **more}
    return EvalObservation(step, split=split, exact_loss=loss, bits_per_byte=bits, **counts)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["cpt", "sft", "other"])
def test_a_gradual_fall_where_bytes_are_not_known(task: str) -> None:
    """The median of 20 points goes below ln 3: a note, once, whatever was declared, as the tokenizer may be why."""
    losses = [2.0 - 0.02 * i for i in range(80)]
    (found,) = _findings(*_train(*losses), task=task)
    assert (found.code, found.severity.value, found.variant, found.split) == (
        "below-floor", "info", "train-level", "train",
    )  # fmt: skip
    assert found.values["level"] < math.log(3.0)
    assert not found.asks_to_stop


@pytest.mark.parametrize(("task", "severity"), [("cpt", "warning"), ("sft", "info"), ("other", "info")])
def test_a_gradual_fall_in_bits_per_byte(task: str, severity: str) -> None:
    """With bytes the floor is 0.415 bits per byte: info, but a warning in continued pretraining; once."""
    reach = 5.0
    losses = [(0.8 - 0.01 * i) * math.log(2.0) * reach for i in range(50)]
    (found,) = _findings(_measured(0, 0.8, reach), *_train(*losses), task=task)
    assert (found.severity.value, found.variant, found.split) == (severity, "train-bits", "train")
    # The median of the last twenty, at a fall of 0.01 a row: the first that is below.
    assert 0.40 < found.values["bits"] < FLOOR_BITS  # type: ignore[operator]
    assert found.values["level"] > math.log(3.0)  # type: ignore[operator]


def test_a_note_becomes_a_warning_once_bytes_are_known() -> None:
    """A level noted in nats per token is said again, in continued pretraining, where it proves too low in bits per
    byte; where it proves healthy it is not."""
    for reach, variants in ((5.0, ["train-level", "train-bits"]), (1.3, ["train-level"])):
        rows = [*_train(*[0.9] * 30), _measured(310, 0.8, reach), *_train(*[0.9] * 30, start=320)]
        assert [one.variant for one in _findings(*rows, task="cpt") if one.split == "train"] == variants
        other = [one.variant for one in _findings(*rows) if one.split == "train"]
        assert other == ["train-level"]


def test_the_fewest_bytes_count_for_training() -> None:
    """Where sets have unlike bytes per token, training is below the floor only by the fewest."""
    many, few = _measured(0, 0.8, 5.0), _measured(0, 0.8, 1.3, "eval_ko")
    training = _train(*[0.9] * 40)
    assert [one.variant for one in _findings(many, *training)] == ["train-bits"]
    for both in ((many, few), (few, many)):
        assert _findings(*both, *training, task="cpt") == []


def test_an_evaluation_has_its_own_bytes_or_those_of_the_run() -> None:
    """At five bytes per token 1.2 nats are 0.35 bits per byte. A set that has bytes is judged by these, also beside one
    with fewer; one that has none by the fewest that are known."""
    many, few = _measured(0, 0.9, 5.0), _measured(0, 0.9, 1.3, "eval_ko")
    without = EvalObservation(10, split="eval_b", exact_loss=1.2)
    assert [one.variant for one in _findings(many, without)] == ["eval-bits"]
    assert _findings(few, without) == []
    assert [one.split for one in _findings(few, _measured(10, 0.35, 5.0))] == ["eval"]


def test_no_healthy_level_is_a_warning_on_any_tokenizer() -> None:
    """Twelve tokenizers by six healthy levels, with all that this package logs, with bits per byte beside the Trainer's
    loss, and with nothing but losses: no warning of a floor."""
    for reach in TOKENIZERS:
        for bits in HEALTHY:
            nats = bits * math.log(2.0) * reach
            curve = [nats * (1.0 + 0.6 * math.exp(-i / 12) + 0.01 * math.sin(7.0 * i)) for i in range(90)]
            packed = [
                TrainObservation(10 * (i + 1), 0.01 * i, loss=loss, grad_norm=1.0, input_tokens=40_960 * (i + 1))
                for i, loss in enumerate(curve)
            ]
            for seen in ("all", "bits", "loss"):
                rows: list[Observation] = []
                for i, row in enumerate(packed):
                    rows.append(row)
                    if i % 15 == 14:
                        level = bits * curve[i] / nats
                        known = _measured(row.step, level, reach, exact_loss_se=0.01 * nats)
                        rows.append(known if seen == "all" else EvalObservation(
                            row.step, loss=curve[i], bits_per_byte=level if seen == "bits" else None
                        ))  # fmt: skip
                found = Monitor([BelowFloor("cpt"), PaddingInLoss()]).judge(rows)[1]
                grave = [one for one in found if one.severity is not Severity.INFO]
                assert grave == [], (reach, bits, seen)
                assert seen == "loss" or not found, (reach, bits, seen)


def test_an_implausible_level_is_a_warning_on_any_tokenizer() -> None:
    """A third of a bit per byte, in the evaluations and in training beside them, with as many nats as it may have."""
    for reach in TOKENIZERS:
        nats = 0.34 * math.log(2.0) * reach
        rows = [_measured(0, 0.9, reach), *_train(*[nats] * 30), _measured(310, 0.34, reach, exact_loss_se=0.01 * nats)]
        found = [(one.severity, one.variant, one.split) for one in _findings(*rows, task="cpt")]
        assert found == [
            (Severity.WARNING, "train-bits", "train"), (Severity.WARNING, "eval-bits", "eval"),
        ], reach  # fmt: skip


def test_what_the_sentences_show() -> None:
    """Level, perplexity, floor, and the bytes per token on which it depends."""
    (found,) = _findings(*_train(*[1.0] * 20))
    assert shown(found) == (
        "train-level",
        {"floor_bits": 0.4152, "healthy_below": 3.4747, "level": 1.0, "level_ppl": 2.7183, "points": 20},
    )
    (found,) = _findings(_measured(0, 0.3, 5.0))
    assert shown(found) == (
        "eval-bits",
        {
            "bits": 0.3, "bytes_per_token": 5.0, "floor_bits": 0.4152, "level": 1.0397, "level_ppl": 2.8284,
            "lowest_published": 0.519,
        },
    )  # fmt: skip


def test_never_one_point() -> None:
    """Neither one training point, nor nineteen, nor half of twenty, nor an evaluation of one row."""
    assert _findings(*_train(*[2.0] * 30, 0.2, *[2.0] * 30), task="cpt") == []
    assert _findings(*_train(*[0.2] * 19), task="cpt") == []
    assert _findings(*_train(*[2.0, 0.2] * 40), task="cpt") == []
    assert _findings(*_evals(0.5, rows=1), task="cpt") == []


def test_an_evaluation() -> None:
    """One is enough where its interval is below; the Trainer's loss counts where there is no exact one."""
    (found,) = _findings(*_evals(1.0, 0.99, se=0.01, rows=500))
    assert (found.severity, found.step, found.split, found.variant) == (Severity.INFO, 100, "eval", "eval-level")
    assert _findings(*_evals(1.09, se=0.01)) == []
    assert len(_findings(EvalObservation(10, loss=1.0, split="eval_ko"))) == 1


def test_exactly_at_the_floor_is_not_below() -> None:
    """ln 3 itself is silent where bytes are not known, and 0.415 bits per byte where they are."""
    assert _findings(*_train(*[math.log(3.0)] * 30), *_evals(math.log(3.0))) == []
    for more, variants in ((1e-9, []), (-1e-6, ["eval-bits"])):
        assert [one.variant for one in _findings(_measured(0, FLOOR_BITS + more, 5.0))] == variants


def test_the_interval_of_an_evaluation_counts_in_bits_too() -> None:
    """0.40 bits per byte with a standard error of 0.01 may be 0.42, with one of 0.004 not."""
    nats = 0.4 * math.log(2.0) * 5.0
    assert _findings(_measured(0, 0.4, 5.0, exact_loss_se=0.025 * nats)) == []
    assert len(_findings(_measured(0, 0.4, 5.0, exact_loss_se=0.01 * nats))) == 1


def test_a_sudden_fall_is_a_warning_whatever_the_task() -> None:
    """From a level to another within a few points, as when padding enters the loss at a resume."""
    noise = [0.02 * math.sin(7.0 * i) for i in range(60)]
    losses = [(2.7 if i < 30 else 0.7) + noise[i] for i in range(60)]
    (found,) = _findings(*_train(*losses), task="sft")
    assert (found.severity, found.variant) == (Severity.WARNING, "train-fall")
    assert found.step > 300
    assert (round(found.values["from"], 1), round(found.values["to"], 1)) == (2.7, 0.7)  # type: ignore[call-overload]


def test_a_fall_after_the_level_was_noted() -> None:
    """Fine-tuning noted as info at 1.0 that falls to 0.3 at once is a second, graver finding."""
    found = _findings(*_train(*[1.0] * 40, *[0.3] * 40))
    assert [(one.severity.value, one.variant) for one in found] == [("info", "train-level"), ("warning", "train-fall")]


def test_a_steep_but_steady_fall_is_none() -> None:
    """A curve that was falling all the time did not fall suddenly."""
    losses = [6.0 * math.exp(-i / 15) + 0.4 for i in range(80)]
    assert {one.variant for one in _findings(*_train(*losses))} == {"train-level"}


@pytest.mark.parametrize("width", [3, 8, 12, 30, 60])
def test_the_return_from_a_spike_is_no_fall(width: int) -> None:
    """Fine-tuning at 0.93 that goes up by 2 nats and comes back is where it was, however wide the spike."""
    losses = [0.93 + 0.02 * math.sin(7.0 * i) + (2.0 if 30 <= i < 30 + width else 0.0) for i in range(140)]
    assert {one.severity for one in _findings(*_train(*losses), task="sft")} == {Severity.INFO}
    lower = [loss - (0.6 if i > 100 else 0.0) for i, loss in enumerate(losses)]
    assert [one.variant for one in _findings(*_train(*lower), task="sft")] == ["train-level", "train-fall"]


@pytest.mark.parametrize(("reach", "fall"), [(None, 0.5), (6.6, 0.18 * math.log(2.0) * 6.6)])
def test_how_far_a_fall_is(reach: float | None, fall: float) -> None:
    """Half a nat per token where bytes are not known, 0.18 bits per byte where they are."""
    first: list[Observation] = [] if reach is None else [_measured(0, 0.9, reach)]
    end = 0.9 if reach is None else 1.2
    for more, variant in ((-0.02, "level" if reach is None else "bits"), (0.02, "fall")):
        losses = [end + fall + more if i < 30 else end for i in range(60)]
        (found,) = _findings(*first, *_train(*losses), task="cpt")
        assert found.variant == f"train-{variant}"


def test_a_fall_below_ln_3_is_a_warning_whatever_the_bytes() -> None:
    """At 1.2 bytes per token 0.6 nats are 0.72 bits per byte, a healthy level; but no model falls there at once."""
    losses = [(2.7 if i < 30 else 0.6) + 0.02 * math.sin(7.0 * i) for i in range(60)]
    (found,) = _findings(_measured(0, 0.9, 1.2), *_train(*losses), task="cpt")
    assert (found.severity, found.variant) == (Severity.WARNING, "train-fall")
    gradual = [2.7 * math.exp(-i / 30) + 0.5 for i in range(150)]
    assert _findings(_measured(0, 0.9, 1.2), *_train(*gradual), task="cpt") == []


def test_a_small_fall_to_a_healthy_level() -> None:
    """At 1.2 bytes per token 0.3 nats are much in bits per byte, and no sudden fall where the level after it is none
    too low."""
    for before, said in ((0.9, False), (1.2, True)):
        losses = [before if i < 30 else 0.6 for i in range(60)]
        found = _findings(_measured(0, before / math.log(2.0) / 1.2, 1.2), *_train(*losses))
        assert ("train-fall" in [one.variant for one in found]) is said


def test_evaluations_fall_too() -> None:
    """A level, then far below it: a warning; a spike and back is none."""
    (found,) = _findings(*_evals(2.7, 2.68, 0.5))
    assert (found.severity, found.variant) == (Severity.WARNING, "eval-fall")
    for losses in ((0.6, 1.6, 0.6), (0.6, 1.6, 1.6, 1.6, 1.6, 0.6)):
        assert [one.variant for one in _findings(*_evals(*losses))] == ["eval-level"]


def test_near_zero() -> None:
    """Next to nothing is another sentence, also after the level was noted."""
    found = _findings(*_train(*[1.0 / (1 + i / 4) for i in range(200)]), *_evals(0.01))
    assert [one.variant for one in found] == ["train-level", "train-near-zero", "eval-near-zero"]
    assert {one.severity for one in found} == {Severity.INFO}


@pytest.mark.parametrize(("reach", "level"), [(None, 0.0499), (4.0, 0.19)])
def test_near_zero_depends_on_the_bytes(reach: float | None, level: float) -> None:
    """0.072 bits per byte: 0.05 nats per token, if a token may be one byte; a note without bytes, whatever the task."""
    first: list[Observation] = [] if reach is None else [_measured(0, 0.9, reach)]
    (found,) = _findings(*first, *_train(*[level] * 25), task="cpt")
    assert found.variant == "train-near-zero"
    assert found.severity is (Severity.INFO if reach is None else Severity.WARNING)
    (found,) = _findings(*first, *_train(*[1.1 * level] * 25), task="cpt")
    assert found.variant == ("train-level" if reach is None else "train-bits")


def test_nan_in_disguise_is_no_level() -> None:
    """0.0 with a NaN gradient norm, or without any, and counted NaN steps: another rule's business."""
    assert _findings(*[TrainObservation(i, loss=0.0, grad_norm=math.nan) for i in range(40)], task="cpt") == []
    assert _findings(*[TrainObservation(i, loss=0.0) for i in range(40)], task="cpt") == []
    assert _findings(*[TrainObservation(i, loss=0.5, nonfinite_steps=3) for i in range(40)], task="cpt") == []
    assert _findings(EvalObservation(10, loss=0.5, nonfinite_batches=1), task="cpt") == []


def test_two_runs_joined() -> None:
    """Steps that go back begin a new window."""
    assert _findings(*_train(*[1.0] * 15), *_train(*[1.0] * 15)) == []


def test_the_row_at_which_the_level_is_low_may_itself_be_none() -> None:
    """Ten of twenty are low, and one that is not takes the place of one that was higher: the median is below ln 3 with
    that row, and it is said there."""
    (found,) = _findings(*_train(*[5.0] * 30, *[0.5] * 10, 1.2, 5.0, 5.0, 0.5))
    assert (found.step, found.values["level"]) == (410, 0.85)


def test_what_is_as_much_as_a_limit() -> None:
    """A level at the floor, or at what is next to nothing, is not below it; nor is half a nat more than half a nat."""
    for high, said in ((1.5, []), (1.484375, ["train-level"])):
        assert [one.variant for one in _of(BelowFloor(floor_nats=1.0), *_train(*[high, 0.5] * 20))] == said
    limit = most_bits(0.5, None)
    for share, variant in ((1.0, "train-level"), (1.001, "train-near-zero")):
        (found,) = _of(BelowFloor(near_zero=share * limit), *_train(*[0.5] * 20))
        assert found.variant == variant
    for before, variant in ((1.5, "eval-level"), (1.5078125, "eval-fall")):
        assert _of(BelowFloor(), *_evals(before, before, 1.0))[-1].variant == variant


def test_next_to_nothing_at_once() -> None:
    """Near zero is the graver sentence, and the only one; that it was a fall makes it a warning."""
    (found,) = _findings(*_train(*[2.7] * 30, *[0.01] * 30), task="sft")
    assert (found.variant, found.severity) == ("train-near-zero", Severity.WARNING)
    assert not {"from", "to"} & set(found.values)


def test_what_is_said_of_a_set_is_not_said_again() -> None:
    """Lesser sentences after a graver one, each set by itself; steps that go back begin no new ones."""
    low = [*_evals(2.7, 2.68, 0.5, 0.5, 0.4), EvalObservation(600, split="eval_ko", exact_loss=1.0)]
    assert [(one.variant, one.split) for one in _findings(*low)] == [("eval-fall", "eval"), ("eval-level", "eval_ko")]
    assert [one.variant for one in _findings(*_train(*[1.0] * 25), *_train(*[1.0] * 25))] == ["train-level"]
