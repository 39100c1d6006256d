"""Every baseline of the package: the folder is the collection, and what each file says comes out again."""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
from docs_script import script_of_docs

from ko_cpt_callbacks.cli.baseline_page import NOTHING, cells, group_of
from ko_cpt_callbacks.compare.baseline import GRADES, Baseline
from ko_cpt_callbacks.compare.entry import Entry
from ko_cpt_callbacks.compare.figure import MEAN, derive, read_printed
from ko_cpt_callbacks.compare.reference import Reference, reference_of
from ko_cpt_callbacks.compare.registry import bundled_folder, bundled_ids, find_baseline, read_entry
from ko_cpt_callbacks.compare.resolution import SEED_SD_BITS
from ko_cpt_callbacks.compare.schema import BaselineFile

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "ko_cpt_callbacks" / "compare" / "data"
FILES = sorted(FOLDER.iterdir())
NUMBERS = json.loads((Path(__file__).parent / "baseline_numbers.json").read_text("utf-8"))

# Every system of the research note, the two public runs of its hardware, and what else was promised.
SYSTEMS = {
    "redwhale", "eeve-korean", "thunder-llm", "dag-llm", "polyglot-ko-1.3b", "polyglot-ko-3.8b", "polyglot-ko-5.8b",
    "polyglot-ko-12.8b", "medgemma-a6000-unconfirmed", "ppl-bands-unconfirmed", "medgemma-a6000-a", "medgemma-a6000-b",
    "chinese-llama-2-7b",
}  # fmt: skip


BEST_KNOWN = {
    "frankenstallm-1b", "goldfish-korean", "kotokenlab-0.5b-base", "kotokenlab-cosine", "kotokenlab-constant",
    "kotokenlab-30k-constant",
}  # fmt: skip


@cache
def _entry(path: Path) -> Entry:
    return read_entry(path)


@cache
def _baseline(name: str) -> Baseline:
    return _entry(FOLDER / f"{name}.yaml").baseline()


def _of_every_one(check: Callable[[Path], None]) -> Callable[[], None]:
    """A test that asks something of every baseline, and names the file of one that fails."""

    def test() -> None:
        for path in FILES:
            try:
                check(path)
            except BaseException as error:
                error.add_note(f"of {path.name}")
                raise

    test.__doc__ = check.__doc__
    return test


def test_the_folder_is_the_collection() -> None:
    """There are baselines, all of them YAML, listed by their files' names, and every system that was promised."""
    assert [path.suffix for path in FILES] == [".yaml"] * len(FILES) != []
    assert bundled_folder() == FOLDER == Path(str(files("ko_cpt_callbacks") / "compare" / "data"))
    assert sorted(bundled_ids()) == sorted(path.stem for path in FILES)
    assert set(bundled_ids()) >= SYSTEMS


@_of_every_one
def test_the_id_is_the_file_s_name(path: Path) -> None:
    """One run a file, found by its name."""
    assert _entry(path).file.id == path.stem == find_baseline(path.stem).id


@_of_every_one
def test_sources(path: Path) -> None:
    """Every figure and stage names a source of the file; every source has a URL and BibTeX, and is used."""
    entry = _entry(path)
    figures = [figure for figure in entry.figures() if figure.origin != "computed"]
    used = {figure.source for figure in figures} | {stage.source for stage in entry.file.stages}
    used |= {said.source for figure in figures for said in figure.contradicted_by or ()}

    assert entry.file.sources
    assert used <= set(entry.file.sources)
    # A paper is named for whoever looks it up, also where what was read of it is somebody's summary.
    assert set(entry.file.sources) - used <= {"paper"}
    for source in entry.file.sources.values():
        assert source.url.startswith("https://")
        assert source.bibtex.startswith("@misc{")
        assert f"title = {{{source.title}}}" in source.bibtex


