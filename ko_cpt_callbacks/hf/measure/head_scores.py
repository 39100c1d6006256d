"""Losses per token where the output has no logits: the last hidden states, times the output embedding.

Fused losses (Liger, Cut Cross Entropy, Unsloth, TRL's ``chunked_nll``) never make the logits. The decoder's output
passes through the model all the same; what the head makes of it is computed here, a bounded piece at a time. That
this is what the model itself would make of it (a scale, a soft cap) is checked once an evaluation, by a short
forward pass of the same model without labels.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ko_cpt_callbacks.hf.measure.model_output import ModelHook
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.model.structure import base_model, module_asked, text_config

__all__ = ["HeadScores", "HeadWatch", "HiddenStates", "LogitMap", "fitting_map"]

# Largest piece of the logits that is made at once, in float32. With the softmax of it three times as much is in use:
# a third of the 256 MB that an evaluation may take more (chosen, not measured).
_CHUNK_BYTES: Final = 32 * 2**20

# How far logits of the same hidden states may lie apart, root mean squares over how much they vary: rounding of one
# matrix product in another order; of its results in half precision: 0.12 % under a soft cap in bfloat16 on tiny models,
# 0 elsewhere (measured); the room above that is chosen.
_SAME: Final = 1e-5
_SAME_HALF: Final = 5e-3

# What configurations call a factor on the logits, and what they call a divisor.
_FACTORS: Final = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
_DIVISORS: Final = ("logits_scaling",)


@dataclass(frozen=True, slots=True)
class LogitMap:
    """What a model does to the product of hidden states and head.

    Attributes:
        scale: Factor on it.
        cap: Soft cap after that, ``cap * tanh(x / cap)``; None: none.
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, product: Tensor) -> Tensor:
        """Logits, in float32."""
        logits = product.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """The decoder's output of one forward pass, and the precision that it was made under."""

    states: Tensor
    autocast: torch.dtype | None

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """The same mixed precision, without gradients."""
        device = self.states.device.type
        with torch.no_grad(), torch.autocast(device, self.autocast, enabled=self.autocast is not None):
            yield


