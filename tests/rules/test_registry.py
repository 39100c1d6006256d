"""The list of rules: what it refuses, and what each rule is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ko_cpt_callbacks import plugin
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.messages import catalogue as sentences
from ko_cpt_callbacks.rules.registry import (
    ALL_RULES,
    known_codes,
    known_limits,
    known_rules,
    plugin_rules,
    rules_for,
)
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


RULES = """
from abc import abstractmethod
from dataclasses import dataclass
from ko_cpt_callbacks.rules.rule import Rule, RuleInfo

def info(code):
    return RuleInfo(code, (), ())

class Judge(Rule):
    def step(self, state, seen, signals):
        return state, ()

@dataclass(frozen=True)
class Useful(Judge):
    info = info("useful")
    least: float = 1

@dataclass(frozen=True)
class Odd_One(Judge):
    info = info("Odd_One")

@dataclass(frozen=True)
class Abstract(Rule):
    info = info("abstract")

@dataclass(frozen=True)
class Unnamed(Judge):
    pass

@dataclass(frozen=True)
class Other(Judge):
    info = info("useful")

class Plain(Judge):
    info = info("plain")

@dataclass(frozen=True)
class Silent(Judge):
    info = info("silent")

@dataclass(frozen=True)
class Stateless(Judge):
    info = info("stateless")
    def initial(self):
        raise RuntimeError("no state")

@dataclass(frozen=True)
class Limitless(Judge):
    info = info("limitless")
    least: "int" = "many"

number = 3
function = len
"""
REFUSED = {
    "abstract": ("Abstract", "expected a class made from"),
    "function": ("function", "expected a class made from"),
    "number": ("number", "expected a class made from"),
    "other": ("Other", "expected a RuleInfo whose code is the entry point's name"),
    "unnamed": ("Unnamed", "expected a RuleInfo whose code is the entry point's name"),
    "Odd_One": ("Odd_One", "small letters with hyphens"),
    "plain": ("Plain", "expected a frozen dataclass, whose fields are its limits"),
    "silent": ("Silent", "found no English sentences of silent"),
    "stateless": ("Stateless", "RuntimeError: no state"),
    "limitless": ("Limitless", "ValueError"),
}
"""Entry points that are left out: the name in the module, and why."""
SENTENCES = """
[codes.{code}]
meaning = "It is so."
decided = "info: always."
action = "Look."
short = "so"
detail = "It is so."
"""


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Another package on the path, with one rule that can be used and all those that cannot; what is said of these."""
    folder = tmp_path / "judges-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: judges\nVersion: 1.0\n")
    declared = [f"{name} = judging:{where}" for name, (where, _) in {**REFUSED, "useful": ("Useful", "")}.items()]
    lines = ["[ko_cpt_callbacks.rules]", *declared, "[ko_cpt_callbacks.messages]", "judges = judge_sentences"]
    (folder / "entry_points.txt").write_text("\n".join(lines))
    (tmp_path / "judging.py").write_text(RULES)
    (tmp_path / "judge_sentences").mkdir()
    said = [code for code in ("useful", *REFUSED) if code not in ("silent", "Odd_One")]
    (tmp_path / "judge_sentences" / "en.toml").write_text("".join(SENTENCES.format(code=code) for code in said))
    monkeypatch.syspath_prepend(str(tmp_path))
    kept = (plugin._declared, plugin_rules, sentences.catalogue, sentences._of_plugins)
    for one in kept:
        one.cache_clear()
    plugin_rules()
    yield [record.getMessage() for record in caplog.records]
    for one in kept:
        one.cache_clear()
    for name in ("judging", "judge_sentences"):
        sys.modules.pop(name, None)


def test_the_rules_of_another_package(reports: list[str]) -> None:
    """One that can be asked and explained stands behind all others, with its limits; the rest is named with why it is
    left out, each alone."""
    (useful,) = (one.value for one in plugin_rules())
    assert [rule.code for rule in known_rules()] == [*(rule.code for rule in ALL_RULES), "useful"]
    assert known_codes() == tuple(sorted([*(rule.code for rule in ALL_RULES), "useful"]))
    assert known_limits()["useful"] == {"least": 1.0}
    (asked,) = rules_for(WatchSpec(rules=("useful",), limits={"useful": {"least": 2.0}}))
    assert asked == useful(least=2.0)
    assert len(reports) == len(REFUSED)
    for name, (_, reason) in REFUSED.items():
        (report,) = (one for one in reports if one.startswith(f"Plugin judges 1.0: {name} of rules "))
        assert reason in report
