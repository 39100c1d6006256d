"""This run against a reference: the three outcomes, their numbers computed by hand, and their reasons."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from compare.made_baseline import LN2, own, published, value

from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage
from ko_cpt_callbacks.compare.comparison import compare, same_run
from ko_cpt_callbacks.compare.resolution import SEED_SD_BITS
from ko_cpt_callbacks.compare.value import (
    BITS,
    NATS,
    QUANTIZATION_COST,
    Comparison,
    Measured,
    Paired,
    quantization_note,
)
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.run.observation import EvalObservation

Z = 1.959963984540054


def codes(found: Comparison) -> list[str]:
    """Codes of the reasons."""
    return [reason.code for reason in found.reasons]


def notes(found: Comparison) -> list[str]:
    """Codes of the notes."""
    return [reason.code for reason in found.notes]


def measured(**more: Any) -> Measured:
    """An evaluation with everything known, on another text than any baseline's."""
    settings: dict[str, Any] = {
        "set": "eval_ko", "loss": 3.0, "loss_se": 0.02, "bits_per_byte": 3.0 / LN2 / 4.0,
        "bits_per_byte_se": 0.02 / LN2 / 4.0, "bytes_per_token": 4.0, "tokenizer": "abc", "vocabulary": 282_721,
        "quantization": "none", "fingerprint": "utf8-00bb", "tokens": 1000, "bytes": 4000, **more,
    }  # fmt: skip
    return Measured(**settings)


# -- the two numbers that the research note got wrong ------------------------------------------------------------------


def test_a_lone_loss_is_not_comparable() -> None:
    """3.078 against 2.8064: no verdict; equal at 4.96 bytes per token if the reference's text has 4.526, else 5.33."""
    found = compare(Measured(loss=3.078), published(), "lora")
    assert (found.outcome, found.relation, codes(found)) == ("not comparable", None, ["no-bytes"])
    assert found.equal_bytes_per_token == pytest.approx((4.526 * 3.078 / 2.8064, 4.860 * 3.078 / 2.8064))
    assert [f"{reach:.2f}" for reach in found.equal_bytes_per_token or ()] == ["4.96", "5.33"]
    assert found.equal_loss is None
    assert [item.code for item in found.would_help] == ["count-bytes"]


def test_a_training_loss_is_never_compared() -> None:
    """Not with a loss on held-out text, even with bits per byte; what would be equal is still said."""
    run = Measured("train", "train", 2.6240, metric="loss")
    found = compare(run, published())
    assert (found.outcome, codes(found)) == ("not comparable", ["train-against-eval", "no-bytes"])
    assert f"{(found.equal_bytes_per_token or (0.0,))[0]:.2f}" == "4.23"
    assert [item.code for item in found.would_help] == ["evaluate"]
    with_bytes = compare(replace(run, bits_per_byte=0.8, bytes_per_token=4.7), published())
    assert (with_bytes.outcome, codes(with_bytes)) == ("not comparable", ["train-against-eval"])


# -- exact -------------------------------------------------------------------------------------------------------------


def test_paired_rows_of_one_tokenizer() -> None:
    """The paired difference with its own error decides, in nats; both values are shown beside it."""
    found = compare(measured(fingerprint="utf8-00aa"), own(), None, Paired(NATS, -0.05, 0.004, 120))
    assert (found.outcome, found.relation, found.unit, found.se_kind) == ("exact", "ahead", NATS, "paired")
    assert (found.value, found.reference, found.difference, found.rows) == (3.0, 2.8, -0.05, 120)
    assert (found.low, found.high) == pytest.approx((-0.05 - Z * 0.004, -0.05 + Z * 0.004))
    assert (codes(found), notes(found)) == ([], ["rows-only"])
    assert found.equal_loss == (2.8, 2.8)


def test_paired_rows_of_two_tokenizers() -> None:
    """In bits per byte; the loss that would be equal follows from the run's bytes per token."""
    found = compare(measured(fingerprint="utf8-00aa", tokenizer="xyz"), own(), None, Paired(BITS, 0.2, 0.01, 120))
    assert (found.outcome, found.relation, found.unit, found.reference) == ("exact", "behind", BITS, 0.9)
    assert found.equal_loss == pytest.approx((0.9 * LN2 * 4.0,) * 2)


