"""How much of each source is trained on, and how often, is known before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import byte_level_tokenizer

from ko_cpt_callbacks.training.data.filters import HangulShare
from ko_cpt_callbacks.training.data.packing import PackSettings
from ko_cpt_callbacks.training.data.rows import PackedRows, packed_rows
from ko_cpt_callbacks.training.data.sources import Source
from ko_cpt_callbacks.training.data.use import SourceUse, source_uses, use_lines

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


def test_what_a_short_source_leaves_of_a_long_one(tmp_path: Path) -> None:
    """Three to one, where the one has a hundredth of the other: the mixture ends with it, and that is said."""
    rows = mixed(tmp_path, source(tmp_path, "ko", 6000), source(tmp_path, "en", 20), ko=3, en=1)
    found = uses(rows, times=5.2)
    ko, en = found["ko"], found["en"]
    assert (ko.available, en.available) == (6000, 20)
    assert 57 <= ko.read <= 62 and en.read == 20
    assert ko.is_left and not en.is_left
    assert ko.used == ko.read / 6000
    assert ko.passes == en.passes == pytest.approx(5.2)
    assert ko.share + en.share == pytest.approx(1) and 0.7 < ko.share < 0.8
    lines = "\n".join(use_lines([ko, en]))
    assert "of 6,000 documents" in lines and "the mixture ends with en" in lines and "data.mix.ko" in lines
    assert "5.2 passes are more than 4" in lines


def test_a_mixture_that_uses_both(tmp_path: Path) -> None:
    """As much of each as there is: nothing is odd, and each has a line."""
    rows = mixed(tmp_path, source(tmp_path, "ko", 100), source(tmp_path, "en", 100), ko=1, en=1)
    found = uses(rows)
    assert not any(use.is_left or use.is_repeated for use in found.values())
    assert len(list(use_lines(list(found.values())))) == 2


def test_the_bounds(tmp_path: Path) -> None:
    """Nine tenths are enough and four passes are not too many; a little less and a little more are said."""
    whole = SourceUse("ko", 1.0, 90, 100, 4.0)
    assert not whole.is_left and not whole.is_repeated
    assert SourceUse("ko", 1.0, 89, 100, 4.0).is_left
    assert SourceUse("ko", 1.0, 90, 100, 4.01).is_repeated
    assert not SourceUse("ko", 1.0, 1, None, 1.0).is_left


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
