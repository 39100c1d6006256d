"""What a recipe may say. Every key is known, every number has a range; nothing is converted on the quiet.

One recipe describes one run: a base model, a tokenizer, texts, evaluation sets and stages. What its parts must agree
on is in `recipe.checks`; both are asked before anything is loaded.

The texts below the keys are the words of the JSON Schema, for editors and for ``docs/recipe.md``. An editor completes
and checks a recipe that begins with ``# yaml-language-server: $schema=recipe.schema.json``.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

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
from ko_cpt_callbacks.yaml.mistake import StrictMapping


def _apart(kind: type) -> Discriminator:
    """Of two forms that a value may have, by its kind, so that its mistakes are those of one form."""
    return Discriminator(lambda value: "<it>" if isinstance(value, kind) else "<other>")


Texts = Annotated[list[Text], Field(min_length=1)]
TextOrTexts = Annotated[Annotated[Texts, Tag("<it>")] | Annotated[Text, Tag("<other>")], _apart(list)]


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
    bundled: Texts | None = None
    """Names of files that come with the package, in ``recipes/text``."""
    files: TextOrTexts | None = None
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


TargetWord = Annotated[str, StringConstraints(pattern=r"^all-linear$")]


class Lora(StrictMapping):
    """For ``peft.LoraConfig``, under its own names. What is trained whole beside it, ``trains`` says."""

    r: Count
    """Rank."""
    lora_alpha: Amount
    """Scale, divided by the rank (with ``use_rslora`` by its root)."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped in training."""
    target_modules: Annotated[Annotated[Texts, Tag("<it>")] | Annotated[TargetWord, Tag("<other>")], _apart(list)]
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
        Annotated[LayersChoice, Tag("<other>")] | Annotated[list[Index], Field(min_length=1), Tag("<it>")], _apart(list)
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
    grace: Annotated[Annotated[Index, Tag("<other>")] | Annotated[Text, Tag("<it>")], _apart(str)] | None = None
    """Before which nothing stops: optimizer steps, or ``tokens:1e6``."""
    patience: Count | None = None
    """Evaluations without improvement after which the stage stops."""
    min_delta: (
        Annotated[Annotated[float, Field(ge=0), Tag("<other>")] | Annotated[Text, Tag("<it>")], _apart(str)] | None
    ) = None
    """What counts as improvement: nats per token, or ``1%`` of the best loss."""
    alerts: list[AlertWord] = Field(default_factory=list)
    """Where findings go: the least grave that is sent, and ``$NAME``, an environment variable with an address, which
    is a secret and stands in no recipe itself. None: what ``KO_CPT_ALERTS`` says."""


class Stage(StrictMapping):
    """One training."""

    trains: Trains
    """Which parts of the model move."""
    lora: Annotated[Annotated[Lora, Tag("<other>")] | Annotated[Name, Tag("<it>")], _apart(str)] | None = None
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


_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_TITLE: Final = "Recipe of ko-cpt"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, every key with its meaning.

    What parts must agree on it cannot say; ``ko-cpt validate`` does.
    """
    schema = Page.model_json_schema()
    parts = schema["$defs"]
    for part in (schema, *parts.values()):
        for entry in (part, *part["properties"].values()):
            entry.pop("title", None)
            # pydantic leaves out of a key what its part says in the same words.
            words = entry.get("description") or parts[entry["$ref"].rpartition("/")[2]]["description"]
            entry["description"] = " ".join(words.replace("``", "`").split())
            if entry.get("default") == "" or isinstance(entry.get("default"), dict):  # the words say it
                del entry["default"]
    parts[Stage.__name__]["required"].remove("arguments")  # they may stand in `defaults`
    return {"$schema": _DRAFT, "title": _TITLE, **schema}
