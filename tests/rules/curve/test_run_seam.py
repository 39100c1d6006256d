"""run-seam: counters and the learning rate tell that two runs were joined; schedules and announced resumes are none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import pytest
from messages.shown import shown
from run.curve import cosine, falling, findings, rows

from ko_cpt_callbacks.rules.curve.run_seam import RunSeam
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, SetupObservation, TrainObservation

RULE = RunSeam()
PACE = [10 * (16_000 + 97 * (i * i % 31)) for i in range(100)]
COUNT = list(accumulate(PACE))
AGAIN = COUNT[:50] + list(accumulate(PACE[:50]))
"""The token counter of a run that counts anew after 50 rows."""


def _said(seen: Sequence[Observation]) -> list[tuple[str, int | None]]:
    return [(one.severity.value, one.step) for one in findings(RULE, seen)]


def _changed(seen: Sequence[Observation], first: int, **changes: float) -> list[Observation]:
    """From row ``first`` on, numbers shifted."""
    return [
        replace(one, **{name: getattr(one, name) + by for name, by in changes.items()}) if i >= first else one
        for i, one in enumerate(seen)
        if isinstance(one, TrainObservation)
    ]


def test_steps_that_go_back() -> None:
    """A second run from step 10 on: a warning in its first row."""
    (found,) = findings(RULE, [*rows(falling(50)), *rows(falling(50))])
    assert (found.severity, found.step, found.split, found.variant) == (Severity.WARNING, 10, "train", "joined")
    assert not found.asks_to_stop
    assert found.values == {"signs": ["step-back"], "step_before": 500, "step_after": 10}
    assert shown(found) == ("joined", {"signs": ["step-back"]})


def test_epochs_that_go_back() -> None:
    """Alone enough; a rounding of two decimals is not."""
    assert _said(_changed(rows(falling(100), epochs=2.0), 50, epoch=-1.0)) == [("warning", 510)]
    assert _said(_changed(rows(falling(100), epochs=2.0), 50, epoch=-0.03)) == []


def test_a_learning_rate_that_warms_up_again() -> None:
    """Down to nothing and up again row by row: within three rows of the first rise."""
    rates = cosine(50) + cosine(50, warmup=0.3)
    (found,) = findings(RULE, rows(falling(100), rates=rates))
    assert (found.severity.value, found.values["signs"]) == ("warning", ["rewarm"])
    assert 510 <= (found.step or 0) <= 540
    assert found.values["rate_before"] < found.values["rate_after"]  # type: ignore[operator]


def test_two_weak_signs() -> None:
    """The counter starts again, and the learning rate breaks upwards, drops, or the epoch jumps in the same row."""
    counted = rows(falling(100), tokens=AGAIN, rates=[1e-4 - 9e-7 * i for i in range(100)], epochs=1.0)
    assert [one.values["signs"] for one in findings(RULE, _changed(counted, 50, learning_rate=4e-5))] == [
        ["tokens-back", "rate-break"]
    ]
    assert [one.values["signs"] for one in findings(RULE, _changed(counted, 50, learning_rate=-2e-5))] == [
        ["tokens-back", "rate-drop"]
    ]
    assert {tuple(one.values["signs"]) for one in findings(RULE, _changed(counted, 50, epoch=4.0))} == {  # type: ignore[arg-type]
        ("epoch-jump", "tokens-back")
    }


def test_the_counter_alone_is_a_note() -> None:
    """TRL counts tokens anew at every resume: info."""
    (found,) = findings(RULE, rows(falling(100), tokens=AGAIN, rates=cosine(100), epochs=1.0))
    assert (found.severity, found.step, found.variant) == (Severity.INFO, 510, "note")
    assert shown(found) == ("note", {"signs": ["tokens-back"]})


@pytest.mark.parametrize(("late", "joined"), [(6, True), (7, False)])
def test_within_how_many_rows_signs_belong_together(late: int, joined: bool) -> None:
    """Six rows after the first of them."""
    rates = cosine(50) + [1e-4] * 50
    tokens = COUNT[: 50 + late] + list(accumulate(PACE[: 50 - late]))
    found = findings(RULE, rows(falling(100), rates=rates, tokens=tokens))
    assert ("joined" in {one.variant for one in found}) is joined


def test_counters_that_jump() -> None:
    """Ahead by many rows' worth: alone a note, with the epoch a warning."""
    jumped = _changed(rows(falling(100), tokens=COUNT, epochs=1.0), 50, input_tokens=10_000_000)
    assert _said(jumped) == [("info", 510)]
    assert _said(_changed(jumped, 50, epoch=3.0)) == [("warning", 510)]


