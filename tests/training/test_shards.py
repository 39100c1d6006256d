"""Rows are the same whoever makes them, however often that is interrupted, and without what was there before."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pyarrow as pa
import pytest
from tiny import byte_level_tokenizer, korean
from training.fatal_filter import Fatal

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data import packing, shards
from ko_cpt_callbacks.training.data.duplicates import DuplicateIndex
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.filters import HangulShare
from ko_cpt_callbacks.training.data.packing import PackSettings
from ko_cpt_callbacks.training.data.removal import Duplicates
from ko_cpt_callbacks.training.data.repetition import RepeatedNgrams
from ko_cpt_callbacks.training.data.rows import Making, PackedRows, packed_rows
from ko_cpt_callbacks.training.data.shards import ShardMaker, ShardPart
from ko_cpt_callbacks.training.data.sources import Source


def edited(text: str, share: float, draw: random.Random) -> str:
    """The text with a share of its characters changed, each to another, to none or to two."""
    letters = list(text)
    for place in draw.sample(range(len(letters)), round(share * len(letters))):
        other = draw.choice("가나다라마바사아자차카타파하")
        letters[place] = draw.choice([other, "", letters[place] + other])
    return "".join(letters)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Prose with duplicates whole and near, other scripts and repetition; two passes of it, and a second source."""
    draw = random.Random(0)
    prose = [text for text in korean() if len(text) > 150]
    texts = [*prose, *(edited(text, 0.05, draw) for text in prose[::3]), *prose[::7], "English " * 40, "같은 말 " * 99]
    found = []
    for name, part in (("a", texts[::2]), ("b", texts[1::2])):
        path = tmp_path_factory.mktemp("texts") / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in part), encoding="utf-8")
        filters = (HangulShare(0.5), RepeatedNgrams())
        found.append(Source(name, (path,), passes=2, filters=filters, held_out=0.1, part="train"))
    return found


def held_out(source: Source) -> Source:
    """What is evaluated on."""
    return Source("held", source.files, held_out=source.held_out, part="held-out")


def make(sources: Sequence[Source], folder: Path, **more: Any) -> PackedRows:
    """A mixture without duplicates."""
    settings = PackSettings(64)
    duplicates = Duplicates(held_out=tuple(map(held_out, sources)))
    shares = {"a": 2.0, "b": 1.0}
    return packed_rows(sources, byte_level_tokenizer(), settings, folder, shares, duplicates=duplicates, **more)


def made(rows: PackedRows) -> tuple[bytes, str]:
    """What is on disk of it."""
    return (rows.folder / "rows.arrow").read_bytes(), (rows.folder / "report.json").read_text("utf-8")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_FIRST_CHARACTERS", 600)
    monkeypatch.setattr(shards, "_SHARD_CHARACTERS", 4000)


def test_the_same_rows_by_other_processes(sources: list[Source], tmp_path: Path) -> None:
    """Byte for byte, rows and report; nothing is left of the shards."""
    alone = make(sources, tmp_path / "one")
    folder = tmp_path / "three"
    together = make(sources, folder, making=Making(workers=3))
    assert made(alone) == made(together)
    assert [path.name for path in folder.iterdir()] == [together.folder.name]
    dropped: Counter[str] = Counter()
    for entry in alone.report["sources"].values():
        dropped.update({part["filter"]: part["dropped_documents"] for part in entry["filters"]})
    assert min(dropped.values()) > 0 and len(dropped) == 5


def test_killed_and_gone_on_with(sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill at every other shard the rows are those of one go, and no shard was made twice."""
    monkeypatch.setattr(shards, "_SHARD_CHARACTERS", 600)
    whole = make(sources, tmp_path / "one")
    calls: list[int] = []
    kept: list[int] = []
    really = ShardMaker.make

    def broken(maker: ShardMaker, part: ShardPart) -> Path:
        calls.append(len(part.documents))
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        kept.append(len(part.documents))
        return really(maker, part)

    monkeypatch.setattr(ShardMaker, "make", broken)
    kills = 0
    while True:
        try:
            rows = make(sources, tmp_path / "two")
            break
        except KeyboardInterrupt:
            kills += 1
            assert not list((tmp_path / "two").glob("[!.]*"))
    assert kills >= 10
    assert made(rows) == made(whole)
    read = sum(entry["filters"][0]["documents"] for entry in rows.report["sources"].values())
    assert sum(kept) <= read + max(kept)


def make_up_to(sources: Sequence[Source], folder: Path, event: str, number: int) -> None:
    """The mixture; this process is killed when something is done for the ``number``-th time, from 0."""
    shards._FIRST_CHARACTERS = shards._SHARD_CHARACTERS = 600
    calls = itertools.count()
    owner, name = EVENTS[event]
    really = getattr(owner, name)

    def done(*args: Any, **more: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return really(*args, **more)

    setattr(owner, name, done)
    make(sources, folder)


EVENTS: dict[str, tuple[Any, str]] = {
    "begin of a file": (shards, "write_whole"),
    "a file of which nothing may be on disk": (os, "fsync"),
    "look for duplicates": (DuplicateIndex, "add"),
    "rows": (packing, "_record"),
}


def test_sigkill(sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at ten moments, the process leaves what is gone on with: rows and report are those of one go."""
    monkeypatch.setattr(shards, "_SHARD_CHARACTERS", 600)
    draw = random.Random(5)
    folder = tmp_path / "two"
    moments = [(draw.choice(list(EVENTS)[:3]), draw.randrange(3)) for _ in range(9)]
    for event, number in [*moments, ("rows", 0)]:
        ended = forked.run(make_up_to, sources, folder, event, number, folder=tmp_path / "notes", timeout=300)
        assert ended.code == -signal.SIGKILL, ended.text
        assert not list(folder.glob("[!.]*"))
    assert made(make(sources, folder)) == made(make(sources, tmp_path / "one"))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:-900] + bytes(900)])
