"""What every rule keeps, whatever it judges. A new rule is in these tests by being in the folder."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from docs_script import script_of_docs

import ko_cpt_callbacks.rules as rooms
from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage, BaselineValue
from ko_cpt_callbacks.messages.catalogue import catalogue, retired
from ko_cpt_callbacks.rules.monitor import Monitor, MonitorState, SetAside
from ko_cpt_callbacks.rules.registry import ALL_RULES, rules_for
from ko_cpt_callbacks.rules.rule import ANY_ROW, Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import (
    EndObservation,
    EvalObservation,
    Observation,
    SetupObservation,
    TrainObservation,
)
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.target import parse_targets

NAN, INF = math.nan, math.inf
FOLDER = Path(rooms.__file__).parent

# Rows of a run up to which it is cut at every one of them, and places where a longer one is.
_ALL_CUTS = 25
_SOME_CUTS = 5


def _healthy(points: int = 40) -> list[Observation]:
    """A healthy run: falling, noisy, warm-up and decay, two eval sets, the Trainer's last row."""
    seen: list[Observation] = [SetupObservation(0, "stage", {"name": "full"})]
    for i in range(1, points + 1):
        step = 10 * i
        rate = 1e-4 * min(i / 5, 1.0) * (1 - i / (points + 10))
        loss = 2.6 + 1.5 * math.exp(-i / 12) + 0.02 * math.sin(7.0 * i)
        seen.append(
            TrainObservation(step, i / points, loss, 1.0 + 0.1 * math.cos(i), rate, 0, None, 4096 * step, 900.0)
        )
        if i % 5 == 0:
            for split, gap in (("eval_ko", 0.05), ("eval_en", 0.3)):
                exact = loss + gap
                seen.append(
                    EvalObservation(
                        step,
                        i / points,
                        split,
                        exact + 0.01,
                        exact,
                        0.01,
                        exact / 2,
                        0.005,
                        9000,
                        27000,
                        120,
                        0,
                        "f0",
                    )
                )
    return [*seen, EndObservation(10 * points, 3.0)]


def _with(**changes: Any) -> list[Observation]:
    """The healthy run with one field changed in every row that has it."""
    changed: list[Observation] = []
    for one in _healthy():
        names = {field.name for field in dataclasses.fields(one)}
        changed.append(dataclasses.replace(one, **{k: v for k, v in changes.items() if k in names}))
    return changed


def _every_other(value: float) -> list[Observation]:
    """NaN or infinite losses and gradients in every other row: episodes, scaler notes, recoveries."""
    seen = _healthy()
    for i in range(0, len(seen), 2):
        one = seen[i]
        if isinstance(one, TrainObservation):
            seen[i] = dataclasses.replace(one, loss=value if i % 4 else one.loss, grad_norm=value, nonfinite_steps=None)
        elif isinstance(one, EvalObservation):
            seen[i] = dataclasses.replace(one, loss=value, exact_loss=value, exact_loss_se=value, nonfinite_batches=1)
    return seen


# Kinds of set-up rows: a rule's code, or what was one.
SETUP_KINDS = [*(rule.code for rule in ALL_RULES), *retired()]