def test_a_note_becomes_a_warning() -> None:
    """The rate is back at once (a note), and two rows later the counter starts again: within six rows they belong
    together, later they do not."""
    rates = cosine(50) + [1e-4] * 50
    for late, severities in ((3, ["info", "warning"]), (20, ["info", "info"])):
        tokens = COUNT[: 50 + late] + list(accumulate(PACE[: 50 - late]))
        found = findings(RULE, rows(falling(100), rates=rates, tokens=tokens))
        assert [one.severity.value for one in found] == severities


@pytest.mark.parametrize("cycles", [3, 4, 5])
def test_a_scheduler_with_restarts(cycles: int) -> None:
    """The first restart is a note, the next at the same distance is known; told of, none is said."""
    rates = cosine(60 // cycles * 5, warmup=1e-9) * cycles
    seen = rows(falling(len(rates)), rates=rates)
    assert [one.severity for one in findings(RULE, seen)] == [Severity.INFO]
    assert findings(RULE, [SetupObservation(0, "plan", {"restarts": True}), *seen]) == []


def test_a_cyclic_learning_rate_that_was_told_of() -> None:
    """Up and down, row by row, as planned."""
    rates = [1e-4 * (1 + math.sin(i / 5)) for i in range(100)]
    assert findings(RULE, [SetupObservation(0, "plan", {"restarts": True}), *rows(falling(100), rates=rates)]) == []


EMBEDDING = {"input": "all", "output": "all", "layers": "none", "adapter": "none"}
LORA = {"input": "none", "output": "none", "layers": "all", "adapter": "lora"}


def _joined() -> list[Observation]:
    """Another fifty rows that warm up and count tokens and epochs anew."""
    seen = rows(falling(100), tokens=AGAIN, rates=cosine(50) + cosine(50, warmup=0.1), epochs=2.0)
    return _changed(seen, 50, epoch=-1.0)


def test_a_planned_hand_over() -> None:
    """Announced by a stage row in which other parts of the model move: the next stage warms up, counts tokens and
    epochs anew, and is no seam."""
    seen, first = _joined(), SetupObservation(0, "stage", EMBEDDING)
    assert [one.severity for one in findings(RULE, seen)][-1] == Severity.WARNING
    assert findings(RULE, [first, *seen[:50], SetupObservation(500, "stage", LORA), *seen[50:]]) == []


@pytest.mark.parametrize(
    "told", [[("plan", {})], [("stage", EMBEDDING)], [("plan", {"planned_steps": 1000}), ("stage", EMBEDDING)]]
)
def test_a_resume_hides_nothing(told: list[tuple[str, dict[str, object]]]) -> None:
    """The rows that the callback writes at every resume announce no other run: an epoch that goes back is the seam that
    the Trainer's own log shows too."""
    seen, first = _joined(), SetupObservation(0, "stage", EMBEDDING)
    found = findings(RULE, [first, *seen[:50], *(SetupObservation(500, *one) for one in told), *seen[50:]])
    assert (found[0].severity, found[0].step) == (Severity.WARNING, 510)
    assert "epoch-back" in found[0].values["signs"]  # type: ignore[operator]


def test_a_resume_with_another_length() -> None:
    """The token counter starts again, as TRL's does, and the learning rate has another place in its schedule: nothing
    is said of a resume that was told of."""
    rates = [1e-4 * (1 - (i + 1) / 60) for i in range(50)] + [1e-4 * (1 - (50 + i) / 150) for i in range(50)]
    seen = rows(falling(100), tokens=AGAIN, rates=rates, epochs=1.0)
    assert [one.severity for one in findings(RULE, seen)] == [Severity.WARNING]
    assert findings(RULE, [*seen[:50], SetupObservation(500, "plan", {"planned_steps": 1500}), *seen[50:]]) == []


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "steps", "wsd", "inverse root", "bare"])
def test_ordinary_schedules(name: str) -> None:
    """None of them has a sign."""
    at = [(i + 1) / 100 for i in range(100)]
    rates: list[float | None] = {
        "cosine": cosine(100), "linear": [1e-4 * min(a / 0.1, 1 - a) for a in at], "constant": [1e-4] * 100,
        "steps": [1e-4 if a < 0.5 else 1e-5 for a in at], "wsd": [1e-4 * min(a / 0.1, 1, (1 - a) / 0.2) for a in at],
        "inverse root": [1e-4 * min(a / 0.05, math.sqrt(0.05 / a)) for a in at], "bare": [None] * 100,
    }[name]  # fmt: skip
    assert findings(RULE, rows(falling(100), rates=rates, tokens=COUNT, epochs=3.0)) == []


