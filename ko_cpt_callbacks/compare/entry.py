"""One baseline's file: read strictly, and as a value. Nothing of it is executed, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.compare.baseline import (
    Baseline,
    BaselineStage,
    BaselineValue,
    Efficiency,
    Grade,
    QuantizationOffset,
)
from ko_cpt_callbacks.compare.figure import Derived, read_printed
from ko_cpt_callbacks.compare.schema import BaselineFile, Figure, Value, derived_figure, disagreements, figures_of
from ko_cpt_callbacks.compare.stage import NOT_STATED, Trains
from ko_cpt_callbacks.errors import BaselineError
from ko_cpt_callbacks.yaml.mistake import Key, Mistake, one_each, shown
from ko_cpt_callbacks.yaml.reading import YamlDocument, read_document, read_text
from ko_cpt_callbacks.yaml.shape import line_of, shape_mistakes

MAX_BYTES: Final = 65_536
"""The largest baseline that is read; chosen, not measured: the longest that comes with the package has 14,000."""

SUFFIX: Final = ".yaml"
_WHAT: Final = "a baseline"
_WEAKEST_LAST: Final[tuple[Grade, ...]] = ("V", "OWN", "S", "D", "UNCONFIRMED", "M")
_QUANTIZATIONS: Final = ("none", "8-bit", "4-bit")


@dataclass(frozen=True)
class Entry:
    """A baseline as its file has it.

    Attributes:
        path: The file.
        file: What it says.
        values: The same as plain values, ``not stated`` and all, for what shows it.
    """

    path: Path
    file: BaselineFile
    values: dict[str, Any]

    def baseline(self) -> Baseline:
        """The core value: what can be compared, computed figures computed again."""
        file = self.file
        low, high = _range(file.tokenizer.bytes_per_token)
        quantization = file.hardware.quantization
        return Baseline(
            id=file.id,
            title=file.title,
            kind=file.kind,
            grade=self.grade,
            tokenizer=_quoted(file.tokenizer.name),
            vocabulary=_whole(file.tokenizer.vocabulary),
            bytes_per_token_low=low,
            bytes_per_token_high=high,
            quantization=word if (word := _quoted(quantization)) in _QUANTIZATIONS else NOT_STATED,
            stages=tuple(
                BaselineStage(
                    name=stage.name,
                    title=stage.title,
                    trains=None if stage.trains is None else Trains(**stage.trains.model_dump()),
                    values=tuple(self._value(item) for item in file.values or () if item.stage == stage.name),
                    reference=stage.reference,
                )
                for stage in file.stages
            ),
            why_not=file.why_not or "",
            version=file.version,
            language=file.language,
            tokenizer_hash=file.tokenizer.hash or "",
            superseded_by=file.superseded_by or "",
            start="from scratch" if file.kind == "from scratch" else file.start or "",
        )

    @property
    def grade(self) -> Grade:
        """The weakest grade among its losses; of a run without any, among everything that is recorded of it.

        What is computed here counts as what it was computed from: arithmetic makes a figure no better, and no worse.
        """
        figures: Iterable[Figure] = self.file.values or _figures(self.file)
        return _weakest(figures) or _weakest(_figures(self.file)) or self.file.stages[0].grade

    def figures(self) -> tuple[Figure, ...]:
        """Every figure of the file."""
        return tuple(_figures(self.file))

    def efficiency(self) -> Efficiency | None:
        """Its tokens per GPU hour; None where they are not known."""
        figure, gpu = self.file.efficiency, self.file.hardware.gpu
        if figure is None or gpu is None or gpu.quoted is None:
            return None
        value, low, high, _ = _interval(figure)
        inputs = [item for item in _figures(self.file) if item.quoted in (figure.inputs or {}).values()]
        grade = _weakest([*inputs, gpu]) or figure.grade
        return Efficiency(self.file.id, self.file.title, gpu.quoted, value, low, high, grade)

    def quantization_offsets(self) -> tuple[QuantizationOffset, ...]:
        """What loading it in fewer bits added to its loss."""
        found = []
        for offset in self.file.quantization_offsets:
            value, low, high, _ = _interval(offset)
            found.append(QuantizationOffset(self.file.id, offset.quantization, value, low, high, offset.grade))
        return tuple(found)

    def _value(self, item: Value) -> BaselineValue:
        value, low, high, rounding = _interval(item)
        return BaselineValue(
            metric=item.metric,
            split=item.split,
            value=value,
            low=low,
            high=high,
            rounding=rounding,
            grade=item.grade,
            origin=item.origin,
            formula=_told(item),
            set=item.set or "",
            se=item.se,
            fingerprint=item.fingerprint,
            rows_file=None if item.rows_file is None else str(self.path.parent / item.rows_file),
            locator=item.locator or "",
            position=item.position or "",
            quantization=item.quantization or "",
            tokens=item.tokens,
            bytes=item.bytes,
            language=item.language or "",
            seeds=item.seeds,
            seed_sd=None if item.seed_sd is None else _interval(item.seed_sd)[0],
        )


def read_entry(path: Path) -> Entry:
    """The baseline of a file.

    Args:
        path: The file, ``<id>.yaml``.

    Raises:
        BaselineError: If it cannot be used. It tells every mistake, one a line: file and line, key, what was found,
            what is expected, and what was probably meant.
    """
    return parse_entry(read_text(path, MAX_BYTES, BaselineError, _WHAT, f"{_WHAT} of a few pages"), path)


def parse_entry(text: str, path: Path) -> Entry:
    """The baseline of a text.

    Args:
        text: What the file says, or will say.
        path: The file; it need not be there.

    Raises:
        BaselineError: As `read_entry`.
    """
    document = read_document(text, _WHAT)
    if document.values is None:
        raise _error(document.mistakes or [Mistake((), 1, "an empty file", _WHAT)], path)
    if not isinstance(document.values, dict):
        raise _error([*document.mistakes, Mistake((), 1, shown(document.values), "a mapping")], path)
    file, mistakes = shape_mistakes(BaselineFile, document)
    told = [*document.mistakes, *_blanks(document), *mistakes]
    if file is not None:
        if path.name != f"{file.id}{SUFFIX}":
            told.append(Mistake(("id",), document.lines[("id",)], shown(file.id), f"the file's name {path.stem}"))
        told.extend(
            Mistake(key, line_of(document, key), found, expected, near)
            for key, found, expected, near in disagreements(file)
        )
        told.extend(_outside(file, document, path))
    if told or file is None:
        raise _error(told, path)
    return Entry(path, file, document.values)


def _error(mistakes: Iterable[Mistake], path: Path) -> BaselineError:
    return BaselineError("\n".join(mistake.sentence(str(path)) for mistake in one_each(mistakes)))


def _blanks(document: YamlDocument) -> list[Mistake]:
    """Keys with nothing behind them: that a source does not state a value must be written."""
    found: list[Mistake] = []

    def walk(value: Any, key: Key) -> None:
        if value is None:
            found.append(Mistake(key, line_of(document, key), "nothing", f"a value, or the text {NOT_STATED}"))
        elif isinstance(value, dict):
            for name, item in value.items():
                walk(item, (*key, name))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                walk(item, (*key, number))

    walk(document.values, ())
    return found


def _outside(file: BaselineFile, document: YamlDocument, path: Path) -> list[Mistake]:
    """Files of row sums that lie elsewhere than beside the baseline, through a link for example."""
    found = []
    folder = path.parent.resolve()
    for number, value in enumerate(file.values or ()):
        if value.rows_file is not None and not (folder / value.rows_file).resolve().is_relative_to(folder):
            key: Key = ("values", number, "rows_file")
            found.append(Mistake(key, line_of(document, key), shown(value.rows_file), "a file beside the baseline"))
    return found


def _interval(figure: Figure) -> tuple[float, float, float, float]:
    """Value, lowest, highest, and what rounding adds to a range between two readings."""
    if figure.origin == "computed":
        derived: Derived = derived_figure(figure)
        return derived.value, derived.low, derived.high, derived.rounding
    value = figure.value
    assert value is not None  # of a text no one asks for the range
    if figure.quoted is None:
        return value, value, value, 0.0
    printed = read_printed(figure.quoted)
    return value, printed.low, printed.high, 0.0


def _range(figure: Figure | None) -> tuple[float | None, float | None]:
    if figure is None or figure.value is None:
        return None, None
    _, low, high, _ = _interval(figure)
    return low, high


def _quoted(figure: Figure | None) -> str:
    return "" if figure is None or figure.contradicted_by is not None else figure.quoted or ""


def _whole(figure: Figure | None) -> int | None:
    return None if figure is None or figure.value is None else round(figure.value)


def _told(figure: Figure) -> str:
    """How a computed figure was made, or what is to be known of a measured one, in one line."""
    if figure.origin != "computed":
        return figure.note or ""
    derived = derived_figure(figure)
    inputs = [f"{name} {text}" for name, text in (figure.inputs or {}).items() if isinstance(text, str)]
    parts = [f"{figure.formula}{' with ' if inputs else ''}{', '.join(inputs)}"]
    if derived.open:
        parts.append(
            f"{derived.high:.3f} if GB is 10^9 bytes and {derived.low:.3f} if it is 2^30; "
            f"the printed digits add up to {derived.rounding:.3f} at either end"
        )
    if figure.note is not None:
        parts.append(figure.note)
    return "; ".join(parts)


def _weakest(figures: Iterable[Figure]) -> Grade | None:
    grades = [figure.grade for figure in figures if figure.origin != "computed"]
    return max(grades, key=_WEAKEST_LAST.index, default=None)


def _figures(at: Any) -> list[Figure]:
    """All figures of a file, or of a part of one."""
    return [figure for _, figure in figures_of(at) if isinstance(figure, Figure)]
