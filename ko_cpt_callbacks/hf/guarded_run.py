"""The run of every Trainer that a callback serves, and the guard around everything that is done there.

An exception of ours never reaches the run. On one process the event at hand is lost and the next goes on. Where other
ranks take part, a rank that missed something would judge otherwise than they do, or be waited for: it leaves, tells
the others why, and the callback is off on all of them for the rest of the run.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf import ranks as rank
from ko_cpt_callbacks.hf.ranks import OUTSIDE, SHARED_EVENTS, EventCount, RankFailedError
from ko_cpt_callbacks.hf.run import LiveRun
from ko_cpt_callbacks.run.output import Output
from ko_cpt_callbacks.watch.spec import WatchSpec

__all__ = ["GuardedRun", "GuardedRuns"]

_log = logging.getLogger("ko_cpt_callbacks")

# Trainers under watch in this process, counted; every rank counts alike.
_SERIALS = itertools.count()

_OFF: Final = "The callback is off for the rest of this run, on every rank; training goes on. %s"

Result = TypeVar("Result")


class GuardedRun:
    """One Trainer's run, its ranks, and whether they still work.

    The Trainer's control object lives as long as the Trainer and identifies it.
    """

    def __init__(
        self,
        args: TrainingArguments,
        control: TrainerControl,
        begin: Callable[[rank.Ranks], LiveRun],
        events: EventCount,
    ) -> None:
        self.control = weakref.ref(control)
        self.run: LiveRun | None = None
        self.off = False
        self._reported: set[tuple[str, str]] = set()
        self.ranks: rank.Ranks | None = None
        # An evaluation in a thread beside the training; with several ranks a lock could make two of them wait.
        self._lock: AbstractContextManager[object] = nullcontext()
        serial = next(_SERIALS)
        try:
            self.ranks = rank.Ranks(args.device, serial, events)
            self.ranks.limit(float(args.ddp_timeout))
            if self.ranks.size == 1:
                self._lock = threading.RLock()
            self.run = begin(self.ranks)
        except Exception as error:
            self.fail("the callback's beginning", error)
            self.off = True

    def do(self, event: str, act: Callable[[LiveRun], Result]) -> Result | None:
        """Do what an event of the Trainer asks for; None where the callback is off or fails."""
        ranks = self.ranks
        if ranks is None:
            return None
        try:
            ranks.answer()
        except Exception as error:  # the process group is broken: the Trainer's own collective says so next
            self.fail(event, error)
        if self.off or self.run is None:
            return None
        with self._lock:
            ranks.where = event
            try:
                return act(self.run)
            except RankFailedError as failed:
                self._go_off(str(failed))
            except Exception as error:
                self.fail(event, error)
            finally:
                ranks.where = OUTSIDE
        return None

    def release(self) -> None:
        """Take the hooks off the model; numbers and findings stay readable."""
        if self.run is not None:
            self.run.hooked.release()

    def removed(self) -> None:
        """The callback left the Trainer's list: hooks off; in a training, other ranks must not wait for this one."""
        self.release()
        ranks = self.ranks
        if ranks is None or ranks.known_alone or self.off or self.run is None or not self.run.training:
            return
        self._leave(ranks, f"it was removed from the Trainer on rank {ranks.index}", last=True)

    def fail(self, event: str, error: Exception, *, said: bool = False) -> None:
        """An exception of ours in ``event``: reported once; where other ranks take part, the callback is off on all."""
        ranks = self.ranks
        if ranks is None or ranks.known_alone:
            subject = (event, type(error).__name__)
            if not said and subject not in self._reported:
                self._reported.add(subject)
                _log.warning(
                    "The callback met an error and goes on without the number at hand: %s: %s", event, error_text(error)
                )
            return
        self._leave(ranks, ranks.describe(error, event), said=said)

    def _leave(self, ranks: rank.Ranks, reason: str, *, last: bool = False, said: bool = False) -> None:
        try:
            ranks.leave(reason, last=last)
        except Exception as broken:  # the process group itself: the Trainer's own collectives say so
            reason = f"{reason} (the other ranks could not be told: {error_text(broken)})"
        self._go_off(reason, said=said)

    def _go_off(self, reason: str, *, said: bool = False) -> None:
        if self.off:
            return
        self.off = True
        _log.warning(_OFF, "" if said else reason)
        try:
            self.release()
        except Exception as error:
            _log.warning("The hooks could not be taken off the model: %s", error_text(error))


class GuardedRuns:
    """The Trainers that one callback serves."""

    def __init__(self, spec: WatchSpec, outputs: Sequence[str | Output]) -> None:
        self._spec = spec
        self._outputs = outputs
        self._runs: list[GuardedRun] = []
        self._events = EventCount()
        self.current: LiveRun | None = None
        """The run of the Trainer that was at work last."""

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the same settings and has seen nothing: hooks, files and other ranks stay with the original."""
        return {**self.__dict__, "_runs": [], "_events": EventCount(), "current": None}

    def do(
        self,
        event: str,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        act: Callable[[LiveRun], Result],
    ) -> Result | None:
        """Do what an event asks for; whatever goes wrong, the Trainer goes on."""
        if event in SHARED_EVENTS:  # here, where nothing can have failed yet: every rank counts alike
            self._events.number += 1
        try:
            return self._guarded(args, state, control).do(event, act)
        except Exception as error:  # in what guards the rest
            _log.warning("The callback met an error and goes on: %s: %s", event, error_text(error))
            for guarded in self._runs:
                if guarded.control() is control:
                    guarded.fail(event, error, said=True)
            return None

    def run(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> LiveRun:
        """The run of the Trainer that owns ``control``.

        Raises:
            RuntimeError: If the callback could not begin for it.
        """
        run = self._guarded(args, state, control).run
        if run is None:
            raise RuntimeError("the callback could not begin for this Trainer")
        return run

    def _guarded(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> GuardedRun:
        guarded = next((item for item in self._runs if item.control() is control), None)
        if guarded is None:
            for item in self._runs:
                if item.control() is None:
                    item.release()
            kept = [item for item in self._runs if item.control() is not None or item.run is self.current]
            make = functools.partial(LiveRun, self._spec, self._outputs, args, state)
            guarded = GuardedRun(args, control, make, self._events)
            self._runs = [*kept, guarded]
        if guarded.run is not None:
            self.current = guarded.run
        return guarded

    def watch(self, run: LiveRun, model: nn.Module, tokenizer: Any) -> None:
        """Put the hooks of ``run`` on ``model``; of Trainers that share one, only the one at work has them there."""
        for guarded in self._runs:
            if guarded.run is not None and guarded.run is not run and guarded.run.hooked.watches(model):
                guarded.release()
        run.hooked.watch(model, tokenizer)
        run.look_at_trainer(model)

    def release(self) -> None:
        """Take the hooks off every model."""
        for guarded in self._runs:
            guarded.release()

    def release_removed(self, callback: object) -> None:
        """Take the hooks off where ``callback`` left the Trainer's list, or the Trainer is gone."""
        for guarded in self._runs:
            if guarded.run is not None and guarded.run.handler is not None:
                handler = guarded.run.handler()
                if handler is None:
                    guarded.release()
                elif not any(item is callback for item in handler.callbacks):
                    guarded.removed()
