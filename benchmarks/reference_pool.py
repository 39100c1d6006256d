"""The pool that the reference text is drawn from: all documents of its kinds in packages of pinned versions and hashes.

Korean and English documents are twins: of two blocks at the same place of a page both are kept where the Korean one is
Korean. So one document says the same in both languages, and what was never translated is in neither. A block that many
pages have stands in the first of them.
"""

from __future__ import annotations

import hashlib
import html
import lzma
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
# Not protected by copyright: Korean Copyright Act, Article 7, item 1.
STATUTES = ROOT / "benchmarks" / "ko_statutes.txt.xz"
# Of the blocks of a document, how many must be translated; characters of a Korean document, at least and at most; those
# of articles of a statute that make one. All chosen, not measured.
TRANSLATED = 0.5
SHORTEST, LONGEST, ARTICLES = 80, 1200, 600

ARCHIVES = {
    "apache2-doc_2.4.68-1~deb12u1_all.deb": ("cee8fe80ffb5de2744cd690c3d795b489e43a1c44c4e3a634c521642f22d7835"),
    "crawl-common_2%3a0.28.0-1.1_all.deb": ("50c8f0091ba88538dde6585e5eddba02677bfe94d3ee4dc90a5bd3a788650f59"),
    "debian-history_2.28_all.deb": "ae364cdfd075bf6a08ca8f5105b44db7093e3b201c95d3b70a863b8849c6a082",
    "gnome-devel-docs_40.3-1_all.deb": "6089362d009f1c38b406fdf88da24d69965eaa5756097c50e0954bba5312bfbc",
    "gnome-user-docs_43.0-2_all.deb": "0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f",
    "installation-guide-amd64_20230508+deb12u1_all.deb": (
        "812c43e1dc906daf671e3efe953dc023205c238e5bd5a3021ce4ca142793573a"
    ),
    "libreoffice-help-en-us_4%3a7.4.7-1+deb12u14_all.deb": (
        "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712"
    ),
    "libreoffice-help-ko_4%3a7.4.7-1+deb12u14_all.deb": (
        "7ef2d854e9ed58e6bf861cfa9fa2579555233f9df874baf327fcb07ccd190669"
    ),
}

Block = tuple[str, str]
"""Tag and text."""
Pair = tuple[str, str]
"""A block in Korean and in English."""
Page = tuple[str, list[Pair]]
"""Name and blocks."""
Pages = dict[str, str]
"""The files of one language, by what the languages' paths have in common."""


@dataclass(frozen=True)
class Twin:
    """A document in both languages.

    Attributes:
        id: Its page, and its place there.
        korean: Text.
        english: Text; empty: there is none.
    """

    id: str
    korean: str
    english: str


def members(archive: Path, wanted: str, encoding: str = "utf-8") -> Pages:
    """Text files of a Debian package whose path fits, by the groups of the pattern, joined by slashes."""
    plain = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(plain)) as tar:
        found = [(item, re.search(wanted, item.name)) for item in tar if item.isfile()]
        return {
            "/".join(filter(None, fits.groups())): tar.extractfile(item).read().decode(encoding)  # type: ignore[union-attr]
            for item, fits in found
            if fits is not None
        }


def spaced(text: str) -> str:
    """On one line, single spaces."""
    return " ".join(text.split())


def is_korean(text: str) -> bool:
    """Whether most letters of a text are Hangul."""
    hangul = sum("가" <= letter <= "힣" for letter in text)
    return hangul > sum(letter.isascii() and letter.isalpha() for letter in text)


def translated(pairs: list[Pair]) -> list[Pair]:
    """Blocks that are Korean, with the English ones; none where they are too few of all."""
    kept = [(ko, en) for ko, en in pairs if ko != en and is_korean(ko)]
    return kept if len(kept) >= TRANSLATED * len(pairs) else []


def cut(pairs: list[Pair]) -> Iterator[list[Pair]]:
    """Blocks of a page in parts that are not too long."""
    part: list[Pair] = []
    for pair in pairs:
        if part and sum(len(ko) for ko, _ in (*part, pair)) > LONGEST:
            yield part
            part = []
        part.append(pair)
    yield part


def documents(pages: Iterator[Page]) -> list[Twin]:
    """Pages as documents, each block in the first that has it; what is too short is left out."""
    seen: set[str] = set()
    texts: set[str] = set()
    found = []
    for name, pairs in pages:
        kept = translated([pair for pair in dict.fromkeys(pairs) if pair[0] not in seen])
        seen.update(ko for ko, _ in kept)
        for number, part in enumerate(cut(kept)):
            korean, english = ("\n".join(pair[side] for pair in part).strip() for side in (0, 1))
            if len(korean) >= SHORTEST and english not in texts:
                texts.update(filter(None, [english]))
                found.append(Twin(f"{name}/{number}" if number else name, korean, english))
    return found


