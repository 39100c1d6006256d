"""What a terminal, a log file or a notebook shows of a run while it trains, and its page when training ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.formatter import loss_text, perplexity_text
from ko_cpt_callbacks.messages.terminal import columns, encodable, printable, shortened
from ko_cpt_callbacks.run.facts import RunFacts
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.output import Output
from ko_cpt_callbacks.run.page import PageLine, RunPage, table_cells, with_error
from ko_cpt_callbacks.run.progress import EvalProgress, RunProgress, Summary, trace
from ko_cpt_callbacks.run.rows import live_rows, observations

__all__ = ["ConsoleOutput", "Goal", "evaluation_line", "notebook_display", "page_html"]

WIDTH: Final = 160
"""Terminal columns of an evaluation's line, at most."""
_NAME: Final = 40
_TAIL: Final = 0.01  # no forecast knows its tails any better
_REASON: Final = 70


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that an evaluation set is to get below, as far as a line shows it.

    Args:
        split: The set.
        metric: As in a row's keys, without the prefix.
        below: The bound, in the metric's unit.
        text: The target as it is written.
    """

    split: str
    metric: str
    below: float
    text: str


class ConsoleOutput(Output):
    """Prints through tqdm where a progress bar is at work, so that no bar is torn.

    Args:
        language: Language of the sentences.
        goals: What the sets are to get below.
        folder: The run's ``output_dir``, which its page names; None: there is no page.
        more: A last line of the page, asked for when training is over; empty: none.
    """

    name = "console"

    def __init__(
        self, language: str, goals: Sequence[Goal] = (), folder: Path | None = None,
        more: Callable[[], str] = str,
    ) -> None:  # fmt: skip
        self._language = language
        self._said = catalogue(language)
        self._goals = tuple(goals)
        self._folder = folder
        self._more = more
        self._progress = RunProgress()
        self._curves: dict[str, list[float | None]] = {}
        self._findings: list[Finding] = []
        self._shown: set[object] = set()
        self._stop: Mapping[str, Any] | None = None
        self._stop_said = False

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Take up what a resumed run has reached; nothing of it is printed again."""
        self._progress, self._curves, self._findings = RunProgress(), {}, list(findings)
        for row in live_rows(list(rows)):
            self._add(row)
        self._shown = {_same(finding) for finding in findings}
        self._stop, self._stop_said = None, False

    def row(self, row: Mapping[str, Any]) -> None:
        """Print an evaluation; training rows are the progress bar's."""
        kind, split = row.get(keys.KIND), str(row.get(keys.SPLIT, "eval"))
        before = self._progress.splits.get(split)
        self._add(row)
        if kind == keys.KIND_EVAL:
            after = self._progress.splits.get(split)
            self._print(evaluation_line(row, self._language, before, after, self._goals))
        elif kind == keys.KIND_CHECKPOINT:
            self._say_stop(row.get(keys.STEP))
        elif kind == keys.KIND_END:
            self._say_stop(None)

    def finding(self, finding: Finding) -> None:
        """Print its line; one that says again what was printed is kept for the page."""
        self._findings.append(finding)
        if _same(finding) not in self._shown:
            self._shown.add(_same(finding))
            self._print(finding.line(self._language))

    def run(self, run: Mapping[str, Any]) -> None:
        """Note that the run was asked to stop; the line comes with the checkpoint."""
        stop = run.get("stop")
        self._stop = stop if isinstance(stop, Mapping) else None

    def close(self, summary: Summary, facts: RunFacts) -> None:
        """Print the page of the run."""
        self._say_stop(None)
        if self._folder is None:
            return
        said, run = self._said, str(self._folder)
        files = said.line_of("files", folder=str(self._folder / keys.FOLDER))
        end = [self._more(), files, said.line_of("judged-again", run=shlex.quote(run))]
        page = RunPage(facts, summary, self._findings, self._curves, self._language, head=[run], end=end)
        display = notebook_display()
        if display is not None:
            display.display(display.HTML(page_html(page)))
            return
        self._print("")
        for line in page.lines(WIDTH):
            self._print(line.text)

    def _add(self, row: Mapping[str, Any]) -> None:
        for seen in observations(row):
            self._progress = self._progress.add(seen)
            trace(self._curves, seen)

    def _say_stop(self, checkpoint: Any) -> None:
        if self._stop is None or self._stop_said:
            return
        self._stop_said = True
        code, step = self._stop.get("code"), self._stop.get("step")
        if checkpoint is None:
            self._print(self._said.line_of("stop-unsaved", code=code, step=step))
        else:
            self._print(self._said.line_of("stop-saved", code=code, step=step, checkpoint=str(checkpoint)))

    @staticmethod
    def _print(text: str) -> None:
        text = printable(text)  # set names, sentences and an error's text may hold anything
        text = encodable(text, getattr(sys.stdout, "encoding", None))
        tqdm = sys.modules.get("tqdm")
        if tqdm is not None:
            tqdm.tqdm.write(text, file=sys.stdout)
        else:
            print(text, flush=True)


