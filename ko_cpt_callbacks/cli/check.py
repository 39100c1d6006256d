"""``ko-cpt check RUN…``: the verdict on finished or running trainings, from what they left behind.

Exit status: 0 judged, 1 judged and a finding reaches ``--fail-on``, 2 a run, or a stage of one, could not be read (one
line each on stderr; the others are judged all the same), or a rule failed.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from ko_cpt_callbacks.check.asked import CheckOptions
from ko_cpt_callbacks.check.judgement import Judgement
from ko_cpt_callbacks.check.page import page_lines
from ko_cpt_callbacks.check.runs import RunRow, judge_path, rows_of, run_paths
from ko_cpt_callbacks.check.staged import PlanJudgement
from ko_cpt_callbacks.check.terminal import (
    FAMILY,
    contradictory,
    guarded,
    one_of,
    page_width,
    print_json,
    print_lines,
    terminal_width,
)
from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.errors import ConfigurationError, KoCPTError, UnreadableRunError, refuse_empty
from ko_cpt_callbacks.forecast.family import FamilyRun
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, LANGUAGE_VARIABLE, LANGUAGES, catalogue, language_of
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.rules.note.note import RuleFailed
from ko_cpt_callbacks.rules.registry import known_limits
from ko_cpt_callbacks.run.facts import RunState
from ko_cpt_callbacks.run.finding import SEVERITIES, Finding
from ko_cpt_callbacks.watch.argument import read_limits
from ko_cpt_callbacks.watch.spec import TASKS
from ko_cpt_callbacks.workers import WorkerEndedError, Workers, usable_cores

__all__ = ["check"]

_FAILED: Final = 1
_UNREADABLE: Final = 2
_FORMAT: Final = 1
_FORMATS: Final = ("text", "json", "md", "csv", "github")
_WATCH_SECONDS: Final = 5.0
"""Between two looks at a run. Chosen, not measured."""
_A_PROCESS: Final = 32
"""Runs for which another process is started. Chosen, not measured: its start takes as long as ten runs of 400 rows."""
_COMMAND: Final = "ko-cpt"
_MOST_LOST: Final = 12
"""Looks in a row at which a watched run may not be readable: a file that is being written, a checkpoint that is being
replaced. Chosen, not measured: a minute."""
_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
"""Where GitHub Actions names the file whose Markdown it shows with a job."""

Judged: TypeAlias = Judgement | PlanJudgement | KoCPTError


def check(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Run folders (output_dir, or staged run), checkpoints, trainer_state.json files, patterns, or folders "
            "with runs in them.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="|".join(_FORMATS), help="Default: text. github: annotations, a job summary."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    whole: Annotated[
        bool, typer.Option("--all", help="Every finding and rule, what was not checked and why, advice in full.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the losses too, as a .svg or .png.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again as the run grows, until it ends.")] = False,
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
    family: Annotated[list[str] | None, FAMILY] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="A limit of a rule: loss-spike.most=3 (ko-cpt explain CODE). Repeatable."),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="|".join(SEVERITIES), help="Exit 1 if a finding is at least this grave."),
    ] = None,
    lang: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(LANGUAGES), help=f"Language of findings; default: {LANGUAGE_VARIABLE}, else run.json's."
        ),
    ] = None,
) -> None:
    """Judge runs: their losses, what is wrong with them, what to do next.

    One run gets a page, several get a table. Exit status: 0 judged, 1 a finding reaches --fail-on, 2 a run, a stage of
    it, or an option cannot be used, or a rule failed.
    """

    def action() -> None:
        for option, value, known in (("--format", form, _FORMATS), ("--task", task, TASKS),
                                     ("--fail-on", fail_on, SEVERITIES)):  # fmt: skip
            one_of(option, value, known)
        if as_json and form not in (None, "json"):
            raise contradictory("--json", f"--format {form}", "json")
        chosen = "json" if as_json else form or "text"
        shown = "--json" if as_json else f"--format {chosen}"
        if watch and chosen != "text":
            raise contradictory("--watch", shown, "text")
        if whole and chosen not in ("text", "json"):
            raise contradictory("--all", shown, "text or json")
        options = CheckOptions(
            target or (),
            task,
            None if baseline is None else _baseline(baseline),
            retention or (),
            read_limits("--rule", rule or (), known_limits()),
            language_of("--lang", lang, os.environ),
            _family(family) if family else (),
        )
        paths = run_paths(runs)
        if plot is not None:
            from ko_cpt_callbacks.report.plot import checked_plot

            checked_plot(plot, len(paths))
        judged: dict[str, Judged] = {}
        for judged in _looks(paths, options, watch=watch):
            _show(judged, chosen, options.language, whole=whole)
            if plot is not None:
                _draw(judged, plot, options.language)
        raise typer.Exit(_status(judged, fail_on))

    guarded("check", action)


def _looks(paths: Sequence[str], options: CheckOptions, *, watch: bool) -> Iterator[dict[str, Judged]]:
    """What came of every run, once or until they end; one that cannot be read for a while stands as it was."""
    judged: dict[str, Judged] = {}
    lost = dict.fromkeys(paths, 0)
    while True:
        for path, found in zip(paths, _all_judged(paths, options, together=not watch), strict=True):
            before = judged.get(path)
            gone = isinstance(found, KoCPTError) and before is not None and not isinstance(before, KoCPTError)
            lost[path] = lost[path] + 1 if gone else 0
            if 0 < lost[path] <= _MOST_LOST:
                typer.echo(f"ko-cpt check: {printable(path)}: cannot be read now; the last look stands", err=True)
                continue
            if isinstance(found, KoCPTError) and len(paths) == 1:
                raise found
            judged[path] = found
        yield judged
        if not watch or not _wait(judged):
            return


def _all_judged(paths: Sequence[str], options: CheckOptions, *, together: bool) -> Iterator[Judged]:
    """What came of every run; many are judged by several processes."""
    judge = _Judge(options)
    count = min(usable_cores(), len(paths) // _A_PROCESS) if together and _is_command() else 1
    if _is_command():
        gc.freeze()  # what is imported stays: not looking through it again saves a seventh of a large table's time
    if count > 1:
        with suppress(OSError, WorkerEndedError), Workers(count) as workers:  # no processes here, or one was killed
            asked = [workers.submit(_COMMAND, judge, path) for path in paths]
            found = [_outcome(one.result) for one in asked]
            yield from found
            return
    yield from (_outcome(partial(judge.make, path)) for path in paths)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges runs, in a process of its own too."""

    options: CheckOptions

    def make(self, path: str) -> Judgement | PlanJudgement:
        """What came of a run."""
        return judge_path(path, self.options)


