"""Tokenizers of 1.2 to 6.6 bytes per token: one level of bits per byte is ten different losses per token.

A healthy run of 0.5 to 1.3 bits per byte has 0.4 to 6 nats per token, and a run of 0.28 bits per byte, which no
held-out Korean text allows, has 1.2 where a token is six bytes long. Nats per token alone do not tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from suite.draft import Draft, draw
from suite.run import LabelledRun, Row

from ko_cpt_callbacks import keys

__all__ = ["FAULTS", "HEALTHY", "LONGEST_TOKEN", "SHORTEST_TOKEN", "in_bytes"]

Kind = Callable[[np.random.Generator, float], LabelledRun]

SHORTEST_TOKEN, LONGEST_TOKEN = 1.2, 6.6
"""Bytes per token: byte fallback for most of Hangul, and a large vocabulary made for Korean."""
LOW_BITS, HIGH_BITS = 0.5, 1.3
"""Bits per byte between which a continued pretraining on Korean ends."""
IMPLAUSIBLE_BITS = 0.34
"""Well below the lowest published value, 0.519 (RedWhale)."""
SURELY_ABOVE = 1.16
"""Nats per token; ln 3 is 1.10."""


def _nats(bits: float, length: float) -> float:
    """Loss per token of so many bits per byte, at so many bytes per token."""
    return bits * math.log(2.0) * length


def in_bytes(rows: list[Row], length: float, only_bits: bool = False) -> list[Row]:
    """The rows with every evaluation's bytes and bits per byte as a tokenizer of ``length`` bytes per token has them.

    Args:
        rows: As `Draft.rows` gives them.
        length: Bytes per token.
        only_bits: The evaluation has its bits per byte beside the Trainer's loss and nothing else of this package.
    """
    found: list[Row] = []
    for row in rows:
        prefixes = [name.removesuffix("_loss") for name in row if name.startswith("eval") and name.endswith("_loss")]
        new = dict(row)
        for prefix in (one for one in prefixes if not one.endswith("_exact")):
            loss = row.get(keys.key(prefix, keys.EXACT_LOSS), row[f"{prefix}_loss"])
            new[keys.key(prefix, keys.BITS_PER_BYTE)] = loss / (math.log(2.0) * length)
            if only_bits:
                continue
            error = row[keys.key(prefix, keys.EXACT_LOSS_SE)]
            new[keys.key(prefix, keys.BITS_PER_BYTE_SE)] = error / (math.log(2.0) * length)
            new[keys.key(prefix, keys.BYTES)] = round(row[keys.key(prefix, keys.TOKENS)] * length)
        found.append(new)
    return found


def _learning(rng: np.random.Generator, noise: float, end: float, **given: Any) -> Draft:
    """A continued pretraining that comes down to ``end`` nats per token, in proportion to it."""
    shares: dict[str, Any] = {
        "fall": end * float(rng.uniform(0.12, 0.7)), "sd": end * float(rng.uniform(0.004, 0.02)), "offset": 0.02 * end,
        "eval_sd": end * float(rng.uniform(0.0005, 0.002)), "early": float(rng.uniform(0.03, 0.1)), "plain": False,
        "anneal": 0.02 * end, "task": "cpt", "least": 40, "level": end, "done": 1.0, "epochs": 1.0,
    }  # fmt: skip
    run = draw(rng, noise, **{**shares, **given})
    run.true = run.true + (end - float(run.true.min()))
    return run


def _healthy(name: str, seen: str) -> Kind:
    """A healthy run on one of these tokenizers.

    Args:
        name: Of the kind.
        seen: ``all`` (this package's keys), ``bits`` (bits per byte alone) or ``loss`` (nothing but losses).
    """

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        length = float(np.exp(rng.uniform(np.log(SHORTEST_TOKEN), np.log(LONGEST_TOKEN))))
        end = _nats(float(rng.uniform(LOW_BITS, HIGH_BITS)), length)
        head = "ours" if seen == "all" else str(rng.choice(["modern", "old", "trl", "bare"]))
        evals = int(rng.choice([0, 5, 10])) if seen == "loss" else int(rng.choice([4, 8, 15, 30]))
        # Packed rows, or none counted: how the tokens vary is another kind's business.
        tokens = str(rng.choice(["packed", "none"])) if head == "trl" else None
        run = _learning(rng, noise, end, header=head, evals=evals, tokens=tokens)
        rows = run.rows() if seen == "loss" else in_bytes(run.rows(), length, only_bits=seen == "bits")
        return run.run(f"healthy/{name}", rows=rows)

    return made


def _implausible(rng: np.random.Generator, noise: float) -> LabelledRun:
    """Pads in the loss of training and evaluation from the first row on, at six bytes per token: over ln 3
    nats per token, and a third of a bit per byte and less.

    Nothing else tells: no token counter, a loss that falls as others do. The evaluations carry their bits per byte. It
    has to be said within three evaluations of the first that is that low, or 30 points of it.
    """
    length = float(rng.uniform(5.6, LONGEST_TOKEN))
    highest = _nats(IMPLAUSIBLE_BITS, length)
    end = float(rng.uniform(SURELY_ABOVE, 0.9 * highest))
    run = _learning(
        rng, noise, end, header="ours", tokens="none", evals=int(rng.choice([10, 20, 30])), least=60,
        prefixes=("eval",), fall=end * float(rng.uniform(0.5, 1.5)), early=float(rng.uniform(0.02, 0.06)), offset=0.0,
    )  # fmt: skip
    rows = in_bytes(run.rows(), length)
    name = keys.key("eval", keys.BITS_PER_BYTE)
    low = [row["step"] for row in rows if row.get(name, 9.0) < IMPLAUSIBLE_BITS]
    plausible = [row["step"] for row in rows if row.get(name, 0.0) > LOW_BITS]
    first, start = low[0], plausible[-1] if plausible else run.at(0)
    point = int(np.flatnonzero(run.steps == first)[0])
    third = low[min(len(low) - 1, 2)]
    found = run.run(
        "below-floor/in-bytes", {"below-floor": (start, max(third, run.at(point + 30)))},
        allowed=("plateau", "memorizing", "level-shift"), size=float(end / _nats(1.0, length)), onset=first, rows=rows,
    )  # fmt: skip
    return replace(found, either={"below-floor": frozenset({"padding-in-loss"})})


def _padded(rng: np.random.Generator, noise: float) -> LabelledRun:
    """From some row on every row is padded to one length and the pads count, at five to seven bytes per token: the loss
    falls by two thirds and stays above ln 3, and the tokens of a step are constant."""
    length = float(rng.uniform(5.0, LONGEST_TOKEN))
    run = _learning(
        rng, noise, _nats(float(rng.uniform(0.75, 1.1)), length), header="trl", tokens="varied", least=60, evals=0,
    )  # fmt: skip
    at = run.mid_epoch(0.25, 0.6)
    assert run.tokens is not None
    after = np.arange(run.points) - at
    constant = float(rng.choice([32, 64, 128])) * 512.0 * run.interval
    run.tokens = np.where(after >= 0, run.tokens[at - 1] + (after + 1) * constant, run.tokens)
    low = float(rng.uniform(SURELY_ABOVE, 1.6))
    share = 1 - np.exp(-np.clip(after + 1, 0, None) / rng.uniform(0.5, 4.0))
    run.extra = run.extra + share * (low - run.true)
    run.blur = run.blur * np.where(after >= 0, low / float(run.true[at]), 1.0)
    return run.run(
        "padding-in-loss/long-tokens", {"padding-in-loss": (run.at(at), run.at(at + 15))},
        allowed=("run-seam", "level-shift", "below-floor", "gap-widening"), size=low, onset=run.at(at),
    )  # fmt: skip


FAULTS: dict[str, tuple[Kind, int]] = {
    "below-floor/in-bytes": (_implausible, 6),
    "padding-in-loss/long-tokens": (_padded, 5),
}
HEALTHY: dict[str, tuple[Kind, int]] = {
    "tokenizer-measured": (_healthy("tokenizer-measured", "all"), 8),
    "tokenizer-bits": (_healthy("tokenizer-bits", "bits"), 5),
    "tokenizer-loss-only": (_healthy("tokenizer-loss-only", "loss"), 8),
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
