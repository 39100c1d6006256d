"""Mistakes in the model: nothing trained, frozen adapters, frozen new rows, untied embeddings, fp16 weights.

That a vocabulary has grown is certain in three cases: the model's configuration says another number than the model was
built with, or than its checkpoint has on disk; the tokenizer has tokens that it did not have when it was read; or rows
of text tokens at the end are still what a resize makes of them, which no training leaves so. Names, shapes and flags
are read, and at most 200 rows of an embedding; never all weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, TrainingArguments

from ko_cpt_callbacks.hf.model.facts import elements, quantization
from ko_cpt_callbacks.hf.model.structure import EmbeddingParts, ModelParts, text_config, wants_tied

__all__ = ["model_mistakes", "vocabulary_mistakes"]

_SHOWN: Final = 3


def model_mistakes(model: nn.Module, tokenizer: Any, args: TrainingArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is wrong with the model, as set-up rows.

    Args:
        model: As the Trainer has it.
        tokenizer: Its tokenizer; None where it is not known, and then nothing is known of new tokens.
        args: The Trainer's arguments.
    """
    view = ModelParts.of(model)
    yield from _untrained(view)
    if not any(item.requires_grad for item in view.parameters.values()):
        return
    yield from _half_precision(view, args)
    if view.input is not None:
        yield from _untied(view)
        yield from vocabulary_mistakes(view, getattr(tokenizer, "tokenizer", tokenizer))


def _untrained(view: ModelParts) -> Iterator[tuple[str, dict[str, Any]]]:
    trained = [item for item in view.parameters.values() if item.requires_grad]
    if view.adapters:
        if not any(item.requires_grad for item in view.adapters):
            beside = [item for name, item in view.parameters.items() if item.requires_grad and _beside_adapters(name)]
            yield "adapters-frozen", {
                "adapter_parameters": _count(view.adapters),
                "trainable_parameters": _count(trained),
                "beside_adapters": _count(beside),
            }
    elif view.parameters and not trained:
        yield "no-trainable-parameters", {"parameters": _count(view.parameters.values())}


def _beside_adapters(name: str) -> bool:
    """Whether a parameter is part of a module, or of rows, that PEFT trains and saves beside its adapters."""
    return bool({"modules_to_save", "trainable_tokens_delta"} & set(name.split(".")))


def _count(parameters: Any) -> int:
    return sum(elements(item) for item in parameters)


def _half_precision(view: ModelParts, args: TrainingArguments) -> Iterator[tuple[str, dict[str, Any]]]:
    half = [name for name, item in view.parameters.items() if item.requires_grad and item.dtype == torch.float16]
    if not half or getattr(args, "deepspeed", None):  # DeepSpeed keeps a copy in fp32 itself
        return
    kind = quantization(view.base)
    fix = (
        "Load the model with dtype=torch.bfloat16."
        if kind == "none"
        else "Before get_peft_model: model = prepare_model_for_kbit_training(model)."
    )
    modules = [name.rpartition(".")[0].removeprefix("base_model.model.") for name in half]
    shown = [*modules[:_SHOWN], *(["…"] if len(modules) > _SHOWN else [])]
    yield "half-precision-modules", {"tensors": len(half), "modules": shown, "quantization": kind, "fix": fix}


def _untied(view: ModelParts) -> Iterator[tuple[str, dict[str, Any]]]:
    one, other = view.input, view.output
    if one is None or other is None or one.weight is None or other.weight is None or one.same_as(other):
        return
    trained = [view.names[role] for role, part in (("input", one), ("output", other)) if part.moves]
    if trained and wants_tied(view.base):
        keep = "To keep them one: LoraConfig(..., ensure_weight_tying=True). " if view.is_peft else ""
        yield (
            "embeddings-untied",
            {
                "trained": trained,
                "fix": f"{keep}To save both: model.config.tie_word_embeddings = False.",
            },
        )


