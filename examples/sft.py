"""Supervised fine-tuning with TRL's SFTTrainer, watched by KoCPTCallback. CPU is enough, nothing is downloaded.

The pairs are made of the bundled Korean prose: from the title of a text and its beginning the model learns to write the
rest. `task="sft"` says that this is no continued pretraining: what may be low, and what must not be labeled, differs.
"""

from __future__ import annotations

import json
from importlib.resources import files

from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from ko_cpt_callbacks import KoCPTCallback

PROSE = files("ko_cpt_callbacks") / "recipes" / "text" / "ko_prose.jsonl"


def read_pairs() -> list[dict[str, str]]:
    """A prompt and its completion a text: the title with the first sentence, and the rest."""
    pairs = []
    for line in PROSE.read_text("utf-8").splitlines():
        record = json.loads(line)
        first, _, rest = record["text"].partition(". ")
        pairs.append({"prompt": f"{record['title']}: {first}.", "completion": f" {rest}"})
    return pairs


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A small byte-level BPE."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "</s>", "<pad>"]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=1000, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def main() -> None:
    """Train on three quarters of the pairs, evaluate on the others, show what was measured."""
    set_seed(0)
    pairs = read_pairs()
    tokenizer = train_tokenizer([pair["prompt"] + pair["completion"] for pair in pairs])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    callback = KoCPTCallback(task="sft")
    trainer = SFTTrainer(
        model=LlamaForCausalLM(config),
        train_dataset=Dataset.from_list([pair for at, pair in enumerate(pairs) if at % 4]),
        eval_dataset=Dataset.from_list(pairs[::4]),
        processing_class=tokenizer,
        callbacks=[callback],
        args=SFTConfig(
            "runs/sft", max_steps=60, logging_steps=5, eval_strategy="steps", eval_steps=20, save_strategy="no",
            max_length=256, completion_only_loss=True, learning_rate=5e-3, warmup_steps=5, lr_scheduler_type="cosine",
            per_device_train_batch_size=8, per_device_eval_batch_size=4, report_to="none", use_cpu=True, bf16=False,
            disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)  # it would print every row whole, between the callback's lines
    trainer.train()
    assert callback.best is not None
    print(f"\nbest: {callback.best[1]:.3f} nats per answer token at step {callback.best[0]}")


if __name__ == "__main__":
    main()
