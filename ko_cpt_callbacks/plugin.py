"""What other packages add: rules, sentences, baselines, recipes and outputs, by the entry points that they declare.

============================  ==================================================  ====================================
group                         name                                                value
============================  ==================================================  ====================================
``ko_cpt_callbacks.rules``      the code                                          the class, ``package.module:Class``
``ko_cpt_callbacks.messages``   the package's                                     a folder with ``en.toml``, ``ko.toml``
``ko_cpt_callbacks.baselines``  the id                                            a folder with ``<id>.yaml``
``ko_cpt_callbacks.recipes``    the id                                            a folder with ``<id>.yaml``
``ko_cpt_callbacks.outputs``    what ``outputs=`` names                           what makes one of an ``output_dir``
============================  ==================================================  ====================================

A folder is named as a package of Python: ``ko_cpt_even.data``. A plugin that cannot be used is reported once, as a
warning that names it, and left out: nothing of another package ends a run or a check. Nothing is read or imported
before something asks for a group, and each group is asked for once in a process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from ko_cpt_callbacks.errors import ConfigurationError, error_text, near_miss

__all__ = ["BASELINES", "MESSAGES", "OUTPUTS", "RECIPES", "RULES", "Plugin", "folder_file", "plugins"]

RULES: Final = "ko_cpt_callbacks.rules"
MESSAGES: Final = "ko_cpt_callbacks.messages"
BASELINES: Final = "ko_cpt_callbacks.baselines"
RECIPES: Final = "ko_cpt_callbacks.recipes"
OUTPUTS: Final = "ko_cpt_callbacks.outputs"

_PREFIX: Final = "ko_cpt_callbacks."
_GROUPS: Final = (RULES, MESSAGES, BASELINES, RECIPES, OUTPUTS)
_SHOWN: Final = 300  # letters of another package's exception; chosen, not measured

_log = logging.getLogger("ko_cpt_callbacks")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plugin(Generic[T]):
    """One thing that another package adds.

    Args:
        name: Name of the entry point.
        package: Name and version of the distribution that declares it.
        value: What it adds, checked.
    """

    name: str
    package: str
    value: T


def plugins(group: str, known: Collection[str], read: Callable[[str, Any], T]) -> tuple[Plugin[T], ...]:
    """Everything that other packages add to a group, in the order of its names; what cannot be used is left out.

    It runs the code of other packages and reports what it leaves out, so callers keep what it returns.

    Args:
        group: One of this module's groups.
        known: Names that are taken already.
        read: Makes a value of an entry point's name and of what the entry point loads. Whatever it raises leaves the
            plugin out.
    """
    found: list[Plugin[T]] = []
    for entry in _declared():
        if entry.group != group:
            continue
        package = _package(entry)
        try:
            if entry.name in known or entry.name in [one.name for one in found]:
                raise ConfigurationError(f"found the name {entry.name!r}, which is taken, expected another one")
            found.append(Plugin(entry.name, package, read(entry.name, entry.load())))
        except (Exception, SystemExit) as error:  # a module may also call sys.exit when it is imported
            reason = str(error) if isinstance(error, ConfigurationError) else error_text(error, _SHOWN)
            _log.warning(
                "Plugin %s: %s of %s (%s) is left out: %s",
                package,
                entry.name,
                group.removeprefix(_PREFIX),
                entry.value,
                reason,
            )
    return tuple(found)


def folder_file(module: Any, name: str) -> Path:
    """A file in the folder of a package.

    Raises:
        ConfigurationError: If it is not there.
    """
    folder = files(module)
    path = Path(str(folder.joinpath(name)))
    if not path.is_file():
        there = [item.name for item in folder.iterdir()]
        near = near_miss(name, there)
        hint = "" if near is None else f". Did you mean {near}?"
        raise ConfigurationError(f"found no file {name} in {getattr(module, '__name__', module)}, expected one{hint}")
    return path


@cache
def _declared() -> tuple[EntryPoint, ...]:
    """All entry points of this package's groups: the same order wherever the same packages are installed."""
    try:
        installed = entry_points()
        groups = [group for group in installed.groups if group.startswith(_PREFIX)]
        every = [entry for group in groups for entry in installed.select(group=group)]
    except Exception as error:  # the metadata of any package that is installed may be damaged
        _log.warning("No plugin is read: the packages that are installed cannot be listed: %s", error)
        return ()
    for entry in every:
        if entry.group not in _GROUPS:
            near = near_miss(entry.group, _GROUPS, 0.0)
            _log.warning(
                "Plugin %s: %s is left out: found the group %s, expected one of %s. Did you mean %s?",
                _package(entry),
                entry.name,
                entry.group,
                ", ".join(_GROUPS),
                near,
            )
    return tuple(sorted(every, key=lambda entry: (entry.group, entry.name, _package(entry), entry.value)))


def _package(entry: EntryPoint) -> str:
    return "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
