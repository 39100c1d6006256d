"""The published loss against a float64 reference on real Trainers: a few cells of the table, and what it checks.

The whole table is ``make bench-exactness``.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import transformers

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import exactness  # noqa: E402
from exactness_cell import Cell, answers  # noqa: E402

VERSION = transformers.__version__


@pytest.mark.both_versions
def test_one_process() -> None:
    """Plain rows with a smaller last batch; packed documents and 8-bit adapters under SFTTrainer: within 1e-5."""
    cells = [Cell(VERSION, 1, 4, "13 texts", "plain", "full"), Cell(VERSION, 1, 2, "bfd", "sft", "lora")]
    cells.append(Cell(VERSION, 1, 4, "13 texts", "sft", "8-bit"))
    found = answers(cells, seconds=60)
    assert exactness.faults(cells, found) == []
    assert found[0]["unequal"]
    new = int(VERSION.split(".")[0]) >= 5
    assert [answer["evidence"] for answer in found] == ["logits", *["log_probs" if new else "logits"] * 2]
    # The Trainer's own number is another one; else nothing would be shown.
    assert all(abs(answer["row"]["eval_loss"] / answer["reference"] - 1) > 1e-4 for answer in found)


@pytest.mark.both_versions
def test_two_processes_with_an_unequal_last_batch() -> None:
    """Rows repeated to fill the last distributed batch count once: padded, flattened and packed, 8-bit too."""
    cells = [
        Cell(VERSION, 2, 2, "13 texts", "plain", "8-bit"),
        Cell(VERSION, 2, 8, "12 texts", "plain", "lora"),
        Cell(VERSION, 2, 1, "13 texts", "sft", "lora"),
        Cell(VERSION, 2, 4, "13 free", "sft", "full"),
        Cell(VERSION, 2, 2, "bfd", "sft", "full"),
    ]
    found = answers(cells, seconds=90)
    assert exactness.faults(cells, found) == []
    assert all(answer["unequal"] for answer in found)
    assert [answer["row"]["eval_rows"] for answer in found] == [13, 12, 13, 13, 12]


@pytest.mark.both_versions
def test_two_processes_that_drop_the_last_batch() -> None:
    """``dataloader_drop_last``: nothing is repeated, so the loss of the 12 of 13 rows that are evaluated is exact."""
    cells = [Cell(VERSION, 2, 2, "13 texts", "plain", "full", settings={"dataloader_drop_last": True})]
    found = answers(cells, seconds=60)
    assert exactness.faults(cells, found) == []
    assert found[0]["row"]["eval_rows"] == 12


@pytest.mark.both_versions
def test_two_processes_that_load_or_hold_it_otherwise() -> None:
    """A model that FSDP2 cut over the ranks, a stream without a length, batches split or handed out by the first rank:
    exact on two processes, with the same text where it is the same.
    """
    texts, blocks = ("fsdp2 by hand", "split_batches"), ("streaming", "dispatch_batches")
    cells = [Cell(VERSION, 2, 2, "13 texts", "kind", "", kind=kind) for kind in texts]
    cells += [Cell(VERSION, 2, 2, "blocks", "kind", "", kind=kind) for kind in blocks]
    found = answers(cells, seconds=90)
    assert exactness.faults(cells, found) == []
    assert all(answer["evidence"] == "logits" for answer in found)


def test_the_reference_imports_nothing_of_the_package() -> None:
    """Neither does what the reference shares with the tests."""
    own = [BENCHMARKS / f"exactness_{name}.py" for name in ("reference", "kind", "models", "trainers")]
    for file in (*own, BENCHMARKS.parent / "tests" / "tiny.py"):
        nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
        assert "torch" in names
        assert not [name for name in names if name.startswith("ko_cpt_callbacks")]


def _answer(**changes: Any) -> dict[str, Any]:
    row = {"eval_loss": 3.0, "eval_exact_loss": 2.0, "eval_tokens": 10, "eval_fingerprint": "utf8-1"}
    answer = {
        "transformers": "5.23.0",
        "reference": 2.0,
        "reference_tokens": 10,
        "unequal": False,
        "agree": True,
        "evidence": "logits",
        "row": {**row, **changes.pop("row", {})},
    }
    return {**answer, **changes}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (_answer(), None),
        (_answer(row={"eval_exact_loss": 2.0 * (1 + 0.9e-5)}), None),
        (_answer(row={"eval_exact_loss": 2.0 * (1 + 1.1e-5)}), "relative error"),
        (_answer(row={"eval_exact_loss": float("nan")}), "relative error"),
        (_answer(row={"eval_exact_loss": None, "eval_exact_loss_absent": "why"}), "why"),
        (_answer(row={"eval_tokens": 11}), "tokens"),
        (_answer(row={"eval_fingerprint": "utf8-2"}), "fingerprints"),
        (_answer(agree=False), "different losses"),
        (_answer(transformers="5.0.0"), "ran with"),
        ({"error": "broken"}, "broken"),
        ({"missing": True}, "no interpreter"),
    ],
)
def test_what_is_wrong_with_a_cell_is_said(answer: dict[str, Any], word: str | None) -> None:
    """A cell beside a right one of the same text: nothing is said of a right cell, one thing of a wrong one."""
    cell = Cell("5.23.0", 1, 1, "12 texts", "plain", "full")
    said = exactness.faults([cell, cell], [_answer(), answer])
    assert len(said) == (word is not None)
    assert word is None or word in said[0]


def _absent(reason: str | None) -> dict[str, Any]:
    return _answer(row={"eval_exact_loss": None, "eval_exact_loss_absent": reason}, reference=None)


@pytest.mark.parametrize(
    ("kind", "answer", "word"),
    [
        ("dora", _answer(), None),
        ("dora", _absent("the model returned no loss"), "expected one"),
        ("dpo", _absent("this Trainer scores pairs"), None),
        ("dpo", _absent("no forward pass with labels was seen"), "expected one that says"),
        ("dpo", _absent(None), "neither"),
        ("dpo", _answer(reference=None), "expected none"),
        ("chunked loss", _answer(evidence="loss", row={"eval_fingerprint": None}), None),
        ("chunked loss", _answer(evidence="loss", row={"eval_exact_loss": 3.0}), "relative error"),
        ("chunked loss", _absent("the model gives neither logits nor log-probabilities"), None),
    ],
)
def test_what_is_wrong_with_a_kind_is_said(kind: str, answer: dict[str, Any], word: str | None) -> None:
    """Measured where it must be; else exact, or absent with a reason of its own; never a loss where there is none."""
    said = exactness.faults([Cell("5.23.0", 1, 1, "12 texts", "kind", "", kind=kind)], [answer])
    assert len(said) == (word is not None)
    assert word is None or word in said[0]


def test_the_kinds_of_the_table() -> None:
    """Every kind is in the table; what must be measured is so on one process and on two."""
    table = {(cell.kind, cell.processes) for cell in exactness.KIND_CELLS}
    assert {kind for kind, _ in table} == set(exactness.KINDS)
    measured = [name for name, kind in exactness.KINDS.items() if kind.reason is None and name != "fsdp2 by hand"]
    assert len(measured) >= 18
    assert table >= {(name, processes) for name in measured for processes in (1, 2)}


@pytest.mark.parametrize(("quick", "cells", "each"), [(False, 24, 2), (True, 8, 1)])
def test_the_table_covers_every_axis(quick: bool, cells: int, each: int) -> None:
    """At least 24 cells with every value of every axis twice; the short table has every value once."""
    table = [cell for cell in exactness.CELLS if cell.quick or not quick]
    assert len(table) >= cells
    axes = {
        "batch": ({1, 2, 4, 8}, [cell.batch for cell in table]),
        "processes": ({1, 2, 3}, [cell.processes for cell in table]),
        "trainer": ({"plain", "sft"}, [cell.trainer for cell in table]),
        "model": ({"full", "lora", "8-bit"}, [cell.model for cell in table]),
        "transformers": ({"5.23.0", "4.57.6"}, [cell.transformers for cell in table]),
        "packed": ({True, False}, [cell.rows in ("blocks", "wrapped", "bfd") for cell in table]),
    }
    for values, found in axes.values():
        counts = Counter(found)
        assert set(counts) == values
        assert min(counts.values()) >= each
    assert any((cell.processes, cell.batch, cell.rows, cell.model) == (2, 2, "13 texts", "8-bit") for cell in table), (
        "8-bit, two processes, unequal last batch"
    )
