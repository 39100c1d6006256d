"""``python -m ko_cpt_callbacks``: the same as ``ko-cpt``."""

from __future__ import annotations


def _run() -> None:
    from ko_cpt_callbacks.cli import main

    main()


if __name__ == "__main__":
    _run()
