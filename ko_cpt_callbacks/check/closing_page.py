"""What is shown when a staged run is over: the page of ``ko-cpt check``, and what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.staged import PlanJudgement, judge_plan
from ko_cpt_callbacks.check.staged_page import language_of_plan, plan_lines
from ko_cpt_callbacks.check.terminal import page_width, print_lines
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.terminal import columns, printable
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.run.page import PageLine
from ko_cpt_callbacks.run.reading import read_plan


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
    print_lines([PageLine(), *plan_lines(judged, str(folder), page_width())])
    print_lines(PageLine(printable(line)) for line in (*_checkpoints(judged), *_written(judged)))


def _checkpoints(judged: PlanJudgement) -> Iterator[str]:
    """Which checkpoint of each stage to keep, where there are any."""
    from ko_cpt_callbacks.checkpoint.account import account_beside  # numpy: only where a run is over
    from ko_cpt_callbacks.checkpoint.page import keep_line

    for stage in judged.stages:
        known = stage.judgement
        account = None if known is None else account_beside(known.run, known.watch.retention)
        if known is not None and account is not None:
            yield f"{stage.planned.name}: {keep_line(account, known.watch.language)}"


def _written(judged: PlanJudgement) -> Iterator[str]:
    folder, said = judged.plan.path, catalogue(language_of_plan(judged))
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
