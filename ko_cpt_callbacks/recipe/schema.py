"""What a recipe may say. Every key is known, every number has a range; nothing is converted on the quiet.

One recipe describes one run: a base model, a tokenizer, texts, evaluation sets and stages. What its parts must agree
on is in `agreement`; both are asked before anything is loaded.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
"""A name that the recipe gives: it becomes part of keys (``eval_ko``), folders and error messages. 64 letters are as
many as a baseline's id has; a file's name may have 255 bytes on most systems."""

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
# The largest sizes are chosen, not measured: far beyond any model, and small enough to compute with.
MOST = 10**12
Count = Annotated[int, Field(ge=1, le=MOST)]
Index = Annotated[int, Field(ge=0, le=MOST)]
Depth = Annotated[int, Field(ge=1, le=10_000)]
"""Blocks of a model: they are counted one by one."""

Share = Annotated[float, Field(gt=0, lt=1)]
Limit = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(gt=0)]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}$")]
Width = Annotated[int, Field(ge=32, le=MOST, multiple_of=32)]
"""A multiple of 32: the 8-bit kernels want it."""

Family = Literal["llama", "mistral", "gemma3", "gpt_neox", "qwen2"]
"""``model_type`` of transformers; ``gemma3`` is its text model, with or without the vision tower around it."""

NewRow = Literal["mean", "first", "random"]
RowsWord = Literal["none", "new", "all"]
LayersWord = Literal["none", "odd", "even", "all"]
Quantization = Literal["none", "8-bit", "4-bit"]


class Part(BaseModel):
    """A mapping of a recipe: unknown keys are refused, a text is no number, and nothing changes once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# -- the model --------------------------------------------------------------------------------------------------------


class Shape(Part):
    """How large a model is, under the names of its ``config.json``."""

    family: Family
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Depth
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    """None: as many as attention heads."""
    head_dim: Count | None = None
    """None: ``hidden_size / num_attention_heads``."""
    vocab_size: Count
    """Rows of the embedding before the tokenizer is extended."""
    tie_word_embeddings: bool = False


class NewTokenizer(Part):
    """A tokenizer trained on the spot."""

    algorithm: Literal["byte-level-bpe"]
    vocab_size: Annotated[int, Field(ge=300, le=MOST)]
    """Tokens with the 256 bytes and three special tokens; fewer than 300 would hardly merge anything."""
    sources: Annotated[list[Name], Field(min_length=1)]
    """Names of ``data.sources``; held-out pieces are never seen."""


class Pretraining(Part):
    """What a model made on the spot is trained on before the stages."""

    sources: Annotated[list[Name], Field(min_length=1)]
    """Names of ``data.sources``."""
    arguments: dict[Name, Any]
    """For ``transformers.TrainingArguments``, passed on unchanged."""


class Build(Part):
    """A model made on the spot, with random weights: the beginning of a training from scratch, or a stand-in."""

    family: Family
    hidden_size: Width
    intermediate_size: Width
    num_hidden_layers: Depth
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    tie_word_embeddings: bool = False
    tokenizer: NewTokenizer
    pretraining: Pretraining | None = None
    """Then it stands for a model that would be downloaded. None: the stages begin with random weights."""


class Base(Part):
    """The model that training starts from: either ``model`` with ``shape``, or ``build``."""

    model: Text | None = None
    """An id of the hub, or a folder, from the recipe's folder or from where the command is given."""
    revision: Text | None = None
    """Of the hub: a branch, a tag or a commit. None: whatever is newest."""
    shape: Shape | None = None
    """Given with ``model``: what can go wrong, and what it needs, is known before anything is downloaded."""
    build: Build | None = None
    dtype: Literal["bfloat16", "float16", "float32"]
    """Of the weights as they are loaded, and of those that are trained whole; adapters are in float32."""
    quantization: Quantization = "none"
    """How the linear layers of the blocks are loaded, by bitsandbytes: LLM.int8, or NF4. Embeddings and head never
    are."""
    untie: bool = False
    """Whether an input embedding and a head that are one matrix become two, equal ones, before training."""

    @property
    def sizes(self) -> Shape:
        """The model's shape, whether it is loaded or made."""
        if self.build is None:
            assert self.shape is not None  # `agreement` has seen to it
            return self.shape
        made = self.build.model_dump(exclude={"tokenizer", "pretraining"})
        return Shape(vocab_size=self.build.tokenizer.vocab_size, **made)

    @property
    def tied(self) -> bool:
        """Whether input embedding and head are one matrix when the stages begin."""
        return self.sizes.tie_word_embeddings and not self.untie


class Extension(Part):
    """New tokens for a tokenizer that keeps all it has."""

    source: Name
    """The name of one of ``data.sources``; held-out documents are never seen."""
    tokens: Count
    """New tokens at most."""
    minimum_count: Count
    """How often a new token must be written in the source, as far as it is read."""
    max_bytes: Count | None = None
    """UTF-8 bytes of the source to read for it, up to whole documents; None: all, of a large corpus for days."""
    algorithm: Literal["bpe"] = "bpe"
    """Merges that go on where the base's ended."""
    hangul_only: bool = True
    new_input_rows: NewRow = "mean"
    """Of the rows of the tokens that a new one was before; or random."""
    new_output_rows: NewRow | None = None
    """None: as the input's."""
    pad_to_multiple_of: Count | None = None
    """Rows of both matrices are filled up to a multiple. None: as many as there are tokens."""