def _outcome(judge: Callable[[], Judged]) -> Judged:
    """What came of a run: one that cannot be read is a row of the table, where there are several."""
    try:
        return judge()
    except UnreadableRunError as error:
        return error


def _is_command() -> bool:
    """Whether ``ko-cpt`` is what runs: a process that starts here runs the main module again, a user's script too."""
    return Path(getattr(sys.modules["__main__"], "__file__", None) or "").stem == _COMMAND


def _show(judged: dict[str, Judged], form: str, language: str | None, *, whole: bool) -> None:
    (path, first), *more = judged.items()
    if not more and form == "json":
        assert not isinstance(first, KoCPTError)
        print_json(first.as_dict(path))
    elif not more and form == "text":
        if isinstance(first, Judgement):
            print_lines(page_lines(first, path, page_width(), whole=whole))
        elif isinstance(first, PlanJudgement):
            from ko_cpt_callbacks.check.staged_page import plan_lines

            print_lines(plan_lines(first, path, page_width(), whole=whole))
    else:
        _show_rows([row for path, one in judged.items() for row in rows_of(path, one)], form, language, alone=not more)


def _show_rows(rows: Sequence[RunRow], form: str, language: str | None, *, alone: bool) -> None:
    from ko_cpt_callbacks.check.formats import as_csv, as_github, as_markdown, table_of_runs

    language = language or (rows[0].language if alone else DEFAULT_LANGUAGE)
    if form == "json":
        print_json({"format": _FORMAT, "runs": [row.as_dict() for row in rows]})
    elif form == "text":
        print_lines(table_of_runs(rows, language, page_width(), fold=terminal_width() is not None))
    elif form == "csv":
        typer.echo(as_csv(rows), nl=False)
    else:
        markdown = as_markdown(rows, language, findings=alone)
        if form == "github":
            for line in as_github(rows):
                typer.echo(line)
            summary = os.environ.get(_SUMMARY)
            if summary:
                _append(summary, markdown)
                return
        typer.echo(markdown, nl=False)


