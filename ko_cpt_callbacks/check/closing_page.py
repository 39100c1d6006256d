"""What is said when a staged run is over: what every stage reached, what was found, what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.page import indented, lines, perplexity_text, with_error
from ko_cpt_callbacks.check.staged import Change, PlanJudgement, StageJudgement, judge_plan, start_delta
from ko_cpt_callbacks.check.terminal import print_page
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.compare.stage_delta import StageDelta
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.run.reading import read_plan
from ko_cpt_callbacks.run.rows import read_rows

_WIDTH: Final = 134  # of a table whole; a file has no width of its own
_TEXT_WIDTH: Final = 118
_TARGET: Final = "target-"
_NONE: Final = "–"
_STANDINGS: Final = {"ahead": "better", "level": "level", "behind": "worse"}


def print_closing_page(page: Page, folder: Path) -> None:
    """Read the run back from its folder, judge it and print.

    Args:
        page: The recipe.
        folder: The run's.
    """
    plan = read_plan(folder)
    assert plan is not None
    names = [stage.watch.baseline for stage in page.stages.values() if stage.watch.baseline is not None]
    judged = judge_plan(plan, baseline=find_baseline(names[0]) if names else None)
    print_page(closing_page(judged, page), _WIDTH)
    for line in _written(judged):
        print(printable(line))


def closing_page(judged: PlanJudgement, page: Page) -> RenderableType:
    """The table of every evaluation set, and the findings."""
    parts: list[RenderableType] = []
    for name, part in page.eval.items():
        split = keys.key("eval", name)
        title = f"{split} (must not be forgotten; not judged)" if part.retention else split
        parts += [Text(), Text(title, style="bold"), indented(_table(judged, split, retention=part.retention))]
        parts += lines(_since(judged, split))
    return Group(*parts, Constrain(Group(*_notes(judged), Text(), *_found(judged)), _TEXT_WIDTH))


def _table(judged: PlanJudgement, split: str, *, retention: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("stage", overflow="fold")
    changes = {change.delta.stage: change for change in judged.changes if change.delta.split == split}
    beside = any(change.baseline is not None for change in changes.values())
    more = [printable(judged.baseline.id)] if beside and judged.baseline is not None else []
    for title in ("tokens", "GPU h", "loss", "PPL", "bits/byte", "change", *more):
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("verdict", overflow="fold")
    for number, stage in enumerate(judged.stages):
        change = changes.get(stage.planned.name)
        delta = start_delta(stage.planned, split) if number == 0 else None if change is None else change.delta
        table.add_row(*_row(stage, split, delta, change, beside=beside, retention=retention))
    return table


def _row(
    stage: StageJudgement, split: str, delta: StageDelta | None, change: Change | None, *, beside: bool, retention: bool
) -> Iterator[str]:
    yield printable(stage.planned.name)
    if stage.judgement is None:
        yield stage.state
        return
    summary = stage.judgement.summary
    tokens = summary.train.tokens_seen
    yield _NONE if tokens is None else f"{tokens:,}"
    hours = gpu_hours(stage.planned.path)
    yield _NONE if hours is None else f"{hours:.2f}"
    seen = summary.splits.get(split)
    yield from _losses(None if seen is None else seen.last)
    yield _change(delta)
    if beside:
        yield _NONE if change is None or change.baseline is None else f"{change.baseline.difference:+.3f}"
    yield _verdict(stage, split, delta, retention=retention)


def _losses(point: EvalPoint | None) -> tuple[str, str, str]:
    if point is None or point.value is None or not point.finite:
        return (_NONE if point is None else "not finite"), _NONE, _NONE
    bits = point.bits_per_byte
    return (
        with_error(point.value, point.se),
        perplexity_text(point.ppl),
        _NONE if bits is None else with_error(bits, point.bits_per_byte_se),
    )


def _change(delta: StageDelta | None) -> str:
    if delta is None or delta.difference is None:
        return _NONE
    if delta.low is None or delta.high is None:
        return f"{delta.difference:+.3f}"
    return f"{delta.difference:+.3f} [{delta.low:+.3f}, {delta.high:+.3f}]"


def _verdict(stage: StageJudgement, split: str, delta: StageDelta | None, *, retention: bool) -> str:
    """What became of the stage: against the one before, against its target, and whether it stopped itself."""
    assert stage.judgement is not None
    said = []
    if delta is not None and delta.standing is not None:
        said.append(_STANDINGS[delta.standing])
    if retention:
        return said[0] if said else ""
    asked = [item.code for item in stage.judgement.findings if item.code.startswith(_TARGET) and item.split == split]
    stop = _stop_code(stage.planned.path)
    said += [asked[-1].replace("-", " ")] if asked and asked[-1] != stop else []
    said += [] if stop is None else [f"stopped: {stop.replace('-', ' ')}"]
    return "; ".join(said)


def _since(judged: PlanJudgement, split: str) -> Iterator[str]:
    """From the first evaluation of the run to its last."""
    seen = [stage.judgement.summary.splits.get(split) for stage in judged.stages if stage.judgement is not None]
    points = [item for item in seen if item is not None]
    if not points or points[0].first.bits_per_byte is None or points[-1].last.bits_per_byte is None:
        return
    first, last = points[0].first, points[-1].last
    assert first.bits_per_byte is not None and last.bits_per_byte is not None
    start = with_error(first.bits_per_byte, first.bits_per_byte_se)
    end = with_error(last.bits_per_byte, last.bits_per_byte_se)
    yield f"{start} bits/byte at step {first.step} of the first stage, {end} at the end of the last"


def _notes(judged: PlanJudgement) -> list[RenderableType]:
    """What the columns mean, where it is not plain."""
    said = [
        "change: less the end of the stage before (of the first stage: less its start), in nats per token, with its "
        "95 % interval, of the same rows of text where both were measured",
    ]
    if any(change.baseline is not None for change in judged.changes) and judged.baseline is not None:
        said.append(
            f"{judged.baseline.id}: the change of its matching stage, on its own text: to look at, not to be judged by"
        )
    return [Text(), *lines(said)]


def _found(judged: PlanJudgement) -> list[RenderableType]:
    graver = [(name, item) for name, item in judged.findings if item.severity is not Severity.INFO]
    notes = len(judged.findings) - len(graver)
    said = f"{notes} notes above" if notes != 1 else "1 note above"
    head = f"Found {len(graver)} of weight, {said}" if graver else f"Found nothing wrong; {said}"
    shown: list[RenderableType] = [Text(head)]
    for stage in (one for one in judged.stages if one.judgement is not None):
        assert stage.judgement is not None
        language, name = stage.judgement.watch.language, stage.planned.name
        found = [item.line(language) for of, item in graver if of == name]
        shown += lines([f"{name}:", *found] if found else [])
    return shown


def _written(judged: PlanJudgement) -> Iterator[str]:
    folder = judged.plan.path
    entries = [(judged.plan.file, "the recipe as it was run, and its stages")]
    if (folder / "base" / "model").is_dir():
        entries.append((folder / "base" / "model", "the model that the first stage began with"))
    entries.append((folder / "data", "the rows"))
    for stage in judged.stages:
        if (stage.planned.path / keys.FOLDER).is_dir():
            entries.append((stage.planned.path / keys.FOLDER, f"{stage.planned.name}: what was measured and found"))
    last = judged.stages[-1].planned.path / "model"
    if last.is_dir():
        adapter = (last / "adapter_config.json").is_file()
        what = "adapters with what was trained whole beside them" if adapter else "the model"
        entries.append((last, f"{what}, with the tokenizer"))
    width = max(len(str(path)) for path, _ in entries)
    yield from ("", "Written")
    for path, what in entries:
        yield f"  {path!s:{width}}  {what}"


def gpu_hours(folder: Path) -> float | None:
    """Hours of training of all GPUs of a run, evaluation and saving left out; None where it had none."""
    total, before, known = 0.0, 0, False
    for row in read_rows(folder / keys.FOLDER / keys.ROWS_FILE):
        if row.get(keys.KIND) != keys.KIND_TRAIN or row.get(keys.SUPERSEDED):
            continue
        tokens, rate = row.get(keys.TOKENS_SEEN), row.get(keys.TOKENS_PER_GPU_HOUR)
        if isinstance(tokens, int) and isinstance(rate, (int, float)) and rate > 0:
            total, known = total + (tokens - before) / rate, True
        before = tokens if isinstance(tokens, int) else before
    return total if known else None


def _stop_code(folder: Path) -> str | None:
    try:
        stop = json.loads((folder / keys.FOLDER / keys.RUN_FILE).read_text("utf-8")).get("stop")
    except (OSError, ValueError):
        return None
    code = stop.get("code") if isinstance(stop, dict) else None
    return code if isinstance(code, str) else None
