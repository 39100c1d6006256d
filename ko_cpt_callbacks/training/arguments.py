"""A recipe's ``arguments`` as TrainingArguments: taken by the installed class, and fit for the way it was started.

Names, kinds and ranges were checked when the recipe was read; here the class itself has the last word, and how many
processes and GPUs there are, before anything is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.arguments import INSTALLED, name_mistakes
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.yaml.mistake import Key, shown
from ko_cpt_callbacks.yaml.reading import KeyMistake

Make: TypeAlias = Callable[[Mapping[str, Any]], Any]
"""An object of a class, of a recipe's arguments."""

# OSError: a configuration's file that is not there. The others: values that the class looks into.
_REFUSED: Final = (TypeError, ValueError, ImportError, AttributeError, LookupError, OSError, NotImplementedError)
_PRECISION: Final = "ACCELERATE_MIXED_PRECISION"
_LAUNCHED: Final = os.environ.get(_PRECISION)  # as accelerate's launcher set it
_NEED_A_GPU: Final = ("bf16", "bf16_full_eval")
_ON_CPU: Final = "use_cpu"
_RUN_ON_CPU: Final = "ko-cpt train --device cpu"
_UNUSABLE: Final = "arguments that cannot be used"
_MAKE_ON_CPU: Final = f"{_ON_CPU}=True given to training_arguments"
_DDP: Final = "recipes/accelerate/ddp.yaml"


def check_arguments(file: RecipeFile) -> None:
    """Every name is an argument of the installed transformers, and together they can be used.

    Raises:
        RecipeError: If not; all mistakes of all stages together.
    """

    def make(given: Mapping[str, Any]) -> TrainingArguments:
        return training_arguments(given, Path("unused"), file.recipe.seed)

    known = _names(TrainingArguments)
    told: list[KeyMistake] = []
    for key, given in _all(file.recipe):
        wrong = list(name_mistakes(key, given, known))
        told += wrong
        # With a name that there is not, the class would refuse the others too.
        if not wrong and (reason := _reason(make, given)) is not None:
            told.append(_refused(key, given, make, reason, INSTALLED, _RUN_ON_CPU))
    if told:
        raise file.error(told)


def stage_arguments(
    file: RecipeFile, stage: str, output_dir: str | Path, arguments_class: type[Any], more: Mapping[str, Any]
) -> Any:
    """The arguments of a stage, unchanged, as an object of a class.

    Args:
        file: The recipe.
        stage: The stage's name.
        output_dir: The stage's folder.
        arguments_class: ``TrainingArguments``, or a class made from it.
        more: Further arguments, or other values.

    Raises:
        RecipeError: If the class does not take them, or not the names of another stage's; all of these together.
    """
    where = INSTALLED if arguments_class is TrainingArguments else f"the installed {arguments_class.__name__}"
    known = _names(arguments_class)
    wrong = [mistake for key, given in _all(file.recipe) for mistake in name_mistakes(key, given, known, where)]
    if wrong:
        raise file.error(wrong)
    key, given = ("stages", stage, "arguments"), file.recipe.stages[stage].arguments
    ours = {name: value for name, value in given.items() if name not in more}

    def make(own: Mapping[str, Any]) -> Any:
        return arguments_class(output_dir=str(output_dir), **{"seed": file.recipe.seed, **own, **more})

    try:
        return make(ours)
    except _REFUSED as error:
        raise file.error([_refused(key, ours, make, _said(error), where, _MAKE_ON_CPU)]) from error


def training_arguments(arguments: Mapping[str, Any], output_dir: Path, seed: int) -> TrainingArguments:
    """The arguments of one training; without the Trainer's own progress bar, which prints every row."""
    # Transformers 4.57 notes bf16 there and takes it for asked for ever after: the next stage might not want it.
    if _LAUNCHED is None:
        os.environ.pop(_PRECISION, None)
    else:
        os.environ[_PRECISION] = _LAUNCHED
    return TrainingArguments(output_dir=str(output_dir), seed=seed, disable_tqdm=True, **arguments)


def _all(page: Page) -> Iterator[tuple[Key, dict[str, Any]]]:
    if page.base.build is not None and page.base.build.pretraining is not None:
        yield ("base", "build", "pretraining", "arguments"), page.base.build.pretraining.arguments
    for name, stage in page.stages.items():
        yield ("stages", name, "arguments"), stage.arguments


def _names(arguments_class: type[Any]) -> list[str]:
    return [item.name for item in fields(arguments_class) if item.init]


