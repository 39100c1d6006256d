"""Logs of real and made runs, with what is right.

``case_logs/NAME.json`` has the columns of a log: steps, epochs, losses, rates and norms of public runs, and of runs
that were made for the purpose.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from check.command import check

FOLDER = Path(__file__).parent / "case_logs"
Found = list[dict[str, Any]]


def _above_info(found: Found) -> list[str]:
    return [one["code"] for one in found if one["severity"] != "info"]


def _quiet(found: Found) -> bool:
    """Healthy: nothing above info."""
    return _above_info(found) == []


def _diverged(found: Found) -> bool:
    """1.0, 4.4, 8.8 … 29.6 in ten rows."""
    return "diverged" in _above_info(found)


def _two_readings(found: Found) -> bool:
    """0.033, then 99 rows of exactly 0 and no gradient norm: NaN logged as zero, or learned by heart; both are said."""
    return any("NaN" in one["detail"] and "heart" in one["detail"] for one in found if one["severity"] != "info")


def _scaler(found: Found) -> bool:
    """One NaN gradient norm of fp16 while the loss falls fast, and the learning rate did not move: a skipped step."""
    return "non-finite" not in _above_info(found)


def _memorizing_alone(found: Found) -> bool:
    """A step down at each end of an epoch, whose epochs have two decimals: the ends explain it."""
    return set(_above_info(found)) == {"memorizing"}


def _not_memorizing(found: Found) -> bool:
    """Pads are among the labels, and the evaluation falls along with training: it is no recognised text."""
    return "memorizing" not in {one["code"] for one in found}


def _another_set(found: Found) -> bool:
    """The evaluation alone is at another level from the middle on: that is named at its step, and nothing is read into
    the jump."""
    codes = _above_info(found)
    named = [one for one in found if one["split"] == "eval" and one["severity"] != "info" and 400 < one["step"] <= 600]
    return bool(named) and not {"overfitting", "gap-widening"} & set(codes)


RIGHT: dict[str, Callable[[Found], bool]] = {
    "group-by-length-wide": _quiet,
    "group-by-length-mild": _quiet,
    "rises-from-row-two": _diverged,
    "zeros-after-a-small-loss": _two_readings,
    "nan-gradient-in-a-steep-fall": _scaler,
    "epoch-ends-in-two-decimals": _memorizing_alone,
    "pads-in-the-labels-seq2seq": _not_memorizing,
    "falls-in-the-first-rows": _quiet,
    "evaluation-set-swapped": _another_set,
}


def _state(name: str) -> dict[str, Any]:
    """The Trainer's state that the columns are of; a column's null is a key that the row does not have."""
    kept = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    columns = kept.pop("columns")
    rows = len(next(iter(columns.values())))
    history = [{key: of[i] for key, of in columns.items() if of[i] is not None} for i in range(rows)]
    return {**kept, "log_history": history}


def _findings(name: str, tmp_path: Path) -> Found:
    file = tmp_path / "trainer_state.json"
    file.write_text(json.dumps(_state(name)), "utf-8")
    done = check(file, "--task", "other", "--json")
    if done.exit_code != 0:
        raise RuntimeError(done.output)
    found: Found = json.loads(done.stdout)["findings"]
    return found


def test_every_log_has_its_answer() -> None:
    """A file for each, and each for a file."""
    assert {path.stem for path in FOLDER.glob("*.json")} == set(RIGHT)


@pytest.mark.parametrize(("name", "right"), RIGHT.items(), ids=RIGHT)
def test_what_is_right(name: str, right: Callable[[Found], bool], tmp_path: Path) -> None:
    """What ``ko-cpt check`` should say of the log, where nothing was declared."""
    found = _findings(name, tmp_path)
    assert right(found), [(one["code"], one["severity"], one["step"]) for one in found]
