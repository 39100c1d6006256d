"""An exception in our code on one of two ranks: does the training go on, to the same weights, and is the fault named?

Faults are drawn from the functions of the package that a small training of two gloo processes calls, by a seed: the
function, which of its calls, the rank, and who waits: the failing rank before it raises, so that the other is as far
ahead as it can be; the other at every event; or neither. They come in events that both ranks reach and in those that
rank 0 reaches alone (rows of its own, a save and an evaluation by hand). A fault passes when both ranks end at the last
step, with the weights of a run without the callback, and the fault is said at most once on each rank and on one at
least.

    python benchmarks/rank_campaign.py --faults 150 --seed 0
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import forked  # noqa: E402
from e2e import job_faults  # noqa: E402

Fault = tuple[int, str, int, float, float]

# Seconds that the failing rank waits before it raises, and that the other waits at every event. Ample for two small
# processes on two cores; chosen, not measured.
DELAYS = [(0.3, 0.0), (0.0, 0.01), (0.0, 0.0)]


def drawn(count: int, seed: int, folder: Path) -> list[Fault]:
    """Faults by a seed, every function at most once on a rank."""
    outcomes = forked.run_ranks(
        job_faults.runs, str(folder / "calls"), [None], ranks=2, folder=folder / "calls", timeout=300
    )
    calls = [forked.value(outcome)[1]["calls"] for outcome in outcomes]
    places = [(rank, place) for rank, called in enumerate(calls) for place in sorted(called)]
    picker, waiting = random.Random(seed), random.Random(f"waiting {seed}")
    picker.shuffle(places)
    return [
        (rank, place, picker.randint(1, min(calls[rank][place], 12)), *waiting.choice(DELAYS))
        for rank, place in places[:count]
    ]


def launch(faults: list[Fault], folder: Path, seconds: float) -> list[list[str] | None]:
    """What is wrong with each fault, in one launch of two ranks; None for one that hangs.

    Shorter than ``faults`` where one hangs or crashes: it is the last.
    """
    notes = folder / "at-"
    try:
        outcomes = forked.run_ranks(
            job_faults.runs, str(folder), faults, str(notes), ranks=2, folder=folder, timeout=seconds
        )
    except TimeoutError as error:
        print(str(error)[-3000:])
        return [*_again(faults, folder, seconds), None]
    values: list[Any] = [outcome.value for outcome in outcomes]
    if None in values:
        print("\n".join(outcome.text[-3000:] for outcome in outcomes))
        return [*_again(faults, folder, seconds), ["a process ended"]]
    first, second = values  # of different lengths where one crashed and the other did not
    return [job_faults.verdict(first[0], both) for both in zip(first[1:], second[1:], strict=False)]


def _again(faults: list[Fault], folder: Path, seconds: float) -> list[list[str] | None]:
    """The faults before the one at which a launch ended without a report: one rank came no further than that."""
    reached = [int(note.read_text("utf-8")) for note in folder.glob("at-*")]
    done = min(reached) if len(reached) == 2 else 0
    return launch(faults[:done], folder / "again", seconds) if done else []


def main() -> int:
    """Draw, run, report; exit 1 where any fault did harm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--a-launch", type=int, default=15, help="faults that share two processes")
    parser.add_argument("--seconds", type=float, default=20.0, help="time limit of one fault")
    asked = parser.parse_args()
    began, counts = time.monotonic(), Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        waiting, number = drawn(asked.faults, asked.seed, folder), 0
        while waiting:
            part = waiting[: asked.a_launch]
            found = launch(part, folder / str(number), 60.0 + asked.seconds * len(part))
            for fault, wrong in zip(part, found, strict=False):
                kind = "hang" if wrong is None else "well" if not wrong else "harm"
                if wrong and any("crashed" in text or "ended" in text for text in wrong):
                    kind = "crash"
                counts[kind] += 1
                if kind != "well":
                    rank, name, nth, late, slow = fault
                    where = f"rank {rank}, call {nth} of {name}, {late} s late, the other {slow} s slow"
                    print(f"{kind}: {where}", *(wrong or ()), sep="\n  ")
            waiting, number = waiting[len(found) :], number + 1
            print(f"{sum(counts.values())} faults, {dict(counts)}, {time.monotonic() - began:.0f} s", flush=True)
    return int(set(counts) != {"well"})


if __name__ == "__main__":
    sys.exit(main())
