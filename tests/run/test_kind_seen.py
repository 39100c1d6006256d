"""What a run's rows say of its kind, and which findings are said of it."""

from __future__ import annotations

import math

import pytest

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.fold import NOTHING_SEEN, KindSeen
from ko_cpt_callbacks.run.kind import TrainerKind
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.watch.target import parse_targets


def seen_of(*rows: Observation) -> KindSeen:
    """What is known after these rows."""
    known = NOTHING_SEEN
    for row in rows:
        known = known.add(row)
    return known


def told(kind: str, trained_on: str | None = None) -> SetupObservation:
    """What the callback notes."""
    return SetupObservation(0, "plan", {"planned_steps": 9, "trainer_kind": kind, "trained_on": trained_on})


def test_what_the_trainer_said_stands() -> None:
    """A log's keys say the kind where the callback did not; where it did, they change nothing."""
    row = TrainObservation(1, loss=0.5, kind=TrainerKind.PREFERENCE)
    assert seen_of(row).kind is TrainerKind.PREFERENCE
    assert seen_of(told("causal"), row).kind is TrainerKind.CAUSAL
    assert seen_of(told("a later version's")).kind is TrainerKind.OTHER
    assert seen_of(SetupObservation(0, "plan", {"planned_steps": 9})) == NOTHING_SEEN


@pytest.mark.parametrize(
    ("losses", "kind"),
    [
        ([0.0121, 0.0045, 0.0224, 0.0648, 0.0065, 0.0012, 0.0005, 0.0014, 0.0012, 0.0003], "rl"),
        ([2.0, -0.1], "other"),
        ([0.033] * 12, None),
        ([0.033, *[0.0] * 99], None),
        ([2.5, *[0.01, 0.2] * 6], None),
        ([0.05 * 0.8**i for i in range(12)], None),
        ([math.nan] * 12, None),
    ],
)
def test_what_numbers_say(losses: list[float], kind: str | None) -> None:
    """Around zero from the first row on and jumping: no language model. Below zero: no cross-entropy."""
    assert seen_of(*(TrainObservation(i, loss=loss) for i, loss in enumerate(losses))).kind == kind


def _finding(code: str, split: str = "train", **values: object) -> Finding:
    return Finding(code, Severity.INFO, 1, split, values)  # type: ignore[arg-type]


def test_a_training_loss_that_is_another_quantity() -> None:
    """Its level is not judged as a language model's; an exact loss measured beside it is."""
    known = seen_of(told("causal", "loss_type dft"))
    assert known.language
    assert not known.train_language
    for code in ("below-floor", "memorizing", "gap-widening"):
        assert seen_of(told("causal")).lets(_finding(code))
        assert not known.lets(_finding(code))
    assert known.lets(_finding("below-floor", "eval", metric="exact_loss"))
    assert not known.lets(_finding("below-floor", "eval", metric="loss"))
    assert known.lets(_finding("diverged"))


def test_a_preference_log_has_no_language_words() -> None:
    """A DPO log far below every floor, and a target on a perplexity: no floor, no perplexity, no verdict."""
    rows = [{"step": 10 * i, "loss": 0.69 / i, "rewards/margins": 0.1 * i, "rewards/chosen": 0.1} for i in range(1, 40)]
    rows.append({"step": 390, "eval_loss": 0.02, "eval_rewards/margins": 2.0})
    rows.append({"step": 390, "train_loss": 0.1, "train_runtime": 9.0})
    state, found = Monitor(targets=parse_targets(["ppl<20", "loss<0.5"]), task="cpt").judge(observations_of(rows))
    assert [(one.code, one.variant) for one in found] == [
        ("target-met", "point"), ("target-inconclusive", "substitute-unsaid"),
    ]  # fmt: skip
    summary = state.summary()
    assert summary.splits["eval"].last.ppl is None
    assert summary.splits["eval"].last.value == 0.02


def test_perplexities_of_a_summary() -> None:
    """Of a language model's loss: the exact one's always, the Trainer's only where nothing says that it is another."""

    def ppl(kind: str, trained_on: str | None, **losses: float) -> float | None:
        rows = [told(kind, trained_on), EvalObservation(1, **losses)]  # type: ignore[arg-type]
        return Monitor().judge(rows)[0].summary().splits["eval"].last.ppl

    assert ppl("causal", None, loss=1.0) == pytest.approx(math.e)
    assert ppl("causal", "label smoothing 0.1", loss=1.0) is None
    assert ppl("causal", "label smoothing 0.1", loss=1.0, exact_loss=2.0) == pytest.approx(math.e**2)
    assert ppl("preference", None, loss=1.0) is None
