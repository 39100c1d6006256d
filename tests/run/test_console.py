"""What the terminal shows."""

from __future__ import annotations

import io
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ko_cpt_callbacks.messages.terminal import columns
from ko_cpt_callbacks.run.console import ConsoleOutput, Goal, evaluation_line
from ko_cpt_callbacks.run.facts import facts_of
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation
from ko_cpt_callbacks.run.progress import RunProgress
from ko_cpt_callbacks.run.rows import observations


def _row(**numbers: Any) -> dict[str, Any]:
    return {
        "kind": "eval",
        "split": "eval_ko",
        "step": 40,
        **{f"eval_ko_{name}": item for name, item in numbers.items()},
    }


def test_a_whole_line() -> None:
    """Loss and its error in 3 decimals, PPL in 3 significant digits, bits per byte; tokens where it is the first."""
    row = _row(exact_loss=3.0781, exact_loss_se=0.0412, ppl=21.717, bits_per_byte=1.2341, tokens=12345)
    assert evaluation_line(row) == (
        "step 40 · eval_ko: loss 3.078 ± 0.041 · PPL 21.7 · 1.234 bits/byte · 12,345 tokens"
    )
    assert columns(evaluation_line(row, "ko")) <= 160


def test_where_the_loss_is_heading() -> None:
    """The forecast of the row, whose family it is by, and how likely its target is, from 1 to 99 %; left out whole
    where there is no room."""
    ahead = {"final_loss_median": 2.911, "final_loss_lower": 2.85, "final_loss_upper": 2.974, "target_probability": 1.0}
    row = _row(exact_loss=3.0781, ppl=21.717, **ahead)
    assert evaluation_line(row).endswith(" · PPL 21.7 · ends 2.911 (2.850 to 2.974) · target 99 % likely")
    assert evaluation_line(row, "ko").endswith(" · 최종 2.911 예상(2.850~2.974) · 목표 확률 99 %")
    early = {**_row(exact_loss=3.0781), **{f"train_{name}": value for name, value in ahead.items()}}
    early.pop("train_target_probability")
    assert evaluation_line(early).endswith(" · training ends 2.911 (2.850 to 2.974)")
    whose = {**row, "eval_ko_final_loss_family": 3}
    assert " · ends 2.911 (2.850 to 2.974) by 3 runs of its family · target" in evaluation_line(whose)
    assert " · 최종 2.911 예상(2.850~2.974, 패밀리 실행 3개 기준) · 목표" in evaluation_line(whose, "ko")
    goal = Goal("eval_ko", "exact_loss", 3.0, "eval_ko_exact_loss<3.0@end," + "confirm=2," * 6)
    line = evaluation_line(row, goals=[goal])
    assert "to target" in line and "ends 2" not in line and columns(line) <= 160


@pytest.mark.parametrize(
    ("ppl", "shown"),
    [(1.0, "1.00"), (9.996, "10.0"), (275.4, "275"), (601.4, "601"), (1234.5, "1,230"), (151000.0, "151,000")],
)
def test_perplexity_has_three_digits(ppl: float, shown: str) -> None:
    """Never in powers of ten: a fresh vocabulary begins at 151,000."""
    assert f"PPL {shown}" in evaluation_line(_row(exact_loss=1.0, ppl=ppl)).split(" · ")


def test_without_an_error_bar() -> None:
    """Loss evidence: the loss alone."""
    assert evaluation_line(_row(exact_loss=2.0, tokens=10)) == "step 40 · eval_ko: loss 2.000 · 10 tokens"


def test_no_exact_loss() -> None:
    """The reason, and the Trainer's number under its own name."""
    line = evaluation_line(_row(exact_loss_absent="label smoothing", loss=2.5))
    assert line == "step 40 · eval_ko: no exact loss: label smoothing · the Trainer's eval_loss 2.500"
    assert "not measured" in evaluation_line(_row(loss="NaN"))


def test_not_finite() -> None:
    """An infinite loss is not shown as a number."""
    line = evaluation_line(_row(exact_loss="Infinity", nonfinite_batches=3, tokens=10))
    assert line == "step 40 · eval_ko: loss not finite in 3 batches · 10 tokens"


def test_prints_evaluations_and_findings_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Training rows are the progress bar's; a finding is its line."""
    console = ConsoleOutput("en")
    console.row({"kind": "train", "step": 1, "loss": 2.0})
    console.row(_row(exact_loss=2.0))
    finding = Finding(
        "non-finite", Severity.ERROR, step=1, split="train", values={"loss": "NaN", "grad_norm": 1.0}, variant="loss"
    )
    console.finding(finding)
    lines = capsys.readouterr().out.splitlines()
    shown = "[error] non-finite train@1: loss is NaN → stop; go back to a checkpoint; bf16 or lower rate"
    assert lines == [evaluation_line(_row(exact_loss=2.0)), shown]


def test_without_tqdm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no progress bar was ever loaded, plain print."""
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    ConsoleOutput("en").row(_row(exact_loss=2.0))
    assert capsys.readouterr().out.startswith("step 40 · eval_ko")


def test_names_cannot_move_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A set name, or an error's text in a finding, with escapes, line ends or a turned reading shows their codes."""
    output = ConsoleOutput("en")
    output.row({"kind": "eval", "step": 1, "split": "eval_\x1b[2J\u202e", "eval_\x1b[2J\u202e_exact_loss": 2.0})
    values = {"rule": "plateau", "error": "ValueError: a\nb\x07"}
    output.finding(Finding("rule-failed", Severity.WARNING, 1, values=values, variant="at-a-row"))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "step 1 · eval_\\x1b[2J\\u202e: loss 2.000"
    assert "(ValueError: a\\nb\\x07)" in second


