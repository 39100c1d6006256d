"""exact-loss-absent: said once per set, with the row's own reason."""

from __future__ import annotations

from ko_cpt_callbacks.core.finding import Finding, Severity
from ko_cpt_callbacks.core.observation import EvalObservation, Observation, SetupObservation
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.note.exact_loss_absent import ExactLossAbsent

REASON = "the model returned neither logits nor a loss"


def _findings(*seen: Observation) -> list[Finding]:
    rule = ExactLossAbsent()
    return list(Monitor([rule]).judge(seen)[1])


def test_once_per_set() -> None:
    """The first evaluation of each set says it, later ones and repeats do not."""
    rows = [
        EvalObservation(step, split=split, loss=2.0, exact_loss_absent=REASON)
        for step in (0, 10, 10, 20)
        for split in ("eval_ko", "eval_en")
    ]
    found = _findings(*rows)
    assert [(f.severity, f.step, f.split, f.asks_to_stop) for f in found] == [
        (Severity.INFO, 0, "eval_ko", False),
        (Severity.INFO, 0, "eval_en", False),
    ]
    assert found[0].message() == f"eval_ko: no exact loss: {REASON}"


def test_silent_without_a_reason() -> None:
    """A log made without the callback has no exact loss and no reason: nothing is said."""
    assert _findings(EvalObservation(0, loss=2.0), EvalObservation(10, exact_loss=2.0)) == []


def test_what_is_known_before_the_first_step_is_a_warning() -> None:
    """A set-up row speaks for the whole run, once: no set repeats it, a resume neither; without a reason it is mute."""
    row = SetupObservation(0, "exact-loss-absent", {"reason": REASON})
    found = _findings(row, EvalObservation(10, loss=2.0, exact_loss_absent=REASON), row)
    assert [(f.severity, f.step, f.split, f.asks_to_stop) for f in found] == [(Severity.WARNING, 0, None, False)]
    assert found[0].message() == f"no exact loss in this run: {REASON}"
    assert _findings(SetupObservation(0, "exact-loss-absent"), SetupObservation(0, "stage", {"reason": REASON})) == []
