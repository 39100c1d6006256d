"""The folder of a run: what is finished in it, from where to go on, and whether it is as it was written.

Checksums of what a run keeps to go on from stand beside the files, in the folder itself, so that no kill can part them
from what they are of: a byte that is another one later is seen, and not trained on. A folder from before there were any
is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.file import remove_stale, write_whole
from ko_cpt_callbacks.run.lock import FolderLock, FolderWriter
from ko_cpt_callbacks.run.reading import FORMAT, PLAN_FILE


@contextmanager
def locked(folder: Path, run: Path) -> Iterator[None]:
    """While it lasts, no other process gets here; the system lets go of it when this one ends, however it ends.

    What killed processes left half-written there is removed. Where there are no such locks (some network file systems)
    nothing is locked.

    Args:
        folder: Where the lock's file is put.
        run: The run's folder, for the error.

    Raises:
        ConfigurationError: If another process has it, or the folder cannot be written to.
    """
    lock = FolderLock(folder)
    try:
        hold = lock.take()
    except OSError as error:
        raise _unwritable(run, error) from None
    try:
        if hold is FolderWriter.OTHER:
            raise ConfigurationError(
                f"{run}: found a run that is still in progress there (process {lock.holder()})"
                ", expected none; wait for its end or stop it, then go on with --resume"
            )
        remove_stale(folder, alone=hold is FolderWriter.OURS)
        yield
    finally:
        lock.release()


CHECKSUMS: Final = "sha256.json"
"""The file in a folder with the SHA-256 of every other file in it."""
MODEL: Final = "model"
"""The folder in a stage's own with what it ended with."""
ADAPTER: Final = "adapter"
"""The folder in a stage's own with an adapter that was merged into what it ended with."""

_REFUSED: Final = "refused"
_SUM: Final = "sha256"
_OWN_PLAN: Final = "the one that this run wrote; put a copy of it back, or name another folder with --output"


