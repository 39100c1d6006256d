"""Runs to report on, and a page that was read back as a browser's parser reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

HOSTILE = "<script>alert(1)</script>\"'&amp;\x1b[31m\u202e[bold]=1+1"
"""What a name may hold that would be markup, an escape or a turn of the reading anywhere else."""
VOID = {"meta"}


class Read(HTMLParser):
    """Tags, attributes and texts of a page; an end tag that closes another element is a mistake."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append(tag)
        self.attributes.extend((tag, name, value or "") for name, value in attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """A text."""
        self.texts.append((self._open[-1] if self._open else "", data))

    @property
    def shown(self) -> str:
        """What a reader sees."""
        return "".join(text for tag, text in self.texts if tag not in ("style", "script", "title"))

    def classes(self, wanted: str) -> list[str]:
        """The class attributes that have a class."""
        return [value for _, name, value in self.attributes if name == "class" and wanted in value.split()]


def state(folder: Path, log: Sequence[Mapping[str, Any]], **more: Any) -> str:
    """A run folder with a trainer_state.json; its path."""
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": list(log), **more}), "utf-8")
    return str(folder)


def rows(count: int, *, spike: int | None = None, lost: int | None = None, name: str = "eval") -> list[dict[str, Any]]:
    """Training rows with an evaluation every tenth.

    Args:
        count: How many.
        spike: A step whose loss is 9.
        lost: The step from which on the loss is NaN.
        name: Of the evaluation.
    """
    log: list[dict[str, Any]] = []
    for step in range(1, count + 1):
        loss = 2.5 + 3.0 * math.exp(-step / (0.1 * count)) + 0.01 * math.sin(37.0 * step)
        loss = 9.0 if step == spike else math.nan if lost is not None and step >= lost else loss
        log.append({"loss": loss, "grad_norm": 1.0, "learning_rate": 1e-4, "step": step, "epoch": step / count})
        if step % 10 == 0:
            log.append({f"{name}_loss": loss + 0.1, f"{name}_runtime": 1.0, "step": step, "epoch": step / count})
    return log


def reported(folder: Path, *arguments: str) -> str:
    """The page that the command writes."""
    file = folder / "page.html"
    result = CliRunner().invoke(app, ["report", *arguments, "-o", str(file)])
    assert result.exit_code == 0, result.output
    return file.read_text("utf-8")
