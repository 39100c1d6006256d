"""Does a rule raise on a log of plausible numbers?

``python benchmarks/fuzz_rules.py [--logs N] [--seed N]``

Logs with restarts, NaN, gaps, steps twice and falling, huge and tiny numbers (``tests/suite/odd_log.py``), each through
every rule by itself, unguarded; every finding's sentence is made. Exit status 1 where anything raises: the rule, the
error, how many logs, and the seed of the shortest of them. One core; 20,000 logs in about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from suite.odd_log import failures, odd_rows, rule_sets  # noqa: E402


def main() -> int:
    """Folds the logs and prints what raised."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first log")
    asked = parser.parse_args()
    sets = rule_sets()
    seen: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    broken = rows_read = 0
    for seed in range(asked.seed, asked.seed + asked.logs):
        rows = odd_rows(seed)
        rows_read += len(rows)
        raised = list(failures(rows, sets[seed % len(sets)]))
        broken += bool(raised)
        for code, error in raised:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            seen[code, what].append((len(rows), seed))
    print(f"{asked.logs:,} logs, {rows_read:,} rows, {len(sets[0])} rules: {broken:,} logs in which a rule raised")
    for (code, what), logs in sorted(seen.items(), key=lambda item: -len(item[1])):
        shortest = min(logs)
        print(f"  {code}: {what}: {len(logs):,} logs, the shortest ({shortest[0]} rows) has seed {shortest[1]}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
