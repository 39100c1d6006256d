"""The plan of a staged training: what is accepted, and what is refused before a stage's folder is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from check.staged import write_plan

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.reading import PLAN_FILE, read_plan, read_run
from ko_cpt_callbacks.training.folder import RecipeFolder

TWO = [{"name": "embedding", "folder": "stages/01-embedding"}, {"name": "odd layers", "folder": "stages/02-odd/"}]


def _plan(*stages: Any, **more: Any) -> dict[str, Any]:
    return {"format": 1, "stages": list(stages), **more}


def test_stages_in_order(tmp_path: Path) -> None:
    """Names, folders as written, and where they are; whether they exist is another question."""
    file = write_plan(tmp_path, _plan(*TWO, recipe={"id": "x"}, finished=False))
    found = read_plan(tmp_path)
    assert found is not None
    assert (found.path, found.file) == (tmp_path, file)
    assert [(stage.name, stage.folder) for stage in found.stages] == [
        ("embedding", "stages/01-embedding"), ("odd layers", "stages/02-odd/")
    ]  # fmt: skip
    assert [stage.path for stage in found.stages] == [tmp_path / "stages/01-embedding", tmp_path / "stages/02-odd"]


def test_no_plan(tmp_path: Path) -> None:
    """A folder without a plan, a file, and a path that is not there have none."""
    (tmp_path / "file.json").write_text("{}", "utf-8")
    assert [read_plan(path) for path in (tmp_path, tmp_path / "file.json", tmp_path / "nope")] == [None] * 3


def test_a_plan_that_names_its_own_folder_is_an_ordinary_run(tmp_path: Path) -> None:
    """A plan of one stage that names the folder itself, as the first version wrote them: no plan to judge by."""
    write_plan(tmp_path, _plan({"name": "lora", "folder": "."}))
    assert read_plan(tmp_path) is None


def test_a_recipes_stages_are_a_plan(tmp_path: Path) -> None:
    """What `ko-cpt train` writes names a folder for each stage, in order."""
    RecipeFolder(tmp_path, {"id": "tiny", "stages": {"embedding": {}, "lora": {}}}).open()
    assert (tmp_path / "ko_cpt" / PLAN_FILE).is_file()
    found = read_plan(tmp_path)
    assert found is not None
    assert [(stage.name, stage.folder) for stage in found.stages] == [
        ("embedding", "stages/01-embedding"), ("lora", "stages/02-lora")
    ]  # fmt: skip


def test_a_stage_of_its_own_is_a_plan(tmp_path: Path) -> None:
    """A single stage with a folder of its own is a staged training of one."""
    write_plan(tmp_path, _plan(TWO[0]))
    found = read_plan(tmp_path)
    assert found is not None and len(found.stages) == 1


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("/etc", "'/etc'"),
        ("../other", "'../other'"),
        ("stages/../../other", "'stages/../../other'"),
        ("stages\\01", "'stages\\\\01'"),
        ("C:/runs", "'C:/runs'"),
        (".", "'.'"),
        ("", "''"),
        ("  ", "'  '"),
        ("a\nb", "'a\\nb'"),
        ("a\x00b", "'a\\x00b'"),
        ("\ud800", "'\\ud800'"),
        (None, "None"),
        (7, "7"),
    ],
)
def test_a_folder_outside(tmp_path: Path, folder: object, found: str) -> None:
    """Absolute, upwards, of another system, empty, or no text: refused with file, key and what was found."""
    write_plan(tmp_path, _plan(TWO[0], {"name": "odd", "folder": folder}))
    with pytest.raises(UnreadableRunError) as error:
        read_plan(tmp_path)
    text = str(error.value)
    assert text.startswith(f"{tmp_path / 'ko_cpt' / 'plan.json'}: stages[1].folder: found {found}, expected a ")
    assert text.endswith("name a stage's own folder to judge it alone")
    assert text.isprintable()


def test_a_link_that_leads_out(tmp_path: Path) -> None:
    """A stage's folder, or a folder on its way, that is a link out of the run is refused; one inside is not."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    write_plan(run, _plan(*TWO))
    (run / "stages").symlink_to(outside)
    with pytest.raises(UnreadableRunError, match=r"stages\[0\]\.folder: found .*, a link that leads out of the run"):
        read_plan(run)
    (run / "stages").unlink()
    (run / "real" / "01-embedding").mkdir(parents=True)
    (run / "stages").symlink_to("real")
    assert read_plan(run) is not None


def test_a_circle_of_links(tmp_path: Path) -> None:
    """Links that lead to each other are refused, and nothing hangs."""
    write_plan(tmp_path, _plan(*TWO))
    (tmp_path / "stages").symlink_to("other")
    (tmp_path / "other").symlink_to("stages")
    with pytest.raises(UnreadableRunError, match="a link that leads out of the run"):
        read_plan(tmp_path)


def test_a_run_that_is_itself_reached_by_a_link(tmp_path: Path) -> None:
    """The run's own folder may be a link: what counts is where its stages are beside it."""
    write_plan(tmp_path / "run", _plan(*TWO))
    (tmp_path / "link").symlink_to("run")
    assert read_plan(tmp_path / "link") is not None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", ":1: JSON cut off or damaged"),
        ("", ":1: JSON cut off or damaged"),
        ("[" * 100_000, ": JSON cut off or damaged"),
        ([], "the whole file: found a list, expected an object"),
        ({"stages": TWO}, '"format" is None, expected 1'),
        ({"format": True, "stages": TWO}, '"format" is True, expected 1'),
        ({"format": 2, "stages": TWO}, '"format" is 2, expected 1; a newer ko-cpt reads it'),
        ({"format": 1}, "stages: found null, expected a list of stages"),
        ({"format": 1, "stages": []}, "stages: found an empty list"),
        ({"format": 1, "stages": {"lora": {}}}, "stages: found an object"),
        (_plan("embedding"), 'stages[0]: found a text, expected an object with "name" and "folder"'),
        (_plan({"folder": "a"}), "stages[0].name: found None, expected a text"),
        (_plan({"name": "a"}), "stages[0].folder: found None, expected a text"),
        (_plan(TWO[0], {"name": "embedding", "folder": "b"}), "stages[1].name: found 'embedding' a second time"),
        (_plan(TWO[0], {"name": "b", "folder": "stages//01-embedding/"}), "stages[1].folder: found "),
    ],
)
def test_a_broken_plan(tmp_path: Path, value: object, said: str) -> None:
    """One line that names the file, the key, what was found and what was expected."""
    write_plan(tmp_path, value)
    with pytest.raises(UnreadableRunError) as error:
        read_plan(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_one_run_is_asked_for_where_there_is_a_plan(tmp_path: Path) -> None:
    """Whoever wants one run of a plan's folder is told the stages' folders."""
    write_plan(tmp_path, json.dumps(_plan(*TWO)))
    with pytest.raises(UnreadableRunError, match=r"found the plan of a staged training, .*; name a stage: "):
        read_run(tmp_path)
