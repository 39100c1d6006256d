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

__all__ = ["RunSeam", "RunSeamState"]

_MOVED: Final = {"rate-back", "rate-break", "rate-drop"}
"""What another planned length does to the learning rate at a resume."""


@dataclass(frozen=True, slots=True)
class RunSeamState:
    """The signs of the last rows, ``age`` rows since the first of them, and what was reported of them."""

    signs: tuple[Sign, ...] = ()
    age: int = 0
    said: str = ""


@dataclass(frozen=True, slots=True)
class RunSeam(Rule):
    """Says that the rows from here on belong to another run: once, or twice where a note becomes a warning.

    Signs within ``rows`` rows belong together. One strong sign or two weak ones are a warning, one weak sign is a
    note (table: `ko_cpt_callbacks.signal.restart`). The beginning of another stage that a row announces is neither; nor
    is a learning rate that jumps at an announced resume. TRL counts tokens anew at every resume, so that alone is
    a note, where no row announces the resume.
    """

    info: ClassVar[RuleInfo] = RuleInfo("run-seam", (Severity.WARNING, Severity.INFO), (TrainObservation,), place=90)

    rows: int = limits.SEAM_ROWS

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
        state = replace(state, age=state.age + 1) if state.signs and state.age < self.rows else RunSeamState()
        known = {sign.name for sign in state.signs}
        new = tuple(
            sign for sign in recent.signs
            if not (sign.name in known or sign.explained or trail.handed or (trail.resumed and sign.name in _MOVED))
        )  # fmt: skip
        state = replace(state, signs=(*state.signs, *new))
        grave = begins_anew(state.signs)
        if not new or state.said == "joined" or (state.said == "note" and not grave):
            return state, ()
        values: dict[str, Any] = {"signs": [sign.name for sign in state.signs]}
        for sign in state.signs:
            what = "rate" if sign.name == "rewarm" else sign.name.partition("-")[0]
            values |= {f"{what}_before": sign.before, f"{what}_after": sign.after}
        severity, variant = (Severity.WARNING, "joined") if grave else (Severity.INFO, "note")
        finding = Finding(self.code, severity, recent.step, "train", values, variant=variant)
        return replace(state, said=variant), (finding,)
