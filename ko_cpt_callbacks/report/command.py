"""``ko-cpt report RUN…``: an HTML file that shows runs.

Exit status: 0 written, 2 a run, a baseline or the file cannot be used (one line on stderr).
"""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ko_cpt_callbacks.check.terminal import guarded
from ko_cpt_callbacks.messages.catalogue import LANGUAGE_VARIABLE, LANGUAGES, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.report.page import REPORT_FILE, write_report

__all__ = ["report"]


def report(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders, staged runs, checkpoints or trainer_state.json.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")
    ] = Path(REPORT_FILE),
    baseline: Annotated[
        str | None,
        typer.Option(metavar="ID|RUN", help="What to compare with (ko-cpt baselines); default: what run.json says."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    lang: Annotated[
        str | None,
        typer.Option(metavar="|".join(LANGUAGES), help=f"Language; default: {LANGUAGE_VARIABLE}, else run.json's."),
    ] = None,
) -> None:
    """Show runs as one HTML page: verdict, findings, curves, baselines, facts. It opens from disk, without a network.

    Exit status: 0 written, 2 a RUN, a baseline or the file cannot be used.
    """

    def write() -> None:
        write_report(runs, output, baseline=baseline, language=language_of("--lang", lang, os.environ))

    guarded("report", write)
    typer.echo(printable(str(output)))
    if open_:
        webbrowser.open(output.absolute().as_uri())
