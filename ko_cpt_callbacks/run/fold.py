"""What a run's rows come to, folded row by row, so that live, offline and resumed runs know the same.

`KindSeen`: what it trains. `Length`: how far it has come, and how far it is to go. `EvalRows`: whether an evaluation
scored the rows that the one before it did, from fingerprints alone (`metrics.row_sums.RowSums.fingerprint`). Two of one
form tell; of two forms, or where one is missing, nothing is known: that is never a change. Equal texts of which other
tokens are scored are other rows too.

A set whose rows are others in every evaluation (a fresh sample, or a fresh mask each time) is *drawn*: there is nothing
that a comparison could start from, each draw speaks for the same source, and comparisons go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.kind import TrainerKind, applies
from ko_cpt_callbacks.run.observation import (
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
    count_from_one,
)

__all__ = [
    "ATTEMPT", "DRAWN", "ENDED_EARLY", "FAMILY", "GLOBAL_STEP", "LOSS_SCALED", "NOTHING_SEEN", "NO_ROWS", "NO_STEP",
    "PLAN", "PLANNED_STEPS", "RATE_AHEAD", "RECORD_BEHIND", "TRAINED_ON", "TRAINER_KIND", "EvalRows", "KindSeen",
    "Length", "same_text",
]  # fmt: skip

TRAINER_KIND: Final = "trainer_kind"
"""In the set-up row ``plan``: what is trained. Beside it stand ``trainer_class`` and, under `TRAINED_ON`,"""
TRAINED_ON: Final = "trained_on"
"""what the training loss is, in words, where it is not the cross-entropy of the tokens alone; else ``None``."""

LOSS_SCALED: Final = "loss-scaled"

_FIRST: Final = 10
_LOW: Final = 0.25
_WIDE: Final = 10.0
# A loss of reinforcement learning begins around 0 and jumps over orders of magnitude; a language model that knows its
# text by heart is as low, but does not jump. Chosen on one public GRPO log (first ten: 0.0003 to 0.0648); not measured.

# Findings that compare a training loss with the levels of language models, or with an evaluation's.
_OF_TRAINING_LOSS: Final = frozenset({"below-floor", "memorizing", "gap-widening"})


@dataclass(frozen=True, slots=True)
class KindSeen:
    """What is known so far.

    Args:
        kind: What is trained; ``None`` while nothing says it.
        declared: Whether the live Trainer reports it: then no key and no number of the log changes it.
        trained_on: What the training loss is where it is not the cross-entropy of the tokens alone, in words.
        scaled: Whether the logged training loss was found to be a multiple of the measured one.
        first: The first positive training losses, until there are ten.
    """

    kind: TrainerKind | None = None
    declared: bool = False
    trained_on: str | None = None
    scaled: bool = False
    first: tuple[float, ...] = ()

    @property
    def language(self) -> bool:
        """Whether a loss of the run may be read as the cross-entropy of tokens; so it is where nothing says more."""
        return self.kind is None or self.kind.language

    @property
    def train_language(self) -> bool:
        """Whether the logged training loss may be."""
        return self.language and self.trained_on is None and not self.scaled

    def add(self, seen: Observation) -> KindSeen:
        """What is known after one more observation."""
        if isinstance(seen, SetupObservation):
            return self._declared(seen.values) if TRAINER_KIND in seen.values else self
        if self.declared or not isinstance(seen, (TrainObservation, EvalObservation)):
            return self
        if seen.kind is not None:
            return self if self.kind is seen.kind else replace(self, kind=seen.kind)
        if self.kind is None and isinstance(seen, TrainObservation) and len(self.first) < _FIRST:
            return self._logged(seen.loss)
        return self

    def heard(self, findings: Iterable[Finding]) -> KindSeen:
        """What is known after findings were made."""
        if not self.scaled and any(finding.code == LOSS_SCALED for finding in findings):
            return replace(self, scaled=True)
        return self

    def lets(self, finding: Finding) -> bool:
        """Whether a finding may be reported of such a run."""
        if not applies(finding.topic, self.kind):
            return False
        if self.train_language or finding.code not in _OF_TRAINING_LOSS:
            return True
        # An exact loss is measured, whatever the run is trained on.
        of_evaluation = finding.split not in (None, keys.TRAIN_PREFIX)
        return finding.code == "below-floor" and of_evaluation and finding.values.get("metric") == keys.EXACT_LOSS

    def _declared(self, values: Mapping[str, Any]) -> KindSeen:
        named, trained_on = values[TRAINER_KIND], values.get(TRAINED_ON)
        try:
            kind = TrainerKind(named) if isinstance(named, str) else None
        except ValueError:  # a kind of a later version
            kind = TrainerKind.OTHER
        trained_on = trained_on if isinstance(trained_on, str) else None
        return replace(self, kind=kind, declared=kind is not None, trained_on=trained_on)

    def _logged(self, loss: float | None) -> KindSeen:
        if loss is None or not math.isfinite(loss) or loss == 0.0:
            return self
        if loss < 0.0:  # no cross-entropy is
            return replace(self, kind=TrainerKind.OTHER)
        first = (*self.first, loss)
        around_zero = len(first) == _FIRST and max(first) < _LOW and max(first) > _WIDE * median(first)
        return replace(self, first=first, kind=TrainerKind.RL if around_zero else None)


NOTHING_SEEN: Final = KindSeen()
"""Before the first row."""


ATTEMPT: Final = "attempt"
"""Kind of the set-up row that says with what an attempt trains: groups of names, each with its value."""
PLAN: Final = "plan"
"""Kind of the set-up row that says how long the run is to be; its value is ``planned_steps``."""
PLANNED_STEPS: Final = "planned_steps"
GLOBAL_STEP: Final = "global_step"
"""In the same row: the step that a Trainer's state stands at, which may lie behind its last logged row."""
RATE_AHEAD: Final = "rate-ahead"
"""Kind of the set-up row that says what the scheduler has planned for the whole run: ``scheduler``, its class, and
``steps`` and ``rates``, straight lines between them; a class that follows no plan has neither."""
FAMILY: Final = "family"
"""Kind of the set-up row that holds the finished runs that this one is compared with step by step, under ``runs``."""
ENDED_EARLY: Final = "ended-early"
"""Kind of the set-up row that says what asked a run to end before its planned last step: ``by``."""
RECORD_BEHIND: Final = "record-behind"
"""Kind of the set-up row at the end of a record that a Trainer's state goes beyond; the finding has the same name."""