def test_logging_that_becomes_coarser() -> None:
    """Ten times the steps between rows, and ten times the tokens and epochs: no jump."""
    fine = rows(falling(50), tokens=COUNT[:50], epochs=0.5)
    coarse = [
        TrainObservation(500 + 100 * i, loss=2.5, epoch=0.5 + 0.1 * i, input_tokens=COUNT[49] + 1_600_000 * i)
        for i in range(1, 20)
    ]
    assert findings(RULE, [*fine, *coarse]) == []


def test_numbers_that_are_none() -> None:
    """NaN in rates and epochs, missing fields, and a row without any, are no sign."""
    seen = rows(falling(100), rates=cosine(100), epochs=1.0, tokens=COUNT)
    for i in range(5, 100, 7):
        one = seen[i]
        assert isinstance(one, TrainObservation)
        seen[i] = replace(one, learning_rate=(math.nan, math.inf, None)[i % 3], epoch=(None, math.nan)[i % 2])
    assert findings(RULE, seen) == []
    assert findings(RULE, [*seen[:50], TrainObservation(501), *seen[50:]]) == []


def test_repeats_count_once() -> None:
    """Every row twice says the same; a third run is another seam."""
    seen = rows(falling(100), tokens=AGAIN)
    twice = [one for row in seen for one in (row, row)]
    assert findings(RULE, twice) == findings(RULE, seen)
    joined: list[Finding] = findings(RULE, [*seen, *seen])
    assert [one.severity.value for one in joined] == ["info", "warning", "info"]


def test_rows_grouped_by_length_are_one_run() -> None:
    """Tokens per step fall by a factor of thirty within a mega-batch, and are back with the next: no counter jumped."""
    losses = falling(200, 0.05, extra=lambda i: 0.6 * (0.5 - (i % 25) / 25))
    count, tokens = 0, []
    for i in range(200):
        count += int(16_000 * math.exp(-(i % 25) / 7))
        tokens.append(count)
    assert findings(RunSeam(), rows(losses, tokens=tokens, every=1)) == []


def test_the_same_sign_again_is_no_second_one() -> None:
    """A counter that begins anew twice within six rows is one note; after them it is another note."""
    for rows_between, said in ((3, ["info"]), (6, ["info"]), (8, ["info", "info"])):
        counts = (*range(1, 51), *range(1, rows_between + 1), *range(1, 41))
        seen = rows([2.5] * len(counts), tokens=[1000 * i for i in counts])
        assert [severity for severity, _ in _said(seen)] == said


def test_what_comes_after_the_seam_was_said() -> None:
    """Belongs to it: a counter that begins anew two rows later is no other seam, nine rows later it is a note."""
    for late, said in ((2, ["warning"]), (9, ["warning", "info"])):
        counts = (*range(1, 51 + late), *range(1, 51 - late))
        seen = _changed(rows([2.5] * 100, tokens=[1000 * i for i in counts], epochs=2.0), 50, epoch=-1.0)
        assert [severity for severity, _ in _said(seen)] == said
