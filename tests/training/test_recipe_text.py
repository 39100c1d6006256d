"""A recipe's texts become rows: what is held out is never trained on, and no document is lost or taken twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks import Recipe
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.data.packing import IGNORED
from ko_cpt_callbacks.training.data.recipe_data import RecipeTexts, begins, first_texts
from ko_cpt_callbacks.training.data.report import row_lines
from ko_cpt_callbacks.training.model.vocabulary import train_tokenizer

LENGTH = 512


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The quickstart's."""
    texts = RecipeTexts(Recipe.load("quickstart").file, Path("unused"), "cpu")
    return train_tokenizer(texts.train_texts(["ko", "en"]), 1200)


def made(folder: Path, **data: Any) -> Recipe:
    """The quickstart with other texts, from a file of its own."""
    values = Recipe.load("quickstart").file.document.values
    values = json.loads(json.dumps(values))
    values["data"] |= data
    values["id"] = "made"
    values["task"] = "sft" if any("prompt" in source for source in values["data"]["sources"].values()) else "cpt"
    path = folder / "made.yaml"
    path.write_text(json.dumps(values), "utf-8")
    return Recipe.load(path)


def written(rows: Any, tokenizer: Any) -> list[str]:
    """The documents of rows, in order."""
    ids = [token for row in rows["input_ids"] for token in row]
    texts: list[list[int]] = []
    for token in ids:
        if token == tokenizer.bos_token_id:
            texts.append([])
        elif token != tokenizer.eos_token_id:
            texts[-1].append(token)
    return [tokenizer.decode(text) for text in texts]


def test_what_is_held_out_is_never_trained_on(tokenizer: Any, tmp_path: Path) -> None:
    """In the quickstart no held-out text is trained on by the tokenizer, the base or the stages, nor the same article
    of the declaration in the other language; at least 30 % of both languages is held out."""
    recipe = Recipe.load("quickstart")
    texts = RecipeTexts(recipe.file, tmp_path, "cpu")
    trained = set(texts.train_texts(["ko", "en"]))
    rows = texts.mixed_rows(tokenizer)
    evaluated = texts.evaluation_rows(tokenizer, ["ko", "en"])
    assert set(written(rows.rows, tokenizer)) <= trained
    for name, part in evaluated.items():
        held_out = written(part.rows, tokenizer)
        assert held_out == list(texts.held_out_texts(name))
        assert trained.isdisjoint(held_out)
        share = sum(len(text.encode()) for text in held_out)
        whole = share + sum(len(text.encode()) for text in texts.train_texts([name]))
        assert 0.3 <= share / whole < 0.45
    articles = [text.splitlines()[0].strip("제 조") for text in trained if text.startswith("제 ")]
    held_out = [text.splitlines()[0] for text in texts.held_out_texts("en")]
    english = {line.removeprefix("Article ") for line in held_out if line.startswith("Article ")}
    assert articles and english and english.isdisjoint(articles)


def test_the_mix_is_kept(tokenizer: Any, tmp_path: Path) -> None:
    """Korean and English three to one in bytes, within a document; one that it ends with is taken whole; none twice."""
    texts = RecipeTexts(Recipe.load("quickstart", ["data.mix.ko=3"]).file, tmp_path, "cpu")
    rows = texts.mixed_rows(tokenizer)
    ko, en = rows.report["sources"]["ko"], rows.report["sources"]["en"]
    longest = max(len(text.encode()) for text in texts.train_texts(["ko", "en"]))
    assert abs(ko["bytes"] / 3 - en["bytes"]) <= longest
    taken = written(rows.rows, tokenizer)
    assert len(taken) == len(set(taken)) == ko["documents"] + en["documents"]
    assert set(texts.train_texts(["ko"])) <= set(taken)
    assert any("ko: " in line for line in row_lines(rows))


