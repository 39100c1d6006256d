"""The same run on several processes, and the configuration files for ``accelerate launch`` that come with recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from e2e import run_files
from training import job_recipe
from training.job_recipe import FOLDERS, STAGES

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))

# In full precision: the 8-bit kernels' result depends on which rows are in a batch together. Dropout would draw
# other numbers on two processes.
PLAIN = {"base.quantization": "none", "stages.odd-layers.lora.lora_dropout": 0}
TRAININGS = ["base.build.pretraining", *(f"stages.{stage}" for stage in STAGES)]


def _command(folder: Path, rows: int) -> list[str]:
    """The small quickstart with so many rows in a batch of one process."""
    batches = {f"{place}.arguments.per_device_train_batch_size": rows for place in TRAININGS}
    sets = [word for key, value in {**PLAIN, **batches}.items() for word in ("--set", f"{key}={value}")]
    return job_recipe.command(str(folder), *sets)


def _losses(folder: Path) -> dict[Any, float]:
    rows = run_files.live(run_files.rows(folder))
    found = {("train", None, row["step"]): row["loss"] for row in rows if row["kind"] == "train"}
    evaluated = [row for row in rows if row["kind"] == "eval"]
    return found | {("eval", row["split"], row["step"]): row[f"{row['split']}_exact_loss"] for row in evaluated}


def test_two_processes_train_the_same(tmp_path: Path) -> None:
    """``accelerate launch`` with two processes of two rows each: every training and evaluation loss of every stage is
    that of one process with four, to 1e-4, with as many tokens, and so are the weights; on a CPU the wrapper is DDP
    also where the configuration asks for FSDP, and the run says so."""
    import torch
    from safetensors.torch import load_file

    alone = forked.run(job_recipe.ko_cpt, _command(tmp_path / "alone", 4), folder=tmp_path, timeout=240)
    assert forked.value(alone) == 0, alone.text
    fsdp = str(ROOT / "recipes" / "accelerate" / "fsdp.yaml")
    launch = ["--config_file", fsdp, "--num_processes", "2", "--mixed_precision", "no", "--main_process_port", "0"]
    words = [*launch, "-m", "ko_cpt_callbacks", *_command(tmp_path / "both", 2)]
    both = forked.run(job_recipe.launch, words, str(tmp_path), folder=tmp_path, timeout=400)
    assert both.code == 0, both.text[-9000:]

    said = [line for line in both.text.splitlines() if line.startswith("  2 processes, ")]
    assert len(said) == len(STAGES)
    honest = "  2 processes, DistributedDataParallel: FSDP was asked for and not used"
    assert all(line.startswith(honest) for line in said)
    assert both.text.count("1/4 embedding: ") == 1, "one process alone speaks"
    for place in FOLDERS.values():
        one, two = tmp_path / "alone" / place, tmp_path / "both" / place
        assert run_files.run(two)["world_size"] == 2
        assert _losses(two) == pytest.approx(_losses(one), abs=1e-4)
        ours, theirs = ([row for row in run_files.rows(path) if row["kind"] == "train"] for path in (one, two))
        assert [row["tokens_seen"] for row in ours] == [row["tokens_seen"] for row in theirs]
        names = [sorted(path.name for path in (folder / "model").glob("*.safetensors")) for folder in (one, two)]
        assert names[0] == names[1] and len(names[0]) == 1
        weights, others = (load_file(folder / "model" / names[0][0]) for folder in (one, two))
        for name, weight in weights.items():
            torch.testing.assert_close(weight, others[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is one that accelerate knows, and its own classes read from it what the file says: which way of
    sharding, and that weights are written whole, which the next stage needs."""
    config = load_config_from_file(str(path))
    assert isinstance(config, ClusterConfig)
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "-m", "ko_cpt_callbacks", "train", "x"])
    arguments, defaults, _ = _validate_launch_command(arguments)
    assert arguments.num_processes == config.num_processes
    kinds = (arguments.use_fsdp, arguments.use_deepspeed, arguments.multi_gpu)
    if path.stem == "fsdp":
        assert kinds == (True, False, False)
        environment = prepare_multi_gpu_env(arguments)
        for name in [name for name in environment if name.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))]:
            monkeypatch.setenv(name, environment[name])
        monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # it wants processes that talk
        plugin = FullyShardedDataParallelPlugin()
        assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.activation_checkpointing) == (2, True, False)
        assert "FULL_STATE_DICT" in str(plugin.state_dict_type)
        assert {name.upper() for name in config.fsdp_config} <= environment.keys()
    elif path.stem == "zero3":
        assert kinds == (False, True, False)
        arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        _, environment = prepare_deepspeed_cmd_env(arguments)
        for name in [name for name in environment if name.startswith("ACCELERATE_")]:
            monkeypatch.setenv(name, environment[name])
        plugin = DeepSpeedPlugin()
        assert plugin.zero_stage == 3
        assert str(plugin.zero3_save_16bit_model).lower() == "true"
        assert plugin.deepspeed_config["zero_optimization"]["stage"] == 3
    else:
        assert path.stem == "ddp"
        assert kinds == (False, False, True)


def test_a_wrong_key_is_refused(tmp_path: Path) -> None:
    """What the test above relies on: accelerate refuses a file with a key that it does not know."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(CONFIGS[0].read_text("utf-8") + "num_procesess: 2\n", "utf-8")
    with pytest.raises(ValueError, match="num_procesess"):
        load_config_from_file(str(wrong))
