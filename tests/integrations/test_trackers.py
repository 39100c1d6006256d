"""Every tracker itself, offline: our numbers under its names, no text among them, and what is watched as notes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.framework

HERE = Path(__file__).parent
# Where findings are: in what the tracker keeps of the run beside its rows, or as lines of its log.
FINDINGS = {
    "aim": "notes", "clearml": "said", "comet_ml": "notes", "mlflow": "notes", "swanlab": "notes", "wandb": "notes",
}  # fmt: skip
WANTED = ("exact_loss", "exact_loss_se", "ppl", "bits_per_byte", "tokens", "nonfinite_batches")


@pytest.mark.parametrize("name", FINDINGS)
def test_what_a_tracker_keeps(tmp_path: Path, name: str) -> None:
    """Each evaluation's numbers with its step; what is watched and what was found once each; no text among metrics."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])}
    done = subprocess.run(
        [sys.executable, str(HERE / "job_tracker.py"), name, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    result = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    assert result is not None, done.stdout[-2000:] + done.stderr[-4000:]
    assert "takes no notes" not in done.stderr
    kept = json.loads(result.removeprefix("RESULT "))
    for number in WANTED:
        assert sorted(kept["metrics"][f"eval/{number}"]) == [4, 8, 12], number
    assert not [metric for metric in kept["metrics"] if "fingerprint" in metric or "absent" in metric]
    notes = kept["notes"]
    assert notes["ko_cpt/targets"] == "eval_exact_loss<9.0@end"
    assert notes["ko_cpt/fingerprint/eval"].startswith("utf8-")
    assert notes["ko_cpt/verdict"] in ("ok", "look", "stop")
    where = "ko_cpt/finding/target-met/eval"
    said = [notes[where]] if FINDINGS[name] == "notes" else [one for one in kept["said"] if one.startswith(where)]
    assert len(said) == 1
    assert "Target eval_exact_loss<9.0@end is met." in said[0]
