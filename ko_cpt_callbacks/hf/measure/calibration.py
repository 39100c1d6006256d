"""What a model's output means where it has no logits: asked of the model itself, once an evaluation, by a short text.

A loss alone may hold a router's auxiliary loss, be a plain mean whatever the count in the call says, be scaled, or
leave targets out. So it is believed only after a short forward pass whose logits give the same number.

And a causal model's loss is one only where no token was seen before it was predicted. What a configuration says of that
is not all: a class of the user's own, or attention that was changed after the model was made, may see later tokens too.
Such a model is asked once an evaluation, by two texts that differ in their later tokens; others get no pass of ours.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ko_cpt_callbacks.hf.measure.head_scores import HeadScores, HeadWatch, HiddenStates, LogitMap, fitting_map
from ko_cpt_callbacks.hf.measure.model_output import Alignment, ForwardOutput, loss_rounding, router_loss
from ko_cpt_callbacks.hf.model.facts import quantization

__all__ = ["Calibration", "LossReading", "NoLogitsError", "sees_later"]

# Tokens of the short text: enough that a mean, a sum and a share of it differ in every digit that counts; their
# logits stay small next to a batch's (chosen, not measured).
_TOKENS: Final = 16

_NO_LOGITS: Final = "the output has no logits"

# How far logits may move where later tokens changed, root mean squares over how much they vary. Measured on tiny
# models: 0 in float32, bfloat16 and 4-bit; up to 0.015 in 8-bit, whose outliers are sought in all tokens at once; 0.007
# and more of an encoder with random weights. The room between is chosen.
_UNMOVED: Final = 1e-3
_UNMOVED_8_BIT: Final = 0.05

# Families whose causal class was seen to see later tokens with nothing in its configuration that says so, among tiny
# models of all classes in transformers 4.57 and 5 (Doge: 4.57 alone).
_UNSURE: Final = frozenset({"doge", "prophetnet", "xlm-prophetnet"})


class NoLogitsError(Exception):
    """A model gives no logits of every token."""


@dataclass(frozen=True, slots=True)
class LossReading:
    """What a model's loss is made of.

    Attributes:
        without_router: Whether the router's auxiliary loss is in it and has to be taken out.
        counted: Whether it was divided by ``num_items_in_batch``; else by its own targets.
    """

    without_router: bool = False
    counted: bool = True


class Calibration:
    """Reads outputs without logits."""

    def __init__(
        self,
        model: nn.Module,
        watch: HeadWatch,
        alignment: Alignment | None,
        quietly: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self._model, self._watch, self._alignment, self._quietly = model, watch, alignment, quietly
        self.renew()

    def renew(self) -> None:
        """An evaluation begins: what held before the weights changed (a scale that is learned) is asked again."""
        self._map: tuple[LogitMap | None, bool] | None = None
        self._reading: LossReading | str | None = None
        self._ahead: bool | None = None

    def scores(self, call: Mapping[str, Any], hidden: HiddenStates | None) -> HeadScores | str:
        """Losses per token from one pass's hidden states, or why there are none."""
        head = self._watch.head()
        if hidden is None or head is None:
            return f"{_NO_LOGITS}, and no hidden states or head to make them from"
        self._map = self._map or self._ask_map(call, head)
        logit_map, verified = self._map
        if logit_map is None:
            return f"{_NO_LOGITS}, and hidden states times head are not what the model makes of them"
        return HeadScores(hidden, head, logit_map, verified)

    def loss_reading(self, call: Mapping[str, Any]) -> LossReading | str:
        """What the model's loss is made of, or why it is not believed."""
        if self._reading is None and self._watch.spread:
            self._reading = f"{_NO_LOGITS}, and weights that are spread over processes leave its loss unchecked"
        elif self._reading is None:
            try:
                self._reading = self._ask_loss(call)
            except Exception as error:  # a call that this model does not take says nothing of the run
                self._reading = f"{_NO_LOGITS}, and its loss could not be checked ({type(error).__name__})"
        return self._reading

    def reads_ahead(self, *, compiled: bool) -> bool:
        """Whether a causal model was seen to see the tokens that it predicts; False where it could not be asked.

        Args:
            compiled: Whether the forward pass is compiled, which a short text would have done again.
        """
        if self._ahead is None:
            self._ahead = False
            if not compiled and not self._watch.spread and not _known_causal(self._watch.base):
                with contextlib.suppress(Exception):  # a model that wants more than tokens
                    self._ahead = bool(sees_later(self._later_logits, self._watch.base))
        return self._ahead

    def _later_logits(self, ids: Tensor) -> Tensor | None:
        return self._logits({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[0]

    def _ask_map(self, call: Mapping[str, Any], head: nn.Module) -> tuple[LogitMap | None, bool]:
        """The map, and whether the model's own logits showed it."""
        try:
            text = None if self._watch.spread else self._text(call)
            logits, hidden = (None, None) if text is None else self._logits(text)
        except Exception:  # a model that wants more than tokens: its loss has to agree instead
            logits, hidden = None, None
        if logits is None or hidden is None:
            return LogitMap(), False
        # Virtual tokens stand in front of both.
        return fitting_map(hidden, head, logits, self._watch.base), True

    def _ask_loss(self, call: Mapping[str, Any]) -> LossReading | str:
        text = self._text(call)
        if text is None or self._alignment not in ("causal", "masked"):
            return f"{_NO_LOGITS}, and nothing to check its loss with"
        logits, _ = self._logits(text)
        if logits is None or logits.shape[:2] != text["input_ids"].shape:
            return f"{_NO_LOGITS}, also without labels, so its loss cannot be checked"
        ahead = 1 if self._alignment == "causal" else 0
        targets = text["input_ids"][:, ahead:]
        count = targets.numel()
        scored = logits[:, : logits.shape[1] - ahead].double()
        total = float(F.cross_entropy(scored.flatten(0, 1), targets.flatten().to(scored.device), reduction="sum"))
        counted = call.get("num_items_in_batch") is not None
        once, twice = (self._losses(text, call, count * times if counted else None) for times in (1, 2))
        best, found = loss_rounding(logits.dtype), None
        for reading in (LossReading(aux, counts) for aux in (False, True) for counts in (True, False)):
            first, other = once[reading.without_router], twice[reading.without_router]
            if first is None or other is None:
                continue
            second = count * 2 if counted and reading.counted else count
            apart = max(abs(first * count / total - 1), abs(other * second / total - 1))
            if apart < best:
                best, found = apart, reading
        if found is None:
            return (
                f"{_NO_LOGITS}, and the loss is not the cross-entropy of the labels: "
                f"{once[False]:.4g} for {total / count:.4g} on {count} tokens"
            )
        return found

    def _losses(
        self, text: dict[str, Tensor], call: Mapping[str, Any], count: int | None
    ) -> tuple[float, float | None]:
        """The loss of the text under a count, and the same without the router's part."""
        # A batch's switches (TRL's fused_lm_head, Liger's skip_logits) decide which loss it is.
        switches = {name: value for name, value in call.items() if value is None or isinstance(value, (bool, str))}
        asked: dict[str, Any] = {**switches, **text, "labels": text["input_ids"]}
        if count is not None:
            given = call["num_items_in_batch"]
            asked["num_items_in_batch"] = torch.full_like(given, count) if isinstance(given, Tensor) else count
        output = ForwardOutput.of(self._run(asked)[0])
        if output.scalar_loss is None:
            raise ValueError("no loss")
        loss, router = float(output.scalar_loss), router_loss(output, self._watch.base)
        return loss, None if router is None else loss - float(router)

    def _logits(self, text: dict[str, Tensor]) -> tuple[Tensor | None, HiddenStates | None]:
        # With a cache some models do not tell documents by their positions.
        without = {"use_cache": False} if _takes_use_cache(self._watch.base) else {}
        output, hidden = self._run({**text, **without})
        logits = ForwardOutput.of(output).logits
        return (logits if logits is not None and logits.dim() == 3 else None), hidden

    def _run(self, call: Mapping[str, Any]) -> tuple[Any, HiddenStates | None]:
        def run() -> tuple[Any, HiddenStates | None]:
            self._watch.arm()
            device = self._watch.device
            try:
                # A model may draw random numbers in evaluation too: the run gets the same ones without us.
                with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
                    return self._model(**call), self._watch.take()
            finally:
                self._watch.take()

        found: tuple[Any, HiddenStates | None] = self._quietly(run)
        return found

    def _text(self, call: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """A call with the first tokens of the first row; with those around a start, where it has several documents."""
        ids, mask, positions = (call.get(name) for name in ("input_ids", "attention_mask", "position_ids"))
        if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.shape[1] < 2 or self._alignment == "seq2seq":
            return None
        begin = 0
        if isinstance(mask, Tensor) and mask.shape == ids.shape:
            begin = int(mask[0].ne(0).int().argmax())
        packed = positions if isinstance(positions, Tensor) and positions.shape == ids.shape else None
        if packed is not None and len(starts := (packed[0, 1:] == 0).nonzero()):
            begin = max(0, int(starts[0]) + 1 - _TOKENS // 2)
        begin = min(begin, max(0, ids.shape[1] - _TOKENS))
        part = slice(begin, begin + _TOKENS)
        text = ids[:1, part]
        if packed is not None:  # with positions there is often no mask: documents are known by their starts
            return {"input_ids": text, "position_ids": packed[:1, part]}
        return {"input_ids": text, "attention_mask": torch.ones_like(text)}


def _takes_use_cache(base: nn.Module) -> bool:
    """Whether ``use_cache`` is an argument of the model, also where its forward pass was replaced by another."""
    given = inspect.signature(base.forward).parameters
    passes_on = any(item.kind is item.VAR_KEYWORD for item in given.values())
    return "use_cache" in given or (passes_on and "use_cache" in inspect.signature(type(base).forward).parameters)


def sees_later(logits_of: Callable[[Tensor], Tensor | None], base: nn.Module) -> bool | None:
    """Whether a model's logits depend on later tokens, by two short texts; None where they are no numbers.

    Args:
        logits_of: Logits of token ids, (1, length) to (1, length or more, vocabulary): virtual tokens stand in front.
        base: The model, without adapters around it.

    Raises:
        NoLogitsError: If the model gives no logits of every token.
    """
    embedding: Any = getattr(base, "get_input_embeddings", lambda: None)()
    weight: Any = getattr(embedding, "weight", None)
    rows = getattr(embedding, "num_embeddings", None) or 2
    ids = (torch.arange(_TOKENS, device=getattr(weight, "device", None))[None] * 7 + 3) % rows
    other, kept = ids.clone(), _TOKENS // 2
    other[0, kept:] = (ids[0, kept:] + 1) % rows
    first, second = logits_of(ids), logits_of(other)
    if first is None or second is None or first.dim() != 3 or first.shape[1] < _TOKENS:
        raise NoLogitsError
    first, second = first[:, -_TOKENS:].float(), second[:, -_TOKENS:].float()
    moved = (first[0, :kept] - second[0, :kept]).square().mean().sqrt()
    limit = _UNMOVED_8_BIT if quantization(base) == "8-bit" else _UNMOVED
    return None if bool(moved.isnan()) else bool(moved > limit * first.std())


def _known_causal(base: nn.Module) -> bool:
    """Whether a model is as transformers made it, its attention included, and sees no later tokens there."""
    if not type(base).__module__.startswith("transformers.models."):
        return False
    family = getattr(getattr(base, "config", None), "model_type", None)
    return family not in _UNSURE and all(getattr(item, "is_causal", True) is not False for item in base.modules())
