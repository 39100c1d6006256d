"""Every recipe of the package: the folder is the collection, its numbers have sources, its parts exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from ko_cpt_callbacks import Recipe
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.errors import RecipeError
from ko_cpt_callbacks.recipe import reading
from ko_cpt_callbacks.recipe.bundle import bundled_folder, find_recipe, recipe_ids
from ko_cpt_callbacks.recipe.family import count_page
from ko_cpt_callbacks.recipe.memory import GIB, SHARDINGS, recipe_memory
from ko_cpt_callbacks.recipe.parameter_count import stage_lora
from ko_cpt_callbacks.recipe.reading import RecipeFile, read_recipe
from ko_cpt_callbacks.training.model.layout import empty_model
from ko_cpt_callbacks.yaml.mistake import dotted

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes"
FILES = sorted(FOLDER.glob("*.yaml"))
EVERY = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
GUIDE = (FOLDER / "README.md").read_text("utf-8")

# Every system of the research note, and each way of working.
PROMISED = {
    "quickstart", "redwhale", "redwhale-a6000-8bit", "eeve", "thunder", "polyglot-scratch", "dag-sft",
    "medgemma-a6000-8bit",
}  # fmt: skip


@cache
def _file(id: str) -> RecipeFile:
    return read_recipe(find_recipe(id))


def _numbers(value: Any, key: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys of all numbers."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, (*key, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _numbers(item, (*key, place))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield key


def test_the_folder_is_the_collection() -> None:
    """There are recipes, listed by their files' names, found inside the package, and all that were promised."""
    assert {path.stem for path in FILES} == set(recipe_ids()) >= PROMISED
    assert Path(str(bundled_folder())).resolve() == FOLDER


@EVERY
def test_the_id_is_the_file_s_name(path: Path) -> None:
    """By its id and by its path it is the same recipe, with a title of one line."""
    recipe = _file(path.stem).recipe

    assert recipe.id == path.stem
    assert recipe == read_recipe(path).recipe
    assert 0 < len(recipe.title) <= 80
    assert "\n" not in recipe.title


