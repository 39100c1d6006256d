"""The page of ``ko-cpt compare``: one table of every run and set; with ``--all`` why, what to know, what would help."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.compared import Compared, ComparedRuns
from ko_cpt_callbacks.check.compared_run import ComparedRun, ComparedSet
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.value import BITS, NATS, Comparison, Measured
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.formatter import loss_text, signed_text
from ko_cpt_callbacks.messages.terminal import columns, printable, shortened, wrapped
from ko_cpt_callbacks.run.facts import RunState
from ko_cpt_callbacks.run.page import PageLine, aligned, state_text, with_error

__all__ = ["compare_lines"]

_NAME: Final = 60
_SHORTEST: Final = 24
"""Columns of a run's name in the table, at most and at least."""
_REASON: Final = 60
"""Of a reason there."""
_INDENT: Final = "  "
_HEAD: Final = ("run", "set", "compared-loss", "short bits per byte", "compared-difference", "compared-interval", "")


class _Row(NamedTuple):
    """A row of the table, the set whose group it is in, and its place there."""

    set: str
    place: tuple[int, str, float]
    cells: tuple[str, ...]


_REFERENCE: Final = (1, "", 0.0)
"""Place of what is compared with: behind what is better and before what is worse."""
_LAST: Final = (3, "", 0.0)


def compare_lines(found: ComparedRuns, language: str, width: int, *, whole: bool = False) -> list[PageLine]:
    """The page.

    Args:
        found: What was compared.
        language: Of the page.
        width: Columns.
        whole: Whether the reasons stand in full, with what to know, what would help, and the tokens per GPU hour.
    """
    said = catalogue(language)
    several = len(found.compared) + len(found.unread) > 1
    lines = _table(found, said, width) if several else []
    if whole or not several:
        for one in found.compared:
            lines += [*([PageLine()] if lines else []), *_one(one, found, said, whole=whole)]
    if whole:
        lines += _efficiency(found.efficiency, said)
    else:
        lines += [PageLine(), PageLine(said.line_of("compared-all"), "dim")]
    return [PageLine(text, line.style) for line in lines for text in _broken(line.text, width)]


def _broken(text: str, width: int) -> list[str]:
    """The text in lines that keep its indent."""
    bare = text.lstrip()
    indent = text[: len(text) - len(bare)]
    return [f"{indent}{line}" for line in wrapped(printable(bare), width - len(indent))]


# -- the table ---------------------------------------------------------------------------------------------------------


def _table(found: ComparedRuns, said: Catalogue, width: int) -> list[PageLine]:
    paths = [run.path for run in found.all_runs] + [*found.unread]
    base = _base(paths)
    rows = list(_rows(found, said, base))
    sets = list(dict.fromkeys(row.set for row in rows))  # in the order they came
    rows.sort(key=lambda row: (sets.index(row.set), row.place))
    head = [said.words[name] if name in said.words else said.line_of(name) if name else "" for name in _HEAD]
    cells = [head, *(list(row.cells) for row in rows)]
    room = max(columns(row[-1]) for row in cells)
    for row in cells:  # the verdict stands to the left
        row[-1] += " " * (room - columns(row[-1]))
    filled = [at for at in range(1, len(_HEAD)) if any(row[at] for row in cells[1:])]
    free = width - sum(2 + max(columns(row[at]) for row in cells) for at in filled)
    for row in cells:  # where nothing is free, a name has a line of its own
        row[0] = shortened(row[0], min(free, _NAME) if free >= _SHORTEST else _NAME)
    side = found.side.baseline.title if found.side.run is None else _name(_title(found.side.run), base)
    title = said.line_of("compared-runs", count=len(found.runs) + len(found.unread), name=side)
    notes = [
        f"{_name(_title(run), base)}: {state_text(run.facts, said)}"
        for run in found.all_runs if run.facts.state is not RunState.FINISHED
    ]  # fmt: skip
    if any(row.cells[2].endswith("*") for row in rows):
        notes.append(said.line_of("trainer-loss"))
    return [
        PageLine(title, "bold"),
        *([PageLine(f"{base}/", "dim")] if base else []),
        PageLine(),
        *(PageLine(line.rstrip()) for line in aligned(cells, width)),
        *(PageLine(note, "dim") for note in ["", *notes] if notes),
    ]


