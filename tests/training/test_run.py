"""The quickstart, shrunken: a real 8-bit LoRA from the command line, whole, interrupted and resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import run_files
from training import job_recipe

STEPS = job_recipe.STAGE_STEPS


def _run(folder: Path, *more: str, at: Any = None) -> forked.Outcome:
    arguments = job_recipe.command(str(folder), *more)
    return forked.run(job_recipe.ko_cpt, arguments, folder=folder.parent, timeout=90, at=at)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that nothing interrupts: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    outcome = _run(folder)
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


def _same_run(folder: Path, whole: Path) -> None:
    """Both runs have the same findings, as many rows of every kind, the same losses and the same weights."""
    import torch

    assert run_files.findings(folder) == run_files.findings(whole)
    assert _evaluations(folder) == _evaluations(whole)
    for kind in ("train", "end"):
        counts = [
            [row["step"] for row in run_files.live(run_files.rows(path)) if row["kind"] == kind]
            for path in (folder, whole)
        ]
        assert counts[0] == counts[1]
    assert run_files.double(run_files.rows(folder)) == []
    ours, theirs = _weights(folder), _weights(whole)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)


@pytest.mark.both_versions
def test_it_learns_korean_in_eight_bits(whole: tuple[Path, str]) -> None:
    """run.json says 8-bit and LoRA; ko and en are evaluated at the start and at every 4th step, exactly; Korean bits
    per byte fall by more than both standard errors; embeddings and head are among what is saved."""
    folder, _ = whole
    model = run_files.run(folder)["model"]
    assert (model["quantization"], model["adapter"]) == ("8-bit", "LORA")
    rows = [row for row in run_files.rows(folder) if row["kind"] == "eval"]
    assert [(row["split"], row["step"]) for row in rows] == [
        (f"eval_{name}", step) for step in (0, 4, 8) for name in ("ko", "en")
    ]
    korean = [row for row in rows if row["split"] == "eval_ko"]
    fall = korean[0]["eval_ko_bits_per_byte"] - korean[-1]["eval_ko_bits_per_byte"]
    assert fall > (korean[0]["eval_ko_bits_per_byte_se"] + korean[-1]["eval_ko_bits_per_byte_se"])
    names = "\n".join(_weights(folder))
    assert "embed_tokens" in names and "lm_head" in names and "lora_A" in names


def test_it_says_what_it_does(whole: tuple[Path, str]) -> None:
    """One line for every evaluation, the base's too; a progress bar of both phases; no row of the Trainer is
    printed; the summary names files, and each of them is there."""
    folder, text = whole
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("step ") and "bits/byte" in line]) == 7
    assert "base:" in text and f"{STEPS}/{STEPS}" in text
    assert "'loss':" not in text and "Traceback" not in text
    written = lines[lines.index("Written") + 1 : lines.index("", lines.index("Written"))]
    paths = [Path(line.split()[0]) for line in written]
    assert {path.name for path in paths} >= {"run.json", "rows.jsonl", "findings.jsonl", "plan.json", "model"}
    assert all(path.exists() for path in paths)
    assert f"ko-cpt check {folder}" in lines[-1]


def test_checked_again_it_is_the_same(whole: tuple[Path, str]) -> None:
    """What ``ko-cpt check`` finds in the folder is what was found while it ran: at least a word on the target."""
    folder, _ = whole
    outcome = forked.run(job_recipe.ko_cpt, ["check", str(folder), "--json"], folder=folder.parent)
    assert forked.value(outcome) == 0, outcome.text
    found = json.loads(outcome.text)["findings"]
    assert found == run_files.findings(folder)
    assert "target-" in " ".join(item["code"] for item in found)


def test_the_watch_is_the_recipes(whole: tuple[Path, str]) -> None:
    """run.json says what the recipe asked to watch: target, retention set, what stops the run; the plan names the
    recipe's values and says that the run is finished."""
    folder, _ = whole
    told = run_files.run(folder)["told"]
    assert told["targets"] == ["eval_ko_bits_per_byte<3.3@end"]
    assert told["retention"] == ["en"]
    assert told["stop_on"] == ["non-finite"]
    plan = json.loads((folder / "ko_cpt" / "plan.json").read_text("utf-8"))
    assert plan["finished"] is True
    assert plan["stages"] == [{"name": "lora", "folder": "."}]
    assert plan["recipe"]["stages"]["lora"]["arguments"]["max_steps"] == STEPS


def test_a_finished_run_is_not_written_over(whole: tuple[Path, str]) -> None:
    """The same command again is refused with one line and changes nothing; with --resume it sums up again."""
    folder, _ = whole
    before = (folder / "ko_cpt" / "rows.jsonl").read_bytes()
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
    assert (folder / "ko_cpt" / "rows.jsonl").read_bytes() == before


def test_another_recipe_does_not_go_on(whole: tuple[Path, str]) -> None:
    """Resuming with other values is refused, and the values are named."""
    folder, _ = whole
    outcome = _run(folder, "--resume", "--set", "stages.lora.lora.r=4")
    assert outcome.value == 2
    assert "found a run of another recipe (differs in stages.lora.lora.r)" in outcome.text.splitlines()[-1]


@pytest.mark.parametrize(("phase", "step"), [("base", 2), pytest.param("lora", 5, marks=pytest.mark.both_versions)])
def test_ctrl_c_and_resume_lose_nothing(phase: str, step: int, whole: tuple[Path, str], tmp_path: Path) -> None:
    """Ctrl-C in either phase ends with status 130, a checkpoint of that very step and the command to go on with; the
    resumed run begins there and comes to the findings, rows, losses and weights of the run without a break."""
    folder = tmp_path / "run"
    stopped = _run(folder, at=(phase, step, signal.SIGINT))
    assert stopped.value == 130, stopped.text
    assert f"Stopped at step {step}, with a checkpoint. To go on:" in stopped.text
    assert f"ko-cpt train quickstart --output {folder}" in stopped.text.splitlines()[-1]
    assert stopped.text.splitlines()[-1].endswith(" --resume")
    assert "Traceback" not in stopped.text
    home = folder / "base" if phase == "base" else folder
    assert run_files.checkpoint(home).name == f"checkpoint-{step}"

    refused = _run(folder)
    assert refused.value == 2
    assert "found a run that is not finished, which is not written over" in refused.text.splitlines()[-1]

    resumed = _run(folder, "--resume")
    assert forked.value(resumed) == 0, resumed.text
    _same_run(folder, whole[0])
    if phase == "lora":
        assert [one["start_step"] for one in run_files.run(folder)["attempts"]] == [0, step]


@pytest.mark.parametrize(("phase", "step"), [("base", 5), ("lora", STEPS)])
def test_killed_and_resumed(phase: str, step: int, whole: tuple[Path, str], tmp_path: Path) -> None:
    """After a SIGKILL, in the very last step too, the run goes on from the phase's last checkpoint and ends the
    same."""
    folder = tmp_path / "run"
    assert _run(folder, at=(phase, step, signal.SIGKILL)).code == -9
    resumed = _run(folder, "--resume")
    assert forked.value(resumed) == 0, resumed.text
    _same_run(folder, whole[0])
