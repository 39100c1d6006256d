"""A run before it is written down: arrays over its log points that a kind of run bends, and the rows they give.

The curve is mostly the law of Tissue et al. (arXiv 2408.11029) in shares of the run: a power of the summed learning
rate, less a term for how far the rate has come down, which lags behind it; at times a plain exponential, which knows
no rate. Noise, header, number formats, evaluations and length are drawn from what public logs show.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from suite.run import LabelledRun, Row
from suite.schedule import SCHEDULES, schedule
from suite.shape import NOISES, curve, noise_of, pick_points

from ko_cpt_callbacks import keys

__all__ = ["Draft", "EvalSet", "draw"]

Floats = npt.NDArray[np.float64]
INTERVALS = (1, 5, 10, 10, 10, 20, 25, 50, 100, 500)
CPT_LEVELS = (1.35, 3.5)
OTHER_LEVELS = (0.35, 2.0)


@dataclass
class EvalSet:
    """A set that is evaluated at some of the log points.

    ``offset`` is what its text adds to the model's loss, ``sd`` how far two evaluations of one set differ for no
    reason, ``extra`` what else it shows, per log point; ``own`` adds this package's keys.
    """

    prefix: str
    at: npt.NDArray[np.int64]
    offset: float
    sd: float
    extra: Floats
    own: bool = False
    blur: Floats = field(default_factory=lambda: np.zeros(0))
    share: float = 1.0
    """How much of the model's fall this set shares."""


