"""A finding is a value: comparable, strict JSON, and it says the same after a round trip."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from ko_cpt_callbacks.run.finding import Finding, Severity


def _zero() -> Finding:
    values = {"loss": 0.0, "grad_norm": math.nan}
    return Finding("non-finite", Severity.ERROR, 20, "train", values, asks_to_stop=True, variant="zero")


def test_findings_with_nan_are_equal() -> None:
    """Two findings from the same numbers are equal, NaN or not, also as members of a set."""
    assert _zero() == _zero()
    assert len({_zero(), _zero()}) == 1


def test_as_dict_is_strict_json() -> None:
    """Non-finite values become strings; json.dumps(allow_nan=False) accepts the whole."""
    values: dict[str, Any] = {
        "a": math.inf,
        "b": [-math.inf, math.nan, 1.5],
        "c": {"d": np.float64("nan")},
        "e": np.int64(3),
    }
    values["reason"] = "none"
    found = Finding("note", Severity.INFO, 1, "eval", values, variant="exact-loss-absent").as_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["values"] == {
        "a": "Infinity",
        "b": ["-Infinity", "NaN", 1.5],
        "c": {"d": "NaN"},
        "e": 3,
        "reason": "none",
    }


def test_round_trip() -> None:
    """from_dict(as_dict(x)) == x, through JSON text, and the sentence is the same."""
    again = Finding.from_dict(json.loads(json.dumps(_zero().as_dict(), allow_nan=False)))
    assert again == _zero()
    assert again.message() == _zero().message()


def test_as_dict_keys() -> None:
    """The keys are a public contract."""
    assert list(_zero().as_dict()) == [
        "code",
        "severity",
        "step",
        "split",
        "short",
        "detail",
        "values",
        "asks_to_stop",
        "variant",
    ]
    assert _zero().as_dict()["severity"] == "error"


def test_severity_from_text() -> None:
    """A severity may be given as its name; an unknown one is refused."""
    assert Finding("not-enough-data", "info").severity is Severity.INFO  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fatal"):
        Finding("not-enough-data", "fatal")  # type: ignore[arg-type]


def test_what_json_does_not_know_is_refused() -> None:
    """An object among the values raises where the finding is made, not where it is written."""
    with pytest.raises(TypeError, match="object"):
        Finding("not-enough-data", Severity.INFO, values={"x": object()})  # type: ignore[dict-item]
