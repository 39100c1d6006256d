"""Rows for new tokens in the input embedding and the output head, made from the rows of what they were before.

Sources: the mean of the sub-tokens' rows for both matrices was RedWhale's best of five ways
(https://arxiv.org/abs/2408.11294); EEVE takes the mean for the input and the first sub-token for the output, whose
row has to predict what comes first (https://arxiv.org/abs/2402.14714).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn

from ko_cpt_callbacks.errors import ConfigurationError

Method = Literal["mean", "first", "random"]
_PART: Final = 8192
_PLAIN: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, slots=True)
class RowSettings:
    """How new rows begin.

    Attributes:
        input: For the input embedding: ``mean`` of the sub-tokens' rows, the ``first`` sub-token's row, or
            ``random``: independent normal numbers, each column with the mean and the standard deviation that the
            old rows have in it (so that a new token is neither louder nor quieter than an old one; after J. Hewitt,
            "Initializing New Word Embeddings for Pretrained Language Models", 2021).
        output: For the output head; None for the same as `input`. A tied model has one matrix and takes no other.
        pad_to_multiple_of: Rows of both matrices are filled up to a multiple; None for as many as needed.
        seed: Of the random rows.
    """

    input: Method = "mean"
    output: Method | None = None
    pad_to_multiple_of: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            method = getattr(self, name)
            if method not in get_args(Method) and not (name == "output" and method is None):
                raise ConfigurationError(f"{name}: found {method!r}, expected one of {', '.join(get_args(Method))}")
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise ConfigurationError(f"pad_to_multiple_of: found {self.pad_to_multiple_of}, expected 1 or more")


@dataclass(frozen=True, slots=True)
class NewRows:
    """What was done to a model.

    Attributes:
        rows: Rows of both matrices now, padding included.
        first_id: The first new id: every row before it is as it was.
        initialized: New tokens with rows of their own.
        tied: Whether input and output are one matrix.
    """

    rows: int
    first_id: int
    initialized: int
    tied: bool


def add_rows(model: Any, pieces: Mapping[int, Sequence[int]], settings: RowSettings) -> NewRows:
    """Give a model rows for new tokens; all rows before the first new id stay bit by bit.

    Do it before adapters are added. Rows that no token has (padding) get the mean of the old rows: zeros would be
    likelier than most tokens wherever the other logits are negative. Sums are taken in float32 or better.

    Args:
        model: A causal language model of transformers, whose embedding and head are not quantised.
        pieces: Ids of the old tokenizer for every new id (`vocabulary.old_pieces`); new ids follow each other.
        settings: How the rows begin.

    Raises:
        ConfigurationError: If a matrix is quantised or not there, or a tied model is asked for two methods.
    """
    first_id = _first_new_id(pieces)
    old = {side: _matrix(model, side) for side in ("input", "output")}
    tied = old["input"].data_ptr() == old["output"].data_ptr()
    if tied and settings.output not in (None, settings.input):
        raise ConfigurationError(
            f"new rows: found input {settings.input!r} and output {settings.output!r} for a model whose input and "
            "output are one matrix, expected one method; leave output out, or untie the model first"
        )
    before = min(len(matrix) for matrix in old.values())
    if first_id > before:
        raise ConfigurationError(
            f"new rows: found {before} rows and {first_id} as the first new id, expected a model of the old tokenizer"
        )
    _resize(model, max(before, first_id + len(pieces)), settings.pad_to_multiple_of)
    methods: dict[str, Method] = {"input": settings.input, "output": settings.output or settings.input}
    generator = torch.Generator().manual_seed(settings.seed)
    for side in ("input",) if tied else ("input", "output"):
        module = _module(model, side)
        for parameter in (module.weight, getattr(module, "bias", None)):
            if parameter is not None:
                _fill(parameter.data, pieces, methods[side], first_id, before, generator)
    return NewRows(len(_matrix(model, "input")), first_id, len(pieces), tied)


def _fill(
    rows: Tensor,
    pieces: Mapping[int, Sequence[int]],
    method: Method,
    first_id: int,
    before: int,
    generator: torch.Generator,
) -> None:
    """Write the new rows of a matrix, or the new numbers of a bias.

    Args:
        before: Rows that were there before it was resized: those of them after the new ones stay too.
    """
    exact = torch.promote_types(rows.dtype, torch.float32)
    old = rows[:first_id]
    end = first_id + len(pieces)
    middle = old.mean(0, dtype=exact)
    rows[max(end, before) :] = middle.to(rows.dtype)
    if method == "random":
        # In parts: a large vocabulary in float32, all at once, may not fit beside the model.
        squares = [((part.to(exact) - middle) ** 2).sum(0) for part in torch.split(old, _PART)]
        spread = (torch.stack(squares).sum(0) / first_id).sqrt()
        # Drawn on the CPU, so that a seed gives the same rows on every device.
        drawn = torch.randn((len(pieces), *rows.shape[1:]), generator=generator, dtype=exact).to(rows.device)
        rows[first_id:end] = (middle + spread * drawn).to(rows.dtype)
        return
    for index, parts in pieces.items():
        wanted = list(parts) if method == "mean" else [parts[0]]
        rows[index] = old[wanted].to(exact).mean(0).to(rows.dtype)


def _first_new_id(pieces: Mapping[int, Sequence[int]]) -> int:
    first = min(pieces, default=-1)
    if sorted(pieces) != list(range(first, first + len(pieces))) or first < 1:
        raise ConfigurationError("new rows: found new ids with gaps or none, expected ids that follow each other")
    for index, parts in pieces.items():
        if not parts or not all(0 <= part < first for part in parts):
            raise ConfigurationError(
                f"new rows: found the pieces {list(parts)} for token {index}, expected one or more ids below {first}"
            )
    return first


def _resize(model: Any, rows: int, multiple: int | None) -> None:
    step = multiple or 1
    wanted = -(-rows // step) * step
    if any(len(_matrix(model, side)) != wanted for side in ("input", "output")):
        model.resize_token_embeddings(wanted, mean_resizing=False)


def _module(model: Any, side: str) -> Any:
    return model.get_input_embeddings() if side == "input" else model.get_output_embeddings()


def _matrix(model: Any, side: str) -> Tensor:
    module = _module(model, side)
    weight = getattr(module, "weight", None)
    if weight is None or not isinstance(module, (nn.Embedding, nn.Linear)):
        raise _refused(side, "nothing" if module is None else f"a {type(module).__name__}")
    # bitsandbytes has a parameter class of its own, also before the numbers are quantised.
    if type(weight) is not nn.Parameter or weight.dtype not in _PLAIN or weight.is_meta:
        raise _refused(side, f"a {type(weight).__name__} of {weight.dtype} on {weight.device}")
    return weight


def _refused(side: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"new rows: found {found} as the {side} embedding, expected a matrix of plain floating-point numbers; "
        "leave it out of the quantisation, and add rows before adapters"
    )
