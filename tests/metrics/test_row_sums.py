"""Per-row sums and the numbers that follow from them."""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from ko_cpt_callbacks.metrics.row_sums import OPENS, READ, RowSums, exact_numbers, loss_numbers, numbers_only


def _rows(nll: list[float], tokens: list[int], size: list[int] | None = None, batch: int = 1) -> RowSums:
    count = len(nll)
    return RowSums(
        nll=np.array(nll),
        tokens=np.array(tokens),
        bytes=np.array(size or [2 * item for item in tokens]),
        hash=np.arange(1, count + 1, dtype=np.uint64) * np.uint64(batch),
        order=np.array([[batch, 0, at] for at in range(count)]).reshape(-1, 3),
    )


def test_numbers() -> None:
    """Loss, its error by the ratio estimator, PPL, bits per byte, counts; computed here by hand."""
    found = exact_numbers(_rows([6.0, 2.0, 10.0], [2, 1, 3], [4, 2, 12]), "eval_ko", 0, with_bytes=True)
    assert found["eval_ko_exact_loss"] == 3.0
    # residuals 6 - 3*2 = 0, 2 - 3 = -1, 10 - 9 = 1; D/(D-1) = 3/2
    assert found["eval_ko_exact_loss_se"] == pytest.approx(math.sqrt(1.5 * 2) / 6)
    assert found["eval_ko_ppl"] == pytest.approx(math.exp(3.0))
    assert found["eval_ko_bits_per_byte"] == pytest.approx(18.0 / math.log(2) / 18)
    assert (found["eval_ko_tokens"], found["eval_ko_bytes"], found["eval_ko_rows"]) == (6, 18, 3)
    assert found["eval_ko_nonfinite_batches"] == 0


def test_rows_without_a_target_do_not_count() -> None:
    """They change neither the loss nor the error nor the number of rows."""
    with_empty = exact_numbers(_rows([6.0, 0.0, 2.0], [2, 0, 1]), "eval", 0, with_bytes=True)
    without = exact_numbers(_rows([6.0, 2.0], [2, 1]), "eval", 0, with_bytes=True)
    assert with_empty == without


def test_one_row_has_no_error_bar() -> None:
    """A standard error needs two rows."""
    found = exact_numbers(_rows([6.0], [2]), "eval", 0, with_bytes=True)
    assert found["eval_exact_loss"] == 3.0
    assert not {"eval_exact_loss_se", "eval_bits_per_byte_se"} & set(found)


def test_without_bytes() -> None:
    """No bits per byte and no bytes where they are not known; no bits per byte where there are none."""
    found = exact_numbers(_rows([6.0], [2], [-1]), "eval", 0, with_bytes=False)
    assert not {"eval_bits_per_byte", "eval_bytes"} & set(found)
    found = exact_numbers(_rows([6.0], [2], [0]), "eval", 0, with_bytes=True)
    assert "eval_bits_per_byte" not in found
    assert found["eval_bytes"] == 0


@pytest.mark.parametrize(("nll", "batches"), [(math.nan, 0), (math.inf, 0), (6.0, 1)])
def test_not_finite(nll: float, batches: int) -> None:
    """Any broken batch or row: the loss is infinite, which nothing takes for success, and nothing else is given."""
    found = exact_numbers(_rows([nll, 2.0], [2, 1]), "eval", batches, with_bytes=True)
    assert found["eval_exact_loss"] == math.inf
    assert not {"eval_ppl", "eval_exact_loss_se", "eval_bits_per_byte"} & set(found)
    assert found["eval_tokens"] == 3


def test_nothing_at_all() -> None:
    """No rows: counts of zero and no loss."""
    found = exact_numbers(RowSums.empty(), "eval", 0, with_bytes=True)
    assert found == {"eval_tokens": 0, "eval_rows": 0, "eval_nonfinite_batches": 0, "eval_bytes": 0}


