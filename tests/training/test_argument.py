"""A recipe's training arguments are checked against the installed transformers before anything is loaded."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe.reading import find_recipe, read_recipe
from ko_cpt_callbacks.training.argument import check_arguments

WAY = "stages.lora.arguments"


def _error(*overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        check_arguments(read_recipe(find_recipe("quickstart"), overrides))
    return str(caught.value).splitlines()


@pytest.mark.both_versions
def test_the_quickstart_is_understood() -> None:
    """The bundled recipe uses arguments that the installed version has."""
    check_arguments(read_recipe(find_recipe("quickstart")))


def test_all_unknown_arguments_are_named() -> None:
    """Every unknown name with what was probably meant, and those that the runner sets itself; all together."""
    found = _error(f"{WAY}.max_step=3", f"{WAY}.output_dir=x", "base.build.pretraining.arguments.learning_rat=1e-3")
    assert found == [
        "--set: base.build.pretraining.arguments.learning_rat: found an unknown argument, expected an argument of the "
        "installed transformers.TrainingArguments. Did you mean learning_rate?",
        f"--set: {WAY}.max_step: found an unknown argument, expected an argument of the installed "
        "transformers.TrainingArguments. Did you mean max_steps?",
        f"--set: {WAY}.output_dir: found an argument that ko-cpt train sets itself, expected none of output_dir, "
        "seed, data_seed, disable_tqdm, resume_from_checkpoint, push_to_hub.",
    ]


def test_arguments_that_contradict_each_other() -> None:
    """What TrainingArguments itself refuses is told with the place in the recipe and its reason."""
    (line,) = _error(f"{WAY}.eval_strategy=sometimes")
    assert f": {WAY}: found arguments that cannot be used (" in line
    assert "quickstart.yaml:" in line and "sometimes" in line
