"""``ko-cpt report RUN…``: an HTML file that shows runs.

Exit status: 0 written, 2 a run, a baseline or the file cannot be used (one line on stderr).
"""

from __future__ import annotations

import os
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from ko_cpt_callbacks.check.compared import find_side
from ko_cpt_callbacks.check.terminal import guarded
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import (
    DEFAULT_LANGUAGE,
    LANGUAGE_VARIABLE,
    LANGUAGES,
    catalogue,
    language_of,
)
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.report.page import page
from ko_cpt_callbacks.report.subject import read_subject
from ko_cpt_callbacks.run.file import write_whole

__all__ = ["REPORT_FILE", "report", "write_report"]

REPORT_FILE: Final = "report.html"


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


def write_report(
    runs: Sequence[str], output: Path, *, baseline: str | None = None, language: str | None = None
) -> None:
    """Write the report of runs.

    Args:
        runs: Paths, as ``ko-cpt check`` takes them.
        output: The file.
        baseline: An id or a run to compare with; None: what each ``run.json`` says.
        language: Of the page; None: that of the first run.

    Raises:
        KoCPTError: If a run or the baseline cannot be read, or the file cannot be written.
    """
    side = None if baseline is None else find_side(baseline)
    named = None if side is None else side.baseline
    subjects = [
        read_subject(path, name, named, language) for path, name in zip(runs, _names(runs), strict=True)
    ]
    if language is None:
        language = next((part.judgement.watch.language for one in subjects for part in one.parts), DEFAULT_LANGUAGE)
    text = page(subjects, catalogue(language), side)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigurationError(f"{output}: found {error.strerror or error}, expected a place to write to") from None


def _names(runs: Sequence[str]) -> list[str]:
    """What each run is called: the end of its path, as much of it as tells them apart."""
    paths = [Path(run).absolute() for run in runs]
    for length in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{run} ({at})" for at, run in enumerate(runs, start=1)]
