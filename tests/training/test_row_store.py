"""A corpus becomes rows on disk: every document as often as stated, once made, the same again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import byte_level_tokenizer, collate, english, korean, llama, trainer
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data import packing, shards
from ko_cpt_callbacks.training.data import rows as row_store
from ko_cpt_callbacks.training.data.filters import HangulShare
from ko_cpt_callbacks.training.data.packing import PackSettings
from ko_cpt_callbacks.training.data.rows import PackedRows, packed_rows
from ko_cpt_callbacks.training.data.sources import Source

pytestmark = pytest.mark.both_versions

BEGIN, END = 0, 1


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Bundled prose, a document a line."""
    found = {}
    for name, texts in (("ko", korean()), ("en", english())):
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return found


def make(files: dict[str, Path], cache: Path, **settings: Any) -> PackedRows:
    """Rows of the Korean file, or of ``sources``."""
    sources = settings.pop("sources", [Source("ko", (files["ko"],))])
    shares, tokenizer = settings.pop("shares", None), settings.pop("tokenizer", byte_level_tokenizer())
    return packed_rows(sources, tokenizer, PackSettings(**{"length": 64, **settings}), cache, shares)


def documents(packed: PackedRows) -> list[str]:
    """The texts in the rows, in order; the last one may be cut off."""
    stream = [token for row in packed.rows["input_ids"] for token in row]
    texts: list[list[int]] = [[]]
    for token in stream:
        if token == END:
            texts.append([])
        elif token != BEGIN:
            texts[-1].append(token)
    tokenizer = byte_level_tokenizer()
    return [tokenizer.decode(ids) for ids in texts]


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("passes", [1, 3])
def test_every_document_comes_as_often_as_stated(
    files: dict[str, Path], tmp_path: Path, passes: int, begin: bool
) -> None:
    """One pass after the other, in the order of the file, each document with its end token."""
    source = Source("ko", (files["ko"],), passes=passes)
    packed = make(files, tmp_path / "cache", sources=[source], tail="keep", begin=begin)
    assert documents(packed) == [*korean()] * passes + [""]
    ko = packed.report["sources"]["ko"]
    assert (ko["documents"], ko["passes"]) == (len(korean()) * passes, passes)
    assert ko["bytes"] == passes * sum(len(text.encode()) for text in korean())
    stream = [token for row in packed.rows["input_ids"] for token in row]
    assert ko["tokens"] == packed.report["tokens"] == len(stream)
    assert stream.count(END) == ko["documents"]
    assert stream.count(BEGIN) == begin * ko["documents"]


def test_the_tail(files: dict[str, Path], tmp_path: Path) -> None:
    """Dropped and counted, or kept as the last and shorter row."""
    dropped = make(files, tmp_path / "cache", tail="drop")
    kept = make(files, tmp_path / "cache", tail="keep")
    assert {len(row) for row in dropped.rows["input_ids"]} == {64}
    assert 0 < dropped.report["dropped_tokens"] < 64
    assert len(kept.rows[-1]["input_ids"]) == dropped.report["dropped_tokens"]
    assert kept.rows["input_ids"][:-1] == dropped.rows["input_ids"][:]
    assert len(dropped.rows) == dropped.report["rows"]


def test_a_mixture(files: dict[str, Path], tmp_path: Path) -> None:
    """54 to 48 in tokens; the source it ends with is taken whole, of the other no document twice."""
    sources = [Source("en", (files["en"],), passes=9), Source("ko", (files["ko"],))]
    packed = make(files, tmp_path / "cache", sources=sources, shares={"en": 54, "ko": 48}, tail="keep")
    en, ko = packed.report["sources"]["en"], packed.report["sources"]["ko"]
    longest = max(len(byte_level_tokenizer()(text)["input_ids"]) for text in (*korean(), *english()))
    assert abs(en["tokens"] / 54 - ko["tokens"] / 48) <= (longest + 1) / 48
    found = Counter(documents(packed)[:-1])
    assert all(found[text] == 1 for text in korean())
    counts = {found[text] for text in english()}
    assert max(counts) - min(counts) == 1
    assert min(counts) == en["passes"] < 9
    assert (ko["passes"], ko["documents"]) == (1, len(korean()))


def test_filters_and_their_report(files: dict[str, Path], tmp_path: Path) -> None:
    """Dropped documents are in no row, and the report says how many, with examples."""
    both = Source("both", (files["ko"], files["en"]), filters=(HangulShare(0.5),))
    packed = make(files, tmp_path / "cache", sources=[both], tail="keep")
    assert documents(packed)[:-1] == [*korean()]
    (report,) = packed.report["sources"]["both"]["filters"]
    assert report["filter"] == "hangul-share"
    assert (report["documents"], report["dropped_documents"]) == (len(korean()) + len(english()), len(english()))
    assert report["dropped_bytes"] == sum(len(text.encode()) for text in english())
    assert report["examples"][0]["id"] == f"both/{len(korean())}"


