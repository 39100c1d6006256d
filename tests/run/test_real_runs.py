"""Real Trainer logs, unmodified: each gives its reader's verdict for the rules there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.observation import EvalObservation, TrainObservation
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.watch.target import parse_targets

RUNS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "runs"

# With nothing declared; (code, severity, step).
VERDICTS = {
    "00": [],
    "01": [
        ("run-seam", "warning", 3510),
        ("padding-in-loss", "warning", 3560),
        ("level-shift", "warning", 3600),
        ("below-floor", "warning", 3630),
        ("memorizing", "warning", 5600),
    ],
    "02": [("memorizing", "warning", 230)],
    "03": [("below-floor", "info", 200)],
    "04": [("not-enough-data", "info", 60)],
    "05": [("not-enough-data", "info", 0)],
    "15": [("memorizing", "warning", 25000), ("below-floor", "info", 52000)],
    "23": [("below-floor", "info", 200), ("below-floor", "info", 400)],
    "26": [("non-finite", "info", 10), ("below-floor", "info", 200), ("below-floor", "info", 200)],
    "54": [("below-floor", "info", 500), ("below-floor", "info", 2000)],
    "55": [],
    "59": [
        ("below-floor", "info", 500),
        ("below-floor", "info", 1000),
        ("below-floor", "info", 1675),
        ("memorizing", "warning", 2050),
        ("overfitting", "warning", 3000),
    ],
    "61": [("below-floor", "info", 0), ("not-enough-data", "info", 0)],
    "66": None,
}
HEALTHY = ("00", "23", "26", "54", "55")

pytestmark = pytest.mark.skipif(not RUNS.is_dir(), reason=f"real logs are not in this checkout ({RUNS.name})")


def _log(number: str) -> Path:
    (path,) = RUNS.glob(f"{number}_*.json")
    return path


def test_every_log_has_a_verdict() -> None:
    """The table and the folder hold the same logs."""
    assert {path.name[:2] for path in RUNS.glob("*.json")} == set(VERDICTS)


@pytest.mark.parametrize("number", [number for number, verdict in VERDICTS.items() if verdict is not None])
def test_verdict(number: str) -> None:
    """The log is read, and gives exactly these findings."""
    _, findings = Monitor(task="other").judge(read_run(_log(number)).observations())
    expected = VERDICTS[number]
    found = [(f.code, f.severity.value, f.step) for f in findings]
    # A run that never reached the Trainer's last row ends at the last row it has.
    assert expected is not None
    assert found == expected


@pytest.mark.parametrize("number", HEALTHY)
def test_healthy_logs_get_no_warning(number: str) -> None:
    """Nothing above info, also where they are declared what they are not: fine-tuning and masked language models are
    low, but how many bytes a token has is in none of them."""
    seen = read_run(_log(number)).observations()
    for task in ("other", "sft", "cpt"):
        found = Monitor(task=task).judge(seen)[1]
        assert {one.severity.value for one in found} <= {"info"}
        assert ("below-floor" in {one.code for one in found}) == (number in ("23", "26", "54"))


@pytest.mark.parametrize("task", ["cpt", "sft", "other"])
def test_padding_is_no_success(task: str) -> None:
    """Run 01: its loss of 0.44 would meet perplexity 3; padding, not before step 3510, and a target that is none."""
    seen = read_run(_log("01")).observations()
    _, findings = Monitor(targets=parse_targets(["ppl<3@end"]), task=task).judge(seen)
    codes = [one.code for one in findings]
    assert {"padding-in-loss", "below-floor"} <= set(codes)
    assert "target-met" not in codes
    for one in findings:
        if one.code in ("padding-in-loss", "below-floor"):
            assert one.severity.value == "warning"
            assert one.step is not None
            assert one.step > 3510
    # The half before the seam is healthy.
    half = [one for one in seen if one.step <= 3500]
    assert Monitor(task=task).judge(half)[1] == ()


def test_padding_in_a_log_that_begins_with_it() -> None:
    """The half after the seam by itself: constant from its start, and the loss collapses."""
    half = [one for one in read_run(_log("01")).observations() if one.step > 3500]
    _, findings = Monitor(task="other").judge(half)
    assert next((one.code, one.variant) for one in findings) == ("padding-in-loss", "collapse")


def test_padding_in_an_evaluation_is_no_success() -> None:
    """The same log with its training loss as an evaluation: the numbers are below the target, and it is not met."""
    seen = [
        EvalObservation(one.step, exact_loss=one.loss, exact_loss_se=0.01)
        for one in read_run(_log("01")).observations()
        if isinstance(one, TrainObservation) and one.step % 100 == 0
    ]
    codes = [one.code for one in Monitor(targets=parse_targets(["ppl<3@end"])).judge(seen)[1]]
    assert codes == ["below-floor", "target-inconclusive"]


def test_the_scaler_note() -> None:
    """Bare NaN gradient norms at steps 10 and 90 with a healthy loss: one note, no alarm."""
    _, (found, *_) = Monitor().judge(read_run(_log("26")).observations())
    assert (found.step, found.variant, found.values["grad_norm"]) == (10, "scaler", "NaN")
    assert found.values["loss"] == pytest.approx(2.314, abs=5e-4)


def test_not_a_state() -> None:
    """A tracker's summary is refused in one line."""
    with pytest.raises(UnreadableRunError, match=r"not a Trainer's state \(found: train/loss, ") as caught:
        read_run(_log("66"))
    assert "\n" not in str(caught.value)


def test_cut_anywhere() -> None:
    """The log with NaNs, folded with a cut at each row, gives what it gives whole."""
    seen = read_run(_log("26")).observations()
    monitor = Monitor()
    whole = monitor.fold(seen)
    for cut in range(len(seen)):
        state, first = monitor.fold(seen[:cut])
        state, second = monitor.fold(seen[cut:], state)
        assert (state, first + second) == whole
