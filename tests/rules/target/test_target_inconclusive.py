"""target-inconclusive: why a target is open. The table of histories is in watch/test_target.py."""

from __future__ import annotations

import pytest

from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.target.target_inconclusive import TargetInconclusive
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.watch.target import parse_targets

END = EndObservation(1000)


def _finding(target: str, *seen: Observation) -> Finding:
    rule = TargetInconclusive(parse_targets([target]))
    (one,) = Monitor([rule]).judge(seen)[1]
    assert not one.asks_to_stop
    return one


@pytest.mark.parametrize(
    ("target", "rows", "severity", "said"),
    [
        (
            "exact_loss<3",
            [EvalObservation(900, exact_loss=3.01, exact_loss_se=0.04, rows=100), END],
            Severity.INFO,
            "eval, step 900: 3.010 (95 % interval 2.932 to 3.088): target eval_exact_loss<3.0@end is open at its "
            "deadline: the interval holds the bound. About 6,147 rows of this kind instead of 100 would decide it; "
            "evaluate this checkpoint on more.",
        ),
        (
            "exact_loss<3",
            [EvalObservation(900, exact_loss=3.01, exact_loss_se=0.04), END],
            Severity.INFO,
            "eval, step 900: 3.010 (95 % interval 2.932 to 3.088): target eval_exact_loss<3.0@end is open at its "
            "deadline: the interval holds the bound. Either the number of rows is not known or no practical one "
            "would decide it; train on, or take it as reached to within its error.",
        ),
        (
            "exact_loss<3,confirm=2",
            [EvalObservation(900, exact_loss=2.9, exact_loss_se=0.01), END],
            Severity.INFO,
            "eval, step 900: 2.900: target eval_exact_loss<3.0@end,confirm=2 is open at its deadline: 1 evaluation in "
            "a row below it, of the 2 asked for. Evaluate more often (eval_steps) or ask for fewer.",
        ),
        (
            "ppl<20@step:2000",
            [EvalObservation(900, exact_loss=3.2, exact_loss_se=0.01), TrainObservation(910)],
            Severity.INFO,
            "eval, step 900: 24.5: target eval_ppl<20.0@step:2000 is open: the rows end at step 910, before its "
            "deadline. Train on, or judge the whole run.",
        ),
        (
            "eval_ko_ppl<20",
            [EvalObservation(900, exact_loss=3.2), EvalObservation(900, split="eval_en", exact_loss=3.2), END],
            Severity.WARNING,
            "Target eval_ko_ppl<20.0@end cannot be judged: eval_ko was never evaluated (evaluated: eval, eval_en). "
            "Name a set as it is logged, or give the Trainer an eval_dataset and an eval_strategy.",
        ),
        (
            "ppl<20",
            [END],
            Severity.WARNING,
            "Target eval_ppl<20.0@end cannot be judged: eval was never evaluated (evaluated: none). Name a set as it "
            "is logged, or give the Trainer an eval_dataset and an eval_strategy.",
        ),
        (
            "bits_per_byte<0.9",
            [EvalObservation(900, exact_loss=3.2), END],
            Severity.WARNING,
            "eval, step 900: target eval_bits_per_byte<0.9@end cannot be judged: the row has neither bits_per_byte "
            "nor the numbers to compute it from (bits per byte need the exact loss, tokens and bytes, which "
            "KoCPTCallback logs). Add the callback, or set the target on the loss.",
        ),
        (
            "eval_ko_ppl<20",
            [EvalObservation(900, split="eval_ko", loss=2.1), END],
            Severity.WARNING,
            "eval_ko, step 900: target eval_ko_ppl<20.0@end cannot be judged, because the row has only the Trainer's "
            "own loss, which depends on the batch size and on what is trained on. Train with KoCPTCallback, which "
            "measures the exact loss, or set the target on eval_ko_loss.",
        ),
        (
            "exact_loss<3",
            [EvalObservation(900, loss=2.1, exact_loss_absent="the model returned no logits"), END],
            Severity.WARNING,
            "eval, step 900: target eval_exact_loss<3.0@end cannot be judged, because the model returned no logits: "
            "the row has no exact loss, and the Trainer's own does not stand in for it. Mend that, or set the target "
            "on eval_loss.",
        ),
        (
            "exact_loss<3",
            [EvalObservation(900, exact_loss=float("inf"), nonfinite_batches=1), END],
            Severity.WARNING,
            "eval, step 900: target eval_exact_loss<3.0@end cannot be judged: the evaluation holds a NaN or infinite "
            "loss, which is never below a target. See non-finite; evaluate again once that is mended.",
        ),
        (
            "ppl<3",
            [EvalObservation(900, exact_loss=0.44, exact_loss_se=0.01, tokens=1000, bytes=4000), END],
            Severity.WARNING,
            "eval, step 900: 1.55: target eval_ppl<3.0@end is not counted as met, because a number below it says "
            "nothing about Korean text: no published run comes near it, or a model that guesses is there already. Look "
            "for padding in the loss and at the labels, and set another target.",
        ),
        (
            "ppl<3",
            [*(EvalObservation(s, exact_loss=x) for s, x in ((700, 2.7), (800, 2.68), (900, 0.44))), END],
            Severity.WARNING,
            "eval, step 900: 1.55: target eval_ppl<3.0@end is not counted as met, because the evaluation fell suddenly "
            "to where no published run with a tokenizer made for Korean is, and how many bytes a token has the rows do "
            "not tell. (There is no error bar, so the value itself decides.) Look for padding in the loss and at the "
            "labels; evaluate with KoCPTCallback, which logs bits per byte.",
        ),
    ],
)
def test_sentences(target: str, rows: list[Observation], severity: Severity, said: str) -> None:
    """Each reason in full; a warning where no row or step more would help."""
    found = _finding(target, *rows)
    assert (found.code, found.severity) == ("target-inconclusive", severity)
    assert found.message() == said