class RecipeFolder:
    """One run on disk.

    ``base/`` is the model that the stages start from, where it is this run's own; ``data/`` holds the rows; ``smoke/``
    what a smoke test made small of its recipe, which says that the run is one;
    ``stages/NN-name/`` is an ordinary run folder each, with ``model/`` for what the stage ended with;
    ``ko_cpt/plan.json`` says which recipe it is and where its stages are.

    Args:
        path: The folder.
        recipe: The recipe's raw values.
    """

    def __init__(self, path: Path, recipe: Mapping[str, Any]) -> None:
        self.path = path
        self.base: Path = path / "base"
        self.base_tokenizer: Path = self.base / "tokenizer"
        self.base_model: Path = self.base / "model"
        self.data: Path = path / "data"
        self.smoke: Path = path / "smoke"
        self.plan: Path = path / keys.FOLDER / PLAN_FILE
        self._recipe = dict(recipe)
        self._stages = {
            name: f"stages/{number:02d}-{name}" for number, name in enumerate(self._recipe["stages"], start=1)
        }

    @property
    def started(self) -> bool:
        """Whether a run was begun here, and not given back."""
        return self.plan.exists() and not self._read().get(_REFUSED)

    @property
    def is_smoke(self) -> bool:
        """Whether a smoke test made its model and texts here."""
        return (self.smoke / CHECKSUMS).is_file()

    @property
    def finished(self) -> bool:
        """Whether the run here came to its end."""
        return bool(self._read().get("finished"))

    @property
    def whole(self) -> bool:
        """Whether it came to its end, and what every stage ended with is still there."""
        return self.finished and all(map(self.ended, self._stages))

    def check_stores(self) -> None:
        """Look whether what the run goes on from is what it wrote: rows, base model, the stages' weights.

        Raises:
            ConfigurationError: If a file is damaged; says what to delete, which is then made or trained again.
        """
        again = "and go on with --resume"
        for kept in (self.base_tokenizer, self.base_model):
            check_whole(kept, f"delete {self.base} {again}: the base is made again")
        for rows in sorted(self.data.glob("[!.]*")):
            check_whole(rows, f"delete {rows} {again}: the rows are made again")
        for home in map(self.stage, self._stages):
            both = home / ADAPTER, home / MODEL
            delete = " and ".join(str(path) for path in both if path.exists())
            for kept in both:
                check_whole(kept, f"delete {delete} {again}: the stage is trained to its end again")

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.path / self._stages[name]

    def ended(self, name: str) -> bool:
        """Whether a stage was trained to its end: what it ended with is there, whole."""
        return (self.stage(name) / MODEL).is_dir()

    def open(self) -> None:
        """Take the folder for this run.

        Raises:
            ConfigurationError: If it is another run's, or holds something else.
        """
        if self.started:
            other = self._read().get("recipe")
            changed = sorted(_differences(other, json.loads(json.dumps(self._recipe))))
            if changed:
                raise ConfigurationError(
                    f"{self.path}: found a run of another recipe (differs in {', '.join(changed[:5])}), expected the "
                    "same one to go on with; use the same values, or name another folder with --output"
                )
            return
        self.check_free()
        self._write(finished=False)

    def check_free(self) -> None:
        """Look whether the place is a run's, or no one's.

        Raises:
            ConfigurationError: If something else is there.
        """
        if not self.plan.exists() and self._is_foreign():
            found = "a file" if self.path.is_file() else "something that is no run of ko-cpt train"
            raise ConfigurationError(
                f"{self.path}: found {found}, expected an empty or a new folder; "
                "name another one with --output"
            )

    def agree(self, name: str, value: Any) -> Any:
        """Note a fact of the run in its plan, or compare it with what was noted.

        Args:
            name: A key of the plan.
            value: JSON.

        Returns:
            What was noted before, where that is something else; otherwise None.
        """
        noted = self._read().get(name)
        if noted is None:
            self.note(name, value)
        return None if noted in (None, value) else noted

    def note(self, name: str, value: Any) -> None:
        """Note a fact of the run in its plan."""
        self._write(**{**self._read(), name: value})

    def noted(self, name: str) -> Any:
        """A fact of the run in its plan; None where it has none of that name."""
        return self._read().get(name)

    @property
    def in_a_stage(self) -> bool:
        """Whether a stage was begun and not ended."""
        return any(self.stage(name).exists() and not self.ended(name) for name in self._stages)

    def give_back(self) -> None:
        """Let another recipe have the folder: this one could not be used, and nothing was trained.

        Rows stay: they are named by what they were made of, and a mended recipe may want the same. Where something was
        made that a run could go on with, nothing happens.
        """
        begun = any(self.stage(name).exists() for name in self._stages)
        if begun or self.base_model.exists() or any(self.base.glob("checkpoint-*")):
            return
        shutil.rmtree(self.base, ignore_errors=True)
        self._write(finished=False, refused=True)

    def _is_foreign(self) -> bool:
        """Whether something else is there; what a kill left of a first plan is not."""
        if not self.path.is_dir():
            return self.path.exists()
        ours = {item for item in self.plan.parent.glob(".*") if item.is_file()}
        made = (self.smoke, part_of(self.smoke)) if self.is_smoke else (part_of(self.smoke),)
        found = (item for item in self.path.iterdir() if item not in made)
        return any(item != self.plan.parent or set(item.iterdir()) - ours for item in found)

    def _write(self, **notes: Any) -> None:
        stages = [{"name": name, "folder": folder} for name, folder in self._stages.items()]
        plan = {**notes, "format": FORMAT, "recipe": self._recipe, "stages": stages}
        plan.pop(_SUM, None)
        plan[_SUM] = _sum_of(plan)
        try:
            write_whole(self.plan, f"{json.dumps(plan, ensure_ascii=False, indent=2)}\n".encode())
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def _read(self) -> dict[str, Any]:
        if not self.plan.exists():
            return {}
        plan = _mapping_in(self.plan)
        if plan is None:
            raise ConfigurationError(f"{self.plan}: found no plan that can be read, expected {_OWN_PLAN}")
        noted = plan.pop(_SUM, None)
        if noted is not None and noted != _sum_of(plan):  # plans from before there was one have none
            raise ConfigurationError(f"{self.plan}: found a damaged or changed plan, expected {_OWN_PLAN}")
        return plan


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, put at ``path`` when it is full: a kill leaves all of it or nothing."""
    temporary = part_of(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    yield temporary
    put_folder(temporary, path)


def part_of(path: Path) -> Path:
    """Where a folder is filled before it is put at its place."""
    return path.with_name(f".{path.name}.part")


def put_folder(part: Path, path: Path) -> None:
    """Put a filled folder at its place, with its checksums; what stood there goes."""
    found = {file.relative_to(part).as_posix(): _digest(file) for file in sorted(part.rglob("*")) if file.is_file()}
    found.pop(CHECKSUMS, None)
    (part / CHECKSUMS).write_text(json.dumps(found, indent=2), encoding="utf-8")
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def check_whole(folder: Path, remedy: str) -> None:
    """Compare a folder's files with the checksums that were written with them.

    Args:
        folder: One that was sealed, or an older one.
        remedy: What to do where a file is another now.

    Raises:
        ConfigurationError: If a file is missing or has other bytes, or the checksums cannot be read.
    """
    sums = folder / CHECKSUMS
    if not sums.exists() and not sums.is_symlink():
        return
    noted = _mapping_in(sums)
    if not noted:
        raise ConfigurationError(f"{sums}: found nothing that can be read, expected this folder's checksums; {remedy}")
    for name, digest in noted.items():
        path = folder / name
        if not path.is_file():
            raise ConfigurationError(f"{path}: found no file, expected the one that this run wrote; {remedy}")
        try:
            now = _digest(path)
        except OSError as error:
            raise ConfigurationError(f"{path}: found a file that cannot be read ({error.strerror}); {remedy}") from None
        if now != digest:
            raise ConfigurationError(
                f"{path}: found other bytes than this run wrote (damaged, or changed since); {remedy}"
            )


def _mapping_in(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where no such file is there, or something else in it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unwritable(run: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"{run}: found a place that cannot be written to ({error.strerror}), expected a folder for the run; name "
        "another one with --output"
    )


def _sum_of(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _differences(one: Any, other: Any, key: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in {*one, *other}:
            yield from _differences(one.get(name), other.get(name), f"{key}.{name}" if key else name)
    elif one != other:
        yield key or "everything"
