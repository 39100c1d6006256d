"""A byte-level tokenizer, trained on the spot."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

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
    # As Llama's: a text begins with the begin token. Asked for by whoever makes rows of documents.
    inner.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, inner.token_to_id(_BEGIN))]
    )
    # Padding is a token of its own: a pad token that is the end token too would hide where texts end.
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, bos_token=_BEGIN, eos_token=_END, pad_token=_PAD
    )
