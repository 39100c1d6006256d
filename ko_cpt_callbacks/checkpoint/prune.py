"""Which checkpoints may go, and deleting them so that nothing else can be hit.

A checkpoint is renamed first, inside its folder and by the folder's own handle, and only what was looked at before is:
the same device and number. Then it is deleted without following a link. Anyone who puts a link in its place meanwhile
loses the link, not what it points to; a training that is resumed meanwhile never reads half a checkpoint.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.checkpoint.account import Account
from ko_cpt_callbacks.checkpoint.disk import OnDisk, checkpoint_name, state_in
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.lock import is_written

__all__ = ["PrunePlan", "free", "plan_of"]

_QUIET_SECONDS: Final = 600.0
"""After its last write a run that has not ended may still be training, where no lock tells. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What would go and what stays.

    Args:
        folder: The run's folder, no link.
        free: What would be deleted.
        kept: Steps on disk that stay, each with why: ``recommended``, ``newest`` (a resume begins there),
            ``trainers-best`` (loaded at the end), ``linked`` (a link in the run's folder leads there), or an oddity of
            `Checkpoint`.
    """

    folder: Path
    free: tuple[OnDisk, ...]
    kept: tuple[tuple[int, str], ...]

    @property
    def size(self) -> int:
        """Bytes that would be freed."""
        return sum(one.size for one in self.free)

    def as_dict(self) -> dict[str, Any]:
        """The plan as strict JSON."""
        return {
            "free": [str(self.folder / checkpoint_name(one.step)) for one in self.free],
            "bytes": self.size,
            "kept": {checkpoint_name(step): why for step, why in self.kept},
        }


def plan_of(account: Account, now: float) -> PrunePlan:
    """What may go of a run that no one is training.

    Args:
        account: Its checkpoints.
        now: The time, seconds since the epoch.

    Raises:
        ConfigurationError: If the run is being trained or may be, or nothing says which checkpoint to keep.
    """
    folder, recommended = account.folder.resolve(), account.recommended
    _alone(folder)
    on_disk = [one for one in account.checkpoints if one.disk is not None]
    age = now - max(_recorded(folder), *(one.disk.written for one in on_disk if one.disk is not None), 0.0)
    if not account.ended and age < _QUIET_SECONDS:
        raise ConfigurationError(
            f"--prune: {folder} has not ended and was written {max(age, 0):.0f} s ago, expected a run that is over or "
            f"was left alone for {_QUIET_SECONDS:.0f} s; nothing is freed"
        )
    if recommended is None or recommended.equal is None:
        raise ConfigurationError(
            f"--prune: {folder} has no checkpoint on disk that its evaluations can tell from others; nothing is freed"
        )
    needed = {} if account.ended else _needed(account.folder, [one.disk for one in on_disk if one.disk is not None])
    free, kept, linked = [], [], _linked(folder)
    for one in on_disk:
        why = "recommended" if one is recommended else one.oddity or needed.get(one.step, "")
        if not why and state_in(account.folder, one.step) is None:
            why = "other-run"
        if not why and checkpoint_name(one.step) in linked:
            why = "linked"
        if why:
            kept.append((one.step, why))
        elif one.disk is not None:
            free.append(one.disk)
    return PrunePlan(folder, tuple(free), tuple(kept))


def _recorded(folder: Path) -> float:
    """When a row was last recorded: between two checkpoints hours may pass."""
    try:
        return (folder / keys.FOLDER / keys.ROWS_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _linked(folder: Path) -> set[str]:
    """What links in the run's folder lead to: a checkpoint that somebody gave a name."""
    ends = (Path(os.path.realpath(entry.path)) for entry in os.scandir(folder) if entry.is_symlink())
    return {end.relative_to(folder).parts[0] for end in ends if folder in end.parents}


def _needed(folder: Path, on_disk: Sequence[OnDisk]) -> dict[int, str]:
    """What a resume needs: the newest checkpoint, and the one that is loaded at the end.

    The newest is the last by its step, which the Trainer looks for, and the last written, too: a run that went back to
    an earlier step has written later checkpoints with lower ones.
    """
    newest = {on_disk[-1].step, max(on_disk, key=lambda one: (one.written, one.step)).step}
    states = [state_in(folder, step) for step in newest]
    names = [Path((state and state.best_checkpoint) or "").name for state in states]
    best = [found for name in names if (found := re.fullmatch(r"checkpoint-(\d{1,18})", name))]
    return {**{int(one[1]): "trainers-best" for one in best}, **dict.fromkeys(newest, "newest")}


def _alone(folder: Path) -> None:
    if is_written(folder / keys.FOLDER):
        raise ConfigurationError(f"--prune: {folder} is being trained, expected a run that is over; nothing is freed")


def free(plan: PrunePlan) -> Iterator[tuple[OnDisk, str]]:
    """Delete what a plan names.

    Yields:
        Each checkpoint with what kept it from being deleted; empty where it is gone.

    Raises:
        ConfigurationError: If this system cannot delete without following links, the folder is another by
            now, or the run is trained again.
    """
    if not shutil.rmtree.avoids_symlink_attacks:
        raise ConfigurationError("--prune --yes: this system cannot delete a folder safely; delete the paths yourself")
    _alone(plan.folder)
    try:
        handle = os.open(plan.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise ConfigurationError(f"--prune: {plan.folder}: {error.strerror}; nothing is freed") from None
    try:
        for one in plan.free:
            yield one, _delete(handle, one)
    finally:
        os.close(handle)


def _delete(handle: int, one: OnDisk) -> str:
    name, aside = checkpoint_name(one.step), f".pruned-{one.step}"
    try:
        if not _is(handle, name, one):
            return "changed"
        if aside in os.listdir(handle):
            return f"{aside} is in the way, what an earlier --prune left; delete it"
        os.rename(name, aside, src_dir_fd=handle, dst_dir_fd=handle)
        if not _is(handle, aside, one):
            os.rename(aside, name, src_dir_fd=handle, dst_dir_fd=handle)
            return "changed"
    except OSError as error:
        return f"{error.strerror or error}"
    try:
        shutil.rmtree(aside, dir_fd=handle)
    except OSError as error:
        return f"{error.strerror or error}; what is left of it is {aside}, no checkpoint any more: delete it"
    return ""


def _is(handle: int, name: str, one: OnDisk) -> bool:
    found = os.stat(name, dir_fd=handle, follow_symlinks=False)
    return stat.S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) == one.identity
