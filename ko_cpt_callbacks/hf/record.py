"""The live side of the fold: rows in, findings out, every output served."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.checkpoint.account import Account, account_beside
from ko_cpt_callbacks.checkpoint.page import keep_line
from ko_cpt_callbacks.errors import UnreadableRunError, error_text
from ko_cpt_callbacks.forecast.chance import row_numbers
from ko_cpt_callbacks.hf.tracker import TrackerOutput
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.report.output import ReportOutput
from ko_cpt_callbacks.rules.monitor import Monitor, MonitorState
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.rules.setup.check import ForeignRecord, TwoWriters
from ko_cpt_callbacks.run.console import ConsoleOutput, Goal
from ko_cpt_callbacks.run.facts import facts_of
from ko_cpt_callbacks.run.file import read_text, strict
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.folder import RUN_FORMAT, RunFolder
from ko_cpt_callbacks.run.observation import EvalObservation
from ko_cpt_callbacks.run.output import Output, OutputFan, made_by_plugin
from ko_cpt_callbacks.run.progress import Summary
from ko_cpt_callbacks.run.reading import PLAN_FILE, read_run
from ko_cpt_callbacks.run.resume import last_attempt, plan_attempt
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.run.rows import line_of, observations, observations_of, read_rows
from ko_cpt_callbacks.watch.spec import WatchSpec

_log = logging.getLogger("ko_cpt_callbacks")

_OF_AN_ATTEMPT = ("versions", "world_size", "arguments")
"""Facts that each attempt keeps for itself; those of the last are the run's."""


