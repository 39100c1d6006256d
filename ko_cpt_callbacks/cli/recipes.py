"""``ko-cpt recipes`` and ``ko-cpt validate``: what can be trained, what it needs, and whether a file is right.

Exit status: 0 done, 2 an argument or a file cannot be used (on stderr, a line for every mistake).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer

from ko_cpt_callbacks.check.terminal import (
    LIST_OF_OBJECTS,
    ONE_OBJECT,
    complain,
    fail,
    guarded,
    in_range,
    one_of,
    print_json,
    print_page,
)
from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.finding import Severity

if TYPE_CHECKING:
    from ko_cpt_callbacks.recipe.memory import Sharding, StageMemory
    from ko_cpt_callbacks.recipe.reading import RecipeFile
    from ko_cpt_callbacks.recipe.schema import Page
    from ko_cpt_callbacks.yaml.reading import KeyMistake

__all__ = ["recipes", "validate"]

_WIDTH: Final = 120
_FORMAT: Final = 1
_MOST_GPUS: Final = 1_000_000  # chosen, not measured
_TARGET: Final = "eval_ko_bits_per_byte<-2%@end"
"""Two percent fewer bits per byte than before the first step; chosen, not measured."""

recipes: typer.Typer = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the recipes that come with the package, show one, say what memory it needs, copy it.",
)


@recipes.callback()
def every(
    context: typer.Context, as_json: Annotated[bool, LIST_OF_OBJECTS] = False
) -> None:
    """List the recipes that come with the package."""
    if context.invoked_subcommand is None:
        guarded("recipes", lambda: _list(as_json=as_json))
    elif as_json:
        fail("recipes", ConfigurationError("--json: found before a command, expected after it"))


@recipes.command()
def show(
    recipe: Annotated[str, typer.Argument(metavar="ID", help="As `ko-cpt recipes` lists it, or a file.")],
    gpu_memory: Annotated[
        bool, typer.Option("--gpu-memory", help="What each stage needs of a GPU's memory, term by term.")
    ] = False,
    gpus: Annotated[int, typer.Option("--gpus", metavar="N", help="How many GPUs share the work.")] = 1,
    sharding: Annotated[
        str,
        typer.Option(
            metavar="none|zero2|full", help="none: DDP; zero2: gradients and optimizer state; full: FSDP, ZeRO-3."
        ),
    ] = "none",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value, for the memory; repeatable."),
    ] = None,
    as_json: Annotated[bool, ONE_OBJECT] = False,
) -> None:
    """Print a recipe, or what it needs: ko-cpt recipes show redwhale --gpu-memory --gpus 8 --sharding full."""

    def action() -> None:
        from ko_cpt_callbacks.recipe.memory import SHARDINGS

        in_range("--gpus", gpus, 1, _MOST_GPUS, "a whole number")
        one_of("--sharding", sharding, SHARDINGS)
        asked = gpus != 1 or sharding != "none" or bool(overrides)
        if asked and not gpu_memory:
            raise ConfigurationError("--gpus, --sharding and --set: found without --gpu-memory, expected with it")
        if gpu_memory:
            _memory(recipe, gpus, cast("Sharding", sharding), overrides or [], as_json=as_json)
        else:
            _show(recipe, as_json=as_json)

    guarded("recipes show", action)


@recipes.command()
def copy(
    recipe: Annotated[str, typer.Argument(metavar="ID", help="As `ko-cpt recipes` lists it, or a file.")],
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="The new file, or a folder for it; default: ID.yaml here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a recipe to a file of your own, to change it."""

    def action() -> None:
        from ko_cpt_callbacks.recipe.bundle import copy_recipe

        name = printable(shlex.quote(str(copy_recipe(recipe, path, force=force))))
        typer.echo(f"{name}: written. Change it, then: ko-cpt validate {name} && ko-cpt train {name}")

    guarded("recipes copy", action)


