"""Logs that nobody made up: those kept in the tests, and public ones where they are beside the repository.

Each with what is right to say of it, as its reader has it: the README beside the public ones, and
``tests/check/test_case_logs.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from suite.real import DATA
from suite.run import LabelledRun

__all__ = ["CASES", "END", "TASKS", "Log", "own_logs", "public_logs"]

TESTS = Path(__file__).resolve().parents[1]
CASES = DATA.parent / "cases" / "logs"
TASKS = ("cpt", "other")
"""Each log is judged as continued pretraining, and as a run of which nobody said what it was."""

END = 10**9
"""A step after every log's last."""


@dataclass(frozen=True)
class Log:
    """A log, the task it is judged by, and its label.

    Args:
        name: ``<group>/<name>@<task>``.
        path: The file or the folder.
        task: As ``--task`` takes it; None where the run's own record says it.
        label: What should be said; None where nobody has said that.
    """

    name: str
    path: Path
    task: str | None
    label: LabelledRun | None


def _healthy(*allowed: str) -> LabelledRun:
    return LabelledRun("", "healthy/log", [], allowed=frozenset(allowed))


def _faulty(expected: dict[str, int], *allowed: str) -> LabelledRun:
    """Codes with the first step at which each may be said."""
    windows = {code: (first, END) for code, first in expected.items()}
    return LabelledRun(
        "", f"{next(iter(expected), 'fault')}/log", [], expected=windows, allowed=frozenset(allowed), healthy=False
    )


_LOW = ("below-floor",)
"""What a low loss makes the rules of continued pretraining say of a run that was none."""

_CASES: dict[str, LabelledRun] = {
    "group-by-length-wide": _healthy(),
    "group-by-length-mild": _healthy(),
    "rises-from-row-two": _faulty({"diverged": 0}),
    "zeros-after-a-small-loss": _faulty({"memorizing": 0}, "non-finite", "padding-in-loss", *_LOW),
    "nan-gradient-in-a-steep-fall": _healthy(),
    "epoch-ends-in-two-decimals": _faulty({"memorizing": 0}),
    "pads-in-the-labels-seq2seq": _healthy("padding-in-loss"),
    "falls-in-the-first-rows": _healthy(),
    "evaluation-set-swapped": _faulty({"eval-set-changed": 401}, "level-shift"),
    "grpo": _healthy(),
    "loss-times-accumulation": _faulty({"loss-scaled": 0}),
}
_PUBLIC: dict[str, LabelledRun] = {
    "00": _healthy(),
    "01": _faulty({"run-seam": 3510, "padding-in-loss": 3510, "level-shift": 3510, "below-floor": 3510}, "memorizing"),
    "02": _healthy("memorizing"),
    "03": _healthy(),
    "04": _healthy(),
    "15": _faulty({"memorizing": 0}),
    "23": _healthy(),
    "26": _healthy(),
    "54": _healthy(),
    "55": _healthy(),
    "59": _faulty({"overfitting": 0}, "gap-widening", "memorizing"),
}
_PRETRAINING = ("00", "01", "02", "03", "04", "15")


def _both(group: str, name: str, path: Path, label: LabelledRun | None, pretraining: bool) -> Iterator[Log]:
    for task in TASKS:
        one = f"{group}/{name}@{task}"
        if label is None:
            yield Log(one, path, task, None)
            continue
        low = frozenset(_LOW) - label.expected.keys() if task == "cpt" and not pretraining else frozenset()
        yield Log(one, path, task, replace(label, name=one, allowed=label.allowed | low))


def own_logs(folder: Path) -> Iterator[Log]:
    """The logs kept in the tests and the recorded runs; ``folder`` takes files that are made of columns."""
    for path in sorted((TESTS / "check" / "case_logs").glob("*.json")):
        state = json.loads(path.read_text("utf-8"))
        columns = state.pop("columns")
        count = len(next(iter(columns.values())))
        rows = [{key: column[i] for key, column in columns.items() if column[i] is not None} for i in range(count)]
        made = folder / path.name
        made.write_text(json.dumps({**state, "log_history": rows}), "utf-8")
        yield from _both("case", path.stem, made, _CASES.get(path.stem), pretraining=False)
    for path in sorted(one for one in (TESTS / "parity" / "runs").iterdir() if one.is_dir()):
        yield Log(f"recorded/{path.name}@told", path, None, None)
        yield Log(f"recorded/{path.name}@cpt", path / "trainer_state.json", "cpt", None)


def public_logs() -> Iterator[Log]:
    """The public logs, and the cases that are not among the tests; none where they are not beside the repository."""
    for path in sorted((DATA / "runs").glob("*.json")):
        number = path.name.split("_")[0]
        yield from _both("public", number, path, _PUBLIC.get(number), number in _PRETRAINING)
    kept = {path.name for path in (TESTS / "check" / "case_logs").glob("*.json")}
    for path in sorted(CASES.glob("*.json")):
        if path.name not in kept:
            yield from _both("case", path.stem, path, _CASES.get(path.stem), pretraining=False)
