"""Whatever a state file has become, `ko-cpt check` judges it or refuses it in one line; it never crashes.

A hundred and fifty states a run, always the same: what one in fifty shows is seen with 95 %. Others, and more:
``KO_CPT_MUTATED_STATES=2000 pytest tests/check/test_mutated_state.py``.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from check import sample
from check.command import REAL_RUNS, SCHEMA, check

from ko_cpt_callbacks import keys

hypothesis = pytest.importorskip("hypothesis")
jsonschema = pytest.importorskip("jsonschema")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

STATES: Final = int(os.environ.get("KO_CPT_MUTATED_STATES", "150"))
RECORDED: Final = Path(__file__).resolve().parents[1] / "parity" / "runs"
VALIDATOR: Final = jsonschema.Draft202012Validator(SCHEMA)
SLOW_IS_FINE: Final = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
TARGETS: Final = [
    "ppl<3@end",
    "eval_exact_loss<3.0@step:200",
    "eval_ko_bits_per_byte<1,confirm=2",
    "loss<-30%@tokens:1e6",
]


def _bases() -> list[dict[str, Any]]:
    """Small states of every kind; real ones too, shortened, where they are at hand."""
    histories = [
        sample.healthy(),
        sample.joined(),
        [*sample.train_rows(sample.falling(12)), {"train_loss": 3.0, "train_runtime": 1.0, "step": 120}],
        [sample.evaluation(step, 3.0 + step, f"eval_{name}", 0.1) for step in (1, 2, 3) for name in ("ko", "en")],
        sample.train_rows([3.0, 0.0, 0.0, 2.0, 1.0], nonfinite_steps=1, nonfinite_first_step=5, tokens_seen=100),
        [],
    ]
    found = [{"epoch": 1.0, "global_step": 10, "log_history": rows, "max_steps": 10} for rows in histories]
    for path in sorted(REAL_RUNS.glob("*.json")) if REAL_RUNS.is_dir() else []:
        state = json.loads(path.read_text("utf-8"))
        rows = state.get("log_history", [])
        found.append({**state, "log_history": [*rows[:30], *rows[-30:]]} if rows else state)
    return found


BASES: Final = _bases()

odd_values: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**300, max_value=10**320),
    st.floats(),
    st.sampled_from([0, 0.0, -0.0, -1, 1e308, 5e-324, float("nan"), float("inf"), -float("inf"), 2**63, 1.5]),
    st.sampled_from(
        ["", "NaN", "Infinity", "3.0", "step", "한국어", "\ud800", "\x1b[2J", "a\nb", "[red]", "{loss}", "%s"]
    ),
    st.text(st.characters(), max_size=8),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.floats(), max_size=3),
)
NAMES: Final = [
    "loss",
    "step",
    "grad_norm",
    "epoch",
    "eval_loss",
    "eval_runtime",
    "eval_exact_loss",
    "eval_exact_loss_se",
    "_loss",
    "eval_bits_per_byte",
    "eval_tokens",
    "eval_bytes",
    "eval_nonfinite_batches",
    "train_runtime",
    "train_loss",
    "num_tokens",
    "tokens_seen",
    "nonfinite_steps",
    "nonfinite_first_step",
    "eval_exact_loss_absent",
    "_runtime",
    "kind",
    "superseded",
    "mode",
    "setup",
    "log_history",
    "eval_[red]_loss",
]
odd_keys: Final = st.one_of(
    st.sampled_from([*NAMES, "\x1b_runtime", "{x}_loss", "\ud800_loss"]),
    st.text(max_size=5),
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with every key of it."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield value, name
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)


@st.composite
def mutated(draw: st.DrawFn, bases: list[Any]) -> Any:
    """A base with up to six values replaced, removed, added, repeated or moved."""
    state = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(min_value=1, max_value=6))):
        places = list(_places(state))
        if not places:
            break
        holder, name = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "remove", "add", "repeat", "move"])):
            case "replace":
                holder[name] = draw(odd_values)
            case "remove":
                del holder[name]
            case "add" if isinstance(holder, dict):
                holder[draw(odd_keys)] = draw(odd_values)
            case "add":
                holder.insert(name, draw(odd_values))
            case "repeat" if isinstance(holder, list):
                holder[name:name] = [holder[name]] * draw(st.integers(1, 3))
            case "move" if isinstance(holder, list):
                holder.insert(draw(st.integers(0, len(holder))), holder.pop(name))
            case _:
                pass
    return state


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """The bytes cut off, or with some of them replaced, removed or put in; most often they are left alone."""
    match draw(st.sampled_from(["none", "none", "none", "cut", "replace", "insert"])):
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
        case "replace":
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.binary(max_size=4)) + text[at + draw(st.integers(0, 4)) :]
        case "insert":
            at = draw(st.integers(0, len(text)))
            return (
                text[:at] + draw(st.sampled_from([b"{", b"]", b'"', b",", b"\x00", b"\n", b"\xff", b"NaN"])) + text[at:]
            )
        case _:
            return text


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def _assert_judged_or_refused(path: Path, options: list[str]) -> None:
    """Text and JSON agree on the exit; JSON is strict and fits the schema; a refusal is one line."""
    text, as_json = check(path, *options), check(path, "--json", *options)
    assert text.exit_code == as_json.exit_code
    hypothesis.event(f"exit {text.exit_code}")
    if text.exit_code == 2:
        assert text.stdout == as_json.stdout == ""
        assert text.stderr == as_json.stderr
        assert text.stderr.count("\n") == 1
        assert text.stderr[:-1].isprintable()
        return
    assert text.stderr == as_json.stderr == ""
    assert text.exit_code in (0, 1)
    assert "\nTo do: " in text.stdout
    assert "\x1b" not in text.stdout

    def refuse(name: str) -> None:
        raise AssertionError(name)

    VALIDATOR.validate(json.loads(as_json.stdout, parse_constant=refuse))


some_options: Final = st.tuples(
    st.sampled_from([[], ["--task", "cpt"], ["--task", "sft"]]),
    st.sampled_from([[], *(["--target", target] for target in TARGETS)]),
    st.sampled_from([[], [], ["--fail-on", "warning"]]),
).map(lambda parts: [option for part in parts for option in part])


@settings(max_examples=STATES, suppress_health_check=SLOW_IS_FINE, derandomize=STATES <= 150)
@given(data=st.data())
def test_a_mutated_state_never_crashes(data: st.DataObject) -> None:
    """Values replaced, removed, added, moved; bytes cut off or changed."""
    content = data.draw(damaged(_bytes(data.draw(mutated(BASES)))))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trainer_state.json"
        path.write_bytes(content)
        _assert_judged_or_refused(path, data.draw(some_options))


def _folders() -> list[dict[str, Any]]:
    """Real recorded run folders: their rows and their run.json."""
    found = []
    for path in sorted(RECORDED.glob("*")):
        rows = [json.loads(line) for line in (path / keys.ROWS_FILE).read_text("utf-8").splitlines()]
        found.append({"rows": rows, "run": json.loads((path / keys.RUN_FILE).read_text("utf-8"))})
    return found


FOLDERS: Final = _folders()


@pytest.mark.skipif(not FOLDERS, reason="no recorded run folders")
@settings(max_examples=max(STATES // 4, 1), suppress_health_check=SLOW_IS_FINE, derandomize=STATES <= 150)
@given(data=st.data())
def test_a_mutated_run_folder_never_crashes(data: st.DataObject) -> None:
    """The same for rows.jsonl and run.json."""
    state = data.draw(mutated(FOLDERS))
    rows, run = (state.get("rows"), state.get("run")) if isinstance(state, dict) else (state, state)
    lines = rows if isinstance(rows, list) else [rows]
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / keys.FOLDER
        own.mkdir()
        (own / keys.ROWS_FILE).write_bytes(data.draw(damaged(b"".join(_bytes(line) + b"\n" for line in lines))))
        (own / keys.RUN_FILE).write_bytes(data.draw(damaged(_bytes(run))))
        _assert_judged_or_refused(Path(folder), data.draw(some_options))
