"""Targets: their text, their mistakes, and a table of histories with what becomes of the target in each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from compare.made_baseline import LN2, published, value

from ko_cpt_callbacks.compare import registry
from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage
from ko_cpt_callbacks.compare.reference import target_from_baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import PRESETS, Target, parse_target, parse_targets
from ko_cpt_callbacks.watch.verdict import Outcome

NAN, INF = math.nan, math.inf
Z = 1.959963984540054
LN20 = math.log(20.0)


# ---- from a baseline


def test_from_a_baseline() -> None:
    """Bits per byte below the sure end of the range: its low end less the rounding, cut to four decimals."""
    found = target_from_baseline(published(), stage="lora", split="eval_ko", by="step:500", confirm=2)
    low = 2.8064 / LN2 / 4.860 - 0.005
    assert (found.metric, found.split, found.by, found.confirm) == ("bits_per_byte", "eval_ko", "step:500", 2)
    assert 0.0 <= low - found.below < 1e-4
    assert target_from_baseline(published()) == Target("bits_per_byte", found.below)
    assert target_from_baseline(published(), stage="embedding").below > found.below
    assert parse_target(str(found)) == found


def test_from_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is the id of a baseline; what find_baseline refuses is refused."""
    asked = []

    def find(name: str) -> Baseline:
        asked.append(name)
        return published()

    monkeypatch.setattr(registry, "find_baseline", find)
    assert target_from_baseline("redwhale") == target_from_baseline(published())
    assert asked == ["redwhale"]


@pytest.mark.parametrize(
    ("baseline", "stage", "reason"),
    [
        (published(), "sft", "had other data and another objective"),
        (Baseline("eeve", "EEVE", "continued pretraining", "S"), None, "reports no loss"),
        (Baseline("dag", "DaG", "instruction tuning", "S", why_not="instruction tuning."), None, "no reference for"),
        (
            Baseline("run", "R", "from scratch", "V", stages=(BaselineStage("whole", values=(value("loss", 2.0),)),)),
            None, "has no bits per byte",
        ),
        (
            Baseline("log", "L", "from scratch", "V",
                     stages=(BaselineStage("whole", values=(value("bits_per_byte", 0.5, "train"),)),)),
            None, "a training loss only",
        ),
    ],
)  # fmt: skip
def test_a_baseline_that_gives_no_target(baseline: Baseline, stage: str | None, reason: str) -> None:
    """Refused with the reason, in five parts: it never falls back to another unit."""
    with pytest.raises(ConfigurationError) as error:
        target_from_baseline(baseline, stage=stage)
    said = str(error.value)
    assert said.startswith(f"target from baseline '{baseline.id}': found no figure that a run could be held to: ")
    assert reason in said
    assert "expected bits per byte of held-out text; name another baseline" in said


# ---- text form


@pytest.mark.parametrize(
    ("text", "target", "canonical"),
    [
        ("eval_exact_loss<3.0@end", Target("exact_loss", 3.0), "eval_exact_loss<3.0@end"),
        ("ppl<20", Target("ppl", 20.0), "eval_ppl<20.0@end"),
        ("loss<3", Target("loss", 3.0), "eval_loss<3.0@end"),
        ("eval_loss<3", Target("loss", 3.0), "eval_loss<3.0@end"),
        ("eval_ko_ppl<20@step:2000", Target("ppl", 20.0, "eval_ko", "step:2000"), "eval_ko_ppl<20.0@step:2000"),
        (
            "bits_per_byte<0.9@tokens:1e9",
            Target("bits_per_byte", 0.9, by="tokens:1000000000"),
            "eval_bits_per_byte<0.9@tokens:1000000000",
        ),
        ("test_exact_loss < 2.5 @ step:2_000", Target("exact_loss", 2.5, "test", "step:2000"), None),
        ("eval_exact_loss<-30%@end", Target("exact_loss", -0.3, relative=True), "eval_exact_loss<-30%@end"),
        ("eval_ppl<-12.5%", Target("ppl", -0.125, relative=True), "eval_ppl<-12.5%@end"),
        (
            "loss<2.5,confirm=3,confidence=0.99",
            Target("loss", 2.5, confirm=3, confidence=0.99),
            "eval_loss<2.5@end,confirm=3,confidence=0.99",
        ),
        ("korean-loss-3", Target("exact_loss", 3.0), "eval_exact_loss<3.0@end"),
        ("korean-ppl-30", Target("ppl", 30.0), "eval_ppl<30.0@end"),
    ],
)
def test_text_form(text: str, target: Target, canonical: str | None) -> None:
    """A text gives this target, and the target's own text gives it back."""
    found = parse_target(text)
    assert found == target
    assert parse_target(str(found)) == found
    if canonical is not None:
        assert str(found) == canonical


