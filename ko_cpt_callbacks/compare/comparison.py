"""This run against a reference: exact, indicative or not comparable, and why.

* **exact**: the same text was scored. With per-row sums of both (`Paired`) the difference carries the standard error
  of a paired difference; without them it is the same number with a wider error.
* **indicative**: another text, or it is not known which; both sides have bits per byte, which do not depend on the
  tokenizer, but on the text they do.
* **not comparable**: anything else. A loss per token of another tokenizer is another unit, and a training loss, a mean
  over changing weights on text that is being learned, is no loss on held-out text.

*Ahead* and *behind* are given only where the whole interval is on one side of zero. It holds the documents' error, what
another seed would change where that is known (`ko_cpt_callbacks.compare.resolution`), and the range that the
reference's print or derivation leaves open.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import GRADES, Baseline, BaselineValue
from ko_cpt_callbacks.compare.reference import Reference, reference_of
from ko_cpt_callbacks.compare.resolution import NO_TRAINING, Seeds, resolution_of, seed_spread
from ko_cpt_callbacks.compare.value import (
    BITS,
    NATS,
    TEXT_SPREAD,
    Comparison,
    Measured,
    Paired,
    Range,
    Reason,
    quantization_note,
    relation_of,
)
from ko_cpt_callbacks.run.fold import same_text

__all__ = ["BITS", "NATS", "Comparison", "Measured", "Paired", "compare", "same_run"]

_LN2: Final = math.log(2.0)


def compare(
    run: Measured,
    baseline: Baseline,
    stage: str | None = None,
    paired: Paired | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Where a run stands beside a baseline.

    Args:
        run: What was measured.
        baseline: The reference.
        stage: Its stage; ``None`` or ``auto``: the last that is a reference and has figures.
        paired: The row by row difference, where the rows of both are at hand.
        confidence: Of the interval, two-sided, between 0 and 1.

    Raises:
        ConfigurationError: If the baseline has no such stage.
        ValueError: If ``confidence`` is out of range.
    """
    found = reference_of(baseline, stage, set=run.set, fingerprint=run.fingerprint)
    if isinstance(found, Reason):
        stage_name = str(found.values.get("stage", ""))
        nothing = Comparison(baseline.id, baseline.title, stage_name, "", run.set, "not comparable")
        return replace(nothing, reasons=(found,), would_help=(Reason("another-reference"),))
    text, alike = same_text(run.fingerprint, found.fingerprint), _scored_alike(run, baseline, found)
    same = text is True and alike is True
    start = Comparison(
        baseline.id, baseline.title, found.stage, found.set, run.set, "not comparable",
        confidence=confidence,
        notes=tuple(_notes(run, baseline, found)),
        equal_loss=_equal_loss(run, found, same=same),
        equal_bytes_per_token=_equal_bytes_per_token(run, baseline, found),
    )  # fmt: skip
    if paired is not None and "other-rows" in paired.reasons:  # as if they were not there, which is noted
        start, paired = replace(start, notes=(*start.notes, Reason("other-rows"))), None
    refused = tuple(_refusals(run, found))
    if run.retention:  # no number of it says where the run stands
        start = replace(start, notes=(), equal_loss=None, equal_bytes_per_token=None)
    if not refused and paired is not None and not paired.reasons and paired.difference is not None:
        done = replace(
            start, outcome="exact", unit=paired.unit, difference=paired.difference, se=paired.se, se_kind="paired",
            rows=paired.rows,
        )  # fmt: skip
        sides = (run.bits_per_byte, found.bits) if paired.unit == BITS else (run.loss, found.loss)
        return _decided(done, run, baseline, *sides)
    if not refused and paired is None and same and run.loss is not None and found.loss is not None:
        done = replace(start, outcome="exact", unit=NATS, se=_both(run.loss_se, found.loss), se_kind="at most")
        return _decided(done, run, baseline, run.loss, found.loss, (Reason("at-most"),), (Reason("keep-rows"),))
    if not refused and run.bits_per_byte is not None and found.bits is not None:
        reasons = tuple(_why_indicative(paired, text, alike))
        notes = () if found.bits.se is not None else (Reason("reference-without-error"),)
        se = _both(run.bits_per_byte_se, found.bits)
        done = replace(start, outcome="indicative", unit=BITS, se=se, se_kind="independent", reasons=reasons)
        return _decided(done, run, baseline, run.bits_per_byte, found.bits, notes, tuple(_help(reasons)))
    missing = tuple(_missing(run, baseline, found))
    if refused and run.split == "train":
        missing = tuple(reason for reason in missing if reason.code in ("no-bytes", "vocabularies"))
    elif refused:
        missing = ()
    return replace(start, reasons=(*refused, *missing), would_help=tuple(_help((*refused, *missing))))


