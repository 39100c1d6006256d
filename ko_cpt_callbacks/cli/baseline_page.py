"""Baselines as a terminal shows them: the list, and one with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import GRADES, PRETRAINING, Baseline, BaselineValue
from ko_cpt_callbacks.compare.entry import Entry
from ko_cpt_callbacks.compare.stage import NOT_STATED
from ko_cpt_callbacks.messages.formatter import loss_text
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.page import with_error

__all__ = [
    "GROUPS",
    "NOTHING",
    "FigureRange",
    "cells",
    "entry_page",
    "figure_range",
    "group_of",
    "list_page",
    "value_text",
]  # fmt: skip

NOTHING: Final = "–"
"""In a cell: there is no such figure."""

GROUPS: Final = {
    "bits": "A run with bits per byte of Korean text can be compared with these",
    "loss": "A loss and no bytes: only with the same tokenizer and text",
    "none": "To look at: no run on Korean is compared with these; show ID says why",
}
"""What can be compared with a baseline, in the order of the list."""

_UNITS: Final = {"loss": "nats/token", "ppl": "perplexity", keys.BITS_PER_BYTE: "bits/byte"}
# Shown under headings of their own, or in the head.
_ELSEWHERE: Final = ("stages", "values", "benchmarks", "bands", "notes", "sources", "quantization_offsets")
_HEAD: Final = ("id", "title", "version", "status", "kind", "language", "why_not", "superseded_by")


@dataclass(frozen=True, slots=True)
class FigureRange:
    """One figure or several of a stage: from the lowest to the highest.

    Attributes:
        stage: Whose.
        split: ``eval``, ``train`` or ``unknown``.
        low: The lowest.
        high: The highest.
        texts: Number of texts it was measured on.
    """

    stage: str
    split: str
    low: float
    high: float
    texts: int

    def __str__(self) -> str:
        low, high = loss_text(self.low), loss_text(self.high)
        return low if low == high else f"{low}–{high}"


def cells(baseline: Baseline) -> tuple[str, str, str, str, str, str]:
    """A baseline in a row of a table: id, title, grade, stages, loss on held-out text, bits per byte.

    Bits per byte that no run on Korean is compared with stand in parentheses.
    """
    losses, per_byte = figure_range(baseline, "loss"), figure_range(baseline, keys.BITS_PER_BYTE)
    loss = NOTHING if losses is None else str(losses)
    if losses is not None and losses.split != "eval":
        loss = f"{NOTHING} ({'training' if losses.split == 'train' else 'not confirmed'}: {loss})"
    elif losses is not None and losses.texts > 1:
        loss += f" ({losses.texts} texts)"
    bits = NOTHING if per_byte is None or per_byte.split != "eval" else str(per_byte)
    if bits != NOTHING and not _is_reference(baseline):
        bits = f"({bits})"
    return baseline.id, baseline.title, baseline.grade, ", ".join(stage.name for stage in baseline.stages), loss, bits


def value_text(value: BaselineValue) -> str:
    """A figure with its unit and what is known of its error."""
    text = with_error(value.value, value.se)
    if value.seed_sd is not None:
        text = f"{value.value:.5f} (sd {value.seed_sd:.2g} of {value.seeds} seeds)"
    if value.rounding:
        text = f"{value.low:.3f} to {value.high:.3f}"
    return f"{text} {_UNITS[value.metric]}"


def group_of(baseline: Baseline) -> str:
    """Which of `GROUPS` a baseline belongs to."""
    if not _is_reference(baseline):
        return "none"
    for group, metric in (("bits", keys.BITS_PER_BYTE), ("loss", "loss")):
        found = figure_range(baseline, metric)
        if found is not None and found.split == "eval":
            return group
    return "none"


def _is_reference(baseline: Baseline) -> bool:
    return baseline.kind in PRETRAINING and not baseline.why_not


def list_page(entries: Iterable[Entry]) -> RenderableType:
    """All baselines: first those that a run can be compared with, then the others; in each group by id."""
    groups: dict[str, list[Baseline]] = {group: [] for group in GROUPS}
    for entry in entries:
        baseline = entry.baseline()
        groups[group_of(baseline)].append(baseline)
    grades = {baseline.grade for of_group in groups.values() for baseline in of_group}
    known = [f"{grade}: {text}" for grade, text in GRADES.items() if grade in grades]
    tables = [
        part
        for group, of_group in groups.items()
        if of_group
        for part in (Text(GROUPS[group], style="bold"), _listed(sorted(of_group, key=lambda one: one.id)), Text())
    ]
    return Group(
        *tables,
        Text(f"Grade of the figures. {'; '.join(known)}."),
        Text("Losses in nats per token depend on the tokenizer; bits per byte can be compared, with care."),
        Text("ko-cpt baselines show ID tells what is known of one, and from where."),
    )


def _listed(baselines: Iterable[Baseline]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title, width in (("id, what", 34), ("bits/byte", 11), ("eval loss", 11), ("text", 4), ("grade", 11)):
        table.add_column(title, overflow="fold", width=width)  # 80 columns with the gaps
    for baseline in baselines:
        id, title, grade, _, loss, bits = cells(baseline)
        name = Group(Text(printable(id)), Padding(Text(printable(title), style="dim"), (0, 0, 0, 2)))
        table.add_row(name, *(Text(printable(cell)) for cell in (bits, loss, baseline.language, grade)))
    return table


def entry_page(entry: Entry) -> RenderableType:
    """All that is known of a baseline."""
    file, baseline = entry.file, entry.baseline()
    head = [
        f"grade {entry.grade}: {GRADES[entry.grade]}",
        f"{file.kind} · {file.status} · language {file.language} · version {file.version}",
    ]
    if file.why_not is not None:
        head.append(f"Not compared with: {file.why_not}.")
    if file.superseded_by is not None:
        head.append(f"Superseded by {file.superseded_by}.")
    facts = [*_facts({name: item for name, item in entry.values.items() if name not in (*_ELSEWHERE, *_HEAD)})]
    return Group(
        Text(printable(f"{file.id}: {file.title}"), style="bold"),
        *(_line(text) for text in head),
        *_section("What is known", _table(("what", "", "grade", "where"), facts)),
        *_section("Stages", _table(("stage", "what", "trains", "grade"), _stages(entry))),
        *_section("Losses", _table(("stage", "split", "figure", "range", "grade", "where or how"), _values(baseline))),
        *_section("Adds to the loss when loaded in fewer bits", _table(("in", "", "grade", "how"), _offsets(entry))),
        *_section("Benchmarks", _table(("name", "of", "score", "grade", "where"), _benchmarks(entry))),
        *_section("Called good or bad, without a measurement", _table(("word", "range", "grade"), _bands(entry))),
        *_section("Notes", *(_line(text) for text in file.notes)),
        *_section("Sources", *(_source(name, entry) for name in file.sources)),
    )


def figure_range(baseline: Baseline, metric: str) -> FigureRange | None:
    """What of a baseline's figures the list shows: those of the last stage that has any, held-out ones first."""
    for split in ("eval", "unknown", "train"):
        for stage in reversed(baseline.stages):
            # Of a training loss the first figure: the rest are other points of the same curve.
            of_split = [item for item in stage.values if item.split == split and not item.language]
            values = [item for item in of_split if item.metric == metric]
            values = values if split == "eval" else values[:1]
            if values and stage.reference:
                exact = all(item.rounding == 0 for item in values)
                low = min(item.value if exact else item.low for item in values)
                high = max(item.value if exact else item.high for item in values)
                return FigureRange(stage.name, split, low, high, len({item.set for item in values}))
    return None