RUNS: dict[str, Callable[[], Sequence[Observation]]] = {
    "empty": list,
    "one training row": lambda: [TrainObservation(10, loss=3.0)],
    "one bare training row": lambda: [TrainObservation(0)],
    "one evaluation": lambda: [EvalObservation(0, loss=3.0)],
    "one bare evaluation": lambda: [EvalObservation(0)],
    "no exact loss": lambda: _with(exact_loss=None, exact_loss_absent="the model returned no logits"),
    "set-up rows": lambda: [SetupObservation(0, kind) for kind in SETUP_KINDS for _ in range(2)],
    "only an end": lambda: [EndObservation(0)],
    "healthy": _healthy,
    "loss NaN": lambda: _with(loss=NAN, exact_loss=NAN),
    "loss inf": lambda: _with(loss=INF, exact_loss=INF),
    "loss -inf": lambda: _with(loss=-INF, exact_loss=-INF),
    "loss zero": lambda: _with(loss=0.0, exact_loss=0.0, nonfinite_steps=None),
    "loss missing": lambda: _with(loss=None, exact_loss=None),
    "gradient NaN": lambda: _with(grad_norm=NAN, nonfinite_steps=None),
    "gradient missing": lambda: _with(grad_norm=None, learning_rate=None, nonfinite_steps=None, epoch=None),
    "everything NaN": lambda: _with(
        loss=NAN, exact_loss=NAN, exact_loss_se=NAN, bits_per_byte=NAN, bits_per_byte_se=NAN, grad_norm=NAN,
        learning_rate=NAN, epoch=NAN, tokens_per_second=NAN, train_loss=NAN,
    ),
    "some NaN": lambda: _every_other(NAN),
    "some inf": lambda: _every_other(INF),
    "some -inf": lambda: _every_other(-INF),
    "every row twice": lambda: [one for one in _healthy() for _ in range(2)],
    "every NaN row twice": lambda: [one for one in _every_other(NAN) for _ in range(2)],
    "one step": lambda: _with(step=10),
    "one step, NaN": lambda: _with(step=10, loss=NAN, exact_loss=NAN),
    "steps going back": lambda: list(reversed(_healthy())),
    "padding in the loss": lambda: [
        *(dataclasses.replace(one, tokens_seen=None, input_tokens=one.step**2) if isinstance(one, TrainObservation)
          else one for one in _healthy()[:-1]),
        *(TrainObservation(step, loss=0.7, input_tokens=4096 * (step - 400)) for step in range(410, 800, 10)),
    ],
    "planned": lambda: [SetupObservation(0, "plan", {"planned_steps": 400}), *_healthy()],
    "paired differences": lambda: [
        one for seen in _healthy() for one in (
            [SetupObservation(seen.step, "baseline-difference", {
                "split": seen.split, "baseline": "own", "unit": "nats per token", "difference": seen.exact_loss - 2.7,
                "se": 0.001, "rows": 120,
            })] if isinstance(seen, EvalObservation) and seen.exact_loss is not None else []
        ) + [seen]
    ],
    "two runs joined": lambda: [*_healthy(), *_healthy(20)],
}  # fmt: skip

# What a rule that was told of targets keeps too, on the sets of the runs above and on one that is not there.
TARGETS = parse_targets(
    [
        "eval_exact_loss<2.9@end", "eval_ko_loss<3.2@step:100,confirm=2", "eval_ko_ppl<20@tokens:500000",
        "eval_en_bits_per_byte<1.45", "eval_ko_exact_loss<-20%", "eval_ppl<-20%@step:200", "eval_ko_ppl<3",
        "eval_ja_loss<20",
    ]
)  # fmt: skip
# What the same rules compare a run with: one set on the same text with its rows at hand, one on other text.
BASELINE = Baseline(
    "own", "a run", "continued pretraining", "OWN", stages=(
        BaselineStage("whole", values=(
            BaselineValue("loss", "eval", 2.7, 2.7, 2.7, "OWN", "measured", "", "eval_ko", 0.01, "f0", "own/a.npz"),
            BaselineValue("bits_per_byte", "eval", 1.4, 1.35, 1.45, "D", "computed", "loss / bytes", "eval_ko", 0.01),
        )),
    ),
)  # fmt: skip
SPEC = WatchSpec(TARGETS, "other", baseline=BASELINE.as_dict())
TOLD = [rule for rule in rules_for(SPEC) if rule not in ALL_RULES]

MONITORS = {"as they are": Monitor(ALL_RULES), "with targets and a baseline": Monitor(TOLD)}

# One test a run that asks every rule: thousands of single tests say no more and take minutes to count.
each_run = pytest.mark.parametrize("name", RUNS)


def _fold(
    monitor: Monitor, seen: Sequence[Observation], state: MonitorState | None = None
) -> tuple[MonitorState, list[Finding]]:
    """State and findings of a fold; a rule that raises fails the test."""
    state, found = monitor.fold(seen, state)
    assert not any(isinstance(one, SetAside) for one in state.rules), state.rules
    return state, list(found)


def _holds_nonfinite(state: Any) -> bool:
    if isinstance(state, float):
        return not math.isfinite(state)
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return any(_holds_nonfinite(getattr(state, field.name)) for field in dataclasses.fields(state))
    if isinstance(state, dict):
        return any(_holds_nonfinite(value) for value in state.values())
    if isinstance(state, (tuple, list, set, frozenset)):
        return any(_holds_nonfinite(value) for value in state)
    return False


