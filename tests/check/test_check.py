"""`ko-cpt check`: the verdict on what a run left behind, as text and as JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from check import sample, staged
from check.command import REAL_RUNS, SCHEMA, check, codes, judged, real_run, write_state
from commands import offline

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.compared_run import read_compared_run
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.messages.terminal import columns
from ko_cpt_callbacks.rules.curve.memorizing import Memorizing

jsonschema = pytest.importorskip("jsonschema")
RECORDED = Path(__file__).resolve().parents[1] / "parity" / "runs"

real = pytest.mark.skipif(not REAL_RUNS.is_dir(), reason="the real logs are not beside this checkout")


def _valid(found: Any) -> bool:
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return True


# -- real logs -------------------------------------------------------------------------------------------------------

# Code, severity, step; the task is not declared, so that a low loss is no alarm.
VERDICTS: dict[str, list[tuple[str, str, int | None]]] = {
    "00": [],
    "01": [
        ("run-seam", "warning", 3510),
        ("padding-in-loss", "warning", 3560),
        ("level-shift", "warning", 3600),
        ("below-floor", "warning", 3630),
        ("memorizing", "warning", 5600),
    ],
    "02": [("memorizing", "warning", 230)],
    "03": [("below-floor", "info", 200)],
    "04": [("not-enough-data", "info", 60)],
    "05": [("not-enough-data", "info", 0)],
    "15": [("memorizing", "warning", 25000), ("below-floor", "info", 52000)],
    "23": [("below-floor", "info", 200), ("below-floor", "info", 400)],
    "26": [("non-finite", "info", 10), ("below-floor", "info", 200), ("below-floor", "info", 200)],
    "54": [("below-floor", "info", 500), ("below-floor", "info", 2000)],
    "55": [],
    "59": [
        ("below-floor", "info", 500),
        ("below-floor", "info", 1000),
        ("below-floor", "info", 1675),
        ("memorizing", "warning", 2050),
        ("overfitting", "warning", 3000),
    ],
    "61": [("below-floor", "info", 0), ("not-enough-data", "info", 0)],
}


@real
def test_every_real_log_has_a_verdict() -> None:
    """The table holds every log there is; 66 alone is refused."""
    assert {path.name[:2] for path in REAL_RUNS.glob("*.json")} == {*VERDICTS, "66"}


@real
@pytest.mark.parametrize("number", VERDICTS)
def test_real_log(number: str) -> None:
    """The log gives exactly these findings, as JSON that fits the schema, and a page without a traceback."""
    found = judged(real_run(number))
    assert _valid(found)
    assert codes(found) == VERDICTS[number]
    text = check(real_run(number)).stdout
    for finding in found["findings"]:
        assert f"[{finding['severity']}] {finding['code']}" in text


@real
def test_the_joined_run_never_meets_its_target() -> None:
    """Run 01 ends at a perplexity of 1.56 because pads are in the loss: found, and no target is called met."""
    found = judged(real_run("01"), "--target", "ppl<3@end", "--task", "cpt")
    said = {finding["code"]: finding for finding in found["findings"]}
    assert "target-met" not in said
    assert [one["reason"] for one in found["run"]["doubts"]] == ["tokenizer"]
    for code in ("padding-in-loss", "below-floor"):
        assert said[code]["severity"] == "warning"
        assert said[code]["step"] > 3510


@real
def test_a_trackers_summary_is_refused() -> None:
    """Run 66 is no Trainer state: one line that says what it is."""
    result = check(real_run("66"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not a Trainer's state (found: train/loss, " in result.stderr
    assert ": a tracker's summary)" in result.stderr


# -- our own histories -----------------------------------------------------------------------------------------------


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """A healthy run's state."""
    return write_state(tmp_path / "trainer_state.json", sample.healthy())


def test_healthy_run(healthy: Path) -> None:
    """Five seconds: the verdict first, then a table, two curves, what was not checked in one line, what to do; no names
    of rules. With --all what was checked, on which rows, and why not the rest."""
    lines = check(healthy).stdout.splitlines()
    text = "\n".join(" ".join(line.split()) for line in lines)
    rules = judged(healthy)["run"]["rules"]
    assert lines[0] == "UNFINISHED after step 400 · nothing wrong so far"
    assert "40 training rows, 4 evaluations, steps 10 to 400 · task other (none declared)" in text
    assert "set first best @step last change PPL bits/byte" in text
    assert "eval 4.000 2.900 @400 2.900 ± 0.020 -1.100 18.2 1.160" in text
    assert "training 6.000 2.874 -52.1% 17.7" in text
    assert "eval █▄▂▁" in text
    assert "\nNot checked: a target (none set); NaN inside a mean (not counted); padding (no batch, no token" in text
    assert lines[-1] == "To do: find out why it ended, then resume from the last checkpoint"
    assert not any(rule in text for rule in rules)
    whole = " ".join(check(healthy, "--all").stdout.split())
    assert f"Checked, {len(rules)} rules: {', '.join(rules)}." in whole
    assert "- No target is set: nothing says whether the run is where it should be." in whole
    assert "- NaN steps were not counted" in whole


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_healthy_page_fits_a_small_terminal(
    healthy: Path, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 lines of 80 columns, whatever the terminal's language; in a pipe no finding is broken."""
    monkeypatch.setattr("ko_cpt_callbacks.cli.check.page_width", lambda: 80)
    monkeypatch.chdir(healthy.parent)
    lines = check(healthy.name, "--lang", language).stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(columns, lines)) <= 80


