"""Everything about one run, in the order a reader asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import Asked
from ko_cpt_callbacks.check.compared import ReferenceSide
from ko_cpt_callbacks.check.judgement import reduction
from ko_cpt_callbacks.check.staged import StageChange
from ko_cpt_callbacks.check.staged_page import gpu_hours
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report import curves
from ko_cpt_callbacks.report.chart import Chart, drawn
from ko_cpt_callbacks.report.curves import fans_of
from ko_cpt_callbacks.report.drawing import Content, Element, Line, element, measured, number, table
from ko_cpt_callbacks.report.ladder import ladder
from ko_cpt_callbacks.report.sections import checkpoints, data_tables, findings, strip
from ko_cpt_callbacks.report.subject import ShownRun, Subject
from ko_cpt_callbacks.run.finding import Severity
from ko_cpt_callbacks.run.kind import applies
from ko_cpt_callbacks.run.progress import EvalPoint
from ko_cpt_callbacks.run.retention import is_retention

__all__ = ["known_facts", "progress_line", "run_charts", "run_section", "set_rows", "verdict"]

_TRAINING_COLOR: Final = 7
_FACTS: Final = ("name_or_path", "class", "parameters", "trainable_parameters", "quantization", "adapter")


def run_section(
    subject: Subject, words: Catalogue, named: ReferenceSide | None, *, level: str = "h2",
    gpu_price: float | None = None,
) -> Element:  # fmt: skip
    """The section of a run; ``level`` is that of its titles, and without a price of a GPU hour nothing costs."""
    fans = fans_of(subject, words)
    axis = curves.axis_of(subject, fans.lines)
    shown = findings(subject, words)
    marked = strip(subject, axis, words)
    charts = [one for chart in run_charts(subject, words, fans.lines) if (one := drawn(chart, axis, words)) is not None]
    health: list[Content] = [marked, *shown] if shown else [element("p", words.say("nothing-found"), class_="none")]
    return element(
        "section",
        *_titled(level, words.say("losses"), [_sets(subject, words)]),
        *_titled(level, words.say("health"), health),
        *_titled(level, words.say("curves"), charts or [element("p", words.say("no-curves"), class_="none")]),
        *_titled(level, words.say("ladder"), ladder([subject], named, words)),
        *_titled(level, words.say("stages"), _stages(subject, words)),
        *_titled(level, words.say("checkpoints"), checkpoints(subject, words)),
        *_titled(level, words.say("data"), data_tables(subject.path, words)),
        *_titled(level, words.say("not-checked"), _not_checked(subject, words, fans.withheld)),
        *_titled(level, words.say("facts"), [_facts(subject, words, gpu_price)]),
        class_="run",
        data_linked=True,
    )


def _titled(level: str, title: str, content: Sequence[Content]) -> list[Content]:
    return [element(level, title), *content] if content else []


# -- the verdict -------------------------------------------------------------------------------------------------------


def verdict(subject: Subject, words: Catalogue) -> Element:
    """What is to be made of the run, in one sentence, with how far it came and how much was found."""
    facts = subject.facts
    whole = None
    if facts.steps_planned:
        share = min(100.0, 100.0 * facts.steps_done / facts.steps_planned)
        whole = element("div", element("i", style=f"width:{share:.1f}%"), class_="progress")
    return element(
        "div",
        element("p", words.say(f"verdict {facts.verdict.value}"), class_="sentence"),
        element("p", progress_line(subject, words)),
        whole,
        class_=f"verdict {facts.verdict.value}",
    )


def progress_line(subject: Subject, words: Catalogue) -> str:
    """Where the run stands, how far it came, and how much was found in it."""
    facts = subject.facts
    counts = dict.fromkeys(Severity, 0)
    for _, found in subject.findings:
        counts[found.severity] += 1
    by = facts.stopped_by or ""
    state = words.say(f"state {facts.state.value}", by=by) if by or facts.state.value != "stopped" else ""
    if facts.steps_planned is None:
        steps = words.say("steps", done=facts.steps_done)
    else:
        steps = words.say("steps-of", done=facts.steps_done, planned=facts.steps_planned)
    listed = [words.say(f"count {severity.value}", count=count) for severity, count in counts.items() if count]
    return " · ".join(text for text in (state, steps, ", ".join(listed)) if text)


# -- the table of sets -------------------------------------------------------------------------------------------------


def _sets(subject: Subject, words: Catalogue) -> Element:
    head, rows = set_rows(subject, words)
    return table(head, rows, name=words.say("losses")) if rows else element("p", words.say("no-losses"), class_="none")


def set_rows(subject: Subject, words: Catalogue) -> tuple[list[str], list[list[str]]]:
    """Titles, and a row a set, of a staged run a row a set and stage: where its loss began, was lowest and is."""
    names = ("set", "steps-word", "first", "best", "last", "perplexity", "bits-per-byte", "since-start")
    rows: list[list[str]] = []
    for part in subject.parts:
        summary = part.judgement.summary
        for split, seen in summary.splits.items():
            kept = is_retention(split, part.judgement.watch.retention)
            name = words.say("retention-set", name=split) if kept else split
            share, last = reduction(seen), seen.last
            best = ""
            if seen.best is not None and seen.best.step not in (seen.first.step, last.step):
                at = part.offset + seen.best.step
                best = words.say("value-at", value=_loss(seen.best, words), step=at)
            rows.append([
                _named(part, name), _steps(part, seen.first.step, last.step), _loss(seen.first, words), best,
                _loss(last, words), "" if last.ppl is None else number(last.ppl, "short"),
                "" if last.bits_per_byte is None else measured(last.bits_per_byte, last.bits_per_byte_se),
                "" if share is None or abs(share) > 1e3 else number(-share, "percent"),
            ])  # fmt: skip
        train = summary.train
        if train.points:
            # The Trainer writes 0.0 in place of NaN.
            losses = (train.first_loss, train.last_loss)
            ends = [words.say("no-number") if not one else number(one, "loss") for one in losses]
            steps = _steps(part, train.first_step or 0, train.last_step or 0)
            rows.append([_named(part, words.say("training")), steps, ends[0], "", ends[1], "", "", ""])
    filled = [at for at in range(len(names)) if any(row[at] for row in rows)]
    return [words.say(names[at]) for at in filled], [[row[at] for at in filled] for row in rows]


def _named(part: ShownRun, name: str) -> str:
    return f"{part.name} · {name}" if part.name else name


def _steps(part: ShownRun, first: int, last: int) -> str:
    ends = [f"{part.offset + step:,}" for step in (first, last)]
    return ends[0] if first == last else " – ".join(ends)


def _loss(point: EvalPoint, words: Catalogue) -> str:
    if point.value is None or not point.finite:
        return words.say("no-number")
    loss = measured(point.value, point.se)
    return loss if point.metric == keys.EXACT_LOSS else words.say("trainers", loss=loss)


# -- curves ------------------------------------------------------------------------------------------------------------


def _loss_lines(subject: Subject, words: Catalogue) -> list[Line]:
    """Training, and every set that is no retention set: exact where it was measured, with the Trainer's beside it."""
    lines = [curves.of_training(subject, words.say("training"), keys.LOSS, _TRAINING_COLOR)]
    for color, split in enumerate(curves.splits_of(subject, retention=False)):
        theirs = curves.trainer_losses(subject, split, words.say("trainers-own", split=split), color)
        name = words.say("exact", split=split) if theirs.points else split
        lines += [curves.losses(subject, split, name, color), theirs]
    return lines


