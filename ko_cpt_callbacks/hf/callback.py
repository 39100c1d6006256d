"""The callback: the Trainer's events in, numbers and findings out. No arithmetic here."""

from __future__ import annotations

import functools
import itertools
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.baseline import Baseline
from ko_cpt_callbacks.core.finding import Finding
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf import handler as handlers
from ko_cpt_callbacks.hf.live_run import LiveRun
from ko_cpt_callbacks.hf.setting import check_settings, refuse_unready
from ko_cpt_callbacks.outputs.output import Output
from ko_cpt_callbacks.readers.rows import eval_prefixes, is_closing

_log = logging.getLogger("ko_cpt_callbacks")

# Trainers under watch in this process, counted; every rank counts alike.
_SERIALS = itertools.count()

Event = TypeVar("Event", bound=Callable[..., Any])


def _never_fatal(event: Event) -> Event:
    """An exception of ours is reported once and never reaches the run."""

    @functools.wraps(event)
    def guarded(
        self: KoCPTCallback, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        try:
            return cast("TrainerControl | None", event(self, args, state, control, **kwargs))
        except Exception as error:
            self._report(control, error)
            return None

    return cast("Event", guarded)


class KoCPTCallback(TrainerCallback):
    """Measures the exact loss of a run and says what is wrong with it.

    Give it to any ``Trainer``::

        Trainer(..., callbacks=[KoCPTCallback()])

    What it adds to every row is listed in :mod:`ko_cpt_callbacks.keys`; it writes ``run.json``, ``rows.jsonl`` and
    ``findings.jsonl`` to ``<output_dir>/ko_cpt/``. Nothing stops a run unless ``stop_on`` asks.

    Args:
        targets: What must be reached: texts such as ``"eval_exact_loss<3.0@end"``, presets (``"seed-loss"``), or
            :class:`~ko_cpt_callbacks.core.target.Target` objects.
        baseline: A run to compare with: an id of ``ko-cpt baselines``, such as ``"redwhale"``, or a
            :class:`~ko_cpt_callbacks.core.baseline.Baseline`.
        stage: Which of its stages; ``auto``: the one that trains what this model trains.
        task: ``cpt`` (continued pretraining), ``sft`` or ``other``.
        retention: Names of the evaluation sets that stand for what must not be forgotten; ``"en<5%"`` where the
            loss may end more than 3 % above its beginning.
        stop_on: Finding codes that stop the run, such as ``{"non-finite"}``.
        grace: Before which nothing stops: optimizer steps, or ``"tokens:1e6"`` for target tokens.
        patience: Evaluations without improvement after which the run stops (``no-improvement``); None: never. Also
            the evaluations above the best that make ``overfitting`` (None: two), and with that in ``stop_on`` it alone
            stops.
        min_delta: What counts as improvement, and as worse: nats per token, or ``"1%"`` of the best loss; None: any
            improvement, and what the evaluations' own noise does not explain.
        rules: Codes of the rules to ask; None: all.
        outputs: ``"files"``, ``"console"``, or :class:`~ko_cpt_callbacks.outputs.output.Output` objects; None: both.
        alerts: Where to send findings. Not in this version.
        language: Language of the sentences; None: English.

    Raises:
        ConfigurationError: For an argument that cannot be used.
    """

    def __init__(
        self,
        *,
        targets: Iterable[Target | str] | Target | str = (),
        baseline: Baseline | str | None = None,
        stage: str = "auto",
        task: str = "cpt",
        retention: Sequence[str] = ("en",),
        stop_on: Iterable[str] = (),
        grace: int | str | None = None,
        patience: int | None = None,
        min_delta: float | str | None = None,
        rules: Iterable[str] | None = None,
        outputs: Iterable[str | Output] | None = None,
        alerts: Any = None,
        language: str | None = None,
    ) -> None:
        refuse_unready(alerts=alerts)
        self._settings = check_settings(
            task=task,
            retention=retention,
            stop_on=stop_on,
            grace=grace,
            targets=targets,
            patience=patience,
            min_delta=min_delta,
            rules=rules,
            outputs=outputs,
            language=language,
            baseline=baseline,
            stage=stage,
        )
        self._runs: list[LiveRun] = []
        self._current: LiveRun | None = None

    # -- what a program can ask ----------------------------------------------------------------------------------

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found in the current run so far, a resumed run's earlier findings included."""
        return () if self._current is None else tuple(self._current.record.findings)

    def summary(self) -> dict[str, Any]:
        """First, last and best evaluation of every set, and the facts that every verdict carries; JSON-safe.

        The facts are those of `ko_cpt_callbacks.core.run_facts`: ``state``, ``complete``, ``steps_done``,
        ``steps_planned``, ``verdict``, ``kind``, ``stopped_by``.
        """
        return {} if self._current is None else self._current.summary()

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and exact loss of the best evaluation; None before the first, and where none was measured.

        Of the first evaluation set that is no retention set; nats per token. The Trainer's own loss never stands in:
        with label smoothing, a loss function of one's own or a preference Trainer it is another quantity.
        """
        return None if self._current is None else self._current.best(self._settings.retention)

    @property
    def stop_reason(self) -> Finding | None:
        """The finding that stopped the run; None while nothing did."""
        return None if self._current is None else self._current.stopper.reason

    def attach(self, trainer: Trainer) -> KoCPTCallback:
        """Join ``trainer`` by hand: first in its callback list, hooks in place.

        Needed before ``trainer.evaluate()`` when the callback came by ``trainer.add_callback`` and nothing was
        trained yet, and wherever the finding ``trackers-not-reached`` shows up. Doing it twice does no harm.

        Returns:
            The callback itself.
        """
        handlers.move_to_front(trainer.callback_handler, self)
        run = self._run(trainer.args, trainer.state, trainer.control)
        run.trainer = weakref.ref(trainer)
        self._join(run, trainer.callback_handler)
        self._watch(run, cast("nn.Module", trainer.model), getattr(trainer, "processing_class", None))
        return self

    def detach(self) -> None:
        """Take every hook off every model; numbers and findings stay readable."""
        for run in self._runs:
            run.release()

    # -- the Trainer's events --------------------------------------------------------------------------------------

    @_never_fatal
    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The Trainer is built."""
        self._arrive(args, state, control, kwargs)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """Training begins, anew or resumed.

        Raises:
            ConfigurationError: On every process, before the first step: a target names an evaluation set that the
                Trainer does not have. Nothing else that goes wrong here ends a run.
        """
        problem = None
        try:
            problem = self._arrive(args, state, control, kwargs).unknown_set(state)
        except Exception as error:
            self._report(control, error)
        if problem is not None:
            raise ConfigurationError(problem)
        return self._begin_training(args, state, control, **kwargs)

    @_never_fatal
    def _begin_training(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        run = self._run(args, state, control)
        run.begin_training(kwargs["model"], state, kwargs.get("lr_scheduler"))
        run.audit(kwargs["model"], kwargs.get("processing_class"), state)
        handler = None if run.handler is None else run.handler()
        if not handlers.is_first(handler, self):
            run.note_setup("trackers-not-reached", state.global_step)
        other = handlers.early_stopping(handler)
        if other is not None and run.stopper.armed:
            run.note_setup("early-stopping-twice", state.global_step, other=other)
        return run.obey(state, control)

    @_never_fatal
    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What no prediction step claimed by now was no evaluation."""
        self._run(args, state, control).eval_meter.drop_pending()

    @_never_fatal
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """An optimizer step is over."""
        run = self._run(args, state, control)
        run.train_meter.end_step()
        run.check_first_batch(state.global_step)
        return run.obey(state, control)

    @_never_fatal
    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """The last moment to save after a stop: ``save_strategy="best"`` overrules a request made earlier."""
        return self._run(args, state, control).obey(state, control)

    @_never_fatal
    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """One batch of an evaluation or prediction is over."""
        run = self._run(args, state, control)
        model = kwargs.get("model")
        if model is not None and not run.watches(model):
            run.eval_meter.refuse(
                "the first batch passed before the callback could see the model; call "
                "KoCPTCallback(...).attach(trainer) before evaluate()"
            )
            self._arrive(args, state, control, kwargs)
        run.eval_meter.commit(kwargs.get("eval_dataloader"))

    @_never_fatal
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl | None:
        """A row is logged: complete it, judge it."""
        if not logs:
            return None
        run = self._run(args, state, control)
        row: dict[str, Any] = state.log_history[-1] if state.log_history else {}
        prefixes = eval_prefixes(logs)
        if prefixes:
            run.ensure_begun(kwargs.get("model"), state)
        elif not run.record.begun:
            return None
        run.published = {}
        texts: dict[str, Any] = {}
        if keys.LOSS in logs and not prefixes:
            run.published = run.training_numbers(logs, state.global_step)
        elif prefixes:
            run.published, texts = run.evaluation_numbers(prefixes[0], state.global_step)
        # Numbers go to everyone; texts would be plotted as metrics by some trackers.
        logs.update(run.published)
        row.update(run.published)
        row.update(texts)
        run.observe({**logs, **texts, keys.STEP: state.global_step})
        if is_closing(logs):
            run.close_training(state)
        return run.obey(state, control)

    @_never_fatal
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl | None:
        """An evaluation is over: its result gets the numbers too, whatever a Trainer's own ``log`` did with them."""
        run = self._run(args, state, control)
        if metrics is not None:
            metrics.update(run.published)
        run.train_meter.exclude()
        return run.obey(state, control)

    @_never_fatal
    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        """A prediction is over: the same numbers for its metrics; no row of the run."""
        run = self._run(args, state, control)
        prefixes = eval_prefixes(metrics)
        metrics.update(run.prediction_numbers(prefixes[0] if prefixes else "test"))

    @_never_fatal
    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A checkpoint is on disk."""
        run = self._run(args, state, control)
        run.train_meter.exclude()
        run.saved_step = state.global_step
        if run.record.begun:
            run.checkpoint(state.global_step)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _run(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> LiveRun:
        """The run of the Trainer that owns ``control``."""
        run = next((item for item in self._runs if item.control() is control), None)
        if run is None:
            for item in self._runs:
                if item.control() is None:
                    item.release()
            self._runs = [item for item in self._runs if item.control() is not None or item is self._current]
            run = LiveRun(self._settings, args, state, control, serial=next(_SERIALS))
            self._runs.append(run)
        self._current = run
        return run

    def _arrive(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, kwargs: Mapping[str, Any]
    ) -> LiveRun:
        run = self._run(args, state, control)
        found = handlers.find_handler(self)
        if found is not None:
            handlers.move_to_front(found, self)
            self._join(run, found)
            trainer = handlers.find_trainer(found)
            run.trainer = run.trainer if trainer is None else weakref.ref(trainer)
        model = kwargs.get("model")
        if model is not None:
            try:
                self._watch(run, model, kwargs.get("processing_class"))
            except Exception as error:  # other ranks wait for what this one does next
                run.report_error(error)
        return run

    def _join(self, run: LiveRun, handler: CallbackHandler) -> None:
        run.handler = weakref.ref(handler)
        handlers.on_removal(handler, self, self._release_removed)
        # Two instances measure the same; one folder has room for one record.
        before = handlers.joined_before(handler, self)
        if any(isinstance(other, KoCPTCallback) and "files" in other._settings.outputs for other in before):
            run.record.leave_files("another KoCPTCallback of this Trainer writes them")

    def _release_removed(self) -> None:
        """Hooks off where this callback left the Trainer's list, or the Trainer is gone."""
        for run in self._runs:
            if run.handler is not None:
                handler = run.handler()
                if handler is None or not any(item is self for item in handler.callbacks):
                    run.release()

    def _watch(self, run: LiveRun, model: nn.Module, tokenizer: Any) -> None:
        for other in self._runs:
            # Trainers that follow one another on one model: only the one at work has its hooks on it.
            if other is not run and other.watches(model):
                other.release()
        run.watch(model, tokenizer)

    def _report(self, control: TrainerControl, error: Exception) -> None:
        run = next((item for item in self._runs if item.control() is control), None)
        if run is not None:
            run.report_error(error)
        else:
            _log.warning("The callback met an error and goes on: %s: %s", type(error).__name__, error)
