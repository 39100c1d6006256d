"""Many runs at once: which paths are runs, and each as one row of a table."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import CheckOptions, asked_by, asked_of
from ko_cpt_callbacks.check.judgement import Judgement, judge_run
from ko_cpt_callbacks.check.staged import PlanJudgement, judge_plan
from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError, refuse_empty
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE
from ko_cpt_callbacks.run.facts import VERDICTS, RunFacts
from ko_cpt_callbacks.run.finding import Finding, gravest_first
from ko_cpt_callbacks.run.log.found import run_place
from ko_cpt_callbacks.run.reading import LogSource, holds_run, read_plan, read_run
from ko_cpt_callbacks.run.retention import is_retention

__all__ = ["RunRow", "judge_path", "rows_of", "run_paths"]

_DEPTH: Final = 3
"""Folders between the one that is named and a run in it, at most. Chosen, not measured."""
_HEAD: Final = 65_536
"""Bytes of a file that are looked through for a log. Chosen, not measured: a Trainer writes few keys before it."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run in one row.

    Args:
        path: Where it is, as it was named or found.
        plan: The staged training that it is a stage of; empty where it is none.
        name: Its own name in there; empty of a run that is no stage.
        error: Why it cannot be read; empty where it can.
        facts: State and verdict; None where it cannot be read, or has not begun.
        best: The lowest loss of its first set that is no retention set, in nats per token; else None.
        best_se: Its standard error.
        exact: Whether that loss is exact; the Trainer's own is not.
        bits_per_byte: Of the same evaluation.
        training_loss: The last training loss.
        forgotten: By how much the loss of the first retention set changed since its first evaluation, nats per token.
        tokens: Target tokens trained on.
        when: When its file was last written, seconds since the epoch.
        findings: What was found, gravest first.
        language: Of the sentences.
    """

    path: str
    plan: str = ""
    name: str = ""
    error: str = ""
    facts: RunFacts | None = None
    best: float | None = None
    best_se: float | None = None
    exact: bool = False
    bits_per_byte: float | None = None
    training_loss: float | None = None
    forgotten: float | None = None
    tokens: int | None = None
    when: float | None = None
    findings: tuple[Finding, ...] = ()
    language: str = DEFAULT_LANGUAGE

    @property
    def day(self) -> str:
        """When its file was last written: ``2026-05-01``, local time."""
        return "" if self.when is None else datetime.fromtimestamp(self.when).strftime("%Y-%m-%d")

    @property
    def rank(self) -> tuple[int, str]:
        """Where it stands in a table: what cannot be read first, then the gravest verdict, then by name."""
        return (0 if self.facts is None else 1 + VERDICTS.index(self.facts.verdict), self.path)

    def as_dict(self) -> dict[str, Any]:
        """As strict JSON: an entry of ``schemas/check_runs.schema.json``."""
        worst = self.findings[0] if self.findings else None
        return {
            "path": self.path,
            "plan": self.plan or None,
            "stage": self.name or None,
            "error": self.error or None,
            **({} if self.facts is None else self.facts.as_dict()),
            "best_loss": self.best,
            "best_loss_se": self.best_se,
            "best_loss_exact": self.exact,
            f"best_{keys.BITS_PER_BYTE}": self.bits_per_byte,
            "last_training_loss": self.training_loss,
            "retention_change": self.forgotten,
            "tokens": self.tokens,
            "written": self.day or None,
            "findings": len(self.findings),
            "worst_finding": None if worst is None else worst.code,
        }


def run_paths(named: Sequence[str]) -> list[str]:
    """The runs that the paths name: patterns are filled in, folders that are no run are looked through.

    Args:
        named: Paths of runs, of folders with runs in them, and patterns.

    Raises:
        ConfigurationError: If a text is empty, or a pattern names nothing.
    """
    found: dict[str, None] = {}
    for text in named:
        refuse_empty("RUN", text, "a path")
        filled = [text]
        if not os.path.lexists(text) and glob.has_magic(text):
            filled = sorted(glob.glob(text))
            if not filled:
                raise ConfigurationError(f"RUN: found {text!r}, which names nothing, expected runs; check the path")
        for path in filled:
            found.update(dict.fromkeys([path] if _is_one(Path(path)) else list(_inside(Path(path), _DEPTH)) or [path]))
    return list(found)


def _is_one(path: Path) -> bool:
    """Whether the path is to be read as one run: a file, a run's folder, a staged run; or cannot be looked into."""
    try:
        return not path.is_dir() or holds_run(path)
    except OSError:
        return True


