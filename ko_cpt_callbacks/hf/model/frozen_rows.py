"""A gradient hook under which only the last rows of a matrix move, and which says so to whoever reads the model."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["RowHold", "held_rows", "hold_rows", "moving_numbers", "release_rows"]


class RowHold:
    """Sets the gradient of the first rows to zero, where it has been added up and before anyone reads it.

    With a gradient that was always zero no optimizer moves a row, unless it decays weights: then it moves every row.

    Args:
        first_row: The first row that moves.
    """

    def __init__(self, first_row: int) -> None:
        self.first_row = first_row

    def __call__(self, parameter: Tensor) -> None:
        """In place: a copy of the gradient of a large vocabulary would take as much memory once more."""
        if parameter.grad is not None:
            parameter.grad[: self.first_row] = 0


def hold_rows(parameter: nn.Parameter, first_row: int) -> None:
    """Let only the rows from one on move; what held rows of it before is taken off."""
    release_rows(parameter)
    parameter.register_post_accumulate_grad_hook(RowHold(first_row))


def release_rows(parameter: nn.Parameter) -> None:
    """Let all rows move again."""
    hooks = _hooks(parameter)
    for key in [key for key, hook in hooks.items() if isinstance(hook, RowHold)]:
        del hooks[key]


def held_rows(parameter: nn.Parameter) -> int | None:
    """The first row that moves; None where nothing of this module holds any."""
    return next((hook.first_row for hook in _hooks(parameter).values() if isinstance(hook, RowHold)), None)


def moving_numbers(parameter: nn.Parameter) -> int:
    """Numbers of a trained parameter that can move: those of held rows cannot."""
    first = held_rows(parameter)
    return parameter.numel() if first is None else parameter[first:].numel()


def _hooks(parameter: nn.Parameter) -> dict[Any, Any]:
    found: dict[Any, Any] | None = getattr(parameter, "_post_accumulate_grad_hooks", None)
    return {} if found is None else found
