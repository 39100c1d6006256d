"""`ko-cpt baselines`: the list, one of them, a file's check, and a run of one's own, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from check.command import REAL_RUNS, ROOT, real_run
from commands import offline
from compare.tiny_run import VALID, write
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.cli.baseline_page import GROUPS, cells
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.registry import FOLDER_VARIABLE, bundled_folder, bundled_ids, read_entry

if TYPE_CHECKING:
    from click.testing import Result

RECORDED = ROOT / "tests" / "parity" / "runs"

@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's own baselines."""
    folder = tmp_path / "own"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


def run(*arguments: object) -> Result:
    """The command in this process; an exception that is not an exit is raised."""
    result = CliRunner().invoke(app, ["baselines", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def as_json(*arguments: object) -> Any:
    """What ``--json`` prints."""
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.isascii()
    return json.loads(result.stdout)


def test_the_list_as_json() -> None:
    """A list of objects: id, title, grade, the stages' names, and the figures of the last stage of pretraining."""
    found = {item["id"]: item for item in as_json()}
    redwhale = found["redwhale"]

    assert list(found) == list(bundled_ids())
    assert redwhale["title"] == "RedWhale 10.8B, SOLAR continued on Korean"
    assert (redwhale["grade"], redwhale["why_not"]) == ("UNCONFIRMED", None)
    assert redwhale["stages"] == ["embedding", "odd-layers", "even-layers", "lora", "sft"]
    assert redwhale["loss"] == {"stage": "lora", "split": "eval", "low": 2.8064, "high": 2.8064, "texts": 1}
    assert (round(redwhale["bits_per_byte"]["low"], 3), round(redwhale["bits_per_byte"]["high"], 3)) == (0.833, 0.895)
    assert found["medgemma-a6000-unconfirmed"]["loss"]["split"] == "unknown"
    assert len(found["eeve-korean"]["stages"]) == 7


def test_the_list_as_text() -> None:
    """Every baseline with its grade in 80 columns, what can be compared with it first, and what the grades mean."""
    result = run()
    lines = result.stdout.splitlines()

    assert (result.exit_code, result.stderr) == (0, "")
    for name in bundled_ids():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert line.endswith(f" {cells(read_entry(bundled_folder() / f'{name}.yaml').baseline())[2]}")
    places = [lines.index(heading) for heading in GROUPS.values()]
    assert places == sorted(places)
    assert places[0] < next(n for n, line in enumerate(lines) if line.startswith("redwhale ")) < places[1]
    assert next(n for n, line in enumerate(lines) if line.startswith("sambalingo-thai ")) > places[2]
    assert any(line.startswith("sambalingo-thai ") and " (0.365) " in line and " th " in line for line in lines)
    assert "UNCONFIRMED: stated by one research note" in " ".join(result.stdout.split())
    assert max(map(len, lines)) <= 80


def test_a_broken_own_baseline_is_told_beside_the_list(own: Path) -> None:
    """The others are listed; its mistakes go to stderr, a line each."""
    path = write(own, "id: tiny\n")
    result = run("--json")

    assert result.exit_code == 0
    assert len(json.loads(result.stdout)) == len(bundled_ids())
    assert result.stderr.startswith(f"ko-cpt baselines: {path}:1: title: found nothing, expected this key.\n")


@pytest.mark.parametrize("name", bundled_ids())
def test_one_as_json(name: str) -> None:
    """All that the file says, and the value that a comparison uses, which is read back as the same."""
    found = as_json("show", name)

    assert (found["id"], found["entry"]["id"]) == (name, name)
    assert Baseline.from_dict(found["baseline"]).as_dict() == read_entry(Path(found["file"])).baseline().as_dict()
    assert "not stated" in json.dumps(found["entry"])


@pytest.mark.parametrize("name", bundled_ids())
def test_one_as_text(name: str) -> None:
    """Its grade, why it is no reference if it is none, what is not stated, and every source with URL and BibTeX."""
    result = run("show", name)
    entry = read_entry(bundled_folder() / f"{name}.yaml")
    text = " ".join(result.stdout.split())

    assert (result.exit_code, result.stderr) == (0, "")
    assert f"grade {entry.grade}:" in text
    assert "not stated" in text
    assert entry.file.why_not is None or entry.file.why_not in text
    for source in entry.file.sources.values():
        assert source.url in result.stdout.replace("\n  ", "")
        assert source.bibtex.splitlines()[0] in text


def test_redwhale_as_text() -> None:
    """Loss with its grade, and bits per byte with both readings of GB and what rounding adds."""
    text = " ".join(run("show", "redwhale").stdout.split())

    assert "2.806 nats/token 2.80635–2.80645 UNCONFIRMED" in text
    assert "0.833 to 0.895 bits/byte 0.828–0.900 D" in text
    assert "KoBEST average base model 50.23 % UNCONFIRMED" in text
    assert "KoBEST average after pretraining 66.72 % UNCONFIRMED" in text
    assert "efficiency 19,480,000 D tokens / GPU hours" in text


def test_contradicting_sources_as_text() -> None:
    """All three figures of Thunder's vocabulary are shown."""
    text = " ".join(run("show", "thunder-llm").stdout.split())

    assert "+72,000 -> 200k S" in text
    assert text.count("but also") == 2 and "192304 V" in text


def test_an_unknown_id() -> None:
    """Status 2, one line on stderr with what was meant."""
    result = run("show", "redwale")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("ko-cpt baselines show: baseline 'redwale': found no such id, expected one of ")
    assert result.stderr.endswith("Did you mean redwhale?\n")
    assert result.stderr.count("\n") == 1


def test_validate(tmp_path: Path) -> None:
    """Says what was checked, with counts."""
    result = run("validate", write(tmp_path))

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        f"{tmp_path / 'tiny.yaml'}: baseline tiny, grade V. Checked: every key, 7 figures (digits, value and origin "
        "agree; 1 computed ones come out again), 1 stages, 2 values, 1 sources.\n"
    )


def test_validate_a_wrong_file(tmp_path: Path) -> None:
    """Every mistake on a line of its own, with the command; status 2."""
    path = write(tmp_path, VALID.replace("value: 3.1", "value: 4").replace("version: 1", "version: one"))
    result = run("validate", path)

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f'ko-cpt baselines validate: {path}:3: version: found the text "one", expected a whole number.\n'
    )


