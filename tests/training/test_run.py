"""The quickstart, shrunken: four stages from the command line, whole, interrupted and resumed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import run_files
from training import job_recipe
from training.job_recipe import FOLDERS, MODEL, SAVE, STAGES, STEP

from ko_cpt_callbacks.report.page import REPORT_FILE

STEPS = job_recipe.STAGE_STEPS
LAST = FOLDERS["lora"]

# Three moments for every day, and as many more as are asked for: KO_CPT_KILLS=12.
EVERY_DAY = [("odd-layers", 5, STEP), ("even-layers", 3, SAVE), ("lora", STEPS, MODEL)]
MOMENTS = [
    *(("base", step, when) for step in range(1, job_recipe.BASE_STEPS + 1) for when in (STEP,)),
    *((stage, step, STEP) for stage in STAGES for step in range(1, STEPS + 1)),
    *((stage, step, SAVE) for stage in STAGES for step in (3, 6)),
    *((stage, STEPS, MODEL) for stage in STAGES),
]
MORE = random.Random(0).sample(MOMENTS, int(os.environ.get("KO_CPT_KILLS", "0")))


def _run(folder: Path, *more: str, **how: Any) -> forked.Outcome:
    arguments = job_recipe.command(str(folder), *more)
    return forked.run(job_recipe.ko_cpt, arguments, folder=folder.parent, timeout=240, **how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that nothing interrupts: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = _run(folder, report=True)
    assert forked.value(outcome) == 0, outcome.text
    return folder, outcome.text


def _evaluations(folder: Path) -> list[tuple[Any, ...]]:
    rows = run_files.live(run_files.rows(folder))
    keys = [(row["split"], row["step"]) for row in rows if row["kind"] == "eval"]
    losses = [row[f"{row['split']}_exact_loss"] for row in rows if row["kind"] == "eval"]
    return [(*key, pytest.approx(loss, abs=1e-4)) for key, loss in zip(keys, losses, strict=True)]


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model" / "adapter_model.safetensors"))


def _same_run(run: Path, other: Path) -> None:
    """Both runs have, stage by stage, the same findings, as many rows of every kind, the same losses and weights."""
    import torch

    for place in FOLDERS.values():
        folder, whole = run / place, other / place
        assert run_files.findings(folder) == run_files.findings(whole)
        assert _evaluations(folder) == _evaluations(whole)
        for kind in ("train", "end"):
            counts = [
                [(row["step"], row.get("tokens_seen")) for row in run_files.live(run_files.rows(path))
                 if row["kind"] == kind]
                for path in (folder, whole)
            ]  # fmt: skip
            assert counts[0] == counts[1]
        assert run_files.double(run_files.rows(folder)) == []
        ours, theirs = _weights(folder), _weights(whole)
        assert ours.keys() == theirs.keys()
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)


@pytest.mark.both_versions
def test_it_learns_korean_in_eight_bits(whole: tuple[Path, str]) -> None:
    """run.json of every stage says 8-bit and LoRA; ko and en are evaluated at its start, its middle and its end,
    exactly; Korean bits per byte fall by more than both standard errors."""
    folder, _ = whole
    for place in FOLDERS.values():
        model = run_files.run(folder / place)["model"]
        assert (model["quantization"], model["adapter"]) == ("8-bit", "LORA")
        rows = [row for row in run_files.rows(folder / place) if row["kind"] == "eval"]
        assert [(row["split"], row["step"]) for row in rows] == [
            (f"eval_{name}", step) for step in (0, 3, 6) for name in ("ko", "en")
        ]
    ends = [[row for row in run_files.rows(folder / place) if row.get("split") == "eval_ko" and row["kind"] == "eval"]
            for place in (FOLDERS["embedding"], LAST)]  # fmt: skip
    first, last = ends[0][0], ends[-1][-1]
    fall = first["eval_ko_bits_per_byte"] - last["eval_ko_bits_per_byte"]
    assert fall > first["eval_ko_bits_per_byte_se"] + last["eval_ko_bits_per_byte_se"]


@pytest.mark.both_versions
def test_weights_are_carried_over(whole: tuple[Path, str]) -> None:
    """Every stage begins with the loss that the one before ended with; what a stage does not train is bit for bit as
    the stage before left it, and what it trains is not."""
    import torch

    folder, _ = whole
    losses = [
        {(row["split"], row["step"]): row[f"{row['split']}_exact_loss"]
         for row in run_files.rows(folder / place) if row["kind"] == "eval"}
        for place in FOLDERS.values()
    ]  # fmt: skip
    for before, after in pairwise(losses):
        for split in ("eval_ko", "eval_en"):
            assert after[split, 0] == pytest.approx(before[split, STEPS], abs=1e-5)
    trained = {
        "odd-layers": lambda name: ".layers.1." in name,
        "even-layers": lambda name: ".layers.0." in name,
        "lora": lambda name: True,
    }
    for (_, earlier), (stage, later) in pairwise(FOLDERS.items()):
        one, other = _weights(folder / earlier), _weights(folder / later)
        moved = {name for name in one if not torch.equal(one[name], other[name])}
        assert moved == {name for name in one if trained[stage](name)}, stage
    names = "\n".join(_weights(folder / LAST))
    assert "embed_tokens" in names and "lm_head" in names and "lora_A" in names


def test_it_says_what_it_does(whole: tuple[Path, str]) -> None:
    """One line for every evaluation, the base's too; a progress bar of every phase; no row of the Trainer is printed;
    the closing table has a line for every stage and set; the summary names files, and each of them is there."""
    folder, text = whole
    lines = text.splitlines()
    evaluations = [line for line in lines if "step " in line and " · eval_" in line and " bits/byte" in line]
    assert len(evaluations) == 1 + 4 * 3 * 2
    for number, name in enumerate(STAGES, start=1):
        assert f"{number}/4 {name}: " in text and f"{name}:" in text
        table = [line.split() for line in lines if line.split()[:1] == [name] and "±" in line]
        assert len(table) == 2
        assert all(float(row[2]) > 0 for row in table), "the last loss stands behind the tokens"
        verdicts = ("better", "worse", "level", "missed", "met", "inconclusive")
        assert all(row[-1].removeprefix("target-") in verdicts for row in table)
    assert "GPU hours" not in text, "on a CPU there are none"
    assert "(must not be forgotten; not judged)" in text
    assert "'loss':" not in text and "Traceback" not in text
    written = lines[lines.index("Written") + 1 : lines.index("", lines.index("Written"))]
    paths = [Path(line.split()[0]) for line in written]
    assert {path.name for path in paths} >= {"plan.json", "model", "data", "ko_cpt"}
    assert all(path.exists() for path in paths)
    assert f"ko-cpt check {folder}" in lines[-2]
    assert lines[-1] == f"Look at it: {folder / REPORT_FILE}" and (folder / REPORT_FILE).exists()


def test_the_use_of_each_source_is_noted_once(whole: tuple[Path, str]) -> None:
    """Three of Korean to one of English, of two texts of one size: the first stage notes what is used of each, no other
    stage does; texts so small are not judged."""
    folder, _ = whole
    noted = {
        name: [row for row in run_files.rows(folder / place) if row.get("setup") == "corpus-use"]
        for name, place in FOLDERS.items()
    }
    assert [len(rows) for rows in noted.values()] == [2, 0, 0, 0]
    ko, en = noted["embedding"]
    assert (ko["source"], en["source"], en["shortest"]) == ("ko", "en", ["ko"])
    assert ko["read"] >= 0.9 * ko["available"] and en["read"] < 0.9 * en["available"]
    codes = [item["code"] for item in run_files.findings(folder / FOLDERS["embedding"])]
    assert not any(code.startswith("corpus-") for code in codes)


def test_checked_again_it_is_the_same(whole: tuple[Path, str]) -> None:
    """What ``ko-cpt check`` finds in a stage is what was found while it ran; of the run it pairs every stage with the
    one before."""
    folder, _ = whole
    for place in FOLDERS.values():
        outcome = forked.run(job_recipe.ko_cpt, ["check", str(folder / place), "--json"], folder=folder.parent)
        assert forked.value(outcome) in (0, 1), outcome.text
        assert json.loads(outcome.text)["findings"] == run_files.findings(folder / place)
    outcome = forked.run(job_recipe.ko_cpt, ["check", str(folder), "--json"], folder=folder.parent)
    judged = json.loads(outcome.text)
    assert [stage["state"] for stage in judged["plan"]["stages"]] == ["judged"] * 4
    deltas = [(item["stage"], item["split"], item["outcome"]) for item in judged["deltas"]]
    assert deltas == [(name, f"eval_{split}", "paired") for name in STAGES[1:] for split in ("ko", "en")]


def test_the_watch_is_the_recipes(whole: tuple[Path, str]) -> None:
    """run.json of a stage says what the recipe asked to watch; the plan names the recipe's values and the stages, and
    says that the run is finished."""
    folder, _ = whole
    told = run_files.run(folder / LAST)["watch"]
    assert told["targets"] == ["eval_ko_bits_per_byte<3.3@end"]
    assert told["retention"] == ["en"]
    assert told["stop_on"] == ["non-finite"]
    assert run_files.run(folder / FOLDERS["embedding"])["watch"]["targets"] == []
    plan = json.loads((folder / "ko_cpt" / "plan.json").read_text("utf-8"))
    assert plan["finished"] is True
    assert plan["stages"] == [{"name": name, "folder": place} for name, place in FOLDERS.items()]
    assert plan["recipe"]["stages"]["lora"]["arguments"]["max_steps"] == STEPS


def test_a_finished_run_is_not_written_over(whole: tuple[Path, str]) -> None:
    """The same command again is refused with one line and changes nothing; with --resume it sums up again."""
    folder, _ = whole
    before = (folder / LAST / "ko_cpt" / "rows.jsonl").read_bytes()
    again = _run(folder)
    assert again.value == 2
    last = again.text.splitlines()[-1]
    assert last == (
        f"ko-cpt train: {folder}: found a finished run, which is not written over; name another folder with --output"
    )
    resumed = _run(folder, "--resume")
    assert resumed.value == 0
    assert f"{folder} is finished; nothing was left to do." in resumed.text
    assert "Written" in resumed.text
    assert (folder / LAST / "ko_cpt" / "rows.jsonl").read_bytes() == before


def test_another_recipe_does_not_go_on(whole: tuple[Path, str]) -> None:
    """Resuming with other values is refused, and the values are named."""
    folder, _ = whole
    outcome = _run(folder, "--resume", "--set", "stages.odd-layers.lora.r=4")
    assert outcome.value == 2
    assert "found a run of another recipe (differs in stages.odd-layers.lora.r)" in outcome.text.splitlines()[-1]


def test_what_a_stage_was_begun_with_is_asked_again(whole: tuple[Path, str], tmp_path: Path) -> None:
    """Another number of processes would make another batch, and other texts other rows: neither goes on in silence in
    the middle of a stage. Between two stages the number may change."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    shutil.rmtree(folder / LAST / "model")
    plan = folder / "ko_cpt" / "plan.json"
    noted = json.loads(plan.read_text("utf-8"))
    del noted["sha256"]  # a plan that is written here has none, like those of earlier versions
    assert noted["processes"] == 1 and set(noted["rows"]) == {"train", "eval_ko", "eval_en"}
    wrong = {"processes": 2, "rows": {**noted["rows"], "eval_ko": "0" * 16}}
    for name, said in (
        ("processes", "found a stage that was begun by 2 processes, and 1 now"),
        ("rows", "found other texts than the run was begun with (eval_ko)"),
    ):
        plan.write_text(json.dumps({**noted, "finished": False, name: wrong[name]}), "utf-8")
        outcome = _run(folder, "--resume")
        assert outcome.value == 2, outcome.text
        assert said in outcome.text.splitlines()[-1]
    shutil.rmtree(folder / LAST)
    plan.write_text(json.dumps({**noted, "finished": False, "processes": 2}), "utf-8")
    outcome = _run(folder, "--resume")
    assert forked.value(outcome) == 0, outcome.text
    assert json.loads(plan.read_text("utf-8"))["processes"] == 1


