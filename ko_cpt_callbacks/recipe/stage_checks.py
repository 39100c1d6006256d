"""What a stage trains must be there, must be able to move, and must move some way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.recipe.family import kind_of, linear_paths
from ko_cpt_callbacks.recipe.installed import causal_families
from ko_cpt_callbacks.recipe.parameter_count import is_named
from ko_cpt_callbacks.run.observation import count_from_one
from ko_cpt_callbacks.yaml.mistake import Key, shown
from ko_cpt_callbacks.yaml.reading import KeyMistakes, at, entries, mapping

QUANTIZED = ("8-bit", "4-bit")


def model_mistakes(values: Any) -> KeyMistakes:
    """Where the parts of ``base`` and ``tokenizer`` contradict each other."""
    base = mapping(values, "base")
    yield from _kind(values)
    for way in ("shape", "build"):
        yield from _family(mapping(base, way), way)
        yield from _heads(mapping(base, way), way)
    if at(base, "untie") is True and base_shape(values) and not _tie_wanted(values):
        expected = "tie_word_embeddings: true in the shape, or no untie"
        yield ("base", "untie"), "two matrices already", expected, None
    yield from _new_rows(values)


def base_shape(values: Any) -> Mapping[str, Any]:
    """The raw shape of the base, loaded or made."""
    return mapping(values, "base", "shape") or mapping(values, "base", "build")


def is_tied(values: Any) -> bool:
    """Whether input embedding and head are one matrix when the stages begin."""
    return _tie_wanted(values) and at(values, "base", "untie") is not True


def quantization(values: Any) -> str | None:
    """``8-bit`` or ``4-bit``; None where the weights are as they are, or the word is none that is known."""
    word = at(values, "base", "quantization")
    return word if word in QUANTIZED else None


def _tie_wanted(values: Any) -> bool:
    return base_shape(values).get("tie_word_embeddings") is True


def _kind(values: Any) -> KeyMistakes:
    """The base is loaded or made."""
    base = at(values, "base")
    if not isinstance(base, Mapping):
        return
    loaded, made = base.get("model") is not None, base.get("build") is not None
    if loaded == made:
        yield ("base",), "both model and build" if made else "neither model nor build", "one of them", None
    elif made:
        for name in ("shape", "revision"):
            if base.get(name) is not None:
                yield ("base", name), f"a {name} beside build", f"no {name}: build says it all", None


def _family(shape: Mapping[str, Any], way: str) -> KeyMistakes:
    """The family is one that the installed transformers makes a causal language model of."""
    family, known = shape.get("family"), causal_families()
    if isinstance(family, str) and known is not None and family not in known:
        expected = "a model_type that the installed transformers makes a causal language model of"
        yield ("base", way, "family"), shown(family), expected, near_miss(family, known)


def _heads(shape: Mapping[str, Any], way: str) -> KeyMistakes:
    """The width can be divided among the heads, and those among the key heads."""
    width, heads = count_from_one(shape.get("hidden_size")), count_from_one(shape.get("num_attention_heads"))
    keys = count_from_one(shape.get("num_key_value_heads"))
    if width and heads and width % heads and shape.get("head_dim") is None:
        yield ("base", way, "num_attention_heads"), str(heads), f"a divisor of hidden_size {width}", None
    kind = kind_of(str(shape.get("family")))
    if keys and heads and kind is not None and not kind.key_heads and keys != heads:
        key = ("base", way, "num_key_value_heads")
        yield key, str(keys), f"{heads}, as many as attention heads: {shape.get('family')} has no others", None
    elif keys and heads and heads % keys:
        yield ("base", way, "num_key_value_heads"), str(keys), f"a divisor of num_attention_heads {heads}", None


def _new_rows(values: Any) -> KeyMistakes:
    """New rows are trained some time, and those of one matrix begin in one way."""
    extend = mapping(values, "tokenizer", "extend")
    stages = mapping(values, "stages")
    if not extend or not stages:
        return
    words = [at(stage, "trains", side) for stage in stages.values() for side in ("input", "output")]
    if not {"new", "all"} & {word for word in words if isinstance(word, str)}:
        expected = "a stage with input or output new, or all"
        yield ("tokenizer", "extend"), "new tokens whose rows no stage trains", expected, None
    one, other = extend.get("new_input_rows", "mean"), extend.get("new_output_rows")
    if is_tied(values) and isinstance(other, str) and other != one:
        found = f"{other} where the input has {one}, and both are one matrix"
        yield ("tokenizer", "extend", "new_output_rows"), found, "the same for both, or base.untie: true", None


NOTHING = "none"
_PARTS = ("input", "output", "layers")


def stage_mistakes(values: Any) -> KeyMistakes:
    """Where the stages contradict each other, the base or the tokenizer."""
    for name, stage in mapping(values, "stages").items():
        yield from _modules(values, ("stages", name, "lora", "target_modules"), stage)
        # Where a key is misspelt, what the stage trains is not known.
        if isinstance(at(stage, "trains"), Mapping) and set(at(stage, "trains")) <= set(_PARTS):
            yield from _moving(values, ("stages", name), stage)
            yield from _new(values, ("stages", name), stage)
    yield from _half(values)
    yield from _adapters(values)


def _modules(values: Any, key: Key, stage: Any) -> KeyMistakes:
    """The layers that get an adapter are there, each once."""
    family, names = base_shape(values).get("family"), entries(stage, "lora", "target_modules")
    known = linear_paths(family) if isinstance(family, str) else None
    for place, name in enumerate(names):
        if isinstance(name, str) and known is not None and not any(is_named(path, [name]) for path in known):
            yield ((*key, place), shown(name), *wanted_layer(name, f"{family}'s", known))
        elif name in names[:place]:
            yield (*key, place), f"{shown(name)} a second time", "each layer once", None


def wanted_layer(name: str, whose: str, paths: Sequence[str]) -> tuple[str, str | None]:
    """What is expected in the place of a name that no layer has, and what was probably meant.

    Args:
        name: As LoRA's ``target_modules`` give it.
        whose: The model, or its family: ``llama's``.
        paths: Its linear layers.
    """
    words = list(dict.fromkeys(path.rpartition(".")[2] for path in paths))
    expected = f"a linear layer of {whose} blocks ({', '.join(words)}), or all-linear; embedding and head: trains"
    return expected, near_miss(name, words)


def _moving(values: Any, key: Key, stage: Any) -> KeyMistakes:
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


def _there(values: Any, key: Key, layers: Any) -> KeyMistakes:
    """The layers are there, each once."""
    count = count_from_one(base_shape(values).get("num_hidden_layers"))
    if count == 1 and layers == "odd":
        yield key, "the odd layers of a model with one layer, which is layer 0", "layers that are there", None
    if not isinstance(layers, list):
        return
    for place, index in enumerate(layers):
        if count and isinstance(index, int) and index >= count:
            yield (*key, place), str(index), f"a layer from 0 to {count - 1}", None
        elif index in layers[:place]:
            yield (*key, place), f"layer {index} a second time", "each layer once", None


def _new(values: Any, key: Key, stage: Any) -> KeyMistakes:
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


def _half(values: Any) -> KeyMistakes:
    """No weight is trained in float16."""
    if at(values, "base", "dtype") != "float16":
        return
    stages = [name for name, stage in mapping(values, "stages").items() if _whole_weights(stage)]
    if stages:
        found = f"float16 for weights that are trained (stages {', '.join(map(str, stages))})"
        yield ("base", "dtype"), found, "bfloat16 or float32: small gradients are 0 in float16", "bfloat16"


def _whole_weights(stage: Any) -> bool:
    return _rows(stage) != (NOTHING, NOTHING) or (_layers(stage) != NOTHING and at(stage, "lora") is None)


def _adapters(values: Any) -> KeyMistakes:
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
