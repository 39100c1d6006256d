"""Processes that work on parts of something large, and the one that asks them.

Not ``concurrent.futures``: of its pool on Python 3.11 one that is stopped by Ctrl-C complains of what it canceled, and
one whose process was ended may wait for ever.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Protocol

from ko_cpt_callbacks.errors import ConfigurationError

__all__ = ["Maker", "WorkerEndedError", "Workers", "keep_freed_memory", "serve", "usable_cores"]


def usable_cores() -> int:
    """Cores that this process may use: of a container's or a job's share, where the system tells it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = (-1, 64 << 20), (-2, 16 << 20), (-3, 32 << 20)
"""Numbers of glibc's ``mallopt``, and bytes for them: arrays as large come again with the next part. The last is the
most that every glibc takes. Measured on rows of 20 MB: a quarter fewer page faults, and some 10 MB more memory."""


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees for the next array, where its C library is glibc.

    Otherwise each large array is given back to the system, whose pages are made zeros again for the next one.
    """
    with suppress(OSError, TypeError, AttributeError):  # another system, another library
        library = ctypes.CDLL(None)
        if hasattr(library, "gnu_get_libc_version"):  # of others the numbers may mean something else
            for option, size in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD):
                library.mallopt(option, size)


class WorkerEndedError(ConfigurationError):
    """A process was killed, or had no memory left."""


class Maker(Protocol):
    """Makes something of a part, here or in another process: both can be pickled."""

    def make(self, part: Any, /) -> Any:
        """What becomes of it; not ``None``."""
        ...


class Workers:
    """Has parts worked on, in this process or in several others.

    Args:
        count: Of processes; 1 for this one.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._asked: SimpleQueue[tuple[Future[Any], str, Maker, Any] | None] = SimpleQueue()
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._processes: list[Any] = []

    def __enter__(self) -> Workers:
        if self.count > 1:
            # Not forked: of a process with threads of torch and of tokenizers a copy may wait for ever.
            context = get_context("spawn")
            with _no_interrupt():
                for _ in range(self.count):
                    here, there = context.Pipe()
                    process = context.Process(target=serve, args=(there,), daemon=True)
                    process.start()
                    there.close()
                    self._processes.append(process)
                    self._idle.put(here)
                    # Not those of a pool: an interrupt that comes as this process takes a future's lock leaves it
                    # taken, and a thread that waits for it would be waited for.
                    threading.Thread(target=self._answer, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for _process in self._processes:
            self._asked.put(None)

    def submit(self, name: str, maker: Maker, part: Any) -> Future[Any]:
        """Have something made of a part.

        Args:
            name: Of the maker: a process is given it once.
            maker: What makes it.
            part: What it is made of.
        """
        future: Future[Any] = Future()
        if self._processes:
            self._asked.put((future, name, maker, part))
        else:
            future.set_result(maker.make(part))
        return future

    def _answer(self) -> None:
        """What a thread does: it asks a process that is idle, until nothing more is asked."""
        while (asked := self._asked.get()) is not None:
            future, *given = asked
            try:
                future.set_result(self._ask(*given))
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)

    def _ask(self, name: str, maker: Maker, part: Any) -> Any:
        connection = self._idle.get()
        try:
            connection.send((name, part))
            found = connection.recv()
            if found is None:  # it does not know the maker yet
                connection.send(maker)
                found = connection.recv()
        except (EOFError, OSError):
            raise WorkerEndedError(
                "workers: found one that ended (killed, or no memory left), expected it to go on; use fewer with "
                "--workers, and go on with --resume"
            ) from None
        finally:
            self._idle.put(connection)  # also one that is dead: who waits for it must not wait for ever
        if isinstance(found, BaseException):
            raise found
        return found


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C is the first process's to answer: what begins while it is ignored ignores it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, answer)


def serve(connection: Connection) -> None:
    """What a worker does: parts, until no one asks any more, or the process that asks is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    keep_freed_memory()
    makers: dict[str, Maker] = {}
    with suppress(EOFError, OSError):
        while True:
            name, part = connection.recv()
            if name not in makers:
                connection.send(None)
                makers[name] = connection.recv()
                gc.freeze()  # what was imported for it stays: it is not looked through again and again
            try:
                connection.send(makers[name].make(part))
            except Exception as error:  # reported where it is asked for
                connection.send(error)
