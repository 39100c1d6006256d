"""One run as the Trainer's own log and as every tracker has it: the same rows, the same findings.

The files under ``tests/run/recorded`` were written by the tools themselves (``record_trackers.py``,
``record_database.py``, ``record_lightning.py``, and LLaMA-Factory 0.9.5 with ``stage: pt``).
"""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from ko_cpt_callbacks.check.asked import asked_of
from ko_cpt_callbacks.check.judgement import judge_run
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log import binary
from ko_cpt_callbacks.run.log.binary import fields
from ko_cpt_callbacks.run.log.row import LogNote
from ko_cpt_callbacks.run.observation import EndObservation, EvalObservation, Observation, TrainObservation
from ko_cpt_callbacks.run.reading import LogSource, Run, read_run

RECORDED = Path(__file__).parents[1] / "recorded"
TRAINER = RECORDED / "trainer"
# Where it is, what it is, and to how many digits its numbers are those of the Trainer's log (0: all).
FORMATS = {
    "wandb": ("wandb", LogSource.WANDB, 0.0),
    "tensorboard": ("tensorboard", LogSource.TENSORBOARD, 1e-6),
    "mlflow": ("mlruns", LogSource.MLFLOW, 0.0),
    "mlflow-database": ("mlflow.db", LogSource.MLFLOW, 0.0),
    "trackio": ("trackio/tiny.db", LogSource.TRACKIO, 0.0),
    "printed": ("train.log", LogSource.PRINTED, 5e-4),
}


def _alone(tmp_path: Path, name: str) -> Path:
    """A copy of one format without the others beside it."""
    place = tmp_path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    source = TRAINER / name
    shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    return place


def _found(run: Run) -> list[tuple[Any, ...]]:
    judged = judge_run(run, asked_of(None))
    return [(item.code, item.severity, item.split, item.step) for item in judged.findings]


def _numbers(seen: Observation) -> dict[str, float | None]:
    if isinstance(seen, TrainObservation):
        names = ("epoch", "loss", "grad_norm", "learning_rate", "nonfinite_steps", "tokens_seen")
    elif isinstance(seen, EvalObservation):
        names = ("epoch", "loss", "exact_loss", "exact_loss_se", "bits_per_byte", "tokens", "bytes", "rows")
    else:
        names = ("train_loss",)
    return {name: getattr(seen, name) for name in names}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_and_findings_as_the_own_log(tmp_path: Path, name: str) -> None:
    """Row for row, every number that is judged, and what is found; with the planned steps, and what is not there."""
    file, source, digits = FORMATS[name]
    run, native = read_run(_alone(tmp_path, file)), read_run(TRAINER / "trainer_state.json")
    assert (run.source, run.planned_steps) == (source, 100)
    assert len(run.notes) == 1
    got, own = run.observations(), native.observations()[1:]  # the state knows where it stands beside its plan
    if name == "trackio":  # its callback does not log the closing row
        own = tuple(seen for seen in own if not isinstance(seen, EndObservation))
    assert [(type(seen), seen.step) for seen in got[1:]] == [(type(seen), seen.step) for seen in own]
    for seen, expected in zip(got[1:], own, strict=True):
        assert _numbers(seen) == pytest.approx(_numbers(expected), rel=digits, abs=0.0)
    assert _found(run) == _found(native)
    assert {code for code, *_ in _found(run)} >= {"forgetting", "loss-spike"}


def _export() -> bytes:
    (file,) = TRAINER.glob("wandb/*/*.wandb")
    records = binary._records(file, file.read_bytes())
    history = [binary._items(held) for _, one in records for kind, held in fields(one) if kind == binary._HISTORY]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, sorted({name for row in history for name in row}))
    table.writeheader()
    table.writerows(history)
    return text.getvalue().encode()


