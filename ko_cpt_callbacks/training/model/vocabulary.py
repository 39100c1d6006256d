"""A vocabulary trained or extended: new tokens for a Korean text after the base's own, and the model's rows for them.

BPE training goes on where the base's ended. Words are cut into the base's tokens, and the trainer of the
``tokenizers`` library learns merges of those tokens; to it, each of them is one character. New tokens get the ids
after the old ones and new merges stand after the old ones. It follows, and is tested, that

- every old token keeps its id, and no new token spells what an old one spells;
- of any text, the new tokens are the base's tokens with some neighbours joined: the base's merges are done before
  any new one can be, and no new merge makes an old token;
- so a text without a new token in it (English, if `only_hangul`) has the same ids as before, and every text decodes
  to what it decoded to before.

``add_tokens`` gives none of this: it cuts its tokens out of the text before the base's merges see it, in the middle
of words too.

Sources: the choice of tokens (absent from the base, a least count on the corpus, single letters by the same count)
is EEVE's (https://arxiv.org/abs/2402.14714). EEVE trains its tokenizer apart from the base's; here it goes on from
the base, because a merge learned apart may never be reached after the base's merges. A new token's rows are made from
those of what it was before: the mean for both matrices was RedWhale's best of five ways
(https://arxiv.org/abs/2408.11294); EEVE takes the mean for the input and the first sub-token for the output, whose row
has to predict what comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.model_schema import NewRow
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.training.data.encode import batches, encode_texts
from ko_cpt_callbacks.training.model.bpe import Growth, count_words, read_layout, with_backend
from ko_cpt_callbacks.training.model.trainable import untie

_BEGIN, _END, _PAD = "<s>", "</s>", "<pad>"
_WORDS: Final = 5_000_000
"""Different words to keep in memory (some 200 bytes each); when there are more, those seen once are forgotten, then
twice, and so on. Chosen, not measured."""
_PART: Final = 8192
_PLAIN: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
FIRST_NEW_ROW: Final = "ko_cpt_first_new_row"
"""The key of a model's ``config.json`` that says which row of its embedding is the first new one."""
FERTILITY: Final = "fertility"
"""Under which a run's plan has it, before and after the tokenizer was extended."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE: every text is the bytes that it decodes to, so bits per byte are exact.

    Its tokens are the 256 bytes, three special ones and merges; fewer than asked for where the text is too short.
    """
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_BEGIN, _END, _PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    # As Llama's: a text begins with the begin token. Asked for where rows are made of documents.
    inner.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, inner.token_to_id(_BEGIN))]
    )
    # Padding is a token of its own: a pad token that is the end token too would hide where texts end.
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, bos_token=_BEGIN, eos_token=_END, pad_token=_PAD
    )


@dataclass(frozen=True, slots=True)
class Fertility:
    """Sums over texts, and what follows from them.

    Attributes:
        tokens: Without begin and end tokens.
        characters: Code points, white space too.
        bytes: In UTF-8.
    """

    tokens: int = 0
    characters: int = 0
    bytes: int = 0

    @property
    def tokens_per_character(self) -> float:
        """Less is better; NaN without text."""
        return self.tokens / self.characters if self.characters else float("nan")

    @property
    def bytes_per_token(self) -> float:
        """More is better: the factor between loss per token and loss per byte; NaN without text."""
        return self.bytes / self.tokens if self.tokens else float("nan")

    def summary(self) -> dict[str, float | None]:
        """What follows from the sums, as JSON: None without text."""
        found = {"tokens_per_character": self.tokens_per_character, "bytes_per_token": self.bytes_per_token}
        return {name: value if self.tokens else None for name, value in found.items()}


def measure_fertility(texts: Iterable[str], *tokenizers: Any) -> list[Fertility]:
    """The fertility of several tokenizers on the same texts, read once."""
    characters = size = 0
    tokens = [0] * len(tokenizers)
    for batch in batches(texts):
        characters += sum(map(len, batch))
        size += sum(len(text.encode()) for text in batch)
        for place, tokenizer in enumerate(tokenizers):
            tokens[place] += sum(map(len, encode_texts(tokenizer, batch)))
    return [Fertility(count, characters, size) for count in tokens]


