"""A recipe's training arguments are checked against the installed transformers before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import llama
from transformers import Trainer, TrainingArguments, set_seed

from ko_cpt_callbacks import Recipe
from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import arguments as argument_agreement
from ko_cpt_callbacks.recipe import arguments as recipe_arguments
from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.training.arguments import check_arguments, training_arguments

WAY = "stages.lora.arguments"
BASE = "base.build.pretraining.arguments"
UNKNOWN = "found an unknown argument, expected an argument of the installed transformers.TrainingArguments."
TAKEN = "expected a value that the installed transformers.TrainingArguments takes."
TOGETHER = "expected values that the installed transformers.TrainingArguments takes."
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which may compute in bfloat16")


@dataclass
class Longer(TrainingArguments):
    """A class made from TrainingArguments, with an argument more and a value that it refuses."""

    longest: int = field(default=8)

    def __post_init__(self) -> None:
        """Refuse a negative one."""
        super().__post_init__()
        if self.longest < 0 or self.weight_decay == 0.5:
            raise ValueError("no such length.")


def _error(*overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        check_arguments(read_recipe(find_recipe("quickstart"), overrides))
    return str(caught.value).splitlines()


@pytest.mark.both_versions
def test_the_quickstart_is_understood() -> None:
    """The bundled recipe uses arguments that the installed version has."""
    check_arguments(read_recipe(find_recipe("quickstart")))


@pytest.mark.both_versions
def test_all_unknown_arguments_are_named() -> None:
    """Every unknown name with what was probably meant, and those that the runner sets itself; all together."""
    found = _error(f"{WAY}.max_step=3", f"{WAY}.output_dir=x", f"{BASE}.learning_rat=1e-3")
    assert found == [
        f"--set: {BASE}.learning_rat: {UNKNOWN} Did you mean learning_rate?",
        f"--set: {WAY}.max_step: {UNKNOWN} Did you mean max_steps?",
        f"--set: {WAY}.output_dir: found an argument that ko-cpt train sets itself, expected none of output_dir, "
        "seed, data_seed, disable_tqdm, resume_from_checkpoint, push_to_hub.",
    ]


@pytest.mark.both_versions
def test_names_that_were_not_known_when_the_recipe_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the class's source is not understood, the imported class knows them; of all stages, together with what it
    refuses in others."""
    monkeypatch.setattr(argument_agreement, "installed_arguments", lambda: None)
    found = _error(f"{WAY}.max_step=3", f"{BASE}.learning_rat=1e-3", "stages.embedding.arguments.debug=x")
    first, second, third = found
    assert first == f"--set: {BASE}.learning_rat: {UNKNOWN} Did you mean learning_rate?"
    assert second.startswith(
        '--set: stages.embedding.arguments.debug: found the text "x" (x is not a valid DebugOption'
    )
    assert third == f"--set: {WAY}.max_step: {UNKNOWN} Did you mean max_steps?"


@pytest.mark.both_versions
def test_what_the_class_refuses_is_told_of_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the base's own training too: at the one argument that is to blame, with its line in the file, its value and
    the class's reason."""
    monkeypatch.setattr(recipe_arguments, "installed_choices", dict)  # where its source is not understood
    lines = find_recipe("quickstart").read_text("utf-8").splitlines()
    places = [number for number, line in enumerate(lines) if "lr_scheduler_type: cosine" in line]
    for place, new in zip(places, ("cosin", "cosine", "cosine", "costume", "cosine"), strict=True):
        lines[place] = lines[place].replace("cosine", new)
    path = tmp_path / "quickstart.yaml"
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(RecipeError) as caught:
        check_arguments(read_recipe(path, [f"{WAY}.optim=adamw9"]))
    first, second, third = str(caught.value).splitlines()
    reason = 'lr_scheduler_type: found the text "{0}" ({0} is not a valid SchedulerType, please select one of ['
    assert first.startswith(f"{path}:{places[0] + 1}: {BASE}.{reason.format('cosin')}")
    assert second.startswith(f"{path}:{places[3] + 1}: stages.even-layers.arguments.{reason.format('costume')}")
    assert third.startswith(f'--set: {WAY}.optim: found the text "adamw9" (adamw9 is not a valid OptimizerNames, ')
    assert all(line.endswith(f"), {TAKEN}") for line in (first, second, third))


@pytest.mark.both_versions
def test_arguments_that_contradict_each_other() -> None:
    """Where no single one is to blame those that are part of it are named, at the line of the arguments."""
    (line,) = _error(f"{WAY}.fp16=true", f"{WAY}.bf16=true")
    assert "quickstart.yaml:" in line
    assert line.endswith(
        f": {WAY}: found fp16 and bf16, which do not fit each other (At most one of fp16 and bf16 can be True, but not "
        f"both), {TOGETHER}"
    )
    (line,) = _error(f"{BASE}.load_best_model_at_end=true", f"{BASE}.save_strategy=epoch")
    assert f"{BASE}.load_best_model_at_end: found true (--load_best_model_at_end requires the save" in line


