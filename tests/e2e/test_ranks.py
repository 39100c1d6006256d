"""Two gloo processes under a real Trainer: they say the same, one of them writes, and neither ever waits for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
from e2e import job, run_files

from ko_cpt_callbacks import keys

# What is published of one evaluation and one training row; times and what follows from them differ by nature.
EVAL = {f"eval_{suffix}" for suffix in keys.EVAL_SUFFIXES}
TRAIN = set(keys.TRAIN_KEYS) - {keys.TOKENS_PER_SECOND, keys.TOKENS_PER_GPU_HOUR}
# A log and an evaluation every two steps; checkpoints 4 and 8.
SHORT: dict[str, Any] = {"changes": {"max_steps": 8, "logging_steps": 2, "eval_steps": 2}}


def _ranks(tmp_path: Path, fault: str = "", **plan: Any) -> list[dict[str, Any]]:
    outcomes = forked.run_ranks(
        job.train_ranks, str(tmp_path / "run"), fault, ranks=2, folder=tmp_path, timeout=60, **{**SHORT, **plan}
    )
    return [forked.value(outcome) for outcome in outcomes]


def _published(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name in EVAL | TRAIN | {"step", "loss", "eval_loss"}}
        for row in result["log_history"]
    ]


def _evaluations(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["log_history"] if "eval_loss" in row]


def _training(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["log_history"] if "loss" in row]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A run of two ranks with nothing wrong, but a NaN loss in step 3 on rank 1: folder and both reports."""
    folder = tmp_path_factory.mktemp("ranks")
    return folder / "run", _ranks(folder, nan_steps=[3])


def test_both_ranks_say_the_same(healthy: tuple[Path, list[dict[str, Any]]]) -> None:
    """Both ranks publish the same numbers, texts and findings, and sum up the run alike."""
    first, second = healthy[1]
    assert _published(first) == _published(second)
    assert first["findings"] == second["findings"] != []
    assert first["best"] == second["best"]
    assert first["summary"]["splits"] == second["summary"]["splits"]
    assert {"eval_exact_loss", "eval_bits_per_byte", "eval_fingerprint"} <= _evaluations(first)[0].keys()


def test_a_nan_on_rank_1_alone(healthy: tuple[Path, list[dict[str, Any]]]) -> None:
    """A NaN in rank 1's micro-batches of step 3, of which rank 0 sees nothing and the Trainer's log shows nothing:
    both ranks report it, with its step."""
    for result in healthy[1]:
        first, found = result["findings"]
        assert (first["code"], first["variant"]) == ("note", "no-first-evaluation")
        assert (found["code"], found["step"], found["values"]["nonfinite_first_step"]) == ("non-finite", 4, 3)
        assert [row["nonfinite_micro_batches"] for row in _training(result)] == [0, 1, 0, 0]


def test_one_set_of_files(healthy: tuple[Path, list[dict[str, Any]]]) -> None:
    """Rank 0 alone writes: every row once, strict JSON, schemas kept, no temporary file left."""
    folder, (first, _) = healthy
    lines = run_files.rows(folder)
    assert run_files.double(lines) == []
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8]
    assert run_files.findings(folder) == first["findings"]
    assert run_files.run(folder)["world_size"] == 2
    assert sorted(path.name for path in (folder / "ko_cpt").iterdir()) == [
        ".lock",
        "eval_rows",
        "findings.jsonl",
        "rows.jsonl",
        "run.json",
    ]


