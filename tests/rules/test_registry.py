"""The list of rules: what it refuses, and what each rule is told."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.rules.registry import ALL_RULES, rules_for
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import parse_targets


def test_what_is_refused() -> None:
    """A task, a code, or a stage of the baseline that is unknown; a stage is nothing where there is no baseline."""
    with pytest.raises(ConfigurationError, match="task: found 'rl', expected one of cpt, sft, other"):
        rules_for(WatchSpec(task="rl"))
    with pytest.raises(ConfigurationError, match="found spikes, expected codes out of"):
        rules_for(WatchSpec(rules=("non-finite", "spikes",)))
    baseline = find_baseline("redwhale")
    with pytest.raises(ConfigurationError, match="stage"):
        rules_for(WatchSpec(baseline=baseline.as_dict(), stage="no such stage"))
    assert rules_for(WatchSpec(stage="no such stage"))


def test_the_order_is_that_of_the_list() -> None:
    """Whatever the order of the codes; every rule stands in the list once."""
    assert [rule.code for rule in rules_for(WatchSpec(rules=("plateau", "non-finite",)))] == ["non-finite", "plateau"]
    codes = [rule.code for rule in ALL_RULES]
    assert len(set(codes)) == len(codes)
    assert rules_for() == ALL_RULES


def test_a_rule_is_told_what_it_asks_for() -> None:
    """Targets, retention sets and what is left out for them reach the rules that have such a field, and no other."""
    targets = parse_targets(["eval_exact_loss<2"])
    told = {rule.code: rule for rule in rules_for(WatchSpec(targets=targets, task="sft", retention=("en<5%",)))}
    assert told["target-met"].targets == targets  # type: ignore[attr-defined]
    assert told["forgetting"].retention == ("en<5%",)  # type: ignore[attr-defined]
    left_out = {code for code, rule in told.items() if getattr(rule, "leave_out", None) == ("eval_en",)}
    assert "no-improvement" in left_out
    assert told["non-finite"] == next(rule for rule in ALL_RULES if rule.code == "non-finite")
