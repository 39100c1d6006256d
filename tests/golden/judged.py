"""What was said of a run, one line a finding, and the text file that keeps it of many runs.

::

    level-shift/down-middle/03 5f0c9a1e
      level-shift@700[train] warning down
      diverged@940[train] error rising (stop)

A run's line holds its name and a checksum of its rows and its label; what is below it are its findings, by step.
Sentences and numbers are not kept, so that these may change on their own.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.judge import offline
from suite.run import LabelledRun

__all__ = ["Judged", "Said", "judged", "read", "six_digits", "write"]

_LINE = re.compile(r"(\S+)@(\S+)\[(.*)\] (\w+)(?: ([^\s(]\S*))?( \(stop\))?")
_ABSENT = "-"


@dataclass(frozen=True)
class Said:
    """A finding without its numbers.

    Args:
        code: Which.
        step: Optimizer step; None where there is none.
        split: ``train`` or the evaluation's prefix; None where there is none.
        severity: ``info``, ``warning``, ``error``.
        variant: Which of the code's sentences.
        stops: Whether it asks to stop.
    """

    code: str
    step: int | None
    split: str | None
    severity: str
    variant: str = ""
    stops: bool = False

    def __str__(self) -> str:
        step = _ABSENT if self.step is None else str(self.step)
        head = f"{self.code}@{step}[{self.split or _ABSENT}] {self.severity}"
        return head + (f" {self.variant}" if self.variant else "") + (" (stop)" if self.stops else "")

    @classmethod
    def of(cls, line: str) -> Said:
        """The finding that a line says."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"found {line!r}, expected code@step[set] severity variant")
        code, step, split, severity, variant, stops = match.groups()
        return cls(
            code, None if step == _ABSENT else int(step), None if split == _ABSENT else split, severity,
            variant or "", stops is not None,
        )  # fmt: skip

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Said:
        """The finding as ``--json`` prints it."""
        return cls(
            found["code"], found["step"], found["split"], found["severity"], found["variant"], found["asks_to_stop"]
        )

    def order(self) -> tuple[Any, ...]:
        """By step; what belongs to no step first."""
        return (-1 if self.step is None else self.step, self.code, self.split or "", self.severity, self.variant)


@dataclass(frozen=True)
class Judged:
    """A run and its findings, by step.

    Args:
        name: Unique within a file.
        checksum: Of its rows and label, eight hexadecimal digits.
        said: Its findings.
    """

    name: str
    checksum: str
    said: tuple[Said, ...]


def six_digits(value: Any) -> Any:
    """The JSON value with its floats at six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: six_digits(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [six_digits(inner) for inner in value]
    return value


def judged(run: LabelledRun) -> Judged:
    """The run as ``ko-cpt check`` judges it."""
    found = [
        Said(one.code, one.step, one.split, one.severity.value, one.variant, one.asks_to_stop) for one in offline(run)
    ]
    return Judged(run.name, _checksum(run), tuple(sorted(found, key=Said.order)))


def _checksum(run: LabelledRun) -> str:
    # Another processor may compute the last of a float's digits otherwise; six are the same everywhere.
    what = [
        run.rows, run.expected, sorted(run.allowed), run.task, run.healthy, run.max_steps, run.num_train_epochs,
        run.onset, dict(run.least),
    ]  # fmt: skip
    return f"{zlib.crc32(json.dumps(six_digits(what)).encode()):08x}"


def write(path: Path, found: Iterable[Judged], about: str) -> None:
    """Keep what was said of these runs, by name, below a line on what the file is about."""
    lines = [f"# {about}"]
    for one in sorted(found, key=lambda each: each.name):
        lines += [f"{one.name} {one.checksum}", *(f"  {said}" for said in one.said)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")


def read(text: str) -> dict[str, Judged]:
    """What a file keeps, by name of the run."""
    found: dict[str, Judged] = {}
    name = checksum = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("  "):
            found[name] = Judged(name, checksum, (*found[name].said, Said.of(line.strip())))
        else:
            name, _, checksum = line.rpartition(" ")
            found[name] = Judged(name, checksum, ())
    return found
