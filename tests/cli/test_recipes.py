"""`ko-cpt recipes` and `ko-cpt validate`: the list, one of them, its memory, a copy, and all mistakes of a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from check.command import ROOT
from commands import offline
from typer.testing import CliRunner

from ko_cpt_callbacks.cli import recipes as module
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import ConfigurationError, RecipeError
from ko_cpt_callbacks.recipe.bundle import copy_recipe, find_recipe, recipe_ids
from ko_cpt_callbacks.recipe.memory import GIB, recipe_memory
from ko_cpt_callbacks.recipe.reading import read_recipe

if TYPE_CHECKING:
    from click.testing import Result

@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run(*arguments: object) -> Result:
    """``ko-cpt ARGUMENTS`` in this process; an exception that is not an exit is raised."""
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(*arguments: object) -> str:
    """What it prints, where it succeeds and complains of nothing."""
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(*arguments: object) -> list[str]:
    """The lines on stderr of exit status 2, where nothing is printed."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.splitlines()


# -- the list --------------------------------------------------------------------------------------------------------


def test_the_list() -> None:
    """Every recipe with id, title, stages and the GiB that it needs of one GPU."""
    text = done("recipes")

    for id in recipe_ids():
        page = read_recipe(find_recipe(id)).recipe
        line = next(line for line in text.splitlines() if line.startswith(f"{id} "))
        assert f"{max(memory.bytes for memory in recipe_memory(page)) / GIB:.1f}" in line
        assert page.title.split()[0] in line
    assert max(map(len, text.splitlines())) <= 120


def test_the_list_as_json() -> None:
    """A list of objects, one a recipe, each with at least id and title."""
    found = json.loads(done("recipes", "--json"))

    assert [item["id"] for item in found] == list(recipe_ids()) != []
    assert all(item["title"] == read_recipe(find_recipe(item["id"])).recipe.title for item in found)
    redwhale = next(item for item in found if item["id"] == "redwhale")
    assert redwhale["stages"] == ["embedding", "odd", "even", "lora"]
    assert (redwhale["parameters"], redwhale["baselines"]) == (10_871_377_920, ["redwhale"])
    assert Path(redwhale["file"]).is_file()


