"""Any causal language model: read from its own config.json and modules, and trained by stages as its recipe says."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from training.made_family import (
    FAMILIES,
    IN_CI,
    INSTALLED,
    LAYERS,
    LORA,
    SIZES,
    MadeFamily,
    saved_model,
    written_recipe,
)
from training.weight_bytes import standing, weight_bytes
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.cli.recipe_page import memory_of
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.parameter_count import Adapter
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.schema import Lora
from ko_cpt_callbacks.training import run as module
from ko_cpt_callbacks.training.model.stage import adapter_config, with_adapter
from ko_cpt_callbacks.training.run import RunOptions, run_recipe
from ko_cpt_callbacks.training.smoke import WeightChange

ODD = [index for index in range(LAYERS) if index % 2]
MANY = [pytest.param(name, marks=() if name in IN_CI else pytest.mark.families) for name in INSTALLED]


@dataclass(frozen=True)
class Stage:
    """What a stage really had: names and numbers that train, as the model itself has them, bytes of its weights."""

    trained: set[str]
    numbers: int
    bytes: int


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Stage]:
    """Of each stage that runs."""
    found: list[Stage] = []

    class Seen(WeightChange):
        def __init__(self, model: Any) -> None:
            moving = {name: part for name, part in model.named_parameters() if part.requires_grad}
            names = {name.removeprefix("base_model.model.") for name in moving}
            found.append(Stage(names, sum(part.numel() for part in moving.values()), weight_bytes(model)))
            super().__init__(model)

    monkeypatch.setattr(module, "WeightChange", Seen)
    return found


def _run(path: Path, folder: Path, stages: list[Stage]) -> list[set[str]]:
    """What each stage trained; the rest must be bit for bit as before, all of it must have moved, and the memory that
    was estimated from the configuration alone must be that of the model, number for number."""
    stages.clear()
    file = read_recipe(path)
    run_recipe(file, folder, RunOptions(smoke=True))
    estimated = memory_of(file)
    assert [standing(memory) for memory in estimated] == [stage.bytes for stage in stages]
    assert [memory.trainable for memory in estimated] == [stage.numbers for stage in stages]
    return [stage.trained for stage in stages]


def _rows(family: MadeFamily, ending: str) -> set[str]:
    return {f"{family.input}{ending}"} | (set() if family.tied else {f"{family.output}{ending}"})


@pytest.mark.parametrize("name", MANY)
def test_a_family(name: str, tmp_path: Path, stages: list[Stage], capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder with a config.json and nothing said of its shape: it is valid; over 8 bits the rows of new tokens
    train alone, then LoRA in the odd layers; in full precision the odd layers themselves."""
    family = FAMILIES[name]
    saved_model(name, tmp_path / "model")
    parts: dict[str, Any] = {
        "rows": {"trains": {"input": "new", "output": "new"}},
        "odd": {"trains": {"layers": "odd"}, "lora": LORA},
    }
    eight = written_recipe(tmp_path, "model", parts, quantization="8-bit", extend=True)
    found = CliRunner().invoke(app, ["validate", str(eight)])
    assert (found.exit_code, "2 stages, " in found.stdout, " GiB on one GPU." in found.stdout) == (0, True, True)

    trained = _run(eight, tmp_path / "eight", stages)
    adapters = {
        f"{family.blocks}.{index}.{linear}.lora_{part}.default.weight"
        for index in ODD for linear in family.linears for part in "AB"
    }  # fmt: skip
    assert trained == [_rows(family, ".modules_to_save.default.weight"), adapters]
    assert capsys.readouterr().out.count("are bit for bit as before") == 2

    plain = written_recipe(tmp_path, "model", {"odd": {"trains": {"layers": "odd"}}})
    trained = _run(plain, tmp_path / "whole", stages)
    assert trained == [{f"{family.blocks}.{index}.{part}" for index in ODD for part in family.parameters}]
    assert "are bit for bit as before" in capsys.readouterr().out


def test_an_adapter_that_peft_would_put_elsewhere() -> None:
    """DeepSeek-V3's dense layers have the names that its experts once had: peft takes them for those and leaves the
    dense ones without, which is refused."""
    pytest.importorskip("transformers", minversion="5.0")
    config = AutoConfig.for_model("deepseek_v3", **SIZES, q_lora_rank=16, kv_lora_rank=16)
    model = AutoModelForCausalLM.from_config(config)

    def adapted(targets: Any) -> Any:
        adapter = Adapter(Lora(r=2, lora_alpha=4.0, target_modules=targets), ("odd",), (1,), False, False)
        return with_adapter(copy.deepcopy(model), adapter_config(adapter, model, tied=False))

    told = r"put elsewhere than on the layers that are named \(model.layers.1.mlp.down_proj, "
    with pytest.raises(ConfigurationError, match=told):
        adapted("all-linear")
    trained = [name for name, part in adapted(["o_proj"]).named_parameters() if part.requires_grad]
    assert all("layers.1.self_attn.o_proj.lora_" in name for name in trained) and len(trained) == 2
