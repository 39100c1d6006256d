"""Documents come from files as they stand there."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.filters import HangulShare
from ko_cpt_callbacks.training.data.sources import Source, read_documents, source_key

pytestmark = pytest.mark.both_versions

TEXTS = ["첫째 글.", "둘째\n글은 두 줄이다.", "셋째 🙂"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


_PACK = {"": bytes, ".gz": gzip.compress, ".zst": _zstd, ".xz": lzma.compress, ".bz2": bz2.compress}


def texts(**settings: Any) -> list[str]:
    """Of a source."""
    return [document.text for document in read_documents(Source("ko", **settings))]


def test_text_files(tmp_path: Path) -> None:
    """A document is a line, a paragraph or the file; blank ones are left out, the order stays, ids name the place."""
    path = tmp_path / "a.txt"
    path.write_text("하나\n둘\n\n \n셋\n", encoding="utf-8")
    assert texts(files=(path,)) == ["하나", "둘", "셋"]
    assert [document.id for document in read_documents(Source("ko", (path,)))] == ["ko/0", "ko/1", "ko/4"]
    assert texts(files=(path,), unit="paragraph")[0] == "하나\n둘"
    assert texts(files=(path,), unit="file") == ["하나\n둘\n\n \n셋\n"]


def test_the_same_from_every_format(tmp_path: Path) -> None:
    """JSON lines, packed JSON lines and Parquet, each from its column; files are read in the order given."""
    lines = "".join(json.dumps({"id": place, "body": text}) + "\n" for place, text in enumerate(TEXTS))
    plain, packed, parquet = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "c.parquet"
    plain.write_text(lines, encoding="utf-8")
    packed.write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.table({"body": TEXTS}), parquet)
    for path in (plain, packed, parquet):
        assert texts(files=(path,), column="body") == TEXTS
    first = tmp_path / "z.txt"
    first.write_text("먼저", encoding="utf-8")
    assert texts(files=(first, plain), column="body") == ["먼저", *TEXTS]


def test_what_is_not_there(tmp_path: Path) -> None:
    """A missing file, a missing column and numbers instead of text: said with what there is."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": 7, "id": "x"}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="source ko: found no column 'text', expected one of body, id"):
        texts(files=(path,))
    with pytest.raises(ConfigurationError, match="source ko: found int in column 'body', expected text"):
        texts(files=(path,), column="body")
    with pytest.raises(ConfigurationError, match=r"source ko: found no file .*b\.txt"):
        texts(files=(tmp_path / "b.txt",))


