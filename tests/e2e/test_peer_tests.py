"""Other projects' tests under our callback: what counts, what is a failure, and that the callback is really there."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import forked
from e2e import job_pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import peers  # noqa: E402
from peers import Score  # noqa: E402

THEIRS = '''
import tiny
from transformers import Trainer, TrainingArguments


def make(folder):
    rows = tiny.uneven_rows(4)
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none", max_steps=1)
    return Trainer(tiny.llama(600), arguments, tiny.collate, rows)


def test_trains(tmp_path):
    make(tmp_path).train()


def test_counts_callbacks(tmp_path):
    assert not [item for item in make(tmp_path).callback_handler.callbacks if "KoCPT" in type(item).__name__]


def test_init_callback(tmp_path):
    test_counts_callbacks(tmp_path)


def test_fails_by_itself():
    raise AssertionError
'''


def _forked(python: str, options: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
    """As the benchmark does it, in a process that has torch and transformers already."""
    outcome = forked.run(job_pytest.run, options, str(folder), dict(environment), folder=log.parent, timeout=240)
    log.write_text(outcome.text, "utf-8")


def test_a_suite_runs_plain_and_with_the_callback(tmp_path: Path) -> None:
    """Three tests pass plain; with the callback one of them fails, and one more of those that look at callbacks; the
    test that fails by itself does not count.
    """
    folder = tmp_path / "project" / "tests" / "trainer"
    folder.mkdir(parents=True)
    (folder / "test_trainer.py").write_text(THEIRS, "utf-8")
    score = peers.run("transformers", tmp_path / "project", sys.executable, 60, tmp_path, _forked)
    assert (score.plain, score.trainers) == (3, 3)
    assert [name.rpartition("::")[2] for name in score.failed] == ["test_counts_callbacks"]
    assert [name.rpartition("::")[2] for name in score.expected] == ["test_init_callback"]
    assert not score.errors


def test_what_counts() -> None:
    """Only tests that pass plain; one that is skipped or missing with the callback fails; our errors are told apart."""
    plain = {name: {"outcome": "passed"} for name in ("a", "b", "c")} | {"d": {"outcome": "failed"}}
    watched = {
        "a": {"outcome": "passed", "errors": ["oh"], "trainers": 1},
        "b": {"outcome": "skipped"},
        "d": {"outcome": "failed"},
    }
    score = Score.of(plain, watched)
    assert (score.plain, score.trainers, set(score.failed), score.errors) == (3, 1, {"b", "c"}, {"a": "oh"})
