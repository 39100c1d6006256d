"""The reference text: whole, a draw from its pool, with the licenses that are said, twins in two languages."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ko_cpt_callbacks
from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.measure import text as text_module
from ko_cpt_callbacks.measure.document import DocumentSums, row_sums
from ko_cpt_callbacks.measure.measurement import measured_model
from ko_cpt_callbacks.measure.text import MeasuredText, TextSet, read_text_sets
from ko_cpt_callbacks.metrics.row_sums import OPENS, READ, RowSums
from ko_cpt_callbacks.metrics.uncertainty import ratio_estimate

FOLDER = Path(ko_cpt_callbacks.__file__).parent / "reference"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text("utf-8"))


def _evaluated(item: TextSet) -> RowSums:
    """A set's rows as they would be measured, each with the hash of its text."""
    return row_sums(
        [
            DocumentSums(
                item.name, one.id, float(one.size), one.size, one.size,
                blake2b(one.text.encode(), digest_size=32).hexdigest(), READ | OPENS, one.size, len(one.text), {}
            )
            for one in item.documents
        ]
    )  # fmt: skip


def test_the_error_of_a_language_is_of_documents_drawn_by_set() -> None:
    """So many documents of each set are in the text, so how far sets are apart is no error of the language's numbers; a
    set's own error is that of one draw."""
    text = read_text_sets(["reference"])
    rng = np.random.default_rng(3)
    documents = []
    for at, item in enumerate(text.sets):
        for one in item.documents:
            nll = one.size * float(rng.normal(1.0 + 0.2 * at, 0.2))
            digest = blake2b(one.text.encode(), digest_size=32).hexdigest()
            documents.append(
                DocumentSums(
                    set=item.name, id=one.id, nll=nll, tokens=one.size // 2, bytes=one.size, hash=digest,
                    flags=READ | OPENS, text_bytes=one.size, characters=len(one.text), parts={},
                )
            )  # fmt: skip
    found = measured_model("model", text, documents, {"bytes_absent": None})
    assert [item.name for item in found.sets if item.total] == ["ko", "en"]
    for item in found.sets:
        strata = [one.set for one in item.documents]
        for key, sizes in (("exact_loss", item.rows.tokens), ("bits_per_byte", item.rows.bytes * math.log(2))):
            drawn, once = ratio_estimate(item.rows.nll, sizes, strata), ratio_estimate(item.rows.nll, sizes)
            assert item.number(key) == pytest.approx(once.value, rel=1e-12)
            assert item.number(f"{key}_se") == pytest.approx(drawn.se, rel=1e-12)
            assert (drawn.se < 0.9 * once.se) == item.total  # type: ignore[operator]


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script that draws the text."""
    monkeypatch.syspath_prepend(str(FOLDER.parents[1] / "benchmarks"))
    return importlib.import_module("reference_text")


def test_reference_text_is_what_its_manifest_says() -> None:
    """Documents and bytes are those of the manifest, hashes hold, none is blank or there twice, all below 1.5 MB."""
    text = read_text_sets(["reference"])
    assert text.name == f"reference {MANIFEST['version']}"
    found = {
        item.name: (item.language, len(item.documents), sum(one.size for one in item.documents)) for item in text.sets
    }
    assert found == {one["set"]: (one["language"], one["documents"], one["bytes"]) for one in MANIFEST["sets"]}
    assert sum(size for _, _, size in found.values()) < 1_500_000
    for item in text.sets:
        texts = [one.text for one in item.documents]
        assert len(set(texts)) == len(texts)
        assert all(one.strip() == one and one for one in texts)
    assert text.languages == ("ko", "en")


def test_four_domains_have_twins() -> None:
    """At least four domains have the same documents in both languages, mostly Hangul on the one side."""
    sets = {item.name: item for item in read_text_sets(["reference"]).sets}
    domains = [name.removeprefix("en_") for name in sets if name.startswith("en_")]
    assert len(domains) >= 4
    for domain in domains:
        ids = [
            [one.id.partition("/")[2] for one in sets[f"{language}_{domain}"].documents] for language in ("ko", "en")
        ]
        assert ids[0] == ids[1]
        korean = "".join(one.text for one in sets[f"ko_{domain}"].documents)
        assert sum("가" <= letter <= "힣" for letter in korean) > 0.5 * len(korean)


def test_every_file_has_its_license() -> None:
    """The page of licenses names every file with its license; share-alike ones are marked, and where they are from."""
    page = (FOLDER / "LICENSES.md").read_text("utf-8")
    files = {path.name for path in FOLDER.glob("*.jsonl")}
    assert files == {one["file"] for one in MANIFEST["sets"]}
    for one in MANIFEST["sets"]:
        row = next(line for line in page.splitlines() if f"`{one['file']}`" in line)
        assert f"| {one['license']} | {'yes' if one['share_alike'] else 'no'} | {one['source']} |" in row
        assert f"## {one['domain']}\n" in page
    assert MANIFEST["note"] in page
    # The one license that must be passed on as a text, and not by its address.
    assert {one["license"] for one in MANIFEST["sets"] if "GPL" in one["license"]} == {
        "GPL-2.0-only",
        "GPL-2.0-or-later",
    }
    assert page.count("GPL-2.txt beside this page") == 2
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 2" in (FOLDER / "GPL-2.txt").read_text("utf-8")


def test_each_kind_is_a_tenth_of_its_pool() -> None:
    """The pool is ten times the text, in each language; no kind has much less of the text than of the pool."""
    for language in ("ko", "en"):
        sets = [one for one in MANIFEST["sets"] if one["language"] == language]
        text, pool = (sum(one[key] for one in sets) for key in ("bytes", "pool_bytes"))
        assert pool >= 10 * text
        for one in sets:
            assert abs(one["bytes"] / text - one["pool_bytes"] / pool) < 0.01
            assert abs(one["documents"] / one["pool_documents"] - 0.1) < 0.015


def test_a_draw_is_random_and_as_much_as_fits(maker: ModuleType) -> None:
    """Ids say the order of a draw, not the texts or the pool's order; it ends before it is more than a tenth."""
    pool = [maker.Twin(f"page-{number}", "글" * 20, "text") for number in range(100)]
    found = maker.drawn("help", pool)
    assert len(found) == 10
    assert found == [twin for twin in pool if twin in found]
    ids = {twin.id for twin in found}
    others = [maker.Twin(twin.id, "말" * 20, "other") for twin in reversed(pool)]
    assert {twin.id for twin in maker.drawn("help", others)} == ids
    assert {twin.id for twin in maker.drawn("office", pool)} != ids
    assert [maker.fitting(sizes) for sizes in ([1] * 19, [1] * 20, [5, 45, 0], [6, 44])] == [1, 2, 1, 0]


