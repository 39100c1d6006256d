"""padding-in-loss: from the first batches, or from the log's token counts; packing and masked pads are silent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.level.padding_in_loss import PaddingInLoss
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.level import floor_of


def _findings(*seen: Observation) -> list[Finding]:
    rule = PaddingInLoss()
    return list(Monitor([rule]).judge(seen)[1])


def _batch(**values: object) -> SetupObservation:
    return SetupObservation(0, "padding-in-loss", values)


def _rows(
    rates: list[int],
    loss: Callable[[int], float] = lambda i: 2.7,
    *,
    target: bool = False,
    start: int = 0,
    tokens: int = 0,
) -> list[TrainObservation]:
    """Rows every ten steps with so many tokens per step."""
    rows = []
    for i, rate in enumerate(rates, start=1):
        tokens += 10 * rate
        count = {"tokens_seen": tokens} if target else {"input_tokens": tokens}
        rows.append(TrainObservation(start + 10 * i, loss=loss(i), **count))  # type: ignore[arg-type]
    return rows


VARIED = [8000 + 37 * (i * i % 101) for i in range(30)]


def test_masked_labels() -> None:
    """Labels under attention_mask 0 in the first batch: an error that asks to stop, once per set."""
    train = _batch(split="train", masked_labels=900, pad_run_rows=4, rows=8, tokens=4096)
    found = _findings(train, train, _batch(split="eval_ko", masked_labels=1, pad_run_rows=0, rows=8, tokens=4096))
    assert [(one.severity, one.split, one.asks_to_stop) for one in found] == [
        (Severity.ERROR, "train", True),
        (Severity.ERROR, "eval_ko", True),
    ]
    assert shown(found[0]) == ("masked", {"masked_labels": 900, "tokens": 4096})


def test_pad_runs() -> None:
    """Rows that start or end with labelled pads where the mask is all ones."""
    (found,) = _findings(_batch(split="eval", masked_labels=0, pad_run_rows=3, rows=8, tokens=4096))
    assert shown(found) == ("pads", {"pad_run_rows": 3, "rows": 8})


@pytest.mark.parametrize(
    "values",
    [{}, {"split": "train", "masked_labels": 0, "pad_run_rows": 0, "rows": 8}, {"masked_labels": "many"},
     {"masked_labels": True}, {"masked_labels": -1, "pad_run_rows": None}],
)  # fmt: skip
def test_a_healthy_or_unreadable_batch_is_silent(values: dict[str, object]) -> None:
    """Nothing found, nothing said."""
    assert _findings(_batch(**values)) == []


def test_rows_that_end_with_one_label() -> None:
    """Half of the rows or more, sixteen labels or more: a warning that does not ask to stop, for a set that is known by
    nothing else."""
    known = {"masked_labels": 0, "pad_run_rows": 0, "rows": 4, "tokens": 400}
    (found,) = _findings(_batch(split="train", **known, equal_ends=2, equal_tokens=16))
    assert (found.severity, found.variant, found.asks_to_stop) == (Severity.WARNING, "equal", False)
    assert shown(found) == ("equal", {"equal_ends": 2, "equal_tokens": 16, "rows": 4})
    assert _findings(_batch(split="train", **known, equal_ends=1, equal_tokens=90)) == []
    assert _findings(_batch(split="train", **known, equal_ends=2, equal_tokens=15)) == []
    (masked,) = _findings(_batch(split="train", **{**known, "masked_labels": 9}, equal_ends=4, equal_tokens=90))
    assert masked.variant == "masked"


def test_a_resume_that_finds_the_same_counts_on() -> None:
    """The batch is looked at again at every resume: where token counts were judged before, the rows before it count."""
    rows = _rows(VARIED) + _rows([32768] * 30, lambda i: 0.6, start=300)
    padded = _batch(split="train", masked_labels=9, pad_run_rows=0, rows=8, tokens=4096)
    assert [one.variant for one in _findings(padded, *rows[:32], padded, *rows[32:])] == ["masked", "constant"]


def test_what_was_seen_wins() -> None:
    """The first batch was looked at and holds no pad among its labels: token counts say nothing any more, until another
    attempt's first batch does; then those of its rows are judged."""
    rows = _rows(VARIED) + _rows([32768] * 30, lambda i: 0.6, start=300)
    clean = {"split": "train", "masked_labels": 0, "pad_run_rows": 0, "rows": 8, "tokens": 4096}
    assert _findings(_batch(**clean), *rows) == []
    padded = _batch(**{**clean, "masked_labels": 9})
    assert [one.variant for one in _findings(_batch(**clean), *rows[:30], padded, *rows)] == ["masked", "constant"]
    of_evaluation = _batch(**{**clean, "split": "eval"})
    assert [one.variant for one in _findings(of_evaluation, *rows)] == ["constant"]


