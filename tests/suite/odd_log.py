"""Logs of plausible numbers in an implausible order: what a rule must survive, whatever it makes of it.

A log here is a run's rows as the Trainer or the callback writes them, with restarts (the step, the epoch, the token
counter or the learning rate begin anew, each with and without the others), NaN and infinite values, gaps, steps twice
and steps that fall, values that are huge, tiny or missing, ends in the middle and announcements that do not fit.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage, BaselineValue
from ko_cpt_callbacks.rules.monitor import Monitor, SetAside
from ko_cpt_callbacks.rules.note.note import RuleFailed
from ko_cpt_callbacks.rules.registry import ALL_RULES, rules_for
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Patience
from ko_cpt_callbacks.watch.target import parse_targets

__all__ = ["failures", "odd_rows", "rule_sets"]

_BAD: Final = (math.nan, math.inf, -math.inf)
_HUGE: Final = (1e300, -1e300, 1.7e308, 1e17, 3e5, 10**18, 10**400, 2**63)
_TINY: Final = (0.0, -0.0, 5e-324, 1e-300, 1e-12)
_KINDS: Final = (
    "plan", "stage", "padding-in-loss", "baseline-difference", "stage-difference", "stopped-before", "nan-filter-on",
    "exact-loss-absent", "no-first-evaluation", "early-stopping-twice", "trackers-not-reached",
    *(rule.code for rule in ALL_RULES), "",
)  # fmt: skip


_COUNTS: Final = (
    "parameters", "adapter_parameters", "trainable_parameters", "new_tokens", "tensors", "tokens", "found", "compared",
    "set_rows", "train_rows", "train_compared", "padded", "scored", "labels", "value_before", "value_after", "low",
    "high", "after", "steps",
)  # fmt: skip
_NAMES: Final = ("frozen", "trained", "modules", "reasons", "changed", "sets")


class _Writer:
    """The Trainer's counters, as they stand at the next row."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.every = draw.choice((1, 1, 5, 10, 10, 50, 500))
        self.step = draw.choice((0, 0, 0, draw.randrange(10**4), 10**9))
        self.per_epoch = draw.choice((3, 8, 20, 100, 5000)) * self.every
        self.epoch = draw.choice((0.0, 0.0, draw.uniform(0, 5)))
        self.tokens = 0
        self.pace = draw.choice((100, 1000, 4096, 10**12))
        self.level = draw.choice((draw.uniform(0.01, 1.0), draw.uniform(1.5, 4.0), draw.uniform(5.0, 12.0)))
        self.fall = draw.choice((0.0, 0.002, 0.02, 0.1, -0.02, -0.2))
        self.noise = draw.choice((0.0, 0.0, 0.001, 0.02, 0.3, 2.0))
        self.rate = draw.choice((0.0, 1e-5, 3e-4, 1.0))
        self.schedule = draw.choice((1.0, 0.97, 0.9, 1.05, 0.999))
        self.names = draw.sample(["eval", "eval_ko", "eval_en", "eval_old"], draw.randrange(0, 4))
        self.rounded = draw.random() < 0.4
        self.sick = 0  # rows whose loss is not finite, or 0 in its place
        self.away, self.up = 0, 1.0  # rows at another level, and by what factor
        self.columns = {
            name for name in ("grad_norm", "learning_rate", "epoch", "num_tokens", "tokens_seen", "nonfinite_steps")
            if draw.random() < 0.6
        }  # fmt: skip

    def restart(self) -> None:
        """Some of the counters begin anew, and the level may be another."""
        draw = self.draw
        if draw.random() < 0.5:
            self.step = draw.choice((0, max(0, self.step - draw.randrange(1, 20) * self.every)))
        if draw.random() < 0.5:
            self.epoch = draw.choice((0.0, self.epoch + draw.uniform(0.5, 3)))
        if draw.random() < 0.5:
            self.tokens = draw.choice((0, self.tokens * 3))
        if draw.random() < 0.5:
            self.rate = draw.choice((0.0, self.rate * 10, 3e-4, self.rate / 100))
        if draw.random() < 0.5:
            self.level *= draw.choice((0.3, 0.8, 1.2, 3.0, 100.0))
        if draw.random() < 0.2:
            self.fall = draw.choice((0.0, 0.02, -0.1))

    def advance(self) -> None:
        """The next row is due."""
        draw = self.draw
        self.sick = self.sick - 1 if self.sick else draw.choice((1, 2, 36)) if draw.random() < 0.02 else 0
        self.away = self.away - 1 if self.away else draw.choice((1, 3, 10, 30)) if draw.random() < 0.03 else 0
        self.up = self.up if self.away else draw.choice((0.5, 1.3, 2.0, 50.0))
        steps = self.every
        if draw.random() < 0.05:
            steps = draw.choice((0, 0, -steps, 10 * steps, 1000 * steps))
        self.step = max(0, self.step + steps)
        self.epoch += steps / self.per_epoch
        self.tokens = max(0, self.tokens + steps * self.pace)
        self.level *= 1 - self.fall
        self.rate *= self.schedule

    def training(self) -> dict[str, Any]:
        """A training row."""
        draw = self.draw
        row: dict[str, Any] = {"step": self.step, "loss": self.level + self.noise * draw.gauss(0, 1)}
        if self.away:
            row["loss"] *= self.up
        if self.rounded:
            row["loss"] = round(row["loss"], 4)
        if self.sick:
            row["loss"] = draw.choice((*_BAD, 0.0))
        known = {
            "grad_norm": abs(draw.gauss(1, 0.3)), "learning_rate": self.rate,
            "epoch": round(self.epoch, 2) if self.rounded else self.epoch, "num_tokens": self.tokens,
            "tokens_seen": self.tokens, "nonfinite_steps": 0,
        }  # fmt: skip
        row.update({name: value for name, value in known.items() if name in self.columns})
        return row

    def evaluation(self, name: str) -> dict[str, Any]:
        """An evaluation's row: the Trainer's loss, or the callback's numbers beside it."""
        draw = self.draw
        loss = self.level + draw.uniform(-0.1, 0.5)
        row = {"step": self.step, f"{name}_loss": loss, f"{name}_runtime": 1.0}
        if draw.random() < 0.6:
            tokens = draw.choice((1, 50, 9000, 10**7))
            row |= {
                f"{name}_exact_loss": loss, f"{name}_exact_loss_se": draw.choice((0.0, 0.01, 0.5)),
                f"{name}_ppl": 1.0, f"{name}_tokens": tokens, f"{name}_bytes": 3 * tokens,
                f"{name}_rows": draw.choice((1, 2, 30, 5000)), f"{name}_bits_per_byte": loss / 2,
                f"{name}_bits_per_byte_se": 0.01, f"{name}_nonfinite_batches": draw.choice((0, 0, 0, 1)),
                f"{name}_fingerprint": draw.choice(("utf8-00", "utf8-00", "utf8-01")),
            }  # fmt: skip
        elif draw.random() < 0.2:
            row[f"{name}_exact_loss_absent"] = "the model returned no logits"
        return row

    def setup(self) -> dict[str, Any]:
        """A set-up row, with numbers that its reader may not expect."""
        draw = self.draw
        values = {
            "planned_steps": draw.choice((0, -1, 10, 10**6, None, "many")),
            "scheduler_restarts": draw.choice((True, False, None)),
            "split": draw.choice(("train", "eval", "eval_ko", None)),
            "difference": draw.choice((0.1, -0.1, math.nan, None)), "se": draw.choice((0.01, 0.0, None, -1.0)),
            "rows": draw.choice((0, 1, 100, None)), "unit": draw.choice(("nats per token", "bits per byte", 3)),
            "baseline": "own",
            "before": draw.choice(("first", 3.0, math.inf)),
            "reason": "target-met", "reason_step": draw.choice((0, None)), "stops": True,
            "name": draw.choice(("full", "lora", 3, None)), "rule": "plateau", "error": "ValueError: example",
            **dict.fromkeys(_COUNTS, draw.choice((0, 1, 100, 10**9, 10**400))), "at_step": self.step,
            **dict.fromkeys(_NAMES, draw.choice((["a"], [], None, "a", [1]))), "outcome": draw.choice(("paired", "x")),
            "metric": draw.choice(("eval_ppl", "eval_loss", None)), "greater_is_better": draw.choice((True, False)),
        }  # fmt: skip
        kept = {name: value for name, value in values.items() if draw.random() < 0.7}
        return {"step": self.step, "kind": "setup", "setup": draw.choice(_KINDS), **kept}


