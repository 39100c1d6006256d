"""`ko-cpt compare`: what it says of runs, of a lone loss, and of what it cannot use."""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from check import command, staged
from check.command import REAL_RUNS, ROOT, real_run, write_state
from check.made_run import sums, write_run
from check.sample import healthy, train_rows
from commands import offline
from compare.made_baseline import own, published
from typer.testing import CliRunner

import ko_cpt_callbacks
from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.value import QUANTIZATION_COST, TEXT_SPREAD
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.metrics.row_sums import READ, SEVERAL

if TYPE_CHECKING:
    from click.testing import Result

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads((ROOT / "ko_cpt_callbacks" / "schemas" / "compare.schema.json").read_text("utf-8"))
TOKENIZER = {"tokenizer": {"hash": "xyz", "vocabulary": 900}}

real = pytest.mark.skipif(not REAL_RUNS.is_dir(), reason="the real logs are not beside this checkout")


@pytest.fixture(autouse=True)
def _made_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry knows ``published`` and ``own`` here, beside its own entries."""
    made = {"published": published(), "own": own()}
    find = ko_cpt_callbacks.find_baseline

    def find_made(name: str) -> Baseline:
        return made[name] if name in made else find(name)

    monkeypatch.setattr(ko_cpt_callbacks, "find_baseline", find_made)


def compare(*arguments: object) -> Result:
    """`ko-cpt compare ARGUMENTS` in this process; an exception that is not an exit is raised."""
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def compared(*arguments: object) -> dict[str, Any]:
    """The object that ``--json`` prints; it fits the schema."""
    result = compare(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found: dict[str, Any] = json.loads(result.stdout, parse_constant=command._not_strict)
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    return found


def only(*arguments: object) -> dict[str, Any]:
    """The one comparison of it."""
    (found,) = compared(*arguments)["comparisons"]
    result: dict[str, Any] = found["comparison"]
    return result


def codes(found: dict[str, Any], what: str = "reasons") -> list[str]:
    """Codes of reasons, notes or helps."""
    return [item["code"] for item in found[what]]


def text(*arguments: object) -> str:
    """The whole page, every run of blanks one blank."""
    result = compare(*arguments, "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    return " ".join(result.stdout.split())


def refused(*arguments: object) -> str:
    """What stands on stderr where nothing was compared."""
    result = compare(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("ko-cpt compare: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# -- published figures -------------------------------------------------------------------------------------------------


def test_schema_is_a_schema() -> None:
    """Draft 2020-12, and correct by its own meta-schema."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@real
def test_a_training_log_against_redwhale() -> None:
    """Not comparable: no byte count, a training loss against an evaluation loss; equal at 4.23 bytes per token."""
    run = real_run("00")
    found = only(run, "--baseline", "redwhale")
    assert (found["outcome"], found["stage"], codes(found)) == (
        "not comparable", "lora", ["train-against-eval", "no-bytes"],
    )  # fmt: skip
    assert [f"{reach:.2f}" for reach in found["equal_bytes_per_token"]] == ["4.23", "4.54"]
    said = text(run, "--baseline", "redwhale")
    assert "not comparable" in said
    assert (
        "4.23 bytes per token, with this run's loss of 2.624, if the reference's text has 4.526; 4.54, if it has 4.860 "
        "(a training loss against an evaluation loss: no verdict)"
    ) in said
    assert "mean of its last 50 training rows (steps 26,170 to 26,660)" in said
    assert "How many bytes of text the run's tokens stand for is not known" in said


def test_a_lone_loss_against_redwhale() -> None:
    """3.078 would equal RedWhale at 4.96 bytes per token (5.33 if GB was GiB), and nothing else can be said."""
    arguments = ("--loss", "3.078", "--split", "eval", "--baseline", "redwhale")
    found = only(*arguments)
    assert (found["outcome"], codes(found)) == ("not comparable", ["no-bytes"])
    assert [f"{reach:.2f}" for reach in found["equal_bytes_per_token"]] == ["4.96", "5.33"]
    said = text(*arguments)
    assert "4.96 bytes per token, with this run's loss of 3.078, if the reference's text has 4.526; 5.33, if it" in said
    assert "0.833 to 0.895 bits per byte · loss 2.806 · 4.526 to 4.860 bytes per token · grade UNCONFIRMED" in said


