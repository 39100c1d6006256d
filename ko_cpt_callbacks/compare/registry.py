"""Which baselines there are, and one by its id: those of this package, of other packages, and the user's own.

A file is read strictly. Nothing of it is executed, nothing is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.compare.baseline import Baseline, Efficiency
from ko_cpt_callbacks.compare.entry import Entry, disagreements
from ko_cpt_callbacks.compare.schema import BaselineFile
from ko_cpt_callbacks.compare.stage import NOT_STATED
from ko_cpt_callbacks.errors import BaselineError, ConfigurationError, meant
from ko_cpt_callbacks.plugin import BASELINES, Plugin, folder_file, plugins
from ko_cpt_callbacks.watch.argument import BaselineData
from ko_cpt_callbacks.yaml.mistake import Mistake, one_each, shape_mistakes, shown
from ko_cpt_callbacks.yaml.reading import KeyMistakes, leaves, no_mapping, read_document, read_text

FOLDER_VARIABLE: Final = "KO_CPT_BASELINES"
"""Names the folder of the user's own baselines."""

MAX_BYTES: Final = 65_536
"""The largest baseline that is read; chosen, not measured: the longest that comes with the package has 14,000."""

SUFFIX: Final = ".yaml"
_WHAT: Final = "a baseline"


def bundled_folder() -> Path:
    """The folder of baselines inside the package."""
    return Path(str(files("ko_cpt_callbacks") / "compare" / "data"))


def own_folder() -> Path:
    """The folder of the user's own: ``$KO_CPT_BASELINES``, else ``~/.ko_cpt/baselines``. It need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path.home() / ".ko_cpt" / "baselines"


def bundled_ids() -> tuple[str, ...]:
    """Ids of the baselines of the package, sorted: the names of the files."""
    return _ids(bundled_folder())


@cache
def plugin_baselines() -> tuple[Plugin[Path], ...]:
    """The files of the baselines that other packages add, by id; each can be used."""
    return plugins(BASELINES, bundled_ids(), _plugin_file)


def _plugin_file(name: str, folder: Any) -> Path:
    path = folder_file(folder, f"{name}{SUFFIX}")
    read_entry(path)
    return path


def installed_ids() -> tuple[str, ...]:
    """Ids that no file of the user's can have: those of this package, then those of other packages."""
    return (*bundled_ids(), *(one.name for one in plugin_baselines()))


def baseline_ids() -> tuple[str, ...]:
    """Ids of all baselines: those of the package, of other packages, then the user's own, each sorted.

    A file of the user's with the id of one that is installed is not among them: what a published run's id means is the
    same for everybody.
    """
    installed = installed_ids()
    return (*installed, *(name for name in _ids(own_folder()) if name not in installed))


def find_entry(name: str) -> Entry:
    """The baseline of an id, as its file has it.

    Raises:
        ConfigurationError: If there is none; tells what was probably meant.
        BaselineError: If its file cannot be used.
    """
    known = baseline_ids()
    if name not in known:
        _refuse_path(name)
        hint = meant(name, known)
        raise ConfigurationError(
            f"baseline {name!r}: found no such id, expected one of {', '.join(known)}; list them with "
            f"`ko-cpt baselines`.{hint}"
        )
    return _entry(name, bundled_ids())


def _refuse_path(name: str) -> None:
    """Refuse a file or a folder where an id is wanted, and say what takes it."""
    if os.path.exists(name):
        fix = f"`ko-cpt compare RUN --baseline {name}` takes a run, `ko-cpt baselines add {name} --id ID` keeps it"
        if name.endswith(SUFFIX):
            fix = f"a file in {own_folder()} is one, and `ko-cpt baselines validate {name}` checks it"
        raise ConfigurationError(
            f"baseline {name!r}: found a path, expected an id that `ko-cpt baselines` lists; {fix}."
        )


def _entry(name: str, bundled: tuple[str, ...]) -> Entry:
    if name in bundled:
        return _bundled_entry(name)
    added = {one.name: one.value for one in plugin_baselines()}
    return read_entry(added.get(name, own_folder() / f"{name}{SUFFIX}"))


