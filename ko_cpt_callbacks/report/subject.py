"""A run, or a staged run, that a report shows: judged, with what its charts are drawn from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ko_cpt_callbacks.check.judgement import Judgement, asked_of, judge_run, read_recorded_run
from ko_cpt_callbacks.check.staged import PlanJudgement, judge_plan
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.run.facts import RunFacts
from ko_cpt_callbacks.run.file import read_text
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import Observation
from ko_cpt_callbacks.run.reading import read_plan, read_run

__all__ = ["ShownRun", "Subject", "read_subject"]


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run by itself, or one stage of a staged run.

    Args:
        name: Of the stage; empty for a run by itself.
        judgement: What was found in it.
        seen: Its observations.
        offset: Steps of the stages before it.
        recorded: What ``run.json`` says; empty where there is none.
    """

    name: str
    judgement: Judgement
    seen: tuple[Observation, ...]
    offset: int
    recorded: Mapping[str, Any]

    @property
    def end(self) -> int:
        """Its last step, with those of the stages before it."""
        return self.offset + (self.judgement.counts.last_step or 0)


@dataclass(frozen=True, slots=True)
class Subject:
    """What one section of a report shows.

    Args:
        name: As the reader tells it from others.
        path: As the user named it.
        facts: What every verdict carries.
        parts: One, or the stages that could be judged.
        plan: Of a staged run.
    """

    name: str
    path: str
    facts: RunFacts
    parts: tuple[ShownRun, ...]
    plan: PlanJudgement | None = None

    @classmethod
    def of(cls, path: str, name: str, judged: Judgement | PlanJudgement) -> Subject:
        """A run, or a staged run, that was judged."""
        if isinstance(judged, Judgement):
            return cls(name, path, judged.facts, (_part("", judged, 0),))
        parts: list[ShownRun] = []
        for stage in judged.stages:
            if stage.judgement is not None:
                parts.append(_part(stage.planned.name, stage.judgement, parts[-1].end if parts else 0))
        return cls(name, path, judged.facts, tuple(parts), judged)

    @property
    def findings(self) -> Iterator[tuple[ShownRun, Finding]]:
        """Every finding with its part, in order."""
        return ((part, finding) for part in self.parts for finding in part.judgement.findings)


def read_subject(path: str, name: str, baseline: Baseline | None, language: str | None) -> Subject:
    """The run, or staged run, at a path, judged as ``ko-cpt check`` judges it.

    Args:
        path: As the user named it.
        name: What the report calls it.
        baseline: What to compare with; None: what each ``run.json`` says.
        language: Of the sentences; None: likewise.

    Raises:
        UnreadableRunError: If nothing there can be read.
        ConfigurationError: If its ``run.json`` says what cannot be watched.
    """
    if not path:
        raise ConfigurationError("RUN: found an empty text, expected a path; is a variable unset?")
    plan = read_plan(path)
    if plan is not None:
        return Subject.of(path, name, judge_plan(plan, baseline=baseline, language=language))
    run = read_run(path)
    file = run.run_file()
    try:
        recorded = None if file is None else read_recorded_run(file)
        asked = asked_of(recorded, baseline=baseline, language=language)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
    return Subject.of(path, name, judge_run(run, asked))


def _part(name: str, judgement: Judgement, offset: int) -> ShownRun:
    run = judgement.run
    return ShownRun(name, judgement, run.observations(), offset, _recorded(run.run_file()))


def _recorded(file: Path | None) -> Mapping[str, Any]:
    """A ``run.json`` that was read before, whole."""
    try:
        found = {} if file is None else json.loads(read_text(file))
    except (ValueError, UnreadableRunError):  # written anew since
        return {}
    return found if isinstance(found, dict) else {}