def _defined() -> dict[str, list[str]]:
    """By code, the modules below the families' folders that define a rule of it: every class with metadata."""
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("*/*.py")):
        module = import_module(f"ko_cpt_callbacks.rules.{path.parent.name}.{path.stem}")
        for one in vars(module).values():
            own = isinstance(one, type) and issubclass(one, Rule) and one.__module__ == module.__name__
            if own and isinstance(getattr(one, "info", None), RuleInfo):
                found.setdefault(one.info.code, []).append(f"{path.parent.name}.{path.stem}")
    return found


def test_the_list_is_the_folder() -> None:
    """ALL_RULES holds each rule that a file of the families defines, each code once, and none that is retired."""
    codes = [rule.code for rule in ALL_RULES]
    defined = _defined()
    assert len(codes) == len(set(codes)) > 30
    assert sorted(codes) == sorted(defined)
    assert all(len(modules) == 1 for modules in defined.values()), defined
    assert not set(codes) & set(retired())
    assert {now for now in retired().values() if now} <= set(codes)


def test_a_file_is_named_by_what_it_holds() -> None:
    """A class has its code's name, and the one rule of a file the file's; one of several has what they share."""
    homes = [type(rule).__module__ for rule in ALL_RULES]
    for rule in ALL_RULES:
        assert type(rule).__name__ == "".join(word.title() for word in rule.code.split("-"))
        if homes.count(type(rule).__module__) == 1:
            assert type(rule).__module__.rpartition(".")[2].replace("_", "-") == rule.code
    several = {home.removeprefix("ko_cpt_callbacks.rules.") for home in homes if homes.count(home) > 1}
    assert several == {
        "baseline.comparison", "note.note", "setup.check", "setup.threshold", "target.heading", "target.outcome",
    }  # fmt: skip


def test_metadata_is_complete() -> None:
    """Each rule says its code, its severities (the gravest first, each once), the rows it asks for, whether it may stop
    a run, and since which version it is there."""
    for rule in ALL_RULES:
        info = rule.info
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", info.code), info
        assert list(info.severities) == [one for one in reversed(Severity) if one in info.severities] != [], info
        assert info.rows and set(info.rows) <= set(ANY_ROW) and len(set(info.rows)) == len(info.rows), info
        assert isinstance(info.may_stop, bool), info
        assert re.fullmatch(r"\d+\.\d+\.\d+", info.since), info


def test_metadata_is_what_the_examples_show() -> None:
    """The examples of docs/findings show every severity of a rule and no other, and one asks to stop where it may."""
    examples = _examples()
    assert set(examples) == {rule.code for rule in ALL_RULES}
    for rule in ALL_RULES:
        found = [example.finding(rule.code) for example in examples[rule.code]]
        assert {one.severity for one in found} == set(rule.info.severities), rule.code
        assert any(one.asks_to_stop for one in found) == rule.info.may_stop, rule.code


def _examples() -> Mapping[str, Any]:
    return dict(script_of_docs("example_rows").EXAMPLES)


def test_every_rule_has_its_own_tests() -> None:
    """One test file per code, in the folder of its family; any other is that of a module that rules share."""
    folder = Path(__file__).parents[1] / "rules"
    tests = {f"{path.parent.name}/{path.name}" for path in folder.glob("*/test_*.py")}
    of_rules = {
        f"{type(rule).__module__.split('.')[-2]}/test_{rule.code.replace('-', '_')}.py" for rule in ALL_RULES
    }  # fmt: skip
    homes = {type(rule).__module__ for rule in ALL_RULES}
    shared = {
        f"{path.parent.name}/test_{path.stem}.py"
        for path in FOLDER.glob("*/*.py")
        if f"ko_cpt_callbacks.rules.{path.parent.name}.{path.stem}" not in homes
    }
    assert of_rules <= tests
    assert tests - of_rules <= shared


def test_every_rule_is_documented() -> None:
    """Each code has an explanation and sentences."""
    sentences = {code for code, _ in catalogue().wordings}
    for rule in ALL_RULES:
        assert rule.code in catalogue().explanations
        assert rule.code in sentences


def test_settings_are_a_frozen_value() -> None:
    """Two rules with the same thresholds are equal; thresholds cannot change."""
    for rule in ALL_RULES:
        assert type(rule)() == rule
        assert rule.initial() == rule.initial()
        for field in dataclasses.fields(rule):  # type: ignore[arg-type]
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(rule, field.name, None)


