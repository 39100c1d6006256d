"""Does a command fail on damaged files?

``python benchmarks/fuzz_commands.py [--files N] [--seed N]``

Files of runs, plans, sums and baselines with values and bytes changed (``tests/check/damage.py``), each read by
``check``, ``compare`` or ``baselines``, in this process. Exit status 1 where one ends in an exception, in another
status than 0, 1 and 2, or says something that is no printable line: the command, what was wrong, how often, and a seed.
One core; 10,000 in about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from check.damage import Place, outcome  # noqa: E402


def main() -> int:
    """Calls the commands and prints what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    asked = parser.parse_args()
    exits: Counter[int] = Counter()
    wrong: dict[str, list[tuple[int, str]]] = defaultdict(list)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        for seed in range(asked.seed, asked.seed + asked.files):
            found = outcome(place, seed)
            exits[found.exit_code] += 1
            if found.wrong:
                wrong[found.wrong.replace(folder, "")].append((seed, " ".join(found.command).replace(folder, "")))
    shown = ", ".join(f"{count:,} with {code}" for code, count in sorted(exits.items()))
    print(f"{asked.files:,} mutations: {shown}; {sum(map(len, wrong.values())):,} wrong")
    for what, cases in sorted(wrong.items(), key=lambda item: -len(item[1])):
        print(f"  {len(cases):,} x {what}; seed {cases[0][0]}: ko-cpt {cases[0][1]}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
