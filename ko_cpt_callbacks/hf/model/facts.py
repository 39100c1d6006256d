"""What this run really is: read from the objects that run it, for ``run.json``."""

from __future__ import annotations

import copy
import functools
import math
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from itertools import pairwise
from types import FunctionType
from typing import Any, Final

from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerState, TrainingArguments

from ko_cpt_callbacks.hf.model.structure import base_model, module_asked, text_config

_PACKAGES: Final = (
    "ko_cpt_callbacks",
    "transformers",
    "torch",
    "accelerate",
    "peft",
    "bitsandbytes",
    "trl",
    "datasets",
    "tokenizers",
    "numpy",
)

# What decides a run's numbers; the rest of TrainingArguments is in the checkpoint.
_ARGUMENTS: Final = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "warmup_ratio",
    "weight_decay",
    "max_grad_norm",
    "optim",
    "seed",
    "data_seed",
    "bf16",
    "fp16",
    "gradient_checkpointing",
    "label_smoothing_factor",
    "logging_steps",
    "logging_nan_inf_filter",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
    "metric_for_best_model",
    "load_best_model_at_end",
    "average_tokens_across_devices",
    "torch_compile",
    "packing",
    "max_length",
)

_SCHEDULE_POINTS: Final = 200
_SCHEDULE_OFF: Final = 1e-3
"""Part of the peak by which a straight line between two steps may be off the rate (chosen, not measured)."""


def versions() -> dict[str, str | None]:
    """Installed versions of what the numbers depend on; None where a package is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def model_facts(model: nn.Module) -> dict[str, Any]:
    """Class, type, vocabulary, parameters, trainable share, number formats, quantisation, adapter."""
    base: Any = base_model(model)
    config: Any = getattr(base, "config", None)
    total, trainable, dtypes = 0, 0, set()
    for parameter in model.parameters():
        count = elements(parameter)
        total += count
        trainable += count if parameter.requires_grad else 0
        dtypes.add(str(parameter.dtype).removeprefix("torch."))
    embedding = module_asked(base, "get_input_embeddings")
    rows = getattr(getattr(embedding, "weight", None), "shape", (None,))[0]
    adapter = getattr(model, "active_peft_config", None)
    kind = getattr(adapter, "peft_type", None)
    return {
        "class": type(base).__name__,
        "model_type": getattr(config, "model_type", None),
        "name_or_path": getattr(config, "_name_or_path", None) or None,
        "vocab_size": getattr(text_config(base), "vocab_size", None),
        "embedding_rows": rows,
        "parameters": total,
        "trainable_parameters": trainable,
        "trainable_share": trainable / total if total else None,
        "dtypes": sorted(dtypes),
        "quantization": quantization(base),
        "adapter": None if adapter is None else str(getattr(kind, "value", kind)),
    }


def pad_token(tokenizer: Any, model: nn.Module) -> int | None:
    """The token that fills rows up, as the tokenizer or else the model's configuration names it."""
    named = getattr(getattr(tokenizer, "tokenizer", tokenizer), "pad_token_id", None)
    if named is None:
        named = getattr(getattr(model, "config", None), "pad_token_id", None)
    return named if isinstance(named, int) else None


def pad_is_end(tokenizer: Any, model: nn.Module) -> bool:
    """Whether the token that fills rows up is also a token that ends a text."""
    pad = pad_token(tokenizer, model)
    named = getattr(getattr(tokenizer, "tokenizer", tokenizer), "eos_token_id", None)
    if named is None:
        named = getattr(getattr(model, "config", None), "eos_token_id", None)
    return pad is not None and pad in (named if isinstance(named, (list, tuple)) else (named,))


def quantization(model: nn.Module) -> str:
    """``8-bit``, ``4-bit``, another method's name, or ``none``."""
    if getattr(model, "is_loaded_in_8bit", False):
        return "8-bit"
    if getattr(model, "is_loaded_in_4bit", False):
        return "4-bit"
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    method = config.get("quant_method") if isinstance(config, dict) else getattr(config, "quant_method", None)
    return "none" if method is None else str(getattr(method, "value", method))


def elements(parameter: nn.Parameter) -> int:
    """Elements of a parameter, also where it is packed (4-bit) or sharded (ZeRO-3)."""
    state = getattr(parameter, "quant_state", None)
    if state is not None and getattr(state, "shape", None) is not None:
        return int(state.shape.numel())
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def run_facts(
    args: TrainingArguments, model: nn.Module, tokenizer: Mapping[str, Any], state: TrainerState, scheduler: Any
) -> dict[str, Any]:
    """The model, its tokenizer and how it is trained, as ``run.json`` describes them."""
    planned = planned_rates(scheduler, state.global_step, state.max_steps)
    return {
        "versions": versions(),
        "model": model_facts(model),
        "tokenizer": tokenizer,
        "device": str(args.device.type),
        "planned_steps": state.max_steps if state.max_steps > 0 else None,
        "planned_epochs": args.num_train_epochs,
        "arguments": {name: plain(getattr(args, name)) for name in _ARGUMENTS if hasattr(args, name)},
        "schedule": None if planned is None else [[step, rate] for step, rate in zip(*planned, strict=True)],
    }


def plain(value: Any) -> Any:
    """An argument's value as JSON has it: of an enumeration its text."""
    return getattr(value, "value", value)


def planned_rates(scheduler: Any, step: int, last: int) -> tuple[list[int], list[float]] | None:
    """The learning rate of a whole run, as its scheduler has planned it: steps, and the rate at each.

    About `_SCHEDULE_POINTS` even steps, and more where straight lines between them would be off. The scheduler is not
    moved: only what its rate is a function of is asked.

    Returns:
        None where the rate is not a function of the step alone (``ReduceLROnPlateau``, a class of one's own), or where
        that function does not give the present rate.
    """
    inner = getattr(scheduler, "scheduler", scheduler)  # accelerate's wrapper
    lambdas, bases = getattr(inner, "lr_lambdas", None), getattr(inner, "base_lrs", None)
    if not lambdas or not bases or last <= 0 or getattr(type(inner), "get_lr", None) is not LambdaLR.get_lr:
        return None
    try:
        # An object may count its calls; a function does not.
        rule = lambdas[0] if isinstance(lambdas[0], FunctionType | functools.partial) else copy.deepcopy(lambdas[0])
        behind = step - inner.last_epoch  # 0 but for a scheduler that began anew at a resume
        rate = functools.cache(lambda at: float(bases[0] * rule(max(at - behind, 0))))
        if not math.isclose(rate(step), float(inner.get_last_lr()[0]), rel_tol=1e-6, abs_tol=1e-12):
            return None
        steps = _bent(rate, last)
        return steps, [rate(at) for at in steps]
    except Exception:  # a function of one's own, which need not know every step
        return None


def _bent(rate: Callable[[int], float], last: int) -> list[int]:
    """Steps between which a rate is all but straight: even ones, and halfway where it is not."""
    count = min(last, _SCHEDULE_POINTS)
    steps = sorted({round(index * last / count) for index in range(count + 1)})
    slack = _SCHEDULE_OFF * max(map(rate, steps))
    spans = list(pairwise(steps))
    while spans:
        begin, end = spans.pop()
        middle = (begin + end) // 2
        between = rate(begin) + (rate(end) - rate(begin)) * (middle - begin) / (end - begin)
        if begin < middle and abs(rate(middle) - between) > slack:
            steps.append(middle)
            spans += [(begin, middle), (middle, end)]
    return sorted(steps)