def test_perplexity_beyond_floats() -> None:
    """A loss whose exponential is no float has no perplexity; the loss stays."""
    found = exact_numbers(_rows([5000.0, 5000.0], [1, 1]), "eval", 0, with_bytes=False)
    assert found["eval_exact_loss"] == 5000.0
    assert "eval_ppl" not in found


def test_loss_numbers() -> None:
    """From batch losses: loss, PPL, tokens, broken batches; no error bar, no rows, no bytes."""
    found = loss_numbers(18.0, 6, "eval", 0)
    assert found == {
        "eval_tokens": 6,
        "eval_nonfinite_batches": 0,
        "eval_exact_loss": 3.0,
        "eval_ppl": pytest.approx(math.exp(3.0)),
    }
    assert loss_numbers(math.nan, 6, "eval", 1)["eval_exact_loss"] == math.inf
    assert "eval_exact_loss" not in loss_numbers(0.0, 0, "eval", 0)


def test_concatenation_restores_the_order_of_the_data_set() -> None:
    """Parts of several ranks and batches, whatever order they come in, end in data-set order."""
    whole = _rows([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 1])
    whole.order[:] = [[1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0]]
    parts = [
        RowSums(whole.nll[at], whole.tokens[at], whole.bytes[at], whole.hash[at], whole.order[at])
        for at in ([1, 3], [0, 2], [])
    ]
    found = RowSums.concatenate(parts)
    assert found.nll.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert len(RowSums.concatenate([])) == 0


def test_there_and_back() -> None:
    """The arrays as a file and back, types and extremes included; also of no rows."""
    rows = _rows([1.5, math.inf], [2**40, 0], [-1, 3])
    rows.hash[0, 0] = np.uint64(2**64 - 1)
    rows.flags[:] = [OPENS | READ, 255]
    for each in (rows, RowSums.empty()):
        back = RowSums.from_payload(each.to_payload())
        for name in ("nll", "tokens", "bytes", "hash", "order", "flags"):
            assert np.array_equal(getattr(back, name), getattr(each, name))
            assert getattr(back, name).dtype == getattr(each, name).dtype


def test_flags_that_were_left_out() -> None:
    """Of arrays without them, and of a file from before there were any: nobody looked at any row."""
    rows = _rows([1.5, 2.5], [2, 3])
    assert rows.flags.tolist() == [0, 0]
    buffer = io.BytesIO()
    np.savez(buffer, nll=rows.nll, tokens=rows.tokens, bytes=rows.bytes, hash=rows.hash, order=rows.order)
    back = RowSums.from_payload(buffer.getvalue())
    assert back.flags.tolist() == [0, 0]
    assert back.flags.dtype == np.uint8
    looked_at = replace(rows, flags=rows.flags + 4)
    both = RowSums.concatenate([looked_at, back])
    assert sorted(both.flags.tolist()) == [0, 0, 4, 4]


