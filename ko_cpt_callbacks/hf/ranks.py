"""How the processes of one run agree, and how one that failed leaves the others in peace.

One primitive, :meth:`Ranks.exchange`, is all that the package sends: every rank contributes some bytes and every rank
receives all of them, in rank order. What follows is computed from the same bytes by the same code, so every rank
decides alike. An exchange happens only in events of the Trainer that every rank reaches (:data:`SHARED_EVENTS`), at
most one an event.

A collective hangs when a rank does not take part. Three things keep that from happening:

* Before the first exchange the ranks sign in at the process group's key-value store, with a time limit; one that is
  alone (the callback was added on the main process only) stays alone and says so.
* Every exchange has a number. The first rank marks it in the store as begun. A rank that failed, wherever that was,
  marks the next one as refused: those that come to it read why, and none of them waits. Where that exchange has
  already begun, the failed rank still goes to it, in the event in which it takes place, and contributes the reason.
* That event is known by its number alone, :class:`EventCount`, and never by time. It is counted before anything of
  ours that can fail: a rank that were one behind would come to the exchange after the Trainer's next collective, and
  each would take the other's for its own.
* After a failure on any rank no rank exchanges anything again.

No wait here is longer than the process group's own, and the marks cost one request to the store an exchange.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist

from ko_cpt_callbacks.errors import error_text

__all__ = [
    "OUTSIDE", "SHARED_EVENTS", "EventCount", "RankFailedError", "Ranks", "Reporter", "pack_parts", "unpack_parts",
]  # fmt: skip

_log = logging.getLogger("ko_cpt_callbacks")

Result = TypeVar("Result")

SHARED_EVENTS: Final = frozenset(
    {"on_train_begin", "on_step_begin", "on_step_end", "on_epoch_end", "on_prediction_step"}
)
"""Events that the Trainer itself calls on every rank alike. ``on_log`` is none of them: ``Trainer.log`` is the user's
to call and to override; ``on_save`` and ``on_evaluate`` are called by scripts too."""

# Ranks reach the first exchange together, after the Trainer's own collectives; a minute is ample (chosen, not
# measured).
_SIGN_IN_SECONDS: Final = 60.0

# How often a rank that may stop the run asks whether the others are of its mind (chosen, not measured).
_ASK_SECONDS: Final = 0.002

# Answers that stay in the store: others may be a question behind, and it must not grow with the run.
_KEPT_ANSWERS: Final = 8

_WELL, _FAILED = b"+", b"-"

OUTSIDE: Final = "a hook of the model"
"""Where the callback is at work outside of the Trainer's events."""


class RankFailedError(RuntimeError):
    """Some rank failed: the callback is off on all of them. The text names event, rank and error."""


@dataclass(slots=True)
class EventCount:
    """How many of the `SHARED_EVENTS` one callback has come to, the one at hand included; the same on every rank.

    Attributes:
        number: Counted up by the callback as the very first thing of an event.
    """

    number: int = 0


