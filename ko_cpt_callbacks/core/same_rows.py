"""Are these the rows that were evaluated before? The one place that decides it, from fingerprints alone.

Two fingerprints of one form tell (`metrics.fingerprint`); of two forms, or where one is missing, nothing
is known: that is never a change. Equal texts of which other tokens are scored are other rows too.

How a rule uses it::

    rows = state.rows.add(seen)     # every evaluation of one set, in order; a repeat of the last step replaces it
    if rows.anew:
        ...                         # what was kept of the evaluations before is not to be compared with this one

A set whose rows are others in every evaluation (a fresh sample, or a fresh mask each time) is *drawn*: there is nothing
that a comparison could start from, each draw speaks for the same source, and comparisons go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from ko_cpt_callbacks.core.observation import EvalObservation
from ko_cpt_callbacks.metrics.fingerprint import form_of, same_text

__all__ = ["DRAWN", "NO_ROWS", "EvalRows", "Likeness", "likeness"]

DRAWN: Final = 3
"""Changes in a row, with no two evaluations of the same rows between, from which a set is drawn anew each time. Chosen,
not measured: a resume changes the rows once, and nobody resumes three times with one evaluation between."""


class Likeness(StrEnum):
    """What two fingerprints say of each other."""

    SAME = "same"
    OTHER = "other"
    UNKNOWN = "unknown"


def likeness(before: str | None, after: str | None) -> Likeness:
    """Whether two fingerprints are of the same text.

    >>> likeness("utf8-0011", "utf8-0012").value, likeness("utf8-0011", "ids-0012").value
    ('other', 'unknown')
    """
    same = same_text(before, after)
    return Likeness.UNKNOWN if same is None else Likeness.SAME if same else Likeness.OTHER


@dataclass(frozen=True, slots=True)
class EvalRows:
    """Which rows the evaluations of one set scored so far.

    Args:
        step: Step of the last evaluation; ``None`` before the first.
        known: Fingerprint and target tokens (``None`` where not counted) of the present rows, by the fingerprint's
            form: counts beside one of another form may be counted in another way.
        last: What the last evaluation's rows are to those before it.
        changes: Changes in a row up to the last evaluation.
        alike: Two evaluations of the present rows were seen.
        labels: The last change was one of the scored tokens, not of the text.
        since: Step of the first evaluation of the present rows; ``None`` where there was no change.
        anew: The last evaluation is not to be compared with those before it.
        before: Without the last evaluation, which a repeat replaces.
    """

    step: int | None = None
    known: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)
    last: Likeness = Likeness.UNKNOWN
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
        now = replace(base, step=seen.step, last=Likeness.UNKNOWN, anew=False, before=base)
        if not seen.fingerprint:
            return now
        form = form_of(seen.fingerprint)
        then, tokens = base.known.get(form, (None, None))
        text = likeness(then, seen.fingerprint)
        if text is Likeness.UNKNOWN:
            return replace(now, known={**base.known, form: (seen.fingerprint, seen.tokens)})
        counted = tokens is not None and seen.tokens is not None
        if text is Likeness.SAME and not (counted and tokens != seen.tokens):
            known = {**base.known, form: (seen.fingerprint, tokens if seen.tokens is None else seen.tokens)}
            since = seen.step if base.drawn else base.since
            return replace(now, known=known, last=text, changes=0, alike=True, since=since, anew=base.drawn)
        drawn = base.changes + 1 >= DRAWN
        return replace(
            now, known={form: (seen.fingerprint, seen.tokens)}, last=Likeness.OTHER, changes=base.changes + 1,
            alike=False, labels=text is Likeness.SAME, since=base.since if drawn else seen.step, anew=not drawn,
        )  # fmt: skip


NO_ROWS: Final = EvalRows()
"""Before the first evaluation of a set."""
