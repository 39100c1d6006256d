"""A recipe made small, to try out on any machine that all of it fits together: what trains, how, in which order.

Kept: the family of the model, ties, precision, quantisation, the extension of the tokenizer, the stages with what they
train and through which adapter, what they watch, task, packing, mixing, filters. Made small: the model, texts, steps.
Left out: what belongs to a large machine (FSDP, DeepSpeed, compilation, on a CPU optimizers in 8 bits too), a
perplexity filter, whose model would have to be downloaded, and what would stop a stage.

A configuration is made small by rule: depth, widths, numbers of heads and experts, of each part (a vision tower too).
What the rule does not know stays as it is.

The model and the texts are the recipe's own, cut down by `training.smoke`; or, where neither is at hand, a model made
on the spot and texts that come with the package.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.base_config import NUMBERS, LocalBase
from ko_cpt_callbacks.recipe.family import plain_family
from ko_cpt_callbacks.recipe.model_schema import MadeFamily
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.run.observation import count_from_one

STEPS: Final = 3
_ROWS: Final = 64  # tokens of the longest
TEXT_FIELD: Final = "text"
PROMPT_FIELD: Final = "prompt"
"""Where text and prompt are in the file of a source's first documents."""

_TEXTS: Final = {"ko": ["ko_udhr.txt"], "en": ["en_udhr.txt"]}
# Large enough for 3 steps to move a weight in bfloat16 by more than its rounding. Chosen, not measured.
_RATE: Final = 5e-3
_LARGE: Final = ("fsdp", "fsdp_config", "deepspeed", "torch_compile", "tf32", "parallelism_config")
_TIME: Final = ("num_train_epochs", "warmup_ratio", "lr_scheduler_kwargs", "load_best_model_at_end", "eval_delay")
_ON_CPU: Final = ("optim", "optim_args", "optim_target_modules", "dataloader_num_workers", "dataloader_prefetch_factor")


@dataclass(frozen=True, slots=True)
class OwnParts:
    """What is cut down of a recipe's own.

    Attributes:
        model: The folder of the small model; None where the recipe makes its model on the spot.
        texts: A file of the first documents of each source.
    """

    model: str | None
    texts: Mapping[str, str]


def smoke_recipe(file: RecipeFile, device: str = "cpu", own: OwnParts | None = None) -> RecipeFile:
    """The recipe, small.

    Args:
        file: A recipe without mistakes.
        device: ``cpu`` or ``cuda``: the optimizer stays the recipe's where it can run.
        own: Its own model and texts; None: bundled ones.

    Raises:
        ConfigurationError: If no small model of its family can be made.
    """
    page = file.recipe
    depth = min(LAYERS, page.base.sizes.num_hidden_layers) if own is not None and own.model is not None else LAYERS
    values = copy.deepcopy(file.document.values)
    values["base"] = _base(page, own)
    if page.tokenizer is not None:
        values["tokenizer"]["extend"] |= {"tokens": 40, "minimum_count": 2}
    values["data"] = _data(page, values["data"], own)
    for part in values["eval"].values():
        part["max_documents"] = 4  # evaluating takes longer than training here
    for number, (name, stage) in enumerate(values["stages"].items()):
        layers = page.stages[name].trains.layers
        if isinstance(layers, list):
            stage["trains"]["layers"] = sorted({index % depth for index in layers})
        stage["arguments"] = _arguments(stage["arguments"], device, first=number == 0)
        nothing: dict[str, Any] = {name: [] for name in ("targets", "family", "stop_on", "alerts")}
        stage["watch"] = {**(stage.get("watch") or {}), **nothing, "patience": None, "min_delta": None}
    return _with_values(file, values)


def _base(page: Page, own: OwnParts | None) -> dict[str, Any]:
    base, shape = page.base, page.base.known_sizes
    kept = {"dtype": base.dtype, "quantization": base.quantization, "untie": base.untie}
    if own is not None and own.model is not None:
        return {"model": own.model, **kept}
    made_of = get_args(MadeFamily)
    if shape is None or plain_family(shape.family) not in made_of:
        found = "no base.shape that tells it" if shape is None else shape.family
        raise ConfigurationError(
            f"--smoke bundled: found {found}, expected one of {', '.join(made_of)}: of these a small model is made on "
            "the spot; --smoke alone takes the recipe's own"
        )
    grouped = shape.num_key_value_heads not in (None, shape.num_attention_heads)
    made = {
        "family": plain_family(shape.family),
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1 if grouped else 2,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "tokenizer": {"algorithm": "byte-level-bpe", "vocab_size": 500, "sources": list(page.data.sources)},
    }
    return {"build": made, **kept}


def _data(page: Page, values: dict[str, Any], own: OwnParts | None) -> dict[str, Any]:
    sources: dict[str, dict[str, Any]] = {}
    for name, source in page.data.sources.items():
        if own is not None:
            prompt = {} if source.prompt is None else {"prompt": PROMPT_FIELD}
            sources[name] = {"language": source.language, "files": own.texts[name], "field": TEXT_FIELD, **prompt}
            continue
        given = values["sources"][name]
        filters = {key: part for key, part in (given.get("filters") or {}).items() if key != "perplexity"}
        sources[name] = {
            "language": source.language,
            "bundled": _TEXTS.get(source.language, _TEXTS["en"]),
            "filters": filters,
            **({} if source.prompt is None else {"prompt": source.prompt}),
        }
    length = min(_ROWS, page.data.sequence_length)
    return {**values, "sequence_length": length, "held_out": 0.3, "sources": sources}