@each_run
def test_no_run_breaks_a_rule(name: str) -> None:
    """Every run is folded and closed; each finding is strict JSON with a sentence, and as its rule's metadata says."""
    seen = RUNS[name]()
    for monitor in MONITORS.values():
        known = {rule.code: rule.info for rule in monitor.rules}
        state, found = _fold(monitor, seen)
        for finding in (*found, *monitor.close(state)):
            info = known[finding.code]
            assert finding.severity in info.severities, finding
            assert info.may_stop or not finding.asks_to_stop, finding
            written = json.dumps(finding.as_dict(), allow_nan=False)
            assert Finding.from_dict(json.loads(written)) == finding
            assert "{" not in finding.message()
            assert "unknown" not in finding.message() or "loss" in finding.values


def _cuts(name: str, rows: int) -> set[int]:
    """Where a run is cut: everywhere, or at its ends and a sample that its name seeds."""
    if rows <= _ALL_CUTS:
        return set(range(rows + 1))
    return {0, 1, rows - 1, rows, *random.Random(name).sample(range(2, rows - 1), _SOME_CUTS)}


@each_run
def test_cut_anywhere(name: str) -> None:
    """State and findings of a fold cut at any row equal those of the whole, whatever was folded in between."""
    seen = RUNS[name]()
    other = RUNS["some NaN"]()[:3]
    for monitor in MONITORS.values():
        whole = _fold(monitor, seen)
        closed = monitor.close(whole[0])
        state, first = monitor.initial(), []
        for cut, one in enumerate([*seen, None]):
            if cut in _cuts(name, len(seen)):
                _fold(monitor, other)  # a rule that remembers outside its state would now remember this
                rest, second = _fold(monitor, seen[cut:], state)
                assert (rest, first + second) == whole, f"cut at {cut}"
                assert monitor.close(rest) == closed, f"cut at {cut}"
            if one is not None:
                state, new = monitor.step(state, one)
                first = [*first, *new]


@each_run
def test_alone_as_in_company(name: str) -> None:
    """A rule says the same whichever other rules are asked beside it: in five parties of a draw of its own each run."""
    seen = RUNS[name]()
    for monitor in MONITORS.values():
        state, found = _fold(monitor, seen)
        every = [*found, *monitor.close(state)]
        drawn = random.Random(name).sample(monitor.rules, len(monitor.rules))
        for party in (Monitor(drawn[start::5]) for start in range(5)):
            apart, said = _fold(party, seen)
            for rule in party.rules:
                own = [one for one in (*said, *party.close(apart)) if one.code == rule.code]
                assert own == [one for one in every if one.code == rule.code], rule.code


@each_run
def test_same_input_same_output(name: str) -> None:
    """Twice the same rows, freshly made, give equal states and findings: also where they hold NaN."""
    for monitor in MONITORS.values():
        assert _fold(monitor, RUNS[name]()) == _fold(monitor, RUNS[name]())


@each_run
def test_a_step_changes_nothing_it_was_given(name: str) -> None:
    """States of the fold, one in three and the last, are the same after the fold went on."""
    seen = RUNS[name]()
    for monitor in MONITORS.values():
        states, reprs, state = [], [], monitor.initial()
        for row, one in enumerate(seen, 1):
            if row % 3 == 0 or row == len(seen):
                states.append(state)
                reprs.append(repr(state))
            state, _ = monitor.step(state, one)
        assert [repr(state) for state in states] == reprs


@each_run
def test_no_nan_enters_a_state(name: str) -> None:
    """A state holds no NaN and no infinity: they would blind every later comparison."""
    for monitor in MONITORS.values():
        state, _ = _fold(monitor, RUNS[name]())
        assert not _holds_nonfinite((state.signals, state.progress))
        for rule, one in zip(monitor.rules, state.rules, strict=True):
            assert not _holds_nonfinite(one), rule.code


def test_a_healthy_run_raises_nothing() -> None:
    """No finding, not even an info."""
    assert MONITORS["as they are"].judge(_healthy())[1] == ()


@pytest.mark.parametrize("name", ["some NaN", "loss NaN", "healthy", "gradient NaN"])
def test_a_row_twice_is_reported_once(name: str) -> None:
    """Each row given twice gives the findings of each row given once."""
    seen = RUNS[name]()
    for monitor in MONITORS.values():
        state, once = _fold(monitor, seen)
        state_twice, twice = _fold(monitor, [one for one in seen for _ in range(2)])
        assert twice == once
        assert state_twice == state
        assert monitor.close(state_twice) == monitor.close(state)
