"""``ko-cpt report``: one file that is whole, safe and small, whatever the run."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from check.made_run import sums, write_run
from check.test_heading import run_folder
from checkpoint.made_checkpoints import made_run
from forecast.family_rows import member, seed_rows, with_family
from report.page import HOSTILE, Read, reported, rows, state
from typer.testing import CliRunner

from ko_cpt_callbacks.checkpoint.account import account_of
from ko_cpt_callbacks.checkpoint.page import account_cells, keep_line
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.forecast.outlook import outlook_of
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.report.chart import Axis, Chart, drawn
from ko_cpt_callbacks.report.curves import fans_of
from ko_cpt_callbacks.report.drawing import COLUMNS, HEIGHT, Line, Point, Scale, thinned
from ko_cpt_callbacks.report.subject import read_subject
from ko_cpt_callbacks.run.reading import read_run

MOST = 2_000_000
"""Bytes of a report, at most."""


def test_a_report_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    """No attribute and no style names an address, and the page's own policy forbids every request."""
    read = Read(reported(tmp_path, state(tmp_path / "run", rows(100), max_steps=100)))
    assert [value for _, name, value in read.attributes if name in ("src", "srcset", "action", "data")] == []
    assert all(value.startswith("#") for _, name, value in read.attributes if name == "href")
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(read.tags)
    code = "".join(text for tag, text in read.texts if tag in ("style", "script"))
    assert not re.search(r"//[a-z]|url\(|@import|fetch\(|XMLHttp|import\(|innerHTML|eval\(", code)
    policies = [value for tag, name, value in read.attributes if (tag, name) == ("meta", "content")]
    assert any(policy.startswith("default-src 'none'") for policy in policies)


def test_a_report_says_what_came_of_the_run(tmp_path: Path) -> None:
    """Verdict, how far it came, findings with what to do, curves, what was not checked, and where it was read from."""
    read = Read(reported(tmp_path, state(tmp_path / "run", rows(400, spike=300), max_steps=1000)))
    assert read.classes("verdict") == ["verdict look"]
    for text in ("400 of 1,000 steps", "not finished", "loss-spike", "9.000", "To do:", "Not checked", "trainer_state"):
        assert text in read.shown, text
    assert len(read.classes("chart")) == 4  # loss, gap, learning rate, gradient norm
    assert [value for _, name, value in read.attributes if name == "style" and value == "width:40.0%"]


def test_every_chart_has_its_values_as_a_table(tmp_path: Path) -> None:
    """A figure holds a description and a table, whose lowest and highest values are those of the curve."""
    read = Read(reported(tmp_path, state(tmp_path / "run", rows(400, spike=300), max_steps=400)))
    assert read.tags.count("figure") == len(read.classes("chart"))
    assert read.tags.count("details") >= read.tags.count("figure")
    labels = [value for tag, name, value in read.attributes if (tag, name) == ("svg", "aria-label")]
    assert any("highest 9.000" in label for label in labels)
    assert ("td", "9.000") in read.texts


def _decaying(folder: Path, done: int, planned: int) -> str:
    """A run whose learning rate falls in a line to zero at its planned end."""
    log = rows(done)
    for row in log:
        if "learning_rate" in row:
            row["learning_rate"] = 1e-4 * (1 - row["step"] / planned)
    return state(folder, log, max_steps=planned)


def test_an_unfinished_run_shows_where_it_is_heading(tmp_path: Path) -> None:
    """A fan from the last point to the planned end, its numbers in the legend; a whole run has none, and where none can
    be drawn that is said."""
    read = Read(reported(tmp_path, _decaying(tmp_path / "run", 300, 600)))
    subject = read_subject(str(tmp_path / "run"), "run", None, None)
    (fan,) = fans_of(subject, catalogue("en")).lines
    found = outlook_of(subject.parts[0].seen).forecast("eval")
    assert found is not None
    assert (fan.points[0].x, fan.points[-1].x) == (300, 600)
    assert (fan.points[-1].y, fan.points[-1].ends) == (found.median, (found.lower, found.upper))
    assert f"eval, forecast {found.median:.3f} at 600 ({found.lower:.3f} to {found.upper:.3f}, 90 %)" in read.shown
    assert read.classes("forecast")
    assert all(value == "599" for _, name, value in read.attributes if name == "data-width")
    assert not Read(reported(tmp_path, _decaying(tmp_path / "whole", 300, 300))).classes("forecast")
    early = Read(reported(tmp_path, _decaying(tmp_path / "early", 100, 600)))
    assert not early.classes("forecast")
    assert "No forecast of eval is drawn (ko-cpt forecast): less than a quarter of the run is seen" in early.shown


