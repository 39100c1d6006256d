"""Many outputs as one; one that fails is dropped."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ko_cpt_callbacks import MemoryOutput, Output
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.output import OutputFan

FINDING = Finding("not-enough-data", Severity.INFO)
EVENTS = ("begin", "row", "eval_rows", "finding", "run")


def _tell_all(fan: OutputFan) -> None:
    fan.begin({"format": 1}, [], [])
    fan.row({"step": 1})
    fan.eval_rows("eval", 1, RowSums.empty())
    fan.finding(FINDING)
    fan.run({"format": 1})


def test_everyone_is_told_everything() -> None:
    """In order, each event to each output."""
    outputs = [MemoryOutput(), MemoryOutput()]
    _tell_all(OutputFan(outputs))
    for output in outputs:
        assert (output.rows, output.findings, len(output.runs)) == ([{"step": 1}], [FINDING], 2)
        assert set(output.evaluations) == {("eval", 1)}


@pytest.mark.parametrize("event", EVENTS)
def test_one_that_fails(event: str, caplog: pytest.LogCaptureFixture) -> None:
    """In any event: one warning with its name and error, never called again; the others miss nothing."""
    calls: list[str] = []

    def fail(*args: Any) -> None:
        calls.append(event)
        raise ValueError("broken, say")

    bad, good = Output(), MemoryOutput()
    bad.name = "bad"
    setattr(bad, event, fail)
    fan = OutputFan([bad, good])
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        _tell_all(fan)
        _tell_all(fan)
    assert calls == [event]
    assert fan.outputs == [good]
    assert len(good.runs) == 4
    assert len(caplog.records) == 1
    assert "'bad'" in caplog.text
    assert "ValueError: broken, say" in caplog.text


def test_an_interrupt_is_no_failure() -> None:
    """Ctrl-C inside an output ends the run, as it should."""

    class Stops(Output):
        def row(self, row: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        OutputFan([Stops()]).row({})


def test_muted_findings() -> None:
    """Muted by name: findings are kept from it, rows are not, until the record begins anew."""
    memory = MemoryOutput()
    fan = OutputFan([memory])
    fan.mute_findings("memory")
    fan.finding(FINDING)
    fan.row({"step": 1})
    assert (memory.findings, memory.rows) == ([], [{"step": 1}])
    fan.begin({}, [], [])
    fan.finding(FINDING)
    assert memory.findings == [FINDING]


def test_drop(caplog: pytest.LogCaptureFixture) -> None:
    """Dropped by name with a reason, which is said."""
    fan = OutputFan([MemoryOutput()])
    with caplog.at_level(logging.WARNING, logger="ko_cpt_callbacks"):
        fan.drop("memory", "because")
    assert fan.outputs == []
    assert "because" in caplog.text
