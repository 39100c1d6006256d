"""What a folder holds decides what may happen in it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from training.made_checkpoint import checkpoint
from writers import holding

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.training.folder import RecipeFolder, check_whole, locked, whole_folder

RECIPE = {"id": "tiny", "stages": {"lora": {"arguments": {"max_steps": 6}}}}


def test_a_new_folder_is_taken(tmp_path: Path) -> None:
    """A folder that is not there, or empty, becomes the run's; it is begun and not finished."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new", tmp_path / "empty"):
        folder = RecipeFolder(path, RECIPE)
        assert not folder.started
        folder.open()
        assert folder.started and not folder.finished
        folder.note("finished", True)
        assert RecipeFolder(path, RECIPE).finished


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A folder with something else in it, or a file in its place, is refused."""
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")
    for path, found in ((tmp_path, "something that is no run of ko-cpt train"), (tmp_path / "thesis.txt", "a file")):
        with pytest.raises(ConfigurationError, match=f"found {found}, expected an empty or a new folder"):
            RecipeFolder(path, RECIPE).open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    """It is told in one line, before anything is trained."""
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(ConfigurationError, match="found a place that cannot be written to"):
        RecipeFolder(tmp_path / "file" / "run", RECIPE).open()


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    """The values that differ are named, also one that only one of the two has."""
    RecipeFolder(tmp_path, RECIPE).open()
    RecipeFolder(tmp_path, RECIPE).open()
    other = {"id": "tiny", "seed": 1, "stages": {"lora": {"arguments": {"max_steps": 7}}}}
    with pytest.raises(ConfigurationError, match=r"differs in seed, stages\.lora\.arguments\.max_steps\)"):
        RecipeFolder(tmp_path, other).open()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"finished": "x"'])
def test_a_damaged_plan(text: str, tmp_path: Path) -> None:
    """It is never taken for a plan of this run."""
    folder = RecipeFolder(tmp_path, RECIPE)
    folder.open()
    folder.plan.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError):
        RecipeFolder(tmp_path, RECIPE).open()


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    """What fails while it is filled leaves nothing at the place, and is no hindrance to the next attempt."""
    place = tmp_path / "model"

    def fill(fail: bool) -> None:
        with whole_folder(place) as part:
            (part / "weights").write_text("x", "utf-8")
            if fail:
                raise RuntimeError("full disk")

    with pytest.raises(RuntimeError):
        fill(True)
    assert not place.exists()
    fill(False)
    fill(False)
    assert sorted(path.name for path in place.iterdir()) == ["sha256.json", "weights"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_refused_run_gives_its_folder_back(tmp_path: Path) -> None:
    """Where a recipe could not be used and nothing was trained, the mended one takes the folder; rows stay. Once there
    is something to go on with, the folder is kept."""
    folder = RecipeFolder(tmp_path, RECIPE)
    folder.open()
    (folder.data / "abc").mkdir(parents=True)
    folder.base_tokenizer.mkdir(parents=True)
    folder.give_back()
    assert not folder.started and not folder.base.exists() and (folder.data / "abc").is_dir()
    mended = RecipeFolder(tmp_path, {**RECIPE, "seed": 1})
    mended.open()
    assert mended.started
    for made in (mended.base_model, mended.stage("lora"), mended.base):
        made.mkdir(parents=True, exist_ok=True)
        if made == mended.base:
            checkpoint(made, 3)
        mended.give_back()
        assert mended.started and made.exists()
        shutil.rmtree(made)


def test_a_kill_before_the_first_plan_is_no_hindrance(tmp_path: Path) -> None:
    """What was half-written, hidden, in the plan's folder is the run's own; anything else there is not."""
    (tmp_path / "ko_cpt").mkdir()
    RecipeFolder(tmp_path, RECIPE).open()
    other = tmp_path / "other"
    (other / "ko_cpt").mkdir(parents=True)
    (other / "ko_cpt" / ".plan.json.12.tmp").write_text("{", "utf-8")
    folder = RecipeFolder(other, RECIPE)
    folder.open()
    assert folder.started
    foreign = tmp_path / "foreign"
    (foreign / "ko_cpt").mkdir(parents=True)
    (foreign / "ko_cpt" / "thesis.txt").write_text("years of work", "utf-8")
    with pytest.raises(ConfigurationError, match="found something that is no run"):
        RecipeFolder(foreign, RECIPE).open()


def test_what_a_run_was_begun_with(tmp_path: Path) -> None:
    """A fact is noted once, kept when the run ends, and told where a later one differs."""
    folder = RecipeFolder(tmp_path, RECIPE)
    folder.open()
    assert folder.agree("processes", 2) is None
    assert RecipeFolder(tmp_path, RECIPE).agree("processes", 2) is None
    assert folder.agree("processes", 1) == 2
    folder.note("finished", True)
    assert folder.finished and folder.agree("processes", 1) == 2
    folder.note("processes", None)
    assert folder.agree("processes", 1) is None


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """Who comes while another process holds the folder is told which it is; when that one has gone it is free."""
    with holding(tmp_path) as process:
        with (
            pytest.raises(ConfigurationError, match=rf"still in progress there \(process {process}\)"),
            locked(tmp_path, tmp_path / "run"),
        ):
            pass
        assert (tmp_path / ".lock").read_text("ascii") == str(process), "who was refused leaves no trace"
    for _ in range(2):
        with locked(tmp_path, tmp_path / "run"):
            assert (tmp_path / ".lock").read_text("ascii") == str(os.getpid())


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    """A place that cannot be written to is told in one line."""
    (tmp_path / "file").write_text("x", "utf-8")
    with (
        pytest.raises(ConfigurationError, match="found a place that cannot be written to"),
        locked(tmp_path / "file", tmp_path),
    ):
        pass


def test_checksums_of_a_folder(tmp_path: Path) -> None:
    """A file changed, gone or unreadable is named with the remedy; one more file, or no checksums, is no damage."""
    place = tmp_path / "model"
    with whole_folder(place) as part:
        (part / "inner").mkdir()
        (part / "inner" / "weights").write_bytes(bytes(1000))
        (part / "empty").write_bytes(b"")
    check_whole(place, "delete it")
    (place / "more").write_text("x", "utf-8")
    check_whole(place, "delete it")
    (place / "empty").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match=r"model/empty: found other bytes .*; delete it$"):
        check_whole(place, "delete it")
    (place / "empty").unlink()
    with pytest.raises(ConfigurationError, match=r"model/empty: found no file.*; delete it$"):
        check_whole(place, "delete it")
    for text in ("", "[1]", "{}", "[" * 100_000):
        (place / "sha256.json").write_text(text, "utf-8")
        with pytest.raises(ConfigurationError, match=r"sha256\.json: found nothing that can be read.*; delete it$"):
            check_whole(place, "delete it")
    (place / "sha256.json").unlink()
    check_whole(place, "delete it")
    check_whole(tmp_path / "nothing", "delete it")


def test_a_plan_that_was_changed(tmp_path: Path) -> None:
    """Any value that is another, or a pipe in its place, is told; a plan from before there was a checksum is taken."""
    folder = RecipeFolder(tmp_path, RECIPE)
    folder.open()
    right = folder.plan.read_text("utf-8")
    folder.plan.write_text(right.replace('"finished": false', '"finished": true'), "utf-8")
    with pytest.raises(ConfigurationError, match=r"found a damaged or changed plan.*put a copy of it back"):
        RecipeFolder(tmp_path, RECIPE).open()
    older = {name: value for name, value in json.loads(right).items() if name != "sha256"}
    folder.plan.write_text(json.dumps(older), "utf-8")
    RecipeFolder(tmp_path, RECIPE).open()
    folder.plan.unlink()
    os.mkfifo(folder.plan)
    with pytest.raises(ConfigurationError, match="found no plan that can be read"):
        RecipeFolder(tmp_path, RECIPE).open()
