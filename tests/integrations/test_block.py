"""The block ``ko_cpt:`` of a framework's page: every mistake is told with its key; what is right is a callback."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.cli.frameworks import PLUGIN
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.integrations.block import read_block

WRONG: list[tuple[Any, str]] = [
    ({"target": []}, "ko_cpt.target: no argument of KoCPTCallback; did you mean targets?"),
    ({"xyz": 1}, "ko_cpt.xyz: no argument of KoCPTCallback; expected targets, "),
    ({"alerts": ["slack"]}, "ko_cpt.alerts: a page is logged, addresses are not; set KO_CPT_ALERTS"),
    ({"targets": ["eval_loss"]}, "ko_cpt: target 'eval_loss': found a text that is no target"),
    ({"targets": ["eval_loss<x"]}, "ko_cpt: target 'eval_loss<x': found bound"),
    ({"targets": [3]}, "ko_cpt: target 3: found int"),
    ({"targets": 3}, "ko_cpt: target 3: found int"),
    ({"baseline": "redwale"}, "redwale"),
    ({"stage": "first"}, "stage"),
    ({"task": "cpd"}, "task"),
    ({"retention": ["en<5"]}, "retention"),
    ({"retention": [""]}, "retention"),
    ({"stop_on": ["non-finit"]}, "stop_on"),
    ({"grace": "token:3"}, "grace"),
    ({"patience": 0}, "patience"),
    ({"patience": "two"}, "patience"),
    ({"min_delta": "1"}, "min_delta"),
    ({"rules": {"loss-spike": {"mst": 3}}}, "mst"),
    ({"rules": ["loss-spke"]}, "rules"),
    ({"outputs": ["file"]}, "outputs"),
    ({"language": "kr"}, "language"),
    ({"eval_sets": ["ko", "ko"]}, "ko_cpt.eval_sets[1]: found 'ko', expected a name of its own"),
    ({"eval_sets": ["ko/en"]}, "ko_cpt.eval_sets[0]: found 'ko/en', expected a name of its own"),
    ({"eval_sets": 3}, "ko_cpt.eval_sets: "),
    ([1], "ko_cpt: "),
    ("yes", "ko_cpt: "),
]


@pytest.mark.parametrize(("block", "expected"), WRONG, ids=lambda part: str(part)[:32])
def test_a_wrong_block_names_its_key(block: Any, expected: str) -> None:
    """One sentence that begins at the block and says what is expected."""
    with pytest.raises(ConfigurationError) as caught:
        read_block(block)
    text = str(caught.value)
    assert text.startswith("ko_cpt")
    assert expected in text


@pytest.mark.parametrize(
    "block", [None, {}, {"targets": ["korean-loss-3"], "retention": ["en<5%"], "eval_sets": ["ko", "en"], "grace": 10}]
)
def test_a_right_block_is_a_callback(block: Any) -> None:
    """Nothing at all is the callback as it is."""
    assert isinstance(read_block(block).callback(), KoCPTCallback)


@pytest.mark.parametrize("name", ["axolotl", "llamafactory"])
def test_a_framework_that_is_not_there_is_named(name: str) -> None:
    """The commands say what is missing, in one line."""
    pytest.importorskip("ko_cpt_callbacks")
    done = CliRunner().invoke(app, [name, "train", "page.yaml"])
    assert done.exit_code == 2
    assert done.output.startswith(f"ko-cpt {name}: {name} is not installed")


def _refusal(framework: str, folder: Path, text: str) -> str:
    """The one line with which a page is refused, with status 2."""
    page = folder / "page.yaml"
    page.write_text(text, "utf-8")
    done = CliRunner().invoke(app, [framework, "train", str(page)])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    return str(done.output)


def _as_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ko_cpt_callbacks.cli.frameworks.importlib.util.find_spec", lambda name: name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ko_cpt: {}\n", "plugins: found [], expected [ko_cpt_callbacks.integrations.axolotl.KoCPTPlugin] among them"),
        ("plugins: [x]\n", "plugins: found ['x'], expected"),
        ("ko_cpt: {target: 1}\n", "ko_cpt.target: no argument of KoCPTCallback; did you mean targets?"),
        ("[1]\n", "found no keys, expected those of a training"),
        ("a: [\n", "cannot be read"),
        ("a: 2024-13-45\n", "cannot be read"),
        ("plugins: 5\n", "plugins: found 5, expected"),
    ],
)
def test_a_page_that_axolotl_would_take_without_the_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    """A block without its plugin, and a wrong one, end before Axolotl begins."""
    _as_if_installed(monkeypatch)
    assert expected in _refusal("axolotl", tmp_path, text)


def test_axolotl_finds_accelerate_beside_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls it by its bare name: the folder of this Python goes before what PATH has, activated or not."""
    _as_if_installed(monkeypatch)
    begun: list[Any] = []
    monkeypatch.setattr("ko_cpt_callbacks.cli.frameworks.os.execve", lambda *given: begun.append(given))
    monkeypatch.setenv("PATH", "/elsewhere")
    page = tmp_path / "page.yaml"
    page.write_text(f"plugins: [{PLUGIN}]\n", "utf-8")
    assert CliRunner().invoke(app, ["axolotl", "train", str(page)]).exit_code == 0
    ((program, words, environment),) = begun
    assert (program, words[1:]) == (sys.executable, ["-m", "axolotl.cli.main", "train", str(page)])
    assert environment["PATH"] == os.pathsep.join([str(Path(sys.executable).parent), "/elsewhere"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ko_cpt: {target: 1}\n", "ko_cpt.target: no argument of KoCPTCallback; did you mean targets?"),
        ("ko_cpt: {retention: [en<5]}\n", "retention"),
        ("ko_cpt: {eval_sets: [ko]}\n", "ko_cpt.eval_sets: sets have the names of eval_dataset here; leave it out"),
        ("ko_cpt: yes\n", "ko_cpt: "),
        ("- a\n", "found no keys, expected those of a training"),
    ],
)
def test_a_page_that_llamafactory_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    """A wrong block ends in one line before LLaMA-Factory is imported (it is not there)."""
    _as_if_installed(monkeypatch)
    assert expected in _refusal("llamafactory", tmp_path, text)


def test_no_page_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to write."""
    _as_if_installed(monkeypatch)
    done = CliRunner().invoke(app, ["llamafactory", "train"])
    assert (done.exit_code, "write `train page.yaml`" in done.output) == (2, True)
