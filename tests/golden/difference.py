"""Two judgements of the same runs, compared: what is gone, new or moved, and whether the label says that it is better.

A difference is an answer, not always a failure. It is *better* where a fault is found in its window that was missed, or
a false alarm is gone or less grave; *worse* the other way round; *neither* where the label has no opinion: notes, codes
that it allows, a fault found at another row of its window, logs without a label, and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from golden.judged import Judged, Said
from golden.log import END
from suite.run import LabelledRun
from suite.score import NOISY_CODES

__all__ = ["BETTER", "NEITHER", "WORSE", "Difference", "differences", "output_differences", "report", "summary"]

BETTER, WORSE, NEITHER = "better", "worse", "neither"
_RANK = {"info": 0, "warning": 1, "error": 2}
_NOTHING = "-"


@dataclass(frozen=True)
class Difference:
    """One code of one run, or one entry of one output.

    Args:
        file: The golden file.
        run: The run, or the command.
        label: What should be said of the run.
        code: The finding's code; of an output the path of the entry.
        change: ``gone``, ``new``, ``moved``, ``rows`` (the run itself is another one), ``output``.
        old: What is kept.
        new: What is said now.
        verdict: ``better``, ``worse``, ``neither``.
        later: Of a code that moved, steps by which the first finding that differs is later; negative: earlier.
    """

    file: str
    run: str
    label: str
    code: str
    change: str
    old: str
    new: str
    verdict: str = NEITHER
    later: int = 0

    def __str__(self) -> str:
        head = f"{self.verdict:7} {self.change:6} {self.code}  {self.file}: {self.run}"
        told = f"{head}  ({self.label})" if self.label else head
        return f"{told}\n    old {self.old}\n    new {self.new}"


def differences(file: str, old: Judged, new: Judged, label: LabelledRun | None) -> Iterator[Difference]:
    """What is said of a run now and was not, and the other way round; one difference a code."""
    words = _words(label)
    if old.checksum != new.checksum:
        yield Difference(file, new.name, words, "(the run)", "rows", old.checksum, new.checksum)
    for code in sorted({one.code for one in (*old.said, *new.said)}):
        before = [one for one in old.said if one.code == code]
        after = [one for one in new.said if one.code == code]
        # What stands in both is no difference; which of two equal ones is which does not matter.
        lost, won = Counter(before) - Counter(after), Counter(after) - Counter(before)
        if not lost and not won:
            continue
        change = "new" if not before else "gone" if not after else "moved"
        first, now = (min((one.step or 0 for one in found), default=None) for found in (lost, won))
        yield Difference(
            file, new.name, words, code, change, _said(lost.elements()), _said(won.elements()),
            NEITHER if label is None else _verdict(label, code, before, after),
            0 if change != "moved" or first is None or now is None else now - first,
        )  # fmt: skip


def _said(found: Iterator[Said]) -> str:
    return "; ".join(str(one) for one in sorted(found, key=Said.order)) or _NOTHING


def _words(label: LabelledRun | None) -> str:
    if label is None:
        return "no label"
    expected = [
        f"expected {code} {first:,}..{f'{last:,}' if last < END else ''}"
        for code, (first, last) in label.expected.items()
    ]
    allowed = [f"allowed {', '.join(sorted(label.allowed))}"] if label.allowed else []
    return "; ".join(["healthy" if label.healthy else f"kind {label.kind}", *expected, *allowed])


def _verdict(label: LabelledRun, code: str, before: Sequence[Said], after: Sequence[Said]) -> str:
    """Whether this code is said better; a loss on either side, misses or false alarms, is worse."""
    found, finds = _hit(label, code, before), _hit(label, code, after)
    alarmed, alarms = _alarm(label, code, before), _alarm(label, code, after)
    if finds < found or alarms > alarmed:
        return WORSE
    return BETTER if finds > found or alarms < alarmed else NEITHER


def _hit(label: LabelledRun, code: str, said: Sequence[Said]) -> bool:
    """Whether an expected code is said in its window, gravely enough."""
    if code not in label.expected:
        return False
    first, last = label.expected[code]
    needed = _RANK[label.needed(code)]
    return any(_RANK[one.severity] >= needed and one.step is not None and first <= one.step <= last for one in said)


def _alarm(label: LabelledRun, code: str, said: Sequence[Said]) -> tuple[int, int]:
    """How grave the false alarms of a code are, and how many; an expected code is one before its window."""
    if code in NOISY_CODES or code in label.allowed - label.expected.keys():
        return 0, 0
    grave = [one for one in said if _RANK[one.severity] >= _RANK["warning"]]
    if code in label.expected:
        grave = [one for one in grave if one.step is not None and one.step < label.expected[code][0]]
    return max((_RANK[one.severity] for one in grave), default=0), len(grave)


def output_differences(file: str, command: str, old: Any, new: Any) -> Iterator[Difference]:
    """Entries of an output that differ, each with its path."""
    before, after = dict(_entries(old)), dict(_entries(new))
    for path in [*before, *(path for path in after if path not in before)]:
        was, now = before.get(path, _NOTHING), after.get(path, _NOTHING)
        if was == now:
            continue
        if isinstance(was, list) and isinstance(now, list):
            was, now = [one for one in was if one not in now], [one for one in now if one not in was]
            if not was and not now:
                was, now = "in another order or number", "in another order or number"
        yield Difference(file, command, "", path, "output", str(was), str(now))


def _entries(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value with its path; a list of plain values is one, and a finding's path has its code and step."""
    if isinstance(value, Mapping):
        if not value:
            yield path, {}
        for name, inner in value.items():
            yield from _entries(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value):
        seen: Counter[str] = Counter()
        for number, one in enumerate(value):
            place = f"{path}[{_place(one, number)}]"
            seen[place] += 1
            yield from _entries(one, place if seen[place] == 1 else f"{place}#{seen[place]}")
    else:
        yield path, value


