"""One baseline's file as a value that can be compared with, and what its parts must agree on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import (
    PRETRAINING,
    Baseline,
    BaselineStage,
    BaselineValue,
    Efficiency,
    Grade,
)
from ko_cpt_callbacks.compare.figure import FORMULAS, OVER_MANY, read_printed
from ko_cpt_callbacks.compare.schema import BaselineFile, Figure, Value, figures_of
from ko_cpt_callbacks.compare.stage import NOT_STATED, Trains
from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.yaml.mistake import Key, shown
from ko_cpt_callbacks.yaml.reading import KeyMistakes

# What a value of the file and one that is compared with call by one name.
_SAME: Final = (
    "metric", "split", "grade", "origin", "set", "se", "fingerprint", "locator", "position", "quantization", "tokens",
    "bytes", "language", "seeds",
)  # fmt: skip
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
        quantization = _quoted(file.hardware.quantization)
        per_token = file.tokenizer.bytes_per_token
        reach = None if per_token is None or per_token.value is None else per_token.reach()
        return Baseline(
            id=file.id,
            title=file.title,
            kind=file.kind,
            grade=self.grade,
            tokenizer=_quoted(file.tokenizer.name),
            vocabulary=_whole(file.tokenizer.vocabulary),
            bytes_per_token_low=None if reach is None else reach.low,
            bytes_per_token_high=None if reach is None else reach.high,
            quantization=quantization if quantization in _QUANTIZATIONS else NOT_STATED,
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
        reach = figure.reach()
        inputs = [item for item in _figures(self.file) if item.quoted in (figure.inputs or {}).values()]
        grade = _weakest([*inputs, gpu]) or figure.grade
        return Efficiency(self.file.id, self.file.title, gpu.quoted, reach.value, reach.low, reach.high, grade)

    def _value(self, item: Value) -> BaselineValue:
        reach = item.reach()
        same = {name: found for name in _SAME if (found := getattr(item, name)) is not None}
        return BaselineValue(
            value=reach.value,
            low=reach.low,
            high=reach.high,
            rounding=reach.rounding,
            formula=_told(item),
            rows_file=None if item.rows_file is None else str(self.path.parent / item.rows_file),
            seed_sd=None if item.seed_sd is None else item.seed_sd.reach().value,
            **same,
        )


def _quoted(figure: Figure | None) -> str:
    return "" if figure is None or figure.contradicted_by is not None else figure.quoted or ""


def _whole(figure: Figure | None) -> int | None:
    return None if figure is None or figure.value is None else round(figure.value)


def _told(figure: Figure) -> str:
    """How a computed figure was made, or what is to be known of a measured one, in one line."""
    if figure.origin != "computed":
        return figure.note or ""
    derived = figure.derived()
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


_UNITS: Final = {"loss": "nats per token", "ppl": "perplexity", keys.BITS_PER_BYTE: "bits per byte"}
# A computed number in the file is for people; it may be rounded, but not more than this share.
_SHOWN: Final = 5e-4  # chosen: three digits and a half
_OWN: Final = "own"


def disagreements(file: BaselineFile) -> KeyMistakes:
    """Key, found, expected and near miss of everything that contradicts something else."""
    figures = list(figures_of(file))
    quoted = {figure.quoted for _, figure in figures if figure.quoted is not None}
    for key, figure in figures:
        if isinstance(figure, Figure):
            yield from _figure(key, figure, quoted, own=file.status == _OWN)
        if figure.source is not None and figure.source not in file.sources:
            known = list(file.sources)
            expected = f"one of sources ({', '.join(known)})"
            yield (*key, "source"), shown(figure.source), expected, near_miss(figure.source, known)
    yield from _stages(file)
    for number, value in enumerate(file.values or ()):
        yield from _value(("values", number), value, file)
    yield from _bibtex(file)
    yield from _comparable(file)


def _figure(key: Key, figure: Figure, quoted: set[str], *, own: bool) -> KeyMistakes:
    origin = figure.origin
    wanted = {"computed": "OWN" if own else "D", "note-only": "UNCONFIRMED", "measured": "OWN"}.get(origin)
    if wanted is not None and figure.grade != wanted:
        yield (*key, "grade"), figure.grade, f"{wanted}, the grade of what is {origin}", wanted
    if wanted is None and figure.grade in ("D", "UNCONFIRMED", "OWN"):
        yield (*key, "origin"), origin, f"the origin that grade {figure.grade} has", None
    if origin == "measured" and not own:
        yield (*key, "origin"), origin, "reported, computed or note-only, in what is not the user's own", None
    if origin in ("reported", "note-only"):
        needed = [name for name in ("quoted", "source", "locator") if getattr(figure, name) is None]
        yield from (((*key, name), "nothing", f"this key, in what is {origin}", None) for name in needed)
    if origin == "computed":
        yield from _computed(key, figure, quoted)
        return
    for name in ("formula", "inputs", "low", "high"):
        if getattr(figure, name) is not None:
            yield (*key, name), "a key of what is computed", f"no such key in what is {origin}", None
    if figure.contradicted_by is not None and figure.value is not None:
        yield (*key, "value"), f"{figure.value:.10g}", "no value, where sources contradict each other", None
    if figure.quoted is not None and figure.value is not None:
        yield from _rounding(key, figure.quoted, figure.value)


def _rounding(key: Key, quoted: str, value: float) -> KeyMistakes:
    try:
        printed = read_printed(quoted)
    except ValueError:
        yield (*key, "quoted"), shown(quoted), "a number, where there is a value (2.8064, 9.7B, 43.9 GB)", None
        return
    if not printed.low <= value <= printed.high:
        expected = f"a number that is printed {quoted}, {printed.low:.10g} to {printed.high:.10g}"
        yield (*key, "value"), f"{value:.10g}", expected, None


def _computed(key: Key, figure: Figure, quoted: set[str]) -> KeyMistakes:
    missing = [name for name in ("formula", "inputs", "value") if getattr(figure, name) is None]
    yield from (((*key, name), "nothing", "this key, in what is computed", None) for name in missing)
    if figure.formula is not None and figure.formula not in FORMULAS:
        near = near_miss(figure.formula, FORMULAS)
        yield (*key, "formula"), shown(figure.formula), f"one of {'; '.join(FORMULAS)}", near
        return
    if missing:
        return
    try:
        derived = figure.derived()
    except ValueError as error:
        yield (*key, "inputs"), str(error), f"the inputs of {figure.formula}", None
        return
    if figure.formula not in OVER_MANY:
        for name, text in (figure.inputs or {}).items():
            if text not in quoted:
                yield (*key, "inputs", name), shown(text), "digits that another figure of this file quotes", None
    for name in ("value", "low", "high"):
        written, found = getattr(figure, name), getattr(derived, name)
        if written is not None and not math.isclose(written, found, rel_tol=_SHOWN):
            yield (*key, name), f"{written:.10g}", f"{found:.6g}, which is what {figure.formula} gives", f"{found:.4g}"


def _stages(file: BaselineFile) -> KeyMistakes:
    seen: set[str] = set()
    for number, stage in enumerate(file.stages):
        if stage.name in seen:
            yield ("stages", number, "name"), shown(stage.name), "a name that no earlier stage has", None
        seen.add(stage.name)


def _value(key: Key, value: Value, file: BaselineFile) -> KeyMistakes:
    known = [stage.name for stage in file.stages]
    if value.stage not in known:
        yield (*key, "stage"), shown(value.stage), f"a stage ({', '.join(known)})", near_miss(value.stage, known)
    if value.value is None:
        yield (*key, "value"), "nothing", "this key", None
    elif value.value <= 0:
        yield (*key, "value"), f"{value.value:.10g}", "more than 0", None
    if value.unit != _UNITS[value.metric]:
        yield (*key, "unit"), shown(value.unit), _UNITS[value.metric], None
    for name in ("se", "fingerprint", "tokens", "bytes", "rows", "rows_file"):
        if value.origin != "measured" and getattr(value, name) is not None:
            yield (*key, name), "a key of what is measured", f"no such key in what is {value.origin}", None
    yield from _seeds(key, value)
    if value.rows_file is not None and value.rows_file.partition("/")[0] != file.id:
        yield (*key, "rows_file"), shown(value.rows_file), f"a file in the folder {file.id}", None


def _seeds(key: Key, value: Value) -> KeyMistakes:
    if value.seed_sd is None:
        return
    if value.seeds is None:
        yield (*key, "seeds"), "nothing", "how many runs the standard deviation is of", None
    losses = (value.inputs or {}).get("losses")
    if value.formula in OVER_MANY and (value.seed_sd.inputs or {}).get("losses") != losses:
        yield (*key, "seed_sd", "inputs"), "other losses", "the losses of the mean", None
    if isinstance(losses, list) and len(losses) != value.seeds:
        yield (*key, "seeds"), f"{value.seeds}", f"{len(losses)}, the number of its losses", None


def _bibtex(file: BaselineFile) -> KeyMistakes:
    for name, source in file.sources.items():
        text = source.bibtex
        whole = text.startswith("@") and text.endswith("}") and text.count("{") == text.count("}")
        if not whole or source.url not in text:
            yield ("sources", name, "bibtex"), shown(text), f"one BibTeX entry that names {source.url}", None


def _comparable(file: BaselineFile) -> KeyMistakes:
    """What no loss can be compared with says why; the rest has something to compare with."""
    usable = file.kind in PRETRAINING and any(
        value.split == "eval" and stage.reference and value.stage == stage.name
        for value in file.values or ()
        for stage in file.stages
    )
    if not usable and file.why_not is None:
        yield ("why_not",), "nothing", "why no loss can be compared with this (it has no loss on held-out text)", None
    if (file.status == _OWN) != any(value.grade == "OWN" for value in file.values or ()):
        yield ("status",), file.status, "own where, and only where, this package measured the values", None
    if file.superseded_by == file.id:
        yield ("superseded_by",), shown(file.id), "another baseline", None