# Added rows are drawn around the old rows' mean with 1e-9 of their covariance (transformers,
# `_init_added_embeddings_weights_with_mean`), which is 3e-5 of their spread; one optimizer step with a usual learning
# rate moves a row by more than a thousandth. The number is chosen, not measured.
_UNTRAINED_SPREAD: Final = 1e-3
_ROWS_READ: Final = 64
# Special tokens that may follow the last text token of a vocabulary. Chosen, not measured.
_TAIL: Final = 1024
# Tensor cores want sizes in multiples of eight (NVIDIA, "Matrix Multiplication Background", requirements); 64 suits the
# newer ones better.
_MULTIPLE: Final = 8
# Tokens that a publisher keeps free have such names, and their rows may never have been trained.
_RESERVED: Final = re.compile(r"[<\[{(].*[>\]})]|.*(unused|reserved|placeholder|extra_id|special).*", re.IGNORECASE)


def vocabulary_mistakes(model: ModelParts, tokenizer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The set-up rows of new tokens.

    Args:
        model: The model taken apart.
        tokenizer: Its tokenizer; None where it is not known, and then nothing is known of new tokens.
    """
    one, other = model.input, model.output
    rows = None if one is None else one.rows
    if tokenizer is None or one is None or rows is None:
        return
    tied = other is not None and one.same_as(other)
    parts = {"input": one} if other is None or tied else {"input": one, "output": other}
    frozen = {role: part for role, part in parts.items() if part.weight is not None and not part.moves}
    built = _built_with(model.base)
    new, seen = _new_tokens(tokenizer, built, rows), False
    if not new:
        new = next((found for part in frozen.values() if (found := _alike_at_the_end(part, tokenizer))), [])
        seen = bool(new)
    if (built or seen) and rows % _MULTIPLE and not (built or 0) % _MULTIPLE:
        yield "embeddings-not-padded", {"rows": rows, "multiple": 64, "padded_rows": -(-rows // 64) * 64}
    if not new or not frozen:
        return
    before = built if built is not None and not seen else new[0]
    if seen:  # of a matrix that cannot be looked at, nothing is known
        frozen = {role: part for role, part in frozen.items() if _alike(part, new, before)}
    yield (
        "embeddings-frozen",
        {
            "new_tokens": len(new),
            "frozen": [model.names[role] for role in frozen],
            "untrained": all(_alike(part, new, before) for part in frozen.values()),
            "seen": "rows" if seen else "vocabulary",
            "fix": _unfreeze(model, list(frozen), tied=tied),
        },
    )


def _new_tokens(tokenizer: Any, built: int | None, rows: int) -> list[int]:
    """Tokens that are certainly new and have a row; the pad token learns nothing and does not count."""
    pad = getattr(tokenizer, "pad_token_id", None)
    grown = range(len(tokenizer) if built is None else built, min(len(tokenizer), rows))
    return [index for index in (grown or _added_since_read(tokenizer)) if index != pad and index < rows]


def _added_since_read(tokenizer: Any) -> list[int]:
    """Tokens behind all those that the tokenizer had when it was read; empty where it does not tell (before 5)."""
    known, now = (getattr(tokenizer, "init_kwargs", None) or {}), getattr(tokenizer, "added_tokens_decoder", None)
    before = known.get("added_tokens_decoder") if isinstance(known, Mapping) else None
    if not isinstance(before, Mapping) or not before or not isinstance(now, Mapping):
        return []
    last = max(max(int(index) for index in before), int(tokenizer.vocab_size) - 1)
    return sorted(int(index) for index in now if int(index) > last)


def _unfreeze(model: ModelParts, frozen: list[str], *, tied: bool) -> str:
    if not model.is_peft:
        calls = [f"model.get_{role}_embeddings().requires_grad_(True)" for role in frozen]
        return f"Before Trainer(...): {'; '.join(calls)}."
    saved = [model.names[role].rpartition(".")[2] for role in model.names if not tied or role == "input"]
    also = ", ensure_weight_tying=True" if tied else ""
    return f"LoraConfig(..., modules_to_save={saved}{also})."


def _built_with(base: nn.Module) -> int | None:
    """The vocabulary before it grew; None where it has not grown, or that cannot be seen.

    Two traces are certain. A resize changes the configuration and the outer model, but not the number that the
    inner model was built with. And the checkpoint's own configuration, on disk, has the old number (PEFT looks at it
    for the same question).
    """
    config = text_config(base)
    now = getattr(config, "vocab_size", None)
    inner = getattr(base, str(getattr(base, "base_model_prefix", "")) or "model", None)
    before = [getattr(inner, "vocab_size", None), _saved_vocabulary(base)]
    known = [number for number in before if isinstance(number, int) and isinstance(now, int) and 0 < number < now]
    return min(known) if known else None


def _saved_vocabulary(base: nn.Module) -> int | None:
    """What the configuration on disk says; nothing is downloaded."""
    place = getattr(getattr(base, "config", None), "_name_or_path", None)
    if not place:
        return None
    try:
        saved, _ = PretrainedConfig.get_config_dict(place, local_files_only=True)
    except (OSError, ValueError):
        return None
    text = saved.get("text_config")
    number = saved.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    return number if isinstance(number, int) else None


def _alike(part: EmbeddingParts, new: Sequence[int], built: int) -> bool:
    """Whether the new rows are nearly the same, as no training leaves them; False where that cannot be seen."""
    weight = _readable(part)
    if weight is None or len(new) < 2 or built < 2 or weight.shape[0] <= new[-1]:
        return False
    return _spread(weight, new) < _UNTRAINED_SPREAD * _spread(weight, range(built))


def _alike_at_the_end(part: EmbeddingParts, tokenizer: Any) -> list[int]:
    """Text tokens at the end of a vocabulary whose rows are nearly the same; empty where there are no two.

    Rows that a publisher keeps free are alike too: their tokens are special, or named so, or there are none.
    """
    weight, special = _readable(part), _special(tokenizer)
    if weight is None or special is None:
        return []
    size, pad = min(len(tokenizer), weight.shape[0]), getattr(tokenizer, "pad_token_id", None)

    def text(indices: range) -> list[int]:
        names = tokenizer.convert_ids_to_tokens(list(indices))
        return [index for index, name in zip(indices, names, strict=True) if _is_text(name) and index not in special]

    tail = text(range(max(0, size - _TAIL), size))
    if not tail:
        return []
    last, near = tail[-1], _UNTRAINED_SPREAD * _spread(weight, range(size))

    def alike(index: int) -> bool:
        return float((weight[index].float() - weight[last].float()).abs().max()) < near

    # Rows are alike from one of them on: doubled steps, then halves, instead of reading all.
    reach = 1
    while last - reach >= 0 and alike(last - reach):
        reach *= 2
    other, first = max(-1, last - reach), last - reach // 2
    while first - other > 1:
        middle = (first + other) // 2
        first, other = (middle, other) if alike(middle) else (first, middle)
    new = [index for index in text(range(first, size)) if index != pad]
    return new if first > 1 and len(new) > 1 else []


def _special(tokenizer: Any) -> frozenset[int] | None:
    """Ids of special tokens; None for a tokenizer that does not tell."""
    added = getattr(tokenizer, "added_tokens_decoder", None)
    if not isinstance(added, Mapping) or not hasattr(tokenizer, "convert_ids_to_tokens"):
        return None
    named = getattr(tokenizer, "all_special_ids", ())
    return frozenset({*named, *(int(index) for index, token in added.items() if getattr(token, "special", False))})


def _is_text(name: Any) -> bool:
    return isinstance(name, str) and any(map(str.isalpha, name)) and not _RESERVED.fullmatch(name)


def _readable(part: EmbeddingParts) -> Tensor | None:
    """The matrix, where its rows can be looked at: on a device, whole, in numbers."""
    weight = part.weight
    if weight is None or weight.is_meta or weight.dim() != 2:
        return None
    plain = weight.detach()
    return plain if type(plain) is torch.Tensor else None  # sharded: every process would have to look


def _spread(weight: Tensor, rows: Sequence[int]) -> float:
    """The largest distance of a number from its column's mean, over a sample of rows."""
    sample = [rows[place * len(rows) // _ROWS_READ] for place in range(_ROWS_READ)]
    picked = weight[torch.tensor(sorted(set(sample)), device=weight.device)].float()
    return float((picked - picked.mean(0)).abs().max())
