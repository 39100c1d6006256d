"""What is watched: one value, whichever way it comes in; what run.json records of it reads back the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.watch.spec import WatchSpec, recipe_kwargs
from ko_cpt_callbacks.watch.stopping import Grace, Patience
from ko_cpt_callbacks.watch.target import parse_targets

KNOWN = {"target-met": {}, "loss-spike": {"most": 5, "height": 0.5}, "non-finite": {}, "overfitting": {}}
RUN = {"id": "a-run", "stages": [{"name": "lora"}]}


def _find(name: str) -> Mapping[str, Any]:
    if name != RUN["id"]:
        raise ConfigurationError(f"baseline {name!r}: found no such id")
    return RUN


def _checked(baseline: Mapping[str, Any], stage: str) -> None:
    if stage not in ("auto", "lora"):
        raise ValueError(f"no stage {stage}")


def _read(told: Mapping[str, Any]) -> WatchSpec:
    run = json.loads(json.dumps({"format": 1, "watch": told}, allow_nan=False))
    return WatchSpec.from_run_json(run, "run.json", _checked)


ARGUMENTS = some.fixed_dictionaries(
    {},
    optional={
        "targets": some.sampled_from([(), "eval_ppl<20", ["loss<3@step:10", "eval_ko_ppl<-5%,confirm=2"]]),
        "task": some.sampled_from(["cpt", "sft", "other"]),
        "retention": some.sampled_from([(), ["en"], ["en<5%", "old"]]),
        "stop_on": some.sets(some.sampled_from(sorted(KNOWN))),
        "grace": some.sampled_from([None, 0, 500, "step:3", "tokens:1e6"]),
        "patience": some.integers(1, 9),
        "rules": some.sampled_from([
            None, [], {"loss-spike": {"most": 3}}, ["non-finite", {"loss-spike": {"height": 2}}], ["overfitting"],
        ]),
        "language": some.sampled_from([None, "en", "ko"]),
        "baseline": some.sampled_from([None, "a-run", RUN]),
    },
)  # fmt: skip


@given(ARGUMENTS, some.sampled_from([None, 0.0, 0.01, "1%", "0.3%"]))
def test_run_json_reads_back_the_same(arguments: dict[str, Any], delta: float | str | None) -> None:
    """Whatever arguments a callback was given, run.json gives an equal value, and that writes the same again."""
    if "patience" in arguments:
        arguments = {**arguments, "min_delta": delta}
    spec = WatchSpec.from_kwargs(KNOWN, _find, **arguments)
    assert _read(spec.to_json()) == spec
    assert _read(spec.to_json()).to_json() == spec.to_json()
    assert WatchSpec.from_options(KNOWN, spec) == spec
    assert spec.unknown(KNOWN) == ()


def test_every_field_is_read() -> None:
    """Each argument is in its field, rules in the order in which they are asked."""
    spec = WatchSpec.from_kwargs(
        KNOWN, _find, targets="eval_ppl<20", baseline="a-run", stage="lora", task="sft", retention=["old<5%"],
        stop_on=["non-finite"], grace="tokens:1e3", patience=3, min_delta="1%",
        rules=["overfitting", {"loss-spike": {"most": 3}}], language="ko",
    )  # fmt: skip
    assert spec == WatchSpec(
        targets=parse_targets("eval_ppl<20"), task="sft", rules=("loss-spike", "overfitting"),
        patience=Patience(3, 0.01, relative=True), retention=("old<5%",), baseline=RUN, stage="lora",
        limits={"loss-spike": {"most": 3}}, stop_on=frozenset({"non-finite", "no-improvement"}),
        grace=Grace(tokens=1000), language="ko",
    )  # fmt: skip
    assert WatchSpec.from_kwargs(KNOWN, _find).rules == tuple(KNOWN)
    assert WatchSpec.from_kwargs(KNOWN, _find, stop_on=["overfitting"], patience=3).stop_on == {"overfitting"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"baseline": "b-run"}, "found no such id"),
        ({"baseline": 3}, "expected an id"),
        ({"stage": "lora"}, "found no baseline that this is a stage of"),
        ({"stop_on": ["loss-spik"]}, "Did you mean 'loss-spike'"),
        ({"rules": {"loss-spike": {"height": "x"}}}, "expected a number above 0"),
        ({"rules": {"loss-spike": {"most": 2.5}}}, "expected a whole number, 1 or more"),
        ({"language": "kr"}, "did you mean ko"),
    ],
)
def test_what_is_not_known(arguments: dict[str, Any], said: str) -> None:
    """Only what is handed in is known; the error tells what was probably meant."""
    with pytest.raises(ConfigurationError, match=said):
        WatchSpec.from_kwargs(KNOWN, _find, **arguments)


def test_a_recipe_s_stage() -> None:
    """Its watch, task and sets; a preset is asked of the first set that is no retention set."""
    targets = ["korean-loss-3", "eval_en_ppl<9"]
    watch = {"targets": targets, "baseline": "a-run", "stage": "lora", "stop_on": ["non-finite"]}
    values = {
        "task": "cpt",
        "eval": {"en": {"retention": True}, "ko": {"retention": False}},
        "stages": {"one": {"watch": {**watch, "grace": 5, "patience": None, "min_delta": None}}},
    }
    spec = WatchSpec.from_kwargs(KNOWN, _find, **recipe_kwargs(values, "one"))
    assert [str(one) for one in spec.targets] == ["eval_ko_exact_loss<3.0@end", "eval_en_ppl<9.0@end"]
    assert (spec.retention, spec.stage, spec.baseline, spec.grace) == (("en",), "lora", RUN, Grace(steps=5))
    assert (spec.stop_on, spec.rules) == ({"non-finite"}, tuple(KNOWN))


def test_options_come_before_what_is_recorded() -> None:
    """Each option replaces its own part; with a target or a baseline the rules on it are asked, a limit is added."""
    recorded = WatchSpec(
        parse_targets("eval_ppl<20"), "sft", ("non-finite", "later"), baseline=RUN, stage="lora", retention=("en",),
        limits={"loss-spike": {"most": 3, "gone": 1}, "later": {"x": 1}},
    )  # fmt: skip
    spec = WatchSpec.from_options(KNOWN, recorded)
    assert (spec.task, spec.rules, spec.limits) == ("sft", ("non-finite",), {"loss-spike": {"most": 3}})
    assert recorded.unknown(KNOWN) == ("later", "loss-spike.gone", "later.x")
    spec = WatchSpec.from_options(
        KNOWN, recorded, task="cpt", targets=["loss<3"], retention=["old"], limits={"loss-spike": {"height": 1.0}},
        language="ko",
    )  # fmt: skip
    assert (spec.task, spec.targets, spec.retention) == ("cpt", parse_targets("loss<3"), ("old",))
    assert (spec.rules, spec.language) == (("non-finite", "target-met"), "ko")
    assert spec.limits == {"loss-spike": {"most": 3, "height": 1.0}}
    assert spec.stage == "lora"
    other = WatchSpec.from_options(KNOWN, recorded, baseline={"id": "b-run"})
    assert (other.baseline, other.stage) == ({"id": "b-run"}, "auto")
    assert other.rules == ("non-finite", "baseline-ahead", "baseline-behind", "not-comparable")
    assert WatchSpec.from_options(KNOWN) == WatchSpec(task="other")


def test_names_of_before_the_first_release() -> None:
    """A run.json of then, with its part by another name and a rule by another code, is read as one of today."""
    then = {**WatchSpec().to_json(), "rules": ["memorising"], "limits": {"memorising": {"drop": 0.2}}}
    spec = WatchSpec.from_run_json({"format": 1, "told": then}, "run.json", _checked)
    assert (spec.rules, spec.limits) == (("memorizing",), {"memorizing": {"drop": 0.2}})


def test_a_record_that_stops_on_odd_things() -> None:
    """What would have stopped the run changes no verdict: a file with nonsense there is read without it."""
    told = {**WatchSpec().to_json(), "stop_on": [3, "non-finite"], "grace": {"steps": -1, "tokens": True}}
    spec = _read(told)
    assert (spec.stop_on, spec.grace) == ({"non-finite"}, Grace())
    assert _read({"task": "cpt", "stop_on": "x", "grace": 3}) == WatchSpec()
