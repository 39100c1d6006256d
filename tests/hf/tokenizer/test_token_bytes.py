"""Bytes counted from token ids are those of the text (must-show 3 of the exact number).

Tokenizers are trained here by the builders of ``benchmarks/bytes_exact.py``, on the bundled text and on the larger
corpus where it is at hand.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import sys
import time
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks.errors import KoCPTError
from ko_cpt_callbacks.hf.tokenizer.reading import TokenBytesUnavailable
from ko_cpt_callbacks.hf.tokenizer.token_bytes import TokenBytes, build_token_bytes, row_byte_lengths, row_text

pytestmark = pytest.mark.both_versions

_Wrapper: Any = PreTrainedTokenizerFast  # its constructor has no types
ROOT = Path(__file__).resolve().parents[3]
TEXT = ROOT / "recipes" / "text"
V5 = int(transformers.__version__.split(".")[0]) >= 5


def _bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bytes_exact", ROOT / "benchmarks" / "bytes_exact.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bytes_exact"] = module
    spec.loader.exec_module(module)
    return module


bench = _bench()
EDGES: tuple[str, ...] = bench.EDGES
INLINE = (
    "모든 사람은 태어날 때부터 자유롭고, 존엄과 권리에 있어서 평등하다.",
    "대한민국은 민주공화국이다. 대한민국의 주권은 국민에게 있고, 모든 권력은 국민으로부터 나온다.",
    "All human beings are born free and equal in dignity and rights.",
    "제1조(목적) 이 법은 민주주의의 발전에 이바지함을 목적으로 한다.",
)


@cache
def _texts(source: str) -> tuple[str, ...]:
    if source == "corpus":
        if not bench.CORPUS.is_dir():
            pytest.skip(f"no corpus at {bench.CORPUS}")
        lines = bench.read_corpus(bench.CORPUS)
        return tuple(lines[:: max(1, len(lines) // 1500)])
    bundled = [line for file in sorted(TEXT.glob("*.txt")) for line in file.read_text("utf-8").splitlines()]
    return (*INLINE, *bundled[:300])


@cache
def _built(name: str, source: str = "bundled") -> tuple[Any, TokenBytes]:
    tokenizer = bench.BUILDERS[name](_texts(source), 1500)
    return tokenizer, build_token_bytes(tokenizer)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


def _bytes(table: TokenBytes, ids: Sequence[int] | np.ndarray[Any, Any], first_is_start: bool = True) -> bytes:
    """The text of a row, after checking that the lengths say the same place by place."""
    row = np.asarray(ids, dtype=np.int64)
    lengths = row_byte_lengths(table, row, first_is_start)
    text = row_text(table, row, first_is_start)
    assert lengths.shape == row.shape
    assert lengths.dtype == np.int64
    assert int(lengths.sum()) == len(text)
    return text


def _visible(name: str, table: TokenBytes, text: str) -> bytes:
    return bytes(bench.expected_text(table, text, "added" in name).encode())


NAMES = tuple(bench.BUILDERS)
EXACT = tuple(name for name in NAMES if name not in ("byte-level, prefix space",) and "metaspace" not in name)


@pytest.mark.parametrize("source", ["bundled", "corpus"])
@pytest.mark.parametrize("name", NAMES)
def test_table_sums_to_the_text(name: str, source: str) -> None:
    """Every row of real text and every edge case has the bytes of its text, exactly."""
    tokenizer, table = _built(name, source)
    assert (table.lengths >= 0).all() or tokenizer.unk_token_id is not None
    for text in (*_texts(source), *EDGES):
        assert _bytes(table, _ids(tokenizer, text)) == _visible(name, table, text), text


@pytest.mark.parametrize("name", NAMES)
def test_bench_cell_is_exact(name: str) -> None:
    """The bench that prints the table finds no row off, and first tokens as the library decodes them."""
    tokenizer, _ = _built(name)
    cell = bench.compare(tokenizer, (*_texts("bundled"), *EDGES))
    assert cell["differ"] == 0
    assert cell["table"] == cell["text"] - cell["lone"]
    assert cell["first"] == cell["first_text"]
    assert cell["first_rows"] > 5


@pytest.mark.parametrize("name", EXACT)
def test_random_text_is_exact(name: str) -> None:
    """Texts of random Hangul, jamo, spaces, emoji and Latin add up, those with one leading space included."""
    tokenizer, table = _built(name)
    draw = random.Random(7)
    letters = "가나다뷁ㄱㅏ\u1112\u1161\u11ab  \n\tabcÉ é漢🙂\u200d대한민국"
    for _ in range(300):
        text = "".join(draw.choice(letters) for _ in range(draw.randrange(25)))
        assert _bytes(table, _ids(tokenizer, text)) == _visible(name, table, text), repr(text)


@pytest.mark.parametrize("name", NAMES)
def test_special_tokens_and_pads_count_zero(name: str) -> None:
    """Start, end and pads have no bytes; documents joined by the end token add up.

    Each is counted without the space the tokenizer put in front of it.
    """
    tokenizer, table = _built(name)
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    documents = [*INLINE, "  두 칸", "👍🏽 끝 "]
    joined = [pad, pad, start]
    for document in documents:
        joined += [*_ids(tokenizer, document), end]
    joined += [pad] * 3
    assert _bytes(table, joined) == "".join(documents).encode()
    lengths = row_byte_lengths(table, np.asarray(joined))
    specials = np.isin(joined, [start, end, pad])
    assert (lengths[specials] == 0).all()
    assert table.special[[start, end, pad]].all()
    assert (lengths[~specials] > 0).sum() > 20


@pytest.mark.parametrize("name", NAMES)
def test_first_token_apart(name: str) -> None:
    """The unscored first token's bytes and those of the others make the whole, and are counted where they stand."""
    tokenizer, table = _built(name)
    for text in INLINE:
        ids = np.asarray(_ids(tokenizer, text))
        lengths = row_byte_lengths(table, ids)
        first, rest = _bytes(table, ids[:1]), _bytes(table, ids[1:], first_is_start=False)
        if table.lone_space is None or not table.lone_space[ids[0]]:  # alone, a single space would be of the text
            assert len(first) == lengths[0]
        assert len(rest) == lengths[1:].sum()
        assert lengths[0] + lengths[1:].sum() == len(text.encode())


