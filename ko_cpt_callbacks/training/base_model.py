"""The model that the stages start from: loaded or made, extended, and kept in the run's folder where it is new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, set_seed

from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.recipe.model_part import Base
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.training.argument import training_arguments
from ko_cpt_callbacks.training.checkpoint import remove_checkpoints
from ko_cpt_callbacks.training.fertility import measure_fertility
from ko_cpt_callbacks.training.folder import RunFolder, whole_folder
from ko_cpt_callbacks.training.hub import load_pretrained
from ko_cpt_callbacks.training.made_model import made_model
from ko_cpt_callbacks.training.phase import train_phase
from ko_cpt_callbacks.training.process import Processes
from ko_cpt_callbacks.training.quantization import quantization_config
from ko_cpt_callbacks.training.recipe_text import RecipeTexts, first_texts
from ko_cpt_callbacks.training.shape_check import check_shape
from ko_cpt_callbacks.training.stage import extend
from ko_cpt_callbacks.training.tie import untie
from ko_cpt_callbacks.training.tokenizer import train_tokenizer

Say = Callable[[str], None]
_KEY = "base.model"


class BaseModel:
    """The base of a run: where it is, and its tokenizer.

    Args:
        file: The recipe.
        folder: The run's.
        texts: The recipe's.
        processes: Those of the run.
        say: Prints a line.
    """

    def __init__(
        self, file: RecipeFile, folder: RunFolder, texts: RecipeTexts, processes: Processes, say: Say
    ) -> None:
        self._page: Page = file.recipe
        self._beside = file.path.parent
        self._folder = folder
        self._texts = texts
        self._processes = processes
        self._say = say

    @property
    def own(self) -> bool:
        """Whether the stages start from a model that is no one's but this run's."""
        base = self._page.base
        return base.build is not None or base.untie or self._page.tokenizer is not None

    @property
    def place(self) -> tuple[str, dict[str, str]]:
        """Where the stages find model and tokenizer: for ``from_pretrained``."""
        return (str(self._folder.base_model), {}) if self.own else self._given()

    def tokenizer(self) -> Any:
        """The tokenizer of every stage."""
        path, more = self.place
        return load_pretrained(AutoTokenizer, path, _KEY, **more)

    def make(self) -> None:
        """Make what is not there yet.

        Raises:
            InterruptedTrainingError: After Ctrl-C while it was pretrained, with a checkpoint saved.
        """
        if self._page.base.model is not None:
            with self._processes.first_before():
                self._check_shape()
        if not self.own:
            self._say(f"base: {self._page.base.model}")
            return
        if self._folder.base_model.exists():
            self._say("base: there already")
            return
        made = None if self._page.base.build is None else self._built()
        with self._processes.first_alone() as first:
            if first:
                model, tokenizer = self._loaded() if made is None else made
                self._save(model, self._extended(model, tokenizer))
        if self._processes.first:
            remove_checkpoints(self._folder.base)

    def _check_shape(self) -> None:
        path, more = self._given()
        check_shape(load_pretrained(AutoConfig, path, _KEY, **more), self._page)

    def _given(self) -> tuple[str, dict[str, str]]:
        base = self._page.base
        assert base.model is not None
        beside = self._beside / base.model
        if beside.is_dir():  # as for files, the recipe's folder is where a path begins
            return str(beside), {}
        return base.model, ({} if base.revision is None else {"revision": base.revision})

    def _loaded(self) -> tuple[Any, Any]:
        path, more = self._given()
        self._say(f"base: {path}, on the CPU, to be changed before the first stage")
        model = load_pretrained(AutoModelForCausalLM, path, _KEY, dtype=self._page.base.dtype, **more)
        return model, load_pretrained(AutoTokenizer, path, _KEY, **more)

    def _built(self) -> tuple[PreTrainedModel, Any]:
        build, page = self._page.base.build, self._page
        assert build is not None
        with self._processes.first_alone() as first:
            if first and not self._folder.base_tokenizer.exists():
                made = train_tokenizer(self._texts.train_texts(build.tokenizer.sources), build.tokenizer.vocab_size)
                with whole_folder(self._folder.base_tokenizer) as part:
                    made.save_pretrained(str(part))
        tokenizer = AutoTokenizer.from_pretrained(str(self._folder.base_tokenizer))
        set_seed(page.seed)
        model = made_model(build, tokenizer, page.data.sequence_length)
        size = sum(parameter.numel() for parameter in model.parameters())
        said = f"base: a {build.family} of {size:,} parameters, "
        given = build.pretraining
        if given is None:
            self._say(said + "with random weights")
            return model, tokenizer
        self._say(said + f"from scratch on {', '.join(given.sources)}")
        names = [name for name, part in page.eval.items() if part.source in given.sources]
        with self._processes.first_before():
            rows = self._texts.rows_of(given.sources, tokenizer)
            evaluated = self._texts.evaluation_rows(tokenizer, names)
        # Shown, not judged and not recorded: the run begins with the first stage.
        callback = KoCPTCallback(rules=(), outputs=("console",))
        sets = {name: part.rows for name, part in evaluated.items()}
        arguments = training_arguments(given.arguments, self._folder.base, page.seed)
        train_phase("base", model, tokenizer, rows.rows, sets, arguments, callback)
        return model, tokenizer

    def _extended(self, model: Any, tokenizer: Any) -> Any:
        page = self._page
        if page.base.untie:
            untie(model)
        if page.tokenizer is None:
            return tokenizer
        source, most = page.tokenizer.extend.source, page.tokenizer.extend.max_bytes
        extended = extend(model, tokenizer, first_texts(self._texts.train_texts([source]), most), page)
        # Of a source that is not read to its end, as much again, of which only the held-out share counts.
        few = None if most is None else max(1, round(most * page.data.held_out))
        held_out = first_texts(self._texts.held_out_texts(source), few)
        before, after = measure_fertility(held_out, tokenizer, extended)
        self._say(
            f"tokenizer: {len(extended) - len(tokenizer):,} new tokens; on held-out {source} "
            f"{before.tokens_per_character:.3f} tokens per character became {after.tokens_per_character:.3f}"
        )
        return extended

    def _save(self, model: Any, tokenizer: Any) -> None:
        with whole_folder(self._folder.base_model) as part:
            model.save_pretrained(str(part))
            tokenizer.save_pretrained(str(part))


def load_model(path: str | Path, base: Base, device: str, **more: Any) -> PreTrainedModel:
    """A saved model as the stages want it: in the recipe's precision, quantised where it says so.

    Args:
        path: A folder, or an id of the hub.
        base: What the recipe says of it.
        device: Of this process: ``cpu``, ``cuda:1``. A model that is not quantised is put there by the Trainer.
        more: For ``from_pretrained``.

    Raises:
        ConfigurationError: If it cannot be loaded, or could be by running code of its own alone.
    """
    if base.quantization != "none":
        more = {**more, "quantization_config": quantization_config(base), "device_map": {"": device}}
    model: PreTrainedModel = load_pretrained(AutoModelForCausalLM, path, _KEY, dtype=base.dtype, **more)
    return model
