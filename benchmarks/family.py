"""How near are forecasts by finished runs of the same set-up, which runs leave their band, and how often by chance?

``python benchmarks/family.py [--folder FOLDER]``

**Real runs**: a tiny Llama on Korean text, exact losses of nine rows, in two set-ups: continued from weights that all
seeds share, and from scratch, with initial weights of each seed. Of five seeds each is left out in its turn: its
forecasts at 30, 50 and 70 % by the other four, and whether `off-family` speaks. Five more runs have twice the learning
rate and the five seeds as their family. The first of them has it live (``KoCPTCallback(family=…)``), and what it found
must be what the fold over its rows finds.

**Simulated runs**: what a seed adds to the logarithm of a loss lasts, passes, or grows as a random walk. How many of
the intervals hold the end, and how many runs of the family are outside two evaluations in a row.

Exit status 1 where a limit is missed. One core, about three minutes, no network.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import logging
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from ko_cpt_callbacks.compare.own import read_family  # noqa: E402
from ko_cpt_callbacks.forecast.band import carried, students_t  # noqa: E402
from ko_cpt_callbacks.forecast.band import missed as missed_by  # noqa: E402
from ko_cpt_callbacks.forecast.family import BAND, FamilyRun, family_row  # noqa: E402
from ko_cpt_callbacks.forecast.outlook import outlook_of  # noqa: E402
from ko_cpt_callbacks.forecast.posterior import MODEL_ERROR, Floats  # noqa: E402
from ko_cpt_callbacks.rules.baseline.off_family import OffFamily  # noqa: E402
from ko_cpt_callbacks.rules.monitor import Monitor  # noqa: E402
from ko_cpt_callbacks.run.finding import Finding  # noqa: E402
from ko_cpt_callbacks.run.fold import FAMILY  # noqa: E402
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation  # noqa: E402
from ko_cpt_callbacks.run.reading import read_run  # noqa: E402

SEEDS = 5
STEPS, EVERY = 100, 5
ORIGINS = (0.3, 0.5, 0.7)
MEDIAN_ERROR = 0.3
"""Percent, at 30 % of the run."""
SIMULATED = 2000
HELD = 86.0
"""Percent of simulated ends that a 90 % interval must hold."""
BY_CHANCE = {20: 1.0, 100: 4.0}
"""Percent of simulated runs of a family that may be outside two evaluations in a row, by their evaluations."""


def train(folder: Path, model: Any, seed: int, rate: float, family: Sequence[str] = ()) -> Any:
    """A real run; its callback."""
    from e2e import job

    from ko_cpt_callbacks import KoCPTCallback

    callback = KoCPTCallback(outputs=["files"], family=family)
    trainer = job.build(
        folder, [callback], model=model, max_steps=STEPS, logging_steps=EVERY, eval_steps=EVERY, seed=seed,
        save_strategy="no", learning_rate=rate, warmup_steps=4, lr_scheduler_type="cosine",
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    return callback


def given(folder: Path, family: Sequence[FamilyRun], until: float = math.inf) -> list[Observation]:
    """The rows of a run up to a step, with a family."""
    rows = [row for row in read_run(folder).observations() if row.step <= until]
    rows = [row for row in rows if not isinstance(row, SetupObservation) or row.kind != FAMILY]
    first = next(place for place, row in enumerate(rows) if isinstance(row, EvalObservation))
    return [*rows[:first], SetupObservation(0, FAMILY, family_row(family)), *rows[first:]]


def spoken(folder: Path, family: Sequence[FamilyRun]) -> list[Finding]:
    """What `off-family` says of a run."""
    return list(Monitor([OffFamily()]).fold(given(folder, family))[1])


def real(name: str, folder: Path, *, shared: bool) -> list[str]:
    """Prints the rows of a set-up; what missed its limit."""
    import tiny

    def fresh(seed: int) -> Any:
        return tiny.llama(len(tiny.byte_level_tokenizer()), hidden=16, layers=1, seed=seed)

    base, rate = fresh(0), 3e-3
    if shared:
        train(folder / "base", base, 99, rate)
        rate = 1e-3
    folders = [folder / f"seed-{seed}" for seed in range(SEEDS)]
    for seed, place in enumerate(folders):
        train(place, copy.deepcopy(base) if shared else fresh(seed), seed, rate)
    runs = read_family(map(str, folders))
    missed, cells, held, widths = [], [], 0, []
    for part in ORIGINS:
        errors = []
        for run, place in zip(runs, folders, strict=True):
            others = [one for one in runs if one is not run]
            found = outlook_of(given(place, others, part * STEPS)).forecast("eval")
            end = run.curves["eval"].points[-1][1]
            if found is None or found.family != SEEDS - 1 or found.withheld or found.lower is None:
                missed.append(f"{name}: no forecast of {run.name} by its family at {part:.0%}")
                continue
            errors.append(100 * abs((found.median or 0.0) / end - 1))
            widths.append(100 * ((found.upper or 0.0) - found.lower) / end)
            held += found.lower <= end <= (found.upper or 0.0)
        cells.append(f"{np.median(errors):.2f}")
        if part == ORIGINS[0] and not np.median(errors) <= MEDIAN_ERROR:
            missed.append(f"{name}: median error {np.median(errors):.2f} % at {part:.0%}")
    left = [spoken(place, [one for one in runs if one.name != str(place)]) for place in folders]
    doubled = [folder / f"doubled-{seed}" for seed in range(SEEDS)]
    for seed, place in enumerate(doubled):
        named = [str(one) for one in folders] if seed == 0 else ()
        callback = train(place, copy.deepcopy(base) if shared else fresh(seed), seed, 2 * rate, named)
        if seed == 0:
            live = [one for one in callback.findings if one.code == OffFamily.info.code]
            read = list(Monitor([OffFamily()]).fold(read_run(place).observations())[1])
            missed += [] if live == read else [f"{name}: live {live}, offline {read}"]
    away = [spoken(place, runs) for place in doubled]
    wrong = sum(bool(one) for one in left)
    right = [one[0].step or 0 for one in away if one and one[0].variant == "left-rate"]
    at = f", at step {np.median(right):.0f} of {STEPS}" if right else ""
    print(
        f"| {name} | {' / '.join(cells)} | {held} of {SEEDS * len(ORIGINS)} | {np.median(widths):.1f} | "
        f"{wrong} of {SEEDS} | {len(right)} of {SEEDS}{at} |", flush=True,
    )  # fmt: skip
    return missed + ([] if wrong == 0 else [f"{name}: {wrong} seeds left the band"]) + (
        [] if len(right) == SEEDS else [f"{name}: {SEEDS - len(right)} runs at twice the rate stayed"]
    )


def seeds(random: np.random.Generator, count: int, looks: int, kind: str) -> Floats:
    """What seeds add to the logarithm of a loss at every evaluation: per seed a row."""
    lasts = 0.002 * random.standard_normal((count, 1))
    if kind == "grows":
        found: Floats = 0.002 * np.cumsum(random.standard_normal((count, looks)), axis=1) / math.sqrt(looks)
        return found
    passes = random.standard_normal((count, looks))
    for look in range(1, looks):
        passes[:, look] = 0.8 * passes[:, look - 1] + 0.6 * passes[:, look]
    share = {"lasts": 0.0003, "both": 0.002, "passes": 0.006}[kind]
    passes *= share * (1.1 - np.linspace(0.0, 1.0, looks))
    return lasts + passes


def simulated(kind: str, runs: int) -> tuple[float, list[float]]:
    """Percent of ends at 30 % that are held, and of runs of the family that leave it by chance, of 20 and 100 looks."""
    random, held, away = np.random.default_rng(0), 0, []
    reach = float(students_t(np.array([0.95]), runs - 1)[0])
    outer = float(students_t(np.array([(1 + BAND) / 2]), runs - 1)[0])
    for looks in BY_CHANCE:
        left = 0
        for _ in range(SIMULATED):
            curves = seeds(random, runs + 1, looks, kind)
            own, others = curves[0], curves[1:]
            if looks == 20:
                then, ends = others[:, 6], others[:, -1]
                held += abs(carried(then, ends, float(own[6])) - own[-1]) <= reach * missed_by(then, ends)
            spread = np.hypot(others.std(axis=0, ddof=1) * math.sqrt(1 + 1 / runs), MODEL_ERROR)
            outside = np.abs(own - others.mean(axis=0)) > outer * spread
            left += bool((outside[1:] & outside[:-1]).any())
        away.append(100 * left / SIMULATED)
    return 100 * held / SIMULATED, away


def main() -> int:
    """Prints the tables of docs/forecast.md; 1 where a limit is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args().folder
    logging.disable(logging.WARNING)
    missed: list[str] = []
    print("| runs | median error at 30 / 50 / 70 %, % | in the interval | its width, % | seeds left | twice the rate |")
    print("|" + "---|" * 6)
    with tempfile.TemporaryDirectory() as made:
        folder = asked or Path(made)
        missed += real("continued from shared weights", folder / "continued", shared=True)
        missed += real("from scratch", folder / "scratch", shared=False)
    print("\n| what a seed adds | runs | in the 90 % interval, % | left by chance in 20 evaluations, % | in 100, % |")
    print("|" + "---|" * 5)
    for kind in ("lasts", "both", "passes", "grows"):
        for runs in (3, 5, 8):
            held, away = simulated(kind, runs)
            print(f"| {kind} | {runs} | {held:.0f} | {' | '.join(f'{one:.1f}' for one in away)} |", flush=True)
            missed += [] if held >= HELD else [f"{kind}, {runs} runs: {held:.0f} % held"]
            over = [one for one, most in zip(away, BY_CHANCE.values(), strict=True) if one > most]
            missed += [f"{kind}, {runs} runs: {one:.1f} % left by chance" for one in over]
    print("ok" if not missed else "FAILED: " + "; ".join(missed))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