@EVERY
def test_every_number_has_a_source(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted here, not where recipes are read: each number's key, or what it begins with, is under source; and
    without its sources the recipe is refused, every unsourced number by itself."""
    values = dict(_file(path.stem).document.values)
    sources = values.pop("source")
    wanted = [dotted(key) for key in _numbers(values)]
    monkeypatch.setattr(reading, "is_bundled", lambda path: True)
    bare = tmp_path / path.name
    bare.write_text(path.read_text("utf-8").partition("\nsource:\n")[0] + "\nsource: {}\n", "utf-8")
    with pytest.raises(RecipeError) as error:
        read_recipe(bare)

    assert wanted
    for number in wanted:
        assert any(number == entry or number.startswith((f"{entry}.", f"{entry}[")) for entry in sources), number
        assert f" {number}: found a number without a source" in str(error.value)


@EVERY
def test_grades_are_named(path: Path) -> None:
    """A source that speaks of a baseline names one that is there."""
    for text in _file(path.stem).recipe.source.values():
        for name in re.findall(r"baseline ([\w.-]+\w)", text):
            assert find_baseline(name).id == name


@EVERY
def test_baselines_and_stages_are_there(path: Path) -> None:
    """Each stage that is compared names a baseline's stage that trains the same, as far as that is stated."""
    page = _file(path.stem).recipe
    for name, stage in page.stages.items():
        if stage.watch.baseline is None:
            assert path.stem == "quickstart"
            continue
        other = find_baseline(stage.watch.baseline).stage(stage.watch.stage)
        if other.trains is None:
            continue
        found = {"input": stage.trains.input, "output": stage.trains.output, "layers": stage.trains.layers}
        for part, said in found.items():
            stated = str(getattr(other.trains, part))
            assert stated in (said, "not stated"), (name, part)


@EVERY
def test_adapters_are_put_on_something(path: Path) -> None:
    """Each of LoRA's target modules is a linear layer of the family."""
    page = _file(path.stem).recipe
    known = {linear.name for linear in count_page(page).linears}
    for name in page.stages:
        lora = stage_lora(page, name)
        assert lora is None or set(lora.target_modules) <= known


@EVERY
def test_what_is_downloaded_is_fixed(path: Path) -> None:
    """A model or a data set of the hub has its commit; nothing else has one. Of one model none was found that could be
    checked, and its recipe says so."""
    page = _file(path.stem).recipe
    if path.stem == "dag-sft":
        assert page.base.revision is None
        assert "no revision: none was found that could be checked" in path.read_text("utf-8")
    elif page.base.model is not None:
        assert re.fullmatch(r"[0-9a-f]{40}", str(page.base.revision))
    for source in page.data.sources.values():
        assert (source.hub is None) == (source.revision is None)
        assert source.revision is None or re.fullmatch(r"[0-9a-f]{40}", source.revision)


@EVERY
def test_the_installed_libraries_take_it(path: Path, tmp_path: Path) -> None:
    """For each stage: arguments, adapter, quantisation and callback can be made; what is held out is evaluated."""
    recipe = Recipe(_file(path.stem))
    shape = recipe.page.base.sizes
    family = "gemma3_text" if shape.family == "gemma3" else shape.family
    model = empty_model(AutoConfig.for_model(family, **shape.model_dump(exclude={"family"}, exclude_none=True)))
    for stage in recipe.stages:
        # No accelerator here: 16-bit is asked of the CPU.
        arguments = recipe.training_arguments(stage, tmp_path, use_cpu=True)
        recipe.lora_config(stage, model)
        recipe.callback(stage)
        assert arguments.eval_strategy == "steps"
        assert (arguments.save_steps, arguments.report_to) == (arguments.eval_steps, []) or path.stem == "quickstart"
    recipe.quantization_config()


@EVERY
def test_it_fits_the_cards_that_the_guide_names(path: Path) -> None:
    """The guide has a row for it, and each GiB in it is that of the formula; the cards it names are larger."""
    rows = [row for row in _guide_rows() if row[0] == path.stem]
    page = _file(path.stem).recipe

    assert rows
    for _, gpus, sharding, said, cards in rows:
        assert sharding in SHARDINGS
        needed = max(memory.bytes for memory in recipe_memory(page, gpus=int(gpus), sharding=sharding)) / GIB
        assert said == f"{needed:.1f}"
        named = [int(size) for size in re.findall(r"(\d+) GB", cards)]
        assert all(needed * 1.1 < size for size in named if f"{size} GB (tight)" not in cards)
        assert all(needed < size for size in named)


def _guide_rows() -> list[list[str]]:
    pattern = r"^\| `([\w-]+)` \| (\d+) \| (\w+) \| ([\d.]+) \| ([^|]+) \| [^|]+ \|$"
    return [list(row) for row in re.findall(pattern, GUIDE, re.MULTILINE)]


def test_the_guide_has_no_other_rows() -> None:
    """Every row of the guide's table is read by the test above, and is of a recipe that is there."""
    table = GUIDE.split("## Which one, for which card\n\n", 1)[1].split("\n\n")[0]

    assert len(_guide_rows()) == len(table.splitlines()) - 2
    assert {row[0] for row in _guide_rows()} == set(recipe_ids())


def test_the_guide_s_example_is_the_formula_s() -> None:
    """What the guide says of a large vocabulary, digit by digit."""
    (memory,) = recipe_memory(_file("medgemma-a6000-8bit").recipe)
    size = {term.name: term.bytes / GIB for term in memory.terms}
    matrices = 2 * 282_784 * 2560 / GIB
    around = matrices * 2 * 3 + matrices / 2 * 8 + matrices / 2 * 2

    assert f"2,048 tokens of logits need {size['logits']:.1f} GiB" in GUIDE.replace("\n", " ")
    assert f"in 8 bits ({size['blocks']:.1f} GiB)" in GUIDE.replace("\n", " ")
    assert f"another {around:.0f}." in GUIDE


def test_readme_s_table() -> None:
    """The tables of both languages name every recipe with one of the guide's figures, and no other recipe."""
    for name, heading in (("docs/recipes.md", "## Recipes"), ("docs/ko/recipes.md", "## 들어 있는 레시피")):
        part = (ROOT / name).read_text("utf-8").split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
        rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([\d.]+) \|$", part, re.MULTILINE))

        assert set(rows) == set(recipe_ids())
        for id, said in rows.items():
            assert said in {row[3] for row in _guide_rows() if row[0] == id}, (name, id)


# -- what each system is ---------------------------------------------------------------------------------------------


def _tokens(id: str, gpus: int) -> dict[str, int]:
    """Tokens of each stage, all rows taken for full."""
    page = _file(id).recipe
    found = {}
    for name, stage in page.stages.items():
        given = stage.arguments
        rows = given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] * gpus
        found[name] = given["max_steps"] * rows * page.data.sequence_length
    return found


