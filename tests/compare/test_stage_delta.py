"""What a stage changed: paired, unpaired, shown only, or not comparable."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage, BaselineValue
from ko_cpt_callbacks.compare.resolution import SEED_SD_BITS
from ko_cpt_callbacks.compare.stage_delta import EvalEnd, baseline_delta, stage_delta
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.metrics.uncertainty import paired_difference, ratio_estimate
from ko_cpt_callbacks.run.observation import EvalObservation


def rows(shift: float = 0.0, seed: int = 1, count: int = 200) -> RowSums:
    """Rows of unequal length and difficulty; ``shift`` nats per token, with a noise of its own, on top."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    tokens = shared.integers(10, 60, count)
    level = 3.0 + 0.5 * shared.standard_normal(count)
    nll = tokens * (level + shift + 0.02 * own.standard_normal(count))
    order = np.stack([np.arange(count)] * 3, axis=1)
    return RowSums(nll, tokens.astype(np.int64), tokens * 3, np.arange(1, count + 1).astype(np.uint64), order)


def end(stage: str, sums: RowSums, *, keep: bool = True, **changes: Any) -> EvalEnd:
    """The end of a stage as its row and its file say it."""
    loss, bits = ratio_estimate(sums.nll, sums.tokens), ratio_estimate(sums.nll / math.log(2), sums.bytes)
    whole = EvalEnd(
        stage, "eval", 40, loss.value, "exact_loss", loss.se, bits.value, bits.se, int(sums.tokens.sum()),
        int(sums.bytes.sum()), sums.fingerprint(), "abc", sums if keep else None,
    )  # fmt: skip
    return replace(whole, **changes)


BEFORE, AFTER = rows(seed=1), rows(-0.1, seed=2)


def test_paired() -> None:
    """Same rows: the difference and error of a paired difference, whatever the order of the rows."""
    turned = RowSums(AFTER.nll[::-1], AFTER.tokens[::-1], AFTER.bytes[::-1], AFTER.hash[::-1], AFTER.order)
    for after in (AFTER, turned):
        found = stage_delta(end("a", BEFORE), end("b", after))
        expected = paired_difference(AFTER.nll, AFTER.tokens, BEFORE.nll, BEFORE.tokens)
        assert (found.outcome, found.unit, found.rows, found.reasons) == ("paired", "nats per token", 200, ())
        assert found.difference == pytest.approx(expected.value)
        assert found.se == pytest.approx(expected.se)
        assert found.difference == pytest.approx(-0.1, abs=0.01)
        assert found.high is not None and found.high < 0
    assert found.judged


def test_unpaired_is_wider() -> None:
    """Without the sums per row: the two errors added in square, much wider, and it is said why."""
    paired = stage_delta(end("a", BEFORE), end("b", AFTER))
    found = stage_delta(end("a", BEFORE, keep=False), end("b", AFTER))
    first, second = end("a", BEFORE), end("b", AFTER)
    assert (found.outcome, found.reasons, found.rows) == ("unpaired", ("no-rows",), 0)
    assert first.loss_se is not None and second.loss_se is not None
    assert found.se == pytest.approx(math.hypot(first.loss_se, second.loss_se))
    assert found.se is not None and paired.se is not None and found.se > 5 * paired.se
    assert found.judged


def test_level_is_what_two_runs_would_be() -> None:
    """A stage that moved every row by a thousandth is level, though its paired interval shuts out zero: another seed of
    the stage would move it as much."""
    moved = RowSums(BEFORE.nll * 0.9997, BEFORE.tokens, BEFORE.bytes, BEFORE.hash, BEFORE.order)
    found = stage_delta(end("a", BEFORE), end("b", moved))
    assert found.high is not None and found.high < 0.0
    assert found.difference == pytest.approx(-0.001, abs=0.0005)
    assert found.relation == "level"
    assert found.se is not None
    seeds = SEED_SD_BITS["vocabulary surgery"] * math.log(2) * 3.0
    assert found.resolution == pytest.approx(1.959964 * math.hypot(found.se, seeds))
    assert stage_delta(end("a", BEFORE), end("b", AFTER)).relation == "ahead"
    assert stage_delta(end("a", AFTER), end("b", BEFORE)).relation == "behind"
    assert stage_delta(end("a", BEFORE, fingerprint=None), end("b", AFTER)).relation is None


