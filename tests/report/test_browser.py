"""Reports in a real browser: drawn, pointed at, zoomed, on a phone; without an error, and without a request.

Outside `.ci/run` (``make test-browser``): a browser is no part of what development needs.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from check.made_run import sums, write_run
from report.page import HOSTILE, reported, rows, state

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium found: apt-get install chromium"),
]

DESK, PHONE = 1200, 390
PROBE = (Path(__file__).parent / "probe.js").read_text("utf-8")
HOST = """<!DOCTYPE html><meta charset="utf-8"><body><iframe src="probed.html" width="{width}" height="900"></iframe>
<script>addEventListener("message", (event) => {{
  const pre = document.createElement("pre");
  pre.textContent = "TOLD" + btoa(unescape(encodeURIComponent(event.data))) + "END";
  document.body.append(pre);
}});</script>"""


def opened(folder: Path, page: str, width: int = DESK) -> dict[str, Any]:
    """What a browser tells of a page at a width in CSS pixels."""
    assert BROWSER is not None
    (folder / "probed.html").write_text(page.replace("<head>", f"<head><script>{PROBE}</script>", 1), "utf-8")
    (folder / "host.html").write_text(HOST.format(width=width), "utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--enable-logging=stderr",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--dump-dom",
         (folder / "host.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    found = re.search(r"TOLD([\w+/=]+)END", done.stdout)
    assert found is not None, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    told["console"] = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return told


RUNS = {
    "empty": lambda folder: [state(folder, [], max_steps=100)],
    "one point": lambda folder: [state(folder, rows(1), max_steps=100)],
    "killed": lambda folder: [state(folder, rows(300), max_steps=10_000)],
    "NaN": lambda folder: [state(folder, rows(200, lost=150), max_steps=200)],
    "exact": lambda folder: [write_run(folder, {"eval_ko": sums(), "eval_old": sums(text=1)})],
    "three": lambda folder: [state(folder / name, rows(100), max_steps=100) for name in "abc"],
    "long": lambda folder: [state(folder, rows(30_000, spike=12_345), max_steps=30_000)],
    "hostile": lambda folder: [write_run(folder, {f"eval_{HOSTILE}": sums()}, keep_rows=False)],
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_every_report_opens(tmp_path: Path, name: str, width: int) -> None:
    """Curves are drawn, nothing is asked for, no error is reported, and the page is no wider than its window."""
    told = opened(tmp_path, reported(tmp_path, *RUNS[name](tmp_path / "run")), width)
    assert told["failed"] == []
    assert told["console"] == []
    assert told["requests"] == []
    assert told["wide"] <= told["inner"]
    assert all(told["drawn"])
    assert bool(told["drawn"]) == (name != "empty")


def test_pointing_shows_the_values_of_every_chart(tmp_path: Path) -> None:
    """At half of the steps every chart of the run shows the same step and its own value, as the log has it."""
    log = rows(200)
    told = opened(tmp_path, reported(tmp_path, state(tmp_path / "run", log, max_steps=200)))
    assert len({*told["cursors"]}) == 1
    tip = told["tips"][0]
    assert tip.startswith(("100\n", "101\n"))
    at = int(tip.split("\n")[0])
    loss = next(row["loss"] for row in log if row["step"] == at and "loss" in row)
    assert f"training: {loss:.3f}" in tip
    assert "PPL" in tip


def test_a_zoom_moves_every_chart_and_goes_back(tmp_path: Path) -> None:
    """Dragging across the middle half shows these steps in every chart of the run; a double click shows all again."""
    told = opened(tmp_path, reported(tmp_path, state(tmp_path / "run", rows(200), max_steps=200)))
    assert told["after"] == told["before"]
    ends = {(round(view[0], 3), round(view[2], 3)) for view in told["zoomed"]}
    assert len(ends) == 1
    assert ends.pop()[1] == pytest.approx(told["before"][0][2] / 2, rel=0.02)
    assert all("100" in text and "200" not in text for text in told["steps"])
