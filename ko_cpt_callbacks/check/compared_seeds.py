"""What the user says of a run's seeds: what it began from, and the same run with other seeds."""

from __future__ import annotations

import difflib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ko_cpt_callbacks.check.compared_run import ComparedRun, ComparedSet, read_compared_run
from ko_cpt_callbacks.compare.resolution import SEED_SD_BITS
from ko_cpt_callbacks.compare.value import BITS, NATS, Measured
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.metrics.fingerprint import same_text
from ko_cpt_callbacks.run.facts import RunState

__all__ = ["STARTS", "ToldSeeds", "told_seeds"]

STARTS: Final = tuple(word.replace(" ", "-") for word in SEED_SD_BITS)
_LEAST_REPEATS: Final = 2  # with the run three seeds. Chosen, not measured: as many as the published deviations have.


@dataclass(frozen=True, slots=True)
class ToldSeeds:
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


def told_seeds(start: str | None, repeats: Sequence[str]) -> ToldSeeds:
    """The two options as they can be used.

    Raises:
        ConfigurationError: If one cannot be used.
        UnreadableRunError: If a repeat cannot be read.
    """
    if start is not None and start not in STARTS:
        near = difflib.get_close_matches(start, STARTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"--start: found {start!r}, expected one of {', '.join(STARTS)}{hint}")
    if 0 < len(repeats) < _LEAST_REPEATS:
        raise ConfigurationError(f"--repeat: found {len(repeats)} run, expected {_LEAST_REPEATS} or more: three seeds")
    return ToldSeeds((start or "").replace("-", " "), tuple(read_compared_run(path) for path in repeats))
