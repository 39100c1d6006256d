"""The hooks on a Trainer's model: every forward pass goes to the right meter, or to none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainingArguments

from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.hf.measure.calibration import Calibration
from ko_cpt_callbacks.hf.measure.eval_meter import EvalMeter
from ko_cpt_callbacks.hf.measure.evidence import READS_AHEAD, SEES_LATER, Absent, LossEvidence, read_evidence
from ko_cpt_callbacks.hf.measure.head_scores import HeadWatch, HiddenStates
from ko_cpt_callbacks.hf.measure.labels import FOREIGN_LABELS, TakenLabels, find_labels
from ko_cpt_callbacks.hf.measure.measurement import count_padding
from ko_cpt_callbacks.hf.measure.model_output import (
    ForwardOutput,
    ModelHook,
    alignment_of,
    router_loss,
    sees_later_tokens,
)
from ko_cpt_callbacks.hf.measure.nll_capture import LossWindow, TokenLosses
from ko_cpt_callbacks.hf.measure.row_reader import TokenTable
from ko_cpt_callbacks.hf.measure.tally import PendingPass
from ko_cpt_callbacks.hf.measure.train_meter import TrainMeter
from ko_cpt_callbacks.hf.model.facts import pad_is_end, pad_token
from ko_cpt_callbacks.hf.model.structure import text_config
from ko_cpt_callbacks.hf.ranks import Reporter

SEVERAL_DEVICES: Final = (
    "several GPUs in one process (nn.DataParallel) are not measured; start one process per GPU, with accelerate launch "
    "or torchrun"
)

# Prompt-learning methods that lengthen the sequence; prefix tuning does not, it fills the key-value cache.
_LENGTHENING: Final = frozenset({"PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT"})


class _OwnPass(threading.local):
    """Whether a forward pass of ours runs in this thread."""

    running = False


class ForwardWatch:
    """Hooks on a Trainer's model.

    Args:
        model: The Trainer's model, adapters included, not wrapped for distribution.
        eval_meter: Sees forward passes with labels in evaluation mode.
        train_meter: Sees forward passes in training mode.
        compiled: Whether the forward pass is, or will be, compiled: the hooks then stay out of the graph.
        pad_id: The pad token, which the first batches' labels are searched for.
        on_error: Called with an exception in a hook; the forward pass never sees it.
    """

    def __init__(
        self,
        model: nn.Module,
        eval_meter: EvalMeter,
        train_meter: TrainMeter,
        *,
        compiled: bool,
        pad_id: int | None = None,
        on_error: Callable[[Exception], None],
    ) -> None:
        self.model = model
        self.alignment = alignment_of(model)
        self._sees_later = sees_later_tokens(model)
        self.virtual_tokens = virtual_tokens(model)
        self._eval, self._train, self._on_error = eval_meter, train_meter, on_error
        self._pad_id, self._compiled = pad_id, compiled
        self._window = None if compiled else LossWindow(model, on_error)
        self._head = HeadWatch(model, compiled=compiled, on_error=on_error)
        self._vocabulary = getattr(text_config(self._head.base), "vocab_size", None)
        self._adapted = next((item for item in model.modules() if hasattr(item, "_disable_adapters")), None)
        self._own = _OwnPass()
        self._calibration = Calibration(model, self._head, self.alignment, self._quietly)
        before, after = self._before, self._after
        if compiled:
            before, after = torch.compiler.disable(before), torch.compiler.disable(after)
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(ModelHook(before, 3, self._missed), with_kwargs=True),
            model.register_forward_hook(ModelHook(after, 4, self._missed), with_kwargs=True, always_call=True),
        ]

    def remove(self) -> None:
        """Take every hook off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._window is not None:
            self._window.remove()
        self._head.remove()

    def _quietly(self, call: Callable[[], Any]) -> Any:
        """Run a forward pass of ours, which no meter sees."""
        self._own.running = True
        try:
            return call()
        finally:
            self._own.running = False

    def _before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        if module.training or self._own.running:
            return
        self._head.arm()
        if self._window is not None and has_labels(kwargs):
            self._window.arm()

    def _after(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if self._own.running:
            return
        watched = [] if self._window is None else self._window.close()
        hidden = self._head.take()
        if output is None:  # the forward pass raised
            return
        if module.training:
            self._train.observe(
                kwargs,
                ForwardOutput.of(output),
                alignment=self.alignment,
                virtual_tokens=self.virtual_tokens,
                pad_id=self._pad_id,
            )
            return
        call = _by_name(args, kwargs)
        taken = None if has_labels(call) or self._eval.has_labelled_pass else find_labels(call)
        self._observe(call, ForwardOutput.of(output, self._vocabulary), watched, taken, hidden)
        if self._eval.elsewhere:  # a training step, while a thread beside it evaluates the same model
            self._train.lose()

    def _missed(self, error: Exception) -> None:
        """A forward pass that may not have been counted."""
        if self.model.training:
            self._train.lose()
        else:
            self._eval.refuse(f"the meter failed: {error_text(error)}")
        self._on_error(error)

    def _observe(
        self,
        call: dict[str, Any],
        output: ForwardOutput,
        watched: list[TokenLosses],
        taken: TakenLabels | None,
        hidden: HiddenStates | None,
    ) -> None:
        """An evaluation pass: with labels, or with the ones that were taken out of its batch."""
        if not has_labels(call) and taken is None:
            self._eval.see_unlabelled(output)
            return
        if taken is not None:
            # Whatever loss it gave was without them.
            call, output = {**call, "labels": taken.labels}, replace(output, loss=None)
        output = replace(output, aux_loss=router_loss(output, self._head.base))
        if not self._eval.running:
            self._calibration.renew()
        evidence = read_evidence(
            call,
            output,
            watched,
            self.alignment,
            virtual_tokens=self.virtual_tokens,
            calibration=self._calibration,
            hidden=hidden,
        )
        if self._sees_later:
            evidence = Absent(SEES_LATER)
        elif self.alignment in ("causal", None) and self._calibration.reads_ahead(compiled=self._compiled):
            evidence = Absent(READS_AHEAD)
        elif taken is not None and isinstance(evidence, LossEvidence):
            evidence = replace(evidence, mismatch=taken.foreign(call, self.alignment), mismatch_reason=FOREIGN_LABELS)
        padding = None
        if not self._eval.running and (taken is None or taken.other_inputs is None or not bool(taken.other_inputs)):
            padding = count_padding(call, self._pad_id)
        own_text = self.alignment == "seq2seq"
        more = {"text_in_labels": own_text, "taken": taken is not None, "padding": padding, "adapter": self._adapter()}
        self._eval.observe(PendingPass.of(call, output, evidence, **more))

    def _adapter(self) -> Any:
        """Which of PEFT's adapters are at work; None without any."""
        layer: Any = self._adapted
        return None if layer is None else (layer._disable_adapters, tuple(layer.active_adapters))


class HookedModel:
    """Hooks on the model at hand, and the tokenizer that its ids belong to."""

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
        self.pad_is_end = pad_is_end(tokenizer, model)
        if self._args.n_gpu > 1:
            self._reporter.report("nn.DataParallel", SEVERAL_DEVICES)
            self._eval.refused = SEVERAL_DEVICES
            return
        # accelerate compiles the model later, asked by the arguments or by its launcher.
        backend = os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
        compiles = bool(self._args.torch_compile) or backend != "no"
        compiled = compiles or getattr(model, "_compiled_call_impl", None) is not None
        self._watch = ForwardWatch(
            model,
            self._eval,
            self._train,
            compiled=compiled,
            pad_id=pad_token(tokenizer, model),
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


def _by_name(args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a forward call by name; of those without, the first is the tokens in transformers' models."""
    call = dict(kwargs)
    if args and isinstance(args[0], Tensor):
        call.setdefault("input_ids", args[0])
    return call


def has_labels(kwargs: Mapping[str, Any]) -> bool:
    """Whether a forward call carries labels."""
    return isinstance(kwargs.get("labels"), Tensor) or isinstance(kwargs.get("shift_labels"), Tensor)


def virtual_tokens(model: nn.Module) -> int:
    """Positions that a prompt-learning adapter puts before every row; 0 without one."""
    config = getattr(model, "active_peft_config", None)
    kind = getattr(config, "peft_type", None)
    if str(getattr(kind, "value", kind)) not in _LENGTHENING:
        return 0
    return int(getattr(config, "num_virtual_tokens", 0) or 0)
