"""What a recipe may say, for editors and for people: the JSON Schema, with the words that stand in the schema's source.

An editor completes and checks a recipe that begins with ``# yaml-language-server: $schema=recipe.schema.json``.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel

from ko_cpt_callbacks.recipe.schema import Page, Stage

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_TITLE: Final = "Recipe of ko-cpt"
_PARTS: Final = "$defs"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, every key with its meaning.

    What parts must agree on it cannot say; ``ko-cpt validate`` does.
    """
    schema = Page.model_json_schema()
    parts = {Page.__name__: schema, **schema.get(_PARTS, {})}
    for model in _models(Page):
        words = key_words(model)
        for name, entry in parts[model.__name__].get("properties", {}).items():
            entry.pop("title", None)
            if entry.get("default") == "" or isinstance(entry.get("default"), dict):  # the words say it
                del entry["default"]
            if name in words:
                entry["description"] = words[name]
        parts[model.__name__].pop("title", None)
        parts[model.__name__]["description"] = plain(inspect.getdoc(model) or "")
    parts[Stage.__name__]["required"].remove("arguments")  # they may stand in `defaults`
    return {"$schema": _DRAFT, "title": _TITLE, **schema}


def key_words(model: type[BaseModel]) -> Mapping[str, str]:
    """What each key of a part means, by name: the texts below the fields in its source."""
    tree = ast.parse(inspect.getsource(sys.modules[model.__module__]))
    (body,) = (item.body for item in tree.body if isinstance(item, ast.ClassDef) and item.name == model.__name__)
    found: dict[str, str] = {}
    for item, below in itertools.pairwise(body):
        if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(below, ast.Expr)):
            continue
        if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[item.target.id] = plain(inspect.cleandoc(below.value.value))
    return found


def plain(text: str) -> str:
    """A text of the source in one line, with the marks of Markdown."""
    return " ".join(text.replace("``", "`").split())


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A part and all parts in it, each once."""
    waiting, seen = [model], {model}
    while waiting:
        part = waiting.pop()
        yield part
        for found in (item for field in part.model_fields.values() for item in _inside(field.annotation)):
            if found not in seen:
                seen.add(found)
                waiting.append(found)


def _inside(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _inside(inner)
