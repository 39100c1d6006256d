"""What the installed transformers is, and knows of models and arguments, read from its source.

Importing it would import torch. Where transformers is not installed, or its source is written in another way, the
answer is None: not known. What is installed stays as it is, and every recipe asks: each answer is kept. A ``folder`` is
that of transformers; None: of the installed one.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from ko_cpt_callbacks.errors import ConfigurationError

# As setup.cfg has it; a framework's environment may have been made without asking it.
_OLDEST: Final = (4, 57)
_BELOW: Final = (6, 0)
_AUTO: Final = Path("models", "auto", "modeling_auto.py")
_CAUSAL: Final = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
_TYPE: Final = "model_type"
# What every configuration has; transformers 4 ties matrices by a default that stands there.
_BASE: Final = Path("configuration_utils.py")
_BASES: Final = ("PretrainedConfig", "PreTrainedConfig")

Kind: TypeAlias = Literal["int", "float", "bool", "str", "list", "dict", "None"]
"""A kind of YAML value, under Python's name."""

ARGUMENTS: Final = "TrainingArguments"
_ARGUMENTS: Final = Path("training_args.py")
_WORDS: Final = (Path("trainer_utils.py"), _ARGUMENTS)
_ENUM: Final = "ExplicitEnum"
_KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_SAME: Final = {"List": "list", "Dict": "dict", "Mapping": "dict", "Sequence": "list"}
# What the class takes beside what its annotation says, as of transformers 4.57 and 5.23: `fsdp=True` is all that the
# newer one wants, and both know a list of words.
_TAKEN_TOO: Final = {"fsdp": " | bool | list"}


def installed_folder() -> Path | None:
    """Where transformers is; None where it is not installed."""
    try:
        found = importlib.util.find_spec("transformers")
    except (ImportError, ValueError):  # ValueError: what stands in its place has no spec
        return None
    folders = list(() if found is None else found.submodule_search_locations or ())
    return Path(folders[0]) if folders else None


def check_release(found: str | None = None) -> None:
    """Refuse a Trainer of which nothing is known: what it passes and logs is measured from release to release.

    Args:
        found: The release of transformers; None: the installed one. Where none is installed, nothing is refused.

    Raises:
        ConfigurationError: For one that is older than 4.57, or 6 or newer.
    """
    if found is None:
        tree = _tree(installed_folder(), Path("__init__.py"))
        found = dict(_constants(tree.body if tree is not None else [])).get("__version__")
    if found is None:
        return
    number = re.match(r"(\d+)\.(\d+)", found)
    if number is None or not _OLDEST <= (int(number[1]), int(number[2])) < _BELOW:
        raise ConfigurationError(
            f"transformers: found {found}, expected {_OLDEST[0]}.{_OLDEST[1]} or newer, below {_BELOW[0]}; "
            f"pip install 'transformers>={_OLDEST[0]}.{_OLDEST[1]},<{_BELOW[0]}'"
        )


@cache
def causal_families(folder: Path | None = None) -> tuple[str, ...] | None:
    """The families that ``AutoModelForCausalLM`` makes a model of, by ``model_type``."""
    tree = _tree(folder or installed_folder(), _AUTO)
    for name, value in _assigned(tree.body if tree is not None else []):
        if name == _CAUSAL and isinstance(value, ast.Call) and value.args:
            try:
                pairs = ast.literal_eval(value.args[0])
                return tuple(str(family) for family, _ in pairs) or None
            except (ValueError, TypeError):
                return None
    return None


@cache
def class_defaults(family: str, folder: Path | None = None) -> Mapping[str, Any] | None:
    """What a ``model_type`` takes where its ``config.json`` says nothing: numbers, words, yes, no and None."""
    folder = folder or installed_folder()
    for place in dict.fromkeys((family, family.removesuffix("_text"))):
        for item in _classes(folder, Path("models", place, f"configuration_{place}.py")):
            own = {**dict(_constants(item.body)), **_taken(item)}
            if own.get(_TYPE) == family:
                every = next((_taken(base) for base in _classes(folder, _BASE) if base.name in _BASES), {})
                return {**every, **own}
    return None


def _classes(folder: Path | None, path: Path) -> Iterator[ast.ClassDef]:
    tree = _tree(folder, path)
    yield from (item for item in (tree.body if tree is not None else []) if isinstance(item, ast.ClassDef))