def test_a_file_with_pickled_objects_is_refused() -> None:
    """Reading back never unpickles."""
    buffer = io.BytesIO()
    np.savez(buffer, nll=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        RowSums.from_payload(buffer.getvalue())


def _hashed(hashes: list[list[int]]) -> RowSums:
    return replace(_rows([1.0] * len(hashes), [1] * len(hashes)), hash=np.array(hashes, dtype=np.uint64))


def test_fingerprint() -> None:
    """A version and 256 bits: of the rows' hashes in any order; a repeated row counts twice."""
    rows = _hashed([[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 5]])
    version, _, digits = rows.fingerprint().partition("-")
    assert (version, len(digits)) == ("v2", 64)
    assert int(digits, 16) >= 0
    for order in itertools.permutations(range(3)):
        assert replace(rows, hash=rows.hash[list(order)]).fingerprint() == rows.fingerprint()
    kinds = [
        rows, _hashed([[1, 2, 3, 4], [5, 6, 7, 8]]), _hashed([[1, 2, 3, 4]] * 2 + [[5, 6, 7, 8]]),
        _hashed([[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 6]]), RowSums.empty(),
    ]  # fmt: skip
    assert len({each.fingerprint() for each in kinds}) == len(kinds)


def test_a_fingerprint_is_no_sum() -> None:
    """Hashes with the same sum in every word, or the same exclusive or, are another text."""
    whole = _hashed([[10, 20, 30, 40], [1, 2, 3, 4]])
    shifted = _hashed([[9, 19, 29, 39], [2, 3, 4, 5]])
    crossed = _hashed([[10 ^ 7, 20 ^ 7, 30 ^ 7, 40 ^ 7], [1 ^ 7, 2 ^ 7, 3 ^ 7, 4 ^ 7]])
    assert whole.hash.sum(0).tolist() == shifted.hash.sum(0).tolist()
    assert len({each.fingerprint() for each in (whole, shifted, crossed)}) == 3


def test_sums_that_contradict_a_row() -> None:
    """Each number of the row that the sums do not have is told with both; numbers that the row lacks tell nothing."""
    rows = replace(_hashed([[1, 2, 3, 4], [5, 6, 7, 8]]), nll=np.array([6.0, 2.0]), tokens=np.array([3, 1]))
    own = {"loss": 2.0, "tokens": 4, "bytes": int(rows.bytes.sum()), "fingerprint": f"utf8-{rows.fingerprint()}"}
    assert rows.contradiction(**own) is None
    assert rows.contradiction() is None
    assert rows.contradiction(**{**own, "loss": 2.1}) == "their loss is 2.0000 and the row's 2.1000"
    assert rows.contradiction(**{**own, "tokens": 5}) == "they have 4 tokens and the row 5"
    assert "bytes and the row" in str(rows.contradiction(**{**own, "bytes": 1}))
    digits = rows.fingerprint().removeprefix("v2-")
    for other in ("utf8-v2-00", digits, f"utf8-{digits}", f"utf8-1{rows.fingerprint()}"):
        assert rows.contradiction(fingerprint=other) == "they are of another text than the row"
    assert rows.contradiction(fingerprint=rows.fingerprint()) is None
    assert rows.contradiction(loss=math.inf) is None


@pytest.mark.parametrize("name", ["nll", "tokens", "bytes", "hash", "order", "flags"])
def test_arrays_that_do_not_fit_together(name: str) -> None:
    """One array shorter than the others is refused, whichever it is; so is a hash of another width."""
    rows = _hashed([[1, 2, 3, 4], [5, 6, 7, 8]])
    arrays = {each: getattr(rows, each) for each in ("nll", "tokens", "bytes", "hash", "order", "flags")}
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, name: arrays[name][:1]})
    with pytest.raises(ValueError, match="differ"):
        RowSums.from_payload(buffer.getvalue())
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, "hash": rows.hash[:, :3]})
    with pytest.raises(ValueError, match="differ"):
        RowSums.from_payload(buffer.getvalue())


def test_the_fingerprint_of_an_older_file() -> None:
    """16 hexadecimal digits, as it was written then: the sum of the 64-bit hashes modulo 2**64, in any order."""
    rows = _hashed([[2**64 - 1], [3]])
    assert rows.fingerprint() == f"{2:016x}"
    swapped = RowSums(rows.nll, rows.tokens, rows.bytes, rows.hash[::-1], rows.order)
    assert swapped.fingerprint() == rows.fingerprint()
    assert RowSums.concatenate([rows, rows]).fingerprint() != rows.fingerprint()
    flat = RowSums(rows.nll, rows.tokens, rows.bytes, rows.hash[:, 0], rows.order)
    assert flat.fingerprint() == RowSums.from_payload(flat.to_payload()).fingerprint() == rows.fingerprint()


def test_numbers_only() -> None:
    """What a tracker can plot: no texts, no truth values."""
    assert numbers_only({"a": 1, "b": 2.5, "c": "x", "d": True, "e": None}) == {"a": 1, "b": 2.5}
