"""Processes that work on parts: none is left behind, whatever ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sleeping_maker import SleepingMaker

from ko_cpt_callbacks.workers import WorkerEndedError, Workers

_SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background is begun with it ignored
from sleeping_maker import SleepingMaker
from ko_cpt_callbacks.workers import Workers
try:
    with Workers(2) as workers:
        print(workers.submit("a", SleepingMaker(), 0).result(), flush=True)
        {then}
except KeyboardInterrupt:
    sys.exit(130)
"""


def _ended(then: str, end: Callable[[int], None]) -> subprocess.CompletedProcess[str]:
    """How a process with workers ends. They all print into its pipes, whose end is the end of all of them."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, "-c", _SCRIPT.format(then=then)]
    process = subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)
    assert process.stdout is not None
    process.stdout.readline()
    end(process.pid)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_workers_end_with_the_process_that_asks() -> None:
    """Killed, it leaves no process behind that waits for work."""
    assert _ended("sys.stdin.read()", lambda pid: os.kill(pid, signal.SIGKILL)).returncode == -signal.SIGKILL


def test_an_interrupt_ends_all_at_once() -> None:
    """Ctrl-C, which every process of a terminal gets, is answered by the first: the others end without a traceback."""
    ended = _ended("workers.submit('a', SleepingMaker(), 3600).result()", lambda pid: os.killpg(pid, signal.SIGINT))
    assert (ended.returncode, ended.stderr) == (130, "")


def test_an_interrupt_that_leaves_a_lock_taken() -> None:
    """Ctrl-C as the lock of a future is taken: the thread that would answer waits for ever, and is not waited for."""
    then = "asked = workers.submit('a', SleepingMaker(), 3600)"
    then += "; workers.submit('b', SleepingMaker(), 0).result(); asked._condition.acquire(); raise KeyboardInterrupt"
    ended = _ended(then, lambda pid: None)
    assert (ended.returncode, ended.stderr) == (130, "")


def test_an_interrupt_is_the_first_process_s_to_answer() -> None:
    """A worker that gets it works on."""
    with Workers(2) as workers:
        for process in workers._processes:
            os.kill(process.pid, signal.SIGINT)  # before it has begun, and ...
        found = {workers.submit("a", SleepingMaker(), 0.1).result(timeout=60) for _ in range(4)}
        for pid in found:
            os.kill(pid, signal.SIGINT)  # ... behind it
        assert workers.submit("a", SleepingMaker(), 0).result(timeout=60) in found


@pytest.mark.parametrize("count", [1, 2])
def test_parts_come_to_what_they_are_made_to(count: int) -> None:
    """In this process with one, in others with two, none of which is left behind; each answer belongs to its part."""
    with Workers(count) as workers:
        asked = [workers.submit("a", SleepingMaker(), 0) for _ in range(6)]
        processes = {one.result() for one in asked}
        begun = list(workers._processes)
        assert all(process.is_alive() for process in begun)
    assert (os.getpid() in processes) is (count == 1)
    assert len(begun) == (count if count > 1 else 0) and not any(process.is_alive() for process in begun)


def test_a_worker_that_dies_is_said() -> None:
    """Whoever asks it next gets an error too, and no one waits for ever."""
    with Workers(2) as workers:
        for part in (-1, -1, 0):
            with pytest.raises(WorkerEndedError, match="found one that ended"):
                workers.submit("a", SleepingMaker(), part).result(timeout=60)


def test_workers_can_begin_in_a_thread() -> None:
    """Where no signal can be held back, they begin all the same."""

    def begin() -> bool:
        with Workers(2) as workers:
            return workers.submit("a", SleepingMaker(), 0).result() != os.getpid()

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(begin).result()
