"""The losses of a judged run as a table."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.cli.judgement import reduction
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.progress import EvalPoint, EvalProgress, Summary, TrainProgress

__all__ = ["loss_table", "perplexity_text", "with_error"]


def loss_table(summary: Summary) -> RenderableType:
    """First, best and last loss of every evaluation set with its error, then of training.

    Args:
        summary: What the run has reached.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title, right in (
        ("set", False),
        ("at", False),
        ("step", True),
        ("loss", True),
        ("PPL", True),
        ("bits/byte", True),
        ("since start", True),
    ):
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for name, split in summary.splits.items():
        _add_split(table, name, split)
    _add_training(table, summary.train, perplexities=summary.seen.train_language)
    return table if table.row_count else Text("no loss in any row")


def _add_training(table: Table, train: TrainProgress, *, perplexities: bool) -> None:
    points = [("first", train.first_step, train.first_loss), ("last", train.last_step, train.last_loss)]
    for when, step, loss in points[2 - min(train.points, 2) :]:
        table.add_row(
            "training" if when == "first" or train.points == 1 else "",
            when,
            "" if step is None else f"{step:,}",
            # The Trainer writes 0.0 in place of NaN: a perplexity of 1 would read as success.
            f"{_loss(loss)} (a NaN?)" if loss == 0 else _loss(loss),
            perplexity_text(perplexity(loss)) if loss and perplexities else "",
            "",
            _fall(_share(train)) if when == "last" else "",
        )


def _add_split(table: Table, name: str, split: EvalProgress) -> None:
    points = [("first", split.first)] if split.first.step != split.last.step else []
    if split.best is not None and split.best.step not in (split.last.step, split.first.step):
        points.append(("best", split.best))
    points.append(("last", split.last))
    for index, (when, point) in enumerate(points):
        is_best = split.best is not None and point.step == split.best.step and split.evaluations > 1
        table.add_row(
            "" if index else printable(name),
            f"{when}, best" if is_best and when != "best" else when,
            f"{point.step:,}",
            _point(point),
            perplexity_text(point.ppl),
            with_error(point.bits_per_byte, point.bits_per_byte_se) if point.bits_per_byte is not None else "",
            _fall(reduction(split)) if when == "last" else "",
        )


def _point(point: EvalPoint) -> str:
    if point.value is None or not point.finite:
        return "not finite"
    text = with_error(point.value, point.se)
    return text if point.metric == keys.EXACT_LOSS else f"{text} (Trainer's)"


def with_error(value: float, error: float | None) -> str:
    """A loss, or bits per byte, with its standard error where it has one."""
    return _loss(value) if error is None else f"{_loss(value)} ± {_loss(error)}"


def _loss(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.2e}"


def perplexity_text(value: float | None) -> str:
    """A perplexity with 3 significant digits; nothing where there is none."""
    if value is None:
        return ""
    if value >= 1e9:
        return f"{value:.2e}"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:#.3g}"


def _fall(share: float | None) -> str:
    return "" if share is None or abs(share) > 1e3 else f"{-share:+.1%}"


def _share(train: TrainProgress) -> float | None:
    """By what share the training loss fell; None where that says nothing."""
    if train.points < 2 or not train.first_loss or not train.last_loss:
        return None
    return 1.0 - train.last_loss / train.first_loss
