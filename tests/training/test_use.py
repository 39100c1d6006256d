"""How much of each source is trained on, and how often, is known before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import byte_level_tokenizer

from ko_cpt_callbacks.rules.setup.setup_rule import CORPUS_USE
from ko_cpt_callbacks.rules.setup.threshold import CorpusRepeated, CorpusUnused
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.observation import SetupObservation
from ko_cpt_callbacks.signal.signals import SILENT
from ko_cpt_callbacks.training.data.filters import HangulShare
from ko_cpt_callbacks.training.data.packing import PackSettings
from ko_cpt_callbacks.training.data.report import SourceUse, source_uses, use_lines, use_notes
from ko_cpt_callbacks.training.data.rows import PackedRows, packed_rows
from ko_cpt_callbacks.training.data.sources import Source

pytestmark = pytest.mark.both_versions


def source(folder: Path, name: str, count: int, passes: int = 1, filtered: bool = False) -> Source:
    """Lines of one size, every second one Korean."""
    path = folder / f"{name}.txt"
    words = ("가나다라마바사아자차", "abcdefghijklmnopqrstuvwxyzabcd")
    path.write_text("".join(f"{words[number % 2]} {number:06}\n" for number in range(count)), encoding="utf-8")
    filters = (HangulShare(0.5),) if filtered else ()
    return Source(name, (path,), passes=passes, filters=filters)


def mixed(folder: Path, *sources: Source, **shares: float) -> PackedRows:
    """Rows of the sources."""
    settings = PackSettings(64, packed=False)
    return packed_rows(sources, byte_level_tokenizer(), settings, folder / "cache", shares, "bytes")


def uses(rows: PackedRows, times: float = 1.0) -> dict[str, SourceUse]:
    """By source, where the stages go over the rows so often."""
    return {use.name: use for use in source_uses(rows, times * rows.report["rows"])}


def judged(found: list[SourceUse]) -> list[Finding]:
    """What the rules say of the rows that are noted of sources, rule by rule."""
    said: list[Finding] = []
    for rule in (CorpusUnused(), CorpusRepeated()):
        state = rule.initial()
        for values in use_notes(found):
            state, new = rule.step(state, SetupObservation(0, CORPUS_USE, values), SILENT)
            said += new
    return said


def test_what_a_short_source_leaves_of_a_long_one(tmp_path: Path) -> None:
    """Three to one, where the one has a hundredth of the other: the mixture ends with it, and that is said; so is that
    both are repeated, however small the one is."""
    rows = mixed(tmp_path, source(tmp_path, "ko", 6000), source(tmp_path, "en", 20), ko=3, en=1)
    found = uses(rows, times=5.2)
    ko, en = found["ko"], found["en"]
    assert (ko.available, en.available) == (6000, 20)
    assert 57 <= ko.read <= 62 and en.read == 20
    assert ko.used == ko.read / 6000
    assert ko.passes == en.passes == pytest.approx(5.2)
    assert ko.share + en.share == pytest.approx(1) and 0.7 < ko.share < 0.8
    assert "of 6,000 documents, 5.2 passes" in next(iter(use_lines([ko, en])))
    said = [finding.code for finding in judged([ko, en])]
    assert said == ["corpus-unused", "corpus-repeated", "corpus-repeated"], "the few English bytes are judged too"
    assert [finding.values["source"] for finding in judged([ko, en])] == ["ko", "ko", "en"]
    assert ko.bytes == pytest.approx(6000 * 37.5, rel=0.1) and en.bytes is not None and en.bytes < 1000
    assert judged([ko, en])[0].values["shortest"] == ["en"]


def test_a_corpus_to_try_a_recipe_out() -> None:
    """All sources together below 100 kB: none is judged; one that was not counted may be large, and they are."""
    found = [SourceUse("ko", 0.75, 5, 50, 9.0, 60_000), SourceUse("en", 0.25, 20, 20, 9.0, 30_000)]
    assert judged(found) == []
    assert len(judged([*found, SourceUse("more", 0.1, 20, 20, 1.0, 10_000)])) == 3
    assert len(judged([*found, SourceUse("web", 0.1, 20, None, 1.0)])) == 3


def test_a_mixture_that_uses_both(tmp_path: Path) -> None:
    """As much of each as there is: nothing is odd, and each has a line."""
    rows = mixed(tmp_path, source(tmp_path, "ko", 100), source(tmp_path, "en", 100), ko=1, en=1)
    found = uses(rows)
    assert judged(list(found.values())) == []
    assert len(list(use_lines(list(found.values())))) == 2


def test_a_mixture_that_the_stages_end() -> None:
    """Beside a source of the hub rows are made for what the stages take: what is left of the other one is no waste."""
    found = [SourceUse("ko", 0.5, 40, None, 1.0), SourceUse("en", 0.5, 10, 100, 1.0)]
    assert judged(found) == []
    assert [finding.code for finding in judged([*found, SourceUse("web", 0.1, 20, 20, 1.0)])] == ["corpus-unused"]


def test_passes_of_a_source_count(tmp_path: Path) -> None:
    """A source that is read three times, by stages that go twice over the rows, is passed six times."""
    rows = mixed(tmp_path, source(tmp_path, "ko", 300), source(tmp_path, "en", 100, passes=3), ko=1, en=1)
    found = uses(rows, times=2)
    assert found["en"].passes == pytest.approx(6, rel=0.02)
    assert found["ko"].passes == pytest.approx(2)
    assert found["en"].read == 100


def test_what_a_filter_drops_is_no_rest(tmp_path: Path) -> None:
    """A document that a filter drops was read: the source is used to its end all the same."""
    rows = mixed(tmp_path, source(tmp_path, "ko", 100, filtered=True), source(tmp_path, "en", 100), ko=1, en=1)
    found = uses(rows)
    assert rows.report["sources"]["ko"]["documents"] == 50
    assert found["ko"].used is not None and found["ko"].used >= 0.98
    assert found["en"].used is not None and found["en"].used < 0.6
