"""What is said today is what the golden files keep, as far as there is time for it in the tests.

Here are a quarter of two seeds of the suite without its longest logs, all logs and all outputs; four seeds at full
size are ``make golden``, which prints every difference with the label of its run. A difference is looked at, explained
in the commit and then kept by ``python tests/golden/record.py``; no test writes a golden file.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden.difference import BETTER, NEITHER, WORSE, differences, output_differences, report, summary
from golden.judged import Judged, Said, judged, read, write
from golden.output import kept, read_kept, written
from golden.part import PARTS, SEEDS, Part, absent, part_now, suite_now
from golden.record import FOLDER, compared, kept_text
from suite.generator import make
from suite.run import LabelledRun

SIZE, MOST_ROWS = 0.25, 700
SPIKE = LabelledRun(
    "loss-spike/x/00", "loss-spike/x", [{"loss": 2.0, "step": 10}], {"loss-spike": (50, 90)}, frozenset({"run-seam"}),
    healthy=False, onset=50,
)  # fmt: skip
CALM = LabelledRun("healthy/x/00", "healthy/x", [], allowed=frozenset({"run-seam"}))


def _assert_as_kept(name: str, now: Part) -> None:
    found, _ = compared(name, now)
    assert not found, "\n".join(
        ["", *report(found[:20]), *summary(found), "all of it: make golden; keep it: python tests/golden/record.py"]
    )


def _spike(step: int, severity: str = "warning", code: str = "loss-spike") -> Said:
    return Said(code, step, "train", severity, "points")


def _verdicts(label: LabelledRun, before: list[Said], after: list[Said]) -> list[tuple[str, str, str]]:
    old, new = Judged("x", "0", tuple(before)), Judged("x", "0", tuple(after))
    return [(one.code, one.change, one.verdict) for one in differences("suite-0", old, new, label)]


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_quarter_of_the_suite(seed: int) -> None:
    """Rows, labels and findings of each kind's first runs are those that are kept."""
    now = suite_now(seed, SIZE, MOST_ROWS)
    assert len(now.runs) >= 150
    _assert_as_kept(f"suite-{seed}", now)


@pytest.mark.parametrize("name", ["logs", "public", "output"])
def test_logs_and_outputs(name: str) -> None:
    """What ``--json`` prints of logs and recorded runs, of made and staged runs, comparisons, baselines and recipes, is
    what is kept, but for sentences; nothing that is kept is printed no more."""
    why = absent(name)
    if why is not None:
        pytest.skip(why)
    now = part_now(name)
    _assert_as_kept(name, now)
    assert {path.stem for path in (FOLDER / name).glob("*.json")} == now.outputs.keys()


def test_every_part_is_kept() -> None:
    """Each part has its files, the four seeds hold as many runs, and all together stay small enough to read."""
    for name in PARTS:
        assert (FOLDER / f"{name}.txt").is_file() or (FOLDER / name).is_dir(), name
    suites = [read(kept_text(f"suite-{seed}.txt") or "").keys() for seed in SEEDS]
    assert len(suites[0]) > 600
    assert all(names == suites[0] for names in suites)
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 1_500_000


