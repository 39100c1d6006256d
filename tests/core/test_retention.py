"""Which sets stand for what must not be forgotten: whole names, never parts of names."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.core.retention import RETENTION_NAMES, is_retention


@pytest.mark.parametrize("name", RETENTION_NAMES)
def test_known_names(name: str) -> None:
    """Under any prefix, in any case."""
    assert is_retention(f"eval_{name}")
    assert is_retention(f"test_{name.upper()}")


@pytest.mark.parametrize("split", ["eval", "en", "eval_ko", "eval_enko", "eval_knowledge_base", "eval_orig2"])
def test_others(split: str) -> None:
    """A set called ``eval_enko`` is not English."""
    assert not is_retention(split)


def test_declared() -> None:
    """By the set's name or by its whole prefix."""
    assert is_retention("eval_old", ["old"])
    assert is_retention("eval_old", ["eval_old"])
    assert not is_retention("eval_older", ["old"])
