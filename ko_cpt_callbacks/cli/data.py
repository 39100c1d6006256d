"""``ko-cpt data``: the rows of a recipe, made before anything trains."""

from __future__ import annotations

import gc
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ko_cpt_callbacks.check.terminal import guarded, in_range
from ko_cpt_callbacks.cli.train import (
    CHANGES,
    OUTPUT,
    RECIPE,
    RUNS,
    command_words,
    no_place,
    quiet,
    say_lines,
    stopped,
)
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.workers import keep_freed_memory, usable_cores

if TYPE_CHECKING:
    from ko_cpt_callbacks.recipe.reading import RecipeFile
    from ko_cpt_callbacks.training.data.encode import Document

_FAILED: Final = 1
_MOST_WORKERS: Final = 1024  # processes, or tasks of a cluster; chosen, not measured


def data(
    recipe: Annotated[str, RECIPE],
    output: Annotated[Path | None, OUTPUT] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the rows in that folder.")] = False,
    overrides: Annotated[list[str] | None, CHANGES] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Processes; as many as there are cores.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what cannot be read, and list it; otherwise it is refused.")
    ] = False,
    executor: Annotated[
        str | None,
        typer.Option("--executor", metavar="local|ray|slurm", help="Have the work done on many machines."),
    ] = None,
    sbatch: Annotated[
        list[str] | None,
        typer.Option("--sbatch", metavar="KEY=VALUE", help="An option of Slurm's sbatch: partition=cpu; repeatable."),
    ] = None,
) -> None:
    """Make the rows that a recipe trains on: ko-cpt data quickstart."""
    # Not at the top: the other commands need neither YAML nor a schema.
    from ko_cpt_callbacks.recipe.bundle import find_recipe
    from ko_cpt_callbacks.recipe.reading import read_recipe

    changes = overrides or []

    def action() -> None:
        in_range("--workers", workers, 1, _MOST_WORKERS, "a whole number")
        file = read_recipe(find_recipe(recipe), changes)
        folder = RUNS / file.recipe.id if output is None else output
        given = _sbatch_options(sbatch or [])
        if executor is not None:
            _check_executor(file, executor, workers, given)
        elif given:
            raise ConfigurationError("--sbatch: found no --executor, expected --executor slurm")
        shared = {"--output": output, "--set": changes}
        own = {"--workers": workers, "--executor": executor, "--sbatch": sbatch, "--skip-bad": skip_bad}
        again = shlex.join(command_words("data", recipe, {**shared, **own, "--resume": True}))
        train = shlex.join(command_words("train", recipe, {**shared, "--resume": True}))
        options = {"resume": resume, "workers": workers, "skip_bad": skip_bad, "executor": executor, "sbatch": given}
        _make(file, folder, again, train, {**options, "changes": changes})

    guarded("data", action)


def _sbatch_options(given: list[str]) -> dict[str, str]:
    found = {}
    for option in given:
        name, sign, value = option.removeprefix("--").partition("=")
        if not sign or not name:
            raise ConfigurationError(f"--sbatch: found {option!r}, expected KEY=VALUE")
        found[name] = value
    return found


def _check_executor(file: RecipeFile, name: str, workers: int | None, sbatch: dict[str, str]) -> None:
    from ko_cpt_callbacks.training.data.executor import check_executor

    sources = file.recipe.data.sources
    check_executor(name, workers, sbatch, [name for name in file.recipe.data.mix if sources[name].hub])


def _make(file: RecipeFile, folder: Path, again: str, train: str, options: dict[str, Any]) -> None:
    quiet()
    # Workers are other processes; this one's tokenizer would start a thread a core beside them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from ko_cpt_callbacks.training.data.executor import Executor, PackStep, SubmittedJobsError
    from ko_cpt_callbacks.training.data.reading import BadInputs
    from ko_cpt_callbacks.training.data.report import REPORT_FILE
    from ko_cpt_callbacks.training.data.rows import Making
    from ko_cpt_callbacks.training.run import RunOptions, run_recipe

    say_lines(f"{file.recipe.title}\n{folder}, from {file.path}")
    keep_freed_memory()
    gc.freeze()  # what was imported stays: it is not looked through again and again while texts are read
    bad = BadInputs() if options["skip_bad"] else None
    name, workers = options["executor"], options["workers"]
    pack = PackStep(file.path.absolute(), tuple(options["changes"]), folder.absolute(), options["skip_bad"])
    elsewhere = None if name is None else Executor(name, workers, options["sbatch"], pack)
    try:
        with ReadingBar(_text_size(file)) as bar:
            making = Making((workers or usable_cores()) if elsewhere is None else 1, bar, elsewhere)
            run = run_recipe(file, folder, RunOptions(options["resume"], data=True, making=making, bad=bad))
    except SubmittedJobsError as jobs:
        first = "" if jobs.shards is None else f"Job {jobs.shards} of Slurm makes the shards. "
        say_lines(f"{first}Job {jobs.pack} packs the rows.\nLogs are in {folder / 'executor'}")
        return
    except KeyboardInterrupt:
        stopped("Stopped; what was made of the texts stays.", again)
    except OSError as error:
        said = no_place(error, folder)
        if said is None:
            raise
        line = printable(f"ko-cpt data: {folder}: {said}. Make room or make it writable, then go on with --resume.")
        typer.echo(line, err=True)
        raise typer.Exit(_FAILED) from None
    say_lines(f"\n{run.data / REPORT_FILE}\nTrain on them: {train}")


def _text_size(file: RecipeFile) -> int | None:
    """Bytes of the texts, about; None where a file is packed, or on the hub."""
    from ko_cpt_callbacks.recipe.text_files import files_of, format_of

    size = 0
    for name in file.recipe.data.mix:
        source = file.recipe.data.sources[name]
        paths = [path for pattern in source.patterns for path in files_of(file.path.parent / pattern)]
        if not paths or any(path.suffix == ".parquet" or format_of(path.with_suffix("")) for path in paths):
            return None
        size += sum(path.stat().st_size for path in paths)
    return size


class ReadingBar:
    """How fast texts are read and how much filters dropped, on a terminal; nothing elsewhere.

    Args:
        size: Bytes of all texts; None where it is not known.
    """

    def __init__(self, size: int | None) -> None:
        from rich.console import Console
        from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        columns = (TextColumn("reading"), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        words = TextColumn("{task.fields[dropped]}")
        self._bar = Progress(*columns, words, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=size, dropped="")
        self._size = 0
        self._dropped: dict[str, int] = {}

    def __enter__(self) -> ReadingBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def read(self, document: Document) -> None:
        """See a document that was read."""
        self._size += document.size
        if self._size > 1 << 20:
            self._bar.advance(self._task, self._size)
            self._size = 0

    def dropped(self, name: str, documents: int) -> None:
        """See that a filter dropped some more."""
        if documents:
            self._dropped[name] = self._dropped.get(name, 0) + documents
            self._bar.update(self._task, dropped=", ".join(f"{key} -{count:,}" for key, count in self._dropped.items()))
