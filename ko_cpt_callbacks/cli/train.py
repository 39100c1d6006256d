"""``ko-cpt train``: a recipe by id or path, run; the heavy libraries are imported when it is known to be valid."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ko_cpt_callbacks.errors import ConfigurationError, RecipeError

if TYPE_CHECKING:
    from ko_cpt_callbacks.recipe.reading import RecipeFile

_WRONG: Final = 2  # as for every other wrong argument
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it
_RUNS: Final = Path("runs")


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Id of a bundled recipe, or a file.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Folder of the run; runs/RECIPE by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe; repeatable."),
    ] = None,
) -> None:
    """Train what a recipe says: ko-cpt train quickstart."""
    # Not at the top: the other commands need neither YAML nor a schema.
    from ko_cpt_callbacks.recipe.reading import find_recipe, read_recipe

    changes = overrides or []
    try:
        file = read_recipe(find_recipe(recipe), changes)
        folder = _RUNS / file.recipe.id if output is None else output
        _run(file, folder, resume=resume, again=_again(recipe, output, changes))
    except (RecipeError, ConfigurationError) as error:
        for line in str(error).splitlines():
            typer.echo(f"ko-cpt train: {line}", err=True)
        raise typer.Exit(_WRONG) from None


def _run(file: RecipeFile, folder: Path, *, resume: bool, again: str) -> None:
    began = time.monotonic()
    try:
        _be_quiet()
        typer.echo(f"{file.recipe.title}\n{folder}, from {file.path}")
        from ko_cpt_callbacks.training.interrupt import InterruptedTrainingError
        from ko_cpt_callbacks.training.run import run_recipe

        try:
            run_recipe(file, folder, resume=resume)
        except InterruptedTrainingError as stop:
            _stopped(f"Stopped at step {stop.step}, with a checkpoint.", again)
    except KeyboardInterrupt:
        _stopped("Stopped at once; what was done since the last checkpoint will be done again.", again)
    typer.echo(f"\nTook {time.monotonic() - began:.0f} s. Judge it again: ko-cpt check {shlex.quote(str(folder))}")


def _stopped(what: str, again: str) -> None:
    typer.echo(f"\n{what} To go on:\n  {again}", err=True)
    raise typer.Exit(_INTERRUPTED)


def _again(recipe: str, output: Path | None, changes: list[str]) -> str:
    """The command that goes on with this run."""
    words = ["ko-cpt", "train", recipe]
    if output is not None:
        words += ["--output", str(output)]
    for change in changes:
        words += ["--set", change]
    return shlex.join([*words, "--resume"])


def _be_quiet() -> None:
    """Keep the libraries' bars and notices from tearing the run's own lines, and show each line at once."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    # Before its import: bitsandbytes warns when it is imported on CPU, and then once per matrix product.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # peft uses a deprecated name
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
