"""The hooks on one model: every forward pass goes to the right meter, or to none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ko_cpt_callbacks.hf.evidence import Output, alignment_of
from ko_cpt_callbacks.hf.loss_window import LossWindow
from ko_cpt_callbacks.hf.meter import EvalMeter
from ko_cpt_callbacks.hf.padding import count_padding
from ko_cpt_callbacks.hf.train_meter import TrainMeter

# Prompt-learning methods that lengthen the sequence; prefix tuning does not, it fills the key-value cache.
_LENGTHENING: Final = frozenset({"PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT"})


class ForwardWatch:
    """Hooks on a Trainer's model.

    Args:
        model: The Trainer's model, adapters included, not wrapped for distribution.
        eval_meter: Sees forward passes with labels in evaluation mode.
        train_meter: Sees forward passes in training mode.
        compiled: Whether the forward pass is, or will be, compiled: the hooks then stay out of the graph.
        pad_id: The pad token, which the first batches' labels are searched for.
        on_error: Told of an exception in a hook; the forward pass never sees it.
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
        self.virtual_tokens = virtual_tokens(model)
        self._eval, self._train, self._on_error = eval_meter, train_meter, on_error
        self._pad_id = pad_id
        self._window = None if compiled else LossWindow(model)
        before, after = self._before, self._after
        if compiled:
            before, after = torch.compiler.disable(before), torch.compiler.disable(after)
        self._handles: list[RemovableHandle] = [
            model.register_forward_pre_hook(before, with_kwargs=True),
            model.register_forward_hook(after, with_kwargs=True, always_call=True),
        ]

    def remove(self) -> None:
        """Take every hook off the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._window is not None:
            self._window.remove()

    def _before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        if self._window is not None and not module.training and has_labels(kwargs):
            self._window.arm()

    def _after(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        watched = [] if self._window is None else self._window.close()
        if output is None:  # the forward pass raised
            return
        try:
            if module.training:
                # The first label of a row has no prediction, unless virtual tokens stand before it.
                shifts = self.alignment == "causal" and not self.virtual_tokens
                self._train.observe(kwargs, Output.of(output), shifts=shifts, pad_id=self._pad_id)
            elif has_labels(kwargs):
                padding = None if self._eval.running else count_padding(kwargs, self._pad_id)
                self._eval.observe(
                    kwargs, Output.of(output), watched, self.alignment, self.virtual_tokens, padding
                )
        except Exception as error:
            if module.training:
                self._train.lose()
            else:
                self._eval.refuse(f"the meter failed: {type(error).__name__}: {error}")
            self._on_error(error)


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
