"""README and docs: links, transcripts, the picture and the API page are what they say, in both languages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ended, commands
from docs_script import script_of_docs

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
EACH = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


TRANSCRIPTS = script_of_docs("transcripts")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#{1,6} (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.M)
    plain = (re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead, outside of code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


@EACH
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file or folder of the repository, and its anchor to a heading there."""
    missing = []
    for link in links(page.read_text("utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            missing.append(link)
    assert missing == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    """Links are seen in prose and in tables, with their anchors, and not in code."""
    text = "[a](b.md#c) | ![d](e.svg) |\n`[f](g.md)`\n```sh\n[h](i.md)\n```\n## One, `two` [three](x.md)\n"

    assert links(text) == ["b.md#c", "e.svg", "x.md"]
    assert anchors(text) == {"one-two-three"}


def test_every_page_is_reached() -> None:
    """From README.md and README.ko.md a reader gets to every page of docs by links."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md", ROOT / "README.ko.md", DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = (link.partition("#")[0] for link in links(page.read_text("utf-8")) if "://" not in link)
        waiting += [path for path in ((page.parent / name).resolve() for name in targets) if path.suffix == ".md"]

    assert [str(page) for page in DOCS.rglob("*.md") if page not in reached] == []


def test_the_site_has_every_page() -> None:
    """The navigation of mkdocs.yml names each page of docs, those of single findings aside, and no other."""
    named = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.parent.name != "findings"]

    assert sorted(named) == sorted([*pages, "findings/README.md"])


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, str]], Ended]:
    """`ran` of the script, from one process for the commands of all pages."""
    blocks = (block for page in TRANSCRIPTS.pages() for block in TRANSCRIPTS.blocks(page.read_text("utf-8")))
    asked = sorted({block["command"] for block in blocks if TRANSCRIPTS.available(block["command"])})
    empty = str(tmp_path_factory.mktemp("empty"))
    variables = {"COLUMNS": str(TRANSCRIPTS.COLUMNS), "NO_COLOR": "1", "KO_CPT_BASELINES": empty}
    ended = commands(*(shlex.split(command)[1:] for command in asked), folder=ROOT, **variables)
    found = dict(zip(asked, ended, strict=True))

    def ran(command: str, others: dict[str, str]) -> Ended:
        assert others.keys() == variables.keys()
        said = found[command]
        return said._replace(stdout=said.stdout.replace(empty, others["KO_CPT_BASELINES"]))

    return ran


@pytest.mark.parametrize("page", TRANSCRIPTS.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_transcripts_are_what_the_commands_print(
    page: Path, printed: Callable[[str, dict[str, str]], Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block that begins with `$ ko-cpt …` is the command's output; the quickstart's where that run is there."""
    monkeypatch.setattr(TRANSCRIPTS, "ran", printed)
    text = page.read_text("utf-8")

    assert TRANSCRIPTS.renewed(text)[0] == text, "run: make docs"


def test_no_transcript_is_typed() -> None:
    """A prompt stands only in a block that the script renews; docs/recipe.md is made whole by a script of its own."""
    for page in (page for page in TRANSCRIPTS.pages() if page.name != "recipe.md"):
        text = page.read_text("utf-8")
        renewed = sum(1 for _ in TRANSCRIPTS.blocks(text))
        assert len(re.findall(r"^\$ ", text, re.MULTILINE)) == renewed, page


def test_a_transcript_that_has_drifted_is_renewed() -> None:
    """Other words are replaced; numbers of the quickstart may differ by 1 %, those of other commands may not."""
    text = "```console\n$ ko-cpt explain no-such-code-but-help --help\nold\n```\n"
    found, absent = TRANSCRIPTS.renewed(text.replace("no-such-code-but-help --help", "plateau"))

    assert absent == [] and "old" not in found and "plateau" in found
    assert TRANSCRIPTS.same("loss 5.808  ok\n", "loss 5.812 ok\n", rounded=True)
    assert not TRANSCRIPTS.same("loss 5.808 ok\n", "loss 5.912 ok\n", rounded=True)
    assert not TRANSCRIPTS.same("loss 5.808 ok\n", "loss 5.808 bad\n", rounded=True)
    assert not TRANSCRIPTS.same("loss 5.808 ok\n", "loss 5.809 ok\n", rounded=False)


def test_a_transcript_of_an_absent_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the quickstart's run its blocks stay as they are, and are said to."""
    monkeypatch.setattr(TRANSCRIPTS, "ROOT", tmp_path)
    text = "```console\n$ ko-cpt check runs/quickstart\nold\n```\n"

    assert TRANSCRIPTS.renewed(text) == (text, ["ko-cpt check runs/quickstart"])


def test_a_transcript_is_cut_where_the_page_says() -> None:
    """`<!-- first 3 lines -->` keeps three lines and marks the cut."""
    text = "<!-- first 3 lines -->\n```console\n$ ko-cpt explain plateau\n```\n"
    found, _ = TRANSCRIPTS.renewed(text)

    assert found.count("\n") == 3 + 5 and found.endswith("\n…\n```\n")


@pytest.mark.parametrize("name", ["picture", "api"])
def test_made_pages_are_current(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """README's picture and docs/api.md are as their scripts would write them now."""
    status = script_of_docs(name).main(check=True)

    assert (status, capsys.readouterr().out) == (0, ""), "run: make docs"


def test_every_page_is_there_in_korean() -> None:
    """Each page written by hand has its Korean one, with as many sections."""
    made_or_english = {"api.md", "recipe.md", "registry.md", "detection.md", "forecast.md"}
    english = {path.name: path for path in DOCS.glob("*.md") if path.name not in made_or_english}

    for name, path in english.items():
        theirs = DOCS / "ko" / name
        assert theirs.is_file(), name
        assert _headings(theirs) == _headings(path), name


def _headings(path: Path) -> list[int]:
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)]
