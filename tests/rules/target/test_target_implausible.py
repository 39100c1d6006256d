"""target-implausible: levels that no published Korean run comes near, and levels that say nothing."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.core.target import PRESETS, parse_targets
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.target_implausible import TargetImplausible


def _findings(target: str, *seen: Observation, task: str = "cpt") -> list[Finding]:
    rule = TargetImplausible(parse_targets([target]), task)
    return list(Monitor([rule]).judge(seen)[1])


ROW = TrainObservation(10, loss=3.0)


def test_the_seeds_mistake() -> None:
    """Perplexity < 3: a loss was meant."""
    (found,) = _findings("ppl<3@end", ROW, ROW)
    assert (found.code, found.severity, found.step, found.split) == (
        "target-implausible", Severity.WARNING, None, "eval",
    )  # fmt: skip
    assert not found.asks_to_stop
    assert found.message() == (
        "Target eval_ppl<3.0@end is implausible: no published Korean run comes near perplexity 3.00 (lowest: 4.33), "
        "and a run that gets there has most likely padding in its loss. Did you mean loss < 3.0, perplexity < 20.1?"
    )


@pytest.mark.parametrize(
    ("target", "variant"),
    [
        ("ppl<4", "ppl"),
        ("ppl<1.2", "ppl-low"),
        ("exact_loss<1.3", "loss-bits"),
        ("loss<0.4", "loss"),
        ("bits_per_byte<0.4", "bits"),
        ("loss<20", "trivial-ppl"),
        ("ppl<1e6", "trivial"),
    ],
)
def test_found_without_any_row(target: str, variant: str) -> None:
    """Also where the history is empty; what may have been meant depends on the number."""
    (found,) = _findings(target)
    assert found.variant == variant
    assert str(parse_targets([target])[0]) in found.message()


@pytest.mark.parametrize(
    "target",
    [*map(str, PRESETS.values()), "ppl<5.23", "exact_loss<1.466", "bits_per_byte<0.519", "ppl<250000", "loss<12"],
)
def test_what_published_runs_came_near_is_silent(target: str) -> None:
    """The presets, the lowest published figures, and lax targets."""
    assert _findings(target, ROW) == []


@pytest.mark.parametrize("target", ["loss<0.6", "exact_loss<0.01", "ppl<3", "bits_per_byte<0.1", "loss<-90%"])
def test_the_floor_is_that_of_continued_pretraining(target: str) -> None:
    """Of anything else there is no lowest published value; what a guess meets says nothing there too."""
    rows = [ROW, EvalObservation(10, exact_loss=3.0, loss=3.0)]
    assert len(_findings(target, *rows)) == 1
    assert _findings(target, *rows, task="other") == []
    assert len(_findings("loss<20", ROW, task="other")) == 1


def test_fine_tuning_may_go_lower() -> None:
    """Only what is near zero is too low there."""
    assert _findings("ppl<3", ROW, task="sft") == []
    assert len(_findings("loss<0.04", ROW, task="sft")) == 1
    assert len(_findings("loss<20", ROW, task="sft")) == 1


def test_a_relative_target_is_looked_at_with_the_first_evaluation() -> None:
    """64 % lower is nothing of the kind from 8.55, and implausible from 2.0; said once."""
    assert _findings("exact_loss<-64%", ROW, EvalObservation(0, exact_loss=8.55)) == []
    rows = [ROW, EvalObservation(0, split="eval_x", exact_loss=1.0), EvalObservation(0)]
    rows.append(EvalObservation(10, exact_loss=2.0))
    (found,) = _findings("exact_loss<-64%", *rows, EvalObservation(20, exact_loss=0.1))
    assert (found.step, found.variant) == (10, "relative")
    assert found.values["level"] == pytest.approx(0.72)
    (found,) = _findings("ppl<-90%", EvalObservation(0, exact_loss=2.5))
    assert found.values["level"] == pytest.approx(2.5 + math.log(0.1))
