"""Hooks that stay with the model they were put on: saved, pickled or copied, a model takes nothing of them along."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

__all__ = ["ModelHook"]


class ModelHook:
    """A hook for ``register_forward_hook`` and its like.

    ``torch.save(model)`` and ``copy.deepcopy(model)`` write a model's hooks too. Of this one they write a function of
    the standard library that takes as many arguments and does nothing, so that the model also loads where this package
    is not installed, and a copy is watched by no one.

    Args:
        call: What the hook does; its result is dropped, so that nothing of the model's changes.
        arguments: How many positional arguments it is called with: 3 or 4.
        on_error: Called with an exception in it; the forward pass never sees it.
    """

    def __init__(
        self, call: Callable[..., Any], arguments: int, on_error: Callable[[Exception], None] | None = None
    ) -> None:
        self._call = call
        self._arguments = arguments
        self._on_error = on_error

    def __call__(self, *args: Any) -> None:
        """Do it."""
        try:
            self._call(*args)
        except Exception as error:
            if self._on_error is not None:
                self._on_error(error)

    def __reduce__(self) -> tuple[Any, ...]:
        """What a copy gets: ``string.Formatter.check_unused_args``, whose body is empty."""
        return getattr, (string.Formatter if self._arguments == 4 else string.Formatter(), "check_unused_args")
