"""Does a resume with ``eval_on_start`` change what is found? One run, resumed at twenty moments by chance.

``python benchmarks/eval_on_start.py [MOMENTS]`` prints a line per moment and the count of those whose findings, best
and last step are those of the run that was never interrupted.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from e2e import job
from e2e.test_eval_on_start import PLAN, moments, resumed


def main(count: int) -> int:
    """Resumes at ``count`` moments; how many differ."""
    differing = 0
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        expected = job.train(str(whole), **PLAN)
        for step in moments(count):
            result = resumed(whole, Path(scratch) / f"resumed-{step}", step)
            same = all(result[name] == expected[name] for name in ("step", "findings", "best"))
            differing += not same
            print(f"resumed at step {step}: {'equal' if same else 'differs'}", flush=True)
    print(f"{count - differing} of {count} equal")
    return differing


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20) > 0)
