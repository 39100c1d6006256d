"""How far the first stage of a training came: its end against its own first evaluation, row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.stage_delta import EvalEnd, StageDelta, stage_delta
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.folder import eval_rows_path, read_eval_rows
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.run.reading import PlannedStage, read_run

BASE: Final = "base"
_SAME: Final = "same run"  # one tokenizer from beginning to end


def start_delta(stage: PlannedStage, split: str) -> StageDelta | None:
    """The change on one evaluation set from before the first step to the end of a stage.

    Args:
        stage: The stage.
        split: The evaluation's prefix.

    Returns:
        None where nothing was evaluated before the first step.
    """
    seen = [
        item
        for item in read_run(stage.path).observations()
        if isinstance(item, EvalObservation) and item.split == split
    ]
    if len(seen) < 2 or seen[0].step != 0:
        return None
    start = EvalEnd.of(BASE, seen[0], _SAME)
    end = EvalEnd.of(stage.name, seen[-1], _SAME)
    record = stage.path / keys.FOLDER
    try:
        rows = [read_eval_rows(eval_rows_path(record, split, step)) for step in (seen[0].step, seen[-1].step)]
    except UnreadableRunError:
        return stage_delta(start, end)
    return stage_delta(replace(start, rows=rows[0]), replace(end, rows=rows[1]))