def same_run(run: Measured, baseline: Baseline) -> Comparison:
    """A run beside itself: no difference, whatever was measured of it, a training loss too."""
    value = run.bits_per_byte if run.loss is None else run.loss
    start = Comparison(baseline.id, baseline.title, "", run.set, run.set, "exact")
    if value is None:
        return replace(start, outcome="not comparable", reasons=(Reason("no-loss", {"set": run.set}),))
    return replace(
        start, relation="level", unit=BITS if run.loss is None else NATS, value=value, reference=value,
        reference_low=value, reference_high=value, difference=0.0, notes=(Reason("same-run"),),
    )  # fmt: skip


def _refusals(run: Measured, reference: Reference) -> Iterable[Reason]:
    """What forbids a comparison whatever the numbers are."""
    if run.retention:
        yield Reason("retention", {"set": run.set})
    elif run.split == "train":
        yield Reason("train-against-eval", {"stage": reference.stage})
    elif run.loss is None and run.bits_per_byte is None:
        yield Reason("no-loss", {"set": run.set})


def _missing(run: Measured, baseline: Baseline, reference: Reference) -> Iterable[Reason]:
    if run.bits_per_byte is None:
        yield Reason("no-bytes")
        if run.vocabulary and baseline.vocabulary and run.vocabulary != baseline.vocabulary:
            yield Reason("vocabularies", {"run": run.vocabulary, "reference": baseline.vocabulary})
    if reference.bits is None:
        yield Reason("reference-without-bytes", {"baseline": baseline.id, "stage": reference.stage})


def _why_indicative(paired: Paired | None, text: bool | None, alike: bool | None) -> Iterable[Reason]:
    if paired is not None and paired.reasons:
        codes = paired.reasons
    elif text:
        codes = ("no-paired-rows",) if alike is not False else ("scored-differently",)
    else:
        codes = ("text-unknown",) if text is None else ("different-text",)
    spread = {"low": TEXT_SPREAD[0], "high": TEXT_SPREAD[1]}
    for code in codes:
        yield Reason(code, spread if code in ("different-text", "text-unknown") else {})


def _help(reasons: Iterable[Reason]) -> Iterable[Reason]:
    helps = {
        "train-against-eval": "evaluate",
        "no-loss": "evaluate",
        "no-bytes": "count-bytes",
        "reference-without-bytes": "another-reference",
        "retention": "another-set",
        "different-text": "same-text",
        "text-unknown": "same-text",
        "no-paired-rows": "keep-rows",
        "row-kind-unknown": "keep-rows",
        "packed": "whole-documents",
        "no-bos": "whole-documents",
        "special-tokens-differ": "same-special-tokens",
        "scored-differently": "same-labels",
        "bytes-unknown": "count-bytes",
    }
    codes = list(dict.fromkeys(helps[reason.code] for reason in reasons if reason.code in helps))
    if "evaluate" in codes and "count-bytes" in codes:
        codes.remove("count-bytes")  # the callback that evaluates counts them too
    yield from (Reason(code) for code in codes)


def _notes(run: Measured, baseline: Baseline, reference: Reference) -> Iterable[Reason]:
    bits, value = reference.bits, reference.bits or reference.loss
    if bits is not None and bits.low < bits.high:
        values = {"low": bits.low, "high": bits.high, "rounding": bits.rounding, "formula": bits.formula.rstrip(".")}
        yield Reason("reference-range" if bits.origin == "computed" else "reference-printed", values)
    if value is not None and baseline.grade != "OWN":
        yield Reason("grade", {"grade": baseline.grade, "meaning": GRADES[baseline.grade]})
    if run.metric == keys.LOSS and run.split == "eval":
        yield Reason("trainer-loss")
    note = quantization_note(run.quantization, (value and value.quantization) or baseline.quantization)
    if note is not None:
        yield note
    if baseline.language != "ko":
        yield Reason("language", {"language": baseline.language})
    if baseline.superseded_by:
        yield Reason("superseded", {"by": baseline.superseded_by})


