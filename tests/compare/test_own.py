"""A run of the user's becomes a baseline: the numbers of its rows, its row sums beside it, nothing overwritten."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from check.test_heading import run_folder
from forecast.family_rows import seed_rows

from ko_cpt_callbacks.compare.baseline import BaselineValue
from ko_cpt_callbacks.compare.own import OWN_RUNS, add_own, read_family, yaml_text
from ko_cpt_callbacks.compare.own_run import LAST_POINTS
from ko_cpt_callbacks.compare.registry import FOLDER_VARIABLE, bundled_ids, find_baseline, find_entry
from ko_cpt_callbacks.compare.stage import Trains
from ko_cpt_callbacks.errors import BaselineError, ConfigurationError, UnreadableRunError
from ko_cpt_callbacks.metrics.row_sums import RowSums, exact_numbers
from ko_cpt_callbacks.run.folder import read_eval_rows
from ko_cpt_callbacks.yaml.reading import read_document

RECORDED = Path(__file__).resolve().parents[1] / "parity" / "runs"
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "runs"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's own baselines."""
    folder = tmp_path / "own"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    return folder


def sums(seed: int) -> RowSums:
    """Row sums of eight rows."""
    random = np.random.default_rng(seed)
    tokens = random.integers(20, 40, 8)
    return RowSums(
        nll=random.normal(3.0, 0.3, 8) * tokens,
        tokens=tokens,
        bytes=tokens * 4,
        hash=np.arange(8, dtype=np.uint64),
        order=np.stack([np.arange(8), np.zeros(8, int), np.zeros(8, int)], axis=1),
    )


