"""Sections of a run: its findings over the steps and as a list, its checkpoints, what its texts became."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.checkpoint.account import account_of
from ko_cpt_callbacks.checkpoint.page import account_cells, keep_line
from ko_cpt_callbacks.errors import KoCPTError, UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.chart import Axis, frame
from ko_cpt_callbacks.report.drawing import HEIGHT, Content, Element, element, table
from ko_cpt_callbacks.report.subject import ShownRun, Subject
from ko_cpt_callbacks.run.file import read_text
from ko_cpt_callbacks.run.finding import Finding, gravity

__all__ = ["checkpoints", "data_tables", "findings", "strip"]

# Where a finding says since when it holds, under one of these names.
_SINCE: Final = ("since_step", "before_step", "first_step", keys.NONFINITE_FIRST_STEP, "best_step", "peak_step")
_PER_TOPIC: Final = 5
_LANES: Final = 12
_FILE: Final = Path("data", "report.json")
_FORMAT: Final = 1
_FERTILITY: Final = ("tokens_per_character", "bytes_per_token")
_NO_REPORT: Final = (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError, UnreadableRunError)
"""Of a file that another program wrote, or that was damaged: it is not shown."""


def strip(subject: Subject, axis: Axis, words: Catalogue) -> Element | None:
    """A lane for everything that was found at a step: from when it holds to when it was reported."""
    topics = {topic: [one for one in of if one[1].step is not None] for topic, of in _topics(subject).items()}
    lanes = {topic: of for topic, of in topics.items() if of}
    if not lanes:
        return None
    shown = list(lanes.items())[:_LANES]
    made = [
        element(
            "div",
            element("a", topic if len(of) == 1 else f"{topic} × {len(of)}", href=f"#{_anchor(subject, topic)}"),
            frame(list(_spans(of, axis)), [], axis, _heard(topic, of, words), class_="plot lane"),
            class_=f"lane-row {of[0][1].severity.value}",
        )
        for topic, of in shown
    ]
    more = len(lanes) - len(shown)
    rest = element("p", words.say("more-lanes", count=more)) if more else None
    return element("div", *made, rest, class_="strip")


def _spans(of: list[tuple[ShownRun, Finding]], axis: Axis) -> Iterator[Element]:
    for part, found in of:
        assert found.step is not None
        start, end = part.offset + _since(found), part.offset + found.step
        d = f"M{axis.x(start)} {HEIGHT // 2}H{axis.x(end)}"
        yield element("path", class_=f"span {found.severity.value}", d=d)


def _since(found: Finding) -> int:
    """The first step that a finding speaks of."""
    assert found.step is not None
    steps = (found.values.get(name) for name in _SINCE)
    known = [one for one in steps if isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= found.step]
    return min(known, default=found.step)


def _heard(topic: str, of: list[tuple[ShownRun, Finding]], words: Catalogue) -> str:
    steps = ", ".join(f"{part.offset + (found.step or 0):,}" for part, found in of[:_PER_TOPIC])
    return words.say("lane", topic=topic, steps=steps)


def findings(subject: Subject, words: Catalogue) -> list[Element]:
    """Every topic with its findings, gravest first: what happened, what to do, and the rest on demand."""
    return [_topic(subject, topic, of, words) for topic, of in _topics(subject).items()]


def _topic(subject: Subject, topic: str, of: list[tuple[ShownRun, Finding]], words: Catalogue) -> Element:
    first = of[0][1]
    said = [_said(part, found, words) for part, found in of[:_PER_TOPIC]]
    more = len(of) - len(said)
    values = {**first.values, "step": first.step, "split": first.split}
    to_do = words.action(first.code, first.variant, values)
    whole: list[Content] = [element("p", found.message(words.language)) for _, found in of[:_PER_TOPIC]]
    return element(
        "article",
        element("h3", element("span", words.say(f"severity {first.severity.value}"), class_="badge"), " ", topic),
        *said,
        element("p", words.say("more-findings", count=more)) if more else None,
        element("p", element("b", words.say("to-do")), " ", to_do, class_="to-do"),
        element("details", element("summary", words.say("in-full")), *whole),
        class_=f"finding {first.severity.value}",
        id=_anchor(subject, topic),
    )


def _said(part: ShownRun, found: Finding, words: Catalogue) -> Element:
    at = "" if found.step is None else words.say("at-step", step=part.offset + found.step)
    where = " · ".join(text for text in (part.name, found.split, at) if text)
    return element("p", element("span", where, class_="where"), " ", found.short(words.language))


def _anchor(subject: Subject, topic: str) -> str:
    safe = "".join(char if char.isalnum() else "-" for char in f"{subject.name}-{topic}")
    return f"found-{safe}"


def _topics(subject: Subject) -> dict[str, list[tuple[ShownRun, Finding]]]:
    """Findings by topic, the gravest first."""
    topics: dict[str, list[tuple[ShownRun, Finding]]] = {}
    for part, found in sorted(subject.findings, key=lambda one: gravity(one[1])):
        topics.setdefault(found.topic, []).append((part, found))
    return topics


def checkpoints(subject: Subject, words: Catalogue) -> list[Content]:
    """A table a part that saved one, with which to keep."""
    made: list[Content] = []
    for part in subject.parts:
        try:
            account = account_of(part.judgement.run, retention=part.judgement.watch.retention)
        except (KoCPTError, OSError):  # a folder that went meanwhile: the report shows what can be read
            continue
        if account.checkpoints:
            head, *rows = account_cells(account, words)
            said = " · ".join(text for text in (part.name, keep_line(account, words.language)) if text)
            made += [element("p", said), table(head, rows, name=words.say("checkpoints"))]
    return made


def data_tables(run: str, words: Catalogue) -> list[Content]:
    """What was taken of each source, what each filter dropped, and the fertility of an extended tokenizer.

    Nothing where there is no report of texts in the folder of the run.
    """
    try:
        report = json.loads(read_text(Path(run) / _FILE))
        if report["format"] != _FORMAT:
            return []
        parts = [(words.say("training"), report["train"]), *report["eval"].items()]
        head = ["set", "source", "documents-read", "share-kept", "documents-taken", "tokens", "bytes-per-token"]
        found = [_table(head, [row for part in parts for row in _taken(*part)], words, "data")]
        dropped = [row for part in parts for row in _dropped(*part)]
        if dropped:
            head = ["set", "source", "filter", "documents-judged", "documents-dropped", "share-dropped"]
            found.append(_table(head, dropped, words, "dropped", 3))
        fertility = report["fertility"]
        if fertility is not None:
            head = ["fertility", "tokens-per-character", "bytes-per-token"]
            sides = [(words.say(f"fertility-{side}"), fertility[side]) for side in ("before", "after")]
            rows = [[name, *map(_number, (side[key] for key in _FERTILITY))] for name, side in sides]
            found.append(_table(head, rows, words, "fertility", 1))
        return found
    except (OSError, *_NO_REPORT):
        return []


def _table(head: list[str], rows: list[list[str]], words: Catalogue, name: str, numbers: int = 2) -> Content:
    return table([words.say(title) for title in head], rows, numbers=numbers, name=words.say(name))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _taken(name: str, part: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a source."""
    for source, entry in part["sources"].items():
        dropped = sum(filter["dropped_documents"] for filter in entry["filters"])
        judged = max((filter["documents"] for filter in entry["filters"]), default=entry["read"])
        kept = f"{1 - dropped / judged:.1%}" if judged else ""
        counts = f"{entry['documents']:,}", f"{entry['tokens']:,}", f"{entry['bytes'] / entry['tokens']:.2f}"
        yield [name, source, f"{entry['read']:,}", kept, *counts]


def _dropped(name: str, part: Mapping[str, Any]) -> Iterator[list[str]]:
    """A row a filter; duplicates are dropped by one too."""
    for source, entry in part["sources"].items():
        for filter in entry["filters"]:
            judged, dropped = filter["documents"], filter["dropped_documents"]
            share = f"{dropped / judged:.1%}" if judged else ""
            yield [name, source, filter["filter"], f"{judged:,}", f"{dropped:,}", share]
