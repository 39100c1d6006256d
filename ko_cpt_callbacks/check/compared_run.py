"""A run as one side of a comparison: its last evaluation of every set, or else its training loss.

And what the user says of a run's seeds: what it began from, and the same run with other seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import Asked
from ko_cpt_callbacks.check.judgement import Judgement
from ko_cpt_callbacks.check.runs import judge_path
from ko_cpt_callbacks.check.staged import stage_row
from ko_cpt_callbacks.check.terminal import one_of
from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage, BaselineValue, Metric
from ko_cpt_callbacks.compare.resolution import NO_TRAINING, SEED_SD_BITS, start_of
from ko_cpt_callbacks.compare.stage import Trains
from ko_cpt_callbacks.compare.value import BITS, NATS, Measured
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.run.facts import RunFacts, RunState
from ko_cpt_callbacks.run.fold import same_text
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.observation import (
    EvalObservation,
    Observation,
    TrainObservation,
    finite_number,
)
from ko_cpt_callbacks.run.reading import LogSource, Run
from ko_cpt_callbacks.run.retention import is_retention

__all__ = [
    "STARTS", "ComparedRun", "ComparedSet", "GivenSeeds", "as_baseline", "as_compared", "given_seeds",
    "read_compared_run",
]  # fmt: skip

STARTS: Final = tuple(word.replace(" ", "-") for word in SEED_SD_BITS)
_LEAST_REPEATS: Final = 2  # with the run three seeds. Chosen, not measured: as many as the published deviations have.


@dataclass(frozen=True, slots=True)
class GivenSeeds:
    """What ``--start`` and ``--repeat`` say.

    Args:
        start: What the runs began from; empty where it was not given.
        repeats: The same run with other seeds.
    """

    start: str = ""
    repeats: tuple[ComparedRun, ...] = ()

    def of(self, run: ComparedRun) -> ComparedRun:
        """A run with what was reported of its seeds.

        Raises:
            ConfigurationError: If a repeat did not evaluate the same text, is a run that is there already, or is cut.
        """
        return replace(run, sets=tuple(self._of_set(run, item) for item in run.sets), start=self.start or run.start)

    def _of_set(self, run: ComparedRun, item: ComparedSet) -> ComparedSet:
        measured = replace(item.measured, start=self.start or item.measured.start)
        if not self.repeats or measured.retention:
            return replace(item, measured=measured)
        others: list[Measured] = []
        for repeat in self.repeats:
            of_set = [one for one in repeat.sets if one.measured.set == measured.set]
            if not of_set or same_text(of_set[0].measured.fingerprint, measured.fingerprint) is not True:
                raise ConfigurationError(
                    f"--repeat: found no evaluation of the text of {measured.set} of {run.path} in {repeat.path}, "
                    "expected the same run with another seed"
                )
            cut = [one.path for one in (run, repeat) if one.facts.state in (RunState.RUNNING, RunState.UNFINISHED)]
            if cut and of_set[0].step != item.step:
                raise ConfigurationError(
                    f"--repeat: found step {of_set[0].step:,} in {repeat.path} and {item.step:,} in {run.path}, "
                    f"expected the same run with another seed; let {cut[0]} come to its end"
                )
            # Two seeds never agree to the last digit: a run counted twice would make the spread too small.
            loss = of_set[0].measured.loss
            if loss is not None and loss in [one.loss for one in (measured, *others)]:
                raise ConfigurationError(
                    f"--repeat: found in {repeat.path} the loss of another run to the last digit, expected another "
                    "seed; name each run once"
                )
            others.append(of_set[0].measured)
        both = [measured, *others]
        numbers = {NATS: [one.loss for one in both], BITS: [one.bits_per_byte for one in both]}
        if any(one.tokenizer != measured.tokenizer for one in others):
            numbers.pop(NATS)
        known = {unit: [value for value in values if value is not None] for unit, values in numbers.items()}
        spread = {unit: statistics.stdev(values) for unit, values in known.items() if len(values) == len(both)}
        return replace(item, measured=replace(measured, seed_sd=spread, seed_runs=len(both)))


def given_seeds(start: str | None, repeats: Sequence[str]) -> GivenSeeds:
    """The two options as they can be used.

    Raises:
        ConfigurationError: If one cannot be used.
        UnreadableRunError: If a repeat cannot be read.
    """
    one_of("--start", start, STARTS)
    if 0 < len(repeats) < _LEAST_REPEATS:
        raise ConfigurationError(f"--repeat: found {len(repeats)} run, expected {_LEAST_REPEATS} or more: three seeds")
    return GivenSeeds((start or "").replace("-", " "), tuple(read_compared_run(path) for path in repeats))


LAST_POINTS: Final = 50
"""Training rows whose mean stands for a run's training loss; chosen, not measured: the public runs were read so."""

