"""A recipe's stage on an 8-bit base: adapters, and what is trained whole beside them."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedModel, TrainingArguments

from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.recipe.schema import Lora, Recipe, Stage


def with_adapters(model: PreTrainedModel, lora: Lora, arguments: TrainingArguments) -> Any:
    """The model frozen, with adapters, and with the modules that are trained whole."""
    prepared = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
        model,
        use_gradient_checkpointing=arguments.gradient_checkpointing,
        gradient_checkpointing_kwargs=arguments.gradient_checkpointing_kwargs,
    )
    return get_peft_model(prepared, LoraConfig(task_type="CAUSAL_LM", **lora.model_dump()))


def stage_callback(recipe: Recipe, stage: Stage) -> KoCPTCallback:
    """The callback that watches for what the stage says.

    Raises:
        ConfigurationError: If it cannot be watched for.
    """
    return KoCPTCallback(
        targets=stage.watch.targets,
        retention=[name for name, part in recipe.eval.items() if part.retention],
        stop_on=stage.watch.stop_on,
        grace=stage.watch.grace,
    )
