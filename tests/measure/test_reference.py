"""The reference text: whole, of the size and the licenses that are said, twins in two languages."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ko_cpt_callbacks
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.measure import text as text_module
from ko_cpt_callbacks.measure.text import read_text_sets

FOLDER = Path(ko_cpt_callbacks.__file__).parent / "reference"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text("utf-8"))


def _maker() -> ModuleType:
    path = FOLDER.parents[1] / "benchmarks" / "reference_text.py"
    spec = importlib.util.spec_from_file_location("reference_text", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_text"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


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
    assert any(one["license"].startswith("GPL-2.0") for one in MANIFEST["sets"])
    assert "GPL-2.txt beside this page" in page
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 2" in (FOLDER / "GPL-2.txt").read_text("utf-8")


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


def test_blocks_are_kept_in_both_languages_or_in_none() -> None:
    """What stands untranslated on the Korean page is left out of both; a page with little Korean is left out whole."""
    maker = _maker()
    korean, english = "가나다라마바사 " * 20, "letters " * 20
    both = maker.twins([(korean, english), ("Untranslated", "Untranslated"), ("두 번째", "second")])
    assert both == (f"{korean}\n두 번째", f"{english}\nsecond")
    assert maker.twins([(korean, english), ("a", "a"), ("b", "b"), ("c", "c")]) is None
    body = "<info><title>x</title></info><title>제목</title><p>가 <gui>나</gui>\n다</p>"
    assert maker.mallard_blocks(f'<page xmlns="http://projectmallard.org/1.0/">{body}</page>') == [
        ("title", "제목"),
        ("p", "가 나 다"),
    ]
