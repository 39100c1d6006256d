"""Other projects' own tests, with our callback in every Trainer: what passes without it must pass with it.

    python benchmarks/peers.py [--transformers DIR] [--trl DIR] [--peft DIR] [--python SUITE=PYTHON] [--seconds 120]

Each folder is a checkout or a source distribution of that project near the installed version (it holds ``tests/``);
nothing of theirs is kept here. Every suite runs twice, offline: plain, and with the callback (``peers_plugin.py``).
Only tests that pass plain count. Models and texts of the hub are made here where they can be (``peers_stand_ins.py``).
Exit 1 when a test fails with the callback and is not one of those that look at the callbacks or the folder themselves,
or when the callback met an error of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

SUITES: Mapping[str, tuple[str, ...]] = {
    "transformers": ("tests/trainer/test_trainer*.py",),
    "trl": ("tests/test_sft_trainer.py", "tests/test_dpo_trainer.py", "tests/test_reward_trainer.py"),
    "peft": tuple(f"tests/test_{name}.py" for name in ("helpers", "cpt", "decoder_models")),
}

# PEFT's settings want a plugin for coverage and make errors of warnings, which a later transformers gives. Its file for
# decoder models has thousands of tests, and those named here alone make a Trainer there.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "peft": (
        *("-o", "addopts=", "-W", "default"),
        *("-k", "not decoder_models or test_prompt_learning_with_gradient_checkpointing or test_prefix_tuning_mistral"),
    )
}

# Files that start processes of their own, where the plugin is not.
_ELSEWHERE = ("distributed", "fsdp", "deepspeed", "tpu")

# Tests that any further callback fails that measures and writes: two count callbacks, two list the output folder, one
# compares all numbers of two runs' rows, and ours have a clock value among them (tokens_per_second).
EXPECTED = (
    "test_add_remove_callback",
    "test_init_callback",
    "test_best_model_checkpoint_behavior",
    "test_save_best_checkpoint",
    "test_can_resume_training",
)


@dataclass(frozen=True)
class Score:
    """What a suite came to.

    Attributes:
        plain: Tests that pass without the callback.
        trainers: How many of them make a Trainer, and so have the callback.
        failed: Those of them that fail with it, with the end of the report.
        expected: Those of the failures that any further callback brings.
        errors: Tests that pass and in which the callback met an error of its own.
    """

    plain: int
    trainers: int
    failed: Mapping[str, str]
    expected: tuple[str, ...]
    errors: Mapping[str, str]

    @classmethod
    def of(cls, plain: Mapping[str, Any], watched: Mapping[str, Any]) -> Score:
        """From outcomes by test, without and with the callback."""
        counted = [name for name, seen in plain.items() if seen.get("outcome") == "passed"]
        outcomes = {name: watched.get(name, {}) for name in counted}
        failed = {name: str(seen.get("why", "")) for name, seen in outcomes.items() if seen.get("outcome") != "passed"}
        expected = tuple(name for name in failed if name.rpartition("::")[2].partition("[")[0] in EXPECTED)
        errors = {name: seen["errors"][0] for name, seen in outcomes.items() if seen.get("errors")}
        trainers = sum(bool(seen.get("trainers")) for seen in outcomes.values())
        others = {name: why for name, why in failed.items() if name not in expected}
        return cls(len(counted), trainers, others, expected, errors)


def _pytest(python: str, options: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
    with log.open("wb") as sink:
        command = [python, "-m", "pytest", *options]
        subprocess.run(command, cwd=folder, env=environment, stdout=sink, stderr=subprocess.STDOUT, check=False)


def run(
    suite: str, folder: Path, python: str, seconds: int, place: Path, pytest: Callable[..., None] = _pytest
) -> Score:
    """Both runs of a suite.

    Args:
        suite: One of `SUITES`.
        folder: Its checkout.
        python: The interpreter that has what it needs.
        seconds: Time limit of a test.
        place: Where outcomes and logs go.
        pytest: Runs pytest in a process of its own.

    Raises:
        FileNotFoundError: If the folder has none of the suite's files.
    """
    files = sorted(str(path.relative_to(folder)) for pattern in SUITES[suite] for path in folder.glob(pattern))
    files = [name for name in files if not any(word in name for word in _ELSEWHERE)]
    if not files:
        raise FileNotFoundError(f"{folder}: found none of {', '.join(SUITES[suite])}, expected a checkout of {suite}")
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks", ROOT / "tests"))),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(place / "hub"),
        "PEERS_STAND_INS": "0" if suite == "transformers" else "1",
    }
    if common["PEERS_STAND_INS"] == "1":
        subprocess.run([python, str(ROOT / "benchmarks" / "peers_stand_ins.py")], env=common, check=True)
    if (folder / "tests").is_dir():  # source distributions leave it out, and tests import their neighbours by it
        (folder / "tests" / "__init__.py").touch()
    found = []
    for watched in ("0", "1"):
        target = place / f"{suite}-{watched}.json"
        environment = {**common, "PEERS_CALLBACK": watched, "PEERS_OUTCOMES": str(target)}
        options = ["-q", "-p", "peers_plugin", "-p", "no:cacheprovider", "--maxfail", "10000", *limit(python, seconds)]
        options += _OPTIONS.get(suite, ())
        print(f"{suite}: {'with the callback' if watched == '1' else 'plain'} …", flush=True)
        log = place / f"{suite}-{watched}.log"
        pytest(python, [*options, *files], folder, environment, log)
        if not target.exists():
            raise RuntimeError(f"{suite}: no test ran: {log.read_text('utf-8', 'replace')[-1500:]}")
        found.append(json.loads(target.read_text("utf-8")))
    return Score.of(*found)


def limit(python: str, seconds: int) -> list[str]:
    """Options for a time limit of each test, where pytest-timeout is there."""
    known = subprocess.run([python, "-c", "import pytest_timeout"], capture_output=True, check=False)
    return [] if known.returncode else ["--timeout", str(seconds)]


def main() -> int:
    """The suites that were given; 1 when a test fails with the callback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for suite in SUITES:
        parser.add_argument(f"--{suite}", type=Path, help=f"a checkout of {suite}")
    parser.add_argument("--python", action="append", default=[], metavar="SUITE=PYTHON", help="another interpreter")
    parser.add_argument("--seconds", type=int, default=120, help="time limit of a test")
    parser.add_argument("--keep", type=Path, help="folder for outcomes and logs")
    options = parser.parse_args()
    pythons = dict(text.split("=", 1) for text in options.python)
    given = {suite: getattr(options, suite) for suite in SUITES if getattr(options, suite)}
    if not given:
        parser.error("found no folder, expected at least one of --" + ", --".join(SUITES))
    wrong = False
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for suite, folder in given.items():
            score = run(suite, folder.resolve(), pythons.get(suite, sys.executable), options.seconds, place.resolve())
            print(
                f"{suite}: {score.plain} pass plain, {score.trainers} of them with a Trainer; "
                f"with the callback {len(score.failed)} of them fail, "
                f"{len(score.expected)} more as with any further callback; errors of ours in {len(score.errors)}"
            )
            for kind, names in (("FAILED", score.failed), ("ERROR", score.errors)):
                for name, why in names.items():
                    print(f"  {kind} {name}: {why.strip().splitlines()[-1] if why.strip() else 'no report'}")
            for name in score.expected:
                print(f"  expected: {name}")
            wrong |= bool(score.failed or score.errors)
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