def _refused(key: Key, given: Mapping[str, Any], make: Make, reason: str, where: str, on_cpu: str) -> KeyMistake:
    """Why a class does not take arguments, at the one that is to blame where there is one."""
    wide = next((name for name in _NEED_A_GPU if given.get(name)), None)
    if (
        (wide or _NEED_A_GPU[0] in reason)
        and not torch.cuda.is_available()
        and _reason(make, {**given, _ON_CPU: True}) != reason
    ):
        place, found = (key, _UNUSABLE) if wide is None else ((*key, wide), shown(given[wide]))
        return place, f"{found} where there is no CUDA GPU ({reason})", f"a GPU, or {on_cpu}", None
    blamed = _blamed(given, make, reason)
    if len(blamed) == 1:
        return (*key, blamed[0]), f"{shown(given[blamed[0]])} ({reason})", f"a value that {where} takes", None
    found = f"{' and '.join(blamed)}, which do not fit each other" if blamed else _UNUSABLE
    return key, f"{found} ({reason})", f"values that {where} takes", None


def _blamed(given: Mapping[str, Any], make: Make, reason: str) -> list[str]:
    """The arguments without which the class takes the others, or else the one without which it has another reason."""
    reasons = {name: _reason(make, {other: given[other] for other in given if other != name}) for name in given}
    alone = [name for name, left in reasons.items() if left is None]
    other = [name for name, left in reasons.items() if left != reason]
    return alone or (other if len(other) == 1 else [])


def _reason(make: Make, given: Mapping[str, Any]) -> str | None:
    """Why a class does not take arguments; None where it does."""
    try:
        make(given)
    except _REFUSED as error:
        return _said(error)
    return None


def _said(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def check_launch(page: Page, arguments: Any, device: str | None = None) -> None:
    """Refuse what would train something else than the recipe says, before anything is loaded.

    On a CPU accelerate copies the model whatever it was asked for, so nothing is refused there.

    Args:
        page: The recipe.
        arguments: ``TrainingArguments`` of one of its stages: they know the device and the GPUs of this process.
        device: What was asked for: ``cpu``, ``cuda``, or None.

    Raises:
        ConfigurationError: If there is no GPU and one was asked for; if one process was given several; if weights are
            to be cut that cannot be, or where a hook on whole matrices decides what trains.
    """
    if arguments.device.type == "cpu":
        if device == "cuda":
            raise ConfigurationError(
                "--device cuda: found no GPU that torch can use, expected one; look at nvidia-smi and at "
                "torch.cuda.is_available(), or leave --device out"
            )
        return
    if arguments.n_gpu > 1:
        # The Trainer would use nn.DataParallel: the batch is another than the recipe's, the loss not measured.
        raise ConfigurationError(
            f"launch: found {arguments.n_gpu} GPUs and one process, expected one for each; start it with accelerate "
            f"launch --num_processes {arguments.n_gpu} -m ko_cpt_callbacks train {page.id}, or give it one GPU: "
            "CUDA_VISIBLE_DEVICES=0"
        )
    how = _cut_by(arguments)
    if how is None:
        return
    if page.base.quantization != "none":
        raise ConfigurationError(
            f"launch: found {how} and a body in {page.base.quantization}, expected whole weights on every GPU, since "
            f"bitsandbytes' are not cut; start it with accelerate launch --config_file {_DDP}"
        )
    stages = [name for name, stage in page.stages.items() if "new" in (stage.trains.input, stage.trains.output)]
    if stages:
        raise ConfigurationError(
            f"launch: found {how} and new rows that train alone (stages {', '.join(stages)}), expected whole matrices "
            f"on every GPU: what holds the old rows is not cut with them; start it with accelerate launch "
            f"--config_file {_DDP}"
        )


def _cut_by(arguments: Any) -> str | None:
    """Who cuts weights, gradients or the optimizer's state into parts; None where every process holds all."""
    for how in ("DeepSpeed", "FSDP"):
        asked = os.environ.get(f"ACCELERATE_USE_{how.upper()}", "false").lower() == "true"
        if asked or getattr(arguments, how.lower(), None):
            return how
    return None


def wrapper_line(trainer: Trainer) -> str:
    """How many processes trained together, and by what: as it was, not as it was asked for."""
    name = type(trainer.model_wrapped).__name__
    said = f"  {trainer.args.world_size} processes, {name}"
    if _cut_by(trainer.args) == "FSDP" and name == DistributedDataParallel.__name__:
        return f"{said}: FSDP was asked for and not used; on a CPU accelerate copies the model instead of cutting it"
    return said