def test_read_once(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second time nothing is read; rows, order and report are the same, also when made anew elsewhere."""
    first = make(files, tmp_path / "cache")
    anew = make(files, tmp_path / "elsewhere")
    monkeypatch.setattr(row_store, "read_documents", None)
    again = make(files, tmp_path / "cache")
    assert again.folder == first.folder
    assert again.report == first.report == anew.report
    assert again.rows["input_ids"][:] == first.rows["input_ids"][:] == anew.rows["input_ids"][:]
    assert (anew.folder / "rows.arrow").read_bytes() == (first.folder / "rows.arrow").read_bytes()


def test_whatever_decides_the_rows_decides_the_folder(files: dict[str, Path], tmp_path: Path) -> None:
    """Content, settings, shares and tokenizer; not the settings of the tokenizer's last call."""
    cache = tmp_path / "cache"
    first = make(files, cache).folder
    other = byte_level_tokenizer(500)
    sources = [Source("ko", (files["ko"],)), Source("en", (files["en"],))]
    folders = [
        first,
        make(files, cache, length=32).folder,
        make(files, cache, begin=True).folder,
        make(files, cache, tokenizer=other).folder,
        make(files, cache, sources=sources).folder,
        make(files, cache, sources=sources, shares={"ko": 1, "en": 2}).folder,
    ]
    files["ko"].write_text(json.dumps({"text": korean()[0] * 9}) + "\n", encoding="utf-8")
    folders.append(make(files, cache).folder)
    assert len(set(folders)) == len(folders)
    tokenizer = byte_level_tokenizer()
    before = make(files, cache).folder
    try:
        tokenizer("가나다", truncation=True, max_length=2, padding="max_length")
        assert make(files, cache).folder == before
    finally:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


def test_a_kill_leaves_nothing_half(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted is made again from the beginning, and is whole then."""
    whole = make(files, tmp_path / "other")
    read = row_store.read_documents

    def broken(source: Source) -> Iterator[Any]:
        for place, document in enumerate(read(source)):
            if place == 20:
                raise KeyboardInterrupt
            yield document

    monkeypatch.setattr(row_store, "read_documents", broken)
    with pytest.raises(KeyboardInterrupt):
        make(files, tmp_path / "cache")
    monkeypatch.setattr(row_store, "read_documents", read)
    found = make(files, tmp_path / "cache")
    assert found.rows["input_ids"][:] == whole.rows["input_ids"][:]


def test_written_in_parts(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of the batches show nowhere in the rows."""
    whole = make(files, tmp_path / "one", tail="keep")
    monkeypatch.setattr(packing, "_BATCH_TOKENS", 300)
    monkeypatch.setattr(shards, "_BATCH_CHARACTERS", 500)
    monkeypatch.setattr(shards, "_BATCH_DOCUMENTS", 7)
    monkeypatch.setattr(shards, "_FIRST_CHARACTERS", 700)
    parts = make(files, tmp_path / "two", tail="keep")
    assert parts.rows["input_ids"][:] == whole.rows["input_ids"][:]
    assert parts.report == whole.report


def test_a_text_that_spells_a_special_token(tmp_path: Path) -> None:
    """It is text: a document ends where it ends, and nowhere else."""
    path = tmp_path / "a.txt"
    path.write_text("태그 </s>는 끝을 <s>뜻한다.\n둘째\n", encoding="utf-8")
    packed = make({"ko": path}, tmp_path / "cache", sources=[Source("ko", (path,))], tail="keep")
    assert documents(packed) == ["태그 </s>는 끝을 <s>뜻한다.", "둘째", ""]


def test_a_trainer_trains_on_them(files: dict[str, Path], tmp_path: Path) -> None:
    """Rows are what a Trainer takes."""
    packed = make(files, tmp_path / "cache")
    assert packed.rows.column_names == ["input_ids"]
    assert len(packed.rows) > 9
    model = llama(len(byte_level_tokenizer()))
    done = trainer(model, tmp_path / "run", packed.rows, max_steps=2, data_collator=collate).train()
    assert 0 < done.training_loss < 20


def test_nothing_to_train_on(files: dict[str, Path], tmp_path: Path) -> None:
    """A source without a document, rows longer than the corpus, a name twice, a tokenizer without an end token."""
    english_only = Source("en", (files["en"],), filters=(HangulShare(0.9),))
    with pytest.raises(ConfigurationError, match="source en: found no document that is not blank and not dropped"):
        make(files, tmp_path / "cache", sources=[english_only])
    with pytest.raises(ConfigurationError, match=r"found \d+ tokens, expected a row of 1000000"):
        make(files, tmp_path / "cache", length=1_000_000)
    with pytest.raises(ConfigurationError, match="a name twice in ko, ko"):
        make(files, tmp_path / "cache", sources=[Source("ko", (files["ko"],))] * 2)
    bare: Any = PreTrainedTokenizerFast
    inner = Tokenizer.from_str(byte_level_tokenizer().backend_tokenizer.to_str())
    without = bare(tokenizer_object=inner)
    without.eos_token = None
    with pytest.raises(ConfigurationError, match="found no end token"):
        make(files, tmp_path / "cache", tokenizer=without)
    assert not list((tmp_path / "cache").glob("[!.]*"))
