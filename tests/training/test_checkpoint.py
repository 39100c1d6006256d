"""From which checkpoint a training goes on: the latest that is whole, and leaves a step to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from training.made_checkpoint import checkpoint

from ko_cpt_callbacks.training.trainer import last_checkpoint, remove_checkpoints


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "its end is not there": lambda path: (path / "trainer_state.json").unlink(),
    "its end is cut off": lambda path: (path / "trainer_state.json").write_text('{"global_st', "utf-8"),
    "its end is something else": lambda path: (path / "trainer_state.json").write_text("[]", "utf-8"),
    "no optimizer": lambda path: (path / "optimizer.pt").unlink(),
    "half an optimizer": lambda path: _cut(path / "optimizer.pt"),
    "no schedule": lambda path: (path / "scheduler.pt").unlink(),
    "half a schedule": lambda path: _cut(path / "scheduler.pt"),
    "no random state": lambda path: (path / "rng_state.pth").unlink(),
    "half a random state": lambda path: _cut(path / "rng_state.pth"),
    "half the weights": lambda path: _cut(path / "adapter_model.safetensors"),
    "no header of the weights": lambda path: (path / "adapter_model.safetensors").write_bytes(b"\xff" * 40),
    "weights of no bytes": lambda path: (path / "adapter_model.safetensors").write_bytes(b""),
}


@pytest.mark.both_versions
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_one_that_is_not_whole_is_passed_over(damage: Callable[[Path], None], tmp_path: Path) -> None:
    """A training goes on from the one before: a missing optimizer or random state would make it another training."""
    ninth, tenth = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert last_checkpoint(tmp_path, 100) == tenth
    damage(tenth)
    assert last_checkpoint(tmp_path, 100) == ninth


def test_one_that_leaves_nothing_to_do_is_passed_over(tmp_path: Path) -> None:
    """A Trainer resumed from the last step would train one too many."""
    assert last_checkpoint(tmp_path, 100) is None
    ninth, tenth = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert last_checkpoint(tmp_path, 11) == tenth
    assert last_checkpoint(tmp_path, 10) == ninth
    assert last_checkpoint(tmp_path, 9) is None


def test_every_process_finds_its_random_state(tmp_path: Path) -> None:
    """Of two processes one may have been killed before it wrote its own."""
    both = checkpoint(tmp_path, 5, ranks=2)
    assert last_checkpoint(tmp_path, 9, processes=2) == both
    assert last_checkpoint(tmp_path, 9, processes=3) is None
    (both / "rng_state_1.pth").unlink()
    assert last_checkpoint(tmp_path, 9, processes=2) is None


def test_an_optimizer_in_parts(tmp_path: Path) -> None:
    """FSDP and DeepSpeed write a folder."""
    for name in ("optimizer_0", "global_step5"):
        path = checkpoint(tmp_path / name, 5)
        (path / "optimizer.pt").unlink()
        (path / name).mkdir()
        assert last_checkpoint(tmp_path / name, 9) == path


def test_what_is_removed(tmp_path: Path) -> None:
    """All, or those from a step on; other files stay, a user's copy of a checkpoint among them, which is none to go on
    from."""
    for step in (3, 6, 12):
        checkpoint(tmp_path, step)
    (tmp_path / "ko_cpt").mkdir()
    (tmp_path / "checkpoint-12").rename(tmp_path / "checkpoint-best")
    checkpoint(tmp_path, 12)
    remove_checkpoints(tmp_path, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-best", "ko_cpt"]
    last = last_checkpoint(tmp_path, 99)
    assert last is not None
    assert last.name == "checkpoint-3"
    remove_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-best", "ko_cpt"]
