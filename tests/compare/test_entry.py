"""A baseline's file is read strictly: each mistake has one line with file, line and key, and nothing is executed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from compare.tiny_run import VALID, write

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.figure import FORMULAS
from ko_cpt_callbacks.compare.registry import MAX_BYTES, read_entry
from ko_cpt_callbacks.compare.stage import Trains
from ko_cpt_callbacks.errors import BaselineError, KoCPTError

BITS = "loss / ln 2 / (bytes / tokens)"

# What is replaced in the valid file, by what, and every line that the error then has; FILE is the file's path.
WRONG: dict[str, tuple[str, str, list[str]]] = {
    "object tag": (
        "title: Tiny",
        "title: !!python/object/apply:os.system [touch hacked]",
        ["FILE:2: title: found the tag !!python/object/apply:os.system, expected plain values without tags."],
    ),
    "duplicate key": (
        "version: 1",
        "version: 1\nversion: 2",
        ["FILE:4: version: found the key a second time, expected each key once (it is in line 3 too)."],
    ),
    "unknown key": (
        "language: ko",
        "language: ko\nlanguages: ko",
        ["FILE:7: languages: found an unknown key, expected one of id, title, version, superseded_by, status, kind, "
         "language, start, why_not, base_model, parameters, tokenizer, data, hardware, method, stages, values, "
         "benchmarks, "
         "efficiency, quantization_offsets, bands, notes, sources. Did you mean language?"],
    ),
    "unknown key, inside a figure": (
        "value: 1.3e9",
        "valeu: 1.3e9",
        ["FILE:8: parameters.valeu: found an unknown key, expected one of quoted, value, low, high, origin, formula, "
         "inputs, grade, source, locator, note, contradicted_by. Did you mean value?"],
    ),
    "text for a number": (
        "value: 32000",
        'value: "32000"',
        ['FILE:11: tokenizer.vocabulary.value: found the text "32000", expected a number. Did you mean 32000?'],
    ),
    "NaN": (
        "value: 3.1",
        "value: .nan",
        ["FILE:34: values[0].value: found .nan, expected a finite number."],
    ),
    "infinity": (
        "value: 3.1",
        "value: 1e999",
        ["FILE:34: values[0].value: found 1e999, expected a finite number."],
    ),
    "anchor": (
        "method: {",
        "method: &m {",
        ["FILE:19: method: found an anchor, expected the value written out wherever it is needed."],
    ),
    "nothing where it must be said": (
        "  text: not stated",
        "  text:",
        ["FILE:14: data.text: found nothing, expected a value, or the text not stated."],
    ),
    "missing key": (
        "  text: not stated\n",
        "",
        ["FILE:13: data.text: found nothing, expected this key."],
    ),
    "another id than the file's": (
        "id: tiny",
        "id: teeny",
        ['FILE:1: id: found the text "teeny", expected the file\'s name tiny.'],
    ),
    "an id that leaves the folder": (
        "id: tiny",
        "id: ../tiny",
        ['FILE:1: id: found the text "../tiny", expected a name of at most 64 small letters, digits, -, _ and ..'],
    ),
    "value outside its rounding range": (
        "value: 3.1",
        "value: 3.16",
        ["FILE:34: values[0].value: found 3.16, expected a number that is printed 3.1, 3.05 to 3.15."],
    ),
    "value of words": (
        "{quoted: Base, grade",
        "{quoted: Base, value: 3, grade",
        ['FILE:7: base_model.quoted: found the text "Base", expected a number, where there is a value (2.8064, 9.7B, '
         "43.9 GB)."],
    ),
    "computed value that does not come out": (
        "high: 1.1181",
        "high: 1.2181",
        [f"FILE:49: values[1].high: found 1.2181, expected 1.11809, which is what {BITS} gives. Did you mean 1.118?"],
    ),
    "input that nothing quotes": (
        'inputs: {loss: "3.1"',
        'inputs: {loss: "3.10"',
        ['FILE:46: values[1].inputs.loss: found the text "3.10", expected digits that another figure of this file '
         "quotes."],
    ),
    "formula that is executed nowhere": (
        f"formula: {BITS}",
        'formula: __import__("os").system("touch hacked")',
        ['FILE:45: values[1].formula: found the text "__import__(\\"os\\").system(\\"touch hacked\\")", expected one '
         f"of {'; '.join(FORMULAS)}."],
    ),
    "input that is a number": (
        'inputs: {loss: "3.1"',
        "inputs: {loss: 3.1",
        ["FILE:46: values[1].inputs: found loss: 3.1, where a printed number in quotation marks is expected, expected "
         f"the inputs of {BITS}."],
    ),
    "unknown source": (
        "quoted: Base, grade: V, source: paper",
        "quoted: Base, grade: V, source: papr",
        ['FILE:7: base_model.source: found the text "papr", expected one of sources (paper). Did you mean paper?'],
    ),
    "no source": (
        "quoted: Base, grade: V, source: paper",
        "quoted: Base, grade: V",
        ["FILE:7: base_model.source: found nothing, expected this key, in what is reported."],
    ),
    "unknown grade": (
        "quoted: Base, grade: V",
        "quoted: Base, grade: A",
        ['FILE:7: base_model.grade: found the text "A", expected V or S or D or UNCONFIRMED or M or OWN.'],
    ),
    "a derived figure that is promoted": (
        "grade: D",
        "grade: V",
        ["FILE:50: values[1].grade: found V, expected D, the grade of what is computed. Did you mean D?"],
    ),
    "a note's figure that is promoted": (
        "quoted: Base, grade: V",
        "quoted: Base, origin: note-only, grade: V",
        [
            "FILE:7: base_model.grade: found V, expected UNCONFIRMED, the grade of what is note-only. "
            "Did you mean UNCONFIRMED?"
        ],
    ),
    "a note's figure without its origin": (
        "quoted: Base, grade: V",
        "quoted: Base, grade: UNCONFIRMED",
        ["FILE:7: base_model.origin: found reported, expected the origin that grade UNCONFIRMED has."],
    ),
    "a measured figure that is not the user's": (
        "quoted: Base, grade: V",
        "quoted: Base, origin: measured, grade: OWN",
        ["FILE:7: base_model.origin: found measured, expected reported, computed or note-only, in what is not the "
         "user's own."],
    ),
    "unknown stage": (
        "  - stage: whole\n    split: eval\n    metric: loss",
        "  - stage: hole\n    split: eval\n    metric: loss",
        ['FILE:29: values[0].stage: found the text "hole", expected a stage (whole). Did you mean whole?'],
    ),
    "unit of another metric": (
        "unit: nats per token",
        "unit: bits per byte",
        ['FILE:32: values[0].unit: found the text "bits per byte", expected nats per token.'],
    ),
    "rows outside the folder": (
        'quoted: "3.1"',
        "rows_file: ../../etc/passwd.npz",
        [r'FILE:33: values[0].rows_file: found the text "../../etc/passwd.npz", expected a text of the form '
         r"^[a-z0-9][a-z0-9._-]*/[\w.-]+\.npz$."],
    ),
    "BibTeX that is cut off": (
        "url = {https://arxiv.org/abs/0000.00000}}",
        "url = {https://arxiv.org/abs/0000.00000}",
        ['FILE:59: sources.paper.bibtex: found the text "@misc{a, url = {https://…}", expected '
         "one BibTeX entry that names https://arxiv.org/abs/0000.00000."],
    ),
    "two values where sources disagree": (
        'value: 32000, grade: S',
        'value: 32000, contradicted_by: [{quoted: "33,000", grade: V, source: paper, locator: page 9}], grade: S',
        ["FILE:11: tokenizer.vocabulary.value: found 32000, expected no value, where sources contradict each other."],
    ),
    "instruction tuning, and no word about it": (
        "kind: continued pretraining",
        "kind: instruction tuning",
        ["FILE:1: why_not: found nothing, expected why no loss can be compared with this (it has no loss on held-out "
         "text)."],
    ),
    "a deviation of how many seeds": (
        'quoted: "3.1"\n    value: 3.1',
        'quoted: "3.1"\n    seed_sd: {quoted: "0.01", value: 0.01, grade: V, source: paper, locator: table 1}\n'
        "    value: 3.1",
        ["FILE:29: values[0].seeds: found nothing, expected how many runs the standard deviation is of."],
    ),
    "a mean of fewer seeds than are said": (
        'quoted: "3.1"\n    value: 3.1\n    grade: V\n    source: paper\n    locator: table 1',
        "origin: computed\n    formula: mean of the losses\n    inputs: {losses: [3.0, 3.2]}\n    value: 3.1\n"
        "    grade: D\n    seeds: 3\n    seed_sd: {origin: computed, formula: standard deviation of the losses,\n"
        "      inputs: {losses: [3.0, 3.2]}, value: 0.14142, grade: D}",
        ["FILE:38: values[0].seeds: found 3, expected 2, the number of its losses.",
         'FILE:49: values[1].inputs.loss: found the text "3.1", expected digits that another figure of this file '
         "quotes."],
    ),
    "a stage a second time": (
        "    locator: page 3\n",
        "    locator: page 3\n  - {name: whole, title: again, trains: not stated, reference: false, grade: V,\n"
        "    source: paper, locator: page 3}\n",
        ['FILE:28: stages[1].name: found the text "whole", expected a name that no earlier stage has.'],
    ),
    "no loss": (
        'quoted: "3.1"\n    value: 3.1',
        'quoted: "0"\n    value: 0',
        ["FILE:34: values[0].value: found 0, expected more than 0.",
         'FILE:46: values[1].inputs.loss: found the text "3.1", expected digits that another figure of this file '
         "quotes."],
    ),
    "keys of other figures": (
        'quoted: "3.1"\n    value: 3.1',
        'quoted: "3.1"\n    low: 3.0\n    tokens: 9\n    rows_file: other/eval.npz\n    value: 3.1',
        ["FILE:34: values[0].low: found a key of what is computed, expected no such key in what is reported.",
         "FILE:35: values[0].tokens: found a key of what is measured, expected no such key in what is reported.",
         "FILE:36: values[0].rows_file: found a key of what is measured, expected no such key in what is reported."],
    ),
    "computed from nothing": (
        'inputs: {loss: "3.1", tokens: 2.0B, bytes: 8.0 GB}\n    value: 1.0797',
        "value: 1.0797",
        ["FILE:40: values[1].inputs: found nothing, expected this key, in what is computed."],
    ),
    "own, of what was published": (
        "status: published",
        "status: own\nsuperseded_by: tiny",
        ["FILE:4: status: found own, expected own where, and only where, this package measured the values.",
         'FILE:5: superseded_by: found the text "tiny", expected another baseline.',
         "FILE:51: values[1].grade: found D, expected OWN, the grade of what is computed. Did you mean OWN?"],
    ),
    "several at once": (
        "version: 1\nstatus: published",
        "version: one\nstatus: publishd",
        ['FILE:3: version: found the text "one", expected a whole number.',
         'FILE:4: status: found the text "publishd", expected published or public log or unconfirmed or own. '
         "Did you mean published?"],
    ),
}  # fmt: skip

# Whole files that are no baseline.
NO_BASELINE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "FILE:1: found an empty file, expected a baseline."),
    "a list": (b"- a\n", "FILE:1: found a list of 1, expected a mapping."),
    "ten megabytes": (
        b"# " + b"x" * 10_000_000,
        f"FILE: found more than {MAX_BYTES:,} bytes, expected a baseline of a few pages.",
    ),
    "not UTF-8": (b"id: x\ntitle: \xff\n", "FILE:2: found bytes that are no UTF-8, expected a text file in UTF-8."),
    "too deep": (b"[" * 500, "FILE:1: found lists or mappings nested too deeply, expected a baseline."),
    "aliases that multiply": (
        b"a: &a [x, x]\nb: &b [*a, *a]\n",
        "FILE:1: a: found an anchor, expected the value written out wherever it is needed.",
    ),
}


def _lines(path: Path) -> list[str]:
    with pytest.raises(BaselineError) as caught:
        read_entry(path)
    return str(caught.value).replace(str(path), "FILE").splitlines()


@pytest.mark.parametrize("name", WRONG)
def test_every_mistake_has_its_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole error, word by word, and no file that a tag or a formula would have made."""
    monkeypatch.chdir(tmp_path)
    old, new, expected = WRONG[name]
    assert VALID.count(old) == 1
    path = write(tmp_path / "folder", VALID.replace(old, new))

    assert _lines(path) == expected
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", NO_BASELINE)
def test_what_is_no_baseline(name: str, tmp_path: Path) -> None:
    """A file that cannot be a baseline at all: the mistake in its first line, no traceback of a library."""
    payload, expected = NO_BASELINE[name]

    assert _lines(write(tmp_path, payload))[0] == expected


