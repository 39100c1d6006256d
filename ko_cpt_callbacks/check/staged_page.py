"""A judged staged training as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks.check.judgement import Judgement
from ko_cpt_callbacks.check.page import (
    doubt_lines,
    finding_lines,
    headline,
    indented,
    lines,
    next_steps,
    plural,
    section,
    with_error,
)
from ko_cpt_callbacks.check.staged import (
    JUDGED,
    NOT_BEGUN,
    UNREADABLE,
    Change,
    PlanJudgement,
    StageJudgement,
)
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.progress import EvalPoint

__all__ = ["plan_page"]

_WHOLE: Final = "ko-cpt check {path} shows a stage whole."


def plan_page(judged: PlanJudgement, path: str) -> RenderableType:
    """The stages side by side for each evaluation set, then what was found in each.

    Args:
        judged: The judgement.
        path: The folder as the user named it.
    """
    begun = [stage for stage in judged.stages if stage.judgement is not None]
    splits = dict.fromkeys(name for stage in begun if stage.judgement for name in stage.judgement.summary.splits)
    return Group(
        Text(printable(path), style="bold"),
        *lines([_counts(judged), *_not_asked(judged)]),
        *(part for split in splits for part in _set(judged, split)),
        *([] if splits else [Text(), indented(_training(judged))]),
        *(part for stage in judged.stages for part in _stage(stage)),
        *section("Not known", _absent(begun)),
        *section("What to do next", _next(begun)),
    )


def _counts(judged: PlanJudgement) -> str:
    states = [stage.state for stage in judged.stages]
    words = {JUDGED: "judged", NOT_BEGUN: "not yet begun", UNREADABLE: "cannot be read"}
    said = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
    return f"staged training, {plural(len(states), 'stage')}: {', '.join(said)} · plan {judged.plan.file}"


def _not_asked(judged: PlanJudgement) -> list[str]:
    if not judged.unasked:
        return []
    last = judged.stages[-1].planned.name
    return [f"not asked: {', '.join(judged.unasked)}: a target is the last stage's, and {last} was not judged"]


def _set(judged: PlanJudgement, split: str) -> list[RenderableType]:
    """One evaluation set: its table, and what to know about the changes."""
    changes = {change.delta.stage: change for change in judged.changes if change.delta.split == split}
    beside = any(change.baseline is not None for change in changes.values())
    retention = any(change.retention for change in changes.values())
    title = f"{split} (must not be forgotten; not judged)" if retention else split
    table = _table("first loss", "last loss", "bits/byte", "change", *(_heading(judged) if beside else []))
    for stage in judged.stages:
        if stage.judgement is None:
            table.add_row(printable(stage.planned.name), stage.state)
            continue
        table.add_row(*_head(stage.planned.name, stage.judgement), *_losses(stage.judgement, split),
                      *_change(changes.get(stage.planned.name), beside))  # fmt: skip
    return [Text(), Text(printable(title), style="bold"), indented(table), *lines(_notes(changes.values(), beside))]


def _training(judged: PlanJudgement) -> Table:
    """The stages of a run that was never evaluated."""
    table = _table("last training loss")
    for stage in judged.stages:
        if stage.judgement is None:
            table.add_row(printable(stage.planned.name), stage.state)
        else:
            loss = stage.judgement.summary.train.last_loss
            table.add_row(*_head(stage.planned.name, stage.judgement), "" if loss is None else with_error(loss, None))
    return table


def _table(*more: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("stage", overflow="fold")
    for title in ("tokens", "steps", *more):
        table.add_column(title, justify="right", overflow="fold")
    return table


def _heading(judged: PlanJudgement) -> list[str]:
    return [] if judged.baseline is None else [printable(judged.baseline.id)]


def _head(name: str, judgement: Judgement) -> tuple[str, str, str]:
    tokens, steps = judgement.summary.train.tokens_seen, judgement.counts.last_step
    return printable(name), "" if tokens is None else f"{tokens:,}", "" if steps is None else f"{steps:,}"


def _losses(judgement: Judgement, split: str) -> tuple[str, str, str]:
    seen = judgement.summary.splits.get(split)
    if seen is None:
        return "", "", ""
    bits = seen.last.bits_per_byte
    return (
        _loss(seen.first) if seen.first.step != seen.last.step else "",
        _loss(seen.last),
        "" if bits is None else with_error(bits, seen.last.bits_per_byte_se),
    )


def _loss(point: EvalPoint) -> str:
    if point.value is None or not point.finite:
        return "not finite"
    return with_error(point.value, point.se)


def _change(change: Change | None, beside: bool) -> list[str]:
    if change is None:
        return ["", ""] if beside else [""]
    delta = change.delta
    error = "" if delta.se is None else f" ± {delta.se:.3f}"
    own = "not comparable" if delta.difference is None else f"{delta.difference:+.3f}{error}"
    other = "" if change.baseline is None else f"{change.baseline.difference:+.3f}"
    return [own, other] if beside else [own]


def _notes(changes: Iterable[Change], beside: bool) -> list[str]:
    """What to know about the changes of one set; nothing where there is none."""
    listed = list(changes)
    if not listed:
        return []
    units = dict.fromkeys(change.delta.unit for change in listed if change.delta.unit is not None)
    notes = [f"change: the end of the stage less the end of the stage before, in {' or '.join(units)}"] if units else []
    for change in listed:
        delta = change.delta
        reasons = [catalogue().deltas.get(code, code) for code in delta.reasons]
        if not change.ended:
            reasons.append("the stage has not ended, so this is no verdict on it")
        if reasons:
            notes.append(f"{delta.stage}: {delta.outcome}: {'; '.join(reasons)}")
    first = next((change.baseline for change in listed if change.baseline is not None), None)
    if beside and first is not None:
        whose = f"{first.unit} of its own text" + (" and tokenizer" if first.unit != "bits per byte" else "")
        notes.append(f"{first.baseline}: in {whose} (grade {first.grade}), to look at, not to be judged by")
    return notes


def _stage(stage: StageJudgement) -> list[RenderableType]:
    title = f"{stage.planned.name} · {stage.planned.folder}" + (f" · trains {stage.trains}" if stage.trains else "")
    shown: list[RenderableType] = [Text(), Text(printable(title), style="bold")]
    if stage.judgement is not None:
        judged = stage.judgement
        return [*shown, *doubt_lines(judged), indented(headline(judged)), *finding_lines(judged)]
    return [*shown, *lines([f"Cannot be read: {stage.message}" if stage.message else "Not yet begun."])]


def _absent(begun: Iterable[StageJudgement]) -> list[str]:
    """What stages lack, each once, with the stages that lack it."""
    lacking: dict[str, list[str]] = {}
    for stage in begun:
        for item in () if stage.judgement is None else stage.judgement.absences:
            lacking.setdefault(item.message, []).append(stage.planned.name)
    return [f"{', '.join(names)}: {message}" for message, names in lacking.items()]


def _next(begun: Iterable[StageJudgement]) -> list[str]:
    listed = [stage for stage in begun if stage.judgement is not None]
    steps = dict.fromkeys(step for stage in listed for step in (next_steps(stage.judgement) if stage.judgement else ()))
    nothing = "Nothing needs to be done."
    found = [step for step in steps if step != nothing] or [nothing]
    return [*found, _WHOLE.format(path=listed[0].planned.path)] if listed else found
