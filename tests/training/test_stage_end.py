"""How a stage ends: on its target, on an error, merged into the weights, or killed between its end and the next."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import run_files
from training import job_recipe
from training.job_recipe import FOLDERS, MODEL, STAGES

EMBEDDING, ODD = FOLDERS["embedding"], FOLDERS["odd-layers"]
# Met by whatever the first evaluation says; it is asked for at step 5 the earliest, where nothing is evaluated.
MET = [
    'stages.embedding.watch.targets=["eval_ko_bits_per_byte<20@end"]',
    "stages.embedding.watch.stop_on=[target-met]",
    "stages.embedding.watch.grace=5",
]
# Met by the evaluations at steps 0 and 3 together: 4.832 and 4.813, their intervals up to 5.1 at most.
MET_LATER = [
    'stages.embedding.watch.targets=["eval_ko_bits_per_byte<5.1@end,confirm=2"]',
    "stages.embedding.watch.stop_on=[target-met]",
]


def _run(folder: Path, *sets: str, resume: bool = False, **how: Any) -> forked.Outcome:
    more = [word for item in sets for word in ("--set", item)]
    arguments = job_recipe.command(str(folder), *more, *(["--resume"] if resume else []))
    return forked.run(job_recipe.ko_cpt, arguments, folder=folder.parent, timeout=240, **how)


def _losses(folder: Path) -> dict[tuple[str, int], float]:
    rows = run_files.live(run_files.rows(folder))
    return {(row["split"], row["step"]): row[f"{row['split']}_exact_loss"] for row in rows if row["kind"] == "eval"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first stage stops on its target."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    outcome = _run(folder, *MET)
    assert forked.value(outcome) == 0, outcome.text
    assert "; stopped: target-met" in outcome.text
    return folder


def test_a_stage_that_reached_its_target_hands_over(stopped: Path) -> None:
    """It stops before its planned end, and says why; the next begins with what it ended with, and all end."""
    first, second = _losses(stopped / EMBEDDING), _losses(stopped / ODD)
    last = max(step for _, step in first)
    assert last < job_recipe.STAGE_STEPS
    assert run_files.run(stopped / EMBEDDING)["stop"]["code"] == "target-met"
    assert second["eval_ko", 0] == pytest.approx(first["eval_ko", last], abs=1e-5)
    assert json.loads((stopped / "ko_cpt" / "plan.json").read_text("utf-8"))["finished"] is True
    assert all((stopped / place / "model").is_dir() for place in FOLDERS.values())


def test_killed_between_the_stop_and_the_next_stage(tmp_path: Path) -> None:
    """A stage that had stopped itself and was killed before its weights were at their place, and once more on the way
    to its stop, is not trained beyond it: the same weights, the same findings."""
    import torch
    from safetensors.torch import load_file

    folder, stopped = tmp_path / "run", tmp_path / "stopped"
    whole = _run(stopped, *MET_LATER)
    assert forked.value(whole) == 0, whole.text
    assert run_files.run(stopped / EMBEDDING)["stop"]["step"] == 3
    assert _run(folder, *MET_LATER, at=("embedding", 0, signal.SIGKILL), when=MODEL).code == -9
    assert _run(folder, *MET_LATER, resume=True, at=("embedding", 3, signal.SIGKILL)).code == -9
    resumed = _run(folder, *MET_LATER, resume=True)
    assert forked.value(resumed) == 0, resumed.text
    for place in FOLDERS.values():
        assert run_files.findings(folder / place) == run_files.findings(stopped / place)
        ours, theirs = (load_file(run / place / "model" / "adapter_model.safetensors") for run in (folder, stopped))
        for name, weight in ours.items():
            torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)


def test_a_stage_that_breaks_ends_the_run(tmp_path: Path) -> None:
    """A loss that is not finite stops the stage; nothing is handed over, the next stage is not begun, and the status is
    1 with one line that says why."""
    folder = tmp_path / "run"
    place = "stages.odd-layers.arguments"
    outcome = _run(folder, f"{place}.learning_rate=1e30", f"{place}.max_grad_norm=0")
    assert outcome.value == 1, outcome.text
    assert outcome.text.splitlines()[-1].startswith("ko-cpt train: stage odd-layers stopped at step ")
    assert "non-finite" in outcome.text.splitlines()[-1]
    assert "Traceback" not in outcome.text
    assert (folder / EMBEDDING / "model").is_dir()
    assert not (folder / ODD / "model").exists()
    assert not (folder / FOLDERS["even-layers"]).exists()


def test_an_adapter_that_ends_is_merged(tmp_path: Path) -> None:
    """In full precision: whole weights after a stage without adapter; after two stages that share one, the adapter and
    then, merged, the whole model; another adapter then begins where it ended. Every stage begins with the loss that
    the one before ended with, and the last model, loaded, has the loss that was measured."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "run"
    other = "stages.lora.lora={r: 4, lora_alpha: 8, target_modules: [q_proj, down_proj]}"
    outcome = _run(folder, "base.quantization=none", other)
    assert forked.value(outcome) == 0, outcome.text
    found = [
        sorted(path.name for path in (folder / place / "model").iterdir() if path.suffix == ".safetensors")
        for place in FOLDERS.values()
    ]
    assert found == [["model.safetensors"], ["adapter_model.safetensors"], ["model.safetensors"], ["model.safetensors"]]
    losses = [_losses(folder / place) for place in FOLDERS.values()]
    for before, after in pairwise(losses):
        assert after["eval_ko", 0] == pytest.approx(before["eval_ko", job_recipe.STAGE_STEPS], abs=1e-4)
    loaded = AutoModelForCausalLM.from_pretrained(folder / FOLDERS["lora"] / "model")
    assert _loss(loaded, folder) == pytest.approx(losses[-1]["eval_ko", job_recipe.STAGE_STEPS], abs=1e-4)


def _loss(model: Any, folder: Path) -> float:
    """Of the held-out Korean rows of a run, by hand."""
    import torch
    from datasets import Dataset

    sets = [Dataset.from_file(str(path)) for path in sorted((folder / "data").glob("*/rows.arrow"))]
    tokens = {row["eval_ko_tokens"] for row in run_files.rows(folder / FOLDERS["lora"]) if "eval_ko_tokens" in row}
    (rows,) = [part for part in sets if sum(len(row) - 1 for row in part["input_ids"]) in tokens]
    total = count = 0.0
    with torch.no_grad():
        for row in rows["input_ids"]:
            ids = torch.tensor([row])
            total += float(model(input_ids=ids, labels=ids).loss) * (len(row) - 1)
            count += len(row) - 1
    return total / count


def test_stages_are_as_many_as_the_test_says() -> None:
    """The names above are those of the recipe."""
    from ko_cpt_callbacks import Recipe

    assert Recipe.load("quickstart").stages == STAGES
