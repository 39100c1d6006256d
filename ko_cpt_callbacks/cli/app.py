"""The commands of ``ko-cpt``: arguments in, text out; what is reported comes from the other rooms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Final

import typer

import ko_cpt_callbacks
from ko_cpt_callbacks.check.terminal import LANGUAGE, let_print_anything, page_width, print_folded
from ko_cpt_callbacks.cli.baselines import baselines
from ko_cpt_callbacks.cli.check import check
from ko_cpt_callbacks.cli.checkpoints import checkpoints
from ko_cpt_callbacks.cli.compare import compare
from ko_cpt_callbacks.cli.data import data
from ko_cpt_callbacks.cli.forecast import forecast
from ko_cpt_callbacks.cli.frameworks import axolotl, llamafactory
from ko_cpt_callbacks.cli.measure import measure
from ko_cpt_callbacks.cli.recipes import recipes, validate
from ko_cpt_callbacks.cli.train import SmokeCommand, train
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, Explanation, catalogue, language_of
from ko_cpt_callbacks.messages.terminal import wrapped
from ko_cpt_callbacks.report.command import card, report
from ko_cpt_callbacks.rules.registry import known_codes, known_rules, plugin_rules
from ko_cpt_callbacks.rules.rule import limits_of
from ko_cpt_callbacks.watch.argument import checked_code

app: typer.Typer = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)
# Each has a short help, because one that is taken from a docstring is cut off at 80 columns.
app.command(short_help="Judge runs: what they reached, what is wrong, what to do next.")(check)
app.command(short_help="Compare runs with a baseline, or with each other.")(compare)
app.command(short_help="Say where the losses of a run will end, and whether targets are in reach.")(forecast)
app.command(short_help="Say which checkpoints equal the best, which are lost, which can go.")(checkpoints)
app.command(short_help="Measure models on a fixed text: loss, perplexity, bits per byte.")(measure)
app.command(short_help="Write runs as one HTML file with their curves.")(report)
app.command(short_help="Write a model card: measured numbers and findings.")(card)
app.command(short_help="Make the rows that a recipe trains on, with several processes.")(data)
app.command(cls=SmokeCommand, short_help="Train what a recipe says: ko-cpt train quickstart.")(train)
for framework, named in ((axolotl, "Axolotl"), (llamafactory, "LLaMA-Factory")):
    app.command(
        short_help=f"Run {named} with the ko_cpt: block of its page.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(framework)
app.command(short_help="Check a recipe before anything is loaded: every mistake at once.")(validate)
app.add_typer(baselines, name="baselines", short_help="List the runs to compare with, published and your own.")
app.add_typer(recipes, name="recipes", short_help="List the recipes that come with the package; show or copy one.")

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


@app.command(short_help="Say what a finding's code means, how it is decided, what to do.")
def explain(
    code: Annotated[str | None, typer.Argument(metavar="CODE", help="A finding's code; none: list them.")] = None,
    lang: Annotated[str | None, LANGUAGE] = None,
) -> None:
    """Say what a finding's code means, how it is decided and what to do."""
    if code is None:
        for known in known_codes():
            typer.echo(known)
        return
    let_print_anything()
    try:
        language = language_of("ko-cpt explain --lang", lang, os.environ) or DEFAULT_LANGUAGE
        checked_code("ko-cpt explain", code, known_codes())
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_UNKNOWN) from None
    rule = next(rule for rule in known_rules() if rule.code == code)
    said, info = catalogue(language).explanation(code), rule.info
    stop = "may stop a run (stop_on)" if info.may_stop else "never stops a run"
    print_folded([f"{code} ({', '.join(info.severities)}; {stop}; since {info.since})"])
    words = catalogue(language).words
    _explain(said, words)
    for reason, of_reason in said.reasons.items():
        typer.echo(f"\n{code}: {reason}")
        _explain(of_reason, words)
    limits = [f"{name}={value:.4g}" for name, value in limits_of(rule).items()]
    if limits:
        _section("Limits (rules= of the callback, --rule of check)", " ".join(limits))
    package = next((one.package for one in plugin_rules() if one.name == code), None)
    if package is None:
        _section("More, with an example and what looks like it", f"docs/findings/{code}.md in the repository")
    else:
        _section("Whose rule it is", package)


def _explain(said: Explanation, words: Mapping[str, str]) -> None:
    _section(words["What it means"], said.meaning)
    _section(words["How it is decided"], said.decided)
    _section(words["What to do"], said.advice)


def _section(title: str, text: str) -> None:
    typer.echo(f"\n{title}")
    for fact in text.split("\n"):
        typer.echo("\n".join(wrapped(f"{_INDENT}{fact}", min(_WIDTH, page_width()), _INDENT)))
