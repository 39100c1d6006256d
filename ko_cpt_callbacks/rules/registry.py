"""The rules: one file, one class, one finding code, one test file each. `ALL_RULES` is the whole list.

A rule is a value (its thresholds) with three pure methods; its state is a plain frozen value that never holds
a NaN, so that two folds over the same rows compare equal. Rules never import each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.baseline import Baseline
from ko_cpt_callbacks.core.patience import Patience
from ko_cpt_callbacks.core.reference import AUTO, checked_stage
from ko_cpt_callbacks.core.retention import retention_names
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.baseline.baseline_ahead import BaselineAhead
from ko_cpt_callbacks.rules.baseline.baseline_behind import BaselineBehind
from ko_cpt_callbacks.rules.baseline.not_comparable import NotComparable
from ko_cpt_callbacks.rules.baseline.stage_regression import StageRegression
from ko_cpt_callbacks.rules.curve.diverged import Diverged
from ko_cpt_callbacks.rules.curve.level_shift import LevelShift
from ko_cpt_callbacks.rules.curve.loss_spike import LossSpike
from ko_cpt_callbacks.rules.curve.memorising import Memorising
from ko_cpt_callbacks.rules.curve.no_learning import NoLearning
from ko_cpt_callbacks.rules.curve.non_finite import NonFinite
from ko_cpt_callbacks.rules.curve.plateau import Plateau
from ko_cpt_callbacks.rules.curve.run_seam import RunSeam
from ko_cpt_callbacks.rules.generalization.eval_set_changed import EvalSetChanged
from ko_cpt_callbacks.rules.generalization.eval_too_small import EvalTooSmall
from ko_cpt_callbacks.rules.generalization.forgetting import Forgetting
from ko_cpt_callbacks.rules.generalization.gap_widening import GapWidening
from ko_cpt_callbacks.rules.generalization.no_improvement import NoImprovement
from ko_cpt_callbacks.rules.generalization.overfitting import Overfitting
from ko_cpt_callbacks.rules.level.below_floor import BelowFloor
from ko_cpt_callbacks.rules.level.loss_scaled import LossScaled
from ko_cpt_callbacks.rules.level.padding_in_loss import PaddingInLoss
from ko_cpt_callbacks.rules.note.attempt_differs import AttemptDiffers
from ko_cpt_callbacks.rules.note.early_stopping_twice import EarlyStoppingTwice
from ko_cpt_callbacks.rules.note.error_bar_absent import ErrorBarAbsent
from ko_cpt_callbacks.rules.note.exact_loss_absent import ExactLossAbsent
from ko_cpt_callbacks.rules.note.foreign_record import ForeignRecord
from ko_cpt_callbacks.rules.note.nan_filter_on import NanFilterOn
from ko_cpt_callbacks.rules.note.no_first_evaluation import NoFirstEvaluation
from ko_cpt_callbacks.rules.note.not_enough_data import NotEnoughData
from ko_cpt_callbacks.rules.note.record_behind import RecordBehind
from ko_cpt_callbacks.rules.note.rule_failed import RuleFailed
from ko_cpt_callbacks.rules.note.stopped_before import StoppedBefore
from ko_cpt_callbacks.rules.note.trackers_not_reached import TrackersNotReached
from ko_cpt_callbacks.rules.note.two_writers import TwoWriters
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.rules.setup.adapters_frozen import AdaptersFrozen
from ko_cpt_callbacks.rules.setup.embeddings_frozen import EmbeddingsFrozen
from ko_cpt_callbacks.rules.setup.embeddings_not_padded import EmbeddingsNotPadded
from ko_cpt_callbacks.rules.setup.embeddings_untied import EmbeddingsUntied
from ko_cpt_callbacks.rules.setup.eos_not_trained import EosNotTrained
from ko_cpt_callbacks.rules.setup.eval_in_training import EvalInTraining
from ko_cpt_callbacks.rules.setup.half_precision_modules import HalfPrecisionModules
from ko_cpt_callbacks.rules.setup.metric_not_delivered import MetricNotDelivered
from ko_cpt_callbacks.rules.setup.no_trainable_parameters import NoTrainableParameters
from ko_cpt_callbacks.rules.setup.prompt_in_loss import PromptInLoss
from ko_cpt_callbacks.rules.setup.worst_model_kept import WorstModelKept
from ko_cpt_callbacks.rules.target.target_implausible import TargetImplausible
from ko_cpt_callbacks.rules.target.target_inconclusive import TargetInconclusive
from ko_cpt_callbacks.rules.target.target_met import TargetMet
from ko_cpt_callbacks.rules.target.target_missed import TargetMissed

__all__ = [
    "ALL_RULES",
    "TASKS",
    "AdaptersFrozen",
    "AttemptDiffers",
    "BaselineAhead",
    "BaselineBehind",
    "BelowFloor",
    "Diverged",
    "EarlyStoppingTwice",
    "EmbeddingsFrozen",
    "EmbeddingsNotPadded",
    "EmbeddingsUntied",
    "EosNotTrained",
    "ErrorBarAbsent",
    "EvalInTraining",
    "EvalSetChanged",
    "EvalTooSmall",
    "ExactLossAbsent",
    "ForeignRecord",
    "Forgetting",
    "GapWidening",
    "HalfPrecisionModules",
    "LevelShift",
    "LossScaled",
    "LossSpike",
    "Memorising",
    "MetricNotDelivered",
    "NanFilterOn",
    "NoFirstEvaluation",
    "NoImprovement",
    "NoLearning",
    "NoTrainableParameters",
    "NonFinite",
    "NotComparable",
    "NotEnoughData",
    "Overfitting",
    "PaddingInLoss",
    "Plateau",
    "PromptInLoss",
    "RecordBehind",
    "Rule",
    "RuleFailed",
    "RunSeam",
    "StageRegression",
    "StoppedBefore",
    "TargetImplausible",
    "TargetInconclusive",
    "TargetMet",
    "TargetMissed",
    "TrackersNotReached",
    "TwoWriters",
    "WorstModelKept",
    "rules_for",
]

TASKS: Final = ("cpt", "sft", "other")
"""What a run can be declared to be: continued pretraining, supervised fine-tuning, anything else."""


def rules_for(
    targets: Sequence[Target] = (),
    task: str = "cpt",
    codes: Collection[str] | None = None,
    *,
    patience: Patience | None = None,
    retention: Sequence[str] = (),
    baseline: Baseline | None = None,
    stage: str = AUTO,
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

    Raises:
        ConfigurationError: For a task, a code or a stage that is unknown.

    >>> [rule.code for rule in rules_for(codes=["non-finite"])]
    ['non-finite']
    """
    if task not in TASKS:
        raise ConfigurationError(f"task: found {task!r}, expected one of {', '.join(TASKS)}")
    told = tuple(targets)
    if baseline is not None:
        checked_stage(baseline, stage)
    rules: tuple[Rule, ...] = (
        NoTrainableParameters(),
        AdaptersFrozen(),
        EmbeddingsFrozen(),
        EmbeddingsUntied(),
        EmbeddingsNotPadded(),
        HalfPrecisionModules(),
        PromptInLoss(task),
        EosNotTrained(),
        WorstModelKept(),
        MetricNotDelivered(),
        EvalInTraining(),
        TrackersNotReached(),
        ErrorBarAbsent(),
        ExactLossAbsent(),
        NonFinite(),
        PaddingInLoss(),
        LossScaled(tuple(retention)),
        BelowFloor(task),
        RunSeam(),
        LossSpike(),
        Diverged(),
        LevelShift(),
        AttemptDiffers(),
        EvalSetChanged(),
        TargetImplausible(told, task),
        EvalTooSmall(told),
        TargetMet(told, task),
        TargetMissed(told, task),
        TargetInconclusive(told, task),
        Overfitting(patience or Patience(), tuple(retention)),
        GapWidening(tuple(retention)),
        Memorising(retention=tuple(retention)),
        Forgetting(tuple(retention)),
        Plateau(),
        NoLearning(),
        NoImprovement(patience or Patience(), tuple(keys.key("eval", name) for name in retention_names(retention))),
        BaselineAhead(baseline, stage, tuple(retention)),
        BaselineBehind(baseline, stage, tuple(retention)),
        NotComparable(baseline, stage, tuple(retention)),
        StageRegression(tuple(retention)),
        EarlyStoppingTwice(),
        NanFilterOn(),
        NoFirstEvaluation(),
        StoppedBefore(),
        RuleFailed(),
        RecordBehind(),
        ForeignRecord(),
        TwoWriters(),
        NotEnoughData(),
    )
    known = [rule.code for rule in rules]
    unknown = sorted(set(codes or ()) - set(known))
    if unknown:
        raise ConfigurationError(f"rules: found {', '.join(unknown)}, expected codes out of {', '.join(known)}")
    return tuple(rule for rule in rules if codes is None or rule.code in codes)


ALL_RULES: Final[tuple[Rule, ...]] = rules_for()
"""The rules as they are without targets, for a run of continued pretraining."""
