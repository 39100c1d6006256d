"""What a person reads of one run, five seconds long: the same page when training ends and from ``ko-cpt check``.

First the verdict; then a table of the evaluation sets, a sparkline a curve, the gravest findings, what was not checked,
what to do. Plain text, so that a log file, a progress bar's terminal and a pipe show the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.formatter import loss_text, perplexity_text
from ko_cpt_callbacks.messages.terminal import columns, printable, shortened_list, sparkline, wrapped
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.facts import RunFacts, RunState
from ko_cpt_callbacks.run.finding import Finding, Severity, gravest_first
from ko_cpt_callbacks.run.progress import EvalPoint, EvalProgress, Summary, TrainProgress

__all__ = [
    "ASKS_NOTHING", "MOST_FINDINGS", "PageLine", "RunPage", "aligned", "aligned_rows", "finding_lines", "folded",
    "listed", "state_text", "table_cells", "table_lines", "to_do", "verdict_line", "with_error",
]  # fmt: skip

MOST_FINDINGS: Final = 5
"""Findings that a page shows unless it is asked for all."""
_MOST_SETS: Final = 5
_MOST_CURVES: Final = 4
_CURVE: Final = 40  # characters of a sparkline
_GAP: Final = "  "
_NOT_CHECKED: Final = 125  # columns of the list of what was not checked
_TOO_LITTLE: Final = "not-enough-data"
ASKS_NOTHING: Final = {("adapters-frozen", "beside-trained"), ("forgetting", "recovered"), ("non-finite", "scaler")}
"""Findings, by code and variant, that say themselves that nothing needs to be done."""


@dataclass(frozen=True, slots=True)
class PageLine:
    """A line of a page, and what it is: a verdict, a severity, or empty where it is neither.

    Args:
        text: Printable text.
        style: ``ok``, ``look``, ``stop``, ``error``, ``warning``, ``info``, ``dim`` or empty.
    """

    text: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class RunPage:
    """One run, ready to be shown.

    Args:
        facts: How far it came, and its verdict.
        summary: First, best and last of every set.
        findings: Everything that was found.
        curves: Losses by set, ``train`` among them, as `ko_cpt_callbacks.run.progress.trace` collects them.
        language: Of the sentences.
        head: What was read, and what the run is; a line each.
        heading: Where its losses are heading, a line each.
        doubts: What speaks against its targets, a line each.
        unchecked: What was not checked, and why, in a few words each.
        callback: Whether the callback would have measured what is missing.
        end: Last lines: where the files are.
    """

    facts: RunFacts
    summary: Summary
    findings: Sequence[Finding]
    curves: Mapping[str, Sequence[float | None]]
    language: str
    head: Sequence[str] = ()
    heading: Sequence[str] = ()
    doubts: Sequence[str] = ()
    unchecked: Sequence[str] = ()
    callback: bool = False
    end: Sequence[str] = ()

    def lines(self, width: int, *, whole: bool = False) -> list[PageLine]:
        """The page.

        Args:
            width: Columns; what is longer is broken between words.
            whole: Whether every set, curve and finding is shown.
        """
        said = catalogue(self.language)
        head, *rest = self.parts(whole=whole)
        table = [*map(PageLine, table_lines(self.summary, said, width, None if whole else _MOST_SETS))]
        lines: list[PageLine] = []
        for index, part in enumerate(part for part in (head, table, *rest) if part):
            lines += [*([PageLine()] if index else []), *part]
        return folded(lines, width)

    def parts(self, *, whole: bool = False) -> tuple[list[PageLine], ...]:
        """Everything but the table, which stands behind the first: verdict, curves, findings, what to do."""
        said = catalogue(self.language)
        return (
            [verdict_line(self.facts, self.findings, said), *(PageLine(text, "dim") for text in self.head)],
            [*self._curves(said, whole), *map(PageLine, self.heading)],
            [
                *map(PageLine, self.doubts),
                *finding_lines(self.findings, self.language, None if whole else MOST_FINDINGS),
            ],
            [PageLine(text) for text in self._end(said) if text],
        )

    def _curves(self, said: Catalogue, whole: bool) -> Iterator[PageLine]:
        known = {name: values for name, values in self.curves.items() if len(values) > 1}
        shown = list(known.items())[: None if whole else _MOST_CURVES]
        names = [said.line_of("training") if name == keys.TRAIN_PREFIX else printable(name) for name, _ in shown]
        room = max((columns(name) for name in names), default=0)
        for name, (_, values) in zip(names, shown, strict=True):
            yield PageLine(f"{_filled(name, room)}{_GAP}{sparkline(values, _CURVE)}")

    def _end(self, said: Catalogue) -> Iterator[str]:
        if self.unchecked:
            yield said.line_of("not-checked", what=listed(self.unchecked))
        yield to_do(self.facts, self.findings, said, callback=self.callback)
        yield from self.end


def verdict_line(facts: RunFacts, findings: Iterable[Finding], said: Catalogue) -> PageLine:
    """Where the run stands, where it is not whole, and what its findings come to."""
    found = list(findings)
    counts = Counter(finding.severity for finding in found)
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    parts = [] if facts.state is RunState.FINISHED else [state_text(facts, said)]
    if errors:
        name = "errors-warnings" if warnings else "errors"
        parts.append(said.line_of(name, errors=errors, warnings=warnings))
    elif warnings:
        parts.append(said.line_of("warnings", warnings=warnings))
    elif any(finding.code == _TOO_LITTLE for finding in found):
        parts.append(said.line_of("too-little"))
    elif facts.state in (RunState.UNFINISHED, RunState.RUNNING):
        parts.append(said.line_of("ok-so-far"))
    elif facts.state is not RunState.FAILED:
        parts.append(said.line_of("ok"))
    return PageLine(printable(" · ".join(parts)), facts.verdict.value)


def state_text(facts: RunFacts, said: Catalogue) -> str:
    """Where a run stands, and how far it came: ``UNFINISHED 300 of 10,000 steps``."""
    name = facts.state.value
    if facts.steps_planned is None and facts.state is not RunState.FAILED:
        name += "-unplanned"
    return said.line_of(name, done=facts.steps_done, planned=facts.steps_planned, by=facts.stopped_by)


def finding_lines(findings: Iterable[Finding], language: str, most: int | None) -> list[PageLine]:
    """The findings, gravest first; of those that say the same of the same set the first (``most`` None: all)."""
    ordered = gravest_first(findings)
    if most is None:
        return [PageLine(finding.line(language), finding.severity.value) for finding in ordered]
    first: dict[tuple[str, str, str | None], Finding] = {}
    for finding in ordered:
        first.setdefault((finding.severity, finding.topic, finding.split), finding)
    shown = list(first.values())[:most]
    lines = [PageLine(finding.line(language), finding.severity.value) for finding in shown]
    rest = Counter(finding.topic for finding in ordered)
    rest.subtract(finding.topic for finding in shown)
    left = {topic: count for topic, count in rest.items() if count}
    if left:
        codes = [f"{count} {topic}" for topic, count in left.items()]
        lines.append(PageLine(catalogue(language).line_of("more-findings", count=sum(left.values()), codes=codes)))
    return lines


def to_do(facts: RunFacts, findings: Iterable[Finding], said: Catalogue, *, callback: bool) -> str:
    """What to do, on one line; ``callback``: whether the callback would have measured what is missing."""
    asking = [one for one in findings if (one.code, one.variant) not in ASKS_NOTHING]
    for severity in (Severity.ERROR, Severity.WARNING):
        for one in asking:
            if one.severity is severity:
                return said.line_of("next", action=one.action(said.language), code=one.code)
    if facts.state is RunState.UNFINISHED:
        return said.line_of("next-resume")
    if facts.state is RunState.RUNNING:
        return said.line_of("next-watch")
    for one in asking:
        if one.code == _TOO_LITTLE:
            return said.line_of("next", action=one.action(said.language), code=one.code)
    return said.line_of("next-callback" if callback else "next-nothing")


def table_lines(summary: Summary, said: Catalogue, width: int, most: int | None = None) -> list[str]:
    """First, best and last loss of every evaluation set, its change, perplexity and bits per byte; then of training.

    Args:
        summary: What the run has reached.
        said: The sentences.
        width: Columns; where the table is wider, a set's name stands on a line of its own.
        most: How many sets at most; None: all.
    """
    cells = table_cells(summary, said, most)
    if len(cells) == 1:
        return [said.line_of("no-loss")]
    lines = aligned(cells, width)
    if most is not None and len(summary.splits) > most:
        lines.append(said.line_of("more-sets", count=len(summary.splits) - most))
    if any(cell.endswith("*") for row in cells for cell in row[1:]):
        lines.append(said.line_of("trainer-loss"))
    return lines


def table_cells(summary: Summary, said: Catalogue, most: int | None = None) -> list[list[str]]:
    """The same as cells, the titles first; a row alone where no row has a loss."""
    rows = [_set_row(name, split, said) for name, split in list(summary.splits.items())[:most]]
    if summary.train.points:
        rows.append(_train_row(summary.train, said, perplexities=summary.seen.train_language))
    titles = [said.line_of(name) for name in ("set", "first", "best", "last", "change")]
    return [[*titles, "PPL", said.words["short bits per byte"]], *rows]


def aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table: see `aligned_rows`."""
    return [line for lines in aligned_rows(rows, width) for line in lines]


