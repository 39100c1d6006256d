"""Sentences of the rules on impossible levels, `below-floor` and `padding-in-loss`, for `core.message`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES"]

_TRAIN: Final = (
    "Step {step:n}: the median of the last {points:n} training losses is {level:loss} (perplexity {level_ppl:ppl})"
)
_EVAL: Final = "{split}, step {step:n}: the loss is {level:loss} (perplexity {level_ppl:ppl})"
_LOOK: Final = (
    "Masked language models and fine-tuning may be that low; in continued pretraining look whether padding is in the "
    "loss, whether the text repeats itself, and whether the labels are what you think."
)
_LEVEL: Final = (
    ". That is below {floor_bits:loss} bits per byte, where no published Korean pretraining has been, unless a token "
    "has fewer than {healthy_below:.1f} bytes, and how many it has the rows do not tell. Evaluate with KoCPTCallback, "
    "which logs bits per byte. " + _LOOK
)
_BITS: Final = (
    ", {bits:loss} bits per byte, with {bytes_per_token:.2f} bytes per token, below {floor_bits:loss}, where no "
    "published Korean pretraining has been (lowest: {lowest_published:loss}). " + _LOOK
)
_FALL: Final = (
    ", and it got there by a sudden fall from {from:loss} to {to:loss}. No model learns that fast: something else is "
    "measured now. Compare data, padding and labels before and after the fall, above all at a resume; go back to a "
    "checkpoint from before it."
)
_ZERO: Final = (
    ", next to 0. Nothing is left to predict: the text was learned by heart, the labels can be read from the input, or "
    "nearly all of them are padding. Look at one batch (labels, attention_mask) before training on."
)
_EVAL_ZERO: Final = (
    ", next to 0. Nothing is left to predict: this text was trained on, the labels can be read from the input, or "
    "nearly all of them are padding. Look for the set's rows in the training data and at one batch (labels, "
    "attention_mask)."
)
_PADDING_ACTION: Final = (
    "Set the labels of padding to -100: leave padding to a collator that does so (DataCollatorForLanguageModeling "
    "without padding='max_length' in the tokenizer call), give pad a token of its own, and build cached data again."
)
_OFFLINE_ACTION: Final = (
    "If rows are padded to one length, their pads must have the label -100; look at one batch. Losses from here on "
    "cannot be compared with earlier ones."
)

_SCALED: Final = (
    "Step {step:n}: the logged training loss, {logged:loss}, is {factor:loss} times the {measured:loss} that the "
    "forward passes of the same steps came to"
)
_SCALED_ACTION: Final = (
    " Divide it by that number to read it; gradients have grown alike, so the learning rate and max_grad_norm mean "
    "something else too. Return the loss divided by num_items_in_batch, or set model_accepts_loss_kwargs = False on "
    "the Trainer. No perplexity is logged for training."
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("below-floor", "train-level"): {"en": _TRAIN + _LEVEL},
    ("below-floor", "train-bits"): {"en": _TRAIN + _BITS},
    ("below-floor", "train-fall"): {"en": _TRAIN + _FALL},
    ("below-floor", "train-near-zero"): {"en": _TRAIN + _ZERO},
    ("below-floor", "eval-level"): {"en": _EVAL + _LEVEL},
    ("below-floor", "eval-bits"): {"en": _EVAL + _BITS},
    ("below-floor", "eval-fall"): {"en": _EVAL + _FALL},
    ("below-floor", "eval-near-zero"): {"en": _EVAL + _EVAL_ZERO},
    ("padding-in-loss", "masked"): {
        "en": "{split}, step {step:n}: {masked_labels:n} of {tokens:n labelled position|labelled positions} in the "
        "first batch have attention_mask 0: padding is in the loss, which will fall far below what the text allows. "
        + _PADDING_ACTION
    },
    ("padding-in-loss", "pads"): {
        "en": "{split}, step {step:n}: {pad_run_rows:n} of {rows:n row|rows} in the first batch start or end with "
        "several labelled pad tokens: padding is in the loss, which will fall far below what the text allows. "
        + _PADDING_ACTION
    },
    ("padding-in-loss", "equal"): {
        "en": "{split}, step {step:n}: {equal_ends:n} of {rows:n row|rows} in the first batch start or end with a run "
        "of one and the same label ({equal_tokens:n labels}). No mask and no pad token tells what it is, but padding "
        "looks like that, and hardly any text does. " + _PADDING_ACTION
    },
    ("padding-in-loss", "constant"): {
        "en": "Step {step:n}: each step of the last {constant_rows:n} log rows has exactly {tokens_per_step:n} "
        "{counted}, where the number varied before (loss now {loss:loss}). That is how rows padded to one length look "
        "with the padding in the loss; rows packed to one length from here on look the same. " + _OFFLINE_ACTION
    },
    ("padding-in-loss", "collapse"): {
        "en": "Step {step:n}: each step has exactly {tokens_per_step:n} {counted}, and the loss collapsed from "
        "{from:loss} to {to:loss}. Packed rows are constant too, but their loss does not collapse: padding is probably "
        "in the loss. " + _OFFLINE_ACTION
    },
    ("loss-scaled", "accumulation"): {
        "en": _SCALED + ": it was multiplied by the gradient accumulation of {accumulation:n}." + _SCALED_ACTION
    },
    ("loss-scaled", "processes"): {
        "en": _SCALED + ": it was multiplied by the number of processes, {processes:n}." + _SCALED_ACTION
    },
    ("loss-scaled", "both"): {
        "en": _SCALED + ": it was multiplied by the gradient accumulation of {accumulation:n} and by the number of "
        "processes, {processes:n}." + _SCALED_ACTION
    },
    ("loss-scaled", ""): {
        "en": _SCALED + ". Neither the gradient accumulation ({accumulation:n}) nor the number of processes "
        "({processes:n}) explains it: look at what the Trainer's compute_loss returns. No perplexity is logged for "
        "training."
    },
    ("loss-scaled", "suspected"): {
        "en": "Step {step:n}: the logged training loss, {logged:loss}, is about {factor:loss} times the evaluation's "
        "{evaluation:loss}. It was probably multiplied by the gradient accumulation, as a compute_loss of one's own "
        "that ignores num_items_in_batch does: divide it by gradient_accumulation_steps and compare again. Neither its "
        "perplexity nor its gap to the evaluation means anything."
    },
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "below-floor": {
        "en": Explanation(
            meaning="The loss is below 0.415 bits per byte, or near 0, or fell there at once. No published Korean "
            "pretraining is that low: the lowest has 0.519 bits per byte in training and 0.895 on held-out text "
            "(RedWhale). In continued pretraining it means that something other than Korean text is predicted, most "
            "often padding. A loss per token alone tells less: what is 0.4 bits per byte at 4 bytes per token is a "
            "healthy 1.1 at 1.4, as GPT-2's and Llama 2's tokenizers have on Korean.",
            decided="An evaluation (the upper end of its 95 % interval, where it has one), or the median of the last "
            "20 training points; never one training point. In bits per byte where the row, or for training an "
            "evaluation of the run, tells the bytes: info below 0.415, because fine-tuning and masked language models "
            "live there; warning when the run was declared continued pretraining. Where no row tells them: info below "
            "ln 3 nats per token (perplexity 3), whatever was declared. Next to 0 is 0.072 bits per byte, where bytes "
            "are not known 0.05 nats per token. warning, whatever the tokenizer, where the loss got below either by a "
            "sudden fall: by 0.5 nats (0.18 bits per byte), and three times what the level had moved just before. Once "
            "per set for each of these.",
            action="Look at one batch: which labels are not -100, and what do they spell? Look for repeated text, and "
            "for evaluation rows in the training data. Where bytes are not known, evaluate with KoCPTCallback, which "
            "logs bits per byte. With fine-tuning or masked language models declare the task (task='sft', --task sft).",
        )
    },
    "padding-in-loss": {
        "en": Explanation(
            meaning="Padding is predicted and scored like text. It is nearly free, so loss and perplexity look "
            "splendid and mean nothing: a public run went from 2.68 to 0.44 in this way after a resume.",
            decided="error, asks to stop: in the first training or evaluation batch, labelled positions have "
            "attention_mask 0, or rows start or end with two or more labelled pad tokens. warning: half of its rows "
            "or more start or end with eight or more labels of one and the same token. warning, from a log alone, "
            "where nobody looked at the first batch: "
            "tokens per step are exactly equal in five rows in which the loss fell, or in twelve, where they varied "
            "before; or they have been from the start while the loss collapses, to a quarter of the first or at once, "
            "below 0.415 bits per byte, or ln 3 nats per token while bytes are not known. Packed rows are constant "
            "from the start and stay silent; so do pads labelled -100 where the log counts target tokens "
            "(tokens_seen), and rows grouped by length, whose constant batches come and go.",
            action=_PADDING_ACTION + " Then start again from a checkpoint from before it.",
        )
    },
    "loss-scaled": {
        "en": Explanation(
            meaning="The training loss in the log is a multiple of the loss that was trained on, most often by the "
            "gradient accumulation: a compute_loss of one's own, or a model, returns the mean of a micro-batch where "
            "the Trainer expects a sum that was divided by num_items_in_batch (transformers issues 37766, 47688).",
            decided="warning, once. Live: the logged loss is more than 1.5 times the mean loss of the same forward "
            "passes, by target tokens, or less than its inverse, and within 10 % of the gradient accumulation, the "
            "number of processes or their product, or the same in two rows in a row. From a bare log: the training "
            "loss before an evaluation is more than 1.8 times the evaluation's, and above 12.55, what a guess among "
            "the largest vocabulary gives, at two evaluations in a row that are not; or the two fall in "
            "proportion (within 5 %) over three evaluations or more in which the evaluation falls by 15 %. Rules that "
            "compare the training loss with an evaluation, or with a floor, are silent then.",
            action="Divide the loss by num_items_in_batch in compute_loss, or set model_accepts_loss_kwargs = False on "
            "the Trainer; then look at learning rate and max_grad_norm again.",
        )
    },
}
