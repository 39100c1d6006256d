"""What a model is made of, read from what its modules are and not from their names.

Embedding and head are those that the model itself names, the blocks the list of as many modules as its configuration
has layers, linear layers those of torch, of transformers (``Conv1D``, as GPT-2 has) and of bitsandbytes. Nothing is
read of a weight but its shape: a model on torch's meta device will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.model.facts import elements
from ko_cpt_callbacks.hf.model.structure import Blocks, embedding_parts, find_blocks, module_asked
from ko_cpt_callbacks.recipe.parameter_count import Linear, ParameterCount, PartCount

_LINEAR: Final = (nn.Linear, Conv1D)
_QUANTIZER: Final = "bitsandbytes."
"""Where the classes of linear layers are that it makes of others; importing it takes time, and prints."""

_WRAPPED: Final = ("base_layer", "original_module")
"""What PEFT calls the module that an adapter, or a copy to be trained, stands in the place of."""

# Dimensions of a parameter that holds the matrices of several experts.
_FUSED: Final = 3


def empty_model(config: Any) -> PreTrainedModel:
    """The model of a configuration, on the meta device: its modules and shapes, without memory for a weight.

    Raises:
        ConfigurationError: If ``AutoModelForCausalLM`` cannot make one.
    """
    try:
        with torch.device("meta"):
            made: Any = AutoModelForCausalLM
            model: PreTrainedModel = made.from_config(config, trust_remote_code=False)
            model.tie_weights()  # transformers 5.0 itself does not, on this device
    except (ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:240]
        raise ConfigurationError(
            f"base.model: found a configuration of {getattr(config, 'model_type', 'no family')} of which no model can "
            f"be made ({said}), expected one that AutoModelForCausalLM knows"
        ) from error
    return model


def blocks_of(model: nn.Module) -> Blocks:
    """The transformer blocks of a model without adapters.

    Raises:
        ConfigurationError: If they are not found.
    """
    embedding = module_asked(model, "get_input_embeddings")
    found = None if embedding is None else find_blocks(model, embedding)
    if found is None:
        lacking = "no input embedding" if embedding is None else "no one list of transformer blocks"
        raise ConfigurationError(
            f"base.model: found {lacking} in {type(model).__name__}, expected a decoder whose get_input_embeddings "
            "gives a matrix, and beside it one ModuleList of as many blocks as num_hidden_layers says"
        )
    return found


def block_path(model: nn.Module, blocks: Blocks) -> str:
    """The name of the list of blocks: ``model.layers``."""
    return module_name(model, blocks.modules[0]).rpartition(".")[0]


def module_name(model: nn.Module, module: nn.Module) -> str:
    """The name of a module in a model."""
    return str(next(name for name, item in model.named_modules() if item is module))


def read_layout(model: nn.Module) -> ParameterCount:
    """What a model without adapters is made of.

    Raises:
        ConfigurationError: If something that a recipe trains is not found in it.
    """
    blocks = blocks_of(model)
    embedding, head = module_asked(model, "get_input_embeddings"), module_asked(model, "get_output_embeddings")
    one = None if embedding is None else embedding_parts(embedding)
    other = None if head is None else embedding_parts(head)
    if one is None or one.weight is None or other is None or other.weight is None:
        lacking = "embedding" if one is None or one.weight is None else "head"
        raise ConfigurationError(
            f"base.model: found {type(model).__name__} without a matrix for its {lacking}, expected "
            "get_input_embeddings and get_output_embeddings to give one each"
        )
    seen = set(one.everything | other.everything)
    parts = tuple(_part(block, seen) for block in blocks.modules)
    if not any(part.linears for part in parts):
        raise ConfigurationError(
            f"base.model: found no linear layer in the blocks of {type(model).__name__}, expected nn.Linear, or "
            "Conv1D of transformers"
        )
    outside = _part(blocks.holder, seen)
    bias = None if head is None else head._parameters.get("bias")
    width = one.weight.shape[1]
    return ParameterCount(
        rows=one.rows or 0,
        width=width,
        tied=one.weight is other.weight or one.same_as(other),
        blocks=parts,
        outside=outside,
        still=_part(model, seen),
        head_bias=bias is not None,
    )


def plain_modules(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model as they are without the adapters that PEFT has put around some: paths and modules."""
    for name in _WRAPPED:
        inner = module._modules.get(name)
        if inner is not None and hasattr(module, "active_adapter"):
            yield from plain_modules(inner, path)
            return
    yield path, module
    for name, part in module.named_children():
        yield from plain_modules(part, f"{path}.{name}" if path else name)


def _part(module: nn.Module, seen: set[int]) -> PartCount:
    """The numbers of a module that are not counted yet; they are counted then."""
    linears, experts, rest = [], [], 0
    for path, part in plain_modules(module):
        linear = _linear(path, part) if id(part._parameters.get("weight")) not in seen else None
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if linear is not None and name == "weight":
                linears.append(linear)
                continue
            rest += elements(parameter)
            if len(parameter.shape) == _FUSED and "conv" not in type(part).__name__.lower():
                experts.append(f"{path}.{name}" if path else name)
    return PartCount(tuple(linears), rest, tuple(experts))


def _linear(path: str, module: nn.Module) -> Linear | None:
    if isinstance(module, Conv1D):
        inputs, outputs = module.weight.shape
    elif isinstance(module, nn.Linear):
        inputs, outputs = module.in_features, module.out_features
    else:
        return None
    return Linear(path, int(inputs), int(outputs), module.bias is not None, is_taken(module))


def is_taken(module: nn.Module) -> bool:
    """Whether bitsandbytes quantizes a linear layer, or has: transformers 5 leaves classes made from ``nn.Linear``."""
    if isinstance(module, Conv1D) or _is_quantized(module):
        return True
    plain = type(module) is nn.Linear
    return plain or (isinstance(module, nn.Linear) and int(transformers.__version__.partition(".")[0]) < 5)


def _is_quantized(module: nn.Module) -> bool:
    return type(module).__module__.startswith(_QUANTIZER)


def check_quantized(model: nn.Module, kind: str) -> None:
    """Whether the linear layers of a loaded model's blocks are in ``8-bit`` or ``4-bit``, as was asked for.

    Raises:
        ConfigurationError: If one is not that bitsandbytes takes, or all are of classes that it leaves alone: the model
            takes more memory than was reported.
    """
    linears = list(_linears_of(blocks_of(model).modules))
    left = [name for name, part in linears if is_taken(part) and not _is_quantized(part)]
    if left or not any(_is_quantized(part) for _, part in linears):
        raise _not_quantized(kind, left or [name for name, _ in linears])


def check_quantizable(count: ParameterCount, kind: str) -> None:
    """The same, before the weights are loaded."""
    if not any(linear.quantized for linear in count.linears):
        raise _not_quantized(kind, [linear.path for linear in count.linears])


def _not_quantized(kind: str, names: Iterable[str]) -> ConfigurationError:
    words = dict.fromkeys(name.rpartition(".")[2] for name in names)
    return ConfigurationError(
        f"base.quantization: found linear layers that bitsandbytes leaves as they are ({', '.join(words)}), expected "
        f"those of the blocks in {kind}; set quantization: none"
    )


def _linears_of(blocks: Iterable[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    for block in blocks:
        yield from ((name, part) for name, part in plain_modules(block) if isinstance(part, _LINEAR))
