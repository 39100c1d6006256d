"""`ko-cpt forecast`: a run or a CSV file in, where its losses will end out, as text and as JSON."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from check.command import check, write_state
from check.test_heading import run_folder
from forecast.family_rows import seed_rows
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app

if TYPE_CHECKING:
    from click.testing import Result

LAST = 4000


def rows(until: int = LAST, rate: float = 1.0) -> list[dict[str, Any]]:
    """Log rows of a run with a cosine rate: training every ten steps, an exact evaluation every hundred."""
    random = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for step in range(10, until + 1, 10):
        part = (1 + math.cos(math.pi * step / LAST)) / 2
        loss = 2.0 + 3.0 * (step + 100) ** -0.25 - 0.08 * (1 - part) + 0.01 * float(random.standard_normal())
        found.append({"step": step, "loss": loss, "learning_rate": rate * 2e-4 * part})
        if step % 100 == 0:
            found.append({"step": step, "eval_exact_loss": loss + 0.1, "eval_loss": 9.0, "eval_runtime": 1.0,
                          "eval_tokens": 1000, "eval_bytes": 3000})  # fmt: skip
    return found


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """The state of a run at half of its steps."""
    path = write_state(tmp_path / "trainer_state.json", rows(LAST // 2))
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "max_steps": LAST}), "utf-8")
    return path


def run(*arguments: str | Path) -> Result:
    """What the command does."""
    return CliRunner().invoke(app, ["forecast", *map(str, arguments)])


def told(*arguments: str | Path) -> dict[str, Any]:
    """Its JSON, with one forecast a set."""
    found = run(*arguments, "--json")
    assert found.exit_code == 0, found.output
    value: dict[str, Any] = json.loads(found.stdout)
    return {**value, **{one["set"]: one for one in value["forecasts"]}}


def test_an_unfinished_run(half: Path) -> None:
    """Training and the set are forecast to the planned step with the kind of schedule that the log shows."""
    found = told(half)
    ends = [row for row in rows() if row["step"] == LAST]
    assert (found["format"], found["what_if"]) == (1, False)
    assert [one["set"] for one in found["forecasts"]] == ["train", "eval"]
    for one, truth in ((found["train"], ends[0]["loss"]), (found["eval"], ends[1]["eval_exact_loss"])):
        assert one["lower"] < truth < one["upper"]
        assert (one["step"], one["last_step"], one["schedule"], one["withheld"]) == (LAST // 2, LAST, "cosine", [])
        assert one["perplexity"]["median"] == pytest.approx(math.exp(one["median"]))
    assert (found["train"]["metric"], found["eval"]["metric"]) == ("loss", "exact_loss")
    assert found["eval"]["bits_per_byte"]["upper"] == pytest.approx(found["eval"]["upper"] / 3 / math.log(2))
    assert "bits_per_byte" not in found["train"]


def test_text(half: Path) -> None:
    """A line a set, and under it each of its targets; a set's target is not asked of another."""
    found = run(half, "--target", "eval_exact_loss<9", "--target", "1.1")
    assert found.exit_code == 0
    lines = found.stdout.splitlines()
    number = r"\d\.\d{3}"
    assert re.fullmatch(
        rf"train: ends at {number} \({number} to {number} in 90 % of such runs, perplexity [\d.]+\) at step 4,000; "
        r"seen up to step 2,000; learning rate cosine", lines[0]
    )  # fmt: skip
    assert lines[1] == "  target 1.1: probability 1 %; the median does not reach it"
    assert lines[2].startswith("eval: ends at ")
    assert lines[3] == "  target eval_exact_loss<9: probability 99 %; the median reaches it at step 2,000"
    assert len(lines) == 5
    assert "예상" in run(half, "--lang", "ko").stdout


def test_targets_in_every_unit(half: Path) -> None:
    """A perplexity, bits per byte and a change are losses; a deadline on the way is likely later than it is early."""
    loss = told(half)["eval"]["median"]
    first = rows()[10]["eval_exact_loss"]
    for text in (
        f"eval_ppl<{math.exp(loss)!r}",
        f"eval_bits_per_byte<{loss / 3 / math.log(2)!r}",
        f"eval_exact_loss<{100 * (loss / first - 1)!r}%",
    ):
        (one,) = told(half, "--target", text)["eval"]["targets"]
        assert (one["target"], one["loss"]) == (text, pytest.approx(loss))
        assert one["probability"] == pytest.approx(0.5, abs=0.01)
    early, late = (
        told(half, "--target", f"eval_exact_loss<{loss + 0.02}@step:{step}")["eval"]["targets"][0]["probability"]
        for step in (2200, 3900)
    )
    assert early < 0.2 < 0.5 < late


