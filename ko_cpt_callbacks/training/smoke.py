"""A recipe tried out on what it says itself: its model by its own configuration, its tokenizer, its texts, all small.

First everything is asked that a training asks before its first step; then the first documents of each source, and a
model with random weights, are put beside the run, for `recipe.smoke`. After each stage of a smoke test it is looked
whether what the stage trains moved, and nothing else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError
from ko_cpt_callbacks.hf.model.trained_parts import held_rows
from ko_cpt_callbacks.recipe.family import NotCountedError, count_page
from ko_cpt_callbacks.recipe.memory import recipe_memory
from ko_cpt_callbacks.recipe.parameter_count import ParameterCount
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.recipe.smoke import (
    PROMPT_FIELD,
    TEXT_FIELD,
    OwnParts,
    for_this_machine,
    small_config,
    smoke_recipe,
)
from ko_cpt_callbacks.training.arguments import check_arguments, training_arguments
from ko_cpt_callbacks.training.data.recipe_data import RecipeTexts
from ko_cpt_callbacks.training.folder import RecipeFolder, whole_folder
from ko_cpt_callbacks.training.hub import load_pretrained, said
from ko_cpt_callbacks.training.model.config import KEY, place_of, read_base
from ko_cpt_callbacks.training.recipe import Recipe

# The first is what a few steps of a few stages need, and new tokens are learned from. All chosen, not measured.
_BYTES: Final = 65_536
_PIECE: Final = 500  # characters: of one long text there are several, and so some are held out
_LOOKED_AT: Final = 20_000  # documents

_MODEL: Final = "model"
_SHOWN: Final = 5  # tensors of an error


def own_smoke(file: RecipeFile, output: Path, device: str, *, resume: bool) -> tuple[RecipeFile, int | None]:
    """The recipe, small, on its own model and texts; they are made where they are not there yet.

    Args:
        file: The recipe.
        output: The run's folder. A smoke test that is there is replaced, unless it is to go on.
        device: ``cpu`` or ``cuda``.
        resume: Whether to go on.

    Returns:
        The recipe, and the bytes that the whole one is estimated to need of one GPU; None where they are not known.

    Raises:
        RecipeError: If the recipe cannot be used, as ``ko-cpt train`` would find; nothing was written.
        ConfigurationError: The same of its model and texts, and of the folder.
    """
    checked = for_this_machine(file, device)
    check_arguments(checked)
    for name in checked.recipe.stages:
        Recipe(checked).callback(name)
    folder = RecipeFolder(output, file.document.values)
    texts = RecipeTexts(file, folder.data, device)
    texts.check()
    first = next(iter(checked.recipe.stages.values())).arguments
    training_arguments({**first, "use_cpu": device == "cpu"}, output, file.recipe.seed)  # which set processes up
    processes = PartialState()
    folder.check_free()
    config = count = None
    if file.recipe.base.model is not None:
        with processes.main_process_first():
            page, config, count = read_base(file.recipe, file.path.parent)
        file = replace(file, recipe=page)
    needed = _needed(file.recipe, count)
    with processes.main_process_first():
        if processes.is_main_process:
            _make(file, folder, texts, config, resume=resume)
    names = {name: str(_text_file(folder.smoke.absolute(), name)) for name in file.recipe.data.sources}
    model = None if config is None else str(folder.smoke.absolute() / _MODEL)
    return smoke_recipe(file, device, OwnParts(model, names)), needed


def _make(file: RecipeFile, folder: RecipeFolder, texts: RecipeTexts, config: Any, *, resume: bool) -> None:
    if folder.is_smoke and not resume:
        shutil.rmtree(folder.path)
    if folder.started or folder.is_smoke:  # a run that is no smoke test is refused later
        return
    with whole_folder(folder.smoke) as part:
        for name in file.recipe.data.sources:
            _put_texts(texts, name, _text_file(part, name))
        if config is not None:
            _put_model(file, config, part / _MODEL)


def _text_file(folder: Path, source: str) -> Path:
    return folder / "text" / f"{source}.jsonl"


def _put_texts(texts: RecipeTexts, name: str, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for row in _pieces(texts, name):
            file.write(f"{json.dumps(row, ensure_ascii=False)}\n")
            size += len(row[TEXT_FIELD].encode())
            if size >= _BYTES:
                break
    if not size:
        raise ConfigurationError(
            f"source {name}: found no text that its filters keep in its first {_LOOKED_AT:,} documents, expected some; "
            "look at filters, or at what the source holds"
        )


def _pieces(texts: RecipeTexts, name: str) -> Iterator[dict[str, str]]:
    for document in texts.first_documents(name, _LOOKED_AT):
        if document.prompt:
            yield {PROMPT_FIELD: document.prompt[:_PIECE], TEXT_FIELD: document.text[:_PIECE]}
            continue
        for start in range(0, len(document.text), _PIECE):
            yield {TEXT_FIELD: document.text[start : start + _PIECE]}


def _put_model(file: RecipeFile, config: Any, path: Path) -> None:
    """The model's own kind with random weights, and its own tokenizer."""
    place, more = place_of(file.recipe.base, file.path.parent)
    tokenizer = load_pretrained(AutoTokenizer, place, KEY, **more)
    set_seed(file.recipe.seed)
    auto: Any = AutoModelForCausalLM
    try:
        model = auto.from_config(small(config), trust_remote_code=False)
    except Exception as error:  # a family that the rule does not know: whatever its classes raise
        raise ConfigurationError(
            f"--smoke: found a {config.model_type} of which no small model can be made ({said(error)}), expected a "
            "configuration that holds with fewer layers and narrower ones; try --smoke bundled"
        ) from error
    tokenizer.save_pretrained(str(path))
    model.save_pretrained(path)


def small(config: Any) -> Any:
    """A configuration of transformers, small; of the same class."""
    values = small_config(config.to_dict())
    values.pop("quantization_config", None)  # of the weights that the hub has
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _needed(page: Page, count: ParameterCount | None) -> int | None:
    try:
        return max(memory.bytes for memory in recipe_memory(page, count or count_page(page)))
    except NotCountedError:
        return None


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