@dataclass
class Draft:
    """Arrays over the log points, and how they are to be written."""

    rng: np.random.Generator
    noise: float
    steps: npt.NDArray[np.int64]
    interval: int
    max_steps: int
    epochs: float
    lr: Floats
    peak: float
    true: Floats
    """The model's loss on the training text."""
    extra: Floats
    """What only the training rows show."""
    blur: Floats
    """Noise of the training rows, nats."""
    sd: float
    """Its standard deviation, as multiplied by ``noise``."""
    grad: Floats
    evals: list[EvalSet]
    header: str
    decimals: int | None
    epoch_decimals: int | None
    task: str
    ended: bool
    tokens: Floats | None = None
    tokens_key: str = keys.INPUT_TOKENS[0]
    train_rows: bool = True
    epoch_shift: Floats | None = None
    extra_keys: dict[str, Floats] = field(default_factory=dict)
    step_zero: bool = False

    @property
    def points(self) -> int:
        """How many log points."""
        return len(self.steps)

    @property
    def loss(self) -> Floats:
        """The training loss as logged, before rounding."""
        return self.true + self.extra + self.blur

    @property
    def epoch(self) -> Floats:
        """Epochs at the log points."""
        shift = 0.0 if self.epoch_shift is None else self.epoch_shift
        return np.asarray(self.steps / self.max_steps * self.epochs + shift, dtype=np.float64)

    def level(self) -> float:
        """The training level in the middle of the run."""
        return float(np.median(self.true + self.extra))

    def boundaries(self) -> list[int]:
        """Log points at which a new epoch has begun, in the order of the run."""
        whole = np.floor(np.asarray(self.steps / self.max_steps * self.epochs) - 1e-9)
        return [int(i) for i in np.flatnonzero(np.diff(whole) > 0) + 1]

    def mid_epoch(self, low: float, high: float, away: int = 3) -> int:
        """A log point between two shares of the log, away from epoch boundaries where that can be."""
        first, last = int(low * self.points), max(int(low * self.points) + 1, int(high * self.points))
        edges = self.boundaries()
        free = [i for i in range(first, last) if all(abs(i - edge) > away for edge in edges)]
        return int(self.rng.choice(free or list(range(first, last))))

    def run(
        self, kind: str, expected: dict[str, tuple[int, int]] | None = None, *, allowed: tuple[str, ...] = (),
        size: float = 0.0, onset: int | None = None, least: dict[str, str] | None = None, rows: list[Row] | None = None,
    ) -> LabelledRun:  # fmt: skip
        """The run with its label.

        Args:
            kind: As in `LabelledRun`.
            expected: Windows in *steps*.
            allowed: As in `LabelledRun`.
            size: As in `LabelledRun`.
            onset: As in `LabelledRun`.
            least: As in `LabelledRun`.
            rows: Instead of the rows that the arrays give.
        """
        return LabelledRun(
            name=kind, kind=kind, rows=self.rows() if rows is None else rows, expected=expected or {},
            allowed=frozenset(allowed), task=self.task, healthy=kind.startswith("healthy"), max_steps=self.max_steps,
            num_train_epochs=max(1, int(np.ceil(self.epochs))), size=size, onset=onset, least=least or {},
        )  # fmt: skip

    def at(self, point: int) -> int:
        """The step of a log point; beyond the last one, the last one's."""
        return int(self.steps[min(max(point, 0), self.points - 1)])

    def rows(self) -> list[Row]:
        """The log."""
        found: list[Row] = []
        loss = self.loss
        epoch = self.epoch
        evals: dict[int, list[Row]] = {}
        for one in self.evals:
            for order, point in enumerate(one.at):
                evals.setdefault(int(point), []).append(self._evaluation(one, order, int(point), float(epoch[point])))
        if self.step_zero:
            for one in self.evals:
                row = self._evaluation(one, 0, 0, 0.0)
                found.append({**row, "epoch": 0, "step": 0})
        for i in range(self.points):
            if self.train_rows:
                found.append(self._train(i, float(loss[i]), float(epoch[i])))
            found.extend(evals.get(i, ()))
        if self.ended and self.points:
            end = {
                "epoch": self._rounded(float(epoch[-1]), self.epoch_decimals), "step": int(self.steps[-1]),
                "total_flos": 1e17, "train_loss": float(np.mean(loss)), "train_runtime": 1234.5,
                "train_samples_per_second": 5.1, "train_steps_per_second": 0.6,
            }  # fmt: skip
            found.append(end)
        return found

    @staticmethod
    def _rounded(value: float, decimals: int | None) -> float:
        return value if decimals is None else round(value, decimals)

    def _train(self, i: int, loss: float, epoch: float) -> Row:
        row: Row = {"epoch": self._rounded(epoch, self.epoch_decimals)}
        if self.header in ("modern", "trl", "ours", "dpo"):
            row["grad_norm"] = float(self.grad[i])
        if self.header != "bare":
            row["learning_rate"] = float(self.lr[i])
        row["loss"] = self._rounded(loss, self.decimals)
        if self.header == "trl":
            row["entropy"] = loss * 0.98
            row["mean_token_accuracy"] = float(np.clip(0.95 - 0.18 * loss, 0.02, 0.99))
        if self.header == "ours":
            row[keys.PPL] = float(np.exp(min(loss, 50.0)))
            row[keys.NONFINITE_STEPS] = 0
            row[keys.TOKENS_PER_SECOND] = 4000.0
        if self.tokens is not None:
            row[self.tokens_key] = float(self.tokens[i]) if self.header == "trl" else int(self.tokens[i])
        for name, values in self.extra_keys.items():
            row[name] = float(values[i])
        row["step"] = int(self.steps[i])
        return row

    def _evaluation(self, one: EvalSet, order: int, point: int, epoch: float) -> Row:
        base = float(self.true[point])
        if one.share != 1.0:
            base = float(self.true[0] + one.share * (self.true[point] - self.true[0]))
        loss = base + one.offset + float(one.extra[point]) + float(one.blur[order])
        loss = max(loss, 1e-4)
        row: Row = {
            "epoch": self._rounded(epoch, self.epoch_decimals),
            f"{one.prefix}_loss": loss, f"{one.prefix}_runtime": 12.3, f"{one.prefix}_samples_per_second": 40.1,
            f"{one.prefix}_steps_per_second": 5.0, "step": int(self.steps[point]),
        }  # fmt: skip
        if one.own:
            def key(suffix: str) -> str:
                return keys.key(one.prefix, suffix)

            tokens, per_byte = 180_000, 1.0 / (3.1 * np.log(2.0))
            row[key(keys.EXACT_LOSS)] = loss - 0.004
            # One set, scored again and again: what two evaluations differ by is less than the set's own error.
            row[key(keys.EXACT_LOSS_SE)] = max(one.sd, 0.003) * 1.5
            row[key(keys.PPL)] = float(np.exp(min(loss - 0.004, 50.0)))
            row[key(keys.BITS_PER_BYTE)] = float((loss - 0.004) * per_byte)
            row[key(keys.BITS_PER_BYTE_SE)] = float(max(one.sd, 0.003) * 1.5 * per_byte)
            row[key(keys.TOKENS)], row[key(keys.BYTES)], row[key(keys.ROWS)] = tokens, int(tokens * 3.1), 400
            row[key(keys.NONFINITE_BATCHES)] = 0
            row[key(keys.FINGERPRINT)] = "f0"
        return row


