"""Row keys are typed once, in keys.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ko_cpt_callbacks import keys

ROOT = Path(keys.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "keys.py")

# Ordinary words, used for other things too (columns of an .npz, fields of a summary).
WORDS = {keys.PPL, keys.TOKENS, keys.BYTES, keys.ROWS, keys.FINGERPRINT}
OURS = (set(keys.EVAL_SUFFIXES) | set(keys.TRAIN_KEYS)) - WORDS
FILES = {keys.ROWS_FILE, keys.FINDINGS_FILE, keys.RUN_FILE, keys.EVAL_ROWS_FOLDER}


def _prose(tree: ast.Module) -> set[int]:
    """Strings that are no keys: docstrings (any bare string), the names in ``__all__`` and the words of a type."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            found.update(id(inner) for inner in ast.walk(node.value))
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            found.update(id(inner) for inner in ast.walk(node.slice))  # a type cannot be made of constants
    return found


def _is_key(text: str) -> bool:
    return text in OURS | FILES or any(text.endswith(f"_{suffix}") for suffix in set(keys.EVAL_SUFFIXES) - WORDS)


def stray(source: str) -> list[int]:
    """Lines of a module that type one of our keys."""
    tree = ast.parse(source)
    prose = _prose(tree)
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in prose
        and _is_key(node.value)
    ]


def test_there_is_something_to_check() -> None:
    """The package has modules and the table has keys."""
    assert MODULES
    assert len(OURS) >= 10


def test_no_stray_literal() -> None:
    """No module but keys.py spells a row key or one of our file names."""
    found = {str(path.relative_to(ROOT)): stray(path.read_text("utf-8")) for path in MODULES}
    assert {module: lines for module, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('x = row["nonfinite_steps"]', [1]),
        ('\nx = f"{p}_exact_loss"', [2]),
        ('x = "eval_bits_per_byte"', [1]),
        ('p / "rows.jsonl"', [1]),
        ('"""Says nonfinite_steps."""\n__all__ = ["bits_per_byte"]\nx = row["loss"]', []),
    ],
)
def test_the_check_itself(source: str, lines: list[int]) -> None:
    """Keys, prefixed keys and file names are found; prose and exported names are not."""
    assert stray(source) == lines


def test_key_joins_prefix_and_suffix() -> None:
    """The one place where a prefix meets a suffix; the exact loss ends in "loss"."""
    assert keys.key("eval_ko", keys.PPL) == "eval_ko_ppl"
    assert keys.EXACT_LOSS.endswith("loss")
