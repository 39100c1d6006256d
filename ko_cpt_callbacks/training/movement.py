"""Whether a stage moved what it trains and left everything else bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.hf.row_hold import held_rows

_SHOWN: Final = 5


class WrongMovementError(KoCPTError):
    """A tensor that must not move moved, or one that is trained did not."""


class Movement:
    """The numbers of a model before a stage; a copy of all of them.

    Args:
        model: Ready to be trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = {name: tensor.detach().clone() for name, tensor in _tensors(model)}

    def check(self, stage: str) -> str:
        """Compare with what the model is now.

        Args:
            stage: For the message.

        Returns:
            A sentence with the counts.

        Raises:
            WrongMovementError: If something moved or stayed that must not.
        """
        wrong: list[str] = []
        moved = still = 0
        for name, now in _tensors(self._model):
            before = self._before[name]
            trained = isinstance(now, nn.Parameter) and now.requires_grad
            held = held_rows(now) or 0 if isinstance(now, nn.Parameter) else 0
            if not trained:
                still += 1
                if not _same(before, now):
                    wrong.append(f"{name} moved")
                continue
            moved += 1
            if held and not _same(before[:held], now[:held]):
                wrong.append(f"{name}: rows before {held} moved")
            if _same(before[held:], now[held:]):
                wrong.append(f"{name} did not move")
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise WrongMovementError(f"stage {stage}: {'; '.join(wrong[:_SHOWN])}{more}")
        return f"  {stage}: {moved} trained tensors moved, {still} others are bit for bit as before"


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _same(one: Tensor, other: Any) -> bool:
    now = other.detach().to(one.device)
    # Bits are compared, not numbers: NaN is not equal to itself.
    return one.shape == now.shape and torch.equal(_bits(one), _bits(now))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor.reshape(1).view(torch.uint8)
