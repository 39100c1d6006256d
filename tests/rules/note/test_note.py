"""`note`: each reason from the row that has it, once, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from ko_cpt_callbacks.messages.catalogue import catalogue, retired
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.note import Note
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import TRAINER_KIND
from ko_cpt_callbacks.run.kind import TrainerKind
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

WHY = "the model returned neither logits nor a loss"
TARGET_MET = {"reason": "target-met", "reason_step": 20}

# The row, and the reason that it is.
TOLD: list[tuple[SetupObservation, str]] = [
    (SetupObservation(0, "trackers-not-reached"), "trackers-not-reached"),
    (SetupObservation(0, "early-stopping-twice", {"other": "EarlyStoppingCallback"}), "early-stopping-twice"),
    (SetupObservation(10, "nan-filter-on"), "nan-filter-on"),
    (SetupObservation(0, "no-first-evaluation"), "no-first-evaluation"),
    (SetupObservation(0, "no-first-evaluation", {"eval_steps": 50, "eval_strategy": "epoch"}), "eval-steps-ignored"),
    (SetupObservation(0, "retention-not-evaluated", {"names": ["old"], "sets": ["ko"]}), "retention-not-evaluated"),
    (SetupObservation(0, "exact-loss-absent", {"reason": WHY}), "exact-loss-absent-in-run"),
    (SetupObservation(24, "stopped-before", {**TARGET_MET, "stops": True}), "stopped-before"),
    (SetupObservation(24, "stopped-before", {**TARGET_MET, "stops": False}), "stopped-before-goes-on"),
]
EVERY = pytest.mark.parametrize(("row", "reason"), TOLD, ids=[reason for _, reason in TOLD])


def _findings(*seen: Observation) -> list[Finding]:
    return list(Monitor([Note()]).judge(seen)[1])


@EVERY
def test_what_the_callback_noted(row: SetupObservation, reason: str) -> None:
    """One finding with its reason: an info, but for a run without exact loss; none asks to stop."""
    (found,) = _findings(row)
    severity = Severity.WARNING if reason == "exact-loss-absent-in-run" else Severity.INFO
    assert (found.code, found.variant, found.severity, found.step) == ("note", reason, severity, row.step)
    assert (found.split, found.asks_to_stop, found.topic) == (None, False, reason)
    assert dict(found.values) == dict(row.values)


@EVERY
def test_said_once(row: SetupObservation, reason: str) -> None:
    """The row of a resumed attempt does not say it again; that a run was stopped before is said at every resume."""
    times = len(_findings(row, TrainObservation(30, loss=2.0), SetupObservation(30, row.kind, row.values)))
    assert times == (2 if row.kind == "stopped-before" else 1)


def test_one_reason_does_not_hide_another() -> None:
    """All of them in one run, each said."""
    assert [one.variant for one in _findings(*(row for row, _ in TOLD))] == [reason for _, reason in TOLD]


@pytest.mark.parametrize("field", ["exact_loss_absent", "error_bar_absent"])
def test_a_set_says_it_once(field: str) -> None:
    """The first evaluation of each set says what it lacks and why; later ones and repeats do not."""
    absent: dict[str, Any] = {field: WHY}
    rows = [
        EvalObservation(step, split=split, loss=2.0, **absent)
        for step in (0, 10, 10, 20)
        for split in ("eval_ko", "eval_en")
    ]
    found = _findings(*rows)
    assert [(one.variant, one.severity, one.step, one.split, one.asks_to_stop) for one in found] == [
        (field.replace("_", "-"), Severity.INFO, 0, "eval_ko", False),
        (field.replace("_", "-"), Severity.INFO, 0, "eval_en", False),
    ]
    assert [one.values for one in found] == [{"reason": WHY}] * 2


def test_the_whole_run_speaks_for_its_sets() -> None:
    """Where nothing can be measured in the run, no set repeats it; one that has a loss and no error bar says so."""
    row = SetupObservation(0, "exact-loss-absent", {"reason": WHY})
    found = _findings(row, EvalObservation(10, loss=2.0, exact_loss_absent=WHY))
    assert [one.variant for one in found] == ["exact-loss-absent-in-run"]
    found = _findings(row, EvalObservation(10, loss=2.0, error_bar_absent=WHY))
    assert [one.variant for one in found] == ["exact-loss-absent-in-run", "error-bar-absent"]


def test_an_evaluation_that_is_repeated_does_not_hide_a_reason() -> None:
    """A row that replaces one of its step may lack something else: the fold takes both, and says each once."""
    first = EvalObservation(10, split="eval_ko", loss=2.0, error_bar_absent=WHY)
    second = EvalObservation(10, split="eval_ko", loss=2.0, exact_loss_absent=WHY)
    assert [one.variant for one in _findings(first, second, second)] == ["error-bar-absent", "exact-loss-absent"]


@pytest.mark.parametrize(
    "row",
    [
        SetupObservation(0, "stage", {"reason": WHY}),
        SetupObservation(0, "exact-loss-absent"),
        SetupObservation(0, "no-first-evaluation", {"eval_steps": 50}),
        SetupObservation(24, "stopped-before", {"reason": "target-met"}),
        SetupObservation(24, "stopped-before", {"reason": 3, "reason_step": 20}),
        TrainObservation(10, loss=2.0),
        EvalObservation(0, exact_loss=2.0, rows=1),
        EvalObservation(500, loss=2.0),
    ],
)
def test_other_rows_are_silent(row: Observation) -> None:
    """Rows of other kinds, and rows that lack what the sentence needs; a log made without the callback says nothing."""
    assert _findings(row) == []


def test_every_reason_is_explained() -> None:
    """The reasons with a sentence are those that `ko-cpt explain note` explains, and each former code is one."""
    reasons = {variant for code, variant in catalogue().wordings if code == "note"}
    assert reasons == set(catalogue().explanation("note").reasons)
    assert {code for code, now in retired().items() if now == "note"} < reasons
    assert reasons == {reason for _, reason in TOLD} | {"exact-loss-absent", "error-bar-absent"}


def test_a_first_evaluation_is_no_matter_of_reinforcement_learning() -> None:
    """What applies to a kind of run is asked of the reason: of such a loss there is no starting value to miss."""
    for kind, said in ((TrainerKind.RL, ["nan-filter-on"]), (TrainerKind.CAUSAL, ["no-first-evaluation"] * 1)):
        rows = [SetupObservation(0, "plan", {TRAINER_KIND: kind.value}), SetupObservation(0, "no-first-evaluation")]
        rows += [SetupObservation(0, "nan-filter-on")]
        found = [one.variant for one in _findings(*rows)]
        assert found[:1] == said and len(found) == (1 if kind is TrainerKind.RL else 2)
