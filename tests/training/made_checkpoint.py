"""A checkpoint as a Trainer leaves it, of a few numbers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file


def checkpoint(folder: Path, step: int, ranks: int = 1) -> Path:
    """What a Trainer leaves, small."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.ones(30)}, path / "adapter_model.safetensors")
    names = ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in range(ranks)]
    for name in ("optimizer.pt", "scheduler.pt", "training_args.bin", *names):
        torch.save({"numbers": torch.ones(30)}, path / name)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}), "utf-8")
    return path
