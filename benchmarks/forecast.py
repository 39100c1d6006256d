"""How far is a forecast from where the loss ended, how often is that in its interval, and what do other laws say?

``python benchmarks/forecast.py [--data FOLDER] [--more FOLDER]``

Curves: ``curves/`` and ``runs/`` of FOLDER (default ``../shared/data`` beside the repository). Nine 100M-parameter
pretraining curves (Multi-Power Law repository, MIT), three public runs of continued pretraining and instruction tuning,
one of them with its evaluations too: these are *healthy*. *Hard* ones are five tiny models, memorizing runs, and run 00
with a fault put in. Every curve is cut at 30, 50 and 70 %, and what is forecast is the mean of its last hundredth. The
schedule ahead is that of the log, as a Trainer knows it.

**Left out**: the prior of each family is the one of ten (what a decay is worth, how the curve begins) that is best on
the *other* families; **in-sample** is the package's own prior. A family is a model, its data and its first steps: the
curves of one prefix, the runs of one project. The width of the interval is theirs too: the narrowest at which nine in
ten forecasts of the kind of run that has the widest misses are held, each family with a prior of the others (conformal,
n + 1; of fewer than nine, all). **All pretraining left out** takes the nine curves as one family, which leaves four
curves to choose the prior by; with ``--more`` (``loss_curve_repo`` of the Multi-Power Law repository) also the 18 of
the other two sizes. Beside it: the last value, a power law in steps, Tissue's law and the Multi-Power Law, fitted by
least squares over a grid of their exponents (`forecast_laws`).

Exit status 1 where a limit is missed. One core, under three minutes, no network.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from forecast_laws import LAWS, Seen

from ko_cpt_callbacks.forecast.evidence import gathered, rate_sums, usable
from ko_cpt_callbacks.forecast.forecast import LEVEL, Forecast, forecast
from ko_cpt_callbacks.forecast.posterior import HEALTHY, Prior
from ko_cpt_callbacks.forecast.schedule import Schedule, inferred_schedule

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ORIGINS = (0.3, 0.5, 0.7)
TARGETS = (-0.1, -0.06, -0.02, 0.02, 0.06, 0.1)
PRETRAINING = "pretraining:"
NOISY = 0.006
"""Noise of the truth, part of it, from which on a curve is not in the medians."""
SIZES = ("25", "400")
"""Millions of parameters of further pretraining curves."""
PRIORS = tuple(
    replace(HEALTHY, kappa=(kappa, HEALTHY.kappa[1]), late_offset=late, width=1.0)
    for kappa in (0.03, 0.034, 0.038, 0.042, 0.046)
    for late in (0.3, 1.0)
)
LIMITS = {
    "median error, %": (0.6, 0.6, 0.32),
    "p90 error, %": (2.8, 1.6, 1.1),
    "median width, %": (5.5, 4.0, 2.0),
    "Brier score": (0.08, 0.05, 0.03),
    "confident and wrong, %": (3.0, 1.0, 1.0),
    "withheld, %": (15.0, 10.0, 10.0),
}
COVERED = (82.0, 98.0)
HARD = 80.0
MILLISECONDS = (60.0, 150.0)

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A finished curve."""

    name: str
    family: str
    points: Points
    rates: Points
    planned: int
    kind: str = "train"

    @property
    def last(self) -> int:
        """The step whose loss is forecast."""
        return int(self.points[-1][0])

    @property
    def truth(self) -> float:
        """Mean of the last hundredth."""
        return float(np.mean([loss for _, loss in self.points[-self.averaged :]]))

    @property
    def averaged(self) -> int:
        """Points of the last hundredth."""
        return max(1, round(0.01 * len(self.points)))

    @property
    def noisy(self) -> bool:
        """Whether the truth itself is not known well enough."""
        moves = np.abs(np.diff([loss for _, loss in self.points]))
        return 1.4826 * float(np.median(moves)) / math.sqrt(2 * self.averaged) / self.truth > NOISY

    def seen(self, part: float) -> Points:
        """What is known at a part of the run."""
        return [point for point in self.points if point[0] <= part * self.last]

    def schedule(self) -> Schedule:
        """The whole schedule."""
        return Schedule("logged", *(tuple(column) for column in zip(*self.rates, strict=True)))

    def forecast(self, part: float, prior: Prior = HEALTHY) -> Forecast:
        """The forecast at a part of the run."""
        return forecast(self.seen(part), self.schedule(), self.last, kind=self.kind, prior=prior)


