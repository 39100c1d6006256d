"""Real Trainer logs, unmodified: each gives its reader's verdict for the rules there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.core.monitor import Monitor
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.readers.run_folder import read_run

RUNS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "runs"

VERDICTS = {
    "00": [],
    "01": [],
    "02": [],
    "03": [],
    "04": [("not-enough-data", "info", 60)],
    "05": [("not-enough-data", "info", None)],
    "15": [],
    "23": [],
    "26": [("non-finite", "info", 10)],
    "54": [],
    "55": [],
    "59": [],
    "61": [("not-enough-data", "info", 0)],
    "66": None,
}

pytestmark = pytest.mark.skipif(not RUNS.is_dir(), reason=f"real logs are not in this checkout ({RUNS.name})")


def _log(number: str) -> Path:
    (path,) = RUNS.glob(f"{number}_*.json")
    return path


def test_every_log_has_a_verdict() -> None:
    """The table and the folder hold the same logs."""
    assert {path.name[:2] for path in RUNS.glob("*.json")} == set(VERDICTS)


@pytest.mark.parametrize("number", [number for number, verdict in VERDICTS.items() if verdict is not None])
def test_verdict(number: str) -> None:
    """The log is read, and gives exactly these findings."""
    _, findings = Monitor().judge(read_run(_log(number)).observations())
    expected = VERDICTS[number]
    found = [(f.code, f.severity.value, f.step) for f in findings]
    # A run that never reached the Trainer's last row ends at the last row it has.
    assert expected is not None
    assert found == expected


def test_the_scaler_note_in_full() -> None:
    """Bare NaN gradient norms at steps 10 and 90 with a healthy loss: one note, no alarm."""
    _, (found,) = Monitor().judge(read_run(_log("26")).observations())
    assert found.message() == (
        "Step 10: the gradient norm is NaN while the loss, 2.314, is healthy. An fp16 loss scaler skips such "
        "a step and goes on; nothing to do unless it happens again and again."
    )


def test_not_a_state() -> None:
    """A tracker's summary is refused in one line."""
    with pytest.raises(UnreadableRunError, match=r"not a Trainer's state \(found: train/loss, ") as caught:
        read_run(_log("66"))
    assert "\n" not in str(caught.value)


def test_cut_anywhere() -> None:
    """The log with NaNs, folded with a cut at each row, gives what it gives whole."""
    seen = read_run(_log("26")).observations()
    monitor = Monitor()
    whole = monitor.fold(seen)
    for cut in range(len(seen)):
        state, first = monitor.fold(seen[:cut])
        state, second = monitor.fold(seen[cut:], state)
        assert (state, first + second) == whole
