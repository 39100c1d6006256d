"""not-comparable: once, with the reason and what would help."""

from __future__ import annotations

from compare.made_baseline import own, published, value
from messages.shown import shown
from rules.baseline.test_baseline_ahead import evaluation

from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage
from ko_cpt_callbacks.rules.baseline.comparison import NotComparable
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.signal.signals import SILENT


def findings(*seen: Observation, baseline: Baseline | None = None, stage: str = "auto") -> list[Finding]:
    """What the rule says of these rows, the end of the history included."""
    rule = NotComparable(published() if baseline is None else baseline, stage)
    return list(Monitor([rule]).judge(seen)[1])


def reasons(found: Finding) -> list[str]:
    """Codes of its reasons."""
    return [reason["code"] for reason in found.values["reasons"]]  # type: ignore[index, union-attr, call-overload]


def test_no_bytes() -> None:
    """At the first evaluation without bits per byte: why, and what to do; not again."""
    rows = [EvalObservation(step, split="eval_ko", loss=3.0) for step in (10, 20)]
    (found,) = findings(*rows, EndObservation(20))
    assert (found.code, found.severity, found.step, found.split) == ("not-comparable", Severity.INFO, 10, "eval_ko")
    assert shown(found) == (
        "",
        {
            "baseline": "published", "reasons": [{"code": "no-bytes"}], "would_help": [{"code": "count-bytes"}],
        },
    )  # fmt: skip


def test_a_baseline_without_figures() -> None:
    """Said at the first row that is not about the set-up, and never again: no evaluation can change it."""
    silent = Baseline("silent", "No loss", "continued pretraining", "V", stages=(BaselineStage("whole"),))
    rows = [SetupObservation(0, "stage", {}), TrainObservation(10, loss=3.0), evaluation(10, 0.5), EndObservation(20)]
    (found,) = findings(*rows, baseline=silent)
    assert (found.step, found.split, reasons(found)) == (10, None, ["no-figures"])
    assert shown(found) == (
        "baseline",
        {
            "baseline": "silent", "reasons": [{"code": "no-figures", "baseline": "silent"}],
            "would_help": [{"code": "another-reference"}],
        },
    )  # fmt: skip


def test_a_baseline_that_is_no_reference() -> None:
    """Instruction tuning, and a stage with another objective."""
    tuned = Baseline("dag", "Tuned", "instruction tuning", "UNCONFIRMED", why_not="instruction tuning only.")
    (found,) = findings(TrainObservation(10, loss=3.0), baseline=tuned)
    assert found.values["reasons"] == [
        {"code": "not-a-reference", "baseline": "dag", "kind": "instruction tuning", "why": "instruction tuning only"}
    ]
    (found,) = findings(evaluation(10, 0.9), stage="sft")
    assert reasons(found) == ["stage-not-a-reference"]
    # Of the stage that was asked for no evaluation is needed to tell.
    (found,) = findings(TrainObservation(5, loss=3.0), evaluation(10, 0.9), stage="sft")
    assert (found.step, found.variant, reasons(found)) == (5, "baseline", ["stage-not-a-reference"])


def test_a_run_that_is_never_evaluated() -> None:
    """At its end: a training loss is compared with nothing. Where nothing was trained, nothing is said."""
    for rows in ([TrainObservation(10, loss=3.0), EndObservation(10)], [TrainObservation(10, loss=3.0)]):
        (found,) = findings(*rows)
        assert (found.step, reasons(found)) == (10, ["no-evaluation"])
    assert findings() == []
    assert findings(EndObservation(10)) == []


def test_comparable_runs_are_silent() -> None:
    """Exact, awaited or indicative: no word; nor of retention sets, nor without a baseline."""
    assert findings(TrainObservation(1, loss=3.0), evaluation(10, 0.9), EndObservation(10)) == []
    assert findings(evaluation(10, 0.9, fingerprint="utf8-00aa"), baseline=own()) == []
    retained = EvalObservation(10, split="eval_en", loss=3.0)
    assert findings(evaluation(10, 0.9), retained, EndObservation(10)) == []
    rule = NotComparable()
    assert rule.step(rule.initial(), EvalObservation(10, loss=3.0), SILENT) == (rule.initial(), ())
    assert rule.close(rule.initial(), SILENT) == ()


def test_an_evaluation_that_waits_for_its_difference() -> None:
    """Without bits per byte it is judged when no difference comes, at the latest where the history ends."""
    only_loss = Baseline(
        "own", "My run", "continued pretraining", "OWN", tokenizer_hash="abc",
        stages=(BaselineStage("whole", values=(
            value("loss", 2.8, set="eval_ko", fingerprint="ids-1", rows_file="own/a.npz", origin="measured"),
        )),),
    )  # fmt: skip
    seen = EvalObservation(10, split="eval_ko", exact_loss=2.9, exact_loss_se=0.01, fingerprint="ids-1")
    (found,) = findings(seen, baseline=only_loss)
    assert (found.step, found.split, reasons(found)) == (10, "eval_ko", ["no-bytes", "reference-without-bytes"])