@pytest.mark.parametrize("name", NAMES)
def test_rows_cut_out_of_a_text(name: str) -> None:
    """A text cut into rows, inside characters too, has the same bytes in sum when rows say they continue.

    Not cut where the tokenizer puts a space of its own after an added token: the next row cannot know of it.
    """
    tokenizer, table = _built(name)
    text = " ".join(INLINE) + " 👩‍👩‍👧 뷁"
    ids = _ids(tokenizer, text)
    for width in (3, 7, 16):
        cuts = [place for place in range(width, len(ids), width) if not table.text_opens_after[ids[place - 1]]]
        rows = [ids[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(ids)])]
        assert b"".join(_bytes(table, row, first_is_start=row is rows[0]) for row in rows) == text.encode()


def test_same_text_in_every_vocabulary() -> None:
    """The same document gives the same bytes through every tokenizer, so that a fingerprint of them agrees."""
    for text in (*INLINE, "두  칸\n\n줄", "👩‍👩‍👧 NFD " + unicodedata.normalize("NFD", "한글")):
        found = {_bytes(table, _ids(tokenizer, text)) for tokenizer, table in map(_built, NAMES)}
        assert found == {text.encode()}


def test_one_leading_space() -> None:
    """Metaspace writes 'a' and ' a' the same way, so the space is not counted.

    Two are, and so is a text that is nothing but a space. Prepend writes them apart.
    """
    for name in ("metaspace first", "metaspace always", "byte-level, prefix space", "unigram"):
        tokenizer, table = _built(name)
        assert _ids(tokenizer, " 모든 것") == _ids(tokenizer, "모든 것")
        assert _bytes(table, _ids(tokenizer, " 모든 것")) == "모든 것".encode()
        assert _bytes(table, _ids(tokenizer, "  모든 것")) == "  모든 것".encode()
        assert _bytes(table, _ids(tokenizer, " ")) == b" "
        assert "a single space at the start of a text" in str(table.note)
    tokenizer, table = _built("prepend (Llama 2)")
    assert _bytes(table, _ids(tokenizer, " 모든 것")) == " 모든 것".encode()
    assert table.note is None


