"""`eval-set-changed`: other rows under a set's name, and everything that compares starts anew there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from messages.shown import shown
from run.curve import findings

from ko_cpt_callbacks.rules.generalization.eval_set_changed import EvalSetChanged
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import rules_for
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.watch.spec import WatchSpec
from ko_cpt_callbacks.watch.stopping import Patience
from ko_cpt_callbacks.watch.target import parse_targets

RULE = EvalSetChanged()
Findings = list[tuple[str, int | None]]


def _evaluations(prints: Sequence[str | None], tokens: Sequence[int] | None = None) -> list[Observation]:
    return [
        EvalObservation(
            10 * (i + 1), split="eval_ko", exact_loss=3.0, rows=100, fingerprint=text,
            tokens=None if tokens is None else tokens[i],
        )
        for i, text in enumerate(prints)
    ]  # fmt: skip


def _said(prints: Sequence[str | None], tokens: Sequence[int] | None = None) -> list[tuple[int | None, str, str]]:
    found = findings(RULE, _evaluations(prints, tokens))
    return [(one.step, one.severity.value, one.variant) for one in found]


def test_the_sentence() -> None:
    """It names the set, the step and the evaluation before; it may not stop a run."""
    (found,) = findings(RULE, _evaluations(["u-1", "u-1", "u-2", "u-2"]))
    assert (found.severity, found.step, found.split, found.asks_to_stop) == (Severity.WARNING, 30, "eval_ko", False)
    assert shown(found) == ("", {"before_step": 20})
    assert found.values == {"before_step": 20, "before": 3.0, "after": 3.0, "rows_before": 100, "rows_after": 100}


def test_when_it_speaks() -> None:
    """At each change; where no two evaluations were of the same rows yet, at the next one or at the end."""
    assert _said(["u-1"] * 5) == []
    assert _said(["u-1", "u-1", "u-2", "u-2", "u-1", "u-1"]) == [(30, "warning", ""), (50, "warning", "")]
    assert _said(["u-1", "u-2", "u-2", "u-2"]) == [(20, "warning", "")]
    assert _said(["u-1", "u-2"]) == [(20, "warning", "")]
    assert _said(["u-1", "u-1", "u-1"], [900, 900, 450]) == [(30, "warning", "labels")]
    found = findings(RULE, [*_evaluations(["u-1", "u-2"]), EndObservation(20), EndObservation(20)])
    assert [one.step for one in found] == [20]


def test_at_which_row_it_is_said() -> None:
    """At the change itself where the rows before were seen twice; else with the next evaluation, or at the last row of
    the Trainer: then there is nothing left for the end of the history."""
    monitor = Monitor([RULE])
    for prints, said in (
        (("u-1", "u-1", "u-2"), [(30, 30)]), (("u-1", "u-2", "u-2"), [(30, 20)]), (("u-1", "u-2"), [(99, 20)]),
    ):  # fmt: skip
        state, found = monitor.initial(), []
        for row in (*_evaluations(prints), EndObservation(99)):
            state, new = monitor.step(state, row)
            found += [(row.step, one.step) for one in new]
        assert found == said
        assert monitor.close(state) == ()


def test_what_is_not_known_is_no_change() -> None:
    """A run that was begun with another version's fingerprints, or has none for a while, is resumed in silence."""
    assert _said(["u-1", "u-1", "u-0002", "u-0002"]) == []
    assert _said(["u-1", "u-1", "ids-2", "ids-2"]) == []
    assert _said(["u-1", None, "u-1", None]) == []
    assert _said([None, None]) == []


def test_a_set_that_is_drawn_each_time_is_a_note() -> None:
    """As with the fresh mask of a masked model: said once, and as information."""
    seen = _evaluations([f"u-{i}" for i in range(8)])
    assert [(one.step, one.severity, one.variant, one.values) for one in findings(RULE, seen)] == [
        (40, Severity.INFO, "drawn", {"evaluations": 4}),
    ]


def test_what_the_run_before_it_did_is_not_what_a_run_does() -> None:
    """Two runs joined, each of which changes its set at step 30: both are said, and the change between them."""
    seen = _evaluations(["u-1", "u-1", "u-2", "u-2"])
    assert [one.step for one in findings(RULE, [*seen, *seen])] == [30, 10, 30]


