"""What a baseline's file may say. What its parts must agree on is in `ko_cpt_callbacks.compare.entry`.

Every key is known; what a source does not say is the text ``not stated``.

A figure carries how it was come by (``origin``), how well it is known (``grade``), and where it stands; a derived
one its formula and inputs, so that it can be derived again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints

from ko_cpt_callbacks.compare.baseline import Grade, Kind, Metric, Split, Start
from ko_cpt_callbacks.compare.figure import Derived, derive, read_printed
from ko_cpt_callbacks.compare.stage import NOT_STATED, Adapter, Layers, Rows
from ko_cpt_callbacks.yaml.mistake import Key, StrictMapping, shown

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

    def derived(self) -> Derived:
        """A computed figure, computed again.

        Raises:
            ValueError: If it cannot be.
        """
        inputs = self.inputs or {}
        for name, item in inputs.items():
            numbers = isinstance(item, list) and all(type(number) in (int, float) for number in item)
            if not numbers and not isinstance(item, str):
                raise ValueError(f"{name}: {shown(item)}, where a printed number in quotation marks is expected")
        return derive(self.formula or "", inputs)

    def reach(self) -> Derived:
        """A number, and the range that its derivation or its print leaves open."""
        if self.origin == "computed":
            return self.derived()
        assert self.value is not None  # of a text no one asks for the range
        if self.quoted is None:
            return Derived(self.value, self.value, self.value)
        printed = read_printed(self.quoted)
        return Derived(self.value, printed.low, printed.high)


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
