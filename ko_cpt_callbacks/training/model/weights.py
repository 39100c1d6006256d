"""The models of a run: the base, loaded or made and extended, and what each stage starts from and ends with.

All of it over the disk: a run that goes on after a kill takes the same way. ``model/`` of a stage holds what it ended
with. Where an adapter is on the model and goes on in the next stage, or the body is quantised, that is the adapter with
what was trained whole beside it; otherwise the whole model, an adapter that ends merged into it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    Trainer,
    set_seed,
)

from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.recipe.family import KINDS
from ko_cpt_callbacks.recipe.model_schema import Base, Build
from ko_cpt_callbacks.recipe.parameter_count import stage_adapter
from ko_cpt_callbacks.recipe.reading import RecipeFile
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.training.arguments import training_arguments
from ko_cpt_callbacks.training.data.recipe_data import RecipeTexts, first_texts
from ko_cpt_callbacks.training.folder import (
    ADAPTER,
    MODEL,
    RecipeFolder,
    part_of,
    put_folder,
    whole_folder,
)
from ko_cpt_callbacks.training.hub import load_pretrained
from ko_cpt_callbacks.training.model.config import KEY, place_of
from ko_cpt_callbacks.training.model.layout import check_quantized
from ko_cpt_callbacks.training.model.stage import merged, prepare_stage
from ko_cpt_callbacks.training.model.trainable import untie
from ko_cpt_callbacks.training.model.vocabulary import FERTILITY, extend, measure_fertility, train_tokenizer
from ko_cpt_callbacks.training.trainer import remove_checkpoints, train_stage


def quantization_config(base: Base) -> BitsAndBytesConfig | None:
    """What ``from_pretrained`` is to be given; None where the weights stay as they are.

    4-bit as in QLoRA (https://arxiv.org/abs/2305.14314): NF4, its constants quantised once more.
    """
    if base.quantization == "none":
        return None
    if base.quantization == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, base.dtype),
    )


def made_model(build: Build, tokenizer: Any, max_length: int) -> PreTrainedModel:
    """A model with random weights, the same for the same seed, for texts of so many tokens."""
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": build.hidden_size,
        "n_inner" if build.family == "gpt2" else "intermediate_size": build.intermediate_size,
        "num_hidden_layers": build.num_hidden_layers,
        "num_attention_heads": build.num_attention_heads,
        "tie_word_embeddings": build.tie_word_embeddings,
        "max_position_embeddings": max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if KINDS[build.family].key_heads:  # others have none of their own, and derive the width of a head
        sizes["num_key_value_heads"] = build.num_key_value_heads or build.num_attention_heads
        sizes["head_dim"] = build.head_dim or build.hidden_size // build.num_attention_heads
    # The text model alone, where the family's name is that of one with a vision tower too.
    name = f"{build.family}_text" if f"{build.family}_text" in CONFIG_MAPPING else build.family
    auto: Any = AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(AutoConfig.for_model(name, **sizes))
    return model


Say = Callable[[str], None]


class Weights:
    """The models of a run, and its tokenizer.

    Args:
        file: The recipe.
        folder: The run's.
        texts: The recipe's.
        device: Of this process: ``cpu``, ``cuda:1``.
        say: Prints a line.
    """

    def __init__(self, file: RecipeFile, folder: RecipeFolder, texts: RecipeTexts, device: str, say: Say) -> None:
        self._page: Page = file.recipe
        self._beside = file.path.parent
        self._folder = folder
        self._texts = texts
        self._device = device
        self._say = say
        self._processes = PartialState()
        base = self._page.base
        # Whether the stages start from a model that is no one's but this run's.
        self._own = base.build is not None or base.untie or self._page.tokenizer is not None

    @property
    def _base(self) -> tuple[str, dict[str, str]]:
        """Where the stages find model and tokenizer: for ``from_pretrained``."""
        return (str(self._folder.base_model), {}) if self._own else place_of(self._page.base, self._beside)

    def tokenizer(self) -> Any:
        """The tokenizer of every stage."""
        path, more = self._base
        return load_pretrained(AutoTokenizer, path, KEY, **more)

    def make_base(self) -> None:
        """Make what is not there yet.

        Raises:
            InterruptedTrainingError: After Ctrl-C while it was pretrained, with a checkpoint saved.
        """
        if not self._own:
            self._say(f"base: {self._page.base.model}")
            return
        if self._folder.base_model.exists():
            self._say("base: there already")
            return
        build = self._page.base.build
        made = None if build is None else self._built(build)
        with self._processes.main_process_first():
            if self._processes.is_main_process:
                model, tokenizer = self._loaded() if made is None else made
                self._put(self._folder.base_model, model, self._extended(model, tokenizer))
        if self._processes.is_main_process:
            remove_checkpoints(self._folder.base)

    def _loaded(self) -> tuple[Any, Any]:
        path, more = place_of(self._page.base, self._beside)
        self._say(f"base: {path}, on the CPU, to be changed before the first stage")
        model = load_pretrained(AutoModelForCausalLM, path, KEY, dtype=self._page.base.dtype, **more)
        return model, load_pretrained(AutoTokenizer, path, KEY, **more)

    def _built(self, build: Build) -> tuple[PreTrainedModel, Any]:
        page = self._page
        with self._processes.main_process_first():
            if not self._folder.base_tokenizer.exists():
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
        with self._processes.main_process_first():
            rows = self._texts.rows_of(given.sources, tokenizer)
            evaluated = self._texts.evaluation_rows(tokenizer, names)
        # Shown, not judged and not recorded: the run begins with the first stage.
        callback = KoCPTCallback(rules=(), outputs=("console",))
        sets = {name: part.rows for name, part in evaluated.items()}
        arguments = training_arguments(given.arguments, self._folder.base, page.seed)
        train_stage("base", model, tokenizer, rows.rows, sets, arguments, callback)
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
        told = {"source": source, "before": before.summary(), "after": after.summary()}
        self._folder.note(FERTILITY, told)
        self._say(
            f"tokenizer: {len(extended) - len(tokenizer):,} new tokens; on held-out {source} "
            f"{before.tokens_per_character:.3f} tokens per character became {after.tokens_per_character:.3f}"
        )
        return extended

    def model_for(self, name: str) -> Any:
        """The model that a stage trains: as the stage before left it, with a gradient on what this one trains."""
        return self._model(name, self._device)

    def save(self, trainer: Trainer, name: str) -> None:
        """Keep what a stage ended with; every process must call it."""
        home, adapter = self._folder.stage(name), stage_adapter(self._page, name)
        ends = adapter is not None and self._page.base.quantization == "none" and name == adapter.stages[-1]
        target = home / ADAPTER if ends else home / MODEL
        part = part_of(target)
        with self._processes.main_process_first():
            if self._processes.is_main_process:
                shutil.rmtree(part, ignore_errors=True)  # what a kill left half-filled
        trainer.save_model(str(part))  # on all processes: each may hold a part of the weights
        with self._processes.main_process_first():
            if self._processes.is_main_process:
                put_folder(part, target)
                if ends:  # on the CPU, where there is more memory
                    self._put(home / MODEL, merged(self._model(name, "cpu", adapter=target)), self.tokenizer())

    def _model(self, name: str, device: str, adapter: Path | None = None) -> Any:
        wanted = stage_adapter(self._page, name)
        start = name if wanted is None else wanted.stages[0]
        before = self._end_before(start)
        path, more = self._base if before is None else (str(before), {})
        model = prepare_stage(load_model(path, self._page.base, device, **more), self._page, name)
        if start != name:
            adapter = adapter or self._end_before(name)
        if adapter is not None:
            set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
        return model

    def _end_before(self, name: str) -> Path | None:
        """What the stage before ended with; None of the first."""
        names = list(self._page.stages)
        place = names.index(name)
        return self._folder.stage(names[place - 1]) / MODEL if place else None

    def _put(self, place: Path, model: Any, tokenizer: Any) -> None:
        with whole_folder(place) as part:
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
    model: PreTrainedModel = load_pretrained(AutoModelForCausalLM, path, KEY, dtype=base.dtype, **more)
    if base.quantization != "none":
        check_quantized(model, base.quantization)
    return model