def test_a_damaged_shard_is_made_again(
    damage: Callable[[bytes], bytes], sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off or full of zeros, as a lost write leaves it, it is not gone on with: the rows are those of one go."""
    monkeypatch.setattr(shards, "_SHARD_CHARACTERS", 600)
    whole = make(sources, tmp_path / "one")
    written = shards.write_whole

    def broken(path: Path, content: bytes) -> None:
        if path.stem == "000003":
            raise KeyboardInterrupt
        written(path, content)

    monkeypatch.setattr(shards, "write_whole", broken)
    with pytest.raises(KeyboardInterrupt):
        make(sources, tmp_path / "two")
    monkeypatch.setattr(shards, "write_whole", written)
    shard = next((tmp_path / "two").rglob("000001.arrow"))
    shard.write_bytes(damage(shard.read_bytes()))
    assert made(make(sources, tmp_path / "two")) == made(whole)


def test_a_worker_that_ends(sources: list[Source], tmp_path: Path) -> None:
    """It is said with what to do, and nothing hangs."""
    source = Source("a", sources[0].files, filters=(Fatal(),))
    with pytest.raises(ConfigurationError, match=r"found one that ended .* use fewer with --workers, and go on with"):
        packed_rows([source], byte_level_tokenizer(), PackSettings(64), tmp_path, making=Making(workers=2))


def test_nothing_of_what_is_evaluated_on(tmp_path: Path) -> None:
    """A document of the held-out part is trained on neither whole nor edited, in whatever source it stands."""
    draw = random.Random(1)
    prose = [text for text in korean() if len(text) > 200][:40]
    clean = tmp_path / "clean.jsonl"
    clean.write_text("".join(json.dumps({"text": text}) + "\n" for text in prose), encoding="utf-8")
    own = Source("own", (clean,), held_out=0.3, part="train")
    from ko_cpt_callbacks.training.data.sources import read_documents

    evaluated = [document.text for document in read_documents(held_out(own))]
    planted = [edited(text, 0.03, draw) for text in evaluated]
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*evaluated, *planted]), encoding="utf-8")
    sources = [own, Source("web", (other, clean))]
    duplicates = Duplicates(held_out=(held_out(own),))
    with pytest.raises(ConfigurationError, match="source web: found no document that is not blank and not dropped"):
        packed_rows(sources, byte_level_tokenizer(), PackSettings(64), tmp_path / "x", duplicates=duplicates)
    rows = packed_rows([own], byte_level_tokenizer(), PackSettings(64), tmp_path / "x", duplicates=duplicates)
    assert rows.report["sources"]["own"]["documents"] == len(prose) - len(evaluated)


@dataclass
class Writer:
    """Writes a file when the first document is read."""

    path: Path
    texts: str

    def read(self, document: Document) -> None:
        """Write it."""
        if document.number == 0:
            self.path.write_text(self.texts, encoding="utf-8")

    def dropped(self, name: str, documents: int) -> None:
        """Nothing."""


def test_a_file_that_changes_before_it_is_read(tmp_path: Path) -> None:
    """Its new text makes neither rows nor shards that go by the former's name: put back, it gives the former's rows."""
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    lines = "".join(f"{text}\n" for text in korean()[:20] if "\n" not in text) * 3
    for path in paths:
        path.write_text(lines, encoding="utf-8")

    def rows(folder: str, making: Making | None = None) -> PackedRows:
        source = Source("a", tuple(paths))
        return packed_rows([source], byte_level_tokenizer(), PackSettings(64), tmp_path / folder, making=making)

    whole = rows("one")
    with pytest.raises(ConfigurationError, match="found texts that changed while shards were made of them, expected"):
        rows("two", Making(watch=Writer(paths[1], "다른 글\n" * 500)))
    assert not list((tmp_path / "two").glob("[!.]*")) and not list((tmp_path / "two").glob("*.shards"))
    paths[1].write_text(lines, encoding="utf-8")
    assert made(rows("two", Making(watch=Writer(paths[1], lines)))) == made(whole)  # written anew, and the same


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:99]), lambda path: path.unlink()])
def test_a_shard_damaged_before_it_is_read(
    damage: Callable[[Path], None], sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the file; going on makes it again."""
    really = ShardMaker.make

    def damaged(maker: ShardMaker, part: ShardPart) -> Path:
        damage(really(maker, part))
        return part.path

    with monkeypatch.context() as patch:
        patch.setattr(ShardMaker, "make", damaged)
        with pytest.raises(ConfigurationError, match=r"000000.arrow: found (a damaged|no) file, expected what"):
            make(sources, tmp_path / "two")
    assert made(make(sources, tmp_path / "two")) == made(make(sources, tmp_path / "one"))


def test_prompts_count_in_shards(tmp_path: Path) -> None:
    """Long prompts with short answers make no shard of any size."""
    documents = [Document(f"a/{number}", "답", 3, "물음" * 1000) for number in range(10)]
    assert [len(part.documents) for part in shards.shard_parts(tmp_path, documents)] == [1] * 10


def test_a_document_that_is_too_large(sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Arrow cannot count its bytes it is named, and no number goes round without a word."""
    with pytest.raises(pa.ArrowInvalid, match="2147483648"):
        shards._lists(np.zeros(1, np.int32), np.array([1 << 31]), pa.int32())
    monkeypatch.setattr(shards, "_LARGEST", 500)
    with pytest.raises(ConfigurationError, match=r"document a/[0-9]+: found [0-9,]+ bytes, expected at most 500 with"):
        make(sources, tmp_path)
