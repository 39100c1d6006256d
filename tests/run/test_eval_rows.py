"""The file of an evaluation's sums per row: read back as written, and nothing else is read."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from check.staged import sums

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.run import folder as eval_rows
from ko_cpt_callbacks.run.folder import RunFolder, eval_rows_path, read_eval_rows


def test_it_is_found_where_it_was_written(tmp_path: Path) -> None:
    """The run folder's writer and this reader agree on the name, also of a set named in Hangul or with a slash."""
    rows = sums(3.0)
    for split in ("eval", "eval_한국어", "eval_a/b"):
        RunFolder(tmp_path, "en").eval_rows(split, 40, rows)
        read = read_eval_rows(eval_rows_path(tmp_path / "ko_cpt", split, 40))
        assert np.array_equal(read.nll, rows.nll)
        assert read.fingerprint() == rows.fingerprint()


def _bytes(save: object, **arrays: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)  # type: ignore[operator]
    return buffer.getvalue()


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, ("never",))


def _pickled() -> bytes:
    holder = np.empty(1, dtype=object)
    holder[0] = _Evil()
    return _bytes(np.savez, **dict.fromkeys(("nll", "tokens", "bytes", "hash", "order"), holder))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "found no per-row sums"),
        (b"PK\x03\x04 cut", "found no per-row sums"),
        (pickle.dumps({"nll": [1.0]}), "found no per-row sums"),
        (_bytes(np.savez, nll=np.zeros(3)), "found no per-row sums (KeyError"),
        (_bytes(np.savez_compressed, **{name: np.zeros(9) for name in ("nll", "tokens", "bytes", "hash", "order")}),
         "found compressed arrays"),
        (_pickled(), "found no per-row sums (ValueError"),
    ],
    ids=["empty", "cut", "pickle", "other arrays", "compressed", "objects inside"],
)  # fmt: skip
def test_another_file(tmp_path: Path, data: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, cut off, pickled, compressed or other arrays: one line, and nothing of it is executed."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "eval-1.npz"
    path.write_bytes(data)
    with pytest.raises(UnreadableRunError) as error:
        read_eval_rows(path)
    assert said in str(error.value)
    assert not (tmp_path / "never").exists()


def test_too_large_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beyond the bound is not read, and one that is not there is named."""
    path = tmp_path / "eval-1.npz"
    with pytest.raises(UnreadableRunError, match="cannot be opened"):
        read_eval_rows(path)
    path.write_bytes(sums(3.0).to_payload())
    assert zipfile.is_zipfile(path)
    monkeypatch.setattr(eval_rows, "MAX_BYTES", 100)
    with pytest.raises(UnreadableRunError, match="expected at most 100"):
        read_eval_rows(path)
