"""Pages on terminals of 60, 80 and 100 columns: no line runs over the edge, and nothing is left out."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from check import sample
from checkpoint import made_checkpoints
from cli.test_forecast import half  # noqa: F401
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.messages.terminal import columns
from ko_cpt_callbacks.rules.registry import known_codes

pytestmark = [pytest.mark.parametrize("width", [60, 80, 100]), pytest.mark.parametrize("language", ["en", "ko"])]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(monkeypatch: pytest.MonkeyPatch, width: int, *words: object) -> str:
    """What the command prints on a terminal that is so wide, after a look at every line."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    with redirect_stdout(_Terminal()) as terminal, pytest.raises(SystemExit):
        app([*map(str, words)], prog_name="ko-cpt")
    text = terminal.getvalue()
    long = [line for line in text.splitlines() if columns(line) > width]
    assert text and [line for line in long if " " in line.strip()] == []  # a path alone stays whole
    return text


def _piped(*words: object) -> str:
    return CliRunner().invoke(app, [*map(str, words)]).stdout


def test_checkpoints(tmp_path: Path, width: int, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words as in a pipe; a table that is too wide has every number of a checkpoint behind its title."""
    whole = made_checkpoints.made_run(tmp_path / "a")
    text = _shown(monkeypatch, width, "checkpoints", whole, "--lang", language)
    assert text.split() == _piped("checkpoints", whole, "--lang", language).split()

    odd = made_checkpoints.made_run(tmp_path / "b")
    (odd / "checkpoint-50" / "trainer_state.json").unlink()
    text = _shown(monkeypatch, width, "checkpoints", odd, "--lang", language)
    for number in ("3.300 ± 0.030", "+0.050 ± 0.004", "50.0 kB"):
        assert number in text


def test_what_can_go(tmp_path: Path, width: int, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths stand on lines of their own."""
    made_checkpoints.made_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    words = ("checkpoints", "a", "--prune", "--lang", language)
    assert _shown(monkeypatch, width, *words).split() == _piped(*words).split()


def test_forecast(half: Path, width: int, language: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Sentences are broken between words; those of a target stay further in."""
    words = ("forecast", half, "--target", "eval_exact_loss<2.4", "--lang", language)
    text = _shown(monkeypatch, width, *words)
    assert text.split() == _piped(*words).split()
    at = next(at for at, line in enumerate(text.splitlines()) if "eval_exact_loss<2.4" in line)
    assert all(line.startswith("  ") for line in text.splitlines()[at:])


def test_explanations(width: int, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code; words that are longer than a line are none."""
    for code in known_codes():
        words = ("explain", code, "--lang", language)
        assert _shown(monkeypatch, width, *words).split() == _piped(*words).split()


def test_a_table_of_runs(tmp_path: Path, width: int, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit beside its neighbors stands behind its title; the runs are in the same order."""
    names = ("b-joined", "d-damaged", "healthy-아주-긴-이름의-실행-lr3e-4-r64", "other")
    for name, rows in zip(names, (sample.joined(), None, sample.healthy(), sample.healthy()), strict=True):
        (tmp_path / name).mkdir()
        state = '{"log_history": [' if rows is None else json.dumps({"log_history": rows, "max_steps": 400})
        (tmp_path / name / "trainer_state.json").write_text(state, "utf-8")
    monkeypatch.chdir(tmp_path)
    words = ("check", ".", "--lang", language)
    text, wide = _shown(monkeypatch, width, *words), _piped(*words)
    starts = [line.split()[0][:8] for line in wide.splitlines() if line.startswith(("b-", "d-", "healthy", "other"))]
    assert len(starts) == len(names)
    assert [line[:8] for line in text.splitlines() if line.startswith(tuple(starts))] == [*starts]
    for cell in ("2.900 ± 0.020 (1.160)", "run-seam@610"):
        assert cell in text and cell in wide
