"""`run-seam`: two runs joined in one log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from ko_cpt_callbacks.rules.rule import Found, Rule, RuleInfo, Wakes
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import Observation, TrainObservation
from ko_cpt_callbacks.signal import limits
from ko_cpt_callbacks.signal.restart import Sign, begins_anew
from ko_cpt_callbacks.signal.signals import Signals, signed
from ko_cpt_callbacks.signal.window import Recent, fitted, median

__all__ = ["RunSeam", "RunSeamState"]

_WORDS: Final = {
    "step-back": ("step_before", "step_after"),
    "epoch-back": ("epoch_before", "epoch_after"),
    "epoch-jump": ("epoch_before", "epoch_after"),
    "tokens-back": ("tokens_before", "tokens_after"),
    "tokens-jump": ("tokens_before", "tokens_after"),
    "rewarm": ("rate_before", "rate_after"),
    "rate-back": ("rate_before", "rate_after"),
    "rate-break": ("rate_before", "rate_after"),
    "rate-drop": ("rate_before", "rate_after"),
    "tokens-pace": ("pace_before", "pace_after"),
    "level": ("level_before", "level_after"),
}
_COUNTED: Final = {"tokens-back", "tokens-jump", "epoch-jump"}
"""Notes that a changed level, or another number of tokens per step, confirms: neither goes on after a plain resume."""
_MOVED: Final = {"rate-back", "rate-break", "rate-drop"}
"""What another planned length does to the learning rate at a resume."""


@dataclass(frozen=True, slots=True)
class RunSeamState:
    """The signs of the last rows."""

    signs: tuple[Sign, ...] = ()
    age: int = 0
    """Rows since the first of them."""
    said: str = ""
    """What was reported of them,"""
    said_at: int | None = None
    """and at which step."""


@dataclass(frozen=True, slots=True)
class RunSeam(Rule):
    """Says that the rows from here on belong to another run: once, or twice where a note becomes a warning.

    Signs within ``rows`` rows belong together. One strong sign or two weak ones are a warning, one weak sign is a
    note (table: `ko_cpt_callbacks.signal.restart`). The beginning of another stage that a row announces is neither; nor
    is a learning rate that jumps at an announced resume. TRL counts tokens anew at every resume, so that alone is
    a note, where no row announces the resume; with another level, or another number of tokens per step, in the points
    after it, it is a warning.

    Args:
        rows: Rows after the first sign in which others belong to it: a learning rate that warms up again needs three
            to be seen. Chosen, not measured.
        after: Points after a counter's sign that are compared with those before.
        noises: The level changed by so many noises,
        nats: and nats.
        pace: The tokens per step changed by this factor, or its inverse. Chosen, not measured, all of them.
    """

    info: ClassVar[RuleInfo] = RuleInfo("run-seam", (Severity.WARNING, Severity.INFO), (TrainObservation,), place=90)

    rows: int = limits.SEAM_ROWS
    after: int = limits.SEAM_AFTER
    noises: float = limits.SEAM_NOISES
    nats: float = limits.SEAM_LEVEL_NATS
    pace: float = limits.SEAM_PACE

    @property
    def wakes(self) -> Wakes:
        """A row with a sign, and those soon after it."""
        return Wakes((signed,), open=("signs",))

    def initial(self) -> RunSeamState:
        """No row seen."""
        return RunSeamState()

    def step(self, state: RunSeamState, seen: Observation, signals: Signals) -> tuple[RunSeamState, Found]:
        """Judges a training row."""
        recent, trail = signals.window, signals.past.trail
        if not recent.signs and not state.signs:
            return state, ()
        signs, age, said = state.signs, state.age + 1, state.said
        if not signs or age > self.rows:
            signs, age, said = (), 0, ""
        new = () if trail.handed else tuple(sign for sign in recent.signs if not sign.explained)
        if trail.resumed:
            new = tuple(sign for sign in new if sign.name not in _MOVED)
        if said == "note" and not new:
            new = self._confirmed(recent, signs, state.said_at)
        names = {sign.name for sign in signs}
        signs = (*signs, *(sign for sign in new if sign.name not in names))
        state = replace(state, signs=signs, age=age, said=said)
        if not new or said == "joined":
            return state, ()
        grave = begins_anew(signs)
        if said == "note" and not grave:
            return state, ()
        values: dict[str, Any] = {"signs": [sign.name for sign in signs]}
        for sign in signs:
            values |= dict(zip(_WORDS[sign.name], (sign.before, sign.after), strict=True))
        severity, variant = (Severity.WARNING, "joined") if grave else (Severity.INFO, "note")
        finding = Finding(self.code, severity, recent.step, "train", values, variant=variant)
        return replace(state, said=variant, said_at=recent.step), (finding,)

    def _confirmed(self, recent: Recent, signs: tuple[Sign, ...], begin: int | None) -> tuple[Sign, ...]:
        """What the points after a counter's sign add to it, once there are enough of them."""
        count = sum(begin is not None and step >= begin for step in recent.steps)
        points = limits.SEAM_BEFORE * count
        if count != self.after or not any(sign.name in _COUNTED for sign in signs) or len(recent.losses) < points:
            return ()
        found: list[Sign] = []
        before, after = recent.losses[-points:-count], recent.losses[-count:]
        fit, now = fitted(before), median(after)
        needed = max(self.noises * fit.noise, self.nats)
        if min(abs(now - median(before[-count:])), abs(now - fit.level - 0.5 * count * fit.slope)) > needed:
            found.append(Sign("level", False, median(before[-count:]), now))
        paces = [pace for pace in recent.paces[-points:-count] if pace is not None]
        fresh = [pace for pace in recent.paces[-count + 1 :] if pace is not None]
        if len(paces) >= count and len(fresh) >= count - 2:
            old, new = median(paces), median(fresh)
            if not old / self.pace < new < old * self.pace:
                found.append(Sign("tokens-pace", False, old, new))
        return tuple(found)