@cache
def _bundled_entry(name: str) -> Entry:
    """An entry of this package, whose files stay as they are: every stage of a run asks for the same one."""
    return read_entry(bundled_folder() / f"{name}{SUFFIX}")


def find_baseline(name: str) -> Baseline:
    """The run to compare with that has an id.

    Args:
        name: As ``ko-cpt baselines`` lists it.

    Raises:
        ConfigurationError: If there is none; tells what was probably meant.
        BaselineError: If its file cannot be used.
    """
    return find_entry(name).baseline()


def baseline_data(name: str) -> BaselineData:
    """The same as JSON values, as `WatchSpec` has it.

    Raises:
        ConfigurationError, BaselineError: As `find_baseline` does.
    """
    return find_baseline(name).as_dict()


def entries() -> tuple[tuple[Entry, ...], tuple[BaselineError, ...]]:
    """All baselines in the order of `baseline_ids`, and the errors of those of the user's that cannot be used.

    Raises:
        BaselineError: If one of the package cannot be used.
    """
    found, errors = [], []
    bundled = bundled_ids()
    for name in baseline_ids():
        try:
            found.append(_entry(name, bundled))
        except BaselineError as error:
            if name in bundled:
                raise
            errors.append(error)
    return tuple(found), tuple(errors)


def efficiency_table() -> tuple[Efficiency, ...]:
    """Tokens per GPU hour of every baseline of which they are known, the fewest first, to place a run on."""
    rows = [row for entry in entries()[0] if (row := entry.efficiency()) is not None]
    return tuple(sorted(rows, key=lambda row: row.tokens_per_gpu_hour))


def _ids(folder: Path) -> tuple[str, ...]:
    try:
        names = [path.name for path in folder.iterdir() if path.is_file()]
    except OSError:
        return ()
    return tuple(sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def read_entry(path: Path) -> Entry:
    """The baseline of a file.

    Args:
        path: The file, ``<id>.yaml``.

    Raises:
        BaselineError: If it cannot be used. It tells every mistake, one a line: file and line, key, what was found,
            what is expected, and what was probably meant.
    """
    return parse_entry(read_text(path, MAX_BYTES, BaselineError, _WHAT, f"{_WHAT} of a few pages"), path)


def parse_entry(text: str, path: Path) -> Entry:
    """The baseline of a text that its file says, or will say: it need not be there.

    Raises:
        BaselineError: As `read_entry`.
    """
    document = read_document(text, _WHAT)
    if wrong := no_mapping(document, _WHAT):
        raise _error(wrong, path)
    file, mistakes = shape_mistakes(BaselineFile, document)
    told = [*document.mistakes, *document.placed(_blanks(document.values)), *mistakes]
    if file is not None:
        if path.name != f"{file.id}{SUFFIX}":
            told.append(Mistake(("id",), document.lines[("id",)], shown(file.id), f"the file's name {path.stem}"))
        told += document.placed((*disagreements(file), *_outside(file, path)))
    if told or file is None:
        raise _error(told, path)
    return Entry(path, file, document.values)


def _error(mistakes: Iterable[Mistake], path: Path) -> BaselineError:
    return BaselineError("\n".join(mistake.sentence(str(path)) for mistake in one_each(mistakes)))


def _blanks(values: Any) -> KeyMistakes:
    """Keys with nothing behind them: that a source does not state a value must be written."""
    for key, value in leaves(values):
        if value is None:
            yield key, "nothing", f"a value, or the text {NOT_STATED}", None


def _outside(file: BaselineFile, path: Path) -> KeyMistakes:
    """Files of row sums that lie elsewhere than beside the baseline, through a link for example."""
    folder = path.parent.resolve()
    for number, value in enumerate(file.values or ()):
        if value.rows_file is not None and not (folder / value.rows_file).resolve().is_relative_to(folder):
            yield ("values", number, "rows_file"), shown(value.rows_file), "a file beside the baseline", None
