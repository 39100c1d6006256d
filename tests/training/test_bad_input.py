"""What cannot be read of a corpus is refused with file and place, or noted and left out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data import reading
from ko_cpt_callbacks.training.data.reading import BadInputs
from ko_cpt_callbacks.training.data.sources import Source, read_documents

GOOD = b'{"text": "a"}\n'


def _parquet(path: Path) -> bytes:
    pq.write_table(pa.table({"body": ["x"]}), path)
    return path.read_bytes()


def _cases(folder: Path) -> dict[str, tuple[str, bytes, str, list[str]]]:
    """Name, content, what is said of it, and the texts that can be read."""
    zstd = pa.Codec("zstd").compress(b"a\n" * 99_999, asbytes=True)
    return {
        "no UTF-8": ("a.jsonl", GOOD + b'{"text": "\xff"}\n' + GOOD, "line 2: no UTF-8", ["a", "a"]),
        "a NUL": ("a.txt", b"a\nb\0c\nd\n", "line 2: a NUL character", ["a", "d"]),
        "a surrogate": ("a.jsonl", rb'{"text": "\ud800"}' + b"\n" + GOOD, "line 1: half of a surrogate pair", ["a"]),
        "a long line": ("a.txt", b"a\n" + b"x" * 5000 + b"\nb\n", "line 2: a line of more than 1,000", ["a", "b"]),
        "a long last line": ("a.jsonl", GOOD + b"x" * 5000, "line 2: a line of more than 1,000", ["a"]),
        "a broken last line": ("a.jsonl", GOOD + b'{"text": "b', "line 2: Unterminated string", ["a"]),
        "no object": ("a.jsonl", GOOD + b"[1]\n" + GOOD, "line 2: list, no object", ["a", "a"]),
        "a number": ("a.jsonl", GOOD + b'{"text": 7}\n', "found int in column 'text', expected text (", ["a"]),
        "cut gzip": ("a.txt.gz", gzip.compress(b"a\n" * 9)[:-9], "EOFError", ["a"] * 9),
        "cut zstd": ("a.txt.zst", zstd[:-3], "after line", ["a"] * 99_999),
        "no column": ("a.parquet", _parquet(folder / "made"), "no column 'text', expected one of body", []),
    }


CASES = (
    "no UTF-8", "a NUL", "a surrogate", "a long line", "a long last line", "a broken last line", "no object",
    "a number", "cut gzip", "cut zstd", "no column",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line with file and place; with a list, the entry stands there and what can be read is read."""
    monkeypatch.setattr(reading, "_LONGEST", 1000)
    name, content, said, texts = _cases(tmp_path)[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        list(read_documents(Source("ko", (path,))))
    assert said in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

    bad = BadInputs()
    found = [document.text for document in read_documents(Source("ko", (path,), bad=bad))]
    assert found == texts[: len(found)] and len(found) >= len(texts) - 40_000
    (entry,) = bad.listed
    assert entry.file == str(path) and (said in f"{entry.place}: {entry.reason}" or case == "no column")
    assert bad.files == {str(path): 1}


def test_the_rest_of_the_corpus_is_read(tmp_path: Path) -> None:
    """Ids stay those of the places, and each bad row counts once however often the file is read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + b"{\n" + GOOD + b"x\n" + GOOD)
    bad = BadInputs()
    source = Source("ko", (path,), bad=bad)
    for _ in range(2):
        assert [document.id for document in read_documents(source)] == ["ko/0", "ko/2", "ko/4"]
    assert bad.files == {str(path): 2}
    assert [entry.place for entry in bad.listed] == ["line 2", "line 4"]


@pytest.mark.parametrize("bad", [None, BadInputs()])
def test_a_file_that_changes(bad: Any, tmp_path: Path) -> None:
    """It is refused, also where bad rows are left out: what was read of it is no corpus that can be made again."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": str(number)}) + "\n" for number in range(9)), encoding="utf-8")
    documents = read_documents(Source("ko", (path,), bad=bad))
    next(documents)
    with path.open("a") as file:
        file.write('{"text": "new"}\n')
    with pytest.raises(ConfigurationError, match=r"a\.jsonl, which changed while it was read"):
        list(documents)
