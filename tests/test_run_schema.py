"""The schema of run.json holds what real runs write, and knows every key of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from jsonschema import Draft202012Validator

import ko_cpt_callbacks
from ko_cpt_callbacks import KoCPTCallback, keys

SCHEMA = json.loads((Path(ko_cpt_callbacks.__file__).parent / "schemas" / "run.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)

pytestmark = pytest.mark.both_versions


def run_file(folder: Path) -> Any:
    """What run.json says, strictly: NaN and Infinity as bare words are refused."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    text = (folder / keys.FOLDER / keys.RUN_FILE).read_text("utf-8")
    return json.loads(text, parse_constant=refuse)


def wrong(run: Any) -> list[str]:
    """Where a run.json is not what the schema says."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(run)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """run.json of a LoRA run with two evaluation sets, one of them evaluated before the first step."""
    folder = tmp_path_factory.mktemp("run")
    rows = tiny.uneven_rows(6)
    model = tiny.lora(tiny.llama(len(tiny.byte_level_tokenizer())))
    settings = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True}
    callback = KoCPTCallback(outputs=["files"], stop_on={"non-finite"}, grace=1)
    tiny.trainer(model, folder, rows, {"ko": rows, "en": rows[:3]}, callbacks=[callback], **settings).train()
    return run_file(folder)


def test_schema_is_a_schema() -> None:
    """Draft 2020-12, and correct by its own meta-schema."""
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


def test_trained_run(trained: Any) -> None:
    """A trained run has every part, and each is as the schema says."""
    assert wrong(trained) == []
    assert set(trained) == set(SCHEMA["properties"]) - {keys.MEASURED}  # of a model that was not trained
    assert set(trained["watch"]) == set(SCHEMA["properties"]["watch"]["properties"])
    assert set(trained["model"]) == set(SCHEMA["properties"]["model"]["properties"])
    assert set(trained["tokenizer"]) == set(SCHEMA["properties"]["tokenizer"]["properties"])
    assert set(trained["evaluations"]) == {"eval_ko", "eval_en"}


def test_evaluation_without_training(tmp_path: Path) -> None:
    """An evaluation on its own, with no tokenizer to count bytes by, writes a valid run.json too."""
    model = tiny.llama(len(tiny.byte_level_tokenizer()))
    callback = KoCPTCallback(outputs=["files"])
    rows = tiny.uneven_rows(4)
    tiny.trainer(model, tmp_path, rows, rows, callbacks=[callback], processing_class=None).evaluate()
    run = run_file(tmp_path)

    assert wrong(run) == []
    assert [attempt["mode"] for attempt in run["attempts"]] == ["evaluate"]
    assert run["schedule"] is None
    assert run["tokenizer"]["bytes_absent"]


def test_stopped_run(tmp_path: Path) -> None:
    """A run that was stopped says by which finding."""
    model = tiny.llama(len(tiny.byte_level_tokenizer()))
    callback = KoCPTCallback(outputs=["files"], stop_on={"non-finite"})
    model.model.norm.weight.data.fill_(float("nan"))
    tiny.trainer(model, tmp_path, tiny.uneven_rows(6), None, callbacks=[callback], max_steps=4).train()
    run = run_file(tmp_path)

    assert wrong(run) == []
    assert run["stop"]["code"] == "non-finite"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), 2),
        (("more",), 1),
        (("watch", "task"), "pretraining"),
        (("watch", "more"), 1),
        (("attempts",), []),
        (("attempts", 0, "start_step"), -1),
        (("evaluations", "eval_ko", "evidence"), "guess"),
        (("evaluations", "eval_ko", "error_bar"), None),
        (("model", "trainable_share"), 1.5),
        (("tokenizer", "bytes"), "characters"),
        (("schedule",), [[1]]),
        (("schedule",), [[1, 0.1, 0.1]]),
        (("world_size",), 0),
        (("planned_steps",), 1.5),
    ],
)
def test_what_is_refused(trained: Any, path: tuple[str | int, ...], value: object) -> None:
    """Unknown keys, other words and impossible numbers are refused."""
    run = json.loads(json.dumps(trained))
    place = run
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value

    assert wrong(run)
