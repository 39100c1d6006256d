"""Reads a run folder the way a strict reader would, and says what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every line of ``rows.jsonl``; each must be strict JSON and keep the schema."""
    return _lines(folder / "ko_cpt" / "rows.jsonl", "row")


def findings(folder: Path) -> list[dict[str, Any]]:
    """Every line of ``findings.jsonl``; each must be strict JSON and keep the schema."""
    return _lines(folder / "ko_cpt" / "findings.jsonl", "finding")


def run(folder: Path) -> dict[str, Any]:
    """``run.json``, strict JSON."""
    return dict(_read((folder / "ko_cpt" / "run.json").read_text("utf-8"), "run"))


def live(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines that no resume superseded."""
    return [line for line in lines if not line.get("superseded")]


def double(lines: list[dict[str, Any]]) -> list[Any]:
    """What two live lines claim to be."""
    counts = Counter((line["kind"], line.get("setup"), line.get("split"), line["step"]) for line in live(lines))
    return [key for key, count in counts.items() if count > 1]


def checkpoint(folder: Path) -> Path:
    """The latest checkpoint that a resume can use: its state is the last thing that the Trainer writes."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _lines(path: Path, schema: str) -> list[dict[str, Any]]:
    text = path.read_text("utf-8")
    assert not text or text.endswith("\n"), f"{path.name} ends in the middle of a line: {text[-80:]!r}"
    return [_read(line, schema) for line in text.split("\n")[:-1]]


def _read(text: str, schema: str) -> Any:
    value = _strict(text)
    _keeps(text, schema)
    return value


@lru_cache(maxsize=100_000)
def _keeps(text: str, schema: str) -> None:
    """One text is looked at once: a run's lines are read many times, and a validation takes a millisecond or more."""
    _validator(schema).validate(_strict(text))


@cache
def _validator(name: str) -> Any:
    path = resources.files("ko_cpt_callbacks") / "schemas" / f"{name}.schema.json"
    schema = json.loads(path.read_text("utf-8"))
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def _strict(text: str) -> Any:
    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)
