"""Is the published loss the loss? Real Trainers, with the Trainer's own number, ours, and a float64 reference.

    python benchmarks/exactness.py [--python-4.57 PYTHON] [--quick] [--one-leg]

Every line is one evaluation of a small Llama on Korean text. The reference (``exactness_reference.py``) sees the same
forward passes and imports nothing of the package. Below the plain table stand kinds of Trainer, model and data loading
(``exactness_kind.py``): some must be measured, some may have no exact loss if the reason is theirs. Exit 1 when a
relative error is above 1e-5, a token count is off, a reason is another's, cells with the same text have different
fingerprints, or a cell has no answer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from exactness_cell import Cell  # noqa: E402
from exactness_kind import KINDS  # noqa: E402

TOLERANCE = 1e-5
NEW, OLD = "5.23.0", "4.57.6"
LEG_SECONDS = 230.0
KIND_SECONDS = 10.0

# transformers, processes, eval batch, rows, trainer, model, in the short table
_TABLE: tuple[tuple[str, int, int, str, str, str, bool], ...] = (
    (NEW, 1, 1, "12 texts", "plain", "full", False),
    (NEW, 1, 4, "13 texts", "plain", "full", False),
    (NEW, 1, 8, "13 texts", "plain", "full", False),
    (NEW, 1, 8, "blocks", "plain", "full", True),
    (NEW, 1, 2, "12 texts", "plain", "lora", False),
    (NEW, 1, 1, "13 texts", "plain", "8-bit", False),
    (NEW, 1, 2, "13 texts", "plain", "8-bit", False),
    (NEW, 1, 4, "13 texts", "plain", "8-bit", False),
    (NEW, 1, 8, "13 texts", "plain", "8-bit", False),
    (NEW, 1, 8, "12 texts", "sft", "full", False),
    (NEW, 1, 2, "wrapped", "sft", "lora", False),
    (NEW, 1, 4, "bfd", "sft", "full", True),
    (NEW, 1, 1, "12 texts", "sft", "8-bit", False),
    (NEW, 2, 2, "13 texts", "plain", "8-bit", True),
    (NEW, 2, 4, "12 texts", "plain", "lora", False),
    (NEW, 2, 2, "blocks", "plain", "full", False),
    (NEW, 2, 2, "12 texts", "sft", "full", False),
    (NEW, 2, 1, "13 texts", "sft", "lora", False),
    (NEW, 2, 8, "wrapped", "sft", "8-bit", False),
    (NEW, 2, 4, "13 free", "sft", "lora", False),
    (NEW, 2, 2, "bfd", "sft", "lora", False),
    (NEW, 3, 1, "12 texts", "plain", "full", True),
    (NEW, 3, 2, "13 texts", "plain", "lora", False),
    (NEW, 3, 8, "12 texts", "plain", "8-bit", False),
    (NEW, 3, 4, "wrapped", "sft", "full", False),
    (NEW, 3, 2, "13 texts", "sft", "lora", True),
    (OLD, 1, 1, "12 texts", "plain", "full", True),
    (OLD, 1, 8, "12 texts", "plain", "lora", False),
    (OLD, 1, 4, "blocks", "plain", "8-bit", False),
    (OLD, 1, 2, "13 texts", "sft", "lora", False),
    (OLD, 1, 1, "wrapped", "sft", "full", False),
    (OLD, 1, 2, "bfd", "sft", "lora", False),
    (OLD, 2, 2, "13 texts", "plain", "8-bit", True),
    (OLD, 2, 8, "blocks", "plain", "lora", False),
    (OLD, 2, 4, "13 texts", "sft", "full", True),
    (OLD, 2, 1, "12 texts", "sft", "8-bit", False),
    (OLD, 2, 2, "13 free", "sft", "full", False),
    (OLD, 2, 4, "bfd", "sft", "full", False),
    (OLD, 3, 1, "13 texts", "plain", "lora", False),
    (OLD, 3, 4, "12 texts", "plain", "full", False),
    (OLD, 3, 2, "wrapped", "sft", "lora", False),
    (OLD, 3, 8, "13 texts", "sft", "8-bit", False),
)
CELLS = tuple(Cell(*entry) for entry in _TABLE)

# kind, batch on one process and on two (None: not there), rows, in the short table on that many processes
_KIND_TABLE: tuple[tuple[str, int | None, int | None, str, tuple[int, ...]], ...] = (
    ("popped labels", 4, 2, "13 texts", (1,)),
    ("compute_loss_func", 2, 4, "13 texts", (2,)),
    ("label smoothing", 8, 2, "13 texts", ()),
    ("mixture of experts", 4, 2, "13 texts", (1,)),
    ("sft nll", 4, 2, "13 texts", ()),
    ("sft dft", 4, 2, "13 texts", ()),
    ("packed lines", 2, 1, "13 texts", (1,)),
    ("dora", 4, 2, "13 texts", ()),
    ("rslora", 2, 4, "13 texts", ()),
    ("prompt tuning", 4, 2, "13 texts", ()),
    ("prefix tuning", 2, 2, "13 texts", ()),
    ("4-bit", 4, 2, "13 texts", ()),
    ("accumulation 8", 4, 2, "13 texts", ()),
    ("split_batches", 4, 4, "13 texts", ()),
    ("dispatch_batches", 2, 2, "blocks", ()),
    ("even_batches=False", 4, 2, "12 texts", ()),
    ("batch_eval_metrics", 4, 2, "13 texts", ()),
    ("streaming", 2, 2, "blocks", (2,)),
    ("fsdp2 by hand", None, 2, "13 texts", ()),
    ("dpo", 4, 2, "13 texts", ()),
    ("dpo lora", 4, None, "13 texts", (1,)),
    ("orpo", 4, None, "13 texts", ()),
    ("cpo", 4, None, "13 texts", ()),
    ("kto", 4, None, "13 texts", ()),
    ("reward", 4, 2, "13 texts", ()),
    ("grpo", 4, None, "13 texts", ()),
    ("quiet mixture of experts", 4, 2, "12 texts", ()),
    ("head ignores the count", 4, 2, "12 texts", ()),
    ("chunked loss", 4, 2, "12 texts", ()),
)
# Kinds that transformers treats as its own, and that hold on 4.57 too.
_OLD_KINDS = ("popped labels", "compute_loss_func", "label smoothing", "mixture of experts", "dora", "prompt tuning")
KIND_CELLS = tuple(
    Cell(version, processes, batch, rows, "kind", "", quick=version == NEW and processes in quick, kind=kind)
    for kind, one, two, rows, quick in _KIND_TABLE
    for processes, batch in ((1, one), (2, two))
    for version in (NEW, OLD)
    if batch is not None and (version == NEW or kind in _OLD_KINDS)
)
_PACKED = ("blocks", "wrapped", "bfd")

_LEGEND = """
text: 12 or 13 texts, one a row (free: the same 13, flattened without padding; bfd: the same 12, packed whole, so that
the text is that of '12 texts'); blocks: 64 tokens each, cut before the Trainer; wrapped: cut by SFTTrainer. Equal text
must have equal fingerprints. lora and 8-bit have trained embeddings and head. Each evaluation follows one training step
over processes x 2 rows, so losses differ between process counts. Plain rows begin with <s>, SFTTrainer's do not, so the
first token of a text is a target of the one and not of the other: one token more a text."""

Answer = Mapping[str, Any]


def run_legs(cells: Sequence[Cell], pythons: Mapping[str, str]) -> list[Answer]:
    """Answers for all cells, in their order; each transformers version runs in its own interpreter, side by side.

    Args:
        cells: What to run.
        pythons: Interpreter of each version that is at hand.
    """
    found: dict[int, Answer] = {}
    with tempfile.TemporaryDirectory() as place:
        legs = []
        for version, python in pythons.items():
            numbers = [number for number, cell in enumerate(cells) if cell.transformers == version]
            source, target, log = (Path(place) / f"{version}.{kind}" for kind in ("cells", "answers", "log"))
            source.write_text(json.dumps([asdict(cells[number]) for number in numbers]), "utf-8")
            if numbers:
                legs.append((numbers, target, log, _start(python, source, target, log)))
        deadline = time.monotonic() + LEG_SECONDS + KIND_SECONDS * sum(bool(cell.kind) for cell in cells)
        for numbers, target, log, process in legs:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: it and its ranks, nothing else
                process.wait()
            done = json.loads(target.read_text("utf-8")) if target.exists() else None
            failed = {"error": f"exit code {process.returncode}: {log.read_text('utf-8', 'replace')[-2000:]}"}
            found.update((number, done[at] if done else failed) for at, number in enumerate(numbers))
    return [found.get(number, {"missing": True}) for number in range(len(cells))]


def _start(python: str, source: Path, target: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = str(ROOT / "benchmarks" / "exactness_cell.py")
    with log.open("wb") as sink:
        return subprocess.Popen(
            [python, script, str(source), str(target)],
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def relative_error(answer: Answer) -> float:
    """Of our loss against the reference; infinite where there is no loss of ours, or none that it could be."""
    ours = answer["row"].get("eval_exact_loss")
    reference = answer["reference"]
    return float("inf") if ours is None or reference is None else abs(ours - reference) / abs(reference)


def layout(cell: Cell, answer: Answer) -> str:
    """Value of the rows axis: ``packed``, else whether the last distributed batch is full."""
    if cell.kind:
        return ""
    if cell.rows in _PACKED:
        return "packed"
    return "unequal last" if answer["unequal"] else "padded"


def faults(cells: Sequence[Cell], answers: Sequence[Answer]) -> list[str]:
    """What is wrong with a table, in words; nothing for a right one."""
    wrong, unanswered, prints = [], defaultdict(list), defaultdict(set)
    for cell, answer in zip(cells, answers, strict=True):
        what = cell.kind or f"{cell.trainer}, {cell.model}"
        name = f"{cell.transformers}, {cell.processes} x {cell.batch}, {cell.rows}, {what}"
        if "row" not in answer:
            unanswered[answer.get("error", "no interpreter with this version; see --python-4.57")].append(name)
            continue
        row = answer["row"]
        if cell.kind and row.get("eval_exact_loss") is None:
            problem = KINDS[cell.kind].wrong_reason(row.get("eval_exact_loss_absent"))
            wrong += [] if problem is None else [f"{name}: {problem}"]
            continue
        if answer["reference"] is None:
            wrong.append(f"{name}: found an exact loss of {row['eval_exact_loss']:.4f}, expected none: it has no rows")
            continue
        # Without a sum for every row there is nothing to take a fingerprint of.
        if answer["evidence"] != "loss":
            prints[cell.texts].add(row.get("eval_fingerprint"))
        if answer["transformers"] != cell.transformers:
            wrong.append(f"{name}: ran with transformers {answer['transformers']}")
        if not relative_error(answer) <= TOLERANCE:
            absent = row.get("eval_exact_loss_absent", "")
            wrong.append(f"{name}: relative error {relative_error(answer):.1e} {absent}")
        if row.get("eval_tokens") != answer["reference_tokens"]:
            wrong.append(f"{name}: {row.get('eval_tokens')} tokens, the reference counts {answer['reference_tokens']}")
        if not answer["agree"]:
            wrong.append(f"{name}: the ranks published different losses")
    wrong += [f"{'; '.join(names)}: {error}" for error, names in unanswered.items()]
    wrong += [f"{text}: fingerprints {sorted(map(str, found))}" for text, found in prints.items() if len(found) != 1]
    if len(set[str]().union(*prints.values())) < len(prints):
        wrong.append("different texts have the same fingerprint")
    return wrong


def show(cells: Sequence[Cell], answers: Sequence[Answer]) -> None:
    """Print the table."""
    heads = ("transformers", "procs", "batch", "text", "rows", "trainer", "model")
    numbers = ("eval_loss", "ours", "reference", "rel. error", "tokens", "fingerprint", "evidence")
    lines: list[tuple[str, ...]] = [(*heads, *numbers)]
    for cell, answer in zip(cells, answers, strict=True):
        what = (cell.transformers, str(cell.processes), str(cell.batch), cell.rows)
        if "row" not in answer:
            state = "missing" if "missing" in answer else "failed"
            lines.append((*what, "", cell.kind or cell.trainer, cell.model, state, *[""] * 6))
            continue
        row = answer["row"]
        ours, reference = row.get("eval_exact_loss"), answer["reference"]
        error = relative_error(answer)
        lines.append(
            (
                *(*what, layout(cell, answer), cell.kind or cell.trainer, cell.model),
                f"{row['eval_loss']:.6f}",
                *("absent" if ours is None else f"{ours:.8f}", "none" if reference is None else f"{reference:.8f}"),
                *("" if math.isinf(error) else f"{error:.1e}", f"{row.get('eval_tokens', 0):,}"),
                *(str(row.get("eval_fingerprint")).rpartition("-")[2][:16], str(answer["evidence"])),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print(_LEGEND)


def show_spread(cells: Sequence[Cell], answers: Sequence[Answer]) -> None:
    """Print how far the same model's reference moves with the batch size alone."""
    groups: dict[tuple[str, ...], dict[int, float]] = defaultdict(dict)
    for cell, answer in zip(cells, answers, strict=True):
        if "row" in answer and not cell.kind:
            where: tuple[str, ...] = (cell.transformers, str(cell.processes), cell.rows, cell.trainer, cell.model)
            groups[where][cell.batch] = answer["reference"]
    for place, losses in groups.items():
        if len(losses) > 1:
            values = "  ".join(f"batch {batch}: {loss:.8f}" for batch, loss in sorted(losses.items()))
            spread = (max(losses.values()) - min(losses.values())) / min(losses.values())
            print(f"\nSame weights, same rows, other batch size ({', '.join(place)}): {values}")
            print(f"Relative spread of the float64 reference: {spread:.1e}.")
            if place[-1] == "8-bit":
                print("That is the model's, not the meter's: LLM.int8 picks its outlier columns from the whole batch.")


