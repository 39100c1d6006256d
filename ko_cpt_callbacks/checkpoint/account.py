"""Every checkpoint that a run saved: its evaluation, whether it is still there, and which one to keep."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.checkpoint.choice import Choice, RowErrors, Scored, choose, row_errors
from ko_cpt_callbacks.checkpoint.disk import OnDisk, checkpoint_name, checkpoints_on_disk, state_in
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.run.fold import NO_ROWS, EvalRows
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.observation import EvalObservation, Level, level_of
from ko_cpt_callbacks.run.progress import RunProgress, Summary
from ko_cpt_callbacks.run.reading import LogSource, Run
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.run.rows import observations_of

__all__ = ["Account", "Checkpoint", "account_beside", "account_of", "run_folder"]

_MOST_SUMS: Final = 1 << 25
"""Rows of all evaluations together that are held at once: 256 MB. Chosen, not measured."""
_SAME: Final = 1e-6
"""How far a loss differs in two files of one evaluation, relatively. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was saved.

    Args:
        step: Its step.
        disk: What is on disk; ``None``: it is lost.
        loss: Of its evaluation, nats per token; ``None`` where it cannot be compared.
        se: Standard error of that loss.
        gap: Loss less the best one's.
        gap_se: Standard error of the gap.
        equal: Whether it cannot be separated from the best; ``None`` where nothing tells.
        oddity: Why it is not compared, or left alone on disk: one of `OnDisk.oddity`, ``unevaluated``, ``other-rows``,
            ``not-finite`` or ``other-run``; empty where nothing is odd.
    """

    step: int
    disk: OnDisk | None = None
    loss: float | None = None
    se: float | None = None
    gap: float | None = None
    gap_se: float | None = None
    equal: bool | None = None
    oddity: str = ""

    @property
    def usable(self) -> bool:
        """Whether it can be loaded, and its evaluation is known."""
        return self.disk is not None and self.loss is not None and not self.oddity


@dataclass(frozen=True, slots=True)
class Account:
    """The checkpoints of a run.

    Args:
        folder: The run's folder.
        split: The evaluation set that they are compared on; empty where nothing was evaluated.
        metric: ``exact_loss``, or ``loss`` where there is only the Trainer's.
        checkpoints: By step.
        choice: What their evaluations say; ``None`` where none has one.
        ended: Whether the run is over and its record knows every checkpoint: nothing will be resumed from one.
    """

    folder: Path
    split: str = ""
    metric: str = keys.EXACT_LOSS
    checkpoints: tuple[Checkpoint, ...] = ()
    choice: Choice | None = None
    ended: bool = False

    @property
    def recommended(self) -> Checkpoint | None:
        """The one to keep: the newest on disk that cannot be separated from the best, or else the lowest on disk."""
        usable = [one for one in self.checkpoints if one.usable]
        equal = [one for one in usable if one.equal]
        if equal:
            return equal[-1]
        return min(usable, key=lambda one: one.loss or 0.0, default=None)

    @property
    def equal(self) -> tuple[Checkpoint, ...]:
        """Those that cannot be separated from the best."""
        return tuple(one for one in self.checkpoints if one.equal)

    @property
    def lost(self) -> tuple[Checkpoint, ...]:
        """Those that were saved and are not on disk: ``save_total_limit`` deletes the oldest."""
        return tuple(one for one in self.checkpoints if one.disk is None)

    def as_dict(self) -> dict[str, Any]:
        """The account as strict JSON."""
        recommended = self.recommended
        return {
            "set": self.split or None,
            "metric": self.metric if self.split else None,
            **({} if self.choice is None else self.choice.as_dict()),
            "recommended": None if recommended is None else str(self.folder / checkpoint_name(recommended.step)),
            "checkpoints": [
                {
                    "step": one.step,
                    "on_disk": one.disk is not None,
                    "bytes": None if one.disk is None else one.disk.size,
                    "loss": one.loss,
                    "se": one.se,
                    "gap": one.gap,
                    "gap_se": one.gap_se,
                    "equal": one.equal,
                    "oddity": one.oddity or None,
                }
                for one in self.checkpoints
            ],
        }


def run_folder(run: Run) -> Path:
    """The folder that a run's checkpoints are in."""
    folder = run.path.absolute().parent
    inside = folder.name == keys.FOLDER if run.source is LogSource.ROWS else folder.name.startswith("checkpoint-")
    return folder.parent if inside else folder


def account_beside(run: Run, retention: Sequence[str]) -> Account | None:
    """The checkpoints of a run that our record knows, for a page about the run; a folder without any says nothing.

    Args:
        run: The run as it was read.
        retention: Declared retention sets.
    """
    recorded = run.source is LogSource.ROWS and any(row.get(keys.KIND) == keys.KIND_CHECKPOINT for row in run.rows)
    try:
        account = account_of(run, retention=retention) if recorded else None
    except UnreadableRunError:  # the page is about the run
        return None
    there = account is not None and any(one.disk is not None for one in account.checkpoints)
    return account if there else None  # a record alone may have been moved away from its checkpoints