@pytest.mark.both_versions
def test_a_mistake_that_hides_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is named all the same: without it the class has another reason."""
    monkeypatch.setattr(recipe_arguments, "installed_choices", dict)
    (line,) = _error(f"{WAY}.eval_strategy=sometimes", f"{WAY}.optim=adamw9")
    assert f'{WAY}.eval_strategy: found the text "sometimes" (sometimes is not a valid IntervalStrategy' in line


def test_a_file_that_is_not_there() -> None:
    """Whatever the class raises is a line, not a traceback."""
    (line,) = _error(f"{WAY}.accelerator_config=nowhere.json")
    assert f'{WAY}.accelerator_config: found the text "nowhere.json" (' in line


@pytest.mark.both_versions
@without_gpu
def test_sixteen_bits_without_a_gpu() -> None:
    """What to do is said, for the command and for a script, whatever else is wrong; then the same recipe is taken."""
    overrides = [f"{WAY}.use_cpu=false", f"{WAY}.bf16=true"]
    found = f"--set: {WAY}.bf16: found true where there is no CUDA GPU (Your setup doesn't support bf16/gpu"
    for more in ([], [f"{WAY}.tf32=true"]):
        (line,) = _error(*overrides, *more)
        assert line.startswith(found)
        assert line.endswith("), expected a GPU, or ko-cpt train --device cpu.")
    recipe = Recipe.load("quickstart", overrides)
    with pytest.raises(RecipeError) as caught:
        recipe.training_arguments("lora", "unused")
    assert str(caught.value).startswith(found)
    assert str(caught.value).endswith("), expected a GPU, or use_cpu=True given to training_arguments.")
    assert recipe.training_arguments("lora", "unused", use_cpu=True).bf16
    with pytest.raises(RecipeError, match=r"arguments that cannot be used where there is no CUDA GPU \(.*use_cpu=True"):
        Recipe.load("quickstart", overrides[:1]).training_arguments("lora", "unused", bf16=True)


def test_a_class_of_one_s_own() -> None:
    """It has the last word, by its own name; of what the script itself gives no line of the recipe is blamed."""
    recipe = Recipe.load("quickstart", [f"{WAY}.weight_decay=0.5"])
    with pytest.raises(RecipeError) as caught:
        recipe.training_arguments("lora", "unused", Longer)
    assert str(caught.value) == (
        f"--set: {WAY}.weight_decay: found 0.5 (no such length), expected a value that the installed Longer takes."
    )
    assert recipe.training_arguments("lora", "unused", Longer, weight_decay=0).longest == 8
    with pytest.raises(RecipeError) as caught:
        recipe.training_arguments("odd-layers", "unused", Longer, longest=-1)
    assert str(caught.value).endswith(
        ": stages.odd-layers.arguments: found arguments that cannot be used (no such length), expected values that the "
        "installed Longer takes."
    )


@pytest.mark.both_versions
def test_one_stages_precision_is_not_the_nexts(tmp_path: Path) -> None:
    """Transformers 4.57 notes bf16 in the environment, where accelerate reads it for whoever trains next."""
    training_arguments({"bf16": True, "use_cpu": True}, tmp_path, 0)
    training_arguments({"use_cpu": True}, tmp_path, 0)
    assert os.environ.get("ACCELERATE_MIXED_PRECISION", "no") == "no"


def test_every_stage_has_its_own_order_of_rows(tmp_path: Path) -> None:
    """Several stages on one training set, in a script: the first in the order of the recipe's seed, the others in
    another one; a data_seed of the script's own stands."""
    recipe = Recipe.load("quickstart", ["seed=3"])
    rows = [{"input_ids": [number] * 4, "labels": [number] * 4} for number in range(40)]

    def order(stage: str, **more: Any) -> list[int]:
        arguments = recipe.training_arguments(stage, tmp_path / stage, use_cpu=True, **more)
        loader = Trainer(llama(40), arguments, train_dataset=rows, eval_dataset=rows).get_train_dataloader()
        return [int(row[0]) for batch in loader for row in batch["input_ids"]]

    orders = [order(stage) for stage in recipe.stages]
    assert len({tuple(one) for one in orders}) == len(recipe.stages)
    assert all(sorted(one) == list(range(40)) for one in orders)
    set_seed(3)
    assert orders[0] == order(recipe.stages[0], data_seed=3)
    assert order(recipe.stages[1], data_seed=3) == orders[0]
