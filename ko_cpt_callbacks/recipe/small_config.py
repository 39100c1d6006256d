"""A model's configuration made small by rule, so that a model of the same kind is made in a second on any machine.

Kept: the family, its switches, ties, the vocabulary, grouping of heads, whether there are experts. Made small: depth,
widths, numbers of heads and experts, of each part (a vision tower too). What the rule does not know stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ko_cpt_callbacks.recipe.base_config import NUMBERS

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
    """A configuration of the same kind, small.

    Args:
        values: ``to_dict()`` of transformers' class, or a ``config.json``.
    """
    small = {key: small_config(part) if _is_part(key, part) else part for key, part in values.items()}
    depth = _number(values, "num_hidden_layers")
    heads, key_heads = _number(values, "num_attention_heads"), _number(values, "num_key_value_heads")
    for name, size in _SIZES.items():
        if name == "head_dim" and _LATENT in values:
            continue
        for spelled in NUMBERS[name]:
            if _is_size(values.get(spelled)):
                small[spelled] = min(size, values[spelled]) if name == "num_hidden_layers" else size
    for spelled in NUMBERS["num_key_value_heads"]:
        if _is_size(values.get(spelled)):
            small[spelled] = _HEADS if key_heads == heads else 1
    for name, size in _OF_EXPERTS.items():
        if _is_size(values.get(name)):
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


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(values: Mapping[str, Any], name: str) -> int | None:
    return next((values[spelled] for spelled in NUMBERS[name] if _is_size(values.get(spelled))), None)


def _plain_rope(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turned as usual where it has a factor for each pair of a head's dimensions; of each kind of layer, where so."""
    if any(isinstance(part, Mapping) for part in values.values()):
        return {name: _plain_rope(part) if isinstance(part, Mapping) else part for name, part in values.items()}
    if not any(isinstance(part, list) for part in values.values()):
        return dict(values)
    kept = {name: values[name] for name in ("rope_theta", "partial_rotary_factor") if name in values}
    return {"rope_type": "default", **kept}
