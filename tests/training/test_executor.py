"""Rows are the same where other machines make the shards. What needs datatrove itself is marked ``cluster``."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_recipe import small_recipe
from tiny import korean
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.recipe.reading import read_recipe
from ko_cpt_callbacks.training.data import executor, shards
from ko_cpt_callbacks.training.data.encode import Document
from ko_cpt_callbacks.training.data.executor import Executor, PackStep, ShardStep, SubmittedJobsError
from ko_cpt_callbacks.training.data.rows import Making
from ko_cpt_callbacks.training.data.shards import ShardMaker
from ko_cpt_callbacks.training.run import RunOptions, run_recipe
from ko_cpt_callbacks.workers import WorkerEndedError

RECIPE = small_recipe(
    "ko: {language: ko, files: ko.jsonl, filters: {hangul_share: {minimum: 0.5}, repetition: {}}}\n"
    "other: {language: ko, files: other.jsonl}",
    mix="{ko: 2, other: 1}",
    held_out=0.3,
)
TASKS = 3


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_FIRST_CHARACTERS", 600)
        patch.setattr(shards, "_SHARD_CHARACTERS", 2400)
        yield


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of several shards each, with duplicates in both."""
    folder = tmp_path_factory.mktemp("recipe")
    texts = [text for text in korean() if len(text) > 150][:60]
    for name, part in (("ko", [*texts[::2], *texts[:5]]), ("other", texts[1::2])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "small.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def rows(recipe: Path, run: Path, making: Making | None = None) -> dict[str, bytes]:
    """What is on disk of a run's rows, by name."""
    run_recipe(read_recipe(recipe), run, RunOptions(resume=run.exists(), data=True, making=making))
    return made(run)


def made(run: Path) -> dict[str, bytes]:
    """What is on disk of them."""
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "data").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def alone(recipe: Path) -> dict[str, bytes]:
    """Rows made by one process."""
    return rows(recipe, recipe.parent / "alone")


@dataclass(frozen=True)
class ThreeTasks(Executor):
    """Runs tasks one after the other here, as an executor of datatrove would elsewhere, all but those that are lost."""

    steps: list[ShardStep] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)

    def _run(self, step: ShardStep) -> None:
        self.steps.append(step)
        for rank in range(TASKS):
            if rank not in self.lost:
                step(None, rank, TASKS)
        if self.lost:
            raise WorkerEndedError("killed")


def three_tasks(recipe: Path, run: Path, lost: Iterable[int] = ()) -> ThreeTasks:
    """An executor of three tasks."""
    return ThreeTasks("local", TASKS, {}, PackStep(recipe, (), run, False), lost=set(lost))


