"""How long does ``import ko_cpt_callbacks`` take? Prints the best of several fresh processes.

    python benchmarks/import_time.py     # exit 1 above 0.15 s, or when it loads torch or transformers

The time is that of the import statement alone; the start of the interpreter stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
LIMIT_SECONDS: Final = 0.15
TIMES: Final = 9

_IMPORT: Final = """
import json, sys, time
before = time.perf_counter()
import ko_cpt_callbacks
took = time.perf_counter() - before
print(json.dumps([took, [name for name in ("torch", "transformers", "pandas", "plotly") if name in sys.modules]]))
"""


def main() -> int:
    """Print the best time; 1 when it is too long or something heavy came along."""
    took, heavy = [], set()
    for _ in range(TIMES):
        found = subprocess.run(
            [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True, cwd=ROOT
        )
        seconds, loaded = json.loads(found.stdout)
        took.append(seconds)
        heavy.update(loaded)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    bare = time.perf_counter() - started
    print(f"import ko_cpt_callbacks: {min(took):.4f} s, best of {TIMES} (bar {LIMIT_SECONDS} s)")
    print(f"a whole Python process that does nothing: {bare:.3f} s")
    print(f"heavy modules loaded: {', '.join(sorted(heavy)) or 'none'}")
    return int(min(took) > LIMIT_SECONDS or bool(heavy))


if __name__ == "__main__":
    sys.exit(main())