def draw(
    rng: np.random.Generator, noise: float = 1.0, *, points: int | None = None, least: int = 12,
    kind: str | None = None, task: str | None = None, level: float | None = None, fall: float | None = None,
    sd: float | None = None, noise_kind: str | None = None, header: str | None = None, evals: int | None = None,
    epochs: float | None = None, warmup: float | None = None, done: float | None = None, tokens: str | None = None,
    early: float | None = None, anneal: float | None = None, offset: float | None = None,
    eval_sd: float | None = None, prefixes: tuple[str, ...] | None = None, plain: bool | None = None,
) -> Draft:  # fmt: skip
    """A healthy run, of which everything that is not given is drawn.

    Args:
        rng: The run's own.
        noise: Multiplies every noise.
        points: Log points.
        least: The fewest that are drawn.
        kind: Schedule.
        task: ``cpt``, ``sft`` or ``other``.
        level: Where the loss ends, nats.
        fall: How far it falls.
        sd: Standard deviation of the training rows' noise, before ``noise``.
        noise_kind: As in `noise_of`.
        header: ``modern``, ``old`` (no gradient norm), ``bare`` (no learning rate either), ``trl``, ``ours``.
        evals: Evaluations of each set; 0 for none.
        epochs: Planned epochs.
        warmup: Share of the run.
        done: Share of the plan that the log holds.
        tokens: ``varied``, ``packed`` or ``none``.
        early: As in `curve`.
        anneal: As in `curve`.
        offset: Of the evaluation set.
        eval_sd: Of the evaluations, before ``noise``.
        prefixes: Evaluation sets.
        plain: An exponential instead of the law.
    """
    count = pick_points(rng, least) if points is None else points
    share = (float(rng.uniform(0.45, 1.0)) if rng.random() < 0.3 else 1.0) if done is None else done
    planned = max(count, round(count / share))
    rise = float(rng.choice([0.0, 0.01, 0.03, 0.05, 0.1, 0.2])) if warmup is None else warmup
    rate = schedule(str(rng.choice(SCHEDULES)) if kind is None else kind, planned, rise, rng)
    what = str(rng.choice(["cpt", "cpt", "cpt", "sft", "other"])) if task is None else task
    if level is None:
        level = float(rng.uniform(*(CPT_LEVELS if what == "cpt" else OTHER_LEVELS)))
    if fall is None:
        fall = float(np.exp(rng.uniform(np.log(0.25), np.log(2.5)))) * (1.0 if what == "cpt" else 0.6)
    nominal = float(np.exp(rng.uniform(np.log(0.005), np.log(0.08)))) if sd is None else sd
    nominal = min(nominal, 0.06 * level if sd is None else 0.12 * level)
    interval = int(rng.choice(INTERVALS))
    drop = float(rng.uniform(0.01, 0.12)) * min(1.0, level / 2) if anneal is None else anneal
    first = float(np.exp(rng.uniform(np.log(0.005), np.log(0.1)))) if early is None else early
    true = curve(rate, level, fall, first, float(rng.uniform(0.3, 0.8)), drop)[:count]
    if rng.random() < 0.25 if plain is None else plain:
        true = level + fall * np.exp(-np.arange(count) / (planned * rng.uniform(0.03, 0.3)))
    peak = float(np.exp(rng.uniform(np.log(1e-5), np.log(5e-4))))
    spread = noise_of(str(rng.choice(NOISES)) if noise_kind is None else noise_kind, count, rng)
    head = str(rng.choice(["modern", "modern", "trl", "trl", "old", "ours", "bare"])) if header is None else header
    decimals: int | None = int(rng.choice([4, 4, 4, 4, 3])) if rng.random() < 0.85 else None
    grad = np.exp(rng.normal(0.0, rng.uniform(0.05, 0.35), count)) * rng.uniform(0.2, 3.0)
    grad *= 1.0 + 4.0 * np.exp(-np.arange(count) / 6.0)
    length = float(rng.choice([1.0, 1.0, 1.0, 0.6, 2.0, 3.0])) if epochs is None else epochs
    draft = Draft(
        rng=rng, noise=noise, steps=np.arange(1, count + 1) * interval, interval=interval,
        max_steps=planned * interval, epochs=length, lr=rate[:count] * peak, peak=peak, true=true,
        extra=np.zeros(count), blur=np.maximum(spread * nominal * noise, 0.02 - true), sd=nominal * noise,
        grad=grad, evals=[], header=head, decimals=decimals,
        epoch_decimals=2 if head in ("old", "bare") else None, task=what,
        ended=share == 1.0 and bool(rng.random() < 0.6),
    )  # fmt: skip
    _tokens(draft, tokens)
    _evals(draft, evals, offset, eval_sd, prefixes)
    return draft


