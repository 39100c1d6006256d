"""What the 8-bit tests do in processes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiny
from e2e import job

from ko_cpt_callbacks import KoCPTCallback

PARTS = ("embed_tokens", "lm_head", "lora_A", "lora_B", "up_proj")


def _model(folder: str) -> Any:
    tokenizer = tiny.byte_level_tokenizer()
    # Eight-bit matrices of bitsandbytes want widths that a hidden size of 32 gives.
    return tiny.lora(tiny.eight_bit(tiny.llama(len(tokenizer), hidden=32, layers=1), Path(folder, "base")))


def train(folder: str, **changes: Any) -> dict[str, Any]:
    """8-bit LoRA with trained embeddings under the plain Trainer."""
    callback = KoCPTCallback()
    trainer = job.build(folder, [callback], model=_model(folder), **changes)
    trainer.train()
    trainer.save_state()
    return {**job.report(trainer, callback), **_shares(trainer.model)}


def sft(folder: str) -> dict[str, Any]:
    """The same under TRL's SFTTrainer, as installed."""
    from trl import SFTConfig, SFTTrainer

    settings = job.arguments(folder).to_dict()
    names = [
        "output_dir",
        "max_steps",
        "logging_steps",
        "eval_strategy",
        "eval_steps",
        "save_steps",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "learning_rate",
        "seed",
        "report_to",
        "use_cpu",
        "disable_tqdm",
    ]
    texts = tiny.korean()
    from datasets import Dataset

    callback = KoCPTCallback()
    trainer = SFTTrainer(
        model=_model(folder),
        args=SFTConfig(**{name: settings[name] for name in names}, bf16=False, max_length=40),
        train_dataset=Dataset.from_dict({"text": list(texts[job.TRAIN_ROWS])}),
        eval_dataset=Dataset.from_dict({"text": list(texts[job.EVAL_ROWS])}),
        processing_class=tiny.byte_level_tokenizer(),
        callbacks=[callback],
    )
    trainer.train()
    trainer.save_state()
    return {**job.report(trainer, callback), **_shares(trainer.model)}


def _shares(model: Any) -> dict[str, Any]:
    """Parameters of the model counted by name."""
    sizes = {name: (parameter.numel(), parameter.requires_grad) for name, parameter in model.named_parameters()}
    return {
        "parameters": sum(size for size, _ in sizes.values()),
        "trainable": sum(size for size, trains in sizes.values() if trains),
        "trainable_parts": sorted(
            {part for part in PARTS for name, (_, trains) in sizes.items() if trains and f".{part}." in name}
        ),
        "linear_dtype": str(model.get_base_model().model.layers[0].mlp.up_proj.weight.dtype),
    }
