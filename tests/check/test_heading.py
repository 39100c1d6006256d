"""Where an unfinished run is heading: a line of `ko-cpt check`, and ``forecasts`` in its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from check.command import SCHEMA, check, judged
from forecast.family_rows import member, seed_rows, with_family
from rules.target.heading_rows import LAST, heading
from typer.testing import CliRunner

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.run.observation import EvalObservation, Observation, SetupObservation, TrainObservation

NOW = int(0.5 * LAST)


def line_of(seen: Observation, **speed: float) -> dict[str, Any]:
    """A line of rows.jsonl."""
    if isinstance(seen, SetupObservation):
        return {"kind": "setup", "setup": seen.kind, "attempt": 1, "step": seen.step, **seen.values}
    if isinstance(seen, EvalObservation):
        numbers = {"exact_loss": seen.exact_loss, "tokens": seen.tokens, "bytes": seen.bytes, "runtime": 1.0,
                   "fingerprint": seen.fingerprint}  # fmt: skip
        return {"kind": "eval", "attempt": 1, "step": seen.step, "split": seen.split,
                **{keys.key(seen.split, name): value for name, value in numbers.items()}}  # fmt: skip
    assert isinstance(seen, TrainObservation)
    return {"kind": "train", "attempt": 1, "step": seen.step, "loss": seen.loss, "tokens_seen": seen.tokens_seen,
            "learning_rate": seen.learning_rate, **speed}  # fmt: skip


def run_folder(folder: Path, rows: list[Observation], **speed: float) -> Path:
    """A run folder with these rows, of a run that is over where the last one says so."""
    (folder / keys.FOLDER).mkdir(parents=True)
    lines = [json.dumps(line_of(row, **speed)) for row in rows]
    (folder / keys.FOLDER / keys.ROWS_FILE).write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at half of its steps, on one GPU: 1,000 tokens a step, a million an hour."""
    return run_folder(tmp_path_factory.mktemp("half"), heading(0.5, split="eval_ko"), tokens_per_gpu_hour=1e6)


def test_the_line_of_an_unfinished_run(half: Path) -> None:
    """Where the loss ends, how likely the target is, at which step, and what that takes in tokens and GPU hours."""
    text = check(half, "--target", "eval_ko_exact_loss<2.41").stdout
    line = " ".join(text.split()).partition("eval_ko heads for")[2]
    assert line.startswith(" 2.36")
    assert " in 90 % of such runs) at step 4,000 · eval_ko_exact_loss<2.41@end has 9" in line
    (found,) = judged(half, "--target", "eval_ko_exact_loss<2.41")["forecasts"]
    (target,) = found["targets"]
    assert NOW < target["step_to_reach"] < LAST
    assert target["tokens_to_reach"] == pytest.approx(1000 * (target["step_to_reach"] - NOW))
    assert target["gpu_hours_to_reach"] == pytest.approx(target["tokens_to_reach"] / 1e6)
    assert target["hours_to_reach"] is None
    assert f", at step {target['step_to_reach']:,} · " in line
    assert f"{target['tokens_to_reach']:,.0f} tokens from now · {target['gpu_hours_to_reach']:,.3g} GPU hours" in line
    assert "eval_ko: 스텝 4,000에서" in check(half, "--lang", "ko").stdout


def test_the_json_is_that_of_the_forecast_command(half: Path) -> None:
    """It holds to the schema; a target out of reach has no step."""
    found = judged(half, "--target", "eval_ko_exact_loss<2.2")
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    (one,) = found["forecasts"]
    assert (one["set"], one["metric"], one["schedule"], one["last_step"]) == ("eval_ko", "exact_loss", "planned", LAST)
    assert one["lower"] < one["median"] < one["upper"] and one["withheld"] == []
    assert one["targets"][0]["probability"] < 0.05 and one["targets"][0]["tokens_to_reach"] is None
    assert [item["code"] for item in found["findings"]].count("target-unreachable") == 1


def test_hours_without_an_accelerator(tmp_path: Path) -> None:
    """On a CPU the speed is that of all processes, and the hours are those of a clock."""
    folder = run_folder(tmp_path, heading(0.5), tokens_per_second=100.0)
    (one,) = judged(folder, "--target", "eval_exact_loss<2.41")["forecasts"]
    (target,) = one["targets"]
    assert target["gpu_hours_to_reach"] is None
    assert target["hours_to_reach"] == pytest.approx(target["tokens_to_reach"] / 360_000)


def test_a_forecast_that_is_withheld_says_why(tmp_path: Path) -> None:
    """A scheduler without a plan: the line has the reason, and no number that it takes back."""
    rows = [row for row in heading(0.5) if getattr(row, "kind", None) != "rate-ahead"]
    rows.insert(1, SetupObservation(0, "rate-ahead", {"scheduler": "ReduceLROnPlateau"}))
    text = " ".join(check(run_folder(tmp_path, rows)).stdout.split())
    assert "eval: no forecast of its end: the learning rate follows no plan" in text and "heads for" not in text


