"""The page of a run in a notebook, and that nothing else takes a terminal for one."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.console import notebook_display, page_html
from ko_cpt_callbacks.run.facts import facts_of
from ko_cpt_callbacks.run.observation import EvalObservation, TrainObservation
from ko_cpt_callbacks.run.page import RunPage
from ko_cpt_callbacks.run.progress import trace

HOSTILE = "<script>alert(1)</script>"


def _page(*seen: TrainObservation | EvalObservation) -> RunPage:
    state, findings = Monitor().fold(seen)
    curves: dict[str, list[float | None]] = {}
    for one in seen:
        trace(curves, one)
    return RunPage(facts_of(state.summary(), findings), state.summary(), findings, curves, "en", head=[HOSTILE])


def test_the_page_is_a_table_that_names_cannot_break() -> None:
    """Verdict, a row a set, curves and what to do are there; a name that is markup is text."""
    html = page_html(_page(
        *(TrainObservation(step, loss=4.0 - 0.01 * step) for step in range(1, 30)),
        EvalObservation(10, split=HOSTILE, exact_loss=3.5, exact_loss_se=0.1),
        EvalObservation(29, split=HOSTILE, exact_loss=3.25, exact_loss_se=0.1),
    ))  # fmt: skip
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert html.count("<tr>") == 3
    assert ">3.250 ± 0.100<" in html
    assert "To do:" in html and "<pre" in html


def test_a_run_without_a_loss_has_no_empty_table() -> None:
    """Nothing to show is no row of titles."""
    assert "<tr>" not in page_html(_page())


@pytest.mark.parametrize(
    ("config", "there"), [({"IPKernelApp": {}}, True), ({"TerminalIPythonApp": {}}, False), (None, False)]
)
def test_only_a_kernel_is_a_notebook(monkeypatch: pytest.MonkeyPatch, config: object, there: bool) -> None:
    """A kernel's shell is one; a terminal of IPython, and IPython that was imported and does not run, are none."""
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    shell = None if config is None else SimpleNamespace(config=config)
    ipython.get_ipython, ipython.display = (lambda: shell), display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert (notebook_display() is display) == there


def test_without_ipython_there_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not imported to find out."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_display() is None
    assert "IPython" not in sys.modules