@_of_every_one
def test_derived_figures_come_out_again(path: Path) -> None:
    """Each computed figure, computed anew from its inputs, is the number in the file to three digits and a half."""
    for figure in _entry(path).figures():
        if figure.origin == "computed":
            assert figure.formula is not None and figure.inputs is not None and figure.value is not None
            found = derive(figure.formula, figure.inputs)
            assert figure.value == pytest.approx(found.value, rel=5e-4)
            assert (figure.low is None) == (found.rounding == 0)  # a range is written where a unit has two readings
            if figure.low is not None and figure.high is not None:
                assert (figure.low, figure.high) == pytest.approx((found.low, found.high), rel=5e-4)
        else:
            assert figure.formula is figure.inputs is figure.low is figure.high is None


@_of_every_one
def test_rounding_intervals_hold(path: Path) -> None:
    """Each number lies in the range of its printed digits, and the core value carries that range."""
    for figure in _entry(path).figures():
        if figure.quoted is not None and figure.value is not None:
            printed = read_printed(figure.quoted)
            assert printed.low <= figure.value <= printed.high
    for stage in _baseline(path.stem).stages:
        for value in stage.values:
            assert value.lowest <= value.low <= value.value <= value.high <= value.highest
            if value.origin != "computed":
                assert value.low < value.high


@_of_every_one
def test_grades(path: Path) -> None:
    """Every grade is a known one; nothing of the note, and nothing derived, stands under a better one."""
    entry = _entry(path)
    wanted = {"computed": {"D"}, "note-only": {"UNCONFIRMED"}, "reported": {"V", "S", "M"}}
    for figure in entry.figures():
        assert figure.grade in wanted[figure.origin]
        assert figure.source != "note" or figure.grade == "UNCONFIRMED"
    assert entry.grade in GRADES
    losses = [figure for figure in entry.file.values or () if figure.origin != "computed"]
    if any(figure.grade == "UNCONFIRMED" for figure in losses):
        assert entry.grade == "UNCONFIRMED"


@_of_every_one
def test_nothing_is_left_blank(path: Path) -> None:
    """What a source does not say is the text ``not stated``: there is no empty value and no guess such as 'unknown'."""
    text = path.read_text("utf-8")

    assert re.findall(r":\s*(?:null|~|''|\"\"|unknown|n/?a|tbd|\?)\s*$", text, re.MULTILINE | re.IGNORECASE) in (
        [], [": unknown"] * len(re.findall(r"split: unknown$", text, re.MULTILINE)),
    )  # fmt: skip
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 500


@_of_every_one
def test_a_number_that_moves_raises_the_version(path: Path) -> None:
    """The numbers of a version are recorded; other numbers need another version and another record."""
    entry = _entry(path)
    recorded = NUMBERS.get(path.stem)
    found = {"version": entry.file.version, "digest": _digest(entry)}

    assert recorded is not None, f"record {json.dumps({path.stem: found})} in baseline_numbers.json"
    if recorded["digest"] != found["digest"]:
        assert found["version"] > recorded["version"], f"{path.stem}: a number moved: raise its version"
    assert found == recorded, f"record {json.dumps({path.stem: found})} in baseline_numbers.json"


def test_the_record_has_no_others() -> None:
    """A baseline that is gone has no numbers left in the record."""
    assert sorted(NUMBERS) == sorted(bundled_ids())


def test_superseded_by_one_that_is_there() -> None:
    """What superseded a baseline is a baseline."""
    for path in FILES:
        assert _entry(path).file.superseded_by in (None, *bundled_ids())


@_of_every_one
def test_a_core_value_survives_json(path: Path) -> None:
    """What ``run.json`` keeps of each is read back as the same value."""
    baseline = _baseline(path.stem)

    assert Baseline.from_dict(json.loads(json.dumps(baseline.as_dict(), allow_nan=False))) == baseline


# -- what each system is, and is not ---------------------------------------------------------------------------------