def test_key_names_the_content(tmp_path: Path) -> None:
    """A copy elsewhere has the same key; other content, another setting or filter has another."""
    one, copy, other = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"
    one.write_text("가\n")
    copy.write_text("가\n")
    other.write_text("나\n")
    key = source_key(Source("ko", (one,)))
    assert key == source_key(Source("ko", (copy,)))
    assert json.loads(json.dumps(key)) == key
    others = [
        Source("ko", (other,)),
        Source("ko", (one, one)),
        Source("en", (one,)),
        Source("ko", (one,), unit="file"),
        Source("ko", (one,), passes=2),
        Source("ko", (one,), filters=(HangulShare(0.5),)),
        Source("ko", hub="x/y", revision=COMMIT),
    ]
    keys = [json.dumps(source_key(source)) for source in others]
    assert len({*keys, json.dumps(key)}) == len(others) + 1


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", "한국어".encode("cp949"), "text in UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', "JSON objects"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 1000)[:40], "JSON objects"),
        ("a.parquet", b"PAR1 and no more", "Parquet"),
    ],
    ids=["another encoding", "a broken line", "cut off", "no table"],
)
def test_what_cannot_be_read(name: str, content: bytes, kind: str, tmp_path: Path) -> None:
    """Source, file and what it was taken for, in one line: no traceback of the libraries below."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        texts(files=(path,))
    said = str(caught.value)
    assert said.startswith(f"source ko: found {path}, which cannot be read as {kind} (")
    assert "\n" not in said


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".xz", ".bz2"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_packed_or_not(kind: str, ending: str, tmp_path: Path) -> None:
    """Every packing of every kind gives the same documents, in the order in which they stand there."""
    said = ["첫째 글", "둘째 글, 쉼표", "셋째"]
    lines = {
        "txt": "\n".join(said),
        "jsonl": "".join(json.dumps({"text": text}) + "\n" for text in said),
        "csv": "\ufeffid,text\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(said)),
    }[kind].encode()
    path = tmp_path / f"a.{kind}{ending}"
    path.write_bytes(_PACK[ending](lines))

    assert texts(files=(path,)) == said


def test_a_zst_of_several_frames(tmp_path: Path) -> None:
    """It is read to its end, not to the first frame's, as what parallel programs and appending write has several; one
    that is cut off is refused."""
    first, second = "하나\n둘\n".encode(), "셋\n".encode() * 1000
    path = tmp_path / "a.txt.zst"
    path.write_bytes(_zstd(first) + _zstd(second))

    assert texts(files=(path,)) == ["하나", "둘", *["셋"] * 1000]
    path.write_bytes((_zstd(first) + _zstd(second))[:-3])
    with pytest.raises(ConfigurationError, match="cannot be read as text in UTF-8"):
        texts(files=(path,))


def test_a_text_in_a_csv_stays_one(tmp_path: Path) -> None:
    """Digits are no number, ``NA`` is not nothing, a line break belongs to it, and other columns do not matter."""
    path = tmp_path / "a.csv"
    path.write_text('n,body\n1,12\n2.5,NA\nx,"두\n줄"\n,\n', encoding="utf-8")

    assert texts(files=(path,), column="body") == ["12", "NA", "두\n줄"]
    with pytest.raises(ConfigurationError, match="found no column 'text', expected one of body, n"):
        texts(files=(path,))


def test_another_encoding_behind_the_beginning(tmp_path: Path) -> None:
    """Where it is seen only in reading, the likely encoding and the command that converts the file are named too."""
    path = tmp_path / "a b.txt"
    path.write_bytes(b"plain words in ASCII\n" * 9000 + "한국어 글입니다\n".encode("cp949") * 9)
    with pytest.raises(ConfigurationError) as caught:
        texts(files=(path,))

    new = path.with_name("a b-utf8.txt")
    assert str(caught.value).endswith(f"likely CP949: iconv -f CP949 -t UTF-8 '{path}' > '{new}'")


def test_an_empty_file_has_no_documents(tmp_path: Path) -> None:
    """Whatever its kind: it is passed over."""
    files = tuple(tmp_path / name for name in ("a.txt", "b.jsonl", "c.parquet"))
    for path in files:
        path.write_bytes(b"")
    (tmp_path / "d.txt").write_text(TEXTS[0], "utf-8")
    assert texts(files=(*files, tmp_path / "d.txt")) == TEXTS[:1]


def test_a_limited_number_is_drawn_from_all_files(tmp_path: Path) -> None:
    """Each document has the same chance, whichever file it stands in; the same ones are drawn again, in their order,
    and more of them where the limit is higher."""
    paths = []
    for name, count in (("a", 2000), ("b", 1000), ("c", 1000)):
        paths.append(tmp_path / f"{name}.txt")
        paths[-1].write_text("".join(f"{name} {number}번째 글\n" for number in range(count)), encoding="utf-8")
    every = texts(files=tuple(paths))
    drawn = texts(files=tuple(paths), limit=400)
    assert drawn == texts(files=tuple(paths), limit=400) == [text for text in every if text in set(drawn)]
    counts = Counter(text[0] for text in drawn)
    assert sum(counts.values()) == 400
    # Three standard deviations of a draw without replacement around 200, 100 and 100 are 28 and 25.
    assert 172 <= counts["a"] <= 228 and 75 <= counts["b"] <= 125 and 75 <= counts["c"] <= 125
    assert set(drawn) < set(texts(files=tuple(paths), limit=500))
    assert set(texts(files=tuple(reversed(paths)), limit=400)) == set(drawn)
    assert texts(files=tuple(paths), limit=5000) == every
