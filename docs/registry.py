"""Writes the table of ``docs/registry.md`` from the registry: ``python docs/registry.py``.

What stands below the second mark is written by hand. With ``--check`` nothing is written, and the status is 1 where the
page differs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from made_page import keep

from ko_cpt_callbacks.cli.baseline_page import GROUPS, cells, group_of
from ko_cpt_callbacks.compare.registry import bundled_ids, find_baseline

PAGE: Final = Path(__file__).parent / "registry.md"
COMMAND: Final = "python docs/registry.py"
BY_HAND: Final = "<!-- Written by hand from here on. -->"
_HEAD: Final = "| id | what | grade | stages | eval loss | bits/byte | text |\n|---|---|---|---|---|---|---|"


def page(by_hand: str) -> str:
    """The page with what is written by hand at its end."""
    every = [find_baseline(name) for name in bundled_ids()]
    parts = ["# Every baseline", f"<!-- Made from the registry by `{COMMAND}`, down to the next mark. -->"]
    for group, heading in GROUPS.items():
        rows = [one for one in every if group_of(one) == group]
        lines = "\n".join(f"| {' | '.join((f'`{one.id}`', *cells(one)[1:], one.language))} |" for one in rows)
        parts.extend((f"## {heading} ({len(rows)})", f"{_HEAD}\n{lines}"))
    return "\n\n".join((*parts, BY_HAND)) + by_hand


def main(*, check: bool) -> int:
    """Write the page, or with ``check`` compare it; the exit status."""
    by_hand = PAGE.read_text("utf-8").partition(BY_HAND)[2]
    return keep({PAGE: page(by_hand)}, "registry", check=check)


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