def account_of(run: Run, *, split: str | None = None, retention: Sequence[str] = ()) -> Account:
    """The checkpoints of a run.

    Args:
        run: The run as it was read.
        split: The evaluation set to compare them on; ``None``: the first that is no retention set.
        retention: Declared retention sets.

    Raises:
        ConfigurationError: If there is no such set.
        UnreadableRunError: If the run's folder cannot be listed.
    """
    folder, (summary, evaluated, others) = run_folder(run), _evaluations(run)
    disk = {one.step: one for one in checkpoints_on_disk(folder)}
    named = [row[keys.STEP] for row in run.rows if row.get(keys.KIND) == keys.KIND_CHECKPOINT]
    saved = {step for step in named if isinstance(step, int)}
    steps = sorted({step for step in saved if step >= 0} | disk.keys())
    name = _split(summary, split, retention)
    seen, other = evaluated.get(name, {}), others.get(name, set())
    exact = any(one.exact_loss is not None for one in seen.values())
    metric = keys.EXACT_LOSS if exact else keys.LOSS
    found = [_checkpoint(step, disk.get(step), seen.get(step), metric, folder, step in saved) for step in steps]
    found = [replace(one, oddity="other-rows") if one.oddity == "unevaluated" and one.step in other else one
             for one in found]  # fmt: skip
    record = run.path.parent if run.source is LogSource.ROWS else None
    scored = list(_scored([one for one in found if one.loss is not None], seen, name, record))
    ended = summary.ended and disk.keys() <= saved  # nothing was saved behind the record's back
    account = Account(folder, name, metric, tuple(found), ended=ended)
    if not scored:
        return account
    levels = [level_of(metric, one) for one in seen.values()]
    choice = choose(scored, [one.value for one in levels if isinstance(one, Level)])
    return replace(account, choice=choice, checkpoints=tuple(_told(one, choice) for one in found))


def _evaluations(run: Run) -> tuple[Summary, dict[str, dict[int, EvalObservation]], dict[str, set[int]]]:
    """What a run reached; by set the evaluations that may be compared, by step; and the steps of other rows."""
    progress, kept, rows = RunProgress(), dict[str, dict[int, EvalObservation]](), dict[str, EvalRows]()
    others: dict[str, set[int]] = {}
    for seen in (*run.plan_rows(), *observations_of(run.rows)):
        aside = progress.aside(seen)  # of a model that was loaded after training, not of the step's
        progress = progress if aside else progress.add(seen)
        if aside or not isinstance(seen, EvalObservation):
            continue
        name = seen.split
        rows[name] = rows.get(name, NO_ROWS).add(seen)
        if rows[name].anew:
            others.setdefault(name, set()).update(kept.pop(name, {}))
        kept.setdefault(name, {})[seen.step] = seen
    return progress.summary(), kept, others


def _split(summary: Summary, asked: str | None, retention: Sequence[str]) -> str:
    names = list(summary.splits)
    if asked is not None:
        if asked not in names:
            raise ConfigurationError(f"--set: found {asked!r}, expected one of {', '.join(names) or 'no set at all'}")
        return asked
    return next((name for name in names if not is_retention(name, retention)), names[0] if names else "")


def _checkpoint(
    step: int, disk: OnDisk | None, seen: EvalObservation | None, metric: str, folder: Path, recorded: bool
) -> Checkpoint:
    oddity = "" if disk is None else disk.oddity
    level = "unevaluated" if seen is None else level_of(metric, seen)
    if not oddity and disk is not None and not recorded:  # the record does not know it: its own state must
        oddity = _of_another(folder, step, seen, metric)
    if isinstance(level, str):
        named = level if level in ("unevaluated", "non-finite") else "unevaluated"
        return Checkpoint(step, disk, oddity=oddity or named.replace("non-finite", "not-finite"))
    if oddity == "other-run":
        return Checkpoint(step, disk, oddity=oddity)
    return Checkpoint(step, disk, level.value, level.se, oddity=oddity)


def _of_another(folder: Path, step: int, seen: EvalObservation | None, metric: str) -> str:
    """Whether a checkpoint's own state has another evaluation of its step than the run, or none at all."""
    state = state_in(folder, step)
    if state is None:
        return "other-run"
    if seen is None:
        return ""
    own = [one for one in observations_of(state.rows)
           if isinstance(one, EvalObservation) and one.split == seen.split and one.step == step]  # fmt: skip
    ours, theirs = level_of(metric, seen), level_of(metric, own[-1]) if own else "unevaluated"
    if isinstance(ours, Level) and isinstance(theirs, Level):
        return "" if math.isclose(ours.value, theirs.value, rel_tol=_SAME) else "other-run"
    return "unevaluated" if theirs == "unevaluated" else ""


def _scored(
    found: Sequence[Checkpoint], seen: Mapping[int, EvalObservation], split: str, record: Path | None
) -> list[Scored]:
    held, scored = 0, []
    for one in found:
        rows = None if record is None or held > _MOST_SUMS else _rows(record, split, seen[one.step])
        held += 0 if rows is None else len(rows.errors)
        scored.append(Scored(one.step, one.loss or 0.0, one.se, rows))
    return scored


def _rows(record: Path, split: str, seen: EvalObservation) -> RowErrors | None:
    """The sums of an evaluation's rows, where they are there and of no other evaluation."""
    try:
        rows = read_eval_rows(eval_rows_path(record, split, seen.step))
    except UnreadableRunError:
        return None
    of_another = rows.contradiction(loss=seen.exact_loss, tokens=seen.tokens, fingerprint=seen.fingerprint)
    return row_errors(rows) if of_another is None and seen.exact_loss is not None else None


def _told(one: Checkpoint, choice: Choice) -> Checkpoint:
    gap, gap_se = choice.gaps.get(one.step, (None, None))
    equal = None if choice.equal is None or gap is None else one.step in choice.equal
    return replace(one, gap=gap, gap_se=gap_se, equal=equal)
