"""What the terminal shows."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from ko_cpt_callbacks.run.console import ConsoleOutput, evaluation_line
from ko_cpt_callbacks.run.finding import Finding, Severity


def _row(**numbers: Any) -> dict[str, Any]:
    return {
        "kind": "eval",
        "split": "eval_ko",
        "step": 40,
        **{f"eval_ko_{name}": item for name, item in numbers.items()},
    }


def test_a_whole_line() -> None:
    """Loss and its error in 3 decimals, PPL in 3 significant digits, bits per byte, tokens with separators."""
    row = _row(exact_loss=3.0781, exact_loss_se=0.0412, ppl=21.717, bits_per_byte=1.2341, tokens=12345)
    assert evaluation_line(row) == (
        "step 40 · eval_ko: loss 3.078 ± 0.041 · PPL 21.7 · 1.234 bits/byte · 12,345 tokens"
    )


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