def test_presets() -> None:
    """The presets are targets, and read back from their text."""
    assert set(PRESETS) == {"korean-loss-3", "korean-ppl-30"}
    assert parse_targets(["korean-loss-3", Target("ppl", 20.0)]) == (PRESETS["korean-loss-3"], Target("ppl", 20.0))
    assert parse_targets("korean-ppl-30") == (PRESETS["korean-ppl-30"],)
    assert parse_targets(()) == ()


@pytest.mark.parametrize(
    ("text", "found", "near"),
    [
        ("perplexity<3", "metric 'perplexity'", "'ppl<3'"),
        ("eval_ko_bpb<0.9@end", "metric 'eval_ko_bpb'", "'eval_ko_bits_per_byte<0.9@end'"),
        ("eval_exact_los<3", "metric 'eval_exact_los'", "'eval_exact_loss<3'"),
        ("accuracy<3", "metric 'accuracy'", None),
        ("ppl>3", "'>'", "'ppl<3'"),
        ("ppl<=3@end", "'<='", "'ppl<3@end'"),
        ("loss<abc", "bound 'abc'", "'eval_exact_loss<3.0@end'"),
        ("loss<nan", "bound nan", None),
        ("loss<inf", "bound inf", None),
        ("loss<0", "bound 0.0", None),
        ("ppl<1", "bound 1.0", None),
        ("loss<-0.3", "bound -0.3", "'eval_loss<-30%'"),
        ("loss<30%", "a change of 0.3", "'eval_loss<-30%'"),
        ("loss<-100%", "a change of -1", None),
        ("loss<3@steps:20", "deadline 'steps:20'", "'@step:20'"),
        ("loss<3@2000", "deadline '2000'", "'@step:2000'"),
        ("loss<3@step:0", "deadline 'step:0'", "'@step:1000'"),
        ("loss<3@step:1.5", "deadline 'step:1.5'", "'@step:1000'"),
        ("loss<3@tokens:", "deadline 'tokens:'", "'@tokens:1000'"),
        ("loss<3@ende", "deadline 'ende'", "'@end'"),
        ("loss<3@end:5", "deadline 'end:5'", "'@end'"),
        ("loss<3,confirm=0", "confirm=0", None),
        ("loss<3,confrm=2", "option 'confrm=2'", "'confirm='"),
        ("loss<3,confirm=1,confirm=2", "option 'confirm=2'", "'confirm='"),
        ("loss<3,confidence=95", "confidence=95.0", "'confidence=0.95'"),
        ("loss<3,confidence=1", "confidence=1.0", None),
        ("train_loss<3", "the training rows", "'eval_loss'"),
        ("korean-los", "no target", "'korean-loss-3'"),
        ("eval_exact_loss", "no target", "'eval_exact_loss<3.0@end'"),
        ("", "no target", "'eval_exact_loss<3.0@end'"),
    ],
)
def test_mistakes(text: str, found: str, near: str | None) -> None:
    """Every mistake names where, what was found, what is expected, the fix, and what was meant; on one line."""
    with pytest.raises(ConfigurationError) as caught:
        parse_target(text)
    said = str(caught.value)
    assert said.startswith("target ")
    assert f"found {found}" in said or (found in said and "found a text" in said)
    assert ", expected " in said
    assert "; " in said
    assert "\n" not in said
    assert said.endswith(f"Did you mean {near}?") if near else "Did you mean" not in said


def test_mistakes_outside_the_text() -> None:
    """A target twice, a number for a text, a set that is no name."""
    with pytest.raises(ConfigurationError, match="same target twice"):
        parse_targets(["ppl<20", "eval_ppl<20.0@end"])
    with pytest.raises(ConfigurationError, match="found int"):
        parse_target(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="set 'a b'"):
        Target("loss", 3.0, split="a b")
    with pytest.raises(ConfigurationError, match="confirm=True"):
        Target("loss", 3.0, confirm=True)
    with pytest.raises(ConfigurationError, match="found rules and targets"):
        Monitor(rules_for(), targets=[PRESETS["korean-loss-3"]])
    with pytest.raises(ConfigurationError, match="task: found 'pretrain'"):
        rules_for(WatchSpec(task="pretrain"))
    with pytest.raises(ConfigurationError, match="rules: found nope"):
        rules_for(WatchSpec(rules=("nope",)))