@pytest.mark.parametrize("name", ["metaspace first", "metaspace always", "byte-level, prefix space", "unigram"])
def test_one_leading_space_of_packed_documents(name: str) -> None:
    """Each document of a row has its own: one space leaves no trace, two are counted."""
    tokenizer, table = _built(name)
    for front, counted in (("", 0), (" ", 0), ("  ", 2)):
        documents = [f"{front}모든 것", f"{front}것이 모든"]
        ids = [index for text in documents for index in (*_ids(tokenizer, text), tokenizer.eos_token_id)]
        size = sum(len(text.strip().encode()) + counted for text in documents)
        assert row_byte_lengths(table, np.asarray(ids)).sum() == size


def test_spaces_that_are_of_the_text() -> None:
    """A token of several spaces, and an added token that begins with one, keep them at the start of a text."""
    model = models.BPE(vocab={"<unk>": 0, "▁": 1, "▁▁": 2, "a": 3}, merges=[("▁", "▁")], unk_token="<unk>")
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer = _fast(model, metaspace, decoder=decoders.Replace("▁", " "))
    tokenizer.add_tokens([AddedToken(" 가", normalized=False)])
    table = build_token_bytes(tokenizer)
    for text in ("a", "  a", "   a", "    a", " 가a", "a 가 a"):
        assert _bytes(table, _ids(tokenizer, text)) == text.encode(), repr(text)
    assert tokenizer.convert_ids_to_tokens(_ids(tokenizer, "  a")) == ["▁▁", "a"]


def test_space_after_an_added_token() -> None:
    """With scheme 'always' the tokenizer adds a space after an added token too.

    With and without one in the text the ids are the same, the space is not counted, and the note says so. With
    'first' both are told apart.
    """
    always = bench.sentencepiece_bpe(_texts("bundled"), 1500, "always")
    always.add_tokens(bench.ADDED)
    table = build_token_bytes(always)
    assert _ids(always, "대한민국 의") == _ids(always, "대한민국의")
    assert _bytes(table, _ids(always, "대한민국 의")) == "대한민국의".encode()
    assert _bytes(table, _ids(always, "대한민국의 대한민국")) == "대한민국의 대한민국".encode()
    assert "or after an added token" in str(table.note)
    tokenizer, table = _built("metaspace first + added")
    for text in ("대한민국 의", "대한민국의", "대한민국 대한민국", "민주주의 café café"):
        assert _bytes(table, _ids(tokenizer, text)) == text.encode()


def test_added_tokens_are_their_literal_text() -> None:
    """An added token counts its UTF-8 bytes, in a byte-level vocabulary too, where 'é' is also the name of a byte."""
    for name in ("byte-level + added", "metaspace first + added", "prepend + added", "replace (Gemma) + added"):
        tokenizer, table = _built(name)
        added = {token.content: tokenizer.convert_tokens_to_ids(token.content) for token in bench.ADDED}
        text = "우리 대한민국의 민주주의 café"
        assert set(added.values()) & set(_ids(tokenizer, text))
        assert _bytes(table, _ids(tokenizer, text)) == text.encode()
        assert table.pieces[added["café"]] == "café".encode()
        assert not table.special[list(added.values())].any()