def _draw(judged: dict[str, Judged], output: Path, language: str | None) -> None:
    """Draw what could be read; what could not be is named on stderr in the end."""
    from ko_cpt_callbacks.report.plot import write_plot  # only for who wants a picture

    read = [(path, one) for path, one in judged.items() if not isinstance(one, KoCPTError)]
    if read:
        spoken = rows_of(*read[0])[0].language if len(read) == 1 else DEFAULT_LANGUAGE
        write_plot(read, output, catalogue(language or spoken))
        typer.echo(f"ko-cpt check: {printable(str(output))}: written", err=True)


def _append(path: str, text: str) -> None:
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigurationError(f"{_SUMMARY}: {path}: {error.strerror}, expected a file to write to") from None


def _wait(judged: dict[str, Judged]) -> bool:
    """Whether something may still come, once it was waited for."""
    if not any(_may_grow(one) for one in judged.values() if not isinstance(one, KoCPTError)):
        return False
    try:
        time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:
        return False
    typer.echo("\x1b[2J\x1b[H" if sys.stdout.isatty() else "")
    return True


def _may_grow(one: Judgement | PlanJudgement) -> bool:
    """Whether it is not whole; the Trainer's closing row ends a run wherever it stands."""
    if isinstance(one, Judgement) and one.summary.ended:
        return False
    return one.facts.state in (RunState.RUNNING, RunState.UNFINISHED)


def _status(judged: dict[str, Judged], fail_on: str | None) -> int:
    """The worst of all runs; what could not be read, and rules that failed, are named on stderr."""
    complaints = [text for one in judged.values() for text in _complaints(one)]
    for text in complaints:
        typer.echo(f"ko-cpt check: {printable(text)}", err=True)
    if complaints:
        return _UNREADABLE
    found = [finding for one in judged.values() for _, finding in _findings(one)]
    least = len(SEVERITIES) if fail_on is None else SEVERITIES.index(fail_on)
    return _FAILED if any(SEVERITIES.index(finding.severity.value) >= least for finding in found) else 0


def _complaints(judged: Judged) -> Iterator[str]:
    if isinstance(judged, KoCPTError):
        yield str(judged)
        return
    if isinstance(judged, PlanJudgement):
        for stage in judged.stages:
            if stage.message is not None:
                yield f"stage {stage.planned.name}: {stage.message}"
    for stage_name, finding in _findings(judged):
        if finding.code == RuleFailed().code:
            where = f"stage {stage_name}: " if stage_name else ""
            rule, error = finding.values["rule"], finding.values["error"]
            yield f"{where}rule {rule} failed at step {finding.step}: {error}"


def _findings(judged: Judged) -> Sequence[tuple[str, Finding]]:
    if isinstance(judged, PlanJudgement):
        return judged.findings
    return [("", finding) for finding in judged.findings] if isinstance(judged, Judgement) else []


def _baseline(name: str) -> Baseline:
    from ko_cpt_callbacks.compare.registry import find_baseline  # pydantic and YAML: only for who compares

    refuse_empty("--baseline", name, "an id")
    return find_baseline(name)


def _family(named: Sequence[str]) -> tuple[FamilyRun, ...]:
    from ko_cpt_callbacks.compare.own import asked_family  # pydantic and YAML: only for who compares

    return asked_family(named)