@pytest.mark.parametrize(
    ("difference", "se", "start", "relation"),
    [
        (-0.05, 0.004, "", "ahead"),
        (0.05, 0.004, "", "behind"),
        (-0.05, 0.03, "", "level"),
        (0.0, 0.0, "", "level"),
        # At 4 bytes per token 0.000144 bits per byte are 0.0004 nats, 0.001234 are 0.0034, 0.01957 are 0.0543; of two
        # runs 1.41 times that, and 1.96 times for the interval.
        (-0.0010, 0.0001, "", "ahead"),
        (-0.0010, 0.0001, "good base", "level"),
        (-0.0012, 0.0001, "good base", "ahead"),
        (0.0094, 0.0001, "vocabulary surgery", "level"),
        (0.0096, 0.0001, "vocabulary surgery", "behind"),
        (0.1400, 0.0001, "from scratch", "level"),
    ],
)
def test_standing(difference: float, se: float, start: str, relation: str) -> None:
    """Ahead or behind needs an interval without zero, what another seed of such a run would change included."""
    run = measured(fingerprint="utf8-00aa", start=start)
    found = compare(run, own(), None, Paired(NATS, difference, se, 9))
    assert found.relation == relation
    assert found.se == se
    sd = SEED_SD_BITS.get(start, 0.0) * LN2 * 4.0
    assert found.seed_se == (pytest.approx(math.sqrt(2.0) * sd) if start else None)
    assert found.resolution == pytest.approx(Z * math.hypot(se, math.sqrt(2.0) * sd))
    assert (found.low, found.high) == pytest.approx((difference - found.resolution, difference + found.resolution))
    assert notes(found) == ["seed-part" if start else "rows-only"]


def test_seeds_of_a_published_run() -> None:
    """Printed seeds count before the class, divided by the root of their number; without the run's class: not known."""
    stage = BaselineStage("whole", values=(value("bits_per_byte", 1.0, seeds=4, seed_sd=0.002),))
    base = replace(published(), stages=(stage,), start="good base")
    run = measured(bits_per_byte=1.2, bits_per_byte_se=0.01)
    found = compare(replace(run, start="good base"), base)
    assert found.seed_se == pytest.approx(math.hypot(SEED_SD_BITS["good base"], 0.002 / 2.0))
    assert compare(run, base).seed_se is None
    assert compare(replace(run, seed_sd={BITS: 0.003}), base).seed_se == pytest.approx(math.hypot(0.003, 0.001))
    no_training = replace(base, kind="base model", start="")
    assert compare(replace(run, start="good base"), no_training).seed_se == pytest.approx(SEED_SD_BITS["good base"])


def test_two_seeds_of_one_set_up_are_told_apart_no_more_often_than_is_allowed() -> None:
    """500 comparisons of two seeds of one class, documents and seeds both noisy: a difference is claimed in 5 % or
    fewer; at twice the resolution it is claimed in 90 % or more."""
    rng = np.random.default_rng(0)
    sd, se = SEED_SD_BITS["vocabulary surgery"], 0.0004
    run = measured(fingerprint="utf8-00aa", tokenizer="xyz", start="vocabulary surgery")

    def claims(truth: float) -> float:
        noise = rng.normal(0.0, math.hypot(se, math.sqrt(2.0) * sd), 500)
        found = [compare(run, own(), None, Paired(BITS, float(truth + one), se, 400)).relation for one in noise]
        return sum(one != "level" for one in found) / len(found)

    assert claims(0.0) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 500)
    assert claims(2.0 * Z * math.hypot(se, math.sqrt(2.0) * sd)) >= 0.9


def test_a_spread_of_three_seeds_claims_no_more_often() -> None:
    """2,000 comparisons of two seeds, the spread measured on three runs each time: a difference is claimed in 5 % or
    fewer, although three runs know their spread badly. A normal interval would claim one in about one of six."""
    rng = np.random.default_rng(1)
    run, claimed = measured(fingerprint="utf8-00aa", tokenizer="xyz"), 0
    for _ in range(2_000):
        sd = float(np.std(rng.normal(0.0, 0.003, 3), ddof=1))
        found = Paired(BITS, float(rng.normal(0.0, math.sqrt(2.0) * 0.003)), 1e-6, 400)
        repeated = replace(run, seed_sd={BITS: sd}, seed_runs=3)
        claimed += compare(repeated, own(), None, found).relation != "level"
    assert claimed / 2_000 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2_000)