def _tokens(draft: Draft, kind: str | None) -> None:
    rng = draft.rng
    if kind is None:
        kind = "varied" if draft.header in ("trl", "ours") else "none"
        if draft.header == "trl" and rng.random() < 0.25:
            kind = "packed"
    if kind == "none":
        return
    draft.tokens_key = keys.TOKENS_SEEN if draft.header == "ours" else str(rng.choice(keys.INPUT_TOKENS))
    per_step = float(rng.choice([2048, 4096, 8192, 16384, 32768]))
    if kind == "packed":
        draft.tokens = draft.steps * per_step
    else:
        each = np.maximum(1.0, np.round(draft.interval * per_step * rng.normal(0.7, 0.02, draft.points)))
        draft.tokens = np.cumsum(each)


def _evals(
    draft: Draft, count: int | None, offset: float | None, sd: float | None, prefixes: tuple[str, ...] | None
) -> None:
    rng = draft.rng
    if count is None:
        count = int(rng.choice([0, 0, 3, 5, 8, 15, 30, 60])) if prefixes is None else int(rng.choice([8, 12, 20, 40]))
    count = min(count, draft.points)
    if not count:
        return
    every = max(1, draft.points // count)
    at = np.arange(every - 1, draft.points, every)
    names = prefixes if prefixes is not None else (("eval",), ("eval",), ("eval_ko",), ("eval_ko", "eval_news"))[
        int(rng.integers(4))
    ]  # fmt: skip
    for name in names:
        aside = float(rng.choice([rng.normal(0.0, 0.08), -0.12, 0.25, 1.16])) if offset is None else offset
        aside = max(aside, 0.15 - float(np.min(draft.true)))
        spread = float(np.exp(rng.uniform(np.log(0.0008), np.log(0.006)))) if sd is None else sd
        draft.evals.append(
            EvalSet(
                prefix=name, at=at, offset=aside, sd=spread * draft.noise, extra=np.zeros(draft.points),
                own=draft.header == "ours", blur=rng.normal(0.0, spread * draft.noise, len(at)),
            )
        )  # fmt: skip
