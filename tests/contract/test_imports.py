"""Who may import whom, and that the offline half works without the heavy libraries."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "ko_cpt_callbacks"
REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / PACKAGE

HEAVY = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "pandas", "plotly")

# From the ground up: each imports itself and those before it.
ORDER = (
    "errors", "keys", "plugin", "workers", "metrics", "messages", "yaml", "run", "checkpoint", "watch", "forecast",
    "signal", "compare", "rules",
    # What judges and shows a finished run needs no Trainer; a live one may show itself by it.
    "recipe", "check", "report", "hf", "integrations", "training", "measure", "cli",
)

# Room -> libraries at module level, and further ones inside functions; None: anything.
LIBRARIES: dict[str, tuple[set[str] | None, set[str] | None]] = {
    "metrics": ({"numpy"}, set()),
    "messages": (set(), {"rich"}),
    "yaml": ({"pydantic", "ruamel"}, set()),
    "run": (set(), {"apprise", "huggingface_hub", "IPython"}),
    "checkpoint": ({"numpy"}, set()),
    "compare": ({"numpy", "pydantic", "ruamel"}, set()),
    "forecast": ({"numpy"}, set()),
    "signal": ({"numpy"}, set()),
    "recipe": ({"pydantic", "ruamel"}, {"pyarrow"}),
    "hf": ({"numpy", "torch", "transformers", "peft", "accelerate", "bitsandbytes", "pydantic"}, None),
    "integrations": ({"pydantic", "axolotl"}, {"axolotl", "transformers"}),
    "training": (None, None),
    "measure": (None, None),
    "check": ({"typer", "rich"}, set()),
    "report": ({"typer"}, {"huggingface_hub", "resvg_py"}),
    "cli": ({"typer", "rich", "pydantic", "click"}, None),
    # Importing the package must load nothing: its names are lazy.
    "": (set(), None),
}

MODULES = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)


def _room(path: Path) -> str:
    relative = path.relative_to(ROOT)
    if len(relative.parts) > 1:
        return relative.parts[0]
    return "" if relative.stem in ("__init__", "__main__") else relative.stem


def _imports(path: Path) -> list[tuple[str, bool, int]]:
    """Absolute name, whether at module level (and run, not only type-checked), line."""
    tree = ast.parse(path.read_text("utf-8"))
    found: list[tuple[str, bool, int]] = []

    def walk(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, top, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: absolute imports only"
                module = child.module or ""
                found.extend((f"{module}.{alias.name}", top, child.lineno) for alias in child.names)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for inner in child.body:
                    walk(ast.Module([inner], []), False)
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                walk(child, top and not inside)

    walk(tree, True)
    return found


def _allowed(room: str) -> set[str]:
    """Rooms that a room may import; the package itself only what has no room."""
    if room == "":
        return {"errors", "keys"}
    return {*ORDER[: ORDER.index(room) + 1]}


def _wrong(path: Path) -> list[str]:
    room = _room(path)
    rooms, (top_libraries, more) = _allowed(room), LIBRARIES.get(room, (set(), set()))
    wrong = []
    for name, top, line in _imports(path):
        first, _, rest = name.partition(".")
        if first == PACKAGE:
            target = rest.partition(".")[0]
            bad = target not in rooms and not (room == "" and not top) and target not in ("__version__", "")
        else:
            libraries = top_libraries if top or more is None else (top_libraries or set()) | more
            free = first in sys.stdlib_module_names or libraries is None or (more is None and not top)
            bad = not free and first not in (libraries or set())
        if bad:
            wrong.append(f"{path.relative_to(REPOSITORY)}:{line}: {room or 'package'} may not import {name}")
    return wrong


def test_every_room_is_in_the_table() -> None:
    """There are modules, and each lives in a room of the order."""
    assert MODULES
    assert {_room(path) for path in MODULES} <= {*ORDER, ""}


def test_imports_follow_the_order() -> None:
    """Nothing points back, and heavy libraries stay in their rooms."""
    assert [wrong for path in MODULES for wrong in _wrong(path)] == []


def test_rules_do_not_import_each_other() -> None:
    """A rule knows observations and findings, no other rule."""
    shared = ("__init__", "setup_rule")
    rules = [path for path in (ROOT / "rules").glob("*/*.py") if path.stem not in shared]
    assert rules
    frames = ("rule.", "setup.setup_rule.")
    for path in rules:
        others = [name for name, _, _ in _imports(path) if name.startswith(f"{PACKAGE}.rules")]
        assert [name for name in others if not name.removeprefix(f"{PACKAGE}.rules.").startswith(frames)] == []


def test_the_walk_sees_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: torch in run, a rule in run and a relative import are all found."""
    package = tmp_path / PACKAGE
    (package / "run").mkdir(parents=True)
    bad = package / "run" / "bad.py"
    bad.write_text(f"import torch\ndef f():\n    from {PACKAGE} import rules\n")
    monkeypatch.setitem(globals(), "ROOT", package)
    monkeypatch.setitem(globals(), "REPOSITORY", tmp_path)
    assert len(_wrong(bad)) == 2
    bad.write_text("from . import x\n")
    with pytest.raises(AssertionError, match="absolute imports only"):
        _wrong(bad)


OFFLINE_ROOMS = (
    "core", "messages", "signal", "rules", "readers", "errors", "keys", "yaml", "baselines", "recipe",
)  # fmt: skip

OFFLINE = """
import sys
BLOCKED = {blocked!r}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Refuse())
import importlib, json
for module in {modules!r}:
    importlib.import_module(module)
from ko_cpt_callbacks.rules.monitor import Monitor
from ko_cpt_callbacks.run.reading import read_run
codes = []
for path in sys.argv[1:]:
    state, findings = Monitor().judge(read_run(path).observations())
    codes.append([finding.code for finding in findings])
    json.dumps(state.summary().as_dict(), allow_nan=False)
    [finding.as_dict() for finding in findings]
loaded = sorted(name for name in BLOCKED if name in sys.modules)
from ko_cpt_callbacks import find_baseline
found = find_baseline("redwhale").id
print(json.dumps([codes, loaded, found]))
"""


def test_offline_without_the_heavy_libraries(tmp_path: Path) -> None:
    """With torch and the like refusing to be imported, the rooms that need none load and judge both kinds of file."""
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"log_history": [{"loss": 0.0, "grad_norm": float("nan"), "step": 1}]}))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"kind": "eval", "attempt": 1, "step": 1, "eval_loss": "NaN", "eval_runtime": 1}))
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if _room(path) not in ("hf", "integrations", "training", "measure", "cli", "")
    ]
    code = OFFLINE.format(blocked=HEAVY, modules=modules)
    found = subprocess.run(
        [sys.executable, "-c", code, str(state), str(rows)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert found.returncode == 0, found.stderr
    codes, loaded, baseline = json.loads(found.stdout)
    assert codes == [["non-finite", "not-enough-data"]] * 2
    assert (loaded, baseline) == ([], "redwhale")


def test_no_module_is_too_long() -> None:
    """Four hundred lines are the most that one is read for."""
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {module: count for module, count in lines.items() if count > 400} == {}