def test_constant_where_it_varied() -> None:
    """Five rows with exactly the same number of tokens per step, and the loss below: a warning, once; a resume starts a
    new count."""
    rows = _rows(VARIED) + _rows([32768] * 30, lambda i: 0.6, start=300)
    (found,) = _findings(*rows)
    assert (found.severity, found.step, found.variant, found.asks_to_stop) == (Severity.WARNING, 360, "constant", False)
    assert shown(found) == (
        "constant",
        {
            "constant_rows": 5, "counted": "input tokens", "loss": 0.6, "tokens_per_step": 32768,
        },
    )  # fmt: skip


def test_constant_within_one_count() -> None:
    """The same without a new count, in target tokens; twelve rows where the loss does not fall."""
    for loss, step in ((0.9, 350), (2.55, 350), (2.65, 420), (2.7, 420)):
        rows = _rows(VARIED, target=True)
        rows += _rows([32768] * 30, lambda _, loss=loss: loss, target=True, start=300, tokens=10 * sum(VARIED))  # type: ignore[misc]
        (found,) = _findings(*rows)
        assert (found.variant, found.values["counted"], found.step) == ("constant", "target tokens", step)


def test_what_the_noise_explains_is_no_fall() -> None:
    """A level that is 0.3 nats lower is a fall where the noise is 0.01 or 0.06, and none where it is 0.2."""
    for noise, step in ((0.02, 350), (0.09, 350), (0.3, 420)):
        before = _rows(VARIED, lambda i, n=noise: 2.7 + n * math.sin(7.0 * i * i), target=True)  # type: ignore[misc]
        after = _rows([32768] * 30, lambda _: 2.4, target=True, start=300, tokens=10 * sum(VARIED))
        assert [one.step for one in _findings(*before, *after)] == [step]


def test_rows_grouped_by_length_are_silent() -> None:
    """Of each mega-batch the longest rows are cut at one length: constant for some rows, varied, constant again."""
    rates: list[int] = []
    for mega in range(8):
        rates += [2048 * 8] * (9 + mega % 3) + [16_000 - 97 * i - 13 * (i * mega % 7) for i in range(40)]
    for falls in (0.0, 0.4):
        assert _findings(*_rows(rates, lambda i, f=falls: 1.8 - f * (i % 50 < 12))) == []  # type: ignore[misc]
    # Padded to one length from some row on, it is still seen: after twice as many rows.
    (found,) = _findings(*_rows(rates + [4096 * 8] * 60))
    assert (found.variant, found.values["constant_rows"]) == ("constant", 23)


def test_packed_rows_are_silent() -> None:
    """Constant from the start, with a smaller last batch each epoch, and a healthy loss."""
    rates = ([4096] * 9 + [4000]) * 5
    assert _findings(*_rows([4096] * 60, lambda i: 4.8 - 2.0 * i / 60)) == []
    assert _findings(*_rows(rates, lambda i: 4.8 - 2.0 * i / 60, target=True)) == []
    assert _findings(*_rows(rates, lambda i: 2.0 - 1.2 * i / 60)) == []  # fine-tuning, slowly below the floor


