"""What a baseline's file may say, and what its parts must agree on.

Every key is known; what a source does not say is the text ``not stated``.

A figure carries how it was come by (``origin``), how well it is known (``grade``), and where it stands; a derived
one its formula and inputs, so that it can be derived again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.baseline import PRETRAINING, Grade, Kind, Metric, Split, Start
from ko_cpt_callbacks.compare.figure import FORMULAS, OVER_MANY, Derived, derive, read_printed
from ko_cpt_callbacks.compare.stage import NOT_STATED, Adapter, Layers, Rows
from ko_cpt_callbacks.yaml.mistake import Key, near_miss, shown
from ko_cpt_callbacks.yaml.reading import KeyMistakes
from ko_cpt_callbacks.yaml.shape import StrictMapping

ID_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
"""Of an id: it becomes a file's name."""

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Count = Annotated[int, Field(ge=1)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
"""An ISO 639 code; ``mul`` is several, ``zxx`` no language (source code), ``und`` one that is not known."""

T = TypeVar("T")
Stated = Annotated[T | None, BeforeValidator(lambda value: None if value == NOT_STATED else value)]
"""A value, or None for the text ``not stated``. A key left blank is refused elsewhere."""


class Contradiction(StrictMapping):
    """What another source says of the same thing."""

    quoted: Text
    grade: Grade
    source: Name
    locator: Text


class Figure(StrictMapping):
    """One thing that is known of a run, a number or a text."""

    quoted: Text | None = None
    """The digits or words as printed; their last digit gives the range of ``value``."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    origin: Literal["reported", "computed", "note-only", "measured"] = "reported"
    formula: Text | None = None
    """Of a computed figure: one of `ko_cpt_callbacks.compare.figure.FORMULAS`."""
    inputs: dict[Name, Any] | None = None
    """Of a computed figure: printed numbers, each of which another figure of this file quotes."""
    grade: Grade
    source: Name | None = None
    locator: Text | None = None
    note: Text | None = None
    """What the figure takes for granted."""
    contradicted_by: Annotated[list[Contradiction], Field(min_length=1)] | None = None
    """Where sources disagree: what the others say. Then there is no ``value``: one of them would be a guess."""


class Value(Figure):
    """A loss, a perplexity or bits per byte."""

    metric: Metric
    split: Split
    unit: Literal["nats per token", "perplexity", "bits per byte"]
    stage: Name
    position: Stated[Text]
    set: Stated[Text]
    se: Annotated[float, Field(ge=0)] | None = None
    fingerprint: Text | None = None
    tokens: Count | None = None
    bytes: Count | None = None
    rows: Count | None = None
    rows_file: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*/[\w.-]+\.npz$")] | None = None
    quantization: Literal["none", "8-bit", "4-bit"] | None = None
    """How the model was loaded, where that is not the run's way."""
    language: Language | None = None
    """Of the scored text, where that is not the run's."""
    seeds: Annotated[int, Field(ge=2)] | None = None
    """Of a mean over runs that differ in nothing but their seed: how many."""
    seed_sd: Figure | None = None
    """Their standard deviation, in the same unit."""


class Benchmark(Figure):
    """A score of a downstream task."""

    name: Text
    of: Text
    """The model that has it: ``base model``, ``after pretraining``, ``after SFT``."""
    unit: Text


class Band(Figure):
    """A range that somebody called good or bad. Shown, never judged by."""

    name: Text


class Offset(Figure):
    """What loading the model in fewer bits adds to its loss, in nats per token, against 16-bit weights."""

    quantization: Literal["8-bit", "4-bit"]


class Tokenizer(StrictMapping):
    """The tokenizer of the run."""

    name: Stated[Figure]
    vocabulary: Stated[Figure]
    bytes_per_token: Stated[Figure]
    hash: Text | None = None


class Data(StrictMapping):
    """What it was trained on."""

    text: Stated[Figure]
    tokens: Stated[Figure]
    bytes: Stated[Figure]
    documents: Stated[Figure]


class Hardware(StrictMapping):
    """What it was trained with."""

    gpu: Stated[Figure]
    gpu_hours: Stated[Figure]
    quantization: Stated[Figure]
    """How the weights were loaded: ``none``, ``8-bit``, ``4-bit``."""


class Method(StrictMapping):
    """How it was trained."""

    summary: Text
    new_rows: Stated[Figure]
    """How rows added to the vocabulary began."""
    hyper_parameters: dict[Name, Stated[Figure]]


class StageTrains(StrictMapping):
    """What moves, in the words of `ko_cpt_callbacks.compare.stage`."""

    input: Rows
    output: Rows
    layers: Layers
    adapter: Adapter


class Stage(StrictMapping):
    """One stage; a run without stages has one, ``whole``."""

    name: Name
    title: Text
    trains: Stated[StageTrains]
    reference: bool
    grade: Grade
    source: Name
    locator: Text
    hyper_parameters: dict[Name, Stated[Figure]] = Field(default_factory=dict)


class Source(StrictMapping):
    """Where figures come from."""

    title: Text
    url: Annotated[str, StringConstraints(pattern=r"^(https|file)://\S+$")]
    bibtex: Text


class BaselineFile(StrictMapping):
    """One run."""

    id: Id
    """The file's name without ``.yaml``."""
    title: Text
    version: Count
    """Raised when a number moves."""
    superseded_by: Id | None = None
    status: Literal["published", "public log", "unconfirmed", "own"]
    kind: Kind
    language: Language
    start: Start | None = None
    """What the model was before, as far as the noise of seeds depends on it."""
    why_not: Text | None = None
    """Of a run that no loss can be compared with: why."""
    base_model: Stated[Figure]
    parameters: Stated[Figure]
    tokenizer: Tokenizer
    data: Data
    hardware: Hardware
    method: Method
    stages: Annotated[list[Stage], Field(min_length=1)]
    values: Stated[list[Value]]
    benchmarks: Stated[list[Benchmark]]
    efficiency: Stated[Figure]
    """Tokens per GPU hour."""
    quantization_offsets: list[Offset] = Field(default_factory=list)
    bands: list[Band] = Field(default_factory=list)
    notes: list[Text] = Field(default_factory=list)
    sources: Annotated[dict[Name, Source], Field(min_length=1)]


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


def figures_of(at: Any, key: Key = ()) -> Iterator[tuple[Key, Figure | Contradiction]]:
    """Every figure of a file with its place."""
    if isinstance(at, (Figure, Contradiction)):
        yield key, at
    if isinstance(at, StrictMapping):
        for name in type(at).model_fields:
            yield from figures_of(getattr(at, name), (*key, name))
    elif isinstance(at, dict):
        for name, item in at.items():
            yield from figures_of(item, (*key, name))
    elif isinstance(at, list):
        for number, item in enumerate(at):
            yield from figures_of(item, (*key, number))


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
        derived = derived_figure(figure)
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
