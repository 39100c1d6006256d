"""A base tokenizer extended by tokens that a Korean text needs, so that the base's merges all still come first.

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

Source: the choice of tokens (absent from the base, a least count on the corpus, single letters by the same count)
is EEVE's (https://arxiv.org/abs/2402.14714). EEVE trains its tokenizer apart from the base's; here it goes on from
the base, because a merge learned apart may never be reached after the base's merges.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.encode import batches, encode_texts
from ko_cpt_callbacks.training.tokenizer.bpe import Growth, count_words, read_layout, with_backend

_BEGIN, _END, _PAD = "<s>", "</s>", "<pad>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE: every text is the bytes that it decodes to, so bits per byte are exact.

    Args:
        texts: What it learns its merges from.
        vocab_size: Tokens, with the 256 bytes and three special tokens; fewer where the text is too short.
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


FERTILITY: Final = "fertility"
"""Under which a run's plan has it, before and after the tokenizer was extended."""


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
        found = {
            "tokens_per_character": self.tokens_per_character,
            "bytes_per_token": self.bytes_per_token,
        }
        return {name: value if self.tokens else None for name, value in found.items()}


def measure_fertility(texts: Iterable[str], *tokenizers: Any) -> list[Fertility]:
    """The fertility of several tokenizers on the same texts, read once.

    Args:
        texts: The same for all.
        tokenizers: Such as the base's and the extended one.
    """
    characters = size = 0
    tokens = [0] * len(tokenizers)
    for batch in batches(texts):
        characters += sum(map(len, batch))
        size += sum(len(text.encode()) for text in batch)
        for place, tokenizer in enumerate(tokenizers):
            tokens[place] += sum(map(len, encode_texts(tokenizer, batch)))
    return [Fertility(count, characters, size) for count in tokens]


@dataclass(frozen=True, slots=True)
class ExtensionSettings:
    """How a tokenizer is extended.

    Attributes:
        size: New tokens at most; fewer where the corpus has no more.
        min_count: How often a new token must be written in the corpus. One that is rarer stays only where others
            are built from it. EEVE: 6,000 in 100 GB.
        only_hangul: Whether new tokens are Hangul alone, with a space in front or not; otherwise letters of every
            script.
        max_words: Different words to keep in memory (some 200 bytes each); when there are more, those seen once
            are forgotten, then twice, and so on. Chosen, not measured.
    """

    size: int
    min_count: int
    only_hangul: bool = True
    max_words: int = 5_000_000

    def __post_init__(self) -> None:
        for name in ("size", "min_count", "max_words"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}: found {getattr(self, name)}, expected 1 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Extension:
    """An extended tokenizer.

    Attributes:
        tokenizer: Of the base's class, with its special tokens.
        first_id: The first new id; it is the base's size.
        counts: How often each new token was written in the corpus, from `first_id` on.
        steps: New tokens that are rarer than was asked for and stay because others are built from them.
    """

    tokenizer: Any
    first_id: int
    counts: tuple[int, ...]
    steps: int

    @property
    def size(self) -> int:
        """New tokens."""
        return len(self.counts)


def extend_tokenizer(base: Any, texts: Iterable[str], settings: ExtensionSettings) -> Extension:
    """A tokenizer with new tokens for a corpus.

    Args:
        base: A tokenizer of transformers on the ``tokenizers`` library: BPE, byte-level or SentencePiece-like.
        texts: The corpus, read once.
        settings: How many tokens, and which.

    Returns:
        The extended tokenizer; ``base`` is left as it is.

    Raises:
        ConfigurationError: If the base is of another kind.
    """
    layout = read_layout(base)
    normalizer = base.backend_tokenizer.normalizer
    words = count_words(texts, layout, normalizer, only_hangul=settings.only_hangul, max_words=settings.max_words)
    growth = Growth(layout, words, settings.size, settings.min_count)
    growth.add_characters()
    counts, before = growth.drop_rare(), -1
    while before < len(growth.tokens) < settings.size:
        # Once more, as long as there is more: what was dropped left room.
        before = len(growth.tokens)
        growth.add_merges()
        counts = growth.drop_rare()
    written = tuple(counts[token] for token in growth.tokens)
    return Extension(
        tokenizer=with_backend(base, growth.backend()),
        first_id=layout.size,
        counts=written,
        steps=sum(count < settings.min_count for count in written),
    )


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
