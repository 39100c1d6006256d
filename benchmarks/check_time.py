"""How long ``ko-cpt check`` takes, from the start of the process to its end, per file.

``python benchmarks/check_time.py PATH …`` (files, or folders of them; default: a made log of ``--rows`` rows, 10,000).
Each file is checked a few times in fresh processes; the median and the least wall-clock seconds are shown, and the
processor's seconds, which do not depend on what else the machine does. Exits with 1 if a median is above ``--limit``.
The bar is 3 seconds for 10,000 rows and 20 for 100,000.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def made(folder: Path, count: int) -> Path:
    """A state with many noisy rows, token counts among them, and an evaluation at every hundredth."""
    noise = random.Random(0)
    rows: list[dict[str, float]] = []
    for index in range(1, count + 1):
        loss = 2.0 + 4.0 / index + noise.gauss(0.0, 0.02)
        rows.append(
            {
                "loss": round(loss, 4), "grad_norm": 1.0 + 0.1 * noise.random(), "learning_rate": 1e-4,
                "epoch": index / count, "num_tokens": 4096 * index + noise.randrange(100), "step": index,
            }
        )  # fmt: skip
        if index % 100 == 0:
            rows.append({"eval_loss": 2.1 + 4.0 / index, "eval_runtime": 1.0, "step": index})
    path = folder / f"made_{count}_rows.json"
    path.write_text(json.dumps({"log_history": rows}))
    return path


def once(path: Path, options: list[str]) -> tuple[float, float]:
    """Seconds on the wall and of the processor, for one process."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ko_cpt_callbacks", "check", str(path), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def main() -> int:
    """Print a table; 1 if a file takes longer than the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--rows", type=int, default=10_000, help="of the made log")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--limit", type=float, default=3.0, help="seconds")
    parser.add_argument("--json", action="store_true", help="time the JSON output")
    wanted = parser.parse_args()
    options = ["--json"] if wanted.json else []
    with tempfile.TemporaryDirectory() as folder:
        files = [file for path in wanted.paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
        files = files or [made(Path(folder), wanted.rows)]
        once(files[0], options)  # the first one compiles
        print(f"{'median s':>9} {'least s':>8} {'cpu s':>6} {'kB':>7}  file")
        slowest = 0.0
        for file in files:
            times = [once(file, options) for _ in range(wanted.repeats)]
            wall, cpu = [wall for wall, _ in times], [cpu for _, cpu in times]
            middle = statistics.median(wall)
            slowest = max(slowest, middle)
            size = file.stat().st_size // 1024
            print(f"{middle:9.2f} {min(wall):8.2f} {statistics.median(cpu):6.2f} {size:7,}  {file.name}")
    print(f"slowest median {slowest:.2f} s, limit {wanted.limit:.2f} s")
    return int(slowest > wanted.limit)


if __name__ == "__main__":
    sys.exit(main())
