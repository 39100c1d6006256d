"""What a stage trains must be there, must be able to move, and must move some way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ko_cpt_callbacks.document.mistake import Key, near_miss, shown
from ko_cpt_callbacks.recipe.model_agreement import base_shape, is_tied, quantization
from ko_cpt_callbacks.recipe.parameter_count import linear_names
from ko_cpt_callbacks.recipe.part import Family
from ko_cpt_callbacks.recipe.raw import Said, at, entries, mapping, whole

NOTHING = "none"
_PARTS = ("input", "output", "layers")


def stage_mistakes(values: Any) -> Said:
    """Where the stages contradict each other, the base or the tokenizer."""
    for name, stage in mapping(values, "stages").items():
        yield from _modules(values, ("stages", name, "lora", "target_modules"), stage)
        # Where a key is misspelt, what the stage trains is not known.
        if isinstance(at(stage, "trains"), Mapping) and set(at(stage, "trains")) <= set(_PARTS):
            yield from _moving(values, ("stages", name), stage)
            yield from _new(values, ("stages", name), stage)
    yield from _half(values)
    yield from _adapters(values)


def _modules(values: Any, key: Key, stage: Any) -> Said:
    """The layers that get an adapter are there, each once."""
    family = base_shape(values).get("family")
    if not isinstance(family, str) or family not in get_args(Family):
        return
    known, names = linear_names(family), entries(stage, "lora", "target_modules")
    for place, name in enumerate(names):
        if isinstance(name, str) and name not in known:
            expected = f"a linear layer of {family}'s blocks ({', '.join(known)}); embedding and head: trains"
            yield (*key, place), shown(name), expected, near_miss(name, known)
        elif name in names[:place]:
            yield (*key, place), f"{shown(name)} a second time", "each layer once", None


def _moving(values: Any, key: Key, stage: Any) -> Said:
    """Something moves, is there, and can."""
    rows, layers = _rows(stage), _layers(stage)
    if rows == (NOTHING, NOTHING) and layers == NOTHING:
        expected = "one of input, output and layers that is not none"
        yield (*key, "trains"), "a stage in which nothing moves", expected, None
    if is_tied(values) and rows[0] != rows[1]:
        found = f"input {rows[0]} and output {rows[1]} of a model in which both are one matrix"
        yield (*key, "trains"), found, "the same for both, or base.untie: true", None
    yield from _there(values, (*key, "trains", "layers"), layers)
    kind, lora = quantization(values), at(stage, "lora")
    if lora is not None and layers == NOTHING:
        expected = "trains.layers odd, even, all or a list, or no lora"
        yield (*key, "lora"), "an adapter, and no layers that move through it", expected, None
    if kind and lora is None and layers != NOTHING:
        expected = "lora in this stage, or base.quantization: none"
        yield (*key, "trains", "layers"), f"layers that move themselves, in {kind}", expected, None


def _there(values: Any, key: Key, layers: Any) -> Said:
    """The layers are there, each once."""
    count = whole(base_shape(values).get("num_hidden_layers"))
    if count == 1 and layers == "odd":
        yield key, "the odd layers of a model with one layer, which is layer 0", "layers that are there", None
    if not isinstance(layers, list):
        return
    for place, index in enumerate(layers):
        if count and isinstance(index, int) and index >= count:
            yield (*key, place), str(index), f"a layer from 0 to {count - 1}", None
        elif index in layers[:place]:
            yield (*key, place), f"layer {index} a second time", "each layer once", None


def _new(values: Any, key: Key, stage: Any) -> Said:
    """New rows are there, and nothing moves the old ones."""
    rows = _rows(stage)
    if "new" not in rows:
        return
    side = "input" if rows[0] == "new" else "output"
    if not mapping(values, "tokenizer", "extend"):
        expected = "all, or a tokenizer.extend that adds some"
        yield (*key, "trains", side), "new rows, and a tokenizer that is kept", expected, None
    decay = at(stage, "arguments", "weight_decay")
    if isinstance(decay, (int, float)) and decay:
        expected = "0: decay would move the old rows too"
        yield (*key, "arguments", "weight_decay"), f"{shown(decay)} beside new rows that train alone", expected, None


def _half(values: Any) -> Said:
    """No weight is trained in float16."""
    if at(values, "base", "dtype") != "float16":
        return
    stages = [name for name, stage in mapping(values, "stages").items() if _whole_weights(stage)]
    if stages:
        found = f"float16 for weights that are trained (stages {', '.join(map(str, stages))})"
        yield ("base", "dtype"), found, "bfloat16 or float32: small gradients are 0 in float16", "bfloat16"


def _whole_weights(stage: Any) -> bool:
    return _rows(stage) != (NOTHING, NOTHING) or (_layers(stage) != NOTHING and at(stage, "lora") is None)


def _adapters(values: Any) -> Said:
    """Names of adapters lead to one that is still there; over a quantised body there is one alone."""
    stages, kind = mapping(values, "stages"), quantization(values)
    made: dict[str, str] = {}  # by stage, the stage that the settings of its adapter are in
    live: str | None = None
    for name, stage in stages.items():
        key: Key = ("stages", name, "lora")
        lora = at(stage, "lora")
        if isinstance(lora, str):
            if lora not in made:
                expected = "settings, or the name of an earlier stage with lora"
                expected += f" ({', '.join(made)})" if made else ""
                yield key, shown(lora), expected, near_miss(lora, made)
                continue
            if not kind and made[lora] != live:
                found = f"the adapter of stage {lora}, which was merged into the weights before this stage"
                yield key, found, "settings: a new adapter", None
            made[name] = made[lora]
        elif isinstance(lora, Mapping):
            same = next((root for root in made.values() if mapping(stages, root, "lora") == lora), None)
            if kind and made and same is None:
                first = next(iter(made.values()))
                found = f"an adapter with other settings than that of stage {first}"
                expected = f"{first}, to go on with it: over an {kind} body one adapter is made for the whole run"
                yield key, found, expected, None
            made[name] = live if live is not None and same == live else name
        elif not kind:
            live = None
            continue
        live = made.get(name, live)
    if kind and stages and not made and all(_layers(stage) == NOTHING for stage in stages.values()):
        expected = "lora in one stage, or none: a quantised model without an adapter is not trained by the Trainer"
        yield ("base", "quantization"), f"{kind}, and no stage with lora", expected, None


def _rows(stage: Any) -> tuple[Any, Any]:
    trains = mapping(stage, "trains")
    return trains.get("input", NOTHING), trains.get("output", NOTHING)


def _layers(stage: Any) -> Any:
    return mapping(stage, "trains").get("layers", NOTHING)
