"""What this tool, or the Trainer around it, does not do in a run, and why.

`note` is one code with a table of reasons; a history that is too short and a rule that raised have their own codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from ko_cpt_callbacks.messages.catalogue import NOTE
from ko_cpt_callbacks.rules.rule import Found, OnceRule, Rule, RuleInfo
from ko_cpt_callbacks.rules.setup.setup_rule import (
    Reading,
    SetupReason,
    SetupRule,
    count_of,
    first_of,
    some_names,
    text_of,
)
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.signals import Signals

__all__ = ["NotEnoughData", "Note", "RuleFailed"]


def _as_it_is(seen: SetupObservation, name: str) -> Any:
    return seen.values.get(name)


def _other(seen: SetupObservation, name: str) -> str:
    return str(seen.values.get(name, "another callback"))


def _stops(seen: SetupObservation, name: str) -> bool:
    return seen.values.get(name) is True


_EXACT_LOSS: Final = "exact-loss-absent"
_ERROR_BAR: Final = "error-bar-absent"
_WHOLE_RUN: Final = "exact-loss-absent-in-run"
_RESUME: Final = "stopped-before"
"""Kind of the row that each resume writes, and that is reported each time."""
_RESUMED: Final[Mapping[str, Reading]] = {"reason": text_of, "reason_step": count_of, "stops": _stops}

# By the kind of the row, which is that of the codes of earlier versions: their run folders are judged too.
_OF_ROWS: Final[Mapping[str, tuple[SetupReason, ...]]] = {
    "trackers-not-reached": (SetupReason("trackers-not-reached", Severity.INFO),),
    "early-stopping-twice": (SetupReason("early-stopping-twice", Severity.INFO, {"other": _other}),),
    "nan-filter-on": (SetupReason("nan-filter-on", Severity.INFO),),
    "no-first-evaluation": (
        SetupReason("no-first-evaluation", Severity.INFO, when=lambda seen: "eval_steps" not in seen.values),
        SetupReason("eval-steps-ignored", Severity.INFO, {"eval_steps": _as_it_is, "eval_strategy": text_of}),
    ),
    "retention-not-evaluated": (
        SetupReason("retention-not-evaluated", Severity.INFO, {"names": some_names, "sets": some_names}),
    ),
    _EXACT_LOSS: (SetupReason(_WHOLE_RUN, Severity.WARNING, {"reason": text_of}),),
    _RESUME: (
        SetupReason("stopped-before", Severity.INFO, _RESUMED, lambda seen: _stops(seen, "stops")),
        SetupReason("stopped-before-goes-on", Severity.INFO, _RESUMED),
    ),
}


@dataclass(frozen=True, slots=True)
class Note(Rule):
    """Says each reason once: what the callback noted in a set-up row, or what an evaluation's row says of itself.

    Reasons of an evaluation (no exact loss, no error bar) come once per set; that a run was stopped before comes at
    each resume. All are infos but one: a run in which no exact loss can be measured at all has not what the callback
    was put there for, and that is a warning. It stands for all sets. No note asks to stop.

    Its state is what was reported, by reason and set.
    """

    info: ClassVar[RuleInfo] = RuleInfo(
        NOTE, (Severity.WARNING, Severity.INFO), (SetupObservation, EvalObservation), place=40
    )

    def initial(self) -> tuple[str, ...]:
        """Nothing reported."""
        return ()

    def step(self, state: tuple[str, ...], seen: Observation, signals: Signals) -> tuple[tuple[str, ...], Found]:
        """Speaks where a row has a reason that was not reported before."""
        found = list(_of_evaluation(seen)) if isinstance(seen, EvalObservation) else []
        if isinstance(seen, SetupObservation):
            fits = first_of(_OF_ROWS.get(seen.kind, ()), seen)
            if fits is not None:
                found.append(Finding(NOTE, fits[0].severity, seen.step, values=fits[1], variant=fits[0].name))
        new = tuple(one for one in found if not _is_said(one, state))
        return (*state, *(_subject(one) for one in new if not one.variant.startswith(_RESUME))), new


def _of_evaluation(seen: EvalObservation) -> Found:
    """What an evaluation's row says of itself: the texts are those of the row."""
    reasons = {_ERROR_BAR: seen.error_bar_absent, _EXACT_LOSS: seen.exact_loss_absent}
    return tuple(
        Finding(NOTE, Severity.INFO, seen.step, seen.split, values={"reason": reason}, variant=name)
        for name, reason in reasons.items()
        if reason is not None
    )


def _subject(finding: Finding) -> str:
    return f"{finding.variant} {finding.split or ''}"


def _is_said(finding: Finding, state: tuple[str, ...]) -> bool:
    """Whether it was reported, or the whole run's reason stands for it."""
    of_run = finding.variant == _EXACT_LOSS and f"{_WHOLE_RUN} " in state
    return of_run or _subject(finding) in state


_OF_A_RULE: Final[Mapping[str, Reading]] = {"rule": text_of, "error": text_of}


@dataclass(frozen=True, slots=True)
class RuleFailed(SetupRule):
    """Says once per rule what the monitor noted where it raised, in an observation of this code's name.

    The monitor makes that observation and gives it to this rule; no row holds it. It never asks to stop: a mistake
    of this package is no reason to end a training.
    """

    reasons: ClassVar[tuple[SetupReason, ...]] = (
        SetupReason("at-the-end", Severity.WARNING, _OF_A_RULE, lambda seen: seen.values.get("at_the_end") is True),
        SetupReason("at-a-row", Severity.WARNING, _OF_A_RULE),
    )
    info: ClassVar[RuleInfo] = RuleInfo("rule-failed", (Severity.WARNING,), (SetupObservation,), place=300)

    def subject(self, found: Finding) -> str:
        """The rule."""
        return str(found.values["rule"])


@dataclass(frozen=True, slots=True)
class NotEnoughData(OnceRule):
    """Says once, at the end, that there was too little to judge.

    Args:
        min_train_points: Training rows that are enough. Chosen, not measured: below it neither a trend nor
            its noise can be had from a log.
        min_evaluations: Evaluations of one set that are enough. Chosen, not measured: a first, a last, and
            one between.
    """

    info: ClassVar[RuleInfo] = RuleInfo("not-enough-data", (Severity.INFO,), (EndObservation,), place=340)

    min_train_points: int = limits.JUDGED_POINTS
    min_evaluations: int = limits.JUDGED_EVALUATIONS

    def judged(self, signals: Signals, *, live: bool) -> Found:
        """How many points there are of each kind."""
        run = signals.run
        points, most = run.train.points, max((split.evaluations for split in run.splits.values()), default=0)
        if points >= self.min_train_points or most >= self.min_evaluations:
            return ()
        values = {
            "train_points": points,
            "evaluations": most,
            "min_train_points": self.min_train_points,
            "min_evaluations": self.min_evaluations,
        }
        step = None if run == RunProgress() else run.length.row_step
        return (Finding(self.code, Severity.INFO, step, values=values),)