def test_a_fingerprint_of_another_version_is_not_known() -> None:
    """Another form, or another length: the difference is shown and not judged, and no other text is claimed."""
    for text in (f"utf8-2-{BEFORE.fingerprint()}", "0" * 64):
        found = stage_delta(end("a", BEFORE), end("b", AFTER, fingerprint=text))
        assert (found.outcome, found.reasons) == ("shown", ("text-unknown",))


def test_another_evaluations_file_does_not_speak() -> None:
    """Sums of another step under the right name give no paired difference: their loss is not the row's."""
    found = stage_delta(end("a", BEFORE), end("b", AFTER, rows=rows(0.5, seed=3)))
    assert (found.outcome, found.reasons) == ("unpaired", ("other-rows",))
    assert found.difference == pytest.approx(-0.1, abs=0.01)


@pytest.mark.parametrize("unit", ["utf8", "ids"])
def test_a_fingerprint_as_the_callback_writes_it(unit: str) -> None:
    """A real row says before the fingerprint what was hashed; the file of sums does not, and belongs to it."""
    mark = {"fingerprint": f"{unit}-{BEFORE.fingerprint()}"}
    found = stage_delta(end("a", BEFORE, **mark), end("b", AFTER, **mark))
    assert (found.outcome, found.rows) == ("paired", 200)


def test_other_text_is_not_compared() -> None:
    """Two fingerprints: no difference at all."""
    found = stage_delta(end("a", BEFORE), end("b", AFTER, fingerprint="0" * 16))
    assert (found.outcome, found.difference, found.reasons) == ("not comparable", None, ("different-text",))
    assert not found.judged


def test_another_tokenizer() -> None:
    """Bits per byte of the same bytes; refused without them, or where other parts of the text were scored."""
    other = RowSums(AFTER.nll, AFTER.tokens * 2, AFTER.bytes, AFTER.hash, AFTER.order)
    found = stage_delta(end("a", BEFORE), end("b", other, tokenizer="xyz"))
    assert (found.outcome, found.unit) == ("unpaired", "bits per byte")
    assert found.difference == pytest.approx(-0.1 / math.log(2) / 3, abs=0.005)
    assert found.value_before == end("a", BEFORE).bits_per_byte
    refused = stage_delta(end("a", BEFORE), end("b", other, tokenizer="xyz", bits_per_byte=None))
    assert refused.reasons == ("other-tokenizer",)
    refused = stage_delta(end("a", BEFORE), end("b", other, tokenizer="xyz", bytes=5))
    assert refused.reasons == ("scored-differently",)


def test_unnamed_tokenizers_are_told_by_their_tokens() -> None:
    """One text in equally many tokens is one unit, whoever cut it; in another number it is not."""
    found = stage_delta(end("a", BEFORE, tokenizer=None), end("b", AFTER))
    assert (found.outcome, found.unit) == ("paired", "nats per token")
    found = stage_delta(end("a", BEFORE, tokenizer=None), end("b", AFTER, tokens=1))
    assert found.unit == "bits per byte"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": None}, "text-unknown"),
        ({"metric": "loss", "loss_se": None}, "trainer-loss"),
        ({"tokenizer": None, "tokens": None}, "tokenizer-unknown"),
        ({"loss_se": None, "rows": None}, "no-error-bar"),
    ],
)
def test_shown_not_judged(changes: dict[str, Any], reason: str) -> None:
    """Where something is not known the difference is shown, without an interval, and not judged."""
    found = stage_delta(end("a", BEFORE, **changes), end("b", AFTER, **changes))
    assert (found.outcome, found.low, found.judged) == ("shown", None, False)
    assert reason in found.reasons
    assert found.difference == pytest.approx(-0.1, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"loss": None}, "not-finite"), ({"metric": "loss"}, "other-metric"), ({"tokens": 3}, "scored-differently")],
)
def test_not_comparable(changes: dict[str, Any], reason: str) -> None:
    """A loss that is not finite, two kinds of loss, or other targets of the same tokenizer."""
    found = stage_delta(end("a", BEFORE), end("b", AFTER, **changes))
    assert (found.outcome, found.difference, found.reasons) == ("not comparable", None, (reason,))