def _same(finding: Finding) -> object:
    """What two findings have in common that say the same: a note's numbers are no news, those of a warning are."""
    if finding.severity is Severity.INFO:
        return (finding.topic, finding.variant, finding.split)
    return (finding.topic, finding.variant, finding.split, str(finding.values))


def evaluation_line(
    row: Mapping[str, Any],
    language: str = "en",
    before: EvalProgress | None = None,
    after: EvalProgress | None = None,
    goals: Sequence[Goal] = (),
) -> str:
    """An evaluation on a line of at most `WIDTH` columns.

    ``step 40 · eval_ko: loss 3.078 ± 0.041 · -0.312 since start · best · PPL 21.7 · 1.234 bits/byte``, and as far as
    there is room ``ends 2.91 (2.85 to 2.97)``.

    Args:
        row: An evaluation line of ``rows.jsonl``; what it lacks is left out, or replaced by the reason.
        before: What the set had reached before.
        after: What it has reached now.
    """
    prefix, said = str(row.get(keys.SPLIT, "eval")), catalogue(language)
    values: dict[str, Any] = {name: row.get(keys.key(prefix, name)) for name in _SHOWN}
    training = {name: row.get(keys.key(keys.TRAIN_PREFIX, name)) for name in keys.FORECAST_SUFFIXES}
    parts = [*_loss(values, said)]
    if isinstance(values[keys.EXACT_LOSS], (int, float)):
        parts += _changes(before, after, said)
        if isinstance(values[keys.PPL], (int, float)):
            parts.append(f"PPL {perplexity_text(values[keys.PPL])}")
    if isinstance(values[keys.BITS_PER_BYTE], (int, float)):
        parts.append(f"{loss_text(values[keys.BITS_PER_BYTE])} {said.words['short bits per byte']}")
    if before is None and values[keys.TOKENS] is not None:  # the same at every evaluation of the set
        parts.append(said.line_of("tokens", tokens=values[keys.TOKENS]))
    parts += _distances(prefix, values, goals, said)
    head = f"{said.line_of('at-step', step=row.get(keys.STEP))} · {shortened(printable(prefix), _NAME)}: "
    # What was measured goes before what is to come.
    for part in (*_ahead(values, said), *_ahead(training, said, "training-")):
        parts += [part] if columns(head + " · ".join([*parts, part])) <= WIDTH else []
    return shortened(head + " · ".join(parts), WIDTH)


_SHOWN: Final = (
    keys.EXACT_LOSS, keys.EXACT_LOSS_SE, keys.EXACT_LOSS_ABSENT, keys.LOSS, keys.PPL, keys.BITS_PER_BYTE, keys.TOKENS,
    keys.NONFINITE_BATCHES, *keys.FORECAST_SUFFIXES,
)  # fmt: skip


def _loss(values: Mapping[str, Any], said: Catalogue) -> Iterator[str]:
    loss, error = values[keys.EXACT_LOSS], values[keys.EXACT_LOSS_SE]
    if loss is None:
        reason = values[keys.EXACT_LOSS_ABSENT] or said.line_of("not-measured")
        yield said.line_of("no-exact-loss", reason=shortened(printable(str(reason)), _REASON))
        if isinstance(values[keys.LOSS], (int, float)):
            yield said.line_of("trainers-loss", name="eval_loss", loss=values[keys.LOSS])
    elif isinstance(loss, str):
        yield said.line_of("not-finite-batches", batches=values[keys.NONFINITE_BATCHES])
    else:
        yield f"loss {with_error(loss, error if isinstance(error, (int, float)) else None)}"


