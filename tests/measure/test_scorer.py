"""Scoring: what does not fit is made smaller, what is no number is an infinite loss, bits stay with their script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from ko_cpt_callbacks import ConfigurationError
from ko_cpt_callbacks.measure.document import PARTS, SplitBy, part_sums
from ko_cpt_callbacks.measure.model import LoadedModel
from ko_cpt_callbacks.measure.scorer import WindowScorer

TEXTS = [list(range(3, 3 + size)) for size in (5, 30, 12, 0, 41)]


def _loaded(change: Callable[[Any, Any], Any] | None = None) -> LoadedModel:
    model = tiny.llama(600, layers=1, initializer_range=0.4).eval()
    if change is not None:
        forward = model.forward
        model.forward = lambda **call: change(forward, call)
    return LoadedModel(model, None, torch.device("cpu"), 0)


def _scored(loaded: LoadedModel, **batch: int) -> dict[int, Any]:
    scorer = WindowScorer(loaded, 16, 4, **batch)
    return dict(scorer.score(TEXTS))


def test_a_batch_that_does_not_fit_is_halved() -> None:
    """Out of memory above two windows: every document is scored all the same, once, with the same losses."""
    seen = []

    def narrow(forward: Any, call: Any) -> Any:
        seen.append(len(call["input_ids"]))
        if seen[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(**call)

    found, wanted = _scored(_loaded(narrow), tokens=16 * 8), _scored(_loaded(), rows=1)
    assert max(seen) == 8
    assert sorted(found) == sorted(wanted) == [0, 1, 2, 3, 4]
    for place, nll in wanted.items():
        assert len(nll) == len(TEXTS[place])
        assert found[place] == pytest.approx(nll, abs=1e-4)


def test_one_window_that_does_not_fit_is_said() -> None:
    """Where not even one window fits, one line says so and what to try; other errors are not taken for it."""

    def full(forward: Any, call: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(ConfigurationError, match="memory: found no room for one window of 16 tokens"):
        _scored(_loaded(full), rows=4)

    def broken(forward: Any, call: Any) -> Any:
        raise RuntimeError("something else")

    with pytest.raises(ConfigurationError, match=r"fails on windows of 16 tokens .RuntimeError: something else"):
        _scored(_loaded(broken), rows=4)


def test_no_number_is_an_infinite_loss() -> None:
    """A NaN of the model is a loss above all others, and no token that was left out."""

    def poison(forward: Any, call: Any) -> Any:
        output = forward(**call)
        output.logits[:, 3] = float("nan")
        return output

    found = _scored(_loaded(poison), rows=2)
    assert np.isinf(found[4]).any()
    assert not np.isnan(found[4]).any()


def test_a_first_token_that_nothing_stands_before() -> None:
    """Where no token begins texts it is not scored, and all others are."""
    loaded = replace(_loaded(), prefix=None)
    for place, nll in dict(WindowScorer(loaded, 16, 4, rows=2).score(TEXTS)).items():
        assert np.flatnonzero(np.isnan(nll)).tolist() == ([0] if TEXTS[place] else [])


def test_a_model_without_logits_of_every_token() -> None:
    """It is refused, with the reason."""

    def silent(forward: Any, call: Any) -> Any:
        return {"loss": torch.tensor(1.0)}

    with pytest.raises(ConfigurationError, match="MODEL: found no exact loss"):
        _scored(_loaded(silent), rows=2)


def test_a_token_is_shared_out_by_its_bytes() -> None:
    """Parts of a character count with it, a token of two scripts with both; what stands for no byte is kept apart."""
    text = "가 A1.漢ㄱ"
    pieces = ["가".encode()[:2], "가".encode()[2:] + b" ", b"A1", b"", ".漢".encode(), "ㄱ".encode()]
    assert b"".join(pieces) == text.encode()
    lengths = np.array([len(piece) for piece in pieces])
    nll = np.array([2.0, 3.0, 4.0, 0.5, 8.0, np.nan])
    ids = np.arange(6)
    found = part_sums(nll, lengths, text.encode(), ids, old_rows=4)
    wanted = {
        "hangul": (2.0 + 1.5, 3), "hanja": (6.0, 3), "latin": (2.0, 1), "digit": (2.0, 1), "space": (1.5, 1),
        "punctuation": (2.0, 1), "no text": (0.5, 0),
    }  # fmt: skip
    scripts = found[SplitBy.SCRIPT]
    assert scripts == {name: (pytest.approx(nats), size) for name, (nats, size) in wanted.items()}
    assert list(scripts) == [name for name in PARTS[SplitBy.SCRIPT] if name in wanted]
    assert found[SplitBy.VOCABULARY] == {"old": (9.5, 6), "new": (8.0, 4)}
    unknown = part_sums(nll, np.array([2, 2, 2, -1, 4, 3]), text.encode(), ids, old_rows=4)
    for by in (SplitBy.SCRIPT, SplitBy.POSITION):
        assert unknown[by] == {"no text": (pytest.approx(17.5), 0)}
    assert unknown[SplitBy.VOCABULARY] == {"old": (9.5, 6), "new": (8.0, 4)}


def test_positions_are_bytes_of_the_document() -> None:
    """A token over a border is shared out; an unscored one has a place and no bits; what is no text stands last."""
    lengths = np.array([60, 8, 200, 0])
    found = part_sums(np.array([np.nan, 8.0, 5.0, 1.0]), lengths, b"a" * 268, np.arange(4))[SplitBy.POSITION]
    assert found == {
        "0-64": (pytest.approx(4.0), 4),
        "64-256": (pytest.approx(4.0 + 5.0 * 188 / 200), 192),
        "256-1024": (pytest.approx(5.0 * 12 / 200), 12),
        "no text": (1.0, 0),
    }