def test_validate_no_file(tmp_path: Path) -> None:
    """A path without a file is one line, too."""
    result = run("validate", tmp_path / "x\x1b[31m.yaml")

    assert result.exit_code == 2
    assert "found nothing that can be read" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.iterdir() if (path / "rows.jsonl").is_file()))
def test_add(name: str, own: Path) -> None:
    """A recorded run is kept, told, listed with grade OWN and shown."""
    added = run("add", RECORDED / name / "rows.jsonl", "--id", "mine", "--title", "Mine")
    found = {item["id"]: item for item in as_json()}

    assert added.exit_code == 0, added.stderr
    assert added.stdout.startswith(f"mine: Mine, in {own / 'mine.yaml'}\n  eval")
    assert (found["mine"]["grade"], found["mine"]["title"], found["mine"]["status"]) == ("OWN", "Mine", "own")
    assert run("show", "mine").exit_code == 0
    assert run("validate", own / "mine.yaml").exit_code == 0


def test_add_twice(own: Path) -> None:
    """The second time is an error that names the file and the way on; with ``--force`` it is replaced."""
    run("add", RECORDED / "resumed" / "rows.jsonl", "--id", "mine")
    again = run("add", RECORDED / "resumed" / "rows.jsonl", "--id", "mine", "--title", "Other")

    assert again.exit_code == 2
    assert again.stderr == (
        f"ko-cpt baselines add: --id: found 'mine', which is there already ({own / 'mine.yaml'}), expected another; "
        "or give --force\n"
    )
    assert run("add", RECORDED / "resumed" / "rows.jsonl", "--id", "mine", "--title", "Other", "--force").exit_code == 0
    assert as_json("show", "mine")["title"] == "Other"


@pytest.mark.parametrize("run_path", ["", "absent"])
def test_add_no_run(run_path: str, own: Path) -> None:
    """A run that is not there: status 2, one line, and nothing is written."""
    result = run("add", run_path, "--id", "mine")

    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert not own.exists()


@pytest.mark.skipif(not REAL_RUNS.is_dir(), reason="../shared/data is not beside the repository")
@pytest.mark.parametrize("number", ["00", "02", "15", "23", "26", "54", "55", "59", "61"])
def test_add_real_logs(number: str) -> None:
    """Real logs of all kinds can be kept, and what is missing is told."""
    result = run("add", real_run(number), "--id", "mine")

    assert result.exit_code == 0, result.stderr
    assert as_json("show", "mine")["grade"] == "OWN"


def test_without_the_heavy_libraries(own: Path) -> None:
    """Where torch and the like refuse to be imported, in a terminal that lacks some characters."""
    commands = ([], ["--json"], ["show", "redwhale"], ["show", "redwhale", "--json"])
    variables = {FOLDER_VARIABLE: str(own)}
    for found in offline(*(["baselines", *words] for words in commands), encoding="latin-1", **variables):
        assert (found.returncode, found.stderr) == (0, "")
        assert "redwhale" in found.stdout


def test_help() -> None:
    """The commands are listed."""
    found = run("--help").stdout

    assert all(f"  {command}" in found for command in ("show", "validate", "add"))
