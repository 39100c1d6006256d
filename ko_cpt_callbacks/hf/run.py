"""One Trainer under watch: its hooks, meters and record. The callback holds one of these per Trainer."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.compared_sets import DIFFERENCE
from ko_cpt_callbacks.compare.reference import watched_baseline
from ko_cpt_callbacks.compare.stage import STAGE
from ko_cpt_callbacks.hf.audit.run import Note, audit, unmeasured
from ko_cpt_callbacks.hf.live_baseline import LiveBaseline, RowChange
from ko_cpt_callbacks.hf.measure.eval_meter import EvalMeter
from ko_cpt_callbacks.hf.measure.hooks import SEVERAL_DEVICES, HookedModel
from ko_cpt_callbacks.hf.measure.measurement import PaddingCounts
from ko_cpt_callbacks.hf.measure.row_reader import TokenTable
from ko_cpt_callbacks.hf.measure.step_counts import StepCounts, TrainLoss
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter
from ko_cpt_callbacks.hf.model.facts import run_facts
from ko_cpt_callbacks.hf.publication import (
    OwnRows,
    UnseenEvaluation,
    add_numbers,
    complete_metrics,
    evaluation_entries,
    evaluation_facts,
    row_is_due,
    without_clock,
)
from ko_cpt_callbacks.hf.ranks import Ranks, Reporter, pack_parts, unpack_parts
from ko_cpt_callbacks.hf.record import LiveRecord
from ko_cpt_callbacks.hf.stopping import STEP_END, StopOrder
from ko_cpt_callbacks.hf.trainer_access import callbacks_of, early_stop, target_problem
from ko_cpt_callbacks.hf.trainer_reading import read_trainer
from ko_cpt_callbacks.run.facts import facts_of
from ko_cpt_callbacks.run.file import json_text
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.fold import ENDED_EARLY, PLAN, PLANNED_STEPS, TRAINED_ON, TRAINER_KIND
from ko_cpt_callbacks.run.output import Output
from ko_cpt_callbacks.run.progress import LOADS_BEST
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Stopper


class LiveRun:
    """What the callback knows of one Trainer; ``outputs``: outputs and names of outputs."""

    def __init__(
        self, spec: WatchSpec, outputs: Sequence[str | Output], args: TrainingArguments, state: TrainerState,
        ranks: Ranks,
    ) -> None:  # fmt: skip
        self.handler: weakref.ref[CallbackHandler] | None = None
        self.trainer: weakref.ref[Any] | None = None
        self._spec = spec
        self._baseline = LiveBaseline(watched_baseline(spec), spec.stage)
        self._args, self.ranks = args, ranks
        self.reporter: Reporter = Reporter(ranks)
        folder, shown = Path(args.output_dir or "."), lambda: callbacks_of(self.handler)
        self.record = LiveRecord(spec, outputs, folder, shown, writes=state.is_world_process_zero)
        self._change = RowChange(folder / keys.FOLDER)
        self.record.keeps_several = args.save_total_limit != 1
        self._text = TokenTable(ranks.index)
        self.eval_meter: EvalMeter = EvalMeter(self._text.reader, ranks, self.reporter.report_error)
        self.train_meter: TrainMeter = TrainMeter(ranks, self.reporter.report_error)
        self.hooked: HookedModel = HookedModel(args, self._text, self.eval_meter, self.train_meter, self.reporter)
        self._own = OwnRows()
        devices = 0 if args.device.type == "cpu" else max(1, args.n_gpu) * ranks.size
        loss = TrainLoss(args.gradient_accumulation_steps, ranks.size)
        self._counts = StepCounts(self.train_meter, ranks, devices, loss)
        # Numbers added to the row being logged, until `on_evaluate` has seen them.
        self.published: dict[str, float | int] = {}
        self._unseen: UnseenEvaluation | None = None
        self._plan: dict[str, Any] | None = None
        self.stopper: Stopper = Stopper(spec.stop_on, spec.grace)
        self._order = StopOrder(self.stopper, ranks, self.reporter.report)
        self._saved_step: int | None = None
        self._unjudged: list[Finding] = []
        self._padding_said = set[str]()
        # Between a resume and its first step: what is evaluated there (eval_on_start) is no point of the run.
        self._resuming = False
        self.training: bool = False

    def begin_training(
        self, model: nn.Module, state: TrainerState, scheduler: Any, tokenizer: Any, notes: Iterable[Note]
    ) -> str | None:
        """Training begins at ``state.global_step``: replay what holds, take the counters up again.

        One exchange: what the first rank read, found and decided is what every rank begins with.

        Returns:
            What is wrong with the evaluation set of a target, on every rank alike; training then does not begin.
        """
        step = state.global_step
        parts = self.ranks.exchange(lambda: self._beginning(model, state, tokenizer, notes))
        plans = [unpack_parts(part) for part in parts]
        problem = next((plan["problem"] for plan in plans if plan["problem"]), b"").decode()
        if problem:
            if not self.ranks.alone:
                return problem
            self.reporter.report("target", problem)  # the others would wait for this one
        self._baseline.take(plans[0])
        self._change.begin(plans[0])
        plan = json.loads(plans[0]["plan"])
        live = self.record.begin_training(self._facts(model, state, scheduler), step, plan["record"])
        self.eval_meter.drop_pending()
        self._counts.begin(live, step)
        self._own, self._unseen, self._plan = OwnRows(), None, None
        self._unjudged, self._saved_step = [], None
        self.training, self._resuming = True, step > 0
        if state.max_steps > 0:
            self.note_setup(PLAN, step, **{PLANNED_STEPS: state.max_steps, **plan["trainer"]})
        if self._args.n_gpu > 1:
            self.note_setup("exact-loss-absent", step, reason=SEVERAL_DEVICES)
        if plan["stage"] is not None:
            self._baseline.compare_with(plan["stage"])
            self.note_setup(STAGE, step, **plan["stage"])
        stopped = self._order.begin(self.record.findings)  # named in ``stop_on``, it stops again
        if step and stopped is not None:
            self.note_setup("stopped-before", step, **stopped)
        for kind, values in plan["notes"]:
            self.note_setup(kind, step, **values)
        return None

    def _beginning(self, model: nn.Module, state: TrainerState, tokenizer: Any, notes: Iterable[Note]) -> bytes:
        tried = self.reporter.tried
        problem = tried("", target_problem, self._spec.targets, self._trainer(), state.log_history)
        parts = {"problem": problem.encode()}
        read = self.look_at_trainer(model)
        if self.ranks.first and (not problem or self.ranks.alone):  # a refused run leaves no folder
            step = state.global_step
            plan: dict[str, Any] = {"record": self.record.plan_training(state.log_history, step)}
            plan["trainer"] = {LOADS_BEST: bool(self._args.load_best_model_at_end), **read}
            plan["stage"] = tried(None, self._baseline.stage_row, model)
            alone = "the callback is not on every rank" if self.ranks.alone else None
            known = self.record.planned()
            absent = unmeasured(alone or self.eval_meter.refused, self._text.absent())
            found = audit(
                model, self._args, tokenizer, self._trainer(), self._spec, known, step=step, processes=self.ranks.size,
                stops=self.stopper.armed, unmeasured=absent, on_error=self.reporter.report_error,
            )  # fmt: skip
            plan["notes"] = [*found, *notes]
            parts["plan"] = json_text(plan).encode()
            parts |= self._baseline.files_to_send(self.reporter.report_error) | self._change.rows_to_send(known)
        return pack_parts(parts)

    def look_at_trainer(self, model: nn.Module | None) -> dict[str, Any]:
        """What is trained, for a row; and what that means for what is measured."""
        read = self.reporter.tried(None, read_trainer, self._trainer(), self._args, model)
        if read is None:
            return {}
        self._counts.loss.cross_entropy = read.perplexity
        if read.absent is not None:
            self.eval_meter.refused = read.absent
        return {TRAINER_KIND: read.kind.value, "trainer_class": read.name, TRAINED_ON: read.trained_on}

    def _trainer(self) -> Any:
        return None if self.trainer is None else self.trainer()

    def step_begins(self) -> None:
        """What no prediction step claimed by now was no evaluation."""
        self._own.step_begins()
        self.eval_meter.drop_pending()
        self._unseen = None

    def step_ends(self, state: TrainerState, control: TrainerControl) -> None:
        """An optimizer step is over: add up over the ranks where a row or a checkpoint is to come."""
        self._own.step_ends()
        due = partial(row_is_due, "on_step_end", self._args, state, control)
        padding = self._counts.step_ends(state.global_step, due)
        self._resuming = False
        self._note_padding(keys.TRAIN_PREFIX, padding, state.global_step)

    def epoch_ends(self, state: TrainerState, control: TrainerControl) -> None:
        """An epoch is over: likewise."""
        self._counts.epoch_ends(state.global_step, partial(row_is_due, "on_epoch_end", self._args, state, control))

    def prediction_step_ends(self, loader: Any, state: TrainerState) -> None:
        """A batch of an evaluation or prediction is over; after its last one the ranks add up."""
        self.eval_meter.commit(loader)
        if not self.eval_meter.ends(loader):
            return
        parts = [unpack_parts(part) for part in self.ranks.exchange(self._evaluation_part)]
        self._baseline.take(parts[0])
        if "plan" in parts[0]:
            self._plan = json.loads(parts[0]["plan"])
        self.eval_meter.keep([part["sums"] for part in parts])

    def _evaluation_part(self) -> bytes:
        parts = {"sums": self.eval_meter.close()}
        if self.ranks.first:
            parts |= self._baseline.files_to_send(self.reporter.report_error)
            if not self.record.begun and self.ranks.together:
                parts["plan"] = json_text(self.record.plan_evaluation()).encode()
        return pack_parts(parts)

    def saved(self, step: int) -> None:
        """A checkpoint was saved: keep the counters with it, so that a resume takes them up exactly."""
        self._saved_step = step
        if self.record.begun:
            self.record.add({keys.STEP: step, **self._counts.pending(step)}, **{keys.KIND: keys.KIND_CHECKPOINT})

    def row(self, logs: dict[str, Any], state: TrainerState, model: nn.Module | None) -> str | None:
        """A row is logged: complete and judge it, where it is the Trainer's own.

        Returns:
            Which row it was: ``train``, ``end``, or an evaluation's prefix; None where it was none.
        """
        step, texts = state.global_step, dict[str, Any]()
        self._unseen = None
        row: dict[str, Any] = state.log_history[-1] if state.log_history else {}
        if self.record.begun and self._own.training_row(logs):
            what: str | None = keys.TRAIN_PREFIX
            self.published, notes = self._counts.close_row(logs, step, nan_filter=self._args.logging_nan_inf_filter)
            for kind, values in notes:
                self.note_setup(kind, step, **values)
        elif what := self._own.evaluation(logs, running=self.eval_meter.running, ended=self.eval_meter.measured):
            if not self._ensure_begun(model, state):
                return None
            self.published, texts = self._evaluation_numbers(what, step)
        elif self.record.begun and self._own.end_row(logs):
            what, self.published, self._resuming = keys.KIND_END, {}, False
        else:
            prefix = self._own.unseen_evaluation(logs)
            self._unseen = None if prefix is None else UnseenEvaluation(prefix, logs, row)
            return None
        self._complete(logs, row, texts, step)
        if what == keys.KIND_END:
            self._close_training(state)
        return what

    def _close_training(self, state: TrainerState) -> None:
        """The Trainer's closing row was logged: did it come to its planned last step, and if not, why?"""
        self.training = False
        if 0 < state.global_step < state.max_steps and self.stopper.reason is None:
            by = early_stop(callbacks_of(self.handler)) or "should_training_stop"
            self.note_setup(ENDED_EARLY, state.global_step, by=by)
        self.record.close()

    def _complete(self, logs: dict[str, Any], row: dict[str, Any], texts: Mapping[str, Any], step: int) -> None:
        # Numbers go to everyone; texts would be plotted as metrics by some trackers.
        add_numbers(logs, self.published)
        row.update({**without_clock(self.published), **texts})
        self._unjudged.extend(self.record.add({**logs, **texts, keys.STEP: step}))
        self.published |= self.record.ahead  # made of the row
        add_numbers(logs, self.record.ahead)
        row.update(self.record.ahead)

    def evaluated(self, metrics: dict[str, Any], state: TrainerState, model: nn.Module | None) -> str | None:
        """An evaluation is over: its result gets the numbers of its row.

        Returns:
            The prefix of an evaluation that shows only now, because no prediction step of it was seen.
        """
        unseen, self._unseen = self._unseen, None
        named = unseen is not None and any(name.startswith(f"{unseen.prefix}_") for name in metrics)
        if unseen is not None and named and self._ensure_begun(model, state):
            self.published, texts = self._evaluation_numbers(unseen.prefix, state.global_step)
            self._complete(unseen.logs, unseen.row, texts, state.global_step)
        complete_metrics(metrics, self.published, self._trainer(), state, self._args.metric_for_best_model)
        self.published = {}
        return unseen.prefix if unseen is not None and named else None

    def _evaluation_numbers(self, prefix: str, step: int) -> tuple[dict[str, float | int], dict[str, Any]]:
        """What an evaluation's row gets: numbers for everyone, the rest for ``log_history`` and our files."""
        measured = self.eval_meter.finish()
        numbers, texts = evaluation_entries(prefix, measured)
        if keys.key(prefix, keys.EXACT_LOSS_SE) in numbers:
            numbers |= self._change.numbers(prefix, step, measured.rows)
        self._note_padding(prefix, measured.padding, step)
        facts = evaluation_facts(prefix, measured, texts, self._text.facts()["note"])
        self.record.note_evaluation(prefix, facts, measured.rows, step)
        if self._resuming and prefix in self.record.summary().splits:
            # Made only because training resumed; of a new set it is the first.
            return numbers, {**texts, keys.key(prefix, keys.AT_RESUME): True}
        text = texts.get(keys.key(prefix, keys.FINGERPRINT))
        said = self._baseline.difference_row(prefix, measured.rows, text, self._text.facts()["hash"])
        if said is not None:
            self.note_setup(DIFFERENCE, step, **said)
        return numbers, texts

    def prediction_numbers(self, prefix: str) -> dict[str, float | int]:
        """What the metrics of ``predict`` get; a prediction is no row of the run."""
        return evaluation_entries(prefix, self.eval_meter.finish())[0]

    def _ensure_begun(self, model: nn.Module | None, state: TrainerState) -> bool:
        """A row comes before any training: open the record for an evaluation of its own, if that can be."""
        if self.record.begun:
            return True
        plan, self._plan = self._plan, None
        if plan is None and self.ranks.together:  # the end of the evaluation was not seen
            return False
        self.record.begin_evaluation({} if model is None else self._facts(model, state, None), plan)
        self.look_at_trainer(model)
        return True

    def note_setup(self, what: str, step: int, **values: Any) -> None:
        """Something about the set-up, as a row of its own."""
        row = {keys.STEP: step, keys.KIND_SETUP: what, **values}
        self._unjudged.extend(self.record.add(row, **{keys.KIND: keys.KIND_SETUP}))

    def _note_padding(self, split: str, counts: PaddingCounts | None, step: int) -> None:
        # Of training it is noted that somebody looked, even where nothing was found.
        if counts is None or not (counts.suspicious or split == keys.TRAIN_PREFIX):
            return
        if split not in self._padding_said:
            self._padding_said.add(split)
            self.note_setup("padding-in-loss", step, split=split, **asdict(counts), pad_is_end=self.hooked.pad_is_end)

    def summary(self) -> dict[str, Any]:
        """What ``callback.summary()`` returns."""
        known = self.record.summary()
        facts = facts_of(known, self.record.findings, running=self.training).as_dict()
        account = self.record.checkpoints()
        return {**facts, **known.as_dict(), **({} if account is None else {"checkpoints": account.as_dict()})}

    def obey(self, state: TrainerState, control: TrainerControl, moment: str) -> TrainerControl | None:
        """Turn what was found since the last call into a request to stop, where it was asked for; repeat it."""
        found, self._unjudged = self._unjudged, []
        if not found and self.stopper.asked is None and not self.ranks.together:
            return None
        step = state.global_step
        if moment == STEP_END and self._counts.step != step and self.stopper.reason is None:
            moment = ""  # nothing was looked at on any rank
        reason = self._order.take(found, step, self._counts.tokens_seen, moment)
        if reason is not None:
            self.record.note(stop=reason.as_dict(self._spec.language))
            self.note_setup(ENDED_EARLY, step, by=reason.code)
        if self.stopper.reason is None:
            return None
        control.should_training_stop = True
        # Without a save the stop would leave no checkpoint of the state it stopped at.
        control.should_save = control.should_save or self._saved_step != step
        return control

    def _facts(self, model: nn.Module, state: TrainerState, scheduler: Any) -> dict[str, Any]:
        facts = self.reporter.tried(None, run_facts, self._args, model, self._text.facts(), state, scheduler)
        return {} if facts is None else {**facts, "world_size": self.ranks.size, "stop": None}

