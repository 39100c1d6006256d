"""What the commands print as JSON: the whole structure, without sentences, paths and the last digits of numbers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from check import made_run, sample, staged
from check.command import write_state
from golden.judged import six_digits

__all__ = ["SENTENCES", "commands", "kept", "printed", "read_kept", "written"]

ROOT: Final = Path(__file__).resolve().parents[2]
SENTENCES: Final = frozenset(
    {"message", "short", "detail", "text", "how", "note", "notes", "why", "why_not", "title", "reason", "meaning"}
)
"""Keys whose texts are for people."""
SHOWN: Final = (
    "chinese-llama-2-7b", "dag-llm", "eeve-korean", "frankenstallm-1b", "goldfish-korean", "kotokenlab-constant",
    "medgemma-a6000-a", "medgemma-a6000-unconfirmed", "polyglot-ko-1.3b", "ppl-bands-unconfirmed", "redwhale",
    "sambalingo-thai", "script-tok-bnd-w-bpe", "thunder-llm",
)  # fmt: skip
"""Baselines of every form; the numbers of all are kept by tests/contract/baseline_numbers.json."""
_SENTENCE: Final = "…"
_SORTED: Final = ("rules", "rules_left_out", "unknown_rules")
_PLAIN_LIST: Final = re.compile(r"\[\s*((?:[^\[\]{}\"]|\"(?:[^\"\\]|\\.)*\")*?)\s*\]")


def printed(arguments: Sequence[str], home: Path) -> dict[str, Any]:
    """What ``ko-cpt ARGUMENTS`` leaves: exit status, lines on stderr, and stdout read as JSON (or its lines).

    Args:
        arguments: Of the command line.
        home: A folder without baselines of one's own, and the one whose path is not kept.
    """
    from ko_cpt_callbacks.cli import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before, sys.argv = sys.argv, ["ko-cpt", *arguments]
    own, os.environ["KO_CPT_BASELINES"] = os.environ.get("KO_CPT_BASELINES"), str(home / "none")
    status: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = before
        if own is None:
            del os.environ["KO_CPT_BASELINES"]
        else:
            os.environ["KO_CPT_BASELINES"] = own
    text, complaints = (stream.buffer.getvalue().decode() for stream in (out, err))
    value = json.loads(text) if text[:1] in ("{", "[") else text.splitlines()
    return {"exit": status, "complaints": len(complaints.splitlines()), "printed": value}


def kept(value: Any, home: Path) -> Any:
    """What of an output is kept: sentences are a mark, paths begin at the repository, floats have six digits."""
    places = {str(home): "MADE", str(ROOT): "ROOT", str(ROOT.parent): "BESIDE"}

    def plain(inner: Any, key: str = "") -> Any:
        if isinstance(inner, dict):
            return {name: plain(one, name) for name, one in inner.items()}
        if isinstance(inner, list):
            found = [plain(one, key) for one in inner]
            return sorted(found, key=_order) if key in _SORTED or _are_findings(found) else found
        if isinstance(inner, str):
            if key in SENTENCES and inner:
                return _SENTENCE
            for place, name in places.items():
                inner = inner.replace(place, name)
        return inner

    return six_digits(plain(value))


def _are_findings(found: list[Any]) -> bool:
    return all(isinstance(one, dict) and {"code", "step", "split", "variant"} <= one.keys() for one in found)


def _order(one: Any) -> Any:
    """The order of rules is their own affair."""
    if isinstance(one, dict):
        step = -1 if one["step"] is None else one["step"]
        return (one.get("stage", ""), step, one["code"], one["split"] or "", one["variant"])
    return one


def written(value: Any) -> str:
    """The JSON of a file: an entry a line, a list of plain values on one."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return _PLAIN_LIST.sub(lambda match: "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]", text) + "\n"


def read_kept(text: str) -> Any:
    """The value of a file."""
    return json.loads(text)


def commands(home: Path) -> Iterator[tuple[str, list[str]]]:
    """Commands that print JSON, by name, on runs that are made in ``home``; then what has codes and no JSON."""
    from ko_cpt_callbacks.cli import main  # noqa: F401  (a fault of the package is told here, not in a command)

    yield from _checks(home / "check")
    yield from _staged(home / "staged")
    yield from _compared(home / "compare")
    for kind in ("baselines", "recipes"):
        yield kind, [kind, "--json"]
    for name in SHOWN:
        yield f"baselines-show-{name}", ["baselines", "show", name, "--json"]
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        yield f"recipes-show-{path.stem}", ["recipes", "show", path.stem, "--json"]
        yield f"recipes-memory-{path.stem}", ["recipes", "show", path.stem, "--gpu-memory", "--json"]
    how = ["--gpu-memory", "--gpus", "8", "--sharding", "full", "--json"]
    yield "recipes-memory-redwhale-on-eight", ["recipes", "show", "redwhale", *how]
    yield "explain", ["explain"]


