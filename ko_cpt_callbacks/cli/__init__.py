"""The command line: ``ko-cpt``, or ``python -m ko_cpt_callbacks``. Runs without torch and transformers."""

from __future__ import annotations


def main() -> None:
    """Run the command line with the arguments of this process; the console script ``ko-cpt``."""
    from ko_cpt_callbacks.cli.app import app

    app(prog_name="ko-cpt")