def test_collapse_from_the_start() -> None:
    """Constant tokens and a loss that falls to a fraction of its first within a few rows."""
    (found,) = _findings(*_rows([32768] * 60, lambda i: 9.0 if i == 1 else 0.5 + 1.0 / i))
    assert (found.variant, found.severity) == ("collapse", Severity.WARNING)
    assert shown(found) == (
        "collapse",
        {
            "counted": "input tokens", "from": 9.0, "to": 0.5955, "tokens_per_step": 32768,
        },
    )  # fmt: skip


@pytest.mark.parametrize(("last", "count"), [(0.6, 1), (0.8, 0), (2.3, 0)])
def test_a_slow_collapse(last: float, count: int) -> None:
    """From 8 over a hundred rows, within the first epoch: below 60 % of ln 3, where that is the floor in bits per byte,
    it is one; later it is memorizing. Without bytes it may be a second phase of learning."""
    rows = _rows([32768] * 200, lambda i: last + (8.0 - last) * math.exp(-i / 25))
    for epochs, said in ((1.0, count), (20.0, 0)):
        seen = [replace(one, epoch=epochs * (i + 1) / 200) for i, one in enumerate(rows)]
        assert len(_findings(_eval(FLOOR_BYTES), *seen)) == said
        assert _findings(*seen) == []


def test_what_begins_low_does_not_collapse() -> None:
    """A classifier goes from 0.5 to 0.1 with rows of one length."""
    assert _findings(*_rows([8192] * 100, lambda i: 0.1 + 0.4 * math.exp(-i / 5))) == []


def test_collapse_later() -> None:
    """Packed rows, then a cache of padded ones of the same length."""
    (found,) = _findings(*_rows([32768] * 60, lambda i: 2.7 if i < 35 else 0.6))
    assert (found.variant, found.values["from"], found.values["to"]) == ("collapse", 2.7, 0.6)


def test_masked_pads_are_silent() -> None:
    """Input tokens are constant, target tokens vary: the pads are not in the loss."""
    rows = [
        TrainObservation(row.step, loss=0.8, tokens_seen=row.tokens_seen, input_tokens=32768 * row.step)
        for row in _rows(VARIED, target=True)
    ]
    assert _findings(*rows) == []


def test_another_count_is_no_change() -> None:
    """Where the log's count changes its name, nothing is compared across."""
    assert _findings(*_rows(VARIED), *_rows([4096] * 30, target=True, start=300)) == []


def test_unequal_logging_distances() -> None:
    """Tokens per step are compared exactly, not tokens per row."""
    steps = [1, 10, 20, 35, 36, 50, 51, 70]
    rows = _rows(VARIED) + [TrainObservation(300 + s, loss=1.9, input_tokens=333 * s) for s in steps]
    assert [one.variant for one in _findings(*rows)] == ["constant"]
    off = [TrainObservation(300 + s, loss=1.9, input_tokens=333 * s + (s % 2)) for s in steps]
    assert _findings(*_rows(VARIED), *off) == []


def test_no_counts_no_finding() -> None:
    """A log without token counts cannot show it; nor does NaN disturb."""
    assert _findings(*[TrainObservation(10 * i, loss=math.nan) for i in range(60)]) == []


FLOOR_BYTES = limits.FLOOR_NATS / (limits.FLOOR_BITS * math.log(2.0))
"""Bytes per token at which the floor is ln 3 nats per token."""


def _eval(reach: float) -> EvalObservation:
    return EvalObservation(0, exact_loss=2.5, tokens=100_000, bytes=round(100_000 * reach))