def test_added_token_that_swallows_space_is_unknown() -> None:
    """A text token that takes white space along has no known length: -1, a note, and U+FFFD in the row's text."""
    tokenizer = bench.byte_level(_texts("bundled"), 1500)
    tokenizer.add_tokens([AddedToken("<답>", rstrip=True, normalized=False)])
    table = build_token_bytes(tokenizer)
    ids = _ids(tokenizer, "나 <답>  가")
    assert list(row_byte_lengths(table, np.asarray(ids))).count(-1) == 1
    assert row_text(table, np.asarray(ids)).decode() == "나 \ufffd가"
    assert table.note == "1 added tokens swallow white space: their bytes are unknown"


def test_unknown_ids() -> None:
    """Ids outside the vocabulary (padded embeddings, negatives) and characters without a token are unknown."""
    _, table = _built("byte-level")
    ids = np.asarray([len(table.lengths), -100, 10**6])
    assert row_byte_lengths(table, ids).tolist() == [-1, -1, -1]
    assert row_text(table, ids) == 3 * "\ufffd".encode()
    vocabulary = {"<unk>": 0, "▁": 1, "a": 2, "▁a": 3}
    model = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], unk_token="<unk>"))
    model.pre_tokenizer, model.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = _Wrapper(tokenizer_object=model, unk_token="<unk>")
    table = build_token_bytes(tokenizer)
    ids = np.asarray(_ids(tokenizer, "a 가a"))
    assert row_byte_lengths(table, ids).tolist() == [1, 1, -1, 1]
    assert table.lengths[0] == -1
    assert table.pieces[0] == b""
    assert not table.special[0]


def test_unknown_token_as_pad() -> None:
    """With full byte fallback no text becomes the unknown token: used as a pad, as Llama 2 runs do, it counts 0."""
    tokenizer = bench.sentencepiece_bpe(_texts("bundled"), 1500, "prepend")
    tokenizer.pad_token = "<unk>"
    table = build_token_bytes(tokenizer)
    row = [*_ids(tokenizer, "뷁 가"), *[tokenizer.unk_token_id] * 4]
    assert _bytes(table, row) == "뷁 가".encode()


def test_byte_tokens_listed_as_special_are_text() -> None:
    """Trainers that enter <0xAB> as special tokens do not make the bytes vanish."""
    tokenizer = bench.sentencepiece_bpe(_texts("bundled"), 1500, "first")
    tokenizer.add_tokens([AddedToken(f"<0x{byte:02X}>", special=True, normalized=False) for byte in range(256)])
    table = build_token_bytes(tokenizer)
    ids = _ids(tokenizer, "뷁쀍🙂")
    assert len(ids) > 8
    assert _bytes(table, ids) == "뷁쀍🙂".encode()


def test_empty_row() -> None:
    """A row without ids has no bytes."""
    for name in NAMES:
        _, table = _built(name)
        assert _bytes(table, []) == b""


def test_note_names_normalisers() -> None:
    """A normaliser that may change bytes is named, and the bytes are those of the normalised text (NFD -> NFC)."""
    tokenizer = bench.byte_level(_texts("bundled"), 1500, nfc=True)
    table = build_token_bytes(tokenizer)
    assert table.note == "bytes of the text after the tokenizer's own normalisation (NFC)"
    text = unicodedata.normalize("NFD", INLINE[0])
    assert _bytes(table, _ids(tokenizer, text)) == INLINE[0].encode()
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    assert str(build_token_bytes(tokenizer).note).endswith("(NFKC, Lowercase)")
    assert _built("byte-level")[1].note is None


def test_white_space_split_in_front_of_metaspace() -> None:
    """Splitting at white space before Metaspace (XLM-R, T5) keeps one space per gap: counted so, and noted."""
    tokenizer = bench.sentencepiece_bpe(_texts("bundled"), 1500, "always")
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    table = build_token_bytes(tokenizer)
    assert _bytes(table, _ids(tokenizer, "  모든   사람 \n은")) == "모든 사람 은".encode()
    assert str(table.note).startswith("bytes of the text after the tokenizer's own normalisation (white space)")


