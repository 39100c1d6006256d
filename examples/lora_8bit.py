"""Continued pretraining on Korean with 8-bit LoRA, watched by KoCPTCallback. CPU is enough, no network is needed.

First a tiny Llama is pretrained on English: it stands for the model that you would download. The rest is a usual
continued pretraining: load in 8 bits, add LoRA, train embeddings and head along, mix in some English against
forgetting, evaluate on held-out Korean and English. The texts come with the package.
"""

from __future__ import annotations

import json
import logging
import warnings
from importlib.resources import files
from pathlib import Path

# Before the imports: bitsandbytes warns when it is imported on CPU, and then once per matrix product.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar

from ko_cpt_callbacks import KoCPTCallback

FOLDER = Path("runs/lora_8bit")
TEXT = files("ko_cpt_callbacks") / "recipes" / "text"
MAX_TOKENS = 256


def read_texts(language: str) -> tuple[list[str], list[str]]:
    """Texts to train on, and every fourth text held out: short prose and the Declaration of Human Rights."""
    prose = (TEXT / f"{language}_prose.jsonl").read_text(encoding="utf-8").splitlines()
    declaration = (TEXT / f"{language}_udhr.txt").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in prose] + declaration
    return [text for number, text in enumerate(texts) if number % 4], texts[::4]


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A small byte-level BPE."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def tokenize(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> Dataset:
    """One row per text."""
    ids = [tokenizer.encode(f"<s>{text}</s>", add_special_tokens=False)[:MAX_TOKENS] for text in texts]
    return Dataset.from_dict({"input_ids": ids})


def pretrain(texts: list[str], tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The model that you would download: a tiny Llama that has seen some English."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=arguments(folder, max_steps=80, logging_strategy="no"),
        train_dataset=tokenize(texts, tokenizer),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model()


def arguments(folder: Path, **more: object) -> TrainingArguments:
    """What both trainings share."""
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        per_device_eval_batch_size=4,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        warmup_steps=10,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        **more,
    )


def main() -> None:
    """Make the base model, continue its pretraining in Korean, show what was measured."""
    set_seed(0)
    korean, korean_held_out = read_texts("ko")
    english, english_held_out = read_texts("en")
    tokenizer = train_tokenizer(korean + english)
    pretrain(english, tokenizer, FOLDER / "base")

    model = AutoModelForCausalLM.from_pretrained(
        FOLDER / "base", quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="cpu"
    )
    model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    lora = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        modules_to_save=["embed_tokens", "lm_head"],
        task_type="CAUSAL_LM",
    )
    callback = KoCPTCallback()
    trainer = Trainer(
        model=get_peft_model(model, lora),
        args=arguments(
            FOLDER / "korean",
            max_steps=60,
            logging_steps=5,
            eval_strategy="steps",
            eval_steps=20,
            eval_on_start=True,
        ),
        train_dataset=tokenize(korean + english[::3], tokenizer),
        eval_dataset={
            "ko": tokenize(korean_held_out, tokenizer),
            "en": tokenize(english_held_out, tokenizer),
        },
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)  # it would print every row whole, between the callback's lines
    trainer.train()

    assert callback.best is not None
    step, loss = callback.best
    row = next(row for row in trainer.state.log_history if row["step"] == step and "eval_ko_loss" in row)
    print(f"\nbest on ko: {loss:.3f} at step {step}; the Trainer says {row['eval_ko_loss']:.3f} for the same weights")
    print(f"findings: {', '.join(finding.code for finding in callback.findings) or 'none'}\n")
    for path in sorted((FOLDER / "korean" / "ko_cpt").iterdir()):
        print(path)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # peft uses a deprecated name
    disable_progress_bar()
    torch.set_num_threads(1)  # so small a model gains nothing from more
    main()