def _rows(found: ComparedRuns, said: Catalogue, base: str) -> Iterator[_Row]:
    placed: set[tuple[str, str, str]] = set()
    for one in found.compared:
        measured = one.measured
        beside = measured.set, one.comparison.reference_set, one.comparison.stage
        name = "" if one.run is None else _title(one.run)
        yield _Row(measured.set, _place(one.comparison), (
            _name(name, base), *_losses(measured, said), *_difference(one.comparison, said),
            shortened(_verdict(one.comparison, said), _REASON),
        ))  # fmt: skip
        if one.comparison.reference is not None and beside not in placed:
            placed.add(beside)
            yield _Row(measured.set, _REFERENCE, _reference(found, one.comparison, said, base))
    if found.side.run is not None:
        shown = {of_set for _, of_set, _ in placed}
        for item in found.side.run.every if found.only is None else ():
            if item.measured.set not in shown:
                yield _alone(found.side.run, item, said, base, reference=not item.measured.retention)
    for run in found.runs:
        for item in run.every if found.only is None else ():
            if item not in run.compared:
                yield _alone(run, item, said, base)
    for path, error in found.unread.items():
        reason = shortened(printable(error.removeprefix(f"{path}: ")), _REASON)
        yield _Row("", _LAST, (_name(path, base), "", "", "", "", "", f"{said.line_of('unreadable')}: {reason}"))


def _place(found: Comparison) -> tuple[int, str, float]:
    if found.difference is None or found.unit is None:
        return _LAST
    return (0 if found.difference < 0 else 2), found.unit, found.difference


def _alone(run: ComparedRun, item: ComparedSet, said: Catalogue, base: str, *, reference: bool = False) -> _Row:
    """A set that nothing was compared with."""
    labels = said.label({"code": "retention"})
    verdict = said.line_of("compared-reference") if reference else f"{said.line_of('not-comparable')}: {labels}"
    cells = (_name(_title(run), base), *_losses(item.measured, said), "", "", verdict)
    return _Row(item.measured.set, _REFERENCE if reference else _LAST, cells)


def _reference(found: ComparedRuns, one: Comparison, said: Catalogue, base: str) -> tuple[str, ...]:
    """The row of what is compared with."""
    baseline, last = found.side.baseline, said.line_of("compared-reference")
    if found.side.run is not None:
        item = next((of for of in found.side.run.sets if of.measured.set == one.reference_set), None)
        if item is not None:
            return _name(_title(found.side.run), base), *_losses(item.measured, said), "", "", last
    stage = f" · {one.stage}" if one.stage and len(baseline.stages) > 1 else ""
    numbers = _printed(one, baseline, said)
    loss = numbers.get("loss", "")
    return f"{baseline.id}{stage}", one.reference_set, loss, numbers.get(keys.BITS_PER_BYTE, ""), "", "", last


def _losses(measured: Measured, said: Catalogue) -> tuple[str, str, str]:
    name = said.line_of("training") if measured.split == "train" else measured.set
    mark = "*" if measured.metric == keys.LOSS and measured.split != "train" else ""
    loss = "" if measured.loss is None else with_error(measured.loss, measured.loss_se) + mark
    return name, loss, "" if measured.bits_per_byte is None else loss_text(measured.bits_per_byte)


def _difference(found: Comparison, said: Catalogue) -> tuple[str, str]:
    if found.difference is None or found.unit is None:
        return "", ""
    unit = said.words[f"short {found.unit}"]
    ends = "" if found.low is None or found.high is None else _ends(found.low, found.high, said)
    return f"{signed_text(found.difference)} {unit}", ends


def _verdict(found: Comparison, said: Catalogue) -> str:
    outcome = said.line_of(_OUTCOMES[found.outcome])
    if found.outcome == "not comparable":
        return outcome + "".join(f": {said.label(reason.as_dict())}" for reason in found.reasons[:1])
    return outcome if found.relation is None else f"{outcome}: {said.line_of(f'compared-{found.relation}')}"


_OUTCOMES: Final[Mapping[str, str]] = {
    "exact": "compared-exact", "indicative": "compared-indicative", "not comparable": "not-comparable",
}  # fmt: skip


def _title(run: ComparedRun) -> str:
    return f"{run.path} · {run.stage}" if run.stage else run.path


def _name(path: str, base: str) -> str:
    return shortened(printable(os.path.relpath(path, base) if base else path), _NAME)


def _base(paths: Iterable[str]) -> str:
    """The folder that holds all of these; empty where there is none."""
    try:
        return os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # absolute and relative ones
        return ""


