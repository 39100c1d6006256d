"""What is said when a run is over: what it reached, what was found, what was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.monitor import Monitor
from ko_cpt_callbacks.core.progress import EvalPoint
from ko_cpt_callbacks.readers.run_folder import read_run
from ko_cpt_callbacks.recipe.schema import Recipe
from ko_cpt_callbacks.training.folder import RunFolder


def closing_lines(recipe: Recipe, folder: RunFolder) -> list[str]:
    """First and last evaluation of every set, the findings, and the files, read back from the run's folder."""
    return [*_reached(recipe, folder), *_found(folder), *_written(folder)]


def _reached(recipe: Recipe, folder: RunFolder) -> Iterator[str]:
    state, _ = Monitor().judge(read_run(folder.path).observations())
    yield "\nReached, on held-out text"
    for name, part in recipe.eval.items():
        prefix = keys.key("eval", name)
        progress = state.summary().splits.get(prefix)
        if progress is None:
            yield f"  {prefix}: never evaluated"
            continue
        first, last = progress.first, progress.last
        note = " (must not be forgotten)" if part.retention else ""
        yield f"  {prefix}: {_bits(first)} at step {first.step}, {_bits(last)} at step {last.step}{note}"


def _bits(point: EvalPoint) -> str:
    if point.bits_per_byte is None:
        return "no bits/byte" if point.value is None else f"loss {point.value:.3f}"
    error = "" if point.bits_per_byte_se is None else f" ± {point.bits_per_byte_se:.3f}"
    return f"{point.bits_per_byte:.3f}{error} bits/byte"


def _found(folder: RunFolder) -> Iterator[str]:
    path = folder.path / keys.FOLDER / keys.FINDINGS_FILE
    findings: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    yield "Found" if findings else "Found nothing wrong"
    for finding in findings:
        yield f"  [{finding['severity']}] {finding['code']}: {finding['message']}"


def _written(folder: RunFolder) -> Iterator[str]:
    record = folder.path / keys.FOLDER
    entries: list[tuple[Path, str]] = [
        (record / keys.RUN_FILE, "what the run is and what was watched for"),
        (record / keys.ROWS_FILE, "every row: the evidence"),
        (record / keys.FINDINGS_FILE, "what was found"),
        (record / keys.EVAL_ROWS_FOLDER, "loss of every evaluated row"),
        (folder.plan, "the recipe as it was run"),
        (folder.base_model, "the base model"),
        (folder.model, "the adapters, embeddings and head, with the tokenizer"),
    ]
    width = max(len(str(path)) for path, _ in entries)
    yield "Written"
    for path, what in entries:
        yield f"  {path!s:{width}}  {what}"
