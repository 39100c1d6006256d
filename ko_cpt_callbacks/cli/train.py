"""``ko-cpt train``: a recipe by id or path, run; the heavy libraries are imported when it is known to be valid."""

from __future__ import annotations

import errno
import io
import logging
import os
import shlex
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from ko_cpt_callbacks.check.terminal import guarded, printable_lines
from ko_cpt_callbacks.errors import ConfigurationError, error_text, meant
from ko_cpt_callbacks.messages.terminal import printable

if TYPE_CHECKING:
    from ko_cpt_callbacks.recipe.reading import RecipeFile

_FAILED: Final = 1
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
_NO_PLACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_TORCH_WRITES: Final = "inline_container.cc"  # where torch's own archive writer raises
_LITTLE: Final = 1 << 20  # bytes
RUNS: Final = Path("runs")


class Device(StrEnum):
    """Where a run trains."""

    CPU = "cpu"
    CUDA = "cuda"


class Smoke(StrEnum):
    """What a recipe is tried out on."""

    OWN = "own"
    BUNDLED = "bundled"


class SmokeCommand(TyperCommand):
    """A command whose ``--smoke`` may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with the word that is meant where none is given."""
        words: list[str] = []
        for place, word in enumerate(args):
            words.append(word)
            if word == "--smoke" and args[place + 1 : place + 2] not in ([one.value] for one in Smoke):
                words.append(Smoke.OWN.value)
        return super().parse_args(ctx, words)


RECIPE: Final = typer.Argument(metavar="RECIPE", help="Id of a bundled recipe, or a file.")
OUTPUT: Final = typer.Option("--output", metavar="DIR", help="Folder of the run; runs/RECIPE by default.")
CHANGES: Final = typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe; repeatable.")


def train(
    recipe: Annotated[str, RECIPE],
    output: Annotated[Path | None, OUTPUT] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    overrides: Annotated[list[str] | None, CHANGES] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="NAME", help="Train this stage alone; those before it have ended.")
    ] = None,
    smoke: Annotated[
        Smoke | None,
        typer.Option(
            "--smoke",
            metavar="[bundled]",
            help="Try it out in a few steps a stage: its own model made small, the first of its own texts; bundled: a "
            "model and texts that need no download.",
        ),
    ] = None,
    device: Annotated[
        Device | None, typer.Option("--device", help="Train there, whatever the recipe's arguments say.")
    ] = None,
) -> None:
    """Train what a recipe says: ko-cpt train quickstart."""
    # Not at the top: the other commands need neither YAML nor a schema.
    from ko_cpt_callbacks.recipe.bundle import find_recipe
    from ko_cpt_callbacks.recipe.installed import check_release
    from ko_cpt_callbacks.recipe.reading import read_recipe
    from ko_cpt_callbacks.recipe.smoke import on_device, smoke_recipe

    changes = overrides or []

    def action() -> None:
        path = find_recipe(recipe)
        check_release()  # a recipe's arguments are checked against those of the installed one
        file = read_recipe(path, changes)
        name = file.recipe.id
        _check_stage(stage, list(file.recipe.stages))
        place = "cpu" if smoke and device is None else device
        if smoke is not None:
            name = f"{name}-smoke"
        if smoke is Smoke.BUNDLED:
            smoke_recipe(file, str(place))  # of what family it is, before a library is loaded
        if place is not None:
            file = on_device(file, str(place))
        folder = RUNS / name if output is None else output
        tried = {"--smoke": smoke is not None, "bundled": smoke is Smoke.BUNDLED}
        chosen = {"--output": output, "--stage": stage, "--device": device, "--set": changes, **tried}
        words = command_words("train", recipe, chosen)
        where = None if device is None else device.value
        options = {"resume": resume, "stage": stage, "smoke": smoke is not None, "device": where}
        _run(file, folder, words, options, smoke)

    guarded("train", action)


