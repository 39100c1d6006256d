"""A tiny base model, pretrained on the spot: it stands for the one that would be downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from ko_cpt_callbacks.recipe.schema import Build
from ko_cpt_callbacks.training.folder import RunFolder, whole_folder
from ko_cpt_callbacks.training.text import Split
from ko_cpt_callbacks.training.tokenizer import train_tokenizer


def base_tokenizer(build: Build, sources: Mapping[str, Split], folder: RunFolder) -> PreTrainedTokenizerFast:
    """The base model's tokenizer: the saved one, or a new one, saved."""
    if not folder.base_tokenizer.exists():
        pieces = [piece for name in build.tokenizer.sources for piece in sources[name].train]
        made = train_tokenizer(pieces, build.tokenizer.vocab_size)
        with whole_folder(folder.base_tokenizer) as part:
            made.save_pretrained(str(part))
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(folder.base_tokenizer))
    return tokenizer


def new_base(build: Build, tokenizer: PreTrainedTokenizerFast, max_length: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=build.hidden_size,
            intermediate_size=build.intermediate_size,
            num_hidden_layers=build.num_hidden_layers,
            num_attention_heads=build.num_attention_heads,
            num_key_value_heads=build.num_attention_heads,
            max_position_embeddings=max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def save_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: RunFolder) -> None:
    """Put the base model and its tokenizer where `load_eight_bit` finds them."""
    with whole_folder(folder.base_model) as part:
        model.save_pretrained(str(part))
        tokenizer.save_pretrained(str(part))


def load_eight_bit(path: Path, *, cpu: bool) -> PreTrainedModel:
    """A model in 8 bits (LLM.int8 of bitsandbytes).

    Args:
        path: The model's folder.
        cpu: Whether to keep it off an accelerator that is there.
    """
    eight_bit = BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(path), quantization_config=eight_bit, device_map="cpu" if cpu else "auto"
    )
    return model