def test_a_fan_names_the_family_that_it_is_by(tmp_path: Path) -> None:
    """The legend of a run with a family counts its runs, in both languages."""
    runs = [member(seed) for seed in (1, 2, 3)]
    folder = run_folder(tmp_path / "half", with_family(seed_rows(0, 0.5), runs))
    subject = read_subject(str(folder), "half", None, None)
    (english,), (korean,) = (fans_of(subject, catalogue(language)).lines for language in ("en", "ko"))
    assert english.name.endswith(", 90 %) by 3 runs of its family")
    assert korean.name.endswith(", 90 %, 패밀리 실행 3개 기준)")


def test_checkpoints_are_a_table(tmp_path: Path) -> None:
    """Every one that was saved, its loss, whether it equals the best, its size or that it is lost; which to keep."""
    run = made_run(tmp_path / "run")
    read = Read(reported(tmp_path, str(run)))
    account = account_of(read_run(run))
    cells = account_cells(account, catalogue("en"))[1:]
    assert {cell for row in cells for cell in row if cell} <= {text for tag, text in read.texts if tag == "td"}
    assert keep_line(account, "en") in read.shown
    assert "Checkpoints" not in Read(reported(tmp_path, _decaying(tmp_path / "none", 30, 30))).shown


def test_what_became_of_the_texts_is_shown(tmp_path: Path) -> None:
    """Documents of each source, what filters dropped, fertility; a file of another kind, or none, shows nothing."""
    run = Path(state(tmp_path / "run", rows(50)))
    filters = [
        {"filter": "hangul-share", "documents": 1000, "dropped_documents": 150, "bytes": 1, "dropped_bytes": 1},
        {"filter": "near-duplicates", "documents": 850, "dropped_documents": 34, "bytes": 1, "dropped_bytes": 1},
    ]
    source = {"documents": 1600, "read": 1000, "tokens": 5000, "bytes": 20_500, "filters": filters}
    part = {"sources": {"<b>ko": source}}
    sides = {
        side: {"tokens_per_character": value, "bytes_per_token": 2.0}
        for side, value in (("before", 1.25), ("after", 0.5))
    }
    report = {"format": 1, "train": part, "eval": {"held": {"sources": {}}}, "fertility": sides}
    file = run / "data" / "report.json"
    file.parent.mkdir()
    for text in ("{", "[]", '{"format": 1, "train": 3}', json.dumps({**report, "format": 2})):
        file.write_text(text, "utf-8")
        assert "Dropped by filter" not in Read(reported(tmp_path, str(run))).shown
    file.write_text(json.dumps(report), "utf-8")
    cells = [text for tag, text in Read(reported(tmp_path, str(run))).texts if tag == "td"]
    for row in (
        ["training", "<b>ko", "1,000", "81.6%", "1,600", "5,000", "4.10"],
        ["training", "<b>ko", "hangul-share", "1,000", "150", "15.0%"],
        ["training", "<b>ko", "near-duplicates", "850", "34", "4.0%"],
        ["base's tokenizer", "1.250", "2.000"],
        ["extended tokenizer", "0.500", "2.000"],
    ):
        assert any(cells[at : at + len(row)] == row for at in range(len(cells))), row


