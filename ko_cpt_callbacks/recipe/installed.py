"""What the installed transformers is and knows of models, read from its source: importing it would import torch.

Where transformers is not installed, or its source is written in another way, the answer is None: not known.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

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


def causal_families(folder: Path | None = None) -> tuple[str, ...] | None:
    """The families that ``AutoModelForCausalLM`` makes a model of, by ``model_type``.

    Args:
        folder: Of transformers; None: of the installed one.
    """
    folder = folder or installed_folder()
    return None if folder is None else _causal_families(folder)


@cache
def _causal_families(folder: Path) -> tuple[str, ...] | None:
    """Those of one folder; what is installed stays as it is, its file is long, and every recipe asks."""
    tree = _tree(folder, _AUTO)
    for name, value in _assigned(tree.body if tree is not None else []):
        if name == _CAUSAL and isinstance(value, ast.Call) and value.args:
            try:
                pairs = ast.literal_eval(value.args[0])
                return tuple(str(family) for family, _ in pairs) or None
            except (ValueError, TypeError):
                return None
    return None


def class_defaults(family: str, folder: Path | None = None) -> Mapping[str, Any] | None:
    """What a family's configuration takes where its ``config.json`` says nothing: numbers, words, yes, no and None.

    Args:
        family: Its ``model_type``.
        folder: Of transformers; None: of the installed one.
    """
    folder = folder or installed_folder()
    for place in dict.fromkeys((family, family.removesuffix("_text"))):
        for item in _classes(folder, Path("models", place, f"configuration_{place}.py")):
            own = {**dict(_constants(item.body)), **_taken(item)}
            if own.get(_TYPE) == family:
                return {**_every(folder), **own}
    return None


@cache
def _every(folder: Path | None) -> Mapping[str, Any]:
    """What every family takes; see `_causal_families`."""
    return next((_taken(base) for base in _classes(folder, _BASE) if base.name in _BASES), {})


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
