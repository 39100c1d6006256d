"""Bits per byte of runs and baselines one above the other, lowest first: HTML boxes, which need no axis of steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.check.compared import Compared, ReferenceSide, compared_run
from ko_cpt_callbacks.check.compared_run import as_compared
from ko_cpt_callbacks.compare.value import BITS
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.chart import INTERVAL
from ko_cpt_callbacks.report.drawing import Element, element, measured, number, table
from ko_cpt_callbacks.report.subject import Subject
from ko_cpt_callbacks.run.retention import is_retention

__all__ = ["ladder"]

_NEAREST: Final = 8
"""Baselines that are drawn; the table has all. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class _Rung:
    """One value or range, in bits per byte."""

    name: str
    low: float
    high: float
    text: str
    kind: str
    remark: str = ""

    @property
    def middle(self) -> float:
        return 0.5 * (self.low + self.high)


def ladder(subjects: Sequence[Subject], named: ReferenceSide | None, words: Catalogue) -> list[Element]:
    """The ladder with its table, and which baselines are not on it and why; a sentence where no run has a rung.

    Beside what the user compares with (``named``) every installed baseline is shown.
    """
    own = [rung for subject in subjects for rung in _own(subject, several=len(subjects) > 1, words=words)]
    if not own:
        return [element("p", words.say("no-bits"), class_="none")]
    compared = [(side, one) for side in _sides(named) for one in _compared(subjects[0], side)]
    rungs, absent = [*own], []
    marked = {part.judgement.watch.baseline["id"] for part in subjects[0].parts if part.judgement.watch.baseline}
    marked |= set() if named is None else {named.baseline.id}
    for side, one in compared:
        found = one.comparison
        kind = "named" if side.baseline.id in marked else "baseline"
        if found.unit == BITS and found.reference_low is not None and found.reference_high is not None:
            text = _range(found.reference_low, found.reference_high)
            rungs.append(
                _Rung(side.baseline.title, found.reference_low, found.reference_high, text, kind, _verdict(one, words))
            )
        else:
            reasons = "; ".join(words.reason(reason.as_dict()).rstrip(".") for reason in found.reasons)
            absent.append((side.baseline.title, reasons))
    rungs.sort(key=lambda rung: rung.middle)
    low, high = min(rung.low for rung in _nearest(rungs)), max(rung.high for rung in _nearest(rungs))
    room = 0.05 * (high - low) or 0.05 * high
    made = [
        element("div", *(_rung(rung, low - room, high + room) for rung in _nearest(rungs)), class_="ladder"),
        element(
            "details", element("summary", words.say("every-rung", count=len(rungs))),
            table([words.say(word) for word in ("what", "bits-per-byte", "compared")],
                  [[rung.name, rung.text, rung.remark] for rung in rungs], name=words.say("ladder"), numbers=1),
        ),
    ]  # fmt: skip
    if absent:
        made.append(
            element("details", element("summary", words.say("not-on-ladder", count=len(absent))),
                    table([words.say("what"), words.say("why")], absent, numbers=2))
        )  # fmt: skip
    return made


def _nearest(rungs: Sequence[_Rung]) -> list[_Rung]:
    """Every run and what it is compared with, the lowest of all, and the baselines nearest to where a run is."""
    ends = [rung.middle for rung in rungs if rung.kind == "own"]
    others = [rung for rung in rungs if rung.kind == "baseline"]
    others = sorted(others, key=lambda rung: min(abs(rung.middle - end) for end in ends))[:_NEAREST] + others[:1]
    return [rung for rung in rungs if rung.kind != "baseline" or rung in others]


def _own(subject: Subject, *, several: bool, words: Catalogue) -> Iterator[_Rung]:
    """Where the run began and where it is, on every set that is no retention set."""
    first: dict[str, tuple[float, float | None]] = {}
    last: dict[str, tuple[float, float | None]] = {}
    for part in subject.parts:
        for split, seen in part.judgement.summary.splits.items():
            if is_retention(split, part.judgement.watch.retention):
                continue
            for point in (seen.first, seen.last):
                if point.bits_per_byte is not None and point.finite:
                    first.setdefault(split, (point.bits_per_byte, point.bits_per_byte_se))
                    last[split] = point.bits_per_byte, point.bits_per_byte_se
    for split, end in last.items():
        name = f"{subject.name} · {split}" if several or len(last) > 1 else split
        if first[split] != end:
            yield _measured(words.say("rung-first", name=name), first[split], "first")
        yield _measured(words.say("rung-last", name=name), end, "own")


def _measured(name: str, value: tuple[float, float | None], kind: str) -> _Rung:
    bits, error = value
    half = INTERVAL * (error or 0.0)
    return _Rung(name, bits - half, bits + half, measured(bits, error), kind)


def _sides(named: ReferenceSide | None) -> list[ReferenceSide]:
    """What the user named, then every installed baseline that stands."""
    from ko_cpt_callbacks.compare.registry import baseline_ids, find_baseline  # pydantic and YAML: only for the ladder

    found = [] if named is None else [named]
    for known in baseline_ids():
        baseline = find_baseline(known)
        if not baseline.superseded_by and all(side.baseline.id != baseline.id for side in found):
            found.append(ReferenceSide(baseline))
    return found


def _compared(subject: Subject, side: ReferenceSide) -> list[Compared]:
    """The first run's first set beside a baseline."""
    part = subject.parts[-1]
    try:
        return compared_run(as_compared(subject.path, part.judgement), side)[:1]
    except UnreadableRunError:  # per-row sums that are damaged: the report shows what can be read
        return []


def _verdict(one: Compared, words: Catalogue) -> str:
    found = one.comparison
    if found.outcome == "not comparable" or found.relation is None:
        return words.say(f"outcome {found.outcome}")
    said = words.say(f"relation {found.relation}")
    return said if found.outcome == "exact" else words.say("only-indicative", relation=said)


def _range(low: float, high: float) -> str:
    ends = number(low, "loss"), number(high, "loss")
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} – {ends[1]}"


def _rung(rung: _Rung, low: float, high: float) -> Element:
    def percent(value: float) -> float:
        return 100 * (value - low) / (high - low)

    style = f"left:{percent(rung.low):.2f}%;width:{percent(rung.high) - percent(rung.low):.2f}%"
    bar = element("span", element("i", style=style), class_="track")
    text = element("span", rung.text, class_="value")
    remark = element("span", rung.remark, class_="remark") if rung.remark else None
    return element("div", element("span", rung.name, class_="name"), bar, text, remark, class_=f"rung {rung.kind}")