def a_run(folder: Path, setup: dict[str, Any] | None = None, *, rows_files: bool = True) -> Path:
    """A run folder: 60 training points, ``eval_ko`` evaluated at 30 (best) and 60, ``eval_en`` at 60."""
    record = folder / "ko_cpt"
    rows: list[dict[str, Any]] = []
    if setup is not None:
        rows.append({"kind": "setup", "setup": "stage", "attempt": 1, "step": 0, **setup})
    for step in range(1, 61):
        rows.append({"kind": "train", "attempt": 1, "step": step, "loss": 4.0 - step / 100, "tokens_seen": step * 100})
    for split, step, seed in (("eval_ko", 30, 1), ("eval_ko", 60, 2), ("eval_en", 60, 3)):
        made = sums(seed)
        numbers = exact_numbers(made, split, 0, with_bytes=True)
        if step == 30:
            numbers |= {f"{split}_exact_loss": 2.5}
        elif rows_files:
            (record / "eval_rows").mkdir(parents=True, exist_ok=True)
            (record / "eval_rows" / f"{split}-{step}.npz").write_bytes(made.to_payload())
        row = {"kind": "eval", "attempt": 1, "step": step, "split": split, f"{split}_runtime": 1.0, **numbers}
        rows.append({**row, f"{split}_loss": 3.3, f"{split}_fingerprint": f"utf8-{made.fingerprint()}"})
    record.mkdir(parents=True, exist_ok=True)
    (record / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    told = {
        "format": 1,
        "watch": {"task": "cpt", "retention": ["en"]},
        "model": {"name_or_path": "some/model", "parameters": 12, "quantization": "8-bit"},
        "tokenizer": {"class": "Tok", "vocabulary": 500, "hash": "abc"},
        "arguments": {"learning_rate": 1e-4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        "world_size": 2,
        "device": "cpu",
    }
    (record / "run.json").write_text(json.dumps(told))
    return folder


def values_of(id: str) -> dict[tuple[str, str, str], BaselineValue]:
    """The figures of an own baseline by metric, split and set."""
    return {(v.metric, v.split, v.set): v for stage in find_baseline(id).stages for v in stage.values}


def test_a_run_with_everything(tmp_path: Path, own: Path) -> None:
    """The last evaluation of each set with error, fingerprint and row sums; what run.json knows of model and text."""
    added = add_own(a_run(tmp_path / "run"), "mine", "My run")
    baseline, values = find_baseline("mine"), values_of("mine")
    expected = exact_numbers(sums(2), "e", 0, with_bytes=True)
    loss, bits = values["loss", "eval", "eval_ko"], values["bits_per_byte", "eval", "eval_ko"]

    assert added.left_out == ()
    assert (baseline.title, baseline.kind, baseline.grade) == ("My run", "continued pretraining", "OWN")
    assert (baseline.tokenizer, baseline.tokenizer_hash, baseline.vocabulary) == ("Tok", "abc", 500)
    assert (baseline.quantization, baseline.bytes_per_token_low, baseline.bytes_per_token_high) == ("8-bit", 4.0, 4.0)
    assert (loss.value, loss.se) == (expected["e_exact_loss"], expected["e_exact_loss_se"])
    assert (bits.value, bits.se) == (expected["e_bits_per_byte"], expected["e_bits_per_byte_se"])
    assert (loss.origin, loss.grade, loss.position) == ("measured", "OWN", "step 60")
    assert loss.fingerprint == f"utf8-{sums(2).fingerprint()}"
    assert loss.rows_file == bits.rows_file == str(own / "mine" / "eval_ko-60.npz")
    assert read_eval_rows(str(loss.rows_file)).nll.tolist() == sums(2).nll.tolist()
    assert ("loss", "eval", "eval_en") in values
    assert find_entry("mine").file.method.hyper_parameters["batch_size"].value == 16  # type: ignore[union-attr]


def test_the_training_loss_is_a_mean_that_says_so(tmp_path: Path) -> None:
    """The mean of the last 50 training points, its points in the file, and the formula tells it."""
    add_own(a_run(tmp_path / "run"), "mine")
    value = values_of("mine")["loss", "train", "training text"]

    assert value.value == pytest.approx(math.fsum(4.0 - step / 100 for step in range(11, 61)) / LAST_POINTS)
    assert value.formula.startswith("mean of the losses; mean of the last 50 training points, steps 11 to 60")


def test_the_best_evaluation(tmp_path: Path) -> None:
    """With ``best`` the lowest loss of each set counts; its sums are not there, and that is said."""
    added = add_own(a_run(tmp_path / "run"), "mine", best=True)
    values = values_of("mine")

    assert values["loss", "eval", "eval_ko"].position == "step 30"
    assert values["loss", "eval", "eval_ko"].rows_file is None
    assert values["loss", "eval", "eval_en"].position == "step 60"
    assert added.left_out == ("the per-row sums of eval_ko at step 30 are not there: no paired comparison",)


def test_what_was_trained_is_kept(tmp_path: Path) -> None:
    """The row that says which parts moved names the stage."""
    words = {"name": "LoRA on odd layers", "input": "none", "output": "none", "layers": "odd", "adapter": "lora"}
    add_own(a_run(tmp_path / "run", words), "mine")
    (stage,) = find_baseline("mine").stages

    assert (stage.name, stage.title) == ("lora-on-odd-layers", "LoRA on odd layers")
    assert stage.trains == Trains(layers="odd", adapter="lora")


def test_what_it_began_from_is_kept(tmp_path: Path) -> None:
    """Rows that are new show surgery of the vocabulary; where none are, nothing is said."""
    words = {"name": "new rows", "input": "new", "output": "new", "layers": "none", "adapter": "none"}
    add_own(a_run(tmp_path / "surgery", {**words, "new_rows": 8}), "surgery")
    add_own(a_run(tmp_path / "none", {**words, "new_rows": None}), "none")

    assert (find_baseline("surgery").start, find_baseline("none").start) == ("vocabulary surgery", "")


def test_a_stage_that_is_no_stage(tmp_path: Path) -> None:
    """A damaged stage row is no stage: the run has one, ``whole``."""
    add_own(a_run(tmp_path / "run", {"name": "x", "input": "every"}), "mine")

    assert [(stage.name, stage.trains) for stage in find_baseline("mine").stages] == [("whole", None)]


def test_sums_of_another_evaluation_are_not_kept(tmp_path: Path) -> None:
    """A file whose sums are not the row's is left out, with what both say."""
    folder = a_run(tmp_path / "run")
    (folder / "ko_cpt" / "eval_rows" / "eval_ko-60.npz").write_bytes(sums(9).to_payload())
    added = add_own(folder, "mine")

    said = r"eval_ko-60\.npz: found .* of another evaluation: they have \d+ tokens and the row \d+"
    assert re.search(said, added.left_out[0])
    assert values_of("mine")["loss", "eval", "eval_ko"].rows_file is None


def test_sums_that_are_none_are_not_kept(tmp_path: Path) -> None:
    """A file that is no such file is left out, never unpickled."""
    folder = a_run(tmp_path / "run")
    (folder / "ko_cpt" / "eval_rows" / "eval_ko-60.npz").write_bytes(b"\x80\x04.")
    added = add_own(folder, "mine")

    assert "found no per-row sums" in added.left_out[0]


def test_nothing_is_overwritten(tmp_path: Path, own: Path) -> None:
    """An id that is there is an error and its file stays as it is; with ``force`` it is replaced, old sums too."""
    folder = a_run(tmp_path / "run")
    add_own(folder, "mine", "First")
    (own / "mine" / "eval_old-1.npz").write_bytes(b"")
    before = (own / "mine.yaml").read_bytes()
    with pytest.raises(ConfigurationError, match=r"--id: found 'mine', which is there already .* or give --force"):
        add_own(folder, "mine", "Second")
    assert (own / "mine.yaml").read_bytes() == before

    add_own(folder, "mine", "Second", force=True)
    assert find_baseline("mine").title == "Second"
    assert sorted(path.name for path in own.rglob("*") if path.is_file()) == [
        "eval_en-60.npz", "eval_ko-60.npz", "mine.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize("id", ["", "..", "../mine", "a/b", "/tmp/x", "Mine", "a b", ".hidden", "x" * 65, "가"])
def test_an_id_that_cannot_be_a_file(id: str, tmp_path: Path, own: Path) -> None:
    """Nothing is written for an id that could leave the folder or hide in it."""
    with pytest.raises(ConfigurationError, match="--id: found"):
        add_own(a_run(tmp_path / "run"), id)
    assert not own.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_id_of_the_package(tmp_path: Path) -> None:
    """A published run's id cannot be taken, with ``force`` neither."""
    for id in bundled_ids():
        with pytest.raises(ConfigurationError, match="a baseline of the package"):
            add_own(a_run(tmp_path / "run"), id, force=True)


def test_a_link_in_the_place_of_the_folder(tmp_path: Path, own: Path) -> None:
    """Sums are not written through a link to another place."""
    own.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (own / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises((ConfigurationError, BaselineError)):
        add_own(a_run(tmp_path / "run"), "mine")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert not (own / "mine.yaml").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, own: Path) -> None:
    """A file in the place of the folder is one clear error."""
    own.write_text("")
    with pytest.raises(BaselineError, match="expected a folder that can be written; name another in KO_CPT_BASELINES"):
        add_own(a_run(tmp_path / "run"), "mine")


def test_a_run_without_an_evaluation(tmp_path: Path) -> None:
    """A log with a training loss only is kept, and says that it can be compared with nothing."""
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"log_history": [{"loss": 3.0, "step": 1}, {"loss": 0.0, "step": 2}]}))
    added = add_own(state, "mine")
    (value,) = values_of("mine").values()

    assert added.left_out == ("no evaluation that is a number: a training loss is compared with nothing",)
    assert (value.split, value.value) == ("train", 3.0)  # the Trainer writes 0.0 for a loss that was NaN
    assert find_baseline("mine").why_not == "it has no evaluation: there is a training loss only"


