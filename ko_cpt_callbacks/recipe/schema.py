"""What a recipe may say. Every key is known, every number has a range; nothing is converted on the quiet.

One recipe describes one run: a base model, texts, evaluation sets and stages. This version knows what the
quickstart needs: a base made on the spot, bundled texts, and one stage of 8-bit LoRA.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
"""A name that the recipe gives: it becomes part of keys (``eval_ko``), folders and error messages."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Part(BaseModel):
    """A mapping of a recipe: unknown keys are refused, a text is no number, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NewTokenizer(Part):
    """A tokenizer trained on the spot."""

    algorithm: Literal["byte-level-bpe"]
    vocab_size: Annotated[int, Field(ge=300)]
    """Tokens with the 256 bytes and three special tokens; fewer than 300 would hardly merge anything."""
    sources: Annotated[list[Name], Field(min_length=1)]
    """Names of ``data.sources``; held-out pieces are never seen."""


class Build(Part):
    """A base model made on the spot: it stands for the one that would be downloaded."""

    architecture: Literal["llama"]
    hidden_size: Annotated[int, Field(ge=32, multiple_of=32)]
    """Width. A multiple of 32: the 8-bit kernels want it."""
    intermediate_size: Annotated[int, Field(ge=32, multiple_of=32)]
    num_hidden_layers: Count
    num_attention_heads: Count
    tokenizer: NewTokenizer
    sources: Annotated[list[Name], Field(min_length=1)]
    """Names of ``data.sources`` that it is pretrained on."""
    arguments: dict[Name, Any]
    """For ``transformers.TrainingArguments``, passed on unchanged."""


class Base(Part):
    """The model that training starts from."""

    build: Build
    quantization: Literal["8-bit"]
    """How its weights are loaded for the stages, by bitsandbytes."""


class Source(Part):
    """Texts of one language."""

    language: Literal["ko", "en"]
    bundled: Annotated[list[Text], Field(min_length=1)]
    """Names of files that come with the package, in ``recipes/text``."""


class Data(Part):
    """Texts, and how they become rows."""

    sequence_length: Annotated[int, Field(ge=16)]
    """Tokens of a row; a longer piece is cut into several rows, and no token is dropped."""
    held_out: Share
    """Share of every file that is never trained on, in bytes and in pieces at least; whole pieces only."""
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    mix: Annotated[dict[Name, Annotated[float, Field(gt=0)]], Field(min_length=1)]
    """What the stages train on: bytes of one source in proportion to the others'."""


class EvalSet(Part):
    """The held-out pieces of a source, evaluated as ``eval_<name>``."""

    source: Name
    retention: bool = False
    """Whether it stands for what must not be forgotten, rather than for what is to be learnt."""


class Lora(Part):
    """For ``peft.LoraConfig``, under its own names."""

    r: Count
    lora_alpha: Annotated[float, Field(gt=0)]
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[Text], Field(min_length=1)]
    modules_to_save: list[Text] = []
    """Modules trained whole beside the adapters, in full precision."""


class Watch(Part):
    """For ``KoCPTCallback``."""

    targets: list[Text] = []
    stop_on: list[Text] = []
    """Finding codes that stop the stage."""
    grace: Annotated[int, Field(ge=0)] | None = None
    """Optimizer steps before which nothing stops."""


class Stage(Part):
    """One training."""

    lora: Lora
    arguments: dict[Name, Any]
    """For ``transformers.TrainingArguments``, passed on unchanged."""
    watch: Watch = Watch()


class Recipe(Part):
    """One run."""

    id: Name
    """The file's name without ``.yaml``."""
    title: Text
    seed: Annotated[int, Field(ge=0)] = 0
    base: Base
    data: Data
    eval: Annotated[dict[Name, EvalSet], Field(min_length=1)]
    stages: Annotated[dict[Name, Stage], Field(min_length=1, max_length=1)]
    """In order. This version runs one."""
    source: dict[str, Text]
    """Where the numbers come from: a key, or what it begins with, and a source or ``chosen, not measured``."""
