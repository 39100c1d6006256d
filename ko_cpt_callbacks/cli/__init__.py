"""The command line: ``ko-cpt``, or ``python -m ko_cpt_callbacks``. Runs without torch and transformers."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line with the arguments of this process; the console script ``ko-cpt``."""
    from ko_cpt_callbacks.cli.app import app

    try:
        app(prog_name="ko-cpt")
    except OSError as error:
        if not _is_full():
            raise
        found = error.strerror or error
        print(f"ko-cpt: standard output: found {found}, expected a place to write to", file=sys.stderr)
        sys.exit(2)


def _is_full() -> bool:
    """Whether nothing can be written to standard output any more."""
    try:
        # What failed was dropped, so that a flush alone would succeed. Before a traceback, an empty line does no harm.
        print(flush=True)
    except OSError:
        # The interpreter would try once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