def test_redwhale() -> None:
    """49,072 rows, 9.7B tokens in four stages on eight cards, 4.6 % trained by LoRA; on one card the same stages."""
    whole, small = (_file(id).recipe for id in ("redwhale", "redwhale-a6000-8bit"))
    layers = [stage.trains.layers for stage in whole.stages.values()]
    trained = {memory.stage: memory.trainable for memory in recipe_memory(whole)}

    assert count_page(whole).rows == count_page(small).rows == 49_072
    assert sum(_tokens("redwhale", 8).values()) == pytest.approx(9.7e9, rel=0.001)
    assert layers == [stage.trains.layers for stage in small.stages.values()] == ["none", "odd", "even", "all"]
    assert trained["lora"] / count_page(whole).total == pytest.approx(0.046, abs=0.0005)
    assert (whole.base.quantization, small.base.quantization) == ("none", "8-bit")
    assert sum(_tokens("redwhale-a6000-8bit", 1).values()) == pytest.approx(65e6, rel=0.01)


def test_eeve() -> None:
    """40,960 rows, seven stages, the first token's row for the head, 2B tokens."""
    page = _file("eeve").recipe
    trains = [(stage.trains.input, stage.trains.output, stage.trains.layers) for stage in page.stages.values()]

    assert count_page(page).rows == 40_960
    assert trains == [
        ("new", "none", "none"), ("none", "new", "none"), ("new", "new", "none"), ("none", "all", "none"),
        ("new", "all", "none"), ("all", "all", "all"), ("none", "none", "all"),
    ]  # fmt: skip
    assert page.tokenizer is not None
    assert (page.tokenizer.extend.new_input_rows, page.tokenizer.extend.new_output_rows) == ("mean", "first")
    assert sum(_tokens("eeve", 1).values()) == pytest.approx(2e9, rel=0.001)


def test_thunder() -> None:
    """54 parts of English to 48 of Korean in tokens, 1,024 rows of 8,192 a step on eight cards, 102B tokens."""
    page = _file("thunder").recipe

    assert (page.data.mix, page.data.mix_by) == ({"en": 54, "ko": 48}, "tokens")
    assert sum(_tokens("thunder", 8).values()) == pytest.approx(102e9, rel=0.001)
    assert page.stages["whole"].arguments["learning_rate"] == 1.2e-4


def test_polyglot_is_from_scratch() -> None:
    """Random weights, the shape of Polyglot-Ko 1.3B, 102,000 steps and 213B tokens."""
    page = _file("polyglot-scratch").recipe

    assert page.base.build is not None and page.base.build.pretraining is None
    assert count_page(page).total == 1_331_810_304 - 2 * 2048 * (30_080 - 30_003)
    assert page.stages["whole"].arguments["max_steps"] == 102_000
    assert sum(_tokens("polyglot-scratch", 8).values()) == pytest.approx(213e9, rel=0.005)


def test_dag_is_instruction_tuning() -> None:
    """Judged as SFT, answers after prompts, 2,048 rows a step on eight cards at 3e-5."""
    page = _file("dag-sft").recipe
    given = page.stages["whole"].arguments

    assert page.task == "sft"
    assert all(source.prompt for source in page.data.sources.values())
    assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] * 8 == 2048
    assert given["learning_rate"] == 3e-5


def test_medgemma_is_the_note_s_run() -> None:
    """282,784 rows (63 of them spare in Gemma), rank 64, 64 rows a step, 70,000 rows; the presets are asked of ko."""
    recipe = Recipe(_file("medgemma-a6000-8bit"))
    page, given = recipe.page, recipe.page.stages["lora"].arguments
    targets = recipe.callback("lora")._spec.targets

    assert page.tokenizer is not None
    assert 262_145 + page.tokenizer.extend.tokens == 282_721
    assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] == 64
    assert given["max_steps"] * 64 == pytest.approx(70_000, abs=64)
    assert page.stages["lora"].watch.targets == ["korean-loss-3", "korean-ppl-30"]
    assert {target.split for target in targets} == {"eval_ko"}
