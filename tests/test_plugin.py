"""What other packages add: all of it is used, and what cannot be used is named once and left out."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ko_cpt_callbacks import plugin
from ko_cpt_callbacks.compare import registry as baselines
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.hf.callback import KoCPTCallback
from ko_cpt_callbacks.messages import catalogue as sentences
from ko_cpt_callbacks.recipe import bundle
from ko_cpt_callbacks.rules import registry as rules
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run import output
from ko_cpt_callbacks.run.observation import TrainObservation

KEPT = (
    plugin._declared, rules.plugin_rules, sentences.catalogue, sentences._of_plugins, baselines.plugin_baselines,
    bundle._plugin_recipes, output.plugin_outputs,
)  # fmt: skip

RULE = """
from dataclasses import dataclass
from typing import ClassVar
from ko_cpt_callbacks.rules.rule import Rule, RuleInfo
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.observation import TrainObservation

with open({count!r}, "a") as file:
    file.write("imported\\n")

@dataclass(frozen=True, slots=True)
class OddLoss(Rule):
    info: ClassVar = RuleInfo("odd-loss", (Severity.INFO,), (TrainObservation,))
    least: float = 1.0

    def step(self, state, seen, signals):
        return state, ({found},)
"""
FOUND = "Finding('odd-loss', Severity.INFO, seen.step, 'train', {'loss': seen.loss})"
ENGLISH = """
[codes.odd-loss]
meaning = "It is odd."
decided = "info: always."
action = "Look."
short = "loss {loss:loss}"
detail = "The loss is {loss:loss}."
"""
SENTENCES = "[ko_cpt_callbacks.messages]\nodd = odd_sentences\n"
ODD = f"[ko_cpt_callbacks.rules]\nodd-loss = odd_rule:OddLoss\n{SENTENCES}"

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution ``odd 1.0`` on the path: its entry points, its modules and its files by name."""
    names: set[str] = set()

    def add(entry_points: str, **files: str) -> Path:
        info = tmp_path / "odd-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        for name, text in {"odd_sentences/en.toml": ENGLISH, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
            names.add(name.partition("/")[0].removesuffix(".py"))
        monkeypatch.syspath_prepend(str(tmp_path))
        for kept in KEPT:
            kept.cache_clear()
        return tmp_path

    yield add
    for kept in KEPT:
        kept.cache_clear()
    for name in names:
        sys.modules.pop(name, None)


def _rule(folder: Path, found: str = FOUND) -> str:
    return RULE.format(count=str(folder / "imports"), found=found)


