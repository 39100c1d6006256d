"""Tiny real things to test with: tokenizers trained here, models built from configurations, bundled text.

Nothing is downloaded and nothing of the package is imported, so that reference computations can use this too.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

TEXT = Path(__file__).parents[1] / "recipes" / "text"
SPECIAL = ["<s>", "</s>", "<pad>"]


@lru_cache
def korean() -> tuple[str, ...]:
    """Short Korean texts: the bundled prose and the UDHR, one a row."""
    prose = [json.loads(line)["text"] for line in (TEXT / "ko_prose.jsonl").read_text("utf-8").splitlines()]
    udhr = [line for line in (TEXT / "ko_udhr.txt").read_text("utf-8").splitlines() if len(line) > 10]
    return (*prose, *udhr)


@lru_cache
def english() -> tuple[str, ...]:
    """Short English texts."""
    lines = (TEXT / "en_prose.jsonl").read_text("utf-8").splitlines()
    return tuple(json.loads(line)["text"] for line in lines)


@lru_cache
def byte_level_tokenizer(vocab_size: int = 600) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the bundled text: ``<s>``, ``</s>``, ``<pad>``."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        [*korean(), *english()],
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=512
    )


@lru_cache
def metaspace_tokenizer(vocab_size: int = 700) -> PreTrainedTokenizerFast:
    """A BPE with ▁ and byte fallback that puts a space in front of a text: ``<s>``, ``</s>``, ``<pad>``, ``<unk>``."""
    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(back)
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    special = [*SPECIAL, "<unk>"]
    inner.train_from_iterator(
        [*korean(), *english()],
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[*special, *bytes_of], limit_alphabet=200, show_progress=False
        ),
    )
    # The trainer lists the byte tokens among the added ones; in a real vocabulary they are ordinary.
    layout = json.loads(inner.to_str())
    layout["added_tokens"] = [token for token in layout["added_tokens"] if token["content"] in special]
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(layout)), **names)


def llama(vocab_size: int, *, seed: int = 0, hidden: int = 32, layers: int = 2, **config: Any) -> LlamaForCausalLM:
    """A tiny Llama with seeded weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=2,
            **config,
        )
    )


def eight_bit(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """``model`` saved to ``folder`` and loaded back with bitsandbytes in 8 bits, on CPU."""
    model.save_pretrained(folder)
    return type(model).from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map="cpu"
    )


def lora(model: PreTrainedModel, **settings: Any) -> Any:
    """LoRA on the attention with trained embeddings and head."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_loaded_in_8bit", False):
        model = prepare_model_for_kbit_training(model)
    config = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "modules_to_save": ["embed_tokens", "lm_head"],
        "task_type": "CAUSAL_LM",
        **settings,
    }
    return get_peft_model(model, LoraConfig(**config))


def rows(texts: tuple[str, ...], tokenizer: PreTrainedTokenizerFast, max_length: int = 96) -> list[dict[str, Any]]:
    """One row per text: ``<s> text </s>``, cut to ``max_length`` tokens."""
    ids = [tokenizer.encode(f"<s>{text}</s>", add_special_tokens=False)[:max_length] for text in texts]
    return [{"input_ids": row} for row in ids]


def packed(texts: tuple[str, ...], tokenizer: PreTrainedTokenizerFast, length: int = 64) -> list[dict[str, Any]]:
    """Blocks of ``length`` tokens cut from the texts joined by ``</s>``; the rest is dropped."""
    stream = [token for row in rows(texts, tokenizer, 10_000) for token in row["input_ids"]]
    blocks = [stream[start : start + length] for start in range(0, len(stream) - length + 1, length)]
    return [{"input_ids": block, "labels": list(block)} for block in blocks]


def collate(features: list[dict[str, Any]], pad: int = 2) -> dict[str, torch.Tensor]:
    """Rows padded on the right to a batch; labels are the ids where a row has none of its own."""
    labels = [list(row.get("labels", row["input_ids"])) for row in features]
    length, width = max(len(row["input_ids"]) for row in features), max(len(row) for row in labels)
    ids = [list(row["input_ids"]) for row in features]
    return {
        "input_ids": torch.tensor([row + [pad] * (length - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids]),
        "labels": torch.tensor([row + [-100] * (width - len(row)) for row in labels]),
    }


def uneven_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    """``count`` short Korean rows of unequal lengths (5 to 21 tokens) for the byte-level tokenizer."""
    whole = rows(korean()[first : first + count], byte_level_tokenizer())
    return [{"input_ids": row["input_ids"][: 5 + 4 * (index % 5)]} for index, row in enumerate(whole)]


def trainer(model: Any, folder: Path, train: Any = None, evaluation: Any = None, **settings: Any) -> Any:
    """A Trainer on CPU: 3 rows per batch, no files but the callback's, no bars, a log row at every step.

    Args:
        settings: Arguments of ``Trainer`` (``callbacks``, ``data_collator``, ``processing_class``,
            ``trainer_class``, ``model_init`` …); all others go to ``TrainingArguments``.
    """
    own = {
        name: settings.pop(name)
        for name in (
            "callbacks",
            "compute_loss_func",
            "compute_metrics",
            "data_collator",
            "model_init",
            "processing_class",
        )
        if name in settings
    }
    trainer_class, args_class = settings.pop("trainer_class", Trainer), settings.pop("args_class", TrainingArguments)
    arguments = args_class(
        output_dir=str(folder),
        **{
            "report_to": "none",
            "use_cpu": True,
            "remove_unused_columns": False,
            "per_device_train_batch_size": 3,
            "per_device_eval_batch_size": 3,
            "max_steps": 3,
            "logging_steps": 1,
            "save_strategy": "no",
            "disable_tqdm": True,
            "learning_rate": 1e-3,
            "seed": 0,
            **settings,
        },
    )
    own = {"data_collator": collate, "processing_class": byte_level_tokenizer(), **own}
    return trainer_class(model=model, args=arguments, train_dataset=train, eval_dataset=evaluation, **own)


def row_losses(
    model: Any, features: list[dict[str, Any]], batch_size: int = 3, *, shift: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reference: per row the summed negative log-likelihood in float64, and the target tokens.

    Args:
        shift: 1 where logits at i predict label i + 1; 0 where they predict label i (then the labels go into the
            call, as an encoder-decoder needs them).
    """
    was_training = model.training
    model.eval()
    sums, counts = [], []
    for start in range(0, len(features), batch_size):
        batch = collate(features[start : start + batch_size])
        labels = batch["labels"] if shift == 0 else batch.pop("labels")
        with torch.no_grad():
            logits = model(**batch).logits.double()
        log_probs = torch.log_softmax(logits[:, : logits.shape[1] - shift], -1)
        targets = labels[:, shift:]
        picked = log_probs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        scored = targets != -100
        sums.append((-picked * scored).sum(1))
        counts.append(scored.sum(1))
    model.train(was_training)
    return torch.cat(sums), torch.cat(counts)


def exact_loss(model: Any, features: list[dict[str, Any]], batch_size: int = 3, *, shift: int = 1) -> float:
    """Reference: nats per target token over all rows."""
    sums, counts = row_losses(model, features, batch_size, shift=shift)
    return float(sums.sum() / counts.sum())
