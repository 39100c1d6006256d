"""The model of one Trainer: its hooks, its tokenizer, and what ``run.json`` says of both.

What goes wrong in the callback itself is reported once for every subject, with event, rank and error.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Final

from torch import nn
from transformers import TrainerState, TrainingArguments

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf.measure.eval_meter import EvalMeter
from ko_cpt_callbacks.hf.measure.hooks import ForwardWatch
from ko_cpt_callbacks.hf.measure.row_reader import TokenTable
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter
from ko_cpt_callbacks.hf.model import facts as inspection
from ko_cpt_callbacks.hf.ranks import Ranks

__all__ = ["SEVERAL_DEVICES", "HookedModel", "Reporter"]

_log = logging.getLogger("ko_cpt_callbacks")


class Reporter:
    """Logs warnings, each subject's once.

    Args:
        ranks: Which rank this is, and which event is at hand.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._reported: set[str] = set()

    def report(self, what: str, text: str) -> None:
        """Log a warning once per subject.

        Args:
            what: The subject.
            text: The warning.
        """
        if what not in self._reported:
            self._reported.add(what)
            _log.warning("%s", text)

    def report_error(self, error: Exception) -> None:
        """An exception of ours that the run must not see, and that costs one number only."""
        where, kind = self._ranks.where, type(error).__name__
        on = "" if self._ranks.size == 1 else f" on rank {self._ranks.index}"
        self.report(
            f"error {where} {kind}",
            f"The callback met an error and goes on without the number at hand: {where}{on}: {error_text(error)}",
        )


SEVERAL_DEVICES: Final = (
    "several GPUs in one process (nn.DataParallel) are not measured; start one process per GPU, with accelerate launch "
    "or torchrun"
)


class HookedModel:
    """Hooks on the model at hand, and the tokenizer that its ids belong to.

    Args:
        args: The Trainer's arguments.
        text: What is known of the tokenizer.
        eval_meter: Sees forward passes with labels in evaluation mode.
        train_meter: Sees forward passes in training mode.
        reporter: Reports what cannot be measured, once.
    """

    def __init__(
        self, args: TrainingArguments, text: TokenTable, eval_meter: EvalMeter, train_meter: TrainMeter,
        reporter: Reporter,
    ) -> None:
        self._args = args
        self._eval, self._train, self._reporter = eval_meter, train_meter, reporter
        self._watch: ForwardWatch | None = None
        self._text = text
        self.pad_is_end = False

    def watch(self, model: nn.Module, tokenizer: Any) -> None:
        """Hook ``model``, unless it is hooked already."""
        self._text.use(tokenizer)
        if self._watch is not None and self._watch.model is model:
            return
        self.release()
        self.pad_is_end = inspection.pad_is_end(tokenizer, model)
        if self._args.n_gpu > 1:
            self._reporter.report("nn.DataParallel", SEVERAL_DEVICES)
            self._eval.refuse_all(SEVERAL_DEVICES)
            return
        compiled = _compiles(self._args) or getattr(model, "_compiled_call_impl", None) is not None
        self._watch = ForwardWatch(
            model,
            self._eval,
            self._train,
            compiled=compiled,
            pad_id=inspection.pad_token(tokenizer, model),
            on_error=self._reporter.report_error,
        )
        self._train.watches, self._text.alignment = True, self._watch.alignment

    def release(self) -> None:
        """Take the hooks off the model."""
        if self._watch is not None:
            self._watch.remove()
            self._watch, self._train.watches, self._text.alignment = None, False, None

    def watches(self, model: nn.Module) -> bool:
        """Whether the hooks are on ``model``."""
        return self._watch is not None and self._watch.model is model

    def facts(self, model: nn.Module, state: TrainerState, scheduler: Any) -> dict[str, Any]:
        """The model, its tokenizer and how it is trained, as ``run.json`` describes them."""
        return {
            "versions": inspection.versions(),
            "model": inspection.model_facts(model),
            "tokenizer": self._text.facts(),
            "device": str(self._args.device.type),
            "planned_steps": state.max_steps if state.max_steps > 0 else None,
            "planned_epochs": self._args.num_train_epochs,
            "arguments": inspection.argument_facts(self._args),
            "schedule": inspection.schedule(scheduler, state.global_step, state.max_steps),
        }


def _compiles(args: TrainingArguments) -> bool:
    """Whether accelerate will compile the model: asked by the arguments or by its launcher."""
    return bool(args.torch_compile) or os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no"