def test_a_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Every part of a finding's line is read again: no step, no set, no variant, the wish to stop; a run without
    findings stays one."""
    said = (Said("a-b", None, None, "info"), Said("c", 7, "eval_ko", "error", "train-near-zero", True))
    runs = [Judged("healthy/x/01", "00ff00ff", ()), Judged("fault/x/00", "12345678", said)]
    write(tmp_path / "file.txt", runs, "what it is")
    text = (tmp_path / "file.txt").read_text("utf-8")

    assert text.splitlines() == [
        "# what it is", "fault/x/00 12345678", "  a-b@-[-] info", "  c@7[eval_ko] error train-near-zero (stop)",
        "healthy/x/01 00ff00ff",
    ]  # fmt: skip
    assert read(text) == {one.name: one for one in runs}


def test_a_line_that_says_nothing_is_refused() -> None:
    """A golden file that was edited by hand into something else is no empty one."""
    with pytest.raises(ValueError, match="expected code@step"):
        Said.of("loss-spike at 410")


@pytest.mark.parametrize(
    ("before", "after", "change", "verdict"),
    [
        ([_spike(60)], [], "gone", WORSE),
        ([], [_spike(60)], "new", BETTER),
        ([_spike(60)], [_spike(80)], "moved", NEITHER),
        ([_spike(60)], [_spike(60, "error")], "moved", NEITHER),
        ([_spike(60)], [_spike(60, "info")], "moved", WORSE),
        ([_spike(60)], [_spike(91)], "moved", WORSE),
        ([_spike(91)], [], "gone", NEITHER),
        ([_spike(40), _spike(60)], [_spike(60)], "moved", BETTER),
        ([_spike(60)], [_spike(40), _spike(60)], "moved", WORSE),
        ([], [_spike(40), _spike(60)], "new", WORSE),
    ],
)
def test_a_fault_found_in_its_window_is_better(
    before: list[Said], after: list[Said], change: str, verdict: str
) -> None:
    """A hit lost, or an alarm before the window won, is worse, whatever else got better; another row of the window, or
    a fault said after it, is neither."""
    assert _verdicts(SPIKE, before, after) == [("loss-spike", change, verdict)]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([_spike(60)], [], BETTER),
        ([], [_spike(60)], WORSE),
        ([_spike(60)], [_spike(70)], NEITHER),
        ([_spike(60), _spike(70)], [_spike(70)], BETTER),
        ([_spike(60)], [_spike(60, "error")], WORSE),
        ([_spike(60)], [_spike(60, "info")], BETTER),
        ([], [_spike(60, "info")], NEITHER),
        ([], [_spike(60, "error", "run-seam")], NEITHER),
        ([], [_spike(60, "warning", "prompt-in-loss")], NEITHER),
    ],
)
def test_a_false_alarm_is_worse(before: list[Said], after: list[Said], verdict: str) -> None:
    """On a healthy run a warning is worse, a graver or a second one too; notes, what the label allows, and codes about
    the set-up are neither."""
    assert [one[2] for one in _verdicts(CALM, before, after)] == [verdict]


def test_codes_are_compared_one_by_one() -> None:
    """A spike that is now called a shift is a miss and a false alarm; what is said as before is no difference."""
    seam = _spike(20, code="run-seam")
    assert _verdicts(SPIKE, [seam, _spike(60)], [_spike(60, code="level-shift"), seam]) == [
        ("level-shift", "new", WORSE), ("loss-spike", "gone", WORSE),
    ]  # fmt: skip
    assert _verdicts(SPIKE, [_spike(60), _spike(70)], [_spike(70), _spike(60)]) == []


def test_other_rows_or_another_label_are_told() -> None:
    """The checksum is of the rows and of what should be said, at six digits: the suite itself is frozen too."""
    run = make("loss-spike/narrow", 0)
    row = {**run.rows[0], "loss": run.rows[0]["loss"] + 0.001}
    last = {**run.rows[0], "loss": run.rows[0]["loss"] * (1 + 1e-12)}
    others = [
        replace(run, rows=[row, *run.rows[1:]]), replace(run, allowed=run.allowed | {"x"}), replace(run, expected={}),
        replace(run, task="sft" if run.task == "cpt" else "cpt"), replace(run, max_steps=run.max_steps + 1),
    ]  # fmt: skip
    old = judged(run)
    assert judged(replace(run, rows=[last, *run.rows[1:]])).checksum == old.checksum
    for other in others:
        changes = [one.change for one in differences("suite-0", old, judged(other), other)]
        assert changes.count("rows") == 1, (other.rows[0], other.expected, other.allowed, other.task, other.max_steps)


def test_runs_that_are_not_kept_yet_are_no_difference() -> None:
    """A kind that is added to the suite is named, and changes nothing for the others."""
    run = replace(make("healthy/cosine", 0), name="healthy/brand-new/00")
    assert compared("suite-0", Part([(judged(run), run)])) == ([], ["suite-0: healthy/brand-new/00"])
    assert compared("output", Part([], {"brand-new": {}})) == ([], ["output: brand-new"])


def test_an_output_keeps_no_sentences_and_no_places(tmp_path: Path) -> None:
    """Paths begin at a name, floats have six digits, findings are by step, and the file reads back the same."""
    later = {"code": "a", "step": 9, "split": None, "variant": "", "detail": "It rose.", "values": {"z": 1.23456789}}
    first = {**later, "step": 1, "values": {"signs": ["x", "y"]}}
    found = kept({"run": {"path": f"{tmp_path}/log.json", "rules": ["b", "a"]}, "findings": [later, first]}, tmp_path)

    assert found == {
        "run": {"path": "MADE/log.json", "rules": ["a", "b"]},
        "findings": [
            {**first, "detail": "…"}, {**later, "detail": "…", "values": {"z": 1.23457}},
        ],
    }  # fmt: skip
    assert read_kept(written(found)) == found
    assert '"signs": ["x", "y"]' in written(found)


def test_a_difference_of_outputs_has_a_path() -> None:
    """A finding that is added moves none of the others; of a list of names what came and went is told."""
    one: dict[str, Any] = {"code": "a", "step": 9, "split": "train", "values": {"z": 1.0}}
    old = {"findings": [one], "run": {"rules": ["x", "y"]}}
    new = {"findings": [{**one, "step": 5}, {**one, "values": {"z": 2.0}}], "run": {"rules": ["y", "w"]}}
    found = {one.code: (one.old, one.new) for one in output_differences("output", "check", old, new)}

    assert found == {
        "findings[a@9 train].values.z": ("1.0", "2.0"),
        "findings[a@5 train].code": ("-", "a"),
        "findings[a@5 train].step": ("-", "5"),
        "findings[a@5 train].split": ("-", "train"),
        "findings[a@5 train].values.z": ("-", "1.0"),
        "run.rules": ("['x']", "['w']"),
    }
    assert list(output_differences("output", "check", old, json.loads(json.dumps(old)))) == []


def test_the_report_shows_label_old_and_new() -> None:
    """Worse ones come first; the summary counts codes and verdicts."""
    old = Judged("loss-spike/x/00", "0", (_spike(60),))
    new = Judged("loss-spike/x/00", "0", (_spike(60, code="plateau"),))
    quiet = Judged("healthy/x/00", "0", ())
    found = [
        *differences("suite-0", Judged("healthy/x/00", "0", (_spike(40),)), quiet, CALM),
        *differences("suite-0", old, new, SPIKE),
    ]  # fmt: skip
    label = "(kind loss-spike/x; expected loss-spike 50..90; allowed run-seam)"

    assert report(found) == [
        "\n".join([f"worse   gone   loss-spike  suite-0: loss-spike/x/00  {label}",
                   "    old loss-spike@60[train] warning points", "    new -"]),
        "\n".join([f"worse   new    plateau  suite-0: loss-spike/x/00  {label}",
                   "    old -", "    new plateau@60[train] warning points"]),
        "\n".join(["better  gone   loss-spike  suite-0: healthy/x/00  (healthy; allowed run-seam)",
                   "    old loss-spike@40[train] warning points", "    new -"]),
    ]  # fmt: skip
    assert summary(found)[-1] == "better: 1, worse: 2, neither: 0"
    assert summary(found)[1].split() == ["loss-spike", "2", ".", ".", ".", ".", "1", "1", "."]


def test_what_moved_is_earlier_or_later() -> None:
    """By the first finding that differs; another severity at the same step is neither."""
    old = Judged("x", "0", (_spike(52), _spike(60), _spike(80)))
    graver = (_spike(52), _spike(60, "error"), _spike(80))
    for said, steps in (((_spike(52), _spike(64)), 4), ((_spike(52), _spike(55)), -5), (graver, 0)):
        (found,) = differences("suite-0", old, Judged("x", "0", said), SPIKE)
        assert (found.change, found.later) == ("moved", steps)
    earlier = Judged("x", "0", (_spike(51), _spike(60), _spike(80)))
    assert summary(list(differences("suite-0", old, earlier, SPIKE)))[1].split()[3:6] == ["1", "1", "."]
