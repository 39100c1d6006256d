"""A finding: what a rule saw, how grave it is, and the numbers it saw.

Its sentences are built from its own numbers (`ko_cpt_callbacks.messages`), so that a finding read back from a file has
the same ones, in any language of the catalogue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from numbers import Integral, Real
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, NOTE, catalogue

__all__ = ["SEVERITIES", "Finding", "JsonValue", "Severity", "gravest_first", "gravity"]

JsonValue: TypeAlias = str | int | float | bool | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None


class Severity(StrEnum):
    """How grave a finding is."""

    INFO = "info"
    """Worth knowing; nothing is wrong."""
    WARNING = "warning"
    """Something is probably wrong; look at it."""
    ERROR = "error"
    """The run, or a number it reports, cannot be used as it is."""


SEVERITIES: Final = tuple(severity.value for severity in Severity)
"""From the least grave to the gravest."""


def _plain(value: Any) -> Any:
    """``value`` as strict JSON knows it; NaN and infinities as the strings of the class docstring.

    Strings, because NaN differs from itself: with the float inside, a live finding would not equal the same
    finding of a replay.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if math.isnan(number):
            return "NaN"
        if math.isinf(number):
            return "Infinity" if number > 0 else "-Infinity"
        return number
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [_plain(inner) for inner in value]
    raise TypeError(f"a finding holds JSON values only, found {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a rule saw.

    Args:
        code: Kebab-case, a stable public name: ``non-finite``.
        severity: How grave it is.
        step: Optimizer step of the row that showed it; ``None`` where no step belongs to it.
        split: ``train``, or the evaluation's prefix; ``None`` where no set belongs to it.
        values: The numbers seen, JSON values. Non-finite numbers are kept as the strings ``NaN``,
            ``Infinity``, ``-Infinity``.
        asks_to_stop: Whether going on is probably wasted. Nothing stops unless the user named the code.
        variant: Which sentence of the code fits; empty where there is only one.

    Raises:
        TypeError: If ``values`` holds something JSON does not know.
    """

    code: str
    severity: Severity
    step: int | None = None
    split: str | None = None
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    asks_to_stop: bool = False
    variant: str = ""

    def __post_init__(self) -> None:
        """Makes ``severity`` a `Severity` and ``values`` plain JSON."""
        object.__setattr__(self, "severity", Severity(self.severity))
        object.__setattr__(self, "values", _plain(self.values))

    def __hash__(self) -> int:
        """Without ``values``, a dict: equal findings agree on the rest."""
        return hash((self.code, self.variant, self.step, self.split))

    @property
    def topic(self) -> str:
        """What it is about: its code, and of a `note` its reason."""
        return self.variant if self.code == NOTE else self.code

    def message(self, language: str = DEFAULT_LANGUAGE) -> str:
        """What happened and what to do, in full sentences.

        Raises:
            KeyError: If the language has no sentence for this code and variant, or is not known.
        """
        return catalogue(language).detail(self.code, self.variant, self._shown)

    def short(self, language: str = DEFAULT_LANGUAGE) -> str:
        """What happened, with its numbers, in a few words."""
        return catalogue(language).short(self.code, self.variant, self._shown)

    def action(self, language: str = DEFAULT_LANGUAGE) -> str:
        """What to do, in a few words."""
        return catalogue(language).action(self.code, self.variant, self._shown)

    def line(self, language: str = DEFAULT_LANGUAGE) -> str:
        """The finding on one line of at most 140 terminal columns.

        ``[warning] level-shift train@410: loss 2.913 → 3.306 at step 402, stayed 22 points (15.8 σ) → compare …``
        """
        return catalogue(language).line(self.severity.value, self.code, self.variant, self._shown)

    @property
    def _shown(self) -> dict[str, JsonValue]:
        return {**self.values, "step": self.step, "split": self.split}

    def as_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, Any]:
        """The finding as strict JSON (``allow_nan=False``), with its sentences in a language."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "step": self.step,
            "split": self.split,
            "short": self.short(language),
            "detail": self.message(language),
            "values": _plain(self.values),
            "asks_to_stop": self.asks_to_stop,
            "variant": self.variant,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that `as_dict` wrote; its sentences are not read but built again.

        Raises:
            KeyError: If ``code`` or ``severity`` is missing.
            ValueError: If ``severity`` is unknown.
        """
        return cls(
            code=data["code"],
            severity=Severity(data["severity"]),
            step=data.get("step"),
            split=data.get("split"),
            values=data.get("values") or {},
            asks_to_stop=bool(data.get("asks_to_stop", False)),
            variant=data.get("variant") or "",
        )


def gravity(finding: Finding) -> int:
    """Where a finding stands among others: 0 for the gravest."""
    return len(SEVERITIES) - 1 - SEVERITIES.index(finding.severity)


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by their severity; those of one as they came."""
    return sorted(findings, key=gravity)