def _scored_alike(run: Measured, baseline: Baseline, reference: Reference) -> bool | None:
    """Whether one tokenizer scored equally much of one text on both sides; None where it cannot be known.

    Labels of -100 leave text out of the loss that the fingerprint, which is of all text, still has.
    """
    value = reference.loss or reference.bits
    if value is None or not run.tokenizer or run.tokenizer != baseline.tokenizer_hash:
        return None
    counts = ((run.tokens, value.tokens), (run.bytes, value.bytes))
    if any(None not in both and both[0] != both[1] for both in counts):
        return False
    return None if None in counts[0] else True


def _both(se: float | None, other: BaselineValue) -> float | None:
    return None if se is None else math.hypot(se, other.se or 0.0)


def _decided(
    done: Comparison,
    run: Measured,
    baseline: Baseline,
    value: float | None,
    other: BaselineValue | None,
    notes: tuple[Reason, ...] = (),
    helps: tuple[Reason, ...] = (),
) -> Comparison:
    """With both sides' numbers, the seeds' part in the interval, the relation that this gives, and the notes on it."""
    unit, notes, difference = done.unit or NATS, (*done.notes, *notes), done.difference
    start = NO_TRAINING if baseline.kind == "base model" else baseline.start
    ours = Seeds(run.start, run.seed_sd.get(unit), measured_on=run.seed_runs)
    theirs = Seeds(start)
    if other is not None:
        theirs = Seeds(start, other.seed_sd, other.seeds or 1, other.seeds or 0)
        done = replace(done, reference=other.value, reference_low=other.low, reference_high=other.high)
    if difference is None and value is not None and other is not None:
        difference = value - other.value
    if baseline.grade == "OWN" and theirs.error(unit, run.bytes_per_token) is None:
        theirs = ours  # one's own reference spreads as one's own run does
    seeds = seed_spread(unit, run.bytes_per_token, ours, theirs)
    if seeds is not None:
        words = {"se": seeds.se, "unit": unit, "run": seeds.run, "reference": seeds.reference}
        notes = (*notes, Reason("seed-part", words))
    elif done.outcome == "exact":
        notes = (*notes, Reason("rows-only"))
    done = replace(
        done, value=value, difference=difference, would_help=helps, seed_se=None if seeds is None else seeds.se
    )
    if difference is None or done.se is None:
        return replace(done, se_kind=None, notes=(Reason("no-error-bar"), *notes))
    low = high = difference
    if done.se_kind != "paired" and value is not None and other is not None:
        low, high = value - other.high - other.rounding, value - other.low + other.rounding
    half = resolution_of(done.se, None, done.confidence)
    resolution = resolution_of(done.se, None if seeds is None else seeds.wide, done.confidence)
    wider = resolution - half
    low, high = low - half - wider, high + half + wider
    relation = relation_of(difference, low, high, resolution)
    return replace(done, relation=relation, resolution=resolution, low=low, high=high, notes=notes)


def _equal_loss(run: Measured, reference: Reference, *, same: bool) -> Range | None:
    loss, bits, reach = reference.loss, reference.bits, run.bytes_per_token
    if loss is not None and same:
        return loss.low, loss.high
    return None if bits is None or reach is None else (bits.low * _LN2 * reach, bits.high * _LN2 * reach)


def _equal_bytes_per_token(run: Measured, baseline: Baseline, reference: Reference) -> Range | None:
    loss, bits = reference.loss, reference.bits
    if run.loss is None:
        return None
    if bits is not None and bits.low > 0:
        return run.loss / (_LN2 * bits.high), run.loss / (_LN2 * bits.low)
    low, high = baseline.bytes_per_token_low, baseline.bytes_per_token_high
    if loss is None or loss.value <= 0 or low is None or high is None:
        return None
    return low * run.loss / loss.value, high * run.loss / loss.value
