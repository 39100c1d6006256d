"""A larger text of the kinds of the reference text: pages of Debian 12 that it does not have, Korean beside English.

`office` is all of LibreOffice's help, `help` that of GNOME's developers and of the GIMP, `history` other documents of
the Debian project (installation guide, questions). Of the declaration and the constitution there is no more. Pages
become documents by the rules of `reference_text.py`; a block that stands in the reference text, or in an earlier page,
is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import reference_text as made
from reference_text import Blocks, Twin

ARCHIVES = {
    **made.ARCHIVES,
    "debian-faq-ko_11.1_all.deb": ("1e010227c0e7497b836e195beedcda60f3e9b8856f19f211cbbdc5e91b4a5d7a"),
    "debian-faq_11.1_all.deb": ("427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0"),
    "gimp-help-en_2.10.34-2_all.deb": ("a2deec76763aaf2fcdd197bac0736cdcb0770ba993d48d233329e1c92b0bfe36"),
    "gimp-help-ko_2.10.34-2_all.deb": ("c8094280b19d858cc32b6d9278d7d6126bf41c05f6fcc45d2c07ee41b68f750b"),
    "gnome-devel-docs_40.3-1_all.deb": ("6089362d009f1c38b406fdf88da24d69965eaa5756097c50e0954bba5312bfbc"),
    "installation-guide-amd64_20230508+deb12u1_all.deb": (
        "812c43e1dc906daf671e3efe953dc023205c238e5bd5a3021ce4ca142793573a"
    ),
}

Blocky = tuple[str, list[tuple[str, str]]]
"""A page's id, and its blocks in Korean and English."""


def more_documents(sources: Path, had: dict[str, list[Twin]]) -> dict[str, list[Twin]]:
    """Documents by domain that the reference text does not have.

    Args:
        sources: Folder of the archives.
        had: The reference text's, by domain.
    """
    seen = {line for twins in had.values() for _, korean, _ in twins for line in korean.split("\n")}
    found: dict[str, list[Twin]] = {}
    for domain, pages in (("help", _help(sources)), ("office", _office(sources)), ("history", _debian(sources))):
        for name, blocks in pages:
            fresh = [pair for pair in dict.fromkeys(blocks) if pair[0] not in seen]
            both = made.twins(fresh)
            if both is not None:
                seen.update(korean for korean, _ in fresh)
                found.setdefault(domain, []).append((name, *both))
    return found


def _help(sources: Path) -> Iterator[Blocky]:
    for archive in ("gnome-user-docs_43.0-2_all.deb", "gnome-devel-docs_40.3-1_all.deb"):
        pages = made.members(sources / archive, re.compile(r"/usr/share/help/(ko|C)/[\w-]+/[\w.-]+\.page$"))
        for path in sorted(path for path in pages if "/help/ko/" in path):
            other = pages.get(path.replace("/help/ko/", "/help/C/"))
            if other is not None:
                yield from _paired(path, made.mallard_blocks(pages[path]), made.mallard_blocks(other))
    gimp = [f"gimp-help-{language}_2.10.34-2_all.deb" for language in ("ko", "en")]
    yield from _html(sources, *gimp, "/help/ko", "/help/en")


def _office(sources: Path) -> Iterator[Blocky]:
    files = [sources / name for name in ARCHIVES if name.startswith("libreoffice")]
    wanted = re.compile(r"/text/.*\.html$")
    korean, english = (
        {path.rpartition("/text/")[2]: page for path, page in made.members(file, wanted).items()} for file in files
    )
    for path in sorted(korean):
        ours, theirs = made.office_blocks(korean[path]), made.office_blocks(english.get(path, ""))
        yield path, [(ours[name], theirs[name]) for name in ours if name in theirs]


def _debian(sources: Path) -> Iterator[Blocky]:
    guide = "installation-guide-amd64_20230508+deb12u1_all.deb"
    yield from _html(sources, guide, guide, "amd64/ko", "amd64/en")
    yield from _html(sources, "debian-faq-ko_11.1_all.deb", "debian-faq_11.1_all.deb", "FAQ/ko", "FAQ")


def _html(sources: Path, korean: str, english: str, ours: str, theirs: str) -> Iterator[Blocky]:
    """Pages of two archives, or of one, that have one name but for the language."""
    sides = []
    for archive, folder, ending in ((korean, ours, ".ko."), (english, theirs, ".en.")):
        pages = made.members(sources / archive, re.compile(rf"{folder}/[\w.-]+\.html$"))
        sides.append({path.rpartition("/")[2].replace(ending, "."): page for path, page in pages.items()})
    for name in sorted(sides[0].keys() & sides[1].keys()):
        yield from _paired(f"{ours}/{name}", Blocks(sides[0][name]).found, Blocks(sides[1][name]).found)


def _paired(name: str, korean: list[tuple[str, str]], english: list[tuple[str, str]]) -> Iterator[Blocky]:
    """Blocks at the same place; nothing where the languages differ in them."""
    if [tag for tag, _ in korean] == [tag for tag, _ in english]:
        yield name, [(ko, en) for (_, ko), (_, en) in zip(korean, english, strict=True)]
