"""Reads the per-token losses that a model computes anyway, instead of computing them again.

Between the output embedding and the end of the forward pass a causal model computes its loss:
``log_softmax`` over the vocabulary, then ``nll_loss``. Doing that twice costs 20 to 35 % of an evaluation with a
256k vocabulary and a small body. So the first operation after the output embedding opens a window in which a
dispatch mode watches ``aten.nll_loss_forward`` and picks the target's entry out of its input: no number the
model computes changes, and the cost is one gather. Outside evaluation batches with labels nothing is opened.

Where the window sees nothing usable (a fused or compiled loss, half-precision log-probabilities), the caller
reduces the logits instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from ko_cpt_callbacks.hf.embedding_reading import module_asked


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """What one ``nll_loss`` call was given.

    Attributes:
        nll: Negative log-likelihood of every target, ignored ones included (then meaningless); (positions,).
        targets: The targets, with the ignore index where nothing is scored; (positions,).
    """

    nll: Tensor
    targets: Tensor


class _NllWatch(TorchDispatchMode):
    """Records every ``nll_loss`` while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[TokenLosses] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.nll_loss_forward.default:
            self._record(args)
        return result

    def _record(self, args: tuple[Any, ...]) -> None:
        log_probs, targets = args[0], args[1]
        weight = args[2] if len(args) > 2 else None
        # Only plain, unweighted, full-precision losses are the quantity that is measured here.
        if weight is not None or log_probs.dim() != 2 or log_probs.dtype not in (torch.float32, torch.float64):
            return
        picked = log_probs.gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
        self.seen.append(TokenLosses(nll=-picked, targets=targets))


class LossWindow:
    """Opens at the output embedding of an armed model, closes at the end of its forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._armed = False
        self._watch: _NllWatch | None = None
        self._handle: RemovableHandle | None = None
        head = module_asked(model, "get_output_embeddings")
        # A compiled forward would have to break its graph at this hook: leave it whole.
        if head is not None and getattr(model, "_compiled_call_impl", None) is None:
            self._handle = head.register_forward_hook(self._open)

    def arm(self) -> None:
        """The forward pass that begins now is an evaluation batch with labels."""
        self.close()
        self._armed = self._handle is not None

    def _open(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._armed and self._watch is None and not torch.compiler.is_compiling():
            self._watch = _NllWatch()
            self._watch.__enter__()

    def close(self) -> list[TokenLosses]:
        """End the window, whatever happened in between, and return what it saw."""
        watch, self._watch, self._armed = self._watch, None, False
        if watch is None:
            return []
        watch.__exit__(None, None, None)
        return watch.seen

    def remove(self) -> None:
        """Take the hook off the model."""
        self.close()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