def run_charts(subject: Subject, words: Catalogue, ahead: Sequence[Line]) -> list[Chart]:
    """The charts of a run, the loss first, with what is forecast of it."""
    own, kept = (curves.splits_of(subject, retention=retention) for retention in (False, True))
    language = all(part.judgement.summary.seen.language for part in subject.parts)

    def chart(key: str, lines: Sequence[Line], **more: Any) -> Chart:
        return Chart(words.say(f"chart {key}"), words.say(f"note {key}"), tuple(lines), **more)

    rate, norm = (
        curves.of_training(subject, words.say(f"chart {key}"), value, color)
        for key, value, color in (("rate", keys.LEARNING_RATE, 1), ("norm", keys.GRAD_NORM, 5))
    )
    return [
        chart("loss" if own else "training", [*_loss_lines(subject, words), *ahead], perplexity=language,
              levels=_targets(subject, keys.EXACT_LOSS, keys.LOSS, keys.PPL)),
        chart("gap", [curves.gaps(subject, split, split, at) for at, split in enumerate(own)], format="signed"),
        chart("bits", [curves.bits(subject, split, split, at) for at, split in enumerate(own)],
              levels=_targets(subject, keys.BITS_PER_BYTE)),
        chart("retention", [curves.retained(subject, split, split, at + 2) for at, split in enumerate(kept)],
              format="percent", levels=((words.say("start"), 0.0),)),
        chart("rate", [rate], format="short", logarithmic=False),
        chart("norm", [norm], format="short"),
        chart("speed", [curves.speeds(subject, words.say("chart speed"))], format="short"),
    ]  # fmt: skip


def _targets(subject: Subject, *metrics: str) -> tuple[tuple[str, float], ...]:
    """Bounds of the targets that are set on these metrics, of sets that are there; of a perplexity its logarithm."""
    known = curves.splits_of(subject)
    targets = {
        str(target): math.log(target.below) if target.metric == keys.PPL else target.below
        for part in subject.parts for target in part.judgement.watch.targets
        if target.metric in metrics and target.split in known and not target.relative and target.below > 0
    }  # fmt: skip
    return tuple(targets.items())


# -- stages, what was not checked, facts -------------------------------------------------------------------------------


