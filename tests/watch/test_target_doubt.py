"""What is said of a target where it is parsed: levels that no published Korean run comes near, or that say nothing."""

from __future__ import annotations

import json
import math

import pytest

from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.watch.plausibility import Implausible, TargetDoubt, doubt, doubts_of
from ko_cpt_callbacks.watch.target import PRESETS, parse_targets


def _doubts(target: str, task: str = "cpt") -> tuple[TargetDoubt, ...]:
    return doubts_of(parse_targets([target]), task)


def test_the_seeds_mistake() -> None:
    """Perplexity < 3: a loss was meant. It depends on the tokenizer, so it is a note."""
    (found,) = _doubts("ppl<3@end")
    assert (str(found.target), found.severity) == ("eval_ppl<3.0@end", Severity.INFO)
    assert found.reason is Implausible.TOKENIZER
    assert found.variant == "tokenizer-ppl"
    assert (found.values["meant_loss"], round(found.values["meant_ppl"], 1)) == (3.0, 20.1)
    assert round(found.values["healthy_below"], 1) == 3.8
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == {
        "target": "eval_ppl<3.0@end", "severity": "info", "reason": "tokenizer", "short": found.short(),
        "detail": found.message(),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "variant", "severity"),
    [
        ("ppl<4", "tokenizer-ppl", "info"),
        ("ppl<1.35", "tokenizer", "info"),
        ("ppl<1.2", "low", "warning"),
        ("exact_loss<1.3", "tokenizer-bits", "info"),
        ("loss<0.4", "tokenizer", "info"),
        ("loss<0.28", "low", "warning"),
        ("bits_per_byte<0.4", "bits", "warning"),
        ("loss<20", "trivial-ppl", "warning"),
        ("ppl<1e6", "trivial", "warning"),
    ],
)
def test_what_is_doubted(target: str, variant: str, severity: str) -> None:
    """What may have been meant depends on the number; in bits per byte, or in any tokenizer, it is a warning."""
    (found,) = _doubts(target)
    assert (found.variant, found.severity.value) == (variant, severity)
    assert str(parse_targets([target])[0]) in found.message()


@pytest.mark.parametrize(
    "target",
    [*map(str, PRESETS.values()), "ppl<5.23", "exact_loss<1.466", "bits_per_byte<0.519", "ppl<250000", "loss<12"],
)
def test_what_published_runs_came_near_is_silent(target: str) -> None:
    """The presets, the lowest published figures, and lax targets."""
    assert _doubts(target) == ()


@pytest.mark.parametrize("target", ["loss<0.6", "exact_loss<0.01", "ppl<3", "bits_per_byte<0.1"])
def test_the_floor_is_that_of_continued_pretraining(target: str) -> None:
    """Of anything else there is no lowest published value; what a guess meets says nothing there too."""
    assert len(_doubts(target)) == 1
    assert _doubts(target, "other") == ()
    assert len(_doubts("loss<20", "other")) == 1


def test_fine_tuning_may_go_lower() -> None:
    """Only what is near zero is too low there."""
    assert _doubts("ppl<3", "sft") == ()
    assert [one.variant for one in _doubts("loss<0.04", "sft")] == ["low"]
    assert [one.variant for one in _doubts("bits_per_byte<0.07", "sft")] == ["bits"]
    assert len(_doubts("loss<20", "sft")) == 1


def test_a_relative_target_has_no_level_yet() -> None:
    """How far a loss falls depends on where it begins: nothing is said before."""
    assert _doubts("exact_loss<-64%") == _doubts("ppl<-90%") == ()


def test_one_for_each_in_their_order() -> None:
    """Each target by itself; the others are silent."""
    found = doubts_of(parse_targets(["loss<20", "eval_ko_ppl<20", "bits_per_byte<0.4"]), "cpt")
    assert [one.variant for one in found] == ["trivial-ppl", "bits"]


@pytest.mark.parametrize("reach", [1.2, 1.3, 1.4, 1.6, 1.9, 2.3, 2.8, 3.4, 4.1, 4.9, 5.7, 6.6])
def test_known_bytes_decide(reach: float) -> None:
    """Half a bit per byte is no doubtful target on any tokenizer whose bytes are known, and a third always is one."""
    for bits, why in ((0.5, None), (0.34, Implausible.LOW)):
        assert doubt("exact_loss", bits * math.log(2.0) * reach, "cpt", reach) is why
        assert doubt("bits_per_byte", bits, "cpt") is why


def test_no_token_has_less_than_a_byte() -> None:
    """Below 0.288 nats per token a loss is below 0.415 bits per byte, whatever the tokenizer; above, it depends."""
    assert doubt("loss", 0.287, "cpt") is Implausible.LOW
    assert doubt("loss", 0.289, "cpt") is Implausible.TOKENIZER
    assert doubt("loss", 1.39, "cpt") is Implausible.TOKENIZER
    assert doubt("loss", 1.40, "cpt") is None
