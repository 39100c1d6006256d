"""Per-row sums of one evaluation, and the numbers that follow from them.

A row is what the data set calls a row (for padding-free batches: one document). Everything that is published
about an evaluation is computed here from a few arrays, so that one process, several processes and a file read
back later give the same numbers.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.metrics.uncertainty import ratio_estimate

# `RowSums.bytes` hides the builtin in its own class.
Payload: TypeAlias = bytes

OPENS: Final = 1
"""Flag of a row: its first text token is scored, as it is behind a BOS token; so all text from there on can be."""
SEVERAL: Final = 2
"""Flag of a row: a special token stands between text tokens, so it holds more than one document."""
READ: Final = 4
"""Flag of a row: somebody looked. Without it the others say nothing (rows written before there were flags)."""
SPECIAL_SCORED: Final = 8
"""Flag of a row: a special token (the end of the text) is among its targets; it has a loss and no bytes."""


VERSION: Final = "v2"
"""How rows are hashed and put together; before there were versions: the sum of 64-bit hashes."""
HASH_WORDS: Final = 4
"""64-bit words of a row's hash; files from before there were 256 bits have one."""
_CLOSE: Final = 1e-6
"""A row's loss is the quotient of its sums; what differs by a larger share is another evaluation's."""


_ARRAYS: Final[Mapping[str, type]] = {
    "nll": np.float64, "tokens": np.int64, "bytes": np.int64, "hash": np.uint64, "order": np.int64, "flags": np.uint8,
}  # fmt: skip


