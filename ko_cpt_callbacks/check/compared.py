"""Runs, or a lone loss, beside a baseline: what ``ko-cpt compare`` shows, as values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.compared_run import ComparedRun, ComparedSet, as_baseline, read_compared_run
from ko_cpt_callbacks.compare.baseline import Baseline, matching_stage
from ko_cpt_callbacks.compare.comparison import compare, same_run
from ko_cpt_callbacks.compare.reference import checked_stage, reference_of
from ko_cpt_callbacks.compare.value import BITS, NATS, Comparison, Measured, Paired, Reason
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError, near_miss, refuse_empty
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue
from ko_cpt_callbacks.run.folder import read_eval_rows

__all__ = [
    "Compared", "ComparedRuns", "ReferenceSide", "compared_loss", "compared_run", "compared_runs", "find_side",
    "side_of_run",
]  # fmt: skip

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class ReferenceSide:
    """What is compared with.

    Args:
        baseline: Its figures.
        run: The run they were read from; None where they are an entry of the registry.
    """

    baseline: Baseline
    run: ComparedRun | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One loss beside the baseline.

    Args:
        run: The run; None for a loss that was given as a number.
        step: Optimizer step of the evaluation; None for a number.
        measured: The run's side.
        comparison: What came of it.
    """

    run: ComparedRun | None
    step: int | None
    measured: Measured
    comparison: Comparison

    def as_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, Any]:
        """As strict JSON, with the sentences of its reasons in a language."""
        compared = self.comparison.as_dict()
        for name in ("reasons", "notes", "would_help"):
            compared[name] = [{**item, "message": catalogue(language).reason(item)} for item in compared[name]]
        run = None if self.run is None else self.run.path
        return {"run": run, "step": self.step, "measured": asdict(self.measured), "comparison": compared}


@dataclass(frozen=True, slots=True)
class ComparedRuns:
    """Everything that was compared with one baseline.

    Args:
        side: What it was compared with.
        runs: The runs that were read.
        compared: Every loss of them.
        unread: Why a run cannot be read, by its path.
        only: The set that was named; None: every set.
    """

    side: ReferenceSide
    runs: tuple[ComparedRun, ...]
    compared: tuple[Compared, ...]
    unread: Mapping[str, str] = field(default_factory=dict)
    only: str | None = None

    @property
    def all_runs(self) -> tuple[ComparedRun, ...]:
        """The runs, and the one that they are compared with."""
        return self.runs if self.side.run is None else (self.side.run, *self.runs)

    @property
    def efficiency(self) -> dict[str, Any] | None:
        """Tokens per GPU hour of the runs that logged them and of the baselines; None where no run did."""
        known = {run.path: run.tokens_per_gpu_hour for run in self.runs if run.tokens_per_gpu_hour is not None}
        if not known:
            return None
        from ko_cpt_callbacks.compare.registry import efficiency_table

        names = ("id", "title", "gpu", keys.TOKENS_PER_GPU_HOUR, "grade")
        return {
            "runs": [{"run": path, keys.TOKENS_PER_GPU_HOUR: speed} for path, speed in known.items()],
            "baselines": [{name: getattr(row, name) for name in names} for row in efficiency_table()],
        }

    def as_dict(self, language: str = DEFAULT_LANGUAGE) -> dict[str, Any]:
        """As strict JSON: ``schemas/compare.schema.json``."""
        names = ("id", "title", "kind", "grade", "version", "language", "vocabulary", "quantization")
        return {
            "format": _FORMAT,
            "baseline": {name: getattr(self.side.baseline, name) for name in names},
            "runs": [{"run": run.path, "stage": run.stage or None, **run.facts.as_dict()} for run in self.runs],
            "unreadable": [{"run": path, "error": error} for path, error in self.unread.items()],
            "comparisons": [one.as_dict(language) for one in self.compared],
            "efficiency": self.efficiency,
        }


def find_side(named: str) -> ReferenceSide:
    """The baseline of an id, or the run at a path. An id comes first; a name with a ``/`` is a path.

    Raises:
        ConfigurationError: If it is neither.
        BaselineError: If the baseline's file cannot be used.
        UnreadableRunError: If the run cannot be read.
    """
    import ko_cpt_callbacks

    refuse_empty("--baseline", named, "an id or a path")
    if "/" not in named and "\\" not in named:
        try:
            return ReferenceSide(ko_cpt_callbacks.find_baseline(named))
        except ConfigurationError:
            if not Path(named).exists():
                raise
    return side_of_run(named)