def test_hash_names_the_vocabulary() -> None:
    """The hash is the same for another object with the same vocabulary, and another after any token is added."""
    tokenizer, table = _built("byte-level")
    twin = _Wrapper(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        **{name: getattr(tokenizer, name) for name in ("unk_token", "bos_token", "eos_token", "pad_token")},
    )
    assert build_token_bytes(twin).tokenizer_hash == table.tokenizer_hash
    assert len(table.tokenizer_hash) == 16
    assert int(table.tokenizer_hash, 16)
    twin.add_tokens(["한국"])
    others = (build_token_bytes(twin), *(_built(name)[1] for name in ("byte-level + added", "metaspace first")))
    assert len({table.tokenizer_hash, *(other.tokenizer_hash for other in others)}) == 4


def test_caller_settings_stay() -> None:
    """Building changes neither truncation nor padding of the caller's tokenizer."""
    tokenizer = bench.byte_level(_texts("bundled"), 1500)
    tokenizer("가나다", truncation=True, max_length=1, padding="max_length")
    before = tokenizer.backend_tokenizer.to_str()
    build_token_bytes(tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before


class _Processor:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer


def test_processor_with_a_tokenizer() -> None:
    """A processor is read through its tokenizer."""
    tokenizer, table = _built("byte-level")
    assert build_token_bytes(_Processor(tokenizer)).tokenizer_hash == table.tokenizer_hash


def _fast(model: Any, pre: Any = None, normalizer: Any = None, decoder: Any = None) -> Any:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre
    backend.normalizer = normalizer
    backend.decoder = decoder
    return _Wrapper(tokenizer_object=backend)


class _Custom:
    def pre_tokenize(self, pieces: Any) -> None:
        """Do nothing."""


_WORDS = {"a": 0, "▁": 1, "<unk>": 2}
_BYTES = {character: index for index, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def _bpe(**extra: Any) -> Any:
    return models.BPE(vocab=_WORDS, merges=[], unk_token="<unk>", **extra)


def _python_part() -> Any:
    tokenizer = _fast(_bpe())
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(_Custom())
    return tokenizer


@cache
def _refusals() -> dict[str, tuple[Any, str]]:
    split, prefix = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace(prepend_scheme="always")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    marked = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), level])
    twisted = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("b", "c")])
    return {
        "none": (None, "the Trainer was given no processing_class"),
        "no tokenizer": (_Processor(None), "the processing_class (_Processor) is no tokenizer and holds none"),
        "WordPiece": (
            _fast(models.WordPiece(_WORDS, unk_token="<unk>")),
            "the tokenizer's model is WordPiece, which does not keep white space",
        ),
        "WordLevel": (
            _fast(models.WordLevel(_WORDS, unk_token="<unk>")),
            "the tokenizer's model is WordLevel, which does not keep white space",
        ),
        "suffix": (_fast(_bpe(end_of_word_suffix="</w>")), "the tokenizer marks words with a end of word suffix"),
        "no ▁": (_fast(_bpe()), "the tokenizer has neither a ByteLevel nor a Metaspace (▁) step"),
        "drops space": (
            _fast(_bpe(), pre_tokenizers.Whitespace()),
            "the tokenizer's Whitespace step drops white space or separators",
        ),
        "removes": (
            _fast(_bpe(), pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("x"), "removed"), prefix])),
            "the tokenizer's Split step drops white space or separators",
        ),
        "space at every split": (
            _fast(_bpe(), pre_tokenizers.Sequence([split, prefix])),
            "the tokenizer's Metaspace step puts a space in front of every split",
        ),
        "python part": (
            _python_part(),
            "the tokenizer has a part that cannot be read (Custom PreTokenizer cannot be serialized)",
        ),
        "drops characters": (
            _fast(models.BPE(vocab=_WORDS, merges=[]), prefix),
            "the tokenizer has no token for characters it does not know, and drops them",
        ),
        "drops bytes": (
            _fast(models.BPE(vocab={"a": 0, "b": 1}, merges=[]), level),
            "the tokenizer has no token for characters it does not know, and drops them",
        ),
        "other decoder": (
            _fast(models.BPE(vocab=_BYTES, merges=[]), level, decoder=twisted),
            f"token {_BYTES['b']} ('b') decodes to 'c', the table has 'b'",
        ),
        "marks spaces itself": (
            _fast(models.BPE(vocab=_BYTES, merges=[]), marked, decoder=decoders.ByteLevel()),
            "the tokenizer writes '가 나다\\n  a b' as tokens that stand for '▁가▁나다\\n▁▁a▁b'",
        ),
    }


