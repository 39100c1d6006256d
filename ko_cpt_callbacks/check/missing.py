"""What a run's rows do not hold, and which question stays open for it.

A rule whose evidence is missing is silent, and silence must not read as health: `ko-cpt check` says what could
not be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation
from ko_cpt_callbacks.watch.target import Target

__all__ = ["Absence", "absences"]

_PADDING: Final = "padding-in-loss"
_NON_FINITE: Final = "non-finite"


@dataclass(frozen=True, slots=True)
class Absence:
    """One kind of evidence that the rows lack.

    Args:
        evidence: What is missing, in kebab-case.
        split: The evaluation set that lacks it; None where no set belongs to it.
        reason: Why, as the callback noted it.
        wording: Which sentences fit, where they are not those of the evidence.
    """

    evidence: str
    split: str | None = None
    reason: str | None = None
    wording: str = ""

    def short(self, language: str = DEFAULT_LANGUAGE) -> str:
        """What was not checked for it, in a few words."""
        return self._said(language)[0]

    def message(self, language: str = DEFAULT_LANGUAGE) -> str:
        """What is missing and what cannot be known without it."""
        return self._said(language)[1]

    def _said(self, language: str) -> tuple[str, str]:
        name = self.wording or self.evidence + ("-because" if self.reason else "")
        return catalogue(language).absence(name, {"split": self.split, "reason": self.reason})

    def as_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, str | None]:
        """As JSON."""
        return {"evidence": self.evidence, "split": self.split, "message": self.message(language)}


def absences(
    seen: Sequence[Observation], rules: Collection[str], targets: Sequence[Target] = (), *, language: bool = True
) -> Iterator[Absence]:
    """What the observations lack of what these rules, or a reader of the numbers, would need.

    Args:
        seen: The run's observations.
        rules: Codes of the rules that were asked.
        targets: What must be reached.
        language: Whether the run trains a language model, as far as is known; of another there is no exact loss, and
            nothing that padding would be in.
    """
    train = [item for item in seen if isinstance(item, TrainObservation)]
    evaluations: dict[str, list[EvalObservation]] = {}
    for item in seen:
        if isinstance(item, EvalObservation):
            evaluations.setdefault(item.split, []).append(item)
    if not train:
        yield Absence("training-rows")
    elif _NON_FINITE in rules:
        if all(item.grad_norm is None for item in train):
            yield Absence("grad-norm")
        if all(item.nonfinite_steps is None for item in train):
            yield Absence("nonfinite-steps")
    batch = any(isinstance(item, SetupObservation) and item.kind == _PADDING for item in seen)
    if _PADDING in rules and language and train and not batch:
        counted = any(item.tokens_seen is not None or item.input_tokens is not None for item in train)
        yield Absence("first-batch", wording="" if counted else "first-batch-nor-tokens")
    if not evaluations:
        yield Absence("evaluations")
    for split, items in evaluations.items() if language else ():
        yield from _of_evaluation(split, items)
    if not targets:
        yield Absence("target")


def _of_evaluation(split: str, items: Sequence[EvalObservation]) -> Iterator[Absence]:
    # Of an evaluation that was not finite there is a finding; it lacks no evidence.
    finite = [
        item
        for item in items
        if (_finite(item.loss) or item.is_over_no_target) and _finite(item.exact_loss) and not item.nonfinite_batches
    ]
    if not finite:
        return
    last = finite[-1]
    if last.exact_loss is None:
        yield Absence("exact-loss", split, last.exact_loss_absent or None)
        return
    if last.exact_loss_se is None:
        yield Absence("error-bar", split)
    if last.bits_per_byte is None:
        yield Absence("bits-per-byte", split, last.bits_per_byte_absent or None)


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)