def _evaluations(*losses: float) -> list[dict[str, Any]]:
    shown = {"exact_loss_se": 0.01, "tokens": 10, "runtime": 1.0}
    return [{**_row(exact_loss=loss, loss=loss, **shown), "step": 10 * at} for at, loss in enumerate(losses, 1)]


def test_changes_since_start_and_best(capsys: pytest.CaptureFixture[str]) -> None:
    """From the second evaluation on: the change since the first, and that it is the best or how far above; the tokens,
    which stay, once; how far the target is."""
    console = ConsoleOutput("en", [Goal("eval_ko", "exact_loss", 2.5, "exact<2.5")])
    for row in _evaluations(3.0, 2.75, 2.875, 2.25):
        console.row(row)
    assert capsys.readouterr().out.splitlines() == [
        "step 10 · eval_ko: loss 3.000 ± 0.010 · 10 tokens · +0.500 to target exact<2.5",
        "step 20 · eval_ko: loss 2.750 ± 0.010 · -0.250 since start · best · +0.250 to target exact<2.5",
        "step 30 · eval_ko: loss 2.875 ± 0.010 · -0.125 since start · +0.125 on the best, @20 · "
        "+0.375 to target exact<2.5",
        "step 40 · eval_ko: loss 2.250 ± 0.010 · -0.750 since start · best · below target exact<2.5",
    ]


def test_the_same_finding_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A note of the same set is printed once, a warning again where its numbers are others; what a resumed run printed
    before is not printed again."""
    console = ConsoleOutput("en")
    console.begin({}, [], [Finding("of-old", Severity.INFO, 1, "eval")])
    for step, value in ((1, 1.0), (2, 1.0), (3, 2.0)):
        console.finding(Finding("of-old", Severity.INFO, step, "eval"))
        console.finding(Finding("noted", Severity.INFO, step, "eval", values={"value": step}))
        console.finding(Finding("warned", Severity.WARNING, step, "eval", values={"value": value}))
    lines = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["[info] noted eval@1", "[warning] warned eval@1", "[warning] warned eval@3"]


@pytest.mark.parametrize("saved", [True, False])
def test_a_stop_is_told_with_its_checkpoint(saved: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, when the checkpoint is there, or when training ends without one."""
    console = ConsoleOutput("en")
    console.run({"stop": {"code": "target-met", "step": 20}})
    for _ in range(2):
        console.row({"kind": "checkpoint", "step": 20} if saved else {"kind": "end", "step": 20})
    what = "checkpoint-20 saved" if saved else "no checkpoint saved"
    assert capsys.readouterr().out == f"[stop] target-met at step 20 · {what}\n"


def test_the_page_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdict, table, curves, findings, what to do and where the files are, in at most 25 lines; a resumed run's curve
    has its earlier rows, and what they were replaced by is not in it twice."""
    folder = tmp_path / "a run"
    console, progress = ConsoleOutput("en", folder=folder), RunProgress()
    rows = _evaluations(3.0, 2.75, 2.5)
    console.begin({}, [{**rows[0], "superseded": True}, *rows[:2]], [])
    console.row(rows[2])
    for row in rows:
        for seen in observations(row):
            progress = progress.add(seen)
    summary = progress.add(EndObservation(30)).summary()
    console.finding(Finding("mine", Severity.WARNING, 30, "eval_ko"))
    capsys.readouterr()
    console.close(summary, facts_of(summary, [Finding("mine", Severity.WARNING, 30, "eval_ko")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "LOOK: 1 warning"
    assert len(lines) <= 25 and "eval_ko  █▅▁" in lines
    assert any(line.split()[:4] == ["eval_ko", "3.000", "2.500", "@30"] for line in lines)
    assert lines[-2] == f"Files: {folder / 'ko_cpt'}"
    said, _, command = lines[-1].partition(": ")
    assert (said, shlex.split(command)) == ("Again, with every detail", ["ko-cpt", "check", str(folder), "--all"])
    ConsoleOutput("en").close(summary, facts_of(summary, ()))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("language", ["en", "ko"])
@given(
    name=st.text(min_size=1, max_size=90), loss=st.floats(0, 1e30), reason=st.text(max_size=200), step=st.integers(0)
)
@settings(max_examples=60)
def test_a_line_is_at_most_160_columns(language: str, name: str, loss: float, reason: str, step: int) -> None:
    """Whatever the set is called, the numbers are and the reason says."""
    long = {"exact_loss": loss, "exact_loss_se": loss, "ppl": 1e200, "bits_per_byte": 1e5, "tokens": 10**15}
    for numbers in (long, {"exact_loss_absent": reason, "loss": loss}):
        named = {f"{name}_{key}": number for key, number in numbers.items()}
        row = {"kind": "eval", "split": name, "step": step % 10**9, **named}
        assert columns(evaluation_line(row, language)) <= 160


def test_a_terminal_of_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a C locale the known signs are ASCII, and nothing is raised."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.delitem(sys.modules, "tqdm", raising=False)
    ConsoleOutput("en").row(_evaluations(3.0)[0])
    assert stream.buffer.getvalue() == b"step 10 - eval_ko: loss 3.000 +- 0.010 - 10 tokens\n"  # type: ignore[attr-defined]
