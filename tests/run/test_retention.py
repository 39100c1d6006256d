"""Which sets stand for what must not be forgotten: whole names, never parts of names."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.run.retention import RETENTION_NAMES, checked_retention, is_retention, retention_limit


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
    assert is_retention("eval_old", ["old<5%"])


def test_limit() -> None:
    """Behind the name, a percentage; of that set alone."""
    declared = checked_retention(["en < 5%", "eval_old<0.5%", "base"])
    assert retention_limit("eval_en", declared) == 0.05
    assert retention_limit("eval_old", declared) == 0.005
    assert retention_limit("eval_base", declared) is retention_limit("eval_ko", declared) is None


@pytest.mark.parametrize("text", ["", "<5%", "en<5", "en<", "en<five%", "en<0%", "en<-3%", "en<nan%", "en<inf%"])
def test_what_is_no_limit(text: str) -> None:
    """No name, no percent sign, no number above zero: said with what to write."""
    with pytest.raises(ConfigurationError, match="write 'en"):
        checked_retention([text])