@dataclass(frozen=True, slots=True)
class Length:
    """How far a run has come.

    Args:
        row_step: Step of its last row.
        file_step: The step that its file stands at; 0 where it has none.
        planned: Its last step as planned; ``None`` where nothing says it.
        stopped_by: What asked it to end, a finding's code or a callback's class; ``None``: nothing known.
        broken: Whether the last training loss is no number, or one that was logged as 0.
    """

    row_step: int = 0
    file_step: int = 0
    planned: int | None = None
    stopped_by: str | None = None
    broken: bool = False

    @property
    def done(self) -> int:
        """The last optimizer step that is known of."""
        return max(self.row_step, self.file_step)

    def add(self, seen: Observation) -> Length:
        """The length after one more observation."""
        if isinstance(seen, SetupObservation):
            return self._set_up(seen)
        broken = _is_broken(seen) if isinstance(seen, TrainObservation) else self.broken
        if seen.step == self.row_step and broken == self.broken:
            return self
        return Length(seen.step, self.file_step, self.planned, self.stopped_by, broken)

    def _set_up(self, seen: SetupObservation) -> Length:
        if seen.kind == PLAN:
            planned, stands = (count_from_one(seen.values.get(name)) for name in (PLANNED_STEPS, GLOBAL_STEP))
            # A training that begins, or begins again, has not been stopped.
            return replace(self, planned=planned or self.planned, file_step=stands or 0, stopped_by=None)
        if seen.kind == ENDED_EARLY:
            by = seen.values.get("by")
            return replace(self, stopped_by=by if isinstance(by, str) and by else self.stopped_by)
        return self


