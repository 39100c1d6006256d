"""The words that an argument knows, ``cosine`` or ``steps``, read from the installed transformers without importing it.

The class itself refuses an unknown one, but only when a training begins.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from typing import Any, Final

from ko_cpt_callbacks.recipe.arguments import installed_arguments
from ko_cpt_callbacks.recipe.installed import installed_folder
from ko_cpt_callbacks.yaml.mistake import Key, near_miss, shown
from ko_cpt_callbacks.yaml.reading import KeyMistakes, mapping

_FILES: Final = ("trainer_utils.py", "training_args.py")
_ENUM: Final = "ExplicitEnum"
_SHOWN: Final = 8
"""Words that an error lists; the optimizers are some fifty."""


def choice_mistakes(values: Any) -> KeyMistakes:
    """Words that an argument does not know."""
    words = installed_choices()
    ways: list[Key] = [("base", "build", "pretraining", "arguments")]
    ways += [("stages", name, "arguments") for name in mapping(values, "stages")]
    for way in ways:
        for name, value in mapping(values, *map(str, way)).items():
            known = words.get(name)
            if known and isinstance(value, str) and value not in known:
                listed = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
                begun = next((word for word in known if value and word.startswith(value)), None)
                yield (*way, name), shown(value), f"one of {listed}", begun or near_miss(value, known)


@functools.cache
def installed_choices() -> Mapping[str, tuple[str, ...]]:
    """The words of each argument that knows some and no others; empty where transformers is not found."""
    enums: dict[str, tuple[str, ...]] = {}
    folder = installed_folder()
    for path in [] if folder is None else [folder / file for file in _FILES]:
        try:
            enums |= read_choices(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
    annotations = installed_arguments() or {}
    named = {name: [enum for enum in re.findall(r"\w+", text) if enum in enums] for name, text in annotations.items()}
    return {name: enums[found[0]] for name, found in named.items() if len(found) == 1}


def read_choices(source: str) -> dict[str, tuple[str, ...]]:
    """The words of each enumeration of texts in a module.

    Args:
        source: The module's text.
    """
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return {}
    return {
        item.name: tuple(
            part.value.value
            for part in item.body
            if isinstance(part, ast.Assign)
            and isinstance(part.value, ast.Constant)
            and isinstance(part.value.value, str)
        )
        for item in body
        if isinstance(item, ast.ClassDef) and any(ast.unparse(parent) == _ENUM for parent in item.bases)
    }
