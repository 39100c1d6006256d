"""Whether a recipe can be run the way it was started: how many processes, and who holds the weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from accelerate import PartialState
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.schema import Page


class Processes:
    """Who goes first where files are made that all of them read.

    Args:
        arguments: Of a Trainer of this run: they decide on the device, and so on how processes talk.
    """

    def __init__(self, arguments: TrainingArguments) -> None:
        self.device: str = "cpu" if arguments.device.type == "cpu" else str(arguments.device)
        self._state = PartialState()
        self.count: int = self._state.num_processes

    @property
    def first(self) -> bool:
        """Whether this is the first process of the run: it alone prints and makes files."""
        return bool(self._state.is_main_process)

    @contextmanager
    def first_alone(self) -> Iterator[bool]:
        """A part that only the first process does; the others wait until it is done.

        Yields:
            Whether this is the first one.
        """
        if self.first:
            yield True
        self._state.wait_for_everyone()
        if not self.first:
            yield False

    @contextmanager
    def first_before(self) -> Iterator[None]:
        """A part that the first process does first and the others after it, finding what it made."""
        with self._state.main_process_first():
            yield


def wrapper_line(trainer: Trainer) -> str:
    """How many processes trained together, and by what: as it was, not as it was asked for."""
    name = type(trainer.model_wrapped).__name__
    said = f"  {trainer.args.world_size} processes, {name}"
    # On a CPU the Trainer itself does not know any more that it was asked for.
    asked = trainer.is_fsdp_enabled or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked and name == DistributedDataParallel.__name__:
        return f"{said}: FSDP was asked for and not used; on a CPU accelerate copies the model instead of cutting it"
    return said


_DDP: Final = "recipes/accelerate/ddp.yaml"


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
    if getattr(arguments, "deepspeed", None) or _asked("ACCELERATE_USE_DEEPSPEED"):
        return "DeepSpeed"
    if getattr(arguments, "fsdp", None) or _asked("ACCELERATE_USE_FSDP"):
        return "FSDP"
    return None


def _asked(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"
