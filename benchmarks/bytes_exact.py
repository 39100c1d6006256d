"""Are the bytes counted from token ids those of the text? Trains small tokenizers on a corpus and compares.

``python benchmarks/bytes_exact.py [CORPUS_FOLDER]`` prints one line per tokenizer: bytes by the table, bytes of
the text itself, and of both the share of unscored first tokens; then the build time of 256k vocabularies and the
time per row. The folder (default ``../shared/data/corpus`` beside the repository) holds UTF-8 ``.txt`` files.
"""

from __future__ import annotations

import json
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks.hf.tokenizer.token_bytes import TokenBytes, build_token_bytes, row_byte_lengths, row_text

CORPUS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "corpus"
# Texts that show where bytes get lost. Those with one leading space are the ones Metaspace cannot tell apart.
EDGES = (
    *(
        "",
        " ",
        "  ",
        "\n",
        "\t\n ",
        "가",
        " 한 칸",
        "  두 칸",
        "   세  칸 ",
        "끝 칸  ",
        "줄\n바꿈\r\n둘\n\n",
        "\n  들여쓰기",
    ),
    *(
        "👩‍👩‍👧‍👦 🇰🇷 👍🏽",
        "전각　공백과 nbsp\u00a0",
        "漢字 ｶﾅ ﬁ ①",
        "𝔘𝔫𝔦",
        "e\u0301 ö",
        "\u200b\ufeff",
        "뷁 쀍 ㆍ ㄱㅏ",
    ),
    *(
        unicodedata.normalize("NFD", "대한민국 헌법"),
        "대한민국은 민주주의 국가이다",
        "대한민국 민주주의대한민국",
        " 대한민국",
    ),
)
ADDED = [
    AddedToken("대한민국"),
    AddedToken("민주주의", normalized=False),
    AddedToken("café", normalized=False),
]
_SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]
_FALLBACK = [f"<0x{byte:02X}>" for byte in range(256)]
_WORDS = Regex(r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def read_corpus(folder: Path) -> list[str]:
    """Lines of every text file of a folder, in the order of the file names."""
    files = sorted(folder.glob("*.txt"))
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def _wrap(tokenizer: Tokenizer, **extra: Any) -> Any:
    wrapper: Any = PreTrainedTokenizerFast
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return wrapper(tokenizer_object=tokenizer, **names, **extra)


def byte_level(texts: Sequence[str], size: int, prefix: bool = False, nfc: bool = False) -> Any:
    """Byte-level BPE; with ``prefix`` it puts a space in front of a text as RoBERTa does."""
    tokenizer = Tokenizer(models.BPE())
    step = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=prefix)
    split = pre_tokenizers.Split(_WORDS, "isolated")
    tokenizer.pre_tokenizer = step if prefix else pre_tokenizers.Sequence([split, step])
    tokenizer.normalizer = normalizers.NFC() if nfc else None
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kinds: dict[str, Any] = {"special_tokens": _SPECIAL, "initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, **kinds))
    # transformers 4 writes its own add_prefix_space over that of the step.
    return _wrap(tokenizer, add_prefix_space=prefix)


def sentencepiece_bpe(texts: Sequence[str], size: int, scheme: str) -> Any:
    """BPE with ▁ and byte fallback.

    ``scheme``: Metaspace ``first``, ``always`` or ``never``; ``prepend`` (Llama 2); ``replace`` (Gemma).
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if scheme in ("prepend", "replace"):
        replace = normalizers.Replace(" ", "▁")
        prepend = [normalizers.Prepend("▁")] if scheme == "prepend" else []
        tokenizer.normalizer = normalizers.Sequence([*prepend, replace])
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # else merges span whole lines
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    strip = [] if scheme in ("never", "replace") else [decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence([*back, *strip])
    kinds: dict[str, Any] = {
        "special_tokens": _SPECIAL + _FALLBACK,
        "limit_alphabet": 600,
        "show_progress": False,
    }
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, **kinds))
    # The trainer lists the byte tokens among the added ones; in a real vocabulary they are ordinary.
    layout = json.loads(tokenizer.to_str())
    layout["added_tokens"] = [token for token in layout["added_tokens"] if token["content"] not in _FALLBACK]
    return _wrap(Tokenizer.from_str(json.dumps(layout)))


def unigram(texts: Sequence[str], size: int) -> Any:
    """Unigram with ▁ and byte fallback."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    kinds: dict[str, Any] = {"special_tokens": _SPECIAL, "unk_token": "<unk>", "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=size, **kinds))
    learnt = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    # The trainer has no byte fallback of its own; rare characters are left out so that it is used.
    scores = [
        (token, -4.0 - len(learnt) / 1e5) for token, _ in learnt if len(token) > 1 or token.isascii() or token == "▁"
    ]
    vocabulary = [*scores[:4], *((token, -20.0) for token in _FALLBACK), *scores[4:]]
    model = Tokenizer(models.Unigram(vocabulary, 0, True))
    model.pre_tokenizer = tokenizer.pre_tokenizer
    back = [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")]
    model.decoder = decoders.Sequence(back)
    model.add_special_tokens(_SPECIAL)
    return _wrap(model)


def _with_added(tokenizer: Any) -> Any:
    tokenizer.add_tokens(ADDED)
    return tokenizer


BUILDERS: dict[str, Callable[[Sequence[str], int], Any]] = {
    "byte-level": byte_level,
    "byte-level + added": lambda texts, size: _with_added(byte_level(texts, size)),
    "byte-level, prefix space": lambda texts, size: byte_level(texts, size, prefix=True),
    "metaspace first": lambda texts, size: sentencepiece_bpe(texts, size, "first"),
    "metaspace first + added": lambda texts, size: _with_added(sentencepiece_bpe(texts, size, "first")),
    "metaspace always": lambda texts, size: sentencepiece_bpe(texts, size, "always"),
    "metaspace never": lambda texts, size: sentencepiece_bpe(texts, size, "never"),
    "prepend (Llama 2)": lambda texts, size: sentencepiece_bpe(texts, size, "prepend"),
    "prepend + added": lambda texts, size: _with_added(sentencepiece_bpe(texts, size, "prepend")),
    "replace (Gemma) + added": lambda texts, size: _with_added(sentencepiece_bpe(texts, size, "replace")),
    "unigram": unigram,
}


def expected_text(table: TokenBytes, text: str, added: bool) -> str:
    """The text that can be known from the ids.

    Where a tokenizer adds a space only to texts without one, a single leading space leaves no trace, unless
    nothing or an added token follows it.
    """
    alone = text[:1] == " " and text[1:2] not in ("", " ")
    cut_out = added and text[1:].startswith(tuple(token.content for token in ADDED))
    if table.lone_space is not None and alone and not cut_out:
        return text[1:]
    return text


def _first_token_bytes(tokenizer: Any, ids: list[int], text: str) -> int:
    """Bytes of the first token by the library's own decoding; -1 where it ends inside a character."""
    piece = tokenizer.decode(ids[:1], clean_up_tokenization_spaces=False).removeprefix(" ")
    return len(piece.encode()) if text.startswith(piece) else -1


def compare(tokenizer: Any, texts: Sequence[str]) -> dict[str, int]:
    """Bytes by the table and bytes of the texts, summed over rows ``<s> text </s> <pad> <pad>``."""
    table = build_token_bytes(tokenizer)
    frame = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    added = ADDED[0].content in tokenizer.get_vocab()
    found = dict.fromkeys(("rows", "tokens", "table", "text", "lone", "differ", "first", "first_text", "first_rows"), 0)
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        row = np.asarray([frame[0], *ids, frame[1], frame[2], frame[2]])
        lengths = row_byte_lengths(table, row)
        known = expected_text(table, text, added).encode()
        found["rows"] += 1
        found["tokens"] += len(ids)
        found["table"] += int(lengths.sum())
        found["text"] += len(text.encode())
        found["lone"] += len(text.encode()) - len(known)
        found["differ"] += int(row_text(table, row) != known or int(lengths.sum()) != len(known))
        if ids and known == text.encode() and not text.startswith(" "):
            first = _first_token_bytes(tokenizer, ids, text)
            if first >= 0:
                found["first_rows"] += 1
                found["first"] += int(row_byte_lengths(table, np.asarray(ids))[0])
                found["first_text"] += first
    return found


def synthetic_256k(kind: str) -> Any:
    """A vocabulary of 256,000 tokens made of random merges."""
    draw = random.Random(0)
    letters = (
        sorted(pre_tokenizers.ByteLevel.alphabet())
        if kind == "byte-level"
        else ["▁", *map(chr, range(0xAC00, 0xAC00 + 2000))]
    )
    tokens = _SPECIAL + ([] if kind == "byte-level" else _FALLBACK) + letters
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs, pool, ends = [], list(letters), list(letters)
    while len(vocabulary) < 256_000:
        left, right = draw.choice(pool), draw.choice(ends)
        if len(left + right) < 14 and left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            pairs.append((left, right))
            pool.append(left + right)
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs))
        tokenizer.pre_tokenizer, tokenizer.decoder = (
            pre_tokenizers.ByteLevel(add_prefix_space=False),
            decoders.ByteLevel(),
        )
    else:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, unk_token="<unk>", byte_fallback=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(_SPECIAL)
    return _wrap(tokenizer)


