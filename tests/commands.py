"""Several commands of `ko-cpt` one after the other in a process of their own, which takes longer to start than they do;
also in one that cannot import torch and the like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[1]
HEAVY: Final = (
    "torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes", "pandas", "plotly", "tokenizers",
)  # fmt: skip
_SCRIPT: Final = """
import io, json, sys
words_of_all, without = json.loads(sys.stdin.read())

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in without:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Refuse())
from ko_cpt_callbacks.cli import main
real, ended = sys.stdout, []
for words in words_of_all:
    out, err = io.BytesIO(), io.BytesIO()
    sys.argv, status = ["ko-cpt", *words], 0
    sys.stdout = io.TextIOWrapper(out, real.encoding, write_through=True)
    sys.stderr = io.TextIOWrapper(err, real.encoding, "backslashreplace", write_through=True)
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    ended.append([status, *(each.getvalue().decode(real.encoding) for each in (out, err))])
sys.stdout = real
print(json.dumps(ended))
"""


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def offline(*words: Sequence[str], folder: Path | None = None, encoding: str = "utf-8", **more: str) -> list[Ended]:
    """How each of the commands ends where the heavy libraries cannot be imported; see `commands`."""
    return commands(*words, without=HEAVY, folder=folder, encoding=encoding, **more)


def commands(
    *words: Sequence[str],
    without: Sequence[str] = (),
    python: str | Path = sys.executable,
    folder: Path | None = None,
    encoding: str = "utf-8",
    **more: str,
) -> list[Ended]:
    """How each of the commands ends.

    Args:
        words: Of every command, those after ``ko-cpt``.
        without: Libraries that cannot be imported.
        python: The interpreter.
        folder: Where they run; None: here.
        encoding: What the terminal shows.
        more: More variables of the environment.
    """
    process = subprocess.run(
        [python, "-c", _SCRIPT],
        input=json.dumps([[list(each) for each in words], list(without)]),
        capture_output=True,
        encoding=encoding,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding, **more},
    )
    assert (process.returncode, process.stderr) == (0, ""), process.stderr
    return [Ended(*found) for found in json.loads(process.stdout)]
