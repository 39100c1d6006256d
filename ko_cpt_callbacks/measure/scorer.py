"""Loss of every token of a text under a model, as the callback's meter takes it from one forward pass.

A document that is longer than the window is cut so that every token is scored once, with text before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.measure.evidence import Absent, read_evidence
from ko_cpt_callbacks.hf.measure.hooks import virtual_tokens
from ko_cpt_callbacks.hf.measure.model_output import ForwardOutput
from ko_cpt_callbacks.hf.measure.nll_capture import IGNORE
from ko_cpt_callbacks.hf.model.structure import text_config
from ko_cpt_callbacks.measure.model import LoadedModel
from ko_cpt_callbacks.training.hub import said

__all__ = ["TokenWindow", "WindowScorer", "batch_tokens", "token_windows"]

@dataclass(frozen=True, slots=True)
class TokenWindow:
    """One forward pass over a part of a document.

    Attributes:
        start: Index of its first token in the document.
        scored: Index of the first token that is scored; those before it are context.
        end: Index behind its last token.
    """

    start: int
    scored: int
    end: int


def token_windows(tokens: int, room: int, context: int) -> Iterator[TokenWindow]:
    """The windows of a document: each token is scored in exactly one, with at least ``context`` tokens before it.

    The first window scores all it holds. A later one reaches back as far as it has room for.

    Args:
        tokens: Tokens of the document.
        room: Tokens that a window holds, without the one that stands in front of a text.
        context: Tokens of text before the first scored one of a later window; 1 or more, less than ``room``.

    >>> [(one.start, one.scored, one.end) for one in token_windows(10, 6, 3)]
    [(0, 0, 6), (3, 6, 9), (4, 9, 10)]
    """
    scored = 0
    while scored < tokens:
        end = min(tokens, scored + (room - context if scored else room))
        yield TokenWindow(max(0, end - room), scored, end)
        scored = end


# Share of the memory that is free for the logits of one batch, and bytes of a logit there: the half-precision one, its
# float32 copy and the softmax. On a CPU no allocation fails in time, so that the logits have a fixed size there.
# Chosen, not measured; too much is halved as soon as it does not fit.
_FREE_SHARE: Final = 0.5
_BYTES_PER_LOGIT: Final = 10
_CPU_LOGIT_BYTES: Final = 1 << 30
_NO_MEMORY: Final = "can't allocate memory"


def batch_tokens(model: Any, device: torch.device) -> int:
    """How many tokens a batch begins with: as many as have room for their logits."""
    vocabulary = getattr(text_config(model), "vocab_size", None) or 1
    room = _CPU_LOGIT_BYTES
    if device.type == "cuda":
        room = int(torch.cuda.mem_get_info(device)[0] * _FREE_SHARE)
    return max(1, room // (_BYTES_PER_LOGIT * int(vocabulary)))


class WindowScorer:
    """Scores documents, long ones window by window.

    Args:
        loaded: The model.
        window: Tokens of a window, the one in front included.
        context: Tokens of text before the first scored one of a later window.
        tokens: Tokens of a batch, padding included; None: as many as the rows have.
        rows: Windows of a batch at most; None: as many as the tokens are. A batch has one at least.
    """

    def __init__(
        self, loaded: LoadedModel, window: int, context: int, tokens: int | None = None, rows: int | None = None
    ) -> None:
        self._model, self._device, self._prefix = loaded.model, loaded.device, loaded.prefix
        self._window, self._context, self._rows = window, context, rows
        self.tokens = tokens or window * (rows or 1)
        self._virtual = virtual_tokens(loaded.model)

    def score(self, texts: Sequence[Sequence[int]]) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The place of each document with the loss of its tokens, nats; that of one that nothing stands before is NaN.

        Long documents come first: where a batch does not fit into memory, that shows at once.

        Args:
            texts: Token ids of the documents, without what stands in front of a text.

        Raises:
            ConfigurationError: If one window does not fit into memory, or the model gives no exact loss.
        """
        room = self._window - (self._prefix is not None)
        waiting = [
            (place, window)
            for place in sorted(range(len(texts)), key=lambda one: -len(texts[one]))
            for window in token_windows(len(texts[place]), room, self._context)
        ]
        losses: dict[int, NDArray[np.float64]] = {}
        yield from ((place, np.zeros(0)) for place, ids in enumerate(texts) if not ids)
        at = 0
        while at < len(waiting):
            longest = max(1, waiting[at][1].end - waiting[at][1].start)
            # A window is never longer than those before it, but for the last of a long document, which fills up.
            most = max(1, self.tokens // longest)
            batch = waiting[at : at + (most if self._rows is None else min(most, self._rows))]
            try:
                scored = self._scored([(texts[place], window) for place, window in batch])
            except ConfigurationError:
                raise
            except Exception as error:  # of models and kernels, each of its own class
                if not isinstance(error, torch.OutOfMemoryError) and _NO_MEMORY not in str(error):
                    raise ConfigurationError(
                        f"MODEL: found {type(self._model).__name__} that fails on windows of {self._window} tokens "
                        f"({type(error).__name__}: {said(error)}), expected logits; try a smaller --window, or another "
                        "--device or --dtype"
                    ) from error
                self._halve(len(batch), error)
                continue
            for (place, window), nll in zip(batch, scored, strict=True):
                whole = losses.setdefault(place, np.full(len(texts[place]), np.nan))
                whole[window.scored : window.end] = nll
                if window.end == len(whole):
                    yield place, losses.pop(place)
            at += len(batch)

    def _halve(self, rows: int, error: Exception) -> None:
        if rows == 1:
            raise ConfigurationError(
                f"memory: found no room for one window of {self._window} tokens on {self._device}, expected room for "
                "one; give --window 512, --quantization 8-bit or --dtype bfloat16"
            ) from error
        self.tokens = max(1, self.tokens // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _scored(self, batch: Sequence[tuple[Sequence[int], TokenWindow]]) -> list[NDArray[np.float64]]:
        """The losses of what each window scores."""
        front = [] if self._prefix is None else [self._prefix]
        rows = [torch.tensor([*front, *ids[window.start : window.end]]) for ids, window in batch]
        firsts = [len(front) + window.scored - window.start for _, window in batch]
        both = list(zip(rows, firsts, strict=True))
        targets = [torch.cat([torch.full((first,), IGNORE), row[first:]]) for row, first in both]
        nll = self._losses(
            pad_sequence(rows, batch_first=True),
            pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
            pad_sequence(targets, batch_first=True, padding_value=IGNORE),
        )
        found = []
        for losses, (row, first) in zip(nll.to("cpu", torch.float64).numpy(), both, strict=True):
            part = losses[first : len(row)]
            part = np.where(np.isnan(part), np.inf, part)  # no number is no loss of any token; NaN here: not scored
            if not first and not self._virtual:
                part[:1] = np.nan  # nothing stands before it
            found.append(part)
        return found

    def _losses(self, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        call = {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}
        with torch.no_grad():
            output = ForwardOutput.of(self._model(**call, use_cache=False))
            evidence = read_evidence(
                {**call, "labels": labels.to(self._device)}, output, (), "causal", virtual_tokens=self._virtual
            )
        if isinstance(evidence, Absent) or evidence.nll is None:
            reason = evidence.reason if isinstance(evidence, Absent) else "only the loss of a batch is known"
            raise ConfigurationError(f"MODEL: found no exact loss ({reason}), expected logits of every token")
        if evidence.mismatch is not None and bool(evidence.mismatch):
            raise ConfigurationError(
                "MODEL: found tokens beyond the model's vocabulary, expected the tokenizer that it was trained with"
            )
        return evidence.nll