def test_what_a_run_cost(tmp_path: Path) -> None:
    """Tokens by tokens per GPU hour are the hours; with the price of an hour they have a cost, without it none."""
    run = write_run(tmp_path / "run", {"eval": sums()}, trained={"tokens_seen": 5_000, "tokens_per_gpu_hour": 2_000.0})
    priced = Read(reported(tmp_path, run, "--gpu-price", "3"))
    assert {"2.50", "7.50 at 3 a GPU hour"} <= {text for _, text in priced.texts}
    cells = {text for tag, text in Read(reported(tmp_path, run)).texts if tag == "td"}
    assert "GPU hours" in cells and "cost" not in cells


@pytest.mark.parametrize(
    ("log", "verdict", "charts"),
    [
        pytest.param([], "look", 0, id="empty"),
        pytest.param(rows(1), "look", 3, id="one point"),
        pytest.param(rows(200, lost=150), "stop", 4, id="NaN"),
        pytest.param([{"eval_loss": 2.0, "eval_runtime": 1.0, "step": 5}], "look", 1, id="one evaluation"),
        pytest.param([{"loss": math.inf, "step": 5}], "stop", 1, id="only infinite"),
    ],
)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_runs_with_little_or_nothing_in_them(
    tmp_path: Path, log: list[dict[str, float]], verdict: str, charts: int, language: str
) -> None:
    """A run without a row, with one, or with none that is a number has a page, whose paths hold numbers alone."""
    read = Read(reported(tmp_path, state(tmp_path / "run", log, max_steps=1000), "--lang", language))
    assert read.classes("verdict") == [f"verdict {verdict}"]
    assert len(read.classes("chart")) == charts
    drawn_paths = [value for tag, name, value in read.attributes if (tag, name) == ("path", "d")]
    assert not any(re.search("nan|inf", path) for path in drawn_paths)
    # 3 rows of no number are marked, each from top to bottom.
    assert bool(read.classes("lost")) == any(not math.isfinite(row.get("loss", 0.0)) for row in log)


def test_hostile_names_are_text(tmp_path: Path) -> None:
    """Markup, quotes, escapes and bidi marks in names of a run, a set, a model and a stage stay what they are: text."""
    folder = tmp_path / "<img src=x onerror=alert(2)>"
    facts = {"model": {"name_or_path": HOSTILE}, "versions": {HOSTILE: HOSTILE}}
    write_run(folder, {f"eval_{HOSTILE}": sums()}, run=facts, keep_rows=False)
    text = reported(tmp_path, str(folder), str(folder))
    read = Read(text)
    assert read.tags.count("script") == 1
    assert "img" not in read.tags
    assert not any(name.startswith("on") for _, name, _ in read.attributes)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    assert "<script>alert(1)</script>" in read.shown
    assert "\\x1b[31m\\u202e[bold]=1+1" in read.shown


def test_what_the_run_was_told_is_not_shown(tmp_path: Path) -> None:
    """Training arguments may hold keys and addresses: the page has none of them."""
    folder = write_run(tmp_path / "run", {"eval": sums()}, run={"arguments": {"hub_token": "hf_SECRET"}})
    assert "SECRET" not in reported(tmp_path, folder)


def test_bits_per_byte_stand_beside_baselines(tmp_path: Path) -> None:
    """The ladder has the run, the baselines with bits per byte, and names those that cannot be on it, each with why."""
    folder = write_run(tmp_path / "run", {"eval_ko": sums()})
    read = Read(reported(tmp_path, folder, "--baseline", "redwhale"))
    assert read.classes("own") == ["rung own"]
    assert read.classes("named") == ["rung named"]
    assert 0 < len(read.classes("baseline")) <= 9
    assert "not comparable in bits per byte" in read.shown
    assert "eval_ko, last" in read.shown


def test_runs_side_by_side(tmp_path: Path) -> None:
    """Several runs have a table with a row each, a curve each in one chart, and then a section each."""
    paths = [state(tmp_path / name / "run", rows(100), max_steps=100) for name in ("a", "b", "c")]
    read = Read(reported(tmp_path, *paths))
    assert len(read.classes("verdict")) == 3
    names = [value for tag, name, value in read.attributes if (tag, name) == ("path", "data-name")]
    assert [name for name in names if name in ("a/run", "b/run", "c/run")] == ["a/run", "b/run", "c/run"] * 2
    assert read.classes("run") == ["run"] * 4


