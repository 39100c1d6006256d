"""Arguments of the callback: good ones become what is watched, bad ones an error that says what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from check.test_heading import run_folder
from forecast.family_rows import seed_rows

from ko_cpt_callbacks import ConfigurationError, KoCPTCallback, MemoryOutput
from ko_cpt_callbacks.compare.own import read_family
from ko_cpt_callbacks.forecast.family import family_in
from ko_cpt_callbacks.hf.argument import callback_spec, checked_outputs
from ko_cpt_callbacks.rules.registry import ALL_RULES, rules_for
from ko_cpt_callbacks.rules.rule import Rule
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Grace, Patience
from ko_cpt_callbacks.watch.target import Target

pytestmark = pytest.mark.both_versions

DEFAULTS: dict[str, Any] = {
    "task": "cpt",
    "retention": ("en",),
    "stop_on": (),
    "grace": None,
    "targets": (),
    "patience": None,
    "min_delta": None,
    "rules": None,
    "language": None,
}


def _spec(**changes: Any) -> WatchSpec:
    return callback_spec(**{**DEFAULTS, **changes})


def test_defaults() -> None:
    """Every rule, files and console, nothing stops, English; run.json shows all of it."""
    found = _spec()
    assert rules_for(found) == rules_for(WatchSpec(retention=("en",)))
    assert checked_outputs(None) == ("files", "console", "trackers")
    assert (found.stop_on, found.language) == (frozenset(), "en")
    assert (found.grace, found.targets, found.patience) == (Grace(), (), Patience())
    assert found.to_json()["rules"] == [rule.code for rule in ALL_RULES]


def test_a_family_is_a_row_of_every_training(tmp_path: Path) -> None:
    """The evaluations of the named runs are noted: the run's rows need no other folder. Without runs nothing is."""
    folders = [str(run_folder(tmp_path / f"run-{seed}", seed_rows(seed))) for seed in range(2)]
    ((kind, values),) = KoCPTCallback(family=folders).notes()
    assert kind == FAMILY
    assert family_in(SetupObservation(0, kind, values)) == read_family(folders)
    assert KoCPTCallback().notes() == ()
    with pytest.raises(ConfigurationError, match=r"family=.*write family=\['one'\]"):
        KoCPTCallback(family="one")


def test_chosen_rules_and_outputs() -> None:
    """Rules by code, in the rules' own order; an output object is kept."""
    memory = MemoryOutput()
    found = _spec(rules=["not-enough-data", "non-finite"], stop_on=["non-finite"])
    assert [rule.code for rule in rules_for(found)] == [
        rule.code for rule in ALL_RULES if rule.code in {"non-finite", "not-enough-data"}
    ]
    assert checked_outputs([memory, "files"]) == (memory, "files")
    assert rules_for(_spec(rules=[])) == ()
    assert checked_outputs([]) == ()


@pytest.mark.parametrize("name", ["rules", "stop_on"])
def test_a_code_of_an_earlier_version(name: str) -> None:
    """Refused, with where it is said now."""
    with pytest.raises(ConfigurationError, match=r"'target-implausible', which is no finding any more; .* reports it"):
        _spec(**{name: ["target-implausible"]})


def test_a_doubtful_target_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """When the callback is built, and once; a target like any other is not, and neither is one of another task."""
    KoCPTCallback(targets=["ppl<3", "eval_ko_ppl<20", "loss<20"])
    said = [record.getMessage() for record in caplog.records if record.name == "ko_cpt_callbacks"]
    assert [text.split(":")[0] for text in said] == [
        "Target eval_ppl<3.0@end depends on the tokenizer", "Target eval_loss<20.0@end means nothing",
    ]  # fmt: skip
    caplog.clear()
    KoCPTCallback(targets=["ppl<3"], task="sft")
    assert caplog.records == []