def test_a_collapse_is_one_in_bits_per_byte() -> None:
    """From 9 to 1.5 nats per token within 40 rows is a collapse at 6.5 bytes per token (0.33 bits per byte), and none
    where a token has 5, or nothing tells; to 0.7 it is none at 1.2 (0.84 bits), and one where nothing tells."""
    for end, reach, count in ((1.5, 6.5, 1), (1.5, 5.0, 0), (1.5, None, 0), (0.7, 1.2, 0), (0.7, None, 1)):
        rows: list[Observation] = [] if reach is None else [_eval(reach)]
        rows += _rows([32768] * 60, lambda i, e=end: 9.0 if i == 1 else e + 0.2 / i)  # type: ignore[misc]
        assert [one.variant for one in _findings(*rows)] == ["collapse"] * count, (end, reach)


def test_a_sudden_fall_is_a_collapse_whatever_the_bytes() -> None:
    """Long after the start, from 2.7 to 0.7 at once: so also at 1.2 bytes per token, where 0.7 nats are a healthy
    level; a slow way there is none."""
    for reach in (1.2, 4.0, None):
        rows: list[Observation] = [] if reach is None else [_eval(reach)]
        sudden = _rows([32768] * 120, lambda i: 2.7 if i < 60 else 0.7)
        assert [one.variant for one in _findings(*rows, *sudden)] == ["collapse"], reach
        assert _findings(*rows, *_rows([32768] * 200, lambda i: 2.7 - 0.01 * i)) == [], reach


@pytest.mark.parametrize(("varied", "found"), [(3, []), (4, ["constant"]), (7, ["constant"])])
def test_how_many_rows_show_that_they_varied(varied: int, found: list[str]) -> None:
    """Five rows, each with its own number of tokens per step, the first constant one among them: fewer may be the odd
    rows of a packed run."""
    rates = VARIED[: varied + 1]  # the first row is counted from
    rows = _rows(rates, target=True)
    rows += _rows([32768] * 20, lambda _: 2.0, target=True, start=10 * len(rates), tokens=10 * sum(rates))
    assert [one.variant for one in _findings(*rows)] == found


def _falls_to(share: float, first: float) -> Callable[[int], float]:
    """A smooth fall whose median over rows 21 to 40 is that share of the first loss; over rows 6 to 25 it is half."""
    return lambda i: first * math.exp(math.log(share) * (i - 1) / 29.5)


# -- how much it takes, where every row has as many tokens ----


def _sunk(level: float, until: int, points: int = 80, epoch: float | None = None) -> list[tuple[str, int | None]]:
    """What is said of a loss that comes down evenly from 3 nats to a level at a row, and stays there."""
    seen = _rows([8000] * points, lambda i: max(3.0 + (level - 3.0) * (i - 1) / (until - 1), level))
    if epoch is not None:
        seen = [replace(one, epoch=epoch) for one in seen]
    return [(one.variant, one.step) for one in _findings(_eval(FLOOR_BYTES), *seen)]


@pytest.mark.parametrize(
    ("level", "until", "row"),
    [
        (0.98, 15, 25), (0.98, 16, None), (1.0, 15, None), (0.74, 21, 31), (0.76, 21, None), (0.74, 30, 40),
        (0.74, 31, None), (0.65, 45, 55), (0.67, 45, None),
    ],
)  # fmt: skip
def test_how_far_a_loss_collapses(level: float, until: int, row: int | None) -> None:
    """The median of twenty points: below 0.33 of the first loss within 25 rows, 0.25 within 40; below 0.6 of the floor
    in the first epoch."""
    assert _sunk(level, until) == ([] if row is None else [("collapse", 10 * row)])


def test_later_epochs_learn_by_heart() -> None:
    """Deep below the floor is no collapse after the first epoch."""
    assert _sunk(0.65, 45, epoch=1.0) == [("collapse", 550)]
    assert _sunk(0.65, 45, epoch=1.01) == []
    assert _sunk(0.74, 21, epoch=1.01) == [("collapse", 310)]