def test_a_document_is_a_row_of_its_own(tokenizer: Any, tmp_path: Path) -> None:
    """Where rows are not packed, and in evaluation always: a longer one goes on in the next row; no row is longer, none
    has one token; a packed corpus has rows of one length."""
    plain = RecipeTexts(made(tmp_path, sequence_length=64).file, tmp_path / "rows", "cpu")
    packed = RecipeTexts(made(tmp_path, sequence_length=64, packing=True).file, tmp_path / "rows", "cpu")
    for rows in (plain.mixed_rows(tokenizer), packed.evaluation_rows(tokenizer, ["ko"])["ko"]):
        lengths = {len(row) for row in rows.rows["input_ids"]}
        assert 1 < min(lengths) < 64 == max(lengths)
        begun = [row for row in rows.rows["input_ids"] if row[0] == tokenizer.bos_token_id]
        assert len(begun) == sum(source["documents"] for source in rows.report["sources"].values())
    assert {len(row) for row in packed.mixed_rows(tokenizer).rows["input_ids"]} == {64}


def test_files_lie_beside_the_recipe(tokenizer: Any, tmp_path: Path) -> None:
    """Paths and patterns are read from the recipe's folder on; a file is on one side whole line by line; a duplicate
    is on its twin's side; a pattern without a file is told."""
    lines = [f"{number}번째 줄에는 글이 있다." for number in range(200)]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("\n".join(lines[:100]), "utf-8")
    (tmp_path / "text" / "b[1].txt").write_text("\n".join(lines[100:] + lines[:50]), "utf-8")
    sources = {"ko": {"language": "ko", "files": ["text/a.txt", "text/b[1].txt"]},
               "en": {"language": "en", "files": ["text/*.txt"]}}  # fmt: skip
    texts = RecipeTexts(made(tmp_path, sources=sources, held_out=0.2).file, tmp_path / "rows", "cpu")
    trained, held_out = list(texts.train_texts(["ko"])), list(texts.held_out_texts("ko"))
    assert sorted(trained + held_out) == sorted(lines + lines[:50])
    assert set(trained).isdisjoint(held_out) and held_out
    assert list(texts.train_texts(["en"])) == trained
    none = made(tmp_path, sources={**sources, "en": {"language": "en", "files": ["text/*.jsonl"]}})
    with pytest.raises(ConfigurationError, match=r"source en: found no file .*text/\*\.jsonl"):
        RecipeTexts(none.file, tmp_path / "rows", "cpu").mixed_rows(tokenizer)


def test_a_prompt_is_no_target(tokenizer: Any, tmp_path: Path) -> None:
    """Of prompt and answer the answer and the end token are targets; what does not fit is cut off, and an example
    without a token of its answer is no row."""
    examples = [{"question": f"{number}은 무엇인가?", "text": "수이다."} for number in range(40)]
    examples.append({"question": "긴 물음 " * 80, "text": "짧다."})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(item) + "\n" for item in examples), "utf-8")
    source = {"language": "ko", "files": ["a.jsonl"], "prompt": "question"}
    recipe = made(tmp_path, sources={"ko": source, "en": source}, mix={"ko": 1}, sequence_length=64, held_out=0.2)
    texts = RecipeTexts(recipe.file, tmp_path / "rows", "cpu")
    found = 0
    for rows in (texts.mixed_rows(tokenizer).rows, texts.evaluation_rows(tokenizer, ["ko"])["ko"].rows):
        for row in rows:
            found += 1
            learnt = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
            assert learnt == [label for label in row["labels"] if label != IGNORED]
            assert tokenizer.decode(learnt) == "수이다.</s>"
            assert tokenizer.decode(row["input_ids"][1:]).startswith(tuple("0123456789"))
    assert found == 40


def test_the_begin_token_is_the_tokenizers_habit(tokenizer: Any) -> None:
    """A tokenizer that begins texts with its token does so in rows too; one that does not, does not."""
    assert begins(tokenizer)
    other = train_tokenizer(["가나다라"], 300)
    other.backend_tokenizer.post_processor = None
    assert not begins(other)


def test_text_for_new_tokens_ends_at_its_limit() -> None:
    """Whole texts until the bytes are there, counted in UTF-8, and none after: a stream is not read on; without a limit
    all."""
    texts = iter(["가나", "다라", "마바", "사아"])
    assert list(first_texts(texts, 7)) == ["가나", "다라"]
    assert next(texts) == "마바"
    assert list(first_texts(["가", "나"], None)) == ["가", "나"]
