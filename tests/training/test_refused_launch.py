"""A way of starting that would train something else than the recipe says is refused before anything is loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ko_cpt_callbacks import ConfigurationError, Recipe
from ko_cpt_callbacks.training.arguments import check_launch


def _arguments(device: str = "cuda:0", gpus: int = 1, **more: Any) -> Any:
    """What check_launch reads of TrainingArguments; a machine with GPUs makes them so."""
    return SimpleNamespace(device=torch.device(device), n_gpu=gpus, deepspeed=None, fsdp=[], **more)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)


def test_several_gpus_in_one_process() -> None:
    """The Trainer would use nn.DataParallel; the command that gives each GPU a process is named."""
    page = Recipe.load("redwhale").page
    with pytest.raises(ConfigurationError, match=r"found 4 GPUs and one process.*--num_processes 4"):
        check_launch(page, _arguments(gpus=4))
    check_launch(page, _arguments())


@pytest.mark.parametrize(("name", "how"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")])
@pytest.mark.parametrize(
    ("recipe", "changes", "why"),
    [
        ("redwhale-a6000-8bit", (), "a body in 8-bit"),
        ("eeve", (), "a body in 4-bit"),
        ("eeve", ("base.quantization=none",), "new rows that train alone .stages new-input, new-output"),
    ],
)
def test_what_cannot_be_cut(
    name: str, how: str, recipe: str, changes: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quantised weights and held rows are not cut; the configuration that keeps them whole is named, and takes them."""
    page = Recipe.load(recipe, changes).page
    check_launch(page, _arguments())
    monkeypatch.setenv(name, "true")
    with pytest.raises(ConfigurationError, match=rf"found {how} and {why}.*ddp.yaml"):
        check_launch(page, _arguments())
    check_launch(page, _arguments(device="cpu"))  # accelerate copies the model there
    check_launch(Recipe.load("redwhale").page, _arguments())  # 16-bit weights can be cut


def test_asked_for_in_the_arguments() -> None:
    """A recipe can ask for it itself."""
    page = Recipe.load("redwhale-a6000-8bit").page
    asked = _arguments()
    asked.fsdp = ["full_shard"]
    with pytest.raises(ConfigurationError, match=r"found FSDP and a body in 8-bit"):
        check_launch(page, asked)


def test_a_gpu_that_is_not_there() -> None:
    """Who asks for a GPU is told that there is none, rather than trained on a CPU without a word."""
    page = Recipe.load("quickstart").page
    with pytest.raises(ConfigurationError, match="--device cuda: found no GPU"):
        check_launch(page, _arguments(device="cpu", gpus=0), "cuda")
    check_launch(page, _arguments(device="cpu", gpus=0), "cpu")
    check_launch(page, _arguments(), "cuda")
