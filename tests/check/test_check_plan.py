"""`ko-cpt check` of a staged training: stage by stage, and from each stage to the next."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from check import staged
from check.command import ROOT, SCHEMA, check, judged, write_state
from check.sample import healthy
from commands import offline

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import CheckOptions
from ko_cpt_callbacks.check.staged import PlanJudgement, StageChange, judge_plan
from ko_cpt_callbacks.check.staged_page import plan_lines
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.compare.stage_delta import STAGE_DIFFERENCE
from ko_cpt_callbacks.run.reading import read_plan

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

PLAN_SCHEMA = json.loads((ROOT / "ko_cpt_callbacks" / "schemas" / "check_plan.schema.json").read_text("utf-8"))
FOUR = ["embedding", "odd-layers", "even-layers", "lora"]
LEVELS = {"embedding": (6.0, 3.30), "odd-layers": (3.30, 3.09), "even-layers": (3.09, 3.065), "lora": (3.065, 3.04)}


def _valid(found: Any) -> bool:
    known = [("check.schema.json", referencing.Resource.from_contents(SCHEMA))]
    registry = referencing.Registry().with_resources(known)
    jsonschema.Draft202012Validator(PLAN_SCHEMA, registry=registry).validate(found)
    return True


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four stages, each a little better than the one before."""
    for index, folder in enumerate(staged.plan(tmp_path, FOUR)):
        staged.stage(folder, FOUR[index], LEVELS[FOUR[index]], seed=index)
    return tmp_path


def _again(folder: Path, name: str, levels: tuple[float, float], **changes: Any) -> None:
    """A stage in place of the one that is there."""
    shutil.rmtree(folder)
    staged.stage(folder, name, levels, **changes)


def _codes(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["stage"], item["code"]) for item in found["findings"] if item["severity"] != "info"]


def _delta(found: dict[str, Any], stage: str, split: str = "eval_ko") -> dict[str, Any]:
    (one,) = [item for item in found["deltas"] if (item["stage"], item["split"]) == (stage, split)]
    return dict(one)


def _judged(run: Path, baseline: Baseline | None = None) -> PlanJudgement:
    plan = read_plan(run)
    assert plan is not None
    return judge_plan(plan, CheckOptions(baseline=baseline))


def test_json(run: Path) -> None:
    """One object that fits its schema: a check object for each stage, a change for each set and pair of stages."""
    found = judged(run)
    assert _valid(found)
    assert [stage["state"] for stage in found["plan"]["stages"]] == ["judged"] * 4
    assert [stage["trains"] for stage in found["plan"]["stages"]] == [staged.NAMES[name] for name in FOUR]
    assert [Path(stage["run"]["path"]).name for stage in found["stages"]] == [
        "01-embedding", "02-odd-layers", "03-even-layers", "04-lora"
    ]  # fmt: skip
    for stage, folder in zip(found["stages"], sorted((run / "stages").iterdir()), strict=True):
        assert stage == judged(folder)
    pairs = [(item["before"], item["stage"]) for item in found["deltas"] if item["split"] == "eval_ko"]
    assert pairs == list(pairwise(FOUR))
    assert _delta(found, "odd-layers")["difference"] == pytest.approx(-0.21, abs=0.01)
    assert _codes(found) == []