def test_two_versions_of_the_text_are_not_compared() -> None:
    """What was measured on another version, of the same sets, has another fingerprint: no difference is formed."""
    now = read_text_sets(["reference"]).sets[0]
    before = replace(now, documents=now.documents[:-1])
    rows = [_evaluated(one) for one in (now, before)]
    assert rows[0].fingerprint() != rows[1].fingerprint()
    for alike in (True, False):
        assert paired_with(rows[0], rows[0], alike).difference == 0
        assert paired_with(rows[0], rows[1], alike).reasons == ("different-text",)
    assert MeasuredText("reference 1", (now,)).digest != MeasuredText("reference 1", (before,)).digest


def test_a_changed_text_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the text that was changed has no number under its name: one line says which."""
    for path in FOLDER.iterdir():
        (tmp_path / "reference").mkdir(exist_ok=True)
        (tmp_path / "reference" / path.name).write_bytes(path.read_bytes())
    changed = tmp_path / "reference" / MANIFEST["sets"][0]["file"]
    changed.write_bytes(changed.read_bytes().replace("다".encode(), "가".encode(), 1))
    monkeypatch.setattr(text_module, "files", lambda package: tmp_path)
    with pytest.raises(ConfigurationError, match=f"{changed.name}: found SHA-256"):
        read_text_sets(["reference"])


def test_blocks_are_kept_in_both_languages_or_in_none(maker: ModuleType) -> None:
    """What stands untranslated on the Korean page is left out of both; a page with little Korean is left out whole."""
    pool = maker.reference_pool
    korean, english = "가나다라마바사 " * 20, "letters " * 20
    untranslated = [("a", "a"), ("b", "b"), ("c", "c")]
    pages = [
        ("first", [(korean, english), ("Untranslated", "Untranslated"), ("두 번째", "second")]),
        ("again", [(korean, english), ("세 번째 " * 40, "third")]),
        ("little", [("네 번째 " * 40, "fourth"), *untranslated]),
        ("short", [("다섯 번째", "fifth")]),
    ]
    assert pool.documents(iter(pages)) == [
        maker.Twin("first", f"{korean}\n두 번째", f"{english}\nsecond"),
        maker.Twin("again", ("세 번째 " * 40).strip(), "third"),
    ]
    body = "<info><title>x</title></info><title>제목</title><p>가 <gui>나</gui>\n다</p>"
    assert pool.mallard_blocks(f'<page xmlns="http://projectmallard.org/1.0/">{body}</page>') == [
        ("title", "제목"),
        ("p", "가 나 다"),
    ]


def test_sections_of_a_page_are_paired_by_their_anchor(maker: ModuleType) -> None:
    """Sections that the languages have in another order are twins by name; one whose blocks differ is left out."""
    korean = "<h2><a id='a'></a>하나</h2><p>첫째<pre>code</pre></p><h2 id='b'>둘</h2><p>둘째</p><p>셋째</p>"
    english = "<h2 id='b'>Two</h2><p>second</p><h2><a id='a'></a>One</h2><p>first</p>"
    found = dict(maker.reference_pool.html_pages({"page": korean}, {"page": english}))
    assert found == {"page#": [], "page#a": [("하나", "One"), ("첫째", "first")], "page#b": []}