# ---- verdicts


def at(step: int, exact: float | None, se: float | None = None, split: str = "eval", **more: object) -> EvalObservation:
    """An evaluation with an exact loss."""
    return EvalObservation(step, split=split, exact_loss=exact, exact_loss_se=se, **more)  # type: ignore[arg-type]


def trainer(step: int, loss: float, **more: object) -> EvalObservation:
    """An evaluation with the Trainer's loss only."""
    return EvalObservation(step, loss=loss, **more)  # type: ignore[arg-type]


def train(step: int, tokens: int | None = None) -> TrainObservation:
    """A training row."""
    return TrainObservation(step, loss=3.0, tokens_seen=tokens)


def plan(steps: object) -> SetupObservation:
    """The set-up row that says how long the run is to be."""
    return SetupObservation(0, "plan", {"planned_steps": steps})


END = EndObservation(1000, 3.0)
MET, MISSED, OPEN = Outcome.MET.value, Outcome.MISSED.value, Outcome.INCONCLUSIVE.value


@dataclass
class Case:
    """A history and what becomes of its target: outcome, sentence, and step of each finding."""

    name: str
    target: str
    rows: list[Observation]
    expected: list[tuple[str, str, int | None]] = field(default_factory=list)
    task: str = "cpt"


BELOW3 = math.nextafter(3.0, 0.0)
ABOVE3 = math.nextafter(3.0, 4.0)
# Half widths of exactly 0.5 are not to be had with 1.96: the bounds below are computed as the verdict does.
HALF = 0.1 * Z
UPPER = 2.9 + HALF
LOWER = 3.1 - HALF

