"""A labelled run through the package: as ``ko-cpt check`` judges a file, and through the callback's events."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.run import LabelledRun, write

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import CheckOptions, asked_of
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.reading import LogSource, Run

__all__ = ["Lived", "by_command", "live", "offline"]

_UNTOLD = "other"


def _task(run: LabelledRun) -> str | None:
    return None if run.task == _UNTOLD else run.task


def offline(run: LabelledRun) -> tuple[Finding, ...]:
    """What ``ko-cpt check`` finds in the run's state file, without the file."""
    read = Run(Path("trainer_state.json"), LogSource.TRAINER_STATE, tuple(run.rows), run.max_steps or None)
    return judge_run(read, asked_of(None, CheckOptions(task=_task(run)))).findings


def by_command(run: LabelledRun, folder: Path) -> list[dict[str, Any]]:
    """What the command itself prints about the file, as JSON."""
    path = write(run, folder / "trainer_state.json")
    options = ["--json", *(["--task", run.task] if _task(run) else [])]
    done = subprocess.run(
        [sys.executable, "-m", "ko_cpt_callbacks", "check", str(path), *options],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return found


@dataclass(frozen=True)
class Lived:
    """What the callback said, the rows of its own record, and the Trainer's history as the callback left it."""

    findings: tuple[Finding, ...]
    rows: list[dict[str, Any]]
    history: list[dict[str, Any]]


def live(
    run: LabelledRun,
    folder: Path,
    *,
    files: bool = False,
    start: int = 0,
    history: Sequence[dict[str, Any]] = (),
    arguments: Mapping[str, Any] | None = None,
) -> Lived:
    """What the callback says while the rows come in, by the Trainer's own state, control and order of events.

    A small module stands for the model: before each training row it runs forward once, with labels in proportion to
    the tokens that the row counts, and a NaN loss where the row's is one (or the 0.0 the Trainer writes in its place).

    Args:
        run: What is logged.
        folder: ``output_dir``.
        files: Write the run's files there, and a checkpoint's row at the end, so that it can be resumed.
        start: Rows that a checkpoint's state already holds: the run is resumed after them.
        history: What the Trainer's history was then.
        arguments: Of the callback, beside the task and the outputs. Once it asks for a stop no row comes any more.
    """
    import torch
    from suite.module import EchoForCausalLM, labels_of
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from ko_cpt_callbacks import KoCPTCallback
    from ko_cpt_callbacks.run.output import MemoryOutput

    args = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], num_train_epochs=run.num_train_epochs)
    state, control, model = TrainerState(max_steps=run.max_steps), TrainerControl(), EchoForCausalLM()
    memory = MemoryOutput()
    callback = KoCPTCallback(task=run.task, outputs=(memory, "files") if files else (memory,), **(arguments or {}))
    state.log_history = [dict(row) for row in history]
    state.global_step = max((row["step"] for row in run.rows[:start]), default=0)
    callback.on_init_end(args, state, control, model=model)
    callback.on_train_begin(args, state, control, model=model)
    counted = next((count for row in reversed(run.rows[:start]) if (count := _tokens(row)) is not None), None)
    # As many labels as tokens would be gigabytes; a count that is constant stays so in another unit.
    unit = max(1.0, (next((count for row in run.rows if (count := _tokens(row)) is not None), 0.0)) // 20_000)
    for row in run.rows[start:]:
        state.global_step, state.epoch = row["step"], row.get("epoch")
        if row.get(keys.KIND) == keys.KIND_SETUP:  # the callback writes these itself
            values = {name: value for name, value in row.items() if name not in (keys.KIND, keys.KIND_SETUP, keys.STEP)}
            callback._run(args, state, control).note_setup(row[keys.KIND_SETUP], row["step"], **values)
            continue
        if "loss" in row:
            tokens = _tokens(row)
            # A counter that starts again has counted this row alone.
            more = tokens if tokens is None or counted is None or tokens < counted else tokens - counted
            counted = tokens
            model.train()
            loss = torch.tensor(math.nan if _bad(run, row) else 1.0)
            model(labels=labels_of(None if more is None else more / unit), loss=loss)
            callback.on_step_end(args, state, control, model=model)
        logs = {name: value for name, value in row.items() if name != "step"}
        state.log_history.append({**logs, "step": row["step"]})
        callback.on_log(args, state, control, logs=logs, model=model)
        if any(name.startswith("eval_") for name in logs):
            callback.on_evaluate(args, state, control, metrics=logs, model=model)
        if control.should_training_stop:
            break
    if files:
        callback.on_save(args, state, control, model=model)
    callback.detach()
    return Lived(callback.findings, memory.rows, state.log_history)


def _tokens(row: dict[str, Any]) -> float | None:
    return next((row[name] for name in (*keys.INPUT_TOKENS, keys.TOKENS_SEEN) if name in row), None)


def _bad(run: LabelledRun, row: dict[str, Any]) -> bool:
    """Whether the loss of some step of the row was NaN, also where the row hides it."""
    hidden = run.kind.startswith("non-finite/zero") and not math.isfinite(row.get("grad_norm", math.nan))
    return not math.isfinite(row["loss"]) or (hidden and (row["loss"] == 0.0 or "grad_norm" in row))
