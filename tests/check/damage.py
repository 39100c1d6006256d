"""Files of a run and of a baseline, damaged as disks, editors and other programs damage them, and commands on them."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from check import sample, staged
from check.made_run import sums, write_run
from compare.tiny_run import VALID
from typer.testing import CliRunner

from ko_cpt_callbacks.cli.app import app
from ko_cpt_callbacks.metrics.row_sums import RowSums

__all__ = ["Outcome", "Place", "outcome"]

_ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 10**18, 2**63, 10**400, -(10**320), 0.0, -0.0, 1e300, -1e300, 1e308, 5e-324, math.nan,
    math.inf, -math.inf, "", "NaN", "Infinity", "1e999", "step", "\ud800", "\x1b[31m", "\u202e", "a\nb", "한국어" * 40,
    "[red]", "{loss}", "%s", [], {}, [[]], {"a": 1}, ["ko"], "../..", "/dev/zero", "nul\x00",
)  # fmt: skip
_ODD_TEXT: Final = (
    "1e300", "-1", "0", ".inf", ".nan", "99999999999999999999999999", "1e999", "''", "[]", "{}", "null", "true", "ko",
    "\"\\e[31m\"", "not stated", "!!python/object:os.system x", "&a [*a]", "2026-01-01", "0x10", "1_000", "~",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What a command on damaged files came to; ``wrong`` says what must not be, empty where nothing is."""

    seed: int
    command: tuple[str, ...]
    exit_code: int
    wrong: str