@dataclass(frozen=True, slots=True)
class HeadScores:
    """Losses of any targets under one forward pass.

    Attributes:
        hidden: Its hidden states; (rows, length, width).
        head: The output embedding.
        logit_map: What the model does to their product.
        verified: Whether the model's own logits were seen to be the same. Else its loss has to agree.
    """

    hidden: HiddenStates
    head: nn.Module
    logit_map: LogitMap
    verified: bool

    @property
    def length(self) -> int:
        """Positions of a row."""
        return self.hidden.states.shape[1]

    def nll(self, targets: Tensor) -> Tensor:
        """Loss of each target, 0 where nothing is scored; (rows, length), float32."""
        states = self.hidden.states
        wanted = targets.reshape(-1).to(states.device)
        places = (wanted != IGNORE).nonzero().squeeze(1)
        nll = torch.zeros(wanted.shape, dtype=torch.float32, device=states.device)
        flat = states.reshape(-1, states.shape[-1])
        step, largest = 1, int(wanted[places].max()) if len(places) else 0
        with self.hidden.precision():
            start = 0
            while start < len(places):
                part = places[start : start + step]
                logits = self.logit_map(self.head(flat[part]))
                if largest >= logits.shape[-1]:  # on a GPU that would end the process
                    raise ValueError(f"a label of {largest} lies beyond the {logits.shape[-1]} entries of the head")
                nll[part] = F.cross_entropy(logits, wanted[part].to(logits.device), reduction="none").to(nll.device)
                start += len(part)
                step = max(1, _CHUNK_BYTES // (4 * logits.shape[-1]))
                del logits
        return nll.view(targets.shape)


class _ScoresSeen(threading.local):
    """What one thread's forward pass showed: an evaluation may run beside a training."""

    def __init__(self) -> None:
        self.passes: list[HiddenStates] = []
        self.armed = False


class HeadWatch:
    """Holds the decoder's output from the moment it is made to the end of the forward pass.

    Args:
        model: The Trainer's model, adapters included.
        compiled: Whether its forward pass is compiled: then it is left whole, and there are no hidden states.
        on_error: Called with an exception in the hook; the pass then has no hidden states.
    """

    def __init__(self, model: nn.Module, *, compiled: bool, on_error: Callable[[Exception], None]) -> None:
        self.base: Any = base_model(model)
        self._here = _ScoresSeen()
        self._handle: RemovableHandle | None = None
        decoder = _decoder(self.base)
        if decoder is not None and not compiled and getattr(model, "_compiled_call_impl", None) is None:
            self._handle = decoder.register_forward_hook(ModelHook(self._see, 3, on_error))

    def arm(self) -> None:
        """An evaluation pass begins."""
        self._here.passes, self._here.armed = [], self._handle is not None

    def take(self) -> HiddenStates | None:
        """The pass is over: its hidden states; None where the decoder ran not at all, or more than once."""
        here = self._here
        passes, here.passes, here.armed = here.passes, [], False
        return passes[0] if len(passes) == 1 else None

    def head(self) -> nn.Module | None:
        """The output embedding; None where there is none, or its weights are spread over processes."""
        head = module_asked(self.base, "get_output_embeddings")
        return None if head is None or any(_is_spread(item) for item in head.parameters()) else head

    @property
    def spread(self) -> bool:
        """Whether weights of the model are spread over processes: a pass of ours would need all of them at once."""
        return any(_is_spread(item) for item in self.base.parameters())

    @property
    def device(self) -> torch.device:
        """Where the model's first weights are."""
        return next((item.device for item in self.base.parameters()), torch.device("cpu"))

    def remove(self) -> None:
        """Take the hook off the model."""
        self.take()
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _see(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._here.armed or torch.compiler.is_compiling():
            return
        states = output.get("last_hidden_state") if isinstance(output, Mapping) else None
        if states is None and isinstance(output, (tuple, list)) and output:
            states = output[0]
        if isinstance(states, Tensor) and states.dim() == 3:
            kind = states.device.type
            on = torch.is_autocast_enabled(kind)
            dtype = torch.get_autocast_dtype(kind) if on else None
            self._here.passes.append(HiddenStates(states.detach(), dtype))


def fitting_map(hidden: HiddenStates, head: nn.Module, logits: Tensor, base: nn.Module) -> LogitMap | None:
    """How ``logits`` came from ``hidden``, out of what the configuration may mean; None where nothing fits."""
    with hidden.precision():
        product = head(hidden.states)
    if product.shape != logits.shape:
        return None
    half = product.dtype in (torch.float16, torch.bfloat16) or hidden.autocast is not None
    wanted, best = logits.detach().float(), (_SAME_HALF if half else _SAME)
    varies, found = float(wanted.std()), None
    for candidate in _candidates(base):
        off = candidate(product) - wanted.to(product.device)
        apart = float(off.square().mean().sqrt()) / max(varies, 1e-30)
        if apart < best:
            best, found = apart, candidate
    return found


def _candidates(base: nn.Module) -> list[LogitMap]:
    config = text_config(base)

    def number(name: str) -> float | None:
        value = getattr(config, name, None)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value else None

    scales = [1.0, *(value for name in _FACTORS if (value := number(name)) is not None)]
    scales += [1.0 / value for name in _DIVISORS if (value := number(name)) is not None]
    width = number("d_model") or number("hidden_size")
    scales += [] if width is None else [width**-0.5]  # T5 and its kin, where embeddings are tied
    caps = [number("final_logit_softcapping"), None]
    return [LogitMap(scale, cap) for cap in dict.fromkeys(caps) for scale in dict.fromkeys(scales)]


def _decoder(base: nn.Module) -> nn.Module | None:
    """The model below the head."""
    for inner in (getattr(base, "base_model", None), getattr(base, "model", None), module_asked(base, "get_decoder")):
        if isinstance(inner, nn.Module) and inner is not base:
            return inner
    return None


def _is_spread(parameter: nn.Parameter) -> bool:
    """Whether a parameter is only a part of itself here (FSDP, ZeRO-3, tensor parallel)."""
    flat = type(parameter).__name__ == "FlatParameter" or parameter.numel() == 0
    return flat or hasattr(parameter, "ds_id") or hasattr(parameter, "placements")
