"""Near duplicates are found, and prose that is none is left."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tiny import english, korean
from training.test_shards import edited

from ko_cpt_callbacks.training.data import duplicates
from ko_cpt_callbacks.training.data.duplicates import DuplicateIndex
from ko_cpt_callbacks.training.data.sketch import sketch


@pytest.fixture
def index(tmp_path: Path) -> DuplicateIndex:
    """Empty."""
    return DuplicateIndex(near=True, folder=tmp_path)


PROSE = [text for text in (*korean(), *english()) if len("".join(text.split())) >= 100]


def test_prose_is_left(index: DuplicateIndex) -> None:
    """No text of the bundled prose is a duplicate of another."""
    assert index.add(sketch(PROSE)) == [None] * len(PROSE)


@pytest.mark.parametrize(("share", "recall"), [(0.0, 1.0), (0.01, 0.98), (0.05, 0.98), (0.1, 0.9)])
def test_planted_duplicates(share: float, recall: float, index: DuplicateIndex) -> None:
    """Of texts with up to a twentieth of their characters changed 98 of 100 are found, with a tenth 90."""
    draw = random.Random(2)
    index.add(sketch(PROSE))
    judged = index.add(sketch([edited(text, share, draw) for text in PROSE]))
    assert np.mean([duplicate is not None for duplicate in judged]) >= recall
    kinds = {duplicate.kind for duplicate in judged if duplicate is not None}
    assert kinds == ({"exact"} if share == 0 else {"near"})


def test_white_space_does_not_count(index: DuplicateIndex) -> None:
    """A text that is wrapped otherwise is a near duplicate."""
    index.add(sketch(PROSE[:1]))
    (found,) = index.add(sketch([PROSE[0].replace(" ", "\n")]))
    assert found is not None
    assert (found.kind, found.share) == ("near", 1.0)


def test_short_texts_are_compared_whole(index: DuplicateIndex) -> None:
    """Formulas that differ in a word are no duplicates; the same formula twice is one."""
    texts = ["제1조 이 법은 공포한 날부터 시행한다.", "제2조 이 법은 공포한 날부터 시행한다.", "", "가"]
    assert index.add(sketch(texts)) == [None] * 4
    assert [found is not None and found.kind for found in index.add(sketch(texts))] == ["exact"] * 4


def test_whole_duplicates_alone(tmp_path: Path) -> None:
    """Where near ones are to stay, they stay."""
    index = DuplicateIndex(near=False, folder=tmp_path)
    judged = index.add(sketch([PROSE[0], PROSE[0] + ".", PROSE[0]]))
    assert [found is not None for found in judged] == [False, False, True]


def test_one_by_one_or_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same documents are kept, whatever is looked at together, and however often the table grows."""
    draw = random.Random(3)
    texts = [*PROSE, *(edited(text, draw.random() / 8, draw) for text in PROSE)]
    draw.shuffle(texts)
    together = DuplicateIndex(near=True, folder=tmp_path).add(sketch(texts))
    monkeypatch.setattr(duplicates, "_START", 64)
    index = DuplicateIndex(near=True, folder=tmp_path)
    assert [index.add(sketch([text]))[0] for text in texts] == together
    assert 0 < sum(found is not None for found in together) < len(texts)
    index.close()