def test_redwhale() -> None:
    """The note's losses, and bits per byte as a range between the two readings of GB: 0.895 and 0.833 at the end."""
    redwhale = _baseline("redwhale")
    losses = {stage.name: stage.value("loss", "eval") for stage in redwhale.stages}
    bits = redwhale.stages[3].value("bits_per_byte", "eval")

    assert {name: value and value.value for name, value in losses.items()} == {
        "embedding": 3.0672, "odd-layers": 2.8595, "even-layers": 2.8341, "lora": 2.8064, "sft": 2.8752,
    }  # fmt: skip
    assert {value.grade for value in losses.values() if value} == {"UNCONFIRMED"}
    assert redwhale.grade == "UNCONFIRMED"
    assert bits is not None and (round(bits.low, 3), round(bits.high, 3)) == (0.833, 0.895)
    assert redwhale.bytes_per_token_low == pytest.approx(4.526, abs=5e-4)
    assert redwhale.bytes_per_token_high == pytest.approx(4.860, abs=5e-4)
    # The note's 3.078 and RedWhale's 2.8064 are equal per byte at 4.96 bytes a token.
    assert 3.078 / (math.log(2) * bits.high) == pytest.approx(4.96, abs=5e-3)
    assert redwhale.vocabulary == 49072
    assert [str(stage.trains and stage.trains.layers) for stage in redwhale.stages] == [
        "none", "odd", "even", "all", "None",
    ]  # fmt: skip


def test_who_is_a_reference() -> None:
    """Korean runs with a loss on held-out text of pretraining, and no others; each of those says why not."""
    found = {path.stem for path in FILES if _entry(path).file.why_not is None}
    families = {name for name in bundled_ids() if name.startswith(("kotokenlab-", "script-tok-", "jamoflow-"))}
    alone = {"redwhale", "frankenstallm-1b", "frankenstallm-3b", "gpt-neo-1.3b-ko", "phi4-pruned-9.9b"}

    assert found == (families - {"script-tok-en-bnd-wpd-bpe"}) | alone | {"polyglot-ko-1.3b-klue"}
    assert {_baseline(name).language for name in found} == {"ko"}
    assert all(isinstance(reference_of(_baseline(name)), Reference) for name in found)


def test_how_many_there_are() -> None:
    """Counts that docs/baselines.md states: entries, those with bits per byte, those with a deviation between seeds."""
    values = {path.stem: [value for stage in _baseline(path.stem).stages for value in stage.values] for path in FILES}
    bits = {name for name, of in values.items() if any(one.metric == "bits_per_byte" for one in of)}
    seeds = {name for name, of in values.items() if any(one.seed_sd is not None for one in of)}
    korean = {name for name in bits if group_of(_baseline(name)) == "bits"}

    assert (len(FILES), len(bits), len(korean), len(seeds)) == (83, 53, 31, 10)
    assert {_baseline(name).start for name in seeds} == {"good base", "vocabulary surgery", "from scratch"}


def test_kotokenlab() -> None:
    """The runs are told by their Korean text; three seeds of one set-up are one entry with mean and deviation."""
    cosine, constant = (reference_of(_baseline(f"kotokenlab-{name}")) for name in ("cosine", "constant"))

    assert isinstance(cosine, Reference) and cosine.bits is not None
    assert (cosine.set, cosine.bits.value, cosine.bits.grade) == ("Korean, 434 documents", 1.137540, "V")
    assert isinstance(constant, Reference) and constant.bits is not None and constant.bits.seed_sd is not None
    assert constant.bits.value == pytest.approx((1.127397 + 1.127111 + 1.127276) / 3, abs=1e-9)
    assert (constant.bits.seeds, round(constant.bits.seed_sd, 6)) == (3, 0.000144)
    assert {value.language for value in _baseline("kotokenlab-cosine").stages[0].values} == {"", "en", "zxx"}


def test_a_deviation_between_seeds_is_that_of_the_printed_runs() -> None:
    """Where every seed is printed, mean and deviation are computed from the same numbers, as many as are said."""
    computed = 0
    for path in FILES:
        for value in _entry(path).file.values or ():
            losses = (value.inputs or {}).get("losses")
            if value.seed_sd is not None and losses is not None:
                computed += 1
                assert len(losses) == value.seeds and (value.seed_sd.inputs or {})["losses"] == losses
                assert value.seed_sd.value == pytest.approx(statistics.stdev(losses), rel=5e-4)
    assert computed == 7


