"""Every sentence, keyed by code and variant, then by language. A second language is one more column here.

How numbers are shown is part of the template:

==================  ======================================  ============
``{x:loss}``        three decimals (also bits per byte)     ``3.078``
``{x:ppl}``         three significant digits                ``21.7``
``{x:percent}``     a fraction, three significant digits    ``-31.5 %``
``{x:n}``           thousands separators                    ``12,000``
``{x:n row|rows}``  a count with its word                   ``1 row``
``{x:names}``       a list of names                         ``eval, test``
``{x:notes}``       a list of notes, each its sentence
``{x:signed}``      a difference, three decimals            ``+0.011``
``{x:reasons}``     a list of reasons, each its sentence
``{x}``             as it is                                ``eval_ko``
==================  ======================================  ============
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from string import Formatter
from typing import Any, Final

from ko_cpt_callbacks.core import (
    message_comparison,
    message_eval_health,
    message_health,
    message_level,
    message_note,
    message_record,
    message_setup,
    message_stage,
    message_target,
)
from ko_cpt_callbacks.core.explanation import Explanation
from ko_cpt_callbacks.core.message_note import NOTE

__all__ = [
    "CODES", "DEFAULT_LANGUAGE", "MESSAGES", "NOTE", "RETIRED", "Explanation", "doubt_sentence", "explanation",
    "reason_sentence", "sentence",
]  # fmt: skip

DEFAULT_LANGUAGE: Final = "en"


_TRAIN_ACTION: Final = (
    "Stop, go back to a checkpoint from before it, and look for the cause: a learning rate too high, fp16 "
    "overflow (use bf16), or a batch without a target token."
)
_EVAL_ACTION: Final = (
    "transformers 5.23 leaves NaN batches out of {split}_loss, so that it can look healthy all the same. "
    "Do not use this evaluation; if training is healthy, look for rows without a target token or fp16 "
    "overflow in this set."
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("non-finite", "loss"): {
        "en": "Step {step:n}: the training loss is {loss:loss}. The weights are usually lost from here on. "
        + _TRAIN_ACTION
    },
    ("non-finite", "steps"): {
        "en": "Step {step:n}: {nonfinite_steps:n training step|training steps} since the last log had a "
        "NaN or infinite loss (logged: {loss:loss}). " + _TRAIN_ACTION
    },
    ("non-finite", "steps-first"): {
        "en": "Step {step:n}: {nonfinite_steps:n training step|training steps} since the last log had a "
        "NaN or infinite loss, the first of them step {nonfinite_first_step:n} (logged: {loss:loss}). " + _TRAIN_ACTION
    },
    ("non-finite", "zero"): {
        "en": "Step {step:n}: the training loss is logged as exactly 0 and the gradient norm as "
        "{grad_norm:loss}. This is no success: the Trainer logs a NaN loss as 0 (logging_nan_inf_filter). "
        + _TRAIN_ACTION
    },
    ("non-finite", "zero-after"): {
        "en": "Step {step:n}: the training loss is logged as exactly 0 after {previous_loss:loss}, and "
        "there is no gradient norm to tell. The Trainer logs a NaN loss as 0 (logging_nan_inf_filter), and "
        "no loss falls to 0 in one row. " + _TRAIN_ACTION
    },
    ("non-finite", "zeros"): {
        "en": "Step {step:n}: the training loss is logged as exactly 0 for {zero_rows:n rows} in a row, after "
        "{previous_loss:loss}, and there is no gradient norm to tell why. Either it is NaN, which the Trainer logs as "
        "0 (logging_nan_inf_filter), or the text is learned by heart and the loss is rounded to 0: nothing is gained "
        "from here on. Generate a few tokens with the last checkpoint, which a model of NaNs cannot; then look for a "
        "NaN, or train on more text for fewer epochs."
    },
    ("non-finite", "drop"): {
        "en": "Step {step:n}: the training loss falls to {loss:loss} where {expected_loss:loss} was to be "
        "expected, and the gradient norm is {grad_norm:loss}. This is no progress: the loss most likely "
        "became NaN since the last log, and the Trainer fills NaN steps with part of the earlier mean. " + _TRAIN_ACTION
    },
    ("non-finite", "scaler"): {
        "en": "Step {step:n}: the gradient norm is {grad_norm:loss} while the loss, {loss:loss}, is "
        "healthy. An fp16 loss scaler skips such a step and goes on; nothing to do unless it happens again "
        "and again."
    },
    ("non-finite", "scaler-repeated"): {
        "en": "Step {step:n}: the gradient norm is {grad_norm:loss}, by now NaN or infinite in "
        "{scaler_rows:n} logged rows, while the loss, {loss:loss}, is healthy. An fp16 loss scaler skips "
        "such steps, so part of the training is lost. Use bf16, or a lower learning rate."
    },
    ("non-finite", "no-target"): {
        "en": "Step {step:n}: {targetless_micro_batches:n micro-batch|micro-batches} since the last log had no target "
        "token: all labels are -100, their loss is 0/0 (logged: {loss:loss}), and they train nothing. Look for rows "
        "of which only the prompt is left after cutting, and for empty texts."
    },
    ("non-finite", "eval"): {
        "en": "{split}, step {step:n}: the Trainer's loss of this evaluation is {loss:loss}. " + _EVAL_ACTION
    },
    ("non-finite", "eval-exact"): {
        "en": "{split}, step {step:n}: the exact loss of this evaluation is {exact_loss:loss} (the "
        "Trainer's {split}_loss: {loss:loss}). " + _EVAL_ACTION
    },
    ("non-finite", "eval-batches"): {
        "en": "{split}, step {step:n}: {nonfinite_batches:n batch|batches} of this evaluation had a NaN or "
        "infinite loss (the Trainer's {split}_loss: {loss:loss}). " + _EVAL_ACTION
    },
    ("not-enough-data", ""): {
        "en": "The run ends with {train_points:n training point|training points} and at most "
        "{evaluations:n evaluation|evaluations} of any one set: too little to judge how the loss develops. "
        "Log and evaluate more often (logging_steps, eval_steps) or train longer; {min_train_points:n} "
        "training points or {min_evaluations:n} evaluations are enough."
    },
    ("no-improvement", ""): {
        "en": "{split}, step {step:n}: {patience:n evaluation|evaluations} in a row without a loss lower by more "
        "than {min_delta:loss} than the best, {best:loss} at step {best_step:n} (now {loss:loss}). Stop here and "
        "use the best checkpoint, or lower the learning rate."
    },
    ("no-improvement", "not-finite"): {
        "en": "{split}, step {step:n}: {patience:n evaluation|evaluations} in a row without a loss lower by more than "
        "{min_delta:loss} than the best, {best:loss} at step {best_step:n}; the last one is NaN or infinite. Go back "
        "to the best checkpoint and look at non-finite."
    },
    ("no-improvement", "none-finite"): {
        "en": "{split}, step {step:n}: {patience:n evaluation|evaluations} in a row, and the loss was NaN or infinite "
        "in each. Stop and look at non-finite."
    },
    ("rule-failed", "at-a-row"): {
        "en": "The rule {rule} failed at step {step:n} ({error}): what it would have found there and after it is not "
        "said. The other rules go on. This is a mistake of ko_cpt_callbacks; please report it with the log."
    },
    ("rule-failed", "at-the-end"): {
        "en": "The rule {rule} failed when it judged the end of the history, step {step:n} ({error}): what it would "
        "have found there is not said. The other rules were asked. This is a mistake of ko_cpt_callbacks; please "
        "report it with the log."
    },
    **message_comparison.MESSAGES,
    **message_health.MESSAGES,
    **message_eval_health.MESSAGES,
    **message_level.MESSAGES,
    **message_note.MESSAGES,
    **message_record.MESSAGES,
    **message_stage.MESSAGES,
    **message_setup.MESSAGES,
    **message_target.MESSAGES,
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "non-finite": {
        "en": Explanation(
            meaning="A loss or a gradient became NaN or infinite. After a NaN in training the weights are "
            "usually NaN too, and every later step is wasted. The Trainer hides it: it logs a NaN training "
            "loss as 0.0, and transformers 5.23 leaves NaN batches out of eval_loss.",
            decided="error, asks to stop: the callback's hook counted steps or evaluation batches with a "
            "NaN or infinite loss; or a logged loss is NaN or infinite; or the training loss is exactly 0 "
            "with a NaN or infinite gradient norm; or it is exactly 0 after a loss above 0.2 with no "
            "gradient norm logged; or it falls by more than 5 % and six times its noise in the row whose "
            "gradient norm is NaN or infinite, unless the learning rate, which had been moving, stands still there: "
            "the step was skipped. One finding per episode: three healthy rows end it. warning: with no gradient norm "
            "logged, five rows of exactly 0 after a small loss (above 0.002), NaN or known by heart. A NaN or infinite "
            "gradient norm with a healthy loss is the fp16 loss scaler at work: info at the first such row, warning at "
            "the third after the scaler has found its scale. A micro-batch without a target token has a loss of 0/0 "
            "and a gradient of 0: info, once.",
            action="Stop and go back to a checkpoint from before the named step. Lower the learning rate "
            "or lengthen the warm-up; use bf16 instead of fp16, also for embeddings trained beside 8-bit "
            "weights; look at the batch of that step for rows without a target token.",
        )
    },
    "not-enough-data": {
        "en": Explanation(
            meaning="The history is too short to say how the loss develops; most other checks stay silent.",
            decided="info: the run ends, or its history does, with fewer than 10 training points and fewer "
            "than 3 evaluations of any one set.",
            action="Lower logging_steps and eval_steps, or train longer.",
        )
    },
    "no-improvement": {
        "en": Explanation(
            meaning="The loss of the evaluation set has not become better for as long as you were ready to wait.",
            decided="warning, asks to stop, only with patience=: that many evaluations in a row of the first set "
            "that is no retention set, none lower than the best by more than min_delta (nats per token, or a "
            "percentage of the best loss). A loss that is not finite improves nothing, and counts. The count starts "
            "anew where other rows are evaluated (eval-set-changed).",
            action="Stop and use the best checkpoint, or lower the learning rate; a larger min_delta stops earlier.",
        )
    },
    "rule-failed": {
        "en": Explanation(
            meaning="A rule met a log that it was not written for and raised an exception. Each rule is guarded by "
            "itself: the training and the other rules go on, and nothing is known of what this rule looks for.",
            decided="warning, once per rule, at the row at which it raised. The rule is not asked again in this run. "
            "ko-cpt check says so on stderr and exits 2.",
            action="Report it with the log. Look at the numbers this rule judges yourself (ko-cpt explain RULE).",
        )
    },
    **message_comparison.CODES,
    **message_health.CODES,
    **message_eval_health.CODES,
    **message_level.CODES,
    **message_note.CODES,
    **message_record.CODES,
    **message_stage.CODES,
    **message_setup.CODES,
    **message_target.CODES,
}

RETIRED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "early-stopping-twice", "error-bar-absent", "exact-loss-absent", "nan-filter-on", "no-first-evaluation",
            "stopped-before", "trackers-not-reached",
        ),
        NOTE,
    ),
    "target-implausible": "",
}  # fmt: skip
"""Codes of earlier versions, each with the code to write now; empty where it is no finding, but said of a target when
it is parsed (`doubt_sentence`)."""

_WORDS: Final[Mapping[str, str]] = {"NaN": "NaN", "Infinity": "infinite", "-Infinity": "-infinite"}
_NOTES: Final[Mapping[str, Mapping[str, str]]] = {**message_health.NOTES, **message_target.NOTES}


class _Shown(Formatter):
    """`str.format` with the number rules of the module docstring."""

    def __init__(self, language: str) -> None:
        self.language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return "unknown"
        if isinstance(value, float) and not math.isfinite(value):
            value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        if isinstance(value, str):
            return _WORDS.get(value, value)
        kind, _, words = format_spec.partition(" ")
        if kind == "names":
            return ", ".join(value) or "none"
        if kind == "notes":
            return "".join(f" {_NOTES[note][self.language]}" for note in value)
        if kind == "reasons":
            return "".join(f" {reason_sentence(item, self.language)}" for item in value)
        if kind == "signed":
            # A difference that is not zero must not read as zero.
            return f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.1e}" if value else "0.000"
        if kind == "percent":
            shown = f"{value * 100:.3g}" if abs(value) < 10 else f"{value * 100:,.0f}"
            # 99.99 % is not 100 %.
            return f"{value * 100:.6g} %" if shown == "100" and value != 1 else f"{shown} %"
        if kind == "loss":
            return f"{value:.3f}"
        if kind == "ppl":
            # "g" would show 1234 as 1.23e+03.
            return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
        if kind == "n":
            shown = f"{value:,}"
            if not words:
                return shown
            one, _, many = words.partition("|")
            return f"{shown} {one if value == 1 else many or one}"
        return str(super().format_field(value, format_spec))


def sentence(code: str, variant: str, values: Mapping[str, Any], language: str = DEFAULT_LANGUAGE) -> str:
    """The sentence of a finding.

    Args:
        code: The finding's code.
        variant: Which of the code's sentences; empty where there is one.
        values: The numbers and names to put in; a ``None`` is shown as "unknown".
        language: Column of the table.

    Raises:
        KeyError: If the table has no such sentence, or ``values`` lacks a number that it shows.
    """
    try:
        template = MESSAGES[code, variant][language]
    except KeyError:
        raise KeyError(f"no sentence for code {code!r}, variant {variant!r}, language {language!r}") from None
    return _Shown(language).vformat(template, (), values)


def reason_sentence(reason: Mapping[str, Any], language: str = DEFAULT_LANGUAGE) -> str:
    """The sentence of a reason of a comparison.

    Args:
        reason: Its code under ``code``, and the numbers and names to put in.
        language: Column of the table.

    Raises:
        KeyError: If the table has no such reason, or ``reason`` lacks a number that it shows.
    """
    template = message_comparison.REASONS[reason["code"]][language]
    return _Shown(language).vformat(template, (), reason)


def doubt_sentence(variant: str, values: Mapping[str, Any], language: str = DEFAULT_LANGUAGE) -> str:
    """The sentence of what speaks against a target.

    Args:
        variant: Which sentence.
        values: The numbers and names to put in.
        language: Column of the table.

    Raises:
        KeyError: If the table has no such sentence, or ``values`` lacks a number that it shows.
    """
    return _Shown(language).vformat(message_target.DOUBTS[variant][language], (), values)


def explanation(code: str, language: str = DEFAULT_LANGUAGE, variant: str = "") -> Explanation:
    """What a code means, how it is decided and what to do.

    Args:
        code: The finding's code.
        language: Column of the table.
        variant: The finding's; where it is a reason that is explained apart, that is what is returned.

    Raises:
        KeyError: If the code or the language is unknown.
    """
    said = CODES[code][language]
    return said.reasons.get(variant, said)