def test_a_lone_loss_with_its_bytes() -> None:
    """Bits per byte against the range; with an error bar a relation, without one none."""
    arguments = ("--loss", "3.078", "--bytes-per-token", "4.0", "--baseline", "redwhale")
    found = only(*arguments)
    assert (found["outcome"], found["relation"], "no-error-bar" in codes(found, "notes")) == ("indicative", None, True)
    assert (round(found["value"], 3), [f"{loss:.3f}" for loss in found["equal_loss"]]) == (1.11, ["2.310", "2.480"])
    assert only(*arguments, "--se", "0.04")["relation"] == "behind"
    assert "indicative: behind · +0.216 to +0.277 bits per byte" in text(*arguments, "--se", "0.04")


def test_bits_in_place_of_bytes() -> None:
    """Either gives the other; both must agree to a hundredth."""
    bits = only("--loss", "3.078", "--bits-per-byte", "1.1102", "--baseline", "published")
    assert bits["equal_loss"] == pytest.approx(
        only("--loss", "3.078", "--bytes-per-token", "4", "--baseline", "published")["equal_loss"], rel=1e-3
    )
    both = ("--loss", "3.078", "--bytes-per-token", "4", "--baseline", "published", "--bits-per-byte")
    assert only(*both, "1.11")["outcome"] == "indicative"
    assert "expected 1.110, which --loss and --bytes-per-token come to" in refused(*both, "1.3")


def test_a_lone_training_loss() -> None:
    """Never compared, whatever is known of its bytes."""
    arguments = ("--loss", "2.6", "--split", "train", "--bytes-per-token", "4", "--baseline", "published")
    assert codes(only(*arguments)) == ["train-against-eval"]
    assert "(a training loss against an evaluation loss: no verdict)" in text(*arguments)


def test_stage() -> None:
    """One by its name; the one that the run trained; one that is no reference; one that is not there."""
    assert only("--loss", "3", "--baseline", "published", "--stage", "embedding")["stage"] == "embedding"
    assert codes(only("--loss", "3", "--baseline", "published", "--stage", "sft")) == ["stage-not-a-reference"]
    assert "Did you mean 'lora'?" in refused("--loss", "3", "--baseline", "published", "--stage", "lroa")


def test_the_stage_that_the_run_trained(tmp_path: Path) -> None:
    """The run's own stage row picks the baseline's stage; where none fits, the last is taken and that is said."""
    words = {"kind": "setup", "attempt": 1, "step": 0, "setup": "stage", "input": "none", "output": "none"}
    odd = write_run(tmp_path / "a", {"eval": sums()}, more=[{**words, "layers": "odd", "adapter": "none"}])
    assert only(odd, "--baseline", "redwhale")["stage"] == "odd-layers"
    some = write_run(tmp_path / "b", {"eval": sums()}, more=[{**words, "layers": "some", "adapter": "none"}])
    found = only(some, "--baseline", "redwhale")
    assert (found["stage"], "stage-not-matched" in codes(found, "notes")) == ("lora", True)


# -- two runs ----------------------------------------------------------------------------------------------------------


def test_a_run_with_itself(tmp_path: Path) -> None:
    """Exact, paired, no difference: named as a baseline, and named twice."""
    run = write_run(tmp_path / "a", {"eval_ko": sums()})
    for arguments in ((run, "--baseline", run), (run, run)):
        found = only(*arguments)
        assert (found["outcome"], found["relation"], found["difference"], found["rows"]) == ("exact", "level", 0.0, 60)
        assert (found["unit"], found["se_kind"], found["reasons"]) == ("nats per token", "paired", [])
    assert "exact: level · 0.000 nats per token · 95 % interval 0.000 to 0.000, paired over 60 rows" in text(run, run)


@real
def test_a_bare_log_with_itself() -> None:
    """The same file is the same run, also where it holds a training loss alone or the Trainer's own."""
    for number in ("00", "23"):
        found = only(real_run(number), real_run(number))
        assert (found["outcome"], found["relation"], found["difference"]) == ("exact", "level", 0.0)
        assert codes(found, "notes") == ["same-run"]


