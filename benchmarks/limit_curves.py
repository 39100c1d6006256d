"""What a limit of a rule changes: recall and alarms with the limit halved, as it is, and doubled.

``python benchmarks/limit_curves.py [CODE …] [--seeds 0-1] [--most-rows 700]``

The old kinds of the labelled suite (`detection.py`), healthy runs and those with a fault of the code. A limit is one
that a user can set (``rules={"level-shift": {"sure": 5}}``). Signals are folded once a run and all variants of the
rules are asked beside each other, outside a monitor: what the kind of trainer leaves out is not left out here. Prints a
table in Markdown, a line for each limit that changes anything, and names the others. Use the seeds that are tuned on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from detection import several
from suite.generator import kinds, make
from suite.run import LabelledRun
from suite.score import Score, verdict

from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.rules.rule import Rule, limits_of
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.rows import observations_of
from ko_cpt_callbacks.signal.signals import SILENT
from ko_cpt_callbacks.watch.spec import WatchSpec

CODES = ("level-shift", "loss-spike", "diverged", "overfitting", "gap-widening")


def variants(rule: Rule) -> Iterator[tuple[tuple[str, float], Rule]]:
    """The rule as it is (of no limit, times one), and with each limit halved and doubled."""
    yield ("", 1.0), rule
    for name, value in limits_of(rule).items():
        for times in (0.5, 2.0):
            changed = (int if isinstance(value, int) else float)(value * times)
            if changed != value:
                yield (name, times), replace(rule, **{name: changed})  # type: ignore[type-var]


def judged(run: LabelledRun, rules: Mapping[Any, Rule]) -> dict[Any, list[Finding]]:
    """What each rule says of a run."""
    signals = SILENT
    states = {key: rule.initial() for key, rule in rules.items()}
    said: dict[Any, list[Finding]] = {key: [] for key in rules}
    for seen in observations_of(run.rows):
        signals = signals.add(seen)
        for key, rule in rules.items():
            if isinstance(seen, rule.asks):
                states[key], found = rule.step(states[key], seen, signals)
                said[key] += found
    for key, rule in rules.items():
        said[key] += rule.close(states[key], signals)
    return said


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", nargs="*", default=CODES)
    parser.add_argument("--seeds", type=several, default=[0, 1])
    parser.add_argument("--most-rows", type=int, default=700, help="longer logs are left out")
    asked = parser.parse_args()
    named = {rule.code: rule for rule in rules_for(WatchSpec(task="cpt")) if rule.code in asked.codes}
    rules = {(code, *key): one for code, rule in named.items() for key, one in variants(rule)}
    scores = {key: Score() for key in rules}
    for seed in asked.seeds:
        for name, (_, count) in kinds().items():
            for run in (make(name, number, seed) for number in range(count)):
                wanted = named if run.healthy else named.keys() & run.expected.keys()
                if wanted and len(run.rows) <= asked.most_rows:
                    for key, said in judged(run, {key: rules[key] for key in rules if key[0] in wanted}).items():
                        scores[key].add(verdict(replace(run, name=f"{run.name}@{seed}"), said))
    print("| code, limit | value | recall halved | as it is | doubled | alarms halved | as it is | doubled |")
    print("|---|---|---|---|---|---|---|---|")
    same = []
    for code, rule in named.items():
        for name, value in limits_of(rule).items():
            each = [scores.get((code, name, 0.5)), scores[code, "", 1.0], scores.get((code, name, 2.0))]
            recall = ["" if one is None else f"{one.recall().get(code, 0.0):.3f}" for one in each]
            alarms = ["" if one is None else str(len(one.alarms)) for one in each]
            if len(set(filter(None, recall))) == len(set(filter(None, alarms))) == 1:
                same.append(f"`{code}` `{name}`")
            else:
                print(f"| `{code}` `{name}` | {value:g} | {' | '.join(recall + alarms)} |")
    healthy = max(score.healthy for score in scores.values())
    faults = ", ".join(f"{scores[code, '', 1.0].expected[code]} of `{code}`" for code in named)
    print(f"\nSeeds {', '.join(map(str, asked.seeds))}: {healthy} healthy logs; with a fault, {faults}.")
    print(f"No difference here: {', '.join(same) or 'none'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
