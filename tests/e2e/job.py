"""What the end-to-end tests do in processes of their own: one small real training, told how to go wrong."""

from __future__ import annotations

import functools
import importlib
import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tiny
import torch
from torch import nn
from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.run.alert import AlertOutput

STEPS = 12
TRAIN_ROWS, EVAL_ROWS = slice(0, 24), slice(24, 33)


def rows() -> list[dict[str, Any]]:
    """All rows: Korean texts of up to 40 tokens."""
    return tiny.rows(tiny.korean(), tiny.byte_level_tokenizer(), 40)


def english_rows() -> list[dict[str, Any]]:
    """Five English rows: what must not be forgotten."""
    return tiny.rows(tiny.english()[:5], tiny.byte_level_tokenizer(), 40)


def arguments(folder: str | Path, **changes: Any) -> TrainingArguments:
    """Logs at 3, 6, 9, 12; evaluates and saves at 4, 8, 12: checkpoints 4 and 8 are no logging steps."""
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "logging_steps": 3,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_steps": 4,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "learning_rate": 5e-3,
        "seed": 0,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    if "WORLD_SIZE" in os.environ:
        settings["ddp_backend"] = "gloo"
    return TrainingArguments(**{**settings, **changes})


def build(
    folder: str | Path,
    callbacks: Iterable[TrainerCallback],
    *,
    model: nn.Module | None = None,
    eval_dataset: Any = None,
    trainer_class: type[Trainer] = Trainer,
    tokenizer: Any = None,
    **changes: Any,
) -> Trainer:
    """A Trainer of a one-layer Llama on Korean text; evaluates nine rows unless told otherwise."""
    known = tiny.byte_level_tokenizer()
    return trainer_class(
        model=tiny.llama(len(known), hidden=16, layers=1) if model is None else model,
        args=arguments(folder, **changes),
        train_dataset=rows()[TRAIN_ROWS],
        eval_dataset=rows()[EVAL_ROWS] if eval_dataset is None else eval_dataset,
        processing_class=known if tokenizer is None else tokenizer,
        data_collator=DataCollatorForLanguageModeling(known, mlm=False),
        callbacks=list(callbacks),
    )


def report(trainer: Trainer, callback: KoCPTCallback) -> dict[str, Any]:
    """What a test wants to know of a run; NaN and infinities as they are."""
    reason = callback.stop_reason
    return {
        "step": trainer.state.global_step,
        "findings": [finding.as_dict() for finding in callback.findings],
        "summary": callback.summary(),
        "best": callback.best,
        "stop_reason": None if reason is None else reason.as_dict(),
        "log_history": trainer.state.log_history,
        "best_model_checkpoint": trainer.state.best_model_checkpoint,
    }