def test_one_tokenizer(tmp_path: Path) -> None:
    """Paired in nats: far sharper than either run's own error, so that a small gain is ahead."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.95, seed=1)})
    found = only(second, "--baseline", first)
    assert (found["outcome"], found["relation"], found["unit"]) == ("exact", "ahead", "nats per token")
    assert found["se"] < 0.01 < compared(second, "--baseline", first)["comparisons"][0]["measured"]["loss_se"]
    assert only(first, "--baseline", second)["relation"] == "behind"


def test_two_seeds_are_level(tmp_path: Path) -> None:
    """A difference that the rows alone call one is level where it is no larger than a seed's: of such a start, or as
    repeats show. What is not known is said, in the numbers and in the page."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.996, seed=0)})
    found = only(second, "--baseline", first)
    assert (found["outcome"], found["relation"], found["seed_se"]) == ("exact", "ahead", None)
    assert "rows-only" in codes(found, "notes")
    assert "from the documents, from seeds not known" in compare(second, "--baseline", first).stdout

    told = only(second, "--baseline", first, "--start", "vocabulary-surgery")
    assert (told["relation"], told["se"], told["high"] > 0) == ("level", found["se"], True)
    assert told["resolution"] == pytest.approx(1.959964 * math.hypot(told["se"], told["seed_se"]))
    assert only(second, "--baseline", first, "--start", "good-base")["relation"] == "ahead"
    assert "seed-part" in codes(told, "notes")

    near = [write_run(tmp_path / name, {"eval_ko": sums(level, seed=0)}) for name, level in (("c", 2.99), ("d", 3.002))]
    repeated = only(second, "--baseline", first, "--repeat", near[0], "--repeat", near[1])
    losses = [only(path, "--baseline", first)["value"] for path in (second, *near)]
    assert repeated["seed_se"] == pytest.approx(math.sqrt(2.0) * statistics.stdev(losses))
    assert repeated["relation"] == "level"


def test_seeds_that_cannot_be_used(tmp_path: Path) -> None:
    """An unknown start, one repeat alone, a repeat on another text, a run named twice or copied, a repeat of one of
    two runs, or of a lone loss: one line and nothing compared."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    other = write_run(tmp_path / "b", {"eval_ko": sums(3.0, text=1)})
    near, copy = (write_run(tmp_path / name, {"eval_ko": sums(2.99)}) for name in ("c", "d"))
    last = write_run(tmp_path / "e", {"eval_ko": sums(2.98)})
    for options, said in (
        (("--start", "good"), "--start: found 'good', expected one of good-base, vocabulary-surgery, from-scratch"),
        (("--repeat", first), "--repeat: found 1 run, expected 2 or more: three seeds"),
        (("--repeat", other, "--repeat", first), "--repeat: found no evaluation of the text of eval_ko"),
        (("--repeat", near, "--repeat", first), f"--repeat: found in {first} the loss of another run"),
        (("--repeat", near, "--repeat", copy), f"--repeat: found in {copy} the loss of another run"),
        ((near, "--repeat", copy, "--repeat", last), "--repeat: found 2 runs to compare, expected the one"),
    ):
        result = compare(first, "--baseline", "redwhale", *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr and result.stderr.count("\n") == 1
    lone = compare("--loss", 3.0, "--baseline", "redwhale", "--repeat", near, "--repeat", last)
    assert (lone.exit_code, lone.stdout) == (2, "") and "--repeat: found it with --loss" in lone.stderr


def test_a_repeat_that_is_not_whole_is_no_repeat(tmp_path: Path) -> None:
    """Runs that were cut at another step differ by their length, not by their seed alone."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    near = write_run(tmp_path / "b", {"eval_ko": sums(2.99)})
    short = write_run(tmp_path / "c", {"eval_ko": sums(3.5)}, step=60)
    result = compare(first, "--baseline", "redwhale", "--repeat", near, "--repeat", short)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--repeat: found step 60 in {short} and " in result.stderr and result.stderr.count("\n") == 1