def extend(model: Any, tokenizer: Any, texts: Iterable[str], page: Page) -> Any:
    """Extend a tokenizer as a recipe says, and give the model rows for the new tokens.

    Args:
        model: Without adapters; changed in place. Its configuration gets `FIRST_NEW_ROW`.
        tokenizer: The model's own; left as it is.
        texts: What new tokens are learned from, read once.
        page: The recipe.

    Returns:
        The extended tokenizer; the one given where the recipe keeps it.

    Raises:
        ConfigurationError: If the tokenizer or the model cannot be extended.
    """
    if page.tokenizer is None:
        return tokenizer
    wanted = page.tokenizer.extend
    extended = extend_tokenizer(tokenizer, texts, wanted.tokens, wanted.minimum_count, only_hangul=wanted.hangul_only)
    pieces = old_pieces(tokenizer, extended)
    if not pieces:
        raise ConfigurationError(
            f"tokenizer.extend: found no new token that is written {wanted.minimum_count} times in source "
            f"{wanted.source}, expected some; give more text or a lower minimum_count"
        )
    if page.base.untie:
        untie(model)
    add_rows(model, pieces, wanted.new_input_rows, wanted.new_output_rows, wanted.pad_to_multiple_of or 1, page.seed)
    setattr(model.config, FIRST_NEW_ROW, min(pieces))
    return extended


def extend_tokenizer(
    base: Any, texts: Iterable[str], size: int, min_count: int, *, only_hangul: bool = True, max_words: int = _WORDS
) -> Any:
    """A tokenizer with new tokens for a corpus.

    Args:
        base: A tokenizer of transformers on the ``tokenizers`` library: BPE, byte-level or SentencePiece-like.
        texts: The corpus, read once.
        size: New tokens at most; fewer where the corpus has no more.
        min_count: How often a new token must be written in the corpus. One that is rarer stays only where others
            are built from it. EEVE: 6,000 in 100 GB.
        only_hangul: Whether new tokens are Hangul alone, with a space in front or not; otherwise letters of every
            script.
        max_words: Different words to keep.

    Returns:
        One of the base's class, with its special tokens; ``base`` is left as it is.

    Raises:
        ConfigurationError: If the base is of another kind.
    """
    layout = read_layout(base)
    normalizer = base.backend_tokenizer.normalizer
    words = count_words(texts, layout, normalizer, only_hangul=only_hangul, max_words=max_words)
    growth, before = Growth(layout, words, size, min_count), -1
    growth.add_characters()
    growth.drop_rare()
    while before < len(growth.tokens) < size:
        # Once more, as long as there is more: what was dropped left room.
        before = len(growth.tokens)
        growth.add_merges()
        growth.drop_rare()
    return with_backend(base, growth.backend())


def old_pieces(old: Any, new: Any) -> dict[int, tuple[int, ...]]:
    """What every new token was before: ids of the old tokenizer, by the new id.

    Args:
        old: The base's tokenizer.
        new: The same, extended; tokens that were added to it whole are counted as new too.
    """
    known = old.get_vocab()
    added = {index: token.content for index, token in new.added_tokens_decoder.items()}
    model = old.backend_tokenizer.model
    pieces = {}
    for token, index in sorted(new.get_vocab().items(), key=lambda entry: entry[1]):
        if token in known:
            continue
        if index in added:
            pieces[index] = tuple(old(added[index], add_special_tokens=False)["input_ids"])
        else:
            pieces[index] = tuple(part.id for part in model.tokenize(token))
    return pieces


