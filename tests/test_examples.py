"""The examples: scripts that compile, and a notebook that is one of them, executed."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def _cells() -> list[tuple[str, str]]:
    """The cells of the script, as the maker of the notebook reads them."""
    spec = importlib.util.spec_from_file_location("notebook_maker", ROOT / "docs" / "notebook.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    found: list[tuple[str, str]] = maker.cells((EXAMPLES / "trainer.py").read_text("utf-8"))
    return found


def _notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((EXAMPLES / "trainer.ipynb").read_text("utf-8"))
    return found


@pytest.mark.parametrize("name", ["trainer.py", "sft.py", "lora_8bit.py"])
def test_a_script_compiles_and_imports_what_there_is(name: str) -> None:
    """It is Python, has the callback in its trainer, and every module that it imports is installed."""
    text = (EXAMPLES / name).read_text("utf-8")
    tree = ast.parse(text, name)
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert all(importlib.util.find_spec(module.partition(".")[0]) for module in modules)
    assert "callbacks=[callback]" in text


def test_the_notebook_is_the_script() -> None:
    """Cell by cell; `make notebook` writes it anew."""
    found = [(cell["cell_type"], "".join(cell["source"])) for cell in _notebook()["cells"]]
    assert found == _cells()
    assert [kind for kind, _ in found].count("code") == 4


def test_the_notebook_was_executed() -> None:
    """Its outputs are kept: the lines of the evaluations, the page of the run as a table; no error, no warning."""
    code = [cell for cell in _notebook()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [1, 2, 3, 4]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {(one["output_type"], one.get("name")) for one in outputs} == {("stream", "stdout"), ("display_data", None)}
    (page,) = ("".join(one["data"]["text/html"]) for one in outputs if one["output_type"] == "display_data")
    assert "<table>" in page and "eval_ko" in page
    assert "step 60 · eval_ko: loss " in "".join(text for one in outputs for text in one.get("text", ()))