def test_two_tokenizers(tmp_path: Path) -> None:
    """Whole documents: exact in bits per byte; packed rows, or rows without BOS: an indication with that reason."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.8, seed=1, reach=5.0)}, run=TOKENIZER)
    found = only(second, "--baseline", first)
    assert (found["outcome"], found["relation"], found["unit"], found["se_kind"]) == (
        "exact", "ahead", "bits per byte", "paired",
    )  # fmt: skip
    bare = write_run(tmp_path / "c", {"eval_ko": sums(2.8, reach=5.0, flags=READ)}, run=TOKENIZER)
    found = only(bare, "--baseline", first)
    assert (found["outcome"], codes(found)) == ("indicative", ["no-bos", "special-tokens-differ"])
    packed = write_run(tmp_path / "d", {"eval_ko": sums(2.8, text=1, flags=READ | SEVERAL)}, run=TOKENIZER)
    found = only(packed, "--baseline", first)
    assert (found["outcome"], codes(found)) == ("indicative", ["different-text", "packed"])
    assert "Rows are packed: they hold several documents" in text(packed, "--baseline", first)


def test_without_rows(tmp_path: Path) -> None:
    """One tokenizer and one text: exact with an upper bound of the error; another tokenizer: an indication."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)}, keep_rows=False)
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.5, seed=1)})
    found = only(second, "--baseline", first)
    assert (found["outcome"], found["se_kind"], found["relation"]) == ("exact", "at most", "ahead")
    assert "upper bound" in text(second, "--baseline", first)
    other = write_run(tmp_path / "c", {"eval_ko": sums(2.5)}, run=TOKENIZER)
    assert codes(only(other, "--baseline", first)) == ["no-paired-rows"]


def test_rows_of_another_evaluation_do_not_count(tmp_path: Path) -> None:
    """A file under the same name and step that is not of this row's text: as if it were not there, and it is said."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.5)})
    payload = sums(2.5, text=7).to_payload()
    (tmp_path / "b" / "ko_cpt" / "eval_rows" / "eval_ko-100.npz").write_bytes(payload)
    found = only(second, "--baseline", first)
    assert (found["se_kind"], [note["code"] for note in found["notes"]][:1]) == ("at most", ["other-rows"])


@pytest.mark.parametrize(
    "change", [{"nll": 2.0}, {"tokens": 2}, {"bytes": 2}], ids=lambda change: next(iter(change))
)
@pytest.mark.parametrize("whose", ["a", "b"])
def test_rows_that_contradict_their_row_are_refused(tmp_path: Path, change: dict[str, float], whose: str) -> None:
    """Sums of the same text whose loss, tokens or bytes are not the row's, on either side."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.5)})
    assert only(second, "--baseline", first)["se_kind"] == "paired"
    good = sums({"a": 3.0, "b": 2.5}[whose])
    bad = replace(good, **{name: getattr(good, name) * by for name, by in change.items()})
    (tmp_path / whose / "ko_cpt" / "eval_rows" / "eval_ko-100.npz").write_bytes(bad.to_payload())
    found = only(second, "--baseline", first)
    assert (found["outcome"], found["se_kind"]) == ("exact", "at most")
    (said,) = (note["message"] for note in found["notes"] if note["code"] == "other-rows")
    assert said.startswith("Per-row sums contradict the row of their evaluation")


