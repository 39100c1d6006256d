"""Notes to trackers: after they have begun, each once; a tracker that raises is left alone."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ko_cpt_callbacks.hf.tracker import TrackerOutput
from ko_cpt_callbacks.run.finding import Finding, Severity

RUN: dict[str, Any] = {"watch": {"task": "cpt", "targets": ["eval_loss<3@end"], "baseline": {"id": "x"}, "stop_on": []}}
BROKEN = Finding("non-finite", Severity.ERROR, 3, "train", {"step": 3, "loss": "NaN"}, variant="loss")


class _Writer:
    """What a TensorBoard writer is asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.texts: list[tuple[str, str, int]] = []
        self.error = error

    def add_text(self, name: str, text: str, step: int) -> None:
        if self.error is not None:
            raise self.error
        self.texts.append((name, text, step))


class TensorBoardCallback:
    """The Trainer's callback of that name; its writer comes when training begins."""

    def __init__(self, writer: _Writer | None = None) -> None:
        self.tb_writer = writer


def _begun(*callbacks: object) -> TrackerOutput:
    output = TrackerOutput("en", lambda: callbacks)
    output.begin(RUN, [], [])
    return output


def test_nothing_before_the_trainer_logs() -> None:
    """A writer of an earlier training is not written to: set-up rows come before the trackers begin."""
    writer = _Writer()
    output = _begun(TensorBoardCallback(writer))
    output.row({"step": 0, "kind": "setup"})
    assert writer.texts == []
    output.row({"step": 3, "kind": "train"})
    assert writer.texts == [
        ("ko_cpt/task", "cpt", 0),
        ("ko_cpt/targets", "eval_loss<3@end", 0),
        ("ko_cpt/baseline", "x", 0),
    ]


def test_what_is_watched_is_written_once_and_a_fingerprint_when_it_is_known() -> None:
    """A state of run.json that says nothing new writes nothing; a tracker that begins late gets everything."""
    early, late = TensorBoardCallback(_Writer()), TensorBoardCallback()
    output = _begun(early, late)
    output.row({"step": 3, "kind": "train"})
    known = {**RUN, "evaluations": {"eval_ko": {"fingerprint": "utf8-1"}}}
    for _ in range(2):
        output.run(known)
        output.row({"step": 4, "kind": "eval"})
    assert early.tb_writer is not None
    assert early.tb_writer.texts[3:] == [("ko_cpt/fingerprint/eval_ko", "utf8-1", 3)]
    late.tb_writer = _Writer()
    output.row({"step": 5, "kind": "train"})
    assert late.tb_writer.texts == early.tb_writer.texts


def test_a_finding_is_a_note_of_one_line() -> None:
    """Its name has the code and the set; what it says is the whole sentence, with its step."""
    callback = TensorBoardCallback(_Writer())
    output = _begun(callback)
    output.finding(BROKEN)  # seen before the trackers begin: it is not lost
    output.row({"step": 3, "kind": "train"})
    assert callback.tb_writer is not None
    name, text, step = callback.tb_writer.texts[-1]
    assert (name, step) == ("ko_cpt/finding/non-finite/train", 3)
    assert text.startswith("error: Step 3: the training loss is NaN. The weights")


def test_a_tracker_that_raises_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line names it; the others go on, and so does the run."""
    output = _begun(TensorBoardCallback(_Writer(OSError("disk full"))))
    with caplog.at_level(logging.WARNING):
        for step in (3, 6):
            output.row({"step": step, "kind": "train"})
            output.finding(BROKEN)
    assert [record.getMessage() for record in caplog.records] == [
        "TensorBoardCallback takes no notes of this run; training goes on. OSError: disk full"
    ]
