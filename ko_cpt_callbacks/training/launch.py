"""Whether a recipe can be run the way it was started: how many processes, and who holds the weights."""

from __future__ import annotations

import os
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.schema import Page

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
