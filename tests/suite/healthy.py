"""Healthy runs of many kinds: ordinary ones here, those that are odd in some way in the modules beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from suite import healthy_curve, healthy_eval, healthy_log
from suite.draft import draw
from suite.run import LabelledRun

__all__ = ["HEALTHY"]

Kind = Callable[[np.random.Generator, float], LabelledRun]


def _of(name: str, **given: Any) -> Kind:
    """A kind that is `draw` with something given."""

    def made(rng: np.random.Generator, noise: float) -> LabelledRun:
        return draw(rng, noise, **given).run(f"healthy/{name}")

    return made


HEALTHY: dict[str, tuple[Kind, int]] = {
    "cosine": (_of("cosine", kind="cosine"), 3),
    "linear": (_of("linear", kind="linear"), 3),
    "constant": (_of("constant", kind="constant"), 3),
    "wsd": (_of("wsd", kind="wsd", least=40, done=1.0), 4),
    "wsd-deep": (_of("wsd-deep", kind="wsd", least=40, done=1.0, anneal=0.3, plain=False), 3),
    "any": (_of("any"), 6),
    "any-evaluated": (_of("any-evaluated", evals=20), 4),
    "short": (_of("short", points=12), 3),
    "short-evaluated": (_of("short-evaluated", points=16, evals=4), 2),
    "long": (_of("long", points=3000), 1),
    "old-header": (_of("old-header", header="old", evals=15), 3),
    "bare-header": (_of("bare-header", header="bare", evals=8), 3),
    "ours": (_of("ours", header="ours", evals=15), 3),
    "tailed": (_of("tailed", noise_kind="tailed", least=60), 4),
    "correlated": (_of("correlated", noise_kind="correlated", least=60), 4),
    "uneven": (_of("uneven", noise_kind="uneven", least=60), 3),
    "early-noise": (_of("early-noise", noise_kind="early", least=40), 2),
    "noisy": (_of("noisy", sd=0.1, least=30), 3),
    "still": (_of("still", sd=0.002, least=30), 3),
    "long-warmup": (_of("long-warmup", warmup=0.2, least=30), 2),
    "sft": (_of("sft", task="sft", epochs=3.0), 4),
    **healthy_curve.HEALTHY,
    **healthy_eval.HEALTHY,
    **healthy_log.HEALTHY,
}
"""Per kind how it is made, and how many of a suite of full size are of it."""
