"""The block ``ko_cpt:`` of a framework's YAML: the callback's arguments, checked before a model is loaded."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from ko_cpt_callbacks.errors import ConfigurationError, near_miss
from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.run.alert import ALERTS_VARIABLE

__all__ = ["KEY", "Block", "read_block"]

KEY: Final = "ko_cpt"
_TAKEN: Final = tuple(name for name in inspect.signature(KoCPTCallback).parameters if name != "alerts")


class Block(BaseModel):
    """The callback's arguments; those that are left out are the callback's own.

    Args:
        eval_sets: Names of the framework's evaluation sets in their order, where it has no names for them (Axolotl's
            ``test_datasets``): each is then evaluated by itself as ``eval_NAME``.
    """

    model_config = ConfigDict(extra="allow")
    own: ClassVar[tuple[str, ...]] = ("eval_sets",)

    eval_sets: list[str] | None = None

    @model_validator(mode="after")
    def _can_be_used(self) -> Block:
        """Every key is known, and the callback takes every value."""
        known = (*_TAKEN, *self.own)
        unknown = [name for name in self.model_extra or {} if name not in known]
        if unknown:
            if "alerts" in unknown:
                raise ValueError(f"{KEY}.alerts: a page is logged, addresses are not; set {ALERTS_VARIABLE}")
            near = near_miss(unknown[0], known)
            hint = f"did you mean {near}?" if near else f"expected {', '.join(known)}"
            raise ValueError(f"{KEY}.{unknown[0]}: no argument of KoCPTCallback; {hint}")
        for number, name in enumerate(self.eval_sets or ()):
            if not name.isidentifier() or name in (self.eval_sets or ())[:number]:
                raise ValueError(f"{KEY}.eval_sets[{number}]: found {name!r}, expected a name of its own, such as ko")
        try:
            self.callback()
        except ConfigurationError as error:
            raise ValueError(f"{KEY}: {error}") from None
        return self

    def callback(self) -> KoCPTCallback:
        """The callback that the block describes."""
        return KoCPTCallback(**{name: value for name, value in (self.model_extra or {}).items() if value is not None})


def read_block(value: Any) -> Block:
    """A block from the value under ``ko_cpt``; nothing there is a block without arguments.

    Raises:
        ConfigurationError: If it cannot be used; the text names the key.
    """
    try:
        return Block.model_validate({} if value is None else value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([KEY, *(str(part) for part in first["loc"])])
        text = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(text if text.startswith(KEY) else f"{where}: {text}") from None
