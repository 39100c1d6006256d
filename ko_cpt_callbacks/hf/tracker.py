"""What the Trainer's trackers get beside the rows: what is watched, once, and findings as notes.

A tracker is reached by the Trainer's callback for it, so a run of somebody else in this process gets nothing. Each is
written to by calls that the Trainer's callback makes too or that the tracker queues: none waits longer than those.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import error_text
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.facts import RunFacts
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.output import Output
from ko_cpt_callbacks.run.progress import Summary

__all__ = ["TrackerOutput"]

_log = logging.getLogger("ko_cpt_callbacks")

_WATCHED: Final = ("task", "targets", "baseline", "stage", "retention", "stop_on")
# MLflow refuses a longer value of a tag.
_LONGEST: Final = 5_000


@dataclass(frozen=True, slots=True)
class _Note:
    """One text for a tracker; ``severity``: of a finding, None of what is watched and of what became of it."""

    name: str
    text: str
    step: int
    severity: Severity | None = None


class TrackerOutput(Output):
    """Writes to every tracker that is at work; one that raises is reported once and left alone.

    The Trainer's callbacks are asked for whenever there is something to write.
    """

    name = "trackers"

    def __init__(self, language: str, callbacks: Callable[[], Iterable[object]]) -> None:
        self._language, self._callbacks = language, callbacks
        self._notes: list[_Note] = []
        self._written: dict[int, int] = {}
        self._failed: set[str] = set()
        self._step = 0
        self._open = False

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Keep what is watched until the trackers have begun, which they do after this."""
        self._notes, self._written, self._open = [], {}, False
        self.run(run)

    def run(self, run: Mapping[str, Any]) -> None:
        """Keep what is new: the fingerprint of a set after its first evaluation."""
        known = {note.name: note.text for note in self._notes}
        for name, text in _watched(run):
            if known.get(name) != text:
                self._notes.append(_Note(name, text, self._step))

    def row(self, row: Mapping[str, Any]) -> None:
        """Write what was kept, once the Trainer logs."""
        self._step = int(row.get(keys.STEP) or 0)
        self._open = self._open or row.get(keys.KIND) != keys.KIND_SETUP
        self._write()

    def finding(self, finding: Finding) -> None:
        """Write it as a note."""
        where = "" if finding.split is None else f"/{finding.split}"
        text = f"{finding.severity.value}: {' '.join(finding.message(self._language).split())}"
        step = self._step if finding.step is None else finding.step
        self._notes.append(_Note(f"ko_cpt/finding/{finding.topic}{where}", printable(text), step, finding.severity))
        self._write()

    def close(self, summary: Summary, facts: RunFacts) -> None:
        """Write what the findings come to."""
        self._notes.append(_Note("ko_cpt/verdict", str(facts.as_dict()["verdict"]), self._step))
        self._write()

    def _write(self) -> None:
        if not self._open:
            return
        for callback in list(self._callbacks()):
            kind = next((one.__name__ for one in type(callback).__mro__ if one.__name__ in _TRACKERS), None)
            if kind is None or kind in self._failed:
                continue
            try:
                reach, write = _TRACKERS[kind]
                tracker = reach(callback)
                if tracker is None:  # it begins with its first row
                    continue
                for note in self._notes[self._written.get(id(callback), 0) :]:
                    write(tracker, note)
                self._written[id(callback)] = len(self._notes)
            except Exception as error:  # whatever it is, the run goes on
                self._failed.add(kind)
                _log.warning("%s takes no notes of this run; training goes on. %s", kind, error_text(error))


def _watched(run: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    watch = run.get("watch", {})
    for name in _WATCHED:
        value = watch.get(name)
        if name == "baseline" and value:
            value = value.get("id")
        if value:
            yield f"ko_cpt/{name}", printable(value if isinstance(value, str) else ", ".join(value))
    for prefix, facts in run.get("evaluations", {}).items():
        if facts.get(keys.FINGERPRINT):
            yield f"ko_cpt/{keys.FINGERPRINT}/{prefix}", facts[keys.FINGERPRINT]


def _aim(run: Any, note: _Note) -> None:
    run[note.name] = note.text
    if note.severity is not None:
        getattr(run, f"log_{note.severity.value}")(f"{note.name}@{note.step} {note.text}")


def _clearml(task: Any, note: _Note) -> None:
    if note.severity is None:
        task.set_parameter(note.name, note.text)
    else:
        level = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.ERROR: logging.ERROR}
        task.get_logger().report_text(f"{note.name}@{note.step} {note.text}", level=level[note.severity])


def _trackio(run: Any, note: _Note) -> None:
    """Its configuration goes with the first row; findings go to its alerts, where ``alerts`` asks for them."""
    if note.severity is None:
        run.config.update({note.name: note.text})


def _wandb(run: Any, note: _Note) -> None:
    if note.severity is None:
        run.config.update({note.name: note.text}, allow_val_change=True)
    else:
        run.summary[note.name] = note.text


# By the Trainer's callback for a tracker: what is written to, None before it begins, and how.
_TRACKERS: Final[Mapping[str, tuple[Callable[[Any], Any], Callable[[Any, _Note], Any]]]] = {
    "AimCallback": (lambda callback: callback._run, _aim),
    "ClearMLCallback": (lambda callback: callback._clearml_task, _clearml),
    "CometCallback": (
        lambda callback: callback._experiment,
        lambda experiment, note: experiment.log_other(note.name, note.text),
    ),
    "MLflowCallback": (
        lambda callback: callback._ml_flow if callback._initialized and callback._ml_flow.active_run() else None,
        lambda mlflow, note: mlflow.set_tag(note.name, note.text[:_LONGEST], synchronous=False),
    ),
    "SwanLabCallback": (
        lambda callback: callback._swanlab if callback._initialized and callback._swanlab.get_run() else None,
        lambda swanlab, note: swanlab.config.update({note.name: note.text}),
    ),
    "TensorBoardCallback": (
        lambda callback: callback.tb_writer,
        lambda writer, note: writer.add_text(note.name, note.text, note.step),
    ),
    "TrackioCallback": (
        lambda callback: callback._trackio.context_vars.current_run.get() if callback._initialized else None,
        _trackio,
    ),
    "WandbCallback": (lambda callback: callback._wandb.run if callback._initialized else None, _wandb),
}