def _line(text: str) -> RenderableType:
    return Padding(Text(printable(text)), (0, 0, 0, 2), expand=False)


def _section(title: str, *parts: RenderableType | None) -> list[RenderableType]:
    shown = [part for part in parts if part is not None]
    return [Text(), Text(title, style="bold"), *shown] if shown else []


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> RenderableType | None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return Padding(table, (0, 0, 0, 2), expand=False) if table.row_count else None


def _facts(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, ...]]:
    """Every figure outside the tables of losses and scores, by the way to it."""
    for name, item in values.items():
        words = f"{before}{name.replace('_', ' ')}"
        if isinstance(item, dict) and "grade" in item:
            yield _fact(words, item)
            for other in item.get("contradicted_by", ()):
                yield _fact("  but also", other)
        elif isinstance(item, dict):
            yield from _facts(item, f"{words}: ")
        elif item != NOT_STATED:
            yield words, str(item), "", ""
    unknown = [name.replace("_", " ") for name, item in values.items() if item == NOT_STATED]
    if unknown:
        yield before.rstrip(": ") or NOT_STATED, f"{NOT_STATED}: {', '.join(unknown)}", "", ""


def _fact(words: str, item: Mapping[str, Any]) -> tuple[str, ...]:
    shown = item.get("quoted") or _number(item)
    how = item.get("formula") or ", ".join(str(item[name]) for name in ("source", "locator") if name in item)
    note = f"; {item['note']}" if "note" in item else ""
    return words, str(shown), str(item["grade"]), f"{how}{note}".lstrip("; ")


