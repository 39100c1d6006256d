"""The JSON schemas of rows.jsonl and findings.jsonl hold what is written, and refuse what is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import ko_cpt_callbacks.errors as package
from ko_cpt_callbacks import keys
from ko_cpt_callbacks.run.finding import Finding, Severity

jsonschema = pytest.importorskip("jsonschema")
FOLDER = Path(package.__file__).parent / "schemas"


def _schema(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.schema.json").read_text("utf-8"))


def _valid(name: str, value: object) -> bool:
    return bool(jsonschema.Draft202012Validator(_schema(name)).is_valid(value))


@pytest.mark.parametrize("name", ["row", "finding"])
def test_schemas_are_schemas(name: str) -> None:
    """Draft 2020-12, and correct by its own meta-schema."""
    assert _schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(_schema(name))


def test_row_schema_knows_every_key() -> None:
    """Each training key is a property, each evaluation key matches a pattern."""
    schema = _schema("row")
    assert set(keys.TRAIN_KEYS) <= set(schema["properties"])
    for suffix in keys.EVAL_SUFFIXES:
        name = keys.key("eval_ko", suffix)
        assert [p for p in schema["patternProperties"] if re.search(p, name)], name


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "train", "loss": "NaN", "grad_norm": 1.0, "nonfinite_steps": 2, "mean_token_accuracy": 0.3},
        {"kind": "train", "loss": 1.0, "num_tokens": 4096.0, "tokens_per_second": None},
        {
            "kind": "eval",
            "eval_loss": 2.0,
            "eval_exact_loss": 1.9,
            "eval_num_tokens": 5.0,
            "mode": "evaluate",
        },
        {"kind": "eval", "eval_ko_exact_loss": "Infinity", "eval_ko_fingerprint": "ab", "superseded": True},
        {"kind": "end", "train_loss": 1.0, "train_runtime": 2.0},
        {"kind": "checkpoint", "tokens_seen": 100},
        {"kind": "setup", "setup": "stage", "name": "full"},
    ],
)
def test_rows_that_are_written(more: dict[str, Any]) -> None:
    """Each kind of row, non-finite strings and keys of others are valid."""
    assert _valid("row", {"attempt": 1, "step": 10, **more})


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "train", "step": 1, "loss": 1.0},
        {"kind": "train", "attempt": 1, "step": 1},
        {"kind": "other", "attempt": 1, "step": 1},
        {"kind": "train", "attempt": 1, "step": -1, "loss": 1.0},
        {"kind": "train", "attempt": 1, "step": 1, "loss": "nan"},
        {"kind": "train", "attempt": 1, "step": 1, "loss": 1.0, "nonfinite_steps": 1.5},
        {"kind": "eval", "attempt": 1, "step": 1, "eval_exact_loss": "2.0"},
        {"kind": "eval", "attempt": 1, "step": 1, "eval_fingerprint": 12},
    ],
)
def test_rows_that_are_not(row: dict[str, Any]) -> None:
    """Missing envelope, unknown kind, other spellings of NaN and texts for numbers are refused."""
    assert not _valid("row", row)


def test_findings() -> None:
    """What as_dict writes is valid; a missing or an unknown key is not."""
    found = Finding("non-finite", Severity.ERROR, 20, "train", {"loss": float("nan")}, True, "loss").as_dict()
    assert _valid("finding", found)
    assert _valid("finding", Finding("note", Severity.INFO, variant="trackers-not-reached").as_dict())
    assert not _valid("finding", {**found, "more": 1})
    assert not _valid("finding", {**found, "severity": "fatal"})
    for name in found:
        assert not _valid("finding", {k: v for k, v in found.items() if k != name})