CASES = [
    # At the bound, and one unit in the last place beside it.
    Case("no bar, one ulp below", "exact_loss<3", [at(100, BELOW3), END], [(MET, "point", 100)]),
    Case("no bar, exactly at", "exact_loss<3", [at(100, 3.0), END], [(MISSED, "point", 1000)]),
    Case("no bar, one ulp above", "exact_loss<3", [at(100, ABOVE3), END], [(MISSED, "point", 1000)]),
    Case(
        "upper end exactly at", f"exact_loss<{UPPER!r}", [at(100, 2.9, 0.1), END], [(OPEN, "close", 1000)]
    ),
    Case(
        "upper end one ulp below", f"exact_loss<{math.nextafter(UPPER, 9)!r}", [at(100, 2.9, 0.1), END],
        [(MET, "", 100)],
    ),
    Case(
        "lower end exactly at", f"exact_loss<{LOWER!r}", [at(100, 3.1, 0.1), END], [(OPEN, "close", 1000)]
    ),
    Case(
        "lower end one ulp above", f"exact_loss<{math.nextafter(LOWER, 0)!r}", [at(100, 3.1, 0.1), END],
        [(MISSED, "", 1000)],
    ),
    Case("error of 0, at", "exact_loss<3", [at(100, 3.0, 0.0), END], [(OPEN, "close", 1000)]),
    Case("error of 0, one ulp below", "exact_loss<3", [at(100, BELOW3, 0.0), END], [(MET, "", 100)]),
    Case("perplexity exactly at", "ppl<20", [at(100, LN20), END], [(MISSED, "point", 1000)]),
    Case("perplexity one ulp below", "ppl<20", [at(100, math.nextafter(LN20, 0)), END], [(MET, "point", 100)]),
    Case("the note's figure", "korean-loss-3", [at(100, 3.078, 0.043, rows=100), END], [(OPEN, "interval", 1000)]),
    Case("wider at 99.9 %", "loss<3,confidence=0.999", [at(100, 2.9, 0.04), END], [(OPEN, "close", 1000)]),
    Case("the same at 95 %", "loss<3", [at(100, 2.9, 0.04), END], [(MET, "", 100)]),
    Case("narrower at 50 %", "loss<3,confidence=0.5", [at(100, 2.97, 0.04), END], [(MET, "", 100)]),
    # Deadlines.
    Case("early is met at once", "loss<3@step:500", [at(100, 2.5), at(200, 3.5)], [(MET, "point", 100)]),
    Case("the deadline step itself", "loss<3@step:500", [at(400, 3.2), at(500, 2.5)], [(MET, "point", 500)]),
    Case("missed at the deadline step", "loss<3@step:500", [at(500, 3.2)], [(MISSED, "point", 500)]),
    Case("below after the deadline", "loss<3@step:500", [at(500, 3.2), at(501, 2.5)], [(MISSED, "point", 500)]),
    Case("one step before is not due", "loss<3@step:500", [at(499, 3.2), at(500, 2.9)], [(MET, "point", 500)]),
    Case(
        "no evaluation at the deadline: the next", "loss<3@step:500", [at(400, 3.2), train(510), at(600, 2.9)],
        [(MET, "point", 600)],
    ),
    Case("open at the deadline, for good", "loss<3@step:500",
         [at(500, 3.01, 0.1, rows=50), at(600, 2.0, 0.1), END], [(OPEN, "interval", 500)]),
    Case("the rows stop before a step", "loss<3@step:500", [train(10), at(400, 3.2)], [(OPEN, "not-due", 400)]),
    Case("the run ends before a step", "loss<3@step:5000", [at(400, 3.2), END], [(MISSED, "point", 1000)]),
    Case("tokens reached", "loss<3@tokens:1000", [train(10, 999), at(10, 3.2), train(20, 1000), at(20, 3.1)],
         [(MISSED, "point", 20)]),
    Case("tokens reached, that evaluation counts", "loss<3@tokens:1000",
         [train(10, 999), at(10, 3.2), train(20, 1500), at(20, 2.9)], [(MET, "point", 20)]),
    Case("tokens never counted", "loss<3@tokens:1000", [train(10), at(10, 3.2), END], [(MISSED, "point", 1000)]),
    Case("tokens not reached", "loss<3@tokens:1e9", [train(10, 999), at(10, 3.2)], [(OPEN, "not-due", 10)]),
    Case("end, by the Trainer's last row", "loss<3", [at(400, 3.2), train(1000), END], [(MISSED, "point", 1000)]),
    Case("end, where the rows stop", "loss<3", [at(400, 3.2), train(410)], [(MISSED, "point", 410)]),
    Case("end, planned and reached", "loss<3", [plan(400), at(300, 3.3), at(400, 3.2), train(400), END],
         [(MISSED, "point", 400)]),
    Case("end, planned and not reached", "loss<3", [plan(400), at(300, 3.3)], [(OPEN, "not-due", 300)]),
    Case("end, planned, below before", "loss<3", [plan(400), at(300, 2.9), at(400, 3.2)], [(MET, "point", 300)]),
    Case("a plan that is no number", "loss<3", [plan("400"), at(400, 3.2)], [(MISSED, "point", 400)]),
    Case("evaluated only after training", "loss<3", [train(1000), END, at(1000, 2.9)],
         [(OPEN, "no-evaluation", 1000), (MET, "point", 1000)]),
    Case("trained on after the end, then met", "loss<3", [at(1000, 3.2), END, train(1010), at(2000, 2.9)],
         [(MISSED, "point", 1000), (MET, "point", 2000)]),
    Case("a longer plan at the resume", "loss<3",
         [plan(400), at(400, 3.2), plan(800), at(600, 3.1), at(800, 2.9)],
         [(MISSED, "point", 400), (MET, "point", 800)]),
    Case("resumed with a plan, evaluated before training on", "loss<3",
         [train(1000), END, plan(2000), at(1000, 3.2), at(2000, 3.1)],
         [(OPEN, "no-evaluation", 1000), (MISSED, "point", 2000)]),
    # Confirmation.
    Case("confirmed by two", "loss<3,confirm=2", [at(100, 2.9), at(200, 2.9), END], [(MET, "point", 200)]),
    Case("one of two", "loss<3,confirm=2", [at(100, 3.2), at(200, 2.9), END], [(OPEN, "unconfirmed", 1000)]),
    Case("interrupted", "loss<3,confirm=2", [at(100, 2.9), at(200, 3.1), at(300, 2.9), END],
         [(OPEN, "unconfirmed", 1000)]),
    Case("interrupted by NaN", "loss<3,confirm=2", [at(100, 2.9), at(200, NAN), at(300, 2.9), END],
         [(OPEN, "unconfirmed", 1000)]),
    Case("the same step twice is one", "loss<3,confirm=2", [at(100, 2.9), at(100, 2.9), END],
         [(OPEN, "unconfirmed", 1000)]),
    Case("confirmed at the deadline", "loss<3@step:200,confirm=2", [at(100, 2.9), at(200, 2.9)],
         [(MET, "point", 200)]),
    Case("confirmed too late", "loss<3@step:200,confirm=2", [at(200, 2.9), at(300, 2.9)],
         [(OPEN, "unconfirmed", 200)]),
    Case("another set in between", "loss<3,confirm=2",
         [at(100, 2.9), at(100, 9.0, split="eval_en"), at(200, 2.9)], [(MET, "point", 200)]),
    # What there is in the row.
    Case("not the Trainer's loss for the exact one", "exact_loss<3", [trainer(100, 2.9), END],
         [(OPEN, "substitute-unsaid", 1000)]),
    Case("nor above it", "exact_loss<3", [trainer(100, 9.9), END], [(OPEN, "substitute-unsaid", 1000)]),
    Case("nor with a reason", "exact_loss<3", [trainer(100, 2.9, exact_loss_absent="x"), END],
         [(OPEN, "substitute", 1000)]),
    Case("nor by a deadline", "exact_loss<3@step:100", [trainer(100, 2.9)], [(OPEN, "substitute-unsaid", 100)]),
    Case("nor as a first evaluation", "exact_loss<-30%", [trainer(0, 9.0), at(100, 2.9, 0.01), END],
         [(MISSED, "", 1000)]),
    Case("nor as a last one", "exact_loss<-30%", [at(0, 9.0, 0.01), trainer(100, 2.9), END],
         [(OPEN, "substitute-unsaid", 1000)]),
    Case("it breaks a row of confirmations", "exact_loss<3,confirm=2",
         [at(100, 2.9, 0.01), trainer(200, 2.9), at(300, 2.9, 0.01), END], [(OPEN, "unconfirmed", 1000)]),
    Case("the exact loss for the Trainer's", "loss<3", [at(100, 2.9, 0.01)], [(MET, "", 100)]),
    Case("the Trainer's loss has no error bar", "loss<3", [at(100, 3.3, 0.5, loss=2.99)], [(MET, "point", 100)]),
    Case("both: the exact one", "exact_loss<3", [at(100, 3.1, loss=2.9), END], [(MISSED, "point", 1000)]),
    Case("no perplexity from the Trainer's loss", "ppl<20", [trainer(100, 2.9), END],
         [(OPEN, "substitute-unsaid", 1000)]),
    Case("nor bits per byte", "bits_per_byte<1", [trainer(100, 2.0, tokens=300, bytes=900), END],
         [(OPEN, "substitute-unsaid", 1000)]),
    Case("bits with their error", "bits_per_byte<1",
         [at(100, 3.0, bits_per_byte=0.97, bits_per_byte_se=0.01)], [(MET, "", 100)]),
    Case("bits from loss, tokens and bytes", "bits_per_byte<1", [at(100, 2.0, 0.01, tokens=300, bytes=900)],
         [(MET, "", 100)]),
    Case("bits without bytes", "bits_per_byte<1", [at(100, 2.0, 0.01, tokens=300), END], [(OPEN, "unmeasured", 1000)]),
    Case("an error that is NaN is none", "loss<3", [at(100, 2.99, NAN)], [(MET, "point", 100)]),
    Case("an error that is infinite is none", "loss<3", [at(100, 2.99, INF)], [(MET, "point", 100)]),
    Case("an evaluation without any number", "loss<3", [at(100, None), END], [(OPEN, "no-evaluation", 1000)]),
    # NaN and infinities.
    Case("NaN", "loss<3", [at(100, NAN), END], [(OPEN, "non-finite", 1000)]),
    Case("NaN over no target", "exact_loss<3",
         [at(100, 2.5, 0.01, loss=NAN, targetless_batches=1, nonfinite_batches=0)], [(MET, "", 100)]),
    Case("infinite", "loss<3", [at(100, INF), END], [(OPEN, "non-finite", 1000)]),
    Case("minus infinite", "loss<3", [at(100, -INF), END], [(OPEN, "non-finite", 1000)]),
    Case("a NaN batch behind a fair value", "loss<3", [at(100, 2.5, 0.01, nonfinite_batches=1), END],
         [(OPEN, "non-finite", 1000)]),
    Case("the Trainer's loss hides what the exact one shows", "loss<3", [at(100, INF, loss=2.5), END],
         [(OPEN, "non-finite", 1000)]),
    Case("recovered after NaN", "loss<3", [at(100, NAN), at(200, 2.9), END], [(MET, "point", 200)]),
    # Repeats and rises.
    Case("a repeat replaces", "loss<3", [at(100, 3.2), at(100, 2.9), END], [(MET, "point", 100)]),
    Case("what was said stands", "loss<3", [at(100, 2.9), at(100, 3.2), END], [(MET, "point", 100)]),
    Case("a rise takes nothing back", "loss<3", [at(100, 2.9), at(200, 5.0), END], [(MET, "point", 100)]),
    Case("two ends", "loss<3", [at(100, 3.2), END, END], [(MISSED, "point", 1000)]),
    # Sets.
    Case("its own set only", "eval_ko_loss<3", [at(100, 2.5), at(100, 3.5, split="eval_ko"), END],
         [(MISSED, "point", 1000)]),
    Case("a set that never came", "eval_ko_loss<3", [at(100, 2.5), END], [(OPEN, "no-evaluation", 1000)]),
    Case("no row at all", "loss<3", [], [(OPEN, "no-evaluation", None)]),
    Case("only training rows", "ppl<20", [train(10), train(20)], [(OPEN, "no-evaluation", 20)]),
    # A change since the first evaluation.
    Case("30 % lower", "exact_loss<-30%", [at(0, 5.0), at(100, 3.6), at(200, 3.4)], [(MET, "point", 200)]),
    Case("25 % lower", "exact_loss<-30%", [at(0, 4.0), at(100, 3.0), END], [(MISSED, "point", 1000)]),
    Case("exactly 25 % lower", "exact_loss<-25%", [at(0, 4.0), at(100, 3.0), END], [(MISSED, "point", 1000)]),
    Case("both errors count", "exact_loss<-25%", [at(0, 4.0, 0.1), at(100, 2.85, 0.1, rows=200), END],
         [(OPEN, "interval", 1000)]),
    Case("a lower perplexity", "ppl<-60%", [at(0, 4.0, 0.01), at(100, 3.0, 0.01)], [(MET, "", 100)]),
    Case("not from the Trainer's loss to ours", "exact_loss<-30%", [trainer(0, 5.0), at(100, 3.4), END],
         [(MISSED, "point", 1000)]),
    Case("not from one text to another", "exact_loss<-30%",
         [at(0, 5.0, fingerprint="a"), at(100, 3.4, fingerprint="b"), END], [(MISSED, "point", 1000)]),
    Case("the first, evaluated twice", "exact_loss<-30%", [at(0, 9.0), at(0, 5.0), at(100, 3.6), END],
         [(MISSED, "point", 1000)]),
    Case("the first is no fall", "exact_loss<-1%", [at(0, 3.0), END], [(MISSED, "point", 1000)]),
    # Targets that nothing can honestly meet.
    Case("perplexity 3 by padding, in bits per byte", "ppl<3",
         [at(100, 0.44, 0.01, tokens=1000, bytes=4000), END], [(OPEN, "implausible", 1000)]),
    Case("the same loss, healthy at 1.2 bytes per token", "ppl<3",
         [at(100, 0.44, 0.01, tokens=1000, bytes=1200)], [(MET, "", 100)]),
    Case("bytes that nobody knows block nothing", "ppl<3", [at(100, 0.44, 0.01)], [(MET, "", 100)]),
    Case("but a loss that is too low in any tokenizer is", "loss<0.28", [trainer(100, 0.2), END],
         [(OPEN, "implausible", 1000)]),
    Case("and so is one that fell there at once", "ppl<3",
         [at(100, 2.7, 0.01), at(200, 2.68, 0.01), at(300, 0.44, 0.01), at(400, 0.43, 0.01), END],
         [(OPEN, "fell", 1000)]),
    Case("whatever had been forgotten by then", "loss<1.0",
         [trainer(100, 2.7), trainer(200, 2.69), trainer(300, 0.5), *[trainer(s, 0.5) for s in range(400, 900, 100)],
          END], [(OPEN, "fell", 1000)]),
    Case("the return from a spike is no fall", "ppl<3",
         [at(100, 1.15), at(200, 3.0), at(300, 3.0), at(400, 1.05)], [(MET, "point", 400)]),
    Case("a fall that ends where any tokenizer may be is none", "ppl<3",
         [at(100, 5.0), at(200, 4.99), at(300, 2.0), at(400, 1.4), at(500, 1.05)], [(MET, "point", 500)]),
    Case("other rows are no fall", "ppl<3",
         [at(100, 2.7, fingerprint="a"), at(200, 2.68, fingerprint="a"), at(300, 1.05, fingerprint="b")],
         [(MET, "point", 300)]),
    Case("half a bit per byte is met on any tokenizer", "bits_per_byte<0.52", [at(100, 0.42, tokens=1000, bytes=1200)],
         [(MET, "point", 100)]),
    Case("and a third is not", "bits_per_byte<0.4", [at(100, 1.3, tokens=1000, bytes=6000), END],
         [(OPEN, "implausible", 1000)]),
    Case("a relative target is doubted by its level", "exact_loss<-64%",
         [at(0, 2.0, tokens=1000, bytes=4000), at(100, 0.5, tokens=1000, bytes=4000), END],
         [(OPEN, "implausible", 1000)]),
    Case("the same, fine-tuning", "ppl<3", [at(100, 0.84, 0.01)], [(MET, "", 100)], task="sft"),
    Case("an implausible target is missed as any", "ppl<3", [at(100, 2.6, 0.01), END], [(MISSED, "", 1000)]),
    Case("a perplexity called a loss", "loss<20", [at(100, 4.0, 0.01), END], [(OPEN, "implausible", 1000)]),
]  # fmt: skip