def _inside(folder: Path, depth: int) -> Iterator[str]:
    """Runs in a folder, in the order of their names; where no folder in it is one, the logs that lie in it."""
    try:
        children = sorted(folder.iterdir())
    except OSError:
        return
    runs = []
    for child in children:
        if child.is_symlink() or not child.is_dir():
            continue
        runs += [str(child)] if _is_one(child) else list(_inside(child, depth - 1)) if depth > 1 else []
    yield from runs or (str(child) for child in children if child.suffix == ".json" and _is_log(child))


def _is_log(path: Path) -> bool:
    """Whether a file says early on that it is a Trainer's state: a model's folder is full of other JSON."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with path.open("rb") as stream:
            return b'"log_history"' in stream.read(_HEAD)
    except OSError:
        return False


def judge_path(path: str, options: CheckOptions | None = None) -> Judgement | PlanJudgement:
    """The run, or the staged run, at a path, judged.

    Args:
        path: As the user named it.
        options: The options; None: none was given.

    Raises:
        UnreadableRunError: If it cannot be read.
        ConfigurationError: If its ``run.json`` or an option cannot be used.
    """
    refuse_empty("RUN", path, "a path")
    options = options or CheckOptions()
    # A mistake of the command line comes first.
    asked_of(None, CheckOptions(targets=options.targets, retention=options.retention))
    place = run_place(path)
    plan = read_plan(place)
    if plan is not None:
        if options.family:
            raise ConfigurationError(f"--family: {path} is a staged training, expected one run; name a stage of it")
        return judge_plan(plan, options)
    run = read_run(place)
    judged = judge_run(run, asked_by(run, options), family=options.family)
    if run.source is not LogSource.ROWS:
        return judged
    from ko_cpt_callbacks.checkpoint.account import account_beside  # numpy: only where there may be any

    return replace(judged, account=account_beside(run, judged.watch.retention))


def rows_of(path: str, judged: Judgement | PlanJudgement | KoCPTError) -> list[RunRow]:
    """The rows of one path: of a staged run one for the whole and one a stage."""
    if isinstance(judged, KoCPTError):
        return [RunRow(path, error=str(judged))]
    if isinstance(judged, Judgement):
        return [_row(judged, path)]
    stages = [
        RunRow(str(stage.planned.path), path, stage.planned.name, error=stage.message or "")
        if stage.judgement is None
        else _row(stage.judgement, str(stage.planned.path), path, stage.planned.name)
        for stage in judged.stages
    ]
    whole = RunRow(
        path,
        path,
        facts=judged.facts,
        tokens=sum(stage.tokens or 0 for stage in stages) or None,
        when=max((stage.when for stage in stages if stage.when is not None), default=None),
        findings=tuple(gravest_first(finding for _, finding in judged.findings)),
        language=stages[0].language,
    )
    return [whole, *stages]


def _row(judged: Judgement, path: str, plan: str = "", name: str = "") -> RunRow:
    kept = judged.watch.retention
    splits = judged.summary.splits
    first = next((split for set_, split in splits.items() if not is_retention(set_, kept)), None)
    best = None if first is None else first.best
    changes = [split.change for set_, split in splits.items() if is_retention(set_, kept)]
    forgotten = next((change for change in changes if change is not None), None)
    try:
        when: float | None = judged.run.path.stat().st_mtime
    except OSError:
        when = None
    return RunRow(
        path,
        plan,
        name,
        facts=judged.facts,
        best=None if best is None else best.value,
        best_se=None if best is None else best.se,
        exact=best is not None and best.metric == keys.EXACT_LOSS,
        bits_per_byte=None if best is None else best.bits_per_byte,
        training_loss=judged.summary.train.last_loss,
        forgotten=forgotten,
        tokens=judged.summary.train.tokens_seen,
        when=when,
        findings=tuple(gravest_first(judged.findings)),
        language=judged.watch.language,
    )
