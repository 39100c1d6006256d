"""The checkpoints of a run as sentences: one line for other pages, and the table of ``ko-cpt checkpoints``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ko_cpt_callbacks.checkpoint.account import Account, Checkpoint
from ko_cpt_callbacks.checkpoint.choice import LEVEL, Basis
from ko_cpt_callbacks.checkpoint.disk import checkpoint_name
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.terminal import CUT
from ko_cpt_callbacks.run.page import aligned_rows, with_error

__all__ = ["account_cells", "account_lines", "keep_line", "size_text"]

_MOST_NAMES: Final = 4
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def keep_line(account: Account, language: str) -> str:
    """Which checkpoint to keep and what is lost, in one line; empty where none was saved."""
    said = catalogue(language)
    if not account.checkpoints:
        return ""
    return "; ".join([_keep(account, said), *_lost(account, said), *_doubt(account, said)])


def _keep(account: Account, said: Catalogue) -> str:
    kept = account.recommended
    if kept is None:
        return said.line_of("checkpoints-keep-none")
    compared = sum(one.gap is not None for one in account.checkpoints)
    if compared == 1:
        return said.line_of("checkpoints-keep-only", step=kept.step)
    if not kept.equal:
        return said.line_of("checkpoints-keep-lowest", step=kept.step)
    name = "checkpoints-keep" if len(account.equal) > 1 else "checkpoints-keep-best"
    return said.line_of(name, step=kept.step, equal=len(account.equal), count=compared)


def _doubt(account: Account, said: Catalogue) -> Iterator[str]:
    """That less is known than the rows would tell."""
    choice = account.choice
    if choice is not None and len(choice.gaps) > 1 and choice.basis not in (Basis.ROWS, Basis.PART):
        yield said.line_of(f"checkpoints-by-{choice.basis}", noise=choice.noise)


def _lost(account: Account, said: Catalogue) -> Iterator[str]:
    lost, kept = account.lost, account.recommended
    if not lost:
        return
    names, equal = _names(lost), _names([one for one in lost if one.equal])
    if kept is not None and kept.equal is False and account.choice is not None:
        yield said.line_of("checkpoints-lost-best", lost=names, best=account.choice.best, gap=kept.gap)
    elif equal:
        yield said.line_of("checkpoints-lost-equal", lost=names, equal=equal)
    else:
        known = account.choice is not None and account.choice.equal is not None and all(one.loss for one in lost)
        yield said.line_of("checkpoints-lost" if known else "checkpoints-lost-unknown", lost=names)


def _names(some: Sequence[Checkpoint]) -> list[str]:
    """Their names; of many the first, the last and how many."""
    names = [checkpoint_name(one.step) for one in some]
    return names if len(names) <= _MOST_NAMES else [f"{names[0]} {CUT} {names[-1]} ({len(names):,})"]


def account_lines(account: Account, language: str, width: int, *, fold: bool = False) -> list[str]:
    """The table, what it is by, and what follows.

    Args:
        account: The checkpoints.
        language: Of the sentences.
        width: Columns.
        fold: As `aligned_rows` has it.
    """
    said, choice = catalogue(language), account.choice
    if not account.checkpoints:
        return [said.line_of("checkpoints-none")]
    basis = "checkpoints-by-nothing" if choice is None else f"checkpoints-by-{choice.basis}"
    values = {} if choice is None else {"rows": choice.rows, "noise": choice.noise}
    count = len(account.checkpoints)
    head = said.line_of("checkpoints-on", set=account.split, count=count, basis=said.line_of(basis, **values))
    table = [line for of_row in aligned_rows(account_cells(account, said), width, fold=fold) for line in of_row]
    lines = [head, "", *table, "", keep_line(account, language)]
    if choice is not None and choice.basis is not Basis.NONE:
        compared = sum(one.gap is not None for one in account.checkpoints)
        lines.append(said.line_of("checkpoints-equal-title", level=LEVEL, count=compared))
    return lines


def account_cells(account: Account, said: Catalogue) -> list[list[str]]:
    """The table as cells, the titles first."""
    titles = [said.line_of(name) for name in ("checkpoint", "checkpoint-loss", "checkpoint-gap",
                                              "checkpoint-equal", "checkpoint-size", "checkpoint-note")]  # fmt: skip
    return [titles, *(_row(one, account, said) for one in account.checkpoints)]


def _row(one: Checkpoint, account: Account, said: Catalogue) -> list[str]:
    best = account.choice is not None and one.step == account.choice.best
    equal = "" if one.equal is None else said.line_of("checkpoint-yes" if one.equal else "checkpoint-no")
    return [
        checkpoint_name(one.step),
        "" if one.loss is None else with_error(one.loss, one.se),
        "" if one.gap is None else said.line_of("new-best") if best else with_error(one.gap, one.gap_se, sign=True),
        equal,
        said.line_of("checkpoint-lost") if one.disk is None else size_text(one.disk.size),
        said.line_of(f"checkpoint-why-{one.oddity}") if one.oddity else "",
    ]


def size_text(size: int) -> str:
    """Bytes as people read them, in powers of 1,000.

    >>> size_text(999), size_text(1_234_000), size_text(20_500_000_000)
    ('999 B', '1.2 MB', '20.5 GB')
    """
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1000.0, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"
