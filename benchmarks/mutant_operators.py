"""Small changes of a module's code, each of which a test should notice (`benchmarks/mutants.py`).

Comparisons flipped and moved by their boundary, arithmetic swapped, and/or, not, numbers doubled, halved, and one more
or less, results left out, statements dropped, branches swapped, min/max. Texts, docstrings, annotations, decorators,
``__all__`` and a rule's metadata stay as they are.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Mutant", "changed", "limits_of", "mutants_of"]

_FLIPPED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.GtE, ast.LtE), ast.LtE: (ast.Gt, ast.Lt), ast.Gt: (ast.LtE, ast.GtE), ast.GtE: (ast.Lt, ast.Gt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_SWAPPED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip
_OTHER: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_UNTOUCHED: Final = ("__all__", "info", "__slots__")
_SHOWN: Final = 90
_DOUBLED: Final = -1
_HALVED: Final = -2


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module.

    Args:
        module: Path of the module within the package.
        line: Line of the change.
        node: Place of the changed node among all nodes of the module.
        change: Which of the changes that this node allows.
        before: The code as it is.
        after: The code as it would be.
    """

    module: str
    line: int
    node: int
    change: int
    before: str
    after: str


def mutants_of(module: str, source: str) -> list[Mutant]:
    """All changes of a module, in the order of its nodes."""
    tree = ast.parse(source)
    known: set[tuple[int, str, str]] = set()
    found = []
    for place, node in _places(tree):
        for number, other in enumerate(_changes(node)):
            before, after = ast.unparse(node), ast.unparse(ast.fix_missing_locations(other))
            line = node.target.lineno if isinstance(node, ast.comprehension) else getattr(node, "lineno", 0)
            if before != after and (line, before, after) not in known:
                known.add((line, before, after))
                found.append(Mutant(module, line, place, number, _short(before), _short(after)))
    return found


def limits_of(module: str, source: str) -> list[Mutant]:
    """Every constant of a module halved and doubled: ``NAME: Final = number``."""
    tree = ast.parse(source)
    values = {id(node.value): node for node in tree.body if isinstance(node, ast.AnnAssign)}
    return [
        Mutant(module, node.lineno, place, number, ast.unparse(node), "doubled" if number == _DOUBLED else "halved")
        for place, node in enumerate(ast.walk(tree)) if id(node) in values for number in (_DOUBLED, _HALVED)
    ]  # fmt: skip


def changed(source: str, mutant: Mutant) -> ast.Module:
    """The module's tree with one change."""
    tree = ast.parse(source)
    target = list(ast.walk(tree))[mutant.node]
    if mutant.change < 0:
        parts = [_scaled(one, mutant.change) for one in getattr(target, "elts", [target])]
        other: ast.AST = ast.Tuple(parts, ast.Load()) if isinstance(target, ast.Tuple) else parts[0]
    else:
        other = list(_changes(target))[mutant.change]
    return ast.fix_missing_locations(_Replaced(target, other).visit(tree))


def _scaled(value: ast.expr, change: int) -> ast.expr:
    """Twice or half of a value; the value is copied, so that it is not met again within what replaces it."""
    whole = isinstance(value, ast.Constant) and isinstance(value.value, int)
    whole = whole or (isinstance(value, ast.Call) and ast.unparse(value.func) == "PointLimit")
    operator = ast.Mult() if change == _DOUBLED else ast.FloorDiv() if whole else ast.Div()
    return ast.BinOp(copy.copy(value), operator, ast.Constant(2))


class _Replaced(ast.NodeTransformer):
    def __init__(self, target: ast.AST, other: ast.AST) -> None:
        self.target, self.other = target, other

    def visit(self, node: ast.AST) -> ast.AST:
        return ast.copy_location(self.other, node) if node is self.target else self.generic_visit(node)


def _short(code: str) -> str:
    line = " ".join(code.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _places(tree: ast.Module) -> Iterator[tuple[int, ast.AST]]:
    """Nodes that may be changed, with their place among all nodes."""
    kept: set[int] = set()
    for node in ast.walk(tree):
        for part in _untouched(node):
            kept.update(id(inner) for inner in ast.walk(part))
    inside = {
        id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for one in node.body
        for inner in ast.walk(one)
    }  # fmt: skip
    for place, node in enumerate(ast.walk(tree)):
        if id(node) in kept:
            continue
        removable = isinstance(node, ast.If | ast.Return) or _may_go(node)
        if not isinstance(node, ast.stmt) or (removable and id(node) in inside):
            yield place, node


def _may_go(node: ast.AST) -> bool:
    """Whether a module without this statement could still run: nothing needs a name that it alone gives."""
    if isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break):
        return True
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant | ast.Yield | ast.YieldFrom)
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
    return False


def _untouched(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node that are no behavior."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom):
        yield node
    if isinstance(node, ast.keyword) and node.arg == "strict":
        yield node
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield node.annotation
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield from node.decorator_list
    if isinstance(node, ast.FunctionDef) and node.returns is not None:
        yield node.returns
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    if any(isinstance(target, ast.Name) and target.id in _UNTOUCHED for target in targets):
        yield node


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            for other in _FLIPPED.get(type(operator), ()):
                yield _with(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        if type(node.op) in _SWAPPED:
            yield _with(node, op=_SWAPPED[type(node.op)]())
        if isinstance(node, ast.AugAssign):
            yield ast.Pass()
    elif isinstance(node, ast.BoolOp):
        yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not) or (
            isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant)
        ):
            yield node.operand
    elif isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _numbers(node.value))
    elif isinstance(node, ast.Name) and node.id in _OTHER:
        yield ast.Name(_OTHER[node.id], ast.Load())
    elif isinstance(node, ast.IfExp):
        yield _with(node, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.comprehension):
        for at, test in enumerate(node.ifs):
            yield _with(node, ifs=[*node.ifs[:at], *node.ifs[at + 1 :]])
            if not isinstance(test, ast.Compare):
                yield _with(node, ifs=[*node.ifs[:at], ast.UnaryOp(ast.Not(), test), *node.ifs[at + 1 :]])
    elif isinstance(node, ast.stmt):
        yield from _statements(node)


def _statements(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.Return):
        if node.value is None or (isinstance(node.value, ast.Constant) and not isinstance(node.value.value, str)):
            return  # a constant is changed itself
        yield ast.Return(ast.Constant(None))
        value = node.value
        if isinstance(value, ast.Tuple) and value.elts:
            for at, part in enumerate(value.elts):
                if isinstance(part, ast.Tuple) and part.elts:
                    empty = ast.Tuple([], ast.Load())
                    yield ast.Return(_with(value, elts=[*value.elts[:at], empty, *value.elts[at + 1 :]]))
    elif isinstance(node, ast.If):
        if node.orelse:
            yield _with(node, body=node.orelse, orelse=node.body)
        else:
            yield ast.Pass()
            if not isinstance(node.test, ast.Compare):
                yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    else:
        yield ast.Pass()


def _numbers(value: object) -> Iterator[bool | int | float]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from dict.fromkeys(other for other in (value * 2, value // 2, value + 1, value - 1) if other != value)
    elif isinstance(value, float):
        yield from dict.fromkeys(other for other in (value * 2, value / 2) if other != value)


def _with(node: ast.AST, **parts: object) -> ast.AST:
    other = copy.copy(node)
    for name, part in parts.items():
        setattr(other, name, part)
    return other