def test_what_seeds_change_is_the_registry_s() -> None:
    """By what a run began from, the largest deviation between seeds of a Korean entry is the one a comparison uses."""
    found: dict[str, float] = {}
    for path in FILES:
        baseline = _baseline(path.stem)
        if group_of(baseline) == "bits":
            values = [value for stage in baseline.stages for value in stage.values if not value.language]
            deviations = [value.seed_sd for value in values if value.seed_sd is not None]
            found[baseline.start] = max(found.get(baseline.start, 0.0), *deviations, 0.0)
    assert {start: round(sd, 6) for start, sd in found.items() if sd} == SEED_SD_BITS


def test_an_uncertain_unit_is_no_reference() -> None:
    """SambaLingo's cards do not say of what their perplexity is: bits per byte are shown with that, never compared."""
    names = [name for name in bundled_ids() if name.startswith("sambalingo-")]

    assert len(names) == 7
    for name in names:
        assert "does not say whether its perplexity is per byte" in _baseline(name).why_not
        (bits,) = (value for value in _baseline(name).stages[0].values if value.metric == "bits_per_byte")
        assert "only if the perplexity is per byte" in bits.formula


def test_the_note_s_run_is_no_evaluation() -> None:
    """3.078 is neither a loss on held-out text nor one on training text: nothing is compared with it."""
    seed = _baseline("medgemma-a6000-unconfirmed")
    (value,) = seed.stages[0].values

    assert (value.value, value.split, value.origin, value.grade) == (3.078, "unknown", "note-only", "UNCONFIRMED")
    assert seed.stages[0].value("loss", "eval") is None
    assert "no log of it has an evaluation" in seed.why_not


def test_eeve_has_seven_stages_and_no_loss() -> None:
    """Its stages in the words of the core, from new rows to the blocks alone."""
    eeve = _baseline("eeve-korean")
    trains = [stage.trains and tuple(stage.trains.as_dict().values()) for stage in eeve.stages]

    assert trains == [
        ("new", "none", "none", "none"),
        ("none", "new", "none", "none"),
        ("new", "new", "none", "none"),
        ("none", "all", "none", "none"),
        ("new", "all", "none", "none"),
        ("not stated", "not stated", "all", "lora"),
        ("none", "none", "all", "not stated"),
    ]
    assert not any(stage.values for stage in eeve.stages)


def test_thunder_s_vocabulary_is_no_number() -> None:
    """Three sources, three figures: all are told and none is taken."""
    entry = _entry(FOLDER / "thunder-llm.yaml")
    vocabulary = entry.file.tokenizer.vocabulary

    assert vocabulary is not None and vocabulary.value is None
    assert [said.quoted for said in vocabulary.contradicted_by or ()] == ["about 92K Korean tokens", "192304"]
    assert entry.baseline().vocabulary is None


def test_dag_and_the_bands_are_never_references() -> None:
    """Instruction tuning and a table without a source: kinds that nothing is compared with."""
    dag, bands = _baseline("dag-llm"), _baseline("ppl-bands-unconfirmed")

    assert (dag.kind, bands.kind) == ("instruction tuning", "note")
    assert not any(stage.reference for stage in (*dag.stages, *bands.stages))
    assert "no source was found" in bands.why_not


def test_the_public_runs() -> None:
    """Training losses only: 2.6240 as a mean of 50 points, and the other run's healthy part up to step 3,500."""
    a, b = _baseline("medgemma-a6000-a"), _baseline("medgemma-a6000-b")
    mean = a.stages[0].values[0]

    assert (round(mean.value, 4), mean.split, mean.position) == (2.6240, "train", "steps 26,170 to 26,660")
    assert mean.formula.startswith(MEAN)
    assert [value.value for value in b.stages[0].values[1:]] == [2.6783, 2.6689]
    assert b.stages[0].values[0].position == "steps 3,010 to 3,500"
    # The loader says 8-bit and a comment of the configuration 32-bit: neither is taken.
    assert (a.quantization, b.quantization) == ("not stated", "not stated")
    assert {value.split for run in (a, b) for stage in run.stages for value in stage.values} == {"train"}


