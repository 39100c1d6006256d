"""Runs of a real Trainer beside each other: seeds, training time, tokenizers, packing."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import PreTrainedTokenizerFast

from ko_cpt_callbacks import KoCPTCallback
from ko_cpt_callbacks.check.compared import compared_run, side_of_run
from ko_cpt_callbacks.check.compared_run import given_seeds, read_compared_run
from ko_cpt_callbacks.compare.value import BITS, NATS, Comparison

pytestmark = pytest.mark.both_versions

TEXTS = tiny.korean()
HELD_OUT = 40
# Whole words of the texts, the most frequent that are long enough to be several tokens.
WORDS = [word for word, _ in Counter(word for text in TEXTS for word in text.split() if len(word) > 3).most_common(60)]
LONGEST = 500  # tokens: no text is cut


def extended() -> PreTrainedTokenizerFast:
    """The byte-level tokenizer with Korean words added."""
    tokenizer = copy.deepcopy(tiny.byte_level_tokenizer())
    assert tokenizer.add_tokens(WORDS) == len(WORDS)
    return tokenizer


def texts_without_bos(tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """The held-out texts with nothing before them."""
    return [{"input_ids": tokenizer.encode(f"{text}</s>", add_special_tokens=False)} for text in TEXTS[:HELD_OUT]]


def trained(
    folder: Path,
    *,
    steps: int = 30,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    evaluation: list[dict[str, Any]] | None = None,
    **more: Any,
) -> Path:
    """A tiny Llama from one initialisation, trained on the texts in the seed's order, evaluated at the end."""
    tokenizer = tiny.byte_level_tokenizer() if tokenizer is None else tokenizer
    settings: Mapping[str, Any] = {
        "callbacks": [KoCPTCallback(outputs=["files"])], "processing_class": tokenizer, "max_steps": steps,
        "seed": seed, "learning_rate": 2e-4, "warmup_steps": 5, "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8, "logging_steps": 10, "eval_strategy": "steps", "eval_steps": steps, **more,
    }  # fmt: skip
    rows = tiny.rows(TEXTS[:HELD_OUT], tokenizer, LONGEST) if evaluation is None else evaluation
    model = tiny.llama(len(tokenizer))
    tiny.trainer(model, folder, tiny.rows(TEXTS[HELD_OUT:], tokenizer, LONGEST), rows, **settings).train()
    return folder


def beside(run: Path, other: Path) -> Comparison:
    """The only comparison of a run with another."""
    (found,) = compared_run(read_compared_run(str(run)), side_of_run(str(other)))
    return found.comparison


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty steps in the order of seed 0."""
    return trained(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same with two other orders of the rows."""
    return [trained(tmp_path_factory.mktemp(f"seed-{seed}"), seed=seed) for seed in (1, 2)]


def test_two_seeds_of_one_set_up_are_level(base: Path, seeds: list[Path]) -> None:
    """Another order of the same rows: exact, and no difference that another seed does not make, whether the spread of
    the seeds is measured by repeats or is the registry's for models from scratch."""
    one, other = seeds
    for told in (given_seeds(None, [str(other), str(base)]), given_seeds("from-scratch", [])):
        run = told.of(read_compared_run(str(one)))
        (found,) = [item.comparison for item in compared_run(run, side_of_run(str(base)))]
        assert (found.outcome, found.unit, found.rows) == ("exact", NATS, HELD_OUT)
        assert found.difference != 0.0 and (found.seed_se or 0.0) > 0.0
        assert found.relation == "level"


def test_seeds_that_are_not_known_are_named(base: Path, seeds: list[Path]) -> None:
    """The interval is about the documents alone, and a note says so; it is narrower than with the seeds' part."""
    found = beside(seeds[0], base)
    assert (found.outcome, found.seed_se) == ("exact", None)
    assert "rows-only" in [note.code for note in found.notes]
    known = given_seeds("from-scratch", []).of(read_compared_run(str(seeds[0])))
    (whole,) = [item.comparison for item in compared_run(known, side_of_run(str(base)))]
    assert whole.resolution > found.resolution
    assert "rows-only" not in [note.code for note in whole.notes]


def test_twice_the_training_is_ahead(base: Path, tmp_path: Path) -> None:
    """Ahead of the half, which is behind it by as much."""
    twice = trained(tmp_path, steps=60)
    found, back = beside(twice, base), beside(base, twice)
    assert (found.outcome, found.relation, back.relation) == ("exact", "ahead", "behind")
    assert found.difference is not None and back.difference == pytest.approx(-found.difference)


def test_a_run_with_itself(base: Path) -> None:
    """Exact, and no difference at all."""
    found = beside(base, base)
    assert (found.outcome, found.relation, found.difference, found.se) == ("exact", "level", 0.0, 0.0)


def test_two_tokenizers_on_whole_documents(base: Path, tmp_path: Path) -> None:
    """The same texts in fewer tokens: exact in bits per byte, though the losses per token are of different units."""
    other = trained(tmp_path, tokenizer=extended())
    found = beside(other, base)
    assert (found.outcome, found.unit, found.reasons, found.rows) == ("exact", BITS, (), HELD_OUT)
    mine, theirs = (read_compared_run(str(run)).sets[0].measured for run in (other, base))
    assert mine.fingerprint == theirs.fingerprint and mine.tokenizer != theirs.tokenizer
    assert (mine.bytes_per_token or 0) > (theirs.bytes_per_token or 0)
    assert found.difference == pytest.approx((mine.bits_per_byte or 0) - (theirs.bits_per_byte or 0))
    # What the base's loss is in the longer tokens of the other.
    assert found.equal_loss == pytest.approx(
        ((theirs.loss or 0) * (mine.bytes_per_token or 0) / (theirs.bytes_per_token or 1),) * 2
    )


def test_two_tokenizers_on_packed_rows(tmp_path: Path) -> None:
    """Two tokenizers cut the same stream at different places: an indication, with that reason."""
    runs = []
    for name, tokenizer in (("a", tiny.byte_level_tokenizer()), ("b", extended())):
        rows = tiny.packed(TEXTS[:HELD_OUT], tokenizer, 128)
        runs.append(trained(tmp_path / name, steps=10, tokenizer=tokenizer, evaluation=rows))
    found = beside(runs[1], runs[0])
    assert (found.outcome, found.unit) == ("indicative", BITS)
    assert [reason.code for reason in found.reasons] == ["different-text", "packed"]


def test_two_tokenizers_on_rows_without_bos(tmp_path: Path) -> None:
    """The first token of each is not scored, and it is another piece of the same text: an indication that says so."""
    runs = []
    for name, tokenizer in (("a", tiny.byte_level_tokenizer()), ("b", extended())):
        rows = texts_without_bos(tokenizer)
        runs.append(trained(tmp_path / name, steps=10, tokenizer=tokenizer, evaluation=rows))
    found = beside(runs[1], runs[0])
    assert (found.outcome, [reason.code for reason in found.reasons]) == ("indicative", ["no-bos"])


def test_packed_rows_of_one_tokenizer(tmp_path: Path) -> None:
    """With one tokenizer the rows are the same, packed or not: exact."""
    rows = tiny.packed(TEXTS[:HELD_OUT], tiny.byte_level_tokenizer(), 128)
    runs = [trained(tmp_path / str(seed), steps=10, seed=seed, evaluation=rows) for seed in (0, 1)]
    found = beside(runs[1], runs[0])
    assert (found.outcome, found.unit, found.relation) == ("exact", NATS, "level")