def test_schema_is_a_schema() -> None:
    """Draft 2020-12, correct by its own meta-schema; a stage's object with a key too many does not fit."""
    jsonschema.Draft202012Validator.check_schema(PLAN_SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        _valid({"format": 1, "plan": {}, "stages": [], "deltas": [], "findings": [], "more": 1})


def test_changes_are_paired(run: Path) -> None:
    """With the sums per row of both ends the error bar is that of the same rows, far below the losses' own."""
    for stage in FOUR[1:]:
        delta = _delta(judged(run), stage)
        assert (delta["outcome"], delta["unit"]) == ("paired", "nats per token")
        assert (delta["rows"], delta["judged"]) == (150, True)
        assert delta["se"] < 0.003
        assert delta["high"] < 0


def test_the_hand_over_is_no_seam(run: Path) -> None:
    """Steps, rates and tokens begin anew in every stage, and nothing is found in that: each stage is its own run."""
    found = judged(run)
    assert all(stage["run"]["first_step"] == 0 for stage in found["stages"])
    assert _codes(found) == []


def test_page(run: Path) -> None:
    """The verdict first; a row for each stage: tokens, last loss with its error, bits per byte, the change; with --all
    what each stage trains."""
    text = check(run).stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "OK"
    assert "staged training, 4 stages · 4 judged" in text
    table = lines[lines.index("eval_ko") + 1 :]
    assert table[0] == "stage tokens last PPL bits/byte change verdict"
    assert table[1].startswith("embedding 200,000 3.291 ± 0.035 26.9 1.583")
    assert table[2].endswith("-0.209 ± 0.001 better")
    assert "eval_en (must not be forgotten; not judged)" in lines
    assert "odd-layers · stages/02-odd-layers · trains odd layers" in check(run, "--all").stdout
    assert max(len(line) for line in text.splitlines()) <= 140
    assert "Traceback" not in text


def test_regression(run: Path) -> None:
    """A stage that ends worse is found, once, on its set; the retention set, which always gets worse, never is."""
    _again(run / "stages" / "03-even-layers", "even-layers", (3.09, 3.12), seed=2)
    found = judged(run)
    assert _valid(found)
    assert _codes(found) == [("even-layers", "stage-regression")]
    assert _delta(found, "lora", "eval_en")["difference"] > 0.5
    assert not _delta(found, "lora", "eval_en")["judged"]
    text = " ".join(check(run).stdout.split())
    assert "[warning] stage-regression eval_ko@400: even-layers ends +0.0" in text


def test_within_the_noise(run: Path) -> None:
    """Worse by less than its error is no regression."""
    _again(run / "stages" / "03-even-layers", "even-layers", (3.09, 3.0917), seed=2)
    delta = _delta(judged(run), "even-layers")
    assert delta["low"] < 0 < delta["high"]
    assert _codes(judged(run)) == []


def test_a_regression_that_the_error_bars_alone_would_hide(run: Path) -> None:
    """Without the sums per row the two losses' own errors decide, and a small regression is within them."""
    shutil.rmtree(run / "stages" / "02-odd-layers" / "ko_cpt" / "eval_rows")
    _again(run / "stages" / "03-even-layers", "even-layers", (3.09, 3.12), seed=2)
    found = judged(run)
    delta = _delta(found, "even-layers")
    assert (delta["outcome"], delta["reasons"]) == ("unpaired", ["no-rows"])
    assert _codes(found) == []
    assert "even-layers: unpaired: no sums per row" in check(run).stdout


def test_a_clear_regression_without_the_sums(run: Path) -> None:
    """One beyond both errors is found, and says that it is not paired."""
    _again(run / "stages" / "03-even-layers", "even-layers", (3.09, 3.5), seed=2, keep_rows=False)
    (finding,) = [item for item in judged(run)["findings"] if item["code"] == "stage-regression"]
    assert finding["variant"] == "unpaired"


def test_damaged_sums(run: Path) -> None:
    """A file of sums that cannot be read costs the pairing, not the verdict."""
    path = run / "stages" / "02-odd-layers" / "ko_cpt" / "eval_rows" / keys.eval_rows_file("eval_ko", 400)
    path.write_bytes(b"not an archive")
    delta = _delta(judged(run), "even-layers")
    assert (delta["outcome"], delta["reasons"]) == ("unpaired", ["unreadable-rows"])
    assert "the file of sums per row cannot be read" in " ".join(check(run).stdout.split())


def test_other_text(run: Path) -> None:
    """Evaluated on other rows: no change, said so, and no finding, however much worse."""
    _again(run / "stages" / "03-even-layers", "even-layers", (4.55, 4.5), seed=2, text=5)
    found = judged(run)
    assert _delta(found, "even-layers")["reasons"] == ["different-text"]
    assert _codes(found) == []
    assert "even-layers: not comparable: the two evaluated different text" in check(run).stdout


def test_another_tokenizer(run: Path) -> None:
    """A stage with another vocabulary is measured in bits per byte, and a regression is found in that unit."""
    _again(run / "stages" / "03-even-layers", "even-layers", (3.65, 3.6), seed=2, tokenizer="other")
    found = judged(run)
    assert _delta(found, "even-layers")["unit"] == "bits per byte"
    assert _codes(found) == [("even-layers", "stage-regression")]


def test_a_stage_that_still_runs_is_not_judged(run: Path) -> None:
    """Before its last row a stage's latest evaluation is not its end: shown, and no regression."""
    _again(run / "stages" / "04-lora", "lora", (4.0, 3.9), seed=3, ended=False)
    found = judged(run)
    delta = _delta(found, "lora")
    assert (delta["difference"] > 0.5, delta["ended"], delta["judged"]) == (True, False, False)
    assert _codes(found) == []
    assert "the stage has not ended, so this is no verdict on it" in " ".join(check(run).stdout.split())


def test_a_noted_difference_is_not_said_twice(run: Path) -> None:
    """Where the stage's rows hold the difference already, as a live run may note it, that one is judged, once."""
    row = {"kind": "setup", "setup": STAGE_DIFFERENCE, "step": 400, "stage": "even-layers", "before": "odd-layers",
           "split": "eval_ko", "unit": "nats per token", "difference": 0.03, "se": 0.001, "paired": True}  # fmt: skip
    _again(run / "stages" / "03-even-layers", "even-layers", (3.09, 3.12), seed=2, more=[row])
    assert [code for _, code in _codes(judged(run))] == ["stage-regression"]
    better = {**row, "difference": -0.03}
    _again(run / "stages" / "03-even-layers", "even-layers", (3.09, 3.12), seed=2, more=[better])
    assert _codes(judged(run)) == []


# -- stages that are not there ---------------------------------------------------------------------------------------


def test_not_yet_begun(run: Path) -> None:
    """A folder that is missing or empty is a stage to come; the others are judged."""
    shutil.rmtree(run / "stages" / "04-lora")
    shutil.rmtree(run / "stages" / "03-even-layers")
    (run / "stages" / "03-even-layers").mkdir()
    found = judged(run)
    assert _valid(found)
    assert [stage["state"] for stage in found["plan"]["stages"]] == ["judged", "judged", "not begun", "not begun"]
    assert len(found["stages"]) == 2
    assert "4 stages · 2 judged · 2 not yet begun" in check(run).stdout


def test_one_that_cannot_be_read(run: Path) -> None:
    """It is reported on the page, in JSON and on stderr with status 2; the others are judged, none with it."""
    rows = run / "stages" / "02-odd-layers" / "ko_cpt" / "rows.jsonl"
    rows.write_text("no json\n" + rows.read_text("utf-8"), "utf-8")
    result = check(run, "--json")
    found = json.loads(result.stdout)
    assert _valid(found)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ko-cpt check: stage odd-layers: {rows}:1: not a JSON object")
    assert [stage["state"] for stage in found["plan"]["stages"]] == ["judged", "unreadable", "judged", "judged"]
    assert [item["stage"] for item in found["deltas"] if item["split"] == "eval_ko"] == ["lora"]
    page = check(run)
    assert page.exit_code == 2
    assert "odd-layers: cannot be read:" in page.stdout


def test_a_damaged_run_file(run: Path) -> None:
    """A stage whose run.json cannot be read is not judged by rules it was not told."""
    (run / "stages" / "01-embedding" / "ko_cpt" / "run.json").write_text("{", "utf-8")
    assert json.loads(check(run, "--json").stdout)["plan"]["stages"][0]["state"] == "unreadable"


def test_nothing_to_judge(tmp_path: Path) -> None:
    """No stage begun, or none readable: status 2 and one line; so is a plan that leads out."""
    folders = staged.plan(tmp_path, FOUR)
    result = check(tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no stage has begun" in result.stderr and result.stderr.count("\n") == 1
    folders[0].mkdir(parents=True)
    (folders[0] / "notes.txt").write_text("x", "utf-8")
    assert "no stage can be judged" in check(tmp_path).stderr
    staged.write_plan(tmp_path, {"format": 1, "stages": [{"name": "a", "folder": "../a"}]})
    result = check(tmp_path)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "stages[0].folder: found '../a'" in result.stderr


def test_a_stage_with_only_the_trainers_log(run: Path) -> None:
    """Its losses are shown; a Trainer's loss is not compared with an exact one."""
    folder = run / "stages" / "04-lora"
    shutil.rmtree(folder)
    write_state(folder / "trainer_state.json", healthy())
    found = judged(run)
    assert _valid(found)
    assert found["stages"][3]["run"]["source"] == "trainer_state"
    assert [item for item in found["deltas"] if item["stage"] == "lora"] == []


# -- options ---------------------------------------------------------------------------------------------------------


def test_targets_are_the_last_stages(run: Path) -> None:
    """--target is asked of the last planned stage; where that was not judged, it is said that nobody was asked."""
    found = judged(run, "--target", "eval_ko_exact_loss<3.2@end")
    assert [stage["run"]["targets"] for stage in found["stages"]] == [[], [], [], ["eval_ko_exact_loss<3.2@end"]]
    assert [item["stage"] for item in found["findings"] if item["code"] == "target-met"] == ["lora"]
    assert "a target (none set)" not in check(run, "--target", "eval_ko_exact_loss<3.2@end").stdout
    assert "a target (none set)" in check(run).stdout
    shutil.rmtree(run / "stages" / "04-lora")
    found = judged(run, "--target", "eval_ko_exact_loss<3.2@end")
    assert found["plan"]["targets_not_asked"] == ["eval_ko_exact_loss<3.2@end"]
    assert "a target is the last stage's, and lora was not judged" in check(run, "--target", "eval_ko_ppl<30").stdout


def test_fail_on(run: Path) -> None:
    """A finding of any stage counts."""
    assert check(run, "--fail-on", "warning").exit_code == 0
    _again(run / "stages" / "02-odd-layers", "odd-layers", (3.3, 3.4), seed=1)
    assert check(run, "--fail-on", "warning").exit_code == 1
    assert check(run, "--fail-on", "error").exit_code == 0
    assert check(run, "--json", "--fail-on", "info").exit_code == 1


def test_options_are_checked_first(run: Path) -> None:
    """A mistake of the command line is told before any stage is read."""
    for options in (["--fail-on", "warn"], ["--task", "pretraining"], ["--target", "nonsense"]):
        result = check(run, *options)
        assert (result.exit_code, result.stdout) == (2, "")


def test_without_the_heavy_libraries(run: Path) -> None:
    """A staged training is judged where torch and the like are not installed."""
    (found,) = offline(["check", str(run), "--json"])
    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout) == judged(run)


def test_names_cannot_colour_the_terminal(tmp_path: Path) -> None:
    """A stage's trained words come from a file: control characters are shown, not sent."""
    (folder,) = staged.plan(tmp_path, ["embedding"])
    row = {"kind": "setup", "setup": "stage", "step": 0, "name": "\x1b[31mred"}
    staged.stage(folder, "mine", (3.0, 2.9), more=[row])
    assert "\x1b" not in check(tmp_path, "--all").stdout
    assert "trains \\x1b[31mred" in check(tmp_path, "--all").stdout


def test_a_run_without_evaluations(tmp_path: Path) -> None:
    """The stages stand side by side by their training loss."""
    for folder in staged.plan(tmp_path, FOUR[:2]):
        staged.stage(folder, "mine", (3.0, 2.9))
        rows = folder / "ko_cpt" / "rows.jsonl"
        lines = [line for line in rows.read_text("utf-8").splitlines() if '"eval"' not in line]
        rows.write_text("\n".join(lines) + "\n", "utf-8")
    assert judged(tmp_path)["deltas"] == []
    assert "last training loss" in check(tmp_path).stdout


def test_one_stage_in_the_folder_itself(tmp_path: Path) -> None:
    """The plan of a recipe's run of one stage changes nothing: the folder is an ordinary run."""
    staged.stage(tmp_path, "lora", (4.0, 3.0))
    before = judged(tmp_path)
    staged.write_plan(tmp_path, {"format": 1, "stages": [{"name": "lora", "folder": "."}]})
    assert judged(tmp_path) == before


# -- beside a baseline -----------------------------------------------------------------------------------------------


def _beside(found: PlanJudgement) -> dict[str, StageChange]:
    return {change.delta.stage: change for change in found.changes if change.delta.split == "eval_ko"}


def test_beside_redwhale(run: Path) -> None:
    """RedWhale's -0.208, -0.025 and -0.028 stand beside the changes of the stages that train the same."""
    found = _beside(_judged(run, find_baseline("redwhale")))
    beside = {stage: change.baseline for stage, change in found.items()}
    assert [round(item.difference, 3) for item in beside.values() if item is not None] == [-0.208, -0.025, -0.028]
    assert {item.unit for item in beside.values() if item is not None} == {"nats per token"}


def test_beside_redwhale_on_the_page(run: Path) -> None:
    """A column of its own, and a line that says whose tokenizer it is and that nothing is judged by it."""
    shown = plan_lines(_judged(run, find_baseline("redwhale")), "RUN", 140)
    lines = [" ".join(line.text.split()) for line in shown]
    table = lines[lines.index("eval_ko") + 1 :]
    assert table[0].endswith("bits/byte change redwhale verdict")
    assert table[2].endswith("± 0.001 -0.208 better")
    assert any(
        line.startswith("redwhale: its change in nats per token, of its own text and tokenizer (grade UNCONFIRMED), to")
        for line in lines
    )


def test_the_option_names_the_baseline(run: Path) -> None:
    """``--baseline`` puts its changes beside the run's, as text and as JSON."""
    text = " ".join(check(run, "--baseline", "redwhale").stdout.split())
    assert "-0.208" in text and "to look at, not to be judged by" in text
    found = judged(run, "--baseline", "redwhale")
    assert _valid(found)
    assert found["plan"]["baseline"] == "redwhale"
    beside = [delta["baseline"] for delta in found["deltas"] if not delta["retention"]]
    assert [round(item["difference"], 3) for item in beside] == [-0.208, -0.025, -0.028]


def test_a_baseline_changes_no_verdict(run: Path) -> None:
    """A stage far behind the baseline's change is no finding."""
    _again(run / "stages" / "02-odd-layers", "odd-layers", (3.3, 3.29), seed=1)
    assert [found for _, found in _judged(run, find_baseline("redwhale")).findings if found.severity == "warning"] == []


def test_stages_that_match_nothing(run: Path) -> None:
    """Stages that train something else, and a baseline without losses, have nothing beside them."""
    for index, name in enumerate(FOUR):
        rows = run / "stages" / f"{index + 1:02d}-{name}" / "ko_cpt" / "rows.jsonl"
        rows.write_text(rows.read_text("utf-8").replace('"layers": "odd"', '"layers": "some"'), "utf-8")
    beside = _beside(_judged(run, find_baseline("redwhale")))
    assert [change.baseline is None for change in beside.values()] == [True, True, False]


def test_without_a_stage_row_the_name_decides(run: Path) -> None:
    """Logs that do not say what was trained are taken by the plan's names, where those are the baseline's."""
    for index, name in enumerate(FOUR):
        rows = run / "stages" / f"{index + 1:02d}-{name}" / "ko_cpt" / "rows.jsonl"
        lines = [line for line in rows.read_text("utf-8").splitlines() if '"setup": "stage"' not in line]
        rows.write_text("\n".join(lines) + "\n", "utf-8")
    beside = _beside(_judged(run, find_baseline("redwhale")))
    assert all(change.baseline is not None for change in beside.values())


def test_the_facts_of_all_stages(run: Path) -> None:
    """A stage that ended before its planned last step leaves the whole unfinished, and its own verdict says so."""
    found = judged(run)
    assert (found["state"], found["complete"], found["steps_done"]) == ("finished", True, 1600)
    assert {stage["state"] for stage in found["stages"]} == {"finished"}
    plan = {"kind": "setup", "setup": "plan", "attempt": 1, "step": 0, "planned_steps": 900}
    rows = run / "stages" / "02-odd-layers" / "ko_cpt" / "rows.jsonl"
    rows.write_text(json.dumps(plan) + "\n" + rows.read_text("utf-8"), "utf-8")
    found = judged(run, "--rule", "not-enough-data.min_evaluations=2")
    assert _valid(found)
    assert [stage["run"]["limits"] for stage in found["stages"]] == [{"not-enough-data": {"min_evaluations": 2}}] * 4
    assert (found["state"], found["complete"], found["verdict"]) == ("unfinished", False, "look")
    assert [stage["state"] for stage in found["stages"]] == ["finished", "unfinished", "finished", "finished"]
    assert "odd-layers: UNFINISHED 400 of 900 steps · nothing wrong so far" in check(run).stdout