def test_one_row_has_no_standing() -> None:
    """The difference is exact, but nothing says how sure: no interval, no ahead or behind."""
    found = compare(measured(fingerprint="utf8-00aa"), own(), None, Paired(NATS, -0.5, None, 1))
    assert (found.outcome, found.relation, found.low, found.high) == ("exact", None, None, None)
    assert "no-error-bar" in notes(found)


def test_same_text_without_rows() -> None:
    """Equal fingerprints and one tokenizer: exact in value, the error an upper bound that is called one."""
    found = compare(measured(loss=2.6, fingerprint="utf8-00aa"), own())
    assert (found.outcome, found.unit, found.relation, found.se_kind) == ("exact", NATS, "ahead", "at most")
    assert found.difference == pytest.approx(-0.2)
    assert found.se == pytest.approx(math.hypot(0.02, 0.03))
    assert notes(found) == ["at-most", "rows-only"]
    assert [item.code for item in found.would_help] == ["keep-rows"]


def test_same_text_without_any_error() -> None:
    """Exact in value, and no relation."""
    found = compare(measured(loss=2.6, loss_se=None, fingerprint="utf8-00aa"), own())
    assert (found.outcome, found.relation, found.se, found.se_kind) == ("exact", None, None, None)


def test_same_text_another_tokenizer_without_rows() -> None:
    """Nothing shows that both scored the same bytes: an indication, which says so."""
    found = compare(measured(fingerprint="utf8-00aa", tokenizer="xyz"), own())
    assert (found.outcome, found.unit, codes(found)) == ("indicative", BITS, ["no-paired-rows"])


def test_rows_that_do_not_pair() -> None:
    """Their reasons are those of the indication, also where fingerprints and tokenizers are equal."""
    found = compare(measured(fingerprint="utf8-00aa"), own(), None, Paired(NATS, reasons=("scored-differently",)))
    assert (found.outcome, codes(found)) == ("indicative", ["scored-differently"])
    assert [item.code for item in found.would_help] == ["same-labels"]


def test_the_same_run() -> None:
    """A run beside itself differs by nothing, whatever was measured of it."""
    found = same_run(Measured("train", "train", 2.6), own())
    assert (found.outcome, found.relation, found.difference, found.value) == ("exact", "level", 0.0, 2.6)
    assert same_run(Measured(), own()).outcome == "not comparable"


# -- indicative --------------------------------------------------------------------------------------------------------


def test_other_text() -> None:
    """Bits per byte against the reference's range: the interval holds the range, its rounding and the run's error."""
    run, reference = measured(), published()
    bits, half = run.bits_per_byte, Z * (run.bits_per_byte_se or 0.0)
    low, high = 2.8064 / LN2 / 4.860, 2.8064 / LN2 / 4.526
    assert bits is not None
    found = compare(run, reference)
    assert (found.outcome, found.stage, found.unit, found.se_kind) == ("indicative", "lora", BITS, "independent")
    assert (found.value, found.reference_low, found.reference_high) == pytest.approx((bits, low, high))
    assert (found.low, found.high) == pytest.approx((bits - high - 0.005 - half, bits - low + 0.005 + half))
    assert found.relation == "behind"
    assert codes(found) == ["text-unknown"]
    assert notes(found) == ["reference-range", "grade", "reference-without-error"]
    assert [item.code for item in found.would_help] == ["same-text"]


@pytest.mark.parametrize(
    ("bits", "relation"),
    # The range is 0.833 to 0.895, its rounding 0.005, and the run's interval 0.0098 to either side.
    [(0.815, "ahead"), (0.822, "level"), (0.86, "level"), (0.905, "level"), (0.912, "behind")],
)
def test_the_range_of_the_reference_counts(bits: float, relation: str) -> None:
    """Nothing is ahead or behind that another reading of the reference would turn round."""
    assert compare(measured(bits_per_byte=bits, bits_per_byte_se=0.005), published()).relation == relation


