"""Reaching the front of the Trainer's callback list; the handler is transformers' own."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from ko_cpt_callbacks.hf import trainer_access as handlers

pytestmark = pytest.mark.both_versions


class Named(TrainerCallback):
    """Notes its calls."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note it."""
        self.calls.append(self.name)


class Moves(Named):
    """Goes to the front while it is called."""

    found: CallbackHandler | None = None

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find and move."""
        super().on_log(args, state, control)
        self.found = handlers.find_handler(self)
        if self.found is not None:
            handlers.move_to_front(self.found, self)


def _handler(*callbacks: TrainerCallback) -> CallbackHandler:
    return CallbackHandler(list(callbacks), None, None, None, None)


def _log(handler: CallbackHandler) -> None:
    handler.on_log(TrainingArguments(output_dir="unused", use_cpu=True), TrainerState(), TrainerControl(), {})


def test_moves_during_an_event() -> None:
    """Found from inside the event and moved: nobody is skipped or called twice; from then on it is first."""
    calls: list[str] = []
    first, mover, last = Named("first", calls), Moves("mover", calls), Named("last", calls)
    handler = _handler(first, mover, last)
    _log(handler)
    assert mover.found is handler
    assert calls == ["first", "mover", "last"]
    _log(handler)
    assert calls[3:] == ["mover", "first", "last"]
    assert [item for item in handler.callbacks if isinstance(item, Named)] == [mover, first, last]


def test_not_found_outside_an_event() -> None:
    """Called by nobody's handler, or by a handler that does not hold the callback: None."""
    mover = Moves("mover", [])
    assert handlers.find_handler(mover) is None
    mover.on_log(None, None, None)
    assert mover.found is None


def test_not_found_across_many_frames() -> None:
    """A handler far up the stack (an outer Trainer's) is not this event's: the search ends after a few frames."""
    callback = TrainerCallback()
    handler = _handler(callback)

    class Deep:
        handler: Any = None

    def down(depth: int) -> Any:
        return handlers.find_handler(callback) if depth == 0 else down(depth - 1)

    def event(self: Any, depth: int) -> Any:
        return down(depth)

    assert event(handler, 3) is handler
    assert event(handler, 30) is None


def test_move_to_the_front() -> None:
    """It stands first, the others in their order; where the handler is not known there are no callbacks."""
    one, two = TrainerCallback(), TrainerCallback()
    handler = _handler(one, two)
    handlers.move_to_front(handler, two)
    assert handlers.callbacks_of(weakref.ref(handler)) == [two, one]
    assert handlers.callbacks_of(None) == []


def test_move_of_one_not_in_the_list() -> None:
    """``attach`` without ``add_callback``: it is inserted, once."""
    handler, callback = _handler(TrainerCallback()), TrainerCallback()
    handlers.move_to_front(handler, callback)
    handlers.move_to_front(handler, callback)
    assert [item is callback for item in handler.callbacks].count(True) == 1
    assert handler.callbacks[0] is callback


class Other(TrainerCallback):
    """Another class."""


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("way", ["pop_callback", "remove_callback"])
def test_removal_is_noticed(way: str, by_class: bool) -> None:
    """Only when this callback leaves, by instance or class; the methods still do and return what they did."""
    other, mine, calls = Other(), Named("mine", []), []
    handler = _handler(other, mine)
    handlers.on_removal(handler, mine, lambda: calls.append("released"))
    handlers.on_removal(handler, mine, lambda: calls.append("twice"))
    assert getattr(handler, way)(other) is (other if way == "pop_callback" else None)
    assert calls == []
    result = getattr(handler, way)(Named if by_class else mine)
    assert calls == ["released"]
    assert result is (mine if way == "pop_callback" else None)
    assert not any(isinstance(item, (Named, Other)) for item in handler.callbacks)


def test_coming_back_after_a_removal() -> None:
    """Added again and watched again, a second removal is noticed too."""
    mine, calls = Named("mine", []), []
    handler = _handler(mine)
    for _ in range(2):
        handlers.on_removal(handler, mine, lambda: calls.append("released"))
        handler.remove_callback(mine)
        handler.add_callback(mine)
    assert calls == ["released"] * 2


def test_the_end_of_the_handler() -> None:
    """A handler that is collected with its Trainer releases; watching does not keep it alive."""
    mine, calls = Named("mine", []), []
    handler = _handler(mine)
    handlers.on_removal(handler, mine, lambda: calls.append("released"))
    del handler
    gc.collect()
    assert calls == ["released"]


def test_who_joined_before() -> None:
    """Joined callbacks in order; one that left is forgotten; one that never joined comes after all."""
    one, two, three = (Named(name, []) for name in "abc")
    handler = _handler(one, two, three)
    assert handlers.callbacks_before(handler, one) == []
    for callback in (one, two):
        handlers.on_removal(handler, callback, lambda: None)
    assert handlers.callbacks_before(handler, one) == []
    assert handlers.callbacks_before(handler, two) == [one]
    assert handlers.callbacks_before(handler, three) == [one, two]
    handler.remove_callback(one)
    assert handlers.callbacks_before(handler, two) == []
