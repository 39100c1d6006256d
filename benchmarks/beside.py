"""This judge beside another checkout of it, in one run: time of a row, time of ``ko-cpt check``, lines of code.

``python benchmarks/beside.py --old DIR [--rows 10000] [--check-rows 100000] [--turns 5]``

``DIR`` is a checkout of an earlier commit (``git worktree add DIR COMMIT``). Both are asked in turn, each in a fresh
process, by the same interpreter: processor seconds are compared, and only their ratio means anything on another
machine. The rows are the same: a made log with noise, learning rate, epochs and an evaluation at every hundredth row.

Lines are those of the modules that judge the training loss and the evaluations beside it, docstrings and comments
included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from check_time import made

ROOT = Path(__file__).resolve().parents[1]
FOLD = """
import json, sys, time
try:
    from ko_cpt_callbacks.core.monitor import Monitor
except ImportError:
    from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.rows import observations_of
seen = observations_of(json.load(open(sys.argv[1]))["log_history"])
monitor = Monitor(task="other")
state = monitor.initial()
began = time.process_time()
for one in seen:
    state, _ = monitor.step(state, one)
print((time.process_time() - began) / len(seen) * 1e6)
"""
LATER = ("signal/*.py", "rules/curve/*.py", "rules/generalization/overfitting.py",
         "rules/generalization/gap_widening.py", "rules/generalization/forgetting.py")  # fmt: skip
EARLIER = (
    "recent", "departure", "sudden", "tooth", "epoch_level", "slope", "stretch", "run_length", "seam", "eval_series",
    "rules/diverged", "rules/level_shift", "rules/loss_spike", "rules/run_seam", "rules/plateau", "rules/no_learning",
    "rules/non_finite", "rules/memorizing", "rules/overfitting", "rules/gap_widening", "rules/forgetting",
)  # fmt: skip


def lines(checkout: Path) -> int:
    """Lines of the judge of curves in a checkout, wherever they stood then."""
    package = checkout / "ko_cpt_callbacks"
    if (package / "signal").is_dir():
        files = [path for pattern in LATER for path in package.glob(pattern) if path.stem != "__init__"]
    else:
        files = [package / "core" / f"{name}.py" for name in EARLIER]
    return sum(len(path.read_text("utf-8").splitlines()) for path in files)


def fold(checkout: Path, log: Path) -> float:
    """Microseconds of the processor for one row, all rules asked."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", FOLD, str(log)]
    return float(subprocess.run(command, env=environment, cwd=checkout, capture_output=True, check=True).stdout)


def check(checkout: Path, log: Path) -> float:
    """Processor seconds of ``ko-cpt check`` of a log, from the start of the process to its end."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "ko_cpt_callbacks", "check", str(log), "--json"],
        env={**os.environ, "PYTHONPATH": str(checkout)}, cwd=checkout, stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> int:
    """Prints both sides and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="a checkout of an earlier commit")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--check-rows", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=5)
    wanted = parser.parse_args()
    old = wanted.old.resolve()
    with tempfile.TemporaryDirectory() as folder:
        short, long = made(Path(folder), wanted.rows), made(Path(folder), wanted.check_rows)
        print(f"{'':24}{'old':>10}{'new':>10}{'new/old':>9}")
        for name, timed, log, turns in (
            ("a row, µs", fold, short, wanted.turns),
            (f"check {wanted.check_rows:,} rows, s", check, long, max(1, wanted.turns // 2)),
        ):
            both = [(timed(old, log), timed(ROOT, log)) for _ in range(turns)]
            before, after = (statistics.median(column) for column in zip(*both, strict=True))
            ratio = statistics.median(new / then for then, new in both)
            print(f"{name:24}{before:10.2f}{after:10.2f}{ratio:9.2f}")
    before, after = lines(old), lines(ROOT)
    print(f"{'lines':24}{before:10,}{after:10,}{after / before:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
