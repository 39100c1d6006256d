"""What a run's rows do not hold, and which question stays open for it.

A rule whose evidence is missing is silent, and silence must not read as health: `ko-cpt check` says what could
not be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

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
        message: What is missing and what cannot be said without it.
    """

    evidence: str
    split: str | None
    message: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def absences(
    seen: Sequence[Observation], rules: Collection[str], targets: Sequence[Target] = (), *, language: bool = True
) -> tuple[Absence, ...]:
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
    found = [*_of_training(train, rules)]
    if (
        _PADDING in rules
        and language
        and train
        and not any(isinstance(item, SetupObservation) and item.kind == _PADDING for item in seen)
    ):
        found.append(_of_first_batch(train))
    if not evaluations:
        found.append(Absence("evaluations", None, "no evaluation: nothing is known of text the run was not trained on"))
    for split, items in evaluations.items() if language else ():
        found.extend(_of_evaluation(split, items))
    if not targets:
        found.append(Absence("target", None, "no target was given: whether the run got there was not asked"))
    return tuple(found)


def _of_training(train: Sequence[TrainObservation], rules: Collection[str]) -> Iterable[Absence]:
    if not train:
        yield Absence("training-rows", None, "no training row: nothing is known of how training went")
        return
    if _NON_FINITE in rules:
        if all(item.grad_norm is None for item in train):
            yield Absence("grad-norm", None, "no gradient norm: a NaN that was logged as 0.0 is told by the loss alone")
        if all(item.nonfinite_steps is None for item in train):
            yield Absence("nonfinite-steps", None, "NaN steps were not counted: one inside a logged mean can be missed")


def _of_first_batch(train: Sequence[TrainObservation]) -> Absence:
    if any(item.tokens_seen is not None or item.input_tokens is not None for item in train):
        return Absence(
            "first-batch", None, "the first batch was not looked at: padding in the loss is told by token counts alone"
        )
    return Absence(
        "first-batch", None, "neither the first batch nor token counts: padding in the loss could not be looked for"
    )


def _of_evaluation(split: str, items: Sequence[EvalObservation]) -> Iterable[Absence]:
    # Of an evaluation that was not finite there is a finding; it lacks no evidence.
    finite = [item for item in items if _finite(item.loss) and _finite(item.exact_loss) and not item.nonfinite_batches]
    if not finite:
        return
    last = finite[-1]
    if last.exact_loss is None:
        reason = f" ({last.exact_loss_absent})" if last.exact_loss_absent else ""
        yield Absence(
            "exact-loss",
            split,
            f"{split}: no exact loss{reason}: the Trainer's loss depends on the batch size and has no error bar",
        )
        return
    if last.exact_loss_se is None:
        yield Absence("error-bar", split, f"{split}: no error bar: only the loss of whole batches, or a single row")
    if last.bits_per_byte is None:
        reason = f" ({last.bits_per_byte_absent})" if last.bits_per_byte_absent else ""
        yield Absence(
            "bits-per-byte",
            split,
            f"{split}: no bits per byte{reason}: no comparison with another tokenizer",
        )


def _finite(value: float | None) -> bool:
    return value is None or math.isfinite(value)