def test_a_broken_recipe_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are listed; what is wrong with it is on stderr."""
    read = module._read

    def half(recipe: str, overrides: list[str] | None = None) -> Any:
        if recipe == "eeve":
            raise RecipeError("eeve.yaml:3: found a hole, expected none.")
        return read(recipe, overrides)

    monkeypatch.setattr(module, "_read", half)
    result = run("recipes", "--json")

    assert [item["id"] for item in json.loads(result.stdout)] == [id for id in recipe_ids() if id != "eeve"]
    assert result.stderr == "ko-cpt recipes: eeve.yaml:3: found a hole, expected none.\n"


# -- one of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", recipe_ids())
def test_show_prints_the_file(id: str) -> None:
    """As it is, comments too: what is printed can be kept as a recipe."""
    assert done("recipes", "show", id) == find_recipe(id).read_text("utf-8")


def test_show_as_json() -> None:
    """What the list says, and all values of the file."""
    found = json.loads(done("recipes", "show", "thunder", "--json"))

    assert (found["format"], found["id"]) == (1, "thunder")
    assert found["recipe"]["data"]["mix"] == {"en": 54, "ko": 48}


@pytest.mark.parametrize("id", recipe_ids())
def test_show_gpu_memory(id: str) -> None:
    """Every stage with every term of its memory, and the sum."""
    text = done("recipes", "show", id, "--gpu-memory")
    for memory in recipe_memory(read_recipe(find_recipe(id)).recipe):
        part = text.split(f"\n\n{memory.stage}\n", 1)[1].split("\n\n", 1)[0]
        lines = part.splitlines()
        for term in memory.terms:
            size = f"{term.bytes / GIB:.1f}" if term.counted else f"({term.bytes / GIB:.1f})"
            assert any(line.startswith(f"  {term.name} ") and f" {size} " in line for line in lines), term
        assert any(line.split()[:2] == ["all", f"{memory.bytes / GIB:.1f}"] for line in lines)


def test_show_gpu_memory_as_json() -> None:
    """The same in bytes, for several GPUs and with other values."""
    page = read_recipe(find_recipe("redwhale"), ["data.sequence_length=1024"]).recipe
    how = ("--gpus", 8, "--sharding", "full", "--set", "data.sequence_length=1024")
    found = json.loads(done("recipes", "show", "redwhale", "--gpu-memory", "--json", *how))

    wanted = recipe_memory(page, gpus=8, sharding="full")
    assert [stage["bytes"] for stage in found["stages"]] == [memory.bytes for memory in wanted]
    assert [stage["trainable"] for stage in found["stages"]] == [memory.trainable for memory in wanted]
    for stage in found["stages"]:
        assert sum(term["bytes"] for term in stage["terms"] if term["counted"]) == stage["bytes"]
        assert (stage["gpus"], stage["sharding"]) == (8, "full")


def test_what_show_refuses() -> None:
    """An unknown id with the one that was meant; options that would mean nothing; shared quantised weights."""
    (line,) = refused("recipes", "show", "redwale")
    assert line.startswith("ko-cpt recipes show: recipe redwale: found no such id or file, expected one of ")
    assert line.endswith(" Did you mean redwhale?")
    assert refused("recipes", "show", "redwhale", "--gpus", 8) == [
        "ko-cpt recipes show: --gpus, --sharding and --set: found without --gpu-memory, expected with it"
    ]
    (line,) = refused("recipes", "show", "eeve", "--gpu-memory", "--gpus", 2, "--sharding", "full")
    assert "found full with a base in 4-bit, expected none or zero2" in line
    assert refused("recipes", "--json", "show", "redwhale") == [
        "ko-cpt recipes: --json: found before a command, expected after it"
    ]
    assert "is a variable unset?" in refused("recipes", "show", "")[0]


# -- a copy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", recipe_ids())
def test_a_copy_is_the_recipe(id: str, here: Path) -> None:
    """Without a path: ID.yaml here, byte for byte but for the comments' commands, and it is read as the same."""
    said = done("recipes", "copy", id)
    copy = here / f"{id}.yaml"
    lines = zip(copy.read_text("utf-8").splitlines(), find_recipe(id).read_text("utf-8").splitlines(), strict=True)

    assert said.startswith(f"{id}.yaml: written. ")
    assert read_recipe(copy).recipe == read_recipe(find_recipe(id)).recipe
    assert all(one == other or (one.startswith("#") and f"train {id}.yaml" in one) for one, other in lines)


@pytest.mark.parametrize("id", recipe_ids())
def test_a_copy_of_another_name_has_its_id(id: str, here: Path) -> None:
    """The id follows the file, so that the copy is valid; nothing else changes."""
    done("recipes", "copy", id, "deep/er/mine.yaml")
    copy = read_recipe(here / "deep" / "er" / "mine.yaml").recipe

    assert copy.id == "mine"
    assert copy == read_recipe(find_recipe(id)).recipe.model_copy(update={"id": "mine"})
    assert f"train {id}" not in (here / "deep" / "er" / "mine.yaml").read_text("utf-8").partition("\nid: ")[0]
    assert "ko-cpt train mine.yaml --resume" in (here / "deep" / "er" / "mine.yaml").read_text("utf-8")


def test_a_copy_into_a_folder(here: Path) -> None:
    """A folder that is there, or a path that ends in a slash, takes ID.yaml."""
    (here / "there").mkdir()
    done("recipes", "copy", "eeve", "there")
    done("recipes", "copy", "eeve", "new/")

    assert (here / "there" / "eeve.yaml").read_text() == (here / "new" / "eeve.yaml").read_text()


def test_a_copy_overwrites_nothing(here: Path) -> None:
    """What is there stays, a link that leads nowhere too; --force replaces it whole, and nothing is left beside it."""
    (here / "eeve.yaml").write_text("mine")
    (here / "link.yaml").symlink_to(here / "nowhere")
    assert refused("recipes", "copy", "eeve") == [
        "ko-cpt recipes copy: eeve.yaml: found something there already, expected a new name; or give --force"
    ]
    assert "found something there already" in refused("recipes", "copy", "eeve", "link.yaml")[0]
    assert (here / "eeve.yaml").read_text() == "mine"

    done("recipes", "copy", "eeve", "--force")
    assert read_recipe(here / "eeve.yaml").recipe.id == "eeve"
    assert sorted(path.name for path in here.iterdir()) == ["eeve.yaml", "link.yaml"]


