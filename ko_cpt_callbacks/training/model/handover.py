"""Weights from one stage to the next, over the disk: a run that goes on after a kill takes the same way.

``model/`` of a stage holds what it ended with. Where an adapter is on the model and goes on in the next stage, or the
body is quantised, that is the adapter with what was trained whole beside it; otherwise the whole model, an adapter that
ends merged into it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from peft import PeftModel
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import Trainer

from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.hf.model.trained_parts import held_rows
from ko_cpt_callbacks.recipe.schema import Page, stage_adapter
from ko_cpt_callbacks.training.folder import ADAPTER, MODEL, RecipeFolder, part_of, put_folder, whole_folder
from ko_cpt_callbacks.training.launch import Processes
from ko_cpt_callbacks.training.model.base import BaseModel, load_model
from ko_cpt_callbacks.training.model.lora import merged
from ko_cpt_callbacks.training.model.stage import prepare_stage

_SHOWN: Final = 5


class WrongChangeError(KoCPTError):
    """A tensor that must not move moved, or one that is trained did not, or became a number that is none."""


class WeightChange:
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
            WrongChangeError: If something moved or stayed that must not, or is not finite.
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
            elif not torch.isfinite(now).all():
                wrong.append(f"{name} is not finite any more")
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise WrongChangeError(f"stage {stage}: {'; '.join(wrong[:_SHOWN])}{more}")
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


class Weights:
    """The weights of a run's stages.

    Args:
        page: The recipe.
        folder: The run's.
        base: What the first stage starts from.
        processes: Those of the run.
    """

    def __init__(self, page: Page, folder: RecipeFolder, base: BaseModel, processes: Processes) -> None:
        self._page = page
        self._folder = folder
        self._base = base
        self._processes = processes
        self._names = tuple(page.stages)

    def model_for(self, name: str) -> Any:
        """The model that a stage trains: as the stage before left it, with a gradient on what this one trains."""
        return self._model(name, self._processes.device)

    def save(self, trainer: Trainer, name: str) -> None:
        """Keep what a stage ended with; every process must call it."""
        home = self._folder.stage(name)
        adapted = stage_adapter(self._page, name) is not None
        ends = adapted and self._page.base.quantization == "none" and not self._goes_on(name)
        target = home / ADAPTER if ends else home / MODEL
        part = part_of(target)
        with self._processes.first_alone() as first:
            if first:
                shutil.rmtree(part, ignore_errors=True)  # what a kill left half-filled
        trainer.save_model(str(part))  # on all processes: each may hold a part of the weights
        with self._processes.first_alone() as first:
            if first:
                put_folder(part, target)
                if ends:
                    self._save_merged(name)

    def _model(self, name: str, device: str, adapter: Path | None = None) -> Any:
        wanted = stage_adapter(self._page, name)
        start = name if wanted is None else wanted.stages[0]
        before = self._before(start)
        path, more = self._base.place if before is None else (str(self._folder.stage(before) / MODEL), {})
        model = prepare_stage(load_model(path, self._page.base, device, **more), self._page, name)
        if adapter is None and start != name:
            previous = self._before(name)
            assert previous is not None
            adapter = self._folder.stage(previous) / MODEL
        if adapter is not None:
            set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
        return model

    def _save_merged(self, name: str) -> None:
        """The whole model: its adapter ends with this stage. On the CPU, where there is more memory."""
        home = self._folder.stage(name)
        model = self._model(name, "cpu", adapter=home / ADAPTER)
        assert isinstance(model, PeftModel)
        with whole_folder(home / MODEL) as part:
            merged(model).save_pretrained(str(part))
            self._base.tokenizer().save_pretrained(str(part))

    def _before(self, name: str) -> str | None:
        place = self._names.index(name)
        return self._names[place - 1] if place else None

    def _goes_on(self, name: str) -> bool:
        """Whether the next stage trains on with this stage's adapter."""
        adapter = stage_adapter(self._page, name)
        return adapter is not None and name != adapter.stages[-1]