def test_the_set_with_a_target_comes_first(tmp_path: Path) -> None:
    """The one line is that of the set with the first target; without targets a retention set comes last; where nothing
    is evaluated, training is what is forecast."""
    both = heading(0.5, split="eval_en") + [
        row for row in heading(0.5, split="eval_ko") if isinstance(row, EvalObservation)
    ]
    both.sort(key=lambda row: row.step)
    folder = run_folder(tmp_path / "both", both)
    assert [one["set"] for one in judged(folder, "--target", "eval_ko_ppl<9")["forecasts"]] == ["eval_ko", "eval_en"]
    assert [one["set"] for one in judged(folder, "--retention", "ko")["forecasts"]] == ["eval_en", "eval_ko"]
    alone = [row for row in heading(0.5) if not isinstance(row, EvalObservation)]
    assert [one["set"] for one in judged(run_folder(tmp_path / "alone", alone))["forecasts"]] == ["train"]


def test_a_target_that_the_median_does_not_reach(tmp_path: Path) -> None:
    """The page has its probability, and no step."""
    page = check(run_folder(tmp_path / "half", heading(0.5)), "--target", "eval_exact_loss<0.5").stdout
    assert re.search(r" · eval_exact_loss<0\.5(@end)? has 1 %(?!, at)", " ".join(page.split()))
    (found,) = judged(tmp_path / "half", "--target", "eval_exact_loss<0.5")["forecasts"]
    assert found["targets"][0]["step_to_reach"] is None


def test_a_run_that_is_over_heads_nowhere(tmp_path: Path) -> None:
    """Neither a finished run nor one that does not say when it ends has a forecast."""
    assert "forecasts" not in judged(run_folder(tmp_path / "whole", heading(1.0)))
    bare = [row for row in heading(0.5) if not isinstance(row, SetupObservation)]
    assert "forecasts" not in judged(run_folder(tmp_path / "bare", bare))


def test_a_family_of_an_unfinished_run(tmp_path: Path) -> None:
    """Its rows hold the finished runs: the page names them, the interval is theirs, no other folder is needed."""
    rows = seed_rows(0, 0.5)
    folder = run_folder(tmp_path / "half", with_family(rows, [member(seed) for seed in (1, 2, 3)]))
    (alone,), (found,) = (judged(one)["forecasts"] for one in (run_folder(tmp_path / "alone", rows), folder))
    assert (found["family"], found["family_withheld"], alone["family"]) == (3, None, 0)
    assert found["upper"] - found["lower"] < alone["upper"] - alone["lower"]
    assert "· from 3 finished runs of the same set-up" in " ".join(check(folder).stdout.split())


def test_a_checkpoint_is_given_its_family(tmp_path: Path) -> None:
    """A state alone holds no family and no plan of the rate: `--family` names it, for check as for forecast."""
    rows = [row for row in seed_rows(0, 0.5) if not isinstance(row, SetupObservation)]
    folders = [run_folder(tmp_path / f"seed-{seed}", seed_rows(seed)) for seed in (1, 2, 3)]
    named = [part for folder in folders for part in ("--family", str(folder))]
    state = tmp_path / "checkpoint-2000" / "trainer_state.json"
    state.parent.mkdir()
    history = [{name: value for name, value in line_of(row).items() if name != "kind"} for row in rows]
    state.write_text(json.dumps({"max_steps": LAST, "global_step": NOW, "log_history": history}), "utf-8")
    whole = judged(state, *named)
    # How far the state went is known from its first row on; what its rate does is not.
    assert [one for one in whole["findings"] if one["code"] == "off-family"] == []
    (alone,), (found,) = (one["forecasts"] for one in (judged(state), whole))
    assert (alone["family"], found["family"], found["family_withheld"]) == (0, 3, None)
    assert found["upper"] - found["lower"] < alone["upper"] - alone["lower"]
    asked = CliRunner().invoke(app, ["forecast", str(state), "--json", *named])
    (same,) = (one for one in json.loads(asked.stdout)["forecasts"] if one["set"] == "eval")
    assert all(same[name] == found[name] for name in ("median", "lower", "upper"))


def test_a_family_that_is_named_replaces_that_of_the_run(tmp_path: Path) -> None:
    """Two named runs are too few, though the run was given three; a staged training is asked stage by stage."""
    rows, runs = seed_rows(0, 0.5), [member(seed) for seed in (1, 2, 3)]
    folders = [run_folder(tmp_path / f"seed-{seed}", seed_rows(seed)) for seed in (1, 2)]
    named = [part for folder in folders for part in ("--family", str(folder))]
    (found,) = judged(run_folder(tmp_path / "half", with_family(rows, runs)), *named)["forecasts"]
    assert (found["family"], found["family_withheld"]) == (0, "few-runs")
    plan = {"format": 1, "stages": [{"name": "lora", "folder": "half"}]}
    (tmp_path / keys.FOLDER).mkdir()
    (tmp_path / keys.FOLDER / "plan.json").write_text(json.dumps(plan), "utf-8")
    refused = check(tmp_path, *named)
    assert refused.exit_code == 2 and "name a stage" in refused.stderr
