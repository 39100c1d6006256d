"""YAML that is composed once a process: most tests read the same recipes and baselines again and again, and that takes
longer than what they are about."""

from __future__ import annotations

import functools
from typing import Any

from ruamel.yaml import YAML

from ko_cpt_callbacks.yaml import reading


class ComposedOnce(YAML):
    """Gives the nodes of a text that it had before again; who reads them changes none."""

    def compose(self, stream: Any) -> Any:
        """Nodes of a text."""
        return _composed(stream)


@functools.lru_cache(256)
def _composed(text: str) -> Any:
    return YAML(typ="safe", pure=True).compose(text)


reading.YAML = ComposedOnce  # type: ignore[misc]