def test_nothing_left_to_do(tmp_path: Path) -> None:
    """A healthy run with all its evidence and a target that it met needs nothing."""
    rows = [{**row, **({"nonfinite_steps": 0, "tokens_seen": 1000 * row["step"]} if "loss" in row else {})}
            for row in sample.healthy()]  # fmt: skip
    folder = tmp_path / keys.FOLDER
    folder.mkdir()
    batch = {"kind": "setup", "setup": "padding-in-loss", "attempt": 1, "step": 0, "masked_labels": 0}
    lines = [batch, *({"kind": "train" if "loss" in row else "eval", "attempt": 1, **row} for row in rows)]
    (folder / keys.ROWS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = " ".join(check(tmp_path, "--target", "eval_exact_loss<3.0").stdout.split())
    assert "Not checked" not in text
    assert "target-met" in text
    assert "KoCPTCallback()]" not in text


def test_json_summary(healthy: Path) -> None:
    """First, last and best with their errors, the reduction since the start, and where every setting came from."""
    found = judged(healthy)
    assert _valid(found)
    last = found["summary"]["splits"]["eval"]["last"]
    assert (last["step"], last["value"], last["se"], last["metric"]) == (400, 2.9, 0.02, "exact_loss")
    assert found["summary"]["splits"]["eval"]["reduction"] == pytest.approx(0.275)
    assert found["run"]["path"] == found["run"]["file"] == str(healthy)
    assert (found["run"]["task"], found["run"]["task_from"], found["run"]["targets"]) == ("other", "default", [])
    assert (found["run"]["rows"], found["run"]["unused_rows"]) == (44, 0)
    assert [item["evidence"] for item in found["run"]["missing"]] == ["nonfinite-steps", "first-batch", "target"]


def test_the_joined_run(tmp_path: Path) -> None:
    """Tokens per step become constant and the loss collapses: both are found, and the target is not called met."""
    path = write_state(tmp_path / "trainer_state.json", sample.joined())
    found = judged(path, "--target", "ppl<3@end", "--task", "cpt")
    said = {finding["code"]: finding["step"] for finding in found["findings"]}
    assert said["padding-in-loss"] > 600
    assert said["below-floor"] > 600
    assert [one["reason"] for one in found["run"]["doubts"]] == ["tokenizer"]
    assert "target-met" not in said


@pytest.mark.parametrize(("target", "word"), [("ppl<3@end", "info"), ("bits_per_byte<0.4", "warning")])
def test_a_doubtful_target_is_a_line_of_the_page(target: str, word: str, healthy: Path) -> None:
    """Said before anything is judged, and no finding; a target like any other is no line."""
    page = " ".join(check(healthy, "--task", "cpt", "--target", target).stdout.split())
    assert f"[{word}] eval_{target.split('<')[0]}<" in page
    found = judged(healthy, "--task", "cpt", "--target", target)
    assert _valid(found)
    assert len(found["run"]["doubts"]) == 1
    assert found["run"]["doubts"][0]["short"] in page
    other = judged(healthy, "--task", "cpt", "--target", "ppl<20@end")
    assert other["run"]["doubts"] == []


def test_a_nan_logged_as_zero_is_no_perplexity_of_one(tmp_path: Path) -> None:
    """The page does not show a perplexity of 1 for the 0.0 that the Trainer writes for NaN."""
    rows = [*sample.train_rows(sample.falling(20)), {"loss": 0.0, "grad_norm": float("nan"), "step": 210}]
    text = check(write_state(tmp_path / "trainer_state.json", rows)).stdout
    assert "0.000 (a NaN?)" in text
    assert "1.00" not in text
    assert "[error] non-finite train@210: " in text
    assert text.splitlines()[0] == "FAILED at 210: the last loss is not a number · STOP: 1 error"


def test_many_findings_of_one_code_are_counted(tmp_path: Path) -> None:
    """The page shows the first of those that say the same of a set, and how many more there are; --all has all."""
    rows = [row for step in range(8) for row in sample.train_rows([3.0, 3.0, 3.0, float("nan")], 40 * step + 10)]
    path = write_state(tmp_path / "trainer_state.json", rows)
    found = [finding["code"] for finding in judged(path)["findings"]]
    assert found.count("non-finite") == 8
    text = check(path).stdout
    assert text.count("[error] non-finite ") == 1
    assert "7 more findings (7 non-finite): --all lists them" in text
    assert check(path, "--all").stdout.count("[error] non-finite ") == 8


@pytest.mark.parametrize(
    "rows",
    [[], [{"train_loss": 2.0, "train_runtime": 5.0, "step": 8}]],
    ids=["empty", "summary only"],
)
def test_nothing_to_judge_is_readable(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """An empty history, or only the Trainer's last row: not-enough-data and exit 0."""
    path = write_state(tmp_path / "trainer_state.json", rows)
    assert [code for code, _, _ in codes(judged(path))] == ["not-enough-data"]
    text = check(path).stdout
    assert "LOOK: too little to judge" in text.splitlines()[0]
    assert "No row has a loss." in text
    told = "find out why it ended" if text.startswith("UNFINISHED") else "log and evaluate more often"
    assert text.splitlines()[-1].startswith(f"To do: {told}")


def test_empty_rows_file_is_readable(tmp_path: Path) -> None:
    """A run killed before its first row."""
    (tmp_path / "rows.jsonl").write_text("")
    assert [code for code, _, _ in codes(judged(tmp_path))] == ["not-enough-data"]


def test_the_planned_length_is_read_from_the_state(tmp_path: Path) -> None:
    """A retention set that is worse in the first tenth of the plan is not forgotten yet, as the callback knows too."""
    rows = [sample.evaluation(0, 2.0, "eval_en")]
    for index, row in enumerate(sample.train_rows(sample.falling(9)), start=1):
        rows += [row, sample.evaluation(10 * index, 2.2, "eval_en")]
    found = {}
    for planned in (-1, 90, 1000):
        path = tmp_path / "trainer_state.json"
        path.write_text(json.dumps({"log_history": rows, "max_steps": planned}), "utf-8")
        found[planned] = [step for code, _, step in codes(judged(path)) if code == "forgetting"]
        assert judged(path)["run"]["first_step"] == 0
    assert found == {-1: [30], 90: [20], 1000: []}


def test_a_set_that_must_not_be_forgotten(tmp_path: Path) -> None:
    """``--retention`` names it, with another limit if wanted; without, a set of that name may change as it likes."""
    rows = [sample.evaluation(0, 2.0, "eval_old")]
    for index, row in enumerate(sample.train_rows(sample.falling(9)), start=1):
        rows += [row, sample.evaluation(10 * index, 2.08, "eval_old")]
    path = write_state(tmp_path / "trainer_state.json", rows)
    said = {
        name: "forgetting" in [code for code, _, _ in codes(judged(path, *options))]
        for name, options in {
            "none": (),
            "named": ("--retention", "old"),
            "5%": ("--retention", "old<5%"),
            "1%": ("--retention", "old<1%"),
        }.items()
    }
    assert said == {"none": False, "named": True, "5%": False, "1%": True}
    assert "Not checked: forgetting of older (no such set); " in check(path, "--retention", "older").stdout
    assert "no such set" not in check(path, "--retention", "old<1%", "--retention", "en").stdout
    refused = check(path, "--retention", "old<5")
    assert (refused.exit_code, "write 'en<5%'" in refused.stderr) == (2, True)


def test_the_trainers_loss_is_called_so(tmp_path: Path) -> None:
    """Without an exact loss the page shows the Trainer's, by name and without an error bar."""
    rows = [*sample.train_rows(sample.falling(20)), sample.evaluation(200, 2.95)]
    text = check(write_state(tmp_path / "trainer_state.json", rows), "--all").stdout
    assert "3.000*" in text and "* the Trainer's own loss" in text
    assert "- eval: no exact loss: the Trainer's loss depends on the batch size and has no error bar" in text


def test_rows_that_hold_nothing_are_counted(tmp_path: Path) -> None:
    """A row without a step or without a number of ours is not silently passed over."""
    rows = [*sample.healthy(), {"loss": 1.0}, {"step": 5, "custom": 1}]
    path = write_state(tmp_path / "trainer_state.json", rows)
    assert judged(path)["run"]["unused_rows"] == 2
    assert "2 rows with nothing to judge" in " ".join(check(path).stdout.split())


def test_a_target_on_a_set_that_is_not_there(healthy: Path) -> None:
    """It is neither met nor missed, and the sets that there are are named."""
    (finding,) = judged(healthy, "--target", "eval_ko_ppl<20")["findings"]
    assert finding["code"] == "target-inconclusive"
    assert "(evaluated: eval)" in finding["detail"]


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """A set's name with an escape sequence, a line end, rich markup or half a character is shown, not obeyed."""
    names = ("e\x1b[31m", "[red]x\n", "\ud800")
    rows = [sample.evaluation(step, 3.0, name) for step in (1, 2, 3) for name in names]
    path = write_state(tmp_path / "trainer_state.json", rows)
    text = check(path).stdout
    assert "\x1b" not in text
    assert all(shown in text for shown in (r"e\x1b[31m", r"[red]x\n", r"\ud800"))
    assert _valid(judged(path))


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "exits"),
    [(None, (0, 0, 0, 0)), ("info", (0, 1, 1, 1)), ("warning", (0, 0, 1, 1)), ("error", (0, 0, 0, 1))],
)
def test_fail_on(tmp_path: Path, threshold: str | None, exits: tuple[int, ...]) -> None:
    """Exit 1 from the given severity on; the verdict is printed all the same, as text and as JSON."""
    states = [
        sample.healthy(),
        sample.train_rows([3.0, 2.9]),
        sample.joined(),
        sample.train_rows([*sample.falling(20), float("nan")]),
    ]
    options = () if threshold is None else ("--fail-on", threshold)
    for rows, expected in zip(states, exits, strict=True):
        path = write_state(tmp_path / "trainer_state.json", rows)
        result, as_json = check(path, *options), check(path, "--json", *options)
        assert (result.exit_code, as_json.exit_code) == (expected, expected)
        assert "\nTo do: " in result.stdout
        assert _valid(json.loads(as_json.stdout))


