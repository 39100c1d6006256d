"""The sentences of one language: of each code what happened, what it means and what to do; and the words of pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ko_cpt_callbacks.messages.formatter import Shown, fitted

__all__ = ["NOTE", "Catalogue", "Explanation", "Wording"]

NOTE: Final = "note"
"""The code whose findings differ by their reason."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``ko-cpt explain CODE`` shows; a line of a text is a fact.

    Args:
        meaning: What the code means.
        decided: How it is decided.
        action: What to do, in a few words.
        more: What to do, in full; empty where the action says it all.
        reasons: The same of each reason, where the code's findings differ by theirs.
    """

    meaning: str
    decided: str
    action: str
    more: str = ""
    reasons: Mapping[str, Explanation] = field(default_factory=dict)

    @property
    def advice(self) -> str:
        """What to do, as fully as it is known; a line is a fact."""
        return self.more or self.action

    @property
    def advice_line(self) -> str:
        """The same on one line."""
        return self.advice.replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates of one finding, or of one doubt about a target.

    Args:
        short: What happened, with its numbers; a few words.
        detail: The same in full.
        action: What to do, in a few words.
    """

    short: str
    detail: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The sentences of one language.

    Args:
        language: Its code.
        explanations: By finding code.
        wordings: By finding code and variant; the variant is empty where the code has one wording.
        doubts: What speaks against a target, by key.
        absences: What evidence a run lacks, by key.
        page: Lines of the pages in a terminal, by key.
        reasons: Reasons of a comparison, by code.
        labels: Those why two runs are not comparable, or not exactly, in a few words.
        notes: Notes inside a detail, by key.
        deltas: Why a stage's difference is no better than it is, by code.
        matches: How a stage was matched with a baseline's, by code.
        readings: Why it is unknown what a model trains, by code.
        words: Words that values are shown by.
        report: Words of the report page, by key.
        retired: Codes of earlier versions, each with the code to write now.
        foreign: Templates of a finding of a rule whose sentences are not here.
        plugins: Codes whose sentences are another package's.
    """

    language: str
    explanations: Mapping[str, Explanation]
    wordings: Mapping[tuple[str, str], Wording]
    doubts: Mapping[str, Wording]
    absences: Mapping[str, Wording]
    page: Mapping[str, str]
    reasons: Mapping[str, str]
    labels: Mapping[str, str]
    notes: Mapping[str, str]
    deltas: Mapping[str, str]
    matches: Mapping[str, str]
    readings: Mapping[str, str]
    words: Mapping[str, str]
    report: Mapping[str, str]
    retired: Mapping[str, str]
    foreign: Wording
    plugins: frozenset[str] = frozenset()

    def wording(self, code: str, variant: str) -> Wording:
        """The templates of a finding.

        Raises:
            KeyError: If the language has none for it; names code, variant and language.
        """
        found = self.wordings.get((code, variant))
        if found is None:
            raise KeyError(f"no sentence for code {code!r}, variant {variant!r}, language {self.language!r}")
        return found

    def explanation(self, code: str, variant: str = "") -> Explanation:
        """What a code means, how it is decided and what to do.

        Args:
            code: The finding's code.
            variant: The finding's; where it is a reason that is explained apart, that is what is returned.

        Raises:
            KeyError: If the code is not known.
        """
        found = self.explanations[code]
        return found.reasons.get(variant, found)

    def action(self, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """What to do, in a few words; raises as `line` does."""
        wording, values = self._fitting(code, variant, values)
        return self._shown().render(wording.action, values)

    def short(self, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """What happened, with its numbers, in a few words; raises as `line` does."""
        wording, values = self._fitting(code, variant, values)
        return self._shown().render(wording.short, values)

    def detail(self, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """What happened, in full sentences; raises as `line` does."""
        wording, values = self._fitting(code, variant, values)
        return self._shown().render(wording.detail, values)

    def line(self, severity: str, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """A finding on one line: ``[SEVERITY] CODE SET@STEP: what happened → what to do``.

        Args:
            severity: How grave it is.
            code: The finding's code.
            variant: The finding's variant.
            values: Its numbers and names; its step and set under ``step`` and ``split``.

        Raises:
            KeyError: If a code of this package has no such variant, or ``values`` lacks a number.
        """
        wording, values = self._fitting(code, variant, values)
        split = "" if values.get("split") is None else "{split}"
        step = "" if values.get("step") is None else "@{step}"
        where = f" {split}{step}" if split or step else ""
        return fitted(self._shown(), f"[{severity}] {code}{where}", wording.short, wording.action, values)

    def _fitting(self, code: str, variant: str, values: Mapping[str, Any]) -> tuple[Wording, Mapping[str, Any]]:
        """The templates of a finding and the values that they show; of another package's one, whatever can be shown."""
        if code in self.explanations and code not in self.plugins:
            return self.wording(code, variant), values
        try:
            wording = self.wordings[code, variant]
            for template in (wording.short, wording.detail, wording.action):
                self._shown().render(template, values)
        except Exception:  # not installed here, or its sentences and its numbers are not of the same version
            shown = {name: value for name, value in values.items() if name not in ("step", "split")}
            listed = ", ".join(f"{name} = {value}" for name, value in shown.items()) or self.words["none"]
            return self.foreign, {**values, "code": code, "values": listed}
        return wording, values

    def doubt(self, name: str, values: Mapping[str, Any]) -> tuple[str, str]:
        """What speaks against a target: in a few words, and in full.

        Raises:
            KeyError: If there is no such doubt, or ``values`` lacks a number.
        """
        return self._both(self.doubts[name], values)

    def absence(self, name: str, values: Mapping[str, Any]) -> tuple[str, str]:
        """What evidence is missing: what was not checked for it in a few words, and in full; raises as `doubt` does."""
        return self._both(self.absences[name], values)

    def line_of(self, name: str, /, **values: Any) -> str:
        """A line of a page; raises as `doubt` does."""
        return self._shown().render(self.page[name], values)

    def _both(self, wording: Wording, values: Mapping[str, Any]) -> tuple[str, str]:
        return self._shown().render(wording.short, values), self._shown().render(wording.detail, values)

    def reason(self, reason: Mapping[str, Any]) -> str:
        """The sentence of a reason of a comparison.

        Args:
            reason: Its code under ``code``, and the numbers and names to put in.

        Raises:
            KeyError: If there is no such reason, or ``reason`` lacks a number.
        """
        return self._shown().render(self.reasons[reason["code"]], reason)

    def label(self, reason: Mapping[str, Any]) -> str:
        """The same in a few words; raises as `reason` does."""
        return self._shown().render(self.labels[reason["code"]], reason)

    def say(self, key: str, **values: Any) -> str:
        """Words of the report page, with their values.

        Raises:
            KeyError: If there are no such words, or ``values`` lacks a number.
        """
        return self._shown().render(self.report[key], values)

    def _shown(self) -> Shown:
        return Shown(self.words, self.notes, self.reasons, self.labels)
