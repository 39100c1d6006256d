"""What the parts of a baseline's file must agree on: printed digits and values, formulas and their inputs, names.

Asked of a file that has the schema's shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.baselines.formula import FORMULAS, MEAN, Derived, derive
from ko_cpt_callbacks.baselines.printed import read_printed
from ko_cpt_callbacks.baselines.schema import BaselineFile, Figure, Said, Value
from ko_cpt_callbacks.yaml.mistake import Key, near_miss, shown

Told = Iterator[tuple[Key, str, str, str | None]]

_UNITS: Final = {"loss": "nats per token", "ppl": "perplexity", keys.BITS_PER_BYTE: "bits per byte"}
# A computed number in the file is for people; it may be rounded, but not more than this share.
_SHOWN: Final = 5e-4  # chosen: three digits and a half
_OWN: Final = "own"


def disagreements(file: BaselineFile) -> Told:
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
    yield from _standing(file)


def figures_of(at: Any, key: Key = ()) -> Iterator[tuple[Key, Figure | Said]]:
    """Every figure of a file with its place."""
    if isinstance(at, (Figure, Said)):
        yield key, at
    if isinstance(at, BaseModel):
        for name in type(at).model_fields:
            yield from figures_of(getattr(at, name), (*key, name))
    elif isinstance(at, dict):
        for name, item in at.items():
            yield from figures_of(item, (*key, name))
    elif isinstance(at, list):
        for number, item in enumerate(at):
            yield from figures_of(item, (*key, number))


def _figure(key: Key, figure: Figure, quoted: set[str], *, own: bool) -> Told:
    origin = figure.origin
    wanted = {"computed": "OWN" if own else "D", "seed-only": "SEED", "measured": "OWN"}.get(origin)
    if wanted is not None and figure.grade != wanted:
        yield (*key, "grade"), figure.grade, f"{wanted}, the grade of what is {origin}", wanted
    if wanted is None and figure.grade in ("D", "SEED", "OWN"):
        yield (*key, "origin"), origin, f"the origin that grade {figure.grade} has", None
    if origin == "measured" and not own:
        yield (*key, "origin"), origin, "reported, computed or seed-only, in what is not the user's own", None
    if origin in ("reported", "seed-only"):
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


def _rounding(key: Key, quoted: str, value: float) -> Told:
    try:
        printed = read_printed(quoted)
    except ValueError:
        yield (*key, "quoted"), shown(quoted), "a number, where there is a value (2.8064, 9.7B, 43.9 GB)", None
        return
    if not printed.low <= value <= printed.high:
        expected = f"a number that is printed {quoted}, {printed.low:.10g} to {printed.high:.10g}"
        yield (*key, "value"), f"{value:.10g}", expected, None


def _computed(key: Key, figure: Figure, quoted: set[str]) -> Told:
    missing = [name for name in ("formula", "inputs", "value") if getattr(figure, name) is None]
    yield from (((*key, name), "nothing", "this key, in what is computed", None) for name in missing)
    if figure.formula is not None and figure.formula not in FORMULAS:
        near = near_miss(figure.formula, FORMULAS)
        yield (*key, "formula"), shown(figure.formula), f"one of {'; '.join(FORMULAS)}", near
        return
    if missing:
        return
    try:
        derived = derived_figure(figure)
    except ValueError as error:
        yield (*key, "inputs"), str(error), f"the inputs of {figure.formula}", None
        return
    if figure.formula != MEAN:
        for name, text in (figure.inputs or {}).items():
            if text not in quoted:
                yield (*key, "inputs", name), shown(text), "digits that another figure of this file quotes", None
    for name in ("value", "low", "high"):
        written, found = getattr(figure, name), getattr(derived, name)
        if written is not None and not math.isclose(written, found, rel_tol=_SHOWN):
            yield (*key, name), f"{written:.10g}", f"{found:.6g}, which is what {figure.formula} gives", f"{found:.4g}"


def derived_figure(figure: Figure) -> Derived:
    """A computed figure, computed again.

    Raises:
        ValueError: If it cannot be.
    """
    inputs = figure.inputs or {}
    for name, item in inputs.items():
        numbers = isinstance(item, list) and all(type(number) in (int, float) for number in item)
        if not numbers and not isinstance(item, str):
            raise ValueError(f"{name}: {shown(item)}, where a printed number in quotation marks is expected")
    return derive(figure.formula or "", inputs)


def _stages(file: BaselineFile) -> Told:
    seen: set[str] = set()
    for number, stage in enumerate(file.stages):
        if stage.name in seen:
            yield ("stages", number, "name"), shown(stage.name), "a name that no earlier stage has", None
        seen.add(stage.name)


def _value(key: Key, value: Value, file: BaselineFile) -> Told:
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
    if value.rows_file is not None and value.rows_file.partition("/")[0] != file.id:
        yield (*key, "rows_file"), shown(value.rows_file), f"a file in the folder {file.id}", None


def _bibtex(file: BaselineFile) -> Told:
    for name, source in file.sources.items():
        text = source.bibtex
        whole = text.startswith("@") and text.endswith("}") and text.count("{") == text.count("}")
        if not whole or source.url not in text:
            yield ("sources", name, "bibtex"), shown(text), f"one BibTeX entry that names {source.url}", None


def _standing(file: BaselineFile) -> Told:
    """What no loss can be compared with says why; the rest has something to compare with."""
    usable = file.kind in ("continued pretraining", "from scratch") and any(
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
