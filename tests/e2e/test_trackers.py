"""Plain ``callbacks=[KoCPTCallback()]`` reaches the trackers and the choice of the best model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import forked
import pytest
from e2e import job_tracking

WANTED = ("exact_loss", "exact_loss_se", "ppl", "bits_per_byte", "tokens", "nonfinite_batches")


@pytest.mark.both_versions
def test_tensorboard(tmp_path: Path) -> None:
    """The event file holds our numbers of every evaluation and training row under TensorBoard's usual names, and no
    fingerprint: that is a text. What is watched, findings and what they come to are texts, under a name of ours."""
    result = forked.value(forked.run(job_tracking.tensorboard, str(tmp_path / "run"), folder=tmp_path))
    found = result["scalars"]
    for name in WANTED:
        assert list(found[f"eval/{name}"]) == ["4", "8", "12"], name
    assert all(600 > ppl > 1 for ppl in found["eval/ppl"].values())
    assert list(found["train/tokens_seen"]) == ["3", "6", "9", "12"]
    texts = {tag.removesuffix("/text_summary"): text for tag, text in result["texts"].items()}
    own = {tag: text for tag, text in texts.items() if tag.startswith("ko_cpt/")}
    assert not [tag for tag in [*found, *(texts.keys() - own.keys())] if "fingerprint" in tag or "absent" in tag]
    assert own["ko_cpt/targets"] == "eval_exact_loss<9.0@end"
    assert own["ko_cpt/fingerprint/eval"].startswith("utf8-")
    assert own["ko_cpt/finding/target-met/eval"].startswith("info: ")
    assert "ko_cpt/verdict" in own


@pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio(tmp_path: Path) -> None:
    """A local trackio database holds the same; every metric in it is a number, so no fingerprint. What is watched is in
    the run's configuration."""
    result = forked.value(forked.run(job_tracking.trackio, str(tmp_path / "run"), folder=tmp_path))
    assert result["config"]["ko_cpt/targets"] == "eval_exact_loss<9.0@end"
    rows = result["rows"]
    metrics: list[dict[str, Any]] = [row.get("metrics", row) for row in rows]
    evaluations = [row for row in metrics if "eval/loss" in row]
    assert len(evaluations) == 3
    for row in evaluations:
        assert {f"eval/{name}" for name in WANTED} <= row.keys()
    assert not [name for row in metrics for name in row if "fingerprint" in name or "absent" in name]
    texts = {name for row in metrics for name, value in row.items() if isinstance(value, str)}
    assert texts <= {"timestamp"}


def test_best_model_by_the_exact_loss(tmp_path: Path) -> None:
    """``metric_for_best_model="eval_exact_loss"`` with ``load_best_model_at_end``: the checkpoint with the lowest loss
    over tokens is found and its weights are loaded, where the Trainer's own loss would keep a later one."""
    result = forked.value(forked.run(job_tracking.best_model, str(tmp_path / "run"), folder=tmp_path))
    exact, trainer, reference = result["exact"], result["trainer"], result["reference"]
    assert exact == pytest.approx(reference, rel=1e-5)
    right, wrong = min(reference, key=reference.__getitem__), min(trainer, key=trainer.__getitem__)
    assert right != wrong, "the run should tell the two losses apart"
    assert right not in ("4", "24")
    assert Path(result["best_model_checkpoint"]).name == f"checkpoint-{right}"
    assert result["loaded"] == [int(right)]
    assert result["best"][0] == int(right)