def test_an_export_of_wandb_gives_the_same(tmp_path: Path) -> None:
    """The table of a run's history, as W&B's API makes it: a column a value, an empty cell where a row has none."""
    (tmp_path / "export.csv").write_bytes(_export())
    run, native = read_run(tmp_path / "export.csv"), read_run(TRAINER / "wandb")
    assert run.source is LogSource.TABLE
    rows = [seen for seen in native.observations()[1:] if not isinstance(seen, EndObservation)]
    assert [(type(seen), seen.step, _numbers(seen)) for seen in run.observations()] == [
        (type(seen), seen.step, _numbers(seen)) for seen in rows
    ]
    # Without the planned last step a finding may come at another evaluation.
    got, own = ({(code, split) for code, _, split, _ in _found(one)} for one in (run, native))
    assert got == own


def test_llamafactory_log_gives_what_it_holds() -> None:
    """Losses, rates and epochs of its ``trainer_state.json``; no gradient norm, which is said."""
    run = read_run(RECORDED / "llamafactory" / "trainer_log.jsonl")
    native = read_run(RECORDED / "llamafactory" / "trainer_state.json")
    assert (run.source, run.planned_steps) == (LogSource.LLAMAFACTORY, 60)
    assert run.notes == (LogNote("log-llamafactory"),)

    def shown(seen: Observation) -> tuple[Any, ...]:
        kept = ("step", "epoch", "loss", "learning_rate")
        return (type(seen), *(getattr(seen, name, None) for name in kept))

    rows = [shown(seen) for seen in native.observations()[1:] if not isinstance(seen, EndObservation)]
    assert [shown(seen) for seen in run.observations()[1:]] == rows
    assert _found(run) == _found(native)


def test_lightning_table_gives_what_the_training_saw() -> None:
    """``train_loss`` is the training loss, ``val_loss`` an evaluation."""
    run = read_run(RECORDED / "lightning" / "metrics.csv")
    seen = json.loads((RECORDED / "lightning" / "seen.json").read_text("utf-8"))
    rows = run.observations()
    assert run.source is LogSource.TABLE
    assert [[s.step, s.loss] for s in rows if isinstance(s, TrainObservation)] == [
        pytest.approx(pair) for pair in seen["train"]
    ]
    assert [s.loss for s in rows if isinstance(s, EvalObservation)][-1] == pytest.approx(seen["val"][-1][1])


def test_the_richest_of_several_is_read_and_named(tmp_path: Path) -> None:
    """W&B's, which holds the closing row too; a damaged one beside it does not matter."""
    for file in ("wandb", "trackio", "train.log"):
        _alone(tmp_path, file)
    (tmp_path / "trainer_log.jsonl").write_text('{"current_steps": 1, "total_steps": 2, "loss": 1.0}\n{"cur', "utf-8")
    run = read_run(tmp_path)
    assert run.source is LogSource.WANDB
    assert run.notes[0] == LogNote(
        "log-richest", {"logs": 4, "others": ["trainer_log.jsonl", "trackio/tiny.db", "train.log"]}
    )


def test_the_own_log_goes_before_every_other(tmp_path: Path) -> None:
    """A folder with a ``trainer_state.json`` is judged by it."""
    shutil.copytree(TRAINER, tmp_path / "run")
    assert read_run(tmp_path / "run").source is LogSource.TRAINER_STATE


def test_a_snapshot_of_the_hub(tmp_path: Path) -> None:
    """The cache's folder of a repository: the revision that ``main`` is."""
    place = tmp_path / "models--owner--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("abc")
    (place / "snapshots" / "abc").mkdir(parents=True)
    shutil.copy(TRAINER / "trainer_state.json", place / "snapshots" / "abc")
    assert read_run(place).rows == read_run(TRAINER / "trainer_state.json").rows


def _mutated(data: bytes, number: int) -> bytes:
    """One of six kinds of damage at a place that the number decides."""
    chance = random.Random(number)
    place = chance.randrange(len(data))
    end = min(len(data), place + chance.randrange(1, 64))
    kind = number % 6
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]
    if kind == 2:
        return data[:place] + data[end:]
    if kind == 3:
        return data[:place] + chance.randbytes(end - place) + data[place:]
    if kind == 4:
        return data[:place] + bytes(end - place) + data[end:]
    return data[:place] + data[place:end] * 2 + data[end:]