def odd_rows(seed: int) -> list[dict[str, Any]]:
    """The rows of one log, always the same for a seed; 1 to some 200."""
    draw = random.Random(seed)
    writer = _Writer(draw)
    damage = draw.choice((0.0, 0.02, 0.1, 0.5))
    restarts = draw.choice((0.0, 0.03, 0.1, 0.4))
    rows: list[dict[str, Any]] = []
    for _ in range(draw.choice((1, 2, 3, 6, 12, 12, 18, 25, 40, 60, 80))):
        writer.advance()
        if draw.random() < restarts:
            writer.restart()
        new = [writer.training()] if draw.random() < 0.9 else []
        new += [writer.evaluation(name) for name in writer.names if draw.random() < 0.3]
        if draw.random() < 0.08:
            new.append(writer.setup())
        if draw.random() < 0.02:
            new.append({"step": writer.step, "train_loss": writer.level, "train_runtime": 1.0})
        for row in new:
            if draw.random() < damage:
                _damage(row, draw)
            rows.append(row)
            if draw.random() < 0.03:
                rows.append(dict(row))
    if draw.random() < 0.5:
        rows.append({"step": writer.step, "train_loss": writer.level, "train_runtime": 1.0})
    if draw.random() < 0.05:
        draw.shuffle(rows)
    return rows


