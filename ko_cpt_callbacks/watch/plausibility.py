"""Which losses a Korean run can be expected to reach: what is published, and what that makes of a target.

A loss per token depends on the tokenizer: one text at 1.0 bits per byte is 0.9 nats per token where a token has 1.3
bytes (GPT-2's and Llama 2's on Korean), and 4.5 where it has 6.5. So the floor is one in bits per byte. These numbers
stand here and not with the judge's (`ko_cpt_callbacks.signal.limits`), which takes them over, because a target is
doubted where it is parsed, without any row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.watch.target import Target

__all__ = [
    "DOUBTED_NATS", "EVAL_FALL_NATS", "FALL_RATIO", "FLOOR_BITS", "LARGEST_GUESS", "LARGEST_VOCABULARY",
    "LOWEST_PUBLISHED_BITS", "LOWEST_PUBLISHED_LOSS", "NEAR_ZERO_BITS", "Implausible", "TargetDoubt", "doubt",
    "doubts_of", "fell_at_once", "most_bits",
]  # fmt: skip

LOWEST_PUBLISHED_BITS: Final = 0.519
"""Bits per byte: RedWhale's LoRA stage in training, derived from its 1.6279 nats per token (arXiv 2408.11294); on
held-out text it is 0.895. The lowest of any Korean pretraining."""

FLOOR_BITS: Final = 0.8 * LOWEST_PUBLISHED_BITS
"""Bits per byte, 0.415: a fifth below the lowest published. What is lower was padding in the loss, answers of a few
words, hidden tokens, or text known by heart. The margin is chosen, not measured: a run of 0.5 is healthy, and one of
0.34 is not."""

NEAR_ZERO_BITS: Final = 0.072
"""Bits per byte: 0.05 nats per token of one byte each. Chosen, not measured: the lowest healthy value in 14 real logs
is 0.125 nats per token (a masked language model); a run that learned its text by heart logged 0.0001."""

LOWEST_PUBLISHED_LOSS: Final = 1.466
"""Nats per token: the final training loss of FRANKENSTALLM 3B (vocabulary 64,000; README of
pathcosmos/FRANKENSTALLM), the lowest of any Korean pretraining. Its held-out perplexity is 5.23 (1.654 nats); the
RedWhale stages (arXiv 2408.11294) are reported to end at 2.81 held-out, 1.63 in training."""

DOUBTED_NATS: Final = 0.95 * LOWEST_PUBLISHED_LOSS
"""Nats per token, 1.39: a target below it is remarked upon. Only tokens of few bytes get there in health. The 5 % are
chosen, not measured."""

LARGEST_VOCABULARY: Final = 282_721
"""Entries of the largest tokenizer of a published Korean run (ormastes/medgemma_korean). A model that guesses
uniformly among them has a loss of 12.55."""
LARGEST_GUESS: Final = math.log(LARGEST_VOCABULARY)
"""Nats per token of that guess: no cross-entropy of a model that is any good is above it."""

EVAL_FALL_NATS: Final = 0.5
"""Nats per token: an evaluation fell suddenly to more than this below all before it, and by more than"""
FALL_RATIO: Final = 3.0
"""times what the loss had moved just before. Both chosen, not measured."""


class Implausible(StrEnum):
    """Why a target is to be asked twice about."""

    LOW = "low"
    """No published Korean run comes near, whatever its tokenizer."""
    TOKENIZER = "tokenizer"
    """None does with a tokenizer made for Korean; with one of 1.2 to 1.6 bytes per token a healthy run does."""
    TRIVIAL = "trivial"
    """A model that guesses is there already."""


def doubt(metric: str, level: float, task: str, bytes_per_token: float | None = None) -> Implausible | None:
    """What speaks against a target.

    Args:
        metric: As in `ko_cpt_callbacks.watch.target.METRICS`.
        level: The bound in nats per token (of ``ppl`` too), or in bits per byte.
        task: The floor is that of ``cpt``. With ``sft`` only what is near zero is too low, because answers of a few
            words are well below it; with ``other`` nothing is.
        bytes_per_token: UTF-8 bytes per token of the text that is evaluated; ``None``: not known.

    >>> doubt("loss", 0.9, "cpt"), doubt("loss", 0.9, "cpt", 1.3), doubt("loss", 0.9, "cpt", 4.0)
    (<Doubt.TOKENIZER: 'tokenizer'>, None, <Doubt.LOW: 'low'>)
    """
    bits = metric == keys.BITS_PER_BYTE
    if not bits and level > LARGEST_GUESS:
        return Implausible.TRIVIAL
    lowest = {"cpt": FLOOR_BITS, "sft": NEAR_ZERO_BITS}.get(task)
    if lowest is None:
        return None
    if (level if bits else most_bits(level, bytes_per_token)) < lowest:
        return Implausible.LOW
    asked = task == "cpt" and not bits and bytes_per_token is None
    return Implausible.TOKENIZER if asked and level < DOUBTED_NATS else None


def most_bits(loss: float, bytes_per_token: float | None) -> float:
    """Bits per byte of a loss per token; where bytes are not known the most it can be, as no token has less than one.

    >>> round(most_bits(1.0, 3.6), 2), round(most_bits(1.0, None), 2)
    (0.4, 1.44)
    """
    return loss / (math.log(2.0) * (1.0 if bytes_per_token is None else bytes_per_token))


def fell_at_once(
    earlier: float, before: float, now: float, lowest: float | None = None, least: float = EVAL_FALL_NATS
) -> bool:
    """Whether an evaluation fell suddenly to below all before it: the return from a spike, however wide, is no fall.

    Args:
        earlier: The evaluation before the last.
        before: The last one.
        now: This one.
        lowest: The lowest of those before ``earlier``; ``None`` where there are none.
        least: How far below the lowest it has to be, in the same unit.

    >>> fell_at_once(2.7, 2.68, 0.5), fell_at_once(0.6, 1.6, 0.6)
    (True, False)
    """
    known = min(earlier, before) if lowest is None else min(earlier, before, lowest)
    return known - now > least and before - now > FALL_RATIO * abs(earlier - before)


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
    reason: Implausible
    variant: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> Severity:
        """``info`` where it depends on the tokenizer, else ``warning``."""
        return Severity.INFO if self.reason is Implausible.TOKENIZER else Severity.WARNING

    def message(self, language: str = DEFAULT_LANGUAGE) -> str:
        """The sentence: what is wrong, and what to do."""
        return catalogue(language).doubt(self.variant, self.values)[1]

    def short(self, language: str = DEFAULT_LANGUAGE) -> str:
        """What is wrong, in a few words."""
        return catalogue(language).doubt(self.variant, self.values)[0]

    def as_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, str]:
        """The doubt as strict JSON, with its sentences in a language."""
        return {
            "target": str(self.target),
            "severity": self.severity.value,
            "reason": self.reason.value,
            "short": self.short(language),
            "detail": self.message(language),
        }


def doubts_of(targets: Iterable[Target], task: str) -> tuple[TargetDoubt, ...]:
    """What speaks against the targets whose level is known before any row, in their order.

    >>> from ko_cpt_callbacks.watch.target import parse_targets
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


def _variant(target: Target, why: Implausible, task: str) -> tuple[str, float | None]:
    if why is Implausible.TRIVIAL:
        # loss<20 is a perplexity that was called a loss; ppl<1e6 is nothing of the kind.
        swapped = target.metric != keys.PPL and doubt(keys.PPL, math.log(target.below), task) is None
        return ("trivial-ppl", math.log(target.below)) if swapped else ("trivial", None)
    if target.metric == keys.BITS_PER_BYTE:
        return "bits", None
    if why is Implausible.LOW:
        return "low", None
    if target.metric == keys.PPL:
        return ("tokenizer-ppl", target.below) if doubt(keys.LOSS, target.below, task) is None else ("tokenizer", None)
    return ("tokenizer-bits" if doubt(keys.BITS_PER_BYTE, target.below, task) is None else "tokenizer"), None