def test_rows_of_three_tasks(recipe: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    """Byte for byte those of one process, reports too; each shard is of one task, and no part is left."""
    tasks = three_tasks(recipe, tmp_path / "three")
    assert rows(recipe, tmp_path / "three", Making(elsewhere=tasks)) == alone
    (step,) = tasks.steps
    assert len(step.parts) >= 2 * TASKS
    assert {part.parts[0] for part in step.parts} == {"ko", "other"}
    assert not list((tmp_path / "three").rglob("*.part"))


def test_after_a_lost_task_its_shards_alone_are_made(
    recipe: Path, alone: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others made stays; --resume makes the rest, and the rows are those of one go."""
    run = tmp_path / "three"
    lost = three_tasks(recipe, run, lost=[1])
    with pytest.raises(WorkerEndedError):
        rows(recipe, run, Making(elsewhere=lost))
    whole = lost.steps[0].parts
    calls: list[int] = []
    really = ShardMaker.make

    def counted(maker: ShardMaker, documents: list[Document]) -> bytes:
        if maker.sketched:  # of what is trained on
            calls.append(len(documents))
        return really(maker, documents)

    again = three_tasks(recipe, run)
    with monkeypatch.context() as patch:
        patch.setattr(ShardMaker, "make", counted)
        assert rows(recipe, run, Making(elsewhere=again)) == alone
    assert again.steps[0].parts == whole[1::TASKS]
    assert len(calls) == len(whole[1::TASKS])


class Changing(ThreeTasks):
    """A text is written to while its shards are made."""

    def _run(self, step: ShardStep) -> None:
        super()._run(step)
        with (self.pack.recipe.parent / "ko.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"text": "새 문서입니다. " * 20}, ensure_ascii=False) + "\n")


def test_a_text_changes_while_shards_are_made(recipe: Path, tmp_path: Path) -> None:
    """No row is made of shards of another text: one line, and --resume makes those of the new one."""
    copy = Path(shutil.copytree(recipe.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("alone"))) / recipe.name
    run = tmp_path / "run"
    changing = Changing("local", TASKS, {}, PackStep(copy, (), run, False))
    with pytest.raises(ConfigurationError, match="found texts that changed while shards were made"):
        rows(copy, run, Making(elsewhere=changing))
    assert not list((run / "data").glob("[!.]*"))
    assert any(name.endswith("rows.arrow") for name in rows(copy, run, Making(elsewhere=three_tasks(copy, run))))


@dataclass(frozen=True)
class Submitting(Executor):
    """Makes shards as a job of Slurm would, and leaves the rows to another."""

    def _submit(self, step: ShardStep) -> SubmittedJobsError:
        step()
        return SubmittedJobsError("1", "2")


def test_a_second_job_packs(recipe: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    """Where jobs are submitted the command ends without rows; the job that packs makes those of one process."""
    run = tmp_path / "jobs"
    pack = PackStep(recipe, (), run, False)
    with pytest.raises(SubmittedJobsError):
        rows(recipe, run, Making(elsewhere=Submitting("slurm", 2, {}, pack)))
    assert not list((run / "data").glob("[!.]*"))
    pack()
    assert made(run) == alone


@pytest.mark.parametrize("damage", [lambda data: data[:200], lambda data: bytes(len(data))])
def test_a_damaged_part(
    damage: Callable[[bytes], bytes], recipe: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    """Cut off or full of zeros, it is named in one line, and --resume cuts it again."""
    run = tmp_path / "three"
    with pytest.raises(WorkerEndedError):
        rows(recipe, run, Making(elsewhere=three_tasks(recipe, run, lost=range(TASKS))))
    part = next(run.rglob("000001.arrow.part"))
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(ConfigurationError, match=r"000001.arrow.part: found a part of the texts that was damaged"):
        rows(recipe, run, Making(elsewhere=three_tasks(recipe, run)))
    assert rows(recipe, run, Making(elsewhere=three_tasks(recipe, run))) == alone


def test_a_machine_without_the_folder(tmp_path: Path) -> None:
    """The task's log names the machine and what to do."""
    step = ShardStep(tmp_path / "nowhere", (Path("ko/000000.arrow.part"),), {})
    with pytest.raises(ConfigurationError, match=r"nowhere: found no such folder on .+, expected one that all"):
        step(None, 0, 1)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[str]], None]:
    """Say which of the libraries are there."""

    def say(names: Iterable[str]) -> None:
        known = set(names)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in known else None)

    return say


SLURM = ["--executor", "slurm", "--workers", "2", "--sbatch", "partition=cpu", "--sbatch", "time=1:00:00"]
BOTH = ("datatrove", "ray")


