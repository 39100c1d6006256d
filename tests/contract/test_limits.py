"""Every number of signals and rules has a name, a unit and a source, and stands in one place."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ko_cpt_callbacks.rules.registry import ALL_RULES
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.signal import limits, run_limits

LIMITS = [Path(module.__file__ or "") for module in (limits, run_limits)]
PACKAGE = LIMITS[0].parents[1]
MODULES = {
    path.relative_to(PACKAGE).as_posix(): path
    for room in ("signal", "rules") for path in sorted((PACKAGE / room).rglob("*.py")) if path not in LIMITS
}  # fmt: skip
PLAIN = (0, 1, 2, 0.5)
"""Numbers that may stand in a body: nothing, one, both, the middle."""
UNITS = (
    "bits per byte", "bytes", "changes", "characters", "correlation", "decimals", "differences", "epochs", "ends of",
    "evaluations", "gaps", "joint standard errors", "jumps", "labels", "losses", "nats", "noises", "parts", "points",
    "ranks", "ratio", "rows", "share", "shares", "short medians", "size", "spikes",
    "standard deviations", "standard errors", "steps", "times", "tokens", "values",
)  # fmt: skip
SOURCE = re.compile(r"\b(Source: |Measured\b|Simulated\b|[Cc]hosen[ .,:;])")


def _limits() -> list[tuple[ast.AnnAssign, str | None]]:
    """Each constant with the text that follows it."""
    body = [one for path in LIMITS for one in ast.parse(path.read_text("utf-8")).body]
    found: list[tuple[ast.AnnAssign, str | None]] = []
    for one, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(one, ast.Assign | ast.AnnAssign):
            assert isinstance(one, ast.AnnAssign), f"line {one.lineno}: NAME: Final = number"
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            found.append((one, text if isinstance(text, str) else None))
    return found


def test_a_limit_says_what_it_is() -> None:
    """``NAME: Final = number`` (or a few), then a text: its unit first, its source, or how it was chosen, last."""
    for constant, text in _limits():
        name = ast.unparse(constant.target)
        assert ast.unparse(constant.annotation) == "Final", name
        value = getattr(limits, name)
        assert all(isinstance(one, int | float) for one in (value if isinstance(value, tuple) else (value,))), name
        assert text is not None, f"{name}: a text must follow"
        words = " ".join(text.split())
        unit = any(re.search(rf"\b{unit}\b", words.split(". ")[0].lower()) for unit in UNITS)
        assert unit, f"{name}: a unit first: {words}"
        assert SOURCE.search(words) and words.endswith("."), f"{name}: a source last: {words}"


def test_a_limit_is_there_once_and_used() -> None:
    """No name stands twice, and each is read by a module of the package."""
    names = Counter(ast.unparse(constant.target) for constant, _ in _limits())
    assert [name for name, times in names.items() if times > 1] == []
    used = {
        node.attr for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "limits" and node.attr.isupper()
    }  # fmt: skip
    assert sorted(set(names) - used) == []
    assert sorted(used - set(names)) == []


def _bare(path: Path) -> list[str]:
    """Numbers of a module, but plain ones, places in a sequence, and those of annotations."""
    tree = ast.parse(path.read_text("utf-8"))
    left = {id(inner) for node in ast.walk(tree) for part in _free(node) for inner in ast.walk(part)}
    return [
        f"line {node.lineno}: {node.value}" for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
        and id(node) not in left and node.value not in PLAIN
    ]  # fmt: skip


def _free(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Subscript):
        yield node.slice
    if isinstance(node, ast.keyword) and node.arg == "place":  # where a rule stands in lists
        yield node.value
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "place" and node.value is not None:
        yield node.value
    if isinstance(node, ast.arguments):
        given = zip(node.kwonlyargs, node.kw_defaults, strict=True)
        yield from (usual for one, usual in given if one.arg == "place" and usual is not None)
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield node.annotation


def test_no_other_number_decides() -> None:
    """Outside ``limits.py`` signals and rules have no number but 0, 1, 2 and one half, and places in a sequence."""
    assert {name: numbers for name, path in MODULES.items() if (numbers := _bare(path))} == {}


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.code)
def test_a_rule_has_its_limits_from_there(rule: Rule) -> None:
    """A numeric field of a rule has a constant of ``limits.py`` as its default."""
    own = {
        node.target.id: node.value
        for kind in reversed(type(rule).__mro__) if issubclass(kind, Rule)
        for node in ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body  # type: ignore[attr-defined]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }  # fmt: skip
    for field in dataclasses.fields(rule):  # type: ignore[arg-type]
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            value = own[field.name]
            assert isinstance(value, ast.Attribute), f"{field.name} = {ast.unparse(value or ast.Constant(None))}"
            assert ast.unparse(value.value) == "limits"
            assert getattr(limits, value.attr) == field.default