def _stages(subject: Subject, words: Catalogue) -> list[Content]:
    """The stages with what each changed on every set, where there are stages."""
    plan = subject.plan
    if plan is None:
        return []
    head = [words.say(name) for name in ("stage", "trains", "state", "tokens", "steps-word", "set", "change", "beside")]
    rows: list[list[Content]] = []
    for stage in plan.stages:
        judged = stage.judgement
        state = stage.message or words.say(f"stage {stage.state}")
        tokens = None if judged is None else judged.summary.train.tokens_seen
        steps = None if judged is None else judged.counts.last_step
        own = [change for change in plan.changes if change.delta.stage == stage.planned.name]
        counts = ["" if one is None else f"{one:,}" for one in (tokens, steps)]
        start = [stage.planned.name, stage.trains or "", state, *counts]
        rows.extend(
            [*(start if not at else [""] * len(start)), *cells]
            for at, cells in enumerate([_change(change, words) for change in own] or [["", "", ""]])
        )
    note = element("p", words.say("note change"), class_="note")
    return [table(head, rows, numbers=3, name=words.say("stages")), note]


def _change(change: StageChange, words: Catalogue) -> list[str]:
    delta = change.delta
    if delta.difference is None:
        own = words.say("outcome not comparable")
    elif delta.low is None or delta.high is None:
        own = number(delta.difference, "signed")
    else:
        own = f"{number(delta.difference, 'signed')} [{number(delta.low, 'signed')}, {number(delta.high, 'signed')}]"
    beside = "" if change.baseline is None else number(change.baseline.difference, "signed")
    return [delta.split, own, beside]


def _not_checked(subject: Subject, words: Catalogue, withheld: Sequence[str]) -> list[Content]:
    """What the rows lack, which rules were not asked, and why; where they differ, by stage."""
    said: dict[str, list[str]] = {}
    for part in subject.parts:
        judged = part.judgement
        texts = [item.message(words.language) for item in judged.absences]
        kind = judged.facts.kind
        left = [code for code in judged.rules if not applies(code, kind)]
        if left and kind is not None:
            texts.append(words.say("not-of-kind", kind=kind.value, codes=", ".join(left)))
        if judged.left_out():
            texts.append(words.say("left-out", codes=", ".join(judged.left_out())))
        if judged.asked.unknown_rules:
            texts.append(words.say("unknown-rules", codes=", ".join(judged.asked.unknown_rules)))
        for text in texts:
            said.setdefault(text, []).append(part.name)
    stages = len(subject.parts)
    items = [
        element("li", text if len(names) == stages else f"{', '.join(names)}: {text}") for text, names in said.items()
    ]
    items += [element("li", text) for text in withheld]
    return [element("ul", *items, class_="absent")] if items else []


def _facts(subject: Subject, words: Catalogue, gpu_price: float | None) -> Element:
    rows = [*known_facts(subject, words), *_cost(subject, words, gpu_price)]
    return table([words.say("what"), words.say("value")], rows, numbers=2, name=words.say("facts"))


def _cost(subject: Subject, words: Catalogue, gpu_price: float | None) -> Iterator[list[str]]:
    """Hours of all GPUs, and what they cost where the price of an hour is known."""
    hours = [gpu_hours(part.judgement.run.rows) for part in subject.parts]
    known = [one for one in hours if one is not None]
    if not known:
        return
    yield [words.say("gpu-hours"), f"{sum(known):,.2f}"]
    if gpu_price is not None:
        yield [words.say("cost"), words.say("cost-at", cost=f"{sum(known) * gpu_price:,.2f}", price=f"{gpu_price:g}")]


def known_facts(subject: Subject, words: Catalogue) -> list[list[str]]:
    """What the run is: name and value; where stages differ, every value."""
    rows: dict[str, list[str]] = {}
    for part in subject.parts:
        for name, value in _known(part.judgement.asked, words):
            rows.setdefault(name, [])
            if value not in rows[name]:
                rows[name].append(value)
    if subject.parts:
        rows[words.say("task")] = [subject.parts[0].judgement.watch.task]
        rows[words.say("file")] = [str(part.judgement.run.path) for part in subject.parts]
    return [[name, "; ".join(values)] for name, values in rows.items() if values]


def _known(asked: Asked, words: Catalogue) -> Iterator[tuple[str, str]]:
    """What ``run.json`` says, without what it watches: arguments may name addresses and keys."""
    run, model, tokenizer = asked.record, asked.recorded("model"), asked.recorded("tokenizer")
    for name in _FACTS:
        value = model.get(name)
        if value is not None:
            yield words.say(f"model {name}"), f"{value:,}" if isinstance(value, int) else str(value)
    if tokenizer.get("class"):
        yield words.say("tokenizer"), f"{tokenizer['class']} · {tokenizer.get('vocabulary')} · {tokenizer.get('hash')}"
    for split, how in asked.recorded("evaluations").items():
        if isinstance(how, Mapping) and how.get("fingerprint"):
            yield words.say("data-hash", split=split), str(how["fingerprint"])
    attempts = run.get("attempts")
    for attempt in attempts if isinstance(attempts, list) else ():
        if isinstance(attempt, Mapping) and attempt.get("started"):
            yield words.say("started"), str(attempt["started"])
    if run.get("device") is not None:
        yield words.say("device"), f"{run['device']} × {run.get('world_size', 1)}"
    versions = [f"{name} {version}" for name, version in asked.recorded("versions").items() if version is not None]
    if versions:
        yield words.say("versions"), ", ".join(versions)
