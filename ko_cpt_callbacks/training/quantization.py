"""How bitsandbytes is to load a recipe's base."""

from __future__ import annotations

import torch
from transformers import BitsAndBytesConfig

from ko_cpt_callbacks.recipe.model_part import Base


def quantization_config(base: Base) -> BitsAndBytesConfig | None:
    """What ``from_pretrained`` is to be given; None where the weights stay as they are.

    4-bit as in QLoRA (https://arxiv.org/abs/2305.14314): NF4, its constants quantised once more.
    """
    if base.quantization == "none":
        return None
    if base.quantization == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, base.dtype),
    )
