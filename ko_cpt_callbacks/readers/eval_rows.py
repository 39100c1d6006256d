"""``eval_rows/<set>-<step>.npz``, the per-row sums of one evaluation, to `RowSums`. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.readers.text_file import opening_failure, other_kind

if TYPE_CHECKING:
    from ko_cpt_callbacks.metrics.row_sums import RowSums

__all__ = ["MAX_BYTES", "eval_rows_path", "read_eval_rows"]

MAX_BYTES: Final = 1 << 30
"""A file larger than this is not read: about 13 million rows. Chosen, not measured."""


def eval_rows_path(record: Path, split: str, step: int) -> Path:
    """Where the sums of an evaluation are, whether or not they are there.

    Args:
        record: The run's ``ko_cpt`` folder.
        split: The evaluation's prefix.
        step: Optimizer step of the evaluation.
    """
    return record / keys.EVAL_ROWS_FOLDER / keys.eval_rows_file(split, step)


def read_eval_rows(path: str | Path) -> RowSums:
    """The per-row sums in a file.

    Raises:
        UnreadableRunError: If it cannot be opened, is larger than `MAX_BYTES`, is compressed (this package writes
            it as it is, and a compressed one may unpack to any size), or holds other arrays.
    """
    from ko_cpt_callbacks.metrics.row_sums import RowSums  # numpy: not for a run that is judged without it

    path = Path(path)
    try:
        kind = other_kind(path)
        if kind is not None:
            raise UnreadableRunError(f"{path}: found {kind}, expected a file of per-row sums; move it away")
        if path.stat().st_size > MAX_BYTES:
            raise UnreadableRunError(f"{path}: found {path.stat().st_size:,} bytes, expected at most {MAX_BYTES:,}")
        with zipfile.ZipFile(path) as archive:
            packed = [item.filename for item in archive.infolist() if item.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise UnreadableRunError(f"{path}: found compressed arrays, expected those that this package writes")
        return RowSums.from_payload(path.read_bytes())
    except OSError as error:
        raise UnreadableRunError(f"{path}: {opening_failure(error)}") from None
    except UnreadableRunError:
        raise
    except Exception as error:  # zipfile and numpy raise a dozen kinds for damaged bytes, another dozen next year
        raise UnreadableRunError(
            f"{path}: found no per-row sums ({type(error).__name__}: {error}), expected the arrays nll, tokens, bytes, "
            "hash and order; move it away to go on without it"
        ) from None
