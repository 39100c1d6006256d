"""One Trainer under watch: its hooks, meters and record. The callback holds one of these per Trainer."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.kind_seen import TRAINED_ON, TRAINER_KIND
from ko_cpt_callbacks.core.length import ENDED_EARLY, PLAN, PLANNED_STEPS
from ko_cpt_callbacks.core.perplexity import perplexity
from ko_cpt_callbacks.core.retention import retention_names
from ko_cpt_callbacks.core.rules import ExactLossAbsent, TargetMet
from ko_cpt_callbacks.core.run_facts import facts_of
from ko_cpt_callbacks.core.stage_facts import STAGE
from ko_cpt_callbacks.core.standing import DIFFERENCE
from ko_cpt_callbacks.hf import inspection
from ko_cpt_callbacks.hf.audit import SetUp, audit
from ko_cpt_callbacks.hf.audit_metric import unmeasured
from ko_cpt_callbacks.hf.eval_set import agreed_problem
from ko_cpt_callbacks.hf.evaluation_entry import evaluation_entries
from ko_cpt_callbacks.hf.evidence import Alignment
from ko_cpt_callbacks.hf.forward_watch import ForwardWatch
from ko_cpt_callbacks.hf.handler import early_stop
from ko_cpt_callbacks.hf.live_baseline import LiveBaseline
from ko_cpt_callbacks.hf.live_record import LiveRecord
from ko_cpt_callbacks.hf.measurement import Measurement
from ko_cpt_callbacks.hf.meter import EvalMeter
from ko_cpt_callbacks.hf.padding import PaddingCounts
from ko_cpt_callbacks.hf.rank import Ranks
from ko_cpt_callbacks.hf.row_reader import RowReader
from ko_cpt_callbacks.hf.setting import Settings
from ko_cpt_callbacks.hf.stopper import Stopper
from ko_cpt_callbacks.hf.token_table import TokenTable
from ko_cpt_callbacks.hf.train_meter import TrainCounts, TrainMeter
from ko_cpt_callbacks.hf.train_totals import TrainTotals, resumed_totals
from ko_cpt_callbacks.hf.trainer_reading import TrainerReading, read_trainer

_log = logging.getLogger("ko_cpt_callbacks")

SEVERAL_DEVICES: Final = (
    "several GPUs in one process (nn.DataParallel) are not measured; start one process per GPU, with accelerate launch "
    "or torchrun"
)


class LiveRun:
    """What the callback knows of one Trainer.

    Args:
        settings: The callback's settings.
        args: The Trainer's arguments.
        state: The Trainer's state, for who writes.
        control: The Trainer's control object: it lives as long as the Trainer and identifies it.
        serial: Number of this run in the process; equal on every rank.
    """

    def __init__(
        self,
        settings: Settings,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        serial: int,
    ) -> None:
        self.control = weakref.ref(control)
        self.handler: weakref.ref[CallbackHandler] | None = None
        self.trainer: weakref.ref[Any] | None = None
        self._targets = settings.targets
        self._baseline = LiveBaseline(settings.baseline, settings.stage)
        self._args = args
        device = args.device
        self.ranks = Ranks(device, serial)
        output_dir = Path(args.output_dir or ".")
        self.record = LiveRecord(settings, output_dir, self.ranks, writes=state.is_world_process_zero)
        self.eval_meter = EvalMeter(self._row_reader, self.ranks)
        self.train_meter = TrainMeter(self.ranks)
        self._totals = TrainTotals(devices=_accelerators(device, args.n_gpu, self.ranks.size))
        self._watch: ForwardWatch | None = None
        self._text = TokenTable(self.ranks.index)
        self._reported: set[str] = set()
        # Numbers added to the row being logged, until `on_evaluate` has seen them.
        self.published: dict[str, float | int] = {}
        self.stopper = Stopper(settings.stop_on, settings.grace)
        self.saved_step: int | None = None
        self._language = settings.language
        self._unjudged: list[Finding] = []
        self._padding_said: set[str] = set()
        self._pad_is_end = False
        self._first_batch = True
        # Between a resume and its first step: what is evaluated there (eval_on_start) is no point of the run.
        self._resuming = False
        self._nan_said = False
        self._read: TrainerReading | None = None
        self._training = False

    # -- hooks ---------------------------------------------------------------------------------------------------

    def watch(self, model: nn.Module, tokenizer: Any) -> None:
        """Hook ``model``, unless it is hooked already."""
        self._text.use(tokenizer)
        if self._watch is not None and self._watch.model is model:
            return
        self.release()
        self._pad_is_end = inspection.pad_is_end(tokenizer, model)
        if self._args.n_gpu > 1:
            self.report("nn.DataParallel", SEVERAL_DEVICES)
            self.eval_meter.refuse_all(SEVERAL_DEVICES)
            return
        compiled = _compiles(self._args) or getattr(model, "_compiled_call_impl", None) is not None
        self._watch = ForwardWatch(
            model,
            self.eval_meter,
            self.train_meter,
            compiled=compiled,
            pad_id=inspection.pad_token(tokenizer, model),
            on_error=self.report_error,
        )

    def release(self) -> None:
        """Take the hooks off the model."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None

    def watches(self, model: nn.Module) -> bool:
        """Whether this run's hooks are on ``model``."""
        return self._watch is not None and self._watch.model is model

    def _alignment(self) -> Alignment | None:
        return None if self._watch is None else self._watch.alignment

    def _row_reader(self) -> RowReader:
        return self._text.reader(self._alignment())

    # -- life ----------------------------------------------------------------------------------------------------

    def begin_training(self, model: nn.Module, state: TrainerState, scheduler: Any) -> None:
        """Training begins at ``state.global_step``: replay what holds, take the counters up again."""
        live = self.record.begin_training(
            self._facts(model, state, scheduler), state.log_history, state.global_step
        )
        self.eval_meter.drop_pending()
        self._totals = resumed_totals(live, state.global_step, self._totals.devices)
        self.train_meter.read()
        self.train_meter.restart_clock()
        self._unjudged, self._first_batch, self._nan_said, self.saved_step = [], True, False, None
        self._training = True
        trainer = self._read_trainer(model)
        self._resuming = state.global_step > 0
        if state.max_steps > 0:
            self.note_setup(PLAN, state.global_step, **{PLANNED_STEPS: state.max_steps, **trainer})
        if self._args.n_gpu > 1:
            self.note_setup(ExactLossAbsent().code, state.global_step, reason=SEVERAL_DEVICES)
        self._note_stage(model, state.global_step)
        self._say_stopped_before(state.global_step)

    def _read_trainer(self, model: nn.Module | None) -> dict[str, Any]:
        """What is trained, for a row; and what that means for what is measured."""
        try:
            read = read_trainer(self._trainer(), self._args, model)
        except Exception as error:  # other ranks wait for what this one does next
            self.report_error(error)
            return {}
        self._read = read
        if read.absent is not None:
            self.eval_meter.refuse_all(read.absent)
        return {TRAINER_KIND: read.kind.value, "trainer_class": read.name, TRAINED_ON: read.trained_on}

    def _note_stage(self, model: nn.Module, step: int) -> None:
        try:
            values = self._baseline.stage_row(model)
        except Exception as error:  # other ranks wait for what this one does next
            self.report_error(error)
            return
        self.note_setup(STAGE, step, **values)

    def unknown_set(self, state: TrainerState) -> str | None:
        """What is wrong with the evaluation set of a target, on every rank alike; every rank must call it."""
        said = agreed_problem(self._targets, self._trainer(), state.log_history, self.ranks, self.report_error)
        if said is not None and self.ranks.alone:  # the others would wait for this one
            self.report("target", said)
            return None
        return said

    def audit(self, model: nn.Module, tokenizer: Any, state: TrainerState) -> None:
        """Note the mistakes of the set-up that can be seen before the first step; every rank must call it."""
        step, known = state.global_step, self.record.summary()
        absent = unmeasured(self._unmeasured(), self._text.absent(self._alignment()))
        processes, stops = self.ranks.size, self.stopper.armed
        seen = SetUp(model, self._args, tokenizer, self._trainer(), stops, known, step, absent, processes)
        for kind, values in audit(seen, self.ranks, self.report_error):
            self.note_setup(kind, step, **values)

    def _unmeasured(self) -> str | None:
        """Why no evaluation of this run can be measured, as far as that is known before the first."""
        if self.ranks.alone:
            return "the callback is not on every rank"
        return None if self._watch is not None else "the model's forward passes are not watched"

    def _trainer(self) -> Any:
        return None if self.trainer is None else self.trainer()

    def _say_stopped_before(self, start_step: int) -> None:
        """A resumed run says what already asked to stop it; named in ``stop_on``, it stops again."""
        earlier = list(self.record.findings)
        asked = self.stopper.begin(earlier)
        reached = asked or next((item for item in earlier if item.code == TargetMet().code), None)
        if start_step and reached is not None:
            values = {"reason": reached.code, "reason_step": reached.step, "stops": asked is not None}
            self.note_setup("stopped-before", start_step, **values)

    def checkpoint(self, step: int) -> None:
        """A checkpoint was saved: keep the counters with it, so that a resume takes them up exactly."""
        self._totals.add(self._training_counts())
        row = {keys.STEP: step, **self._totals.pending()}
        self.record.add(row, **{keys.KIND: keys.KIND_CHECKPOINT})

    # -- rows ----------------------------------------------------------------------------------------------------

    def training_numbers(self, logs: Mapping[str, Any], step: int) -> dict[str, float | int]:
        """What a training row gets: perplexity, tokens, speed, non-finite steps."""
        counts = self._training_counts()
        self._note_hidden_nan(counts, step)
        self._totals.add(counts)
        numbers: dict[str, float | int] = dict(self._totals.close_row(step))
        loss = logs.get(keys.LOSS)
        # 0.0 is what the Trainer logs in place of NaN: its perplexity of 1.0 would look like success.
        plain = self._read is None or self._read.perplexity
        if plain and isinstance(loss, (int, float)) and loss > 0 and not numbers.get(keys.NONFINITE_STEPS):
            value = perplexity(float(loss))
            if value != float("inf"):
                numbers[keys.PPL] = value
        return numbers

    def _training_counts(self) -> TrainCounts:
        """Counts since the last call; without hooks nothing was counted, which is not none."""
        counts = self.train_meter.read()
        return counts if self._watch is not None else replace(counts, tokens=None, bad_micro_batches=None)

    def _note_hidden_nan(self, counts: TrainCounts, step: int) -> None:
        uncounted = counts.bad_micro_batches is None or self._watch is None
        if uncounted and self._args.logging_nan_inf_filter and not self._nan_said:
            self._nan_said = True
            self.note_setup("nan-filter-on", step)

    def evaluation_numbers(self, prefix: str, step: int) -> tuple[dict[str, float | int], dict[str, Any]]:
        """What an evaluation's row gets: numbers for everyone, the rest for ``log_history`` and our files."""
        measured = self.eval_meter.finish()
        numbers, texts = evaluation_entries(prefix, measured)
        self._note_padding(prefix, measured.padding, step)
        self._note(prefix, step, measured, texts)
        self._note_difference(prefix, step, measured, texts.get(keys.key(prefix, keys.FINGERPRINT)))
        return numbers, {**texts, keys.key(prefix, keys.AT_RESUME): True} if self._repeats(prefix) else texts

    def _repeats(self, prefix: str) -> bool:
        """Whether an evaluation of a set is made only because training resumed; of a new set it is the first."""
        return self._resuming and prefix in self.record.summary().splits

    def _note_difference(self, prefix: str, step: int, measured: Measurement, text: str | None) -> None:
        tokenizer = self._text.facts(self._alignment()).get("hash")
        said = self._baseline.difference_row(prefix, measured.rows, text, tokenizer, self.ranks, self.report_error)
        if said is not None and not self._repeats(prefix):
            self.note_setup(DIFFERENCE, step, **said)

    def _note(self, prefix: str, step: int, measured: Measurement, texts: Mapping[str, str]) -> None:
        facts = {
            "evidence": measured.evidence,
            keys.EXACT_LOSS_ABSENT: texts.get(keys.key(prefix, keys.EXACT_LOSS_ABSENT)),
            keys.BITS_PER_BYTE_ABSENT: texts.get(keys.key(prefix, keys.BITS_PER_BYTE_ABSENT)),
            "error_bar": measured.rows is not None,
            keys.FINGERPRINT: texts.get(keys.key(prefix, keys.FINGERPRINT)),
            "bytes_note": None if self._text.table is None else self._text.table.note,
        }
        self.record.note_evaluation(prefix, facts, measured.rows, step)

    def prediction_numbers(self, prefix: str) -> dict[str, float | int]:
        """What the metrics of ``predict`` get; a prediction is no row of the run."""
        return evaluation_entries(prefix, self.eval_meter.finish())[0]

    def ensure_begun(self, model: nn.Module | None, state: TrainerState) -> None:
        """A row comes before any training: open the record for an evaluation of its own."""
        if not self.record.begun:
            self.record.begin_evaluation({} if model is None else self._facts(model, state, None))
            self._read_trainer(model)

    def observe(self, row: Mapping[str, Any]) -> None:
        """A row of ``log_history`` is complete."""
        self._resuming = self._resuming and keys.key(keys.TRAIN_PREFIX, keys.RUNTIME) not in row
        self._unjudged.extend(self.record.add(row))

    def close_training(self, state: TrainerState) -> None:
        """The Trainer's closing row was logged: did it come to its planned last step, and if not, why?"""
        self._training = False
        if 0 < state.global_step < state.max_steps and self.stopper.reason is None:
            handler = None if self.handler is None else self.handler()
            self.note_setup(ENDED_EARLY, state.global_step, by=early_stop(handler) or "should_training_stop")

    def summary(self) -> dict[str, Any]:
        """What ``callback.summary()`` returns."""
        known = self.record.summary()
        facts = facts_of(known, self.record.findings, running=self._training)
        return {**facts.as_dict(), **known.as_dict()}

    def note_setup(self, what: str, step: int, **values: Any) -> None:
        """Something about the set-up, as a row of its own."""
        row = {keys.STEP: step, keys.KIND_SETUP: what, **values}
        self._unjudged.extend(self.record.add(row, **{keys.KIND: keys.KIND_SETUP}))

    def check_first_batch(self, step: int) -> None:
        """After the first step of an attempt: were pads among its labels, on any rank?"""
        self._resuming = False
        if self._first_batch:
            self._first_batch = False
            self._note_padding(keys.TRAIN_PREFIX, self.train_meter.first_padding(), step)

    def _note_padding(self, split: str, counts: PaddingCounts | None, step: int) -> None:
        # Of training it is noted that somebody looked, even where nothing was found.
        if counts is None or not (counts.suspicious or split == keys.TRAIN_PREFIX):
            return
        if split not in self._padding_said:
            self._padding_said.add(split)
            self.note_setup("padding-in-loss", step, split=split, **asdict(counts), pad_is_end=self._pad_is_end)

    def best(self, retention: Sequence[str]) -> tuple[int, float] | None:
        """Step and exact loss of the best evaluation of the first set that is not in ``retention``."""
        splits = self.record.summary().splits
        kept = {keys.key("eval", name) for name in retention_names(retention)}
        names = [name for name in splits if name not in kept] or list(splits)
        point = splits[names[0]].best if names else None
        if point is None or point.value is None or point.metric != keys.EXACT_LOSS:
            return None  # the Trainer's loss may be any quantity: the best of that is not the best model
        return point.step, point.value

    def obey(self, state: TrainerState, control: TrainerControl) -> TrainerControl | None:
        """Turn what was found since the last call into a request to stop, where it was asked for; repeat it."""
        found, self._unjudged = self._unjudged, []
        step = state.global_step
        if self.ranks.alone:  # also for what asked before a resume
            if any(item.asks_to_stop for item in found):
                self.report("stop", "stop_on is not obeyed: the callback is not on every rank; the others would wait")
            return None
        reason = self.stopper.consider(found, step, self._totals.tokens_seen)
        if reason is not None:
            self.record.note(stop=reason.as_dict(self._language))
            self.note_setup(ENDED_EARLY, step, by=reason.code)
        if self.stopper.reason is None:
            return None
        control.should_training_stop = True
        # Without a save the stop would leave no checkpoint of the state it stopped at.
        control.should_save = control.should_save or self.saved_step != step
        return control

    # -- what is said once -----------------------------------------------------------------------------------------

    def report(self, what: str, text: str) -> None:
        """Log a warning once per subject."""
        if what not in self._reported:
            self._reported.add(what)
            _log.warning("%s", text)

    def report_error(self, error: Exception) -> None:
        """An exception of ours that the run must not see."""
        self.report(
            f"error {type(error).__name__}",
            f"The callback met an error and goes on without the number at hand: {type(error).__name__}: {error}",
        )

    def _facts(self, model: nn.Module, state: TrainerState, scheduler: Any) -> dict[str, Any]:
        try:
            return self._inspect(model, state, scheduler)
        except Exception as error:  # other ranks wait for what this one does next
            self.report_error(error)
            return {}

    def _inspect(self, model: nn.Module, state: TrainerState, scheduler: Any) -> dict[str, Any]:
        return {
            "versions": inspection.versions(),
            "model": inspection.model_facts(model),
            "tokenizer": self._text.facts(self._alignment()),
            "world_size": self.ranks.size,
            "device": str(self._args.device.type),
            "planned_steps": state.max_steps if state.max_steps > 0 else None,
            "planned_epochs": self._args.num_train_epochs,
            "arguments": inspection.argument_facts(self._args),
            "schedule": None if scheduler is None else inspection.schedule(scheduler, state.max_steps),
            "stop": None,
        }


def _compiles(args: TrainingArguments) -> bool:
    """Whether accelerate will compile the model: asked by the arguments or by its launcher."""
    return bool(args.torch_compile) or os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no"


def _accelerators(device: torch.device, per_process: int, processes: int) -> int:
    return 0 if device.type == "cpu" else max(1, per_process) * processes