@pytest.mark.parametrize("name", ["Mine.yaml", "mine.yml", "mine", "8bit.yaml", "my recipe.yaml", "a.b.yaml"])
def test_a_copy_has_a_recipe_s_name(name: str, here: Path) -> None:
    """A name that could not be an id is refused, and nothing is written."""
    (line,) = refused("recipes", "copy", "eeve", name)

    assert f"{name}: found a name that no recipe can have, expected small letters" in line
    assert list(here.iterdir()) == []


def test_a_copy_that_cannot_be_written(here: Path) -> None:
    """A place under a file, a folder of that name, an empty path: one line each, and nothing half written."""
    (here / "file").write_text("")
    (here / "folder.yaml" / "eeve.yaml").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"file/eeve.yaml: found .*, expected a place to write to"):
        copy_recipe("eeve", "file/eeve.yaml")
    with pytest.raises(ConfigurationError, match="found a folder, expected a file"):
        copy_recipe("eeve", "folder.yaml", force=True)
    assert "PATH: found an empty text" in refused("recipes", "copy", "eeve", "")[0]
    assert sorted(path.name for path in here.rglob("*")) == ["eeve.yaml", "file", "folder.yaml"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("id: quo", "id: mine"),
        ('id: "quo"', 'id: "mine"'),
        ("id: 'quo'", "id: 'mine'"),
        ("id: quo  # mine", "id: mine  # mine"),
        ('id: "quo" # a "name"', 'id: "mine" # a "name"'),
        ("id:   quo  ", "id:   mine  "),
        ('"id" : quo', '"id" : mine'),
        ("id: quo\r", "id: mine\r"),
    ],
)
def test_a_copy_has_its_id_however_it_is_spelt(line: str, expected: str, here: Path) -> None:
    """Quotation marks, comments and ends of lines stay, and all the rest byte for byte; the copy is valid."""
    text = "\ufeff" + find_recipe("eeve").read_text("utf-8").replace("id: eeve", line, 1)
    text = text.replace("\nseed:", "\r\nseed:", 1)
    (here / "quo.yaml").write_bytes(text.encode())
    done("recipes", "copy", "quo.yaml", "mine.yaml")

    assert (here / "mine.yaml").read_bytes() == text.replace(f"\n{line}\n", f"\n{expected}\n", 1).encode()
    assert read_recipe(here / "mine.yaml").recipe.id == "mine"


def test_a_copy_whose_name_is_another_word_of_yaml(here: Path) -> None:
    """``true`` is no text without quotation marks."""
    done("recipes", "copy", "eeve", "true.yaml")

    assert read_recipe(here / "true.yaml").recipe.id == "true"


def test_a_copy_of_what_cannot_be_read(here: Path) -> None:
    """A file that is no UTF-8, or no recipe for its size: one line, and nothing is written."""
    (here / "bytes.yaml").write_bytes(b"id: bytes\ntitle: \xb0\xa1\n")
    (here / "large.yaml").write_bytes(b"#" * 100_000)

    assert refused("recipes", "copy", "bytes.yaml", "mine.yaml") == [
        "ko-cpt recipes copy: bytes.yaml:2: found bytes that are no UTF-8, expected a text file in UTF-8."
    ]
    assert len(refused("recipes", "copy", "large.yaml", "mine.yaml")) == 1
    assert not (here / "mine.yaml").exists()


def test_names_that_are_too_long(here: Path) -> None:
    """One line each: a file that no system can have, a recipe's name beyond 64 letters, a folder's."""
    (line,) = refused("validate", f"{'a' * 300}.yaml")
    assert "found no such id or file" in line
    for name in (f"{'a' * 65}.yaml", f"{'a' * 300}.yaml"):
        (line,) = refused("recipes", "copy", "eeve", name)
        assert "found a name that no recipe can have, expected small letters" in line
    (line,) = refused("recipes", "copy", "eeve", f"{'a' * 300}/mine.yaml")
    assert "expected a place to write to" in line
    done("recipes", "copy", "eeve", f"{'a' * 64}.yaml")
    done("validate", f"{'a' * 64}.yaml")


