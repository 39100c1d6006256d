"""What a recipe may say of its model: loaded or made, its shape, its precision, its tokenizer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.yaml.mistake import StrictMapping

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

MadeFamily = Literal[
    "llama", "mistral", "gemma3", "gpt_neox", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "exaone4", "olmo2",
    "granite", "cohere", "cohere2", "smollm3", "hyperclovax", "gpt2",
]  # fmt: skip
"""What a model can be made of on the spot: families whose numbers follow from their shape."""

NewRow = Literal["mean", "first", "random"]
RowsChoice = Literal["none", "new", "all"]
LayersChoice = Literal["none", "odd", "even", "all"]
Quantization = Literal["none", "8-bit", "4-bit"]


class Shape(StrictMapping):
    """How large a model is, under the names of most ``config.json``."""

    family: Text
    """``model_type`` of transformers, any that ``AutoModelForCausalLM`` knows; of a model with a vision tower that of
    its text model, with or without ``_text``."""
    hidden_size: Count
    """Width of the model."""
    intermediate_size: Count
    """Width of the layer inside each block."""
    num_hidden_layers: Depth
    """Blocks."""
    num_attention_heads: Count
    """Heads of attention."""
    num_key_value_heads: Count | None = None
    """None: as many as attention heads."""
    head_dim: Count | None = None
    """None: ``hidden_size / num_attention_heads``."""
    vocab_size: Count
    """Rows of the embedding before the tokenizer is extended."""
    tie_word_embeddings: bool = False
    """Whether input embedding and head are one matrix."""
    max_position_embeddings: Count | None = None
    """Tokens of the longest row that it reads; None: not known before it is loaded."""

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_width(self) -> int:
        """Numbers of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def query_width(self) -> int:
        """Numbers of all queries of a token."""
        return self.num_attention_heads * self.head_width

    @property
    def key_width(self) -> int:
        """Numbers of all its keys."""
        return self.key_heads * self.head_width


class NewTokenizer(StrictMapping):
    """A tokenizer trained on the spot."""

    algorithm: Literal["byte-level-bpe"]
    """How: merges of the pairs that are written most often, of bytes."""
    vocab_size: Annotated[int, Field(ge=300, le=MOST)]
    """Tokens with the 256 bytes and three special tokens; fewer than 300 would hardly merge anything."""
    sources: Annotated[list[Name], Field(min_length=1)]
    """Names of ``data.sources``; held-out pieces are never seen."""


class Pretraining(StrictMapping):
    """What a model made on the spot is trained on before the stages."""

    sources: Annotated[list[Name], Field(min_length=1)]
    """Names of ``data.sources``."""
    arguments: dict[Name, Any]
    """For ``transformers.TrainingArguments``, passed on unchanged."""


class Build(StrictMapping):
    """A model made on the spot, with random weights: the beginning of a training from scratch, or a stand-in."""

    family: MadeFamily
    """What it is made of, as ``model_type`` of transformers."""
    hidden_size: Width
    """Width of the model."""
    intermediate_size: Width
    """Width of the layer inside each block."""
    num_hidden_layers: Depth
    """Blocks."""
    num_attention_heads: Count
    """Heads of attention."""
    num_key_value_heads: Count | None = None
    """Heads of keys and values. None: as many as attention heads."""
    head_dim: Count | None = None
    """Width of a head. None: ``hidden_size / num_attention_heads``."""
    tie_word_embeddings: bool = False
    """Whether input embedding and head are one matrix."""
    tokenizer: NewTokenizer
    """The tokenizer that is trained for it."""
    pretraining: Pretraining | None = None
    """Then it stands for a model that would be downloaded. None: the stages begin with random weights."""


class Base(StrictMapping):
    """The model that training starts from: either ``model``, or ``build``."""

    model: Text | None = None
    """An id of the hub, or a folder, from the recipe's folder or from where the command is given."""
    revision: Text | None = None
    """Of the hub: a branch, a tag or a commit. None: whatever is newest."""
    shape: Shape | None = None
    """Of ``model``, where its config.json is not at hand: what can go wrong, and what it needs, is known before
    anything is downloaded. Of a local folder its config.json counts, whatever stands here. None: what that of the hub
    says when it is loaded."""
    build: Build | None = None
    """A model made on the spot instead of one that is loaded."""
    dtype: Literal["bfloat16", "float16", "float32"]
    """Of the weights as they are loaded, and of those that are trained whole; adapters are in float32."""
    quantization: Quantization = "none"
    """How the linear layers of the blocks are loaded, by bitsandbytes: LLM.int8, or NF4. Embeddings and head never
    are."""
    untie: bool = False
    """Whether an input embedding and a head that are one matrix become two, equal ones, before training."""

    @property
    def known_sizes(self) -> Shape | None:
        """The model's shape, whether it is loaded or made; None where only the hub knows it."""
        if self.build is None:
            return self.shape
        made = self.build.model_dump(exclude={"tokenizer", "pretraining"})
        return Shape(vocab_size=self.build.tokenizer.vocab_size, **made)

    @property
    def sizes(self) -> Shape:
        """The same, where it must be known.

        Raises:
            ConfigurationError: If it is not known before the model's config.json has been read.
        """
        known = self.known_sizes
        if known is None:
            raise ConfigurationError(
                f"base.shape: found nothing, and no config.json of {self.model} that was read, expected one of them; "
                "ko-cpt train reads that of the hub"
            )
        return known

    @property
    def tied(self) -> bool:
        """Whether input embedding and head are one matrix when the stages begin."""
        return self.sizes.tie_word_embeddings and not self.untie


class Extension(StrictMapping):
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
    """Whether new tokens are made of Hangul alone."""
    new_input_rows: NewRow = "mean"
    """Of the rows of the tokens that a new one was before; or random."""
    new_output_rows: NewRow | None = None
    """None: as the input's."""
    pad_to_multiple_of: Count | None = None
    """Rows of both matrices are filled up to a multiple. None: as many as there are tokens."""


class Tokenizer(StrictMapping):
    """What becomes of the base's tokenizer; a recipe without this part keeps it."""

    extend: Extension
    """New tokens from a source."""
