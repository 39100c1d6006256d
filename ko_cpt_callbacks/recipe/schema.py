"""What a recipe may say. Every key is known, every number has a range; nothing is converted on the quiet.

One recipe describes one run: a base model, a tokenizer, texts, evaluation sets and stages. What its parts must agree
on is in `recipe.checks`; both are asked before anything is loaded.

Stages share adapters: a quantized body cannot take an adapter's product into its weights without loss, and cannot be
trained without one, so there the run has one adapter, from the first stage to the last. Elsewhere stages that follow
each other with the same settings share one, and it is merged into the weights before a stage with other settings or
without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from ko_cpt_callbacks.recipe.model_schema import (
    MOST,
    Amount,
    Base,
    Count,
    Index,
    Language,
    LayersChoice,
    Limit,
    Name,
    RowsChoice,
    Share,
    Size,
    Text,
    Tokenizer,
)
from ko_cpt_callbacks.yaml.shape import StrictMapping


def _list_or_text(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<text>"


class HangulShare(StrictMapping):
    """Keeps documents whose letters are Hangul, for the most part."""

    minimum: Limit
    """Share of letters that are Hangul, at least."""


class Repetition(StrictMapping):
    """Drops documents that repeat themselves: for each n, the largest share of characters in n-grams."""

    unit: Literal["word", "character"] = "word"
    """What an n-gram is made of."""
    top: dict[Size, Limit] | None = None
    """Inside the most frequent n-gram, by n in quotation marks. None: Gopher's."""
    duplicate: dict[Size, Limit] | None = None
    """Inside n-grams that come more than once. None: Gopher's."""


class PerplexityBand(StrictMapping):
    """Keeps documents that a given model finds neither too easy nor too hard."""

    model: Text
    """The model that judges: an id of the hub, or a folder."""
    revision: Text | None = None
    """Of the hub: a branch, a tag or a commit. None: whatever is newest."""
    low: Annotated[float, Field(ge=0)]
    """Perplexity below which a document is dropped."""
    high: Amount
    """Perplexity above which a document is dropped."""
    max_tokens: Annotated[int, Field(ge=2, le=MOST)] = 512
    """Of a longer document the beginning is judged."""


class Filters(StrictMapping):
    """What documents must pass, in this order."""

    hangul_share: HangulShare | None = None
    """By the share of Hangul among the letters."""
    repetition: Repetition | None = None
    """By how much a document repeats itself."""
    perplexity: PerplexityBand | None = None
    """By what a model says of it; it is loaded for that."""


class Source(StrictMapping):
    """Texts of one language: one of ``bundled``, ``files`` and ``hub``."""

    language: Language
    """The code of its language."""
    bundled: Annotated[list[Text], Field(min_length=1)] | None = None
    """Names of files that come with the package, in ``recipes/text``."""
    files: (
        Annotated[
            Annotated[list[Text], Field(min_length=1), Tag("<list>")] | Annotated[Text, Tag("<text>")],
            Discriminator(_list_or_text),
        ]
        | None
    ) = None
    """A path, a folder or a pattern, or several, from the recipe's folder on: ``.txt``, ``.jsonl``, ``.json``,
    ``.csv``, ``.parquet``, as they are or packed (``.gz``, ``.zst``, ``.xz``, ``.bz2``). Of a folder every such file in
    it and below, sorted by name."""
    hub: Text | None = None
    """The id of a data set, read as a stream."""
    revision: Text | None = None
    """Of ``hub``: its commit, 40 hex digits; a branch would be another corpus tomorrow."""
    config: Text | None = None
    """Of ``hub``: the configuration. None: its only one."""
    split: Text | None = None
    """Of ``hub``. None: ``train``."""
    field: Text = "text"
    """Where the text is, in everything but ``.txt``; for ``task: sft`` the answer."""
    prompt: Text | None = None
    """Where the prompt is that the answer is trained after; for ``task: sft`` only."""
    unit: Literal["line", "paragraph", "file"] = "line"
    """What a document is in a ``.txt``."""
    passes: Count = 1
    """How often it is read, from its beginning each time."""
    filters: Filters = Filters()
    """What its documents must pass, to be trained on and to be evaluated."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """``files`` as several, also where there is one or none."""
        return (self.files,) if isinstance(self.files, str) else tuple(self.files or ())


class Data(StrictMapping):
    """Texts, and how they become rows."""

    sequence_length: Annotated[int, Field(ge=16, le=10**8)]
    """Tokens of a row; the largest is chosen, not measured."""
    packing: bool
    """Whether documents are laid end to end and cut into rows of that length. Otherwise every document begins a row,
    and a longer one is cut into several. Dropped and counted: the last tokens of a packed corpus, a last token that
    would be alone in its row, and for ``task: sft`` what does not fit into the one row of a prompt and its answer."""
    held_out: Share
    """Share of every source that is never trained on; whole documents only."""
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    """Where text comes from, by name."""
    mix: Annotated[dict[Name, Amount], Field(min_length=1)]
    """What the stages train on: one source in proportion to the others."""
    mix_by: Literal["bytes", "tokens"] = "bytes"
    """What the proportions are of."""
    duplicates: Literal["keep", "exact", "near"] = "keep"
    """``exact``: a document is trained on once, and not where an evaluation set has it; ``near``: nor is one that has
    most of another's text. ``keep`` looks for none."""