def _place(one: Any, number: int) -> str:
    if isinstance(one, Mapping):
        if {"code", "step", "split"} <= one.keys():
            return f"{one['code']}@{one['step']} {one['split']}"
        for name in ("id", "code", "name", "evidence"):
            if isinstance(one.get(name), str):
                return str(one[name])
    return str(number)


def report(found: Sequence[Difference], per_output: int = 12) -> list[str]:
    """Every difference, worse ones first; of one output so many at most."""
    lines: list[str] = []
    outputs: Counter[str] = Counter()
    for one in sorted(found, key=lambda each: (WORSE, BETTER, NEITHER).index(each.verdict)):
        place = f"{one.file}: {one.run}"
        outputs[place] += one.change == "output"
        if one.change != "output" or outputs[place] <= per_output:
            lines.append(str(one))
    lines += [
        f"{place}: and {count - per_output} more entries" for place, count in outputs.items() if count > per_output
    ]
    return lines


def summary(found: Sequence[Difference]) -> list[str]:
    """Per code what is gone, new and moved (of these earlier, later), and the sum by the label."""
    columns = ("gone", "new", "moved", "earlier", "later", BETTER, WORSE, NEITHER)
    codes: dict[str, Counter[str]] = {}
    for one in found:
        if one.change in ("gone", "new", "moved"):
            where = ["later"] if one.later > 0 else ["earlier"] if one.later < 0 else []
            codes.setdefault(one.code, Counter()).update((one.change, one.verdict, *where))
    lines = [f"{'code':24}" + "".join(f"{name:>9}" for name in columns)] if codes else []
    for code, counts in sorted(codes.items()):
        lines.append(f"{code:24}" + "".join(f"{counts[name] or '.':>9}" for name in columns))
    outputs = {(one.file, one.run) for one in found if one.change == "output"}
    if outputs:
        entries = sum(one.change == "output" for one in found)
        lines.append(f"outputs that differ: {len(outputs)}, in {entries} entries")
    other = sum(one.change == "rows" for one in found)
    if other:
        lines.append(f"runs whose rows or label are others: {other}")
    sums = Counter(one.verdict for one in found)
    return [*lines, f"{BETTER}: {sums[BETTER]}, {WORSE}: {sums[WORSE]}, {NEITHER}: {sums[NEITHER]}"]