@recipes.command()
def new(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The new file; default: recipe.yaml.")] = "recipe.yaml",
    base: Annotated[str | None, typer.Option("--base", help="The model: its folder, or its id on the hub.")] = None,
    corpus: Annotated[str | None, typer.Option("--corpus", help="Korean text: a file, a folder or a pattern.")] = None,
    card: Annotated[float | None, typer.Option("--card", metavar="GB", help="Memory of the GPU; 48.")] = None,
    hours: Annotated[float | None, typer.Option("--hours", help="How long it may train; 12.")] = None,
    target: Annotated[
        str | None, typer.Option("--target", help=f"What it must reach; {_TARGET}, and none for none.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: what is not given is as said here.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a recipe of your own, with every line explained: asks five questions."""

    def ask(question: str, given: Any, default: Any) -> Any:
        if given is not None or (yes and default is not None):
            return default if given is None else given
        if yes:
            raise ConfigurationError(f"--yes: found no --{question.partition(':')[0]}, expected it too")
        return typer.prompt(question, default=default, type=None if default is None else type(default))

    def action() -> None:
        from ko_cpt_callbacks.cli.recipe_new import RecipeOptions, write_recipe

        wanted = RecipeOptions(
            str(ask("base: the folder of a model, or its id on the hub", base, None)),
            str(ask("corpus: a file, a folder or a pattern of Korean text", corpus, None)),
            float(ask("card: memory of the GPU in GB", card, 48.0)),
            float(ask("hours: how long it may train", hours, 12.0)),
            str(ask("target: what the evaluation must reach, or none", target, _TARGET)),
        )
        needed = write_recipe(Path(path), wanted, force=force)
        from ko_cpt_callbacks.cli.recipe_page import gibibytes

        memory = "its memory is known when the base is loaded"
        if needed is not None:
            memory = f"{gibibytes(needed)} GiB of {wanted.card:g}"
        name = printable(shlex.quote(str(Path(path))))
        typer.echo(f"{name}: written, {memory}. Read it, then: ko-cpt validate {name} && ko-cpt train {name} --smoke")

    guarded("recipes new", action)


@recipes.command()
def schema() -> None:
    """Print the JSON Schema of recipes, by which an editor completes and checks one."""

    def action() -> None:
        from ko_cpt_callbacks.recipe.schema import json_schema

        print_json(json_schema())

    guarded("recipes schema", action)


def validate(file: Annotated[str, typer.Argument(metavar="FILE", help="A recipe's file, or its id.")]) -> None:
    """Check a recipe before anything is loaded: every mistake at once, each with its line."""
    guarded("validate", lambda: _validate(file))


def summary(file: RecipeFile) -> dict[str, Any]:
    """What the list says of a recipe, as JSON values."""
    from ko_cpt_callbacks.cli.recipe_page import needs, numbers_of
    from ko_cpt_callbacks.recipe.family import NotCountedError

    page, parameters = file.recipe, None
    with suppress(NotCountedError):
        page, count = numbers_of(file)
        parameters = count.total
    shape = page.base.known_sizes
    return {
        "id": page.id,
        "title": page.title,
        "task": page.task,
        "model": page.base.model,
        "family": None if shape is None else shape.family,
        "parameters": parameters,
        "dtype": page.base.dtype,
        "quantization": page.base.quantization,
        "sequence_length": page.data.sequence_length,
        "stages": list(page.stages),
        "baselines": sorted({stage.watch.baseline for stage in page.stages.values() if stage.watch.baseline}),
        "gpu_memory_bytes": needs(file),
        "file": str(file.path),
    }


def _list(*, as_json: bool) -> None:
    from ko_cpt_callbacks.recipe.bundle import recipe_ids

    files, errors = [], []
    for id in recipe_ids():
        try:
            files.append(_read(id))
        except KoCPTError as error:  # one that is broken must not hide the others
            errors.append(error)
    if as_json:
        print_json([summary(file) for file in files])
    else:
        from ko_cpt_callbacks.cli.recipe_page import list_page

        print_page(list_page(files), _WIDTH)
    for broken in errors:
        complain("recipes", broken)


def _show(recipe: str, *, as_json: bool) -> None:
    file = _read(recipe)
    if as_json:
        print_json({"format": _FORMAT, **summary(file), "recipe": file.document.values})
        return
    for line in file.path.read_text(encoding="utf-8").splitlines():
        typer.echo(printable(line))


def _memory(recipe: str, gpus: int, sharding: Sharding, overrides: list[str], *, as_json: bool) -> None:
    from ko_cpt_callbacks.cli.recipe_page import memory_of, memory_page

    file = _read(recipe, overrides)
    page, found = file.recipe, memory_of(file, gpus, sharding)
    if as_json:
        stages = [_as_json(item) for item in found]
        print_json({"format": _FORMAT, "id": page.id, "title": page.title, "stages": stages})
    else:
        print_page(memory_page(page, found), _WIDTH)


def _as_json(memory: StageMemory) -> dict[str, Any]:
    return {
        "stage": memory.stage,
        "gpus": memory.gpus,
        "sharding": memory.sharding,
        "trainable": memory.trainable,
        "bytes": memory.bytes,
        "terms": [
            {"name": term.name, "bytes": term.bytes, "counted": term.counted, "how": term.how} for term in memory.terms
        ],
    }


def _validate(file: str) -> None:
    from ko_cpt_callbacks.cli.recipe_page import gibibytes, memory_of
    from ko_cpt_callbacks.recipe.bundle import is_bundled
    from ko_cpt_callbacks.recipe.family import NotCountedError
    from ko_cpt_callbacks.recipe.plausibility import recipe_notes
    from ko_cpt_callbacks.recipe.text_checks import look_at_texts, text_mistakes

    read = _read(file, further=text_mistakes)
    page = read.recipe
    look = look_at_texts(read)
    bundled = is_bundled(read.path)
    if look.mistakes and not bundled:
        raise read.error(look.mistakes)
    sources = ", a source for every number" if bundled else ""
    texts = ", the beginnings of its texts" if any(part.files for part in page.data.sources.values()) else ""
    stages = "1 stage" if len(page.stages) == 1 else f"{len(page.stages)} stages"
    try:
        needed = f"{gibibytes(max(memory.bytes for memory in memory_of(read)))} GiB on one GPU"
    except NotCountedError as error:
        needed = f"memory {error}"
    typer.echo(
        f"{printable(file)}: recipe {page.id}, {stages}, {printable(needed)}. Checked: every key, "
        f"what its parts must agree on{sources}{texts}, {_arguments_checked()}, which ko-cpt train asks "
        "before it loads anything."
    )
    _tell_doubts(page)
    for note in recipe_notes(read):
        typer.echo(printable(note))
    if look.mistakes:  # a bundled recipe may want texts of the user's own
        for line in str(read.error(look.mistakes)).splitlines():
            typer.echo(printable(f"note: for a copy of your own: {line}"))
    for unseen in dict.fromkeys(look.unseen):
        typer.echo(printable(f"note: not looked at: {unseen}"))


def _tell_doubts(page: Page) -> None:
    """What is to be asked twice about the targets of each stage, a line for each."""
    from ko_cpt_callbacks.compare.registry import baseline_data
    from ko_cpt_callbacks.rules.registry import known_limits
    from ko_cpt_callbacks.watch.plausibility import doubts_of
    from ko_cpt_callbacks.watch.spec import WatchSpec, recipe_kwargs

    language = language_of("", None, os.environ) or DEFAULT_LANGUAGE
    known, values = known_limits(), page.model_dump(include={"task", "eval", "stages"})
    for name in page.stages:
        spec = WatchSpec.from_kwargs(known, baseline_data, **recipe_kwargs(values, name))
        for doubt in doubts_of(spec.targets, spec.task):
            word = "note" if doubt.severity is Severity.INFO else doubt.severity.value
            typer.echo(printable(f"{word}: stages.{name}.watch.targets: {doubt.message(language)}"))


def _arguments_checked() -> str:
    """What is known of the arguments without importing transformers, and what is not."""
    from ko_cpt_callbacks.recipe.installed import installed_arguments

    if installed_arguments() is None:
        return (
            "the range of the arguments that are counted with. Not checked: names and kinds of its arguments, and "
            "the family of its base, because no transformers was found here, or one of another kind; what transformers "
            "itself says of them"
        )
    return (
        "its arguments' names, kinds, words and ranges for the installed transformers. Not checked: what transformers "
        "itself says of them (what fits together, what this machine can do)"
    )


def _read(
    recipe: str, overrides: list[str] | None = None, further: Callable[[Any, Path], list[KeyMistake]] | None = None
) -> RecipeFile:
    # Not at the top: the other commands need neither YAML nor a schema.
    from ko_cpt_callbacks.recipe.bundle import find_recipe
    from ko_cpt_callbacks.recipe.reading import read_recipe

    if not recipe:
        raise ConfigurationError("found an empty text, expected a recipe's id or file; is a variable unset?")
    return read_recipe(find_recipe(recipe), overrides or [], further)
