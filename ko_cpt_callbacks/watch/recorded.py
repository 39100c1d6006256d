"""What ``run.json`` records of what was watched, part by part; an error names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ko_cpt_callbacks.errors import UnreadableRunError
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.run.file import clip, name_of
from ko_cpt_callbacks.run.folder import RUN_FORMAT
from ko_cpt_callbacks.watch.stopping import Grace

__all__ = ["FIX", "present", "recorded", "recorded_codes", "recorded_grace", "recorded_limits", "recorded_texts"]

FIX: Final = "move it away to judge the rows with the default rules"


def recorded(run: object, where: str) -> Mapping[str, Any]:
    """What a ``run.json`` has under ``watch``.

    Args:
        run: The file's JSON.
        where: The file, for errors.

    Raises:
        UnreadableRunError: If it has nothing, or is of another version.
    """
    if not isinstance(run, dict):
        raise UnreadableRunError(f"{where}: found {name_of(run)}, expected a run.json (an object); {FIX}")
    number = run.get("format")
    if number != RUN_FORMAT or isinstance(number, bool):
        expected = f"expected {RUN_FORMAT}; a newer ko-cpt reads it, or {FIX}"
        raise UnreadableRunError(f'{where}: "format" is {clip(number)}, {expected}')
    watch = run.get("watch", run.get("told"))  # "told" before 0.1.0
    if not isinstance(watch, dict):
        raise UnreadableRunError(f'{where}: found {name_of(watch)} under "watch", expected an object; {FIX}')
    return watch


def present(codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The codes by their present names; one that has none is left out."""
    if codes is None:
        return None
    return tuple(now for now in dict.fromkeys(retired().get(one, one) for one in codes) if now)


def recorded_limits(where: str, value: object) -> dict[str, dict[str, float]]:
    """Limits by code and name; none where the file is of a version that has none."""
    if value is None:
        return {}
    found: dict[str, dict[str, float]] = {}
    for code, limits in value.items() if isinstance(value, dict) else [(None, None)]:
        if not isinstance(code, str) or not isinstance(limits, dict):
            expected = "expected limits by code and name"
            raise UnreadableRunError(f'{where}: "watch.limits" is {clip(value)}, {expected}; {FIX}')
        for name, number in limits.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise UnreadableRunError(
                    f'{where}: "watch.limits.{code}.{name}" is {clip(number)}, expected a number; {FIX}'
                )
        found[retired().get(code, code)] = limits
    return found


def recorded_texts(where: str, watch: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    """A list of texts under ``watch``; None where there is none."""
    value = watch.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UnreadableRunError(f'{where}: "watch.{name}" is {clip(value)}, expected a list of texts; {FIX}')
    return tuple(value)


def recorded_codes(value: object) -> frozenset[str]:
    """What stopped the run where it asked to; what is none stops nothing, and no verdict depends on it."""
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def recorded_grace(value: object) -> Grace:
    """The same of what must have happened before."""
    counts = [value.get(name) if isinstance(value, dict) else None for name in ("steps", "tokens")]
    steps, tokens = (count if isinstance(count, int) and not isinstance(count, bool) else 0 for count in counts)
    return Grace(max(steps, 0), max(tokens, 0))
