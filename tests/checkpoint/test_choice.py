"""Which checkpoints cannot be told from the best, by values."""

from __future__ import annotations

import numpy as np
from checkpoint.made_checkpoints import LOSSES, sums

from ko_cpt_callbacks.checkpoint.choice import Basis, Choice, Scored, choose, row_errors
from ko_cpt_callbacks.metrics.row_sums import RowSums
from ko_cpt_callbacks.metrics.uncertainty import paired_difference, ratio_estimate


def _scored(step: int, loss: float, *, with_rows: bool = True) -> Scored:
    rows = sums(loss, step)
    errors = row_errors(rows) if with_rows else None
    return Scored(step, loss, ratio_estimate(rows.nll, rows.tokens).se, errors)


def _choose(*, with_rows: bool = True) -> Choice:
    return choose([_scored(step, loss, with_rows=with_rows) for step, loss in LOSSES.items()], list(LOSSES.values()))


def test_row_by_row() -> None:
    """Losses a thousandth apart are equal, those 0.05 apart are not, though a single loss has an error of 0.03."""
    found = _choose()
    assert (found.basis, found.best, found.rows) == (Basis.ROWS, 40, 200)
    assert found.equal == {30, 40, 50}


def test_a_gap_has_the_error_of_a_paired_difference() -> None:
    """The standard error of a gap is that of `paired_difference`, in whatever order the rows were evaluated."""
    one, other = sums(3.1, 20), sums(3.0, 40)
    turned = RowSums(*(getattr(other, name)[::-1] for name in ("nll", "tokens", "bytes", "hash", "order", "flags")))
    scored = [Scored(20, 3.1, 0.03, row_errors(one)), Scored(40, 3.0, 0.03, row_errors(turned))]
    expected = paired_difference(one.nll, one.tokens, other.nll, other.tokens)
    gap, error = choose(scored, []).gaps[20]
    assert expected.se is not None
    np.testing.assert_allclose([gap, error], [expected.value, expected.se], rtol=1e-9)


def test_without_row_sums_more_look_equal() -> None:
    """With standard errors alone 0.05 is not told apart, which the basis says; 0.3 is."""
    found = _choose(with_rows=False)
    assert (found.basis, found.rows) == (Basis.ERRORS, None)
    assert found.equal == {20, 30, 40, 50}


def test_a_missing_file_keeps_the_others_paired() -> None:
    """One evaluation without sums takes the pairing from itself alone."""
    scored = [_scored(step, loss, with_rows=step != 50) for step, loss in LOSSES.items()]
    found = choose(scored, [])
    assert found.basis is Basis.PART
    assert found.equal is not None
    assert 20 not in found.equal and 50 in found.equal


def test_the_trainers_own_loss() -> None:
    """Only the curve's noise tells: what is within it is equal; from few evaluations nothing is."""
    curve = [3.5 - 0.05 * at + (0.004 if at % 2 else -0.004) for at in range(10)]
    scored = [Scored(at, curve[at]) for at in (0, 8, 9)]
    found = choose(scored, curve)
    assert (found.basis, found.best) == (Basis.JITTER, 9)
    assert found.equal == {9}
    near = [*curve[:9], curve[8] - 0.002]
    assert choose([Scored(8, near[8]), Scored(9, near[9])], near).equal == {8, 9}
    assert choose(scored, curve[:5]).equal is None


def test_rounded_losses_tell_nothing() -> None:
    """Losses that show no noise hide it: none of them is surely the best, nor may one be freed for another."""
    for curve in ([3.0 - 0.01 * at for at in range(12)], [3.0] * 12, [2.33, 2.33, 2.32, 2.32, 2.32] + [2.31] * 7):
        found = choose([Scored(at, loss) for at, loss in enumerate(curve)], curve)
        assert (found.basis, found.equal) == (Basis.NONE, None)


def test_an_absurd_error_tells_nothing() -> None:
    """A damaged standard error, whose square is no number, stops no page: nothing is told apart."""
    assert choose([Scored(1, 3.0, 1e200), Scored(2, 2.9, 0.03)], []).equal is None


def test_many_equal_ones_are_corrected_for() -> None:
    """Of 40 with one true loss the lowest is lower by luck: nearly all stay, an uncorrected test drops many."""
    rng = np.random.default_rng(3)
    rows = sums(3.0, 0)
    many = []
    for step in range(40):
        nll = rows.nll + rng.normal(0.0, 0.05, len(rows)) * rows.tokens
        other = RowSums(nll, rows.tokens, rows.bytes, rows.hash, rows.order)
        many.append(Scored(step, float(nll.sum() / rows.tokens.sum()), 0.03, row_errors(other)))
    found = choose(many, [])
    assert found.equal is not None
    plain = [step for step, (gap, se) in found.gaps.items() if se is not None and gap <= 1.645 * se]
    assert len(found.equal) >= 37 > len(plain)


def test_equal_rows_and_another_loss_are_no_error() -> None:
    """A checkpoint that is higher by the same in every row is surely worse; one that is the same is equal."""
    rows = sums(3.0, 1)
    higher = RowSums(rows.nll + 0.01 * rows.tokens, rows.tokens, rows.bytes, rows.hash, rows.order)
    scored = [Scored(1, 3.0, 0.03, row_errors(rows)), Scored(2, 3.01, 0.03, row_errors(higher)),
              Scored(3, 3.0, 0.03, row_errors(rows))]  # fmt: skip
    assert choose(scored, []).equal == {1, 3}