CODES = ("target-met", "target-missed", "target-inconclusive")
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _monitor(case: Case) -> Monitor:
    return Monitor(rules_for(WatchSpec(targets=parse_targets([case.target]), task=case.task, rules=CODES)))


def _seen(findings: tuple[Finding, ...]) -> list[tuple[str, str, int | None]]:
    return [(one.code.removeprefix("target-"), one.variant, one.step) for one in findings]


def test_the_table_is_long_enough() -> None:
    """At least 40 cases, each of its own name."""
    assert len({case.name for case in CASES}) == len(CASES) >= 40


@each_case
def test_verdict(case: Case) -> None:
    """The history gives exactly these findings."""
    assert _seen(_monitor(case).judge(case.rows)[1]) == case.expected


@each_case
def test_resumed(case: Case) -> None:
    """A fold cut at any row and gone on with is the fold of the whole."""
    monitor = _monitor(case)
    whole = monitor.fold(case.rows)
    for cut in range(len(case.rows) + 1):
        state, first = monitor.fold(case.rows[:cut])
        monitor.close(state)
        state, second = monitor.fold(case.rows[cut:], state)
        assert (state, first + second) == whole
        assert monitor.close(state) == monitor.close(whole[0])


@each_case
def test_sentence(case: Case) -> None:
    """Every sentence names the target as it is written, and has no gap."""
    for finding in _monitor(case).judge(case.rows)[1]:
        for said in (finding.message(), finding.short()):
            assert str(parse_target(case.target)) in said
            assert "unknown" not in said
            assert "{" not in said