# -- one comparison ----------------------------------------------------------------------------------------------------


def _one(one: Compared, found: ComparedRuns, said: Catalogue, *, whole: bool) -> list[PageLine]:
    baseline, run, measured, result = found.side.baseline, one.run, one.measured, one.comparison
    what = said.line_of("training") if measured.split == "train" else measured.set
    if run is None:
        title = said.line_of("compared-number", loss=measured.loss, what=what)
    else:
        at = "" if one.step is None else f", {said.line_of('at-step', step=f'{one.step:,}')}"
        title = f"{_title(run)} · {what}{at}"
    name = baseline.id if baseline.title == baseline.id else f"{baseline.title} ({baseline.id})"
    against = "compared-against-stage" if result.stage and len(baseline.stages) > 1 else "compared-against"
    lines = [PageLine(title, "bold"), PageLine(f"{_INDENT}{said.line_of(against, name=name, stage=result.stage)}")]
    if run is not None and run.facts.state is not RunState.FINISHED:
        lines.append(PageLine(f"{_INDENT}{state_text(run.facts, said)}"))
    heads = [said.line_of("compared-this-run"), said.line_of("compared-reference")]
    room = max(map(columns, heads))
    sides = zip(heads, (_run_side(measured, said), _reference_side(result, baseline, said)), strict=True)
    texts = ["", _headline(result, said), *_errors(result, said), ""]
    texts += [f"{head}{' ' * (room - columns(head))}  {side}" for head, side in sides]
    lines += [PageLine(f"{_INDENT}{text}" if text else "") for text in texts]
    lines += _section(said.line_of("compared-equal"), _equal(measured, result, baseline, said))
    why = "compared-why-not-exact" if result.outcome == "indicative" else "compared-why-not"
    if not whole:
        labels = "; ".join(said.label(reason.as_dict()) for reason in result.reasons)
        return [*lines, *([PageLine(), PageLine(f"{_INDENT}{said.line_of(why)}: {labels}")] if labels else [])]
    for title, reasons in ((why, result.reasons), ("compared-to-know", result.notes),
                           ("compared-would-help", result.would_help)):  # fmt: skip
        lines += _section(said.line_of(title), (said.reason(reason.as_dict()) for reason in reasons))
    return lines


def _section(title: str, texts: Iterable[str]) -> list[PageLine]:
    items = [PageLine(f"{2 * _INDENT}- {text}") for text in texts]
    return [PageLine(), PageLine(f"{_INDENT}{title}"), *items] if items else []


def _headline(found: Comparison, said: Catalogue) -> str:
    if found.difference is None or found.unit is None:
        return said.line_of(_OUTCOMES[found.outcome])
    parts = [_verdict(found, said), _in_unit(signed_text(found.difference), found.unit, said)]
    if found.outcome == "indicative":
        assert found.value is not None and found.reference_low is not None and found.reference_high is not None
        ends = found.value - found.reference_high, found.value - found.reference_low
        if ends[0] != ends[1]:
            parts[1] = _in_unit(_ends(*ends, said), found.unit, said)
    if found.low is not None and found.high is not None:
        level, ends_of = f"{found.confidence * 100:g}", _ends(found.low, found.high, said)
        name = "compared-of-rows" if found.se_kind == "paired" else "compared-between"
        parts.append(said.line_of(name, level=level, ends=ends_of, rows=found.rows))
    return " · ".join(parts)


def _errors(found: Comparison, said: Catalogue) -> list[str]:
    """What the interval is made of: the documents' part and the seeds'."""
    if found.se is None:
        return []
    name = "compared-errors-unknown" if found.seed_se is None else "compared-errors"
    return [said.line_of(name, documents=f"{found.se:.2g}", seeds=f"{found.seed_se or 0.0:.2g}")]


def _run_side(measured: Measured, said: Catalogue) -> str:
    parts = []
    if measured.bits_per_byte is not None:
        parts.append(_in_unit(with_error(measured.bits_per_byte, measured.bits_per_byte_se), BITS, said))
    if measured.loss is not None:
        parts.append(said.line_of("compared-loss-of", loss=with_error(measured.loss, measured.loss_se)))
    if measured.bytes_per_token is not None:
        parts.append(said.line_of("compared-reach", reach=loss_text(measured.bytes_per_token, 2)))
    if measured.quantization not in (None, "none"):
        parts.append(f"{measured.quantization}")
    return " · ".join(parts) or said.label({"code": "no-loss"})


