"""A judgement as a terminal shows it: the run's page, what was asked of it, and with ``--all`` every detail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ko_cpt_callbacks.check.judgement import Heading, Judgement
from ko_cpt_callbacks.forecast.chance import Chance
from ko_cpt_callbacks.messages.catalogue import Catalogue, catalogue
from ko_cpt_callbacks.messages.terminal import printable, wrapped
from ko_cpt_callbacks.run.finding import Finding, gravest_first
from ko_cpt_callbacks.run.kind import applies
from ko_cpt_callbacks.run.page import ASKS_NOTHING, PageLine, RunPage
from ko_cpt_callbacks.run.reading import LogSource
from ko_cpt_callbacks.run.retention import RETENTION_NAMES, names_set, retention_names

__all__ = ["doubt_lines", "next_steps", "page_lines", "run_page", "section", "unchecked"]

# What only the callback, present while the run runs, can measure.
_FROM_THE_CALLBACK: Final = {"exact-loss", "nonfinite-steps", "first-batch"}
# What is lacking of single steps: less than what is lacking of evaluations and targets.
_OF_STEPS: Final = {"grad-norm", "nonfinite-steps", "first-batch"}
_TOOLS: Final = {
    LogSource.LLAMAFACTORY: "LLaMA-Factory",
    LogSource.WANDB: "W&B",
    LogSource.TENSORBOARD: "TensorBoard",
    LogSource.MLFLOW: "MLflow",
    LogSource.TRACKIO: "trackio",
    LogSource.TABLE: "CSV",
    LogSource.PRINTED: "stdout",
}
_WHOLE: Final = 100
"""A count of tokens or hours from which on it is shown without decimals, to three digits."""


def page_lines(judged: Judgement, path: str, width: int, *, whole: bool = False) -> list[PageLine]:
    """What there is to say, in the order a reader asks for it.

    Args:
        judged: The judgement.
        path: The run as the user named it.
        width: Columns.
        whole: Whether every finding, rule and piece of advice is shown.
    """
    lines = run_page(judged, path).lines(width, whole=whole)
    return [*lines, *_details(judged, width)] if whole else lines


def run_page(judged: Judgement, path: str) -> RunPage:
    """The judgement as the page of a run."""
    said = catalogue(judged.watch.language)
    return RunPage(
        facts=judged.facts,
        summary=judged.summary,
        findings=judged.findings,
        curves=judged.curves,
        language=judged.watch.language,
        head=[path, " · ".join(_read(judged, path)), *judged.notes(), *_stopped(judged)],
        heading=[_heading(one, said) for one in judged.headings()[:1]],
        doubts=doubt_lines(judged),
        unchecked=list(unchecked(judged)),
        callback=any(item.evidence in _FROM_THE_CALLBACK for item in judged.absences),
        end=_checkpoints(judged),
    )


def _checkpoints(judged: Judgement) -> list[str]:
    """Which checkpoint to keep, where there are any."""
    if judged.account is None:
        return []
    from ko_cpt_callbacks.checkpoint.page import keep_line  # numpy: only for who has checkpoints

    return [keep_line(judged.account, judged.watch.language)]


def doubt_lines(judged: Judgement) -> list[str]:
    """What is to be asked twice about the targets."""
    language = judged.watch.language
    return [f"[{doubt.severity.value}] {doubt.short(language)}" for doubt in judged.doubts]


def _read(judged: Judgement, path: str) -> Iterator[str]:
    """What was read, and what the run is."""
    counts, watch, said = judged.counts, judged.watch, catalogue(judged.watch.language)
    if counts.first_step is None or counts.last_step is None:
        yield said.line_of("no-rows")
    else:
        steps = {"first": counts.first_step, "last": counts.last_step}
        yield said.line_of("rows", training=counts.training, evaluations=counts.evaluations, **steps)
    if counts.unused:
        yield said.line_of("unused", rows=counts.unused)
    if judged.run.source is LogSource.TRAINER_STATE and str(judged.run.path) != path:
        yield said.line_of("behind", file=str(judged.run.path.name))
    elif (tool := _TOOLS.get(judged.run.source)) is not None:
        yield said.line_of("from-log", tool=tool, file=judged.run.path.name)
    if judged.summary.train.tokens_seen is not None:
        yield said.line_of("tokens", tokens=judged.summary.train.tokens_seen)
    yield said.line_of("task-default" if judged.asked.task_from == "default" else "task", task=watch.task)
    if judged.facts.kind is not None:
        yield said.line_of("kind", kind=judged.facts.kind.value)
    yield from (said.line_of("target", target=str(target)) for target in watch.targets)
    if watch.limits:
        own = [f"{code}.{name}={value:g}" for code, given in watch.limits.items() for name, value in given.items()]
        yield said.line_of("limits", limits=own)


def _stopped(judged: Judgement) -> list[str]:
    """Why the run was asked to stop, where no finding says so."""
    stop = judged.asked.stop
    if stop is None or any(finding.code == stop["code"] for finding in judged.findings):
        return []
    return [catalogue(judged.watch.language).line_of("stopped-because", **stop)]


def _rules(judged: Judgement) -> tuple[list[str], list[str]]:
    """The rules that were asked, and those that a run of its kind is not asked."""
    kind = judged.facts.kind
    asked = [code for code in judged.rules if applies(code, kind)]
    return asked, [code for code in judged.rules if code not in asked]


def unchecked(judged: Judgement, *, targets: bool = True) -> Iterator[str]:
    """What was not checked and why, in a few words each.

    Args:
        judged: The judgement.
        targets: Whether a target that is lacking is among it: of a staged training one stage has the others' too.
    """
    language = judged.watch.language
    said, (_, others), kind = catalogue(language), _rules(judged), judged.facts.kind
    splits, named = judged.summary.splits, set(retention_names(judged.watch.retention)) - set(RETENTION_NAMES)
    if unmet := [name for name in sorted(named) if not any(names_set(name, split) for split in splits)]:
        yield said.line_of("no-retention-set", names=unmet)
    absences = [item for item in judged.absences if targets or item.evidence != "target"]
    yield from (item.short(language) for item in sorted(absences, key=lambda item: item.evidence in _OF_STEPS))
    if others and kind is not None:
        yield said.line_of("other-rules", rules=len(others), kind=kind.value)
    if judged.left_out():
        yield said.line_of("left-out", rules=len(judged.left_out()))
    if judged.asked.unknown_rules:
        yield said.line_of("unknown-rules", rules=list(judged.asked.unknown_rules))


def _details(judged: Judgement, width: int) -> list[PageLine]:
    """Every rule, absence and piece of advice."""
    said, language = catalogue(judged.watch.language), judged.watch.language
    return [
        *section(said.line_of("title-not-known"), (item.message(language) for item in judged.absences), width),
        *section(said.line_of("title-next"), next_steps(judged), width),
        PageLine(),
        *(PageLine(line, "dim") for text in _checked(judged, said) for line in wrapped(printable(text), width)),
    ]


def _checked(judged: Judgement, said: Catalogue) -> Iterator[str]:
    (asked, others), kind = _rules(judged), judged.facts.kind
    yield said.line_of("checked", count=len(asked), rules=asked)
    if others and kind is not None:
        yield said.line_of("checked-not-kind", kind=kind.value, rules=others)
    if judged.left_out():
        yield said.line_of("checked-left-out", rules=list(judged.left_out()))
    if judged.asked.unknown_rules:
        yield said.line_of("checked-unknown", rules=list(judged.asked.unknown_rules))


def section(title: str, texts: Iterable[str], width: int) -> list[PageLine]:
    """A title with a list; nothing where the list is empty."""
    listed = [PageLine(line) for text in texts for line in wrapped(f"- {printable(text)}", width)]
    return [PageLine(), PageLine(title, "bold"), *listed] if listed else []


def next_steps(judged: Judgement) -> list[str]:
    """What to do, in full, once for each code that was found, and for each reason of a note."""
    known = catalogue(judged.watch.language)
    asking: dict[str, Finding] = {}
    for one in gravest_first(judged.findings):
        if (one.code, one.variant) not in ASKS_NOTHING:
            asking.setdefault(one.topic, one)
    return [f"{one.code}: {known.explanation(one.code, one.variant).advice_line}" for one in asking.values()]


def _heading(found: Heading, said: Catalogue) -> str:
    """A set's heading on one line: where it ends, how likely its targets are met, and when."""
    ends = found.ends
    if ends.withheld or ends.median is None:
        return said.line_of("heading-withheld", set=found.name, why=said.line_of(f"withheld-{ends.withheld[0]}"))
    values = {"median": ends.median, "lower": ends.lower, "upper": ends.upper, "level": ends.level}
    parts = [said.line_of("heading", set=found.name, last=ends.last_step, **values)]
    parts += [said.line_of("forecast-family", runs=ends.family)] if ends.family else []
    parts += (part for chance in found.chances for part in _target(found, chance, said))
    return " · ".join(parts)


def _target(found: Heading, chance: Chance, said: Catalogue) -> Iterator[str]:
    """How likely a target is met, and where it is, the step, tokens and hours from now."""
    if chance.odds is None:
        return
    if chance.step is None:
        yield said.line_of("heading-target", target=chance.target, odds=chance.odds)
        return
    yield said.line_of("heading-target-step", target=chance.target, odds=chance.odds, step=chance.step)
    for name, value in found.effort(chance.step).items():
        if value is not None:
            count = f"{float(f'{value:.3g}'):,.0f}" if value >= _WHOLE else f"{value:.3g}"
            yield said.line_of(f"heading-{name.partition('_to_')[0].replace('_', '-')}", count=count)
