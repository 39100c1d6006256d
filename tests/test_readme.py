"""What README and the guides say is so: their commands, tables and code are compared with the package."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import commands as command_line
import pytest

import ko_cpt_callbacks
from ko_cpt_callbacks import keys

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
KOREAN = (ROOT / "README.ko.md").read_text("utf-8")
OURS = ("Baseline", "Finding", "KoCPTCallback", "MemoryOutput", "Monitor", "Output", "Recipe", "Target")
BOTH = pytest.mark.parametrize("text", [README, KOREAN], ids=["README.md", "README.ko.md"])
LANGUAGES = pytest.mark.parametrize("folder", ["docs", "docs/ko"])
LONGEST_README = 10 * 1024


def commands(text: str) -> list[str]:
    """The bodies of the shell blocks."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def first_cells(text: str, heading: str) -> list[str]:
    """What stands in back quotes in the first column of the tables under a heading."""
    part = text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)


def test_it_is_short() -> None:
    """README.md has at most 10 KB."""
    assert len(README.encode()) <= LONGEST_README


def test_the_korean_one_has_every_section() -> None:
    """As many sections in the same order, with the same tables, code and commands (these in Korean)."""

    def shape(text: str) -> list[str]:
        lines = re.findall(r"^(?:#+ |\|---.*|```\w+$|\$ .*|!\[)", text, re.MULTILINE)
        return [line.replace(" --lang ko", "") for line in lines]

    assert shape(KOREAN) == shape(README)
    assert len(re.findall(r"^\| ", KOREAN, re.MULTILINE)) == len(re.findall(r"^\| ", README, re.MULTILINE))


@BOTH
def test_two_set_up_commands(text: str) -> None:
    """Two shell blocks of one line each: the first runs the quickstart, the second the tests; the same in Korean."""
    found = commands(text)

    assert found == commands(README)
    assert len(found) == 2
    assert all(command.count("\n") == 1 for command in found)
    assert all("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e " in c for c in found)
    assert found[0].endswith(" && .venv/bin/ko-cpt train quickstart\n")
    assert found[1].endswith(" && .venv/bin/python -m pytest\n")


def test_commands_name_files_that_exist() -> None:
    """Every file that a set-up command names is in the repository."""
    named = re.findall(r"[\w./-]+\.(?:py|txt)\b", " ".join(commands(README)))

    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_badges_are_true() -> None:
    """Python, transformers, licence and type checks are those of setup.cfg and pyproject.toml."""
    setup, project = ((ROOT / name).read_text("utf-8") for name in ("setup.cfg", "pyproject.toml"))

    assert "python-3.11%2B" in README and "python_requires = >=3.11" in setup
    assert "transformers-4.57%20%7C%205-" in README and "transformers>=4.57,<6" in setup
    assert "license-Apache--2.0" in README and "license = Apache-2.0" in setup
    assert "mypy-strict" in README and "strict = true" in project


def test_the_quickstart_s_two_perplexities() -> None:
    """Where the quickstart has run: exp of the Trainer's own loss and the exact one at the end are README's."""
    rows = ROOT / "runs" / "quickstart" / "stages" / "04-lora" / "ko_cpt" / "rows.jsonl"
    if not rows.is_file():
        pytest.skip("runs/quickstart is absent: ko-cpt train quickstart")
    found = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    last = [row for row in found if "eval_ko_exact_loss" in row][-1]

    for text in (README, KOREAN):
        (row,) = re.findall(r"^\| [^|]*\b8 \|.* (\d+) \|.* (\d+) \|$", text, re.MULTILINE)
        assert float(row[0]) == pytest.approx(math.exp(last["eval_ko_loss"]), rel=0.01)
        assert float(row[1]) == pytest.approx(last["eval_ko_ppl"], rel=0.01)


@LANGUAGES
def test_key_tables(folder: str) -> None:
    """The tables of row keys name every key in the order of keys.py."""
    text = (ROOT / folder / "numbers.md").read_text("utf-8")
    found = first_cells(text, "## What a row gets" if folder == "docs" else "## 행에 들어가는 값")

    assert found == [f"eval_{suffix}" for suffix in keys.EVAL_SUFFIXES] + list(keys.TRAIN_KEYS)


