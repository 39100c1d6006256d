"""Which figures of a baseline a run may be compared with, or why none; the target that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import PRETRAINING, Baseline, BaselineStage, BaselineValue
from ko_cpt_callbacks.compare.value import Reason
from ko_cpt_callbacks.errors import ConfigurationError, near_miss
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.watch.argument import AUTO, BaselineData
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import END, Target, refused

if TYPE_CHECKING:
    from ko_cpt_callbacks.metrics.row_sums import RowSums

__all__ = [
    "AUTO", "Reference", "bits_of", "checked_stage", "read_baseline", "reference_of", "target_from_baseline",
    "watched_baseline",
]  # fmt: skip

_EVAL: Final = "eval"


@dataclass(frozen=True, slots=True)
class Reference:
    """The figures of one stage on one set of held-out text.

    Args:
        stage: Name of the stage.
        set: Name of the text, empty where the source does not name it.
        loss: Nats per token (a reported perplexity is turned into one); None where there is none.
        bits: Bits per byte; None where there are none.
    """

    stage: str
    set: str
    loss: BaselineValue | None
    bits: BaselineValue | None

    @property
    def fingerprint(self) -> str | None:
        """Which text it was measured on; None where not known."""
        return next((value.fingerprint for value in (self.loss, self.bits) if value and value.fingerprint), None)

    @property
    def rows_file(self) -> str | None:
        """File with the per-row sums; None where there is none."""
        return next((value.rows_file for value in (self.loss, self.bits) if value and value.rows_file), None)

    def contradicts(self, rows: RowSums) -> str | None:
        """What in the per-row sums of its file contradicts its figures; None where nothing does."""
        loss = self.loss.value if self.loss is not None and self.loss.origin == "measured" else None
        tokens, bytes = next(((value.tokens, value.bytes) for value in (self.loss, self.bits) if value), (None, None))
        return rows.contradiction(loss=loss, tokens=tokens, bytes=bytes, fingerprint=self.fingerprint)


def checked_stage(baseline: Baseline, stage: str | None) -> str | None:
    """The name of a stage that was asked for; None for ``auto`` and where none was.

    Raises:
        ConfigurationError: If the baseline has no stage of that name; says which it has.
    """
    if stage is None or stage == AUTO:
        return None
    names = [item.name for item in baseline.stages]
    if stage in names:
        return stage
    near = near_miss(stage, names)
    hint = "" if near is None else f" Did you mean {near!r}?"
    raise ConfigurationError(
        f"stage: found {stage!r}, expected a stage of baseline {baseline.id!r} ({', '.join(names) or 'it has none'}) "
        f"or {AUTO!r}; name one of them.{hint}"
    )


def read_baseline(data: BaselineData, stage: str | None) -> Baseline:
    """A baseline from its JSON values, if it has the stage.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: If it is no baseline.
        ConfigurationError: If it has no stage of that name.
    """
    baseline = Baseline.from_dict(data)
    checked_stage(baseline, stage)
    return baseline


def watched_baseline(spec: WatchSpec) -> Baseline | None:
    """What a run is compared with; None where with nothing.

    Raises:
        ConfigurationError: If the baseline does not have the stage.
    """
    return None if spec.baseline is None else read_baseline(spec.baseline, spec.stage)


def reference_of(
    baseline: Baseline, stage: str | None = None, *, set: str | None = None, fingerprint: str | None = None
) -> Reference | Reason:
    """The figures of a baseline that a loss on held-out text may be compared with, or why there are none.

    Args:
        baseline: The baseline.
        stage: Name of its stage; None or ``auto``: the last that is a reference and has figures.
        set: The run's evaluation set: taken where the baseline has one of that name.
        fingerprint: The run's text: a set of the baseline with the same text is taken before one of the same name.

    Raises:
        ConfigurationError: If the baseline has no stage of that name.
    """
    name = checked_stage(baseline, stage)
    if baseline.kind not in PRETRAINING or baseline.why_not:
        why = baseline.why_not.strip().rstrip(".") or "its objective was another"
        return Reason("not-a-reference", {"baseline": baseline.id, "kind": baseline.kind, "why": why})
    chosen = _last(baseline) if name is None else baseline.stage(name)
    if chosen is None:
        return Reason("no-figures", {"baseline": baseline.id})
    if not chosen.values:
        return Reason("stage-without-figures", {"baseline": baseline.id, "stage": chosen.name})
    if not chosen.reference:
        return Reason("stage-not-a-reference", {"baseline": baseline.id, "stage": chosen.name})
    held_out = [value for value in chosen.values if value.split == _EVAL]
    # What it has in other languages, to see what was forgotten, is no reference for this one.
    values = [value for value in held_out if not value.language]
    if not values:
        unknown = any(value.split == "unknown" for value in chosen.values)
        code = "reference-of-unknown-kind" if unknown else "reference-in-training"
        return Reason(code, {"baseline": baseline.id, "stage": chosen.name})
    sets = dict.fromkeys(value.set for value in values)
    same_text = (value.set for value in values if fingerprint is not None and value.fingerprint == fingerprint)
    # A user's own baseline holds its retention sets too: they stand for no set of another name.
    other = next((name for name in sets if not is_retention(name)), next(iter(sets)))
    taken = next(same_text, set if set is not None and set in sets else other)
    by_metric = {value.metric: value for value in reversed(values) if value.set == taken}
    loss = by_metric.get("loss") or _as_loss(by_metric.get("ppl"))
    return Reference(chosen.name, taken, loss, by_metric.get(keys.BITS_PER_BYTE))


def bits_of(baseline: Baseline, stage: str | None = None, *, set: str | None = None) -> BaselineValue | Reason:
    """The bits per byte among them, or why there are none.

    Raises:
        ConfigurationError: As `reference_of`.
    """
    found = reference_of(baseline, stage, set=set)
    if isinstance(found, Reason):
        return found
    return found.bits or Reason("reference-without-bytes", {"baseline": baseline.id, "stage": found.stage})


def _last(baseline: Baseline) -> BaselineStage | None:
    """The last stage that is a reference and has figures, held-out ones before others."""
    usable = [stage for stage in baseline.stages if stage.reference and stage.values]
    held_out = [stage for stage in usable if any(value.split == _EVAL for value in stage.values)]
    return next(iter(reversed(held_out or usable)), None)


def _as_loss(ppl: BaselineValue | None) -> BaselineValue | None:
    if ppl is None or ppl.low <= 0:
        return None
    se = None if ppl.se is None else ppl.se / ppl.value
    formula = f"ln of the {ppl.origin} {keys.PPL} {ppl.value:g}"
    low, value, high = (math.log(number) for number in (ppl.low, ppl.value, ppl.high))
    return replace(ppl, metric="loss", value=value, low=low, high=high, se=se, origin="computed", formula=formula)


def target_from_baseline(
    baseline: Baseline | str,
    *,
    stage: str | None = None,
    split: str = _EVAL,
    by: str = END,
    confidence: float = 0.95,
    confirm: int = 1,
) -> Target:
    """Make the target "as good as a baseline" in the one unit that does not depend on the tokenizer: bits per byte.

    The bound is the lowest value that the baseline's figure can stand for (the other reading of an open question, the
    rounding of its print), rounded down to four decimals: below it, a run is surely as good, as far as the text is
    alike.

    Args:
        baseline: The baseline, or the id of one.
        stage: Its stage; ``None``: the last that is a reference and has figures.
        split: The evaluation set by its prefix, as logged.
        by: The deadline, as `Target` has it.
        confidence: As `Target` has it.
        confirm: As `Target` has it.

    Raises:
        ConfigurationError: If there is no such baseline or stage, or it has no bits per byte of held-out text to be
            compared with; the text has the reason.
    """
    if isinstance(baseline, str):
        from ko_cpt_callbacks.compare.registry import find_baseline  # pydantic: not for those who have a baseline

        baseline = find_baseline(baseline)
    found = bits_of(baseline, stage, set=split)
    if isinstance(found, Reason):
        raise refused(
            f"from baseline {baseline.id!r}",
            "no figure that a run could be held to: " + catalogue().reason(found.as_dict()).rstrip("."),
            "bits per byte of held-out text",
            "name another baseline (ko-cpt baselines) or stage, or set the target on a number",
        )
    sure = math.floor(found.lowest * 1e4) / 1e4
    return Target(keys.BITS_PER_BYTE, sure, split, by, confidence, confirm)
