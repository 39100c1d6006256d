"""Writes ``docs/recipe.md`` from the schema of recipes: ``python docs/recipe.py``.

Every key with its type, its default and its meaning, and examples that are read here as a recipe is. With ``--check``
nothing is written, and the status is 1 where the page differs.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from made_page import keep

from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.recipe.schema import json_schema

PAGE: Final = Path(__file__).parent / "recipe.md"
COMMAND: Final = "python docs/recipe.py"
EXAMPLES: Final = Path(__file__).parent / "recipe_examples"
DIFF: Final = EXAMPLES / "own.diff"

_TOP: Final = "Page"
# Where each part stands, in the order of the page.
_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    _TOP: ("The page", "the top of the file"),
    "Base": ("base", "`base`"),
    "Shape": ("base.shape", "`base.shape`"),
    "Build": ("base.build", "`base.build`"),
    "NewTokenizer": ("base.build.tokenizer", "`base.build.tokenizer`"),
    "Pretraining": ("base.build.pretraining", "`base.build.pretraining`"),
    "Tokenizer": ("tokenizer", "`tokenizer`"),
    "Extension": ("tokenizer.extend", "`tokenizer.extend`"),
    "Data": ("data", "`data`"),
    "Source": ("data.sources.NAME", "each name in `data.sources`"),
    "Filters": ("data.sources.NAME.filters", "`filters` of a source"),
    "HangulShare": ("…filters.hangul_share", "`filters.hangul_share`"),
    "Repetition": ("…filters.repetition", "`filters.repetition`"),
    "PerplexityBand": ("…filters.perplexity", "`filters.perplexity`"),
    "EvalSet": ("eval.NAME", "each name in `eval`"),
    "Defaults": ("defaults", "`defaults`"),
    "Stage": ("stages.NAME", "each name in `stages`"),
    "Trains": ("stages.NAME.trains", "`trains` of a stage"),
    "Lora": ("stages.NAME.lora", "`lora` of a stage"),
    "StageWatch": ("stages.NAME.watch", "`watch` of a stage or of `defaults`"),
}
_TEXTS: Final = {
    r"^[a-z][a-z0-9_-]{0,63}$": "name",
    r"^[a-z]{2,3}$": "language code",
    r"^[1-9][0-9]{0,3}$": 'number in quotation marks',
}
_KINDS: Final = {"integer": "whole number", "number": "number", "boolean": "true or false", "null": "nothing"}
_BOUNDS: Final = {
    "minimum": "at least {}", "exclusiveMinimum": "more than {}", "exclusiveMaximum": "less than {}",
    "maximum": "at most {}", "multipleOf": "a multiple of {}",
}  # fmt: skip
_BEYOND: Final = 10**12  # a largest value that no one comes near is not worth its place

_HEAD: Final = """\
# The recipe, key by key

<!-- Made from the schema by `{command}`. -->

A recipe is one YAML file. `ko-cpt recipes new` writes one and explains every line, `ko-cpt recipes copy ID` makes a
bundled one your own, `ko-cpt validate FILE` tells every mistake with its line. An editor completes the keys:

```sh
ko-cpt recipes schema > recipe.schema.json
```

and, as the first line of a recipe beside it, `# yaml-language-server: $schema=recipe.schema.json`.

Names are small letters, digits, - and _, and begin with a letter. Anchors (`&a`), aliases (`*a`) and merge keys (`<<`)
may be used. On the command line `--set KEY=VALUE` gives another value, `--set 'stages.*.arguments.max_steps=100'` one
for every name that is there."""

_COPY: Final = """\
## A bundled recipe, made your own

Another base and another corpus are three lines of a copy, the rest holds:

```text
$ ko-cpt recipes copy medgemma-a6000-8bit mine.yaml
```

```diff
{diff}
```

`models/qwen3` is a folder with a model: its config.json counts, so `base.shape`, written for the model of before, may
stay, and a note says what is not used of it. A revision is of the hub alone. Then:

```text
$ ko-cpt validate mine.yaml          # every mistake with its line, files and columns too
$ ko-cpt train mine.yaml --smoke     # a few steps of each stage, on your model made small and the first of your texts
$ ko-cpt train mine.yaml
```"""


def page() -> str:
    """The whole page."""
    schema = json_schema()
    parts = {_TOP: schema, **schema["$defs"]}
    if set(parts) != set(_PLACES):
        raise ValueError(f"expected a place for each part, found {sorted(set(parts) ^ set(_PLACES))} on one side only")
    texts = [_HEAD.format(command=COMMAND), _COPY.format(diff=DIFF.read_text("utf-8").rstrip()), *_examples()]
    texts += [_part(name, parts[name]) for name in _PLACES]
    return "\n\n".join(texts) + "\n"


def _examples() -> Iterator[str]:
    """The examples, each read as a recipe."""
    for path in sorted(EXAMPLES.glob("*.yaml")):
        text = path.read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "example.yaml")
            copy.write_text(text, "utf-8")
            title = read_recipe(copy).recipe.title
        yield f"## Example: {title}\n\n```yaml\n{text.rstrip()}\n```"


def _part(name: str, part: Mapping[str, Any]) -> str:
    title, _ = _PLACES[name]
    rows = ["| key | what | default | meaning |", "|---|---|---|---|"]
    needed = part.get("required", [])
    for key, entry in part["properties"].items():
        default = "needed" if key in needed else _default(entry)
        rows.append(f"| `{key}` | {_kind(entry)} | {default} | {_cell(entry['description'])} |")
    return f"## {title if name == _TOP else f'`{title}`'}\n\n{_cell(part['description'])}\n\n" + "\n".join(rows)


def _default(entry: Mapping[str, Any]) -> str:
    value = entry.get("default")
    if value is None or value == []:
        return ""
    return f"`{'true' if value is True else 'false' if value is False else value}`"


def _kind(entry: Mapping[str, Any]) -> str:
    """What may stand there."""
    for way in ("anyOf", "oneOf"):
        if way in entry:
            kinds = [_kind(part) for part in entry[way] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "$ref" in entry:
        return _link(entry["$ref"])
    if "enum" in entry or "const" in entry:
        words = [f"`{word}`" for word in entry.get("enum", [entry.get("const")])]
        return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    if entry.get("type") == "array":
        return f"list of {_kind(entry['items'])}"
    if entry.get("type") == "object":
        inner = next(iter(entry.get("patternProperties", {}).values()), entry.get("additionalProperties"))
        return f"names, each with {_kind(inner)}" if inner else "names and values"
    if entry.get("type") == "string":
        return _TEXTS.get(entry.get("pattern", ""), "text")
    return ", ".join([_KINDS.get(entry.get("type", ""), "any value"), *_limits(entry)])


def _limits(entry: Mapping[str, Any]) -> Iterator[str]:
    for name, words in _BOUNDS.items():
        if name in entry and entry[name] < _BEYOND:
            yield words.format(f"{entry[name]:,}")


def _link(reference: str) -> str:
    title, place = _PLACES[reference.rpartition("/")[2]]
    anchor = re.sub(r"[^a-z_-]", "", title.lower())
    return f"[{place}](#{anchor})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(*, check: bool) -> int:
    """Write the page, or with ``check`` compare it; the exit status."""
    return keep({PAGE: page()}, "recipe", check=check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
