"""`ko-cpt recipes new`: five questions, and a recipe with every line explained that is valid as it is written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.recipe.plausibility import recipe_notes
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.text_checks import look_at_texts

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 4000,
    "tie_word_embeddings": False,
}  # fmt: skip
TARGET = "eval_ko_bits_per_byte<-2%@end"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder with a base and a corpus."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    (tmp_path / "text").mkdir()
    rows = [json.dumps({"text": f"{number}번째 글입니다. " * 40}, ensure_ascii=False) for number in range(2000)]
    (tmp_path / "text" / "a.jsonl").write_text("\n".join(rows), "utf-8")
    return tmp_path


def _new(*arguments: object, input: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["recipes", "new", *map(str, arguments)], input=input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def _arguments(path: Path) -> dict[str, Any]:
    return read_recipe(path).recipe.stages["lora"].arguments


def test_it_is_valid(here: Path) -> None:
    """Base, texts and target are those that were asked for; nothing is unusual; the command says what is next."""
    status, out, _ = _new("mine.yaml", "--yes", "--base", "base", "--corpus", "text")
    file = read_recipe(here / "mine.yaml")

    assert status == 0
    then = r"Read it, then: ko-cpt validate mine\.yaml && ko-cpt train mine\.yaml --smoke"
    assert re.fullmatch(rf"mine\.yaml: written, \d+\.\d GiB of 48\. {then}\n", out)
    assert (file.recipe.id, file.recipe.base.model, file.recipe.data.sources["ko"].files) == ("mine", "base", "text")
    assert file.recipe.stages["lora"].watch.targets == [TARGET]
    assert (look_at_texts(file).mistakes, recipe_notes(file)) == ([], [])
    assert CliRunner().invoke(app, ["validate", "mine.yaml"]).exit_code == 0
    assert sorted(path.name for path in here.iterdir()) == ["base", "mine.yaml", "text"]


def test_every_line_is_explained(here: Path) -> None:
    """Each key has a comment in its line or below, or stands under one that has: nothing is left to guess."""
    _new("mine.yaml", "--yes", "--base", "base", "--corpus", "text")
    lines = (here / "mine.yaml").read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#") and "#" not in line:
            above, below = lines[number - 1].lstrip(), "\n".join(lines[number + 1 : number + 2]).lstrip()
            assert above.startswith("#") or below.startswith("#") or line == '  model: "base"', line


def test_it_asks_five_questions(here: Path) -> None:
    """What is not given is asked for, with what is usual; what is given is not."""
    status, out, _ = _new("a.yaml", input="base\ntext\n24\n\nnone\n")
    page = read_recipe(here / "a.yaml").recipe

    assert status == 0
    asked = re.findall(r"(base|corpus|card|hours|target): ", out)
    assert asked == ["base", "corpus", "card", "hours", "target"]
    assert "of 24." in out
    assert page.stages["lora"].watch.targets == []

    _, out, _ = _new("b.yaml", "--base", "base", "--corpus", "text", "--card", 24, "--target", "none", input="3\n")
    assert re.findall(r"(base|corpus|card|hours|target): ", out) == ["hours"]


def test_hours_and_texts_make_the_steps(here: Path) -> None:
    """Twice the hours are twice the steps of a large corpus; of a small one no more than four passes."""
    (here / "large").mkdir()
    with (here / "large" / "a.txt").open("wb") as file:  # sparse: only its beginning is read
        file.write("한국어 글\n".encode() * 9000)
        file.truncate(40_000_000_000)
    found = []
    for name, corpus, hours in (("one", "large", 0.02), ("two", "large", 0.04), ("small", "text", 1000)):
        assert _new(f"{name}.yaml", "--yes", "--base", "base", "--corpus", corpus, "--hours", hours)[0] == 0
        found.append(_arguments(here / f"{name}.yaml")["max_steps"])
    size = (here / "text" / "a.jsonl").stat().st_size

    assert found[1] == pytest.approx(2 * found[0], abs=2) and found[0] > 20
    assert found[2] == max(20, int(4 * size / 3 / 65_536))
    given = _arguments(here / "one.yaml")
    assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] * 2048 == 65_536


def test_a_base_of_few_positions(here: Path) -> None:
    """Its rows are as long as it reads, and the steps are those of so many tokens."""
    config = json.dumps({**CONFIG, "max_position_embeddings": 1024})
    (here / "base" / "config.json").write_text(config, "utf-8")
    assert _new("mine.yaml", "--yes", "--base", "base", "--corpus", "text", "--hours", 1000)[0] == 0
    assert read_recipe(here / "mine.yaml").recipe.data.sequence_length == 1024
    size = (here / "text" / "a.jsonl").stat().st_size
    assert _arguments(here / "mine.yaml")["max_steps"] == max(20, int(4 * size / 3 / 32_768))
    assert "# so often before a step, which has 32,768 tokens" in (here / "mine.yaml").read_text("utf-8")


def test_the_card_decides_how_it_is_loaded(here: Path) -> None:
    """What needs most memory and fits is taken; a card on which nothing fits is refused with what would do."""
    large = {**CONFIG, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 128256}
    (here / "base" / "config.json").write_text(json.dumps({**large, "num_attention_heads": 32}), "utf-8")
    ways = []
    for card in (80, 20, 14):
        path = here / f"on-{card}.yaml"
        assert _new(path, "--yes", "--base", "base", "--corpus", "text", "--card", card)[0] == 0
        page = read_recipe(path).recipe
        ways.append(page.base.quantization)
    status, _, said = _new("no.yaml", "--yes", "--base", "base", "--corpus", "text", "--card", 4)

    assert ways == ["none", "8-bit", "4-bit"]
    assert status == 2
    assert re.match(r"ko-cpt recipes new: card: found 4 GB, expected \d+ or more for base: in 4 bits, a row at", said)
    assert not (here / "no.yaml").exists()


def test_a_base_of_the_hub(here: Path) -> None:
    """Its memory is not known yet, and is not made up."""
    status, out, _ = _new("deep/mine.yaml", "--yes", "--base", "Qwen/Qwen3-8B", "--corpus", "text/*.jsonl")
    page = read_recipe(here / "deep" / "mine.yaml").recipe

    assert (status, page.base.model) == (0, "Qwen/Qwen3-8B")
    assert "its memory is known when the base is loaded" in out
    assert page.data.sources["ko"].files == "../text/*.jsonl"
    assert look_at_texts(read_recipe(here / "deep" / "mine.yaml")).mistakes == []


def test_another_field(here: Path) -> None:
    """Where the text has another name in the files, that is the one."""
    path = here / "text" / "a.jsonl"
    path.write_text(path.read_text("utf-8").replace('"text"', '"content"'), "utf-8")
    assert _new("mine.yaml", "--yes", "--base", "base", "--corpus", "text")[0] == 0

    assert read_recipe(here / "mine.yaml").recipe.data.sources["ko"].field == "content"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["mine.yaml", "--base", "base"], "--yes: found no --corpus, expected it too"),
        (["mine.yaml", "--corpus", "text"], "--yes: found no --base, expected it too"),
        (["mine.yaml", "--base", "base", "--corpus", "texts"], "corpus: found no text in texts, expected a folder or"),
        (["mine.yml", "--base", "base", "--corpus", "text"], "mine.yml: found a place that no recipe can have"),
        (["there.yaml", "--base", "base", "--corpus", "text"], "there.yaml: found something there already, expected a"),
        (["mine.yaml", "--base", "base", "--corpus", "text", "--hours", "0"], "--hours: found 0.0, expected hours"),
        (
            ["mine.yaml", "--base", "base", "--corpus", "text", "--target", "ppl"],
            'defaults.watch.targets[0]: found the text "ppl" (target ',
        ),
        (["mine.yaml", "--base", "base", "--corpus", "old.txt"], "data.sources.ko.files: found old.txt, which"),
    ],
)
def test_what_cannot_be_written(arguments: list[str], expected: str, here: Path) -> None:
    """Refused with status 2 and a reason; nothing is written or left behind."""
    (here / "there.yaml").write_text("mine", "utf-8")
    (here / "old.txt").write_bytes("한국어 글\n".encode("cp949"))
    status, _, said = _new("--yes", *arguments)

    assert status == 2
    assert said.startswith(f"ko-cpt recipes new: {expected}")
    assert (here / "there.yaml").read_text("utf-8") == "mine"
    assert sorted(path.name for path in here.iterdir()) == ["base", "old.txt", "text", "there.yaml"]


def test_force(here: Path) -> None:
    """It replaces what is there."""
    (here / "mine.yaml").write_text("mine", "utf-8")

    assert _new("mine.yaml", "--yes", "--force", "--base", "base", "--corpus", "text")[0] == 0
    assert read_recipe(here / "mine.yaml").recipe.stages
