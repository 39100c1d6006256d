"""Why two runs are, or are not, compared exactly: one reason, with the numbers that its sentence shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["QUANTIZATION_COST", "TEXT_SPREAD", "Reason", "quantization_note"]

QUANTIZATION_COST: Final[Mapping[str, float]] = {"8-bit": 0.0109, "4-bit": 0.0779}
"""Nats per token that quantised weights cost: Chinese-LLaMA-2-7B, perplexity 9.373 in fp16, 9.476 in 8-bit, 10.132 in
4-bit at a context of 4,096 (ymcui/Chinese-LLaMA-Alpaca-2, README_EN.md). llama.cpp's formats cost the same model less:
9.128 in fp16, 9.129 in Q8_0 (+0.0001), 9.240 in Q4_K (+0.0122). No figure for another model is known."""

TEXT_SPREAD: Final = (1.735, 3.233)
"""Nats per token of one model with one tokenizer on C4-ko and on namuwiki: FRANKENSTALLM 1B, perplexity 5.6698 and
25.3436 (pathcosmos/FRANKENSTALLM, eval/reports/01_perplexity_report.md). So much is the text's doing alone."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason or note.

    Args:
        code: Its key among the catalogue's reasons.
        values: The numbers and names of its sentence: JSON values, finite.
    """

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Code and values in one flat dict, as a finding keeps it and the sentence table reads it."""
        return {"code": self.code, **self.values}


def quantization_note(run: str | None, reference: str) -> Reason | None:
    """What a difference in the weights' number format means for the loss; None where there is none or none is known.

    Args:
        run: ``none``, ``8-bit``, ``4-bit`` or another method's name; None where not known.
        reference: The same of the reference; ``not stated`` where not known.
    """
    costs = [QUANTIZATION_COST.get(name or "", 0.0) for name in (run, reference)]
    if run is None or run == reference or not any(costs):
        return None
    coarser = reference if costs[1] > costs[0] else run
    return Reason("quantization", {"run": run, "reference": reference, "coarser": coarser, "cost": max(costs)})
