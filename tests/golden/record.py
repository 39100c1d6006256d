"""Golden files: what the judge says today, so that whatever it says otherwise tomorrow is looked at and explained.

``make golden``, or ``python tests/golden/record.py --check``, judges everything again and prints each difference: the
run, what should be said of it, old and new, and by its label whether that is better, worse or neither; then what is
gone, new and moved per code. A difference is an answer, not always a failure: where it is right,
``python tests/golden/record.py`` writes the files anew, and the commit says why. ``--since REVISION`` compares with the
files as they were at a revision, such as the one before a rebuild began.

Kept are, in ``tests/golden/data``:

* ``suite-0.txt`` to ``suite-3.txt``: four seeds of the labelled suite at full size;
* ``real-0.txt``: public logs, whole, shorter, coarser and with faults put in;
* ``logs.txt``, ``public.txt``: the logs and recorded runs in the tests, and the public logs beside the repository;
* ``logs/``, ``public/``, ``output/``: what commands print as JSON for those, for made and staged runs, comparisons,
  baselines and recipes. Findings have their numbers there, with six digits, and no sentences.

What needs ``../shared`` is skipped, with a line that says so, where that is absent. Everything takes about three
minutes on one core, which is why ``test_golden.py`` asks for a quarter of two seeds and leaves the rest to this
command. Exit status: 0 nothing differs (or the files are written), 1 something differs.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

from golden.difference import Difference, differences, output_differences, report, summary  # noqa: E402
from golden.judged import read, write  # noqa: E402
from golden.output import read_kept, written  # noqa: E402
from golden.part import PARTS, Part, absent, part_now  # noqa: E402

__all__ = ["FOLDER", "compared", "kept_text"]

FOLDER: Final = Path(__file__).parent / "data"


def kept_text(name: str, revision: str | None = None) -> str | None:
    """A golden file's text, as it is or as it was at a revision; None where there is none."""
    path = FOLDER / name
    if revision is None:
        return path.read_text("utf-8") if path.is_file() else None
    what = f"{revision}:{path.relative_to(ROOT).as_posix()}"
    shown = subprocess.run(["git", "show", what], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    return shown.stdout if shown.returncode == 0 else None


def compared(name: str, now: Part, revision: str | None = None) -> tuple[list[Difference], list[str]]:
    """A part now against what is kept of it: the differences, and the runs and outputs that are not kept yet."""
    found: list[Difference] = []
    unkept: list[str] = []
    frozen = read(kept_text(f"{name}.txt", revision) or "")
    for one, label in now.runs:
        if one.name in frozen:
            found += differences(name, frozen[one.name], one, label)
        else:
            unkept.append(f"{name}: {one.name}")
    for command, value in now.outputs.items():
        text = kept_text(f"{name}/{command}.json", revision)
        if text is None:
            unkept.append(f"{name}: {command}")
        else:
            found += output_differences(name, command, read_kept(text), value)
    return found, unkept


def _lost(name: str, now: Part) -> list[str]:
    """Runs and outputs that are kept and were not made."""
    runs, made = read(kept_text(f"{name}.txt") or ""), {one.name for one, _ in now.runs}
    outputs = {path.stem for path in (FOLDER / name).glob("*.json")}
    return [f"{name}: {one}" for one in (*(runs.keys() - made), *(outputs - now.outputs.keys()))]


def _keep(name: str, now: Part) -> None:
    if now.runs:
        write(FOLDER / f"{name}.txt", [one for one, _ in now.runs], PARTS[name])
    if now.outputs:
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        (FOLDER / name).mkdir(parents=True)
        for command, value in now.outputs.items():
            (FOLDER / name / f"{command}.json").write_text(written(value), "utf-8")


def _quietly(name: str) -> Part:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    return part_now(name)


def _parts(names: Sequence[str], jobs: int) -> Iterator[tuple[str, Part]]:
    """Each part judged; what cannot be judged here is said and left out."""
    there = []
    for name in names:
        why = absent(name)
        if why is None:
            there.append(name)
        else:
            print(f"{name}: skipped, {why}", flush=True)
    if jobs == 1:
        yield from ((name, _quietly(name)) for name in there)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            yield from zip(there, pool.map(_quietly, there), strict=True)


def main() -> int:
    """Write the golden files, or compare with them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    parser.add_argument("--since", metavar="REVISION", help="compare with the files of a revision; implies --check")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args()
    names = options.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--parts: found {unknown[0]!r}, expected some of {', '.join(PARTS)}")
    writes = not (options.check or options.since)
    found: list[Difference] = []
    unkept: list[str] = []
    lost: list[str] = []
    for name, now in _parts(names, options.jobs):
        differing, more = compared(name, now, options.since)
        print(f"{name}: {len(now.runs)} runs, {len(now.outputs)} outputs, {len(differing)} differences", flush=True)
        found += differing
        unkept += more
        lost += _lost(name, now)
        if writes:
            _keep(name, now)
    for title, which in (("not kept yet", unkept), ("kept, and made no more", lost)):
        if which:
            print(f"{title}: {len(which)}: {', '.join(which[:8])}{' …' if len(which) > 8 else ''}")
    print("\n".join([*report(found), *summary(found)]))
    if writes:
        print(f"written: {FOLDER.relative_to(ROOT)}")
        return 0
    return 1 if found or lost else 0


if __name__ == "__main__":
    sys.exit(main())
