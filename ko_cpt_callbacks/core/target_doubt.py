"""What is to be asked twice about a target, said where it is parsed: no row is needed for it.

The callback logs it, ``ko-cpt check`` and ``ko-cpt validate`` print it. A relative target has no level before its set's
first evaluation: whether that counts as met is the verdict's (`ko_cpt_callbacks.core.verdict`), by the same bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.plausibility import (
    FLOOR_BITS,
    LOWEST_PUBLISHED_BITS,
    LOWEST_PUBLISHED_LOSS,
    Doubt,
    doubt,
    most_bits,
)
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.finding import Severity

__all__ = ["TargetDoubt", "doubts_of"]


@dataclass(frozen=True, slots=True)
class TargetDoubt:
    """What speaks against one target.

    Args:
        target: The target.
        reason: Why.
        variant: Which sentence fits; it holds what was probably meant, where a number can be that.
        values: The numbers in it.
    """

    target: Target
    reason: Doubt
    variant: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> Severity:
        """``info`` where it depends on the tokenizer, else ``warning``."""
        return Severity.INFO if self.reason is Doubt.TOKENIZER else Severity.WARNING

    def message(self, language: str = DEFAULT_LANGUAGE) -> str:
        """The sentence: what is wrong, and what to do."""
        return catalogue(language).doubt(self.variant, self.values)[1]

    def as_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, str]:
        """The doubt as strict JSON, with its sentence."""
        return {
            "target": str(self.target),
            "severity": self.severity.value,
            "reason": self.reason.value,
            "message": self.message(language),
        }


def doubts_of(targets: Iterable[Target], task: str) -> tuple[TargetDoubt, ...]:
    """What speaks against the targets whose level is known before any row, in their order.

    Args:
        targets: What a run must reach.
        task: As in `ko_cpt_callbacks.core.plausibility.doubt`.

    >>> from ko_cpt_callbacks.core.target import parse_targets
    >>> [one.variant for one in doubts_of(parse_targets(["ppl<3", "eval_ko_ppl<20"]), "cpt")]
    ['tokenizer-ppl']
    """
    found = (_doubt_of(target, task) for target in targets if not target.relative)
    return tuple(one for one in found if one is not None)


def _doubt_of(target: Target, task: str) -> TargetDoubt | None:
    bits = target.metric == keys.BITS_PER_BYTE
    level = math.log(target.below) if target.metric == keys.PPL else target.below
    why = doubt(target.metric, level, task)
    if why is None:
        return None
    values: dict[str, Any] = {
        "target": str(target), "below": target.below, "level": level, "level_ppl": None if bits else perplexity(level),
        "bits": level if bits else most_bits(level, None), "floor_bits": FLOOR_BITS,
        "healthy_below": None if bits else most_bits(level, None) / FLOOR_BITS,
        "lowest_bits": LOWEST_PUBLISHED_BITS, "lowest": LOWEST_PUBLISHED_LOSS,
        "lowest_ppl": perplexity(LOWEST_PUBLISHED_LOSS),
    }  # fmt: skip
    variant, meant = _variant(target, why, task)
    if meant is not None:
        # What was probably meant, on both scales: "loss < 3.0, perplexity < 20.1".
        values |= {"meant_loss": meant, "meant_ppl": perplexity(meant)}
    return TargetDoubt(target, why, variant, values)


def _variant(target: Target, why: Doubt, task: str) -> tuple[str, float | None]:
    if why is Doubt.TRIVIAL:
        # loss<20 is a perplexity that was called a loss; ppl<1e6 is nothing of the kind.
        swapped = target.metric != keys.PPL and doubt(keys.PPL, math.log(target.below), task) is None
        return ("trivial-ppl", math.log(target.below)) if swapped else ("trivial", None)
    if target.metric == keys.BITS_PER_BYTE:
        return "bits", None
    if why is Doubt.LOW:
        return "low", None
    if target.metric == keys.PPL:
        return ("tokenizer-ppl", target.below) if doubt(keys.LOSS, target.below, task) is None else ("tokenizer", None)
    return ("tokenizer-bits" if doubt(keys.BITS_PER_BYTE, target.below, task) is None else "tokenizer"), None