def test_row_sums_in_data_set_order(healthy: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    """Nine rows on two ranks in batches of two: the repeats that fill the last batch are gone, and the per-row file
    lists the rows in the order of the data set, as one process lists them."""
    folder, (first, _) = healthy
    alone = forked.value(forked.run(job.evaluate, str(tmp_path / "one"), str(folder / "checkpoint-4"), folder=tmp_path))
    assert alone["metrics"]["eval_exact_loss"] == pytest.approx(_evaluations(first)[1]["eval_exact_loss"], rel=1e-6)
    with (
        np.load(folder / "ko_cpt" / "eval_rows" / "eval-4.npz") as two,
        np.load(tmp_path / "one" / "ko_cpt" / "eval_rows" / "eval-0.npz") as one,
    ):
        assert len({str(item) for item in one["hash"].tolist()}) == 9
        np.testing.assert_array_equal(two["hash"], one["hash"])
        np.testing.assert_array_equal(two["tokens"], one["tokens"])
        np.testing.assert_array_equal(two["bytes"], one["bytes"])
        np.testing.assert_array_equal(two["flags"], one["flags"])
        assert one["flags"].all()
        np.testing.assert_allclose(two["nll"], one["nll"], rtol=1e-5)


def test_stop_on_both_ranks(tmp_path: Path) -> None:
    """``stop_on={"non-finite"}`` and a NaN on rank 1 only: both ranks stop at the step of the row that shows it, and
    a checkpoint of that step is saved although no save was due."""
    results = _ranks(tmp_path, nan_steps=[5], stop_on=["non-finite"])
    assert [result["step"] for result in results] == [6, 6]
    assert results[0]["stop_reason"] == results[1]["stop_reason"] is not None
    assert (tmp_path / "run" / "checkpoint-6" / "trainer_state.json").is_file()
    assert run_files.run(tmp_path / "run")["stop"]["step"] == 6


def test_callback_on_rank_0_only(tmp_path: Path) -> None:
    """The callback is on the main process only: after the sign-in's time limit it knows that it is alone. The run
    ends on both ranks, even when the callback was told to stop it (a stop on one rank would leave the other waiting);
    no number that rank 0 alone cannot know is published, and the rows say why."""
    results = _ranks(tmp_path, "callback on rank 0 only", poison_step=5, stop_on=["non-finite"])
    first, second = results
    assert [result["step"] for result in results] == [8, 8]
    assert second["findings"] == []
    assert first["stop_reason"] is None
    for row in _evaluations(first):
        assert "not on every rank" in row["eval_exact_loss_absent"]
        assert not {"eval_exact_loss", "eval_ppl", "eval_tokens", "eval_bits_per_byte"} & row.keys()
        assert row.get("eval_nonfinite_batches", 0) > 0 if row["step"] > 4 else "eval_nonfinite_batches" not in row
    for row in _training(first):
        assert not {"tokens_seen", "tokens_per_second", "nonfinite_steps"} & row.keys()
    assert "non-finite" in {found["code"] for found in first["findings"]}, "the Trainer's own rows still show it"


def test_two_trainers_sign_in_apart(tmp_path: Path) -> None:
    """A Trainer with the callback on both ranks, then one with it on rank 0 only: that the first two met says nothing
    about the second; it finds itself alone and waits for nobody."""
    outcomes = forked.run_ranks(job.train_ranks_twice, str(tmp_path / "run"), ranks=2, folder=tmp_path, timeout=60)
    (first, second), _ = (forked.value(outcome) for outcome in outcomes)
    assert "eval_exact_loss" in _evaluations(first)[0]
    assert "not on every rank" in _evaluations(second)[0]["eval_exact_loss_absent"]


@pytest.mark.parametrize("fault", ["evaluation hook raises", "evaluation meter raises", "rows cannot be read"])
def test_the_evaluation_fails_on_one_rank(fault: str, tmp_path: Path) -> None:
    """Measuring fails on rank 1: both ranks finish, neither publishes an exact loss, both name the failure."""
    results = _ranks(tmp_path, fault)
    assert [result["step"] for result in results] == [8, 8]
    assert _published(results[0]) == _published(results[1])
    assert results[0]["findings"] == results[1]["findings"]
    for row in _evaluations(results[0]):
        assert "eval_exact_loss" not in row
        assert "broken on purpose" in row["eval_exact_loss_absent"]
    assert [row["tokens_seen"] for row in _training(results[0])][-1] > 0


@pytest.mark.parametrize("fault", ["training hook raises", "training meter raises"])
def test_the_training_counts_fail_on_one_rank(fault: str, tmp_path: Path) -> None:
    """Counting fails on rank 1: both ranks finish and publish no count, evaluations are exact as ever."""
    results = _ranks(tmp_path, fault)
    assert [result["step"] for result in results] == [8, 8]
    assert _published(results[0]) == _published(results[1])
    for row in _training(results[0]):
        assert not {"tokens_seen", "nonfinite_steps"} & row.keys()
    assert all("eval_exact_loss" in row for row in _evaluations(results[0]))


@pytest.mark.parametrize("fault", ["tokenizer unusable on rank 0", "tokenizer unusable on rank 1"])
def test_the_tokenizer_is_unusable_on_one_rank(fault: str, tmp_path: Path) -> None:
    """The bytes of the text are known on one rank only: the exact loss is published, bits per byte and a fingerprint
    of mixed kinds are not, and both ranks give the same reason."""
    results = _ranks(tmp_path, fault)
    assert _published(results[0]) == _published(results[1])
    assert results[0]["findings"] == results[1]["findings"]
    for row in _evaluations(results[0]):
        assert row["eval_exact_loss"] > 0
        assert not {"eval_bits_per_byte", "eval_bytes", "eval_fingerprint"} & row.keys()
        assert "broken on purpose" in row["eval_bits_per_byte_absent"]


@pytest.mark.parametrize("fault", ["inspection raises", "own output fails", "file in the way", "damaged record"])
def test_what_one_rank_does_for_itself_fails(fault: str, tmp_path: Path) -> None:
    """An output, the inspection of the model, or reading an earlier record fails on one rank: the numbers and findings
    of both ranks are those of a healthy run."""
    results = _ranks(tmp_path, fault, nan_steps=[3])
    assert [result["step"] for result in results] == [8, 8]
    assert _published(results[0]) == _published(results[1])
    assert results[0]["findings"] == results[1]["findings"]
    assert [found["code"] for found in results[0]["findings"]] == ["note", "non-finite"]
    assert all("eval_exact_loss" in row for row in _evaluations(results[0]))
    if fault != "file in the way":
        assert run_files.findings(tmp_path / "run") == results[0]["findings"]


def test_labels_taken_out_of_the_call_on_two_ranks(tmp_path: Path) -> None:
    """Label smoothing on two ranks with an unequal last batch: the numbers of the untrained model are those without."""
    found = []
    for factor in (0.0, 0.2):
        folder = tmp_path / str(factor)
        folder.mkdir()
        changes = {**SHORT["changes"], "max_steps": 1, "eval_on_start": True, "label_smoothing_factor": factor}
        found.append(_evaluations(_ranks(folder, changes=changes)[0])[0])
    plain, smoothed = found
    assert "eval_exact_loss_absent" not in smoothed
    assert smoothed["eval_exact_loss"] == pytest.approx(plain["eval_exact_loss"], rel=1e-5)
    assert smoothed["eval_exact_loss_se"] == pytest.approx(plain["eval_exact_loss_se"], rel=1e-4)
    for name in ("eval_fingerprint", "eval_tokens", "eval_rows", "eval_bytes"):
        assert smoothed[name] == plain[name]


def test_a_rank_fails_over_the_row_that_stops(tmp_path: Path) -> None:
    """Rank 1 fails over the row for which rank 0 would stop: rank 0 does not stop alone, which would leave the other
    waiting; both go on to the last step."""
    results = _ranks(tmp_path, "row fails at the stop", nan_steps=[5], stop_on=["non-finite"])
    assert [result["step"] for result in results] == [8, 8]
    assert [result["stop_reason"] for result in results] == [None, None]


def test_rows_on_rank_0_only(tmp_path: Path) -> None:
    """A Trainer that logs on the main process only: nobody waits for the rows of the other, the evaluations are exact
    all the same, and what only one rank knows stops nothing."""
    results = _ranks(tmp_path, "logs on rank 0 only", nan_steps=[5], stop_on=["non-finite"])
    assert [result["step"] for result in results] == [8, 8]
    assert [result["stop_reason"] for result in results] == [None, None]
    assert all("eval_exact_loss" in row for row in _evaluations(results[0]))
    assert _training(results[0])[-1]["tokens_seen"] > 0


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("rank 1 dies before an exchange", 0),
        ("rank 0 dies before an exchange", 1),
        ("rank 1 dies after a log", 0),
    ],
)
def test_a_dead_rank(fault: str, left: int, tmp_path: Path) -> None:
    """A rank is killed: the other ends by the process group's own error, raised by the Trainer's own collective."""
    changes = {**SHORT["changes"], "logging_steps": 1}
    outcomes = forked.run_ranks(
        job.train_ranks, str(tmp_path / "run"), fault, ranks=2, folder=tmp_path, timeout=60, changes=changes
    )
    assert outcomes[1 - left].code == -9
    assert outcomes[left].code == 1
    trace = outcomes[left].text.rpartition("Traceback")[2]
    assert "ko_cpt_callbacks" not in trace
    assert "Error" in trace
