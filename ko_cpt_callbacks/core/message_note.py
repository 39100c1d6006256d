"""Sentences of `note`, one a reason, for `core.message`: what this tool or the Trainer around it cannot do here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES", "NOTE"]

NOTE: Final = "note"
"""The code whose findings differ by their reason."""

_SENTENCES: Final[Mapping[str, str]] = {
    "trackers-not-reached": "The trackers do not get this callback's numbers because it could not move to the front of "
    "the callback list; log_history and metrics have them. Use KoCPTCallback(...).attach(trainer).",
    "early-stopping-twice": "{other} is in this Trainer too. Whichever asks first stops the run, and its count of "
    "patience starts over at every resume while this callback's does not. Keep one of them: patience= and min_delta= "
    "do the same.",
    "stopped-before": "This run resumes at step {step:n} although {reason} already asked to stop at step "
    "{reason_step:n}. It stops again after one step. To train on, take {reason} out of stop_on, or set a new target.",
    "stopped-before-goes-on": "This run resumes at step {step:n} although {reason} was already found at step "
    "{reason_step:n}. It trains on, because stop_on does not name {reason}.",
    "exact-loss-absent": "{split}: no exact loss: {reason}",
    "exact-loss-absent-in-run": "no exact loss in this run: {reason}",
    "error-bar-absent": "{split}: no error bar: {reason}",
    "nan-filter-on": "The steps with a NaN loss cannot be counted here (the model's call returns no loss, or not every "
    "process is seen), and the Trainer logs a NaN loss as 0 or as part of the earlier mean. To see it: "
    "TrainingArguments(logging_nan_inf_filter=False).",
    "no-first-evaluation": "There is no evaluation before the first step: what training changes, and what it makes the "
    "model forget, is then counted from a model that was trained already. Set TrainingArguments(eval_on_start=True).",
    "eval-steps-ignored": "eval_steps={eval_steps} is ignored, because eval_strategy is '{eval_strategy}'. To evaluate "
    "every so many steps: TrainingArguments(eval_strategy='steps').",
}

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    (NOTE, reason): {"en": text} for reason, text in _SENTENCES.items()
}

_REASONS: Final[Mapping[str, Explanation]] = {
    "exact-loss-absent": Explanation(
        meaning="The exact loss of this evaluation set could not be measured, so the callback publishes none; the "
        "Trainer's own loss stands, with its dependence on the batch size.",
        decided="info, once per evaluation set: the forward passes of the evaluation gave no evidence from which a sum "
        "over tokens can be had; the finding names why.",
        action="Follow what the sentence says. Most often: KoCPTCallback(...).attach(trainer) before evaluate(), or a "
        "model that returns logits or a loss.",
    ),
    "exact-loss-absent-in-run": Explanation(
        meaning="No exact loss can be measured in this whole run, which is what the callback is there for.",
        decided="warning, once and before the first step: the set-up rules it out, as several GPUs in one process "
        "(nn.DataParallel) do. No set says it again.",
        action="Start one process per GPU, with accelerate launch or torchrun.",
    ),
    "error-bar-absent": Explanation(
        meaning="The exact loss is known as a sum over whole batches, not row by row. So it has no standard error, and "
        "no paired comparison; bits per byte and fingerprint stand.",
        decided="info, once per evaluation set: the output has no logits, and neither log-probabilities nor hidden "
        "states to make them from; the finding names why.",
        action="Let evaluation give logits: without torch_compile; use_liger_kernel=False, or skip_logits=False in the "
        "call; with Unsloth, UNSLOTH_RETURN_LOGITS=1 in the environment before it is imported.",
    ),
    "trackers-not-reached": Explanation(
        meaning="The Trainer calls trackers (TensorBoard, trackio, wandb) before this callback, so they get the row "
        "without its numbers. log_history, trainer_state.json, metrics and our files have them.",
        decided="info, once: when training began the callback was not at the front of the Trainer's callback list.",
        action="Call KoCPTCallback(...).attach(trainer) after building the Trainer.",
    ),
    "early-stopping-twice": Explanation(
        meaning="transformers' EarlyStoppingCallback and this callback may both stop the run, each by its own count.",
        decided="info, once, when training begins: this callback was told to stop on something (stop_on or patience), "
        "and an EarlyStoppingCallback is in the Trainer's callback list.",
        action="Remove one. patience= and min_delta= of this callback replace early_stopping_patience and "
        "early_stopping_threshold.",
    ),
    "nan-filter-on": Explanation(
        meaning="logging_nan_inf_filter, on by default, keeps NaN losses out of the log. Otherwise this callback "
        "counts them; in this set-up it cannot.",
        decided="info, once, at the first training row: logging_nan_inf_filter is on, and there is no count of "
        "non-finite steps (label smoothing, compute_loss_func, several GPUs in one process, or the callback is not on "
        "every process).",
        action="TrainingArguments(logging_nan_inf_filter=False): a NaN is then logged as NaN.",
    ),
    "no-first-evaluation": Explanation(
        meaning="Without an evaluation at step 0 there is no starting value: relative targets and forgetting are "
        "counted from the first evaluation that there is.",
        decided="info, once, when a training begins at step 0: eval_strategy is not 'no', eval_on_start is off, and no "
        "evaluation at step 0 is on record.",
        action="TrainingArguments(eval_on_start=True).",
    ),
    "eval-steps-ignored": Explanation(
        meaning="The Trainer evaluates by eval_strategy, and eval_steps counts for 'steps' alone.",
        decided="info, once, when training begins: eval_steps is set, and eval_strategy is not 'steps'.",
        action="TrainingArguments(eval_strategy='steps').",
    ),
    "stopped-before": Explanation(
        meaning="A checkpoint of a run that reached its target, or was stopped, is trained on. The Trainer does not "
        "remember why it stopped; this callback does, and stops again.",
        decided="info, at every resume: a finding that stop_on names was made at or before the step the run resumes "
        "from.",
        action="Use the checkpoint as it is; to train on, take the code out of stop_on or set a new target.",
    ),
    "stopped-before-goes-on": Explanation(
        meaning="A run that met its target is trained on.",
        decided="info, at every resume: a target was met at or before the step the run resumes from, and stop_on does "
        "not name target-met.",
        action="Nothing, if training on is meant. Otherwise use the checkpoint as it is.",
    ),
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    NOTE: {
        "en": Explanation(
            meaning="Something that this tool, or the Trainer around it, does not do in this run, so that numbers or "
            "checks are missing. The run itself is not at fault. A note has a reason, which its sentence tells and "
            "which stands under variant in findings.jsonl and --json.",
            decided="info, or warning where nothing at all can be measured exactly (exact-loss-absent-in-run), by the "
            "reason; each reason is said once, of an evaluation set once per set, and stopped-before at every resume.",
            action="What the sentence says; nothing, where what is missing is not needed.",
            reasons=_REASONS,
        )
    },
}
