"""Shards made on many machines: by tasks of Ray, or by jobs of Slurm that datatrove sends.

This process reads the texts, in their order, and cuts them into parts, a file each. A task makes the shards of its
parts, as a worker of this machine would, so that the rows are the same. They are packed here; where Slurm makes them,
by a second job, which begins when the first has ended.

Of datatrove (0.10) neither readers nor filters are used: rows would be others. Nor are its executors for Ray and for
one machine: they make the same rows, but where a task is killed, for want of memory most often, both wait for ever
(tried). So Ray is asked itself, and a task of this machine is a worker of ours.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa  # type: ignore[import-untyped]

from ko_cpt_callbacks.errors import ConfigurationError, near_miss
from ko_cpt_callbacks.run.file import write_whole
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.shards import ShardMaker, ShardPart, shard_parts
from ko_cpt_callbacks.workers import Workers, usable_cores

EXECUTORS: Final = ("local", "ray", "slurm")
_NEEDED: Final = {"ray": "ray", "slurm": "datatrove"}
_INSTALL: Final = "pip install 'ko_cpt_callbacks[cluster]'"
_ASKED: Final = ("partition", "time")  # of sbatch, that datatrove has no default for
_OWN: Final = ("array", "dependency", "error", "job-name", "output")  # of sbatch, that are given here
_PART: Final = ".part"


class SubmittedJobsError(Exception):
    """Rows are not there yet: jobs of Slurm make them.

    Args:
        shards: The job that makes shards; None where all are there.
        pack: The job that packs them.
    """

    def __init__(self, shards: str | None, pack: str) -> None:
        super().__init__(pack)
        self.shards = shards
        self.pack = pack


def check_executor(name: str, workers: int | None, sbatch: Mapping[str, str], hubs: Sequence[str]) -> None:
    """Whether an executor can be used as it is asked for, before anything is read.

    Args:
        name: What was asked for.
        workers: Tasks; None where none was given.
        sbatch: Options of sbatch.
        hubs: Sources that are streams of the hub.

    Raises:
        ConfigurationError: If there is no such executor, something it needs is missing, or an option is not for it.
    """
    if name not in EXECUTORS:
        near = near_miss(name, EXECUTORS)
        meant = "" if near is None else f" (did you mean {near}?)"
        raise ConfigurationError(f"--executor: found {name!r}, expected one of {', '.join(EXECUTORS)}{meant}")
    library = _NEEDED.get(name)
    if library is not None and importlib.util.find_spec(library) is None:
        raise ConfigurationError(f"--executor {name}: found no {library}, expected it to be installed; {_INSTALL}")
    if hubs:
        raise ConfigurationError(
            f"--executor {name}: found source {hubs[0]}, a stream of the hub, expected files, which are read more than "
            "once; download it with hf download, and name its files under data.sources"
        )
    if name != "slurm":
        if sbatch:
            raise ConfigurationError(f"--sbatch: found --executor {name}, expected slurm")
        return
    if shutil.which("sbatch") is None:
        raise ConfigurationError("--executor slurm: found no sbatch in PATH, expected a machine that submits jobs")
    missing = [key for key in _ASKED if not sbatch.get(key)]
    if missing:
        raise ConfigurationError(f"--executor slurm: found no {missing[0]}, expected --sbatch {missing[0]}=VALUE")
    own = [key for key in _OWN if key in sbatch]
    if own:
        raise ConfigurationError(f"--sbatch: found {own[0]}, expected another option: this one is given here")
    if workers is None:
        raise ConfigurationError("--executor slurm: found no --workers, expected how many tasks run at once")


@dataclass(frozen=True, slots=True)
class ShardStep:
    """Makes shards of parts of the texts: a step of datatrove's pipeline.

    Attributes:
        folder: Of the shards; the same on every machine.
        parts: Files in it that have a part each; a task takes every ``world_size``-th.
        makers: By the folder of a source.
    """

    folder: Path
    parts: tuple[Path, ...] = field(repr=False)
    makers: Mapping[str, ShardMaker] = field(repr=False)

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Make the shards of a task that are not there; the rank is from 0, and there is no data of a step before.

        Raises:
            ConfigurationError: If the folder is not there.
        """
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"{self.folder}: found no such folder on {platform.node()}, expected one that all machines share; name "
                "it with --output"
            )
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a task has one core
        for part in self.parts[rank::world_size]:
            place = self.folder / part
            if not place.with_suffix("").exists():
                self.makers[part.parts[0]].make(ShardPart(place.with_suffix(""), _read_part(place)))
            place.unlink(missing_ok=True)

    def make(self, task: tuple[int, int]) -> int:
        """Run a task where datatrove does not: its rank, of so many; and give its rank back."""
        self(None, *task)
        return task[0]


