"""Which arguments the installed ``TrainingArguments`` has, and what each takes: read from its source.

Importing the class would import torch; a recipe is checked without it. What the source cannot say (which words an
argument knows, what fits together, what this machine can do) the class is asked when a run begins.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

Kind: TypeAlias = Literal["int", "float", "bool", "str", "list", "dict", "None"]
"""A kind of YAML value, under Python's name."""

CLASS: Final = "TrainingArguments"
_FILE: Final = "training_args.py"
_KINDS: Final[tuple[str, ...]] = get_args(Kind)
_SAME: Final = {"List": "list", "Dict": "dict", "Mapping": "dict", "Sequence": "list"}
_ANYTHING: Final = ("Any", "object")
# What the class takes beside what its annotation says, as of transformers 4.57 and 5.23: `fsdp=True` is all that the
# newer one wants, and both know a list of words.
_TAKEN_TOO: Final = {"fsdp": "bool | list"}


@functools.cache
def installed_arguments() -> Mapping[str, str] | None:
    """The arguments of the installed class with their annotations.

    Returns:
        Annotations as text, by name; None where transformers is not installed, or its source is not understood.
    """
    try:
        found = importlib.util.find_spec("transformers")
    except (ImportError, ValueError):  # ValueError: what stands in its place has no spec
        return None
    folders = None if found is None else found.submodule_search_locations
    for folder in folders or ():
        try:
            return read_arguments(Path(folder, _FILE).read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    return None


def read_arguments(source: str) -> dict[str, str] | None:
    """The fields of the class ``TrainingArguments`` of a module.

    Args:
        source: The module's text.

    Returns:
        Annotations as text, by name, in order; None where there is no such class, or not all of its fields stand in
        it: with a base class others would be taken for unknown ones.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    found = next((item for item in body if isinstance(item, ast.ClassDef) and item.name == CLASS), None)
    if found is None or found.bases:
        return None
    fields = {}
    for item in found.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_given(item):
            more = _TAKEN_TOO.get(item.target.id)
            fields[item.target.id] = ast.unparse(item.annotation) + (f" | {more}" if more else "")
    return fields or None


@functools.cache
def taken_kinds(annotation: str) -> tuple[Kind, ...] | None:
    """What kinds of values an annotation takes.

    Args:
        annotation: As text: ``float | None``, ``Optional[float]``, ``Union[IntervalStrategy, str]``.

    Returns:
        The kinds in order, each once; None for any: there is something in it that is not understood.
    """
    try:
        parts = list(_parts(ast.parse(annotation, mode="eval").body))
    except (SyntaxError, ValueError):
        return None
    kinds = [part for part in parts if part in _KINDS]
    unknown = [part for part in parts if part not in _KINDS]
    # A class beside str is an enum, whose values are texts; a class alone may be made from anything.
    if any(part == "" or part in _ANYTHING for part in unknown) or (unknown and "str" not in kinds):
        return None
    return tuple(kind for kind in get_args(Kind) if kind in kinds)


def _is_given(field: ast.AnnAssign) -> bool:
    """Whether it is an argument: not of the class alone, and not ``field(init=False)``."""
    if ast.unparse(field.annotation).rpartition("ClassVar")[1]:
        return False
    words = field.value.keywords if isinstance(field.value, ast.Call) else []
    return not any(word.arg == "init" and ast.unparse(word.value) == "False" for word in words)


def _parts(node: ast.expr) -> Iterator[str]:
    """The names of a union's parts; an empty one for what is not understood."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _parts(node.left)
        yield from _parts(node.right)
    elif isinstance(node, ast.Subscript):
        yield from _subscript(_name(node.value), node.slice)
    elif isinstance(node, ast.Constant) and node.value is None:
        yield "None"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _parts(ast.parse(node.value, mode="eval").body)
    else:
        yield _name(node)


def _subscript(name: str, inner: ast.expr) -> Iterator[str]:
    if name in ("Optional", "Union"):
        for part in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
            yield from _parts(part)
        if name == "Optional":
            yield "None"
    elif name in ("list", "dict"):
        yield name
    else:
        yield ""


def _name(node: ast.expr) -> str:
    """``str`` of ``str`` and of ``builtins.str``; empty for what is no name."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return _SAME.get(name, name)