@pytest.mark.parametrize(("fall", "size", "said"), [
    (0.095, 0.0, False), (0.105, 0.0, True), (0.14, 0.04, False), (0.32, 0.04, True),
])  # fmt: skip
def test_how_far_constant_rows_fall(fall: float, size: float, said: bool) -> None:
    """By 0.1 nats, and by three standard deviations of a point before them."""
    seen = _rows([*VARIED, *[8000] * 7], lambda i: 2.7 + size * (-1) ** i - fall * (i > 30))
    assert ([one.variant for one in _findings(*seen)] == ["constant"]) is said


@pytest.mark.parametrize(
    ("loss", "variants"),
    [
        (_falls_to(0.23, 4.0), ["collapse"]),
        (_falls_to(0.27, 3.9), []),
        (lambda i: 3.0 if i == 1 else 0.93, ["collapse"]),  # 0.31 of the first
        (lambda i: 2.9 if i == 1 else 1.04, []),  # 0.36
    ],
)
def test_the_share_of_the_first_loss(loss: Callable[[int], float], variants: list[str]) -> None:
    """A collapse ends below a quarter of the first loss within forty rows, below a third within twenty-five."""
    assert [one.variant for one in _findings(*_rows([32768] * 40, loss))] == variants


# -- what a batch and a counter tell, from both sides ----


@pytest.mark.parametrize(("ends", "rows", "said"), [(1, 2, True), (1, 3, False), (2, 3, True), (0, 0, False)])
def test_how_many_rows_end_alike(ends: int, rows: int, said: bool) -> None:
    """Half of them, and one at least."""
    known = {"split": "train", "masked_labels": 0, "pad_run_rows": 0, "rows": rows, "tokens": 400}
    found = _findings(_batch(**known, equal_ends=ends, equal_tokens=90))
    assert [one.variant for one in found] == ["equal"] * said


def test_the_evidence_of_a_batch() -> None:
    """All counts of it; of a row that names no set they are training's. Each set is said once."""
    one = _batch(masked_labels=0, pad_run_rows=3, rows=8, tokens=4096)
    (found,) = _findings(one, one)
    assert found.values == {"masked_labels": 0, "pad_run_rows": 3, "rows": 8, "tokens": 4096}
    assert (found.split, found.step, found.variant) == ("train", 0, "pads")
    (found,) = _findings(_batch(split="eval", rows=4, tokens=400, equal_ends=4, equal_tokens=16), one, one)[:1]
    assert found.values == {"equal_ends": 4, "equal_tokens": 16, "rows": 4, "tokens": 400}
    assert (found.split, found.asks_to_stop) == ("eval", False)


@pytest.mark.parametrize(
    ("values", "looked"),
    [
        ({"tokens": 1}, True), ({"tokens": 0}, False), ({}, False), ({"tokens": 9, "masked_labels": 1}, False),
        ({"tokens": 9, "pad_run_rows": 1}, False), ({"tokens": 9, "equal_ends": 1, "equal_tokens": 16}, False),
    ],
)  # fmt: skip
def test_which_batch_was_looked_at(values: dict[str, object], looked: bool) -> None:
    """One with labels, none of which is a pad: then the counts of the log say nothing."""
    rows = _rows(VARIED) + _rows([32768] * 30, lambda i: 0.6, start=300)
    variants = [one.variant for one in _findings(_batch(**values), *rows)]
    assert ("constant" in variants) is not looked


@pytest.mark.parametrize(("before", "constant"), [(5, 12), (6, 5)])
def test_how_many_losses_there_must_be_before(before: int, constant: int) -> None:
    """Six have a level and a noise; after fewer the constant rows are as good as ones that do not fall."""
    seen = _rows([*VARIED[:before], *[32768] * 30], lambda i: 2.7 if i <= before else 1.0)
    (found,) = _findings(*seen)
    assert (found.step, found.values["constant_rows"]) == (10 * (before + constant), constant)