def test_the_trainer_s_own_loss_says_what_it_is(tmp_path: Path) -> None:
    """Without an exact loss the Trainer's is kept, marked as a mean of batch means."""
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"log_history": [{"eval_loss": 2.7, "eval_runtime": 1.0, "step": 4}]}))
    add_own(state, "mine")
    (value,) = values_of("mine").values()

    assert (value.value, value.se, value.formula) == (2.7, None, "the Trainer's own loss, a mean of batch means")


def test_a_run_without_any_loss(tmp_path: Path, own: Path) -> None:
    """NaN everywhere: an error, and nothing is written."""
    state = tmp_path / "trainer_state.json"
    state.write_text(
        '{"log_history": [{"loss": NaN, "step": 1}, {"eval_loss": Infinity, "eval_runtime": 1, "step": 1}]}'
    )
    with pytest.raises(UnreadableRunError, match="found no loss that is a number"):
        add_own(state, "mine")
    assert not own.exists()


def test_a_damaged_run_file(tmp_path: Path, own: Path) -> None:
    """A run.json that is cut off is an error that says what to do."""
    folder = a_run(tmp_path / "run")
    (folder / "ko_cpt" / "run.json").write_text('{"format": 1')
    with pytest.raises(UnreadableRunError, match=r"run\.json:1: JSON cut off or damaged; expected a whole file"):
        add_own(folder, "mine")
    assert not own.exists()


@pytest.mark.parametrize("name", ["*a", "!!x", "'\"", "a: b", "no", "1.0", "한국어", "{}", "a\nb", "2024-01-01", "#"])
def test_texts_survive_yaml(name: str, tmp_path: Path) -> None:
    """Whatever a title or a path holds is read back as it was: no tag, no alias, no number."""
    folder = a_run(tmp_path / "run")
    told = json.loads((folder / "ko_cpt" / "run.json").read_text())
    told["model"]["name_or_path"] = name
    (folder / "ko_cpt" / "run.json").write_text(json.dumps(told))
    add_own(folder, "mine", name)

    assert find_baseline("mine").title == name
    assert find_entry("mine").values["base_model"]["quoted"] == name