def test_a_repeated_evaluation_is_said_once() -> None:
    """Every row twice says the same; other rows that a repeat takes back are none."""
    seen = _evaluations(["u-1", "u-1", "u-2", "u-2"])
    assert findings(RULE, [one for row in seen for one in (row, row)]) == findings(RULE, seen)


def test_an_evaluation_that_failed_changes_nothing() -> None:
    """Without any loss it is no evaluation."""
    seen = [*_evaluations(["u-1", "u-1"]), EvalObservation(30, split="eval_ko", fingerprint="u-2")]
    assert findings(RULE, seen) == []
    later = EvalObservation(40, split="eval_ko", exact_loss=3.0, fingerprint="u-2")
    assert [(one.step, one.values["before_step"]) for one in findings(RULE, [*seen, later])] == [(40, 20)]


def _run(prints: Sequence[str | None], losses: Sequence[float], names: str = "eval") -> list[Observation]:
    """Training that falls, with an evaluation after every five rows."""
    seen: list[Observation] = []
    for i, (text, loss) in enumerate(zip(prints, losses, strict=True)):
        for k in range(5):
            at = 50 * i + 10 * (k + 1)
            seen.append(TrainObservation(at, at / 400, 2.4 + 0.8 * math.exp(-at / 150), 1.0, 1e-4, 0))
        seen.append(EvalObservation(50 * (i + 1), split=names, exact_loss=loss, exact_loss_se=0.01, fingerprint=text))
    return seen


def _of(seen: Sequence[Observation], **told: object) -> tuple[list[Finding], Monitor]:
    monitor = Monitor(rules_for(WatchSpec(**told)))  # type: ignore[arg-type]
    return list(monitor.judge(seen)[1]), monitor


# Falls for eight evaluations, then the set is another, harder one that falls on.
LOSSES = [3.0, 2.9, 2.83, 2.78, 2.75, 2.73, 2.72, 2.71, 3.41, 3.40, 3.39, 3.385, 3.38, 3.376]
SWAPPED = ["u-1"] * 8 + ["u-2"] * 6
UNKNOWN = [None] * 14


def test_everything_that_compares_starts_anew() -> None:
    """Overfitting, gap-widening, no-improvement, forgetting: all speak of the jump where the rows are said to be the
    same, none where they are known to be others."""
    codes = {"overfitting", "gap-widening", "no-improvement"}
    same, _ = _of(_run(["u-1"] * 14, LOSSES), patience=Patience(3))
    assert {one.code for one in same} >= codes
    knowing, _ = _of(_run(SWAPPED, LOSSES), patience=Patience(3))
    assert {one.code for one in knowing} & codes == set()
    assert [(one.code, one.step) for one in knowing if one.severity is Severity.WARNING] == [("eval-set-changed", 450)]

    blind, _ = _of(_run(UNKNOWN, LOSSES, "eval_en"))
    assert "forgetting" in {one.code for one in blind}
    knowing, _ = _of(_run(SWAPPED, LOSSES, "eval_en"))
    assert "forgetting" not in {one.code for one in knowing}


def test_the_summary_is_of_the_rows_that_are_evaluated_now() -> None:
    """First, best and last are of the new rows, and the summary says since when; evaluations are counted on."""
    state, _ = Monitor().fold(_run(SWAPPED, LOSSES))
    split = state.summary().as_dict()["splits"]["eval"]
    assert (split["first"]["step"], split["best"]["value"], split["last"]["step"]) == (450, 3.376, 700)
    assert (split["evaluations"], split["rows_since"]) == (14, 450)
    state, _ = Monitor().fold(_run(["u-1"] * 14, LOSSES))
    assert state.summary().as_dict()["splits"]["eval"]["rows_since"] is None