@pytest.mark.parametrize("case", list(_refusals()))
def test_refused_with_a_reason(case: str) -> None:
    """What cannot be understood gives no table but a plain reason, as an error of this package."""
    tokenizer, reason = _refusals()[case]
    with pytest.raises(TokenBytesUnavailable) as caught:
        build_token_bytes(tokenizer)
    assert caught.value.reason == reason
    assert isinstance(caught.value, KoCPTError)


def test_slow_tokenizer_of_unknown_kind_is_refused() -> None:
    """A Python tokenizer that is no SentencePiece, byte-level BPE or ByT5 is refused by name."""

    class Words(transformers.PreTrainedTokenizer):  # type: ignore[misc, valid-type, unused-ignore]
        @property
        def vocab_size(self) -> int:
            return 1

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

        def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
            return text.split()

        def _convert_token_to_id(self, token: str) -> int:
            return 0

        def _convert_id_to_token(self, index: int) -> str:
            return "a"

    words: Any = Words
    with pytest.raises(TokenBytesUnavailable, match="the tokenizer class Words is written in Python"):
        build_token_bytes(words())


# The classes users load, each from files written here.


@pytest.fixture(scope="module")
def sentencepiece_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SentencePiece models as Llama 2, Gemma and T5 have them."""
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    root = tmp_path_factory.mktemp("sentencepiece")
    (root / "text.txt").write_text("\n".join(_texts("bundled")), encoding="utf-8")
    identity = {"model_type": "bpe", "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    ids = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "pad_piece": "<pad>", "eos_piece": "<eos>"}
    gemma = {**identity, **ids, "bos_piece": "<bos>", "add_dummy_prefix": False, "user_defined_symbols": ["▁▁", "<p>"]}
    t5 = {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "bos_id": -1, "unk_id": 2}
    folders = {}
    for name, settings in {"llama": identity, "gemma": gemma, "t5": t5}.items():
        folders[name] = root / name
        folders[name].mkdir()
        trainer.train(
            input=str(root / "text.txt"),
            model_prefix=str(folders[name] / "tokenizer"),
            vocab_size=900,
            hard_vocab_limit=False,  # fewer where there is little text
            byte_fallback=True,
            character_coverage=0.98,
            minloglevel=2,
            **settings,
        )
        (folders[name] / "spiece.model").write_bytes((folders[name] / "tokenizer.model").read_bytes())
    return folders


def _load(name: str, folder: Path, **settings: Any) -> Any:
    kind = getattr(transformers, name)
    return kind.from_pretrained(str(folder), **settings) if V5 else kind(str(folder / "tokenizer.model"), **settings)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(
    ("name", "files", "settings"),
    [
        ("LlamaTokenizer", "llama", {"legacy": True}),
        ("LlamaTokenizer", "llama", {"legacy": False}),
        ("LlamaTokenizer", "llama", {"legacy": False, "add_prefix_space": False}),
        ("LlamaTokenizerFast", "llama", {"legacy": False}),
        ("GemmaTokenizer", "gemma", {}),
        ("GemmaTokenizerFast", "gemma", {}),
    ],
)
def test_sentencepiece_classes(
    name: str, files: str, settings: dict[str, Any], added: bool, sentencepiece_files: dict[str, Path]
) -> None:
    """Llama and Gemma tokenizers of both library versions, slow ones where there are any, count the text exactly."""
    if not hasattr(transformers, name):
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    tokenizer = _load(name, sentencepiece_files[files], **settings)
    if added:
        tokenizer.add_tokens([AddedToken("대한민국", normalized=False), AddedToken("민주주의", normalized=True)])
    table = build_token_bytes(tokenizer)
    assert table.kind == "sentencepiece"
    ambiguous = "after an added token" in str(table.note)
    for text in (*INLINE, *EDGES, *_texts("bundled")[:60]):
        if ambiguous and ("대한민국 " in text or "민주주의 " in text):
            continue
        row = [*tokenizer(text).input_ids, tokenizer.eos_token_id]
        assert _bytes(table, row) == _visible("added" if added else "", table, text), repr(text)


def test_t5_class_counts_the_normalised_text(sentencepiece_files: dict[str, Path]) -> None:
    """A T5 vocabulary is counted after its own normalisation (NFKC, white space), and the note says so."""
    tokenizer = _load("T5Tokenizer", sentencepiece_files["t5"])
    table = build_token_bytes(tokenizer)
    assert str(table.note).startswith("bytes of the text after the tokenizer's own normalisation (")
    text = INLINE[0]
    ids = np.asarray(tokenizer(text).input_ids)
    if (row_byte_lengths(table, ids) >= 0).all():
        assert _bytes(table, ids) == text.encode()
    assert _bytes(table, _ids(tokenizer, "all   human ")).strip() == b"all human"


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "Qwen2TokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast"])
def test_byte_level_classes(name: str, tmp_path: Path) -> None:
    """Qwen 2 (which writes NFC) and GPT-2 tokenizers, slow ones where there are any, count the text exactly."""
    layout = json.loads(_built("byte-level")[0].backend_tokenizer.to_str())["model"]
    vocabulary = {**layout["vocab"], "<|endoftext|>": len(layout["vocab"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in layout["merges"])
    (tmp_path / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    tokenizer = getattr(transformers, name).from_pretrained(str(tmp_path))
    table = build_token_bytes(tokenizer)
    assert table.kind == "byte-level"
    assert table.special[tokenizer.eos_token_id]
    for text in (*INLINE, *EDGES):
        expected = unicodedata.normalize("NFC", text) if "Qwen2" in name else text
        assert _bytes(table, [*_ids(tokenizer, text), tokenizer.eos_token_id]) == expected.encode(), repr(text)
    assert ("composition" in str(table.note) or "NFC" in str(table.note)) == ("Qwen2" in name)


def test_byt5() -> None:
    """ByT5 ids are bytes: exact for any text, its end token and sentinels counting zero."""
    tokenizer = transformers.ByT5Tokenizer()
    table = build_token_bytes(tokenizer)
    assert table.kind == "bytes"
    assert table.note is None
    for text in (*INLINE, *EDGES):
        assert _bytes(table, list(tokenizer(text).input_ids)) == text.encode()
    assert table.special[tokenizer.convert_tokens_to_ids("<extra_id_0>")]


def test_row_of_2048_ids_is_fast() -> None:
    """Counting a row of 2,048 ids takes well under a millisecond (measured: 0.01 to 0.1)."""
    for name in ("byte-level", "metaspace first"):
        _, table = _built(name)
        row = np.random.default_rng(0).integers(0, len(table.lengths), 2048)
        best = float("inf")
        for _ in range(20):
            begin = time.perf_counter()
            row_byte_lengths(table, row)
            best = min(best, time.perf_counter() - begin)
        assert best < 1e-3