def _damage(row: dict[str, Any], draw: random.Random) -> None:
    """One to three of a row's values become bad, huge, tiny, absent or negative."""
    for name in draw.sample(sorted(row), min(len(row), draw.choice((1, 1, 2, 3)))):
        value = row[name]
        if name == "step":
            row[name] = draw.choice((value, 0, 10**18, value + 0.0))
        elif not isinstance(value, int | float) or draw.random() < 0.15:
            row.pop(name)
        else:
            pool = draw.choice((_BAD, _BAD, _HUGE, _TINY, (-value, value * 1000)))
            row[name] = draw.choice(pool)


_TARGETS: Final = parse_targets([
    "eval_exact_loss<2.9@end", "eval_ko_loss<3.2@step:100,confirm=2", "eval_ko_ppl<20@tokens:500000",
    "eval_en_bits_per_byte<1.45", "eval_ko_exact_loss<-20%", "eval_ppl<-20%@step:200", "eval_ja_loss<20",
])  # fmt: skip
_BASELINE: Final = Baseline(
    "own", "a run", "continued pretraining", "OWN", stages=(
        BaselineStage("whole", values=(
            BaselineValue("loss", "eval", 2.7, 2.7, 2.7, "OWN", "measured", "", "eval_ko", 0.01, "utf8-00", "a.npz"),
            BaselineValue("bits_per_byte", "eval", 1.4, 1.35, 1.45, "D", "computed", "loss / bytes", "eval_ko", 0.01),
        )),
    ),
)  # fmt: skip


def rule_sets() -> tuple[tuple[Rule, ...], ...]:
    """All rules as they are, and all of them told of targets, a baseline, patience and a set to be kept."""
    told = [
        rules_for(WatchSpec(
            _TARGETS, task, patience=Patience(3, 0.001), retention=("old", "en<5%"), baseline=_BASELINE.as_dict()
        ))
        for task in ("cpt", "sft", "other")
    ]  # fmt: skip
    return rules_for(), rules_for(WatchSpec(task="other")), *told


def failures(rows: Sequence[dict[str, Any]], rules: Sequence[Rule]) -> Iterator[tuple[str, Exception]]:
    """Every rule that raises on a log: its code and what it raised. The monitor sets it aside, and asks the others on.

    Folded, closed, and each finding written as strict JSON with its sentence; so is what the summary tells.
    """
    seen = observations_of(rows)
    monitor = Monitor(rules)
    state, found = monitor.fold(seen)
    ended = monitor.close(state)
    yield from (
        (rule.code, RuntimeError(one.error))
        for rule, one in zip(rules, state.rules, strict=True)
        if isinstance(one, SetAside)
    )
    for finding in ended:
        if finding.code == RuleFailed().code:
            yield finding.values["rule"], RuntimeError(finding.values["error"])
    for finding in (*found, *ended):
        try:
            finding.as_dict()
        except Exception as error:
            yield finding.code, error
    try:
        progress = RunProgress()
        for one in seen:
            progress = progress.add(one)
        progress.summary().as_dict()
    except Exception as error:
        yield "summary", error
