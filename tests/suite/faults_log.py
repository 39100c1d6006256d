"""Failures that the log's other numbers show: seams, padding, NaN, impossible levels, too few rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from suite.draft import draw
from suite.run import LabelledRun, Row
from suite.schedule import schedule
from suite.shape import noise_of

__all__ = ["FAULTS"]

Kind = Callable[[np.random.Generator, float], LabelledRun]
NAN = float("nan")


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(max(high, low)))))


def _seam(variant: str) -> Kind:
    """Two runs in one log, and the signs of it."""

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        weak = variant.startswith("weak")
        rewarm = variant in ("rewarm", "rewarm-and-counter", "everything", "planned-again")
        kind = str(rng.choice(["cosine", "linear"])) if rewarm else None
        head = str(rng.choice(["trl", "modern", "old"])) if variant == "rewarm" else "trl"
        run = draw(
            rng, noise, least=60, header=head, tokens="varied", kind=kind, done=1.0, sd=_log_uniform(rng, 0.005, 0.05),
            fall=float(rng.uniform(0.3, 1.5)), epochs=1.0,
        )  # fmt: skip
        at = run.mid_epoch(0.4, 0.7, away=0)
        count, index = run.points, np.arange(run.points)
        signs: list[str] = []
        if rewarm:
            # The first run came down to (nearly) 0, the second warms up again: one plan would not.
            first = schedule(str(rng.choice(["cosine", "linear"])), at, 0.05, rng)
            warmup = float(rng.choice([0.05, 0.1, 0.2]))
            second = schedule(str(rng.choice(["cosine", "linear"])), count - at, warmup, rng)
            run.lr = np.concatenate([first, second * rng.uniform(0.5, 1.0)]) * run.peak
            run.true = run.true + np.where(index >= at, rng.uniform(0.0, 0.1) * np.exp(-(index - at) / 10.0), 0.0)
            signs.append("rate")
        if variant in ("counter-and-epoch", "rewarm-and-counter", "everything", "weak-counter"):
            assert run.tokens is not None
            run.tokens = np.where(index >= at, run.tokens - run.tokens[at - 1], run.tokens)
            signs.append("tokens")
        if variant in ("counter-and-epoch", "everything", "epoch-back", "weak-epoch"):
            back = float(run.epoch[at - 1]) if variant != "weak-epoch" else float(rng.uniform(0.05, 0.2))
            run.epoch_shift = np.where(index >= at, -back, 0.0)
            signs.append("epoch")
        if variant == "epoch-jump":
            run.epoch_shift = np.where(index >= at, float(rng.uniform(2.0, 8.0)), 0.0)
            assert run.tokens is not None
            run.tokens = np.where(index >= at, run.tokens - run.tokens[at - 1], run.tokens)
        if variant == "rate-jump-and-counter":
            assert run.tokens is not None
            run.lr = np.where(index >= at, run.lr * rng.uniform(0.2, 0.5), run.lr)
            run.tokens = np.where(index >= at, run.tokens - run.tokens[at - 1], run.tokens)
        rows = None
        if variant in ("steps-restart", "everything-from-zero"):
            run.steps = np.where(index >= at, run.steps - run.steps[at - 1], run.steps)
            run.ended = False
            run.evals.clear()
            if variant == "everything-from-zero":
                assert run.tokens is not None
                run.tokens = np.where(index >= at, run.tokens - run.tokens[at - 1], run.tokens)
        first_step, last_step = run.at(at), run.at(at + 12)
        if weak:
            # Live, a resume that counts its tokens anew: worth a note, no more.
            return run.run(
                f"run-seam/{variant}", {"run-seam": (first_step, last_step)}, size=1.0, onset=first_step,
                least={"run-seam": "info"},
            )  # fmt: skip
        return run.run(
            f"run-seam/{variant}", {"run-seam": (first_step, last_step)},
            allowed=("level-shift", "loss-spike", "plateau"), size=float(len(signs) or 2), onset=first_step, rows=rows,
        )  # fmt: skip

    return made


def _padding_from(rng: np.random.Generator, noise: float) -> LabelledRun:
    """From some row on every row is padded to one length and the pads count: the rate constant, the loss far below."""
    run = draw(rng, noise, least=50, header="trl", tokens="varied", sd=_log_uniform(rng, 0.005, 0.04), task="cpt")
    at = run.mid_epoch(0.25, 0.6)
    assert run.tokens is not None
    after = np.arange(run.points) - at
    constant = float(rng.choice([64, 128, 32])) * 512.0 * run.interval
    run.tokens = np.where(after >= 0, run.tokens[at - 1] + (after + 1) * constant, run.tokens)
    if rng.random() < 0.5:
        run.tokens = np.where(after >= 0, run.tokens - run.tokens[at - 1], run.tokens)
    low = run.true * rng.uniform(0.15, 0.5)
    share = 1 - np.exp(-np.clip(after + 1, 0, None) / rng.uniform(0.5, 5.0))
    run.extra = run.extra + share * (low - run.true)
    return run.run(
        "padding-in-loss/from-some-row", {"padding-in-loss": (run.at(at), run.at(at + 15))},
        allowed=("run-seam", "level-shift", "below-floor", "gap-widening"), size=float(low[-1]), onset=run.at(at),
    )  # fmt: skip


def _padding_quiet(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The rate becomes constant; the level was low enough before that the loss barely tells."""
    run = draw(rng, noise, least=60, header=str(rng.choice(["trl", "ours"])), tokens="varied")
    at = run.mid_epoch(0.3, 0.6)
    assert run.tokens is not None
    after = np.arange(run.points) - at
    run.tokens = np.where(after >= 0, run.tokens[at - 1] + (after + 1) * 32768.0 * run.interval, run.tokens)
    run.extra = run.extra - np.where(after >= 0, rng.uniform(0.05, 0.3) * run.true, 0.0)
    return run.run(
        "padding-in-loss/small", {"padding-in-loss": (run.at(at), run.at(at + 15))},
        allowed=("level-shift", "gap-widening", "below-floor"), onset=run.at(at),
    )  # fmt: skip