def test_task_decides_how_grave_a_low_loss_is(tmp_path: Path) -> None:
    """A loss under the floor is a note by itself, a warning where continued pretraining is declared and bytes are
    known."""
    rows = sample.train_rows([0.9 + 0.01 * (i % 3) for i in range(60)])
    known = {"step": 5, "eval_loss": 3.0, "eval_exact_loss": 3.0, "eval_tokens": 1000, "eval_bytes": 5000}
    for first, last in (([], "info"), ([known], "warning")):
        path = write_state(tmp_path / "trainer_state.json", [*first, *rows])
        severity = {
            options: {code: grave for code, grave, _ in codes(judged(path, *options))}["below-floor"]
            for options in [(), ("--task", "other"), ("--task", "sft"), ("--task", "cpt")]
        }
        assert list(severity.values()) == ["info", "info", "info", last]


@pytest.mark.parametrize("target", ["eval_exact_loss<3.0", "eval_ppl<20@step:400", "bits_per_byte<1.2@end"])
def test_targets(healthy: Path, target: str) -> None:
    """A target that the run reached, error bar included, is met; it may be given several times."""
    found = judged(healthy, "--target", target, "--target", "eval_exact_loss<2.0@end")
    verdicts = [code for code, _, _ in codes(found) if code in ("target-met", "target-missed", "target-inconclusive")]
    assert "target-met" in verdicts
    assert len(found["run"]["targets"]) == 2
    assert found["run"]["targets_from"] == "option"


