"""Whether `target-unreachable` stops runs that reach their target, and when it stops those that do not.

``python benchmarks/heading.py``

A target is set from the end of a finished run: above it, which the run reaches, or below it. The run is then folded row
by row, as the callback folds it, and what is counted is whether and where the rule speaks:

* **made runs**: 20 seeds of each of five schedules. The loss is the Multi-Power Law's with numbers of its published
  fits, drawn anew for every seed, and noise; 20 to 60 evaluations.
* **public runs**: the evaluations, or else every fiftieth part of the training loss, of the curves of
  `benchmarks/forecast.py`.
* **tiny runs**: 20 real Trainers on CPU, three learning rates and four schedules, from weights that know nothing.

A run that reaches its target and is stopped is a failure, and the exit status is then 1. One core, two minutes.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

import forecast as measured  # noqa: E402

from ko_cpt_callbacks.forecast.posterior import annealing  # noqa: E402
from ko_cpt_callbacks.rules.monitor import Monitor  # noqa: E402
from ko_cpt_callbacks.rules.target.heading import TargetLikely, TargetUnreachable  # noqa: E402
from ko_cpt_callbacks.run.fold import PLAN, PLANNED_STEPS, RATE_AHEAD  # noqa: E402
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation  # noqa: E402
from ko_cpt_callbacks.watch.target import parse_targets  # noqa: E402

SEEDS = 20
ABOVE = (0.0025, 0.01)
"""How far above its end the reached targets are, part of the loss."""
BELOW = (0.01, 0.03, 0.1)
"""How far below its end those are that are not reached."""
TARGETS = (*ABOVE, *(-below for below in BELOW))
NODES = 400

Rate = Callable[[float], float]
SCHEDULES: dict[str, Rate] = {
    "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2,
    "cosine to 10 %": lambda part: 0.1 + 0.45 * (1 + math.cos(math.pi * part)),
    "linear": lambda part: 1 - part,
    "wsd": lambda part: min(1.0, (1 - part) / 0.2),
    "constant": lambda _: 1.0,
}


@dataclass(frozen=True)
class Run:
    """A finished run: its evaluations, and the rate of the whole."""

    name: str
    points: Sequence[tuple[int, float]]
    rates: Sequence[tuple[float, float]]
    last: int

    @property
    def end(self) -> float:
        """What the last evaluation comes to."""
        return self.points[-1][1]

    def rows(self) -> Iterator[Observation]:
        """The rows as a live run has them."""
        yield SetupObservation(0, PLAN, {PLANNED_STEPS: self.last})
        steps, rates = zip(*self.rates, strict=True)
        yield SetupObservation(0, RATE_AHEAD, {"scheduler": "LambdaLR", "steps": steps, "rates": rates})
        for step, loss in self.points:
            yield EvalObservation(step, exact_loss=loss)

    def spoken(self) -> dict[tuple[str, float], float]:
        """By rule and how far the target is above the end: the part of the run at which it speaks, where it does."""
        bounds = {f"eval_exact_loss<{self.end * (1 + aside)!r}": aside for aside in TARGETS}
        targets = parse_targets(list(bounds))
        known = {str(target): aside for target, aside in zip(targets, bounds.values(), strict=True)}
        rules = [rule(targets) for rule in (TargetUnreachable, TargetLikely)]
        found = Monitor(rules).fold(self.rows())[1]
        return {(one.code, known[one.values["target"]]): (one.step or 0) / self.last for one in found}


def made(kind: str, seed: int) -> Run:
    """A run by the Multi-Power Law: L0, A, exponent, annealing and noise as its published fits have them, spread."""
    random = np.random.default_rng(seed)
    last = int(random.integers(500, 20_000))
    warmup = max(1, int(random.uniform(0.0, 0.05) * last))
    steps = np.unique(np.linspace(0, last, NODES + 1).round())
    shape = SCHEDULES[kind]
    rates = np.array([min(s / warmup, 1.0) if s < warmup else shape((s - warmup) / (last - warmup)) for s in steps])
    sums = np.concatenate([[0.0], np.cumsum(np.diff(steps) * (rates[1:] + rates[:-1]) / 2)])
    top = int(np.argmax(rates))
    floor, alpha = random.uniform(1.5, 3.0), random.uniform(0.3, 0.7)
    fall, worth = floor * random.uniform(0.05, 0.3), floor * random.uniform(0.02, 0.055)
    effect = annealing(sums[top:], rates[top:], sums, float(random.choice([0.113, 0.01])) * 20_000 / last)
    loss = floor + fall * ((sums + 0.02 * last) / (0.3 * last)) ** -alpha - worth * effect
    count = int(random.integers(20, 61))
    at = np.unique(np.linspace(last / count, last, count).round())
    noise = floor * random.choice([2e-4, 1e-3, 3e-3]) * random.standard_normal(len(at))
    points = [(int(s), float(v)) for s, v in zip(at, np.interp(at, steps, loss) + noise, strict=True)]
    return Run(f"{kind} {seed}", points, list(zip(steps.tolist(), (3e-4 * rates).tolist(), strict=True)), last)


def public() -> Iterator[Run]:
    """Public curves, fifty points each, a point the mean of what lies before it."""
    for curve in measured.healthy(measured.DATA):
        parts = np.array_split(np.arange(len(curve.points)), min(50, len(curve.points)))
        points = [(int(curve.points[p[-1]][0]), float(np.mean([curve.points[i][1] for i in p]))) for p in parts]
        rates = [rate for place, rate in enumerate(curve.rates) if place % max(1, len(curve.rates) // NODES) == 0]
        yield Run(curve.name, points, [*rates, curve.rates[-1]] if rates[-1] != curve.rates[-1] else rates, curve.last)


def tiny(seed: int, folder: Path) -> Run:
    """A real run: its rows are those that the callback wrote."""
    import tiny as small
    from e2e import job

    from ko_cpt_callbacks import KoCPTCallback
    from ko_cpt_callbacks.forecast.outlook import outlook_of
    from ko_cpt_callbacks.run.reading import read_run

    kind = ("linear", "cosine", "warmup_stable_decay", "constant_with_warmup")[seed % 4]
    more = {"num_decay_steps": 20} if kind == "warmup_stable_decay" else {}
    model = small.llama(len(small.byte_level_tokenizer()), hidden=16, layers=1, seed=seed)
    job.build(
        folder, [KoCPTCallback(outputs=["files"])], model=model, max_steps=80, logging_steps=4, eval_steps=4, seed=seed,
        save_strategy="no", learning_rate=(1e-3, 3e-3, 1e-2)[seed % 3], warmup_steps=4, lr_scheduler_type=kind,
        lr_scheduler_kwargs=more,
    ).train()  # fmt: skip
    outlook = outlook_of(read_run(folder).observations())
    curve, ahead = outlook.curve("eval"), outlook.ahead
    assert curve is not None and ahead is not None
    rates = list(zip(ahead.steps, ahead.rates, strict=True))
    return Run(f"tiny {kind} {seed}", [(int(step), loss) for step, loss in curve.points], rates, 80)


def report(name: str, runs: Sequence[Run]) -> int:
    """Prints a row of the table; how many runs that reached their target were stopped."""
    spoken = [run.spoken() for run in runs]
    code, sure = TargetUnreachable.info.code, TargetLikely.info.code
    both = list(zip(runs, spoken, strict=True))
    wrong = [(run.name, above) for run, said in both for above in ABOVE if (code, above) in said]
    cells = []
    for below in BELOW:
        stopped = [said[code, -below] for said in spoken if (code, -below) in said]
        at = f" at {100 * float(np.median(stopped)):.0f} %" if stopped else ""
        cells.append(f"{100 * len(stopped) / len(runs):.0f} %{at}")
    likely = [(sure, -below) in said for said in spoken for below in BELOW]
    cells.append(f"{sum(likely)} of {len(likely)}")
    print(f"| {name} | {len(runs)} | {len(wrong)} of {len(runs) * len(ABOVE)} | {' | '.join(cells)} |", flush=True)
    for one, above in wrong:
        print(f"  stopped although it reached its target, {100 * above:g} % above its end: {one}")
    return len(wrong)


def main() -> int:
    """Prints the table; 1 where a run that reached its target was stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    logging.disable(logging.WARNING)
    below = " | ".join(f"{100 * one:g} % below the end: stopped, at" for one in BELOW)
    print(f"| runs | n | reached and stopped | {below} | called likely and not reached |")
    print("|" + "---|" * (4 + len(BELOW)))
    wrong = sum(report(f"made, {kind}", [made(kind, seed) for seed in range(seeds)]) for kind in SCHEDULES)
    if measured.DATA.is_dir():
        wrong += report("public", list(public()))
    with tempfile.TemporaryDirectory() as folder:
        wrong += report("tiny", [tiny(seed, Path(folder) / str(seed)) for seed in range(seeds)])
    print("ok" if not wrong else f"FAILED: {wrong} runs that reached their target were stopped")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