def test_end_of_an_evaluation() -> None:
    """A row's numbers; what is not finite, or has such a batch behind it, has no loss."""
    row = EvalObservation(40, None, "eval", 3.1, 3.0, 0.1, 1.2, 0.02, 100, 300, 9, 0, fingerprint="ab")
    found = EvalEnd.of("a", row, "hash")
    assert (found.loss, found.loss_se, found.bits_per_byte, found.fingerprint) == (3.0, 0.1, 1.2, "ab")
    assert EvalEnd.of("a", replace(row, nonfinite_batches=1)).loss is None
    assert EvalEnd.of("a", replace(row, exact_loss=math.inf)).loss is None
    trainers = EvalEnd.of("a", replace(row, exact_loss=None))
    assert (trainers.loss, trainers.metric, trainers.loss_se) == (3.1, "loss", None)


def test_every_reason_has_a_sentence() -> None:
    """The reasons of this file's cases are in the table."""
    said = {"different-text", "other-tokenizer", "scored-differently", "text-unknown", "trainer-loss", "no-rows",
            "tokenizer-unknown", "no-error-bar", "not-finite", "other-metric", "other-rows"}  # fmt: skip
    assert said <= set(catalogue().deltas)


# -- beside a baseline -----------------------------------------------------------------------------------------------


def _value(loss: float, **changes: Any) -> BaselineValue:
    return BaselineValue("loss", "eval", loss, loss - 5e-5, loss + 5e-5, "UNCONFIRMED", **changes)


REDWHALE = Baseline(
    "redwhale", "RedWhale", "continued pretraining", "UNCONFIRMED", tokenizer="RedWhale's",
    stages=tuple(
        BaselineStage(name, values=(_value(loss),))
        for name, loss in (("embedding", 3.0672), ("odd-layers", 2.8595), ("even-layers", 2.8341), ("lora", 2.8064))
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "stage", "expected"),
    [("embedding", "odd-layers", -0.2077), ("odd-layers", "even-layers", -0.0254), ("even-layers", "lora", -0.0277)],
)
def test_redwhales_changes(before: str, stage: str, expected: float) -> None:
    """The three published changes, with the range that four printed decimals leave."""
    found = baseline_delta(REDWHALE, before, stage)
    assert found is not None
    assert found.difference == pytest.approx(expected)
    assert (found.low, found.high) == (pytest.approx(expected - 1e-4), pytest.approx(expected + 1e-4))
    assert (found.unit, found.grade, found.tokenizer) == ("nats per token", "UNCONFIRMED", "RedWhale's")


def test_no_change_to_stand_beside() -> None:
    """No stage, the wrong order, no figure, or figures of two texts: nothing."""
    other = BaselineStage("other", values=(_value(2.0, set="x"),))
    bare = replace(REDWHALE, stages=(*REDWHALE.stages, BaselineStage("more"), other))
    assert baseline_delta(bare, None, "embedding") is None
    assert baseline_delta(bare, "embedding", "nope") is None
    assert baseline_delta(bare, "lora", "embedding") is None
    assert baseline_delta(bare, "lora", "lora") is None
    assert baseline_delta(bare, "lora", "more") is None
    assert baseline_delta(bare, "lora", "other") is None
