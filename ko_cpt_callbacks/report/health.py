"""What was found, over the steps of the run and as a list, and which checkpoints equal the best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.checkpoint.account import account_of
from ko_cpt_callbacks.checkpoint.page import account_cells, keep_line
from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.chart import Axis, frame
from ko_cpt_callbacks.report.drawing import HEIGHT, Content, Element, element, table
from ko_cpt_callbacks.report.subject import ShownRun, Subject
from ko_cpt_callbacks.run.finding import Finding, Severity

__all__ = ["checkpoints", "findings", "strip"]

_GRAVEST_FIRST: Final = (Severity.ERROR, Severity.WARNING, Severity.INFO)
# Where a finding says since when it holds, under one of these names.
_SINCE: Final = ("since_step", "before_step", "first_step", keys.NONFINITE_FIRST_STEP, "best_step", "peak_step")
_PER_TOPIC: Final = 5
_LANES: Final = 12


def strip(subject: Subject, axis: Axis, words: Catalogue) -> Element | None:
    """A lane for everything that was found at a step: from when it holds to when it was reported."""
    lanes: dict[str, list[tuple[ShownRun, Finding]]] = {}
    for part, found in _gravest_first(subject):
        if found.step is not None:
            lanes.setdefault(found.topic, []).append((part, found))
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
    topics: dict[str, list[tuple[ShownRun, Finding]]] = {}
    for part, found in _gravest_first(subject):
        topics.setdefault(found.topic, []).append((part, found))
    return [_topic(subject, topic, of, words) for topic, of in topics.items()]


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
    where = " · ".join(
        text
        for text in (
            part.name,
            found.split or "",
            "" if found.step is None else words.say("at-step", step=part.offset + found.step),
        )
        if text
    )
    return element("p", element("span", where, class_="where"), " ", found.short(words.language))


def _anchor(subject: Subject, topic: str) -> str:
    safe = "".join(char if char.isalnum() else "-" for char in f"{subject.name}-{topic}")
    return f"found-{safe}"


def _gravest_first(subject: Subject) -> list[tuple[ShownRun, Finding]]:
    return sorted(subject.findings, key=lambda one: _GRAVEST_FIRST.index(one[1].severity))


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