@each_case
def test_several_targets_are_judged_apart(case: Case) -> None:
    """Beside targets on other sets the findings on this one are the same."""
    others = parse_targets(["eval_x_loss<2", "eval_y_ppl<-10%@step:100", case.target])
    monitor = Monitor(rules_for(WatchSpec(targets=others, task=case.task, rules=CODES)))
    findings = tuple(one for one in monitor.judge(case.rows)[1] if one.split == others[2].split)
    assert sorted(map(str, _seen(findings))) == sorted(map(str, case.expected))


def _values(target: str, *rows: Observation) -> Finding:
    (finding,) = Monitor(rules_for(WatchSpec(targets=parse_targets([target]), rules=CODES))).judge(rows)[1]
    return finding


def test_rows_that_would_decide() -> None:
    """The note's figure: 3.078 +- 0.043 on 100 rows; the interval shrinks with the root of the rows."""
    found = _values("korean-loss-3", at(100, 3.078, 0.043, rows=100), END)
    assert found.values["rows_needed"] == math.floor(100 * (Z * 0.043 / 0.078) ** 2) + 1 == 117
    assert (found.variant, found.values["rows"]) == ("interval", 100)
    assert (found.values["low"], found.values["high"]) == pytest.approx((2.994, 3.162), abs=5e-4)
    # With so many rows, the same value and spread, it would have been missed.
    se = 0.043 * math.sqrt(100 / 117)
    assert _values("korean-loss-3", at(100, 3.078, se, rows=117), END).code == "target-missed"
    assert _values("korean-loss-3", at(100, 3.078, 0.043 * math.sqrt(100 / 116), rows=116), END).code != "target-missed"


