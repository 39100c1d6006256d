"""``ko-cpt baselines``: which runs there are to compare with, what is known of each, and one's own beside them.

Exit status: 0 done, 2 an argument, a run or a file cannot be used (on stderr, a line for every mistake).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.terminal import LIST_OF_OBJECTS, ONE_OBJECT, complain, fail, guarded, print_json, print_page
from ko_cpt_callbacks.errors import ConfigurationError, refuse_empty
from ko_cpt_callbacks.messages.terminal import printable

if TYPE_CHECKING:
    from ko_cpt_callbacks.compare.entry import Entry

__all__ = ["baselines"]

_WIDTH: Final = 120
_LIST_WIDTH: Final = 80
_FORMAT: Final = 1

baselines: typer.Typer = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the runs to compare with: published ones, with the grade of what is known of them, and your own.",
)


@baselines.callback()
def every(
    context: typer.Context, as_json: Annotated[bool, LIST_OF_OBJECTS] = False
) -> None:
    """List the runs to compare with."""
    if context.invoked_subcommand is None:
        guarded("baselines", lambda: _list(as_json=as_json))
    elif as_json:
        fail("baselines", ConfigurationError("--json: found before a command, expected after it"))


@baselines.command()
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `ko-cpt baselines` lists it.")],
    as_json: Annotated[bool, ONE_OBJECT] = False,
) -> None:
    """Show all that is known of one: figures with grade and place, what is not stated, sources."""
    guarded("baselines show", lambda: _show(id, as_json=as_json))


@baselines.command()
def validate(file: Annotated[str, typer.Argument(metavar="FILE", help="A baseline's file, <id>.yaml.")]) -> None:
    """Check a file: its keys, that printed digits and values agree, that computed figures come out again."""
    guarded("baselines validate", lambda: _validate(file))


@baselines.command()
def add(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder (output_dir), a checkpoint, or a trainer_state.json.")
    ],
    id: Annotated[str, typer.Option("--id", metavar="ID", help="Its name: small letters, digits, -, _ and '.'.")],
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="One line for people.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Of each set the evaluation with the lowest loss; default: the last.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the one of yours that has this name.")] = False,
) -> None:
    """Keep a run of yours to compare later runs with."""
    guarded("baselines add", lambda: _add(run, id, title, best=best, force=force))


def summary(entry: Entry) -> dict[str, Any]:
    """What the list says of a baseline, as JSON values."""
    from ko_cpt_callbacks.cli.baseline_page import figure_range

    loss, bits = (figure_range(entry.baseline(), metric) for metric in ("loss", keys.BITS_PER_BYTE))
    return {
        "id": entry.file.id,
        "title": entry.file.title,
        "grade": entry.grade,
        "stages": [stage.name for stage in entry.file.stages],
        "kind": entry.file.kind,
        "status": entry.file.status,
        "language": entry.file.language,
        "version": entry.file.version,
        "superseded_by": entry.file.superseded_by,
        "why_not": entry.file.why_not,
        "loss": None if loss is None else asdict(loss),
        keys.BITS_PER_BYTE: None if bits is None else asdict(bits),
        "file": str(entry.path),
    }


def _list(*, as_json: bool) -> None:
    # Not at the top: the other commands need neither YAML nor a schema.
    from ko_cpt_callbacks.compare.registry import entries

    found, errors = entries()
    if as_json:
        print_json([summary(entry) for entry in found])
    else:
        from ko_cpt_callbacks.cli.baseline_page import list_page

        print_page(list_page(found), _LIST_WIDTH)
    for error in errors:
        complain("baselines", error)


def _show(id: str, *, as_json: bool) -> None:
    from ko_cpt_callbacks.compare.registry import find_entry

    entry = find_entry(id)
    if as_json:
        said = {"format": _FORMAT, **summary(entry), "entry": entry.values, "baseline": entry.baseline().as_dict()}
        print_json(said)
        return
    from ko_cpt_callbacks.cli.baseline_page import entry_page

    print_page(entry_page(entry), _WIDTH)


def _validate(file: str) -> None:
    from ko_cpt_callbacks.compare.registry import read_entry

    entry = read_entry(Path(file))
    figures = entry.figures()
    computed = sum(figure.origin == "computed" for figure in figures)
    typer.echo(
        f"{printable(file)}: baseline {entry.file.id}, grade {entry.grade}. Checked: every key, {len(figures)} figures "
        f"(digits, value and origin agree; {computed} computed ones come out again), {len(entry.file.stages)} stages, "
        f"{len(entry.file.values or ())} values, {len(entry.file.sources)} sources."
    )


def _add(run: str, id: str, title: str | None, *, best: bool, force: bool) -> None:
    from ko_cpt_callbacks.cli.baseline_page import value_text
    from ko_cpt_callbacks.compare.own import add_own

    refuse_empty("RUN", run, "a path")
    added = add_own(run, id, title, best=best, force=force)
    typer.echo(f"{id}: {printable(added.entry.file.title)}, in {printable(str(added.entry.path))}")
    for stage in added.entry.baseline().stages:
        for value in stage.values:
            typer.echo(f"  {printable(value.set)}: {value_text(value)} ({value.position})")
    for sentence in added.left_out:
        typer.echo(f"  left out: {printable(sentence)}")