class EvalSet(StrictMapping):
    """Held-out documents of a source, evaluated as ``eval_<name>``."""

    source: Name
    """The name of one of ``data.sources``."""
    retention: bool = False
    """Whether it stands for what must not be forgotten, rather than for what is to be learned."""
    max_documents: Count | None = None
    """At most so many of the held-out documents. None: all."""


def _mapping_or_name(value: Any) -> str:
    return "<name>" if isinstance(value, str) else "<settings>"


def _list_or_word(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<word>"


def _text_or_number(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<number>"


TargetWord = Annotated[str, StringConstraints(pattern=r"^all-linear$")]


class Lora(StrictMapping):
    """For ``peft.LoraConfig``, under its own names. What is trained whole beside it, ``trains`` says."""

    r: Count
    """Rank."""
    lora_alpha: Amount
    """Scale, divided by the rank (with ``use_rslora`` by its root)."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped in training."""
    target_modules: Annotated[
        Annotated[list[Text], Field(min_length=1), Tag("<list>")] | Annotated[TargetWord, Tag("<word>")],
        Discriminator(_list_or_word),
    ]
    """Linear layers of the blocks: by the last word of their names, or by more of it; ``all-linear``: all of them."""
    use_rslora: bool = False
    """Whether the scale is divided by the root of the rank."""


class Trains(StrictMapping):
    """Which parts of the model move."""

    input: RowsChoice = "none"
    """Rows of the input embedding: those of new tokens, or all."""
    output: RowsChoice = "none"
    """The same of the head."""
    layers: Annotated[
        Annotated[LayersChoice, Tag("<word>")] | Annotated[list[Index], Field(min_length=1), Tag("<list>")],
        Discriminator(_list_or_word),
    ] = "none"
    """Transformer blocks, counted from 0: ``odd`` is 1, 3, 5, …; ``all`` without LoRA is everything but the
    embeddings, the last norm too."""


AlertWord = Annotated[str, StringConstraints(pattern=r"^(info|warning|error|\$[A-Za-z_][A-Za-z0-9_]*)$")]


class StageWatch(StrictMapping):
    """For ``KoCPTCallback``."""

    targets: list[Text] = Field(default_factory=list)
    """Of sets of ``eval``; a preset is asked of the first set that is no retention set."""
    baseline: Text | None = None
    """An id of ``ko-cpt baselines``."""
    stage: Text = "auto"
    """One of the baseline's stages; ``auto``: the one that trains the same."""
    family: list[Text] = Field(default_factory=list)
    """Finished runs of this set-up with other seeds: folders, ids of your own among ``ko-cpt baselines``, or ``own``
    for all of these. They narrow the forecast, and a run that leaves their band is a finding."""
    stop_on: list[Text] = Field(default_factory=list)
    """Finding codes that stop the stage; the next one begins."""
    grace: (
        Annotated[Annotated[Index, Tag("<number>")] | Annotated[Text, Tag("<text>")], Discriminator(_text_or_number)]
        | None
    ) = None
    """Before which nothing stops: optimizer steps, or ``tokens:1e6``."""
    patience: Count | None = None
    """Evaluations without improvement after which the stage stops."""
    min_delta: (
        Annotated[
            Annotated[float, Field(ge=0), Tag("<number>")] | Annotated[Text, Tag("<text>")],
            Discriminator(_text_or_number),
        ]
        | None
    ) = None
    """What counts as improvement: nats per token, or ``1%`` of the best loss."""
    alerts: list[AlertWord] = Field(default_factory=list)
    """Where findings go: the least grave that is sent, and ``$NAME``, an environment variable with an address, which
    is a secret and stands in no recipe itself. None: what ``KO_CPT_ALERTS`` says."""


class Stage(StrictMapping):
    """One training."""

    trains: Trains
    """Which parts of the model move."""
    lora: (
        Annotated[
            Annotated[Lora, Tag("<settings>")] | Annotated[Name, Tag("<name>")],
            Discriminator(_mapping_or_name),
        ]
        | None
    ) = None
    """The layers move through this adapter; a name: through that of an earlier stage, which goes on. None: they move
    themselves."""
    arguments: dict[Name, Any]
    """For ``transformers.TrainingArguments``, passed on unchanged."""
    watch: StageWatch = StageWatch()
    """What is reported about this stage, and when it ends early."""

    @property
    def checkpointing(self) -> bool:
        """Whether blocks are computed again in the backward pass; transformers 5.23 has another name for it."""
        return any(self.arguments.get(name) for name in ("activation_checkpointing", "gradient_checkpointing"))


class Defaults(StrictMapping):
    """Written once for all stages; where a stage says the same key, the stage's value counts."""

    arguments: dict[Name, Any] = Field(default_factory=dict)
    """As in a stage."""
    watch: StageWatch = StageWatch()
    """As in a stage."""


class Page(StrictMapping):
    """One recipe: what a run is, on a page."""

    id: Name = ""
    """What the run is called. Without it the file's name without ``.yaml``."""
    title: Text
    """One line for people."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """``numpy.random.seed`` takes no larger one."""
    task: Literal["cpt", "sft"] = "cpt"
    """What the run is judged as: continued pretraining (or pretraining from scratch), or instruction tuning."""
    base: Base
    """The model that training starts from."""
    tokenizer: Tokenizer | None = None
    """What becomes of the base's tokenizer. Without it the tokenizer stays."""
    data: Data
    """The texts, and how they become rows."""
    eval: Annotated[dict[Name, EvalSet], Field(min_length=1)]
    """Sets of held-out text, by name; each is evaluated as ``eval_<name>``."""
    defaults: Defaults = Defaults()
    """What counts in every stage that does not say it itself."""
    stages: Annotated[dict[Name, Stage], Field(min_length=1)]
    """In order; each goes on with the weights of the one before."""
    source: dict[str, Text] = Field(default_factory=dict)
    """Where the numbers come from: a key, or what it begins with, and a source or ``chosen, not measured``. In a recipe
    of your own as you like; in one that comes with the package every number has one."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter, and what is trained whole beside it while it is there.

    Attributes:
        settings: Of LoRA.
        stages: The stages that share it, in order.
        layers: The layers that one of them moves; None for all.
        input: Whether one of them trains the input embedding, or rows of it.
        output: The same of the head.
    """

    settings: Lora
    stages: tuple[str, ...]
    layers: tuple[int, ...] | None
    input: bool
    output: bool


def stage_lora(page: Page, name: str) -> Lora | None:
    """The settings that a stage's layers move through, where it names another stage those of that one."""
    lora = page.stages[name].lora
    while isinstance(lora, str):
        lora = page.stages[lora].lora
    return lora


def stage_adapter(page: Page, name: str) -> Adapter | None:
    """The adapter that is on the model in a stage; None where there is none.

    Args:
        page: A recipe without mistakes.
        name: Of the stage. Over a quantised body it need not use the adapter itself.
    """
    names = tuple(page.stages)
    if page.base.quantization == "none":
        settings = stage_lora(page, name)
        if settings is None:
            return None
        names = _neighbours(page, names, name, settings)
    else:
        settings = next(found for stage in names if (found := stage_lora(page, stage)) is not None)
    count = page.base.sizes.num_hidden_layers
    moved = {index for stage in names for index in layer_indices(page.stages[stage].trains.layers, count)}
    return Adapter(
        settings,
        names,
        None if len(moved) == count else tuple(sorted(moved)),
        any(page.stages[stage].trains.input != "none" for stage in names),
        any(page.stages[stage].trains.output != "none" for stage in names),
    )


def layer_indices(layers: str | Sequence[int], count: int) -> tuple[int, ...]:
    """The layers that a word stands for, counted from 0.

    >>> layer_indices("odd", 5)
    (1, 3)
    """
    if not isinstance(layers, str):
        return tuple(sorted(layers))
    every: dict[str, Any] = {"none": range(0), "odd": range(1, count, 2), "even": range(0, count, 2)}
    return tuple(every.get(layers, range(count)))


def _neighbours(page: Page, names: Sequence[str], name: str, settings: Lora) -> tuple[str, ...]:
    """The stages around one that follow each other with its settings."""
    place = names.index(name)
    first, last = place, place
    while first > 0 and stage_lora(page, names[first - 1]) == settings:
        first -= 1
    while last + 1 < len(names) and stage_lora(page, names[last + 1]) == settings:
        last += 1
    return tuple(names[first : last + 1])
