"""The pages of docs/findings say what the code does: compared word for word, their examples judged again."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from docs_script import script_of_docs

from ko_cpt_callbacks.messages.catalogue import catalogue, codes
from ko_cpt_callbacks.rules.registry import ALL_RULES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "findings"
README = (ROOT / "README.md").read_text("utf-8")
EACH = pytest.mark.parametrize("code", codes())
SEVERITIES = {"error", "warning", "info"}


@pytest.fixture
def script() -> ModuleType:
    """docs/findings.py."""
    return script_of_docs("findings")


def _page(code: str) -> str:
    return (FOLDER / f"{code}.md").read_text("utf-8")


def _section(text: str, heading: str) -> str:
    """What stands under a heading, as words."""
    part = re.sub(r"(?m)^- ", "", text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0])
    return " ".join(re.sub(r"<!--.*?-->", "", part).split())


def _severities_of_the_rule(code: str) -> set[str]:
    """The severities that the rule's metadata names; `tests/contract/test_rules.py` asks whether they are said."""
    (rule,) = (rule for rule in ALL_RULES if rule.code == code)
    return {one.value for one in rule.info.severities}


def test_a_page_for_every_code() -> None:
    """The folder holds a page for each code, the index, and nothing else."""
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(["README.md", *(f"{code}.md" for code in codes())])


def test_the_pages_are_what_the_code_says(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Every page and the index are as docs/findings.py would write them now; if not: `make docs`."""
    status = script.main(check=True)

    assert (status, capsys.readouterr().out) == (0, ""), "run: make docs"


@EACH
def test_the_words_of_explain(code: str) -> None:
    """Title, meaning, decision and action are those of `ko-cpt explain`, word for word."""
    text, said = _page(code), catalogue().explanation(code)

    assert text.startswith(f"# `{code}`\n")
    assert _section(text, "What it means") == " ".join(said.meaning.split())
    assert _section(text, "How it is decided") == " ".join(said.decided.split())
    assert _section(text, "What to do") == " ".join(said.advice.split())


@EACH
def test_the_severities(code: str) -> None:
    """Page and rule know the same severities, and the page has an example of each."""
    line = re.search(r"^Severity: (.*?)\. ", _page(code), re.MULTILINE)
    assert line is not None
    known = _severities_of_the_rule(code)

    assert known
    assert set(re.findall(r"[a-z]+", line[1])) & SEVERITIES == known
    assert set(re.findall(rf"^\[([a-z]+)\] {code}[ :]", _page(code), re.MULTILINE)) == known


@EACH
def test_whether_it_may_stop_a_run(code: str) -> None:
    """A page names stop_on where the explanation says that the finding asks to stop, and only there."""
    decided = catalogue().explanation(code).decided
    asks = re.search(r"(?<!finding that )asks to stop", decided, re.IGNORECASE) is not None

    assert (f'May stop a run: `stop_on={{"{code}"}}`.' in _page(code)) == asks
    assert ("Never stops a run." in _page(code)) != asks


@EACH
def test_what_is_written_by_hand(code: str, script: ModuleType) -> None:
    """It says what the finding is not, and its links lead to pages."""
    by_hand = script.middle(FOLDER / f"{code}.md")
    links = re.findall(r"\]\(([^)]+)\)", by_hand)

    assert by_hand != script.MIDDLE
    assert re.match(r"## What it is not\n\n- \S", by_hand)
    assert [link for link in links if not (FOLDER / link).is_file()] == []
    assert [link for link in links if link == f"{code}.md"] == []


@EACH
def test_the_numbers_of_the_rule(code: str) -> None:
    """Every number that a rule is made with is in the page's table, with what it is."""
    (rule,) = (rule for rule in ALL_RULES if rule.code == code)
    numbers = {
        name
        for name in getattr(rule, "__dataclass_fields__", {})
        if isinstance(getattr(rule, name), int | float) and not isinstance(getattr(rule, name), bool)
    }
    rows = dict(re.findall(r"^\| `(\w+)` \| \S+ \| (.+) \|$", _page(code), re.MULTILINE))

    assert set(rows) == numbers
    assert all(rows.values())


def test_the_index(script: ModuleType) -> None:
    """A row for every code, with a link; README.md links to the index."""
    text = (FOLDER / "README.md").read_text("utf-8")
    found = re.findall(r"^\| \[`([a-z-]+)`\]\(([a-z-]+)\.md\) \|", text, re.MULTILINE)

    assert sorted(code for code, _ in found) == list(codes())
    assert all(code == page for code, page in found)
    assert "](docs/findings/README.md)" in README


def test_the_korean_page() -> None:
    """It has every code, with the words of `ko-cpt explain CODE --lang ko`, and a link to the code's page."""
    text = (ROOT / "docs" / "ko" / "findings.md").read_text("utf-8")
    found = re.findall(r"^## \[`([a-z-]+)`\]\(\.\./findings/([a-z-]+)\.md\)$", text, re.MULTILINE)
    words = " ".join(re.sub(r"(?m)^- ", "", text).split())

    assert sorted(code for code, _ in found) == list(codes())
    assert all(code == page for code, page in found)
    for code in codes():
        said = catalogue("ko").explanation(code)
        assert " ".join(said.meaning.split()) in words and " ".join(said.advice.split()) in words


def test_a_page_that_has_drifted(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named with the command that mends it, which keeps what was written by hand."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "findings"))
    monkeypatch.setattr(script, "FOLDER", folder)
    page = folder / "diverged.md"
    right = page.read_text("utf-8")
    mended = right.replace("is not\n\n- ", "is not\n\n- Mine. ", 1)
    drifted = mended.replace("The training loss left its level", "It rose")
    page.write_text(drifted, "utf-8")
    (folder / "plateau.md").unlink()

    assert script.main(check=True) == 1
    said = capsys.readouterr().out
    assert "findings/diverged.md" in said and "findings/plateau.md" in said
    assert said.endswith("python docs/findings.py\n")
    assert page.read_text("utf-8") == drifted

    assert script.main(check=False) == 0
    assert page.read_text("utf-8") == mended
    assert script.MIDDLE in (folder / "plateau.md").read_text("utf-8")


def test_a_page_without_its_marks(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is overwritten where it is not known what was written by hand."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "findings"))
    monkeypatch.setattr(script, "FOLDER", folder)
    (folder / "diverged.md").write_text("# `diverged`\n", "utf-8")

    assert script.main(check=False) == 1
    assert "diverged.md: expected a line" in capsys.readouterr().out
    assert (folder / "diverged.md").read_text("utf-8") == "# `diverged`\n"