FILES = [
    "trainer/wandb/offline-run-1-tiny/run-tiny.wandb",
    "trainer/tensorboard/events.out.tfevents.1.host.1.0",
    "trainer/mlruns/0/tiny/metrics/loss",
    "trainer/mlflow.db",
    "trainer/trackio/tiny.db",
    "trainer/train.log",
    "llamafactory/trainer_log.jsonl",
    "lightning/metrics.csv",
    "axolotl/train.log",
    "export.csv",
]


@pytest.mark.parametrize("number", range(30))
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_log_is_read_or_refused_in_one_line(tmp_path: Path, file: str, number: int) -> None:
    """Nothing else is raised, and the judge takes what was read."""
    source = RECORDED / file
    if "mlruns" in file:
        shutil.copytree(TRAINER / "mlruns", tmp_path / "mlruns")
        place, named = tmp_path / Path(file).relative_to("trainer"), tmp_path / "mlruns" / "0" / "tiny"
    else:
        place = named = tmp_path / source.name
    place.write_bytes(_mutated(source.read_bytes() if source.exists() else _export(), number))
    said = ""
    try:
        judge_run(read_run(named), asked_of(None)).as_dict(str(named))
    except UnreadableRunError as error:
        said = str(error)
    assert not said or (said.startswith(str(named)) and "\n" not in said)


@pytest.mark.parametrize("file", FILES[:2], ids=["wandb", "tensorboard"])
def test_a_checksum_that_fails_is_no_number(tmp_path: Path, file: str) -> None:
    """A changed bit anywhere in a file with checksums is refused, or lies behind what is read; never another loss."""
    source = RECORDED / file
    data, losses = source.read_bytes(), [row.get("loss") for row in read_run(source).rows]
    for place in range(8, len(data), len(data) // 40):
        damaged = tmp_path / source.name
        damaged.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        try:
            read = [row.get("loss") for row in read_run(damaged).rows]
        except UnreadableRunError:
            continue
        assert read == losses[: len(read)]


def test_axolotl_output_gives_losses_and_steps() -> None:
    """Its dicts have keys of its own (memory, tokens), and its perplexity is none of ours."""
    run = read_run(RECORDED / "axolotl" / "train.log")
    seen = run.observations()
    training = [one for one in seen if isinstance(one, TrainObservation)]
    assert (run.source, run.planned_steps, len(training)) == (LogSource.PRINTED, 60, 30)
    assert [one.step for one in training] == list(range(2, 61, 2))
    assert [one.step for one in seen if isinstance(one, EvalObservation)] == [0, 20, 40, 60]
    assert training[-1].loss == pytest.approx(5.284)


@pytest.mark.parametrize("name", ["state.txt", "state", "state.out"])
def test_a_state_under_another_name_is_a_state(tmp_path: Path, name: str) -> None:
    """JSON is read as JSON, whatever it is called."""
    shutil.copy(TRAINER / "trainer_state.json", tmp_path / name)
    assert read_run(tmp_path / name).source is LogSource.TRAINER_STATE


def test_the_nearest_log_is_named(tmp_path: Path) -> None:
    """A tracker's summary holds no rows: the file of the run beside it does."""
    shutil.copytree(TRAINER / "wandb", tmp_path / "wandb")
    files = tmp_path / "wandb" / "offline-run-1-tiny" / "files"
    files.mkdir()
    (files / "wandb-summary.json").write_text('{"train/loss": 1.0}', "utf-8")
    with pytest.raises(UnreadableRunError) as caught:
        read_run(files / "wandb-summary.json")
    assert str(caught.value).endswith(f"; did you mean {files.parent / 'run-tiny.wandb'}?")
