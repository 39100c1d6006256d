"""A recipe for a base, a corpus, a card and a number of hours, written with every line explained."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ko_cpt_callbacks.check.terminal import in_range
from ko_cpt_callbacks.cli.recipe_page import gibibytes, memory_of, numbers_of
from ko_cpt_callbacks.errors import ConfigurationError, RecipeError
from ko_cpt_callbacks.recipe.base_config import UnreadableConfigError, read_config
from ko_cpt_callbacks.recipe.family import NotCountedError
from ko_cpt_callbacks.recipe.memory import GIB
from ko_cpt_callbacks.recipe.plausibility import MOST_EPOCHS
from ko_cpt_callbacks.recipe.reading import RecipeFile, read_recipe
from ko_cpt_callbacks.recipe.text_checks import look_at_texts
from ko_cpt_callbacks.recipe.text_files import NAMES, files_of
from ko_cpt_callbacks.run.file import write_whole, writing_failure

__all__ = ["RecipeOptions", "write_recipe"]

_LENGTH: Final = 2048
"""Tokens of a row where the base has positions for them; chosen, not measured."""

_ROWS: Final = 32
"""Rows of an optimizer step, 65,536 tokens: twice medgemma_korean's 32,768. Chosen, not measured."""

_TOKENS_PER_HOUR: Final = 33e6 / 13
_PARAMETERS: Final = 4e9
"""What one RTX A6000 trained on of a model of four billion numbers in 8 bits: 33M tokens in 13 hours
(ormastes/medgemma_korean). Tokens go down as numbers go up; that they do so in proportion is chosen, not measured."""

_BYTES_PER_TOKEN: Final = 3.0
"""UTF-8 bytes of a token of Korean text, a letter of three bytes; chosen, not measured: vocabularies differ."""

_MOST_GB: Final = 100_000
_MOST_HOURS: Final = 100_000
"""What a card may have and how long a training may take, at most: eleven years. Chosen, not measured."""

_FREE: Final = 0.9
"""Share of a card's memory that may be needed; the rest is for what cannot be counted. Chosen, not measured."""

_SMALL: Final = 100_000_000
"""Bytes of a corpus below which more of it is held out; chosen, not measured."""

_WAYS: Final = tuple((kind, rows) for kind in ("none", "8-bit", "4-bit") for rows in (4, 2, 1))
"""How the base is loaded and how many rows are computed at once, from what needs most memory to what needs least."""

_UNKNOWN_WAY: Final = ("8-bit", 1)
_FEWEST_STEPS: Final = 20
_NONE: Final = "none"


