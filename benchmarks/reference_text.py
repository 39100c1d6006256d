"""Draw the reference text of ``ko-cpt measure`` from its pool; always the same bytes.

``python benchmarks/reference_text.py SOURCES [--check]``

Of every kind of the pool (``reference_pool.py``) a tenth, drawn at random: documents in the order of the SHA-256 of
version, kind and id, as many as are a tenth of the Korean bytes at most. So each kind has the same share of the text as
of the pool, and the text says of the pool what a random sample says.

SOURCES is a folder with the pool's archives (``make reference-text`` has them fetched into ``build/reference``). The
statutes are in this repository. ``--check`` writes nothing and fails where a file differs from what would be written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import reference_pool
from reference_pool import ARCHIVES, ROOT, STATUTES, Twin

TARGET = ROOT / "ko_cpt_callbacks" / "reference"
VERSION = "2026-11-30"
SHARE = 10
NOTE = (
    "Old text of the web, there for years: models have most likely been trained on it. Numbers on it compare models; "
    "they do not say how a model does on text that it has not seen."
)
DRAWN = "of every kind a tenth of the Korean bytes at most, documents in the order of the SHA-256 of 'version kind id'"
CHANGED = (
    "Changed in November 2026: markup removed, a draw of the documents, blocks without a Korean translation left out"
)


@dataclass(frozen=True)
class Origin:
    """Where the documents of one kind come from.

    Attributes:
        about: What they are, in a phrase.
        license: SPDX.
        share_alike: Whether what is made of them must stay under it.
        source: Package or file, with its version.
        url: Where it is from.
        notice: Who has the copyright, and what the license wants said.
    """

    about: str
    license: str
    share_alike: bool
    source: str
    url: str
    notice: str


_GPL = (
    f"{CHANGED}, by `benchmarks/reference_text.py` of ko_cpt_callbacks. What it is written as: the address above, or "
    "`apt-get source` of the package. License: the GNU General Public License, which stands in GPL-2.txt beside this "
    "page; without any warranty."
)
_CC = f"{CHANGED}. License: https://creativecommons.org/licenses/by-sa/3.0/"

ORIGINS = {
    "office": Origin(
        "help of LibreOffice", "MPL-2.0", True,
        "Debian libreoffice-help-ko and libreoffice-help-en-us 4:7.4.7-1+deb12u14", "https://git.libreoffice.org/help",
        "Copyright 2000, 2010 Oracle and/or its affiliates; Copyright (c) 2000, 2010 LibreOffice contributors and/or "
        "their affiliates. This file incorporates work that the Apache Software Foundation licensed under the Apache "
        f"License, Version 2.0. {CHANGED}. This Source Code Form is subject to the terms of the Mozilla Public "
        "License, v. 2.0. If a copy of the MPL was not distributed with this file, You can obtain one at "
        "https://mozilla.org/MPL/2.0/.",
    ),
    "help": Origin(
        "user help of the GNOME desktop", "CC-BY-SA-3.0", True, "Debian gnome-user-docs 43.0-2",
        "https://gitlab.gnome.org/GNOME/gnome-user-docs",
        "Copyright (C) 2010 - 2014 Shaun McCance and the authors and translators of the pages: {names}. " + _CC,
    ),
    "programming": Origin(
        "guides for developers of the GNOME desktop", "CC-BY-SA-3.0", True, "Debian gnome-devel-docs 40.3-1",
        "https://download.gnome.org/sources/gnome-devel-docs/",
        "Copyright 2012 GNOME Documentation Team and the authors and translators of the pages: {names}. " + _CC,
    ),
    "debian": Origin(
        "installation guide of Debian, and a history of the project", "GPL-2.0-only", True,
        "Debian installation-guide-amd64 20230508+deb12u1 and debian-history 2.28",
        "https://salsa.debian.org/installer-team/installation-guide, "
        "https://salsa.debian.org/ddp-team/project-history",
        "Installation guide: Copyright 2004-2023 by the Debian Installer team, and by other contributors; version 2. "
        "History: Copyright (c) 1999-2004 Bdale Garbee; Copyright (c) 1999-2020 Debian Documentation Team; Copyright "
        "(c) 2023 Debian Publicity Team; version 2 or any later version. This document may be freely redistributed "
        f"or modified in any form provided your changes are clearly documented. {_GPL}",
    ),
    "server": Origin(
        "manual of the Apache HTTP server", "Apache-2.0", False, "Debian apache2-doc 2.4.68-1~deb12u1",
        "https://httpd.apache.org/docs/2.4/",
        "Copyright The Apache Software Foundation. This product includes software developed at The Apache Software "
        f"Foundation (https://www.apache.org/). {CHANGED}. License: https://www.apache.org/licenses/LICENSE-2.0, the "
        "one that `ko_cpt_callbacks` is under as well.",
    ),
    "game": Origin(
        "descriptions of the game Dungeon Crawl Stone Soup", "GPL-2.0-or-later", True,
        "Debian crawl-common 2:0.28.0-1.1", "https://github.com/crawl/crawl",
        "Copyright 1997-2016 Linley Henzell, the dev team, and the contributors. Version 2 or any later version. "
        f"{_GPL}",
    ),
    "law": Origin(
        "articles of four Korean statutes, of six in the pool; Korean alone", "LicenseRef-not-protected",
        False, f"benchmarks/{STATUTES.name}", "https://www.law.go.kr",
        "Not protected by copyright: Korean Copyright Act, Article 7, item 1.",
    ),
}  # fmt: skip


def drawn(kind: str, documents: Sequence[Twin]) -> list[Twin]:
    """The documents of a kind that are in the reference text, in the pool's order."""

    def place(twin: Twin) -> str:
        return hashlib.sha256(f"{VERSION} {kind} {twin.id}".encode()).hexdigest()

    order = sorted(documents, key=place)
    chosen = set(order[: fitting([len(twin.korean.encode()) for twin in order])])
    return [twin for twin in documents if twin in chosen]


