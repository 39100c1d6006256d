"""The page: one run whole, or several side by side and then each whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import ko_cpt_callbacks
from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.compared import ReferenceSide, find_side
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, Catalogue, catalogue
from ko_cpt_callbacks.report import curves
from ko_cpt_callbacks.report.chart import Chart, drawn
from ko_cpt_callbacks.report.drawing import Content, Line, document, element, measured, table
from ko_cpt_callbacks.report.ladder import ladder
from ko_cpt_callbacks.report.run_section import run_section, verdict
from ko_cpt_callbacks.report.subject import Subject, read_subject
from ko_cpt_callbacks.run.file import write_whole, writing_failure

__all__ = ["REPORT_FILE", "keep_runs", "names_of", "page", "shared_charts", "write_page", "write_report"]

REPORT_FILE: Final = "report.html"


def page(
    subjects: Sequence[Subject], words: Catalogue, named: ReferenceSide | None = None, gpu_price: float | None = None
) -> str:
    """The report of one run, or of several, each with another name.

    What the user compares with (``named``) is marked on the ladder; with the price of a GPU hour a run has its cost.
    """
    names = ", ".join(subject.name for subject in subjects)
    content: list[Content] = [element("h1", names)]
    if len(subjects) == 1:
        content += [verdict(subjects[0], words), run_section(subjects[0], words, named, gpu_price=gpu_price)]
    else:
        content += _beside(subjects, words, named)
        for subject in subjects:
            whole = run_section(subject, words, named, level="h3", gpu_price=gpu_price)
            content += [element("h2", subject.name), verdict(subject, words), whole]
    made = element("footer", words.say("made-by", version=ko_cpt_callbacks.__version__))
    hint = element("p", words.say("hint"), class_="note hint")
    return document(f"{names} · ko-cpt report", words.language, hint, *content, made)


def _beside(subjects: Sequence[Subject], words: Catalogue, named: ReferenceSide | None) -> list[Content]:
    """A row a run, the curves that runs share in one chart each, and the ladder of all."""
    head = [words.say(name) for name in ("run", "verdict", "state", "steps-word", "set", "loss", "bits-per-byte")]
    rows: list[list[Content]] = []
    for subject in subjects:
        facts = subject.facts
        start = [
            subject.name, words.say(f"short {facts.verdict.value}"), words.say(f"short {facts.state.value}"),
            f"{facts.steps_done:,}",
        ]  # fmt: skip
        ends = _ends(subject, words)
        rows.extend([*(start if not at else [""] * 4), *end] for at, end in enumerate(ends or [("", "", "")]))
    axis = curves.shared_axis(subjects)
    figures = [drawn(chart, axis, words) for chart in shared_charts(subjects, words)]
    side = element("section", *figures, class_="run", data_linked=True)
    return [
        element("h2", words.say("side-by-side")),
        table(head, rows, numbers=3, name=words.say("side-by-side")),
        side,
        element("h2", words.say("ladder")),
        *ladder(subjects, named, words),
    ]


def _ends(subject: Subject, words: Catalogue) -> list[tuple[str, str, str]]:
    """The last loss of every set, of a run without one that of training; of a staged run those of its last stage."""
    found: dict[str, tuple[str, str, str]] = {}
    for part in subject.parts:
        for split, seen in part.judgement.summary.splits.items():
            last = seen.last
            loss = measured(last.value, last.se)
            found[split] = split, loss, measured(last.bits_per_byte, last.bits_per_byte_se)
    if found or not subject.parts:
        return list(found.values())
    return [(words.say("training"), measured(subject.parts[-1].judgement.summary.train.last_loss, None), "–")]


def shared_charts(subjects: Sequence[Subject], words: Catalogue) -> list[Chart]:
    """A chart of training and one a set, each with a curve a run."""

    def chart(name: str, lines: Iterable[Line]) -> Chart:
        return Chart(words.say("chart-of", name=name), words.say("note shared"), tuple(lines))

    trained = (curves.of_training(one, one.name, keys.LOSS, color) for color, one in enumerate(subjects))
    splits = dict.fromkeys(split for one in subjects for split in curves.splits_of(one))
    return [
        chart(words.say("training"), trained),
        *(chart(split, (curves.losses(one, split, one.name, color) for color, one in enumerate(subjects)))
          for split in splits),
    ]  # fmt: skip


def write_report(
    runs: Sequence[str], output: Path, *, baseline: str | None = None, language: str | None = None,
    gpu_price: float | None = None,
) -> None:  # fmt: skip
    """Write the report of runs.

    Args:
        runs: Paths, as ``ko-cpt check`` takes them.
        output: The file.
        baseline: An id or a run to compare with; None: what each ``run.json`` says.
        language: Of the page; None: that of the first run.
        gpu_price: Of a GPU hour, in any currency.

    Raises:
        KoCPTError: If a run or the baseline cannot be read, or the file cannot be written.
    """
    refuse_folder(output, REPORT_FILE)
    side = None if baseline is None else find_side(baseline)
    named = None if side is None else side.baseline
    subjects = [
        read_subject(path, name, named, language) for path, name in zip(runs, names_of(runs), strict=True)
    ]
    if language is None:
        language = next((part.judgement.watch.language for one in subjects for part in one.parts), DEFAULT_LANGUAGE)
    text = page(subjects, catalogue(language), side, gpu_price)
    keep_runs(output, subjects)
    write_page(output, text)


def keep_runs(output: Path, subjects: Sequence[Subject]) -> None:
    """Refuse to write over a file that a run was read from.

    Raises:
        ConfigurationError: If ``output`` is one.
    """
    for part in (part for subject in subjects for part in subject.parts):
        log = part.judgement.run.path
        if output.exists() and log.exists() and output.samefile(log):
            raise ConfigurationError(f"--output: found {output}, the log of the run itself, expected another file")


def write_page(output: Path, page: str | bytes) -> None:
    """Write a file whole.

    Args:
        output: Where.
        page: A text, or a picture's bytes.

    Raises:
        ConfigurationError: If there is no place for it.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_whole(output, page if isinstance(page, bytes) else page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ConfigurationError(f"{output}: {writing_failure(output, error)}") from None


def refuse_folder(output: Path, example: str) -> None:
    """Refuse a folder in place of a file to write, before anything is judged for it.

    Args:
        output: What was named.
        example: What the file may be called.

    Raises:
        ConfigurationError: If it is a folder; names the file in it.
    """
    if os.path.isdir(output):
        raise ConfigurationError(f"{output}: found a folder, expected a file; did you mean {output / example}?")


def names_of(runs: Sequence[str]) -> list[str]:
    """What each run is called: the end of its path, as much of it as tells them apart."""
    paths = [Path(run).absolute() for run in runs]
    for length in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{run} ({at})" for at, run in enumerate(runs, start=1)]
