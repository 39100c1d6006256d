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

import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import __file__ as module_file
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)
from torch.utils.hooks import RemovableHandle

from ko_cpt_callbacks.hf.measure.model_output import ModelHook
from ko_cpt_callbacks.hf.measure.model_output import __file__ as hook_file
from ko_cpt_callbacks.hf.model.structure import module_asked

IGNORE: Final = -100
"""The label of a position where nothing is scored."""

# Rows of a batch whose first target is scored from the output's logits too, and how far the two may lie apart: rounding
# of one softmax (chosen, not measured).
_COMPARED: Final = 4
_SAME: Final = 1e-4


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

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        super().__init__()
        self.seen: list[TokenLosses] = []
        self._on_error = on_error

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.nll_loss_forward.default:
            try:
                self._record(args)
            except Exception as error:  # the model's loss is the model's; the logits are reduced instead
                self.seen.clear()
                self._on_error(error)
        return result

    def _record(self, args: tuple[Any, ...]) -> None:
        log_probs, targets = args[0], args[1]
        weight = args[2] if len(args) > 2 else None
        # Only plain, unweighted, full-precision losses are the quantity that is measured here.
        if weight is not None or log_probs.dim() != 2 or log_probs.dtype not in (torch.float32, torch.float64):
            return
        ignored = args[4] if len(args) > 4 else IGNORE
        # A loss that leaves other labels out, or labels beyond the vocabulary, must not be read out of bounds.
        inside = targets.clamp(min=0, max=log_probs.shape[1] - 1)
        picked = log_probs.gather(1, inside.unsqueeze(1)).squeeze(1)
        if ignored != IGNORE:
            targets = targets.masked_fill(targets == ignored, IGNORE)
        self.seen.append(TokenLosses(nll=-picked, targets=targets))


def watched_nll(
    watched: Sequence[TokenLosses], targets: Tensor, logits: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """Losses the model computed against targets, (rows, length), and whether they are in fact others; 0-dim bool.

    None where it computed several: a head on an earlier layer (early exits, deep supervision) or for later tokens is
    scored like the last one, and nothing tells which is the model's.

    Args:
        watched: What the window saw.
        targets: What the logits at every position predict; (rows, length).
        logits: The output's, which a loss may scale or change before it scores them; None: there are none.
    """
    rows, length = targets.shape
    # Some losses drop the last position instead of ignoring it: (length - 1) entries a row.
    fitting = [
        (losses, width)
        for losses in watched
        if (width := losses.targets.numel() // max(rows, 1)) in (length, length - 1)
        and width > 0
        and losses.targets.numel() == rows * width
    ]
    if len(fitting) != 1:
        return None
    losses, width = fitting[0]
    wanted = targets[:, :width].to(losses.targets.device)
    others = (losses.targets.view(rows, width) != wanted).any()
    nll = losses.nll.view(rows, width)
    if logits is not None and logits.shape[:2] == targets.shape:
        others = others | _from_others(nll, wanted, logits[:, :width]).to(others.device)
    return F.pad(nll, (0, length - width)), others


def _from_others(nll: Tensor, targets: Tensor, logits: Tensor) -> Tensor:
    """Whether losses are not those of these logits, by the first target of the first rows; 0-dim bool."""
    rows = torch.arange(min(len(targets), _COMPARED), device=targets.device)
    at = (targets[rows] != IGNORE).int().argmax(1)
    wanted, there = targets[rows, at], nll[rows, at]
    scores = logits[rows.to(logits.device), at.to(logits.device)].to(there.device)
    inside = (wanted >= 0) & (wanted < scores.shape[-1])
    own = F.cross_entropy(scores.float(), wanted.masked_fill(~inside, IGNORE), ignore_index=IGNORE, reduction="none")
    limit = _SAME * (1 + own)
    if scores.element_size() < 4:  # an output in half precision may be a rounded copy of what was scored
        limit = limit + 2 * torch.finfo(scores.dtype).eps * torch.linalg.vector_norm(scores, torch.inf, 1).float()
    # What is no number differs from nothing: such a batch is counted as broken.
    return (((own - there).abs() > limit) & inside).any()


class _ForwardEnd:
    """Lives as long as the frame of a forward pass, and ends the window with it.

    Ctrl-C leaves a forward pass without any hook being called. The frame that computes the loss holds this object as
    its trace function, which Python calls for no one that does not trace; when the frame goes, so does the window.
    """

    def __init__(self, window: LossWindow) -> None:
        self._window = weakref.ref(window)
        self._thread = threading.get_ident()

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        """Trace nothing."""

    def __del__(self) -> None:
        window = self._window()
        if window is None or threading.get_ident() != self._thread:
            return
        try:
            window.end(self)
        except Exception as error:  # Python drops what is raised here; `close` takes the window off
            window.on_error(error)


class _Open(threading.local):
    """The window of one thread: an evaluation may run beside a training."""

    armed = False
    watch: _NllWatch | None = None
    until: int | None = None


class LossWindow:
    """Opens at the output embedding of an armed model, closes at the end of its forward pass."""

    def __init__(self, model: nn.Module, on_error: Callable[[Exception], None]) -> None:
        self._here = _Open()
        self.on_error = on_error
        self._handle: RemovableHandle | None = None
        head = module_asked(model, "get_output_embeddings")
        # A compiled forward would have to break its graph at this hook: leave it whole.
        if head is not None and getattr(model, "_compiled_call_impl", None) is None:
            self._handle = head.register_forward_hook(ModelHook(self._open, 3, on_error))

    def arm(self) -> None:
        """The forward pass that begins now is an evaluation batch with labels."""
        self.close()
        self._here.armed = self._handle is not None

    def _open(self, module: nn.Module, args: Any, output: Any) -> None:
        here = self._here
        if not here.armed or here.watch is not None or torch.compiler.is_compiling():
            return
        try:
            watch = _NllWatch(self.on_error)
            end = _hold(self)
            here.until = None if end is None else id(end)
            watch.__enter__()
            here.watch = watch
        except Exception as error:  # the logits are reduced instead
            self.close()
            self.on_error(error)

    def close(self) -> list[TokenLosses]:
        """End this thread's window, whatever happened in between, and return what it saw."""
        here = self._here
        watch, here.watch, here.armed, here.until = here.watch, None, False, None
        if watch is None:
            return []
        _take_off(watch)
        return watch.seen

    def end(self, end: _ForwardEnd) -> None:
        """The frame of ``end`` is gone: nothing more is seen, whether or not a hook comes to fetch what was."""
        here = self._here
        if here.watch is not None and here.until == id(end):
            _take_off(here.watch)

    def remove(self) -> None:
        """Take the hook off the model."""
        self.close()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def _hold(window: LossWindow) -> _ForwardEnd | None:
    """Something that goes when the forward pass at work does; None where its frame is not free to hold it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename in (__file__, hook_file, module_file):
        frame = frame.f_back
    if frame is None or frame.f_trace is not None:
        return None
    end = _ForwardEnd(window)
    frame.f_trace = end
    return end


def _take_off(watch: _NllWatch) -> None:
    """Take one mode off this thread's stack, wherever it lies; others stay, in their order."""
    stack = _get_current_dispatch_mode_stack()
    if not any(mode is watch for mode in stack):
        return
    above: list[Any] = []
    while _get_current_dispatch_mode() is not watch:
        above.append(_pop_mode())
    watch.__exit__(None, None, None)
    for mode in reversed(above):
        _push_mode(mode)
