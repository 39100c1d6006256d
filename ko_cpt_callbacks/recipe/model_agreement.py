"""What base model and tokenizer must agree on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ko_cpt_callbacks.recipe.raw import Said, at, mapping, whole

QUANTIZED = ("8-bit", "4-bit")


def model_mistakes(values: Any) -> Said:
    """Where the parts of ``base`` and ``tokenizer`` contradict each other."""
    base = mapping(values, "base")
    yield from _kind(values)
    for way in ("shape", "build"):
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


def _kind(values: Any) -> Said:
    """The base is loaded or made."""
    base = at(values, "base")
    if not isinstance(base, Mapping):
        return
    loaded, made = base.get("model") is not None, base.get("build") is not None
    if loaded == made:
        yield ("base",), "both model and build" if made else "neither model nor build", "one of them", None
    elif loaded:
        if base.get("shape") is None:
            expected = "what its config.json says: family, hidden_size, … (nothing is downloaded to find out)"
            yield ("base", "shape"), "nothing", expected, None
    else:
        for name in ("shape", "revision"):
            if base.get(name) is not None:
                yield ("base", name), f"a {name} beside build", f"no {name}: build says it all", None


def _heads(shape: Mapping[str, Any], way: str) -> Said:
    """The width can be divided among the heads, and those among the key heads."""
    width, heads = whole(shape.get("hidden_size")), whole(shape.get("num_attention_heads"))
    keys = whole(shape.get("num_key_value_heads"))
    if width and heads and width % heads and shape.get("head_dim") is None:
        yield ("base", way, "num_attention_heads"), str(heads), f"a divisor of hidden_size {width}", None
    if keys and heads and shape.get("family") == "gpt_neox" and keys != heads:
        key = ("base", way, "num_key_value_heads")
        yield key, str(keys), f"{heads}, as many as attention heads: gpt_neox has no others", None
    elif keys and heads and heads % keys:
        yield ("base", way, "num_key_value_heads"), str(keys), f"a divisor of num_attention_heads {heads}", None


def _new_rows(values: Any) -> Said:
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