def _printed(found: Comparison, baseline: Baseline, said: Catalogue) -> dict[str, str]:
    """The figures of the reference's held-out text, by metric, as they are shown."""
    stage = baseline.stage(found.stage)
    values = [] if stage is None else [value for value in stage.values if value.split == "eval"]
    by_metric = {value.metric: value for value in reversed(values) if value.set == found.reference_set}
    shown: dict[str, str] = {name: with_error(value.value, value.se) for name, value in by_metric.items()}
    bits = by_metric.get(keys.BITS_PER_BYTE)
    if bits is not None and bits.high - bits.low >= 0.001:
        shown[keys.BITS_PER_BYTE] = _range(bits.low, bits.high, said)
    if keys.PPL in by_metric:
        shown[keys.PPL] = f"{by_metric[keys.PPL].value:g}"
    return shown


def _reference_side(found: Comparison, baseline: Baseline, said: Catalogue) -> str:
    shown = _printed(found, baseline, said)
    parts = [_in_unit(shown[keys.BITS_PER_BYTE], BITS, said)] if keys.BITS_PER_BYTE in shown else []
    if "loss" in shown:
        parts.append(said.line_of("compared-loss-of", loss=shown["loss"]))
    elif keys.PPL in shown:
        parts.append(f"PPL {shown[keys.PPL]}")
    low, high = baseline.bytes_per_token_low, baseline.bytes_per_token_high
    if low is not None and high is not None:
        parts.append(said.line_of("compared-reach", reach=_range(low, high, said)))
    if baseline.grade != "OWN":
        parts.append(said.line_of("compared-grade", grade=baseline.grade))
    if parts or found.reference is None:
        return " · ".join(parts) or said.line_of("compared-no-figure")
    return _in_unit(loss_text(found.reference), found.unit or NATS, said)


def _equal(measured: Measured, found: Comparison, baseline: Baseline, said: Catalogue) -> Iterator[str]:
    """At which loss, and at how many bytes per token, the two would be equal."""
    against = f" ({said.line_of('compared-no-verdict')})" if measured.split == "train" else ""
    if found.equal_loss is not None and measured.bytes_per_token is not None:
        loss, reach = _range(*found.equal_loss, said), loss_text(measured.bytes_per_token, 2)
        yield said.line_of("compared-equal-loss", loss=loss, reach=reach) + against
    if found.equal_bytes_per_token is not None and measured.loss is not None:
        first, second = (loss_text(one, 2) for one in found.equal_bytes_per_token)
        low, high = baseline.bytes_per_token_low, baseline.bytes_per_token_high
        text = said.line_of("compared-equal-reach", reach=first, loss=loss_text(measured.loss))
        if first != second and low is not None and high is not None:
            ends = {"low": f"{low:.3f}", "high": f"{high:.3f}", "other": second}
            text += said.line_of("compared-equal-two", **ends)
        elif first != second:
            text += f"; {second}"
        yield text + against


def _efficiency(table: Mapping[str, Any] | None, said: Catalogue) -> list[PageLine]:
    if table is None:
        return []
    own = said.line_of("compared-this-run")
    rows = [(item[keys.TOKENS_PER_GPU_HOUR], item["run"], own) for item in table["runs"]]
    rows += [
        (item[keys.TOKENS_PER_GPU_HOUR], item["title"], f"{item['gpu']}, {grade}")
        for item in table["baselines"] for grade in [said.line_of("compared-grade", grade=item["grade"])]
    ]  # fmt: skip
    texts = (f"{_INDENT}{speed / 1e6:8.2f} M  {name} ({what})" for speed, name, what in sorted(rows))
    return [PageLine(), PageLine(said.line_of("compared-speed")), *map(PageLine, texts)]


def _in_unit(value: str, unit: str, said: Catalogue) -> str:
    return said.line_of("compared-bits" if unit == BITS else "compared-nats", value=value)


def _ends(low: float, high: float, said: Catalogue) -> str:
    return said.line_of("compared-range", low=signed_text(low), high=signed_text(high))


def _range(low: float, high: float, said: Catalogue) -> str:
    ends = loss_text(low), loss_text(high)
    return ends[0] if ends[0] == ends[1] else said.line_of("compared-range", low=ends[0], high=ends[1])