def train(
    folder: str,
    *,
    nan_steps: Iterable[int] = (),
    poison_step: int | None = None,
    kill: tuple[str, int] | None = None,
    resume: str | None = None,
    two_sets: bool = False,
    stop_on: Iterable[str] = (),
    outputs: Iterable[Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    without_callback: bool = False,
    baseline: str | None = None,
    baselines: str | None = None,
    patience: int | None = None,
    min_delta: float | None = None,
    alerts: Iterable[str] | None = None,
) -> dict[str, Any]:
    """One run, written out with ``save_state`` at its end.

    Args:
        folder: ``output_dir``.
        nan_steps: Steps whose loss is NaN while their gradients stay healthy.
        poison_step: Step from which the weights are NaN.
        kill: Where the process kills itself with SIGKILL: a moment of `KILLS`, and the step.
        resume: The checkpoint to go on from.
        two_sets: Whether to evaluate a dict of two sets.
        stop_on: Codes that stop the run.
        outputs: The callback's outputs.
        changes: Changed training arguments.
        without_callback: Whether the Trainer goes without it.
        baseline: What the run is compared with.
        baselines: The user's folder of baselines.
        patience: Evaluations without improvement after which it stops.
        min_delta: What counts as improvement.
        alerts: The callback's; at the end all have been sent.
    """
    if baselines is not None:
        os.environ["KO_CPT_BASELINES"] = baselines
    watcher = KoCPTCallback(
        stop_on=stop_on, outputs=outputs, baseline=baseline, patience=patience, min_delta=min_delta, alerts=alerts
    )
    sets = {"ko": rows()[EVAL_ROWS], "en": english_rows()} if two_sets else None
    trainer = build(folder, [] if without_callback else [watcher], eval_dataset=sets, **(changes or {}))
    if nan_steps:
        trainer.add_callback(NanLoss(trainer.model, nan_steps))
    if poison_step is not None:
        trainer.add_callback(NanWeights(poison_step))
    if kill is not None:
        KILLS[kill[0]](trainer, kill[1])
    trainer.train(resume_from_checkpoint=resume)
    trainer.save_state()
    for output in watcher._outputs:
        if isinstance(output, AlertOutput):
            output.end()
    return report(trainer, watcher)


def evaluate(folder: str, checkpoint: str, *, then_resume: bool = False, broken: bool = False) -> dict[str, Any]:
    """An evaluation in the folder of a run that may have been trained before; then, if wanted, training goes on.

    Args:
        folder: ``output_dir``.
        checkpoint: The checkpoint to evaluate, and to resume from.
        then_resume: Whether to train as well, logging every step, NaN losses at 3, 7 and 11.
        broken: Whether the model's head is NaN.
    """
    from transformers import LlamaForCausalLM

    watcher = KoCPTCallback()
    trainer = build(folder, [watcher], model=LlamaForCausalLM.from_pretrained(checkpoint), logging_steps=1)
    trainer.add_callback(NanLoss(trainer.model, [3, 7, 11]))
    if broken:
        with torch.no_grad():
            trainer.model.lm_head.weight.fill_(math.nan)
    metrics = trainer.evaluate()
    if then_resume:
        trainer.train(resume_from_checkpoint=checkpoint)
    return {**report(trainer, watcher), "metrics": metrics}


class NanLoss(TrainerCallback):
    """Makes the training loss NaN in some steps, on some ranks; gradients and weights stay healthy."""

    def __init__(self, model: nn.Module, steps: Iterable[int]) -> None:
        self._steps, self._now = frozenset(steps), 0
        # Before the package's hooks: a model is watched from the Trainer's construction on, so go in front.
        model.register_forward_hook(self._spoil, prepend=True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember the step."""
        self._now = state.global_step + 1

    def _spoil(self, module: nn.Module, args: Any, output: Any) -> Any:
        if module.training and self._now in self._steps:
            output.loss = output.loss + math.nan
        return output


class NanWeights(TrainerCallback):
    """Fills the head with NaN when a step begins: what an exploded optimizer step leaves behind."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Poison the weights."""
        if state.global_step + 1 == self._step:
            with torch.no_grad():
                kwargs["model"].lm_head.weight.fill_(math.nan)


# -- how a run dies ----------------------------------------------------------------------------------------------------


def die() -> None:
    """SIGKILL, now: no trainer_access, no farewell, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


class _DieOn(TrainerCallback):
    """Dies in an event of a step; added last, so after the package's callback."""

    def __init__(self, event: str, step: int) -> None:
        setattr(self, event, self._event)
        self._step = step

    def _event(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            die()


def _on(event: str) -> Callable[[Trainer, int], None]:
    return lambda trainer, step: trainer.add_callback(_DieOn(event, step))


def _in_save(trainer: Trainer, step: int) -> None:
    """The model is saved, the optimizer is not."""
    original = trainer._save_optimizer_and_scheduler

    def saving(output_dir: str) -> None:
        if trainer.state.global_step == step:
            die()
        original(output_dir)

    trainer._save_optimizer_and_scheduler = saving  # type: ignore[method-assign]


def _after_save(trainer: Trainer, step: int) -> None:
    """The checkpoint is complete, the callback has not heard of it."""
    original = trainer._save_checkpoint

    def saving(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        if trainer.state.global_step == step:
            die()

    trainer._save_checkpoint = saving  # type: ignore[method-assign]


def _in_row(trainer: Trainer, step: int) -> None:
    """Half of a line of ``rows.jsonl`` is on disk, as a full disk or a dying file system would leave it."""
    from ko_cpt_callbacks.run import folder as backlog

    original = backlog.append_line

    def appending(path: Path, line: bytes, **more: Any) -> None:
        if trainer.state.global_step == step and path.name == "rows.jsonl":
            with path.open("ab") as stream:
                stream.write(line[: len(line) // 2])
                stream.flush()
                die()
        original(path, line, **more)

    backlog.append_line = appending


def _in_whole(trainer: Trainer, step: int) -> None:
    """A whole file is about to be renamed into its place."""
    from ko_cpt_callbacks.run import file

    class Dying(type(Path())):  # type: ignore[misc]
        def replace(self, target: Any) -> Any:
            if trainer.state.global_step == step:
                die()
            return super().replace(target)

    original = file.write_whole
    from ko_cpt_callbacks.run import folder as backlog

    backlog.write_whole = lambda path, payload: original(Dying(path), payload)


KILLS: dict[str, Callable[[Trainer, int], None]] = {
    "step begins": _on("on_step_begin"),
    "weights moved": _on("on_optimizer_step"),
    "after a log": _on("on_log"),
    "in an evaluation": _on("on_prediction_step"),
    "in a save": _in_save,
    "after a save": _after_save,
    "in a row": _in_row,
    "in a file": _in_whole,
}


# -- two ranks ---------------------------------------------------------------------------------------------------------


def train_ranks(folder: str, fault: str = "", **plan: Any) -> dict[str, Any]:
    """`train` as one rank of several; ``fault`` is what is different on one of them.

    Args:
        folder: ``output_dir``, the same on every rank.
        fault: A key of `FAULTS`; empty for none.
        plan: For `train`; ``nan_steps`` count on rank 1 only.
    """
    rank = int(os.environ["RANK"])
    nan_steps = plan.pop("nan_steps", ())
    extra = FAULTS[fault](rank, folder) if fault else {}
    if rank == 1:
        plan["nan_steps"] = nan_steps
    return train(folder, **{**plan, **extra})


def _refuse(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("broken on purpose")


def _replace(target: str, rank_at_fault: int) -> Callable[[int, str], dict[str, Any]]:
    """A fault: on one rank, ``module:Class.name`` raises whenever it is called."""

    def spoil(rank: int, folder: str) -> dict[str, Any]:
        if rank == rank_at_fault:
            module, _, path = target.partition(":")
            owner: Any = importlib.import_module(module)
            *parents, name = path.split(".")
            for parent in parents:
                owner = getattr(owner, parent)
            setattr(owner, name, _refuse)
        return {}

    return spoil


def _absent_on_rank_1(rank: int, folder: str) -> dict[str, Any]:
    """The callback was added on the main process only; the others are waited for three seconds, not sixty."""
    from ko_cpt_callbacks.hf import ranks

    ranks.Ranks = functools.partial(ranks.Ranks, sign_in_seconds=3.0)  # type: ignore[misc,assignment]
    return {"without_callback": rank == 1}


def _file_in_the_way(rank: int, folder: str) -> dict[str, Any]:
    """Nothing can be written: where the run folder should be, there is a file."""
    if rank == 0:
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "ko_cpt").write_text("in the way", "utf-8")
    return {}


def _own_output_fails(rank: int, folder: str) -> dict[str, Any]:
    """A user's own output raises at the first row."""
    from ko_cpt_callbacks.run.output import Output

    class Failing(Output):
        name = "failing"
        row = _refuse

    return {"outputs": ["files", Failing()]}


def _damaged_record(rank: int, folder: str) -> dict[str, Any]:
    """The folder holds an earlier record in which nothing is as it should be."""
    if rank == 0:
        record = Path(folder) / "ko_cpt"
        record.mkdir(parents=True)
        (record / "run.json").write_text('{"attempts": [1, {"attempt": "x"}, {"attempt": null}]}', "utf-8")
        (record / "rows.jsonl").write_text('{"kind": 1, "attempt": "x", "step": [2]}\n{"step": 3}\n', "utf-8")
    return {}


def _dies(dead: int, moment: str, step: int) -> Callable[[int, str], dict[str, Any]]:
    """One rank is killed."""
    return lambda rank, folder: {"kill": (moment, step)} if rank == dead else {}


def _row_fails_at_the_stop(rank: int, folder: str) -> dict[str, Any]:
    """Rank 1 fails over the very row for which rank 0 wants to stop."""
    from ko_cpt_callbacks.hf.run import LiveRun

    original = LiveRun.row

    def row(self: LiveRun, logs: Any, state: Any, model: Any) -> str | None:
        if rank == 1 and state.global_step == 6:
            _refuse()
        return original(self, logs, state, model)

    LiveRun.row = row  # type: ignore[method-assign]
    return {}


def _logs_on_rank_0_only(rank: int, folder: str) -> dict[str, Any]:
    """A Trainer whose ``log`` does nothing but on the main process."""
    original = Trainer.log

    def log(self: Trainer, *args: Any, **kwargs: Any) -> None:
        if self.is_world_process_zero():
            original(self, *args, **kwargs)

    Trainer.log = log  # type: ignore[method-assign]
    from ko_cpt_callbacks.hf import ranks

    ranks.Ranks = functools.partial(ranks.Ranks, sign_in_seconds=3.0)  # type: ignore[misc,assignment]
    return {}


FAULTS: dict[str, Callable[[int, str], dict[str, Any]]] = {
    "row fails at the stop": _row_fails_at_the_stop,
    "logs on rank 0 only": _logs_on_rank_0_only,
    "rank 1 dies before an exchange": _dies(1, "weights moved", 3),
    "rank 0 dies before an exchange": _dies(0, "weights moved", 3),
    "rank 1 dies after a log": _dies(1, "after a log", 2),
    "callback on rank 0 only": _absent_on_rank_1,
    "evaluation hook raises": _replace("ko_cpt_callbacks.hf.measure.hooks:read_evidence", 1),
    "evaluation meter raises": _replace("ko_cpt_callbacks.hf.measure.tally:Tally.count", 1),
    "rows cannot be read": _replace("ko_cpt_callbacks.hf.measure.row_reader:RowReader.read", 1),
    "training hook raises": _replace("ko_cpt_callbacks.hf.measure.train_meter:TrainMeter.observe", 1),
    "training meter raises": _replace("ko_cpt_callbacks.hf.measure.train_meter:TrainMeter._local", 1),
    "inspection raises": _replace("ko_cpt_callbacks.hf.model.facts:model_facts", 1),
    "tokenizer unusable on rank 0": _replace("ko_cpt_callbacks.hf.tokenizer.token_bytes:read_fast", 0),
    "tokenizer unusable on rank 1": _replace("ko_cpt_callbacks.hf.tokenizer.token_bytes:read_fast", 1),
    "own output fails": _own_output_fails,
    "file in the way": _file_in_the_way,
    "damaged record": _damaged_record,
}


def train_ranks_twice(folder: str) -> list[dict[str, Any]]:
    """Two Trainers one after the other in one process group; the second has the callback on rank 0 only."""
    first = train_ranks(f"{folder}/first", changes={"max_steps": 4})
    second = train_ranks(f"{folder}/second", "callback on rank 0 only", changes={"max_steps": 4})
    return [first, second]


def train_behind(folder: str) -> dict[str, Any]:
    """`train` where no frame shows the Trainer's callback list, as another Trainer's own dispatch could do."""
    from ko_cpt_callbacks.hf import trainer_access

    trainer_access.find_handler = lambda callback: None  # type: ignore[assignment]
    return train(folder)