_PAGE: Final = """\
# Written by ko-cpt recipes new, for one card of {card} GB. Every key there is: docs/recipe.md
# Check it: ko-cpt validate FILE. Try it out: ko-cpt train FILE --smoke. Train: ko-cpt train FILE

# One line for people.
title: {title}

# The model that training starts from: its folder, or its id on the hub. Of the hub add `revision: COMMIT`, so that it
# is the same tomorrow.
base:
  model: {base}
  dtype: bfloat16             # of its weights; adapters are in float32
  quantization: {kind:<14}# of its blocks: none, 8-bit or 4-bit

# The texts, and how they become rows.
data:
  sequence_length: {length:<11}# tokens of a row
  packing: true               # documents lie end to end; false: each begins a row of its own
  held_out: {held_out:<18}# share of the documents that is evaluated and never trained on
  sources:                    # where text comes from
    ko:                       # a name, by which it is called below
      language: ko            # the code of its language
      files: {corpus}
                              # a file, a folder, a pattern or a list of them, from this file's folder on
      field: {field:<17}# where the text is, in .jsonl, .csv and .parquet
  mix: {{ko: 1}}                # what the stages train on; with a second source {{ko: 3, en: 1}}

# What is evaluated: held-out documents. For what must not be forgotten: en: {{source: en, retention: true}}
eval:
  ko: {{source: ko, max_documents: 2000}}
                              # as eval_ko: up to so many documents, drawn from all that are held out

# What counts in every stage that does not say it itself.
defaults:
  arguments:                  # of transformers.TrainingArguments
    max_steps: {steps:<15}# {hours} hours, at 2.5M tokens an hour of a 4B model on an A6000; at most four passes
    per_device_train_batch_size: {rows}
                              # rows at once; fewer need less memory
    gradient_accumulation_steps: {times}
                              # so often before a step, which has {tokens} tokens
    per_device_eval_batch_size: {rows}
                              # rows at once in evaluation
    learning_rate: 1e-4       # Chinese-LLaMA's and medgemma_korean's, for LoRA
    lr_scheduler_type: cosine # falls to 0 at the last step
    warmup_steps: {warm:<12}# 5 % of the steps, as Chinese-LLaMA
    bf16: true                # computes in bfloat16; false on a card that cannot
    gradient_checkpointing: true
                              # less memory, for a third more time
    logging_steps: 1          # a training loss at every step
    eval_strategy: steps      # evaluates while it trains
    eval_steps: {often:<14}# about ten times
    eval_on_start: true       # before the first step too: what is gained is counted from there
    save_steps: {often:<14}# a crash costs at most so many steps
    save_total_limit: 2       # checkpoints that are kept
    report_to: none           # or tensorboard, wandb, trackio
  watch:                      # what is judged in the run
    targets: [{target}]
                              # what the evaluation must reach; docs/recipe.md
    stop_on: [non-finite]     # findings that stop it; ko-cpt explain lists them

# In order; each goes on with the weights of the one before.
stages:
  lora:                       # a name
    trains: {{layers: all}}     # what moves; input and output are the embeddings and the head
    lora: {{r: 64, lora_alpha: 128, target_modules: all-linear}}
                              # through an adapter, of medgemma_korean's size
"""


@dataclass(frozen=True)
class RecipeOptions:
    """What a recipe is wanted for.

    Attributes:
        base: A model's folder, or its id on the hub.
        corpus: A file, a folder or a pattern, from where the command is given.
        card: Memory of one GPU, in GB.
        hours: How long it may train.
        target: A target of the set ``eval_ko``; ``none`` for none.
    """

    base: str
    corpus: str
    card: float
    hours: float
    target: str


def write_recipe(path: Path, wishes: RecipeOptions, *, force: bool = False) -> int | None:
    """Write a recipe that is valid.

    Args:
        path: The new file.
        wishes: What it is for.
        force: Replace what is there.

    Returns:
        Bytes that it needs of the card; None where they are known only when the base is loaded.

    Raises:
        ConfigurationError: If the place is taken, there are no such texts, or the base does not fit the card.
        RecipeError: If what was asked for makes no recipe: a target that is none, texts that cannot be read.
    """
    if os.path.isdir(path):
        near = path / "recipe.yaml"
        raise ConfigurationError(f"{path}: found a folder, expected a file that ends in .yaml; did you mean {near}?")
    if path.suffix != ".yaml":
        raise ConfigurationError(f"{path}: found a place that no recipe can have, expected a file that ends in .yaml")
    if os.path.lexists(path) and not force:
        raise ConfigurationError(f"{path}: found something there already, expected a new name; or give --force")
    in_range("--card", wishes.card, 0, _MOST_GB, "GB", above=True)
    in_range("--hours", wishes.hours, 0, _MOST_HOURS, "hours", above=True)
    size = sum(file.stat().st_size for file in files_of(Path(wishes.corpus)))
    if not size:
        raise ConfigurationError(f"corpus: found no text in {wishes.corpus}, expected a folder or files ({NAMES})")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".ko-cpt-new-", dir=path.parent) as folder:
            draft = _Draft(wishes, size, Path(folder, path.name))
            try:
                way, parameters, memory = draft.way()
            except RecipeError as error:  # of a file that will not be there
                text = re.sub(rf"^{re.escape(str(draft.path))}:\d+: ", "", str(error), flags=re.MULTILINE)
                raise RecipeError(text.replace(f"{Path(folder)}{os.sep}..{os.sep}", "")) from None
        write_whole(path, draft.text(path.parent, *way, parameters).encode())
    except OSError as error:
        raise ConfigurationError(f"{path}: {writing_failure(path, error)}") from None
    return memory