# -- run folders -----------------------------------------------------------------------------------------------------


def _folder(tmp_path: Path, rows: list[dict[str, Any]], **told: Any) -> Path:
    folder = tmp_path / "run" / keys.FOLDER
    folder.mkdir(parents=True)
    lines = [{"kind": "train" if "loss" in row else "eval", "attempt": 1, **row} for row in rows]
    (folder / keys.ROWS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = {"format": 1, "watch": {"task": "cpt", **told}, "attempts": [], "evaluations": {}, "stop": None}
    (folder / keys.RUN_FILE).write_text(json.dumps(run))
    return folder.parent


def test_a_folder_is_judged_by_what_it_was_told(tmp_path: Path) -> None:
    """Task, targets and rules of run.json are watched."""
    folder = _folder(tmp_path, sample.healthy(), task="sft", targets=["eval_exact_loss<3.0@end"], rules=["target-met"])
    found = judged(folder)
    assert [code for code, _, _ in codes(found)] == ["target-met"]
    run = found["run"]
    assert (run["task"], run["task_from"], run["targets_from"]) == ("sft", "run.json", "run.json")
    assert (run["targets"], run["rules"]) == (["eval_exact_loss<3.0@end"], ["target-met"])
    assert "non-finite" in run["rules_left_out"]
    assert f"{len(run['rules_left_out'])} rules switched off" in check(folder).stdout
    whole = " ".join(check(folder, "--all").stdout.split())
    assert f"Not asked, because the run has a list of rules: {', '.join(run['rules_left_out'])}." in whole


def test_options_come_before_what_it_was_told(tmp_path: Path) -> None:
    """--task replaces the task; --target replaces the targets and asks the rules on targets."""
    folder = _folder(tmp_path, sample.healthy(), targets=["eval_exact_loss<3.0@end"], rules=["not-enough-data"])
    found = judged(folder, "--task", "other", "--target", "eval_ppl<19")
    run = found["run"]
    assert (run["task"], run["task_from"]) == ("other", "option")
    assert (run["targets"], run["targets_from"]) == (["eval_ppl<19.0@end"], "option")
    assert {"target-met", "not-enough-data"} <= set(run["rules"])
    assert "non-finite" not in run["rules"]


def test_a_baseline_to_compare_with(healthy: Path) -> None:
    """``--baseline`` has the run compared as the callback would have; without it nothing is. An unknown one is a
    mistake with a near miss."""
    assert judged(healthy)["run"]["baseline"] is None
    found = judged(healthy, "--baseline", "redwhale")
    assert _valid(found)
    assert found["run"]["baseline"] == "redwhale"
    assert {"baseline-ahead", "baseline-behind", "not-comparable"} & {item["code"] for item in found["findings"]}
    for named, said in (("redwale", "Did you mean redwhale?"), ("", "found an empty text")):
        result = check(healthy, "--baseline", named)
        assert result.exit_code == 2
        assert said in result.stderr


def test_rules_of_another_version(tmp_path: Path) -> None:
    """A rule that this version does not know is named, not passed over."""
    folder = _folder(tmp_path, sample.healthy(), rules=["non-finite", "from-the-future"])
    assert judged(folder)["run"]["unknown_rules"] == ["from-the-future"]
    assert "unknown here: from-the-future" in check(folder).stdout
    assert "Not known to this version: from-the-future." in check(folder, "--all").stdout


FEW = "not-enough-data.min_evaluations=9"
SHORT = [{"step": at, "loss": 3.0 - at / 100, "grad_norm": 1.0} for at in (1, 2)] + [
    {"step": at, "eval_loss": 3.0 - at / 100, "eval_runtime": 1.0} for at in (2, 3, 4)
]


def test_a_rule_with_a_limit_of_its_own(tmp_path: Path) -> None:
    """--rule sets one limit by name and leaves no rule out; the page and --json say so."""
    path = write_state(tmp_path / "trainer_state.json", SHORT)
    assert (codes(judged(path)), judged(path)["run"]["limits"]) == ([], {})
    found = judged(path, "--rule", FEW)
    assert _valid(found)
    assert [code for code, _, _ in codes(found)] == ["not-enough-data"]
    assert found["run"]["limits"] == {"not-enough-data": {"min_evaluations": 9}}
    assert found["run"]["rules"] == judged(path)["run"]["rules"]
    assert f"limits {FEW}" in check(path, "--rule", FEW).stdout


def test_limits_that_a_run_was_told(tmp_path: Path) -> None:
    """Those of run.json are judged by, an option replaces the one of its name, and one that this version does not have
    is named beside the rules that it does not know."""
    limits = {"not-enough-data": {"min_evaluations": 9, "height": 2}, "from-the-future": {"height": 7.5}}
    folder = _folder(tmp_path, SHORT, limits=limits)
    found = judged(folder)
    assert _valid(found)
    assert [code for code, _, _ in codes(found)] == ["not-enough-data"]
    assert found["run"]["limits"] == {"not-enough-data": {"min_evaluations": 9}}
    assert found["run"]["unknown_rules"] == ["not-enough-data.height", "from-the-future.height"]
    less = judged(folder, "--rule", "not-enough-data.min_evaluations=3")
    assert (codes(less), less["run"]["limits"]) == ([], {"not-enough-data": {"min_evaluations": 3}})


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("not-enough-dat.min_evaluations=9", "--rule: found 'not-enough-dat', expected one of"),
        ("not-enough-data.min_evaluation=9", "Did you mean 'min_evaluations'?"),
        ("not-enough-data.min_evaluations=-9", "found -9 for min_evaluations of not-enough-data, expected a whole"),
        ("below-floor.floor=0", "found 0 for floor of below-floor, expected a number above 0"),
        ("not-enough-data", "expected CODE.LIMIT=NUMBER"),
        ("stopped-before.height=1", "write 'note'"),
    ],
)
def test_a_limit_that_cannot_be_used(tmp_path: Path, option: str, said: str) -> None:
    """One line on stderr, status 2, and nothing is judged."""
    result = check(write_state(tmp_path / "trainer_state.json", SHORT), "--rule", option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_limit_in_run_json_that_cannot_be_used(tmp_path: Path) -> None:
    """It is refused with the file: a verdict by another limit would be worse than none."""
    result = check(_folder(tmp_path, SHORT, limits={"not-enough-data": {"min_evaluations": 0}}))
    assert result.exit_code == 2
    assert "run.json: limits: found 0 for min_evaluations of not-enough-data" in result.stderr


def test_every_code_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """A run.json that names them all is judged by the rules that they are now, and none is unknown."""
    asked = judged(_folder(tmp_path, sample.healthy(), rules=[*retired(), "non-finite"]))["run"]
    assert (asked["rules"], asked["unknown_rules"]) == (["note", "non-finite", "memorizing"], [])


def test_why_a_run_was_stopped(tmp_path: Path) -> None:
    """The reason in run.json is told."""
    folder = _folder(tmp_path, sample.healthy())
    path = folder / keys.FOLDER / keys.RUN_FILE
    stop = {"code": "target-met", "step": 400, "short": "There.", "detail": "There it is.", "severity": "info"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "stop": stop}))
    assert "stopped at step 400 by target-met: There." in check(folder).stdout
    del stop["severity"]
    assert judged(folder)["run"]["stop"] == stop


