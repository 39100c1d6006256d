"""All rules, in the order in which they are asked, each told what the run must reach and what it was declared to be.

A rule is a value (its limits) with three pure methods. Its module stands once, in `_MODULES`; every rule that is
defined there is one of the list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from importlib import import_module
from inspect import isabstract
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import AUTO, checked_stage
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.limit import Limits, checked_limits, with_limits
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.run.retention import retention_names
from ko_cpt_callbacks.watch.stopping import Patience
from ko_cpt_callbacks.watch.target import Target

__all__ = ["ALL_RULES", "TASKS", "Rule", "rules_for"]

TASKS: Final = ("cpt", "sft", "other")
"""What a run can be declared to be: continued pretraining, supervised fine-tuning, anything else."""

_MODULES: Final = (
    "setup.check",
    "setup.prompt_in_loss",
    "setup.eval_in_training",
    "note.note",
    "curve.non_finite",
    "level.padding_in_loss",
    "level.loss_scaled",
    "level.below_floor",
    "curve.run_seam",
    "curve.loss_spike",
    "curve.diverged",
    "curve.level_shift",
    "note.attempt_differs",
    "generalization.eval_set_changed",
    "generalization.eval_too_small",
    "target.target_met",
    "target.target_missed",
    "target.target_inconclusive",
    "generalization.overfitting",
    "generalization.gap_widening",
    "curve.memorising",
    "generalization.forgetting",
    "curve.plateau",
    "curve.no_learning",
    "generalization.no_improvement",
    "baseline.baseline_ahead",
    "baseline.baseline_behind",
    "baseline.not_comparable",
    "baseline.stage_regression",
    "note.rule_failed",
    "note.record_behind",
    "note.foreign_record",
    "note.two_writers",
    "note.not_enough_data",
)


def _rules_of(module: str) -> Iterator[type[Rule]]:
    """The rules that a module defines, in their order; what they inherit from is none."""
    home = import_module(f"ko_cpt_callbacks.rules.{module}")
    for one in vars(home).values():
        own = isinstance(one, type) and issubclass(one, Rule) and one.__module__ == home.__name__
        if own and not isabstract(one) and hasattr(one, "info"):
            yield one


_CLASSES: Final = tuple(rule for module in _MODULES for rule in _rules_of(module))


def rules_for(
    targets: Sequence[Target] = (),
    task: str = "cpt",
    codes: Collection[str] | None = None,
    *,
    patience: Patience | None = None,
    retention: Sequence[str] = (),
    baseline: Baseline | None = None,
    stage: str = AUTO,
    limits: Limits | None = None,
) -> tuple[Rule, ...]:
    """All rules, told what the run must reach and what it was declared to be.

    Args:
        targets: What the run must reach; none by default.
        task: ``cpt``, ``sft`` or ``other`` (nothing declared).
        codes: Only the rules of these codes; ``None`` for all.
        patience: When a run stands still; never, by default.
        retention: Names of evaluation sets that do not count for that, nor for the baseline, and must not be forgotten;
            with a limit behind the name where it is not 3 % (``en<5%``).
        baseline: What the run is compared with; nothing, by default.
        stage: The baseline's stage; ``auto``: the one that the model at hand matches.
        limits: By code, limits by name, in place of the rules' own; a rule that is not asked may have some.

    Raises:
        ConfigurationError: For a task, a code, a stage or a limit that is unknown, and for a limit's value that cannot
            be used.

    >>> [rule.code for rule in rules_for(codes=["non-finite"])]
    ['non-finite']
    >>> rules_for(codes=["not-enough-data"], limits={"not-enough-data": {"min_evaluations": 5}})
    (NotEnoughData(min_train_points=10, min_evaluations=5),)
    """
    if task not in TASKS:
        raise ConfigurationError(f"task: found {task!r}, expected one of {', '.join(TASKS)}")
    if baseline is not None:
        checked_stage(baseline, stage)
    told = {
        "targets": tuple(targets),
        "task": task,
        "patience": patience or Patience(),
        "retention": tuple(retention),
        "leave_out": tuple(keys.key("eval", name) for name in retention_names(retention)),
        "baseline": baseline,
        "stage": stage,
    }
    rules = tuple(_told(rule, told) for rule in _CLASSES)
    known = [rule.code for rule in rules]
    unknown = sorted(set(codes or ()) - set(known))
    if unknown:
        raise ConfigurationError(f"rules: found {', '.join(unknown)}, expected codes out of {', '.join(known)}")
    own = checked_limits("limits", limits or {}, rules)
    return tuple(with_limits(rule, own) for rule in rules if codes is None or rule.code in codes)


def _told(rule: type[Rule], told: dict[str, object]) -> Rule:
    """A rule with what it asks to be told: its fields of those names."""
    asks = {one.name for one in dataclasses.fields(rule)}  # type: ignore[arg-type]
    return rule(**{name: value for name, value in told.items() if name in asks})


ALL_RULES: Final[tuple[Rule, ...]] = rules_for()
"""The rules as they are without targets, for a run of continued pretraining."""
