"""What an optimizer keeps for each number that it trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Part = Literal["input", "other", "adapter"]

_SCALE_8_BIT: Final = 4 / 256
"""Bytes of a moment's scale: a float32 for 256 numbers, in bitsandbytes' 8-bit optimizers."""

# Moments of an optimizer by the beginning of its name in ``TrainingArguments.optim``; any other is taken for an AdamW.
_MOMENTS: Final = (("sgd", 0), ("lion", 1), ("paged_lion", 1), ("adagrad", 1), ("rmsprop", 1), ("adafactor", 0))


def state_bytes(optim: str, parts: Mapping[Part, tuple[int, int]]) -> tuple[int, str]:
    """What an optimizer keeps, and in words.

    Args:
        optim: As in ``TrainingArguments``.
        parts: How many numbers train, and the bytes of each, by part: the input embedding, an adapter, the rest.

    Returns:
        Bytes, and how they come about. ``adafactor`` is taken for nothing: it keeps a number for each row and
        column. Plain ``sgd`` keeps nothing.
    """
    moments = next((number for begin, number in _MOMENTS if optim.startswith(begin)), 2)
    count = {part: number for part, (number, _) in parts.items()}
    if not moments:
        return 0, f"{optim}: no moments"
    if "8bit" in optim:
        # The Trainer asks bitsandbytes to keep those of an nn.Embedding in float32.
        wide = count.get("input", 0)
        narrow = sum(count.values()) - wide
        total = moments * (4 * wide + round((1 + _SCALE_8_BIT) * narrow))
        return total, f"{optim}: {moments} moments in 1 byte, of the input embedding in 4"
    if optim.endswith("32bit"):
        return moments * 4 * sum(count.values()), f"{optim}: {moments} moments in 4 bytes"
    total = moments * sum(number * size for number, size in parts.values())
    sizes = sorted({size for number, size in parts.values() if number})
    return total, f"{optim}: {moments} moments in {' or '.join(map(str, sizes)) or '0'} bytes, as the gradients"
