"""docs/recipe.md says what the schema says, and its examples are recipes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from docs_script import script_of_docs
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.recipe.bundle import find_recipe, recipe_ids
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.schema import json_schema

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "recipe.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def script() -> ModuleType:
    """docs/recipe.py."""
    return script_of_docs("recipe")


def _parts() -> dict[str, Any]:
    schema = json_schema()
    return {"Page": schema, **schema["$defs"]}


def test_the_page_is_what_the_schema_says(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """As docs/recipe.py would write it now; if not: `make docs`."""
    assert (script.main(check=True), capsys.readouterr().out) == (0, "")


def test_a_page_that_has_drifted(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told with the command that writes it again, and written only without ``--check``."""
    page = tmp_path / "recipe.md"
    page.write_text(TEXT.replace("Rank.", "Something."), "utf-8")
    monkeypatch.setattr(script, "PAGE", page)

    assert script.main(check=True) == 1
    assert capsys.readouterr().out.endswith("python docs/recipe.py\n")
    assert script.main(check=False) == 0
    assert page.read_text("utf-8") == TEXT


def test_every_key_is_on_the_page() -> None:
    """Each key of each part has a row with what it may be and what it means; no part is left out."""
    row = re.compile(r"^\| `(\w+)` \| (\S[^|]*) \| ([^|]*) \| (\S.+) \|$", re.MULTILINE)
    tables = [row.findall(text) for text in TEXT.split("\n## ")]
    for name, part in _parts().items():
        keys = list(part["properties"])
        assert [rows for rows in tables if [found[0] for found in rows] == keys], name
        assert all(entry["description"] for entry in part["properties"].values())


def test_links_lead_somewhere() -> None:
    """Each link of the page has its heading."""
    headings = {re.sub(r"[^a-z_-]", "", line.lower()) for line in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)}
    links = re.findall(r"\]\(#([^)]+)\)", TEXT)

    assert links and set(links) <= headings


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.partition("title: ")[2].partition("\n")[0])
def test_the_examples_are_recipes(text: str, tmp_path: Path) -> None:
    """Each is read without a mistake."""
    path = tmp_path / "example.yaml"
    path.write_text(text, "utf-8")
    assert read_recipe(path).recipe.stages


def test_the_examples_show_every_key(tmp_path: Path) -> None:
    """Together they say each key of each part; and the one of one's own is short."""
    shown: set[tuple[str, str]] = set()
    for number, text in enumerate(EXAMPLES):
        path = tmp_path / f"example-{number}.yaml"
        path.write_text(text, "utf-8")
        shown |= set(_shown(read_recipe(path).document.values, json_schema()))
        shown |= {("Page", key) for key in ("id", "defaults", "source") if re.search(rf"^{key}:", text, re.MULTILINE)}
        shown |= {("Defaults", key) for key in ("arguments", "watch") if "defaults:" in text and f"  {key}:" in text}
    every = {(name, key) for name, part in _parts().items() for key in part["properties"]}

    assert every - shown == set()
    assert len(EXAMPLES[0].splitlines()) <= 25


def _shown(values: Any, schema: Mapping[str, Any], name: str = "Page") -> Iterator[tuple[str, str]]:
    """The parts and keys that a recipe says."""
    part = schema if name == "Page" else schema["$defs"][name]
    for key, value in values.items():
        entry = part["properties"][key]
        yield name, key
        inside = re.findall(r"#/\$defs/(\w+)", json.dumps(entry))
        if not inside or not isinstance(value, dict):
            continue
        named = "patternProperties" in entry
        for item in value.values() if named else [value]:
            yield from _shown(item, schema, inside[0])


# -- ko-cpt recipes schema -------------------------------------------------------------------------------------------


def test_the_schema_as_a_command() -> None:
    """It is printed as JSON, is a schema, and every key has its meaning."""
    found = CliRunner().invoke(app, ["recipes", "schema"])
    schema = json.loads(found.stdout)

    assert (found.exit_code, schema) == (0, json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("id", recipe_ids())
def test_the_schema_takes_the_bundled_recipes(id: str) -> None:
    """What is read as a recipe fits the schema; and a misspelt key does not."""
    values = read_recipe(find_recipe(id)).document.values
    check = jsonschema.Draft202012Validator(json_schema())

    assert list(check.iter_errors(values)) == []
    assert list(check.iter_errors({**values, "tokeniser": {}}))
    # As it is written by hand, before defaults are written out.
    for stage in values["stages"].values():
        del stage["arguments"]
    assert list(check.iter_errors({**values, "defaults": {"arguments": {"max_steps": 4}}})) == []