def test_the_interval_of_a_perplexity() -> None:
    """The ends of the loss's interval, each through exp."""
    found = _values("ppl<20", at(100, 2.9, 0.02))
    assert found.values["value"] == pytest.approx(math.exp(2.9))
    assert found.values["low"] == pytest.approx(math.exp(2.9 - Z * 0.02))
    assert found.values["high"] == pytest.approx(math.exp(2.9 + Z * 0.02))


def test_the_error_of_a_change() -> None:
    """As if the two evaluations were independent: wider than it is, never narrower."""
    found = _values("exact_loss<-20%", at(0, 4.0, 0.04), at(100, 3.0, 0.03))
    se = math.hypot(0.03, 0.75 * 0.04) / 4.0
    assert found.values["value"] == pytest.approx(-0.25)
    assert found.values["high"] == pytest.approx(-0.25 + Z * se)


@pytest.mark.parametrize(
    ("target", "row", "notes"),
    [
        ("exact_loss<3", at(100, 2.9), ["no-error-bar"]),
        ("loss<3", trainer(100, 2.9), ["no-error-bar"]),
        ("ppl<20", at(100, 2.9, 0.01), []),
        ("loss<3", at(100, 2.9, 0.01), ["exact-loss"]),
        ("bits_per_byte<1", at(100, 2.0, 0.01, tokens=300, bytes=900), ["bits-from-loss"]),
    ],
)
def test_notes(target: str, row: EvalObservation, notes: list[str]) -> None:
    """What stands in for what is in the finding's values, and in its sentence."""
    found = _values(target, row)
    assert found.values["notes"] == notes
    assert [note in found.message() for note in map(catalogue().notes.get, notes)] == [True] * len(notes)