def side_of_run(path: str) -> ReferenceSide:
    """The run at a path, as what others are compared with.

    Raises:
        UnreadableRunError: If the run cannot be read.
    """
    run = read_compared_run(path)
    return ReferenceSide(as_baseline(run), run)


def compared_run(
    run: ComparedRun, side: ReferenceSide, stage: str | None = None, only: str | None = None
) -> list[Compared]:
    """A run beside a baseline, every set or the one that was named.

    Raises:
        ConfigurationError: If there is no such stage or set.
        UnreadableRunError: If a file of per-row sums is damaged.
    """
    return [_compared(run, item, side, stage) for item in _chosen(run, only)]


def compared_loss(measured: Measured, side: ReferenceSide, stage: str | None = None) -> Compared:
    """A loss that was given as a number beside a baseline.

    Raises:
        ConfigurationError: If there is no such stage.
    """
    return Compared(None, None, measured, compare(measured, side.baseline, stage))


def compared_runs(
    paths: Sequence[str], side: ReferenceSide, read: Callable[[str], ComparedRun], stage: str | None = None,
    only: str | None = None,
) -> ComparedRuns:  # fmt: skip
    """Runs beside a baseline; of several, one that cannot be read is kept with its reason.

    Args:
        paths: As the user named them.
        side: What they are compared with.
        read: Reads one.
        stage: The baseline's; None: the one that trains the same, or the last.
        only: One set; None: every set but retention sets.

    Raises:
        UnreadableRunError: If none can be read.
        ConfigurationError: If there is no such stage or set.
    """
    runs: list[ComparedRun] = []
    compared: list[Compared] = []
    unread: dict[str, str] = {}
    for path in paths:
        try:
            run = read(path)
            compared += compared_run(run, side, stage, only)
            runs.append(run)
        except UnreadableRunError as error:
            if len(unread) + 1 == len(set(paths)):
                raise
            unread[path] = str(error)
    return ComparedRuns(side, tuple(runs), tuple(compared), unread, only)


def _chosen(run: ComparedRun, only: str | None) -> Sequence[ComparedSet]:
    if only is None:
        return run.compared
    known = {item.measured.set: item for item in run.sets}
    # The Trainer logs the set "ko" of a dict of sets as eval_ko.
    for name in (only, keys.key("eval", only)):
        if name in known:
            return (known[name],)
    near = near_miss(only, known)
    hint = "" if near is None else f"; did you mean {near}?"
    listed = ", ".join(known) or "none: it was never evaluated"
    raise ConfigurationError(f"--set: found {only!r}, expected a set of {run.path} ({listed}){hint}")


def _compared(run: ComparedRun, item: ComparedSet, side: ReferenceSide, stage: str | None) -> Compared:
    baseline = side.baseline
    matched, unmatched = checked_stage(baseline, stage), False
    if matched is None and run.trains is not None and len(baseline.stages) > 1:
        matched = matching_stage(run.trains, baseline).stage
        unmatched = matched is None
    found = compare(item.measured, baseline, matched, _paired(item, baseline, matched))
    notes = found.notes
    if item.points is not None:
        values = {"points": item.points, "first_step": item.first_step, "last_step": item.step}
        notes = (Reason("training-mean", values), *notes)
    if unmatched and found.stage:
        notes = (*notes, Reason("stage-not-matched", {"stage": found.stage}))
    found = replace(found, notes=notes)
    itself = side.run is not None and side.run.file.samefile(run.file)
    if itself and found.outcome != "exact" and not item.measured.retention:
        found = same_run(item.measured, baseline)
    return Compared(run, item.step, item.measured, found)


def _paired(item: ComparedSet, baseline: Baseline, stage: str | None) -> Paired | None:
    """The row by row difference, where both sides have their rows."""
    measured = item.measured
    found = reference_of(baseline, stage, set=measured.set, fingerprint=measured.fingerprint)
    if isinstance(found, Reason) or found.rows_file is None or item.rows_file is None:
        return None
    from ko_cpt_callbacks.compare.pairing import paired_with  # numpy: not for a comparison without rows

    same = bool(measured.tokenizer) and measured.tokenizer == baseline.tokenizer_hash
    theirs, ours = read_eval_rows(found.rows_file), read_eval_rows(item.rows_file)
    exact = measured.loss if measured.metric == keys.EXACT_LOSS else None
    wrong = ours.contradiction(
        loss=exact, tokens=measured.tokens, bytes=measured.bytes, fingerprint=measured.fingerprint
    )
    if wrong is not None or found.contradicts(theirs):
        return Paired(NATS if same else BITS, reasons=("other-rows",))
    return paired_with(theirs, ours, same)
