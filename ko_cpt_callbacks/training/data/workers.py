"""Processes that make shards, and the one that asks them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Protocol

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.encode import Document


class Maker(Protocol):
    """Makes something of documents, here or in another process."""

    def make(self, documents: Sequence[Document]) -> bytes:
        """What becomes of them."""
        ...


class Workers:
    """Makes shards, in this process or in several others.

    Args:
        count: Of processes; 1 for this one.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: SimpleQueue[Connection] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        self._processes: list[Any] = []

    def __enter__(self) -> Workers:
        if self.count > 1:
            # Not forked: of a process with threads of torch and of tokenizers a copy may wait for ever.
            context = get_context("spawn")
            for _ in range(self.count):
                here, there = context.Pipe()
                process = context.Process(target=serve, args=(there,), daemon=True)
                process.start()
                there.close()
                self._processes.append(process)
                self._idle.put(here)
            self._threads = ThreadPoolExecutor(self.count)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.join()

    def submit(self, name: str, maker: Maker, documents: Sequence[Document]) -> Future[bytes]:
        """Have a shard made."""
        if self._threads is not None:
            return self._threads.submit(self._ask, name, maker, documents)
        done: Future[bytes] = Future()
        done.set_result(maker.make(documents))
        return done

    def _ask(self, name: str, maker: Maker, documents: Sequence[Document]) -> bytes:
        connection = self._idle.get()
        try:
            connection.send((name, documents))
            found = connection.recv()
            if found is None:  # it does not know the source yet
                connection.send(maker)
                found = connection.recv()
        except (EOFError, OSError):
            raise ConfigurationError(
                "workers: found one that ended (killed, or no memory left), expected it to go on; use fewer with "
                "--workers, and go on with --resume"
            ) from None
        finally:
            self._idle.put(connection)  # also one that is dead: who waits for it must not wait for ever
        if isinstance(found, BaseException):
            raise found
        answer: bytes = found
        return answer


def serve(connection: Connection) -> None:
    """What a worker does: shards, until no one asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    makers: dict[str, Maker] = {}
    with suppress(EOFError, OSError):
        while True:
            name, documents = connection.recv()
            if name not in makers:
                connection.send(None)
                makers[name] = connection.recv()
            try:
                connection.send(makers[name].make(documents))
            except Exception as error:  # told where it is asked for
                connection.send(error)