def test_a_link_that_leads_out(tmp_path: Path) -> None:
    """Row sums behind a link to another place are refused, whatever the file's own path says."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "eval-1.npz").write_bytes(b"")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "tiny").symlink_to(tmp_path / "elsewhere")
    text = VALID.replace("status: published", "status: own").replace(
        '    quoted: "3.1"\n    value: 3.1\n    grade: V\n    source: paper\n    locator: table 1\n',
        "    value: 3.1\n    origin: measured\n    grade: OWN\n    rows_file: tiny/eval-1.npz\n",
    )
    text = text.replace("    grade: D\n", "    grade: OWN\n").replace('"3.1"', "2.0B")

    (line,) = (line for line in _lines(write(folder, text)) if "rows_file" in line)
    assert line == (
        'FILE:36: values[0].rows_file: found the text "tiny/eval-1.npz", expected a file beside the baseline.'
    )


def test_what_is_valid_is_a_core_value(tmp_path: Path) -> None:
    """Figures arrive with their ranges: printed digits, and for a size in GB both readings, computed anew."""
    baseline = read_entry(write(tmp_path)).baseline()
    (stage,) = baseline.stages
    loss, bits = stage.values

    assert (baseline.id, baseline.grade, baseline.vocabulary) == ("tiny", "V", 32000)
    assert (baseline.bytes_per_token_low, baseline.quantization) == (None, "not stated")
    assert stage.trains == Trains("all", "all", "all", "none")
    assert (loss.value, loss.low, loss.high, loss.rounding) == (3.1, 3.05, 3.15, 0.0)
    assert bits.high == pytest.approx(3.1 / math.log(2) / 4, rel=1e-12)
    assert bits.low == pytest.approx(3.1 / math.log(2) / (8 * 2**30 / 2e9), rel=1e-12)
    assert bits.lowest < bits.low < bits.value < bits.high < bits.highest
    assert bits.formula.startswith(f"{BITS} with loss 3.1, tokens 2.0B, bytes 8.0 GB; 1.118 if GB is 10^9 bytes")


def test_a_core_value_survives_json(tmp_path: Path) -> None:
    """What ``run.json`` keeps of a baseline is read back as the same value."""
    baseline = read_entry(write(tmp_path)).baseline()

    assert Baseline.from_dict(json.loads(json.dumps(baseline.as_dict(), allow_nan=False))) == baseline


def test_the_error_is_one_of_the_package() -> None:
    """Whoever catches the package's error catches this one."""
    assert issubclass(BaselineError, KoCPTError)
    assert issubclass(BaselineError, ValueError)
