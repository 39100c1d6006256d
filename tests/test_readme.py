"""What README says is so: its commands, paths and tables are compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ko_cpt_callbacks
from ko_cpt_callbacks import keys
from ko_cpt_callbacks.messages.catalogue import codes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")
KOREAN = (ROOT / "README.ko.md").read_text("utf-8")
OURS = ("Baseline", "Finding", "KoCPTCallback", "MemoryOutput", "Monitor", "Output", "Recipe", "Target")
BOTH = pytest.mark.parametrize("text", [README, KOREAN], ids=["README.md", "README.ko.md"])


def commands(text: str) -> list[str]:
    """The bodies of the shell blocks."""
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def first_cells(text: str, heading: str) -> list[str]:
    """What stands in back quotes in the first column of the tables under a heading."""
    part = text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)


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


@BOTH
def test_links_lead_somewhere(text: str) -> None:
    """Every relative link and every path in back quotes that begins with a folder of the repository exists."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    quoted = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)

    assert links
    assert [name for name in [*links, *quoted] if not (ROOT / name).exists()] == []


def test_findings_table() -> None:
    """The table of findings has every code, and no other."""
    assert sorted(first_cells(README, "## Findings")) == sorted(codes())


def test_key_tables() -> None:
    """The tables of row keys name every key in the order of keys.py."""
    found = first_cells(README, "## What a row gets")

    assert found == [f"eval_{suffix}" for suffix in keys.EVAL_SUFFIXES] + list(keys.TRAIN_KEYS)


def test_file_table() -> None:
    """The table of files names what is written into the run folder."""
    found = first_cells(README, "## What is written")

    assert found == [keys.RUN_FILE, keys.ROWS_FILE, keys.FINDINGS_FILE, f"{keys.EVAL_ROWS_FOLDER}/<set>-<step>.npz"]


@pytest.mark.parametrize("text", [README, KOREAN], ids=["README.md", "README.ko.md"])
def test_tested_versions_are_the_pinned_ones(text: str) -> None:
    """The table of tested versions says what the two constraints files pin."""
    rows = re.findall(r"^\| ([a-z_]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)

    assert "transformers" in {name for name, _, _ in rows}
    for name, *versions in rows:
        for file, version in zip(("constraints.txt", "constraints-4.57.txt"), versions, strict=True):
            assert f"\n{name}=={version}\n" in (ROOT / file).read_text("utf-8"), (name, file)


def test_the_korean_snippet_is_the_one_that_is_run() -> None:
    """The script with a bundled recipe is the same in both languages; a test runs the English one."""
    found = [re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for text in (README, KOREAN)]
    ours, theirs = ([block for block in blocks if "Recipe.load" in block] for blocks in found)
    assert len(ours) == 1
    assert ours == theirs


PAGES = [ROOT / "README.md", ROOT / "README.ko.md", *sorted((ROOT / "docs" / "findings").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_imports_that_a_page_shows_work(page: Path) -> None:
    """Every line that imports this package, in a block of code or between back quotes, runs as it stands."""
    text = page.read_text("utf-8")
    shown = re.findall(r"^\s*((?:from|import) ko_cpt_callbacks\b.*)$", text, re.MULTILINE)
    shown += re.findall(r"`((?:from|import) ko_cpt_callbacks\b[^`]*)`", text)

    assert shown or page.parent != ROOT
    for line in shown:
        exec(line, {})


@BOTH
def test_names_that_a_page_uses_can_be_imported(text: str) -> None:
    """`target_from_baseline(…)`, or a class with its method: the package itself has it."""
    used = [
        (name, method) for name, method in re.findall(r"`([A-Z]\w+)\.([a-z_]\w*)\(", text) if name in OURS
    ]  # fmt: skip

    assert "`target_from_baseline(" in text and hasattr(ko_cpt_callbacks, "target_from_baseline")
    assert [one for one in used if not hasattr(getattr(ko_cpt_callbacks, one[0], None), one[1])] == []