def add_rows(
    model: Any,
    pieces: Mapping[int, Sequence[int]],
    input_row: NewRow = "mean",
    output_row: NewRow | None = None,
    multiple: int = 1,
    seed: int = 0,
) -> None:
    """Give a model rows for new tokens; all rows before the first new id stay bit by bit.

    Do it before adapters are added. Rows that no token has (padding) get the mean of the old rows: zeros would be
    likelier than most tokens wherever the other logits are negative. Sums are taken in float32 or better.

    Args:
        model: A causal language model of transformers, whose embedding and head are not quantised.
        pieces: Ids of the old tokenizer for every new id (`old_pieces`); new ids follow each other.
        input_row: How rows of the input embedding begin: ``mean`` of the sub-tokens' rows, the ``first`` sub-token's
            row, or ``random``: independent normal numbers, each column with the mean and the standard deviation that
            the old rows have in it (so that a new token is neither louder nor quieter than an old one; after J. Hewitt,
            "Initializing New Word Embeddings for Pretrained Language Models", 2021).
        output_row: The same of the head; None for the same as the input. A tied model has one matrix and takes no
            other.
        multiple: Rows of both matrices are filled up to a multiple of it.
        seed: Of the random rows.

    Raises:
        ConfigurationError: If a matrix is quantised or not there, or a tied model is asked for two methods.
    """
    first_id = min(pieces)
    old = {side: _matrix(model, side) for side in ("input", "output")}
    tied = old["input"].data_ptr() == old["output"].data_ptr()
    if tied and output_row not in (None, input_row):
        raise ConfigurationError(
            f"new rows: found input {input_row!r} and output {output_row!r} for a model whose input and "
            "output are one matrix, expected one method; leave output out, or untie the model first"
        )
    before = min(len(matrix) for matrix in old.values())
    if first_id > before:
        raise ConfigurationError(
            f"new rows: found {before} rows and {first_id} as the first new id, expected a model of the old tokenizer"
        )
    wanted = -(-max(before, first_id + len(pieces)) // multiple) * multiple
    if any(len(matrix) != wanted for matrix in old.values()):
        model.resize_token_embeddings(wanted, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    for side, method in [("input", input_row), *([] if tied else [("output", output_row or input_row)])]:
        module = getattr(model, f"get_{side}_embeddings")()
        for parameter in (module.weight, getattr(module, "bias", None)):
            if parameter is not None:
                _fill(parameter.data, pieces, method, first_id, before, generator)


def _fill(
    rows: Tensor,
    pieces: Mapping[int, Sequence[int]],
    method: str,
    first_id: int,
    before: int,
    generator: torch.Generator,
) -> None:
    """Write the new rows of a matrix, or the new numbers of a bias.

    Args:
        before: Rows that were there before it was resized: those of them after the new ones stay too.
    """
    exact = torch.promote_types(rows.dtype, torch.float32)
    old = rows[:first_id]
    end = first_id + len(pieces)
    middle = old.mean(0, dtype=exact)
    rows[max(end, before) :] = middle.to(rows.dtype)
    if method == "random":
        # In parts: a large vocabulary in float32, all at once, may not fit beside the model.
        squares = [((part.to(exact) - middle) ** 2).sum(0) for part in torch.split(old, _PART)]
        spread = (torch.stack(squares).sum(0) / first_id).sqrt()
        # Drawn on the CPU, so that a seed gives the same rows on every device.
        drawn = torch.randn((len(pieces), *rows.shape[1:]), generator=generator, dtype=exact).to(rows.device)
        rows[first_id:end] = (middle + spread * drawn).to(rows.dtype)
        return
    for index, parts in pieces.items():
        wanted = list(parts) if method == "mean" else [parts[0]]
        rows[index] = old[wanted].to(exact).mean(0).to(rows.dtype)


def _matrix(model: Any, side: str) -> Tensor:
    module = getattr(model, f"get_{side}_embeddings")()
    weight = getattr(module, "weight", None)
    if weight is None or not isinstance(module, (nn.Embedding, nn.Linear)):
        raise _refused(side, "nothing" if module is None else f"a {type(module).__name__}")
    # bitsandbytes has a parameter class of its own, also before the numbers are quantised.
    if type(weight) is not nn.Parameter or weight.dtype not in _PLAIN or weight.is_meta:
        raise _refused(side, f"a {type(weight).__name__} of {weight.dtype} on {weight.device}")
    return weight


def _refused(side: str, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"new rows: found {found} as the {side} embedding, expected a matrix of plain floating-point numbers; "
        "leave it out of the quantisation, and add rows before adapters"
    )
