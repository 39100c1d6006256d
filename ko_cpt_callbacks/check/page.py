"""A judgement as a terminal shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.judgement import Judgement, reduction
from ko_cpt_callbacks.messages.catalogue import catalogue
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.metrics.perplexity import perplexity
from ko_cpt_callbacks.run.facts import RunState, run_state
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.kind import applies
from ko_cpt_callbacks.run.progress import EvalPoint, EvalProgress, Summary, TrainProgress
from ko_cpt_callbacks.run.reading import Source

__all__ = [
    "doubt_lines", "finding_lines", "headline", "indented", "lines", "loss_table", "next_steps", "page",
    "perplexity_text", "plural", "section", "with_error",
]  # fmt: skip

_INDENT: Final = 2
_PER_CODE: Final = 5
_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_WORDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_GRAVEST_FIRST: Final = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_TOO_LITTLE: Final = "not-enough-data"
# Findings, by code and variant, that say themselves that nothing needs to be done.
_ASKS_NOTHING: Final = {("adapters-frozen", "beside-trained"), ("forgetting", "recovered"), ("non-finite", "scaler")}
_SOURCES: Final = {
    Source.ROWS: "this package's rows",
    Source.TRAINER_STATE: "the Trainer's own log",
}
# What only the callback, present while the run runs, can measure.
_FROM_THE_CALLBACK: Final = {"exact-loss", "nonfinite-steps", "first-batch"}
_ADVICE: Final = "Train with callbacks=[KoCPTCallback()]: the next run has what was missing here"


def page(judged: Judgement, path: str) -> RenderableType:
    """Everything there is to say, in the order a reader asks for it.

    Args:
        judged: The judgement.
        path: The run as the user named it.
    """
    return Group(
        Text(printable(path), style="bold"),
        *lines([_read(judged, path), _asked(judged)]),
        *doubt_lines(judged),
        *_stopped(judged),
        Text(),
        indented(loss_table(judged.summary)),
        *lines(_tokens(judged)),
        Text(),
        headline(judged),
        *finding_lines(judged),
        *lines([_checked(judged)]),
        *section("Not known", (item.message for item in judged.absences)),
        *section("What to do next", next_steps(judged)),
    )


def lines(texts: Iterable[str], indent: int = _INDENT) -> list[RenderableType]:
    """Texts that are not empty, each on lines of its own."""
    return [indented(Text(printable(text)), indent) for text in texts if text]


def indented(what: RenderableType, indent: int = _INDENT) -> RenderableType:
    """Something set in from the left."""
    return Padding(what, (0, 0, 0, indent), expand=False)


def section(title: str, texts: Iterable[str]) -> list[RenderableType]:
    """A title with a list; nothing where the list is empty."""
    listed = [indented(_item("-", text)) for text in texts]
    return [Text(), Text(title, style="bold"), *listed] if listed else []


def _item(mark: str, text: str) -> Table:
    """A hanging indent: wrapped lines stand under the text, not under the mark."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(Text(mark), Text(printable(text)))
    return grid