# -- validate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", recipe_ids())
def test_validate(id: str) -> None:
    """By id and by file: what was checked, what was not, and the memory."""
    page = read_recipe(find_recipe(id)).recipe
    for name in (id, find_recipe(id)):
        text = done("validate", name)

        assert text.startswith(f"{name}: recipe {id}, {len(page.stages)} stage")
        assert f"{max(memory.bytes for memory in recipe_memory(page)) / GIB:.1f} GiB on one GPU" in text
        told, *notes = text.splitlines()
        assert "its arguments' names, kinds, words and ranges for the installed transformers. Not checked: " in told
        assert told.endswith(", which ko-cpt train asks before it loads anything.")
        assert all(line.startswith(("note: not looked at: ", "note: stages.", "note: for a copy")) for line in notes)
        assert not any("arguments" in line for line in notes)  # a bundled recipe says nothing unusual


def test_validate_doubts_a_target(here: Path) -> None:
    """A target that no run comes near is a line of its own; the recipe is right all the same."""
    path = copy_recipe("redwhale", None)
    text = path.read_text("utf-8")
    path.write_text(text.replace("eval_ko_bits_per_byte<0.895@end", "eval_ko_bits_per_byte<0.4@end"), "utf-8")
    doubt = [line for line in done("validate", "./redwhale.yaml").splitlines()[1:] if "not looked at" not in line]
    assert [line.split(":")[0] for line in doubt] == ["warning"]
    assert doubt[0].startswith("warning: stages.lora.watch.targets: Target eval_ko_bits_per_byte<0.4@end is implaus")