class Sections(HTMLParser):
    """Sections of an HTML page by the anchor of their heading, in order; programs and terms are left out."""

    _BLOCK = re.compile(r"h[1-6]|p|li|dt|dd|td|th|div|table|ul|ol|dl|tr|body")
    _NO_TEXT = frozenset({"pre", "script", "style", "title", "dt"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[Block]] = {"": []}
        self._section, self._tag, self._text, self._out = "", "", "", 0
        self.feed(page)
        self._end()

    def _end(self) -> None:
        if spaced(self._text):
            self.found[self._section].append((self._tag, spaced(self._text)))
        self._text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """A block or a section may begin."""
        heading = re.fullmatch("h[1-6]", tag) is not None
        if self._BLOCK.fullmatch(tag):
            self._end()
            self._tag = tag
        if heading:
            self._section = f"{len(self.found):02}"
            self.found[self._section] = []
        named = dict(attrs)
        anchor = named.get("id") or named.get("name")
        if anchor and (heading or tag == "a") and re.fullmatch("h[1-6]", self._tag) and not self._text.strip():
            self.found.pop(self._section)
            self._section = anchor
            self.found.setdefault(anchor, [])
        self._out += tag in self._NO_TEXT

    def handle_endtag(self, tag: str) -> None:
        """A block may end."""
        if self._BLOCK.fullmatch(tag):
            self._end()
            self._tag = ""
        self._out -= tag in self._NO_TEXT

    def handle_data(self, data: str) -> None:
        """Text of a block."""
        if not self._out:
            self._text += data.replace("¶", "")


def html_pages(korean: Pages, english: Pages) -> Iterator[Page]:
    """Sections of the pages that both languages have."""
    for name in sorted(korean.keys() & english.keys()):
        ours, theirs = Sections(korean[name]).found, Sections(english[name]).found
        for section, blocks in ours.items():
            yield f"{name}#{section}", paired(blocks, theirs.get(section, []))


def paired(korean: list[Block], english: list[Block]) -> list[Pair]:
    """Blocks at the same place; none where the languages differ in them."""
    if [tag for tag, _ in korean] != [tag for tag, _ in english]:
        return []
    return [(ko, en) for (_, ko), (_, en) in zip(korean, english, strict=True)]


def server_pages(sources: Path) -> Iterator[Page]:
    """The manual of the Apache HTTP server, without its lists; three of the pages in its English folder are not."""
    archive = sources / "apache2-doc_2.4.68-1~deb12u1_all.deb"
    korean = members(archive, r"manual/ko/((?!mod/(?:directives|quickreference))[^ ]*)\.html$", "cp949")
    english = members(archive, r"manual/en/(.*)\.html$", "latin-1")
    yield from html_pages(korean, {name: page for name, page in english.items() if '<html lang="en"' in page})


def debian_pages(sources: Path) -> Iterator[Page]:
    """The installation guide of Debian, and a history of the project."""
    guide = sources / "installation-guide-amd64_20230508+deb12u1_all.deb"
    yield from html_pages(*(members(guide, rf"(guide)-amd64/{side}/([\w.-]+)\.html$") for side in ("ko", "en")))
    history = sources / "debian-history_2.28_all.deb"
    wanted = r"(history)/docs/((?!index)\w+)"
    yield from html_pages(*(members(history, rf"{wanted}\.{side}\.html$") for side in ("ko", "en")))


MALLARD = "{http://projectmallard.org/1.0/}"
MALLARD_ARCHIVES = {"help": "gnome-user-docs_43.0-2_all.deb", "programming": "gnome-devel-docs_40.3-1_all.deb"}


def mallard(page: str) -> Any:
    """A page of help, as XML."""
    return ElementTree.fromstring(re.sub(r"</key>\s*<key>", "</key>+<key>", page))


def mallard_blocks(page: str) -> list[Block]:
    """Titles and paragraphs of a page of help; its head is left out."""
    found = []

    def walk(element: Any) -> None:
        for child in element:
            tag = child.tag.removeprefix(MALLARD) if isinstance(child.tag, str) else ""
            if tag in ("title", "p"):
                found.append((tag, spaced("".join(child.itertext()))))
            elif tag != "info":
                walk(child)

    walk(mallard(page))
    return found


def mallard_credits(pages: Pages) -> set[str]:
    """Who wrote and translated pages of help."""
    credits = [credit for page in pages.values() for credit in mallard(page).iter(f"{MALLARD}credit")]
    return {spaced(name.text or "") for credit in credits for name in credit.iter(f"{MALLARD}name")} - {""}


def mallard_files(sources: Path, archive: str, language: str) -> Pages:
    """Pages of help of GNOME's users or developers; the books that are under CC BY-SA 3.0."""
    books = "gnome-help|system-admin-guide|gnome-devel-demos|platform-overview|programming-guidelines"
    return members(sources / archive, rf"/usr/share/help/{language}/({books})/([\w.-]+)\.page$")


def mallard_pages(sources: Path, archive: str) -> Iterator[Page]:
    """Pages of help that both languages have."""
    korean, english = (mallard_files(sources, archive, language) for language in ("ko", "C"))
    for name in sorted(korean.keys() & english.keys()):
        yield name, paired(mallard_blocks(korean[name]), mallard_blocks(english[name]))


_LO_BLOCK = re.compile(r'<(p|h[1-6]) id="([\w]+)"[^>]*>(.*?)</\1>', re.S)


def office_blocks(page: str) -> Pages:
    """Paragraphs and headings of a LibreOffice help page by id; those that differ by system are left out."""
    plain = {name: part for _, name, part in _LO_BLOCK.findall(page) if 'hidden="true"' not in part}
    return {name: spaced(html.unescape(re.sub(r"<[^>]+>", "", part))) for name, part in plain.items()}


def office_pages(sources: Path) -> Iterator[Page]:
    """LibreOffice's help."""
    files = [sources / f"libreoffice-help-{language}_4%3a7.4.7-1+deb12u14_all.deb" for language in ("ko", "en-us")]
    korean, english = (members(file, r"/help/(?:ko|en-US)/text/(.*)\.html$") for file in files)
    for path in sorted(korean):
        ours, theirs = office_blocks(korean[path]), office_blocks(english.get(path, ""))
        yield path, [(ours[name], theirs[name]) for name in ours if name in theirs]


def game_pages(sources: Path) -> Iterator[Page]:
    """Descriptions of Dungeon Crawl Stone Soup, an entry each; quotations and what is computed are left out."""
    archive = sources / "crawl-common_2%3a0.28.0-1.1_all.deb"
    wanted = r"((?!quotes|tutorial|hints|commands)\w+)\.txt$"
    korean, english = (members(archive, rf"/descript/{folder}{wanted}") for folder in ("ko/", ""))
    for name in sorted(korean.keys() & english.keys()):
        ours, theirs = game_entries(korean[name]), game_entries(english[name])
        for key, text in ours.items():
            if text and theirs.get(key):
                yield f"{name}#{key}", [(text, theirs[key])]


def game_entries(file: str) -> Pages:
    """Entries of a file of the game, without markup."""
    entries = [entry.strip().partition("\n") for entry in re.split(r"(?m)^%%%%\s*$", file)]
    return {key: spaced(re.sub(r"<[^>]+>", "", text)) for key, _, text in entries if "{{" not in text}


def law_pages(_: Path) -> Iterator[Page]:
    """Six statutes of the Republic of Korea without their addenda; articles one after the other until long enough."""
    for statute in lzma.decompress(STATUTES.read_bytes()).decode().split("\n\n"):
        name = statute.partition("\n")[0]
        lines: list[Pair] = []
        number = 0
        for line in statute.splitlines():
            if re.match(r"제 ?\d+(조|장|절|편)", line) and sum(len(ko) for ko, _ in lines) >= ARTICLES:
                yield f"{name}/{number:03}", lines
                lines, number = [], number + 1
            lines.append((line, ""))
        yield f"{name}/{number:03}", lines


KINDS: dict[str, Callable[[Path], Iterator[Page]]] = {
    "office": office_pages,
    "help": lambda sources: mallard_pages(sources, MALLARD_ARCHIVES["help"]),
    "programming": lambda sources: mallard_pages(sources, MALLARD_ARCHIVES["programming"]),
    "debian": debian_pages,
    "server": server_pages,
    "game": game_pages,
    "law": law_pages,
}
"""Where the documents of a kind come from."""


def pool(sources: Path) -> dict[str, list[Twin]]:
    """All documents, by kind.

    Args:
        sources: Folder of the archives.

    Raises:
        SystemExit: If an archive is not there, or is another version: the text would be another one.
    """
    check_archives(sources, ARCHIVES)
    return {kind: documents(pages(sources)) for kind, pages in KINDS.items()}


def check_archives(sources: Path, archives: Mapping[str, str]) -> None:
    """Refuse other versions: the text would be another one."""
    for name, wanted in archives.items():
        path = sources / name
        if not path.is_file():
            raise SystemExit(f"{path}: found nothing, expected the archive; apt-get download it (Debian 12)")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != wanted:
            raise SystemExit(f"{path}: found SHA-256 {found}, expected {wanted}")
