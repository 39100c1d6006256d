"""Runs functions in processes of their own: a real Trainer that may be killed, and several ranks of one run.

The processes are forked from one server that has imported torch, transformers and peft once; importing takes
longer than a tiny training. Every process has a time limit, so that a hang is a failed test.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PRELOAD = [
    "torch", "transformers.trainer", "peft", "bitsandbytes", "datasets", "tiny", "ko_cpt_callbacks.hf.callback",
    "ko_cpt_callbacks.training.run", "ko_cpt_callbacks.cli.app", "ko_cpt_callbacks.check.staged_page",
    "ko_cpt_callbacks.forecast.forecast", "peft.tuners.lora.bnb", "transformers.integrations.bitsandbytes",
    "torch.utils.serialization.config", "numpy.ctypeslib", "rich.cells", "forked_caches",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a process ended.

    Attributes:
        code: Exit code; 0 for success, minus the signal's number after a kill.
        value: What the function returned, through JSON.
        text: Everything it printed, warnings and tracebacks included.
    """

    code: int
    value: Any
    text: str


def run(function: Callable[..., Any], *args: Any, folder: Path, timeout: float = 60.0, **kwargs: Any) -> Outcome:
    """``function`` in one process.

    Args:
        function: A module's function that returns JSON values.
        args: For the function; picklable.
        folder: Where the process may write its own notes.
        timeout: Seconds.
        kwargs: For the function; picklable.

    Raises:
        TimeoutError: If it took longer; the process is killed.
    """
    return run_ranks(function, *args, ranks=1, folder=folder, timeout=timeout, **kwargs)[0]


def run_ranks(
    function: Callable[..., Any], *args: Any, ranks: int, folder: Path, timeout: float = 60.0, **kwargs: Any
) -> list[Outcome]:
    """``function`` on several ranks at once, with what ``torchrun`` puts into the environment; see `run`."""
    context = _context()
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{function.__name__}-{time.monotonic_ns()}"
    notes = [folder / f"{stem}-{rank}" for rank in range(ranks)]
    port = _free_port()
    processes = [
        context.Process(target=_child, args=(function, args, kwargs, str(notes[rank]), rank, ranks, port))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + timeout
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    hanging = [rank for rank, process in enumerate(processes) if process.is_alive()]
    for process in processes:
        if process.is_alive():
            process.kill()
            process.join()
    outcomes = [_outcome(process.exitcode, note) for process, note in zip(processes, notes, strict=True)]
    if hanging:
        texts = "\n".join(f"--- rank {rank}\n{outcome.text[-4000:]}" for rank, outcome in enumerate(outcomes))
        raise TimeoutError(f"ranks {hanging} of {ranks} were still at work after {timeout} s\n{texts}")
    return outcomes


def value(outcome: Outcome) -> Any:
    """What a process that ended well returned; its output is shown where it did not."""
    assert outcome.code == 0, f"exit code {outcome.code}\n{outcome.text[-6000:]}"
    return outcome.value


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    # The server is a process of its own and learns where modules are from its environment alone.
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(HERE), *filter(None, sys.path)]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    context.set_forkserver_preload(PRELOAD)
    return context


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _outcome(code: int | None, note: Path) -> Outcome:
    answer, log = note.with_suffix(".json"), note.with_suffix(".log")
    value = json.loads(answer.read_text("utf-8")) if answer.exists() else None
    text = log.read_text("utf-8", "replace") if log.exists() else ""
    return Outcome(-1 if code is None else code, value, text)


def _child(function: Callable[..., Any], args: Any, kwargs: Any, note: str, rank: int, ranks: int, port: int) -> None:
    log = os.open(f"{note}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    if ranks > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            LOCAL_WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    gc.freeze()  # as in conftest.py: the preloaded modules are no garbage
    code = 0
    try:
        answer = json.dumps(function(*args, **kwargs))
        Path(f"{note}.json").write_text(answer, "utf-8")
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's farewell: a process group that is still open may wait for others there.
    os._exit(code)