def test_validate_tells_every_mistake(here: Path) -> None:
    """All together, each with file and line, key, found, expected and the word that was meant; exit status 2."""
    text = find_recipe("redwhale").read_text("utf-8")
    for old, new in (
        ("hidden_size: 4096", "hiden_size: 4096"),
        ("dtype: bfloat16", "dtype: bf16"),
        ("mix: {ko: 1}", "mix: {kr: 1}"),
        ("stage: odd-layers", "stage: odd-layer"),
        ("stop_on: [non-finite]", "stop_on: [nonfinite]"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    (here / "redwhale.yaml").write_text(text, "utf-8")
    lines = refused("validate", "./redwhale.yaml")
    keys = [line.split(": ")[2] for line in lines]
    rows = text.splitlines()

    assert all(line.startswith("ko-cpt validate: redwhale.yaml:") for line in lines)
    wanted = [
        "base.shape.hidden_size", "base.shape.hiden_size", "base.dtype", "data.mix.kr",
        "stages.embedding.watch.stop_on[0]", "stages.odd.watch.stage",
    ]  # fmt: skip
    assert sorted(keys) == sorted(wanted)
    for line, key in zip(lines, keys, strict=True):
        number = int(line.split(":")[2].strip())
        if key != "base.shape.hidden_size":  # of a key that is not there: the mapping around it
            assert key.replace("[0]", "").rpartition(".")[2] in rows[number - 1]
    assert "Did you mean hidden_size?" in "".join(lines)
    assert "Did you mean odd-layers?" in "".join(lines)
    assert "Did you mean non-finite?" in "".join(lines)


def test_validate_tells_wrong_arguments(here: Path) -> None:
    """Names that there are not, those that the runner sets itself, wrong kinds and ranges: each with its line."""
    text = find_recipe("eeve").read_text("utf-8")
    for old, new in (
        ("learning_rate: 2e-4", "learning_rat: 2e-4"),
        ("max_steps: 2435", "max_steps: all"),
        ("per_device_eval_batch_size: 4", "per_device_eval_batch_size: abc"),
        ("per_device_train_batch_size: 4", "per_device_train_batch_size: 0"),
        ("report_to: none", "report_to: none, output_dir: here"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    (here / "eeve.yaml").write_text(text, "utf-8")
    first = next(number for number, row in enumerate(text.splitlines(), 1) if "    arguments: {" in row)
    last = next(number for number, row in enumerate(text.splitlines(), 1) if "max_steps: all" in row)
    way = "stages.new-input.arguments"

    assert refused("validate", "eeve.yaml") == [
        f"ko-cpt validate: {line}"
        for line in (
            f"eeve.yaml:{first}: {way}.per_device_train_batch_size: found 0, expected at least 1.",
            f'eeve.yaml:{first + 1}: {way}.per_device_eval_batch_size: found the text "abc", expected a whole number.',
            f"eeve.yaml:{first + 1}: {way}.learning_rat: found an unknown argument, expected an argument of the "
            "installed transformers.TrainingArguments. Did you mean learning_rate?",
            f"eeve.yaml:{first + 3}: {way}.output_dir: found an argument that ko-cpt train sets itself, expected none "
            "of output_dir, seed, data_seed, disable_tqdm, resume_from_checkpoint, push_to_hub.",
            f'eeve.yaml:{last}: stages.all-layers.arguments.max_steps: found the text "all", expected a whole number.',
        )
    ]


@pytest.mark.parametrize("name", ["per_device_train_batch_size", "per_device_eval_batch_size"])
@pytest.mark.parametrize("value", ["abc", "0", "2.5", "[4]", "null"])
def test_memory_of_a_wrong_batch(name: str, value: str) -> None:
    """A batch that is no number of rows is told, and nothing is counted; one that is not named is the class's."""
    key = f"stages.all-layers.arguments.{name}"
    (line,) = refused("recipes", "show", "eeve", "--gpu-memory", "--set", f"{key}={value}")

    assert line.startswith(f"ko-cpt recipes show: --set: {key}: found ")
    few = {"max_steps": 4}
    given = read_recipe(find_recipe("eeve"), [f"stages.all-layers.arguments={json.dumps({**few, name: 8})}"]).recipe
    absent = read_recipe(find_recipe("eeve"), [f"stages.all-layers.arguments={json.dumps(few)}"]).recipe
    assert recipe_memory(given) == recipe_memory(absent)


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "an empty file"), ("- a\n", "expected a mapping"), ("a: [\n", "no YAML"), ("a: 1\na: 2\n", "a second time")],
)
def test_validate_what_is_no_recipe(here: Path, text: str, found: str) -> None:
    """An empty file, a list, broken YAML, a key twice: said, never a traceback."""
    (here / "bad.yaml").write_text(text)

    assert any(found in line for line in refused("validate", "bad.yaml"))


def test_validate_a_file_that_is_not_there() -> None:
    """One line."""
    (line,) = refused("validate", "nowhere.yaml")

    assert line.startswith("ko-cpt validate: recipe nowhere.yaml: found no such id or file, expected one of ")


# -- without the heavy libraries -------------------------------------------------------------------------------------


WITHOUT_TORCH = ("recipes", "recipes --json", "recipes show eeve --gpu-memory", "recipes copy eeve", "validate eeve")


def test_without_torch(here: Path) -> None:
    """Each command works where torch, transformers and the like cannot be imported."""
    ended = offline(*(command.split() for command in WITHOUT_TORCH), folder=here)
    for command, found in zip(WITHOUT_TORCH, ended, strict=True):
        assert (found.returncode, found.stderr) == (0, ""), command
        assert "eeve" in found.stdout
        # What it cannot know then it says.
        said = "Not checked: names and kinds of its arguments" in found.stdout
        assert said == command.startswith("validate")


def test_a_wrong_batch_without_torch(here: Path) -> None:
    """What the memory is counted with is checked where no transformers can be asked, too."""
    name = "per_device_eval_batch_size"
    text = find_recipe("eeve").read_text("utf-8").replace(f"{name}: 4", f"{name}: x")
    (here / "wrong.yaml").write_text(text, "utf-8")
    (found,) = offline(["validate", "wrong.yaml"], folder=here)

    assert (found.returncode, found.stdout) == (2, "")
    assert len(found.stderr.splitlines()) == text.count(f"{name}: x") > 1


def test_validate_imports_nothing_heavy() -> None:
    """The installed class's arguments are known without importing it."""
    script = (
        "import sys\nfrom ko_cpt_callbacks.recipe.bundle import find_recipe\n"
        "from ko_cpt_callbacks.recipe.reading import read_recipe\n"
        "from ko_cpt_callbacks.recipe.installed import installed_arguments\n"
        "read_recipe(find_recipe('eeve'))\n"
        "print(len(installed_arguments()) > 100, {'torch', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert (found.stdout, found.stderr) == ("True set()\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["recipes", "--json"], ["validate", "eeve"]], ids=" ".join)
def test_an_output_that_is_full(arguments: list[str], here: Path) -> None:
    """One line and exit status 2 where nothing can be written, and no traceback."""
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "ko_cpt_callbacks", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"},
        )

    assert found.returncode == 2
    assert found.stderr == "ko-cpt: standard output: found No space left on device, expected a place to write to\n"
