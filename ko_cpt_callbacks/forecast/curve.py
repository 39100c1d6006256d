"""The curves of a run, or of a CSV file, that a forecast can be made of."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.file import clip, read_text

__all__ = ["LARGEST_STEP", "Ahead", "Curve", "Curves", "read_curve"]

COLUMNS: Final = ("step", "lr", "loss")
LARGEST_STEP: Final = 2**53
"""Beyond it a float does not hold every whole number: such a step is damage, and its row is left out."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A loss over steps.

    Args:
        name: ``train``, or the evaluation set's prefix.
        metric: ``loss``, the Trainer's or a file's, or ``exact_loss``.
        points: ``(step, nats per token)``, in the order of the log.
        bytes_per_token: UTF-8 bytes of the scored text per target token; None where not known.
    """

    name: str
    metric: str
    points: tuple[tuple[float, float], ...]
    bytes_per_token: float | None = None

    @property
    def kind(self) -> str:
        """``train``, or ``eval``: those are few."""
        return "train" if self.name == keys.TRAIN_PREFIX else "eval"

    def until(self, step: float) -> Curve:
        """The curve as it was at a step."""
        return replace(self, points=tuple(point for point in self.points if point[0] <= step))


@dataclass(frozen=True, slots=True)
class Ahead:
    """The learning rate of a whole run, as its scheduler has planned it.

    Args:
        name: The scheduler's class.
        steps: Nodes, increasing; none where the class follows no plan.
        rates: The rate at each; straight lines between them.
    """

    name: str
    steps: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Curves:
    """What a log holds.

    Args:
        curves: Training first, then every set.
        rates: ``(step, learning rate)`` as logged.
        planned: The last step that the run is to have; None where nothing says it.
        done: The last step that is known of.
        ahead: What the scheduler has planned; None where nothing says it.
    """

    curves: tuple[Curve, ...]
    rates: tuple[tuple[float, float], ...]
    planned: int | None
    done: int
    ahead: Ahead | None = None


def read_curve(path: Path) -> Curves:
    """The curve of a CSV file with the columns ``step,lr,loss``; rows without a loss are of the schedule ahead.

    Raises:
        UnreadableRunError: If a column is missing, or a cell is no number; names the line.
    """
    lines = csv.reader(read_text(path).splitlines())
    try:
        head = [name.strip() for name in next(lines, [])]
        body = [(lines.line_num, cells) for cells in lines]
    except csv.Error as error:
        raise UnreadableRunError(f"{path}:{lines.line_num}: no table ({error}), expected {','.join(COLUMNS)}") from None
    if not set(COLUMNS) <= set(head):
        raise UnreadableRunError(f"{path}:1: found {clip(','.join(head))}, expected the columns {','.join(COLUMNS)}")
    places = [head.index(name) for name in COLUMNS]
    rows: list[tuple[float, float, float | None]] = []
    for number, cells in body:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            step, rate, loss = (cells[place].strip() for place in places)
            rows.append((float(step), float(rate), float(loss) if loss else None))
            if not 0 <= rows[-1][0] <= LARGEST_STEP:
                raise ValueError
        except (ValueError, IndexError):
            line = f"{path}:{number}"
            raise UnreadableRunError(f"{line}: found {clip(','.join(cells))}, expected three numbers") from None
    if not rows:
        raise UnreadableRunError(f"{path}: found no row, expected a step, a learning rate and a loss a line")
    points = tuple((step, loss) for step, _, loss in rows if loss is not None)
    done = int(max((step for step, _ in points), default=0.0))
    last = int(max(step for step, _, _ in rows))
    curve = Curve(keys.TRAIN_PREFIX, keys.LOSS, points)
    return Curves((curve,), tuple((step, rate) for step, rate, _ in rows), last if last > done else None, done)