def _run(file: RecipeFile, folder: Path, words: list[str], options: dict[str, Any], smoke: Smoke | None = None) -> None:
    from ko_cpt_callbacks.recipe.plausibility import recipe_notes

    began = time.monotonic()
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    again = shlex.join([*words, "--resume"]) if alone else "the same launch, with --resume"
    say = say_lines if _is_first() else _silent
    try:
        quiet()
        say(f"{file.recipe.title}\n{folder}, from {file.path}")
        for note in recipe_notes(file):
            say(note)
        from transformers.utils.logging import disable_progress_bar

        from ko_cpt_callbacks.training.run import FailedStageError, RunOptions, run_recipe
        from ko_cpt_callbacks.training.smoke import WrongChangeError
        from ko_cpt_callbacks.training.trainer import InterruptedTrainingError

        disable_progress_bar()  # type: ignore[no-untyped-call]  # of weights that are read and written
        needed: int | None = None
        if smoke is not None:
            file, needed = _small(file, folder, smoke, options)
        try:
            run_recipe(file, folder, RunOptions(**options))
        except InterruptedTrainingError as stop:
            stopped(f"Stopped at step {stop.step}, with a checkpoint.", again)
        except (FailedStageError, WrongChangeError) as failure:
            typer.echo(f"ko-cpt train: {printable(str(failure))}", err=True)
            raise typer.Exit(_FAILED) from None
    except KeyboardInterrupt:
        stopped("Stopped at once; what was done since the last checkpoint will be done again.", again)
    except Exception as error:
        said = no_place(error, folder)
        if said is None:
            raise
        line = printable(f"ko-cpt train: {folder}: {said}. Make room or make it writable, then go on:")
        typer.echo(f"\n{line}\n  {printable(again)}", err=True)
        raise typer.Exit(_FAILED) from None
    if smoke is not None:
        _say_smoke(file, needed, options["stage"], say)
    elif _is_first():
        from ko_cpt_callbacks.check.staged_page import print_closing_page

        watched = (stage.watch.baseline for stage in file.recipe.stages.values())
        print_closing_page(folder, next((name for name in watched if name is not None), None))
        took = time.monotonic() - began
        say(f"\nTook {took:.0f} s. Judge it again: ko-cpt check {shlex.quote(str(folder))}")
        _report(folder)


def _report(folder: Path) -> None:
    """Write the page of the run; a run that is over is no worse for a page that cannot be written."""
    from ko_cpt_callbacks.report.page import REPORT_FILE, write_report

    file = folder / REPORT_FILE
    try:
        write_report([str(folder)], file)
    except Exception as error:
        typer.echo(f"ko-cpt train: {printable(f'{file}: no report: {error_text(error)}')}", err=True)
    else:
        say_lines(f"Look at it: {file}")


def _small(file: RecipeFile, folder: Path, smoke: Smoke, options: dict[str, Any]) -> tuple[RecipeFile, int | None]:
    """The recipe to try out, and the bytes that the whole one needs of a GPU; None where they are not known."""
    place = options["device"] or Device.CPU.value
    if smoke is Smoke.OWN:
        from ko_cpt_callbacks.training.smoke import own_smoke

        return own_smoke(file, folder, place, resume=options["resume"])
    from ko_cpt_callbacks.cli.recipe_page import needs
    from ko_cpt_callbacks.recipe.smoke import on_device, smoke_recipe

    return on_device(smoke_recipe(file, place), place), needs(file)


def _say_smoke(file: RecipeFile, needed: int | None, stage: str | None, say: Callable[[str], None]) -> None:
    from ko_cpt_callbacks.cli.recipe_page import gibibytes

    count = 1 if stage is not None else len(file.recipe.stages)
    memory = "memory not estimated" if needed is None else f"{gibibytes(needed)} GiB estimated"
    say(f"smoke ok: {count} stage{'' if count == 1 else 's'}, the right tensors moved, {memory}")


def no_place(error: BaseException | None, folder: Path) -> str | None:
    """What an error says of a disk that takes nothing more; None where it is another error.

    safetensors and Arrow raise classes of their own, with the system's words, or its number, in their text. torch
    says nothing of the reason: then the disk is asked.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            said = os.strerror(error.errno)
            return f"{said} ({error.filename})" if error.filename else said
        for number in _NO_PLACE:
            if os.strerror(number) in str(error) or f"(os error {number})" in str(error):
                return os.strerror(number)
        if _TORCH_WRITES in str(error) and folder.exists() and shutil.disk_usage(folder).free < _LITTLE:
            return os.strerror(errno.ENOSPC)
        error = error.__cause__ or error.__context__
    return None


def _check_stage(stage: str | None, known: list[str]) -> None:
    if stage is not None and stage not in known:
        hint = meant(stage, known)
        raise ConfigurationError(f"--stage: found {stage!r}, expected one of {', '.join(known)}.{hint}")


def stopped(what: str, again: str) -> None:
    """Say what was stopped and how to go on, and exit."""
    if _is_first():
        typer.echo(f"\n{what} To go on:\n  {printable(again)}", err=True)
    raise typer.Exit(_INTERRUPTED)


def command_words(command: str, recipe: str, options: Mapping[str, Any]) -> list[str]:
    """A command as it can be given again: options that were given, flags that are set, every value of a list."""
    words = ["ko-cpt", command, recipe]
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                words += [name, str(one)]
    return words


def _is_first() -> bool:
    """Whether this is the first of the processes that one launcher started."""
    return os.environ.get("RANK", "0") == "0"


def say_lines(text: str) -> None:
    """Print, without what a title or a path could do to the terminal."""
    typer.echo(printable_lines(text))


def _silent(text: str) -> None:
    """What other processes than the first have to say."""


def quiet() -> None:
    """Keep the libraries' bars and notices from tearing the run's own lines, and show each line at once."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    # Before its import: bitsandbytes warns when it is imported on CPU, and then once per matrix product.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # peft uses a deprecated name
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