def test_a_target_of_an_exact_loss_needs_one(half: Path) -> None:
    """On a set of which the log has the Trainer's loss alone no probability is given for an exact one."""
    state = json.loads(half.read_text("utf-8"))
    for row in state["log_history"]:
        row.pop("eval_exact_loss", None)
    half.write_text(json.dumps(state), "utf-8")
    found = run(half, "--target", "eval_exact_loss<3")
    assert found.exit_code == 2 and "forecast of eval is loss; write eval_loss<3" in found.stderr
    found = run(half, "--target", "eval_ppl<20")
    assert found.exit_code == 2 and "of eval there is none; write eval_loss<2.996@end" in found.stderr
    assert run(half, "--target", "eval_loss<2.996@end").exit_code == 0
    found = run(half, "--target", "eval_ppl<-70%")
    assert found.exit_code == 2 and "of eval there is none; write eval_loss<" in found.stderr
    assert run(half, "--target", found.stderr.split("write ")[1].strip()).exit_code == 0


def test_a_deadline_that_is_passed_is_said(half: Path) -> None:
    """What has no probability because its step is behind has a line that says so."""
    lines = run(half, "--target", "eval_exact_loss<3@step:100").stdout.splitlines()
    assert lines[-1] == "  target eval_exact_loss<3@step:100: no probability; its step 100 is passed"


def test_a_change_since_nothing_finite(half: Path) -> None:
    """Where no evaluation is finite a change has no loss, and the JSON is one still."""
    state = json.loads(half.read_text("utf-8"))
    for row in state["log_history"]:
        row |= {"eval_exact_loss": math.nan} if "eval_exact_loss" in row else {}
    half.write_text(json.dumps(state), "utf-8")
    (one,) = told(half, "--target", "eval_exact_loss<-20%")["eval"]["targets"]
    assert (one["loss"], one["probability"], one["step_to_reach"]) == (None, None, None)


def test_as_it_was(tmp_path: Path) -> None:
    """`--at` of a finished run is what was known then, and the schedule of its log; without it, it is finished."""
    path = write_state(tmp_path / "trainer_state.json", rows())
    then = told(path, "--at", "0.5")["train"]
    assert (then["step"], then["last_step"], then["schedule"]) == (LAST // 2, LAST, "logged")
    now = told(path)["train"]
    assert (now["median"], now["withheld"]) == (None, ["finished"])
    assert "the run is at its end" in run(path).stdout


def test_what_if(half: Path) -> None:
    """A schedule that is asked for is named, called a what-if, and has the wider interval; a run may be longer."""
    own, asked = told(half)["train"], told(half, "--schedule", "cosine")
    assert asked["what_if"] and asked["train"]["schedule"] == "cosine"
    wide = (asked["train"]["upper"] - asked["train"]["lower"]) / (own["upper"] - own["lower"])
    assert 1.3 < wide < 1.7
    longer = told(half, "--schedule", "wsd:0.2", "--steps", "8000")["train"]
    assert longer["last_step"] == 8000 and longer["median"] < own["median"]
    assert "what if" in run(half, "--schedule", "linear").stdout
    assert told(half, "--steps", "3000")["train"]["median"] > own["median"]


def test_a_csv_file(tmp_path: Path) -> None:
    """Its rows are a curve; rows without a loss are the schedule ahead; spaces, CRLF and empty lines do no harm."""
    train = [row for row in rows() if "loss" in row]
    lines = [f"{r['step']},{r['learning_rate']},{r['loss'] if r['step'] <= LAST / 2 else ''}" for r in train]
    path = tmp_path / "curve.csv"
    path.write_bytes("\r\n".join([" step , lr,loss", *lines, "", ""]).encode())
    found = told(path)["train"]
    assert (found["step"], found["last_step"], found["schedule"]) == (LAST // 2, LAST, "logged")
    assert found["lower"] < train[-1]["loss"] < found["upper"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,lr,loss\n1,1,\n2,1,\n", ": found no loss, expected training rows or evaluations with one"),
        ("", ":1: found '', expected the columns step,lr,loss"),
        ("step,loss\n1,2\n", ":1: found 'step,loss', expected the columns step,lr,loss"),
        ("step,lr,loss\n", ": found no row"),
        ("step,lr,loss\n1,2\n", ":2: found '1,2', expected three numbers"),
        ("step,lr,loss\n1,1,1\n2,x,1\n", ":3: found '2,x,1', expected three numbers"),
        (f"step,lr,loss\n1,1,{'1' * 200_000}\n", ":2: no table (field larger than field limit"),
        ("step,lr,loss\ninf,1,1\n", ":2: found 'inf,1,1', expected three numbers"),
    ],
)
def test_a_csv_file_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    """The line is named, and what is expected there."""
    path = tmp_path / "curve.csv"
    path.write_text(text, "utf-8")
    found = run(path)
    assert found.exit_code == 2
    assert found.stderr.startswith(f"ko-cpt forecast: {path}{said}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--at", "0"), "--at: found 0.0"),
        (("--at", "nan"), "--at: found nan"),
        (("--steps", "0"), "--steps: found 0"),
        (("--steps", "5000"), "--steps: found 5000, beyond the 4000 of the run"),
        (("--schedule", "cosin"), "--schedule: found 'cosin'"),
        (("--target", "-1"), "--target: found '-1'"),
        (("--target", "eval_ppl"), "target "),
        (("--target", "eval_ppl<20@tokens:1e9"), "--target: found a deadline in tokens"),
        (
            ("--target", "eval_loss<3@step:3000"),
            "--target: found eval_loss<3.0@step:3000, but what is forecast of eval is exact_loss; write "
            "eval_exact_loss<3.0@step:3000",
        ),
        (
            ("--target", "other_ppl<20"),
            "--target: found set 'other' in 'other_ppl<20', expected one of train, eval\n",
        ),
        (("--lang", "fr"), "--lang: found 'fr'"),
    ],
)
def test_what_cannot_be_asked(half: Path, arguments: tuple[str, ...], said: str) -> None:
    """Exit status 2 and one line that names the option and what was found."""
    found = run(half, *arguments)
    assert found.exit_code == 2
    assert found.stderr.startswith(f"ko-cpt forecast: {said}")
    assert len(found.stderr.splitlines()) == 1


