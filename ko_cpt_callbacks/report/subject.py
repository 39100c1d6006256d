"""A run, or a staged run, that a report shows: judged, with what its charts are drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ko_cpt_callbacks.check.asked import CheckOptions
from ko_cpt_callbacks.check.judgement import Judgement
from ko_cpt_callbacks.check.runs import judge_path
from ko_cpt_callbacks.check.staged import PlanJudgement
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.run.facts import RunFacts
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import Observation

__all__ = ["ShownRun", "Subject", "read_subject"]


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run by itself, or one stage of a staged run.

    Args:
        name: Of the stage; empty for a run by itself.
        judgement: What was found in it.
        seen: Its observations.
        offset: Steps of the stages before it.
    """

    name: str
    judgement: Judgement
    seen: tuple[Observation, ...]
    offset: int

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
            return cls(name, path, judged.facts, (ShownRun("", judged, judged.run.observations(), 0),))
        parts: list[ShownRun] = []
        for stage, judgement in judged.judged:
            offset = parts[-1].end if parts else 0
            parts.append(ShownRun(stage, judgement, judgement.run.observations(), offset))
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
    return Subject.of(path, name, judge_path(path, CheckOptions(baseline=baseline, language=language)))
