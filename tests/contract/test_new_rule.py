"""What a new rule takes: its file and its sentences; nothing else in the package names it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NEW = ROOT / "examples" / "plugin" / "ko_cpt_clipping"
CODE = "gradient-clipped"

SAID = """
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.rules.registry import ALL_RULES, known_limits, rules_for
from ko_cpt_callbacks.run.observation import TrainObservation
from ko_cpt_callbacks.watch.spec import WatchSpec

codes = [rule.code for rule in ALL_RULES]
print(codes.count("gradient-clipped"), known_limits()["gradient-clipped"])
spec = WatchSpec(rules=("gradient-clipped",), limits={"gradient-clipped": {"rows": 2}})
(found,) = Monitor(rules_for(spec)).judge([TrainObservation(step, loss=2.0, grad_norm=4.0) for step in (1, 2, 3)])[1]
print(found.line())
print(ascii(found.line("ko")))
"""


def test_a_rule_s_file_and_its_sentences_are_enough(tmp_path: Path) -> None:
    """A rule's file in a family's folder and its table in each language: it is asked, has limits, speaks in both
    languages and is explained. Its test and its page are the other two files that it touches."""
    package = tmp_path / "ko_cpt_callbacks"
    shutil.copytree(ROOT / "ko_cpt_callbacks", package, ignore=shutil.ignore_patterns("__pycache__", "recipes"))
    before = {path for path in package.rglob("*") if path.is_file()}
    shutil.copy(NEW / "gradient_clipped.py", package / "rules" / "curve")
    for language in ("en", "ko"):
        with (package / "messages" / f"{language}.toml").open("a", encoding="utf-8") as file:
            file.write("\n" + (NEW / "messages" / f"{language}.toml").read_text("utf-8"))
    assert [path.name for path in package.rglob("*") if path.is_file() and path not in before] == [
        "gradient_clipped.py"
    ]

    variables = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    printed = [
        subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=variables, capture_output=True, text=True, check=True
        ).stdout
        for arguments in (["-c", SAID], ["-m", "ko_cpt_callbacks", "explain", CODE])
    ]
    found, english, korean = printed[0].splitlines()
    assert found == "1 {'norm': 1.0, 'rows': 20}"
    assert english.startswith(f"[warning] {CODE} train@2: gradient norm 4.000 > 1.000, 2 rows in a row → lower the")
    assert ascii("연속 2 행")[1:-1] in korean
    assert printed[1].startswith(f"{CODE} (warning; may stop a run (stop_on); since 1.0)\n")
    assert f"docs/findings/{CODE}.md" in printed[1]
