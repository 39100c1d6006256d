"""``ko-cpt compare RUN… --baseline ID|RUN``: how far a run is from another, in which unit, how sure, or why not.

Exit status: 0 compared, whatever came out; 2 a run, a baseline or an option cannot be used (one line each on stderr;
the others are compared all the same).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

import typer

from ko_cpt_callbacks.check.compare_page import compare_lines
from ko_cpt_callbacks.check.compared import ComparedRuns, compared_loss, compared_runs, find_side, side_of_run
from ko_cpt_callbacks.check.compared_run import STARTS, GivenSeeds, given_seeds, read_compared_run
from ko_cpt_callbacks.check.terminal import (
    LANGUAGE,
    ONE_OBJECT,
    guarded,
    in_range,
    one_of,
    page_width,
    print_json,
    print_lines,
)
from ko_cpt_callbacks.compare.reference import checked_stage
from ko_cpt_callbacks.compare.value import Measured
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.watch.plausibility import LARGEST_GUESS, LARGEST_VOCABULARY

__all__ = ["compare"]

_UNUSABLE: Final = 2
_SPLITS: Final = ("eval", "train")
_LN2: Final = math.log(2.0)
_BYTES: Final = (0.5, 100)  # per token of a text, at least and at most. Chosen, not measured: from 1 to 7 are usual.
_MOST_BITS: Final = 40  # per byte: a model that guesses has 36 where a token has half a byte.
_AGREE: Final = 0.01  # how far three printed numbers may disagree, as a share. Chosen, not measured.


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Run folders, staged runs, checkpoints or trainer_state.json files."),
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
        str | None, typer.Option(metavar="|".join(_SPLITS), help="With --loss: what it was measured on; default: eval.")
    ] = None,
    bytes_per_token: Annotated[
        float | None, typer.Option(help="With --loss: UTF-8 bytes of the scored text per token.")
    ] = None,
    bits_per_byte: Annotated[float | None, typer.Option(help="With --loss: bits per byte of the same text.")] = None,
    se: Annotated[float | None, typer.Option(help="With --loss: its standard error in nats per token.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(STARTS),
            help="What a RUN began from, for what another seed would change; default: as its rows show.",
        ),
    ] = None,
    repeats: Annotated[
        list[str] | None,
        typer.Option("--repeat", metavar="RUN", help="RUN with another seed, twice or more: their spread is measured."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Why, what to know and what would help, in full; tokens per GPU hour.")
    ] = False,
    as_json: Annotated[bool, ONE_OBJECT] = False,
    lang: Annotated[str | None, LANGUAGE] = None,
) -> None:
    """Compare runs with a baseline: exactly or as an indication, or say why not.

    Exit status: 0 compared, whatever came out; 2 a run, a baseline or an option cannot be used.
    """

    def action() -> None:
        language = language_of("--lang", lang, os.environ) or DEFAULT_LANGUAGE
        lone = _lone_loss(loss, split, bytes_per_token, bits_per_byte, se)
        found = _compared(runs or [], baseline, lone, stage, only, given_seeds(start, repeats or []))
        if as_json:
            print_json(found.as_dict(language))
        else:
            print_lines(compare_lines(found, language, page_width(), whole=whole))
        for reason in found.unread.values():
            typer.echo(f"ko-cpt compare: {printable(reason)}", err=True)
        if found.unread:
            raise typer.Exit(_UNUSABLE)

    guarded("compare", action)


def _lone_loss(
    loss: float | None, split: str | None, reach: float | None, bits: float | None, se: float | None
) -> Measured | None:
    """What the options beside ``--loss`` say; None where no loss was given.

    Raises:
        ConfigurationError: If one cannot be used, or they contradict each other.
    """
    if loss is None:
        options = {"--bytes-per-token": reach, "--bits-per-byte": bits, "--se": se, "--split": split}
        beside = [name for name, value in options.items() if value is not None]
        if beside:
            raise ConfigurationError(f"{beside[0]}: found it without --loss, expected both; give the loss it is of")
        return None
    if LARGEST_GUESS < loss <= LARGEST_VOCABULARY:
        raise ConfigurationError(
            f"--loss: found {loss:g}, expected nats per token, at most the {LARGEST_GUESS:.2f} of a model that guesses;"
            f" did you mean {math.log(loss):.3f}, the logarithm of a perplexity?"
        )
    in_range("--loss", loss, 0, round(LARGEST_GUESS, 2), above=True)
    in_range("--se", se, 0, loss, above=True)
    in_range("--bytes-per-token", reach, *_BYTES)
    in_range("--bits-per-byte", bits, 0, _MOST_BITS, above=True)
    if reach is not None:
        of_both = loss / (_LN2 * reach)
        if bits is not None and abs(bits / of_both - 1.0) > _AGREE:
            raise ConfigurationError(
                f"--bits-per-byte: found {bits:g}, expected {of_both:.3f}, which --loss and --bytes-per-token come to; "
                "leave one of the three out"
            )
        bits = of_both
    elif bits is not None:
        reach = loss / (_LN2 * bits)
        if not _BYTES[0] <= reach <= _BYTES[1]:
            raise ConfigurationError(
                f"--bits-per-byte: found {bits:g}, which with --loss {loss:g} comes to {reach:.3g} bytes per token, "
                f"expected {_BYTES[0]} to {_BYTES[1]}; check both"
            )
    one_of("--split", split, _SPLITS)
    of: Any = split or _SPLITS[0]
    return Measured(of, of, loss, se, bits, None if se is None or reach is None else se / (_LN2 * reach), reach)


def _compared(
    runs: Sequence[str], baseline: str | None, lone: Measured | None, stage: str | None, only: str | None,
    seeds: GivenSeeds,
) -> ComparedRuns:  # fmt: skip
    if lone is not None:
        if runs or only is not None or baseline is None:
            raise ConfigurationError(
                "--loss: it stands in place of RUN and --set and needs --baseline; leave those out and name a baseline"
            )
        if seeds.repeats:
            raise ConfigurationError("--repeat: found it with --loss, expected it with the RUN that was repeated")
        side = find_side(baseline)
        checked_stage(side.baseline, stage)
        return ComparedRuns(side, (), (compared_loss(replace(lone, start=seeds.start), side, stage),))
    if not runs or (baseline is None and len(runs) < 2):
        raise ConfigurationError(
            f"RUN: found {len(runs) or 'none'}, expected a run and --baseline, or two runs; list baselines with "
            "ko-cpt baselines"
        )
    side = find_side(baseline) if baseline is not None else side_of_run(runs[0])
    checked_stage(side.baseline, stage)
    others = runs if baseline is not None else runs[1:]
    if seeds.repeats and len(others) > 1:
        raise ConfigurationError(f"--repeat: found {len(others)} runs to compare, expected the one that was repeated")
    return compared_runs(others, side, lambda path: seeds.of(read_compared_run(path)), stage, only)
