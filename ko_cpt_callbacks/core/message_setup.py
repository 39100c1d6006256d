"""Sentences of the rules on the set-up (the audit when training begins), for `core.message`.

Each says what to change in one line of code; where that line depends on the model it comes with the finding (``fix``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ko_cpt_callbacks.core.explanation import Explanation

__all__ = ["CODES", "MESSAGES"]

_NEW_ROWS: Final = (
    "The tokenizer has {new_tokens:n token|tokens} that the model was not built with, and their rows in {frozen:names} "
    "are frozen: they cannot learn in this run"
)
_ON_PROMPTS: Final = "In the first batch all text of its {rows:n row|rows} is labelled"
_CHOICE: Final = "The Trainer keeps as best the checkpoint with the {extreme} {{metric}}"
_NO_METRIC: Final = (
    "The Trainer will raise a KeyError after its first evaluation: metric_for_best_model names {metric}, and no "
    "evaluation of this run has it"
)
_METRICS_THERE: Final = (
    'There will be: {there:names}. Set TrainingArguments(metric_for_best_model="{near}"), or another of these.'
)
_SAME_ROWS: Final = (
    "{split}: {found:n row|rows} of the {compared:n} looked for (of {set_rows:n}) {found_where}. The loss of this set "
    "says what was memorised, not what was learnt. Take them out: train_dataset = train_dataset.filter(lambda row: "
    'tuple(row["input_ids"]) not in held_out), with held_out = {{tuple(ids) for ids in eval_dataset["input_ids"]}}.'
)

MESSAGES: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("no-trainable-parameters", ""): {
        "en": "None of the model's {parameters:n parameter|parameters} requires a gradient: nothing will be learnt. "
        "Before Trainer(...): model = get_peft_model(model, LoraConfig(...)) for adapters, "
        "model.requires_grad_(True) to train all of it."
    },
    ("adapters-frozen", "nothing-trained"): {
        "en": "The model has adapters ({adapter_parameters:n parameter|parameters}), none of them requires a gradient, "
        "and nothing else does: nothing will be learnt. Load them with PeftModel.from_pretrained(model, path, "
        "is_trainable=True), or before Trainer(...): model.set_adapter(model.active_adapter)."
    },
    ("adapters-frozen", "others-trained"): {
        "en": "The model has adapters ({adapter_parameters:n parameter|parameters}), and none of them requires a "
        "gradient: only {trainable_parameters:n other parameter|other parameters} will be trained. Load them with "
        "PeftModel.from_pretrained(model, path, is_trainable=True), or before Trainer(...): "
        "model.set_adapter(model.active_adapter)."
    },
    ("adapters-frozen", "beside-trained"): {
        "en": "The model has adapters ({adapter_parameters:n parameter|parameters}), and none of them requires a "
        "gradient: only the {trainable_parameters:n parameter|parameters} that PEFT saves beside them "
        "(modules_to_save, new rows) will be trained. That is right for a stage of embeddings; otherwise "
        "load them with PeftModel.from_pretrained(model, path, is_trainable=True)."
    },
    ("embeddings-frozen", "untrained"): {
        "en": _NEW_ROWS + ", and they are still what the resize made of them. Train them: {fix}"
    },
    ("embeddings-frozen", "alike"): {
        "en": "{new_tokens:n text token|text tokens} at the end of the tokenizer's vocabulary have nearly the same row "
        "in {frozen:names}, as a resize makes new rows and no training leaves them, and these rows are frozen: they "
        "cannot learn in this run. Train them: {fix}"
    },
    ("embeddings-frozen", "maybe-trained"): {
        "en": _NEW_ROWS + ". Unless an earlier stage trained them, change that: {fix}"
    },
    ("embeddings-not-padded", ""): {
        "en": "The vocabulary has grown to {rows:n} rows, which is no multiple of 8: tensor cores compute the head "
        "slower. With model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of={multiple}) it has "
        "{padded_rows:n}; do it before training, no number changes by it."
    },
    ("embeddings-untied", ""): {
        "en": "The configuration says that input embeddings and head are one matrix (tie_word_embeddings), but here "
        "they are two (trained: {trained:names}): they drift apart, and one of them is lost when the merged model is "
        "loaded again. {fix}"
    },
    ("half-precision-modules", "plain"): {
        "en": "{tensors:n trained weight is|trained weights are} in fp16 ({modules:names}): small updates vanish in it "
        "and large values overflow; the loss goes to 0 or NaN. {fix}"
    },
    ("half-precision-modules", "quantized"): {
        "en": "{tensors:n trained weight is|trained weights are} in fp16 ({modules:names}) beside {quantization} "
        "weights: small updates vanish in it and large values overflow; the loss goes to 0 or NaN. {fix}"
    },
    ("prompt-in-loss", ""): {
        "en": _ON_PROMPTS + " ({tokens:n label|labels}), prompts included, though the task is sft: the model learns to "
        "write prompts too. With TRL: SFTConfig(completion_only_loss=True) for prompt/completion data, "
        "SFTConfig(assistant_only_loss=True) for messages; elsewhere give the prompt's labels -100."
    },
    ("eos-not-trained", ""): {
        "en": "In the first batch {ends:n text ends|texts end} with the end token, and no label is that token: it is "
        "the pad token too, and the collator gives pads the label -100. The model does not learn to stop. Give the "
        'tokenizer a pad token of its own, for example tokenizer.pad_token = "<unused0>", any special token that no '
        "text has, or label the end of each text before padding."
    },
    ("worst-model-kept", "highest"): {
        "en": _CHOICE.format(extreme="highest")
        + ", which is the worst: {metric} is better the lower. Set TrainingArguments(greater_is_better=False), or "
        'metric_for_best_model to a name that ends in "loss".'
    },
    ("worst-model-kept", "lowest"): {
        "en": _CHOICE.format(extreme="lowest")
        + ", which is the worst: {metric} is better the higher. Set TrainingArguments(greater_is_better=True)."
    },
    ("worst-model-kept", "stop-unsaved"): {
        "en": "If this run is stopped (stop_on, patience), the state it stops at is not saved: with "
        'save_strategy="best" and eval_strategy="epoch" the Trainer saves after the stop only what is best so far. Set '
        'TrainingArguments(save_strategy="epoch"), or eval_strategy="steps".'
    },
    ("metric-not-delivered", "unknown"): {
        "en": _NO_METRIC + ". " + _METRICS_THERE
    },
    ("metric-not-delivered", "unmeasured"): {
        "en": _NO_METRIC + " ({reason}). " + _METRICS_THERE
    },
    ("metric-not-delivered", "unless"): {
        "en": "metric_for_best_model names {metric}, which the Trainer's own evaluation does not have. Unless "
        "{others:names} adds it, the Trainer raises a KeyError after its first evaluation. " + _METRICS_THERE
    },
    ("eval-in-training", "whole"): {
        "en": _SAME_ROWS.replace("{found_where}", "are among the {train_rows:n} training rows, token for token")
    },
    ("eval-in-training", "sample"): {
        "en": _SAME_ROWS.replace(
            "{found_where}",
            "are among {train_compared:n} sampled training rows (of {train_rows:n}), token for token",
        )
    },
}

CODES: Final[Mapping[str, Mapping[str, Explanation]]] = {
    "no-trainable-parameters": {
        "en": Explanation(
            meaning="Every parameter is frozen. Training dies in its first backward pass, with an error that names no "
            "parameter; with gradient checkpointing it runs to its end and learns nothing.",
            decided="error, asks to stop, when training begins: no parameter of the model has requires_grad, and there "
            "are no adapters (those are adapters-frozen).",
            action="Put adapters on the model (model = get_peft_model(model, LoraConfig(...))) or unfreeze what is to "
            "be trained (model.requires_grad_(True)), before the Trainer is built.",
        )
    },
    "adapters-frozen": {
        "en": Explanation(
            meaning="The model has adapters, but they are frozen, as an adapter is that was loaded for inference "
            "(PeftModel.from_pretrained without is_trainable=True).",
            decided="error, asks to stop, when training begins: the model has parameters of adapters (LoRA and the "
            "like; modules_to_save and single token rows do not count), and none of them has requires_grad. Info, "
            "where modules_to_save or single token rows, and nothing else, are trained: a stage of embeddings.",
            action="PeftModel.from_pretrained(model, path, is_trainable=True), or "
            "model.set_adapter(model.active_adapter) before the Trainer is built.",
        )
    },
    "embeddings-frozen": {
        "en": Explanation(
            meaning="The vocabulary was extended, but the rows of the new tokens are not trained: the model reads and "
            "writes the new tokens with the values they were given at the start. The loss stays high.",
            decided="When training begins, where the configuration's vocabulary has grown since the model was built or "
            "since its checkpoint was written, the tokenizer has tokens beyond the old one (its pad token does not "
            "count), and input embeddings or head have no trainable parameter. warning, asks to stop: up to 64 of the "
            "new rows differ among themselves by less than a thousandth of what old rows differ, which no training "
            "leaves so. info: they differ more, or cannot be looked at; an earlier stage may have trained them. "
            "Where the model was saved after the resize, or the new tokens fell into spare rows, that "
            "is left of it which can be seen: a tokenizer that has tokens behind those it had when it was read "
            "(transformers 5), or two and more text tokens at the end of the vocabulary whose rows differ by less than "
            "that thousandth (warning). Special tokens, and names that a publisher keeps free, are no text. Nothing is "
            "said where none of this can be seen.",
            action="Train both, for example LoraConfig(modules_to_save=['embed_tokens', 'lm_head']), or the new rows "
            "alone (trainable_token_indices).",
        )
    },
    "embeddings-not-padded": {
        "en": Explanation(
            meaning="Matrix multiplications run on tensor cores at full speed where their sizes are multiples of 8 "
            "(fp16, bf16; 64 on newer cards). resize_token_embeddings makes as many rows as there are tokens.",
            decided="info, when training begins: the vocabulary has certainly grown (as for embeddings-frozen), its "
            "rows are no multiple of 8, and before it grew they were one, or that is not known.",
            action="model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64) before training.",
        )
    },
    "embeddings-untied": {
        "en": Explanation(
            meaning="A model with tied embeddings (Gemma, small Qwen and Llama models) has one matrix for input and "
            "output. modules_to_save copies it twice, LoRA on one of the two changes only that one; the "
            "configuration still says that they are one, so a loaded model ties them again and loses a part.",
            decided="warning, asks to stop, when training begins: tie_word_embeddings is true, input embeddings and "
            "head do not share their numbers, and at least one of them is trained.",
            action="LoraConfig(..., ensure_weight_tying=True) keeps them one; model.config.tie_word_embeddings = False "
            "says that they are two, and both are saved.",
        )
    },
    "half-precision-modules": {
        "en": Explanation(
            meaning="Weights are trained in fp16 without a copy in fp32. An optimizer's small steps round to nothing "
            "and large values overflow: losses such as 4.85, then 0.0 for good.",
            decided="warning, asks to stop, when training begins: a parameter with requires_grad is float16, and no "
            "DeepSpeed keeps an fp32 copy. bf16 and fp32 are fine.",
            action="model = prepare_model_for_kbit_training(model) before get_peft_model on a quantised model; load "
            "any other with dtype=torch.bfloat16 or torch.float32. fp16=True then still computes in fp16.",
        )
    },
    "prompt-in-loss": {
        "en": Explanation(
            meaning="A fine-tuning on answers is trained on its prompts as well, which are often longer than the "
            "answers. The loss is that of prompts in the main.",
            decided="warning, asks to stop, only with task sft, after the first step: in every row of the first batch, "
            "over all processes, each token but the first of a text is labelled. Pads do not count "
            "(padding-in-loss).",
            action="TRL: SFTConfig(completion_only_loss=True) or SFTConfig(assistant_only_loss=True); elsewhere label "
            "the prompt's tokens -100. If prompts are meant to be learnt, task='other'.",
        )
    },
    "eos-not-trained": {
        "en": Explanation(
            meaning="The end token serves as pad (tokenizer.pad_token = tokenizer.eos_token), and the collator masks "
            "every pad in the labels, as DataCollatorForLanguageModeling does: the end of every text is masked with "
            "them. The model goes on and on when it writes; the loss shows nothing of it.",
            decided="warning, after the first step: the pad token is an end token, at least one text of the first "
            "batch, over all processes, ends with it right behind a labelled token (by the attention mask, or because "
            "more text follows), and no label of the batch is that token. An end inside a masked prompt does not "
            "count, nor what cannot be told from a pad.",
            action="tokenizer.pad_token = another special token that no text has; or labels that are made before "
            "padding, with -100 only where the attention mask is 0.",
        )
    },
    "worst-model-kept": {
        "en": Explanation(
            meaning="load_best_model_at_end, save_strategy='best', save_total_limit and EarlyStoppingCallback follow "
            "metric_for_best_model and greater_is_better. Where these two do not fit together the best checkpoint is "
            "deleted and the worst kept.",
            decided="warning, asks to stop, when training begins: the metric is a loss, perplexity, bits per byte or "
            "error rate and greater_is_better is true (the Trainer's default for every name that does not end in "
            "'loss'), or it is an accuracy, F1, BLEU, ROUGE or exact match and greater_is_better is false. Also: "
            "stop_on or patience is set, save_strategy is 'best' and eval_strategy is 'epoch'.",
            action="TrainingArguments(metric_for_best_model='eval_exact_loss'), or greater_is_better as the sentence "
            "says.",
        )
    },
    "metric-not-delivered": {
        "en": Explanation(
            meaning="The Trainer looks metric_for_best_model up in the metrics of every evaluation. Where the name is "
            "not there it raises a KeyError, which ends the run after its first evaluation, hours in. "
            "load_best_model_at_end and a ReduceLROnPlateau schedule ask for 'loss' by themselves.",
            decided="error, asks to stop, when training begins: the run evaluates, its evaluation sets are known, and "
            "the name is neither a loss of one of them nor one of this callback's numbers, or it is one that this run "
            "cannot have. With a dict of evaluation sets there is no eval_loss, only eval_<name>_loss. Names that "
            "begin with a set's prefix are not judged where there is compute_metrics. info: a Trainer class of one's "
            "own or another callback may add the name, and it is eval_loss or one of this callback's.",
            action="TrainingArguments(metric_for_best_model=...) with a name that the sentence lists.",
        )
    },
    "eval-in-training": {
        "en": Explanation(
            meaning="Rows of the evaluation set are in the training set, token for token.",
            decided="warning, asks to stop, when training begins: of up to 2,000 rows of each evaluation set and up to "
            "20,000 training rows, both spread evenly (fewer where that takes more than 0.75 s), the tokens or text "
            "are the same for an estimated 1 % of the set or more, in a sample for at least two rows. Rows under 32 "
            "tokens do not count. Only lists and map-style datasets.Dataset are read, without transforms; packed rows "
            "that are cut elsewhere are not recognised.",
            action="Split before anything else (dataset.train_test_split), and take duplicates out of training.",
        )
    },
}
