"""A byte-level tokenizer, and texts as rows of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks.training.text import Piece

_BEGIN, _END, _PAD = "<s>", "</s>", "<pad>"


def train_tokenizer(pieces: Iterable[Piece], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE: every text is the bytes that it decodes to, so bits per byte are exact.

    Args:
        pieces: What it learns its merges from.
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
    inner.train_from_iterator((piece.text for piece in pieces), trainer)
    # Padding is a token of its own: a pad token that is the end token too would hide where texts end.
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, bos_token=_BEGIN, eos_token=_END, pad_token=_PAD
    )


def token_rows(
    pieces: Sequence[Piece], tokenizer: PreTrainedTokenizerFast, length: int
) -> list[dict[str, list[int]]]:
    """Rows for a Trainer: a piece with its begin and end token, cut where it is longer than a row.

    Args:
        pieces: The texts.
        tokenizer: Their tokenizer.
        length: Tokens of the longest row.
    """
    rows: list[dict[str, list[int]]] = []
    for piece in pieces:
        ids = tokenizer.encode(f"{_BEGIN}{piece.text}{_END}", add_special_tokens=False)
        parts = [ids[start : start + length] for start in range(0, len(ids), length)]
        # A row of one token has no target.
        rows.extend({"input_ids": part} for part in parts if len(part) > 1)
    return rows
