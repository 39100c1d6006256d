"""pytest itself in a process of its own, as ``python -m pytest`` in another folder and environment would be."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import pytest


def run(options: Sequence[str], folder: str, environment: Mapping[str, str]) -> int:
    """The exit status of pytest with ``options``."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    return int(pytest.main([*options]))
