"""``ko-cpt checkpoints RUN``: which checkpoints are as good as the best, which are lost, which can go.

Exit status: 0 shown, or freed; 1 something that was to be freed is not; 2 an argument or a run cannot be used, or
nothing may be freed (on stderr).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.asked import asked_by
from ko_cpt_callbacks.check.terminal import (
    LANGUAGE,
    ONE_OBJECT,
    guarded,
    page_width,
    print_folded,
    print_json,
    terminal_width,
)
from ko_cpt_callbacks.errors import ConfigurationError, refuse_empty
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue, language_of
from ko_cpt_callbacks.run.file import STATE_FILE
from ko_cpt_callbacks.run.reading import read_plan, read_run

if TYPE_CHECKING:  # numpy: only for who asks
    from ko_cpt_callbacks.checkpoint.account import Account

__all__ = ["checkpoints"]

_FORMAT: Final = 1
_NOT_FREED: Final = 1


def checkpoints(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder (output_dir), or a staged run.")],
    split: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="The evaluation set; default: the first not kept from forgetting."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="List the paths that can go; deletes nothing without --yes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --prune: delete them.")] = False,
    as_json: Annotated[bool, ONE_OBJECT] = False,
    lang: Annotated[str | None, LANGUAGE] = None,
) -> None:
    """Say which checkpoints are as good as the best, which are lost, and which can go.

    Exit status: 0 shown, or freed; 1 something was not freed; 2 an argument or run cannot be used.
    """
    guarded("checkpoints", lambda: _checkpoints(run, split, lang, prune=prune, yes=yes, as_json=as_json))


def _checkpoints(run: str, split: str | None, lang: str | None, *, prune: bool, yes: bool, as_json: bool) -> None:
    from ko_cpt_callbacks.checkpoint.page import account_lines

    language = language_of("--lang", lang, os.environ) or DEFAULT_LANGUAGE
    if yes and not prune:
        raise ConfigurationError("--yes: found without --prune, expected both")
    refuse_empty("RUN", run, "a path")
    if os.path.isfile(run):
        folder = Path(os.path.abspath(run)).parent
        if folder.name == keys.FOLDER or folder.name.startswith("checkpoint-"):
            folder = folder.parent
        hint = f"; did you mean {folder}?" if os.path.basename(run) in (STATE_FILE, keys.ROWS_FILE) else ""
        raise ConfigurationError(f"RUN: found the file {run}, expected the folder of a run{hint}")
    plan = read_plan(run)
    if plan is not None and prune:
        stages = ", ".join(str(stage.path) for stage in plan.stages)
        raise ConfigurationError(f"--prune: found the staged run {run}, expected one of its stages: {stages}")
    paths = [run] if plan is None else [str(stage.path) for stage in plan.stages]
    accounts = [(path, _account(path, split)) for path in paths]
    reported: list[dict[str, Any]] = [{"run": path, **account.as_dict()} for path, account in accounts]
    failed = False
    if prune:
        reported[0]["prune"], failed = _prune(accounts[0][1], language, yes=yes, quiet=as_json)
    elif not as_json:
        for path, account in accounts:
            lines = account_lines(account, language, page_width(), fold=terminal_width() is not None)
            print_folded([*([path] if plan else []), *lines])
    if as_json:
        print_json({"format": _FORMAT, "runs": reported})
    if failed:
        raise typer.Exit(_NOT_FREED)


def _account(path: str, split: str | None) -> Account:
    from ko_cpt_callbacks.checkpoint.account import account_of

    run = read_run(path)
    return account_of(run, split=split, retention=asked_by(run).spec.retention)


def _prune(account: Account, language: str, *, yes: bool, quiet: bool) -> tuple[dict[str, Any], bool]:
    """List what can go, or delete it; whether something that was to go is still there."""
    from ko_cpt_callbacks.checkpoint.disk import checkpoint_name
    from ko_cpt_callbacks.checkpoint.page import size_text
    from ko_cpt_callbacks.checkpoint.prune import free, plan_of

    said, plan = catalogue(language), plan_of(account, time.time())

    def say(name: str, **values: Any) -> None:
        if not quiet:
            print_folded([said.line_of(name, **values)])

    for step, why in plan.kept:
        say("checkpoint-kept", path=str(plan.folder / checkpoint_name(step)), why=said.line_of(f"checkpoint-why-{why}"))
    if not yes:
        for one in plan.free:
            say("checkpoint-would-free", path=str(plan.folder / checkpoint_name(one.step)), size=size_text(one.size))
        say("checkpoints-dry", count=len(plan.free), size=size_text(plan.size))
        return {**plan.as_dict(), "freed": []}, False
    freed, size = [], 0
    for one, problem in free(plan):
        path = str(plan.folder / checkpoint_name(one.step))
        if problem:
            why = said.line_of("checkpoint-why-changed") if problem == "changed" else problem
            say("checkpoint-not-freed", path=path, why=why)
        else:
            say("checkpoint-freed", path=path, size=size_text(one.size))
            freed.append(path)
            size += one.size
    say("checkpoints-done", count=len(freed), size=size_text(size))
    return {**plan.as_dict(), "freed": freed}, len(freed) < len(plan.free)