def _reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_rule_is_one_of_all(install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked with the others, its limits can be set, its code can be named; it is imported once."""
    install(ODD, **{"odd_rule.py": _rule(tmp_path)})
    assert "odd-loss" in rules.known_codes()
    assert "odd-loss" not in [rule.code for rule in rules.ALL_RULES]
    _, findings = Monitor().judge([TrainObservation(1, loss=2.5)])
    (found,) = (one for one in findings if one.code == "odd-loss")
    assert found.message() == "The loss is 2.500."
    KoCPTCallback(stop_on=["odd-loss"], rules={"odd-loss": {"least": 2}})
    with pytest.raises(ConfigurationError, match="Did you mean 'odd-loss'"):
        KoCPTCallback(stop_on=["odd-los"])
    assert (tmp_path / "imports").read_text() == "imported\n"
    assert _reports(caplog) == []


@pytest.mark.parametrize(
    ("declared", "files", "reason"),
    [
        (ODD, {"odd_rule.py": "raise RuntimeError('broken')"}, "RuntimeError: broken"),
        (ODD, {"odd_rule.py": "import sys\nsys.exit(3)"}, "SystemExit: 3"),
        (ODD, {"odd_rule.py": "OddLoss = 3"}, "found 3, expected a class made from"),
        (ODD, {}, "ModuleNotFoundError: No module named 'odd_rule'"),
        (ODD.replace("odd-loss", "diverged"), {}, "found the name 'diverged', which is taken"),
        (ODD.replace("odd-loss", "stopped-before"), {}, "found the name 'stopped-before', which is taken"),
        (ODD.replace("odd-loss", "odder-loss"), {"odd_rule.py": RULE}, "expected a RuleInfo whose code is the entry"),
        (ODD.replace(SENTENCES, ""), {"odd_rule.py": RULE}, "found no English sentences of odd-loss"),
    ],
)
def test_a_rule_that_cannot_be_used(
    install: Install, caplog: pytest.LogCaptureFixture, declared: str, files: dict[str, str], reason: str
) -> None:
    """One warning names package, entry point and reason; every other rule is asked."""
    install(declared, **{name: text.replace("{count!r}", "'/dev/null'") for name, text in files.items()})
    for _ in range(2):
        assert rules.known_rules() == rules.ALL_RULES
    (report,) = _reports(caplog)
    assert report.startswith("Plugin odd 1.0: ")
    assert reason in report


@pytest.mark.parametrize("found", ["'text'", "Finding('diverged', Severity.ERROR, 1)", "1 / 0"])
def test_a_rule_that_fails_in_the_fold(install: Install, tmp_path: Path, found: str) -> None:
    """What is no finding of its code, or raises, sets it aside as `rule-failed`; the others see every row."""
    install(ODD, **{"odd_rule.py": _rule(tmp_path, found)})
    _, findings = Monitor().judge([TrainObservation(1, loss=float("nan")), TrainObservation(2, loss=2.0)])
    codes = [one.code for one in findings]
    assert codes.count("rule-failed") == 1
    assert "non-finite" in codes
    assert "diverged" not in codes


def test_sentences_that_cannot_be_used(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    """Those of a code that is taken are left out, and the package's own stand."""
    install(SENTENCES, **{"odd_sentences/en.toml": ENGLISH.replace("odd-loss", "diverged")})
    assert sentences.catalogue().explanation("diverged").meaning != "It is odd."
    assert "found sentences of 'diverged', which is taken" in _reports(caplog)[0]


def test_values_of_another_version(install: Install) -> None:
    """A finding whose values its sentences do not fit is shown by its code and values."""
    install(SENTENCES)
    assert sentences.catalogue().short("odd-loss", "", {"loss": 2.5}) == "loss 2.500"
    assert sentences.catalogue().short("odd-loss", "", {"was": 2.5}) == "was = 2.5"
    assert sentences.catalogue().short("odd-loss", "later", {"loss": 2.5}) == "loss = 2.5"


def test_a_group_that_is_none(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    """A slip in the name of a group is reported with the group that was meant."""
    install(ODD.replace(".rules]", ".rule]"), **{"odd_rule.py": "raise RuntimeError"})
    assert rules.known_rules() == rules.ALL_RULES
    (report,) = _reports(caplog)
    assert report.endswith("Did you mean ko_cpt_callbacks.rules?")


def test_files_and_outputs(install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A baseline or recipe without its file, an id or a name that is taken, and an output that cannot be made: each is
    named, and the others are there."""
    install(
        "[ko_cpt_callbacks.baselines]\nredwhale = odd_data\nmine = odd_data\n"
        "[ko_cpt_callbacks.recipes]\nown = odd_data\nabsent = odd_data\nquickstart = odd_data\n"
        "[ko_cpt_callbacks.outputs]\nfiles = odd_output:Broken\nbroken = odd_output:Broken\n",
        **{"odd_data/own.yaml": "id: own", "odd_data/mine.yaml": "id: mine", "odd_output.py": "def Broken(_): 1 / 0"},
    )  # fmt: skip
    assert baselines.installed_ids() == baselines.bundled_ids()
    assert [one for one in bundle.recipe_ids() if one in ("own", "absent")] == ["own"]
    assert bundle.recipe_path("own") == tmp_path / "odd_data" / "own.yaml"
    assert output.output_names() == ("files", "console", "trackers", "report", "broken")
    assert output.made_by_plugin("broken", tmp_path) is None
    said = _reports(caplog)
    for part in (
        "mine of baselines (odd_data) is left out: BaselineError", "'redwhale', which is taken",
        "found no file absent.yaml in odd_data", "'quickstart', which is taken", "'files', which is taken",
        "The output 'broken' of odd 1.0 is off for this run: ZeroDivisionError",
    ):  # fmt: skip
        assert len([one for one in said if part in one]) == 1, (part, said)
    with pytest.raises(ConfigurationError, match="Did you mean 'broken'"):
        KoCPTCallback(outputs=["brokn"])


def test_nothing_is_read_on_import(install: Install, tmp_path: Path) -> None:
    """`import ko_cpt_callbacks`, and building nothing, runs no code of another package."""
    install(ODD, **{"odd_rule.py": _rule(tmp_path)})
    code = "import ko_cpt_callbacks, ko_cpt_callbacks.rules.registry, sys; print('odd_rule' in sys.modules)"
    path = f"{tmp_path}:{Path(__file__).parents[1]}"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
