"""What a stage watches for, as the callback takes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ko_cpt_callbacks.core.target import PRESETS, Target, parse_target
from ko_cpt_callbacks.recipe.schema import Page


def watched_targets(page: Page, name: str) -> tuple[Target, ...]:
    """The targets of a stage; a preset is asked of the first set that is no retention set."""
    learnt = next((f"eval_{key}" for key, part in page.eval.items() if not part.retention), None)
    found = []
    for text in page.stages[name].watch.targets:
        target = parse_target(text)
        found.append(replace(target, split=learnt) if text.strip() in PRESETS and learnt else target)
    return tuple(found)


def callback_arguments(page: Page, name: str) -> dict[str, Any]:
    """The arguments of ``KoCPTCallback`` for a stage."""
    watch = page.stages[name].watch
    return {
        "targets": watched_targets(page, name),
        "baseline": watch.baseline,
        "stage": watch.stage,
        "task": page.task,
        "retention": tuple(key for key, part in page.eval.items() if part.retention),
        "stop_on": tuple(watch.stop_on),
        "grace": watch.grace,
        "patience": watch.patience,
        "min_delta": watch.min_delta,
    }