@dataclass(frozen=True, slots=True)
class PackStep:
    """Packs the rows of a run whose shards are there: a step of datatrove's pipeline, for one task.

    Attributes:
        recipe: Its file.
        changes: Of the recipe, as ``--set`` takes them.
        output: The folder of the run.
        skip_bad: Whether what cannot be read is left out.
    """

    recipe: Path
    changes: tuple[str, ...]
    output: Path
    skip_bad: bool

    def __call__(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        """Go on with the run, up to its rows."""
        from ko_cpt_callbacks.recipe.reading import read_recipe
        from ko_cpt_callbacks.training.data.reading import BadInputs
        from ko_cpt_callbacks.training.run import RunOptions, run_recipe

        bad = BadInputs() if self.skip_bad else None
        run_recipe(read_recipe(self.recipe, self.changes), self.output, RunOptions(resume=True, data=True, bad=bad))


@dataclass(frozen=True, slots=True)
class Executor:
    """Has shards made by an executor.

    Attributes:
        name: Which one.
        workers: Tasks; None for as many as Ray's cluster or this machine has cores.
        sbatch: Options of sbatch, where Slurm is asked.
        pack: Packs rows, where Slurm makes the shards.
    """

    name: str
    workers: int | None
    sbatch: Mapping[str, str]
    pack: PackStep

    @property
    def logs(self) -> Path:
        """Where Slurm says what becomes of tasks."""
        return self.pack.output / "executor"

    def make(self, folder: Path, documents: Mapping[str, Iterable[Document]], makers: Mapping[str, ShardMaker]) -> None:
        """Make all shards that are not there, each source's in a folder of its name.

        Raises:
            ConfigurationError: If a task fails or is lost, or Slurm takes no jobs.
            SubmittedJobsError: If Slurm does.
        """
        parts = [part for source, found in documents.items() for part in _cut_parts(folder, source, found)]
        step = ShardStep(folder.absolute(), tuple(parts), makers)
        if self.name == "slurm":
            raise self._submit(step)
        if parts:
            self._run(step)

    def _run(self, step: ShardStep) -> None:
        if self.name == "local":
            tasks = min(self.workers or usable_cores(), len(step.parts))
            with Workers(tasks) as workers:
                for made in [workers.submit(self.name, step, (rank, tasks)) for rank in range(tasks)]:
                    made.result()
            return
        import ray

        ray.init(log_to_driver=False, logging_level="WARNING")
        try:
            tasks = min(self.workers or int(ray.cluster_resources().get("CPU", 1)), len(step.parts))
            given = ray.put(step)
            # One whose process or machine is lost is begun again, three times; what it had made stays.
            ray.get([ray.remote(ShardStep.make).remote(given, (rank, tasks)) for rank in range(tasks)])
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise ConfigurationError(
                f"--executor ray: found a task that ended ({type(error).__name__}: {str(error).partition('.')[0]}), "
                "expected it to go on; go on with --resume"
            ) from None
        finally:
            ray.shutdown()

    def _submit(self, step: ShardStep) -> SubmittedJobsError:
        from datatrove.executor import SlurmPipelineExecutor

        asked = {name: value for name, value in self.sbatch.items() if name not in _ASKED}
        # Shards say themselves whether they are there. With skip_completed datatrove would ask its notes, of former
        # tasks, which had other parts.
        given: dict[str, Any] = {
            **{name: self.sbatch[name] for name in _ASKED},
            "qos": None,
            # A job that waits for one that failed is taken out.
            "sbatch_args": {"kill-on-invalid-dep": "yes", **asked},
            # The environment of this process, whether pip or conda made it.
            "env_command": f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
            "skip_completed": False,
        }
        tasks = min(self.workers or 1, len(step.parts))
        shards = SlurmPipelineExecutor(
            [step], tasks=tasks, job_name="ko-cpt-shards", logging_dir=str(self.logs / "shards"), **given
        )
        pack = SlurmPipelineExecutor(
            [self.pack],
            tasks=1,
            job_name="ko-cpt-pack",
            logging_dir=str(self.logs / "pack"),
            depends=shards if tasks else None,
            **given,
        )
        shards.launch_merge_stats = pack.launch_merge_stats = _no_statistics
        try:
            pack.launch_job()
        except subprocess.CalledProcessError as error:
            raise ConfigurationError(
                f"sbatch: found exit code {error.returncode}, expected a job; it says above why, the script is in "
                f"{self.logs}"
            ) from None
        return SubmittedJobsError(shards.job_id if tasks else None, pack.job_id)


def _no_statistics() -> None:
    """In place of datatrove's job that sums up what its own steps count: these count nothing."""


def _cut_parts(folder: Path, source: str, documents: Iterable[Document]) -> Iterator[Path]:
    """The parts of a source that shards are to be made of, written where they are not there."""
    for shard, part in shard_parts(folder / source, documents):
        path = shard.with_name(shard.name + _PART)
        if shard.exists():
            path.unlink(missing_ok=True)
            continue
        if not path.exists():
            _write_part(path, part)
        yield path.relative_to(folder)


def _write_part(path: Path, documents: Sequence[Document]) -> None:
    table = pa.table(dict(zip(Document._fields, map(list, zip(*documents, strict=True)), strict=True)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_table(table)
    write_whole(path, sink.getvalue().to_pybytes())


def _read_part(path: Path) -> list[Document]:
    try:
        with pa.ipc.open_stream(path.read_bytes()) as stream:
            return [Document(**row) for row in stream.read_all().to_pylist()]
    except (pa.ArrowException, OSError):
        path.unlink(missing_ok=True)
        raise ConfigurationError(
            f"{path}: found a part of the texts that was damaged after it was written, expected it whole; go on with "
            "--resume, which cuts it again"
        ) from None