class Place:
    """Whole files to damage copies of.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.whole = folder / "whole"
        self.work = folder / "work"
        tokens = {"tokens_per_gpu_hour": 1e6}
        sets = {"eval_ko": _few(sums(3.0)), "eval_old": _few(sums(3.2, text=3))}
        write_run(self.whole / "run", sets, trained=tokens)
        write_run(self.whole / "other", {"eval_ko": _few(sums(2.8))})
        state = {"epoch": 1.0, "global_step": 10, "max_steps": 10, "log_history": sample.healthy()}
        (self.whole / "run" / "trainer_state.json").write_text(json.dumps(state), "utf-8")
        (first, second) = staged.plan(self.whole / "staged", ["embedding", "lora"])
        staged.stage(first, "embedding", (4.0, 3.5))
        staged.stage(second, "lora", (3.5, 3.3))
        own = self.whole / "baselines"
        own.mkdir()
        (own / "tiny.yaml").write_text(VALID, "utf-8")
        os.environ["KO_CPT_BASELINES"] = str(own)
        kept = CliRunner().invoke(app, ["baselines", "add", str(self.whole / "other"), "--id", "kept"])
        assert kept.exit_code == 0, kept.output
        self.files = sorted(path.relative_to(self.whole) for path in self.whole.rglob("*") if path.is_file())


def outcome(place: Place, seed: int) -> Outcome:
    """Damages one or two files as a seed says, and calls a command that reads them.

    Right is: exit 0, 1 or 2, no exception, and with 2 one printable line a mistake and no page.
    """
    draw = random.Random(seed)
    command, parts = draw.choice(_COMMANDS)
    shutil.rmtree(place.work, ignore_errors=True)
    for part in {*parts, "baselines"}:
        shutil.copytree(place.whole / part, place.work / part)
    os.environ["KO_CPT_BASELINES"] = str(place.work / "baselines")
    concerned = [path for path in place.files if path.parts[0] in parts]
    # Of every kind of file as often: there are many more sums than plans.
    kinds: dict[str, list[Path]] = {}
    for path in concerned:
        kinds.setdefault(path.name if path.suffix in (".json", ".jsonl") else path.suffix, []).append(path)
    for path in {draw.choice(kinds[draw.choice(sorted(kinds))]): None for _ in range(draw.choice((1, 1, 1, 2)))}:
        _damage(place.work / path, draw)
    words = [word.format(work=place.work) for word in command]
    if words[0] != "baselines" and draw.random() < 0.5:
        words.append("--json")
    return Outcome(seed, tuple(words), *_called(words))


_COMMANDS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("check", "{work}/run"), ("run",)),
    (("check", "{work}/run", "--baseline", "kept", "--target", "eval_ko_exact_loss<-20%@end"), ("run", "baselines")),
    (("check", "{work}/run/trainer_state.json", "--task", "cpt"), ("run",)),
    (("check", "{work}/staged"), ("staged",)),
    (("forecast", "{work}/run", "--at", "0.5"), ("run",)),
    (("forecast", "{work}/run/trainer_state.json", "--target", "2"), ("run",)),
    (("compare", "{work}/run", "--baseline", "kept"), ("run", "baselines")),
    (("compare", "{work}/run", "{work}/other"), ("run", "other")),
    (("compare", "{work}/run", "--baseline", "tiny"), ("run", "baselines")),
    (("compare", "--loss", "3", "--baseline", "tiny"), ("baselines",)),
    (("baselines", "add", "{work}/run", "--id", "mine"), ("run",)),
    (("baselines", "add", "{work}/run", "--id", "mine", "--best"), ("run",)),
    (("baselines", "add", "{work}/run/trainer_state.json", "--id", "mine"), ("run",)),
    (("baselines", "show", "kept"), ("baselines",)),
    (("baselines",), ("baselines",)),
)  # fmt: skip


def _called(words: list[str]) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    error = result.exception
    if error is not None and not isinstance(error, SystemExit):
        last = traceback.extract_tb(error.__traceback__)[-1]
        return 1, f"{type(error).__name__}: {str(error)[:150]!r} ({Path(last.filename).name}:{last.lineno})"
    lines = result.stderr.splitlines()
    if result.exit_code not in (0, 1, 2):
        return result.exit_code, "another exit status"
    # A stage that cannot be read, and a baseline of the list, are told beside those that can.
    partial = words[0] == "check" and words[1].endswith("staged")
    if result.exit_code == 2 and (not lines or (result.stdout and not partial)):
        return 2, f"stdout {result.stdout[:80]!r}, stderr {result.stderr[:200]!r}"
    for line in lines:
        if not line.startswith("ko-cpt ") or not line.isprintable() or " failed at step " in line:
            return result.exit_code, f"stderr {line[:200]!r}"
    shown = re.sub(r"[\n]", "", result.stdout)
    if not shown.isprintable():
        return result.exit_code, f"stdout shows {next(char for char in shown if not char.isprintable())!r}"
    if "--json" in words and result.exit_code != 2:
        try:
            json.loads(result.stdout, parse_constant=_not_strict)
        except ValueError as wrong:
            return result.exit_code, f"no strict JSON: {wrong}"
    return result.exit_code, ""


def _not_strict(name: str) -> None:
    raise ValueError(name)


# -- damage ------------------------------------------------------------------------------------------------------------


def _damage(path: Path, draw: random.Random) -> None:
    if path.suffix == ".npz" and draw.random() < 0.6:
        _odd_sums(path, draw)
        return
    change: Callable[[bytes, random.Random], bytes]
    if path.suffix in (".json", ".jsonl"):
        change = draw.choice((_values, _values, _values, _bytes))
    elif path.suffix == ".yaml":
        change = draw.choice((_yaml, _yaml, _bytes))
    else:
        change = _bytes
    path.write_bytes(change(path.read_bytes(), draw))


def _bytes(text: bytes, draw: random.Random) -> bytes:
    """Cut off, some bytes flipped, put in or taken out, emptied, zeroed, or doubled."""
    at = draw.randrange(len(text) + 1) if text else 0
    some = bytes(draw.randrange(256) for _ in range(draw.choice((1, 2, 8))))
    return draw.choice((
        lambda: text[:at],
        lambda: text[:at] + bytes([(text[at] ^ (1 << draw.randrange(8)))]) + text[at + 1 :] if at < len(text) else text,
        lambda: text[:at] + some + text[at:],
        lambda: text[:at] + text[at + len(some) :],
        lambda: b"",
        lambda: bytes(len(text)),
        lambda: text[:at] + bytes(len(text) - at),
        lambda: text + text,
        lambda: b"[" * 100_000,
        lambda: some + text,
    ))()  # fmt: skip


def _values(text: bytes, draw: random.Random) -> bytes:
    """One to three values of the JSON replaced, removed, doubled or added."""
    lines = text.decode().splitlines() if b"}\n{" in text else [text.decode()]
    values = [json.loads(line) for line in lines]
    for _ in range(draw.choice((1, 1, 2, 3))):
        holder, name = draw.choice(list(_places(values)))
        what = draw.random()
        if what < 0.7:
            holder[name] = draw.choice(_ODD)
        elif what < 0.8:
            del holder[name]
        elif isinstance(holder, dict):
            odd = draw.choice(_ODD)
            holder[draw.choice(("step", "eval_ko_loss", "\x1b_loss", "watch", "stop", "\u202eeval_loss"))] = odd
        else:
            holder.insert(name, draw.choice((holder[name], *_ODD[:8])))
        if not values:
            break
    return "\n".join(json.dumps(value) for value in values).encode() + b"\n"


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, name))
        if isinstance(inner, dict | list):
            found.extend(_places(inner))
    return found


def _yaml(text: bytes, draw: random.Random) -> bytes:
    """A value of a line replaced, or a line removed, doubled or moved to another depth."""
    lines = text.decode().splitlines()
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(lines))
        found = re.search(r": [^\s{\[]\S*", lines[at])
        what = draw.random()
        if what < 0.7 and found:
            lines[at] = lines[at].replace(found[0], f": {draw.choice(_ODD_TEXT)}", 1)
        elif what < 0.8:
            lines[at] = ""
        elif what < 0.9:
            lines.insert(at, lines[at])
        else:
            lines[at] = "  " + lines[at]
    return "\n".join(lines).encode() + b"\n"


def _odd_sums(path: Path, draw: random.Random) -> None:
    """A file of sums that can be read, and whose numbers no evaluation has."""
    import numpy as np

    rows = RowSums.from_payload(path.read_bytes())
    name = draw.choice(("nll", "tokens", "bytes", "hash", "order", "flags"))
    array = getattr(rows, name).copy()
    odd: dict[str, tuple[Any, ...]] = {
        "nll": (math.nan, math.inf, -math.inf, 1e308, -1e308, 1e300, 0.0, 5e-324),
        "tokens": (0, 2**62, 1), "bytes": (-1, 0, 2**62), "hash": (0, 2**64 - 1), "order": (-1, 2**62),
        "flags": (0, 255),
    }  # fmt: skip
    kind = draw.random()
    if kind < 0.7:
        part = slice(None) if draw.random() < 0.3 else draw.randrange(len(array))
        array[part] = draw.choice(odd[name])
    elif kind < 0.8:
        array = array[: draw.randrange(len(array))]
    elif kind < 0.9:
        array = array.reshape(1, *array.shape)
    else:
        array = array.astype(draw.choice(("<f4", "<c16", "U4", "?", "<M8[s]")))
    arrays = {each: getattr(rows, each) for each in ("nll", "tokens", "bytes", "hash", "order", "flags")}
    with path.open("wb") as stream:
        np.savez(stream, **{**arrays, name: array})


def _few(rows: RowSums) -> RowSums:
    """The first twenty rows: smaller files are damaged sooner where it matters."""
    names = ("nll", "tokens", "bytes", "hash", "order", "flags")
    return replace(rows, **{name: getattr(rows, name)[:20] for name in names})
