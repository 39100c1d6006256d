"""The Trainer's evaluation sets by the names of their rows, and targets that name none of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.core.target import Target
from ko_cpt_callbacks.readers.rows import eval_prefixes

__all__ = ["eval_sets", "target_problem", "unknown_set"]


def eval_sets(trainer: Any) -> dict[str, Any]:
    """The evaluation sets of a Trainer by the prefix of their rows (``eval``, ``eval_ko``); empty where it has none."""
    given = getattr(trainer, "eval_dataset", None)
    if given is None:
        return {}
    parts = given if isinstance(given, dict) else {"": given}
    return {keys.key("eval", str(name)) if name else "eval": part for name, part in parts.items()}


def unknown_set(targets: Iterable[Target], names: Collection[str]) -> str | None:
    """What is wrong with the first target that names an evaluation set which does not exist; None where all do.

    Args:
        targets: What the run must reach.
        names: Prefixes of the sets that exist; where there are none nothing is known, and nothing is wrong.

    >>> unknown_set([Target("ppl", 20, "eval_kr")], ["eval_ko", "eval_en"]).partition("; ")[2]
    "name one of them. Did you mean 'eval_ko_ppl<20.0@end'?"
    """
    if not names:
        return None
    for target in targets:
        split, known = target.split, sorted(names)
        whole = keys.key("eval", split)  # what is meant where the prefix was forgotten
        # Rows under other prefixes ("test") come from calls of evaluate() that nobody can know of yet.
        named = split == "eval" or split.startswith("eval_") or whole in names
        if split in names or not named:
            continue
        near = difflib.get_close_matches(whole if whole in names else split, known, 1)
        meant = near[0] if near else known[0] if len(known) == 1 else None
        hint = "" if meant is None else f" Did you mean {str(replace(target, split=meant))!r}?"
        return (
            f"target {str(target)!r}: found the evaluation set {split!r}, expected one of the Trainer's "
            f"(eval_dataset): {', '.join(known)}; name one of them.{hint}"
        )
    return None


def target_problem(
    targets: Iterable[Target],
    trainer: Any,
    log_history: Iterable[Mapping[str, Any]],
    on_error: Callable[[Exception], None],
) -> str:
    """What :func:`unknown_set` says on this process; empty where nothing is wrong.

    Args:
        targets: What the run must reach.
        trainer: The Trainer; None where it was not found, and then nothing is wrong.
        log_history: Rows restored by the Trainer: their sets existed.
        on_error: Told of an exception of ours.
    """
    try:
        sets = eval_sets(trainer)
        logged = {prefix for row in log_history for prefix in eval_prefixes(row)}
        return unknown_set(targets, {*sets, *logged} if sets else ()) or ""
    except Exception as error:  # the other checks, and the others ranks', go on
        on_error(error)
        return ""