def test_a_checkpoint_is_judged_by_what_its_run_was_told(tmp_path: Path) -> None:
    """The state of a checkpoint under the run's folder."""
    folder = _folder(tmp_path, sample.healthy(), task="sft")
    write_state(folder / "checkpoint-400" / "trainer_state.json", sample.healthy())
    found = judged(folder / "checkpoint-400")["run"]
    assert (found["source"], found["task"], found["task_from"]) == ("trainer_state", "sft", "run.json")


@pytest.mark.parametrize("name", sorted(path.name for path in RECORDED.glob("*")))
def test_check_equals_the_live_findings(tmp_path: Path, name: str) -> None:
    """For real recorded runs: the folder gives, finding for finding, what the callback said while it ran."""
    folder = tmp_path / "run" / keys.FOLDER
    shutil.copytree(RECORDED / name, folder)
    live = [json.loads(line) for line in (folder / keys.FINDINGS_FILE).read_text("utf-8").splitlines()]
    for path in (folder.parent, folder, folder / keys.ROWS_FILE):
        found = judged(path)
        assert _valid(found)
        assert list(map(_told, found["findings"])) == list(map(_told, live))


def _told(finding: dict[str, Any]) -> dict[str, Any]:
    """A finding without its sentences: the recorded folders are of a version that had others."""
    return {name: value for name, value in finding.items() if name not in ("message", "short", "detail")}


