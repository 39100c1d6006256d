"""Where a measurement is kept: the sums of each document as they come, then the numbers in the form of a run.

``DIR/<model>/ko_cpt/`` is a run folder as the callback writes one, without findings: `ko-cpt baselines add` and
`ko-cpt compare` take it. Beside it ``documents/<process>.jsonl`` has a line for each document, which a measurement that
was killed goes on from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.measure.document import DocumentSums
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.file import append_line, json_lines, json_page, opening_failure, read_text, write_whole
from ko_cpt_callbacks.run.folder import RUN_FORMAT, eval_rows_path

__all__ = ["MeasureFolder", "Place", "is_measured"]

Place = tuple[str, str]
"""Of a document: its set and its id."""

_DOCUMENTS: Final = "documents"
_FORMAT: Final = 1
_NOTHING_JUDGED: Final = {
    "task": "cpt", "retention": [], "stop_on": [], "grace": {"steps": 0, "tokens": 0}, "targets": [], "patience": None,
    "min_delta": 0.0, "rules": [], "limits": {}, "outputs": ["files"], "language": "en", "baseline": None,
    "stage": "auto",
}  # fmt: skip


def is_measured(path: Path) -> bool:
    """Whether a folder is one that a model's measurement is kept in."""
    return (path / keys.FOLDER / _DOCUMENTS).is_dir()


class MeasureFolder:
    """One model's measurement on disk.

    Args:
        path: Its folder.
        settings: Everything that decides the numbers, as JSON values: sums made under others are not gone on with.
            None: to read what is there.
        process: Number of this process; each has a file of its own.

    Raises:
        ConfigurationError: If sums of another measurement are there, or the folder is a run's, a model's or another's.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any] | None, process: int = 0) -> None:
        self.path = path
        if settings is not None and not is_measured(path) and any(one.is_file() for one in path.rglob("*")):
            # `finish` would write over the findings of a run whose name is the model's.
            raise ConfigurationError(
                f"-o: found something in {path} that is no measurement, expected an empty or a new folder for the "
                "results; name another one with -o"
            )
        self._settings = json.loads(json.dumps(settings))
        self._file = path / keys.FOLDER / _DOCUMENTS / f"{process}.jsonl"
        self.documents: dict[Place, DocumentSums] = dict(self._read())
        self.measured: Mapping[str, Any] | None = self._finished()

    def begin(self) -> None:
        """Make this process's file, unless it is there; half a first line is none."""
        if not self._file.exists() or b"\n" not in self._file.read_bytes():
            self._append({"format": _FORMAT, "settings": self._settings})

    def add(self, sums: DocumentSums) -> None:
        """Keep the sums of a document: one write, so that a kill leaves all of them or none."""
        self._append(sums.as_dict())
        self.documents[sums.set, sums.id] = sums

    def read_again(self) -> None:
        """Take in what other processes kept since."""
        self.documents = dict(self._read())

    def finish(
        self,
        sets: Mapping[str, tuple[Mapping[str, Any], RowSums]],
        facts: Mapping[str, Any],
        measured: Mapping[str, Any],
    ) -> None:
        """Write the numbers as an evaluation without training.

        Args:
            sets: By name: the entries of its row without a prefix, and its per-row sums.
            facts: What the model is, as ``run.json`` has it.
            measured: How it was measured.
        """
        folder = self.path / keys.FOLDER
        started = datetime.now(UTC).isoformat(timespec="seconds")
        attempt = {"attempt": 1, "mode": keys.MODE_EVALUATE, "start_step": 0, "started": started}
        lines = []
        try:
            for name, (entries, rows) in sets.items():
                prefix = keys.key("eval", name)
                write_whole(eval_rows_path(folder, prefix, 0), rows.to_payload())
                head = {keys.KIND: keys.KIND_EVAL, keys.ATTEMPT: 1, keys.MODE: keys.MODE_EVALUATE, keys.SPLIT: prefix}
                # By the Trainer's own name too, which is what an evaluation's row is known by.
                every = {**entries, keys.LOSS: entries.get(keys.EXACT_LOSS)}
                named = {keys.key(prefix, entry): value for entry, value in every.items() if value is not None}
                lines.append({**head, keys.STEP: 0, **named})
            write_whole(folder / keys.FINDINGS_FILE, b"")
            write_whole(folder / keys.ROWS_FILE, json_lines(lines))
            page = {
                "format": RUN_FORMAT,
                "watch": _NOTHING_JUDGED,
                "attempts": [attempt],
                **facts,
                keys.MEASURED: measured,
            }
            write_whole(folder / keys.RUN_FILE, json_page(page).encode())
        except OSError as error:
            raise self._unwritable(error) from None

    def _finished(self) -> Mapping[str, Any] | None:
        """How it was measured; None where it is not finished under these settings."""
        page = self.path / keys.FOLDER / keys.RUN_FILE
        if not self.documents or not page.is_file():
            return None
        try:
            measured = json.loads(read_text(page)).get(keys.MEASURED)
        except (UnreadableRunError, ValueError, AttributeError):
            return None  # it is written anew
        return measured if isinstance(measured, dict) else None

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            append_line(self._file, json_lines([line]))
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> ConfigurationError:
        reason = error.strerror or str(error)
        return ConfigurationError(
            f"-o: found {self.path}, which cannot be written ({reason}), expected a folder with room; the same command "
            "goes on from what is kept"
        )

    def _read(self) -> Iterator[tuple[Place, DocumentSums]]:
        folder = self._file.parent
        try:
            paths = sorted(folder.glob("*.jsonl"))
        except OSError as error:
            raise ConfigurationError(f"-o: {folder}: {opening_failure(error)}") from None
        for path in paths:
            yield from self._read_file(path)

    def _read_file(self, path: Path) -> Iterator[tuple[Place, DocumentSums]]:
        try:
            # The last line may be half of one, which the next write cuts off.
            lines = [json.loads(line) for line in read_text(path).split("\n")[:-1]]
            found = lines[0]["settings"] if lines else self._settings or {}
            sums = [DocumentSums.of(line) for line in lines[1:]]
        except (UnreadableRunError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = error if isinstance(error, UnreadableRunError) else f"{type(error).__name__}: {error}"
            raise ConfigurationError(
                f"-o: found sums that cannot be read in {path} ({reason}), expected those that were kept here; delete "
                "the file to measure its documents again"
            ) from None
        own: dict[str, Any] = self._settings or {}
        other = next((name for name in own if found.get(name) != own[name]), None)
        if other is not None:
            shown = [json.dumps(one, ensure_ascii=False) for one in (found.get(other), own[other])]
            told = "another one" if max(map(len, shown)) > 60 else f"{shown[0]}, expected {shown[1]}"
            raise ConfigurationError(
                f"-o: found a measurement in {self.path} with {other}: {told}; name another folder, or delete it"
            )
        yield from (((one.set, one.id), one) for one in sums)
