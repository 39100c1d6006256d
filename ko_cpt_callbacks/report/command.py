"""``ko-cpt report RUN…``: an HTML file that shows runs; ``ko-cpt card RUN``: a model card.

Exit status: 0 written, 2 a run, a baseline or the file cannot be used (one line on stderr).
"""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer

from ko_cpt_callbacks.check.terminal import LANGUAGE_OF_RUN, guarded, in_range
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.report.page import REPORT_FILE, keep_runs, refuse_folder, write_page, write_report
from ko_cpt_callbacks.report.subject import read_subject
from ko_cpt_callbacks.run.file import read_text

__all__ = ["card", "report"]

_CARD_FILE: Final = "README.md"
_MOST_PRICE: Final = 1_000_000_000
"""Chosen, not measured: of the currency whose unit is worth least an hour costs a few millions."""


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Run folders, staged runs, checkpoints or trainer_state.json.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")
    ] = Path(REPORT_FILE),
    baseline: Annotated[
        str | None,
        typer.Option(metavar="ID|RUN", help="What to compare with (ko-cpt baselines); default: what run.json says."),
    ] = None,
    gpu_price: Annotated[
        float | None, typer.Option(metavar="PRICE", help="Of a GPU hour, in any currency: what the run cost.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    lang: Annotated[str | None, LANGUAGE_OF_RUN] = None,
) -> None:
    """Show runs as one HTML page: verdict, findings, curves, baselines, facts. It opens from disk, without a network.

    Exit status: 0 written, 2 a RUN, a baseline or the file cannot be used.
    """

    def write() -> None:
        language = language_of("--lang", lang, os.environ)
        in_range("--gpu-price", gpu_price, 0, _MOST_PRICE, "a price")
        write_report(runs, output, baseline=baseline, language=language, gpu_price=gpu_price)

    guarded("report", write)
    typer.echo(printable(str(output)))
    if open_:
        webbrowser.open(output.absolute().as_uri())


def card(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder, staged run, checkpoint or trainer_state.json.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A card to write, or to bring up to date; none: print it."),
    ] = None,
    lang: Annotated[str | None, LANGUAGE_OF_RUN] = None,
) -> None:
    """Write a model card: the measured numbers as model-index, a section with losses, findings, versions.

    Exit status: 0 written, 2 RUN or the file cannot be used.
    """

    def write() -> None:
        from ko_cpt_callbacks.report.card import card_text

        language = language_of("--lang", lang, os.environ)
        if output is not None:
            refuse_folder(output, _CARD_FILE)
        subject = read_subject(run, Path(run).absolute().name, None, language)
        spoken = next((part.judgement.watch.language for part in subject.parts), DEFAULT_LANGUAGE)
        existing = read_text(output) if output is not None and output.exists() else None
        text = card_text(subject, catalogue(language or spoken), existing)
        if output is None:
            typer.echo(text, nl=False)
        else:
            keep_runs(output, [subject])
            write_page(output, text)
            typer.echo(printable(str(output)))

    guarded("card", write)