def _padding_all_along(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Padded from the first row: a constant rate, and a loss that collapses to a few tenths within some points."""
    run = draw(
        rng, noise, least=60, header="trl", tokens="packed", task="cpt", level=float(rng.uniform(0.1, 0.5)),
        fall=float(rng.uniform(3.0, 9.0)), early=0.003, sd=0.01, anneal=0.02, evals=0,
    )  # fmt: skip
    run.true = float(run.true[-1]) + (float(run.true[0]) - float(run.true[-1])) * np.exp(
        -np.arange(run.points) / rng.uniform(1.0, 4.0)
    )
    run.blur = run.blur * np.clip(run.true / run.true[0], 0.2, 1)
    return run.run(
        "padding-in-loss/all-along", {"padding-in-loss": (run.at(0), run.at(45))},
        allowed=("below-floor", "level-shift", "plateau"), onset=run.at(0),
    )  # fmt: skip


def _nan(variant: str) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        head = "old" if variant == "zero-old" else str(rng.choice(["modern", "trl"]))
        run = draw(rng, noise, least=30, header=head)
        at = int(rng.integers(run.points // 5, run.points - 4))
        least: dict[str, str] = {}
        onset = run.at(at)
        if variant == "loss":
            run.blur[at:] = NAN
            run.grad[at:] = NAN
        elif variant == "loss-episode":
            run.blur[at : at + int(rng.integers(1, 4))] = NAN
        elif variant == "infinite":
            run.blur[at : at + int(rng.integers(1, 3))] = rng.choice([np.inf, -np.inf])
        elif variant in ("zero", "zero-old"):
            # What the Trainer writes in place of NaN: a gain in the row where it starts, then 0.0 for ever.
            share = rng.uniform(0.5, 0.95)
            run.extra[at] += (share - 1.0) * run.true[at]
            run.extra[at + 1 :] = -run.true[at + 1 :]
            run.blur[at + 1 :] = 0.0
            run.grad[at:] = NAN
        elif variant == "scaler":
            points = np.sort(rng.choice(np.arange(2, run.points), int(rng.integers(3, 8)), replace=False))
            run.grad[points] = NAN
            onset = run.at(int(points[2]))
            return run.run("non-finite/scaler", {"non-finite": (onset, onset)}, size=float(len(points)), onset=onset)
        elif variant == "scaler-once":
            run.grad[at] = rng.choice([NAN, np.inf])
            least = {"non-finite": "info"}
            return run.run("non-finite/scaler-once", {"non-finite": (onset, onset)}, onset=onset, least=least, size=1.0)
        else:  # the evaluation alone
            run = draw(rng, noise, least=30, evals=8, header="modern")
            order = int(rng.integers(2, len(run.evals[0].at)))
            run.evals[0].blur[order] = rng.choice([NAN, np.inf])
            onset = run.at(int(run.evals[0].at[order]))
            rows = run.rows()
            name = f"{run.evals[0].prefix}_loss"
            for row in rows:
                if row["step"] == onset and name in row:
                    row[name] = NAN
            return run.run("non-finite/eval", {"non-finite": (onset, onset)}, onset=onset, rows=rows)
        least = {"non-finite": "error"}
        return run.run(
            f"non-finite/{variant}", {"non-finite": (onset, run.at(at + 1))},
            allowed=("level-shift", "below-floor", "diverged"), onset=onset, least=least,
        )  # fmt: skip

    return made


def _floor(variant: str) -> Kind:
    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        level = float(rng.uniform(0.15, 0.95))
        run = draw(
            rng, noise, least=60, task="cpt", level=level, anneal=0.0, tokens="none", done=1.0, evals=0,
            fall=float(rng.uniform(1.5, 3.0)) if variant == "falling" else 0.05, sd=_log_uniform(rng, 0.003, 0.03),
            early=float(rng.uniform(0.01, 0.1)), kind=str(rng.choice(["cosine", "linear", "constant"])),
        )  # fmt: skip
        below = np.flatnonzero(run.true < 1.0)
        first = int(below[0]) if len(below) else run.points
        if first + 25 >= run.points:  # ends too soon after: let it come down earlier
            run.true = run.true - (float(run.true[run.points // 2]) - 0.95)
            run.true = np.maximum(run.true, 0.1)
            first = int(np.flatnonzero(run.true < 1.0)[0])
        start = max(0, int(np.flatnonzero(run.true < 1.25)[0]))
        return run.run(
            f"below-floor/{variant}", {"below-floor": (run.at(start), run.at(first + 25))},
            allowed=("memorizing", "plateau", "level-shift"), size=level, onset=run.at(first),
            least={"below-floor": "info"},  # no row has bytes: a level in nats per token alone is a note
        )  # fmt: skip

    return made


def _few(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Nine rows or fewer, two evaluations or fewer."""
    run = draw(rng, noise, points=int(rng.integers(1, 10)), evals=int(rng.integers(0, 3)), done=1.0)
    for one in run.evals:
        one.at, one.blur = one.at[:2], one.blur[:2]
    last = run.at(run.points - 1)
    return run.run("not-enough-data/few", {"not-enough-data": (last, last)}, onset=last)


def _fewer(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Only an evaluation or two."""
    head = str(rng.choice(["modern", "ours"]))
    run = draw(rng, noise, points=int(rng.integers(1, 3)), evals=1, header=head, done=1.0)
    run.train_rows = False
    last = run.at(run.points - 1)
    rows: list[Row] = run.rows()
    return run.run("not-enough-data/evals", {"not-enough-data": (last, last)}, onset=last, rows=rows)


def _joined_and_padded(rng: np.random.Generator, noise: float) -> LabelledRun:
    """The public run of 2026: resumed with other settings, one point far up, then pads in the loss."""
    run = draw(
        rng, noise, points=int(rng.integers(200, 600)), header="trl", tokens="varied", task="cpt", kind="cosine",
        level=float(rng.uniform(2.4, 2.9)), fall=3.0, warmup=0.1, sd=0.022, evals=0, done=0.6, epochs=1.0,
    )  # fmt: skip
    at = int(rng.uniform(0.4, 0.6) * run.points)
    index = np.arange(run.points)
    after = index - at
    assert run.tokens is not None
    run.tokens = np.where(after >= 0, (after + 1) * 32768.0 * run.interval, run.tokens)
    run.lr = np.where(after >= 0, run.peak * (0.45 + 0.4 * after / run.points), run.lr)
    low = 0.45 + 1.3 * np.exp(-np.clip(after - 1, 0, None) / 3.0)
    run.true = np.where(after > 0, low, run.true)
    run.true[at] = rng.uniform(4.0, 10.0)
    run.blur = np.where(after > 0, noise_of("normal", run.points, rng) * 0.006 * noise, run.blur)
    step = run.at(at)
    return run.run(
        "joined/padded",
        {
            "run-seam": (step, run.at(at + 12)), "padding-in-loss": (step, run.at(at + 15)),
            "level-shift": (step, run.at(at + 30)), "below-floor": (step, run.at(at + 30)),
        },
        allowed=("loss-spike", "diverged", "plateau"), onset=step,
    )  # fmt: skip


FAULTS: dict[str, tuple[Kind, int]] = {
    "run-seam/rewarm": (_seam("rewarm"), 3),
    "run-seam/rewarm-and-counter": (_seam("rewarm-and-counter"), 3),
    "run-seam/counter-and-epoch": (_seam("counter-and-epoch"), 3),
    "run-seam/epoch-back": (_seam("epoch-back"), 1),
    "run-seam/epoch-jump": (_seam("epoch-jump"), 2),
    "run-seam/rate-jump-and-counter": (_seam("rate-jump-and-counter"), 2),
    "run-seam/steps-restart": (_seam("steps-restart"), 2),
    "run-seam/everything-from-zero": (_seam("everything-from-zero"), 2),
    "run-seam/everything": (_seam("everything"), 2),
    "run-seam/weak-counter": (_seam("weak-counter"), 2),
    "padding-in-loss/from-some-row": (_padding_from, 5),
    "padding-in-loss/small": (_padding_quiet, 4),
    "padding-in-loss/all-along": (_padding_all_along, 5),
    "non-finite/loss": (_nan("loss"), 3),
    "non-finite/loss-episode": (_nan("loss-episode"), 2),
    "non-finite/infinite": (_nan("infinite"), 2),
    "non-finite/zero": (_nan("zero"), 3),
    "non-finite/zero-old": (_nan("zero-old"), 2),
    "non-finite/scaler": (_nan("scaler"), 3),
    "non-finite/scaler-once": (_nan("scaler-once"), 2),
    "non-finite/eval": (_nan("eval"), 2),
    "below-floor/falling": (_floor("falling"), 5),
    "below-floor/all-along": (_floor("all-along"), 4),
    "not-enough-data/few": (_few, 5),
    "not-enough-data/evals": (_fewer, 3),
    "joined/padded": (_joined_and_padded, 3),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
