"""Outputs: they show or store rows and findings, and judge nothing. One that fails is reported once and dropped.

Other packages add outputs by name (`ko_cpt_callbacks.plugin`): a callable that makes one of the run's ``output_dir``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from ko_cpt_callbacks.errors import ConfigurationError, error_text
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.plugin import OUTPUTS, Plugin, plugins
from ko_cpt_callbacks.run.facts import RunFacts
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.progress import Summary

_log = logging.getLogger("ko_cpt_callbacks")

USUAL: Final = ("files", "console", "trackers")
"""Names of the outputs that a run has where none is named."""
BUILT_IN: Final = (*USUAL, "report")
"""Names of the outputs of this package."""


class Output:
    """Base of all outputs; override what is of interest. Called on the main process only.

    An output that raises is reported once and not called again: the run goes on.
    """

    name = "output"

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """The record is (re)established.

        Args:
            run: What ``run.json`` says.
            rows: Every line of ``rows.jsonl`` up to now, superseded ones marked.
            findings: What the fold over the valid rows gives.
        """

    def row(self, row: Mapping[str, Any]) -> None:
        """One more line of ``rows.jsonl``."""

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Per-row sums of one evaluation."""

    def finding(self, finding: Finding) -> None:
        """One more finding."""

    def run(self, run: Mapping[str, Any]) -> None:
        """``run.json`` says something new."""

    def close(self, summary: Summary, facts: RunFacts) -> None:
        """Training is over; evaluations may still come.

        Args:
            summary: What the run has reached.
            facts: How far it came, and what its findings come to.
        """


OutputMaker: TypeAlias = Callable[[Path], Output]
"""Makes an output for a run's ``output_dir``."""


@cache
def plugin_outputs() -> tuple[Plugin[OutputMaker], ...]:
    """What makes the outputs that other packages add, by name."""
    return plugins(OUTPUTS, BUILT_IN, _maker)


def _maker(_: str, value: Any) -> OutputMaker:
    if not callable(value):
        raise ConfigurationError(f"found {value!r}, expected what makes an Output of a run's output_dir")
    made: OutputMaker = value
    return made


def output_names() -> tuple[str, ...]:
    """What ``outputs=`` may name: the outputs of this package, then those of others."""
    return (*BUILT_IN, *(one.name for one in plugin_outputs()))


def made_by_plugin(name: str, output_dir: Path) -> Output | None:
    """The output of a name that another package adds; None, which is reported, where it cannot be made.

    Args:
        name: One of `output_names`, none of this package's own.
        output_dir: The run's.
    """
    (plugin,) = (one for one in plugin_outputs() if one.name == name)
    try:
        output = plugin.value(output_dir)
        if not isinstance(output, Output):
            raise TypeError(f"found {type(output).__name__}, expected an Output")
    except Exception as error:  # the run goes on without it
        _log.warning("The output %r of %s is off for this run: %s", name, plugin.package, error_text(error))
        return None
    return output


class OutputFan(Output):
    """Passes everything on to every output that still works.

    Args:
        outputs: The outputs, in order.
    """

    name = "all outputs"

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.outputs = list(outputs)
        self._muted: set[str] = set()

    def mute_findings(self, name: str) -> None:
        """Tell outputs of this name no findings until the record begins."""
        self._muted.add(name)

    def drop(self, name: str, reason: str) -> None:
        """Tell outputs of this name nothing more."""
        self.outputs = [output for output in self.outputs if output.name != name]
        _log.warning("The output %r is off for the rest of this run; training goes on. %s", name, reason)

    def _each(self, call: Callable[[Output], None]) -> None:
        for output in list(self.outputs):
            try:
                call(output)
            except Exception as error:  # whatever it is, a monitor must not end the run
                self.outputs.remove(output)
                _log.warning(
                    "The output %r failed and is off for the rest of this run; training goes on. %s: %s",
                    output.name,
                    type(error).__name__,
                    error,
                )

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Tell every output."""
        self._muted.clear()
        self._each(lambda output: output.begin(run, rows, findings))

    def row(self, row: Mapping[str, Any]) -> None:
        """Tell every output."""
        self._each(lambda output: output.row(row))

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Tell every output."""
        self._each(lambda output: output.eval_rows(prefix, step, rows))

    def finding(self, finding: Finding) -> None:
        """Tell every output."""
        self._each(lambda output: None if output.name in self._muted else output.finding(finding))

    def run(self, run: Mapping[str, Any]) -> None:
        """Tell every output."""
        self._each(lambda output: output.run(run))

    def close(self, summary: Summary, facts: RunFacts) -> None:
        """Tell every output."""
        self._each(lambda output: output.close(summary, facts))


class MemoryOutput(Output):
    """Everything that the callback passed on, in order.

    Attributes:
        runs: Each state of ``run.json``.
        rows: Lines of ``rows.jsonl``.
        findings: Findings.
        evaluations: Per-row sums by (prefix, step).
    """

    name = "memory"

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self.evaluations: dict[tuple[str, int], RowSums] = {}

    def begin(self, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], findings: Sequence[Finding]) -> None:
        """Start over from the established record."""
        self.runs.append(dict(run))
        self.rows = [dict(row) for row in rows]
        self.findings = list(findings)

    def row(self, row: Mapping[str, Any]) -> None:
        """Keep the row."""
        self.rows.append(dict(row))

    def eval_rows(self, prefix: str, step: int, rows: RowSums) -> None:
        """Keep the sums."""
        self.evaluations[prefix, step] = rows

    def finding(self, finding: Finding) -> None:
        """Keep the finding."""
        self.findings.append(finding)

    def run(self, run: Mapping[str, Any]) -> None:
        """Keep the new state."""
        self.runs.append(dict(run))
