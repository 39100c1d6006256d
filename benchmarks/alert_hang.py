"""What an alert that is never answered costs a training: the same run with a webhook that hangs, and without alerts.

    python benchmarks/alert_hang.py            # exit 1 where the steps are slower, or the process does not end

Pairs of trainings alternate in one process, so that a slow moment of the machine hits both. The figure is the median of
the pairs' ratios of the median step, with the half-width of its 95 % interval; the bar is missed where the whole
interval is above 1.02. Then how long the process lives on after its last training, with two webhooks that hang.
"""

from __future__ import annotations

import contextlib
import io
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

PAIRS: Final = 8
STEPS: Final = 40
BAR: Final = 1.02
MOST_SECONDS: Final = 20.0
"""That the process may live on: `ko_cpt_callbacks.run.alert.PATIENCE_SECONDS`, and its own end."""


def steps(folder: Path, alerts: list[str]) -> list[float]:
    """Seconds of every step of a training, the first five left out."""
    import tiny
    from transformers import TrainerCallback

    from ko_cpt_callbacks import KoCPTCallback

    seconds: list[float] = []

    class Clock(TrainerCallback):
        """Takes the time of a step."""

        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            """A step begins."""
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            """And ends."""
            seconds.append(time.perf_counter() - self.began)

    callback = KoCPTCallback(alerts=alerts or None)
    trainer = tiny.trainer(
        tiny.llama(600, hidden=128), folder, tiny.uneven_rows(64), tiny.uneven_rows(4, 12), max_steps=STEPS,
        logging_steps=1, eval_strategy="steps", eval_steps=10, callbacks=[callback, Clock()],
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    assert callback.findings, "nothing was found, so nothing was to be sent"
    return seconds[5:]


def ratios(address: str) -> list[float]:
    """With the alert over without, a pair of trainings each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in range(PAIRS):
            first, second = (["info", address], []) if pair % 2 else ([], ["info", address])
            times = {}
            for alerts in (first, second):
                times[bool(alerts)] = statistics.median(steps(Path(folder) / f"{pair}{bool(alerts)}", alerts))
            found.append(times[True] / times[False])
            print(f"pair {pair + 1}: {times[True] * 1e3:.1f} ms with the webhook, {times[False] * 1e3:.1f} ms without")
    return found


def seconds_to_end(addresses: list[str]) -> float:
    """From the end of a training to that of its process."""
    with tempfile.TemporaryDirectory() as folder:
        code = (
            "import sys, time; from pathlib import Path; sys.path[:0] = sys.argv[1:3]; import alert_hang; "
            "alert_hang.steps(Path(sys.argv[3]), ['info', *sys.argv[4:]]); print('TIME', time.time(), flush=True)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / "benchmarks"), str(ROOT), folder, *addresses],
            capture_output=True, text=True, check=True, timeout=600,
        )  # fmt: skip
        return time.time() - float(done.stdout.split("TIME ")[1])


def main() -> int:
    """Measure; the exit status."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as other:
        addresses = [f"json://127.0.0.1:{one.getsockname()[1]}/" for one in (silent, other)]
        found = ratios(addresses[0])
        lived = seconds_to_end(addresses)
    middle, half = statistics.median(found), 1.96 * 1.2533 * statistics.stdev(found) / len(found) ** 0.5
    print(f"step time with the webhook over without: {middle:.3f} ± {half:.3f} ({PAIRS} pairs of {STEPS} steps)")
    print(f"the process ended {lived:.1f} s after its training, with two webhooks that hang")
    return 1 if middle - half > BAR or lived > MOST_SECONDS else 0


if __name__ == "__main__":
    sys.exit(main())
