"""How the callback reaches the front of the Trainer's callback list.

``Trainer.log`` hands one dictionary to its callbacks in order, trackers before user callbacks. Only the first
callback can add a number that every tracker sees. No event carries the list, but the frame that calls the event
does: it belongs to the ``CallbackHandler``. This module is the only one that knows that.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import CallbackHandler

# From the event method up to `CallbackHandler.call_event` there are a few frames of ours, and possibly a wrapper.
_FRAMES: Final = 12

_WATCHED: Final = "_ko_cpt_watched"


def find_handler(callback: TrainerCallback) -> CallbackHandler | None:
    """The handler that is calling ``callback`` right now, or None when no such frame is found."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        owner = frame.f_locals.get("self")
        if isinstance(owner, CallbackHandler) and any(item is callback for item in owner.callbacks):
            return owner
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def find_trainer(handler: CallbackHandler) -> Any:
    """The Trainer whose ``handler`` is calling right now, or None: it holds the datasets, which no event carries."""
    frame: FrameType | None = sys._getframe(1)
    for _ in range(2 * _FRAMES):
        if frame is None:
            return None
        owner = frame.f_locals.get("self")
        if getattr(owner, "callback_handler", None) is handler:
            return owner
        frame = frame.f_back
    return None


def move_to_front(handler: CallbackHandler, callback: TrainerCallback) -> None:
    """Put ``callback`` first; safe while the handler iterates over the list.

    Moving the current item of a running iteration to index 0 shifts only items that were already called, so no
    callback is skipped or called twice.
    """
    entries = handler.callbacks
    if entries and entries[0] is callback:
        return
    for index, item in enumerate(entries):
        if item is callback:
            del entries[index]
            break
    entries.insert(0, callback)


def is_first(handler: CallbackHandler | None, callback: TrainerCallback) -> bool:
    """Whether trackers see what ``callback`` adds to ``logs``."""
    return handler is not None and bool(handler.callbacks) and handler.callbacks[0] is callback


def joined_before(handler: CallbackHandler, callback: TrainerCallback) -> list[TrainerCallback]:
    """Callbacks given to :func:`on_removal` before ``callback`` that are still in the list."""
    found = [item for item, _ in handler.__dict__.get(_WATCHED, ())]
    places = [index for index, item in enumerate(found) if item is callback]
    return found[: places[0]] if places else found


def early_stopping(handler: CallbackHandler | None) -> str | None:
    """The name of transformers' own early stopping (or a descendant) in the list; None where there is none."""
    present = [] if handler is None else handler.callbacks
    return next((type(item).__name__ for item in present if isinstance(item, EarlyStoppingCallback)), None)


def early_stop(handler: CallbackHandler | None) -> str | None:
    """The class of an early-stopping callback in the list whose patience has run out; None where there is none."""
    present = [] if handler is None else handler.callbacks
    for item in present:
        if isinstance(item, EarlyStoppingCallback):
            counter = getattr(item, "early_stopping_patience_counter", 0)
            if counter >= item.early_stopping_patience:
                return type(item).__name__
    return None


def on_removal(handler: CallbackHandler, callback: TrainerCallback, release: Callable[[], None]) -> None:
    """Call ``release`` when ``callback`` leaves the list by ``pop_callback`` or ``remove_callback``.

    No event tells a callback that it was removed, so the two methods of this one handler are wrapped. When the
    handler itself is gone (with its Trainer), ``release`` is called as well.
    """
    watched = handler.__dict__.setdefault(_WATCHED, _Removals())
    if any(item is callback for item, _ in watched):
        return
    watched.append((callback, release))
    weakref.finalize(handler, release).atexit = False
    if len(watched) == 1:
        for name in ("pop_callback", "remove_callback"):
            setattr(handler, name, _Removing(handler, name))


class _Removals(list[tuple[TrainerCallback, Callable[[], None]]]):
    """Who is told of a removal. A copy of the handler tells nobody: its callbacks join it anew."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _Removals, ()


class _Removing:
    """``pop_callback`` or ``remove_callback`` of one handler, after which those who left are told.

    Args:
        handler: Whose method it is.
        name: Of the method.
    """

    def __init__(self, handler: CallbackHandler, name: str) -> None:
        self._handler = weakref.ref(handler)
        self._original: Callable[..., Any] = getattr(type(handler), name)

    def __call__(self, item: Any) -> Any:
        owner = self._handler()
        if owner is None:
            return None
        result = self._original(owner, item)
        watched = owner.__dict__[_WATCHED]
        for entry in list(watched):
            if not any(present is entry[0] for present in owner.callbacks):
                watched.remove(entry)
                entry[1]()
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of the handler has its class's method, bound to the copy."""
        return functools.partial, (self._original, self._handler())