def main() -> int:
    """Print the table; 1 where a count is off, 2 without a corpus."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS
    lines = read_corpus(folder) if folder.is_dir() else []
    if not lines:
        print(f"{folder}: no .txt files; give the folder of a corpus", file=sys.stderr)
        return 2
    texts = [*lines[:: max(1, len(lines) // 6000)], *EDGES]
    heads = (
        "rows",
        "tokens",
        "bytes: table",
        "bytes: text",
        "lone space",
        "rows off",
        "first: table",
        "first: text",
    )
    print(f"{'tokenizer':26}" + "".join(f"{head:>14}" for head in heads))
    off = 0
    for name, build in BUILDERS.items():
        cell = compare(build(texts, 3000), texts)
        off += cell["differ"] + (cell["first"] != cell["first_text"])
        keys = ("rows", "tokens", "table", "text", "lone", "differ", "first", "first_text")
        print(f"{name:26}" + "".join(f"{cell[key]:>14,}" for key in keys))
    print("\nlone space: bytes of single leading spaces, which a tokenizer that adds its own only to texts without")
    print("one leaves no trace of. first: rows whose first token is a whole number of characters.\n")
    for kind in ("byte-level", "sentencepiece"):
        tokenizer = synthetic_256k(kind)
        begin = time.process_time()
        table = build_token_bytes(tokenizer)
        built = time.process_time() - begin
        row = np.random.default_rng(0).integers(0, 256_000, 2048)
        print(f"{kind}, 256,000 ids: built in {built:.2f} s of processor time", end="")
        for count in (row_byte_lengths, row_text):
            begin = time.perf_counter()
            for _ in range(200):
                count(table, row)
            print(f"; {count.__name__} of 2,048 ids {(time.perf_counter() - begin) * 5:.3f} ms", end="")
        print()
    return int(off > 0)


if __name__ == "__main__":
    raise SystemExit(main())
