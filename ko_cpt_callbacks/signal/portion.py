"""The training losses of the whole run so far, or of its last part, as a few dozen values at even distances."""

from __future__ import annotations

from dataclasses import dataclass

from ko_cpt_callbacks.signal.window import Recent

__all__ = ["Stretch", "due", "heading", "last_share", "whole"]

_TIMES = 40
_HEAD = 5


@dataclass(frozen=True, slots=True)
class Stretch:
    """Losses, oldest first, and the learning rate at their beginning."""

    values: tuple[float, ...]
    rate: float | None


def due(recent: Recent) -> bool:
    """Whether it is time to look at the whole run again: forty times while it doubles, whatever its length."""
    return recent.count % max(1, recent.count // _TIMES) == 0


def whole(recent: Recent) -> list[float]:
    """Every point of the segment while the window holds them all, else its blocks."""
    if len(recent.losses) == recent.count:
        return list(recent.losses)
    return [block.level for block in recent.blocks]


def last_share(recent: Recent, share: float) -> Stretch:
    """The last ``share`` of the segment: points where the window reaches that far back, else blocks."""
    points = round(share * recent.count)
    if points <= len(recent.losses):
        first = len(recent.losses) - points
        return Stretch(recent.losses[first:], recent.rates[first] if points else None)
    blocks = recent.blocks[len(recent.blocks) - round(share * len(recent.blocks)) :]
    return Stretch(tuple(block.level for block in blocks), blocks[0].rate if blocks else None)


def heading(head: tuple[float, ...], window: Recent) -> tuple[float, ...]:
    """The first five points of the segment after a row."""
    return window.losses[:_HEAD] if window.count <= _HEAD else head
