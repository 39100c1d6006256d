"""``ko-cpt check RUN``: the verdict on a finished or running training, from what it left behind.

Exit status: 0 judged, 1 judged and a finding reaches ``--fail-on``, 2 nothing was judged (one line on stderr), or a
stage of a staged training could not be read, or a rule failed (one line each; the others are judged all the same).
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import typer

from ko_cpt_callbacks.check.judgement import Judgement, asked_of, judge_run
from ko_cpt_callbacks.check.page import page_lines
from ko_cpt_callbacks.check.recorded_run import read_recorded_run
from ko_cpt_callbacks.check.terminal import let_print_anything, page_width, print_lines
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError
from ko_cpt_callbacks.messages.catalogue import LANGUAGE_VARIABLE, LANGUAGES, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.rules.note.rule_failed import RuleFailed
from ko_cpt_callbacks.rules.registry import known_limits
from ko_cpt_callbacks.run.finding import Finding, Severity
from ko_cpt_callbacks.run.lock import is_written
from ko_cpt_callbacks.run.reading import Plan, Source, read_plan, read_run
from ko_cpt_callbacks.watch.limit import Limits, read_limits
from ko_cpt_callbacks.watch.spec import TASKS

__all__ = ["check"]

_FAILED: Final = 1
_UNREADABLE: Final = 2
_SEVERITIES: Final = tuple(severity.value for severity in Severity)


def check(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run folder (output_dir, or staged run), checkpoint, trainer_state.json."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    whole: Annotated[
        bool, typer.Option("--all", help="Every finding and rule, what was not checked and why, advice in full.")
    ] = False,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="What must be reached, quoted: 'eval_exact_loss<3.0@end'. Repeatable; replaces those of run.json.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(metavar="|".join(TASKS), help="What the run was; default: what run.json says, else other."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="ID", help="What to compare with (ko-cpt baselines); default: what run.json says."),
    ] = None,
    retention: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A set that must not be forgotten: old, or 'old<5%'. Repeatable."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A limit of a rule: loss-spike.most=3 (ko-cpt explain CODE). Repeatable."),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="|".join(_SEVERITIES), help="Exit 1 if a finding is at least this grave."),
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(LANGUAGES), help=f"Language of findings; default: {LANGUAGE_VARIABLE}, else run.json's."
        ),
    ] = None,
) -> None:
    """Judge a run: its losses, what is wrong with it, what to do next.

    Exit status: 0 judged, 1 a finding reaches --fail-on, 2 RUN, a stage of it, or an option cannot be used, or a rule
    failed.
    """
    let_print_anything()
    try:
        _one_of("--task", task, TASKS)
        _one_of("--fail-on", fail_on, _SEVERITIES)
        beside = None if baseline is None else _baseline(baseline)
        limits = read_limits("--rule", rule or (), known_limits())
        language = language_of("--lang", lang, os.environ)
        plan = read_plan(run) if run else None
        if plan is not None:
            _check_plan(
                plan, run, target or (), task, beside, retention or (), limits, language,
                as_json=as_json, whole=whole, fail_on=fail_on,
            )  # fmt: skip
            return
        judged = _judge(run, target or (), task, beside, retention or (), limits, language)
    except KoCPTError as error:
        typer.echo(f"ko-cpt check: {printable(str(error))}", err=True)
        raise typer.Exit(_UNREADABLE) from None
    if as_json:
        # ASCII: whatever a file's texts hold, and wherever this is piped to.
        typer.echo(json.dumps(judged.as_dict(run), allow_nan=False, indent=2))
    else:
        print_lines(page_lines(judged, run, page_width(), whole=whole))
    if _tell_failed(("", finding) for finding in judged.findings):
        raise typer.Exit(_UNREADABLE)
    if fail_on is not None and any(_reaches(finding.severity, fail_on) for finding in judged.findings):
        raise typer.Exit(_FAILED)


def _check_plan(
    plan: Plan,
    path: str,
    targets: Sequence[str],
    task: str | None,
    baseline: Baseline | None,
    retention: Sequence[str],
    limits: Limits,
    language: str | None,
    *,
    as_json: bool,
    whole: bool,
    fail_on: str | None,
) -> None:
    """A staged training: every stage that can be judged is, and one that cannot be read makes the status 2."""
    from ko_cpt_callbacks.check.staged import judge_plan  # numpy, for the paired differences

    asked_of(None, targets=targets, retention=retention)
    judged = judge_plan(
        plan, targets=targets, task=task, baseline=baseline, retention=retention, limits=limits, language=language
    )
    if as_json:
        typer.echo(json.dumps(judged.as_dict(path), allow_nan=False, indent=2))
    else:
        from ko_cpt_callbacks.check.staged_page import plan_lines

        print_lines(plan_lines(judged, path, page_width(), whole=whole))
    unread = [stage for stage in judged.stages if stage.message is not None]
    for stage in unread:
        typer.echo(f"ko-cpt check: stage {printable(f'{stage.planned.name}: {stage.message}')}", err=True)
    failed = _tell_failed(judged.findings)
    if unread or failed:
        raise typer.Exit(_UNREADABLE)
    if fail_on is not None and any(_reaches(finding.severity, fail_on) for _, finding in judged.findings):
        raise typer.Exit(_FAILED)


def _tell_failed(findings: Iterable[tuple[str, Finding]]) -> bool:
    """Name the rules that failed on stderr, each with its stage; whether there are any."""
    failed = [(stage, finding) for stage, finding in findings if finding.code == RuleFailed().code]
    for stage, finding in failed:
        where = f"stage {stage}: " if stage else ""
        rule, error = finding.values["rule"], finding.values["error"]
        text = printable(f"{where}rule {rule} failed at step {finding.step}: {error}")
        typer.echo(f"ko-cpt check: {text}", err=True)
    return bool(failed)


def _baseline(name: str) -> Baseline:
    from ko_cpt_callbacks.compare.registry import find_baseline  # pydantic and YAML: only for who compares

    if not name:
        raise ConfigurationError("--baseline: found an empty text, expected an id; is a variable unset?")
    return find_baseline(name)


def _judge(
    path: str,
    targets: Sequence[str],
    task: str | None,
    baseline: Baseline | None,
    retention: Sequence[str],
    limits: Limits,
    language: str | None,
) -> Judgement:
    if not path:
        raise ConfigurationError("RUN: found an empty text, expected a path; is a variable unset?")
    asked_of(None, targets=targets, retention=retention)  # a mistake of the command line is told before one of the run
    run = read_run(path)
    told = run.run_file()
    try:
        said = None if told is None else read_recorded_run(told)
        asked = asked_of(
            said, task=task, targets=targets, baseline=baseline, retention=retention, limits=limits, language=language
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"{told}: {error}") from None
    return judge_run(run, asked, running=run.source is Source.ROWS and is_written(run.path.parent))


def _one_of(option: str, value: str | None, known: Sequence[str]) -> None:
    if value is None or value in known:
        return
    near = difflib.get_close_matches(value, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigurationError(f"{option}: found {value!r}, expected one of {', '.join(known)}{hint}")


def _reaches(severity: Severity, threshold: str) -> bool:
    return _SEVERITIES.index(severity.value) >= _SEVERITIES.index(threshold)