class Tokenizer(Part):
    """What becomes of the base's tokenizer; a recipe without this part keeps it."""

    extend: Extension


# -- the texts --------------------------------------------------------------------------------------------------------


class HangulShare(Part):
    """Keeps documents whose letters are Hangul, for the most part."""

    minimum: Limit


class Repetition(Part):
    """Drops documents that repeat themselves: for each n, the largest share of characters in n-grams."""

    unit: Literal["word", "character"] = "word"
    top: dict[Size, Limit] | None = None
    """Inside the most frequent n-gram, by n in quotation marks. None: Gopher's."""
    duplicate: dict[Size, Limit] | None = None
    """Inside n-grams that come more than once. None: Gopher's."""


class PerplexityBand(Part):
    """Keeps documents that a given model finds neither too easy nor too hard."""

    model: Text
    revision: Text | None = None
    low: Annotated[float, Field(ge=0)]
    high: Amount
    max_tokens: Annotated[int, Field(ge=2, le=MOST)] = 512
    """Of a longer document the beginning is judged."""


class Filters(Part):
    """What documents must pass, in this order."""

    hangul_share: HangulShare | None = None
    repetition: Repetition | None = None
    perplexity: PerplexityBand | None = None


class Source(Part):
    """Texts of one language: one of ``bundled``, ``files`` and ``hub``."""

    language: Language
    bundled: Annotated[list[Text], Field(min_length=1)] | None = None
    """Names of files that come with the package, in ``recipes/text``."""
    files: Annotated[list[Text], Field(min_length=1)] | None = None
    """Paths or patterns, from the recipe's folder on: ``.txt``, ``.jsonl``, ``.json``, ``.parquet``, packed or not."""
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


class Data(Part):
    """Texts, and how they become rows."""

    sequence_length: Annotated[int, Field(ge=16, le=10**8)]
    """Tokens of a row; the largest is chosen, not measured."""
    packing: bool
    """Whether documents are laid end to end and cut into rows of that length. Otherwise every document begins a row,
    and a longer one is cut into several. No token is dropped but the last of a packed corpus."""
    held_out: Share
    """Share of every source that is never trained on; whole documents only."""
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
    mix: Annotated[dict[Name, Amount], Field(min_length=1)]
    """What the stages train on: one source in proportion to the others."""
    mix_by: Literal["bytes", "tokens"] = "bytes"
    """What the proportions are of."""


class EvalSet(Part):
    """Held-out documents of a source, evaluated as ``eval_<name>``."""

    source: Name
    retention: bool = False
    """Whether it stands for what must not be forgotten, rather than for what is to be learnt."""
    max_documents: Count | None = None
    """At most so many of the held-out documents. None: all."""


# -- the stages -------------------------------------------------------------------------------------------------------


def _mapping_or_name(value: Any) -> str:
    return "<name>" if isinstance(value, str) else "<settings>"


def _list_or_word(value: Any) -> str:
    return "<list>" if isinstance(value, list) else "<word>"


def _text_or_number(value: Any) -> str:
    return "<text>" if isinstance(value, str) else "<number>"


class Lora(Part):
    """For ``peft.LoraConfig``, under its own names. What is trained whole beside it, ``trains`` says."""

    r: Count
    lora_alpha: Amount
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[Text], Field(min_length=1)]
    use_rslora: bool = False


class Trains(Part):
    """Which parts of the model move."""

    input: RowsWord = "none"
    """Rows of the input embedding: those of new tokens, or all."""
    output: RowsWord = "none"
    """The same of the head."""
    layers: Annotated[
        Annotated[LayersWord, Tag("<word>")] | Annotated[list[Index], Field(min_length=1), Tag("<list>")],
        Discriminator(_list_or_word),
    ] = "none"
    """Transformer blocks, counted from 0: ``odd`` is 1, 3, 5, …; ``all`` without LoRA is everything but the
    embeddings, the last norm too."""


class Watch(Part):
    """For ``KoCPTCallback``."""

    targets: list[Text] = []
    """Of sets of ``eval``; a preset is asked of the first set that is no retention set."""
    baseline: Text | None = None
    """An id of ``ko-cpt baselines``."""
    stage: Text = "auto"
    """One of the baseline's stages; ``auto``: the one that trains the same."""
    stop_on: list[Text] = []
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


class Stage(Part):
    """One training."""

    trains: Trains
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
    watch: Watch = Watch()

    @property
    def checkpointing(self) -> bool:
        """Whether blocks are computed again in the backward pass; transformers 5.23 has another name for it."""
        return any(self.arguments.get(name) for name in ("activation_checkpointing", "gradient_checkpointing"))


class Page(Part):
    """One recipe: what a run is, on a page."""

    id: Name
    """The file's name without ``.yaml``."""
    title: Text
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """``numpy.random.seed`` takes no larger one."""
    task: Literal["cpt", "sft"] = "cpt"
    """What the run is judged as: continued pretraining (or pretraining from scratch), or instruction tuning."""
    base: Base
    tokenizer: Tokenizer | None = None
    data: Data
    eval: Annotated[dict[Name, EvalSet], Field(min_length=1)]
    stages: Annotated[dict[Name, Stage], Field(min_length=1)]
    """In order; each goes on with the weights of the one before."""
    source: dict[str, Text]
    """Where the numbers come from: a key, or what it begins with, and a source or ``chosen, not measured``."""
