"""What was found in a suite against what should have been: recall, delay, false alarms, confusion."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from suite.run import LabelledRun

from ko_cpt_callbacks.run.finding import Finding, Severity

__all__ = ["Alarm", "Score", "Verdict", "last_row", "score", "verdict"]

_RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.ERROR: 2}
NOISY_CODES = frozenset({"eval-too-small", "note", "prompt-in-loss"})
"""Codes about the set-up, which a suite of rows says nothing about."""


@dataclass(frozen=True)
class Alarm:
    """A finding that should not be there."""

    run: str
    code: str
    step: int | None
    severity: str


@dataclass(frozen=True)
class Verdict:
    """One run judged.

    Args:
        run: Which.
        hits: Per expected code the delay in log points, None where neither it nor what counts as it was found in its
            window.
        early: Expected codes that were said before their window (and are alarms).
        alarms: Findings above info that are neither expected nor allowed.
        said: Every code that was said above info, and expected notes.
    """

    run: LabelledRun
    hits: dict[str, int | None]
    early: tuple[Alarm, ...]
    alarms: tuple[Alarm, ...]
    said: frozenset[str]


def last_row(run: LabelledRun, step: int) -> int:
    """How many rows there are up to the last one of ``step``, where a step counter that starts again counts once."""
    exact = [i for i, row in enumerate(run.rows) if row["step"] == step]
    if exact:
        return exact[-1] + 1
    return max((i + 1 for i, row in enumerate(run.rows) if row["step"] <= step), default=0)


def _points(run: LabelledRun, first: int, last: int) -> int:
    """Log points from one step to a later one."""
    return len({row["step"] for row in run.rows if first < row["step"] <= last})


def verdict(run: LabelledRun, findings: Sequence[Finding]) -> Verdict:
    """Compares one run's findings with its label."""
    hits: dict[str, int | None] = {}
    early: list[Alarm] = []
    alarms: list[Alarm] = []
    said: set[str] = set()
    windows = {name: window for code, window in run.expected.items() for name in run.counting(code)}
    windows.update(run.expected)
    for code, (first, last) in run.expected.items():
        needed = _RANK[Severity(run.needed(code))]
        counting = run.counting(code)
        good = [
            one for one in findings
            if one.code in counting and _RANK[one.severity] >= needed
            and one.step is not None and first <= one.step <= last
        ]  # fmt: skip
        begin = first if run.onset is None else run.onset
        hits[code] = _points(run, begin, good[0].step) if good and good[0].step is not None else None
        if good:
            said.add(code)
    for one in findings:
        if one.code in NOISY_CODES or _RANK[one.severity] < _RANK[Severity.WARNING]:
            continue
        said.add(one.code)
        alarm = Alarm(run.name, one.code, one.step, one.severity.value)
        window = windows.get(one.code)
        if window is not None:
            if one.step is not None and one.step < window[0]:
                early.append(alarm)
        elif one.code not in run.allowed:
            alarms.append(alarm)
    return Verdict(run, hits, tuple(early), tuple(alarms), frozenset(said))


@dataclass
class Score:
    """A suite judged."""

    expected: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    healthy: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    """On healthy runs, one per run and code."""
    alarmed: set[str] = field(default_factory=set)
    """Healthy runs with an alarm."""
    aside: list[Alarm] = field(default_factory=list)
    """On runs with a fault: another code, or the right one too early."""
    missed: list[tuple[str, str, tuple[int, int]]] = field(default_factory=list)
    confusion: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Per fault (or ``healthy``): how many of its runs were said to have which code."""
    runs: Counter[str] = field(default_factory=Counter)

    def recall(self) -> dict[str, float]:
        """Per code."""
        return {code: self.found[code] / count for code, count in sorted(self.expected.items())}

    @property
    def macro(self) -> float:
        """Mean of the codes' recalls."""
        values = list(self.recall().values())
        return sum(values) / len(values) if values else 0.0

    @property
    def alarm_rate(self) -> float:
        """Alarms per healthy run."""
        return len(self.alarms) / max(1, self.healthy)

    def delay(self, code: str) -> float | None:
        """Median delay in log points; None where nothing was found."""
        return median(self.delays[code]) if self.delays[code] else None

    def add(self, one: Verdict) -> None:
        """One run more."""
        primary = "healthy" if one.run.healthy else one.run.kind.split("/")[0]
        self.runs[primary] += 1
        self.confusion[primary].update(one.said)
        for code, delay in one.hits.items():
            self.expected[code] += 1
            if delay is None:
                self.missed.append((one.run.name, code, one.run.expected[code]))
            else:
                self.found[code] += 1
                self.delays[code].append(delay)
        if one.run.healthy:
            self.healthy += 1
            unique = {alarm.code: alarm for alarm in reversed(one.alarms)}
            self.alarms.extend(unique.values())
            if unique:
                self.alarmed.add(one.run.name)
        else:
            self.aside.extend(one.early)
            self.aside.extend({alarm.code: alarm for alarm in reversed(one.alarms)}.values())


def score(verdicts: Iterable[Verdict]) -> Score:
    """A suite's verdicts added up."""
    total = Score()
    for one in verdicts:
        total.add(one)
    return total