@LANGUAGES
def test_file_table(folder: str) -> None:
    """The table of files names what is written into the run folder."""
    text = (ROOT / folder / "numbers.md").read_text("utf-8")
    found = first_cells(text, "## What is written" if folder == "docs" else "## 기록되는 파일")

    assert found == [keys.RUN_FILE, keys.ROWS_FILE, keys.FINDINGS_FILE, f"{keys.EVAL_ROWS_FOLDER}/<set>-<step>.npz"]


@LANGUAGES
def test_tested_versions_are_the_pinned_ones(folder: str) -> None:
    """The table of tested versions says what the two constraints files pin."""
    text = (ROOT / folder / "guide.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z_]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)

    assert "transformers" in {name for name, _, _ in rows}
    for name, *versions in rows:
        for file, version in zip(("constraints.txt", "constraints-4.57.txt"), versions, strict=True):
            assert f"\n{name}=={version}\n" in (ROOT / file).read_text("utf-8"), (name, file)


@LANGUAGES
def test_the_releases_that_were_tried(folder: str) -> None:
    """The table has the releases of ``make test-versions``, dated, and of each all tests passed or were skipped."""
    text = (ROOT / folder / "guide.md").read_text("utf-8")
    (wanted,) = re.findall(r"^VERSIONS \?= (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    rows = re.findall(r"^\| ([\d.]+) \| [\d.]+ \| ([\d,]+) \| ([\d,]+) \| (\d+) \|$", text, re.MULTILINE)

    assert [version for version, *_ in rows] == wanted.split()
    for _, *counts in rows:
        tests, passed, skipped = (int(count.replace(",", "")) for count in counts)
        assert tests == passed + skipped
    assert re.search(r"`make test-versions`.*?\b20\d\d-\d\d-\d\d\b", text, re.DOTALL)


def test_the_korean_snippet_is_the_one_that_is_run() -> None:
    """The script with a bundled recipe is the same in both languages; a test runs the English one."""
    texts = [(ROOT / folder / "recipes.md").read_text("utf-8") for folder in ("docs", "docs/ko")]
    found = [re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for text in texts]
    ours, theirs = ([block for block in blocks if "Recipe.load" in block] for blocks in found)
    assert len(ours) == 1
    assert ours == theirs


PAGES = [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_imports_that_a_page_shows_work(page: Path) -> None:
    """Every line that imports this package, in a block of code or between back quotes, runs as it stands."""
    text = page.read_text("utf-8")
    shown = re.findall(r"^\s*((?:from|import) ko_cpt_callbacks\b.*)$", text, re.MULTILINE)
    shown += re.findall(r"`((?:from|import) ko_cpt_callbacks\b[^`…]*)`", text)

    assert shown or page.parent != ROOT
    for line in shown:
        exec(line, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_that_a_page_uses_can_be_imported(page: Path) -> None:
    """A class with its method between back quotes: the package itself has it."""
    used = re.findall(r"`([A-Z]\w+)\.([a-z_]\w*)\(", page.read_text("utf-8"))
    missing = [
        (name, method)
        for name, method in used
        if name in OURS and not hasattr(getattr(ko_cpt_callbacks, name, None), method)
    ]

    assert missing == []


@LANGUAGES
def test_jq_lines_of_the_guide(folder: str) -> None:
    """Each line that pipes a command into jq gives something."""
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    lines = re.findall(r"^ko-cpt (.*) \| jq (.*)$", (ROOT / folder / "guide.md").read_text("utf-8"), re.MULTILINE)
    asked = list(dict.fromkeys(command for command, _ in lines))
    ended = command_line.commands(*(shlex.split(command) for command in asked), folder=ROOT)
    assert not any(one.returncode for one in ended)
    printed = {command: one.stdout for command, one in zip(asked, ended, strict=True)}
    found = [
        subprocess.run(["jq", *shlex.split(rest)], input=printed[command], capture_output=True, text=True, check=True)
        for command, rest in lines
    ]

    assert found[0].stdout == "unfinished look\n"
    assert "3560 padding-in-loss\n" in found[1].stdout
    assert found[2].stdout == "true\n"


@LANGUAGES
def test_an_output_of_a_script(folder: str) -> None:
    """The page on extending has an output that a run can be given: it prints a finding's line."""
    text = (ROOT / folder / "extending.md").read_text("utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    space: dict[str, object] = {}
    exec(block, space)

    assert isinstance(space["callback"], ko_cpt_callbacks.KoCPTCallback)