def plural(count: int, word: str) -> str:
    """A count with its word."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def doubt_lines(judged: Judgement) -> list[RenderableType]:
    """What is to be asked twice about the targets."""
    language = judged.watch.language
    return lines(f"{_WORDS[doubt.severity]}: {doubt.message(language)}" for doubt in judged.doubts)


def _read(judged: Judgement, path: str) -> str:
    counts = judged.counts
    file = str(judged.run.path)
    parts = [
        f"read {_SOURCES[judged.run.source]}" + ("" if file == path else f", {file}"),
        f"{plural(counts.training, 'training row')}, {plural(counts.evaluations, 'evaluation')}",
    ]
    if counts.last_step is not None:
        parts.append(f"steps {counts.first_step:,} to {counts.last_step:,}")
    if counts.unused:
        parts.append(f"{plural(counts.unused, 'row')} with nothing to judge")
    return " · ".join(parts)


def _asked(judged: Judgement) -> str:
    watch, asked = judged.watch, judged.asked
    source = {"option": "--task", "default": "nothing was declared"}
    parts = [f"task {watch.task} ({source.get(asked.task_from, asked.task_from)})"]
    if judged.facts.kind is not None:
        parts.append(f"kind {judged.facts.kind.value}")
    if watch.targets:
        parts.append(f"targets {', '.join(str(target) for target in watch.targets)}")
    if watch.limits:
        own = [f"{code}.{name}={value:g}" for code, given in watch.limits.items() for name, value in given.items()]
        parts.append(f"limits {', '.join(own)}")
    return " · ".join(parts)


def _stopped(judged: Judgement) -> list[RenderableType]:
    stop = judged.asked.stop
    if stop is None:
        return []
    step = "" if stop["step"] is None else f" at step {stop['step']:,}"
    return lines([f"this run was stopped{step} by {stop['code']}: {stop['short']}"])


def _tokens(judged: Judgement) -> list[str]:
    train = judged.summary.train
    parts = []
    if train.tokens_seen is not None:
        speed = "" if train.tokens_per_second is None else f" ({train.tokens_per_second:,.0f} a second)"
        parts.append(f"{train.tokens_seen:,} trained on{speed}")
    for name, split in judged.summary.splits.items():
        if split.last.tokens is not None:
            size = "" if split.last.bytes is None else f" ({split.last.bytes:,} bytes)"
            parts.append(f"{split.last.tokens:,} scored in {name}{size}")
    return [f"tokens: {', '.join(parts)}"] if parts else []


def headline(judged: Judgement) -> Text:
    """Whether it is the whole run, how much was found, and how grave."""
    state, found = printable(run_state(judged.facts)), _found(judged)
    if not state:
        return found
    whole = judged.facts.state is RunState.STOPPED
    return Text.assemble(Text(f"{state} ", style="bold" if whole else "bold yellow"), found)


def _found(judged: Judgement) -> Text:
    counts = Counter(finding.severity for finding in judged.findings)
    said = ", ".join(plural(counts[severity], _WORDS[severity]) for severity in _GRAVEST_FIRST if counts[severity])
    if counts[Severity.ERROR] or counts[Severity.WARNING]:
        worst = Severity.ERROR if counts[Severity.ERROR] else Severity.WARNING
        return Text(f"Found: {said}.", style=_STYLES[worst])
    if any(finding.code == _TOO_LITTLE for finding in judged.findings):
        return Text(f"Too little to judge: {said}.", style=_STYLES[Severity.INFO])
    style = "bold green" if judged.facts.complete else ""
    return Text(f"Nothing wrong was found{f'; {said}' if said else ''}.", style=style)


def finding_lines(judged: Judgement) -> list[RenderableType]:
    """The findings, gravest first; of one code the first few."""
    shown: list[RenderableType] = []
    for severity in _GRAVEST_FIRST:
        of_severity = [finding for finding in judged.findings if finding.severity == severity]
        for topic in dict.fromkeys(finding.topic for finding in of_severity):
            same = [finding for finding in of_severity if finding.topic == topic]
            code = same[0].code
            for finding in same[:_PER_CODE]:
                shown.append(Text(printable(finding.line(judged.watch.language)), style=_STYLES[severity]))
            if len(same) > _PER_CODE:
                shown.extend(lines([f"and {len(same) - _PER_CODE:,} more {code}: --json lists them all"]))
    return shown


def _checked(judged: Judgement) -> str:
    counts, kind = judged.counts, judged.facts.kind
    asked = [code for code in judged.rules if applies(code, kind)]
    text = (
        f"Checked: {plural(len(asked), 'rule')} ({', '.join(asked)}) on {plural(counts.training, 'training row')} and "
        f"{plural(counts.evaluations, 'evaluation')}."
    )
    if kind is not None and len(asked) < len(judged.rules):
        others = [code for code in judged.rules if code not in asked]
        text += f" Not asked of a run of kind {kind.value}: {', '.join(others)}."
    if judged.left_out():
        text += f" Not asked, because the run was not told to: {', '.join(judged.left_out())}."
    if judged.asked.unknown_rules:
        text += f" Not known to this version, not asked: {', '.join(judged.asked.unknown_rules)}."
    return text


def next_steps(judged: Judgement) -> list[str]:
    """What to do, one sentence for each code that was found, and for each reason of a note."""
    language = judged.watch.language
    gravest = sorted(judged.findings, key=lambda finding: _GRAVEST_FIRST.index(finding.severity))
    asking: dict[str, Finding] = {}
    for one in gravest:
        if (one.code, one.variant) not in _ASKS_NOTHING:
            asking.setdefault(one.topic, one)
    known = catalogue(language)
    steps = [f"{one.code}: {known.explanation(one.code, one.variant).advice_line}" for one in asking.values()]
    if any(item.evidence in _FROM_THE_CALLBACK for item in judged.absences):
        steps.append(f"{_ADVICE}.")
    return steps or ["Nothing needs to be done."]


def loss_table(summary: Summary) -> RenderableType:
    """First, best and last loss of every evaluation set with its error, then of training.

    Args:
        summary: What the run has reached.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title, right in (
        ("set", False),
        ("at", False),
        ("step", True),
        ("loss", True),
        ("PPL", True),
        ("bits/byte", True),
        ("since start", True),
    ):
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for name, split in summary.splits.items():
        _add_split(table, name, split)
    _add_training(table, summary.train, perplexities=summary.seen.train_language)
    return table if table.row_count else Text("no loss in any row")