def test_repeated_values_are_written_out() -> None:
    """The writer makes no anchors, which the reader refuses."""
    part = {"a": [1.5, "x"]}

    assert read_document(yaml_text({"one": part, "two": part})).values == {"one": part, "two": part}


def test_runs_of_a_family(tmp_path: Path, own: Path) -> None:
    """By folder, by id, or all that are kept; the same run under two names is one run."""
    folders = [run_folder(tmp_path / f"run-{seed}", seed_rows(seed)) for seed in range(3)]
    for seed, folder in enumerate(folders):
        add_own(folder, f"seed-{seed}")
    named = read_family([str(folders[0]), "seed-0", "seed-1"])
    assert [run.name for run in named] == [str(folders[0]), "seed-1"]
    everything = read_family([OWN_RUNS])
    assert [run.name for run in everything] == ["seed-0", "seed-1", "seed-2"]
    assert everything[1] == named[1] and everything[0].curves == named[0].curves


def test_one_run_with_more_evaluations_in_one_place(tmp_path: Path, own: Path) -> None:
    """A run whose folder has one set more than its baseline is no second run: a spread of copies would be too small."""
    rows = seed_rows(0)
    more = dataclasses.replace(rows[-1], split="eval_late")  # type: ignore[call-arg]
    before, after = run_folder(tmp_path / "before", rows), run_folder(tmp_path / "after", [*rows, more])
    assert [run.name for run in read_family([str(before), str(after)])] == [str(before)]


def test_a_folder_and_a_baseline_of_one_name(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are two runs, neither of which takes the other's place."""
    monkeypatch.chdir(tmp_path)
    run_folder(tmp_path / "same", seed_rows(0))
    add_own(run_folder(tmp_path / "other", seed_rows(1)), "same")
    assert [run.name for run in read_family(["same", OWN_RUNS])] == ["same", "same"]


def test_a_run_that_is_of_no_family(tmp_path: Path, own: Path) -> None:
    """One that did not come to its end is refused by its name, also where it replaces one that did."""
    whole, half = (run_folder(tmp_path / name, seed_rows(0, until)) for name, until in (("whole", 1.0), ("half", 0.5)))
    with pytest.raises(ConfigurationError, match=r"half'.*last step is not reached, expected a finished run"):
        read_family([str(half)])
    add_own(whole, "mine")
    add_own(half, "mine", force=True)
    with pytest.raises(ConfigurationError, match="'mine', whose evaluations are not kept"):
        read_family(["mine"])
    assert read_family([OWN_RUNS]) == ()
    add_own(whole, "kept")
    for name in ("neither-a-run-nor-an-id", ""):
        with pytest.raises(ConfigurationError, match=f"family: found '{name}', neither .* own ones: kept$"):
            read_family([name])


@pytest.mark.parametrize("text", ['{"runs": [', '{"runs": [5]}', "[]"])
def test_kept_evaluations_that_are_damaged(text: str, tmp_path: Path, own: Path) -> None:
    """One line says which file, and that adding the run again writes it."""
    add_own(run_folder(tmp_path / "run", seed_rows(0)), "mine")
    (own / "mine" / "curves.json").write_text(text, "utf-8")
    said = r"curves\.json:(1: JSON cut| found) .*expected .*`ko-cpt baselines add --force`"
    with pytest.raises(UnreadableRunError, match=said):
        read_family([OWN_RUNS])


def test_recorded_runs(own: Path) -> None:
    """Every recorded run of a real Trainer can be added."""
    runs = sorted(path for path in RECORDED.iterdir() if (path / "rows.jsonl").is_file())
    assert runs
    for run in runs:
        add_own(run / "rows.jsonl", run.name)
        assert find_baseline(run.name).grade == "OWN"


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data is not beside the repository")
@pytest.mark.parametrize("run", ["a", "b"])
def test_the_public_logs_are_the_bundled_ones(run: str, tmp_path: Path) -> None:
    """The mean of the last 50 points that the registry has for the two public runs is that of their logs."""
    name = {"a": "00_ormastes__medgemma_korean__runA_26665", "b": "01_ormastes__medgemma_korean__00plain_ckpt6500"}[run]
    state = json.loads((REAL / f"{name}.json").read_text())
    if run == "b":  # its healthy part
        state["log_history"] = [row for row in state["log_history"] if row["step"] <= 3500]
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    add_own(tmp_path, "mine")
    mine = values_of("mine")["loss", "train", "training text"]
    bundled = find_baseline(f"medgemma-a6000-{run}").stages[0].values[0]

    assert mine.value == bundled.value
    assert mine.position == bundled.position