def test_quantisation_offsets() -> None:
    """One Chinese model in 16, 8 and 4 bits: used for its differences only."""
    chinese = _entry(FOLDER / "chinese-llama-2-7b.yaml")
    values = chinese.baseline().stages[0].values

    assert [value.value for value in values] == [9.373, 9.476, 10.132]
    assert [value.quantization for value in values] == ["none", "8-bit", "4-bit"]
    assert [round(item.reach().value, 4) for item in chinese.file.quantization_offsets] == [0.0109, 0.0779]
    assert (chinese.file.language, bool(chinese.file.why_not)) == ("zh", True)


# -- docs ------------------------------------------------------------------------------------------------------------


def test_the_page_of_all_is_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/registry.md has every baseline, as docs/registry.py would write it now; if not: `make docs`."""
    script = script_of_docs("registry")

    assert script.main(check=True) == 0, capsys.readouterr().out
    rows = re.findall(r"^\| `([^`]+)` \|", script.PAGE.read_text("utf-8").partition(script.BY_HAND)[0], re.MULTILINE)
    assert sorted(rows) == sorted(bundled_ids())


def _rows(name: str, heading: str) -> dict[str, list[str]]:
    """The cells of the table under a heading, by the first."""
    text = (ROOT / name).read_text("utf-8")
    part = text.split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", part, re.MULTILINE)
    return {first: rest.split(" | ") for first, rest in rows}


def _shown(path: Path) -> list[str]:
    _, *rest = cells(_baseline(path.stem))
    return rest


def _told() -> list[Path]:
    """The baselines in the tables of docs: every system of the note, and what a run is best compared with."""
    return [path for path in FILES if path.stem in SYSTEMS | BEST_KNOWN]


def test_the_table_in_docs_is_the_folder() -> None:
    """Each of them has a row with what the list says of it, and there is no other row."""
    assert _rows("docs/baselines.md", "## Baselines") == {path.stem: _shown(path) for path in _told()}


def test_the_korean_table_is_the_folder() -> None:
    """The same in Korean: ids, grades, stages and numbers are the same, the words are its own."""
    found = _rows("docs/ko/baselines.md", "## 기준 모델")

    assert {name: [row[1], row[4]] for name, row in found.items()} == {
        path.stem: [_shown(path)[1], _shown(path)[4]] for path in _told()
    }
    for path in _told():
        assert re.findall(r"\d\.\d{3}", found[path.stem][3]) == re.findall(r"\d\.\d{3}", _shown(path)[3])
        assert (found[path.stem][3] == NOTHING) == (_shown(path)[3] == NOTHING)


@pytest.mark.parametrize(("name", "heading"), [("baselines.md", "## Baselines"), ("ko/baselines.md", "## 기준 모델")])
def test_every_grade_is_explained(name: str, heading: str) -> None:
    """The grades that the table uses, and no unknown one, are explained below it."""
    text = (ROOT / "docs" / name).read_text("utf-8").split(f"\n{heading}\n", 1)[1].split("\n## ", 1)[0]

    assert {_entry(path).grade for path in FILES} <= set(re.findall(r"\*\*(\w+)\*\*", text)) <= set(GRADES)


def test_every_key_of_the_schema_is_used() -> None:
    """The schema has no key that no baseline needs, of the outermost level."""
    used = {name for path in FILES for name in _entry(path).file.model_fields_set}

    assert set(BaselineFile.model_fields) - used <= {"superseded_by"}


def _digest(entry: Entry) -> str:
    """Of everything in a file that is a number or decides what it is compared with; words may be mended freely."""
    keep = ("value", "low", "high", "quoted", "metric", "split", "stage", "unit", "grade", "formula", "quantization")
    found = [[(name, getattr(item, name, None)) for name in keep] for item in entry.figures()]
    return hashlib.blake2b(json.dumps(found, ensure_ascii=True).encode(), digest_size=8).hexdigest()