def _number(item: Mapping[str, Any]) -> str:
    if "low" in item and "high" in item:
        return f"{item['low']:,.6g} to {item['high']:,.6g}"
    value = item.get("value", "")
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _stages(entry: Entry) -> Iterator[tuple[str, ...]]:
    for stage in entry.file.stages:
        trains = NOT_STATED
        if stage.trains is not None:
            trains = ", ".join(f"{name} {word}" for name, word in stage.trains.model_dump().items() if word != "none")
        mark = "" if stage.reference else " (no reference)"
        yield f"{stage.name}{mark}", stage.title, trains, f"{stage.grade}, {stage.source}, {stage.locator}"


def _values(baseline: Baseline) -> Iterator[tuple[str, ...]]:
    for stage in baseline.stages:
        for value in stage.values:
            where = value.formula or value.locator or value.position
            digits = 4 if value.low == value.high else 5
            span = f"{value.low:.{digits}f}–{value.high:.{digits}f}"
            if value.rounding:
                span = f"{value.lowest:.3f}–{value.highest:.3f}"
            text = f"{value_text(value)}{f' ({value.quantization})' if value.quantization else ''}"
            split = f"{value.split} {value.set}".strip()
            yield stage.name, split, text, "" if value.low == value.high else span, value.grade, where


def _offsets(entry: Entry) -> Iterator[tuple[str, ...]]:
    for item in entry.file.quantization_offsets:
        inputs = ", ".join(f"{name} {text}" for name, text in (item.inputs or {}).items())
        yield item.quantization, f"{item.reach().value:+.4f} nats/token", item.grade, f"{item.formula} with {inputs}"


def _benchmarks(entry: Entry) -> Iterator[tuple[str, ...]]:
    for item in entry.file.benchmarks or ():
        yield item.name, item.of, f"{item.quoted} {item.unit}", item.grade, f"{item.source}, {item.locator}"


def _bands(entry: Entry) -> Iterator[tuple[str, ...]]:
    for item in entry.file.bands:
        yield item.name, item.quoted or "", item.grade


def _source(name: str, entry: Entry) -> RenderableType:
    source = entry.file.sources[name]
    bibtex = "\n".join(printable(line) for line in source.bibtex.strip().splitlines())
    return Padding(Text(f"{printable(f'{name}: {source.title}, {source.url}')}\n{bibtex}"), (0, 0, 0, 2), expand=False)
