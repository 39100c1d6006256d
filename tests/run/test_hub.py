"""Runs on the Hugging Face hub, by the real client from a stand-in for it: logs are fetched, weights are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import commands
from training.hub_server import HubServer

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run.log.found import run_place
from ko_cpt_callbacks.run.reading import read_run

STATE = Path(__file__).parent / "recorded" / "trainer" / "trainer_state.json"


@pytest.mark.parametrize("text", ["hf://name", "hf://owner/name@", "hf://owner/na me", "hf://owner/name/../x", "hf://a/"])
def test_what_names_no_repository(text: str) -> None:
    """One line says what to write; a `Path` of it, which has a slash less, is refused alike."""
    for path in (text, Path(text)):
        with pytest.raises(UnreadableRunError, match="expected hf://OWNER/NAME"):
            read_run(path)


@pytest.mark.parametrize(
    ("text", "revision", "folder"),
    [
        ("hf://org/run@abc/phase-1", "abc", "phase-1"),
        ("hf://org/run@refs/pr/7", "refs/pr/7", ""),
        ("hf://org/run@refs/pr/7/phase-1", "refs/pr/7", "phase-1"),
    ],
)
def test_a_revision_of_a_pull_request_has_slashes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, revision: str, folder: str
) -> None:
    """What stands behind it is a folder, as behind any other revision."""
    asked: dict[str, Any] = {}

    def fetch(name: str, **how: Any) -> str:
        asked.update(how, name=name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "trainer_state.json").write_text("{}", "utf-8")
    assert run_place(text) == tmp_path / folder
    assert (asked["name"], asked["revision"]) == ("org/run", revision)


def test_any_other_path_is_itself() -> None:
    """Nothing is fetched for it."""
    assert run_place("hf/x") == Path("hf/x")


def test_a_run_on_the_hub(tmp_path: Path) -> None:
    """`ko-cpt check` of a repository and of a folder in it judges what lies there, and names what cannot be had."""
    state = STATE.read_bytes()
    named = ["hf://org/run", "hf://org/run/phase-1", "hf://org/none", "hf://org/weights"]
    with HubServer() as hub:
        files = {"checkpoint-100/trainer_state.json": state, "phase-1/trainer_state.json": state}
        hub.publish("models", "org/run", {**files, "model.safetensors": b"weights", "README.md": b"# run"})
        hub.publish("models", "org/weights", {"model.safetensors": b"weights"})
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
        (done,) = commands(["check", "--json", *named], **settings)
        asked = {request.path.rpartition("/")[2] for request in hub.requests}
        others = [
            ["compare", "hf://org/run", "hf://org/run/phase-1"],
            ["report", "hf://org/run", "-o", str(tmp_path / "report.html")],
            ["forecast", "hf://org/run", "--at", "0.5"],
        ]
        ended = commands(*others, **settings)
    assert [one.returncode for one in ended] == [0, 0, 0], [one.stderr for one in ended]
    assert "hf://org/run/phase-1" in ended[0].stdout
    assert done.returncode == 2, done.stderr
    judged: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    assert [row["path"] for row in judged] == named
    assert [row["error"] is None for row in judged] == [True, True, False, False]
    assert [row["steps_done"] for row in judged[:2]] == [100, 100]
    assert judged[2]["error"].startswith("hf://org/none: cannot be fetched: ")
    assert judged[3]["error"].startswith("hf://org/weights: found no log, expected trainer_state.json or another")
    assert "trainer_state.json" in asked
    assert not asked & {"model.safetensors", "README.md"}