def _checks(home: Path) -> Iterator[tuple[str, list[str]]]:
    """A healthy run and two runs in one log, with each option of ``check``."""
    healthy = str(write_state(home / "healthy.json", sample.healthy()))
    joined = str(write_state(home / "joined.json", sample.joined()))
    empty = str(write_state(home / "empty.json", []))
    sets = sample.train_rows(sample.falling(60))
    for step in (100, 200, 300, 400, 500, 600):
        learned, forgotten = 4.0 - step / 500, 2.0 + step / 900
        sets += [sample.evaluation(step, learned, se=0.02), sample.evaluation(step, forgotten, "eval_old")]
    forgets = str(write_state(home / "forgets.json", sorted(sets, key=lambda row: row["step"])))
    for name, path in (("healthy", healthy), ("joined", joined), ("empty", empty), ("forgets", forgets)):
        for task in ("cpt", "sft", "other"):
            yield f"check-{name}-{task}", ["check", path, "--task", task, "--json"]
    yield "check-retention", ["check", forgets, "--retention", "old<5%", "--task", "cpt", "--json"]
    targets = {"met": "eval_exact_loss<3.0@end", "missed": "eval_ppl<5@end", "bits": "eval_bits_per_byte<1.15",
               "implausible": "ppl<3@end", "later": "eval_exact_loss<2.5@900"}  # fmt: skip
    for name, target in targets.items():
        yield f"check-target-{name}", ["check", healthy, "--target", target, "--task", "cpt", "--json"]
    yield "check-target-joined", ["check", joined, "--target", "ppl<3@end", "--task", "cpt", "--json"]
    yield "check-baseline", ["check", healthy, "--baseline", "redwhale", "--task", "cpt", "--json"]
    yield "check-fail-on", ["check", joined, "--fail-on", "warning", "--json"]


def _staged(home: Path) -> Iterator[tuple[str, list[str]]]:
    """Four stages, each better than the one before; a third that undoes the second; one that is not there."""
    names = ["embedding", "odd-layers", "even-layers", "lora"]
    falling = [(6.0, 3.30), (3.30, 3.09), (3.09, 3.065), (3.065, 3.04)]
    back = [(6.0, 3.30), (3.30, 3.09), (3.09, 3.45), (3.45, 3.04)]
    for name, levels in (("good", falling), ("back", back), ("lost", falling[:3])):
        folders = staged.plan(home / name, names)
        for index, ends in enumerate(levels):
            staged.stage(folders[index], names[index], ends, seed=index)
        yield f"staged-{name}", ["check", str(home / name), "--json"]
    yield "staged-baseline", ["check", str(home / "good"), "--baseline", "redwhale", "--json"]
    yield "staged-target", ["check", str(home / "good"), "--target", "eval_ko_exact_loss<3.2@end", "--json"]


def _compared(home: Path) -> Iterator[tuple[str, list[str]]]:
    """Two runs paired row by row, two tokenizers, no rows kept; a run, and a loss alone, against published ones."""
    other = {"tokenizer": {"hash": "xyz", "vocabulary": 900}}
    first = made_run.write_run(home / "first", {"eval_ko": made_run.sums(3.0)})
    runs = {
        "better": made_run.write_run(home / "better", {"eval_ko": made_run.sums(2.95, seed=1)}),
        "same": made_run.write_run(home / "same", {"eval_ko": made_run.sums(3.0, seed=2)}),
        "tokenizer": made_run.write_run(home / "other", {"eval_ko": made_run.sums(2.8, seed=1, reach=5.0)}, run=other),
        "text": made_run.write_run(home / "text", {"eval_ko": made_run.sums(2.8, text=1)}),
        "sums": made_run.write_run(home / "sums", {"eval_ko": made_run.sums(2.5, seed=1)}, keep_rows=False),
    }
    for name, path in runs.items():
        yield f"compare-{name}", ["compare", first, path, "--json"]
    yield "compare-several", ["compare", *runs.values(), "--baseline", first, "--json"]
    for name in ("redwhale", "medgemma-a6000-a", "frankenstallm-1b", "goldfish-korean", "medgemma-a6000-unconfirmed"):
        yield f"compare-run-{name}", ["compare", first, "--baseline", name, "--json"]
        loss = ["--loss", "3.078", "--split", "eval", "--bytes-per-token", "4.5", "--se", "0.01"]
        yield f"compare-loss-{name}", ["compare", *loss, "--baseline", name, "--json"]
