"""The table at the end of a staged run: what every stage reached, changed and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from check import staged
from checkpoint.made_checkpoints import checkpoint

from ko_cpt_callbacks import Recipe, find_baseline
from ko_cpt_callbacks.check.asked import CheckOptions
from ko_cpt_callbacks.check.staged import judge_plan, start_delta
from ko_cpt_callbacks.check.staged_page import gpu_hours, plan_lines, print_closing_page
from ko_cpt_callbacks.run.reading import read_plan, read_run

NAMES = ["embedding", "odd-layers", "lora"]
BASELINE = Recipe.load("quickstart").page.stages["embedding"].watch.baseline


def _page(run: Path, baseline: str | None = None) -> str:
    plan = read_plan(run)
    assert plan is not None
    judged = judge_plan(plan, CheckOptions(baseline=find_baseline(baseline) if baseline else None))
    return "\n".join(line.text for line in plan_lines(judged, str(run), 140))


def _row(page: str, name: str) -> list[str]:
    """The cells of a stage's line in the table of Korean."""
    return next(line.split("  ") for line in page.splitlines() if line.strip().startswith(name))


def _cells(page: str, name: str) -> list[str]:
    return [cell.strip() for cell in _row(page, name) if cell.strip()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three stages: to 4.0, to 3.5, and back to 3.8."""
    folders = staged.plan(tmp_path, NAMES)
    staged.stage(folders[0], "embedding", (6.0, 4.0))
    staged.stage(folders[1], "odd-layers", (4.0, 3.5), seed=1)
    staged.stage(folders[2], "lora", (3.5, 3.8), seed=2, told={"targets": ["eval_ko_exact_loss<3.9@end"]})
    return tmp_path


def test_a_line_for_every_stage(run: Path) -> None:
    """Tokens, no GPU hours on a CPU, loss with its error, perplexity, bits per byte, the change with its error, and
    what became of the stage; English is told apart from what is judged; a finding has its stage."""
    page = _page(run)
    odd = _cells(page, "odd-layers")
    assert odd[:3] == ["odd-layers", "200,000", "3.492 ± 0.035"]
    assert "GPU" not in page
    assert odd[-2].startswith(("-0.5", "-0.49")) and " ± " in odd[-2]
    assert odd[-1] == "better"
    assert _cells(page, "lora")[-1].startswith("worse; target-")
    assert "eval_en (must not be forgotten; not judged)" in page
    assert "lora: [warning] stage-regression eval_ko@400: lora ends" in page
    assert page.splitlines()[0] == "LOOK: 2 warnings"


def test_the_page_at_the_end_of_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is that of ``ko-cpt check``, then what was written and where."""
    print_closing_page(run, BASELINE)
    shown = capsys.readouterr().out
    assert _page(run, "redwhale").splitlines()[1:9] == shown.splitlines()[2:10]
    assert f"{run / 'stages' / '03-lora' / 'ko_cpt'}" in shown.partition("Written")[2]


def test_a_stage_that_was_not_begun(tmp_path: Path) -> None:
    """It has a line that says so."""
    folders = staged.plan(tmp_path, NAMES)
    staged.stage(folders[0], "embedding", (6.0, 4.0))
    assert _cells(_page(tmp_path), "lora") == ["lora", "not begun"]


def test_stages_that_were_never_evaluated(tmp_path: Path) -> None:
    """Tokens and the last training loss; one that was not begun has no numbers."""
    folders = staged.plan(tmp_path, NAMES)
    record = staged.stage(folders[0], "embedding", (6.0, 4.0)) / "ko_cpt" / "rows.jsonl"
    lines = [line for line in record.read_text("utf-8").splitlines() if json.loads(line)["kind"] != "eval"]
    record.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    page = _page(tmp_path)
    assert "stage tokens last training loss" in [" ".join(line.split()) for line in page.splitlines()]
    assert _cells(page, "embedding")[1] == "200,000" and len(_cells(page, "embedding")) == 3
    assert _cells(page, "lora") == ["lora", "not begun"]


def test_the_baseline_stands_beside(run: Path) -> None:
    """RedWhale's change of the matching stage, with a word on what it is worth."""
    page = _page(run, "redwhale")
    assert _cells(page, "odd-layers")[-2] == "-0.208"
    assert "redwhale: its change in nats per token, of its own text and tokenizer (grade" in page


def test_gpu_hours_are_summed_over_the_rows(tmp_path: Path) -> None:
    """Tokens of each row by its rate; superseded rows are not counted; without rates there are no hours."""
    folder = staged.stage(tmp_path / "one", "embedding", (6.0, 4.0))
    assert gpu_hours(read_run(folder).rows) is None
    rows = folder / "ko_cpt" / "rows.jsonl"
    lines: list[dict[str, Any]] = [
        {"kind": "train", "attempt": 1, "step": 1, "tokens_seen": 1000, "tokens_per_gpu_hour": 500.0},
        {"kind": "train", "attempt": 1, "step": 2, "tokens_seen": 9000, "tokens_per_gpu_hour": 1.0, "superseded": True},
        {"kind": "train", "attempt": 2, "step": 2, "tokens_seen": 4000, "tokens_per_gpu_hour": 1000.0},
        {"kind": "checkpoint", "attempt": 2, "step": 2, "tokens_seen": 4000},
    ]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert gpu_hours(read_run(folder).rows) == pytest.approx(2 + 3)


def test_the_first_stage_is_measured_from_its_start(tmp_path: Path) -> None:
    """Row by row, from the evaluation before the first step to the last; without such an evaluation there is nothing
    to measure from; without the sums per row there is the difference, with a wider error."""
    folders = staged.plan(tmp_path, NAMES)
    folder = staged.stage(folders[0], "embedding", (6.0, 4.0))
    plan = read_plan(tmp_path)
    assert plan is not None
    assert start_delta(plan.stages[0], read_run(folder), "eval_ko") is None
    record = folder / "ko_cpt"
    lines = [json.loads(line) for line in (record / "rows.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        line["step"] = 0 if line["step"] == 10 and line["kind"] == "eval" else line["step"]
    (record / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    (record / "eval_rows" / "eval_ko-10.npz").rename(record / "eval_rows" / "eval_ko-0.npz")
    paired = start_delta(plan.stages[0], read_run(folder), "eval_ko")
    assert paired is not None and paired.outcome == "paired"
    assert paired.difference == pytest.approx(-2.0, abs=0.01)
    (record / "eval_rows" / "eval_ko-0.npz").unlink()
    plain = start_delta(plan.stages[0], read_run(folder), "eval_ko")
    assert plain is not None and plain.outcome == "unpaired"
    assert plain.se is not None and paired.se is not None and plain.se > paired.se


def test_which_checkpoint_to_keep(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stage with checkpoints has a line that says which to keep; one without has none."""
    stage = read_plan(run).stages[2].path  # type: ignore[union-attr]
    checkpoint(stage, 400)
    with (stage / "ko_cpt" / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps({"kind": "checkpoint", "attempt": 1, "step": 400}) + "\n")
    print_closing_page(run, BASELINE)
    lines = [line for line in capsys.readouterr().out.splitlines() if "Checkpoints: " in line]
    assert lines == ["lora: Checkpoints: checkpoint-400 is the only one with an evaluation"]
