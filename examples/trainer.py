"""A plain Trainer, watched by KoCPTCallback: a script, and cell by cell `trainer.ipynb` (`make notebook`)."""

# %% [markdown]
# # A plain `Trainer`, watched by `KoCPTCallback`
#
# A tiny Llama reads English first: it stands for the model that you would download. Then it goes on in Korean, and the
# callback measures the exact loss, perplexity and bits per byte of held-out Korean and English. CPU is enough, nothing
# is downloaded.

# %%
import json
from importlib.resources import files

from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from ko_cpt_callbacks import KoCPTCallback

set_seed(0)

# %% [markdown]
# ## Text, a tokenizer, a model
# Short prose that comes with the package; every fourth text is held out.

# %%
TEXT = files("ko_cpt_callbacks") / "recipes" / "text"
texts = {
    language: [json.loads(line)["text"] for line in (TEXT / f"{language}_prose.jsonl").read_text("utf-8").splitlines()]
    for language in ("ko", "en")
}
held_out = {language: of[::4] for language, of in texts.items()}
train = {language: [text for at, text in enumerate(of) if at % 4] for language, of in texts.items()}

bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>", "<pad>"]
bpe.train_from_iterator(
    train["ko"] + train["en"],
    trainers.BpeTrainer(vocab_size=1000, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def rows(texts):
    """One row a text."""
    return Dataset.from_dict({"input_ids": [tokenizer.encode(f"<s>{text}</s>")[:256] for text in texts]})


model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=2,
))  # fmt: skip
settings = {
    "per_device_train_batch_size": 8, "learning_rate": 5e-3, "warmup_steps": 5, "lr_scheduler_type": "cosine",
    "report_to": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True,
}  # fmt: skip
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
base = Trainer(
    model=model, train_dataset=rows(train["en"]), data_collator=collator,
    args=TrainingArguments("runs/trainer/base", max_steps=40, logging_strategy="no", **settings),
)  # fmt: skip
base.remove_callback(PrinterCallback)
pretrained = base.train()

# %% [markdown]
# ## Continued pretraining in Korean
# One line is added to a usual `Trainer`: `callbacks=[callback]`. Some English stays in the mix against forgetting.

# %%
callback = KoCPTCallback(targets=["eval_ko_exact_loss<5.9@end"])
trainer = Trainer(
    model=model,
    train_dataset=rows(train["ko"] + train["en"][::3]),
    eval_dataset={language: rows(of) for language, of in held_out.items()},
    data_collator=collator,
    processing_class=tokenizer,  # bits per byte need it
    callbacks=[callback],
    args=TrainingArguments(
        "runs/trainer/korean", max_steps=60, logging_steps=5, eval_strategy="steps", eval_steps=20, eval_on_start=True,
        per_device_eval_batch_size=4, **settings,
    ),
)  # fmt: skip
trainer.remove_callback(PrinterCallback)  # it would print every row whole, between the callback's lines
result = trainer.train()

# %% [markdown]
# ## What was measured
# The Trainer's own `eval_loss` is a mean of batch means; the exact loss is that of all target tokens.

# %%
step, loss = callback.best
row = next(row for row in trainer.state.log_history if row["step"] == step and "eval_ko_loss" in row)
print(f"best on ko: {loss:.3f} at step {step}; the Trainer says {row['eval_ko_loss']:.3f} for the same weights")
for finding in callback.findings:
    print(finding.line())
