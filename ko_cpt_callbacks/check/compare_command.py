"""``ko-cpt compare RUN… --baseline ID|RUN``: how far a run is from another, in which unit, how sure, or why not.

Exit status: 0 compared, whatever came out; 2 nothing was compared (one line on stderr).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from ko_cpt_callbacks.check.compare_page import page
from ko_cpt_callbacks.check.compared import (
    SPLITS,
    Compared,
    LoneLoss,
    Side,
    compared_loss,
    compared_run,
    efficiency,
    find_side,
    side_of_run,
)
from ko_cpt_callbacks.check.compared_run import ComparedRun, read_compared_run
from ko_cpt_callbacks.check.terminal import let_print_anything
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import checked_stage
from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, LANGUAGE_VARIABLE, LANGUAGES, language_of
from ko_cpt_callbacks.messages.terminal import printable

__all__ = ["compare"]

_FORMAT: Final = 1
_UNUSABLE: Final = 2


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders, checkpoints or trainer_state.json files."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="ID|RUN", help="What to compare with: an id (ko-cpt baselines) or a run; default: the first RUN."
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The baseline's stage; default: the one that trains the same, or the last."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="One evaluation set: eval_ko. Default: all but retention sets."),
    ] = None,
    loss: Annotated[float | None, typer.Option(help="In place of a RUN: a loss in nats per token.")] = None,
    split: Annotated[
        str | None, typer.Option(metavar="|".join(SPLITS), help="With --loss: what it was measured on; default: eval.")
    ] = None,
    bytes_per_token: Annotated[
        float | None, typer.Option(help="With --loss: UTF-8 bytes of the scored text per token.")
    ] = None,
    bits_per_byte: Annotated[float | None, typer.Option(help="With --loss: bits per byte of the same text.")] = None,
    se: Annotated[float | None, typer.Option(help="With --loss: its standard error in nats per token.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    lang: Annotated[
        str | None,
        typer.Option(metavar="|".join(LANGUAGES), help=f"Language of reasons; default: {LANGUAGE_VARIABLE}, else en."),
    ] = None,
) -> None:
    """Compare runs with a baseline: exactly, by way of indication, or say why not.

    Exit status: 0 compared, whatever came out; 2 a run, a baseline or an option cannot be used.
    """
    let_print_anything()
    try:
        language = language_of("--lang", lang, os.environ) or DEFAULT_LANGUAGE
        lone = LoneLoss(loss, split, bytes_per_token, bits_per_byte, se)
        side, read, compared = _compared(runs or [], baseline, lone, stage, only)
        speeds = efficiency(read)
    except KoCPTError as error:
        typer.echo(f"ko-cpt compare: {printable(str(error))}", err=True)
        raise typer.Exit(_UNUSABLE) from None
    if as_json:
        told = {
            "format": _FORMAT,
            "baseline": _told(side.baseline),
            "runs": [{"run": run.path, **run.facts.as_dict()} for run in read],
            "comparisons": [one.as_dict(language) for one in compared],
            "efficiency": speeds,
        }
        typer.echo(json.dumps(told, allow_nan=False, indent=2))
    else:
        typer.echo("\n".join(page(compared, side.baseline, speeds, {run.path: run.facts for run in read}, language)))


def _compared(
    runs: Sequence[str], baseline: str | None, lone: LoneLoss, stage: str | None, only: str | None
) -> tuple[Side, list[ComparedRun], list[Compared]]:
    measured = lone.measured()
    if measured is not None:
        if runs or only is not None or baseline is None:
            raise ConfigurationError(
                "--loss: it stands in place of RUN and --set and needs --baseline; leave those out and name a baseline"
            )
        side = find_side(baseline)
        checked_stage(side.baseline, stage)
        return side, [], [compared_loss(measured, side, stage)]
    if not runs or (baseline is None and len(runs) < 2):
        raise ConfigurationError(
            f"RUN: found {len(runs) or 'none'}, expected a run and --baseline, or two runs; list baselines with "
            "ko-cpt baselines"
        )
    if "" in runs:
        raise ConfigurationError("RUN: found an empty text, expected a path; is a variable unset?")
    side = find_side(baseline) if baseline is not None else side_of_run(runs[0])
    checked_stage(side.baseline, stage)
    read = [read_compared_run(path) for path in (runs if baseline is not None else runs[1:])]
    return side, read, [one for run in read for one in compared_run(run, side, stage, only)]


def _told(baseline: Baseline) -> dict[str, Any]:
    names = ("id", "title", "kind", "grade", "version", "language", "vocabulary", "quantization")
    return {name: getattr(baseline, name) for name in names}