class Ranks:
    """The processes of one run, as one callback sees them.

    Args:
        device: Where collectives want their tensors (the accelerator under NCCL).
        serial: Number of this callback's run in the process; the same on every rank.
        events: The callback's count of events; None: one that stays at none.
        sign_in_seconds: How long others are waited for, at most.

    Attributes:
        where: The event at hand, for the report of a failure.
        left: Why this rank takes part in nothing more; None while it does.
    """

    def __init__(
        self,
        device: torch.device,
        serial: int,
        events: EventCount | None = None,
        sign_in_seconds: float = _SIGN_IN_SECONDS,
    ) -> None:
        self._device = device
        self._serial = serial
        self._limit = sign_in_seconds
        self._joined: bool | None = None
        ready = dist.is_available() and dist.is_initialized()
        self.size: int = dist.get_world_size() if ready else 1
        self.index: int = dist.get_rank() if ready else 0
        self._events = EventCount() if events is None else events
        self._number = 0
        self._owed: int | None = None
        # Lengths of the contributions, between the two halves of an exchange.
        self._lengths: list[torch.Tensor] | None = None
        self._said: list[str] = []
        self.left: str | None = None
        self.where = OUTSIDE

    def limit(self, seconds: float) -> None:
        """Wait no longer than ``seconds`` for anybody: the process group's own time-out."""
        self._limit = min(self._limit, seconds)

    @property
    def alone(self) -> bool:
        """Whether other ranks exist that did not sign in: numbers then cover this rank's share only."""
        return self.size > 1 and self._joined is False

    @property
    def together(self) -> bool:
        """Whether other ranks exist and, as far as is known before the first exchange, take part."""
        return self.size > 1 and self._joined is not False

    @property
    def first(self) -> bool:
        """Whether this rank reads and decides what one rank does for all."""
        return self.index == 0 or self.alone

    @property
    def known_alone(self) -> bool:
        """Whether no other rank is concerned by what happens here, as far as is known without asking."""
        return self.size == 1 or self._joined is False

    def answer(self) -> None:
        """Where this rank failed, go to the exchange that the others wait in, if the event at hand is that one's."""
        if self._owed is not None and self._events.number >= self._owed:
            self._owed = None
            self._gather(_FAILED + str(self.left).encode())

    def exchange(self, contribute: Callable[[], bytes]) -> list[bytes]:
        """Every rank's contribution, in rank order; only this rank's own when it is the only one or alone.

        Args:
            contribute: Makes this rank's part. If it raises, every rank learns of it.

        Raises:
            RankFailedError: On every rank alike, if any rank failed here or since the last exchange.
        """
        if self.size == 1 or not self._join():
            return [contribute()]
        if self.left is not None:
            raise RankFailedError(self.left)
        try:
            part, own = _WELL + contribute(), None
        except Exception as error:
            own = error
            part = _FAILED + self.describe(error).encode()
        try:
            verdict = self._mark(self._number + 1, _begun(self._events.number))
        except Exception as error:
            own, part = error, _FAILED + self.describe(error).encode()
            verdict = self._mark_again(self._number + 1)
        if not _is_begun(verdict):
            self.left = verdict
            raise RankFailedError(verdict) from own
        parts = self._gather(part)
        self._tidy()
        failed = next((item for item in parts if not item.startswith(_WELL)), None)
        if failed is not None:
            self.left = self._whole(failed[1:].decode("utf-8", "replace").rstrip())
            raise RankFailedError(self.left) from own
        return [item[1:] for item in parts]

    def describe(self, error: Exception, where: str = "") -> str:
        """What failed, for the other ranks: the event, this rank, the error."""
        return f"{where or self.where} failed on rank {self.index}: {error_text(error)}"

    def leave(self, reason: str, *, last: bool = False) -> None:
        """This rank failed and takes part in nothing more; no other will wait for it.

        Args:
            reason: Event, rank and error, as :meth:`describe` puts them.
            last: No event comes any more. Those in an exchange already have been through every collective before it,
                and so has this rank: its answer is due now.
        """
        if self.left is not None:
            self.answer()  # what fails now may have kept it from that
            return
        self.left = reason
        if self.known_alone:
            return
        store = self._store()
        store.set(f"rank/{self.index}", "here")
        store.set("left", reason)
        verdict = self._mark(self._number + 1, reason)
        if _is_begun(verdict):
            # The others are in that exchange already, in an event that this rank may not have reached yet.
            self._owed = 0 if last else int(verdict.rpartition(" ")[2])
            self.answer()

    def agree(self, question: str, yes: bool) -> bool:
        """Whether every rank says yes to ``question``, the same on all and asked once; who says no never waits.

        For what one rank alone must not do, such as stopping the run, where it comes up outside of the shared events.
        """
        if self.size == 1:
            return yes
        if not self._joined or self.left is not None:
            return False
        store, mine = self._store(), f"{question}/{self.index}"
        store.set(mine, "yes" if yes else "no")
        self._said.append(mine)
        if len(self._said) > _KEPT_ANSWERS:
            store.delete_key(self._said.pop(0))
        if not yes:
            return False
        said = all(self._says_yes(store, question, index) for index in range(self.size))
        # The first verdict holds for all that agreed.
        return _text(store.compare_set(f"{question}/all", "", "yes" if said else "no")) == "yes"

    def _says_yes(self, store: Any, question: str, index: int) -> bool:
        deadline = time.monotonic() + self._limit
        while time.monotonic() < deadline:
            if store.check([f"{question}/{index}"]):
                return _text(store.get(f"{question}/{index}")) == "yes"
            if store.check(["left"]) or store.check([f"{question}/all"]):
                return False
            time.sleep(_ASK_SECONDS)
        return False

    # -- the store and the collective ------------------------------------------------------------------------------

    def _gather(self, payload: bytes) -> list[bytes]:
        """One exchange: lengths, then contents. Where this rank failed in between, it goes on from there."""
        if self._lengths is None:
            length = torch.tensor([len(payload)], dtype=torch.int64, device=self._device)
            lengths = [torch.zeros_like(length) for _ in range(self.size)]
            dist.all_gather(lengths, length)
            self._lengths = lengths
        sizes = [int(item) for item in self._lengths]
        payload = payload[: sizes[self.index]].ljust(sizes[self.index])
        buffer = torch.zeros(max(1, *sizes), dtype=torch.uint8)
        if payload:
            buffer[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        buffer = buffer.to(self._device)
        buffers = [torch.empty_like(buffer) for _ in range(self.size)]
        dist.all_gather(buffers, buffer)
        self._lengths = None
        self._number += 1
        return [item.cpu().numpy().tobytes()[:size] for item, size in zip(buffers, sizes, strict=True)]

    def _mark(self, number: int, text: str) -> str:
        return _text(self._store().compare_set(f"exchange/{number}", "", text))

    def _mark_again(self, number: int) -> str:
        """Once more after a failure. A rank that is cut off from the store goes to the others, who would wait."""
        try:
            return self._mark(number, _begun(self._events.number))
        except Exception:
            return _begun(self._events.number)

    def _whole(self, reason: str) -> str:
        """A reason that was cut to the length of what its rank had announced, as that rank left it in the store."""
        try:
            store = self._store()
            left = _text(store.get("left")) if store.check(["left"]) else reason
        except Exception:  # what was received says enough
            return reason
        return left if left.startswith(reason) else reason

    def _tidy(self) -> None:
        # Everyone has been through the exchange, hence has read the mark of the one before.
        if self.index == 0 and self._number > 1:
            self._store().delete_key(f"exchange/{self._number - 1}")

    def _store(self) -> Any:
        from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

        return PrefixStore(f"ko_cpt_callbacks/{self._serial}", _get_default_store())

    def _join(self) -> bool:
        if self._joined is None:
            self._joined = self._sign_in()
        return self._joined

    def _sign_in(self) -> bool:
        store = self._store()
        store.set(f"rank/{self.index}", "here")
        everyone = [f"rank/{index}" for index in range(self.size)]
        try:
            store.wait(everyone, timedelta(seconds=self._limit))
            verdict = "joined"
        except (RuntimeError, ValueError):
            verdict = "alone"
        # The first verdict holds for all: a rank that came late must not wait for one that gave up.
        return _text(store.compare_set("verdict", "", verdict)) == "joined"


def _begun(event: int) -> str:
    return f"begun {event}"


def _is_begun(mark: str) -> bool:
    return mark.startswith("begun ")


def _text(value: Any) -> str:
    return bytes(value).decode("utf-8", "replace")


class Reporter:
    """Logs warnings, each subject's once."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._reported: set[str] = set()

    def report(self, what: str, text: str) -> None:
        """Log a warning once per subject."""
        if what not in self._reported:
            self._reported.add(what)
            _log.warning("%s", text)

    def tried(self, otherwise: Result, act: Callable[..., Result], *args: Any) -> Result:
        """What ``act`` gives; ``otherwise`` where it raises, which is reported."""
        try:
            return act(*args)
        except Exception as error:
            self.report_error(error)
            return otherwise

    def report_error(self, error: Exception) -> None:
        """An exception of ours that the run must not see, and that costs one number only."""
        where, kind = self._ranks.where, type(error).__name__
        on = "" if self._ranks.size == 1 else f" on rank {self._ranks.index}"
        self.report(
            f"error {where} {kind}",
            f"The callback met an error and goes on without the number at hand: {where}{on}: {error_text(error)}",
        )


def pack_parts(parts: Mapping[str, bytes]) -> bytes:
    """Several named payloads as one."""
    head = json.dumps({name: len(part) for name, part in parts.items()}).encode()
    return b"".join([len(head).to_bytes(8, "little"), head, *parts.values()])


def unpack_parts(payload: bytes) -> dict[str, bytes]:
    """What :func:`pack_parts` was given."""
    start = 8 + int.from_bytes(payload[:8], "little")
    found: dict[str, bytes] = {}
    for name, size in json.loads(payload[8:start]).items():
        found[name] = payload[start : start + size]
        start += size
    return found
