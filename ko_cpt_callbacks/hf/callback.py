"""The callback: the Trainer's events in, numbers and findings out. No arithmetic here."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import CallbackHandler

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf import trainer_access as handlers
from ko_cpt_callbacks.hf.argument import alert_outputs, callback_spec, checked_outputs, family_notes
from ko_cpt_callbacks.hf.audit.run import Note
from ko_cpt_callbacks.hf.guarded_run import GuardedRuns
from ko_cpt_callbacks.hf.publication import best_exact, keep_texts_off_cards, print_small_rows
from ko_cpt_callbacks.hf.run import LiveRun
from ko_cpt_callbacks.hf.stopping import STEP_END
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.output import Output
from ko_cpt_callbacks.run.rows import eval_prefixes
from ko_cpt_callbacks.watch.argument import Limits
from ko_cpt_callbacks.watch.target import Target


def _guarded(event: Callable[..., Any]) -> Callable[..., Any]:
    """An event of the Trainer, with its run; an exception of ours never reaches it: see :mod:`.guarded_run`."""

    @functools.wraps(event)
    def guarded(
        self: KoCPTCallback, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        act = functools.partial(event, self, state=state, control=control, **kwargs)
        return self._runs.do(event.__name__, args, state, control, act)

    del guarded.__wrapped__  # or who asks for the signature is told the event's, which is handed its run
    return guarded


class KoCPTCallback(TrainerCallback):
    """Measures the exact loss of a run and says what is wrong with it.

    Give it to any ``Trainer``::

        Trainer(..., callbacks=[KoCPTCallback()])

    What it adds to every row is listed in :mod:`ko_cpt_callbacks.keys`; it writes ``run.json``, ``rows.jsonl`` and
    ``findings.jsonl`` to ``<output_dir>/ko_cpt/``. Nothing stops a run unless ``stop_on`` asks.

    Args:
        targets: What must be reached: texts such as ``"eval_exact_loss<3.0@end"``, presets (``"korean-loss-3"``), or
            :class:`~ko_cpt_callbacks.watch.target.Target` objects.
        baseline: A run to compare with: an id of ``ko-cpt baselines``, such as ``"redwhale"``, or a
            :class:`~ko_cpt_callbacks.compare.baseline.Baseline`.
        stage: Which of its stages; ``auto``: the one that trains what this model trains.
        family: Finished runs of the same set-up, folders or ids of own baselines, ``"own"`` for all of these: they
            make forecasts surer, and a run that leaves their band is a finding (``off-family``).
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
        rules: Limits of rules by code and name, ``{"loss-spike": {"most": 3}}``: all rules are asked, with these in
            place of their own (``ko-cpt explain CODE`` lists them). A list, ``["non-finite", "loss-spike"]``, asks
            these rules alone, and may hold such mappings: ``["non-finite", {"loss-spike": {"most": 3}}]`` does both.
            None: all rules as they are.
        outputs: ``"files"``, ``"console"``, ``"trackers"`` (notes), ``"report"`` (an HTML page at the end), or
            :class:`~ko_cpt_callbacks.run.output.Output` objects; None: the first three.
        alerts: Where findings go: the least grave that is sent, and addresses; :mod:`ko_cpt_callbacks.run.alert`.
        language: Language of the sentences, ``en`` or ``ko``; None: that of ``KO_CPT_LANG``, else English.

    Raises:
        ConfigurationError: For an argument that cannot be used.
    """

    def __init__(
        self,
        *,
        targets: Iterable[Target | str] | Target | str = (),
        baseline: Baseline | str | None = None,
        stage: str = "auto",
        family: Iterable[str] = (),
        task: str = "cpt",
        retention: Sequence[str] = ("en",),
        stop_on: Iterable[str] = (),
        grace: int | str | None = None,
        patience: int | None = None,
        min_delta: float | str | None = None,
        rules: Iterable[str | Limits] | Limits | None = None,
        outputs: Iterable[str | Output] | None = None,
        alerts: Iterable[str] | str | None = None,
        language: str | None = None,
    ) -> None:
        self._spec = callback_spec(
            task=task,
            retention=retention,
            stop_on=stop_on,
            grace=grace,
            targets=targets,
            patience=patience,
            min_delta=min_delta,
            rules=rules,
            language=language,
            baseline=baseline,
            stage=stage,
        )
        self._outputs = (*checked_outputs(outputs), *alert_outputs(alerts, self._spec.language))
        self._notes: list[Note] = list(family_notes(family))
        self._runs = GuardedRuns(self._spec, self._outputs)

    # -- what a program can ask ----------------------------------------------------------------------------------

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything found in the current run so far, a resumed run's earlier findings included."""
        return () if self._runs.current is None else tuple(self._runs.current.record.findings)

    def summary(self) -> dict[str, Any]:
        """First, last and best evaluation of every set, and the facts that every verdict carries; JSON-safe.

        The facts are those of `ko_cpt_callbacks.run.facts`: ``state``, ``complete``, ``steps_done``,
        ``steps_planned``, ``verdict``, ``kind``, ``stopped_by``. Where checkpoints are on disk, ``checkpoints`` says
        which are as good as the best, which are lost, and which to keep, as ``ko-cpt checkpoints --json`` does.
        """
        return {} if self._runs.current is None else self._runs.current.summary()

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and exact loss of the best evaluation; None before the first, and where none was measured.

        Of the first evaluation set that is no retention set; nats per token. The Trainer's own loss never stands in.
        """
        run = self._runs.current
        return None if run is None else best_exact(run.record.summary().splits, self._spec.retention)

    @property
    def stop_reason(self) -> Finding | None:
        """The finding that stopped the run; None while nothing did."""
        return None if self._runs.current is None else self._runs.current.stopper.reason

    def notes(self) -> tuple[Note, ...]:
        """What `note` was given: kind and values of every set-up row that a training begins with."""
        return tuple(self._notes)

    def note(self, kind: str, values: Mapping[str, Any]) -> None:
        """Begin every training from now on with a set-up row of your own.

        Args:
            kind: What kind of row it is; a rule that reads set-up rows knows it by this name.
            values: The row's keys and values, JSON-safe.
        """
        self._notes.append((kind, dict(values)))

    def attach(self, trainer: Trainer) -> KoCPTCallback:
        """Join ``trainer`` by hand: first in its callback list, hooks in place.

        Needed before ``trainer.evaluate()`` when the callback came by ``trainer.add_callback`` and nothing was
        trained yet, and wherever a ``note`` says that trackers are not reached. Doing it twice does no harm.

        Returns:
            The callback itself.
        """
        handlers.move_to_front(trainer.callback_handler, self)
        run = self._runs.run(trainer.args, trainer.state, trainer.control)
        run.trainer = weakref.ref(trainer)
        keep_texts_off_cards(trainer)
        self._join(run, trainer.callback_handler)
        self._runs.watch(run, cast("nn.Module", trainer.model), getattr(trainer, "processing_class", None))
        return self

    def detach(self) -> None:
        """Take every hook off every model; numbers and findings stay readable."""
        self._runs.release()

    # -- the Trainer's events --------------------------------------------------------------------------------------

    @_guarded
    def on_init_end(self, run: LiveRun, **kwargs: Any) -> None:
        """The Trainer is built."""
        self._arrive(run, kwargs)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """Training begins, anew or resumed.

        Raises:
            ConfigurationError: On every process, before the first step: a target names an evaluation set that the
                Trainer does not have. Nothing else that goes wrong here ends a run.
        """
        begin = functools.partial(self._begin, state=state, control=control, kwargs=kwargs)
        begun = self._runs.do("on_train_begin", args, state, control, begin)
        asked, problem = begun or (None, None)
        if problem is not None:
            raise ConfigurationError(problem)
        return asked

    def _begin(
        self, run: LiveRun, state: TrainerState, control: TrainerControl, kwargs: Mapping[str, Any]
    ) -> tuple[TrainerControl | None, str | None]:
        """What is asked of the Trainer, or what is wrong with a target."""
        self._arrive(run, kwargs)
        callbacks, notes = handlers.callbacks_of(run.handler), list(self._notes)
        if not callbacks or callbacks[0] is not self:
            notes.append(("trackers-not-reached", {}))
        other = handlers.early_stopping(callbacks)
        if other is not None and run.stopper.armed:
            notes.append(("early-stopping-twice", {"other": other}))
        tokenizer = kwargs.get("processing_class")
        problem = run.begin_training(kwargs["model"], state, kwargs.get("lr_scheduler"), tokenizer, notes)
        return (None if problem else run.obey(state, control, "begin")), problem

    @_guarded
    def on_step_begin(self, run: LiveRun, **kwargs: Any) -> None:
        """An optimizer step begins."""
        run.step_begins()

    @_guarded
    def on_substep_end(self, run: LiveRun, **kwargs: Any) -> None:
        """A micro-batch that is not the last of its optimizer step is over."""
        run.train_meter.end_micro_batch()

    @_guarded
    def on_step_end(
        self, run: LiveRun, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """An optimizer step is over."""
        run.step_ends(state, control)
        return run.obey(state, control, STEP_END)

    @_guarded
    def on_epoch_end(
        self, run: LiveRun, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl | None:
        """The last moment to save after a stop: ``save_strategy="best"`` overrules a request made earlier."""
        run.epoch_ends(state, control)
        return run.obey(state, control, "epoch-end")

    @_guarded
    def on_prediction_step(self, run: LiveRun, state: TrainerState, **kwargs: Any) -> None:
        """One batch of an evaluation or prediction is over."""
        model = kwargs.get("model")
        if model is not None and not run.hooked.watches(model):
            run.eval_meter.refuse(
                "the first batch passed before the callback could see the model; call "
                "KoCPTCallback(...).attach(trainer) before evaluate()"
            )
            self._arrive(run, kwargs)
        run.prediction_step_ends(kwargs.get("eval_dataloader"), state)

    @_guarded
    def on_log(
        self,
        run: LiveRun,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl | None:
        """A row is logged: where it is the Trainer's own, complete it, judge it."""
        what = run.row(logs, state, kwargs.get("model")) if logs else None
        return None if what is None else run.obey(state, control, what)

    @_guarded
    def on_evaluate(
        self,
        run: LiveRun,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> TrainerControl | None:
        """An evaluation is over: its result gets the numbers too, whatever a Trainer's own ``log`` did with them."""
        what = None if metrics is None else run.evaluated(metrics, state, kwargs.get("model"))
        run.train_meter.exclude()
        return run.obey(state, control, what or "")

    @_guarded
    def on_predict(self, run: LiveRun, metrics: dict[str, Any], **kwargs: Any) -> None:
        """A prediction is over: the same numbers for its metrics; no row of the run."""
        prefixes = eval_prefixes(metrics)
        metrics.update(run.prediction_numbers(prefixes[0] if prefixes else "test"))

    @_guarded
    def on_save(self, run: LiveRun, state: TrainerState, **kwargs: Any) -> None:
        """A checkpoint is on disk."""
        run.train_meter.exclude()
        run.saved(state.global_step)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _arrive(self, run: LiveRun, kwargs: Mapping[str, Any]) -> None:
        found = handlers.find_handler(self)
        if found is not None:
            handlers.move_to_front(found, self)
            self._join(run, found)
            trainer = handlers.find_trainer(found)
            run.trainer = run.trainer if trainer is None else weakref.ref(trainer)
            keep_texts_off_cards(trainer)
        model = kwargs.get("model")
        if model is not None:
            run.reporter.tried(None, self._runs.watch, run, model, kwargs.get("processing_class"))

    def _join(self, run: LiveRun, handler: CallbackHandler) -> None:
        run.handler = weakref.ref(handler)
        print_small_rows(handler.callbacks)
        handlers.on_removal(handler, self, functools.partial(self._runs.release_removed, self))
        # Two instances measure the same; one folder has room for one record.
        before = handlers.callbacks_before(handler, self)
        if any(isinstance(other, KoCPTCallback) and "files" in other._outputs for other in before):
            run.record.leave_files("another KoCPTCallback of this Trainer writes them")