def test_who_asks_to_stop() -> None:
    """The last target that is met, and a deadline missed in mid-run; never what the end brings."""
    targets = parse_targets(["eval_ko_loss<3", "eval_en_loss<3.5@step:100"])
    rules = rules_for(WatchSpec(targets=targets, rules=CODES))
    rows = [at(100, 3.2, split="eval_en"), at(100, 2.9, split="eval_ko"), at(200, 2.8, split="eval_ko"), END]
    asks = [(one.code, one.split, one.asks_to_stop) for one in Monitor(rules).judge(rows)[1]]
    assert asks == [("target-met", "eval_en", False), ("target-met", "eval_ko", True)]
    late = [at(100, 3.7, split="eval_en"), at(200, 3.2, split="eval_ko"), END]
    asks = [(one.code, one.split, one.asks_to_stop) for one in Monitor(rules).judge(late)[1]]
    assert asks == [("target-missed", "eval_en", True), ("target-missed", "eval_ko", False)]


def test_two_targets_met_by_one_row() -> None:
    """Both are said, the last one asks."""
    spec = WatchSpec(parse_targets(["loss<3", "ppl<21"]), rules=CODES)
    found = Monitor(rules_for(spec)).fold([at(100, 2.5)])[1]
    assert [one.asks_to_stop for one in found] == [False, True]


def test_a_relative_target_across_versions_of_the_fingerprint() -> None:
    """A run resumed by a version that hashes otherwise is measured from the same first evaluation; a swap is not."""
    rules = rules_for(WatchSpec(targets=parse_targets(["eval_exact_loss<-20%"]), rules=("target-met",)))

    def met(*fingerprints: str | None) -> list[int | None]:
        losses = (4.0, 3.5, 3.1)
        seen = [
            EvalObservation(10 * i, exact_loss=loss, exact_loss_se=0.01, fingerprint=text)
            for i, (loss, text) in enumerate(zip(losses, fingerprints, strict=True))
        ]
        return [one.step for one in Monitor(rules).judge(seen)[1]]

    assert met("utf8-00", "utf8-00", "utf8-00") == met("utf8-00", "utf8-v2-aa", "utf8-v2-aa") == [20]
    assert met("utf8-00", "utf8-01", "utf8-01") == met("utf8-00", "utf8-v2-aa", "utf8-v2-bb") == []