def test_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument, else the environment, else English."""
    assert _spec(language="ko").language == "ko"
    monkeypatch.setenv("KO_CPT_LANG", "ko")
    assert (_spec().language, _spec(language="en").language) == ("ko", "en")
    monkeypatch.setenv("KO_CPT_LANG", "")
    assert _spec().language == "en"


def test_a_wrong_language_in_the_environment_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """English, and one warning that names the variable; the argument beats it without one."""
    monkeypatch.setenv("KO_CPT_LANG", "kr")
    assert _spec(language="ko").language == "ko"
    assert caplog.records == []
    assert _spec().language == "en"
    assert [record.getMessage() for record in caplog.records] == [
        "KO_CPT_LANG: found 'kr', expected one of en, ko; did you mean ko?; sentences are in English"
    ]


def test_targets_grace_and_patience() -> None:
    """Texts become targets, a grace in steps or tokens, a patience; patience asks for its own stop, unless
    the rule that is to wait is named."""
    found = _spec(targets=["eval_exact_loss<3.0@end"], grace="tokens:1e6", patience=3, min_delta="1%")
    assert found.targets == (Target("exact_loss", 3.0),)
    assert (found.grace, found.patience) == (Grace(tokens=1_000_000), Patience(3, 0.01, relative=True))
    assert found.stop_on == {"no-improvement"}
    assert _spec(stop_on={"overfitting"}, patience=3).stop_on == {"overfitting"}
    assert _spec(stop_on={"non-finite"}, patience=3).stop_on == {"non-finite", "no-improvement"}
    told = found.to_json()
    assert (told["targets"], told["patience"], told["min_delta"]) == (["eval_exact_loss<3.0@end"], 3, "1%")
    assert told["grace"] == {"steps": 0, "tokens": 1_000_000}
    assert _spec(grace=500).grace == _spec(grace="step:500").grace == Grace(steps=500)


WRONG = [
    ({"stop_on": {"non-finit"}}, ["stop_on", "'non-finit'", "Did you mean 'non-finite'?"]),
    ({"stop_on": "non-finite"}, ["stop_on", "expected several values", "stop_on=['non-finite']"]),
    ({"stop_on": [3]}, ["stop_on", "expected texts", "3"]),
    ({"stop_on": {"stopped-before"}}, ["stop_on", "'stopped-before'", "write 'note'"]),
    ({"rules": ["nan-filter-on"]}, ["rules", "'nan-filter-on'", "write 'note'"]),
    ({"rules": {"nan-filter-on": {}}}, ["rules", "'nan-filter-on'", "write 'note'"]),
    ({"rules": [3]}, ["rules", "3", "expected codes, or limits by code"]),
    ({"rules": ["not-enough-dat"]}, ["rules", "Did you mean 'not-enough-data'?"]),
    ({"task": "cptt"}, ["task", "expected one of cpt, sft, other", "Did you mean 'cpt'?"]),
    ({"task": None}, ["task", "None"]),
    ({"language": "xx"}, ["language", "'xx'", "en"]),
    ({"language": 5}, ["language", "5", "en"]),
    ({"outputs": ["file"]}, ["outputs", "Did you mean 'files'?"]),
    ({"outputs": [3]}, ["outputs", "3"]),
    ({"grace": -1}, ["grace=-1", "0 or more"]),
    ({"grace": True}, ["grace=True"]),
    ({"grace": 0.5}, ["grace=0.5"]),
    ({"grace": "epoch:2"}, ["grace='epoch:2'", "grace='tokens:1e6'"]),
    ({"targets": 3.0}, ["target 3.0", "eval_exact_loss<3.0@end"]),
    ({"targets": [3.0]}, ["target 3.0", "eval_exact_loss<3.0@end"]),
    ({"targets": "eval_exact_los<3"}, ["exact_loss"]),
    ({"patience": 0}, ["patience=0", "at least 1"]),
    ({"min_delta": 0.1}, ["min_delta=0.1", "write patience=3"]),
    ({"retention": "en"}, ["retention", "retention=['en']"]),
    ({"retention": ["en<5"]}, ["retention", "'en<5'", "'en<5%'"]),
]


@pytest.mark.parametrize(("change", "parts"), WRONG)
def test_wrong_arguments(change: dict[str, Any], parts: list[str]) -> None:
    """The error names the argument, what was found, what is expected, and the nearest right word."""
    with pytest.raises(ConfigurationError) as caught:
        KoCPTCallback(**change)
    for part in parts:
        assert part in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("change", [{"outputs": "files"}, {"outputs": MemoryOutput()}, {"stop_on": 3}, {"rules": 1}])
def test_one_value_where_several_are_expected(change: dict[str, Any]) -> None:
    """A single output, or a number, is a configuration error too, not a TypeError or single letters."""
    with pytest.raises(ConfigurationError, match=f"{next(iter(change))}=.*: expected several values, found one"):
        KoCPTCallback(**change)


BASELINES: list[tuple[dict[str, Any], str]] = [
    ({"baseline": "redwale"}, "redwhale"),
    ({"baseline": 3}, "baseline=3.*: expected an id"),
    ({"stage": "lora"}, "found no baseline that this is a stage of"),
    ({"baseline": "redwhale", "stage": "odd-layer"}, "odd-layers"),
    ({"baseline": "redwhale", "stage": 3}, "stage=3.*: expected the name"),
]


@pytest.mark.parametrize(("change", "said"), BASELINES)
def test_a_baseline_that_cannot_be_used(change: dict[str, Any], said: str) -> None:
    """An unknown baseline or stage is refused before training, with what was probably meant."""
    with pytest.raises(ConfigurationError, match=said):
        KoCPTCallback(**change)


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ("loud", "found a text that is no address, expected info, warning, error"),
        (["error", "$NOT_SET_HERE"], "NOT_SET_HERE, which is not set"),
        ([3], "found int, expected texts"),
        (3, "found int, expected texts"),
        (["$slack://a-token"], "found a text with $ that is no $NAME"),
    ],
)
def test_alerts_that_cannot_be_used(alerts: Any, said: str) -> None:
    """What is neither a severity nor an address is refused before training."""
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        KoCPTCallback(alerts=alerts)
    assert "token" not in str(refused.value)


@pytest.mark.parametrize("name", ["stop_on", "retention", "targets", "outputs"])
def test_a_mapping_is_refused(name: str) -> None:
    """Its values would be swallowed. The sentence says what to write."""
    with pytest.raises(ConfigurationError, match="mapping") as caught:
        KoCPTCallback(**{name: {"non-finite": {"patience": 3}}})
    assert ("write for example" if name == "targets" else f"write {name}=['non-finite']") in str(caught.value)


FEW = {"not-enough-data": {"min_evaluations": 5}}


def _few(rules: tuple[Rule, ...]) -> int:
    (rule,) = (rule for rule in rules if rule.code == "not-enough-data")
    return int(getattr(rule, "min_evaluations"))  # noqa: B009 (of a rule in general mypy knows no limit)


def test_a_mapping_sets_limits_and_leaves_no_rule_out() -> None:
    """The named limit is another, all else is as ever, and run.json has what was given."""
    found = _spec(rules=FEW)
    rules, own = rules_for(found), rules_for(_spec())
    assert [rule.code for rule in rules] == [rule.code for rule in ALL_RULES]
    assert (_few(rules), _few(own)) == (5, 3)
    assert [rule for rule in rules if rule.code != "not-enough-data"] == [
        rule for rule in own if rule.code != "not-enough-data"
    ]
    assert (found.to_json()["limits"], _spec().to_json()["limits"]) == (FEW, {})
    assert rules_for(_spec(rules={})) == own


def test_a_list_selects_and_may_hold_limits() -> None:
    """Codes beside a mapping: these rules alone, with those limits."""
    found = _spec(rules=["non-finite", FEW])
    assert found.rules == ("non-finite", "not-enough-data")
    assert _few(rules_for(found)) == 5
    assert (found.to_json()["rules"], found.to_json()["limits"]) == (["non-finite", "not-enough-data"], FEW)


@pytest.mark.parametrize(
    ("rules", "parts"),
    [
        ({"not-enough-dat": {}}, ["found 'not-enough-dat'", "Did you mean 'not-enough-data'?"]),
        ({"not-enough-data": {"min_evaluation": 5}}, ["'min_evaluation'", "Did you mean 'min_evaluations'?"]),
        ({"not-enough-data": {"min_evaluations": float("nan")}}, ["found nan for min_evaluations of not-enough-data"]),
        ({"not-enough-data": {"min_evaluations": "5"}}, ["found '5'", "expected a whole number, 1 or more"]),
        ({"below-floor": {"floor": 0}}, ["found 0 for floor of below-floor, expected a number above 0 (it is 0.4152"]),
        ({"not-enough-data": 5}, ["found 5 under 'not-enough-data'", "'min_evaluations': 3"]),
    ],
)
def test_limits_that_cannot_be_used(rules: dict[str, Any], parts: list[str]) -> None:
    """One error: where, found, expected, did you mean; before the first step."""
    with pytest.raises(ConfigurationError) as caught:
        KoCPTCallback(rules=rules)
    for part in ["KoCPTCallback(rules=…): ", *parts]:
        assert part in str(caught.value)


@pytest.mark.parametrize(("version", "refused"), [
    ("4.56.2", True), ("4.57.0", False), ("5.24.0", False), ("5.25.0.dev0", False), ("6.0.0", True), ("x", True),
])  # fmt: skip
def test_a_release_of_transformers_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch, version: str, refused: bool
) -> None:
    """It is refused when the callback is built, with what was found and what to install."""
    monkeypatch.setattr("transformers.__version__", version)
    if not refused:
        assert KoCPTCallback() is not None
        return
    with pytest.raises(ConfigurationError) as caught:
        KoCPTCallback()
    assert str(caught.value).startswith(f"transformers: found {version}, expected 4.57 or newer, below 6; pip install")
