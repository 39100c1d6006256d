"""Several runs at once: which paths are runs, the table, and the forms that other programs show."""

from __future__ import annotations

import csv
import html
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from check import made_run, sample, staged
from check.command import REAL_RUNS, ROOT, check, write_state
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.messages.terminal import columns
from ko_cpt_callbacks.workers import WorkerEndedError, Workers

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads((ROOT / "ko_cpt_callbacks" / "schemas" / "check_runs.schema.json").read_text("utf-8"))
EVIL = "=cmd()|<script>alert(1)</script>\x1b[31m\u202e[red]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four runs: healthy and whole, with two runs in one log, ended early, and one that is damaged."""
    whole = {"max_steps": 400, "global_step": 400}
    for name, rows, more in (
        ("a-healthy", sample.healthy(), whole),
        ("b-joined", sample.joined(), {}),
        ("c-killed", sample.healthy(), {"max_steps": 900, "global_step": 400}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text(json.dumps({"log_history": rows, **more}), "utf-8")
    (tmp_path / "d-damaged").mkdir()
    (tmp_path / "d-damaged" / "trainer_state.json").write_text('{"log_history": [', "utf-8")
    return tmp_path


def _rows(*arguments: str) -> list[dict[str, Any]]:
    found = json.loads(CliRunner().invoke(app, ["check", *arguments, "--json"]).stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    rows: list[dict[str, Any]] = found["runs"]
    return rows


def test_a_folder_of_runs_is_a_table(folder: Path) -> None:
    """A row a run, what cannot be read first, then the gravest verdict; the reason is on stderr, the status the
    worst."""
    result = check(folder)
    lines = result.stdout.splitlines()
    assert lines[0] == "4 runs · 2 to look at · 1 OK · 1 unreadable"
    names = [line.split()[0] for line in lines[4:8]]
    assert names == ["d-damaged", "b-joined", "c-killed", "a-healthy"]
    assert "unfinished 400/900" in lines[6] and "2.900 ± 0.020 (1.160)" in lines[6]
    assert "finished 400" in lines[7] and lines[7].split()[3] == "OK"
    assert result.exit_code == 2
    (complaint,) = result.stderr.splitlines()
    assert complaint.startswith(f"ko-cpt check: {folder / 'd-damaged' / 'trainer_state.json'}")


def test_the_rows_as_json(folder: Path) -> None:
    """Each with the facts that every verdict carries; of what cannot be read there are none, but the reason."""
    rows = {Path(row["path"]).name: row for row in _rows(str(folder))}
    assert {name: row.get("state") for name, row in rows.items()} == {
        "a-healthy": "finished", "b-joined": "unfinished", "c-killed": "unfinished", "d-damaged": None,
    }  # fmt: skip
    assert (rows["a-healthy"]["best_loss"], rows["a-healthy"]["best_loss_exact"]) == (2.9, True)
    assert rows["b-joined"]["worst_finding"] == "run-seam"
    assert rows["d-damaged"]["error"]


def test_the_exit_status_is_the_worst(folder: Path) -> None:
    """Of --fail-on too; only what can be read counts for it."""
    runs = [str(folder / name) for name in ("a-healthy", "b-joined")]
    assert CliRunner().invoke(app, ["check", *runs]).exit_code == 0
    assert CliRunner().invoke(app, ["check", *runs, "--fail-on", "warning"]).exit_code == 1
    assert CliRunner().invoke(app, ["check", runs[0], runs[0], "--fail-on", "warning"]).exit_code == 0
    assert CliRunner().invoke(app, ["check", *runs, str(folder / "d-damaged"), "--fail-on", "error"]).exit_code == 2


def test_patterns_and_single_runs(folder: Path) -> None:
    """A quoted pattern is filled in; one that names nothing is refused; a folder with one run in it shows its page."""
    assert check(folder / "[ac]-*").stdout.startswith("2 runs · 1 to look at · 1 OK\n")
    refused = check(folder / "z*")
    assert (refused.exit_code, refused.stdout) == (2, "") and "names nothing" in refused.stderr
    only = folder / "deeper" / "still"
    write_state(only / "run" / "checkpoint-400" / "trainer_state.json", sample.healthy())
    assert check(folder / "deeper").stdout == check(only / "run").stdout


def test_a_folder_of_logs(tmp_path: Path) -> None:
    """Files that say that they are a Trainer's state are runs; a model's other JSON is not."""
    write_state(tmp_path / "one.json", sample.healthy())
    write_state(tmp_path / "two.json", sample.joined())
    (tmp_path / "config.json").write_text("{}", "utf-8")
    assert [Path(row["path"]).name for row in _rows(str(tmp_path))] == ["one.json", "two.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe called like a log is passed by: nobody writes into it, so that reading would never end."""
    for name in ("one.json", "two.json"):
        write_state(tmp_path / name, sample.healthy())
    os.mkfifo(tmp_path / "pipe.json")
    assert [Path(row["path"]).name for row in _rows(str(tmp_path))] == ["one.json", "two.json"]


def test_stages_stand_under_their_plan(folder: Path) -> None:
    """A staged run is one row with the facts of the whole, then its stages in their order, one not begun among them."""
    names = ["embedding", "lora"]
    folders = staged.plan(folder / "e-staged", names)
    staged.stage(folders[0], names[0], (6.0, 3.3))
    lines = check(folder).stdout.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("e-staged"))
    assert [line.split()[0] for line in lines[at : at + 3]] == ["e-staged", *names]
    assert "not begun" in lines[at + 2]
    rows = [row for row in _rows(str(folder)) if row["plan"]]
    assert [(row["stage"], row.get("state")) for row in rows] == [
        (None, "unfinished"), ("embedding", "finished"), ("lora", None),
    ]  # fmt: skip


def test_what_must_not_be_forgotten(tmp_path: Path) -> None:
    """The change of the first retention set since its first evaluation."""
    for name in ("one", "two"):
        rows = [made for step, loss in ((10, 2.0), (20, 2.1)) for made in (
            {"kind": "eval", "attempt": 1, **sample.evaluation(step, 4.0 - loss, "eval_ko", se=0.01)},
            {"kind": "eval", "attempt": 1, **sample.evaluation(step, loss, "eval_old", se=0.01)},
        )]  # fmt: skip
        made_run.write_run(tmp_path / name, more=rows)
    found = _rows(str(tmp_path))
    assert [row["retention_change"] for row in found] == [pytest.approx(0.1)] * 2
    assert all("+0.100" in line for line in check(tmp_path).stdout.splitlines()[4:6])


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_table_fits_the_width(folder: Path, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """140 columns where there is no terminal, and no line broken in the middle of a number at 80."""
    wide = check(folder, "--lang", language).stdout.splitlines()
    assert max(columns(line) for line in wide if "/" not in line.split(" ")[0]) <= 140
    monkeypatch.setattr("ko_cpt_callbacks.cli.check.page_width", lambda: 80)
    narrow = check(folder, "--lang", language).stdout
    assert "2.900 ± 0.020 (1.160)" in narrow


def _evil(tmp_path: Path) -> Path:
    for name in (EVIL.replace("/", ""), "other"):
        write_state(tmp_path / name / "trainer_state.json", sample.joined())
    return tmp_path


def test_csv_has_no_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that a spreadsheet would run begins with an apostrophe; numbers are numbers; no control character."""
    monkeypatch.chdir(_evil(tmp_path))
    text = CliRunner().invoke(app, ["check", EVIL.replace("/", ""), "other", "--format", "csv"]).stdout
    assert "\x1b" not in text and "\u202e" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["path"].startswith("'=cmd()") and rows[1]["path"] == "other"
    assert float(rows[1]["last_training_loss"]) < 1
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())


def test_markdown_is_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tag, no mention, no cell of its own: every row has the columns of the head."""
    monkeypatch.chdir(_evil(tmp_path))
    text = CliRunner().invoke(app, ["check", EVIL.replace("/", ""), "other", "--format", "md"]).stdout
    assert "<" not in text and "\x1b" not in text and "\u202e" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    cells = [line.replace("\\|", "").count("|") for line in table]
    assert len(table) == 4 and len(set(cells)) == 1
    assert "alert(1)" in html.unescape(text)


def test_one_run_as_markdown_has_its_findings(folder: Path) -> None:
    """The table, then a line a finding."""
    text = check(folder / "b-joined", "--format", "md").stdout
    assert "\n- \\[warning\\] run-seam train\\@610: " in text


def test_github_annotations(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow command a finding and one an unreadable run; the Markdown goes to the job summary, where there is
    one."""
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", "utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = check(folder, "--format", "github")
    lines = result.stdout.splitlines()
    assert all(line.startswith(("::warning title=", "::error title=", "::notice title=")) for line in lines)
    assert any(line.startswith("::warning title=run-seam b-joined::run-seam@610: ") for line in lines)
    assert any(line.startswith("::error title=ko-cpt%3A d-damaged::") for line in lines)
    assert summary.read_text("utf-8").startswith("before\n**4 runs")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert "**4 runs" in check(folder, "--format", "github").stdout


def test_an_annotation_is_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a line end, a colon or a percent sign ends no title and begins no other command."""
    name = "a%0A::error::b,c:d\n::stop-commands::x"
    write_state(tmp_path / name / "trainer_state.json", sample.joined())
    monkeypatch.chdir(tmp_path)
    lines = check(name, "--format", "github").stdout.splitlines()
    commands = [line for line in lines if line.startswith("::")]
    assert commands and all(line.split("::")[1].startswith(("warning title=", "notice title=")) for line in commands)
    assert "a%250A%3A%3Aerror%3A%3Ab%2Cc%3Ad\\n" in commands[0]


def test_watching_ends_with_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is not whole is looked at again until it is; one that is whole once."""
    path = folder / "c-killed"
    looks = []

    def grow(seconds: float) -> None:
        looks.append(seconds)
        state = {"log_history": sample.healthy(), "max_steps": 400, "global_step": 400}
        (path / "trainer_state.json").write_text(json.dumps(state), "utf-8")

    monkeypatch.setattr("time.sleep", grow)
    text = check(path, "--watch").stdout
    assert len(looks) == 1
    assert text.startswith("UNFINISHED 400 of 900 steps") and "\nOK\n" in text
    assert check(path, "--watch").stdout.startswith("OK\n") and len(looks) == 1
    assert check(path, "--watch", "--format", "md").exit_code == 2


def test_watching_ends_with_the_trainers_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Trainer that ended before its planned last step adds no row any more."""
    rows = [*sample.healthy(), {"step": 400, "train_loss": 3.0, "train_runtime": 1.0}]
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "max_steps": 900, "global_step": 400}), "utf-8")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("nothing more can come"))
    assert check(path, "--watch").stdout.startswith("STOPPED by should_training_stop at 400 of 900 steps")


@pytest.mark.parametrize("several", [False, True])
def test_watching_outlives_a_file_that_is_away(folder: Path, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is half written or away at one look is looked at again, and what was seen before stands; away for good, it
    is named and the watch ends."""
    path = folder / "c-killed" / "trainer_state.json"
    text, looks = path.read_text("utf-8"), iter((lambda: path.write_text(text[:300], "utf-8"), path.unlink))
    whole = {"log_history": sample.healthy(), "max_steps": 400, "global_step": 400}

    def write(seconds: float) -> None:
        next(looks, lambda: path.write_text(json.dumps(whole), "utf-8"))()

    monkeypatch.setattr("time.sleep", write)
    runs = (str(path.parent), str(folder / "a-healthy")) if several else (str(path),)
    result = check(*runs, "--watch")
    assert (result.exit_code, result.stderr.count("cannot be read now")) == (0, 2)
    assert "400/900" in result.stdout if several else "UNFINISHED 400 of 900 steps" in result.stdout

    path.write_text(text, "utf-8")
    monkeypatch.setattr("time.sleep", lambda seconds: path.unlink(missing_ok=True))
    result = check(*runs, "--watch")
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith(f"ko-cpt check: {runs[0]}: ")


@pytest.mark.skipif(not REAL_RUNS.is_dir(), reason="the real logs are not beside this checkout")
def test_the_public_logs() -> None:
    """One table: 14 logs, one unreadable; those that ended early say so."""
    paths = [str(path) for path in sorted(REAL_RUNS.glob("*.json"))]
    rows = {os.path.basename(row["path"])[:2]: row for row in _rows(*paths)}
    states = {number: row.get("state") for number, row in rows.items()}
    assert len(rows) == 14
    assert (states["00"], states["01"], states["23"], states["66"]) == ("finished", "unfinished", "unfinished", None)


def test_many_runs_are_judged_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same table, in the same order, with an unreadable log among them; where no process starts, one judges all."""
    for at in range(64):
        (tmp_path / f"run{at}").mkdir()
        write_state(tmp_path / f"run{at}" / "trainer_state.json", sample.healthy()[: 20 + at])
    (tmp_path / "run7" / "trainer_state.json").write_text("{", "utf-8")
    started = []

    def begin(count: int) -> Workers:
        started.append(count)
        return Workers(count)

    monkeypatch.setattr("ko_cpt_callbacks.cli.check.Workers", begin)
    monkeypatch.setattr("ko_cpt_callbacks.cli.check.usable_cores", lambda: 2)
    alone = check(tmp_path)  # from a script of somebody's, which a process would run again
    assert not started
    assert (alone.exit_code, alone.stdout.count("unreadable")) == (2, 2)
    monkeypatch.setattr("ko_cpt_callbacks.cli.check._is_command", lambda: True)
    together = check(tmp_path)
    assert started == [2]
    assert (together.stdout, together.stderr, together.exit_code) == (alone.stdout, alone.stderr, 2)

    for error in (OSError("no process here"), WorkerEndedError("killed")):

        def none(count: int, error: Exception = error) -> object:
            raise error

        monkeypatch.setattr("ko_cpt_callbacks.cli.check.Workers", none)
        assert check(tmp_path).stdout == alone.stdout