def fitting(sizes: Sequence[int]) -> int:
    """How many of the first documents are at most a tenth of all, by their sizes in bytes."""
    return bisect_right(list(accumulate(sizes)), sum(sizes) / SHARE)


def written(sources: Path) -> dict[str, bytes]:
    """Every file of the reference text, by name."""
    files: dict[str, bytes] = {}
    sets: list[dict[str, Any]] = []
    pool = reference_pool.pool(sources)
    for language, side in (("ko", "korean"), ("en", "english")):
        for kind, documents in pool.items():
            texts = {twin.id: getattr(twin, side) for twin in drawn(kind, documents) if getattr(twin, side)}
            if not texts:
                continue
            name = f"{language}_{kind}"
            lines = [json.dumps({"id": id, "text": text}, ensure_ascii=False) for id, text in texts.items()]
            payload = ("\n".join(lines) + "\n").encode()
            files[f"{name}.jsonl"] = payload
            told = asdict(ORIGINS[kind])
            sets.append(
                {
                    "set": name,
                    "language": language,
                    "domain": kind,
                    "about": told["about"],
                    "file": f"{name}.jsonl",
                    "documents": len(texts),
                    "bytes": sum(len(text.encode()) for text in texts.values()),
                    "pool_documents": len(documents),
                    "pool_bytes": sum(len(getattr(twin, side).encode()) for twin in documents),
                    "sha256": hashlib.sha256(payload).hexdigest(),
                    **{key: told[key] for key in ("license", "share_alike", "source")},
                }
            )
    statutes = {STATUTES.name: hashlib.sha256(STATUTES.read_bytes()).hexdigest()}
    manifest = {"version": VERSION, "note": NOTE, "drawn": DRAWN, "sources": {**ARCHIVES, **statutes}, "sets": sets}
    files["manifest.json"] = (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()
    files["LICENSES.md"] = licenses(sources, pool).encode()
    return files


def credited(sources: Path, kind: str, pool: Mapping[str, Sequence[Twin]]) -> str:
    """Who wrote and translated the drawn documents of a kind, where its pages say so."""
    archive = reference_pool.MALLARD_ARCHIVES.get(kind)
    if archive is None:
        return ""
    pages = reference_pool.mallard_files(sources, archive, "ko")
    chosen = {"/".join(twin.id.split("/")[:2]) for twin in drawn(kind, pool[kind])}
    return ", ".join(sorted(reference_pool.mallard_credits({name: pages[name] for name in chosen})))


def licenses(sources: Path, pool: Mapping[str, Sequence[Twin]]) -> str:
    """The notices, as a page."""
    rows = "\n".join(
        f"| `ko_{kind}.jsonl`{f', `en_{kind}.jsonl`' if pool[kind][0].english else ''} | {one.about} | {one.license} | "
        f"{'yes' if one.share_alike else 'no'} | {one.source} |"
        for kind, one in ORIGINS.items()
    )
    notices = "\n\n".join(
        f"## {kind}\n\n{one.url}\n\n{one.notice.replace('{names}', credited(sources, kind, pool))}"
        for kind, one in ORIGINS.items()
    )
    return (
        "# Licenses of the reference text\n\n"
        f"{NOTE}\n\n"
        "Made by `benchmarks/reference_text.py`. Each file is a work of its own under its own license; the license of "
        "`ko_cpt_callbacks` (Apache-2.0) is not theirs, and theirs are not its.\nShare-alike: what is made of a file "
        "and passed on stays under the file's license.\n\n"
        "| files | what it is | license | share-alike | from |\n|---|---|---|---|---|\n"
        f"{rows}\n\n{notices}\n"
    )


def main(arguments: list[str]) -> int:
    """Make the text, or see whether it is what would be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    files = written(asked.sources)
    if asked.check:
        wrong = [name for name, data in files.items() if (TARGET / name).read_bytes() != data]
        print(f"{len(files)} files, {len(wrong)} differ {' '.join(wrong)}".rstrip())
        return bool(wrong)
    for old in TARGET.glob("*.jsonl"):
        old.unlink()
    for name, data in files.items():
        (TARGET / name).write_bytes(data)
        print(f"{name}: {len(data):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
