"""What is local of a recipe's texts is looked at before anything is loaded: files, packings, encodings, fields."""

from __future__ import annotations

import builtins
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import text_checks
from ko_cpt_callbacks.recipe.reading import RecipeFile, read_recipe
from ko_cpt_callbacks.recipe.text_checks import look_at_texts
from ko_cpt_callbacks.recipe.text_files import encoding_hint, files_of, likely_encoding

RECIPE = """\
title: Local
base: {{build: {{family: llama, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 1, num_attention_heads: 4,
  tokenizer: {{algorithm: byte-level-bpe, vocab_size: 400, sources: [ko]}}}}, dtype: float32}}
data:
  sequence_length: 64
  packing: false
  held_out: 0.3
  sources:
    ko:
      language: ko
      {source}
  mix: {{ko: 1}}
eval: {{ko: {{source: ko}}}}
stages: {{whole: {{trains: {{layers: all}}, arguments: {{max_steps: 4}}}}}}
"""
SAID = "한국어 글이 여러 줄 있습니다.\n" * 20


def _recipe(folder: Path, source: str) -> RecipeFile:
    path = folder / "local.yaml"
    path.write_text(RECIPE.format(source=source), "utf-8")
    return read_recipe(path)


def _lines(folder: Path, source: str) -> list[str]:
    """The mistakes, with the recipe's file as FILE and its folder left out."""
    file = _recipe(folder, source)
    text = str(file.error(look_at_texts(file).mistakes))
    return text.replace(str(folder / "local.yaml"), "FILE").replace(f"{folder}/", "").splitlines()


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


ROWS = "".join(json.dumps({"txt": f"글 {number}", "id": number}) + "\n" for number in range(30))
UTF8 = "which is not in UTF-8, expected text in UTF-8; "