def _no_flags() -> NDArray[np.uint8]:
    return np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class RowSums:
    """Sums per evaluation row, in data-set order.

    Attributes:
        nll: Negative log-likelihood summed over the row's target tokens, in nats; float64, shape (rows,).
        tokens: Target tokens; int64, shape (rows,).
        bytes: UTF-8 bytes of the target tokens; -1 where they are not known; int64, shape (rows,).
        hash: BLAKE2b over the row's text (or its token ids) as little-endian words; uint64, shape (rows,
            `HASH_WORDS`). Of an older file: 8 bytes, shape (rows, 1).
        order: Sort key (batch, rank, position in the batch); int64, shape (rows, 3).
        flags: What kind of row it is: `OPENS`, `SEVERAL`, `READ`, `SPECIAL_SCORED`; uint8, shape (rows,). Left out:
            it was not looked at.
    """

    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    hash: NDArray[np.uint64]
    order: NDArray[np.int64]
    flags: NDArray[np.uint8] = field(default_factory=_no_flags)

    def __post_init__(self) -> None:
        """Fills up flags that were left out; makes a column of an older file's hashes."""
        if self.hash.ndim == 1:
            object.__setattr__(self, "hash", self.hash.reshape(-1, 1))
        if len(self.flags) != len(self.nll):
            object.__setattr__(self, "flags", np.zeros(len(self.nll), dtype=np.uint8))

    def __len__(self) -> int:
        return len(self.nll)

    @classmethod
    def empty(cls) -> RowSums:
        """No rows."""
        return cls(
            nll=np.zeros(0),
            tokens=np.zeros(0, dtype=np.int64),
            bytes=np.zeros(0, dtype=np.int64),
            hash=np.zeros((0, HASH_WORDS), dtype=np.uint64),
            order=np.zeros((0, 3), dtype=np.int64),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[RowSums]) -> RowSums:
        """All parts together, sorted into data-set order."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.empty()
        order = np.concatenate([part.order for part in parts])
        index = np.lexsort((order[:, 2], order[:, 1], order[:, 0]))
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts])[index] for name in _ARRAYS})

    def to_payload(self) -> Payload:
        """The arrays as an ``.npz`` (no pickled objects), for a file or for another process."""
        buffer = io.BytesIO()
        np.savez(buffer, **{name: getattr(self, name) for name in _ARRAYS})
        return buffer.getvalue()

    @classmethod
    def from_payload(cls, payload: Payload) -> RowSums:
        """The inverse of :meth:`to_payload`; never unpickles. Files from before there were flags are read too.

        Raises:
            ValueError: If the arrays do not fit together.
            KeyError: If one is missing.
        """
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            if "flags" in arrays.files and arrays["flags"].shape != arrays["nll"].shape:
                raise ValueError("the arrays differ in length or shape")
            known = {name: kind for name, kind in _ARRAYS.items() if name != "flags" or name in arrays.files}
            found = {name: arrays[name].astype(kind) for name, kind in known.items()}
            return cls(**{**found, "order": found["order"].reshape(-1, 3)})._checked()

    def _checked(self) -> RowSums:
        rows = len(self)
        widths = (self.nll.ndim, self.tokens.ndim, self.bytes.ndim, self.hash.ndim, self.flags.ndim)
        lengths = {len(part) for part in (self.tokens, self.bytes, self.hash, self.order, self.flags)}
        if lengths != {rows} or widths != (1, 1, 1, 2, 1) or self.hash.shape[1] not in (1, HASH_WORDS):
            raise ValueError("the arrays differ in length or shape")
        if bool((self.tokens < 0).any()):
            raise ValueError("a row has fewer than 0 tokens")
        return self

    def fingerprint(self) -> str:
        """The hash of all rows' hashes, whatever their order: ``v2-`` and 64 hexadecimal digits.

        Of the sorted hashes, not of their sum: rows whose hashes add up to a given sum are found in a minute.
        Sums of an older file, whose hashes have 64 bits: their sum modulo 2**64, as 16 digits, as it was written then.
        """
        if self.hash.shape[1] == 1:
            total = int(np.add.reduce(self.hash[:, 0], dtype=np.uint64)) if len(self) else 0
            return f"{total:016x}"
        ordered = self.hash[np.lexsort(self.hash.T)].astype("<u8").tobytes()
        return f"{VERSION}-{blake2b(ordered, digest_size=32).hexdigest()}"

    def contradiction(
        self,
        *,
        loss: float | None = None,
        tokens: int | None = None,
        bytes: int | None = None,
        fingerprint: str | None = None,
    ) -> str | None:
        """What in these sums contradicts the row of their evaluation; None where nothing does.

        Args:
            loss: The row's exact loss, nats per token. None, here and below: the row has none.
            tokens: Its target tokens.
            bytes: Its bytes of the scored text.
            fingerprint: Its text.
        """
        counted = self.tokens > 0
        own = int(self.tokens.sum())
        if tokens is not None and own != tokens:
            return f"they have {own:,} tokens and the row {tokens:,}"
        if bytes is not None and not bool((self.bytes[counted] < 0).any()):
            length = int(self.bytes[counted].sum())
            if length != bytes:
                return f"they have {length:,} bytes and the row {bytes:,}"
        # What was hashed, text or token ids, stands in front of the row's alone.
        if fingerprint is not None and not f"-{fingerprint}".endswith(f"-{self.fingerprint()}"):
            return "they are of another text than the row"
        if loss is not None and math.isfinite(loss):
            mean = float(self.nll[counted].sum()) / own if own else math.nan
            if not math.isclose(mean, loss, rel_tol=_CLOSE):
                return f"their loss is {mean:.4f} and the row's {loss:.4f}"
        return None


def exact_numbers(
    rows: RowSums, prefix: str, nonfinite_batches: int, *, with_bytes: bool
) -> dict[str, float | int]:
    """The published numbers of one evaluation, keyed for its row.

    Args:
        rows: Sums of every row, over all ranks, duplicates already dropped.
        prefix: The evaluation's prefix, such as ``eval`` or ``eval_ko``.
        nonfinite_batches: Batches with a NaN or infinite loss. Above zero, the exact loss is infinite: the
            corpus loss is then no number, and infinity is the one value that best-model selection and
            targets can never mistake for success.
        with_bytes: Whether the bytes of every row are known.

    Returns:
        Loss in nats per token with its standard error, perplexity, bits per byte with its standard error,
        target tokens, bytes, rows, non-finite batches. A number that cannot be given is left out.
    """
    counted = rows.tokens > 0
    tokens = int(rows.tokens.sum())
    numbers: dict[str, float | int] = {
        keys.TOKENS: tokens,
        keys.ROWS: int(counted.sum()),
        keys.NONFINITE_BATCHES: int(nonfinite_batches),
    }
    if tokens:
        nll = rows.nll[counted]
        if nonfinite_batches or not np.isfinite(nll).all():
            numbers[keys.EXACT_LOSS] = math.inf
        else:
            loss = ratio_estimate(nll, rows.tokens[counted])
            numbers[keys.EXACT_LOSS] = loss.value
            if loss.se is not None:
                numbers[keys.EXACT_LOSS_SE] = loss.se
            _add_perplexity(numbers)
            if with_bytes and int(rows.bytes[counted].sum()) > 0:
                bits = ratio_estimate(nll / math.log(2.0), rows.bytes[counted])
                numbers[keys.BITS_PER_BYTE] = bits.value
                if bits.se is not None:
                    numbers[keys.BITS_PER_BYTE_SE] = bits.se
    if with_bytes:
        numbers[keys.BYTES] = int(rows.bytes[counted].sum())
    return {keys.key(prefix, suffix): value for suffix, value in numbers.items()}


def loss_numbers(
    nll: float,
    tokens: int,
    prefix: str,
    nonfinite_batches: int,
    *,
    rows: RowSums | None = None,
    with_bytes: bool = False,
) -> dict[str, float | int]:
    """The published numbers where only the batch losses and their counts are known: no error bar.

    Args:
        nll: Sum of the negative log-likelihood over all batches and ranks, in nats.
        tokens: Target tokens behind it.
        prefix: The evaluation's prefix.
        nonfinite_batches: As in :func:`exact_numbers`.
        rows: Tokens and bytes of every row, whose losses are not looked at; None where the text was not read.
        with_bytes: Whether the bytes of every row are known.
    """
    numbers: dict[str, float | int] = {
        keys.TOKENS: int(tokens),
        keys.NONFINITE_BATCHES: int(nonfinite_batches),
    }
    if rows is not None:
        numbers[keys.ROWS] = int((rows.tokens > 0).sum())
    size = int(rows.bytes[rows.tokens > 0].sum()) if rows is not None and with_bytes else 0
    if rows is not None and with_bytes:
        numbers[keys.BYTES] = size
    if tokens:
        finite = not nonfinite_batches and math.isfinite(nll)
        numbers[keys.EXACT_LOSS] = nll / tokens if finite else math.inf
        _add_perplexity(numbers)
        if finite and size:
            numbers[keys.BITS_PER_BYTE] = nll / math.log(2.0) / size
    return {keys.key(prefix, suffix): value for suffix, value in numbers.items()}


def _add_perplexity(numbers: dict[str, float | int]) -> None:
    value = perplexity(numbers[keys.EXACT_LOSS])
    if math.isfinite(value):
        numbers[keys.PPL] = value


def numbers_only(row: Mapping[str, object]) -> dict[str, float | int]:
    """The entries of ``row`` that a tracker can plot."""
    return {
        name: value
        for name, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