def logged(path: Path, name: str, family: str, until: int | None = None) -> list[Curve]:
    """The training curve of a Trainer's log, and that of its evaluations where there are a dozen."""
    state = json.loads(path.read_text("utf-8"))
    rows = [row for row in state["log_history"] if until is None or row["step"] <= until]
    rates = [(row["step"], row["learning_rate"]) for row in rows if "learning_rate" in row]
    found = []
    for kind, key in (("train", "loss"), ("eval", "eval_loss")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if kind == "train" or len(points) >= 12:
            found.append(Curve(f"{name} {kind}", family, points, rates, state["max_steps"], kind))
    return found


def pretrained(path: Path, kind: str) -> Curve:
    """A curve of the Multi-Power Law repository; those of one prefix are one family."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [(float(row["step"]), float(row["lr"]), float(row["loss"])) for row in csv.DictReader(stream)]
    points, rates = [(s, loss) for s, _, loss in rows], [(s, rate) for s, rate, _ in rows]
    begun = "cosine" if "cosine" in path.stem else "one rate, then a decay"
    begun = "constant" if "constant_72000" in path.stem else begun
    return Curve(path.stem, f"{kind} {begun}", points, rates, int(rows[-1][0]))


def healthy(data: Path) -> list[Curve]:
    """The curves that the limits are for."""
    found = [pretrained(path, PRETRAINING) for path in sorted((data / "curves").glob("*.csv"))]
    for start, family, until in (("00", "medgemma", None), ("01", "medgemma", 3500), ("23", "vicuna", None)):
        (path,) = (data / "runs").glob(f"{start}_*.json")
        found.extend(logged(path, f"run {start}", family, until))
    return found


def hard(data: Path) -> list[Curve]:
    """Curves that must be withheld or covered: steep, memorizing, broken."""
    found = [one for path in sorted((data / "curves").glob("*.json")) for one in logged(path, path.stem, "tiny")]
    for start in ("02", "03", "15", "54", "59"):
        (path,) = (data / "runs").glob(f"{start}_*.json")
        found.extend(logged(path, f"run {start}", "memorizing"))
    (path,) = (data / "runs").glob("00_*.json")
    (base,) = logged(path, "run 00", "broken")
    begin = 0.25 * base.last
    faults: dict[str, Callable[[float, float], float]] = {
        "spike": lambda s, loss: loss * (1 + math.exp(-(s - begin) / 50)) if s > begin else loss,
        "jump up": lambda s, loss: loss * 1.15 if s > begin else loss,
        "jump down": lambda s, loss: loss * 0.8 if s > begin else loss,
        "rising": lambda s, loss: loss * (1 + (s - begin) / base.last) if s > begin else loss,
        "dead": lambda s, loss: 2.9 if s > begin else loss,
    }
    for name, fault in faults.items():
        points = [(s, fault(s, loss)) for s, loss in base.points]
        found.append(replace(base, name=f"run 00, {name}", points=points))
    return found


def error(curve: Curve, median: float | None) -> float:
    """Relative error in percent; of no forecast, NaN."""
    return math.nan if median is None else 100 * abs(median / curve.truth - 1)


def score(curve: Curve, found: Forecast) -> float:
    """The miss in half-widths of its side: at most 1 where the interval holds the end; of no forecast, no end."""
    if found.median is None or found.lower is None or found.upper is None:
        return math.inf
    side = found.upper - found.median if curve.truth > found.median else found.median - found.lower
    return abs(curve.truth - found.median) / side


def narrowest(scores: Sequence[float]) -> float:
    """The width that holds another such forecast with probability `LEVEL`: of fewer than nine, the largest score."""
    return sorted(scores)[min(len(scores), math.ceil(LEVEL * (len(scores) + 1))) - 1]


class Choice:
    """What each of `PRIORS` comes to on every curve, and which of them is chosen by which curves."""

    def __init__(self, curves: Sequence[Curve]) -> None:
        self.curves = curves
        self.tried = [[[curve.forecast(part, prior) for part in ORIGINS] for curve in curves] for prior in PRIORS]
        self.families = sorted({curve.family for curve in curves})

    def place(self, *left_out: str) -> int:
        """The prior with the lowest mean error on the families whose names do not begin so; each counts once."""
        means = np.zeros(len(PRIORS))
        for name in self.families:
            if not (left_out and name.startswith(left_out)):
                means += [
                    np.mean([error(curve, one.median) for curve, one in self._of(name, row)]) for row in self.tried
                ]
        return int(np.argmin(means))

    def _of(self, family: str, row: Sequence[Sequence[Forecast]]) -> list[tuple[Curve, Forecast]]:
        """The forecasts of a family, each with its curve."""
        both = zip(self.curves, row, strict=True)
        return [(curve, one) for curve, found in both if curve.family == family for one in found]

    def width(self, *left_out: str) -> float:
        """The narrowest that every kind of the other families grants, each family by a prior that leaves it out too."""
        scores: dict[str, list[float]] = {}
        for name in self.families:
            if not (left_out and name.startswith(left_out)):
                found = self._of(name, self.tried[self.place(*left_out, name)])
                scores.setdefault(name.partition(":")[0], []).extend(score(curve, one) for curve, one in found)
        return max(narrowest(of_kind) for of_kind in scores.values())

    def prior(self, *left_out: str) -> Prior:
        """Both."""
        return replace(PRIORS[self.place(*left_out)], width=self.width(*left_out))


def figures(curves: Sequence[Curve], found: Sequence[Forecast]) -> dict[str, float]:
    """What a set of forecasts of one origin comes to."""
    calm = [(curve, one) for curve, one in zip(curves, found, strict=True) if not curve.noisy and one.ends]
    errors = [error(curve, one.median) for curve, one in calm]
    wide = [100 * ((one.upper or 0.0) - (one.lower or 0.0)) / curve.truth for curve, one in calm]
    odds = [
        (one.odds_below(curve.truth + aside), aside > 0)
        for curve, one in zip(curves, found, strict=True)
        if not one.withheld
        for aside in TARGETS
    ]
    sure = [(p, met) for p, met in odds if p <= 0.05 or p >= 0.95]
    return {
        "median error, %": float(np.median(errors)),
        "p90 error, %": float(np.quantile(errors, 0.9)),
        "median width, %": float(np.median(wide)),
        "Brier score": float(np.mean([(p - met) ** 2 for p, met in odds])),
        "confident and wrong, %": 100 * float(np.mean([(p > 0.5) != met for p, met in sure])) if sure else 0.0,
        "withheld, %": 100 * float(np.mean([bool(one.withheld) for one in found])),
    }


def covered(curve: Curve, one: Forecast) -> bool:
    """Whether the interval holds the truth."""
    return one.lower is not None and one.upper is not None and one.lower <= curve.truth <= one.upper


def laws(curves: Sequence[Curve], part: float) -> dict[str, tuple[float, float]]:
    """Median and p90 error of other laws, of the same points."""
    errors: dict[str, list[float]] = {name: [] for name in LAWS}
    for curve in curves:
        points, schedule = curve.seen(part), curve.schedule()
        sums = rate_sums(schedule, points[-1][0], curve.last)
        evidence = None if sums is None else gathered(usable(points)[0], sums, curve.last, curve.kind)
        if evidence is None:
            continue
        whole = np.arange(1.0, curve.last + 1)
        seen = Seen(evidence.past.steps, evidence.past.losses, schedule.at(whole) / schedule.at(whole).max())
        for name, law in LAWS.items():
            errors[name].append(error(curve, law(seen) * evidence.scale))
    return {name: (float(np.median(one)), float(np.quantile(one, 0.9))) for name, one in errors.items()}


def told(name: str, curves: Sequence[Curve], prior: Prior) -> None:
    """Prints what a prior comes to on curves."""
    found = [[curve.forecast(part, prior) for curve in curves] for part in ORIGINS]
    of_part = [figures(curves, one) for one in found]
    errors = ", ".join(f"{one['median error, %']:.2f} / {one['p90 error, %']:.2f}" for one in of_part)
    held = sum(covered(curve, one) for part in found for curve, one in zip(curves, part, strict=True))
    chosen = f"kappa {prior.kappa[0]}, width {prior.width:.2f}"
    print(f"{name} ({chosen}): median / p90 error {errors} %, held {held} of {len(curves) * len(ORIGINS)}")


def further(more: Path, curves: Sequence[Curve]) -> list[str]:
    """Prints what the same runs with other sizes of the model come to, and what they choose for the 100M ones.

    Both sizes together choose what the package believes of a decay: what it comes to on the nine must be in the limits.
    """
    sizes = {
        size: [pretrained(path, f"{size}M {PRETRAINING}") for path in sorted((more / f"csv_{size}").glob("*.csv"))]
        for size in SIZES
    }
    others = [curve for curve in curves if not curve.family.startswith(PRETRAINING)]
    nine = [curve for curve in curves if curve.family.startswith(PRETRAINING)]
    for size, of_size in sizes.items():
        told(f"{size}M parameters, the package's own prior", of_size, HEALTHY)
        told(f"all nine left out, chosen with {size}M", nine, Choice([*others, *of_size]).prior())
    both = [curve for of_size in sizes.values() for curve in of_size]
    prior = Choice([*others, *both]).prior()
    told("all nine left out, chosen with both", nine, prior)
    of_part = [figures(nine, [curve.forecast(part, prior) for curve in nine]) for part in ORIGINS]
    missed = [
        f"{name} of the nine"
        for name, limits in LIMITS.items()
        if any(one[name] > limit for one, limit in zip(of_part, limits, strict=True))
    ]
    return missed + ([] if prior.kappa == HEALTHY.kappa else ["kappa"])


def row(name: str, cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    """Prints the tables of docs/forecast.md; 1 where a limit is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--more", type=Path, help="loss_curve_repo of thu-yao-01-luo/MultiPowerLaw")
    options = parser.parse_args()
    data = options.data
    if not data.is_dir():
        print(f"{data}: no such folder; nothing to forecast")
        return 0
    curves, missed = healthy(data), []
    choice = Choice(curves)
    priors = {name: choice.prior(name) for name in choice.families}
    pretraining = [curve for curve in curves if curve.family.startswith(PRETRAINING)]
    out = [[curve.forecast(part, priors[curve.family]) for curve in curves] for part in ORIGINS]
    own = [[curve.forecast(part) for curve in curves] for part in ORIGINS]
    of_out = [figures(curves, one) for one in out]
    of_own = [figures(curves, one) for one in own]
    print(f"{len(curves)} healthy curves of {len(priors)} families\n")
    print(row("each family left out of the tuning (in-sample)", [f"{part:.0%}" for part in ORIGINS] + ["limits"]))
    print(row("---", ["---"] * 4))
    for name, limits in LIMITS.items():
        cells = [f"{a[name]:.3g} ({b[name]:.3g})" for a, b in zip(of_out, of_own, strict=True)]
        missed += [f"{name} at {p:.0%}" for p, a, b in zip(ORIGINS, of_out, limits, strict=True) if a[name] > b]
        print(row(name, [*cells, " / ".join(f"{limit:g}" for limit in limits)]))
    inside = [[covered(c, one) for c, one in zip(curves, of_part, strict=True)] for of_part in out]
    share = 100 * float(np.mean(inside))
    missed += [] if COVERED[0] <= share <= COVERED[1] else ["coverage"]
    cells = [f"{100 * np.mean(one):.0f} %" for one in inside]
    print(row("in the 90 % interval", [*cells, f"pooled {share:.0f} %, {COVERED[0]:.0f}–{COVERED[1]:.0f} %"]))
    for name in sorted(priors):
        which = [index for index, curve in enumerate(curves) if curve.family == name]
        of_family = 100 * float(np.mean([part[index] for part in inside for index in which]))
        best = f"kappa {priors[name].kappa[0]}, late offset {priors[name].late_offset}, width {priors[name].width:.3f}"
        print(f"in the interval, {name}: {of_family:.0f} %; by the others: {best}")
        missed += [f"coverage of {name}"] if of_family < 65 else []
    width = choice.width()
    print(f"width by all: {width:.3f}; the package has {HEALTHY.width}\n")
    missed += ["width"] if HEALTHY.width != math.ceil(100 * width) / 100 else []
    told("all pretraining left out", pretraining, choice.prior(PRETRAINING))
    if options.more:
        missed += further(options.more, curves)
    print()
    print(row("median / p90 error, %", [f"{part:.0%}" for part in ORIGINS]))
    print(row("---", ["---"] * 3))
    calm = [curve for curve in curves if not curve.noisy]
    others = [laws(calm, part) for part in ORIGINS]
    for name in LAWS:
        print(row(name, [f"{one[name][0]:.2f} / {one[name][1]:.2f}" for one in others]))
        for part, one, ours in zip(ORIGINS, others, of_out, strict=True):
            if ours["median error, %"] >= one[name][0] or ours["p90 error, %"] >= one[name][1]:
                missed.append(f"{name} at {part:.0%}")
    print(row("**forecast**", [f"{one['median error, %']:.2f} / {one['p90 error, %']:.2f}" for one in of_out]))
    safe, bad = [], hard(data)
    for curve in bad:
        for part in ORIGINS:
            found = curve.forecast(part)
            safe.append(bool(found.withheld) or covered(curve, found))
            if not safe[-1]:
                print(f"  neither withheld nor covered: {curve.name} at {part:.0%}")
    print(f"\n{len(bad)} hard curves: withheld or covered {100 * np.mean(safe):.0f} % (limit {HARD:.0f} %)")
    missed += ["hard curves"] if 100 * np.mean(safe) < HARD else []
    kinds = [
        inferred_schedule([rate for rate in c.rates if rate[0] <= part * c.last], part * c.last, c.planned).kind
        for c in curves
        for part in ORIGINS
    ]
    print("schedule told from the log: " + ", ".join(f"{kind} {kinds.count(kind)}" for kind in sorted(set(kinds))))
    took = []
    long = Curve("long", "", [(s, 3 + 3 * s**-0.3) for s in range(1, 40_001)], [(1, 1.0), (40_000, 0.0)], 40_000)
    for curve in [*curves, long, long, long]:
        started = time.process_time()
        curve.forecast(0.5)
        took.append(1000 * (time.process_time() - started))
    median, p95 = float(np.median(took)), float(np.quantile(took, 0.95))
    print(f"CPU time of a forecast: median {median:.0f} ms, p95 {p95:.0f} ms, 20,000 points {took[-1]:.0f} ms")
    missed += ["time"] if median > MILLISECONDS[0] or p95 > MILLISECONDS[1] else []
    print("ok" if not missed else "FAILED: " + "; ".join(missed))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
