"""The commands of ``ko-cpt``: arguments in, text out; what is said comes from the other rooms."""

from __future__ import annotations

import textwrap
from typing import Annotated, Final

import typer

import ko_cpt_callbacks
from ko_cpt_callbacks.check.command import check
from ko_cpt_callbacks.check.compare_command import compare
from ko_cpt_callbacks.cli.baselines import baselines
from ko_cpt_callbacks.cli.recipes import recipes, validate
from ko_cpt_callbacks.cli.train import train
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import Explanation, catalogue
from ko_cpt_callbacks.rules.limit import checked_code, limits_of
from ko_cpt_callbacks.rules.registry import known_codes, known_rules, plugin_rules

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
        for known in known_codes():
            typer.echo(known)
        return
    try:
        checked_code("ko-cpt explain", code, known_codes())
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_UNKNOWN) from None
    rule = next(rule for rule in known_rules() if rule.code == code)
    said, info = catalogue().explanation(code), rule.info
    stop = "may stop a run (stop_on)" if info.may_stop else "never stops a run"
    typer.echo(f"{code} ({', '.join(info.severities)}; {stop}; since {info.since})")
    _explain(said)
    for reason, of_reason in said.reasons.items():
        typer.echo(f"\n{code}: {reason}")
        _explain(of_reason)
    limits = [f"{name}={value:.4g}" for name, value in limits_of(rule).items()]
    if limits:
        _section("Limits (rules= of the callback, --rule of check)", " ".join(limits))
    package = next((one.package for one in plugin_rules() if one.name == code), None)
    if package is None:
        _section("More, with an example and what looks like it", f"docs/findings/{code}.md in the repository")
    else:
        _section("Whose rule it is", package)


def _explain(said: Explanation) -> None:
    _section("What it means", said.meaning)
    _section("How it is decided", said.decided)
    _section("What to do", said.advice)


def _section(title: str, text: str) -> None:
    # A code such as non-finite is one word.
    lines = textwrap.wrap(text, _WIDTH - len(_INDENT), break_on_hyphens=False)
    typer.echo(f"\n{title}\n" + textwrap.indent("\n".join(lines), _INDENT))
