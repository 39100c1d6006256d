"""A recipe in pieces, for a script that has its own Trainer.

torch and transformers are imported when a piece needs them: a recipe is read, and every mistake in it reported, before.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ko_cpt_callbacks.errors import ConfigurationError, meant
from ko_cpt_callbacks.recipe.bundle import find_recipe
from ko_cpt_callbacks.recipe.reading import RecipeFile, read_recipe
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.watch.spec import recipe_kwargs

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    from ko_cpt_callbacks.hf.callback import KoCPTCallback


class Recipe:
    """What a training run is, read from a recipe, in pieces.

    ::

        recipe = Recipe.load("quickstart")
        for stage in recipe.stages:
            model = recipe.apply_trainable(model, stage)
            trainer = Trainer(model=model, args=recipe.training_arguments(stage, f"run/{stage}"),
                              callbacks=[recipe.callback(stage)], ...)
            trainer.train()

    Args:
        file: A recipe that was read; `Recipe.load` reads one.

    Attributes:
        file: The recipe, with its file and lines.
        page: What it says.
    """

    def __init__(self, file: RecipeFile) -> None:
        self.file = file
        self.page: Page = file.recipe

    @classmethod
    def load(cls, id_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """The recipe of an id or of a file.

        Args:
            id_or_path: The id of a bundled recipe, or the path of a YAML file.
            overrides: Other values, as ``ko-cpt train --set`` takes them: ``"stages.lora.arguments.max_steps=4"``; a
                single text is one.

        Raises:
            RecipeError: If there is none, or it cannot be used; with every mistake in it. Nothing is loaded.
        """
        return cls(read_recipe(find_recipe(str(id_or_path)), overrides))

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(self.page.stages)

    @property
    def dtype(self) -> str:
        """What ``from_pretrained(dtype=…)`` is to be given."""
        return self.page.base.dtype

    def training_arguments(
        self, stage: str, output_dir: str | Path, arguments_class: type[Any] | None = None, **more: Any
    ) -> Any:
        """A stage's arguments for a Trainer.

        Each stage gets a ``data_seed`` of its own, the recipe's seed and the stage's place from 0, unless ``more`` has
        one: with one seed every stage would begin with the same rows in the same order.

        Args:
            stage: Its name.
            output_dir: The stage's folder.
            arguments_class: A class made from ``TrainingArguments``, such as TRL's ``SFTConfig``; None:
                ``TrainingArguments``.
            more: Further arguments, or other values for those of the recipe.

        Raises:
            RecipeError: If the installed class does not take the recipe's arguments; with file and line.
            ConfigurationError: If there is no such stage.
        """
        from transformers import TrainingArguments

        from ko_cpt_callbacks.training.arguments import stage_arguments

        name = self._known(stage)
        more = {"data_seed": self.page.seed + self.stages.index(name), **more}
        return stage_arguments(self.file, name, output_dir, arguments_class or TrainingArguments, more)

    def quantization_config(self) -> BitsAndBytesConfig | None:
        """What ``from_pretrained(quantization_config=…)`` is to be given; None where the weights stay as they are."""
        from ko_cpt_callbacks.training.model.weights import quantization_config

        return quantization_config(self.page.base)

    def lora_config(self, stage: str, model: Any) -> LoraConfig | None:
        """The adapter that is on the model in a stage, for all the stages that share it; None where there is none.

        `apply_trainable` puts it on. Given to an ``SFTTrainer`` as ``peft_config`` it trains all that it holds, not
        only what the stage trains.

        Args:
            stage: Its name.
            model: As it was loaded: it decides what its layers are called.

        Raises:
            ConfigurationError: If there is no such stage, or the recipe cannot be used on the model.
        """
        from ko_cpt_callbacks.training.model.stage import stage_config

        return stage_config(model, self.page, self._known(stage))

    def extend(self, model: Any, tokenizer: Any, texts: Iterable[str]) -> Any:
        """The tokenizer with the recipe's new tokens, and the model with rows for them; do it before the first stage.

        Args:
            model: As it was loaded; changed in place.
            tokenizer: The model's own; left as it is.
            texts: Of the source that the recipe names, held-out text left out; read once.

        Returns:
            The extended tokenizer; the one given where the recipe keeps it.

        Raises:
            ConfigurationError: If the tokenizer or the model cannot be extended.
        """
        from ko_cpt_callbacks.training.model.vocabulary import extend

        return extend(model, tokenizer, texts, self.page)

    def apply_trainable(self, model: Any, stage: str) -> Any:
        """The model with a gradient on what a stage trains, and on nothing else.

        Puts the stage's adapter on where there is none yet, lets the one of the stage before go on, or merges it into
        the weights where this stage has another or none. Where only new rows train, a hook holds the old ones; give the
        Trainer no ``weight_decay`` then.

        Args:
            model: As it was loaded, or as the stage before left it.
            stage: Its name.

        Returns:
            The model to train; use it in place of the one given.

        Raises:
            ConfigurationError: If there is no such stage, or the recipe cannot be used on the model.
        """
        from ko_cpt_callbacks.training.model.stage import prepare_stage

        return prepare_stage(model, self.page, self._known(stage))

    def callback(self, stage: str, **more: Any) -> KoCPTCallback:
        """The callback that watches for what a stage says.

        Args:
            stage: Its name.
            more: Further arguments of `KoCPTCallback`, or other values for those of the recipe.

        Raises:
            ConfigurationError: If there is no such stage, or an argument cannot be used.
        """
        from ko_cpt_callbacks.hf.callback import KoCPTCallback

        arguments = recipe_kwargs(self.page.model_dump(include={"task", "eval", "stages"}), self._known(stage))
        watch = self.page.stages[stage].watch
        arguments |= {"alerts": watch.alerts or None, "family": watch.family}
        known = list(inspect.signature(KoCPTCallback).parameters)
        for name in more:
            if name not in known:
                hint = meant(name, known)
                raise ConfigurationError(f"{name}: found no such argument, expected one of {', '.join(known)}.{hint}")
        return KoCPTCallback(**{**arguments, **more})

    def _known(self, stage: str) -> str:
        if stage in self.page.stages:
            return stage
        hint = meant(str(stage), self.stages)
        raise ConfigurationError(
            f"recipe {self.page.id}: found no stage {stage!r}, expected one of {', '.join(self.stages)}.{hint}"
        )