def show_coverage(cells: Sequence[Cell], answers: Sequence[Answer]) -> None:
    """Print how many cells every value of every axis has."""
    axes: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for cell, answer in zip(cells, answers, strict=True):
        if "row" in answer and not cell.kind:
            axes["eval batch"][str(cell.batch)] += 1
            axes["processes"][str(cell.processes)] += 1
            axes["rows"][layout(cell, answer)] += 1
            axes["trainer"][cell.trainer] += 1
            axes["model"][cell.model] += 1
            axes["transformers"][cell.transformers] += 1
    print(
        "\nCells per value: "
        + "; ".join(
            f"{axis} " + ", ".join(f"{value} ({count})" for value, count in sorted(values.items()))
            for axis, values in axes.items()
        )
    )


def main() -> int:
    """The table; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT / ".venv-4.57" / "bin" / "python"
    parser.add_argument("--python-4.57", dest="old", default=str(default), help="interpreter with transformers 4.57.6")
    parser.add_argument("--quick", action="store_true", help="the short table")
    parser.add_argument("--one-leg", action="store_true", help="only the version of this interpreter")
    options = parser.parse_args()
    started = time.monotonic()
    here = OLD if importlib.metadata.version("transformers") == OLD else NEW
    pythons = {here: sys.executable}
    if not options.one_leg and here == NEW and Path(options.old).exists():
        pythons[OLD] = options.old
    cells = [cell for cell in (*CELLS, *KIND_CELLS) if cell.quick or not options.quick]
    if options.one_leg:
        cells = [cell for cell in cells if cell.transformers == here]
    answers = run_legs(cells, pythons)
    show(cells, answers)
    show_coverage(cells, answers)
    show_spread(cells, answers)
    wrong = faults(cells, answers)
    errors = [relative_error(answer) for answer in answers if "row" in answer]
    measured = [error for error in errors if not math.isinf(error)]
    if measured:
        seconds = time.monotonic() - started
        print(
            f"\n{len(errors)} cells, {len(measured)} measured, largest relative error {max(measured):.1e}, "
            f"{len(errors) - len(measured)} without an exact loss, {seconds:.0f} s"
        )
    for line in wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