_WHOLE: Final = "whole"
_NOT_STATED: Final = "not stated"


@dataclass(frozen=True, slots=True)
class ComparedSet:
    """One loss of a run.

    Args:
        measured: What is compared.
        step: Optimizer step of the evaluation; of a training loss the last one that is in it.
        rows_file: File with its per-row sums; None where there is none of this evaluation.
        points: Training rows in the mean; None for an evaluation.
        first_step: The first step in that mean.
    """

    measured: Measured
    step: int
    rows_file: Path | None = None
    points: int | None = None
    first_step: int | None = None


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run that is compared.

    Args:
        path: As the user named it.
        file: The file its rows were read from.
        sets: The last evaluation of each set, retention sets among them.
        training: Its training loss; None where no row has one.
        trains: What it trained, as a row says; None where none does.
        vocabulary: Entries of its tokenizer.
        tokens_per_gpu_hour: The last that a row has; None where none has, as on a CPU.
        facts: What every verdict carries, as ``ko-cpt check`` finds it.
        start: What it began from, as far as a row says; empty where none does.
        stage: The stage that stands for a staged run, the last that can be judged; empty where it is none.
    """

    path: str
    file: Path
    facts: RunFacts
    sets: tuple[ComparedSet, ...]
    training: ComparedSet | None
    trains: Trains | None = None
    vocabulary: int | None = None
    tokens_per_gpu_hour: float | None = None
    start: str = ""
    stage: str = ""

    @property
    def compared(self) -> tuple[ComparedSet, ...]:
        """The sets that a comparison looks at when none was named; the training loss where there are none."""
        kept = tuple(item for item in self.sets if not item.measured.retention)
        return kept or self.sets or (() if self.training is None else (self.training,))

    @property
    def every(self) -> tuple[ComparedSet, ...]:
        """What a comparison looks at, and the retention sets, with which nothing is compared."""
        return (*self.compared, *(item for item in self.sets if item not in self.compared))


def read_compared_run(path: str) -> ComparedRun:
    """The run at a path, as ``ko-cpt check`` finds it; a staged run as the last stage that can be judged.

    Raises:
        UnreadableRunError: If there is none, its ``run.json`` is damaged, or it holds neither an evaluation nor a
            finite training loss.
    """
    judged = judge_path(path)
    if isinstance(judged, Judgement):
        return as_compared(path, judged)
    name, last = judged.judged[-1]
    return replace(as_compared(path, last), facts=judged.facts, stage=name)


def as_compared(path: str, judged: Judgement) -> ComparedRun:
    """A run that was judged, as one that is compared.

    Args:
        path: As the user named it.
        judged: What was found in it.

    Raises:
        UnreadableRunError: If it holds neither an evaluation nor a finite training loss, or a file of per-row sums is
            damaged.
    """
    run, retention = judged.run, judged.watch.retention
    seen = run.observations()
    stage = stage_row(seen)
    start = NO_TRAINING if keys.MEASURED in judged.asked.record else start_of(stage) if stage else ""
    known = _known(judged.asked)
    last = _last_evaluations(seen).values()
    sets = tuple(_compared_set(run, item, {**known, "start": start}, retention) for item in last)
    training = _training(seen)
    if not sets and training is None:
        raise UnreadableRunError(f"{run.path}: found no loss, expected an evaluation or a training row with one")
    return ComparedRun(
        path=path,
        file=run.path,
        facts=judged.facts,
        sets=sets,
        training=None if training is None else replace(training, measured=replace(training.measured, **known)),
        trains=Trains.in_row(stage),
        vocabulary=known["vocabulary"],
        tokens_per_gpu_hour=_last_number(run.rows, keys.TOKENS_PER_GPU_HOUR),
        start=start,
    )


def as_baseline(run: ComparedRun) -> Baseline:
    """A run as what others are compared with: its evaluations, retention sets left out."""
    values: list[BaselineValue] = []
    for item in run.sets:
        measured = item.measured
        if not measured.retention:
            values.extend(_value(item, "loss", measured.loss, measured.loss_se))
            values.extend(_value(item, keys.BITS_PER_BYTE, measured.bits_per_byte, measured.bits_per_byte_se))
    if run.training is not None:
        values.extend(_value(run.training, "loss", run.training.measured.loss, None))
    first = next((item.measured for item in (*run.sets, run.training) if item is not None), Measured())
    return Baseline(
        id=run.path,
        title=run.path,
        kind="continued pretraining",
        grade="OWN",
        vocabulary=run.vocabulary,
        quantization=first.quantization or _NOT_STATED,
        stages=(BaselineStage(_WHOLE, trains=run.trains, values=tuple(values)),),
        tokenizer_hash=first.tokenizer or "",
        start=run.start,
    )


def _value(item: ComparedSet, metric: Metric, value: float | None, se: float | None) -> list[BaselineValue]:
    if value is None:
        return []
    measured = item.measured
    return [
        BaselineValue(
            metric=metric,
            split=measured.split,
            value=value,
            low=value,
            high=value,
            grade="OWN",
            origin="measured",
            set=measured.set,
            se=se,
            fingerprint=measured.fingerprint,
            tokens=measured.tokens,
            bytes=measured.bytes,
            rows_file=None if item.rows_file is None else str(item.rows_file),
            position=f"step {item.step:,}",
        )
    ]


def _known(asked: Asked) -> dict[str, Any]:
    """What ``run.json`` says of tokenizer and weights; nothing where it does not."""
    vocabulary, weights = asked.recorded("tokenizer").get("vocabulary"), asked.recorded("model").get("quantization")
    whole = isinstance(vocabulary, int) and not isinstance(vocabulary, bool)
    return {
        "tokenizer": asked.tokenizer,
        "vocabulary": vocabulary if whole else None,
        "quantization": weights if isinstance(weights, str) else None,
    }


def _last_evaluations(seen: Sequence[Observation]) -> dict[str, EvalObservation]:
    """The last evaluation of every set, in the order the sets came."""
    last: dict[str, EvalObservation] = {}
    for item in seen:
        if isinstance(item, EvalObservation) and (item.split not in last or item.step >= last[item.split].step):
            last[item.split] = item
    return last


def _compared_set(run: Run, seen: EvalObservation, known: Mapping[str, Any], retention: Sequence[str]) -> ComparedSet:
    # One that is not finite stays: that it cannot be compared is the answer.
    measured = Measured.of(seen) or Measured(set=seen.split)
    measured = replace(measured, retention=is_retention(seen.split, retention), **known)
    rows_file = eval_rows_path(run.path.parent, seen.split, seen.step) if run.source is LogSource.ROWS else None
    if rows_file is not None and not rows_file.exists():
        rows_file = None
    if rows_file is not None:
        read_eval_rows(rows_file)  # evidence that cannot be read is reported, also where it is not needed
    return ComparedSet(measured, seen.step, rows_file)


def _training(seen: Sequence[Observation]) -> ComparedSet | None:
    """The mean of the last training losses; 0.0 is what the Trainer logs in place of NaN."""
    by_step: dict[int, float] = {}
    for item in seen:
        if isinstance(item, TrainObservation) and item.loss and abs(item.loss) < float("inf"):
            by_step.pop(item.step, None)
            by_step[item.step] = item.loss
    last = list(by_step.items())[-LAST_POINTS:]
    if not last:
        return None
    mean = sum(loss for _, loss in last) / len(last)
    measured = Measured("train", keys.TRAIN_PREFIX, mean, metric=keys.LOSS)
    return ComparedSet(measured, last[-1][0], points=len(last), first_step=last[0][0])


def _last_number(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    for row in reversed(rows):
        value = finite_number(row.get(name))
        if value is not None and value > 0:
            return value
    return None