# What stands in the file, how the recipe names it, and what is said of it: the recipe's line, the key and the rest.
WRONG: dict[str, tuple[str, Any, str, int, str, str]] = {
    "a file that is not there": (
        "text.jsonl", ROWS, "files: texts.jsonl",
        11, "files",
        "found no file texts.jsonl, expected one or more. Did you mean text.jsonl?",
    ),
    "a file whose name says no format": (
        "corpus", ROWS, "files: corpus",
        11, "files",
        "found corpus, expected a name that ends in .txt, .jsonl, .json, .csv (packed as .gz, .zst, .xz, .bz2 or not) "
        "or .parquet.",
    ),
    "one of several": (
        "a.txt", SAID, "files: [a.txt, b/c.txt]",
        11, "files[1]",
        "found no file b/c.txt, expected one or more.",
    ),
    "a pattern that fits nothing": (
        "a.txt", SAID, "files: ['*.jsonl']",
        11, "files[0]",
        "found no file *.jsonl, expected one or more.",
    ),
    "a folder without texts": (
        "b/a.pdf", SAID, "files: b",
        11, "files",
        "found no text file in the folder b, expected files that end in .txt, .jsonl, .json, "
        ".csv (packed as .gz, .zst, .xz, .bz2 or not) or .parquet.",
    ),
    "a folder by its pattern": (
        "b.txt/c.pdf", SAID, "files: b.txt",
        11, "files",
        "found no text file in the folder b.txt, expected",
    ),
    "another name for the text": (
        "a.jsonl", ROWS, "files: a.jsonl",
        9, "field",
        "found 'text', which a.jsonl does not have, expected one of its fields (txt, id). "
        "Did you mean txt?",
    ),
    "a field that is misspelt": (
        "a.jsonl", ROWS, 'files: a.jsonl\n      field: txtt',
        12, "field",
        "found 'txtt', which a.jsonl does not have, expected one of its fields (txt, id). "
        "Did you mean txt?",
    ),
    "a field of numbers": (
        "a.jsonl", ROWS, 'files: a.jsonl\n      field: id',
        12, "field",
        "found 0 in 'id' of a.jsonl, expected text.",
    ),
    "a list of another field": (
        "a.json", json.dumps([{"body": "글"}]), "files: a.json",
        9, "field",
        "found 'text', which a.json does not have, expected one of its fields (body). Did "
        "you mean body?",
    ),
    "a column that is not there": (
        "a.csv", "id,txt\n1,글\n", "files: a.csv",
        9, "field",
        "found 'text', which a.csv does not have, expected one of its columns (id, txt). Did "
        "you mean txt?",
    ),
    "a packed column": (
        "a.csv.gz", gzip.compress(b"id,txt\n1,x\n"), "files: a.csv.gz",
        9, "field",
        "found 'text', which a.csv.gz does not have, expected one of its columns (id, txt). "
        "Did you mean txt?",
    ),
    "no JSON": (
        "a.jsonl", '{"text": "글"}\n\n{"text" "글"}\n', "files: a.jsonl",
        11, "files",
        "found a.jsonl, line 3 of which is no JSON (Expecting ':' delimiter: line 1 column 9 "
        "(char 8)), expected an object a line.",
    ),
    "JSON that is no object": (
        "a.jsonl", '["글"]\n', "files: a.jsonl",
        11, "files",
        'found a.jsonl, whose rows are no JSON objects, expected objects such as {"text": '
        '"…"}.',
    ),
    "no gzip": (
        "a.txt.gz", b"plain", "files: a.txt.gz",
        11, "files",
        "found a.txt.gz, which cannot be opened (Not a gzipped file (b'pl')), expected a "
        "file packed by gzip.",
    ),
    "a zst that is cut off": (
        "a.txt.zst", _zstd(SAID.encode())[:-4], "files: a.txt.zst",
        11, "files",
        "found a.txt.zst, which cannot be opened (Truncated compressed stream), expected a "
        "file packed by zstd.",
    ),
    "no Parquet": (
        "a.parquet", b"PAR1", "files: a.parquet",
        11, "files",
        "found a.parquet, which cannot be opened (",
    ),
    "CP949": (
        "a.txt", SAID.encode("cp949"), "files: a.txt",
        11, "files",
        f"found a.txt, {UTF8}likely CP949: iconv -f CP949 -t UTF-8 a.txt > a-utf8.txt.",
    ),
    "CP949 in a csv": (
        "a.csv", f"text\n{SAID}".encode("euc-kr"), "files: a.csv",
        11, "files",
        f"found a.csv, {UTF8}likely CP949: iconv -f CP949 -t UTF-8 a.csv > a-utf8.csv.",
    ),
    "CP949, packed": (
        "a.txt.gz", gzip.compress(SAID.encode("cp949")), "files: a.txt.gz",
        11, "files",
        f"found a.txt.gz, {UTF8}likely CP949: gzip -dc a.txt.gz | iconv -f CP949 -t UTF-8 | "
        "gzip > a-utf8.txt.gz.",
    ),
    "UTF-16": (
        "a.txt", SAID.encode("utf-16"), "files: a.txt",
        11, "files",
        f"found a.txt, {UTF8}likely UTF-16: iconv -f UTF-16 -t UTF-8 a.txt > a-utf8.txt.",
    ),
    "UTF-16 without a mark": (
        "a.jsonl", b'{"text": "x"}\n'.decode().encode("utf-16-le"), "files: a.jsonl",
        11, "files",
        f"found a.jsonl, {UTF8}likely UTF-16LE: iconv -f UTF-16LE -t UTF-8 a.jsonl > "
        "a-utf8.jsonl.",
    ),
    "an encoding that is not known": (
        "a.txt", "café au lait\n".encode("latin-1"), "files: a.txt",
        11, "files",
        f"found a.txt, {UTF8}convert it to UTF-8 (iconv -f ENCODING -t UTF-8).",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file(name: str, tmp_path: Path) -> None:
    """One line: the recipe's line, the file, what is expected of it, and what was probably meant or what to do."""
    file, content, source, number, key, expected = WRONG[name]
    _write(tmp_path / file, content)
    (line,) = _lines(tmp_path, source)

    assert line.startswith(f"FILE:{number}: data.sources.ko.{key}: {expected}")


def test_what_is_right(tmp_path: Path) -> None:
    """Every kind, packed or not; a field that only some rows have; a row longer than what is looked at first; a file
    that ends in the middle of a letter there; an empty file: nothing is said."""
    rows = [{"text": "글"}, {"id": 1}, {"text": None}]
    _write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    _write(tmp_path / "long.jsonl", json.dumps({"text": "글" * 200_000}) + "\n")
    _write(tmp_path / "long.txt", "x" + "가" * 300_000)
    _write(tmp_path / "list.json", json.dumps([{"text": "글" * 100}] * 2000, indent=1))
    _write(tmp_path / "marked.csv", "\ufefftext\n글\n")
    _write(tmp_path / "empty.jsonl", "")
    _write(tmp_path / "a.txt.zst", _zstd(SAID.encode()))
    pq.write_table(pa.table({"text": ["글"], "id": [1]}), tmp_path / "a.parquet")
    names = ["a.jsonl", "long.jsonl", "long.txt", "list.json", "marked.csv", "empty.jsonl", "a.txt.zst", "a.parquet"]
    file = _recipe(tmp_path, f"files: [{', '.join(names)}]")

    assert (look_at_texts(file).mistakes, look_at_texts(file).unseen) == ([], [])


def test_a_folder(tmp_path: Path) -> None:
    """Every file of a known ending in it and below, sorted; what is left out is said, but for what is hidden."""
    for name in ("b.txt", "a/z.jsonl.gz", "a/b/c.parquet", ".hidden/x.txt", "a/.part.txt", "README.md", "a/x.TXT"):
        _write(tmp_path / "text" / name, b"")
    found = [str(path.relative_to(tmp_path / "text")) for path in files_of(tmp_path / "text")]

    assert found == ["a/b/c.parquet", "a/z.jsonl.gz", "b.txt"]
    (unseen,) = look_at_texts(_recipe(tmp_path, "files: text")).unseen
    assert unseen == f"2 files in {tmp_path / 'text'}, which are not read (.TXT, .md)"


@pytest.mark.parametrize("model", ["./base", "../base", "/base", "~/base", "a/b/c"])
def test_a_base_that_can_only_be_a_folder(model: str, tmp_path: Path) -> None:
    """One that is not there is told; what may be an id of the hub is not."""
    path = tmp_path / "local.yaml"
    head, rest = RECIPE.format(source="bundled: [ko_udhr.txt]").split("base: ", 1)
    text = f"{head}base: {{model: {model}, dtype: float32}}\n{rest[rest.index('data:'):]}"
    for given, told in ((text, 1), (text.replace(f"model: {model}", "model: base"), 0)):
        path.write_text(given, "utf-8")
        mistakes = look_at_texts(read_recipe(path)).mistakes
        assert [key for key, *_ in mistakes] == [("base", "model")] * told


def test_files_and_the_page_are_told_together(tmp_path: Path) -> None:
    """A missing file, a column and an encoding are found in one go with what is wrong on the page, each with its line;
    a source that is wrong itself is not looked into, and without mistakes on the page nothing comes twice."""
    _write(tmp_path / "rows.jsonl", '{"body": "글"}\n')
    _write(tmp_path / "old.txt", SAID.encode("cp949"))
    more = ["web: {language: ko, files: rows.jsonl}", "books: {language: ko, files: old.txt}",
            "wrong: {language: korean, files: nowhere.txt}"]  # fmt: skip
    added = "".join(f"    {one}\n" for one in more)
    text = RECIPE.format(source="files: news.jsonl").replace("  mix:", f"{added}  mix:")
    path = tmp_path / "local.yaml"
    path.write_text(text.replace("held_out: 0.3", "held_out: 3").replace("layers: all", "layers: most"), "utf-8")
    found = CliRunner().invoke(app, ["validate", str(path)])
    assert found.exit_code == 2
    lines = found.stderr.splitlines()
    told = [line.removeprefix(f"ko-cpt validate: {path}:").partition(": found ")[0] for line in lines]
    assert told == [
        "7: data.held_out", "11: data.sources.ko.files", "12: data.sources.web.field", "13: data.sources.books.files",
        "14: data.sources.wrong.language", "17: stages.whole.trains.layers",
    ]  # fmt: skip
    path.write_text(text.replace("    wrong: {language: korean, files: nowhere.txt}\n", ""), "utf-8")
    alone = CliRunner().invoke(app, ["validate", str(path)])
    assert len(alone.stderr.splitlines()) == 3


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    """A path that is there is itself, whatever it would fit as a pattern."""
    for name in ("a[1].txt", "a1.txt"):
        _write(tmp_path / name, SAID)

    assert files_of(tmp_path / "a[1].txt") == [tmp_path / "a[1].txt"]
    assert files_of(tmp_path / "a?.txt") == [tmp_path / "a1.txt"]


def test_what_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs pyarrow where there is none, and files beyond so many: said, and no mistake."""
    pq.write_table(pa.table({"x": ["글"]}), tmp_path / "a.parquet")
    _write(tmp_path / "b.txt.zst", b"not zstd")
    for number in range(5):
        _write(tmp_path / "many" / f"{number}.txt", SAID.encode("cp949"))
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    look = look_at_texts(_recipe(tmp_path, "files: [a.parquet, b.txt.zst]"))
    assert look.mistakes == []
    why = "pyarrow is not installed: pip install pyarrow"
    assert look.unseen == [f"{tmp_path / 'a.parquet'} ({why})", f"{tmp_path / 'b.txt.zst'} ({why})"]

    monkeypatch.setattr(text_checks, "_FILES", 2)
    look = look_at_texts(_recipe(tmp_path, "files: many"))
    assert (len(look.mistakes), look.unseen) == (2, ["3 of 5 files of data.sources.ko"])


@pytest.mark.parametrize("source", ["files: a.jsn", "files: [a.txt, b.pdf]", "files: '*.md'", "files: a.parquet.gz"])
def test_names_that_no_text_has(source: str, tmp_path: Path) -> None:
    """Told when the recipe is read, with the endings that there are."""
    with pytest.raises(RecipeError, match=r"FILE|a name that ends in \.txt, \.jsonl, .*, or a folder"):
        _recipe(tmp_path, source)


@pytest.mark.parametrize("codec", ["cp949", "euc-kr", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_likely_encoding(codec: str) -> None:
    """It decodes the text: of Korean, of Korean among English, and cut anywhere."""
    text = SAID + "plain English words between, 1234\n" * 3
    payload = text.encode(codec)
    for end in (len(payload), 201, 200):
        name = likely_encoding(payload[:end])
        assert name is not None
        assert payload.decode(name) == text


def test_a_text_in_utf8_has_no_hint(tmp_path: Path) -> None:
    """All of it is read, and nothing is said."""
    _write(tmp_path / "a.txt", SAID * 3000)
    assert encoding_hint(tmp_path / "a.txt") is None
    assert encoding_hint(tmp_path / "none.txt") is None