@pytest.mark.parametrize(("equal", "constant"), [(1, 5), (2, 5), (3, 7), (4, 9), (7, 15)])
def test_constant_rows_that_ended_before(equal: int, constant: int) -> None:
    """So many in a row were seen with lengths that vary: more than twice as many are asked for."""
    rates = [*VARIED[:8], *[8000] * equal, *VARIED[9:16], *[8000] * 40]
    seen = _rows(rates, lambda i: 2.7 if i <= 15 + equal else 1.0)
    (found,) = _findings(*seen)
    assert (found.variant, found.values["constant_rows"]) == ("constant", constant)
    assert found.step == 10 * (15 + equal + constant)


def test_steps_that_begin_anew() -> None:
    """Forget the losses before: only that there are many constant rows tells. The count itself is compared anew."""
    (found,) = _findings(*_rows(VARIED), *_rows([32768] * 30, lambda i: 0.6))
    assert (found.step, found.values["constant_rows"], found.values["loss"]) == (130, 12, 0.6)
    (found,) = _findings(*_rows(VARIED), *_rows([32768] * 30, lambda i: 0.6, tokens=10**9))
    assert (found.step, found.values["constant_rows"]) == (130, 12)


def test_a_count_that_stands_still_or_is_missing() -> None:
    """Is no number of tokens per step; the rows around it are compared as they are."""
    seen = _rows([*VARIED, *[32768] * 30], lambda i: 2.7 if i <= 30 else 1.0)
    missing = [replace(one, input_tokens=None) if one.step in (320, 340) else one for one in seen]
    (found,) = _findings(*missing)
    assert (found.step, found.values["constant_rows"]) == (370, 5)
    still = [replace(one, input_tokens=seen[30].input_tokens) if one.step == 320 else one for one in seen]
    (found,) = _findings(*still)
    assert (found.step, found.values["tokens_per_step"]) == (380, 32768)  # the next one brings twice as many
    assert found.values["constant_rows"] == 5


def test_tokens_per_step_that_are_no_whole_number() -> None:
    """A hundred tokens every three steps; without a loss it is said by many rows, and the evidence has none."""
    rows = [TrainObservation(3 * i, input_tokens=100 * i + i * i % 7 * (i < 30)) for i in range(1, 60)]
    (found,) = _findings(*rows)
    assert found.values["tokens_per_step"] == pytest.approx(100 / 3)
    assert (found.values["constant_rows"], found.values["loss"]) == (12, None)


def test_losses_that_are_none_are_no_first_loss() -> None:
    """Nor part of a level: the first number is what the loss came down from."""
    for odd in (None, math.nan, math.inf):
        seen = _rows([32768] * 60, lambda i: 9.0 if i == 3 else 0.5 + 1.0 / i)
        seen = [replace(one, loss=odd) if one.step in (10, 20, 150) else one for one in seen]
        (found,) = _findings(*seen)
        assert (found.variant, found.values["from"], found.step) == ("collapse", 9.0, 230)
        assert found.values["to"] == pytest.approx(0.59, abs=0.02)


def test_the_numbers_of_another_check_s_row() -> None:
    """Are none of this one's."""
    assert _findings(SetupObservation(0, "prompt-in-loss", {"masked_labels": 9, "rows": 8, "tokens": 400})) == []


# -- what is just as much as a limit, of losses that are exact ----