def test_text_known_to_be_other() -> None:
    """Two fingerprints that differ say more than one that is missing."""
    assert codes(compare(measured(), own())) == ["different-text"]
    assert codes(compare(measured(fingerprint=None), own())) == ["text-unknown"]


def test_both_errors_count() -> None:
    """Of two runs of one's own on other text, both sides' errors are in the interval."""
    found = compare(measured(), own())
    assert found.se == pytest.approx(math.hypot(0.02 / LN2 / 4.0, 0.01))
    assert "reference-without-error" not in notes(found)


def test_no_error_no_standing() -> None:
    """A lone loss with its bytes per token: a difference, and no verdict."""
    found = compare(Measured(loss=3.078, bits_per_byte=1.11, bytes_per_token=4.0), published())
    assert (found.outcome, found.relation) == ("indicative", None)
    assert "no-error-bar" in notes(found)
    assert found.equal_loss == pytest.approx((2.8064 * 4.0 / 4.860, 2.8064 * 4.0 / 4.526))


# -- not comparable ----------------------------------------------------------------------------------------------------


def _baseline(kind: str = "continued pretraining", *values: Any, **more: Any) -> Baseline:
    return Baseline("b", "B", kind, "V", stages=(BaselineStage("whole", values=values),), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "baseline", "stage", "expected"),
    [
        (measured(), _baseline("instruction tuning", value("loss", 1.0)), None, ["not-a-reference"]),
        (measured(), _baseline("note", why_not="a note."), None, ["not-a-reference"]),
        (measured(), _baseline("continued pretraining", value("loss", 1.0), why_not="no"), None, ["not-a-reference"]),
        (measured(), _baseline(), None, ["no-figures"]),
        (measured(), Baseline("b", "B", "from scratch", "V"), None, ["no-figures"]),
        (measured(), _baseline(), "whole", ["stage-without-figures"]),
        (measured(), published(), "sft", ["stage-not-a-reference"]),
        (measured(), _baseline("from scratch", value("loss", 1.4, "train")), None, ["reference-in-training"]),
        (measured(), _baseline("from scratch", value("loss", 3.1, "unknown")), None, ["reference-of-unknown-kind"]),
        (measured(), _baseline("from scratch", value("loss", 2.0)), None, ["reference-without-bytes"]),
        (measured(retention=True), published(), None, ["retention"]),
        (measured(retention=True, set="eval_en"), own(), None, ["retention"]),
        (Measured(), published(), None, ["no-loss"]),
        (measured(bits_per_byte=None), published(), None, ["no-bytes", "vocabularies"]),
        (
            measured(bits_per_byte=None), _baseline("from scratch", value("ppl", 16.0)), None,
            ["no-bytes", "reference-without-bytes"],
        ),
    ],
)  # fmt: skip
def test_not_comparable(run: Measured, baseline: Baseline, stage: str | None, expected: list[str]) -> None:
    """No number, no relation; the reasons, and what would help."""
    found = compare(run, baseline, stage)
    assert (found.outcome, found.relation, found.difference, found.unit) == ("not comparable", None, None, None)
    assert codes(found) == expected
    assert found.would_help


def test_a_retention_set_has_no_numbers_at_all() -> None:
    """Not even the loss at which it would be equal."""
    found = compare(measured(retention=True), published())
    assert (found.equal_loss, found.equal_bytes_per_token, found.notes) == (None, None, ())


def test_a_perplexity_gives_the_equal_point() -> None:
    """A reference that printed a perplexity and its bytes per token still says where the two would be equal."""
    known = {"bytes_per_token_low": 4.0, "bytes_per_token_high": 4.0}
    found = compare(Measured(loss=3.0), _baseline("from scratch", value("ppl", math.exp(2.0)), **known))
    assert found.equal_bytes_per_token == pytest.approx((6.0, 6.0))


# -- stages, notes -----------------------------------------------------------------------------------------------------


def test_stage() -> None:
    """A stage by name; without one the last that is a reference, which an SFT is not; an unknown one is refused."""
    assert compare(measured(), published(), "embedding").stage == "embedding"
    assert compare(measured(), published(), "auto").stage == "lora"
    with pytest.raises(ConfigurationError, match=r"found 'lroa'.*embedding, lora, sft.*Did you mean 'lora'"):
        compare(measured(), published(), "lroa")


