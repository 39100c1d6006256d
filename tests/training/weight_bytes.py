"""The bytes that a model's weights really take, to compare an estimate with."""

from __future__ import annotations

from typing import Any

from ko_cpt_callbacks.recipe.memory import StageMemory

STANDING = ("embedding and head", "blocks", "what stands still", "copies beside the adapter", "adapter")
"""Terms of the memory that are weights."""


def standing(memory: StageMemory) -> int:
    """The bytes of the weights, as they are estimated."""
    return sum(term.bytes for term in memory.terms if term.name in STANDING)


def weight_bytes(model: Any) -> int:
    """Of all weights, quantised ones with their scales; each storage once."""
    found = {}
    for parameter in model.parameters():
        tensors = [parameter.data]
        scales = getattr(parameter, "SCB", None)
        state = getattr(parameter, "quant_state", None)
        if scales is not None:
            tensors.append(scales)
        if state is not None:
            tensors += [state.absmax, state.state2.absmax]
        for tensor in tensors:
            found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
    for module in model.modules():  # after a forward pass the scales of LLM.int8 are in the layer
        state = getattr(module, "state", None)
        if getattr(state, "SCB", None) is not None:
            found[state.SCB.data_ptr()] = state.SCB.numel() * state.SCB.element_size()
    return sum(found.values())
