"""How the callback reaches the front of the Trainer's callback list.

``Trainer.log`` hands one dictionary to its callbacks in order, trackers before user callbacks. Only the first
callback can add a number that every tracker sees. No event carries the list, but the frame that calls the event
does: it belongs to the ``CallbackHandler``. This module is the only one that knows that.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import takewhile
from types import FrameType
from typing import Any, Final

from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.run.rows import eval_prefixes
from ko_cpt_callbacks.watch.target import Target

__all__ = [
    "callbacks_before", "callbacks_of", "early_stop", "early_stopping", "eval_sets", "find_handler", "find_trainer",
    "move_to_front", "on_removal", "target_problem", "unknown_set",
]  # fmt: skip


def eval_sets(trainer: Any) -> dict[str, Any]:
    """The evaluation sets of a Trainer by the prefix of their rows (``eval``, ``eval_ko``); empty where it has none."""
    given = getattr(trainer, "eval_dataset", None)
    if given is None:
        return {}
    parts = given if isinstance(given, dict) else {"": given}
    return {keys.key("eval", str(name)) if name else "eval": part for name, part in parts.items()}


def unknown_set(targets: Iterable[Target], names: Collection[str]) -> str | None:
    """What is wrong with the first target that names an evaluation set which does not exist; None where all do.

    Args:
        targets: What the run must reach.
        names: Prefixes of the sets that exist; where there are none nothing is known, and nothing is wrong.

    >>> unknown_set([Target("ppl", 20, "eval_kr")], ["eval_ko", "eval_en"]).partition("; ")[2]
    "name one of them. Did you mean 'eval_ko_ppl<20.0@end'?"
    """
    if not names:
        return None
    for target in targets:
        split, known = target.split, sorted(names)
        whole = keys.key("eval", split)  # what is meant where the prefix was forgotten
        # Rows under other prefixes ("test") come from calls of evaluate() that no one can know of yet.
        named = split == "eval" or split.startswith("eval_") or whole in names
        if split in names or not named:
            continue
        near = near_miss(whole if whole in names else split, known)
        meant = near or (known[0] if len(known) == 1 else None)
        hint = "" if meant is None else f" Did you mean {str(replace(target, split=meant))!r}?"
        return (
            f"target {str(target)!r}: found the evaluation set {split!r}, expected one of the Trainer's "
            f"(eval_dataset): {', '.join(known)}; name one of them.{hint}"
        )
    return None


def target_problem(targets: Iterable[Target], trainer: Any, log_history: Iterable[Mapping[str, Any]]) -> str:
    """What :func:`unknown_set` says on this process; empty where nothing is wrong.

    Args:
        targets: What the run must reach.
        trainer: The Trainer; None where it was not found, and then nothing is wrong.
        log_history: Rows restored by the Trainer: their sets existed.
    """
    sets = eval_sets(trainer)
    logged = {prefix for row in log_history for prefix in eval_prefixes(row)}
    return unknown_set(targets, {*sets, *logged} if sets else ()) or ""


# From the event method up to `CallbackHandler.call_event` there are a few frames of ours, and possibly a wrapper.
_FRAMES: Final = 12

_WATCHED: Final = "_ko_cpt_watched"


def find_handler(callback: TrainerCallback) -> CallbackHandler | None:
    """The handler that is calling ``callback`` right now, or None when no such frame is found."""

    def holds(owner: Any) -> bool:
        return isinstance(owner, CallbackHandler) and any(item is callback for item in owner.callbacks)

    found: CallbackHandler | None = _owner_above(holds, _FRAMES)
    return found


def find_trainer(handler: CallbackHandler) -> Any:
    """The Trainer whose ``handler`` is calling right now, or None: it holds the datasets, which no event carries."""
    return _owner_above(lambda owner: getattr(owner, "callback_handler", None) is handler, 2 * _FRAMES)


def _owner_above(wanted: Callable[[Any], bool], frames: int) -> Any:
    """The ``self`` of the nearest frame above that is wanted."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(frames):
        if frame is None:
            return None
        owner = frame.f_locals.get("self")
        if wanted(owner):
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


def callbacks_before(handler: CallbackHandler, callback: TrainerCallback) -> list[TrainerCallback]:
    """Callbacks given to :func:`on_removal` before ``callback`` that are still in the list."""
    watched = handler.__dict__.get(_WATCHED, ())
    return [item for item, _ in takewhile(lambda entry: entry[0] is not callback, watched)]


def early_stopping(callbacks: Iterable[TrainerCallback]) -> str | None:
    """The name of transformers' own early stopping (or a descendant) in the list; None where there is none."""
    return next((type(item).__name__ for item in callbacks if isinstance(item, EarlyStoppingCallback)), None)


def callbacks_of(handler: weakref.ref[CallbackHandler] | None) -> list[TrainerCallback]:
    """The callbacks of a Trainer; none where its handler is not known, or gone."""
    found = None if handler is None else handler()
    return [] if found is None else found.callbacks


def early_stop(callbacks: Iterable[TrainerCallback]) -> str | None:
    """The class of an early-stopping callback whose patience has run out; None where there is none."""
    for item in callbacks:
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
    """Callbacks that a removal is reported to. A copy of the handler has none: its callbacks join it anew."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _Removals, ()


class _Removing:
    """``pop_callback`` or ``remove_callback`` of one handler, which reports to those who left."""

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