def test_set_of_the_same_name_or_text() -> None:
    """The same text counts before the same name; a retention set never stands in for another."""
    values = (
        value("bits_per_byte", 0.7, set="eval_en", fingerprint="utf8-1"),
        value("bits_per_byte", 0.8, set="eval", fingerprint="utf8-2"),
        value("bits_per_byte", 0.9, set="eval_ko", fingerprint="utf8-3"),
    )
    baseline = _baseline("continued pretraining", *values)
    assert compare(measured(), baseline).reference == 0.9
    assert compare(measured(fingerprint="utf8-2"), baseline).reference == 0.8
    assert compare(measured(set="eval_law"), baseline).reference == 0.8


def test_quantization() -> None:
    """Different weights are named with what they cost another model; equal or unknown ones are not."""
    assert QUANTIZATION_COST["8-bit"] == pytest.approx(math.log(9.476 / 9.373), abs=5e-5)
    assert QUANTIZATION_COST["4-bit"] == pytest.approx(math.log(10.132 / 9.373), abs=5e-5)
    found = compare(measured(quantization="8-bit"), published())
    (note,) = [item for item in found.notes if item.code == "quantization"]
    assert note.values == {"run": "8-bit", "reference": "not stated", "coarser": "8-bit", "cost": 0.0109}
    assert "+0.011 nats per token" in catalogue().reason(note.as_dict())
    assert quantization_note("8-bit", "8-bit") is None
    assert quantization_note(None, "8-bit") is None
    assert quantization_note("none", "not stated") is None
    coarser = quantization_note("8-bit", "4-bit")
    assert coarser is not None and coarser.values["coarser"] == "4-bit"
    note_of_value = compare(measured(quantization="8-bit"), own())
    assert "quantization" in notes(note_of_value)


def test_notes_on_either_side() -> None:
    """The Trainer's loss, another language, a newer entry: each is said."""
    found = compare(measured(metric="loss"), replace(published(), language="zh", superseded_by="published-2"))
    assert {"trainer-loss", "language", "superseded", "grade"} <= set(notes(found))


def test_what_a_row_says() -> None:
    """From an evaluation's row: exact loss before the Trainer's, bits per byte computed where they can be."""
    seen = EvalObservation(7, split="eval_ko", loss=3.1, exact_loss=3.0, exact_loss_se=0.1, tokens=100, bytes=400)
    found = Measured.of(seen)
    assert found is not None
    assert (found.set, found.loss, found.loss_se, found.metric) == ("eval_ko", 3.0, 0.1, "exact_loss")
    assert (found.bytes_per_token, found.bits_per_byte) == (4.0, pytest.approx(3.0 / LN2 / 4.0))
    trainers = Measured.of(EvalObservation(7, loss=3.1))
    assert trainers is not None and (trainers.loss, trainers.metric, trainers.bits_per_byte) == (3.1, "loss", None)
    assert Measured.of(EvalObservation(7, exact_loss=math.inf)) is None
    assert Measured.of(EvalObservation(7, loss=2.0, nonfinite_batches=1)) is None
    assert Measured.of(EvalObservation(7)) is None


# -- as values ---------------------------------------------------------------------------------------------------------


def test_every_outcome_is_strict_json_with_sentences() -> None:
    """Each comparison of this file's kinds is written without NaN, and each of its reasons has a sentence."""
    paired = Paired(NATS, -0.05, 0.004, 120)
    for found in (
        compare(measured(fingerprint="utf8-00aa"), own(), None, paired),
        compare(measured(fingerprint="utf8-00aa"), own()),
        compare(measured(quantization="4-bit"), published()),
        compare(measured(bits_per_byte=None), published()),
        compare(measured(retention=True), own()),
        compare(measured(), published(), "sft"),
        same_run(measured(), own()),
    ):
        json.dumps(found.as_dict(), allow_nan=False)
        for reason in (*found.reasons, *found.notes, *found.would_help):
            said = catalogue().reason(reason.as_dict())
            assert "{" not in said and "unknown" not in said
            assert said.endswith(".")
