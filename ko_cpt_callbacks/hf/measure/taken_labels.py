"""Labels of an evaluation batch that were taken out of the call before the model saw it.

Label smoothing, ``compute_loss_func`` and many a ``compute_loss`` of the user's own call the model without labels.
The batch had them, and the Trainer's ``prediction_step`` still holds it while the model runs: its frame is above the
forward hook's. No method is wrapped and nothing is kept. Only a prediction step is asked, never a forward pass of
somebody else's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import torch
from torch import Tensor

from ko_cpt_callbacks.hf.measure.model_output import Alignment
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE

__all__ = ["FOREIGN_LABELS", "TakenLabels", "find_labels"]

FOREIGN_LABELS: Final = (
    "the model was called without labels, and the labels of the batch do not belong to the tokens of that call"
)

_STEP: Final = "prediction_step"

# A prediction step is a few dozen calls above its forward pass, wrappers of adapters, precision and distribution
# included; a stack deeper than this is not searched (chosen, not measured).
_FRAMES: Final = 200

# What tells that a forward pass was given this batch, the first that is in both: the decoder's tokens decide what
# the logits of an encoder-decoder belong to.
_INPUTS: Final = ("decoder_input_ids", "input_ids", "inputs_embeds")


@dataclass(frozen=True, slots=True)
class TakenLabels:
    """Labels that belong to a forward pass without any.

    Attributes:
        labels: (rows, length).
        other_inputs: 0-dim bool, true where the call had other inputs than the batch; None where they are the very
            same.
    """

    labels: Tensor
    other_inputs: Tensor | None

    def foreign(self, call: Mapping[str, Any], alignment: Alignment | None) -> Tensor | None:
        """Whether the labels are no labels of this call; 0-dim bool, or None where nothing speaks for it.

        A causal model's labels are its own tokens. Without a loss of the model's that tells how they were meant,
        others (a response beside its prompt, in rows that happen to be as long) are not believed.
        """
        ids, found = call.get("input_ids"), self.other_inputs
        if alignment == "causal" and isinstance(ids, Tensor) and ids.shape == self.labels.shape:
            wanted = ids.to(self.labels.device)
            other = ((self.labels != IGNORE) & (self.labels != wanted)).any()
            found = other if found is None else found | other.to(found.device)
        return found


def find_labels(call: Mapping[str, Any]) -> TakenLabels | None:
    """The labels of the batch that a running prediction step gave to a forward pass.

    Args:
        call: Arguments of the forward pass, by name.

    Returns:
        None outside a prediction step, where its batch has no labels of shape (rows, length), and where the pass was
        plainly given something else: a generated token, half a batch.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == _STEP:
            found = _from_step(frame, call)
            if found is not None:
                return found
        frame = frame.f_back
    return None


def _from_step(frame: FrameType, call: Mapping[str, Any]) -> TakenLabels | None:
    known = frame.f_locals
    batch = known.get("inputs")
    if not isinstance(batch, Mapping):
        return None
    # `compute_loss` pops from this very mapping; the Trainer and its descendants put the labels aside before.
    labels = next((item for item in (batch.get("labels"), known.get("labels")) if _is_labels(item)), None)
    name = next((name for name in _INPUTS if isinstance(call.get(name), Tensor)), None)
    if labels is None or name is None:
        return None
    given, own = call[name], batch.get(name)
    if not isinstance(own, Tensor) or given.shape != own.shape:
        return None
    if given is own or (given.data_ptr() == own.data_ptr() and given.device == own.device):
        return TakenLabels(labels, None)
    return TakenLabels(labels, (given != own.to(given.device)).any())


def _is_labels(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and not torch.is_floating_point(value)