def test_a_page_of_a_long_run_is_small_and_keeps_its_extremes(tmp_path: Path) -> None:
    """Of 20,000 rows the one loss that stands out is drawn, and the page is far below its limit."""
    text = reported(tmp_path, state(tmp_path / "run", rows(20_000, spike=12_345), max_steps=20_000))
    assert len(text.encode()) < MOST / 4
    path = next(path for path in re.findall(r'<path class="curve thin[^>]*>', text) if "training" in path)
    low, high = (float(re.search(rf'data-{end}="([^"]+)"', text)[1]) for end in ("low", "high"))  # type: ignore[index]
    y = float(re.search(r"L12344 ([\d.]+)", path)[1])  # type: ignore[index]
    assert high - y / HEIGHT * (high - low) == pytest.approx(9.0, abs=1e-4)


def test_thinning_keeps_four_points_and_a_lost_one_a_column() -> None:
    """First, lowest, highest, last and the first that is no number; the rest goes, and little is not thinned."""
    points = [Point(x, None if x == 501 else 5.0 if x == 777 else -5.0 if x == 888 else 0.001 * x) for x in range(1000)]
    kept = thinned(points, 0, 999, 1)
    assert [point.x for point in kept] == [0, 501, 777, 888, 999]
    assert thinned(points[: 4 * COLUMNS], 0, 999) == tuple(points)


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [-1.0, 1.0], [1e-6, 10.0], [5.0, 5.0001]])
def test_a_scale_holds_its_values(values: list[float]) -> None:
    """Every value lies inside the chart, beside at least one tick; positive ones over decades are logarithmic."""
    scale = Scale.of(values)
    assert all(0 <= scale.height(value) <= HEIGHT for value in values)
    assert all(-1 <= scale.height(tick) <= HEIGHT + 1 for tick in scale.ticks())
    assert scale.ticks()
    assert scale.logarithmic == (values == [1e-6, 10.0])


def test_a_chart_without_a_point_is_none() -> None:
    """Nothing is drawn of curves that have nothing."""
    assert drawn(Chart("t", "n", (Line("a", ()),)), Axis(0, 1), catalogue()) is None


def test_the_page_speaks_korean(tmp_path: Path) -> None:
    """With --lang ko the page says so to the browser, and its titles are Korean."""
    text = reported(tmp_path, state(tmp_path / "run", rows(300, spike=200), max_steps=300), "--lang", "ko")
    assert '<html lang="ko">' in text
    for title in ("손실", "진단", "곡선", "검사하지 않은 항목과 이유", "실행 정보", "할 일:"):
        assert title in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing"], "missing: no such file"),
        ([""], "RUN: found an empty text"),
        (["run", "--baseline", "redwhal"], "redwhale"),
        (["run", "-o", "run/trainer_state.json/x.html"], "expected a place to write to"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    """Exit status 2 and one line on stderr that names it."""
    monkeypatch.chdir(tmp_path)
    state(tmp_path / "run", rows(50))
    result = CliRunner().invoke(app, ["report", *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


@pytest.mark.parametrize("command", ["report", "card"])
def test_the_log_of_a_run_is_not_written_over(tmp_path: Path, command: str) -> None:
    """Named as the output it is refused, under whatever path, and stays as it was."""
    run = Path(state(tmp_path / "run", rows(50)))
    log = run / "trainer_state.json"
    before, link = log.read_bytes(), tmp_path / "link.html"
    link.symlink_to(log)
    for output in (log, link):
        result = CliRunner().invoke(app, [command, str(run), "-o", str(output)])
        assert (result.exit_code, log.read_bytes()) == (2, before)
        assert "the log of the run itself" in result.stderr


def test_a_report_needs_neither_torch_nor_transformers(tmp_path: Path) -> None:
    """The command runs where importing either fails."""
    run = state(tmp_path / "run", rows(50))
    code = (
        "import sys; sys.modules.update({'torch': None, 'transformers': None}); "
        "from ko_cpt_callbacks.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "report", run, "-o", str(tmp_path / "x.html")],
        capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.html").stat().st_size < MOST
