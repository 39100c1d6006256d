"""A pytest plugin for other projects' tests: our callback in every Trainer, and what became of every test.

    python -m pytest -p peers_plugin …

reads the environment: ``PEERS_OUTCOMES`` names the file for outcomes by test; ``PEERS_CALLBACK=1`` puts the callback
into every Trainer; ``PEERS_STAND_INS=1`` gives texts made here for names of the hub.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

# What the callback says when it met an error of its own: a test that passes with it is no clean pass.
ERRORS = ("The callback met an error and goes on", "The callback is off")


class _Errors(logging.Handler):
    """The callback's own errors, and how many Trainers have it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        self.trainers = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if any(said in text for said in ERRORS):
            self.texts.append(text)


_outcomes: dict[str, dict[str, Any]] = {}
_errors = _Errors()


def _with_callback(init: Any) -> Any:
    """``Trainer.__init__`` with one callback more."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        from ko_cpt_callbacks import KoCPTCallback

        bound = signature.bind(self, *args, **kwargs)
        given = bound.arguments.get("callbacks") or []
        bound.arguments["callbacks"] = [*given, KoCPTCallback(task="other", outputs=["files"])]
        init(*bound.args, **bound.kwargs)
        _errors.trainers += 1

    return wrapped


def pytest_configure() -> None:
    """Before anything is collected."""
    if os.environ.get("PEERS_STAND_INS") == "1":
        import peers_stand_ins

        peers_stand_ins.install()
    if os.environ.get("PEERS_CALLBACK") == "1":
        from transformers import Trainer

        logging.getLogger("ko_cpt_callbacks").addHandler(_errors)
        Trainer.__init__ = _with_callback(Trainer.__init__)  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """One test: errors of the callback belong to it."""
    _errors.texts, _errors.trainers = [], 0
    try:
        return (yield)
    finally:
        seen = _outcomes.setdefault(item.nodeid, {})
        seen.update(errors=list(dict.fromkeys(_errors.texts)), trainers=_errors.trainers)
        target = os.environ.get("PEERS_OUTCOMES")
        if target:  # after every test: a crash keeps what was seen
            Path(target).write_text(json.dumps(_outcomes), "utf-8")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set-up, call and tear-down of a test: failed in one, passed where its call passed, else skipped."""
    seen = _outcomes.setdefault(report.nodeid, {})
    if report.failed:
        seen.update(outcome="failed", why=report.longreprtext[-600:])
    elif report.when == "call" and seen.get("outcome") != "failed":
        seen["outcome"] = "skipped" if report.skipped else "passed"
    elif report.skipped:
        seen.setdefault("outcome", "skipped")