def for_this_machine(file: RecipeFile, device: str) -> RecipeFile:
    """The recipe without the arguments that a smoke test leaves out: what a CPU lacks is no mistake in it."""
    out = left_out(device)
    return _with_arguments(file, lambda given: {name: value for name, value in given.items() if name not in out})


def on_device(file: RecipeFile, device: str) -> RecipeFile:
    """The recipe for ``cpu`` or for ``cuda``, whatever it says itself."""
    return _with_arguments(file, lambda given: {**given, "use_cpu": device == "cpu"})


def _with_arguments(file: RecipeFile, change: Callable[[dict[str, Any]], dict[str, Any]]) -> RecipeFile:
    """A recipe with the ``arguments`` of every training changed, the base's own too."""
    values = copy.deepcopy(file.document.values)
    pretraining = (values["base"].get("build") or {}).get("pretraining")
    for part in (pretraining, *values["stages"].values()):
        if part is not None:
            part["arguments"] = change(part["arguments"])
    return _with_values(file, values)


def _with_values(file: RecipeFile, values: dict[str, Any]) -> RecipeFile:
    """A recipe with other raw values."""
    base = LocalBase.of(values, file.path.parent)
    recipe = base.completed(Page.model_validate(values))
    return replace(file, recipe=recipe, document=replace(file.document, values=values), base=base)


def left_out(device: str) -> tuple[str, ...]:
    """The arguments that belong to a large machine."""
    return (*_LARGE, *(_ON_CPU if device == "cpu" else ()))


def _arguments(given: dict[str, Any], device: str, *, first: bool) -> dict[str, Any]:
    kept = {name: value for name, value in given.items() if name not in {*left_out(device), *_TIME}}
    accumulated = given.get("gradient_accumulation_steps", 1)
    return {
        **kept,
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,  # of a large vocabulary each row's logits take much
        "gradient_accumulation_steps": 2 if isinstance(accumulated, int) and accumulated > 1 else 1,
        "learning_rate": _RATE,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": STEPS,
        "eval_on_start": first,
        "save_strategy": "steps",
        "save_steps": STEPS,
        "save_total_limit": 1,
        "report_to": "none",
    }


LAYERS: Final = 4
WIDTH: Final = 64
INNER: Final = 128  # a multiple of 64: the kernels of NF4 on a CPU want it
_HEADS: Final = 2
_SIZES: Final[Mapping[str, int]] = {
    "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": _HEADS,
    "head_dim": WIDTH // _HEADS,
}  # fmt: skip
_OF_EXPERTS: Final[Mapping[str, int]] = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64,
}  # fmt: skip
_ROPE: Final = ("rope_parameters", "rope_scaling")
_LATENT: Final = "qk_rope_head_dim"
"""Where a configuration has it, ``head_dim`` is another name of this part of a head."""


def small_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of the same kind, small: of a ``config.json``, or ``to_dict()`` of transformers' class."""
    small = {key: small_config(part) if _is_part(key, part) else part for key, part in values.items()}
    depth = _number(values, "num_hidden_layers")
    heads, key_heads = _number(values, "num_attention_heads"), _number(values, "num_key_value_heads")
    sizes = {**_SIZES, "num_key_value_heads": _HEADS if key_heads == heads else 1}
    if _LATENT in values:
        del sizes["head_dim"]
    for name, size in sizes.items():
        for spelled in NUMBERS[name]:
            if count_from_one(values.get(spelled)):
                small[spelled] = min(size, values[spelled]) if name == "num_hidden_layers" else size
    for name, size in _OF_EXPERTS.items():
        if count_from_one(values.get(name)):
            small[name] = min(size, values[name])
    for name in _ROPE:
        if isinstance(values.get(name), Mapping):
            small[name] = _plain_rope(values[name])
    if depth is not None and depth > LAYERS:
        for name, items in values.items():
            if isinstance(items, (list, tuple)) and len(items) == depth:  # something of each layer
                small[name] = [*items[: LAYERS - 1], items[-1]]
    return small


def _is_part(key: str, value: Any) -> bool:
    return key.endswith("_config") and key != "quantization_config" and isinstance(value, Mapping)


def _number(values: Mapping[str, Any], name: str) -> int | None:
    return next((values[spelled] for spelled in NUMBERS[name] if count_from_one(values.get(spelled))), None)


def _plain_rope(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turned as usual where it has a factor for each pair of a head's dimensions; of each kind of layer, where so."""
    if any(isinstance(part, Mapping) for part in values.values()):
        return {name: _plain_rope(part) if isinstance(part, Mapping) else part for name, part in values.items()}
    if not any(isinstance(part, list) for part in values.values()):
        return dict(values)
    kept = {name: values[name] for name in ("rope_theta", "partial_rotary_factor") if name in values}
    return {"rope_type": "default", **kept}