def _said(*seen: Observation, **limits: float) -> list[tuple[str, int]]:
    """Variant and row of the findings of the rule with other limits."""
    rule = replace(PaddingInLoss(), **limits)  # type: ignore[arg-type]
    return [(one.variant, (one.step or 0) // 10) for one in Monitor([rule]).judge(seen)[1]]


def _dropped(first: float, level: float, rows: int = 60) -> list[TrainObservation]:
    """Constant rows whose loss is at a level from the second on."""
    return _rows([8192] * rows, lambda i: first if i == 1 else level)


def test_as_far_as_the_fall_that_is_asked_for() -> None:
    """A quarter of a nat where it is the limit is no fall: then it takes twelve constant rows, not five."""
    for level, row in ((2.5, 42), (2.4921875, 35)):
        seen = _rows([*VARIED, *[32768] * 20], lambda i, level=level: 2.75 if i <= 30 else level)  # type: ignore[misc]
        assert _said(*seen, fall=0.25) == [("constant", row)]


def test_fewer_constant_rows_may_be_asked_for() -> None:
    """Three in a row: none of the varied ones before was as long as two."""
    seen = _rows([*VARIED, *[32768] * 20], lambda i: 2.75 if i <= 30 else 1.5)
    assert _said(*seen, constant_rows=3) == [("constant", 33)]


def test_a_level_at_the_floor_is_no_collapse() -> None:
    """However suddenly it got there; and a run that began at the floor can collapse."""
    for level, found in ((1.0, []), (0.9921875, [("collapse", 41)])):
        seen = _rows([8192] * 60, lambda i, level=level: 4.0 if i <= 30 else level)  # type: ignore[misc]
        assert _said(*seen, floor_nats=1.0) == found
    assert _said(*_dropped(1.0, 0.25), floor_nats=1.0) == [("collapse", 20)]
    assert _said(*_dropped(0.9921875, 0.25), floor_nats=1.0) == []


def test_a_level_at_the_floor_in_bits_per_byte() -> None:
    """At 1.25 bytes per token it is 0.36 nats: from there on up only a sudden fall of half a nat tells."""
    floor = floor_of(1.25)
    assert _said(_eval(1.25), *_dropped(4.0, floor)) == []
    assert _said(_eval(1.25), *_dropped(4.0, 0.999 * floor)) == [("collapse", 20)]
    for before, found in ((0.9, []), (1.2, [("collapse", 40)])):
        seen = _rows([8192] * 60, lambda i, before=before: before if i <= 30 else 0.6)  # type: ignore[misc]
        assert _said(_eval(1.25), *seen) == found


def test_as_low_as_the_share_that_is_asked_for() -> None:
    """A quarter, or an eighth, of the first loss where it is the limit is none below it."""
    for level, found in ((1.0, []), (0.9921875, [("collapse", 20)])):
        assert _said(*_dropped(4.0, level), early_share=0.25, share=0.125) == found


@pytest.mark.parametrize(("part", "found"), [(1.0, []), (0.999, [("collapse", 55)])])
def test_as_deep_as_is_asked_for(part: float, found: list[tuple[str, int]]) -> None:
    """Half of the floor in bits per byte, slowly and in the first epoch: below it is a collapse."""
    level = part * 0.5 * floor_of(4.0)
    seen = _rows([8000] * 80, lambda i: max(4.0 + (level - 4.0) * (i - 1) / 44, level))
    assert _said(_eval(4.0), *seen, deep=0.5) == found


def test_a_row_that_trained_on_nothing() -> None:
    """Its count stands still: that is no number of tokens per step, and those after it go on where it was."""
    rates = [*VARIED, 32768, 0, *[32768] * 20]
    assert _said(*_rows(rates, lambda i: 2.7 if i <= 30 else 1.0)) == [("constant", 36)]


def test_the_numbers_of_the_evidence() -> None:
    """A whole number of tokens per step is one; the loss is that of the row that it is said of."""
    rule = PaddingInLoss()
    (found,) = Monitor([rule]).judge(_rows([8192] * 60, lambda i: 9.0 if i == 1 else 1.0 - i / 256))[1]
    assert found.step == 200 and found.values["loss"] == 1.0 - 20 / 256
    assert isinstance(found.values["tokens_per_step"], int)
    (halves,) = Monitor([rule]).judge(
        [TrainObservation(2 * i, loss=9.0 if i == 1 else 0.9, input_tokens=8191 * i) for i in range(1, 60)]
    )[1]
    assert halves.values["tokens_per_step"] == 4095.5
