"""``ko-cpt measure MODEL …``: loss, perplexity and bits per byte of models on a fixed text, without a Trainer.

Exit status: 0 measured, 2 an argument, a model, a text or a folder cannot be used (on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ko_cpt_callbacks.check.terminal import ONE_OBJECT, contradictory, guarded, in_range, print_json
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.file import strict

__all__ = ["measure"]

_FORMAT: Final = 1
_FOLDER: Final = Path("measured")
_MOST_TOKENS: Final = 100_000_000  # of a window, and of a vocabulary; chosen, not measured
_MOST_WINDOWS: Final = 1_000_000  # of a batch; chosen, not measured
_DIGITS: Final = 20  # of a number that are read: with more it is too large
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells say it


class By(StrEnum):
    """What the bits are shown by."""

    SCRIPT = "script"
    POSITION = "position"
    VOCABULARY = "vocabulary"
    DOCUMENT = "document"


def measure(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Folders, or ids of the hub; later ones beside the first.")
    ],
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="reference|FILE", help="The package's text (default), or a file; repeatable."),
    ] = None,
    unit: Annotated[
        str, typer.Option("--unit", metavar="line|paragraph|file", help="What a document is in a .txt of yours.")
    ] = "paragraph",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="KIND", help="auto (as saved), float32, bfloat16, float16, float64.")
    ] = "auto",
    quantization: Annotated[
        str, typer.Option("--quantization", metavar="none|8-bit|4-bit", help="Weights in fewer bits (bitsandbytes).")
    ] = "none",
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="DIR", help="An adapter of PEFT on the one MODEL.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="PLACE", help="cpu, cuda or cuda:1; a GPU where there is one.")
    ] = "",
    window: Annotated[
        int | None, typer.Option("--window", metavar="N", help="Tokens of a window; 2048, or what the model takes.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", metavar="N", help="Tokens before what a later window scores; half of it."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", help="Windows of a batch; what fits, in 8-bit one.")
    ] = None,
    by: Annotated[By | None, typer.Option("--by", metavar="|".join(By), help="Show where the bits are, too.")] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="N|MODEL", help="Old tokens of --by vocabulary; of several, the first's."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results, a folder for each model.")
    ] = _FOLDER,
    as_json: Annotated[bool, ONE_OBJECT] = False,
) -> None:
    """Measure models on a fixed text: the numbers of the callback, without a Trainer."""

    def action() -> None:
        in_range("--window", window, 4, _MOST_TOKENS, "a whole number")
        in_range("--context", context, 1, _MOST_TOKENS, "a whole number")
        in_range("--batch-size", batch_size, 1, _MOST_WINDOWS, "a whole number")
        if base is not None and base.isdecimal():
            in_range("--base", int(base[:_DIGITS]), 1, _MOST_TOKENS, "a whole number")
        if output.is_file():
            raise ConfigurationError(f"-o: found the file {output}, expected a folder for the results")
        if by is By.DOCUMENT and as_json:
            raise contradictory("--by document", "--json", "text")
        choices = {"dtype": dtype, "quantization": quantization, "device": device, "adapter": adapter}
        sizes = {"window": window, "context": context, "batch_size": batch_size}
        settings = {"folder": output, **sizes, "old_rows": base}
        _measure(models, choices, text or ["reference"], unit, settings, by, as_json=as_json)

    try:
        guarded("measure", action)
    except KeyboardInterrupt:
        typer.echo("ko-cpt measure: stopped; the same command goes on from here", err=True)
        raise typer.Exit(_INTERRUPTED) from None


def _measure(
    models: list[str],
    choices: dict[str, Any],
    text: list[str],
    unit: str,
    settings: dict[str, Any],
    by: By | None,
    *,
    as_json: bool,
) -> None:
    if choices["adapter"] is not None and len(models) > 1:
        raise ConfigurationError(
            f"--adapter: found {len(models)} models, expected the one that it was trained on; what is measured already "
            "is read from -o"
        )
    if len(set(models)) < len(models):
        raise ConfigurationError("MODEL: found one twice, expected each once")
    # Not at the top: the other commands need no torch.
    with _quiet():
        from ko_cpt_callbacks.measure.model import ModelChoice, old_rows
        from ko_cpt_callbacks.measure.run import MeasureSettings, measure_model
        from ko_cpt_callbacks.measure.text import read_text_sets

    wanted = [ModelChoice(name, **choices) for name in models]
    places: dict[str, str] = {}
    for choice in wanted:
        other = places.setdefault(choice.short_name, choice.name)
        if other != choice.name and not choice.measured:
            raise ConfigurationError(
                f"MODEL: found {choice.name} beside {other}, expected names that differ: the results of both would be "
                f"in {choice.short_name}; measure one with another -o, then name its folder of results"
            )
    base = settings["old_rows"]
    if base is None and by is By.VOCABULARY and not wanted[0].measured:
        base = models[0] if len(models) > 1 else None
        if base is None:
            raise ConfigurationError("--by vocabulary: found no --base, expected the model whose tokens are old")
    with _quiet():
        how = MeasureSettings(**{**settings, "old_rows": None if base is None else old_rows(base, wanted)})
    measured_text = read_text_sets(text, unit)
    found = []
    for choice in wanted:
        with _quiet(), _bar(choice.short_name, shown=not as_json) as progress:
            found.append(measure_model(choice, measured_text, how, progress))
    if os.environ.get("RANK", "0") != "0":
        return
    if as_json:
        later = [{name: vars_of(one) for name, one in model.against(found[0]).items()} for model in found[1:]]
        page = {"format": _FORMAT, "models": [model.as_dict() for model in found], "less_first": later}
        print_json(strict(page))  # a loss may be infinite
        return
    from ko_cpt_callbacks.measure import page as pages
    from ko_cpt_callbacks.measure.document import SplitBy

    for model, choice in zip(found, wanted, strict=True):
        _say(pages.model_lines(model))
        place = choice.name if choice.measured else how.folder / choice.short_name
        typer.echo(f"  kept in {place}; ko-cpt baselines add takes it\n")
    _say(pages.published_lines(found))
    if len(found) > 1:
        _say(pages.ladder_lines(found))
    if by is By.DOCUMENT:
        _say(pages.document_lines(found))
    elif by is not None:
        _say(pages.part_lines(found, SplitBy(by.value)))
    _say(pages.markdown_lines(found))


def vars_of(paired: Any) -> dict[str, Any]:
    """A paired difference as JSON values."""
    return {"difference": paired.difference, "se": paired.se, "documents": paired.rows, "reasons": list(paired.reasons)}


def _say(lines: Iterator[str]) -> None:
    for line in lines:
        typer.echo(line)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and advice of libraries: what matters is checked, and reported in one line."""
    import warnings

    from transformers.utils import logging as of_transformers

    before = logging.root.manager.disable
    of_transformers.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _bar(name: str, *, shown: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr where a terminal reads it."""
    if not shown or not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)