def test_a_relative_target_starts_anew() -> None:
    """25 % below the first evaluation is not met by an easier set, and confirmations of the old rows do not count."""
    easier = [3.0, 2.9, 2.85, 2.8, 2.0, 1.99, 1.98, 1.97]
    prints = ["u-1"] * 4 + ["u-2"] * 4
    targets = parse_targets(["eval_exact_loss<-25%"])
    met, _ = _of(_run([None] * 8, easier), targets=targets)
    assert "target-met" in {one.code for one in met}
    found, _ = _of([*_run(prints, easier), EndObservation(400)], targets=targets)
    assert "target-met" not in {one.code for one in found}

    level = [3.0, 2.6, 2.4, 2.4, 2.4]
    confirmed = parse_targets(["eval_exact_loss<2.5@end,confirm=3"])
    found, _ = _of(_run(["u-1", "u-1", "u-1", "u-2", "u-2"], level), targets=confirmed)
    assert "target-met" not in {one.code for one in found}
    found, _ = _of(_run(["u-1"] * 5, level), targets=confirmed)
    assert "target-met" in {one.code for one in found}


def test_memorizing_does_not_take_an_easier_set_for_learning() -> None:
    """Far below after many epochs: an evaluation set that "fell along" only because it is another one speaks for
    nothing."""
    seen: list[Observation] = []
    for i in range(120):
        seen.append(TrainObservation(10 * (i + 1), (i + 1) / 8, 3.0 * math.exp(-i / 50), 1.0, 1e-4, 0))
        if i % 10 == 9:
            text, loss = ("u-1", 3.0) if i < 30 else ("u-2", 1.2)
            seen.append(EvalObservation(10 * (i + 1), exact_loss=loss, fingerprint=text))
    found, _ = _of(seen, rules=("memorizing",))
    assert [one.variant for one in found] == ["far-below"]
    same = [replace(one, fingerprint="u-1") if isinstance(one, EvalObservation) else one for one in seen]
    assert _of(same, rules=("memorizing",))[0] == []


def _jump(*, size: float = 0.7, back: float = 0.0, train: float = 0.0, split: str = "eval", at: int = 450) -> Findings:
    """Codes and steps of a log without fingerprints whose evaluations are ``size`` higher from step ``at`` on."""
    losses = [loss if i < 8 else 2.71 - 0.01 * (i - 7) + size for i, loss in enumerate(LOSSES)]
    losses[9:] = [loss - back for loss in losses[9:]]
    seen = [
        replace(one, loss=(one.loss or 0.0) + (train if one.step > at - 50 else 0.0))
        if isinstance(one, TrainObservation) else one
        for one in _run(UNKNOWN, losses, split)
    ]
    codes = ["eval-set-changed", "overfitting", "gap-widening", "no-improvement"]
    found, _ = _of(seen, patience=Patience(3), rules=codes)
    return [(one.code, one.step) for one in found]


def test_a_level_that_the_evaluation_alone_has() -> None:
    """Said at the first evaluation there, once the next is there too; nothing is read into the jump, up or down."""
    assert _jump() == [("eval-set-changed", 450)]
    assert _jump(size=-0.7) == [("eval-set-changed", 450)]
    found, _ = _of(_run(UNKNOWN, LOSSES), rules=("eval-set-changed",))
    assert [(one.variant, one.severity, one.asks_to_stop) for one in found] == [("level", Severity.WARNING, False)]
    assert shown(found[0]) == (
        "level",
        {
            "after": 3.41, "before": 2.71, "before_step": 400, "train_after": 2.4455, "train_before": 2.4635,
        },
    )  # fmt: skip
    cut, _ = _of(_run(UNKNOWN[:9], LOSSES[:9]), rules=("eval-set-changed",))
    assert cut == []


def test_a_level_that_is_no_other_set() -> None:
    """It comes back, goes on, or is small; training moves too, the model forgot, or there are too few before it."""
    for found in (
        _jump(back=0.2), _jump(back=-0.2), _jump(size=0.3), _jump(train=0.2), _jump(train=-0.2), _jump(split="eval_en"),
    ):  # fmt: skip
        assert "eval-set-changed" not in {code for code, _ in found}
    assert "overfitting" in {code for code, _ in _jump(train=-0.2)}
    few = [3.0, 2.9, 4.2, 4.2, 4.2, 4.2]
    assert _of(_run([None] * 6, few), rules=("eval-set-changed",))[0] == []
