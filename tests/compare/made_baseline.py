"""Baselines as values, made here: what a published run leaves to compare with, and what a run of one's own does."""

from __future__ import annotations

import math
from typing import Any

from ko_cpt_callbacks.compare.baseline import Baseline, BaselineStage, BaselineValue

LN2 = math.log(2.0)


def value(metric: str, number: float, split: str = "eval", **more: Any) -> BaselineValue:
    """A figure without a range."""
    settings: dict[str, Any] = {"low": number, "high": number, "grade": "UNCONFIRMED", **more}
    return BaselineValue(metric, split, number, **settings)  # type: ignore[arg-type]


def published() -> Baseline:
    """Like RedWhale: two stages and an SFT, losses printed to four digits, bits per byte in a derived range."""

    def stage(name: str, loss: float, *, reference: bool = True) -> BaselineStage:
        low, high = loss / LN2 / 4.860, loss / LN2 / 4.526
        bits = value(
            "bits_per_byte", (low + high) / 2, low=low, high=high, rounding=0.005, origin="computed", formula="by hand."
        )
        figures = (
            value("loss", loss, low=loss - 5e-5, high=loss + 5e-5), bits, value("loss", loss - 1.17, "train"),
        )  # fmt: skip
        return BaselineStage(name, values=figures, reference=reference)

    return Baseline(
        "published", "A published run", "continued pretraining", "UNCONFIRMED", vocabulary=49_072,
        bytes_per_token_low=4.526, bytes_per_token_high=4.860,
        stages=(stage("embedding", 3.0672), stage("lora", 2.8064), stage("sft", 2.8752, reference=False)),
    )  # fmt: skip


def own(**more: Any) -> Baseline:
    """A run of one's own: exact loss 2.8 and 0.9 bits per byte on a known text, with the rows at hand."""
    known = {"set": "eval_ko", "fingerprint": "utf8-00aa", "grade": "OWN", "origin": "measured", "tokens": 1000}
    known["bytes"] = 4000
    values = (
        value("loss", 2.8, se=0.03, rows_file="own/eval_ko-100.npz", **known),
        value("bits_per_byte", 0.9, se=0.01, rows_file="own/eval_ko-100.npz", **known),
    )
    settings: dict[str, Any] = {"tokenizer_hash": "abc", "quantization": "none", **more}
    return Baseline(
        "own", "My run", "continued pretraining", "OWN", stages=(BaselineStage("whole", values=values),), **settings
    )
