"""``ko-cpt compare RUN… --baseline ID|RUN``: how far a run is from another, in which unit, how sure, or why not.

Exit status: 0 compared, whatever came out; 2 nothing was compared (one line on stderr).
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final

import typer

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.compared import (
    SPLITS,
    Compared,
    LoneLoss,
    Side,
    compared_loss,
    compared_run,
    efficiency,
    find_side,
    side_of_run,
)
from ko_cpt_callbacks.check.compared_run import ComparedRun, read_compared_run
from ko_cpt_callbacks.check.compared_seeds import STARTS, ToldSeeds, told_seeds
from ko_cpt_callbacks.check.terminal import let_print_anything
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.reference import checked_stage
from ko_cpt_callbacks.compare.value import BITS, Comparison, Measured, Reason
from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, LANGUAGE_VARIABLE, LANGUAGES, catalogue, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.facts import RunFacts, run_state
from ko_cpt_callbacks.run.page import aligned

__all__ = ["compare", "page"]

_FORMAT: Final = 1
_UNUSABLE: Final = 2


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders, checkpoints or trainer_state.json files."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="ID|RUN", help="What to compare with: an id (ko-cpt baselines) or a run; default: the first RUN."
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The baseline's stage; default: the one that trains the same, or the last."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="One evaluation set: eval_ko. Default: all but retention sets."),
    ] = None,
    loss: Annotated[float | None, typer.Option(help="In place of a RUN: a loss in nats per token.")] = None,
    split: Annotated[
        str | None, typer.Option(metavar="|".join(SPLITS), help="With --loss: what it was measured on; default: eval.")
    ] = None,
    bytes_per_token: Annotated[
        float | None, typer.Option(help="With --loss: UTF-8 bytes of the scored text per token.")
    ] = None,
    bits_per_byte: Annotated[float | None, typer.Option(help="With --loss: bits per byte of the same text.")] = None,
    se: Annotated[float | None, typer.Option(help="With --loss: its standard error in nats per token.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(STARTS),
            help="What a RUN began from, for what another seed would change; default: as its rows show.",
        ),
    ] = None,
    repeats: Annotated[
        list[str] | None,
        typer.Option("--repeat", metavar="RUN", help="RUN with another seed, twice or more: their spread is measured."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    lang: Annotated[
        str | None,
        typer.Option(metavar="|".join(LANGUAGES), help=f"Language of reasons; default: {LANGUAGE_VARIABLE}, else en."),
    ] = None,
) -> None:
    """Compare runs with a baseline: exactly or as an indication, or say why not.

    Exit status: 0 compared, whatever came out; 2 a run, a baseline or an option cannot be used.
    """
    let_print_anything()
    try:
        language = language_of("--lang", lang, os.environ) or DEFAULT_LANGUAGE
        lone = LoneLoss(loss, split, bytes_per_token, bits_per_byte, se)
        seeds = told_seeds(start, repeats or [])
        side, read, compared = _compared(runs or [], baseline, lone, stage, only, seeds)
        speeds = efficiency(read)
    except KoCPTError as error:
        typer.echo(f"ko-cpt compare: {printable(str(error))}", err=True)
        raise typer.Exit(_UNUSABLE) from None
    if as_json:
        told = {
            "format": _FORMAT,
            "baseline": _told(side.baseline),
            "runs": [{"run": run.path, **run.facts.as_dict()} for run in read],
            "comparisons": [one.as_dict(language) for one in compared],
            "efficiency": speeds,
        }
        typer.echo(json.dumps(told, allow_nan=False, indent=2))
    else:
        typer.echo("\n".join(page(compared, side.baseline, speeds, {run.path: run.facts for run in read}, language)))


def _compared(
    runs: Sequence[str], baseline: str | None, lone: LoneLoss, stage: str | None, only: str | None, seeds: ToldSeeds
) -> tuple[Side, list[ComparedRun], list[Compared]]:
    measured = lone.measured()
    if measured is not None:
        if runs or only is not None or baseline is None:
            raise ConfigurationError(
                "--loss: it stands in place of RUN and --set and needs --baseline; leave those out and name a baseline"
            )
        if seeds.repeats:
            raise ConfigurationError("--repeat: found it with --loss, expected it with the RUN that was repeated")
        side = find_side(baseline)
        checked_stage(side.baseline, stage)
        return side, [], [compared_loss(replace(measured, start=seeds.start), side, stage)]
    if not runs or (baseline is None and len(runs) < 2):
        raise ConfigurationError(
            f"RUN: found {len(runs) or 'none'}, expected a run and --baseline, or two runs; list baselines with "
            "ko-cpt baselines"
        )
    if "" in runs:
        raise ConfigurationError("RUN: found an empty text, expected a path; is a variable unset?")
    side = find_side(baseline) if baseline is not None else side_of_run(runs[0])
    checked_stage(side.baseline, stage)
    others = runs if baseline is not None else runs[1:]
    if seeds.repeats and len(others) > 1:
        raise ConfigurationError(f"--repeat: found {len(others)} runs to compare, expected the one that was repeated")
    read = [seeds.of(read_compared_run(path)) for path in others]
    return side, read, [one for run in read for one in compared_run(run, side, stage, only)]


def _told(baseline: Baseline) -> dict[str, Any]:
    names = ("id", "title", "kind", "grade", "version", "language", "vocabulary", "quantization")
    return {name: getattr(baseline, name) for name in names}


_WIDTH: Final = 100
_INDENT: Final = "  "


def page(
    compared: Sequence[Compared],
    baseline: Baseline,
    efficiency: Mapping[str, Any] | None,
    facts: Mapping[str, RunFacts],
    language: str = DEFAULT_LANGUAGE,
) -> list[str]:
    """Everything there is to say, in the order a reader asks for it.

    Args:
        compared: Every loss that was compared.
        baseline: What they were compared with.
        efficiency: Tokens per GPU hour of the runs and of the baselines; None where no run logged them.
        facts: What every verdict carries, by the run as it was named.
        language: Language of the reasons.
    """
    lines = _table(compared, baseline, language)
    for one in compared:
        state = "" if one.run is None else run_state(facts[one.run])
        lines.extend([*([""] if lines else []), *_one(one, baseline, state, language)])
    return [*lines, *_efficiency(efficiency)]


def _table(compared: Sequence[Compared], baseline: Baseline, language: str) -> list[str]:
    """Every run and set in one table: those that can be compared first, the lowest first; nothing of a single one."""
    if len(compared) < 2:
        return []
    said = catalogue(language)
    head = [said.line_of("run"), said.line_of("set"), "loss", said.words["short bits per byte"], baseline.id, ""]
    ranked = sorted(compared, key=lambda one: (one.comparison.difference is None, one.comparison.difference or 0.0))
    return aligned([head, *(_table_row(one) for one in ranked)], _WIDTH)


def _table_row(one: Compared) -> list[str]:
    measured, found = one.measured, one.comparison
    bits = measured.bits_per_byte
    return [
        one.run or "",
        measured.set,
        "" if measured.loss is None else _with_error(measured.loss, measured.loss_se),
        "" if bits is None else f"{bits:.3f}",
        "" if found.difference is None else f"{_signed(found.difference)} {found.unit}",
        found.outcome if found.standing is None else f"{found.outcome}: {found.standing}",
    ]


def _one(one: Compared, baseline: Baseline, state: str, language: str) -> list[str]:
    run, step, measured, found = one.run, one.step, one.measured, one.comparison
    what = "training loss" if measured.split == "train" else measured.set
    at = "" if step is None else f", step {step:,}"
    stage = f", stage {found.stage}" if found.stage and len(baseline.stages) > 1 else ""
    name = baseline.id if baseline.title == baseline.id else f"{baseline.title} ({baseline.id})"
    title = f"a loss of {measured.loss:.3f} ({what})" if run is None else f"{run} · {what}{at}"
    return [
        printable(title),
        *_wrapped(f"against {name}{stage}"),
        *_wrapped(state),
        "",
        *_wrapped(_headline(found)),
        *_wrapped(_error_parts(found)),
        "",
        *_wrapped(f"this run   {_run_side(measured)}"),
        *_wrapped(f"reference  {_reference_side(found, baseline)}"),
        *_equal(measured, found, baseline),
        *_section("Why not exact" if found.outcome == "indicative" else "Why not", found.reasons, language),
        *_section("To know", found.notes, language),
        *_section("What would help", found.would_help, language),
    ]


def _headline(found: Comparison) -> str:
    if found.difference is None or found.unit is None:
        return f"{found.outcome}."
    standing = "" if found.standing is None else f": {found.standing}"
    parts = [f"{found.outcome}{standing}", f"{_signed(found.difference)} {found.unit}"]
    if found.outcome == "indicative":
        assert found.value is not None and found.reference_low is not None and found.reference_high is not None
        ends = found.value - found.reference_high, found.value - found.reference_low
        if ends[0] != ends[1]:
            parts[1] = f"{_signed(ends[0])} to {_signed(ends[1])} {found.unit}"
    if found.low is not None and found.high is not None:
        rows = f", paired over {found.rows:,} rows" if found.se_kind == "paired" else ""
        parts.append(f"{found.confidence * 100:g} % interval {_signed(found.low)} to {_signed(found.high)}{rows}")
    return " · ".join(parts)


def _error_parts(found: Comparison) -> str:
    """What the interval is made of: the documents' part and the seeds'."""
    if found.se is None:
        return ""
    seeds = "from seeds not known" if found.seed_se is None else f"{found.seed_se:.2g} from seeds"
    return f"standard error {found.se:.2g} from the documents, {seeds}"


def _run_side(measured: Measured) -> str:
    parts = []
    if measured.bits_per_byte is not None:
        parts.append(f"{_with_error(measured.bits_per_byte, measured.bits_per_byte_se)} {BITS}")
    if measured.loss is not None:
        parts.append(f"loss {_with_error(measured.loss, measured.loss_se)}")
    if measured.bytes_per_token is not None:
        parts.append(f"{measured.bytes_per_token:.2f} bytes per token")
    if measured.quantization not in (None, "none"):
        parts.append(f"{measured.quantization}")
    return " · ".join(parts) or "no finite loss"


def _reference_side(found: Comparison, baseline: Baseline) -> str:
    stage = baseline.stage(found.stage)
    values = [] if stage is None else [value for value in stage.values if value.split == "eval"]
    by_metric = {value.metric: value for value in reversed(values) if value.set == found.reference_set}
    parts = []
    bits, loss, ppl = (by_metric.get(name) for name in (keys.BITS_PER_BYTE, "loss", "ppl"))
    if bits is not None:
        spread = bits.high - bits.low >= 0.001
        parts.append(f"{_range(bits.low, bits.high, 3) if spread else _with_error(bits.value, bits.se)} {BITS}")
    if loss is not None:
        parts.append(f"loss {_with_error(loss.value, loss.se)}")
    elif ppl is not None:
        parts.append(f"perplexity {ppl.value:g}")
    low, high = baseline.bytes_per_token_low, baseline.bytes_per_token_high
    if low is not None and high is not None:
        parts.append(f"{_range(low, high, 3)} bytes per token")
    if baseline.grade != "OWN":
        parts.append(f"grade {baseline.grade}")
    if parts or found.reference is None:
        return " · ".join(parts) or "no figure of held-out text"
    return f"{found.reference:.3f} {found.unit}"


def _equal(measured: Measured, found: Comparison, baseline: Baseline) -> list[str]:
    """At which loss, and at how many bytes per token, the two would be equal."""
    texts = []
    against = " (a training loss against an evaluation loss: no verdict)" if measured.split == "train" else ""
    if found.equal_loss is not None and measured.bytes_per_token is not None:
        texts.append(
            f"a loss of {_range(*found.equal_loss, 3)} per token, with this run's {measured.bytes_per_token:.2f} bytes "
            f"per token{against}"
        )
    if found.equal_bytes_per_token is not None and measured.loss is not None:
        first, second = found.equal_bytes_per_token
        low, high = baseline.bytes_per_token_low, baseline.bytes_per_token_high
        other = ""
        if f"{first:.2f}" != f"{second:.2f}":
            other = f"; {second:.2f}"
            if low is not None and high is not None:
                other = f", if the reference's text has {low:.3f}; {second:.2f}, if it has {high:.3f}"
        texts.append(f"{first:.2f} bytes per token, with this run's loss of {measured.loss:.3f}{other}{against}")
    return ["", f"{_INDENT}They would be equal at", *_items(texts)] if texts else []


def _efficiency(table: Mapping[str, Any] | None) -> list[str]:
    if table is None:
        return []
    rows = [(item[keys.TOKENS_PER_GPU_HOUR], printable(item["run"]), "this run") for item in table["runs"]]
    rows += [(item[keys.TOKENS_PER_GPU_HOUR], item["title"], f"{item['gpu']}, grade {item['grade']}")
             for item in table["baselines"]]  # fmt: skip
    texts = [f"{speed / 1e6:8.2f} M  {name} ({what})" for speed, name, what in sorted(rows)]
    note = "unlike GPUs, models and lengths: no comparison of methods"
    return ["", f"Tokens per GPU hour ({note})", *(f"{_INDENT}{text}" for text in texts)]


def _section(title: str, reasons: Iterable[Reason], language: str) -> list[str]:
    items = _items(catalogue(language).reason(reason.as_dict()) for reason in reasons)
    return ["", f"{_INDENT}{title}", *items] if items else []


def _items(texts: Iterable[str]) -> list[str]:
    lines = []
    for text in texts:
        lines.extend(
            textwrap.wrap(
                printable(text), _WIDTH, initial_indent=f"{2 * _INDENT}- ", subsequent_indent=3 * _INDENT,
                break_long_words=False, break_on_hyphens=False,
            )
        )  # fmt: skip
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        printable(text), _WIDTH, initial_indent=_INDENT, subsequent_indent=2 * _INDENT, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _signed(value: float) -> str:
    return f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.1e}" if value else "0.000"


def _range(low: float, high: float, digits: int) -> str:
    ends = f"{low:.{digits}f}", f"{high:.{digits}f}"
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"
