"""The user's own runs as baselines: files beside each other in one folder, added and never changed on the quiet.

Beside the figures stand the run's evaluations step by step, for later runs of the same set-up (`read_family`).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

from ko_cpt_callbacks.compare.entry import Entry
from ko_cpt_callbacks.compare.own_run import own_run
from ko_cpt_callbacks.compare.registry import SUFFIX, bundled_ids, installed_ids, own_folder, parse_entry
from ko_cpt_callbacks.compare.schema import ID_PATTERN
from ko_cpt_callbacks.errors import BaselineError, ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.forecast.family import FamilyRun, Unfit, family_in, family_row, family_run
from ko_cpt_callbacks.forecast.outlook import outlook_of
from ko_cpt_callbacks.run.file import read_json, remove_stale, write_whole
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.run.reading import read_run

__all__ = ["OWN_RUNS", "Added", "add_own", "asked_family", "read_family", "yaml_text"]

OWN_RUNS: Final = "own"
"""In place of a run of a family: all own runs whose evaluations are kept."""
FINISHED: Final = "a finished run with exact losses"
_CURVES: Final = "curves.json"


@dataclass(frozen=True, slots=True)
class Added:
    """A baseline that was just added, and what of the run could not be kept, a sentence each."""

    entry: Entry
    left_out: tuple[str, ...]


def add_own(run: str | Path, id: str, title: str | None = None, *, best: bool = False, force: bool = False) -> Added:
    """Keep a run as a baseline of the user's.

    Args:
        run: A run folder, a checkpoint or a ``trainer_state.json``.
        id: Its id: small letters, digits, ``-``, ``_`` and ``.``; none of the package's.
        title: One line for people; None: made from the model's name.
        best: Take the evaluation with the lowest loss of each set instead of the last.
        force: Replace a baseline of the user's that has this id.

    Raises:
        ConfigurationError: If the id cannot be used, or is taken and ``force`` is not given.
        UnreadableRunError: If the run cannot be read, or holds no loss that is a number.
        BaselineError: If the folder cannot be written.
    """
    _check_id(id)
    folder = own_folder()
    path = folder / f"{id}{SUFFIX}"
    if path.exists() and not force:
        raise ConfigurationError(
            f"--id: found {id!r}, which is there already ({path}), expected another; or give --force"
        )
    found = read_run(run)
    told = found.run_file()
    kept = own_run(found, {} if told is None else _read_json(told), id, title, best=best)
    payload = yaml_text(kept.values)
    entry = parse_entry(payload, path)
    curves = family_run(outlook_of(found.observations()), id)
    if not (folder / id).resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"{folder / id}: found a link that leads out of {folder}, expected a folder; move it away"
        )
    remove_stale(folder, alone=False)
    remove_stale(folder / id, alone=False)
    try:
        # The sums first: a baseline never names a file that is not there.
        for name, source in kept.rows_files.items():
            write_whole(folder / id / name, source.read_bytes())
        if isinstance(curves, FamilyRun):
            write_whole(folder / id / _CURVES, json.dumps(family_row([curves])).encode())
        else:
            (folder / id / _CURVES).unlink(missing_ok=True)
        write_whole(path, payload.encode())
        for stale in (folder / id).glob("*.npz"):
            if stale.name not in kept.rows_files:
                stale.unlink()
    except OSError as error:
        reason = f"found {error.strerror or error}, expected a folder that can be written"
        raise BaselineError(f"{path}: {reason}; name another in KO_CPT_BASELINES.") from None
    return Added(entry, kept.left_out)


def read_family(named: Iterable[str]) -> tuple[FamilyRun, ...]:
    """Finished runs of one set-up. Runs that end at the same numbers are one: it says nothing of a spread.

    Args:
        named: Of each run its folder (any form that `read_run` takes), or its id as an own baseline; `OWN_RUNS`: all
            own baselines that have their evaluations.

    Raises:
        ConfigurationError: For a run that cannot be one of a family: it has not come to its end, or its evaluations
            are not exact; or for a name of neither a run nor an own baseline with evaluations.
        UnreadableRunError: If a run or a file cannot be read.
    """
    runs: list[FamilyRun] = []
    for name in named:
        if name == OWN_RUNS:
            runs += [run for path in sorted(own_folder().glob(f"*/{_CURVES}")) for run in _kept_run(path)]
        elif (own_folder() / f"{name}{SUFFIX}").is_file() and not Path(name).exists():
            kept = own_folder() / name / _CURVES
            if not kept.is_file():
                raise ConfigurationError(f"family: found {name!r}, whose evaluations are not kept, expected {FINISHED}")
            runs += _kept_run(kept)
        elif not name or not Path(name).exists():
            kept_ids = ", ".join(sorted(path.parent.name for path in own_folder().glob(f"*/{_CURVES}"))) or "none"
            raise ConfigurationError(
                f"family: found {name!r}, neither a run nor an own baseline, expected {FINISHED}; own ones: {kept_ids}"
            )
        else:
            run = family_run(outlook_of(read_run(name).observations()), name)
            if isinstance(run, Unfit):
                raise ConfigurationError(f"family: found {name!r}, of which {run}, expected {FINISHED}")
            runs.append(run)
    return tuple(run for place, run in enumerate(runs) if not any(run.is_run(other) for other in runs[:place]))


def asked_family(named: Iterable[str]) -> tuple[FamilyRun, ...]:
    """`read_family` of an option, which asks about runs: none at all is no answer.

    Raises:
        ConfigurationError: As there, or if no own baseline has its evaluations.
    """
    runs = read_family(named)
    if not runs:
        raise ConfigurationError(
            f"--family: found no own baseline with its evaluations in {own_folder()}, expected {FINISHED}; "
            "`ko-cpt baselines add RUN` keeps one"
        )
    return runs


def _kept_run(path: Path) -> tuple[FamilyRun, ...]:
    anew = "`ko-cpt baselines add --force` writes it anew"
    runs = family_in(SetupObservation(0, FAMILY, _read_json(path, anew)))
    if not runs:
        raise UnreadableRunError(f"{path}: found no run of a family, expected one; {anew}")
    return runs


def yaml_text(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that is read back as the same values."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    yaml.Representer = _Plain
    stream = io.StringIO()
    yaml.dump(dict(values), stream)
    return stream.getvalue()


class _Plain(SafeRepresenter):
    """Writes every value out: an anchor is refused when the file is read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _check_id(id: str) -> None:
    if not re.fullmatch(ID_PATTERN, id):
        expected = "at most 64 small letters, digits, -, _ and ., the first a letter or digit"
        near = re.sub(r"[^a-z0-9._-]+", "-", id.lower()).strip("-._")[:64]
        hint = f" Did you mean {near}?" if near else ""
        raise ConfigurationError(f"--id: found {id!r}, expected {expected}.{hint}")
    if id in installed_ids():
        whose = "the" if id in bundled_ids() else "another"
        raise ConfigurationError(f"--id: found {id!r}, a baseline of {whose} package, expected an id of your own.")


def _read_json(path: Path, remedy: str = "move it away to add the run without") -> Mapping[str, Any]:
    found = read_json(path, "a whole file", remedy)
    return found if isinstance(found, dict) else {}