class _Draft:
    """A recipe that is written to be read, until it fits the card."""

    def __init__(self, wishes: RecipeOptions, size: int, path: Path) -> None:
        self._wishes = wishes
        self._size = size
        self.path = path
        self._field = "text"
        self._length = min(_LENGTH, _positions(wishes.base) or _LENGTH)

    def way(self) -> tuple[tuple[str, int], float | None, int | None]:
        """How the base is loaded and how many rows are computed at once, its numbers, and the bytes that it needs.

        Raises:
            ConfigurationError: If it does not fit the card in any way.
            RecipeError: If it is no recipe.
        """
        mistakes = look_at_texts(self._read(_UNKNOWN_WAY)).mistakes
        if mistakes and all(key[-1] == "field" and near for key, _, _, near in mistakes):
            self._field = str(mistakes[0][3])
        file = self._read(_UNKNOWN_WAY)
        mistakes = look_at_texts(file).mistakes
        if mistakes:
            raise file.error(mistakes)
        needed = 0
        for way in _WAYS:
            file = self._read(way)
            try:
                if file.recipe.base.known_sizes is None:
                    return _UNKNOWN_WAY, None, None
                needed = max(memory.bytes for memory in memory_of(file))
                parameters = float(numbers_of(file)[1].total)
            except NotCountedError:
                return _UNKNOWN_WAY, None, None
            if needed <= _FREE * self._wishes.card * GIB:
                return way, parameters, needed
        raise ConfigurationError(
            f"card: found {self._wishes.card:g} GB, expected {math.ceil(needed / _FREE / GIB)} or more for "
            f"{self._wishes.base}: in 4 bits, a row at a time, it needs {gibibytes(needed)} GiB; take a smaller base"
        )

    def _read(self, way: tuple[str, int]) -> RecipeFile:
        self.path.write_text(self.text(self.path.parent, *way, None), "utf-8")
        return read_recipe(self.path)

    def text(self, folder: Path, kind: str, rows: int, parameters: float | None) -> str:
        """The recipe for a base of so many numbers, None where they are not known; its paths are from its folder on."""
        wishes = self._wishes
        tokens = _ROWS * self._length
        steps = _steps(wishes.hours, self._size, parameters, tokens)
        values = {
            "title": f"{Path(wishes.base).name} goes on with {Path(wishes.corpus).name}",
            "base": _from(folder, wishes.base) if os.path.isdir(wishes.base) else wishes.base,
            "corpus": _from(folder, wishes.corpus),
            "target": wishes.target,
        }
        quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
        return _PAGE.format(
            **{**quoted, "target": "" if wishes.target == _NONE else quoted["target"]},
            card=f"{wishes.card:g}",
            hours=f"{wishes.hours:g}",
            kind=kind,
            length=self._length,
            held_out=0.05 if self._size < _SMALL else 0.01,
            field=self._field,
            steps=steps,
            rows=rows,
            times=_ROWS // rows,
            tokens=f"{tokens:,}",
            warm=max(1, steps // 20),
            often=max(1, steps // 10),
        )


def _from(folder: Path, path: str) -> str:
    """A path from a folder on; an absolute one stays."""
    return path if os.path.isabs(path) else os.path.relpath(os.path.realpath(path), os.path.realpath(folder))


def _positions(base: str) -> int | None:
    """The longest row that a base in a folder reads; None where that is not known."""
    try:
        shape = read_config(Path(base)).shape if os.path.isdir(base) else None
    except UnreadableConfigError:  # the reader of the recipe says it
        return None
    return None if shape is None else shape.max_position_embeddings


def _steps(hours: float, size: int, parameters: float | None, tokens: int) -> int:
    """Steps of so many tokens that fit the hours, and go over the text four times at most."""
    rate = _TOKENS_PER_HOUR * _PARAMETERS / (parameters or _PARAMETERS)
    most = MOST_EPOCHS * size / _BYTES_PER_TOKEN
    return max(_FEWEST_STEPS, int(min(rate * hours, most) / tokens))