def aligned_rows(rows: Sequence[Sequence[str]], width: int, *, fold: bool = False) -> list[list[str]]:
    """The lines of every row of a table: the first column to the left, the others to the right, without empty columns.

    Args:
        rows: The first is the head.
        width: Columns; where the table is wider, the first cell of a row stands on a line of its own.
        fold: Whether the others, where they are wider still, stand behind their titles on as many lines as they need.
    """
    kept = [at for at in range(len(rows[0])) if at == 0 or any(row[at] for row in rows[1:])]
    cells = [[printable(row[at]) for at in kept] for row in rows]
    rooms = [max(columns(row[at]) for row in cells) for at in range(len(kept))]
    room = sum(rooms) + len(_GAP) * (len(rooms) - 1)
    fits = room <= width
    if fold and room - rooms[0] > width:
        return [[], *(_folded(cells[0], row, width) for row in cells[1:])]
    lines = []
    for row in cells:
        values = [" " * (room - columns(cell)) + cell for cell, room in zip(row[1:], rooms[1:], strict=True)]
        if fits:
            lines.append([_GAP.join([_filled(row[0], rooms[0]), *values]).rstrip()])
        else:
            lines.append([row[0], (_GAP + _GAP.join(values)).rstrip()])
    return [[line for line in of_row if line] for of_row in lines]


