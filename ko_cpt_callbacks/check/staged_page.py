"""A judged staged training as a terminal shows it: after ``ko-cpt train``, and from ``ko-cpt check``."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import CheckOptions
from ko_cpt_callbacks.check.judgement import Judgement
from ko_cpt_callbacks.check.page import doubt_lines, next_steps, section, unchecked
from ko_cpt_callbacks.check.staged import PlanJudgement, StageChange, StageJudgement, judge_plan, start_delta
from ko_cpt_callbacks.check.terminal import page_width, print_lines
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.compare.stage_delta import StageDelta
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.formatter import loss_text, perplexity_text, signed_text
from ko_cpt_callbacks.messages.terminal import columns, printable
from ko_cpt_callbacks.run.facts import RunState
from ko_cpt_callbacks.run.finding import Finding, gravity
from ko_cpt_callbacks.run.page import (
    MOST_FINDINGS,
    PageLine,
    aligned,
    folded,
    listed,
    to_do,
    verdict_line,
    with_error,
)
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.run.reading import read_plan

__all__ = ["gpu_hours", "plan_lines", "print_closing_page"]

_TARGET: Final = "target-"
_NONE: Final = "–"
_STATES: Final = {"judged": "stages-judged", "not begun": "stages-not-begun", "unreadable": "stages-unreadable"}


def plan_lines(judged: PlanJudgement, path: str, width: int, *, whole: bool = False) -> list[PageLine]:
    """The verdict, the stages side by side for each evaluation set, what was found in each, and what to do.

    Args:
        judged: The judgement.
        path: The folder as the user named it.
        width: Columns.
        whole: Whether every finding and every piece of advice is shown.
    """
    said = catalogue(judged.language)
    findings = [finding for _, finding in judged.findings]
    splits = dict.fromkeys(name for _, stage in judged.judged for name in stage.summary.splits)
    lines = [verdict_line(judged.facts, findings, said), PageLine(path, "dim"), PageLine(_counts(judged, said), "dim")]
    for split in splits:
        lines += _set(judged, split, said, width)
    if not splits:
        lines += [PageLine(), *map(PageLine, aligned([*_training(judged, said)], width))]
    lines += [PageLine(), *_found(judged, said, whole=whole), PageLine()]
    lines += [PageLine(line) for line in _end(judged, said)]
    shown = folded(lines, width)
    return [*shown, *_details(judged, said, width)] if whole else shown


def _counts(judged: PlanJudgement, said: Catalogue) -> str:
    states = [stage.state for stage in judged.stages]
    parts = [said.line_of(name, count=states.count(state)) for state, name in _STATES.items() if state in states]
    return " · ".join([said.line_of("stages", count=len(states)), *parts])


def _set(judged: PlanJudgement, split: str, said: Catalogue, width: int) -> list[PageLine]:
    """One evaluation set: its table, and what to know about the changes."""
    changes = {change.delta.stage: change for change in judged.changes if change.delta.split == split}
    retention = any(change.retention for change in changes.values())
    title = said.line_of("retention-set", split=split) if retention else split
    head = ["stage", "col-tokens", "gpu-hours", "last", "", "", "change", "", "verdict"]
    titles = [said.line_of(name) if name else "" for name in head]
    titles[4], titles[5] = "PPL", said.words["short bits per byte"]
    titles[7] = "" if judged.baseline is None else judged.baseline.id
    rows = [_row(stage, split, changes.get(stage.planned.name), said, first=not number, retention=retention)
            for number, stage in enumerate(judged.stages)]  # fmt: skip
    table = aligned([titles, *rows], width)
    notes = _notes(changes.values(), said, beside=any(change.baseline is not None for change in changes.values()))
    return [PageLine(), PageLine(title, "bold"), *map(PageLine, table), *(PageLine(note, "dim") for note in notes)]


def _row(
    stage: StageJudgement, split: str, change: StageChange | None, said: Catalogue, *, first: bool, retention: bool
) -> list[str]:
    name, judgement = stage.planned.name, stage.judgement
    if judgement is None:
        return [name, said.line_of(stage.state.replace(" ", "-")), *[""] * 7]
    delta = start_delta(stage.planned, judgement.run, split) if first else None if change is None else change.delta
    tokens, hours = judgement.summary.train.tokens_seen, gpu_hours(judgement.run.rows)
    seen = judgement.summary.splits.get(split)
    beside = None if change is None else change.baseline
    return [
        name,
        "" if tokens is None else f"{tokens:,}",
        "" if hours is None else f"{hours:.2f}",
        *_losses(None if seen is None else seen.last, said),
        _change(delta, said),
        "" if beside is None else signed_text(beside.difference),
        _verdict(judgement, split, delta, said, retention=retention),
    ]


def _losses(point: EvalPoint | None, said: Catalogue) -> tuple[str, str, str]:
    if point is None:
        return _NONE, "", ""
    if point.value is None or not point.finite:
        return said.line_of("not-finite"), "", ""
    bits = point.bits_per_byte
    mark = "" if point.metric == keys.EXACT_LOSS else "*"
    return (
        with_error(point.value, point.se) + mark,
        "" if point.ppl is None else perplexity_text(point.ppl),
        "" if bits is None else loss_text(bits),
    )


def _change(delta: StageDelta | None, said: Catalogue) -> str:
    if delta is None:
        return ""
    if delta.difference is None:
        return said.line_of("not-comparable")
    return with_error(delta.difference, delta.se, sign=True)


def _verdict(judgement: Judgement, split: str, delta: StageDelta | None, said: Catalogue, *, retention: bool) -> str:
    """What became of the stage: against the one before, against its target, and whether it stopped itself."""
    relation = None if delta is None else delta.relation
    # "behind" alone is where a run's rows are read from.
    shown = [] if relation is None else [said.line_of("behind-it" if relation == "behind" else relation)]
    if retention:
        return "".join(shown)
    stop = None if judgement.asked.stop is None else str(judgement.asked.stop["code"])
    asked = [item.code for item in judgement.findings if item.code.startswith(_TARGET) and item.split == split]
    shown += [asked[-1]] if asked and asked[-1] != stop else []
    return "; ".join([*shown, *([] if stop is None else [said.line_of("stopped-by", by=stop)])])


def _training(judged: PlanJudgement, said: Catalogue) -> Iterator[list[str]]:
    """The stages of a run that was never evaluated, the titles first."""
    yield [said.line_of(name) for name in ("stage", "col-tokens", "last-training-loss")]
    for stage in judged.stages:
        if stage.judgement is None:
            yield [stage.planned.name, said.line_of(stage.state.replace(" ", "-")), ""]
        else:
            train = stage.judgement.summary.train
            tokens, loss = train.tokens_seen, train.last_loss
            shown = "" if tokens is None else f"{tokens:,}"
            yield [stage.planned.name, shown, "" if loss is None else loss_text(loss)]


def _notes(changes: Iterable[StageChange], said: Catalogue, *, beside: bool) -> list[str]:
    """What to know about the changes of one set; nothing where there is none."""
    known = list(changes)
    notes = []
    for change in known:
        delta = change.delta
        reasons = [said.deltas.get(code, code) for code in delta.reasons]
        if not change.ended:
            reasons.append(said.line_of("stage-not-ended"))
        if reasons:
            outcome = said.line_of(f"delta-{delta.outcome}".replace(" ", "-"))
            notes.append(f"{delta.stage}: {outcome}: {'; '.join(reasons)}")
    first = next((change.baseline for change in known if change.baseline is not None), None)
    if beside and first is not None:
        notes.append(said.line_of("baseline-beside", baseline=first.baseline, unit=first.unit, grade=first.grade))
    return notes


def _found(judged: PlanJudgement, said: Catalogue, *, whole: bool) -> list[PageLine]:
    """What speaks against targets, then the gravest findings, each with its stage."""
    lines = [PageLine(f"{name}: {text}") for name, stage in judged.judged for text in doubt_lines(stage)]
    lines += [
        PageLine(said.line_of("stage-unreadable", stage=stage.planned.name, message=stage.message), "error")
        for stage in judged.stages
        if stage.message is not None
    ]
    for name, judgement in judged.judged:
        if judgement.facts.state is not RunState.FINISHED:
            line = verdict_line(judgement.facts, judgement.findings, said)
            lines.append(PageLine(f"{name}: {line.text}", line.style))
    ordered = sorted(judged.findings, key=lambda found: gravity(found[1]))
    first: dict[object, tuple[str, Finding]] = {}
    for name, finding in ordered:
        first.setdefault((finding.severity, finding.topic, finding.split), (name, finding))
    shown = ordered if whole else list(first.values())[:MOST_FINDINGS]
    lines += [PageLine(f"{name}: {one.line(said.language)}", one.severity.value) for name, one in shown]
    if len(shown) < len(ordered):
        left = dict.fromkeys(one.topic for name, one in ordered if (name, one) not in shown)
        lines.append(PageLine(said.line_of("more-findings", count=len(ordered) - len(shown), codes=list(left))))
    return lines or [PageLine(said.line_of("no-finding"))]


def _end(judged: PlanJudgement, said: Catalogue) -> Iterator[str]:
    if judged.unasked:
        last = judged.stages[-1].planned.name
        yield said.line_of("targets-not-asked", targets=list(judged.unasked), stage=last)
    none = not any(one.watch.targets for _, one in judged.judged)
    missing = dict.fromkeys(text for _, one in judged.judged for text in unchecked(one, targets=none))
    if missing:
        yield said.line_of("not-checked", what=listed(list(missing)))
    yield to_do(judged.facts, [finding for _, finding in judged.findings], said, callback=False)
    first = next(stage.planned.path for stage in judged.stages if stage.judgement is not None)
    yield said.line_of("stage-alone", path=shlex.quote(str(first)))


def _details(judged: PlanJudgement, said: Catalogue, width: int) -> list[PageLine]:
    lacking: dict[str, list[str]] = {}
    advice: dict[str, None] = {}
    for name, judgement in judged.judged:
        advice.update(dict.fromkeys(next_steps(judgement)))
        for item in judgement.absences:
            lacking.setdefault(item.message(said.language), []).append(name)
    stages = (
        f"{stage.planned.name} · {stage.planned.folder}"
        + ("" if stage.trains is None else f" · {said.line_of('trains', what=stage.trains)}")
        for stage in judged.stages
    )
    absent = (f"{', '.join(names)}: {message}" for message, names in lacking.items())
    return [
        *section(said.line_of("stages", count=len(judged.stages)), stages, width),
        *section(said.line_of("title-not-known"), absent, width),
        *section(said.line_of("title-next"), advice, width),
    ]


def gpu_hours(rows: Iterable[Mapping[str, Any]]) -> float | None:
    """Hours of training of all GPUs of a run, evaluation and saving left out; None where it had none."""
    total, before, known = 0.0, 0, False
    for row in rows:
        if row.get(keys.KIND) != keys.KIND_TRAIN or row.get(keys.SUPERSEDED):
            continue
        tokens, rate = row.get(keys.TOKENS_SEEN), row.get(keys.TOKENS_PER_GPU_HOUR)
        if isinstance(tokens, int) and isinstance(rate, (int, float)) and rate > 0:
            total, known = total + (tokens - before) / rate, True
        before = tokens if isinstance(tokens, int) else before
    return total if known else None


def print_closing_page(folder: Path, baseline: str | None) -> None:
    """Read a run that is over back from its folder, judge it, and print its page and what was written.

    Args:
        folder: The run's.
        baseline: Id of a baseline to compare with; None: those of the stages alone.
    """
    plan = read_plan(folder)
    assert plan is not None
    judged = judge_plan(plan, CheckOptions(baseline=None if baseline is None else find_baseline(baseline)))
    print_lines([PageLine(), *plan_lines(judged, str(folder), page_width())])
    print_lines(PageLine(printable(line)) for line in (*_checkpoints(judged), *_written(judged)))


def _checkpoints(judged: PlanJudgement) -> Iterator[str]:
    """Which checkpoint of each stage to keep, where there are any."""
    from ko_cpt_callbacks.checkpoint.account import account_beside  # numpy: only where a run is over
    from ko_cpt_callbacks.checkpoint.page import keep_line

    for name, known in judged.judged:
        account = account_beside(known.run, known.watch.retention)
        if account is not None:
            yield f"{name}: {keep_line(account, known.watch.language)}"


def _written(judged: PlanJudgement) -> Iterator[str]:
    folder, said = judged.plan.path, catalogue(judged.language)
    entries = [(judged.plan.file, said.line_of("wrote-plan"))]
    if (folder / "base" / "model").is_dir():
        entries.append((folder / "base" / "model", said.line_of("wrote-base")))
    entries.append((folder / "data", said.line_of("wrote-rows")))
    for stage in judged.stages:
        if (stage.planned.path / keys.FOLDER).is_dir():
            entries.append((stage.planned.path / keys.FOLDER, said.line_of("wrote-stage", stage=stage.planned.name)))
    last = judged.stages[-1].planned.path / "model"
    if last.is_dir():
        adapter = (last / "adapter_config.json").is_file()
        entries.append((last, said.line_of("wrote-adapters" if adapter else "wrote-model")))
    width = max(columns(str(path)) for path, _ in entries)
    yield from ("", said.line_of("wrote"))
    for path, what in entries:
        yield f"  {path!s:{width}}  {what}"
