"""`prompt-in-loss`: in a fine-tuning every token of the first batch is labelled."""

from __future__ import annotations

from typing import Any

import pytest
from messages.shown import shown

from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.rules.setup.check import PromptInLoss
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT
from ko_cpt_callbacks.watch.spec import WatchSpec

BATCH: dict[str, Any] = {
    "split": "train", "masked_labels": 0, "pad_run_rows": 0, "rows": 8, "tokens": 900, "unlabelled": 0,
}  # fmt: skip
KIND = "padding-in-loss"


def test_all_text_labelled_is_a_warning_with_task_sft() -> None:
    """The first batch's row makes one finding; the first batch of a resume makes none."""
    rule = PromptInLoss("sft")
    seen = SetupObservation(1, KIND, BATCH)
    state, (found,) = rule.step(rule.initial(), seen, SILENT)
    assert (found.severity, found.step, found.split) == (Severity.WARNING, 1, "train")
    assert shown(found) == ("", {"rows": 8, "tokens": 900})
    assert rule.step(state, seen, SILENT) == (state, ())


@pytest.mark.parametrize("task", ["cpt", "other"])
def test_other_tasks_are_silent(task: str) -> None:
    """In continued pretraining every token is meant to be learnt."""
    (rule,) = rules_for(WatchSpec(task=task, rules=("prompt-in-loss",)))
    assert rule.step((), SetupObservation(1, KIND, BATCH), SILENT) == ((), ())


@pytest.mark.parametrize(
    "change", [{"unlabelled": 1}, {"unlabelled": None}, {"rows": 0}, {"tokens": 0}, {"split": "eval"}]
)
def test_other_batches_are_silent(change: dict[str, object]) -> None:
    """A masked token, a row from before this was counted, an empty batch, an evaluation."""
    rule = PromptInLoss("sft")
    assert rule.step((), SetupObservation(1, KIND, {**BATCH, **change}), SILENT) == ((), ())
    assert rule.step((), SetupObservation(1, "stage", BATCH), SILENT) == ((), ())