def test_a_run_that_trains_now(tmp_path: Path) -> None:
    """While another process holds the folder it is running and not killed; once that let go it is unfinished. To ask
    takes nothing from the one that writes."""
    folder = _folder(tmp_path, sample.healthy())
    held = (
        "import sys, pathlib; from ko_cpt_callbacks.run.lock import FolderLock; lock = FolderLock(pathlib.Path("
        "sys.argv[1])); print(lock.take().value, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", held, str(folder / keys.FOLDER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "ours\n"
        assert judged(folder)["state"] == "running"
        page = check(folder).stdout
        assert page.startswith("RUNNING at step 400 · nothing wrong so far\n")
        assert read_compared_run(str(folder)).facts.state == "running", "compare and report say the same"
        writer.communicate()
    assert judged(folder)["state"] == "unfinished"


# -- without the heavy libraries -------------------------------------------------------------------------------------


def test_without_torch_and_transformers(healthy: Path) -> None:
    """A process that cannot import them judges, as text and as JSON, and refuses in one line."""
    text, as_json, refused = offline(
        ["check", str(healthy)],
        ["check", str(healthy), "--json", "--target", "ppl<20@end"],
        ["check", str(healthy.parent / "nothing")],
    )
    assert (text.returncode, text.stderr) == (0, "")
    assert "nothing wrong so far" in text.stdout
    assert (as_json.returncode, as_json.stderr) == (0, "")
    assert _valid(json.loads(as_json.stdout))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert len(refused.stderr.splitlines()) == 1


def test_the_schema_refuses_what_is_not_said(healthy: Path) -> None:
    """The schema is a schema, and no empty promise: a missing, a foreign and a wrong value are refused."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = judged(healthy.parent, "--target", "ppl<20")
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert found["findings"]
    for change in (
        {"summary": None}, {"more": 1}, {"findings": [{"code": "x"}]}, {"run": {**found["run"], "task": "x"}},
        {"findings": [{**found["findings"][0], "severity": "grave"}]},
        {"findings": [{k: v for k, v in found["findings"][0].items() if k != "asks_to_stop"}]},
    ):  # fmt: skip
        assert not validator.is_valid({**found, **change})


# -- a rule that raises ------------------------------------------------------------------------------------------------


def test_a_rule_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others judge the run; stderr says which rule failed, where and how, in one printable line; the exit is 2."""

    def broken(self: object, state: Any, seen: Any, signals: Any) -> Any:
        raise IndexError("tuple index\n\x1b[31m out of range")

    path = write_state(tmp_path / "trainer_state.json", [*sample.healthy(), {"step": 900, "loss": float("nan")}])
    whole = judged(path)
    monkeypatch.setattr(Memorizing, "step", broken)
    for options in ((), ("--json",), ("--fail-on", "warning")):
        result = check(path, *options)
        assert result.exit_code == 2
        assert result.stderr == (
            f"ko-cpt check: rule memorizing failed at step {whole['run']['first_step']}: "
            "IndexError: tuple index\\n\\x1b[31m out of range\n"
        )
        assert "\x1b" not in result.stdout
    found = json.loads(check(path, "--json").stdout)
    assert _valid(found)
    assert [item for item in found["findings"] if item["code"] != "rule-failed"] == whole["findings"]
    assert [item["values"]["rule"] for item in found["findings"] if item["code"] == "rule-failed"] == ["memorizing"]


def test_a_rule_that_fails_in_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a staged training the stage is named too."""

    def broken(self: object, state: Any, signals: Any) -> Any:
        raise KeyError("loss")

    (folder,) = staged.plan(tmp_path, ["embedding"])
    staged.stage(folder, "embedding", (4.0, 3.5))
    assert check(tmp_path).exit_code == 0
    monkeypatch.setattr(Memorizing, "close", broken)
    result = check(tmp_path)
    assert (result.exit_code, result.stderr) == (
        2, "ko-cpt check: stage embedding: rule memorizing failed at step 400: KeyError: 'loss'\n",
    )  # fmt: skip


# -- the facts that every verdict carries ----------------------------------------------------------------------------

FACTS = ("state", "complete", "steps_done", "steps_planned", "verdict", "kind", "stopped_by")


def _state(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    path.write_text(json.dumps({"log_history": rows, **more}), "utf-8")
    return path


def _control(stop: bool) -> dict[str, Any]:
    return {"args": {"should_training_stop": stop, "should_save": True}, "attributes": {}}


def _patience(patience: int, counter: int) -> dict[str, Any]:
    return {
        "args": {"early_stopping_patience": patience}, "attributes": {"early_stopping_patience_counter": counter},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("more", "facts", "line"),
    [
        (
            {"max_steps": 10_000, "global_step": 400},
            ("unfinished", False, 400, 10_000, "look", None, None),
            "UNFINISHED 400 of 10,000 steps · nothing wrong so far",
        ),
        ({"max_steps": 400, "global_step": 400}, ("finished", True, 400, 400, "ok", None, None), None),
        ({"max_steps": 404, "global_step": 404}, ("finished", True, 404, 404, "ok", None, None), None),
        (
            {"max_steps": 900, "global_step": 400, "stateful_callbacks": {"TrainerControl": _control(True)}},
            ("stopped", False, 400, 900, "ok", None, "should_training_stop"),
            "STOPPED by should_training_stop at 400 of 900 steps · OK",
        ),
        (
            {"max_steps": 900, "global_step": 400,
             "stateful_callbacks": {"EarlyStoppingCallback": _patience(3, 3), "TrainerControl": _control(True)}},
            ("stopped", False, 400, 900, "ok", None, "EarlyStoppingCallback"),
            "STOPPED by EarlyStoppingCallback at 400 of 900 steps · OK",
        ),
        (  # a checkpoint on the way: patient, but not out of patience
            {"max_steps": 900, "global_step": 400,
             "stateful_callbacks": {"EarlyStoppingCallback": [_patience(3, 2)], "TrainerControl": _control(False)}},
            ("unfinished", False, 400, 900, "look", None, None),
            "UNFINISHED 400 of 900 steps · nothing wrong so far",
        ),
        (  # what asks at the last step is the end itself
            {"max_steps": 400, "global_step": 400, "stateful_callbacks": {"TrainerControl": _control(True)}},
            ("finished", True, 400, 400, "ok", None, None), None,
        ),
        (
            {"max_steps": 900, "global_step": 400, "stateful_callbacks": {"TrainerControl": [7], "Early": None}},
            ("unfinished", False, 400, 900, "look", None, None),
            "UNFINISHED 400 of 900 steps · nothing wrong so far",
        ),
        (
            {},
            ("unfinished", False, 400, None, "look", None, None),
            "UNFINISHED after step 400 · nothing wrong so far",
        ),
    ],
)
def test_the_facts_of_a_verdict(more: dict[str, Any], facts: tuple[Any, ...], line: str | None, tmp_path: Path) -> None:
    """State, completeness and steps stand in JSON and in the page's verdict: unfinished is not healthy."""
    path = _state(tmp_path / "trainer_state.json", sample.healthy(), **more)
    found = judged(path)
    assert _valid(found)
    assert tuple(found[name] for name in FACTS) == facts
    assert {name: found["summary"][name] for name in FACTS} == {name: found[name] for name in FACTS}
    assert check(path).stdout.splitlines()[0] == (line or "OK")


def test_a_state_that_was_closed_early_was_stopped(tmp_path: Path) -> None:
    """The Trainer's closing row at the step where the state stands: the training left its loop by itself. The closing
    row of an earlier, shorter training is none."""
    closing = {"step": 400, "train_loss": 3.0, "train_runtime": 9.0}
    path = _state(tmp_path / "trainer_state.json", [*sample.healthy(), closing], max_steps=900, global_step=400)
    assert (judged(path)["state"], judged(path)["stopped_by"]) == ("stopped", "should_training_stop")
    path = _state(tmp_path / "later.json", [*sample.healthy(), closing], max_steps=900, global_step=410)
    assert (judged(path)["state"], judged(path)["stopped_by"]) == ("unfinished", None)


def test_a_stopped_run_says_by_what(tmp_path: Path) -> None:
    """The set-up row, or ``run.json`` of an earlier version, names the finding."""
    folder = tmp_path / keys.FOLDER
    folder.mkdir()
    rows = [{"kind": "setup", "setup": "plan", "attempt": 1, "step": 0, "planned_steps": 900, "trainer_kind": "causal"}]
    kinds = [{"kind": "train" if "loss" in row else "eval", "attempt": 1, **row} for row in sample.healthy()]
    stop = {"kind": "setup", "setup": "ended-early", "attempt": 1, "step": 400, "by": "target-met"}
    lines = [*rows, *kinds, stop, {"kind": "end", "attempt": 1, "step": 400, "train_loss": 3.0, "train_runtime": 1.0}]
    (folder / keys.ROWS_FILE).write_text("\n".join(map(json.dumps, lines)) + "\n", "utf-8")
    found = judged(tmp_path)
    assert tuple(found[name] for name in FACTS) == ("stopped", False, 400, 900, "ok", "causal", "target-met")
    text = check(tmp_path).stdout
    assert text.splitlines()[0] == "STOPPED by target-met at 400 of 900 steps · OK"
    assert "kind causal" in text


def test_a_preference_log_has_no_perplexity(tmp_path: Path) -> None:
    """Its keys say what it is: no perplexity in the table, no floor, and no advice to measure an exact loss."""
    rows = [{"loss": 0.69 / (1 + i), "rewards/margins": 0.1 * i, "step": 10 * i + 10} for i in range(40)]
    rows.append({"eval_loss": 0.02, "eval_rewards/margins": 2.0, "eval_runtime": 1.0, "step": 400})
    path = _state(tmp_path / "trainer_state.json", rows, max_steps=400, global_step=400)
    found = judged(path, "--task", "cpt")
    assert found["kind"] == "preference"
    assert [finding["code"] for finding in found["findings"]] == []
    assert found["summary"]["splits"]["eval"]["last"]["ppl"] is None
    assert "exact-loss" not in {item["evidence"] for item in found["run"]["missing"]}
    text = " ".join(check(path).stdout.split())
    assert "kind preference" in text
    assert "eval 0.020* training 0.690 0.017 -97.5% * the Trainer's" in text
    whole = " ".join(check(path, "--all").stdout.split())
    assert "Not for a run of kind preference: " in whole
    assert "below-floor" not in whole.partition("Checked, ")[2].partition("Not for")[0]


def test_reinforcement_learning_is_recognised() -> None:
    """A GRPO log without its reward keys: a loss around zero that jumps is no language model's."""
    path = Path(__file__).resolve().parents[2].parent / "shared" / "cases" / "logs" / "grpo.json"
    if not path.is_file():
        pytest.skip("the cases are not in this checkout")
    found = judged(path)
    assert (found["kind"], found["findings"]) == ("rl", [])


def test_a_target_on_a_bare_log(tmp_path: Path) -> None:
    """A target on the Trainer's loss is judged by it; one on the exact loss or its perplexity by nothing."""
    rows = [{**row} for row in sample.train_rows(sample.falling(40))]
    rows += [sample.evaluation(400, 2.8), {"train_loss": 3.0, "train_runtime": 1.0, "step": 400}]
    path = _state(tmp_path / "trainer_state.json", rows, max_steps=400, global_step=400)
    targets = ["--target", "eval_loss<3", "--target", "eval_exact_loss<3", "--target", "eval_ppl<30"]
    said = [(one["code"], one["values"]["target"]) for one in judged(path, *targets)["findings"]]
    assert said == [
        ("target-met", "eval_loss<3.0@end"),
        ("target-inconclusive", "eval_exact_loss<3.0@end"),
        ("target-inconclusive", "eval_ppl<30.0@end"),
    ]
    page = " ".join(check(path, *targets).stdout.split())
    assert "eval_exact_loss<3.0@end: the row has only the Trainer's loss" in page


@pytest.mark.parametrize("task", ["sft", "other"])
def test_the_floor_is_not_asked_of_other_tasks(task: str, tmp_path: Path) -> None:
    """A loss of 0.5 is a target like any other in fine-tuning and classification; met at the end."""
    rows = [*sample.train_rows(sample.falling(40, 2.0, 0.4)), sample.evaluation(400, 0.45)]
    rows.append({"train_loss": 0.6, "train_runtime": 1.0, "step": 400})
    path = write_state(tmp_path / "trainer_state.json", rows)
    assert ("target-met", "info", 400) in codes(judged(path, "--target", "eval_loss<0.6", "--task", task))
    assert judged(path, "--target", "eval_loss<0.6", "--task", task)["run"]["doubts"] == []
    (doubt,) = judged(path, "--target", "eval_loss<0.6", "--task", "cpt")["run"]["doubts"]
    assert doubt["reason"] == "tokenizer"
    said = {code for code, _, _ in codes(judged(path, "--target", "eval_loss<0.2", "--task", "cpt"))}
    assert "target-met" not in said
