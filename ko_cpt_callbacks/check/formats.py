"""Judged runs in the forms that other programs show: a table, Markdown, CSV, GitHub's annotations.

Names come from files that anybody may have written: each form makes them inert in its own way.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ko_cpt_callbacks.check.runs import RunRow
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.formatter import loss_text
from ko_cpt_callbacks.messages.terminal import columns, printable, shortened
from ko_cpt_callbacks.run.facts import RunState
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.page import PageLine, aligned_rows, verdict_line, with_error

__all__ = ["as_csv", "as_github", "as_markdown", "table_of_runs"]

_NAME: Final = 48  # columns of a run's name where there is room, and
_SHORT_NAME: Final = 20  # where there is not
_LONG_NAME: Final = 200
_REASON: Final = 28
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]|~#!@])")
_LEVELS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_COLUMNS: Final = ("run", "state", "verdict", "best-loss", "english", "worst", "col-tokens", "written")


def table_of_runs(rows: Sequence[RunRow], language: str, width: int, *, fold: bool = False) -> list[PageLine]:
    """How many runs there are and what they come to, then a row a run, the gravest first, stages under their plan.

    The language is that of the head; ``fold`` is as `aligned_rows` has it.
    """
    said = catalogue(language)
    ordered = _ordered(rows)
    base = _common([row.path for row in ordered])
    cells = [_cells(row, said) for row in ordered]
    titles = [said.line_of(name) for name in _COLUMNS]
    rooms = [max(map(columns, column)) for column in zip(titles[1:], *cells, strict=True) if any(column[1:])]
    room = max(_SHORT_NAME, min(_NAME, width - sum(rooms) - 2 * len(rooms)))
    cells = [[_name(row, base, room), *of_row] for row, of_row in zip(ordered, cells, strict=True)]
    styles = ["stop" if row.error else "" if row.facts is None else row.facts.verdict.value for row in ordered]
    lines = aligned_rows([titles, *cells], width, fold=fold)
    marked = any(cell.endswith("*") for row in cells for cell in row)
    return [
        PageLine(_head(ordered, said), "bold"),
        *([PageLine(f"{base}/", "dim")] if base else []),
        PageLine(),
        *(PageLine(line, _COLOR[style]) for style, of_row in zip(["", *styles], lines, strict=True) for line in of_row),
        *([PageLine(said.line_of("trainer-loss"), "dim")] if marked else []),
    ]


_COLOR: Final = {"": "", "ok": "", "look": "warning", "stop": "error"}


def _head(rows: Sequence[RunRow], said: Catalogue) -> str:
    whole = [row for row in rows if not row.name]
    unread = sum(bool(row.error) for row in whole)
    verdicts = [row.facts.verdict.value for row in whole if row.facts is not None]
    counts = {f"runs-{name}": verdicts.count(name) for name in ("stop", "look", "ok")} | {"runs-unreadable": unread}
    parts = [said.line_of(name, count=count) for name, count in counts.items() if count]
    return " · ".join([said.line_of("runs", count=len(whole)), *parts])


def _ordered(rows: Sequence[RunRow]) -> list[RunRow]:
    """Runs first by what they come to; a staged run with its stages in their own order."""
    groups: dict[str, list[RunRow]] = {}
    for row in rows:
        groups.setdefault(row.plan or row.path, []).append(row)
    return [row for group in sorted(groups.values(), key=lambda group: group[0].rank) for row in group]


def _common(paths: Sequence[str]) -> str:
    if len(paths) < 2:
        return ""
    try:
        common = os.path.commonpath(paths)
    except ValueError:  # absolute and relative ones
        return ""
    return "" if common in paths else common


def _name(row: RunRow, base: str, room: int) -> str:
    if row.name:
        return f"  {shortened(printable(row.name), room - 2)}"
    path = os.path.relpath(row.path, base) if base else row.path
    return shortened(printable(path), room)


def _cells(row: RunRow, said: Catalogue) -> list[str]:
    if row.facts is None:
        reason = printable(row.error.removeprefix(f"{row.path}: "))
        state = said.line_of("unreadable" if row.error else "not-begun")
        return [state, "", "", "", shortened(reason, _REASON), "", ""]
    facts = row.facts
    worst = row.findings[0] if row.findings else None
    verdict = verdict_line(facts, row.findings, said).text.rpartition(" · ")[2]
    return [
        _steps(row, said),
        verdict if facts.state is not RunState.FAILED or row.findings else "",
        _best(row, said),
        "" if row.forgotten is None else with_error(row.forgotten, None, sign=True),
        "" if worst is None else _at(worst),
        "" if row.tokens is None else f"{row.tokens:,}",
        row.day,
    ]


def _steps(row: RunRow, said: Catalogue) -> str:
    assert row.facts is not None
    facts = row.facts
    name = said.line_of(f"state-{facts.state.value}")
    if facts.state is RunState.FINISHED:
        return f"{name} {facts.steps_done:,}"
    return f"{name} {facts.steps_done:,}" + ("" if facts.steps_planned is None else f"/{facts.steps_planned:,}")


def _best(row: RunRow, said: Catalogue) -> str:
    if row.best is not None:
        loss = with_error(row.best, row.best_se) + ("" if row.exact else "*")
        return loss if row.bits_per_byte is None else f"{loss} ({loss_text(row.bits_per_byte)})"
    return "" if row.training_loss is None else said.line_of("training-loss", loss=row.training_loss)


def _at(finding: Finding) -> str:
    return finding.topic if finding.step is None else f"{finding.topic}@{finding.step}"


def as_markdown(rows: Sequence[RunRow], language: str, *, findings: bool) -> str:
    """A table that pastes into a comment on GitHub, with the findings under it where they are wanted."""
    said = catalogue(language)
    ordered = _ordered(rows)
    base = _common([row.path for row in ordered])
    lines = [f"**{_markdown(_head(ordered, said))}**", ""]
    titles = [said.line_of(name) for name in _COLUMNS]
    lines.append(_md_row([_markdown(title) for title in titles]))
    lines.append(_md_row(["---", "---", "---", *["---:"] * 2, "---", "---:", "---"]))
    lines += [_md_row(map(_markdown, [_name(row, base, _LONG_NAME).strip(), *_cells(row, said)])) for row in ordered]
    listed = [(row, finding) for row in ordered for finding in row.findings if not row.plan or row.name]
    if findings and listed:
        lines += ["", *(f"- {_markdown(_prefix(row) + finding.line(row.language))}" for row, finding in listed)]
    return "\n".join(lines) + "\n"


def _prefix(row: RunRow) -> str:
    return f"{row.name}: " if row.name else ""


def _md_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)


def as_csv(rows: Sequence[RunRow]) -> str:
    """One row a run and a stage; the columns are those of ``--format json``. No cell is a formula."""
    names = list(_flat(RunRow("")))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in _ordered(rows):
        writer.writerow([_inert(_flat(row)[name]) for name in names])
    return text.getvalue()


def _flat(row: RunRow) -> dict[str, object]:
    facts = ("state", "complete", "steps_done", "steps_planned", "verdict", "kind", "stopped_by")
    found = row.as_dict()
    return {**{name: found.get(name) for name in ("path", "plan", "stage", "error", *facts)}, **found}


def _inert(value: object) -> object:
    """A cell as a spreadsheet shows it; a text that would be a formula begins with an apostrophe."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = printable(value)
    return f"'{text}" if value.lstrip().startswith(_FORMULA) else text


def as_github(rows: Sequence[RunRow]) -> list[str]:
    """Workflow commands of GitHub Actions: one for each finding, and for each run that cannot be read."""
    lines = []
    for row in _ordered(rows):
        where = Path(row.path).name if not row.name else f"{Path(row.plan).name}/{row.name}"
        if row.error:
            lines.append(_command("error", f"ko-cpt: {where}", row.error))
        for finding in () if row.plan and not row.name else row.findings:
            text = f"{finding.short(row.language)} → {finding.action(row.language)}"
            lines.append(_command(_LEVELS[finding.severity], f"{finding.code} {where}", f"{_at(finding)}: {text}"))
    return lines


def _command(level: str, title: str, message: str) -> str:
    data = printable(message).replace("%", "%25")
    title = printable(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={title}::{data}"
