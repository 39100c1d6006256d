"""Sentences of comparisons: the three rules' findings, and the reasons that go with them.

`REASONS` is keyed by the code of a `ko_cpt_callbacks.core.comparison_reason.Reason`; its sentences are shown after a
finding's own and by ``ko-cpt compare``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES", "REASONS"]

REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    # Why not at all.
    "not-a-reference": {
        "en": "{baseline} is no reference for continued pretraining ({kind}): {why}.",
    },
    "no-figures": {"en": "{baseline} reports no loss, perplexity or bits per byte that a run could be compared with."},
    "stage-without-figures": {"en": "{baseline} reports no loss of its stage {stage}."},
    "stage-not-a-reference": {
        "en": "Stage {stage} of {baseline} had other data and another objective: its figures are no reference for "
        "continued pretraining."
    },
    "reference-in-training": {
        "en": "{baseline} ({stage}) reports a training loss only: a mean over changing weights on text that was being "
        "learned. It is never compared with a loss on held-out text."
    },
    "reference-of-unknown-kind": {
        "en": "It is not known whether the figure of {baseline} ({stage}) is a training loss or one on held-out text."
    },
    "train-against-eval": {
        "en": "The run has a training loss only, a mean over changing weights on text that is being learned; the "
        "reference ({stage}) has a loss on held-out text. A training loss is never compared with an evaluation loss."
    },
    "no-evaluation": {
        "en": "The run has not been evaluated, and a training loss is never compared with an evaluation loss."
    },
    "no-loss": {"en": "{set} has no finite loss."},
    "retention": {
        "en": "{set} is a retention set: it shows what the run forgets, which no other run's loss says anything about."
    },
    "no-bytes": {
        "en": "How many bytes of text the run's tokens stand for is not known, so its loss per token cannot be turned "
        "into bits per byte, and a loss per token of another tokenizer is another unit."
    },
    "vocabularies": {
        "en": "The vocabularies differ: {run:n} entries in the run, {reference:n} in the reference. The more text a "
        "tokenizer puts into a token, the higher the loss per token of an equally good model."
    },
    "reference-without-bytes": {
        "en": "The reference ({stage}) has no bits per byte, and the run was not measured on its text with its "
        "tokenizer."
    },
    # Why not exactly.
    "text-unknown": {
        "en": "It is not known that both were measured on the same text, and text alone makes a large difference: one "
        "published Korean model with one tokenizer has {low:loss} nats per token on one set and {high:loss} on another."
    },
    "different-text": {
        "en": "The two were measured on different text, and text alone makes a large difference: one published Korean "
        "model with one tokenizer has {low:loss} nats per token on one set and {high:loss} on another."
    },
    "packed": {
        "en": "Rows are packed: they hold several documents, and two tokenizers cut a stream of documents at different "
        "places."
    },
    "no-bos": {
        "en": "The first text token of a row is not scored, since no BOS token stands before it; it is another piece "
        "of text under another tokenizer, so the two did not score the same bytes."
    },
    "scored-differently": {"en": "The rows have the same text, but another part of it is scored (labels of -100)."},
    "special-tokens-differ": {
        "en": "One side scores a special token such as the end of the text and the other does not: its loss has no "
        "bytes to be divided by."
    },
    "bytes-unknown": {"en": "The bytes of some rows are not known."},
    "row-kind-unknown": {
        "en": "The per-row sums were written by an earlier version, which did not note whether a row is one whole "
        "document."
    },
    "other-rows": {
        "en": "Per-row sums contradict the row of their evaluation, of the run or of the reference: they are another "
        "evaluation's, and are not used."
    },
    "not-finite": {"en": "The per-row sums hold a loss that is not finite."},
    "no-paired-rows": {
        "en": "The text is the same, but the per-row sums of both are not at hand, so it is not shown that both "
        "scored the same bytes of it."
    },
    "reference-range": {
        "en": "The reference's bits per byte are derived, {low:loss} to {high:loss}: {formula}."
    },
    "reference-printed": {"en": "The reference's bits per byte are printed to their last digit: {low} to {high}."},
    # What else to know.
    "grade": {"en": "The reference's figure is of grade {grade}: {meaning}."},
    "trainer-loss": {"en": "The run's loss is the Trainer's own mean of batch means, which depends on the batch size."},
    "quantization": {
        "en": "Weights: run {run}, reference {reference}. {coarser} weights cost another model about "
        "{cost:signed} nats per token (Chinese-LLaMA-2-7B: 8-bit +0.011, 4-bit +0.078; with llama.cpp Q8_0 +0.0001, "
        "Q4_K +0.012)."
    },
    "language": {"en": "The reference's text is not Korean ({language}): a byte holds another amount of text there."},
    "superseded": {"en": "A newer entry stands in place of this reference: {by}."},
    "at-most": {
        "en": "The error bar is an upper bound, both sides' errors added as if independent: the per-row sums of both "
        "were not at hand, and on the same text the true error is smaller as long as the same rows are hard for both."
    },
    "rows-only": {
        "en": "The interval is about which rows are in the set; another seed of the same set-up moves the loss too."
    },
    "below-resolution": {
        "en": "The interval does not hold zero, but a difference below {resolution:loss} {unit} is what another seed "
        "or other weights' formats make: level."
    },
    "no-error-bar": {"en": "There is no error bar, so ahead or behind is not said."},
    "reference-without-error": {"en": "The reference has no error bar: the interval holds the run's alone."},
    "training-mean": {
        "en": "The run's training loss is the mean of its last {points:n training row|training rows} (steps "
        "{first_step:n} to {last_step:n})."
    },
    "same-run": {"en": "It is the same run, read from the same file: there is no difference to measure."},
    "stage-not-matched": {
        "en": "No stage of the reference trains what this run trains; stage {stage} was taken, the last with figures."
    },
    # What would help.
    "another-reference": {
        "en": "Name a baseline of continued pretraining with a loss on held-out text (ko-cpt baselines), or a run of "
        "your own."
    },
    "evaluate": {
        "en": "Give the Trainer an eval_dataset and an eval_strategy, with KoCPTCallback: it counts the bytes too."
    },
    "count-bytes": {
        "en": "Evaluate with KoCPTCallback, which counts the bytes of the scored text; of a lone loss, give "
        "--bytes-per-token."
    },
    "another-set": {"en": "Name a set of the language that is learned (--set)."},
    "same-text": {
        "en": "Evaluate both models on the same rows: keep a run with ko-cpt baselines add RUN --id NAME, or name two "
        "run folders."
    },
    "keep-rows": {
        "en": "Evaluate both again with this version's KoCPTCallback and keep ko_cpt/eval_rows: then the difference is "
        "paired row by row."
    },
    "whole-documents": {"en": "Evaluate one whole document a row, unpacked, with a BOS token before it."},
    "same-special-tokens": {"en": "End the rows of both with an EOS token, or of neither."},
    "same-labels": {"en": "Score all text of every row on both sides."},
}
"""Sentences of reasons by code, then by language."""

_AT: Final = "{split}, step {step:n}: "
_EXACT: Final = "{value:loss} {unit}, {difference:signed} ({confidence:percent} interval {low:signed} to {high:signed})"
_RANGE: Final = (
    "{value:loss} bits per byte against {reference_low:loss} to {reference_high:loss}; with its error bar "
    "{low:signed} to {high:signed} ({confidence:percent})"
)
_TO: Final = " against {baseline} ({stage}) on the same text"
_BY_INDICATION: Final = "{baseline} ({stage}), by way of indication: " + _RANGE + ".{reasons:reasons}{notes:reasons}"

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("baseline-ahead", "exact"): {"en": _AT + _EXACT + _TO + ": ahead.{notes:reasons}"},
    ("baseline-ahead", "indicative"): {"en": _AT + "ahead of " + _BY_INDICATION},
    ("baseline-behind", "exact"): {
        "en": _AT + _EXACT + _TO + ": the run ends behind it.{notes:reasons} Train longer if the loss is still "
        "falling; otherwise compare data, learning rate and what is trained with the reference's."
    },
    ("baseline-behind", "indicative"): {"en": _AT + "the run ends behind " + _BY_INDICATION},
    ("not-comparable", ""): {
        "en": "{split}, step {step:n}: not comparable with {baseline}.{reasons:reasons}{would_help:reasons}"
    },
    ("not-comparable", "baseline"): {"en": "Not comparable with {baseline}.{reasons:reasons}{would_help:reasons}"},
}

_UNITS: Final = (
    "On the same text with the same tokenizer, losses per token are compared row by row; with another tokenizer or "
    "another text, bits per byte."
)

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "baseline-ahead": {
        "en": Explanation(
            meaning="The run has a lower loss than the baseline it was told to be compared with. " + _UNITS,
            decided="info, at most once per evaluation set: the whole 95 % interval of the difference is below zero, "
            "the range that the reference's print or derivation leaves open included, and the difference is at least "
            "0.008 bits per byte, which another seed can make. On other text it is indicative only, and the finding "
            "says so. Retention sets are never compared.",
            action="Exact: keep the checkpoint. Indicative: evaluate both on the same rows before you say it aloud.",
        )
    },
    "baseline-behind": {
        "en": Explanation(
            meaning="The run ends with a higher loss than the baseline it was told to be compared with. " + _UNITS,
            decided="at most once per evaluation set, and only when training ends, since every run is behind at its "
            "beginning: the whole 95 % interval of the difference at the last evaluation is above zero, the "
            "reference's range included, and the difference is at least 0.008 bits per byte, which another seed can "
            "make. warning where it is exact; info where the text is another, because text alone makes differences as "
            "large. Retention sets are never compared.",
            action="Train longer if the loss is still falling; otherwise compare data, learning rate and what is "
            "trained. Indicative: first evaluate both on the same rows.",
        )
    },
    "not-comparable": {
        "en": Explanation(
            meaning="The run and its baseline cannot be compared: a loss per token depends on the tokenizer, a "
            "training loss is no loss on held-out text, and not every baseline has a loss at all.",
            decided="info, once: at the first row where the baseline itself is no reference or has no figure; at the "
            "first evaluation without bits per byte where the text or the tokenizer is another; or at the end of a run "
            "that was never evaluated.",
            action="Follow the sentence: it says what would make the two comparable.",
        )
    },
}