def _changes(before: EvalProgress | None, after: EvalProgress | None, said: Catalogue) -> Iterator[str]:
    """Since the first evaluation, and against the best before."""
    if before is None or after is None or after.last.value is None or after.change is None:
        return
    yield said.line_of("since-start", change=after.change)
    best = before.best
    if best is None or best.value is None or best.metric != after.last.metric or after.rows.anew:
        return
    if after.last.value < best.value:
        yield said.line_of("new-best")
    else:
        yield said.line_of("since-best", change=after.last.value - best.value, step=best.step)


def _ahead(values: Mapping[str, Any], said: Catalogue, what: str = "") -> Iterator[str]:
    """Where the loss will end, and how likely the set's first target is met."""
    median, odds = values[keys.FINAL_LOSS_MEDIAN], values[keys.TARGET_PROBABILITY]
    if isinstance(median, (int, float)):
        lower, upper = values[keys.FINAL_LOSS_LOWER], values[keys.FINAL_LOSS_UPPER]
        runs = values[keys.FINAL_LOSS_FAMILY]
        name = f"{what}ends-at" if runs is None else "ends-at-family"
        yield said.line_of(name, median=median, lower=lower, upper=upper, runs=runs)
    if isinstance(odds, (int, float)):
        yield said.line_of("target-odds", odds=min(max(round(odds, 2), _TAIL), 1 - _TAIL))


def _distances(prefix: str, values: Mapping[str, Any], goals: Sequence[Goal], said: Catalogue) -> Iterator[str]:
    for goal in goals:
        value = values.get(goal.metric)
        if goal.split == prefix and isinstance(value, (int, float)):
            distance = value - goal.below
            yield said.line_of("on-target" if distance < 0 else "to-target", target=goal.text, distance=distance)


_COLORS: Final = {
    "ok": "#18743a", "look": "#9a5b00", "stop": "#c02626", "error": "#c02626", "warning": "#9a5b00", "info": "#2f6db3",
}  # fmt: skip
_BOLD: Final = ("ok", "look", "stop", "bold")


def notebook_display() -> Any:
    """IPython's module of displays in a notebook; None anywhere else, a terminal of IPython among it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # The test of transformers.utils.notebook: a kernel has an application, a terminal none.
    if shell is None or "IPKernelApp" not in shell.config:
        return None
    import IPython.display

    return IPython.display


def page_html(page: RunPage) -> str:
    """The page as one HTML element; every text of a run is escaped."""
    head, curves, *rest = page.parts()
    cells = table_cells(page.summary, catalogue(page.language))
    kept = [at for at in range(len(cells[0])) if at == 0 or any(row[at] for row in cells[1:])]
    rows = [[row[at] for at in kept] for row in cells]
    table = "".join(_row(row, "td" if at else "th") for at, row in enumerate(rows)) if len(rows) > 1 else ""
    lines = "".join(f"<pre style='margin:0'>{_text(line.text)}</pre>" for line in curves)
    parts = [*_lines(head), f"<table>{table}</table>", lines, *(text for part in rest for text in _lines(part))]
    return f"<div style='line-height:1.6'>{''.join(parts)}</div>"


def _row(cells: Sequence[str], tag: str) -> str:
    sides = ("left" if not at else "right" for at, _ in enumerate(cells))
    made = (f"<{tag} style='text-align:{side}'>{_text(cell)}</{tag}>" for cell, side in zip(cells, sides, strict=True))
    return f"<tr>{''.join(made)}</tr>"


def _lines(lines: Iterable[PageLine]) -> Iterator[str]:
    for line in lines:
        style = f"color:{_COLORS[line.style]};" if line.style in _COLORS else ""
        style += "font-weight:600;font-size:1.1em;" if line.style in _BOLD else ""
        style += "opacity:.7;" if line.style == "dim" else ""
        yield f"<div style='{style}'>{_text(line.text)}</div>"


def _text(text: str) -> str:
    return escape(printable(text))
