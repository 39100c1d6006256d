"""Sentences of the rules on targets, and of `eval-too-small`. See `ko_cpt_callbacks.core.message`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "DOUBTS", "MESSAGES", "NOTES"]

NOTES: Final[Mapping[str, Mapping[str, str]]] = {
    "trainer-loss": {  # of findings that earlier versions wrote
        "en": "(The row has no exact loss: the Trainer's own stands in for it, which depends on the batch size.)"
    },
    "exact-loss": {"en": "(The row has no loss of the Trainer: the exact loss stands in for it.)"},
    "bits-from-loss": {"en": "(Bits per byte were computed from the loss, tokens and bytes of the same row.)"},
    "no-error-bar": {"en": "(There is no error bar, so the value itself decides.)"},
    "ended-early": {"en": "(Training ended before the deadline, so its end was taken.)"},
    "no-token-count": {"en": "(The rows have no tokens_seen, so the end was taken for the deadline.)"},
}
"""What stands in for what; a finding lists the keys."""

_AT: Final = "{split}, step {evaluated_step:n}: {value:{unit}}"
_BAR: Final = " ({confidence:percent} interval {low:{unit}} to {high:{unit}})"
_MET: Final = " Keep this checkpoint."
_MISSED: Final = (
    " Compare the slope of the last evaluations with what is missing: train longer only if it is still falling, "
    "otherwise look at data, learning rate and what is trained, or set a target from runs like yours."
)
_OPEN: Final = "target {target} is open at its deadline: "

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("target-met", ""): {"en": _AT + _BAR + ": target {target} is met.{notes:notes}" + _MET},
    ("target-met", "point"): {"en": _AT + ": target {target} is met.{notes:notes}" + _MET},
    ("target-missed", ""): {"en": _AT + _BAR + ": target {target} is missed.{notes:notes}" + _MISSED},
    ("target-missed", "point"): {"en": _AT + ": target {target} is missed.{notes:notes}" + _MISSED},
    ("target-inconclusive", "interval"): {
        "en": _AT + _BAR + ": " + _OPEN + "the interval holds the bound.{notes:notes} About {rows_needed:n row|rows} "
        "of this kind instead of {rows:n} would decide it; evaluate this checkpoint on more."
    },
    ("target-inconclusive", "close"): {
        "en": _AT + _BAR + ": " + _OPEN + "the interval holds the bound.{notes:notes} Either the number of rows is not "
        "known or no practical one would decide it; train on, or take it as reached to within its error."
    },
    ("target-inconclusive", "unconfirmed"): {
        "en": _AT + ": " + _OPEN + "{confirmed:n evaluation|evaluations} in a row below it, of the {confirm:n} asked "
        "for.{notes:notes} Evaluate more often (eval_steps) or ask for fewer."
    },
    ("target-inconclusive", "not-due"): {
        "en": _AT + ": target {target} is open: the rows end at step {step:n}, before its deadline.{notes:notes} Train "
        "on, or judge the whole run."
    },
    ("target-inconclusive", "no-evaluation"): {
        "en": "Target {target} cannot be judged: {split} was never evaluated (evaluated: {sets:names}). Name a set as "
        "it is logged, or give the Trainer an eval_dataset and an eval_strategy."
    },
    ("target-inconclusive", "unmeasured"): {
        "en": "{split}, step {evaluated_step:n}: target {target} cannot be judged: the row has neither {metric} nor "
        "the numbers to compute it from (bits per byte need the exact loss, tokens and bytes, which KoCPTCallback "
        "logs). Add the callback, or set the target on the loss."
    },
    ("target-inconclusive", "substitute"): {
        "en": "{split}, step {evaluated_step:n}: target {target} cannot be judged, because {reason}: the row has no "
        "exact loss, and the Trainer's own does not stand in for it. Mend that, or set the target on {split}_loss."
    },
    ("target-inconclusive", "substitute-unsaid"): {
        "en": "{split}, step {evaluated_step:n}: target {target} cannot be judged, because the row has only the "
        "Trainer's own loss, which depends on the batch size and on what is trained on. Train with KoCPTCallback, "
        "which measures the exact loss, or set the target on {split}_loss."
    },
    ("target-inconclusive", "non-finite"): {
        "en": "{split}, step {evaluated_step:n}: target {target} cannot be judged: the evaluation holds a NaN or "
        "infinite loss, which is never below a target. See non-finite; evaluate again once that is mended."
    },
    ("target-inconclusive", "implausible"): {
        "en": _AT + ": target {target} is not counted as met, because a number below it says nothing about Korean "
        "text: no published run comes near it, or a model that guesses is there already.{notes:notes} Look for padding "
        "in the loss and at the labels, and set another target."
    },
    ("target-inconclusive", "fell"): {
        "en": _AT + ": target {target} is not counted as met, because the evaluation fell suddenly to where no "
        "published run with a tokenizer made for Korean is, and how many bytes a token has the rows do not tell."
        "{notes:notes} Look for padding in the loss and at the labels; evaluate with KoCPTCallback, which logs bits "
        "per byte."
    },
    ("eval-too-small", ""): {
        "en": "{split}, step {step:n}: {rows:n row|rows} give a loss of {value:loss} to within {half:loss}: "
        "differences below that cannot be seen. About {rows_needed:n} rows of this kind would give {resolution:loss}. "
        "(Two runs on the same rows can be compared far more sharply.)"
    },
    ("eval-too-small", "rows-unknown"): {
        "en": "{split}, step {step:n}: the loss of {value:loss} is known to within {half:loss} only: differences below "
        "that cannot be seen. Evaluate on more rows; four times as many halve it."
    },
    ("eval-too-small", "target"): {
        "en": "{split}, step {step:n}: {value:{unit}}" + _BAR + " cannot be told from target {target} with "
        "{rows:n row|rows}. About {rows_needed:n} rows of this kind would tell them apart."
    },
    ("eval-too-small", "target-rows-unknown"): {
        "en": "{split}, step {step:n}: {value:{unit}}" + _BAR + " cannot be told from target {target}. Evaluate on "
        "more rows; four times as many halve the interval."
    },
}

_TOKENIZER: Final = (
    "Target {target} depends on the tokenizer: a loss of {level:loss}, perplexity {level_ppl:ppl}, is below "
    "{floor_bits:loss} bits per byte, where no published Korean run is, unless a token has fewer than "
    "{healthy_below:.1f} bytes (GPT-2's and Llama 2's tokenizers have 1.2 to 1.6 on Korean). The lowest published is a "
    "loss of {lowest:loss}, perplexity {lowest_ppl:ppl}. "
)
_TRIVIAL: Final = (
    "Target {target} says nothing: a model that guesses among 282,721 tokens, the largest vocabulary of a published "
    "Korean run, has a loss of 12.55 and is there already. "
)
_PADDING: Final = "and a run that gets there has most likely padding in its loss. Set a target from runs like yours."

DOUBTS: Final[Mapping[str, Mapping[str, str]]] = {
    "low": {
        "en": "Target {target} is implausible: a loss of {level:loss} is at most {bits:loss} bits per byte, as no "
        "token has less than a byte; no published Korean run comes near that (lowest: {lowest_bits:loss}), " + _PADDING
    },
    "bits": {
        "en": "Target {target} is implausible: no published Korean run comes near {level:loss} bits per byte (lowest: "
        "{lowest_bits:loss}), " + _PADDING
    },
    "tokenizer": {"en": _TOKENIZER + "Set a target in bits per byte, which hold for any tokenizer."},
    "tokenizer-ppl": {"en": _TOKENIZER + "Did you mean loss < {meant_loss}, perplexity < {meant_ppl:ppl}?"},
    "tokenizer-bits": {"en": _TOKENIZER + "Did you mean bits_per_byte < {below}?"},
    "trivial": {"en": _TRIVIAL + "Set a lower one."},
    "trivial-ppl": {"en": _TRIVIAL + "Did you mean perplexity < {below:ppl}, loss < {meant_loss:loss}?"},
}
"""What is said of a target where it is parsed; see `ko_cpt_callbacks.core.target_doubt`."""

_FORM: Final = (
    "A target reads [SET_]METRIC<NUMBER[%][@end|@step:N|@tokens:N][,confirm=N][,confidence=C], such as "
    "'eval_exact_loss<3.0@end'."
)

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "target-met": {
        "en": Explanation(
            meaning="An evaluation set is below a target that you set, as surely as you asked for. " + _FORM,
            decided="info: the upper end of the two-sided 95 % interval is strictly below the bound in `confirm` "
            "evaluations in a row, the last of them no later than the deadline; without an error bar the value itself. "
            "At once, and for good: a later rise does not take it back. A NaN or infinite evaluation is never met; "
            "nor, with task cpt, is a target below 0.415 bits per byte (in nats per token where the evaluation tells "
            "the bytes, or where it is so in any tokenizer), one that an evaluation without bytes fell to suddenly, or "
            "one that a guessing model meets. Asks to stop when every target of the run is met.",
            action="Keep the checkpoint of that step. With stop_on={'target-met'} the run stops by itself.",
        )
    },
    "target-missed": {
        "en": Explanation(
            meaning="The deadline of a target has passed, and the evaluation set is surely not below it. " + _FORM,
            decided="warning: at the first evaluation at or after the deadline's step (or token count), or at the end, "
            "the lower end of the two-sided 95 % interval is above the bound; without an error bar the value is not "
            "below it. A run that ends before its deadline is judged at its end. Asks to stop where the deadline was a "
            "step or a token count, so that a run can be given up there.",
            action="If the loss is still falling, train longer or with a schedule that ends later; if not, look at "
            "data and learning rate, or set a target from runs like yours.",
        )
    },
    "target-inconclusive": {
        "en": Explanation(
            meaning="The deadline of a target has passed, and the evaluations do not tell whether it is met. " + _FORM,
            decided="info: at the deadline the interval holds the bound, or fewer evaluations in a row than asked for "
            "are below it, or the rows end before the deadline. warning: the set was never evaluated, the row cannot "
            "give the metric (a target on the exact loss, its perplexity or bits per byte is never judged by the "
            "Trainer's own loss), the evaluation holds NaN, or the value is below a target that says nothing about "
            "Korean text.",
            action="Follow the sentence: evaluate on the number of rows it names, evaluate more often, or name another "
            "set or metric.",
        )
    },
    "eval-too-small": {
        "en": Explanation(
            meaning="The evaluation set has too few rows for the question that is asked of it.",
            decided="info, once per set: for a set with a target, the interval holds the bound and is wider than 0.01 "
            "to either side; for one without, half the 95 % interval of the exact loss is above 0.05 nats per token.",
            action="Evaluate on the number of rows that the sentence names; the error falls as their root.",
        )
    },
}