@pytest.mark.parametrize(
    ("words", "libraries", "said"),
    [
        (["--executor", "slrum"], BOTH, "--executor: found 'slrum', expected one of local, ray, slurm (did you mean"),
        (SLURM, ("ray",), "--executor slurm: found no datatrove, expected it to be installed; pip install 'ko_cpt"),
        (["--executor", "ray"], ("datatrove",), "--executor ray: found no ray, expected it to be installed; pip"),
        (SLURM, BOTH, "--executor slurm: found no sbatch in PATH, expected a machine that submits jobs"),
        (["--sbatch", "partition=cpu"], BOTH, "--sbatch: found no --executor, expected --executor slurm"),
        (["--executor", "ray", "--sbatch", "time=1"], BOTH, "--sbatch: found --executor ray, expected slurm"),
        (["--executor", "slurm", "--sbatch", "time"], BOTH, "--sbatch: found 'time', expected KEY=VALUE"),
    ],
)
def test_a_line_says_what_is_missing(
    words: list[str],
    libraries: tuple[str, ...],
    said: str,
    recipe: Path,
    tmp_path: Path,
    installed: Callable[[Iterable[str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything is read: one line, exit code 2, no folder."""
    installed(libraries)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = CliRunner().invoke(app, ["data", str(recipe), "--output", str(tmp_path / "run"), *words])
    assert told.exit_code == 2
    assert told.output.startswith(f"ko-cpt data: {said}") and told.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("workers", "sbatch", "hubs", "said"),
    [
        (2, {"time": "1:00"}, [], "--executor slurm: found no partition, expected --sbatch partition=VALUE"),
        (2, {"time": "1", "partition": "a", "array": "0-9"}, [], "--sbatch: found array, expected another option"),
        (None, {"time": "1", "partition": "a"}, [], "--executor slurm: found no --workers, expected how many tasks"),
        (2, {"time": "1", "partition": "a"}, ["web"], "--executor slurm: found source web, a stream of the hub, expec"),
    ],
)
def test_what_slurm_is_not_told(
    workers: int | None,
    sbatch: Mapping[str, str],
    hubs: list[str],
    said: str,
    tmp_path: Path,
    installed: Callable[[Iterable[str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options that have no default, those that are not the user's, and texts that other machines cannot read."""
    installed(BOTH)
    (tmp_path / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        executor.check_executor("slurm", workers, sbatch, hubs)
    assert str(caught.value).startswith(said)


ROOT = Path(__file__).resolve().parents[2]
JOBS = ["--sbatch", "partition={}", "--sbatch", "time=10:00", "--sbatch", "mem-per-cpu=1G"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe whose text is enough for several shards of the usual size."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(0)
    sentences = [part for text in korean() for part in text.split(". ") if part]
    for name in ("ko", "other"):
        texts = (". ".join(draw.choices(sentences, k=draw.randint(3, 40))) for _ in range(400))
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (folder / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return folder / "small.yaml"


def command(recipe: Path, run: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``ko-cpt data`` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", **variables}
    line = [sys.executable, "-m", "ko_cpt_callbacks", "data", str(recipe), "--output", str(run), *words]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def by_workers(corpus: Path) -> dict[str, bytes]:
    """Rows without an executor."""
    told = command(corpus, corpus.parent / "workers", "--workers", "1")
    assert told.returncode == 0, told.stderr
    return made(corpus.parent / "workers")


@pytest.mark.cluster
def test_ray_makes_the_same_rows(corpus: Path, by_workers: dict[str, bytes], tmp_path: Path) -> None:
    """Byte for byte, by a cluster on this machine."""
    told = command(corpus, tmp_path / "run", "--executor", "ray", "--workers", "2")
    assert told.returncode == 0, told.stderr
    assert made(tmp_path / "run") == by_workers


@dataclass(frozen=True)
class OfDatatrove(Executor):
    """Shards made by datatrove's own executor for one machine."""

    def _run(self, step: ShardStep) -> None:
        from datatrove.executor import LocalPipelineExecutor

        LocalPipelineExecutor([step], tasks=TASKS, workers=1, logging_dir=str(self.logs)).run()


@pytest.mark.cluster
def test_datatrove_makes_the_same_rows(recipe: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    """Byte for byte: what makes shards is a step of its pipelines."""
    run = tmp_path / "run"
    asked = OfDatatrove("local", TASKS, {}, PackStep(recipe, (), run, False))
    assert rows(recipe, run, Making(elsewhere=asked)) == alone
    assert len(list((asked.logs / "completions").iterdir())) == TASKS


KILLED = """
import os, pathlib, signal

class Killed:
    def __init__(self, mark): self.mark = pathlib.Path(mark)
    def make(self, part):
        if part.path.stem == "000002" and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        part.path.write_text("made")
"""


def killed(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Shards of seven parts by two tasks, of which one kills its process, the first time: the files that are there."""
    (folder / "killed.py").write_text(KILLED)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")
    maker = importlib.import_module("killed").Killed(folder / "mark")
    asked = Executor(name, 2, {}, PackStep(folder / "small.yaml", (), folder / "run", False))
    documents = [Document(f"ko/{number}", "가" * 2400, 7200) for number in range(7)]

    def make() -> list[str]:
        asked.make(folder / "shards", {"ko": documents}, {"ko": maker})
        return sorted(path.name for path in (folder / "shards" / "ko").iterdir())

    return make


SEVEN = [f"{number:06d}.arrow" for number in range(7)]


def test_a_task_of_this_machine_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and nothing hangs; --resume makes what is missing, and no part is left."""
    make = killed("local", tmp_path, monkeypatch)
    with pytest.raises(WorkerEndedError, match="go on with --resume"):
        make()
    assert (tmp_path / "mark").exists() and not (tmp_path / "shards" / "ko" / "000002.arrow").exists()
    assert make() == SEVEN


@pytest.mark.cluster
def test_a_task_of_ray_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray begins it again."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    assert killed("ray", tmp_path, monkeypatch)() == SEVEN
    assert (tmp_path / "mark").exists()


def partition() -> str | None:
    """Of the Slurm that answers here; None where there is none (tests/training/slurm.sh makes one)."""
    if shutil.which("sinfo") is None:
        return None
    told = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=False)
    return told.stdout.split("\n")[0] or None


@pytest.mark.cluster
@pytest.mark.skipif(partition() is None, reason="no Slurm answers here; tests/training/slurm.sh makes one")
def test_slurm_makes_the_same_rows(corpus: Path, by_workers: dict[str, bytes], tmp_path: Path) -> None:
    """Byte for byte, and the command that submits the jobs has left before."""
    options = [word.format(partition()) for word in JOBS]
    told = command(corpus, tmp_path / "run", "--executor", "slurm", "--workers", "2", *options)
    assert told.returncode == 0, told.stderr
    jobs = re.search(r"Job (\d+) of Slurm makes the shards. Job (\d+) packs the rows.", told.stdout)
    assert jobs is not None, told.stdout
    assert not list((tmp_path / "run" / "data").glob("[!.]*"))
    asked = ["squeue", "-h", "-j", ",".join(jobs.groups())]
    while subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip():
        time.sleep(1)
    assert made(tmp_path / "run") == by_workers


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command in PATH that keeps what it is given."""
    path = tmp_path / "bin" / "sbatch"
    path.parent.mkdir()
    keep = 'n=$(ls "$(dirname "$0")" | wc -l)\nfor last; do :; done\n{ echo "$@"; cat "$last"; } > "$0.$n"\n'
    path.write_text(f"#!/bin/sh\n{keep}echo Submitted batch job $n\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    return path


def submit(folder: Path, parts: int) -> None:
    """Ask for three tasks, with shards to be made of so many parts."""
    given = {"partition": "cpu", "time": "10:00", "mem-per-cpu": "4G", "account": "me"}
    asked = Executor("slurm", 3, given, PackStep(folder / "small.yaml", (), folder / "run", False))
    documents = [Document(f"ko/{number}", "가" * 2400, 7200) for number in range(parts)]
    asked.make(folder / "shards", {"ko": documents}, {})


@pytest.mark.cluster
def test_what_slurm_is_given(sbatch: Path, tmp_path: Path) -> None:
    """Two jobs, the second after the first: the user's options, a task a worker, this environment's commands."""
    with pytest.raises(SubmittedJobsError) as jobs:
        submit(tmp_path, parts=7)
    assert (jobs.value.shards, jobs.value.pack) == ("1", "2")
    first, second = (sbatch.with_name(f"sbatch.{number}").read_text("utf-8") for number in (1, 2))
    for script in (first, second):
        for option in ("partition=cpu", "time=10:00", "mem-per-cpu=4G", "account=me", "kill-on-invalid-dep=yes"):
            assert re.findall(rf"#SBATCH --({option.partition('=')[0]}=.*)\n", script)[-1] == option
        assert f"export PATH={Path(sys.executable).parent}:$PATH\n" in script
        assert "--qos" not in script
    assert "#SBATCH --array=0-2\n" in first and "#SBATCH --array=0-0\n" in second
    assert "--dependency=afterok:1 " in second.splitlines()[0] and "--dependency" not in first
    assert not sbatch.with_name("sbatch.3").exists()


@pytest.mark.cluster
def test_where_all_shards_are_there(sbatch: Path, tmp_path: Path) -> None:
    """One job packs them, and waits for none."""
    with pytest.raises(SubmittedJobsError) as jobs:
        submit(tmp_path, parts=0)
    assert (jobs.value.shards, jobs.value.pack) == (None, "1")
    assert "--dependency" not in sbatch.with_name("sbatch.1").read_text("utf-8")


@pytest.mark.cluster
def test_slurm_refuses_the_job(sbatch: Path, tmp_path: Path) -> None:
    """Its own words stand above one line of ours."""
    sbatch.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(ConfigurationError, match="sbatch: found exit code 1, expected a job; it says above why"):
        submit(tmp_path, parts=7)