def test_one_stage_after_the_other(whole: tuple[Path, str], tmp_path: Path) -> None:
    """A stage asked for alone is trained alone, in its turn: not before those before it, and not twice. All of them,
    one by one, come to the run in one go."""
    folder = tmp_path / "run"
    early = _run(folder, "--stage", "odd-layers")
    assert early.value == 2
    assert "found no end of stage embedding, expected those before odd-layers to have ended" in early.text
    for name in STAGES:
        outcome = _run(folder, "--stage", name)
        assert forked.value(outcome) == 0, outcome.text
        ended = [stage for stage, place in FOLDERS.items() if (folder / place / "model").is_dir()]
        assert ended == list(STAGES[: STAGES.index(name) + 1])
        if name == "embedding":
            assert _run(folder, "--stage", name).value == 2
    assert json.loads((folder / "ko_cpt" / "plan.json").read_text("utf-8"))["finished"] is True
    _same_run(folder, whole[0])


@pytest.mark.parametrize(("phase", "step"), [("base", 2), pytest.param("lora", 4, marks=pytest.mark.both_versions)])
def test_ctrl_c_and_resume_lose_nothing(phase: str, step: int, whole: tuple[Path, str], tmp_path: Path) -> None:
    """Ctrl-C in any phase ends with status 130, a checkpoint of that very step and the command to go on with; the
    resumed run begins there and comes to the findings, rows, losses and weights of the run without a break."""
    folder = tmp_path / "run"
    stopped = _run(folder, at=(phase, step, signal.SIGINT))
    assert stopped.value == 130, stopped.text
    assert f"Stopped at step {step}, with a checkpoint. To go on:" in stopped.text
    assert f"ko-cpt train quickstart --output {folder}" in stopped.text.splitlines()[-1]
    assert stopped.text.splitlines()[-1].endswith(" --resume")
    assert "Traceback" not in stopped.text
    home = folder / ("base" if phase == "base" else FOLDERS[phase])
    assert run_files.checkpoint(home).name == f"checkpoint-{step}"

    refused = _run(folder)
    assert refused.value == 2
    assert "found a run that is not finished, which is not written over" in refused.text.splitlines()[-1]

    resumed = _run(folder, "--resume")
    assert forked.value(resumed) == 0, resumed.text
    _same_run(folder, whole[0])
    if phase != "base":
        assert [one["start_step"] for one in run_files.run(home)["attempts"]] == [0, step]


@pytest.mark.parametrize(("phase", "step", "when"), [*EVERY_DAY, *MORE], ids=lambda value: str(value).replace(" ", "-"))
def test_killed_and_resumed(phase: str, step: int, when: str, whole: tuple[Path, str], tmp_path: Path) -> None:
    """After a SIGKILL, inside a save too, the run goes on from the last whole checkpoint of the right stage and ends
    the same: weights, findings, rows, tokens seen."""
    folder = tmp_path / "run"
    killed = _run(folder, at=(phase, step, signal.SIGKILL), when=when)
    assert killed.code == -9, killed.text
    resumed = _run(folder, "--resume")
    assert forked.value(resumed) == 0, resumed.text
    done = STAGES.index(phase) if phase in STAGES else 0
    assert resumed.text.count("there already") == done + (phase != "base")
    _same_run(folder, whole[0])
