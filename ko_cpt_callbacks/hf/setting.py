"""The callback's arguments, checked when it is built: a mistake shows before the first step, not at the last."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ko_cpt_callbacks.core.message import CODES, DEFAULT_LANGUAGE, MESSAGES
from ko_cpt_callbacks.core.rules import ALL_RULES, Rule
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.outputs.output import Output

TASKS: Final = ("cpt", "sft", "other")
OUTPUTS: Final = ("files", "console")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the callback was told, checked.

    Attributes:
        task: ``cpt``, ``sft`` or ``other``.
        retention: Names of the evaluation sets that stand for what must not be forgotten.
        stop_on: Finding codes that stop the run when a finding of that code asks to.
        grace: Optimizer steps before which nothing stops; 0 for none.
        rules: The rules to ask.
        outputs: Names of built-in outputs, and outputs.
        language: Language of sentences.
    """

    task: str
    retention: tuple[str, ...]
    stop_on: frozenset[str]
    grace: int
    rules: tuple[Rule, ...]
    outputs: tuple[str | Output, ...]
    language: str

    def told(self) -> dict[str, Any]:
        """The settings as ``run.json`` records them."""
        return {
            "task": self.task,
            "retention": list(self.retention),
            "stop_on": sorted(self.stop_on),
            "grace_steps": self.grace,
            "rules": [rule.code for rule in self.rules],
            "outputs": [item if isinstance(item, str) else item.name for item in self.outputs],
            "language": self.language,
        }


def check_settings(
    *,
    task: str,
    retention: Sequence[str],
    stop_on: Iterable[str],
    grace: int | None,
    rules: Iterable[str] | None,
    outputs: Iterable[str | Output] | None,
    language: str | None,
) -> Settings:
    """Settings from the callback's arguments.

    Raises:
        ConfigurationError: For a value that cannot be used; names the argument, the value, and what is expected.
    """
    codes = [rule.code for rule in ALL_RULES]
    languages = sorted({name for column in MESSAGES.values() for name in column})
    chosen = codes if rules is None else list(_texts("rules", rules))
    for code in chosen:
        _one_of("rules", code, codes)
    wanted = tuple(_texts("stop_on", stop_on))
    for code in wanted:
        _one_of("stop_on", code, sorted(CODES))
    if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int) or grace < 0):
        raise ConfigurationError(f"KoCPTCallback(grace={grace!r}): expected a number of steps, 0 or more, or None")
    _one_of("task", task, TASKS)
    speech = DEFAULT_LANGUAGE if language is None else language
    _one_of("language", speech, languages)
    places: list[str | Output] = list(OUTPUTS if outputs is None else outputs)
    for place in places:
        if not isinstance(place, Output):
            _one_of("outputs", place, OUTPUTS)
    return Settings(
        task=task,
        retention=tuple(_texts("retention", retention)),
        stop_on=frozenset(wanted),
        grace=0 if grace is None else grace,
        rules=tuple(rule for rule in ALL_RULES if rule.code in chosen),
        outputs=tuple(places),
        language=speech,
    )


def refuse_unready(**arguments: Any) -> None:
    """Arguments that this version knows and cannot serve yet are refused, never silently ignored.

    Raises:
        ConfigurationError: If one of them is given.
    """
    for name, value in arguments.items():
        if value is not None and value != ():
            raise ConfigurationError(
                f"KoCPTCallback({name}={value!r}): this version does not act on {name} yet; leave it out"
            )


def _texts(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise ConfigurationError(
            f"KoCPTCallback({name}={values!r}): expected several texts, found one; write {name}=({values!r},)"
        )
    found = list(values)
    for value in found:
        if not isinstance(value, str):
            raise ConfigurationError(f"KoCPTCallback({name}=…): expected texts, found {value!r}")
    return found


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(f"KoCPTCallback({name}=…): found {value!r}, expected one of {', '.join(known)}.{hint}")
