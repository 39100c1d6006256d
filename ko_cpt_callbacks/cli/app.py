"""The commands of ``ko-cpt``: arguments in, text out; what is said comes from the other rooms."""

from __future__ import annotations

import difflib
import textwrap
from typing import Annotated, Final

import typer

import ko_cpt_callbacks
from ko_cpt_callbacks.cli.baselines import baselines
from ko_cpt_callbacks.cli.check import check
from ko_cpt_callbacks.cli.compare import compare
from ko_cpt_callbacks.cli.recipes import recipes, validate
from ko_cpt_callbacks.cli.train import train
from ko_cpt_callbacks.core.message import CODES, explanation

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)
app.command()(check)
app.command()(compare)
app.command()(train)
app.command()(validate)
app.add_typer(baselines, name="baselines")
app.add_typer(recipes, name="recipes")

_UNKNOWN: Final = 2  # as for every other wrong argument
_WIDTH: Final = 96
_INDENT: Final = "  "


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ko-cpt {ko_cpt_callbacks.__version__}")
        raise typer.Exit


@app.callback()
def ko_cpt(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Exact loss, perplexity and bits per byte for continued pretraining."""


@app.command()
def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="A finding's code; none: list them.")] = None,
) -> None:
    """Say what a finding's code means, how it is decided and what to do."""
    if code is None:
        for known in sorted(CODES):
            typer.echo(known)
        return
    if code not in CODES:
        near = difflib.get_close_matches(code, CODES, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        typer.echo(f"ko-cpt explain: found {code!r}, expected one of {', '.join(sorted(CODES))}.{hint}", err=True)
        raise typer.Exit(_UNKNOWN)
    said = explanation(code)
    typer.echo(code)
    for title, text in (
        ("What it means", said.meaning),
        ("How it is decided", said.decided),
        ("What to do", said.action),
        ("More, with an example and what looks like it", f"docs/findings/{code}.md in the repository"),
    ):
        # A code such as non-finite is one word.
        lines = textwrap.wrap(text, _WIDTH - len(_INDENT), break_on_hyphens=False)
        typer.echo(f"\n{title}\n" + textwrap.indent("\n".join(lines), _INDENT))