@pytest.mark.parametrize("keep_rows", [True, False])
def test_another_part_of_the_text_is_scored(tmp_path: Path, keep_rows: bool) -> None:
    """Half of the labels masked: the text is the same, its tokens and bytes are fewer, and nothing is exact."""
    whole = sums(3.0)
    first = write_run(tmp_path / "a", {"eval_ko": whole}, keep_rows=keep_rows)
    half = replace(whole, nll=whole.nll * 0.4, tokens=(whole.tokens + 1) // 2, bytes=whole.bytes // 2)
    second = write_run(tmp_path / "b", {"eval_ko": half}, keep_rows=keep_rows)
    found = only(second, "--baseline", first)
    assert (found["outcome"], codes(found)) == ("indicative", ["scored-differently"])
    # As many tokens, but other ones.
    other = replace(whole, bytes=whole.bytes + 1)
    third = write_run(tmp_path / "c", {"eval_ko": other}, keep_rows=keep_rows)
    found = only(third, "--baseline", first)
    assert (found["outcome"], codes(found)) == ("indicative", ["scored-differently"])


def test_a_fingerprint_of_another_version_is_unknown(tmp_path: Path) -> None:
    """An older run's 64-bit hashes say nothing about the text of a newer one: unknown, neither same nor changed."""
    new = sums(3.0)
    old = replace(new, hash=new.hash[:, :1])
    first, second = write_run(tmp_path / "a", {"eval_ko": old}), write_run(tmp_path / "b", {"eval_ko": new})
    for keep in (True, False):
        found = only(second, "--baseline", first)
        assert (found["outcome"], codes(found)) == ("indicative", ["text-unknown"]), keep
        for folder in ("a", "b"):
            (tmp_path / folder / "ko_cpt" / "eval_rows" / "eval_ko-100.npz").unlink(missing_ok=True)
    again = write_run(tmp_path / "c", {"eval_ko": replace(old, nll=old.nll * 0.9)})
    found = only(again, "--baseline", first)
    assert (found["outcome"], found["se_kind"]) == ("exact", "at most")  # two of the old kind are still the same text


def test_rows_from_before_there_were_flags(tmp_path: Path) -> None:
    """They are read, and what they do not show is said."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.5)}, run=TOKENIZER)
    old = sums(3.0)
    file = tmp_path / "a" / "ko_cpt" / "eval_rows" / "eval_ko-100.npz"
    np.savez(file, nll=old.nll, tokens=old.tokens, bytes=old.bytes, hash=old.hash, order=old.order)
    found = only(second, "--baseline", first)
    assert (found["outcome"], codes(found)) == ("indicative", ["row-kind-unknown"])


def test_several_runs_and_sets(tmp_path: Path) -> None:
    """The first is what the others are compared with; every set but retention sets, or the one that is named."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0), "eval_law": sums(2.0, text=1)})
    sets = {"eval_ko": sums(2.9), "eval_en": sums(2.0, text=2), "eval_law": sums(2.1, text=1), "eval_old": sums(text=3)}
    second, third = write_run(tmp_path / "b", sets), write_run(tmp_path / "c", {"eval_ko": sums(2.8)})
    found = compared(first, second, third)["comparisons"]
    assert [(item["run"], item["comparison"]["set"], item["comparison"]["outcome"]) for item in found] == [
        (second, "eval_ko", "exact"), (second, "eval_law", "exact"), (third, "eval_ko", "exact"),
    ]  # fmt: skip
    assert only(second, "--baseline", first, "--set", "law")["set"] == "eval_law"
    for retained in ("eval_en", "eval_old"):
        for other in (first, second):  # nor with itself
            assert codes(only(second, "--baseline", other, "--set", retained)) == ["retention"]
    assert "did you mean eval_law?" in refused(second, "--baseline", first, "--set", "eval_lawn")


def _table(*arguments: object) -> list[list[str]]:
    """The cells of the table, row by row, without its head."""
    lines = compare(*arguments).stdout.splitlines()
    first = next(at for at, line in enumerate(lines) if line.split()[:2] == ["run", "set"])
    rows = list(itertools.takewhile(bool, lines[first + 1 :]))
    return [re.split(" {2,}", row) for row in rows]


def test_several_are_one_table(tmp_path: Path) -> None:
    """A row a run and set: what is better than the reference, the reference, what is worse; then what nothing is
    compared with. No sentence stands on the page, and a single comparison has no table."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0), "eval_en": sums(text=3)})
    worse, better = (write_run(tmp_path / name, {"eval_ko": sums(loss)}) for name, loss in (("b", 3.1), ("c", 2.8)))
    bare = write_state(tmp_path / "d.json", [{"eval_loss": 3.0, "eval_runtime": 1.0, "step": 10}])
    rows = _table(first, worse, better, bare)
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("c", "eval_ko", "exact: ahead"),
        ("a", "eval_ko", "reference"),
        ("b", "eval_ko", "exact: behind"),
        ("d.json", "eval", "not comparable: bytes per token are not known"),
        ("a", "eval_en", "not comparable: a retention set"),
    ]
    found = {item["run"]: item["comparison"] for item in compared(first, worse, better)["comparisons"]}
    assert rows[0][4:6] == [f"{found[better]['difference']:+.3f} nats",
                            f"{found[better]['low']:+.3f} to {found[better]['high']:+.3f}"]  # fmt: skip
    assert ". " not in compare(first, worse, better, bare).stdout
    assert "To know" in compare(first, worse, better, "--all").stdout
    assert "exact: ahead" not in compare(first, better).stdout.splitlines()[0]


def test_runs_beside_a_published_one(tmp_path: Path) -> None:
    """Its figures are a row as a run's are, behind what is better; sets that must not be forgotten come last."""
    runs = [write_run(tmp_path / name, {"eval_ko": sums(loss), "eval_old": sums(text=3)})
            for name, loss in (("a", 3.0), ("b", 2.9))]  # fmt: skip
    rows = _table(*runs, "--baseline", "published")
    assert [row[0].partition(" · ")[0] for row in rows if row[-1] == "reference"] == ["published"]
    assert [(row[0], row[1], row[-1]) for row in rows[-2:]] == [
        (name, "eval_old", "not comparable: a retention set") for name in "ab"
    ]


def test_a_page_of_one_comparison_gives_its_reasons_in_a_few_words(tmp_path: Path) -> None:
    """Why it is not exact is one line; the sentences are behind --all."""
    run = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    page = compare(run, "--baseline", "published").stdout
    assert "Why not exact: whether it is the same text is not known" in page
    assert "text alone makes a large difference" not in page
    assert "text alone makes a large difference" in text(run, "--baseline", "published")


def test_a_staged_run_stands_with_its_last_stage(tmp_path: Path) -> None:
    """As a run and as the reference; the facts are those of the whole training."""
    names = ["embedding", "lora"]
    for folder, name in zip(staged.plan(tmp_path / "whole", names), names, strict=True):
        staged.stage(folder, name, (5.0, 4.0) if name == "embedding" else (4.0, 3.0))
    alone = staged.stage(tmp_path / "alone", "lora", (4.0, 3.5))
    (run,) = (found := compared(alone, tmp_path / "whole"))["runs"]
    assert (run["stage"], run["state"], run["steps_done"]) == ("lora", "finished", 800)
    (only_ko,) = (item["comparison"] for item in found["comparisons"])
    assert (only_ko["set"], only_ko["outcome"], only_ko["relation"]) == ("eval_ko", "exact", "ahead")
    assert only(tmp_path / "whole", alone)["relation"] == "behind"
    staged.plan(tmp_path / "none", names)
    assert "no stage has begun" in refused(tmp_path / "none", "--baseline", "published")


def test_one_of_several_that_cannot_be_read_is_a_row(tmp_path: Path) -> None:
    """The others are compared, the reason stands in the table, in JSON and on stderr, and the exit status is 2."""
    first, second = (write_run(tmp_path / name, {"eval_ko": sums(loss)}) for name, loss in (("a", 3.0), ("b", 3.1)))
    lost = str(tmp_path / "lost")
    result = compare(first, second, lost)
    assert (result.exit_code, result.stderr.count("no such file or folder")) == (2, 1)
    assert _table(first, second, lost)[-1][-1].startswith("unreadable: no such file or folder")
    told = json.loads(compare(first, second, lost, "--json").stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(told)
    assert [item["run"] for item in told["unreadable"]] == [lost]
    assert "no such file" in refused(first, lost)


def test_a_baselines_retention_sets_stand_for_nothing(tmp_path: Path) -> None:
    """A run whose only counting set has another name is not compared with a set that the other keeps for retention."""
    second = write_run(tmp_path / "b", {"eval": sums(2.9, text=5)})
    for name in ("eval_en", "eval_old"):  # by its usual name, and as run.json declares it
        first = write_run(tmp_path / name, {name: sums(2.0, text=2), "eval_ko": sums(3.0)})
        assert only(second, "--baseline", first)["reference_set"] == "eval_ko"


def test_bare_logs(tmp_path: Path) -> None:
    """A state file with exact losses has no rows beside it; one with the Trainer's loss has no bits per byte."""
    with_exact = write_state(tmp_path / "a.json", healthy())
    found = only(with_exact, "--baseline", "published")
    assert (found["outcome"], found["set"], codes(found)) == ("indicative", "eval", ["text-unknown"])
    without = write_state(tmp_path / "b.json", [{"eval_loss": 3.0, "eval_runtime": 1.0, "step": 10}])
    found = only(without, "--baseline", "published")
    assert (codes(found), "trainer-loss" in codes(found, "notes")) == (["no-bytes"], True)


def test_a_last_evaluation_that_is_not_finite(tmp_path: Path) -> None:
    """It has no number to compare, and an earlier one does not stand in."""
    rows = [*healthy(), {"eval_exact_loss": float("inf"), "eval_loss": 9.0, "eval_runtime": 1.0, "step": 900}]
    found = only(write_state(tmp_path / "a.json", rows), "--baseline", "published")
    assert (found["outcome"], codes(found)) == ("not comparable", ["no-loss"])


def test_training_losses_are_averaged(tmp_path: Path) -> None:
    """The mean of the last 50 rows; a 0.0 that stands for NaN and a NaN are left out; a run without any is refused."""
    rows = train_rows([9.0] * 10 + [2.0, 3.0] * 25)
    rows += [{"loss": 0.0, "step": 9000}, {"loss": float("nan"), "step": 9010}]
    (found,) = compared(write_state(tmp_path / "a.json", rows), "--baseline", "published")["comparisons"]
    assert found["measured"]["loss"] == 2.5
    (note,) = [item for item in found["comparison"]["notes"] if item["code"] == "training-mean"]
    assert (note["points"], note["last_step"]) == (50, 600)
    empty = write_state(tmp_path / "b.json", [{"step": 1, "loss": 0.0}])
    assert "found no loss" in refused(empty, "--baseline", "published")


def test_efficiency(tmp_path: Path) -> None:
    """A run that logged tokens per GPU hour stands among the baselines that have them; others say nothing of it."""
    slow = write_run(tmp_path / "a", {"eval": sums()}, trained={"tokens_per_gpu_hour": 2_700_000.0})
    table = compared(slow, "--baseline", "published")["efficiency"]
    assert table["runs"] == [{"run": slow, "tokens_per_gpu_hour": 2_700_000.0}]
    assert {"redwhale"} <= {row["id"] for row in table["baselines"]}
    page = compare(slow, "--baseline", "published", "--all").stdout
    lines = page.split("Tokens per GPU hour")[1].splitlines()[1:]
    speeds = [float(line.split()[0]) for line in lines if line.strip()]
    assert speeds == sorted(speeds)
    assert any("2.70 M" in line and "(this run)" in line for line in lines)
    other = write_run(tmp_path / "b", {"eval": sums()})
    assert compared(other, "--baseline", "published")["efficiency"] is None


# -- what cannot be used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "RUN: found none, expected a run and --baseline, or two runs"),
        (("RUN",), "RUN: found 1, expected a run and --baseline, or two runs"),
        (("", "--baseline", "published"), "RUN: found an empty text"),
        (("RUN", "--baseline", ""), "--baseline: found an empty text"),
        (("RUN", "--baseline", "redwhal"), "Did you mean redwhale?"),
        (("RUN", "--baseline", "./nothing"), "no such file or folder"),
        (("RUN", "--baseline", "published", "--set", "eval_ok"), "did you mean eval_ko?"),
        (("RUN", "--baseline", "published", "--loss", "3"), "--loss: it stands in place of RUN and --set"),
        (("--loss", "3"), "--loss: it stands in place of RUN and --set and needs --baseline"),
        (("--loss", "3", "--baseline", "published", "--set", "eval"), "--loss: it stands in place of RUN and --set"),
        (("RUN", "--baseline", "published", "--split", "eval"), "--split: found it without --loss"),
        (("RUN", "--baseline", "published", "--se", "0.1"), "--se: found it without --loss"),
        (("--loss", "3", "--split", "evil", "--baseline", "published"), "did you mean eval?"),
        (("--loss", "-3", "--baseline", "published"), "--loss: found -3.0, expected a number above 0"),
        (("--loss", "nan", "--baseline", "published"), "--loss: found nan, expected a number above 0"),
        (("--loss", "3", "--bytes-per-token", "0", "--baseline", "published"), "--bytes-per-token: found 0.0"),
        (("--loss", "3", "--se", "inf", "--baseline", "published"), "--se: found inf"),
    ],
)
def test_refused(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2, one line on stderr that says what was found, what is expected and what was probably meant."""
    run = write_run(tmp_path / "run", {"eval_ko": sums()})
    assert said in refused(*(run if item == "RUN" else item for item in arguments))


def test_damaged_rows_are_told(tmp_path: Path) -> None:
    """Evidence that cannot be read is no evidence that is not there."""
    run = write_run(tmp_path / "a", {"eval_ko": sums()})
    (tmp_path / "a" / "ko_cpt" / "eval_rows" / "eval_ko-100.npz").write_bytes(b"not an archive")
    assert "eval_ko-100.npz: found no per-row sums" in refused(run, "--baseline", "published")


def test_an_id_comes_before_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named like a baseline is meant only with a ``/``; one of another name needs none."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "published", {"eval_ko": sums()})
    write_run(tmp_path / "mine", {"eval_ko": sums()})
    assert compared("mine", "--baseline", "published")["baseline"]["title"] == "A published run"
    assert compared("mine", "--baseline", "./published")["baseline"]["id"] == "./published"
    assert only("published", "--baseline", "mine")["outcome"] == "exact"


def test_names_that_would_move_the_cursor(tmp_path: Path) -> None:
    """A path with control characters is shown as text."""
    run = write_run(tmp_path / "a\x1b[31m", {"eval_ko": sums()})
    assert "\x1b" not in compare(run, "--baseline", "published").stdout


def test_without_the_heavy_libraries(tmp_path: Path) -> None:
    """In a process where torch and transformers cannot be imported; a comparison of rows too."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.9)})
    asked = (
        ((second, first), "exact: behind"),
        ((first, "--baseline", "redwhale"), "indicative: behind"),
        (("--loss", "3.078", "--baseline", "redwhale"), "4.96 bytes per token"),
    )
    for (_, said), found in zip(asked, offline(*(["compare", *words] for words, _ in asked)), strict=True):
        assert (found.returncode, found.stderr) == (0, "")
        assert said in found.stdout


def test_a_baseline_that_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the registry is the answer, on one line."""

    def broken(name: str) -> Baseline:
        raise ConfigurationError("baseline 'x': found nothing")

    monkeypatch.setattr(ko_cpt_callbacks, "find_baseline", broken)
    assert "baseline 'x': found nothing" in refused("--loss", "3", "--baseline", "x")


def test_quantisation_is_named(tmp_path: Path) -> None:
    """8-bit against 16-bit weights: what that cost another model."""
    first = write_run(tmp_path / "a", {"eval_ko": sums(3.0)})
    second = write_run(tmp_path / "b", {"eval_ko": sums(2.9)}, run={"model": {"quantization": "8-bit"}})
    found = only(second, "--baseline", first)
    assert "quantization" in codes(found, "notes")
    assert "8-bit weights cost another model about +0.011 nats per token" in text(second, "--baseline", first)


def test_constants_are_those_of_the_registry() -> None:
    """What quantised weights cost, and how far text alone moves a loss: the numbers in the sentences are recorded."""
    from ko_cpt_callbacks.compare.registry import entries

    recorded = [item for entry in entries()[0] for item in entry.file.quantization_offsets]
    assert {item.quantization for item in recorded} == set(QUANTIZATION_COST)
    for name, cost in QUANTIZATION_COST.items():  # of several the largest
        most = max((item.reach() for item in recorded if item.quantization == name), key=lambda reach: reach.value)
        assert most.low <= cost <= most.high
    (whole,) = ko_cpt_callbacks.find_baseline("frankenstallm-1b").stages
    losses = [math.log(value.value) if value.metric == "ppl" else value.value for value in whole.values]
    assert [round(loss, 3) for loss in (min(losses), max(losses))] == list(TEXT_SPREAD)


def test_every_run_carries_its_facts(tmp_path: Path) -> None:
    """State, completeness, steps and verdict of each run stand in JSON; a run that is not whole says so on the page."""
    first, second = write_run(tmp_path / "a", {"eval_ko": sums(3.0)}), write_run(tmp_path / "b", {"eval_ko": sums(2.9)})
    rows = tmp_path / "b" / "ko_cpt" / "rows.jsonl"
    plan = {"kind": "setup", "setup": "plan", "attempt": 1, "step": 0, "planned_steps": 90_000}
    plan["trainer_kind"] = "causal"
    rows.write_text(json.dumps(plan) + "\n" + rows.read_text("utf-8"), "utf-8")
    (run,) = compared(first, second)["runs"]
    assert (run["run"], run["state"], run["complete"], run["kind"]) == (second, "unfinished", False, "causal")
    assert (run["steps_planned"], run["verdict"]) == (90_000, "look")
    assert f"UNFINISHED {run['steps_done']:,} of 90,000 steps" in text(first, second)
    assert "UNFINISHED after step 100" in text(second, first)
