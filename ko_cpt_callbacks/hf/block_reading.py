"""The transformer blocks of a model, found by structure and not by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Blocks", "find_blocks", "text_config"]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The blocks, in order, and the module around them: the language model without its head."""

    holder: nn.Module
    modules: Sequence[nn.Module]


def find_blocks(base: nn.Module, embedding: nn.Module | None) -> Blocks | None:
    """The outermost list of as many modules as there are layers, beside the embeddings; None where it is not clear.

    Args:
        base: The model, without adapters around it.
        embedding: Its input embedding: a vision tower of the same depth does not hold it.
    """
    count = getattr(text_config(base), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {}
    for name, module in base.named_modules():
        if (
            isinstance(module, nn.ModuleList)
            and len(module) == count
            and not any(name.startswith(f"{outside}.") for outside in found)
        ):
            found[name] = module
    if len(found) > 1 and embedding is not None:
        found = {
            name: module
            for name, module in found.items()
            if any(part is embedding for part in base.get_submodule(name.rpartition(".")[0]).modules())
        }
    if len(found) != 1:
        return None
    name, modules = next(iter(found.items()))
    return Blocks(base.get_submodule(name.rpartition(".")[0]), list(modules))


def text_config(base: nn.Module) -> Any:
    """The configuration of the language model; None where there are several, such as an encoder's and a decoder's."""
    config: Any = getattr(base, "config", None)
    try:
        return config.get_text_config() if hasattr(config, "get_text_config") else config
    except ValueError:
        return None
