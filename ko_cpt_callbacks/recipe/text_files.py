"""The text files that a source names: which they are, of what kind, how they are opened, in which encoding.

Training and ``ko-cpt validate`` both ask here; nothing else is needed to read them but, for ``.zst``, pyarrow, which
comes with ``datasets``.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import glob
import gzip
import io
import lzma
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO, Final, Literal, cast

Format = Literal["text", "json", "csv", "parquet"]

FORMATS: Final[Mapping[str, Format]] = {
    ".txt": "text",
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""A file's format by the end of its name, as ``datasets`` calls it."""

PACKED: Final = {".gz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}
"""The program that unpacks a file, by the end of its name."""

NAMES: Final = ".txt, .jsonl, .json, .csv (packed as .gz, .zst, .xz, .bz2 or not) or .parquet"

_PATTERN: Final = frozenset("*?[")


def format_of(path: PurePath) -> Format | None:
    """The format of a file, packed or not; None where its name says none.

    Parquet is packed inside; around it no library here unpacks.
    """
    if path.suffix not in PACKED:
        return FORMATS.get(path.suffix)
    inner = FORMATS.get(path.with_suffix("").suffix)
    return None if inner == "parquet" else inner


def may_hold_text(name: str) -> bool:
    """Whether a name of a recipe can be files of a known format, or a folder of them."""
    path = PurePath(name)
    is_folder = name.endswith("/") or (not path.suffix and not _PATTERN & set(path.name))
    return is_folder or format_of(path) is not None


def files_of(place: Path) -> list[Path]:
    """The files that a path stands for, sorted: itself, all of a known format in a folder, or those that fit a pattern.

    Args:
        place: A path as it is, before it is taken for a pattern: brackets stand in names too.

    Returns:
        The files; empty where there are none. What is hidden in a folder is left out.
    """
    if place.is_file():
        return [place]
    if place.is_dir():
        inside = (path for path in place.rglob("*") if format_of(path) is not None and path.is_file())
        return sorted(path for path in inside if not is_hidden(path, place))
    return sorted(map(Path, glob.glob(str(place), recursive=True)))


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file in a folder, or a folder between, has a name that begins with a dot."""
    return any(part[0] == "." for part in path.relative_to(folder).parts)


def open_unpacked(path: Path) -> IO[bytes]:
    """A file's content, unpacked where its name says that it is packed.

    Raises:
        OSError: If it cannot be opened.
        ImportError: If it is ``.zst`` and pyarrow is not installed.
    """
    if path.suffix == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if path.suffix == ".xz":
        return lzma.open(path)
    if path.suffix == ".bz2":
        return bz2.open(path)
    return unpack_zstd(path.open("rb")) if path.suffix == ".zst" else path.open("rb")


def unpack_zstd(file: IO[bytes], mode: str = "rb") -> IO[bytes]:
    """What is in a zstd file, to its end: several frames one after the other are one text.

    Args:
        file: Opened for bytes.
        mode: Of reading; another is refused.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    import pyarrow  # type: ignore[import-untyped]

    if "r" not in mode:
        raise ValueError(f"a zstd file is read here, not written (mode {mode!r})")
    stream: IO[bytes] = io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd"))
    return stream


def csv_columns(head: bytes) -> list[str]:
    """The names in the first line of a CSV, by its beginning in UTF-8; the last letter may be cut."""
    return next(csv.reader(io.StringIO(head.decode("utf-8-sig", "ignore"), newline="")), [])


# -- encodings -------------------------------------------------------------------------------------------------------

BLOCK: Final = 1 << 16
"""Bytes of a file that are looked at or read at once; chosen, not measured: some thirty documents."""

_LIKELY: Final = 0.5
"""Share of Hangul among what is not ASCII from which on a text is taken for Korean in an encoding. Chosen, not
measured: a text read in the wrong one has hardly any."""

_CANDIDATES: Final = (("cp949", "CP949"), ("utf-16-le", "UTF-16LE"), ("utf-16-be", "UTF-16BE"))
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def is_utf8(sample: bytes, *, cut: bool) -> bool:
    """Whether the beginning of a text is in UTF-8; where more bytes follow (``cut``) the last letter may be cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample, final=not cut)
    except UnicodeDecodeError:
        return False
    return "\0" not in text


def likely_encoding(sample: bytes) -> str | None:
    """The encoding that a text which is no UTF-8 is probably in, as ``iconv`` calls it; None where none is likely.

    The bytes begin where the text does, or where it stops being UTF-8.
    """
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    for codec, name in _CANDIDATES:
        text = _decoded(sample, codec)
        strange = [letter for letter in text if letter > "\x7f"]
        hangul = sum("가" <= letter <= "힣" for letter in strange)
        if strange and "\0" not in text and hangul >= _LIKELY * len(strange):
            return name
    # A text in ASCII letters has a NUL beside each in UTF-16.
    odd, even = sample[1::2].count(0), sample[::2].count(0)
    if max(odd, even) * 4 > len(sample):
        return "UTF-16LE" if odd > even else "UTF-16BE"
    return None


def _decoded(sample: bytes, codec: str) -> str:
    try:
        return codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return ""


def encoding_hint(path: Path) -> str | None:
    """What to do about a text that is no UTF-8: the likely encoding, and the command that converts the file.

    Args:
        path: The file; it is read up to the first bytes that are no UTF-8.

    Returns:
        None where all of it is UTF-8, or cannot be read.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_unpacked(path) as file:
            for block in _blocks(file):
                try:
                    text = decoder.decode(block)
                except UnicodeDecodeError as error:
                    # From the whole line on: a letter of two bytes may begin with one that UTF-8 knows.
                    start = max(error.object.rfind(b"\n", 0, error.start) + 1, 0)
                    return convert(path, likely_encoding(error.object if error.start < 2 else error.object[start:]))
                if "\0" in text:
                    return convert(path, likely_encoding(block))
    except (OSError, EOFError, ValueError, ImportError, lzma.LZMAError):
        return None
    return None


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def convert(path: Path, encoding: str | None) -> str:
    """The words for an encoding and the command that makes UTF-8 of a file."""
    if encoding is None:
        return "convert it to UTF-8 (iconv -f ENCODING -t UTF-8)"
    unpack = PACKED.get(path.suffix)
    inner = path.with_suffix("") if unpack else path
    new = shlex.quote(str(inner.with_name(f"{inner.stem}-utf8{inner.suffix}{path.suffix if unpack else ''}")))
    old = shlex.quote(str(path))
    if unpack:
        return f"likely {encoding}: {unpack} -dc {old} | iconv -f {encoding} -t UTF-8 | {unpack} > {new}"
    return f"likely {encoding}: iconv -f {encoding} -t UTF-8 {old} > {new}"
