"""A training's checkpoints: which of them are whole, and from which to go on.

A kill leaves files that are not there or are cut off; going on from such a checkpoint would end in an error, or, where
the optimizer or the random state is missing, in another training without a word.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

_STATE_FILE: Final = "trainer_state.json"
_CHECKPOINT: Final = "checkpoint-"
_TORCH: Final = ("*.pt", "*.pth", "*.bin")
# The optimizer's state: in one file, or cut into parts by FSDP or DeepSpeed.
_OPTIMIZER: Final = ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")
# The schedule's; DeepSpeed may keep its own among its parts. Without it a Trainer begins the schedule anew, and takes
# the optimizer's state from nowhere either, without a word.
_SCHEDULE: Final = ("scheduler.pt", "global_step*")


def checkpoints(folder: Path, processes: int = 1) -> dict[int, Path]:
    """The checkpoints of a training that one can go on from exactly, by step.

    Args:
        folder: The training's.
        processes: How many have to find their random state.
    """
    found = {}
    for path in _numbered(folder).values():
        try:
            # The last file of a checkpoint, in one process: one that parses closes it.
            state = json.loads((path / _STATE_FILE).read_text(encoding="utf-8"))
            step = int(state["global_step"])
            if _goes_on(path, processes):
                found[step] = path
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return dict(sorted(found.items()))


def last_checkpoint(folder: Path, max_steps: float, processes: int = 1) -> Path | None:
    """The latest checkpoint that leaves a step to do; None to begin anew.

    A Trainer resumed from the checkpoint of the very last step would train one step too many.
    """
    usable = [path for step, path in checkpoints(folder, processes).items() if step < max_steps]
    return usable[-1] if usable else None


def remove_checkpoints(folder: Path, from_step: float = 0) -> None:
    """Delete the checkpoints of a training, those before a step left alone; copies under other names stay."""
    for step, path in _numbered(folder).items():
        if step >= from_step:
            shutil.rmtree(path, ignore_errors=True)


def _numbered(folder: Path) -> dict[int, Path]:
    """What the Trainer named ``checkpoint-N``; a ``checkpoint-best`` is somebody's own."""
    names = {path.name.removeprefix(_CHECKPOINT): path for path in folder.glob(f"{_CHECKPOINT}*")}
    return {int(name): path for name, path in names.items() if name.isdecimal()}


def _goes_on(path: Path, processes: int) -> bool:
    ranks = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    if not all((path / name).is_file() for name in ranks):
        return False
    if not all(any(True for name in names for _ in path.glob(name)) for names in (_OPTIMIZER, _SCHEDULE)):
        return False
    torch_files = (file for pattern in _TORCH for file in path.glob(pattern) if file.name != "training_args.bin")
    # torch.save writes a zip, whose directory stands at its end.
    return all(map(zipfile.is_zipfile, torch_files)) and all(map(_is_whole, path.glob("*.safetensors")))


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says: eight bytes of length, the header, the numbers."""
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > file.stat().st_size:
            return False
        header: dict[str, Any] = json.loads(stream.read(size))
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    return file.stat().st_size == 8 + size + int(end)