def _add_training(table: Table, train: TrainProgress, *, perplexities: bool) -> None:
    points = [("first", train.first_step, train.first_loss), ("last", train.last_step, train.last_loss)]
    for when, step, loss in points[2 - min(train.points, 2) :]:
        table.add_row(
            "training" if when == "first" or train.points == 1 else "",
            when,
            "" if step is None else f"{step:,}",
            # The Trainer writes 0.0 in place of NaN: a perplexity of 1 would read as success.
            f"{_loss(loss)} (a NaN?)" if loss == 0 else _loss(loss),
            perplexity_text(perplexity(loss)) if loss and perplexities else "",
            "",
            _fall(_share(train)) if when == "last" else "",
        )


def _add_split(table: Table, name: str, split: EvalProgress) -> None:
    points = [("first", split.first)] if split.first.step != split.last.step else []
    if split.best is not None and split.best.step not in (split.last.step, split.first.step):
        points.append(("best", split.best))
    points.append(("last", split.last))
    for index, (when, point) in enumerate(points):
        is_best = split.best is not None and point.step == split.best.step and split.evaluations > 1
        table.add_row(
            "" if index else printable(name),
            f"{when}, best" if is_best and when != "best" else when,
            f"{point.step:,}",
            _point(point),
            perplexity_text(point.ppl),
            with_error(point.bits_per_byte, point.bits_per_byte_se) if point.bits_per_byte is not None else "",
            _fall(reduction(split)) if when == "last" else "",
        )


def _point(point: EvalPoint) -> str:
    if point.value is None or not point.finite:
        return "not finite"
    text = with_error(point.value, point.se)
    return text if point.metric == keys.EXACT_LOSS else f"{text} (Trainer's)"


def with_error(value: float, error: float | None) -> str:
    """A loss, or bits per byte, with its standard error where it has one."""
    return _loss(value) if error is None else f"{_loss(value)} ± {_loss(error)}"


def _loss(value: float | None) -> str:
    if value is None:
        return "not finite"
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.2e}"


def perplexity_text(value: float | None) -> str:
    """A perplexity with 3 significant digits; nothing where there is none."""
    if value is None:
        return ""
    if value >= 1e9:
        return f"{value:.2e}"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:#.3g}"


def _fall(share: float | None) -> str:
    return "" if share is None or abs(share) > 1e3 else f"{-share:+.1%}"


def _share(train: TrainProgress) -> float | None:
    """By what share the training loss fell; None where that says nothing."""
    if train.points < 2 or not train.first_loss or not train.last_loss:
        return None
    return 1.0 - train.last_loss / train.first_loss
