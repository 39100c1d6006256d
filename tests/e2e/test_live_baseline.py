"""A run beside a baseline while it trains: what is said, on every rank alike, and again by `ko-cpt check`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job, run_files
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.compare.own import add_own

pytestmark = pytest.mark.both_versions

COMPARED = {"baseline-ahead", "baseline-behind", "not-comparable"}


def _said(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in found if item["code"] in COMPARED]


def _differences(folder: Path) -> list[dict[str, Any]]:
    return [row for row in run_files.rows(folder) if row.get("setup") == "baseline-difference"]


def _checked(folder: Path) -> Any:
    result = CliRunner().invoke(app, ["check", str(folder), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["findings"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of baselines, with a run of twelve steps in it under the id ``mine``."""
    folder = tmp_path_factory.mktemp("own")
    forked.value(forked.run(job.train, str(folder / "run"), folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KO_CPT_BASELINES", str(folder / "baselines"))
        add_own(folder / "run", "mine")
    return folder / "baselines"


def test_a_published_baseline(tmp_path: Path) -> None:
    """Another text: by way of indication, in bits per byte, far behind; run.json keeps the baseline as it was then, so
    that the check of the folder says the same."""
    folder = tmp_path / "run"
    result = forked.value(forked.run(job.train, str(folder), folder=tmp_path, baseline="redwhale"))
    (found,) = _said(result["findings"])
    assert (found["code"], found["severity"]) == ("baseline-behind", "info")
    assert found["values"]["unit"] == "bits per byte"
    told = run_files.run(folder)["watch"]
    assert (told["baseline"]["id"], told["stage"]) == ("redwhale", "auto")
    (stage,) = [row for row in run_files.rows(folder) if row.get("setup") == "stage"]
    assert stage["layers"] == "all"
    assert _differences(folder) == []
    assert _checked(folder) == result["findings"] == run_files.findings(folder)


def test_a_run_of_ones_own(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same text and tokenizer: exact, in nats, row by row against the baseline's last evaluation. The run whose
    learning rate falls later is ahead, said once, and again when its folder is checked without the baseline's files."""
    folder = tmp_path / "run"
    plan = {"baseline": "mine", "baselines": str(own), "changes": {"max_steps": 24, "eval_steps": 12}}
    result = forked.value(forked.run(job.train, str(folder), folder=tmp_path, **plan))
    rows = _differences(folder)
    assert [row["step"] for row in rows] == [12, 24]
    assert all((row["unit"], row["rows"]) == ("nats per token", 9) for row in rows)
    mine = json.loads((own.parent / "run" / "trainer_state.json").read_text("utf-8"))["log_history"]
    last = [row["eval_exact_loss"] for row in mine if "eval_exact_loss" in row][-1]
    losses = [row["eval_exact_loss"] for row in result["log_history"] if "eval_exact_loss" in row]
    assert [row["difference"] for row in rows] == pytest.approx([loss - last for loss in losses], abs=1e-6)
    (ahead,) = _said(result["findings"])
    assert (ahead["code"], ahead["step"]) == ("baseline-ahead", 12)
    assert ahead["values"]["unit"] == "nats per token"
    monkeypatch.setenv("KO_CPT_BASELINES", str(tmp_path / "nothing"))
    assert _checked(folder) == result["findings"] == run_files.findings(folder)


def test_on_two_ranks(own: Path, tmp_path: Path) -> None:
    """One rank reads the baseline's rows; both say the same."""
    folder = tmp_path / "run"
    outcomes = forked.run_ranks(
        job.train_ranks, str(folder), "", ranks=2, folder=tmp_path, timeout=60, baseline="mine",
        baselines=str(own), changes={"max_steps": 16, "eval_steps": 8},
    )  # fmt: skip
    first, second = [forked.value(outcome) for outcome in outcomes]
    assert first["findings"] == second["findings"] == run_files.findings(folder)
    assert [row["step"] for row in _differences(folder)] == [8, 16]
    assert [item["code"] for item in _said(first["findings"])][-1:] == ["baseline-ahead"]


def test_rows_that_are_gone(own: Path, tmp_path: Path) -> None:
    """A baseline whose sums cannot be read: said once, and the run goes on without the difference."""
    shutil.copytree(own, tmp_path / "baselines")
    for path in (tmp_path / "baselines" / "mine").glob("*.npz"):
        path.write_bytes(b"not an archive")
    plan = {"baseline": "mine", "baselines": str(tmp_path / "baselines")}
    outcome = forked.run(job.train, str(tmp_path / "run"), folder=tmp_path, **plan)
    result = forked.value(outcome)
    assert result["step"] == job.STEPS
    assert _differences(tmp_path / "run") == []
    assert outcome.text.count("The callback met an error and goes on") == 1
