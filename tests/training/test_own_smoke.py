"""``--smoke`` on what a recipe says itself: a bundled recipe made one's own by the three lines that the docs show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from e2e import run_files
from training.made_family import INSTALLED, LORA, made_config, saved_model, written_recipe
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.recipe.smoke import STEPS
from ko_cpt_callbacks.training.smoke import small

ROOT = Path(__file__).resolve().parents[2]
OK = re.compile(r"smoke ok: (\d) stages?, the right tensors moved, [\d.]+ GiB estimated")


def _ko_cpt(*words: str) -> tuple[int, str]:
    """Exit status of a command, and what it prints: where that is an error, on stderr."""
    found = CliRunner().invoke(app, list(words))
    return found.exit_code, found.stderr if found.exit_code else found.stdout


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a bundled recipe, edited as the docs show, beside a tiny Qwen3 and the texts that it names."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("own")
    saved_model("qwen3", folder / "models" / "qwen3", tie_word_embeddings=True, max_position_embeddings=512)
    text = folder / "text"
    text.mkdir()
    korean = [f"{part} {number}" for number in range(5) for part in tiny.korean()]
    third = len(korean) // 3
    lines = [json.dumps({"text": part, "id": 1}, ensure_ascii=False) for part in korean[:third]]
    (text / "news.jsonl").write_text("\n".join(lines), "utf-8")
    pyarrow.parquet.write_table(pyarrow.table({"text": korean[third : 2 * third]}), text / "web.parquet")
    with pyarrow.output_stream(text / "books.txt.zst", compression="zstd") as file:
        file.write("\n".join(korean[2 * third :]).encode())
    (text / "english.txt").write_text("\n".join(tiny.english()), "utf-8")

    path = folder / "mine.yaml"
    assert _ko_cpt("recipes", "copy", "medgemma-a6000-8bit", str(path))[0] == 0
    page, edits = path.read_text("utf-8"), _edits()
    assert 0 < len(edits) <= 6
    for old, new in edits:
        assert page.count(f"{old}\n") == 1
        page = page.replace(f"{old}\n", f"{new}\n")
    path.write_text(page, "utf-8")
    return path


def _edits() -> list[tuple[str, str]]:
    """Lines of the recipe and what stands there then, as docs/recipe.md shows it."""
    (shown,) = re.findall(r"^```diff\n(.*?)^```$", (ROOT / "docs" / "recipe.md").read_text("utf-8"), re.M | re.S)
    lines = shown.splitlines()
    assert [line[0] for line in lines] == ["-", "+"] * (len(lines) // 2)
    return [(old[1:], new[1:]) for old, new in zip(lines[::2], lines[1::2], strict=True)]


def test_a_copy_with_three_lines_edited(own: Path, tmp_path: Path) -> None:
    """It is valid, with a note that the shape of before is not used; on its own tokenizer, texts and kind of model
    --smoke tries out every stage, judges nothing and says what the whole one needs; a second one replaces the first."""
    status, said = _ko_cpt("validate", str(own))
    assert status == 0, said
    assert "note: base.shape: not used: the config.json of models/qwen3 says family qwen3 (not gemma3)" in said

    folder = tmp_path / "run"
    status, said = _ko_cpt("train", str(own), "--smoke", "--output", str(folder))
    assert status == 0, said
    last = OK.fullmatch(said.splitlines()[-1])
    assert last is not None and last[1] == "1"
    assert "bit for bit as before" in said and "Written" not in said and "new tokens" in said
    rows = run_files.rows(folder / "stages" / "01-lora")
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, STEPS + 1))
    assert run_files.findings(folder / "stages" / "01-lora") == []

    base = own.parent / "models" / "qwen3"
    made = json.loads((folder / "smoke" / "model" / "config.json").read_text("utf-8"))
    assert (made["model_type"], made["tie_word_embeddings"]) == ("qwen3", True)
    assert made["vocab_size"] == json.loads((base / "config.json").read_text("utf-8"))["vocab_size"]
    ours, theirs = (
        AutoTokenizer.from_pretrained(place)("계약은 성립한다.") for place in (folder / "smoke/model", base)
    )
    assert ours["input_ids"] == theirs["input_ids"]
    (first, *_) = (folder / "smoke" / "text" / "ko.jsonl").read_text("utf-8").splitlines()
    assert f"{tiny.korean()[0]} 0".startswith(json.loads(first)["text"])

    (folder / "stages" / "mark").touch()
    assert _ko_cpt("train", str(own), "--smoke", "--output", str(folder))[0] == 0
    assert not (folder / "stages" / "mark").exists()


def test_the_same_copy_trains(own: Path, tmp_path: Path) -> None:
    """Not made small but for its steps: on a CPU, all three files are in the evaluation set's line; that as much
    English, of which there is little, leaves most of the Korean is a finding, live and checked again."""
    steps = {"max_steps": 2, "warmup_steps": 0, "gradient_accumulation_steps": 1, "optim": "adamw_torch"}
    sets = [word for name, value in steps.items() for word in ("--set", f"stages.lora.arguments.{name}={value}")]
    more = ["--set", "data.sequence_length=64", "--set", "data.held_out=0.1", "--device", "cpu"]
    more += ["--set", "data.mix.en=1", "--set", "eval.ko.max_documents=50", "--set", "eval.en.max_documents=50"]
    status, said = _ko_cpt("train", str(own), "--output", str(tmp_path / "run"), *sets, *more)
    assert status == 0, said
    (line,) = [line for line in said.splitlines() if line.startswith("  eval ko: ")]
    assert all(f"text/{name}" in line for name in ("news.jsonl", "web.parquet", "books.txt.zst"))
    found = run_files.findings(tmp_path / "run" / "stages" / "01-lora")
    (unused,) = [one["values"] for one in found if one["code"] == "corpus-unused"]
    assert (unused["source"], unused["shortest"]) == ("ko", ["en"])
    assert "[warning] corpus-unused @0: ko: " in said
    again = CliRunner().invoke(app, ["check", str(tmp_path / "run" / "stages" / "01-lora"), "--json"])
    assert json.loads(again.stdout)["findings"] == found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["stages.lora.lora.target_modules=[q_proj, gate_up]"], r"found the text \"gate_up\", expected a linear layer"),
        (["data.sources.ko.field=body"], r"data.sources.ko.field: found 'body', which .*news.jsonl does not have"),
        (["data.sources.ko.files=[text/old.jsonl]"], r"found no file .*text/old.jsonl"),
        (["stages.lora.arguments.eval_steps=0"], r"stages.lora.arguments.eval_steps: found 0"),
        (["data.sources.ko.filters.hangul_share.minimum=1.0", "data.sources.ko.files=text/english.txt"],
         r"source ko: found no text that its filters keep"),
    ],
)  # fmt: skip
def test_what_train_refuses(own: Path, changes: list[str], said: str, tmp_path: Path) -> None:
    """--smoke refuses it too, whatever it would make small of it, and writes no run."""
    words = [word for change in changes for word in ("--set", change)]
    status, text = _ko_cpt("train", str(own), "--smoke", "--output", str(tmp_path / "run"), *words)
    assert status == 2, text
    assert re.search(said, text)
    assert not (tmp_path / "run" / "ko_cpt").exists()


def test_a_folder_of_somebody_s(own: Path, tmp_path: Path) -> None:
    """A folder named smoke that no smoke test wrote is left alone, and so is a finished run."""
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke" / "precious").touch()
    status, text = _ko_cpt("train", str(own), "--smoke", "--output", str(tmp_path))
    assert (status, "found something that is no run of ko-cpt train" in text) == (2, True)
    assert [path.name for path in tmp_path.rglob("*")] == ["smoke", "precious"]


@pytest.mark.parametrize("name", INSTALLED)
def test_a_small_one_of_each_family(name: str) -> None:
    """Of the sizes that a family's configuration has by itself a model of the same class is made that is thin and
    takes text; of one that is small already, too."""
    given = made_config(name) if name == "gemma3" else AutoConfig.for_model(name)
    for config in (given, made_config(name)):
        values = small(config)
        text = values.get_text_config()
        text.vocab_size = 300  # to be quick; the rule keeps it
        for mark in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(text, mark, 0)
        assert (values.model_type, small(config).get_text_config().vocab_size) == (
            config.model_type, config.get_text_config().vocab_size,
        )  # fmt: skip
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(values)
        assert text.num_hidden_layers <= 4 and sum(part.numel() for part in model.parameters()) < 3_000_000
        ids = torch.arange(8)[None]
        more = {"token_type_ids": torch.zeros_like(ids)} if name == "gemma3" else {}
        with torch.no_grad():
            assert torch.isfinite(model(input_ids=ids, **more).logits).all()


def test_a_recipe_of_four_stages(tmp_path: Path) -> None:
    """A model without a tie, layers by number beyond the small one's, no adapter: each stage moves what it names."""
    saved_model("llama", tmp_path / "model", num_hidden_layers=6)
    stages: dict[str, Any] = {
        "rows": {"trains": {"input": "all", "output": "all"}},
        "odd": {"trains": {"layers": "odd"}},
        "two": {"trains": {"layers": [4, 5]}},
        "lora": {"trains": {"layers": "all"}, "lora": LORA},
    }
    path = written_recipe(tmp_path, "model", stages)
    status, said = _ko_cpt("train", str(path), "--smoke", "--output", str(tmp_path / "run"))
    assert status == 0, said
    last = OK.fullmatch(said.splitlines()[-1])
    assert last is not None and last[1] == "4" and said.count("bit for bit as before") == 4