def _tree(folder: Path | None, path: Path) -> ast.Module | None:
    if folder is None or not path.stem.isidentifier():
        return None
    try:
        return ast.parse((folder / path).read_text("utf-8"))
    except (OSError, ValueError, SyntaxError):  # ValueError: no UTF-8, or a null byte
        return None


def _assigned(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Names that get a value, with its expression: ``size = 3`` and ``size: int = 3``."""
    for item in body:
        if isinstance(item, (ast.Assign, ast.AnnAssign)) and item.value is not None:
            for target in item.targets if isinstance(item, ast.Assign) else [item.target]:
                if isinstance(target, ast.Name):
                    yield target.id, item.value


def _constants(body: list[ast.stmt]) -> Iterator[tuple[str, Any]]:
    """Those of them whose value stands there."""
    for name, value in _assigned(body):
        if isinstance(value, ast.Constant):
            yield name, value.value


def _taken(item: ast.ClassDef) -> dict[str, Any]:
    """Defaults of ``__init__``, as transformers 4 has them."""
    for part in item.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            names = [argument.arg for argument in part.args.args]
            given = part.args.defaults
            pairs = zip(names[len(names) - len(given) :], given, strict=True)
            return {name: value.value for name, value in pairs if isinstance(value, ast.Constant)}
    return {}


@cache
def installed_arguments(folder: Path | None = None) -> Mapping[str, str] | None:
    """The arguments of ``TrainingArguments`` with their annotations.

    Returns:
        Annotations as text, by name, in order; None where there is no such class, or not all of its fields stand in
        it: with a base class others would be taken for unknown ones.
    """
    classes = _classes(folder or installed_folder(), _ARGUMENTS)
    found = next((item for item in classes if item.name == ARGUMENTS), None)
    if found is None or found.bases:
        return None
    given = {
        item.target.id: ast.unparse(item.annotation) + _TAKEN_TOO.get(item.target.id, "")
        for item in found.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_given(item)
    }
    return given or None


@cache
def installed_choices(folder: Path | None = None) -> Mapping[str, tuple[str, ...]]:
    """The words of each argument that knows some and no others; empty where the source is not understood."""
    enums = {
        item.name: tuple(value for _, value in _constants(item.body) if isinstance(value, str))
        for path in _WORDS
        for item in _classes(folder or installed_folder(), path)
        if any(ast.unparse(parent) == _ENUM for parent in item.bases)
    }
    annotations = installed_arguments(folder) or {}
    named = {name: [enum for enum in re.findall(r"\w+", text) if enum in enums] for name, text in annotations.items()}
    return {name: enums[found[0]] for name, found in named.items() if len(found) == 1}


def _is_given(field: ast.AnnAssign) -> bool:
    """Whether it is an argument: not of the class alone, and not ``field(init=False)``."""
    if ast.unparse(field.annotation).rpartition("ClassVar")[1]:
        return False
    words = field.value.keywords if isinstance(field.value, ast.Call) else []
    return not any(word.arg == "init" and ast.unparse(word.value) == "False" for word in words)


@cache
def taken_kinds(annotation: str) -> tuple[Kind, ...] | None:
    """What kinds of values an annotation takes.

    Args:
        annotation: As text: ``float | None``, ``Optional[float]``, ``Union[IntervalStrategy, str]``.

    Returns:
        The kinds in order, each once; None for any: there is something in it that is not understood.
    """
    try:
        parts = set(_parts(ast.parse(annotation, mode="eval").body))
    except (SyntaxError, ValueError):
        return None
    unknown = parts.difference(_KINDS)
    # A class beside str is an enum, whose values are texts; a class alone may be made from anything.
    if unknown & {"", "Any", "object"} or (unknown and "str" not in parts):
        return None
    return tuple(kind for kind in _KINDS if kind in parts)


def _parts(node: ast.expr) -> Iterator[str]:
    """The names of a union's parts; an empty one for what is not understood."""
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from (*_parts(left), *_parts(right))
        case ast.Constant(value=None):
            yield "None"
        case ast.Constant(value=str(text)):
            yield from _parts(ast.parse(text, mode="eval").body)
        case ast.Subscript(value=outer, slice=inner):
            name = _name(outer)
            if name in ("Optional", "Union"):
                for part in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
                    yield from _parts(part)
                yield from ("None",) if name == "Optional" else ()
            else:
                yield name if name in ("list", "dict") else ""
        case _:
            yield _name(node)


def _name(node: ast.expr) -> str:
    """``str`` of ``str`` and of ``builtins.str``; empty for what is no name."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return _SAME.get(name, name)