def test_no_bytes_no_bits(half: Path) -> None:
    """A target in bits per byte on a set whose rows have no bytes is refused, as it would need a guess."""
    state = json.loads(half.read_text("utf-8"))
    for row in state["log_history"]:
        row.pop("eval_bytes", None)
    half.write_text(json.dumps(state), "utf-8")
    found = run(half, "--target", "eval_bits_per_byte<1")
    assert found.exit_code == 2 and "needs the bytes" in found.stderr


def test_a_step_that_no_float_holds_is_left_out(half: Path) -> None:
    """A row of hundreds of digits changes no number; a plan of as many is none."""
    state = json.loads(half.read_text("utf-8"))
    state["log_history"].insert(5, {"step": 10**400, "loss": 2.0, "learning_rate": 1e-4})
    half.write_text(json.dumps(state), "utf-8")
    damaged = told(half)["train"]
    assert (damaged["step"], damaged["last_step"], damaged["withheld"]) == (LAST // 2, LAST, [])
    half.write_text(json.dumps({**state, "max_steps": 10**400}), "utf-8")
    assert told(half)["train"]["withheld"] == ["finished"]


def test_nothing_to_forecast(tmp_path: Path) -> None:
    """A run without a loss, and no run at all."""
    path = write_state(tmp_path / "trainer_state.json", [])
    assert "found no loss" in run(path).stderr
    assert "no such file" in run(tmp_path / "none").stderr
    assert "empty text" in run("").stderr


def test_a_family_narrows_it(tmp_path: Path) -> None:
    """Three finished runs of the same set-up are named in the answer; the run itself among them says nothing."""
    folders = [run_folder(tmp_path / f"run-{seed}", seed_rows(seed)) for seed in range(4)]
    others = [part for folder in folders[1:] for part in ("--family", str(folder))]
    alone, found = told(folders[0], "--at", "0.4"), told(folders[0], "--at", "0.4", *others)
    assert (alone["eval"]["family"], found["eval"]["family"], found["train"]["family"]) == (0, 3, 0)
    assert found["eval"]["upper"] - found["eval"]["lower"] < alone["eval"]["upper"] - alone["eval"]["lower"]
    assert told(folders[0], "--at", "0.4", *others, "--family", folders[0])["eval"] == found["eval"]
    text = run(folders[0], "--at", "0.4", *others).stdout
    assert "from 3 finished runs of the same set-up" in text
    asked = told(folders[0], "--at", "0.4", *others, "--schedule", "constant")
    assert [asked[name]["family_withheld"] for name in ("train", "eval")] == [None, "other-schedule"]
    few = run(folders[0], "--at", "0.4", *others[:2])
    assert few.exit_code == 0 and "made without its family: fewer than three runs agree with it" in few.stdout


def test_a_family_of_a_table(tmp_path: Path) -> None:
    """A CSV does not say which rows were evaluated: nothing is compared with it."""
    (tmp_path / "curve.csv").write_text("step,lr,loss\n1,1e-4,3.0\n2,1e-4,2.9\n", "utf-8")
    found = run(tmp_path / "curve.csv", "--family", tmp_path)
    assert found.exit_code == 2 and "--family: found a table" in found.stderr


def test_a_family_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own baselines are asked for and none is kept: that is an error of the question, here and for check."""
    monkeypatch.setenv("KO_CPT_BASELINES", str(tmp_path / "none"))
    folder = run_folder(tmp_path / "run", seed_rows(0, 0.5))
    for found in (run(folder, "--family", "own"), check(folder, "--family", "own")):
        assert found.exit_code == 2 and "--family: found no own baseline" in found.stderr
