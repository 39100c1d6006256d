"""Writes ``docs/api.md`` from the docstrings of the public names: ``python docs/api.py``.

Public is what ``ko_cpt_callbacks.__all__`` names, with the attributes and methods that have no leading underscore and
are defined by this package. With ``--check`` nothing is written, and the status is 1 where the page differs.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from made_page import keep

import ko_cpt_callbacks
from ko_cpt_callbacks import plugin

PAGE: Final = Path(__file__).parent / "api.md"
COMMAND: Final = "python docs/api.py"

_HEAD: Final = f"""\
# API

<!-- Made from the docstrings by `{COMMAND}`. -->

These names are public: `from ko_cpt_callbacks import …`. Every other module may change in any release. The finding
codes, the row keys, the files of a run with their schemas, the commands with their `--json` and the entry points are
public too. [CONTRIBUTING.md](../CONTRIBUTING.md#what-is-public) says how a public name changes.
"""
_SECTIONS: Final = ("Args", "Attributes", "Returns", "Raises", "Yields")
_EVENT: Final = re.compile(r"on_[a-z_]+")  # the Trainer calls these, no one else


def text_of(thing: Any) -> str:
    """A docstring as Markdown: references as code, sections as lists."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    shown: list[str] = []
    section = ""
    for line in lines:
        name = line.rstrip(":")
        if name in _SECTIONS and line.endswith(":"):
            section = name
            shown.append(f"**{name}**\n")
        elif section and (item := re.fullmatch(r" {4}(\*{0,2}\w+(?:, \w+)*): (.*)", line)):
            shown.append(f"- `{item[1]}`: {item[2]}")
        elif section and line.startswith(" "):
            shown.append(f"  {line.strip()}" if shown[-1].startswith(("- ", "  ")) else line.strip())
        else:
            section = ""
            shown.append(line)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", "\n".join(shown))
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    return re.sub(r"::\n\n((?:    .*\n?)+)", _code, text).strip()


def _code(match: re.Match[str]) -> str:
    body = inspect.cleandoc(match[1])
    return f":\n\n```python\n{body}\n```\n"


def signature(name: str, thing: Any) -> str:
    """A call as it is written, without the types, which the docstring explains."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return name
    plain = [
        one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values() if one.name != "self"
    ]
    return f"{name}{found.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class of this package defines, in the order of the source."""
    for name, value in vars(cls).items():
        if name.startswith("_") or _EVENT.fullmatch(name):
            continue
        if isinstance(value, property):
            yield name, value
        elif isinstance(value, (classmethod, staticmethod)):
            yield f"{name}", value.__func__
        elif inspect.isfunction(value):
            yield name, value


def entry(name: str) -> str:
    """One public name."""
    thing = getattr(ko_cpt_callbacks, name)
    head = f"## `{name}`"
    if inspect.isclass(thing) and issubclass(thing, (BaseException, str)):
        return f"{head}\n\n{text_of(thing)}\n"
    parts = [head, f"```python\n{signature(name, thing)}\n```", text_of(thing)]
    if inspect.isclass(thing):
        for member, value in members(thing):
            call = member if isinstance(value, property) else signature(member, value).replace("(cls, ", "(")
            parts += [f"### `{name}.{call}`", text_of(value)]
    return "\n\n".join(parts) + "\n"


def page() -> str:
    """The whole page."""
    names = [name for name in ko_cpt_callbacks.__all__ if not name.startswith("__")]
    groups = (plugin.RULES, plugin.MESSAGES, plugin.BASELINES, plugin.RECIPES, plugin.OUTPUTS)
    doors = "\n".join(f"- `{group}`" for group in groups)
    tail = f"## Entry points\n\n{doors}\n\n[Extending](extending.md) says what each takes.\n"
    return "\n".join([_HEAD, *(entry(name) for name in names), tail])


def main(*, check: bool) -> int:
    """Write the page, or with ``check`` compare it; the exit status."""
    return keep({PAGE: page()}, "api", check=check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