def _is_broken(seen: TrainObservation) -> bool:
    """Whether the weights are lost. A bad step among good ones is not that: a loss scaler skips it."""
    if seen.loss is None or seen.loss != 0.0:
        return seen.loss is not None and not math.isfinite(seen.loss)
    bad_gradient = seen.grad_norm is not None and not math.isfinite(seen.grad_norm)
    return bool(seen.nonfinite_steps) or (seen.nonfinite_steps is None and bad_gradient)


NO_STEP: Final = Length()
"""Before the first row."""


DRAWN: Final = 3
"""Changes in a row, with no two evaluations of the same rows between, from which a set is drawn anew each time. Chosen,
not measured: a resume changes the rows once, and no one resumes three times with one evaluation between."""


def same_text(one: str | None, other: str | None) -> bool | None:
    """Whether two fingerprints are of the same text.

    A fingerprint reads ``utf8-v2-<64 digits>``: what was hashed (``utf8``: the text, ``ids``: token ids), how, and the
    hash. Runs from before that have 16 digits and no ``v2``.

    Returns:
        ``None`` where that is not known: one is absent, or they were made in different ways.

    >>> same_text("utf8-v2-aa", "utf8-v2-bb"), same_text("utf8-0123", "utf8-v2-bb")
    (False, None)
    """
    if not one or not other:
        return None
    if one == other:
        return True
    return None if _form(one) != _form(other) else False


def _form(fingerprint: str) -> tuple[str, int]:
    """What a fingerprint is of, how it is made and how long it is: two of one form can be compared."""
    made, _, digits = fingerprint.rpartition("-")
    return made, len(digits)


@dataclass(frozen=True, slots=True)
class EvalRows:
    """Which rows the evaluations of one set scored so far.

    Args:
        step: Step of the last evaluation; ``None`` before the first.
        known: Fingerprint and target tokens (``None`` where not counted) of the present rows, by the fingerprint's
            form: counts beside one of another form may be counted in another way.
        same: Whether the last evaluation's rows are those before it; ``None`` where that is not known.
        changes: Changes in a row up to the last evaluation.
        alike: Two evaluations of the present rows were seen.
        labels: The last change was one of the scored tokens, not of the text.
        since: Step of the first evaluation of the present rows; ``None`` where there was no change.
        anew: The last evaluation is not to be compared with those before it.
        before: Without the last evaluation, which a repeat replaces.
    """

    step: int | None = None
    known: Mapping[tuple[str, int], tuple[str, int | None]] = field(default_factory=dict)
    same: bool | None = None
    changes: int = 0
    alike: bool = False
    labels: bool = False
    since: int | None = None
    anew: bool = False
    before: EvalRows | None = None

    @property
    def drawn(self) -> bool:
        """Whether the rows are others in every evaluation."""
        return self.changes >= DRAWN

    def add(self, seen: EvalObservation) -> EvalRows:
        """The rows after an evaluation of the set."""
        base = (self.before or NO_ROWS) if self.step == seen.step else self
        base = replace(base, before=None)
        now = replace(base, step=seen.step, same=None, anew=False, before=base)
        if not seen.fingerprint:
            return now
        form = _form(seen.fingerprint)
        then, tokens = base.known.get(form, (None, None))
        text = same_text(then, seen.fingerprint)
        if text is None:
            return replace(now, known={**base.known, form: (seen.fingerprint, seen.tokens)})
        counted = tokens is not None and seen.tokens is not None
        if text and not (counted and tokens != seen.tokens):
            known = {**base.known, form: (seen.fingerprint, tokens if seen.tokens is None else seen.tokens)}
            since = seen.step if base.drawn else base.since
            return replace(now, known=known, same=True, changes=0, alike=True, since=since, anew=base.drawn)
        drawn = base.changes + 1 >= DRAWN
        return replace(
            now, known={form: (seen.fingerprint, seen.tokens)}, same=False, changes=base.changes + 1,
            alike=False, labels=text, since=base.since if drawn else seen.step, anew=not drawn,
        )  # fmt: skip


NO_ROWS: Final = EvalRows()
"""Before the first evaluation of a set."""