def _folded(titles: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row's first cell, then the others behind their titles, broken between them."""
    lines = [row[0]]
    for title, cell in zip(titles[1:], row[1:], strict=True):
        if cell:
            longer = f"{lines[-1]} · {title} {cell}"
            if len(lines) > 1 and columns(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(f"{_GAP}{title} {cell}")
    return [part for line in lines for part in wrapped(line, width, 2 * _GAP)]


def _filled(text: str, room: int) -> str:
    return text + " " * (room - columns(text))


def _set_row(name: str, split: EvalProgress, said: Catalogue) -> list[str]:
    best, change = split.best, split.change
    several = split.first.step != split.last.step
    return [
        name,
        _point(split.first, said, error=False) if several else "",
        f"{_point(best, said, error=False)} @{best.step:,}" if several and best is not None else "",
        _point(split.last, said, error=True),
        "" if change is None else f"{'+' if change > 0 else ''}{loss_text(change)}",
        "" if split.last.ppl is None else perplexity_text(split.last.ppl),
        "" if split.last.bits_per_byte is None else loss_text(split.last.bits_per_byte),
    ]


def _train_row(train: TrainProgress, said: Catalogue, *, perplexities: bool) -> list[str]:
    last, first = train.last_loss, train.first_loss
    # The Trainer writes 0.0 in place of NaN: a perplexity of 1 would read as success.
    shown = said.line_of("nan-as-zero") if last == 0 else _loss(last, said)
    fall = "" if train.points < 2 or not first or not last else f"{last / first - 1:+.1%}"
    return [
        said.line_of("training"),
        _loss(first, said) if train.points > 1 else "",
        "",
        shown,
        fall if columns(fall) < 10 else "",
        perplexity_text(perplexity(last)) if last and perplexities else "",
        "",
    ]


def _point(point: EvalPoint, said: Catalogue, *, error: bool) -> str:
    if point.value is None or not point.finite:
        return said.line_of("not-finite")
    text = with_error(point.value, point.se if error else None)
    return text if point.metric == keys.EXACT_LOSS else f"{text}*"


def _loss(value: float | None, said: Catalogue) -> str:
    return said.line_of("not-finite") if value is None else loss_text(value)


def with_error(value: float, error: float | None, *, sign: bool = False) -> str:
    """A loss, or bits per byte, with its standard error where it has one.

    Args:
        value: In its unit.
        error: In the same unit.
        sign: Whether a value above zero has a plus.
    """
    text = ("+" if sign and value > 0 else "") + loss_text(value)
    return text if error is None else f"{text} ± {loss_text(error)}"


def folded(lines: Iterable[PageLine], width: int) -> list[PageLine]:
    """Lines of a page, those that are longer than it is wide broken between words."""
    return [PageLine(text, line.style) for line in lines for text in wrapped(printable(line.text), width)]


def listed(texts: Sequence[str]) -> str:
    """As many of the texts as fit, with a mark where some are left out."""
    return shortened_list(texts, _NOT_CHECKED, "; ")