class LiveRecord:
    """One run's rows and findings while it runs; the same on every rank, written by the first."""

    def __init__(
        self, spec: WatchSpec, outputs: Sequence[str | Output], output_dir: Path,
        callbacks: Callable[[], Iterable[object]] = tuple, *, writes: bool,
    ) -> None:  # fmt: skip
        self._folder = output_dir / keys.FOLDER
        self._targets, self._retention, self._language = spec.targets, spec.retention, spec.language
        self._monitor = Monitor(rules_for(spec), task=spec.task)
        self._state = self._monitor.initial()
        made = _outputs(outputs, output_dir, spec, callbacks, self._checkpoint_line) if writes else []
        self._outputs = OutputFan(made)
        # None where this process writes no files.
        self._files = next((item for item in made if isinstance(item, RunFolder)), None)
        # The process that writes in this folder already, where one does.
        self._other: str | None = None
        named = [item if isinstance(item, str) else item.name for item in outputs]
        self._watch = {**spec.to_json(), "outputs": named}
        # Evaluating in the folder of a trained run, whose run.json and findings.jsonl tell of its training.
        self._guest = False
        # What the first rank read to make its plan, until the record begins.
        self._known: dict[str, Any] = {"attempts": []}
        self._lines: list[dict[str, Any]] = []
        self._folded: tuple[MonitorState, tuple[Finding, ...]] | None = None
        self.findings: list[Finding] = []
        # Numbers of the forecasts that were added to the last row.
        self.ahead: dict[str, float] = {}
        self._unforeseen = False
        self.run: dict[str, Any] = {}
        self.attempt = 0
        # With save_total_limit=1 the Trainer deletes again after its closing row: what is there then is not known yet.
        self.keeps_several = True
        self.mode: str | None = None

    @property
    def begun(self) -> bool:
        """Whether rows can be added."""
        return self.attempt > 0

    def leave_files(self, reason: str) -> None:
        """Write no files for the rest of this run, because of ``reason``."""
        if self._files is not None:
            self._files = None
            self._outputs.drop(RunFolder.name, reason)

    def summary(self) -> Summary:
        """What the run has reached."""
        return self._state.summary()

    def checkpoints(self) -> Account | None:
        """What is on disk of the run that this process writes; None where nothing is, or nothing tells."""
        if self._files is None or self.mode is not None:
            return None
        try:
            return account_beside(read_run(self._folder / keys.ROWS_FILE), self._retention)
        except Exception:  # a line less
            _log.debug("The checkpoints cannot be compared.", exc_info=True)
            return None

    def _checkpoint_line(self) -> str:
        account = self.checkpoints()
        return "" if account is None or not self.keeps_several else keep_line(account, self._language)

    def plan_evaluation(self) -> dict[str, Any]:
        """With what an evaluation without training begins, for every rank; the first rank makes it."""
        earlier, self._known = self._earlier()
        self._lines = earlier
        guest = any(line.get(keys.KIND) == keys.KIND_TRAIN for line in earlier)
        number = last_attempt([*earlier, *self._known["attempts"]]) + 1
        return {"attempt": number, "guest": guest, "notes": self._notes()}

    def begin_evaluation(self, facts: Mapping[str, Any], plan: Mapping[str, Any] | None = None) -> None:
        """An evaluation without training in this process: its rows stand apart from a trained run's.

        Args:
            facts: What the run is, for ``run.json``.
            plan: The first rank's :meth:`plan_evaluation`; None: this process's own.
        """
        agreed = self.plan_evaluation() if plan is None else plan
        self.attempt, self.mode = int(agreed["attempt"]), keys.MODE_EVALUATE
        self._guest = bool(agreed["guest"])
        self._open_attempt(facts, start_step=0)
        lines, self._lines = self._lines, []
        if self._guest:
            self._outputs.mute_findings(RunFolder.name)
            self._outputs.run(self.run)
        else:
            self._outputs.begin(self.run, lines, ())
        self._add_notes(agreed["notes"], step=0)

    def plan_training(self, log_history: Sequence[Mapping[str, Any]], start_step: int) -> dict[str, Any]:
        """With what a training begins, for every rank: attempt and lines that still hold; the first rank makes it."""
        earlier, self._known = self._earlier()
        session = self.attempt if self.mode == keys.MODE_EVALUATE else None
        record = plan_attempt(earlier, [strict(row) for row in log_history], start_step, session)
        last = last_attempt([*earlier, *self._known["attempts"]])
        number = session if session is not None and start_step == 0 else last + 1
        self._lines = list(record.lines)  # for the process that writes; the others need the live ones only
        live = [dict(line) for line in record.live]
        self._folded = self._monitor.fold(observations_of(live))
        return {"attempt": number, "live": live, "notes": self._notes(record.foreign)}

    def planned(self) -> Summary:
        """What the run that :meth:`plan_training` takes up has reached; on the rank that made the plan."""
        state = self._state if self._folded is None else self._folded[0]
        return state.summary()

    def begin_training(
        self, facts: Mapping[str, Any], start_step: int, plan: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Training begins, anew or resumed: replay what still holds, outputs muted.

        Returns:
            The lines that still hold, the same on every rank.
        """
        self.attempt, self.mode, self._guest = int(plan["attempt"]), None, False
        live: list[dict[str, Any]] = [dict(line) for line in plan["live"]]
        folded, self._folded = self._folded, None
        self._state, found = self._monitor.fold(observations_of(live)) if folded is None else folded
        self.findings = list(found)
        self._open_attempt(facts, start_step)
        lines, self._lines = self._lines, []
        self._outputs.begin(self.run, lines, self.findings)
        self._add_notes(plan["notes"], start_step)
        return live

    def add(self, row: Mapping[str, Any], **envelope: Any) -> tuple[Finding, ...]:
        """A row of ``log_history`` was logged; what the rules say about it. Its forecasts are in ``ahead``.

        Args:
            row: The row with its step; an evaluation's or a training row.
            envelope: For rows that are not the Trainer's: their kind.
        """
        lines = [{**envelope, keys.ATTEMPT: self.attempt, **row}] if envelope else line_of(row, self.attempt)
        found: list[Finding] = []
        self.ahead = {}
        for line in lines:
            clean, ahead = strict({**line, keys.MODE: self.mode} if self.mode else line), dict[str, float]()
            for seen in observations(clean):
                self._state, new = self._monitor.step(self._state, seen)
                found.extend(new)
                if isinstance(seen, EvalObservation):
                    ahead |= self._heading(seen)
            self._outputs.row({**clean, **ahead})
            self.ahead |= ahead
        for finding in found:
            self.findings.append(finding)
            self._outputs.finding(finding)
        return tuple(found)

    def _heading(self, seen: EvalObservation) -> dict[str, float]:
        """Where the loss of an evaluation's set will end; nothing where that is not known, or goes wrong."""
        known = self._state.progress.seen
        if self.mode is not None or not known.language:
            return {}
        training = known.train_language and not is_retention(seen.split, self._retention)
        try:
            return row_numbers(self._state.signals.outlook, seen, self._targets, training=training)
        except Exception as error:  # no forecast is worth a row
            if not self._unforeseen:
                self._unforeseen = True
                _log.warning("A forecast failed at step %d (said once): %s", seen.step, error_text(error))
            return {}

    def close(self) -> None:
        """Training is over: the outputs may say what became of it."""
        if self.begun and self.mode is None:
            known = self.summary()
            self._outputs.close(known, facts_of(known, self.findings))

    def note_evaluation(self, prefix: str, facts: Mapping[str, Any], rows: RowSums | None, step: int) -> None:
        """How an evaluation was measured; its per-row sums, where there are any."""
        if rows is not None and not self._state.progress.settled(prefix, step):
            self._outputs.eval_rows(prefix, step, rows)
        if not self._guest and self.run["evaluations"].get(prefix) != facts:
            self.run["evaluations"][prefix] = dict(facts)
            self._outputs.run(self.run)

    def note(self, **entries: Any) -> None:
        """Something new for ``run.json``."""
        if not self._guest:
            self.run.update(entries)
            self._outputs.run(self.run)

    def _notes(self, foreign: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What the process that writes saw of the folder, as set-up rows that every process adds."""
        notes = [] if self._other is None else [{keys.KIND_SETUP: TwoWriters().code, "process": self._other}]
        self._other = None
        return notes if foreign is None else [*notes, {keys.KIND_SETUP: ForeignRecord().code, **foreign}]

    def _add_notes(self, notes: Sequence[Mapping[str, Any]], step: int) -> None:
        for note in notes:
            self.add({keys.STEP: step, **note}, **{keys.KIND: keys.KIND_SETUP})

    def _open_attempt(self, facts: Mapping[str, Any], start_step: int) -> None:
        known, self._known = self._known, {"attempts": []}
        others = [entry for entry in known["attempts"] if entry.get("attempt") != self.attempt]
        this = {
            "attempt": self.attempt,
            "mode": self.mode or "train",
            "start_step": start_step,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            **{name: facts[name] for name in _OF_AN_ATTEMPT if name in facts},
        }
        evaluations = self.run.get("evaluations", {})
        new = {"format": RUN_FORMAT, "watch": self._watch, "attempts": [], "evaluations": evaluations, **facts}
        self.run = {**(known if self._guest else new), "attempts": [*others, this]}

    def _earlier(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The existing rows and ``run.json``, read by the process that writes.

        Damaged rows are set aside, not overwritten; where that fails too, nothing is written.
        """
        nothing: dict[str, Any] = {"attempts": []}
        if self._files is None:
            return [], nothing
        self._other = self._files.claim()
        if self._other is not None:
            self.leave_files(
                f"Another process ({self._other}) writes into {self._folder}; give every run an output_dir of its own."
            )
            return [], nothing
        rows, run = self._folder / keys.ROWS_FILE, nothing
        try:
            run = json.loads(read_text(self._folder / keys.RUN_FILE))
            self._keep_newer(run)
            run = strict({**run, "attempts": [entry for entry in run["attempts"] if isinstance(entry, dict)]})
        except (UnreadableRunError, OSError, ValueError, KeyError, TypeError, RecursionError):
            run = nothing
            self._make_room(self._folder / keys.RUN_FILE)
        try:
            return (read_rows(rows) if rows.exists() else []), run
        except (UnreadableRunError, OSError, RecursionError) as damage:
            aside = _aside(rows, "damaged")
            try:
                rows.replace(aside)
                _log.warning("The record begins anew; the one that was there is kept as %s. %s", aside.name, damage)
            except OSError as error:
                self.leave_files(f"{rows} is damaged and cannot be set aside: {error}")
            return [], run

    def _make_room(self, path: Path) -> None:
        """Set aside what is no regular file (a pipe, a folder): it is never written to, nor written over."""
        try:
            if path.exists() and not path.is_file():
                path.replace(_aside(path, "damaged"))
        except OSError as error:
            _log.warning("%s is no regular file and cannot be set aside: %s", path, error)

    def _keep_newer(self, run: Mapping[str, Any]) -> None:
        """Copy the files of a newer version of this package, which this one would write anew in its own way."""
        number = run.get("format")
        if not isinstance(number, (int, float)) or number <= RUN_FORMAT:
            return
        for name in (keys.RUN_FILE, keys.ROWS_FILE, keys.FINDINGS_FILE):
            file = self._folder / name
            if file.exists():
                shutil.copyfile(file, _aside(file, "newer"))
        _log.warning(
            "%s is of format %s, written by a newer version of this package; this one writes format %s. The files as "
            "they were are kept beside it, as *.newer-N.",
            self._folder / keys.RUN_FILE,
            number,
            RUN_FORMAT,
        )


def _aside(path: Path, why: str) -> Path:
    """A free name beside a file."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    return aside


def _outputs(
    outputs: Sequence[str | Output], output_dir: Path, spec: WatchSpec, callbacks: Callable[[], Iterable[object]],
    more: Callable[[], str],
) -> list[Output]:  # fmt: skip
    goals = [Goal(one.split, one.metric, one.below, str(one)) for one in spec.targets if not one.relative]
    # The page of a stage is that of the staged run, which comes when all stages are over.
    staged = (output_dir.parent.parent / keys.FOLDER / PLAN_FILE).is_file()
    built: dict[str, Callable[[], Output]] = {
        "files": lambda: RunFolder(output_dir, spec.language),
        "console": lambda: ConsoleOutput(spec.language, goals, None if staged else output_dir, more),
        ReportOutput.name: lambda: ReportOutput(output_dir, spec.language),
        TrackerOutput.name: lambda: TrackerOutput(spec.language, callbacks),
    }
    made: list[Output | None] = []
    for item in sorted(outputs, key=lambda one: one == ReportOutput.name):  # it reads what the files have
        if isinstance(item, Output):
            made.append(item)
        else:
            made.append(built[item]() if item in built else made_by_plugin(item, output_dir))
    return [item for item in made if item is not None]

