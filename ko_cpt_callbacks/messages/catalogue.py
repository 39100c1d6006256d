"""Every sentence of a language, read once from its file in this folder: ``en.toml``, ``ko.toml``.

A file has these tables:

* ``[codes.CODE]``: ``meaning``, ``decided``, ``action`` and, where the action needs more words, ``more``; then
  ``short`` and ``detail`` of its finding, or ``[codes.CODE.variants.VARIANT]`` with a ``short`` and ``detail`` each. A
  variant may have an ``action`` of its own, and a ``meaning`` with ``decided`` where it is explained apart;
* ``[doubts.NAME]``: ``short`` and ``detail`` of what speaks against a target;
* ``[absences.NAME]``: the same of evidence that a run lacks;
* ``[page]``: lines of the pages in a terminal, by key;
* ``[reasons]`` of a comparison, ``[labels]`` the same in a few words, ``[notes]`` inside a detail, ``[deltas]`` why a
  stage's difference is no better than it is, ``[words]`` that values are shown by: by code or key;
* ``[report]``: the words of the page that ``ko-cpt report`` writes, by key;
* ``[retired]``: codes of earlier versions, each with the code to write now, or nothing;
* ``[foreign]``: ``short``, ``detail`` and ``action`` of a finding whose rule's package is not installed here.

Other packages add ``[codes.CODE]`` of their own (`ko_cpt_callbacks.plugin`): a folder with such files, of which
``en.toml`` must be there; a language without a file has the English sentences.

A line of a text that has several is a fact. Templates are those of `ko_cpt_callbacks.messages.formatter`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from ko_cpt_callbacks.errors import ConfigurationError, near_miss
from ko_cpt_callbacks.messages.formatter import Shown, fitted
from ko_cpt_callbacks.plugin import MESSAGES, Plugin, folder_file, plugins

__all__ = [
    "DEFAULT_LANGUAGE", "LANGUAGES", "LANGUAGE_VARIABLE", "NOTE", "Catalogue", "Explanation", "Wording", "catalogue",
    "codes", "language_of", "read_catalogue", "retired",
]  # fmt: skip

DEFAULT_LANGUAGE: Final = "en"
LANGUAGES: Final = ("en", "ko")
LANGUAGE_VARIABLE: Final = "KO_CPT_LANG"
"""Environment variable that names the language where no argument does."""

NOTE: Final = "note"
"""The code whose findings differ by their reason."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What ``ko-cpt explain CODE`` shows; a line of a text is a fact.

    Args:
        meaning: What the code means.
        decided: How it is decided.
        action: What to do, in a few words.
        more: What to do, in full; empty where the action says it all.
        reasons: The same of each reason, where the code's findings differ by theirs.
    """

    meaning: str
    decided: str
    action: str
    more: str = ""
    reasons: Mapping[str, Explanation] = field(default_factory=dict)

    @property
    def advice(self) -> str:
        """What to do, as fully as it is known; a line is a fact."""
        return self.more or self.action

    @property
    def advice_line(self) -> str:
        """The same on one line."""
        return self.advice.replace("\n", " ")


@dataclass(frozen=True, slots=True)
class Wording:
    """Templates of one finding, or of one doubt about a target.

    Args:
        short: What happened, with its numbers; a few words.
        detail: The same in full.
        action: What to do, in a few words.
    """

    short: str
    detail: str
    action: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The sentences of one language: the tables of its file, ``codes`` being explanations and wordings of findings.

    A wording is found by code and variant; the variant is empty where the code has one wording. ``plugins`` are the
    codes whose sentences are another package's.
    """

    language: str
    explanations: Mapping[str, Explanation]
    wordings: Mapping[tuple[str, str], Wording]
    doubts: Mapping[str, Wording]
    absences: Mapping[str, Wording]
    page: Mapping[str, str]
    reasons: Mapping[str, str]
    labels: Mapping[str, str]
    notes: Mapping[str, str]
    deltas: Mapping[str, str]
    words: Mapping[str, str]
    report: Mapping[str, str]
    retired: Mapping[str, str]
    foreign: Wording
    plugins: frozenset[str] = frozenset()

    def wording(self, code: str, variant: str) -> Wording:
        """The templates of a finding; raises `KeyError`, with code, variant and language, where there are none."""
        found = self.wordings.get((code, variant))
        if found is None:
            raise KeyError(f"no sentence for code {code!r}, variant {variant!r}, language {self.language!r}")
        return found

    def explanation(self, code: str, variant: str = "") -> Explanation:
        """What a code means, how it is decided and what to do; of a variant where that is explained apart."""
        found = self.explanations[code]
        return found.reasons.get(variant, found)

    def action(self, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """What to do, in a few words; raises as `line` does."""
        wording, values = self._fitting(code, variant, values)
        return self._shown().render(wording.action, values)

    def short(self, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """What happened, with its numbers, in a few words; raises as `line` does."""
        wording, values = self._fitting(code, variant, values)
        return self._shown().render(wording.short, values)

    def detail(self, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """What happened, in full sentences; raises as `line` does."""
        wording, values = self._fitting(code, variant, values)
        return self._shown().render(wording.detail, values)

    def line(self, severity: str, code: str, variant: str, values: Mapping[str, Any]) -> str:
        """A finding on one line: ``[SEVERITY] CODE SET@STEP: what happened → what to do``.

        Its step and set stand under ``step`` and ``split`` of the values.

        Raises:
            KeyError: If a code of this package has no such variant, or ``values`` lacks a number.
        """
        wording, values = self._fitting(code, variant, values)
        split = "" if values.get("split") is None else "{split}"
        step = "" if values.get("step") is None else "@{step}"
        where = f" {split}{step}" if split or step else ""
        return fitted(self._shown(), f"[{severity}] {code}{where}", wording.short, wording.action, values)

    def _fitting(self, code: str, variant: str, values: Mapping[str, Any]) -> tuple[Wording, Mapping[str, Any]]:
        """The templates of a finding and the values that they show; of another package's one, whatever can be shown."""
        if code in self.explanations and code not in self.plugins:
            return self.wording(code, variant), values
        try:
            wording = self.wordings[code, variant]
            for template in (wording.short, wording.detail, wording.action):
                self._shown().render(template, values)
        except Exception:  # not installed here, or its sentences and its numbers are not of the same version
            shown = {name: value for name, value in values.items() if name not in ("step", "split")}
            listed = ", ".join(f"{name} = {value}" for name, value in shown.items()) or self.words["none"]
            return self.foreign, {**values, "code": code, "values": listed}
        return wording, values

    def doubt(self, name: str, values: Mapping[str, Any]) -> tuple[str, str]:
        """What speaks against a target: in a few words, and in full; raises as `line` does."""
        return self._both(self.doubts[name], values)

    def absence(self, name: str, values: Mapping[str, Any]) -> tuple[str, str]:
        """What evidence is missing: what was not checked for it in a few words, and in full; raises as `line` does."""
        return self._both(self.absences[name], values)

    def line_of(self, name: str, /, **values: Any) -> str:
        """A line of a page; raises as `line` does."""
        return self._shown().render(self.page[name], values)

    def _both(self, wording: Wording, values: Mapping[str, Any]) -> tuple[str, str]:
        return self._shown().render(wording.short, values), self._shown().render(wording.detail, values)

    def reason(self, reason: Mapping[str, Any]) -> str:
        """The sentence of a comparison's reason: its code under ``code``, and its values; raises as `line` does."""
        return self._shown().render(self.reasons[reason["code"]], reason)

    def label(self, reason: Mapping[str, Any]) -> str:
        """The same in a few words; raises as `line` does."""
        return self._shown().render(self.labels[reason["code"]], reason)

    def say(self, key: str, **values: Any) -> str:
        """Words of the report page, with their values; raises as `line` does."""
        return self._shown().render(self.report[key], values)

    def _shown(self) -> Shown:
        return Shown(self.words, self.notes, self.reasons, self.labels)


@cache
def catalogue(language: str = DEFAULT_LANGUAGE) -> Catalogue:
    """The sentences of a language, read from the package's own file.

    Raises:
        KeyError: If there is no such language.
    """
    if language not in LANGUAGES:
        raise KeyError(f"found language {language!r}, {_expected(language)}")
    own = read_catalogue(language, tomllib.loads(files(__package__).joinpath(f"{language}.toml").read_text("utf-8")))
    explanations, wordings = dict(own.explanations), dict(own.wordings)
    for plugin in _of_plugins():
        tables = plugin.value.get(language, plugin.value[DEFAULT_LANGUAGE])
        for code, table in tables.items():
            explanations[code], of_code = _code(code, table)
            wordings.update(of_code)
    added = frozenset(explanations.keys() - own.explanations.keys())
    return replace(own, explanations=explanations, wordings=wordings, plugins=added)


@cache
def _of_plugins() -> tuple[Plugin[Mapping[str, Mapping[str, Any]]], ...]:
    """The sentences of other packages: by language, the tables by code."""
    english = tomllib.loads(files(__package__).joinpath(f"{DEFAULT_LANGUAGE}.toml").read_text("utf-8"))
    taken = {*english["codes"], *english["retired"]}

    def read(_: str, folder: Any) -> Mapping[str, Mapping[str, Any]]:
        found = {DEFAULT_LANGUAGE: _plugin_codes(folder_file(folder, f"{DEFAULT_LANGUAGE}.toml"), taken)}
        for language in LANGUAGES:
            path = Path(str(files(folder).joinpath(f"{language}.toml")))
            if language != DEFAULT_LANGUAGE and path.is_file():
                # What only another language has is no code, and what it lacks is reported in English.
                translated = _plugin_codes(path, taken)
                found[language] = {**found[DEFAULT_LANGUAGE], **translated}
        taken.update(found[DEFAULT_LANGUAGE])
        return found

    return plugins(MESSAGES, (), read)


def _plugin_codes(path: Path, taken: Collection[str]) -> Mapping[str, Any]:
    """The tables of another package's file, by code, if a catalogue can be made of them."""
    tables = tomllib.loads(path.read_text("utf-8"))
    codes: Mapping[str, Any] = tables.get("codes", {})
    if set(tables) != {"codes"} or not codes:
        raise ConfigurationError(f"{path}: found {', '.join(tables) or 'nothing'}, expected [codes.CODE] alone")
    for code, table in codes.items():
        if code in taken:
            raise ConfigurationError(f"{path}: found sentences of {code!r}, which is taken, expected another code")
        _code(code, table)
    return codes


def codes() -> tuple[str, ...]:
    """Every finding code that has sentences, in the order of the alphabet."""
    return tuple(sorted(catalogue().explanations))


def retired() -> Mapping[str, str]:
    """Codes of earlier versions, each with the code to write now; empty where it is no finding any more."""
    return catalogue().retired


def language_of(where: str, named: str | None, environment: Mapping[str, str]) -> str | None:
    """The language that an argument names, else the environment; None where neither does.

    Args:
        where: The argument, for the error.
        named: What was given for it; None: nothing.
        environment: Environment variables.

    Raises:
        ConfigurationError: If there is no such language.

    >>> language_of("--lang", None, {"KO_CPT_LANG": "ko"}), language_of("--lang", "en", {"KO_CPT_LANG": "ko"})
    ('ko', 'en')
    """
    if named is None:
        # An empty variable is one that is not set.
        where, named = LANGUAGE_VARIABLE, environment.get(LANGUAGE_VARIABLE) or None
    if named is not None and named not in LANGUAGES:
        raise ConfigurationError(f"{where}: found {named!r}, {_expected(named)}")
    return named


def _expected(language: str) -> str:
    near = near_miss(str(language).lower()[:2], LANGUAGES, 0.5)
    return f"expected one of {', '.join(LANGUAGES)}" + ("" if near is None else f"; did you mean {near}?")


def read_catalogue(language: str, tables: Mapping[str, Any]) -> Catalogue:
    """The sentences of a language from its tables.

    Args:
        language: Its code.
        tables: As the file of the language has them.

    Raises:
        KeyError: If a table or a text is missing.
        TypeError: If a table has a text that is not known.
    """
    explanations: dict[str, Explanation] = {}
    wordings: dict[tuple[str, str], Wording] = {}
    for code, table in tables["codes"].items():
        explanations[code], of_code = _code(code, table)
        wordings.update(of_code)
    lists = ("reasons", "labels", "notes", "deltas", "words", "retired", "page", "report")
    listed: dict[str, Any] = {name: _one_line_each(tables[name]) for name in lists}
    return Catalogue(
        language,
        explanations,
        wordings,
        doubts={name: Wording(**_one_line_each(of)) for name, of in tables["doubts"].items()},
        absences={name: Wording(**_one_line_each(of)) for name, of in tables["absences"].items()},
        foreign=Wording(**_one_line_each(tables["foreign"])),
        **listed,
    )


def _code(code: str, table: Mapping[str, Any]) -> tuple[Explanation, dict[tuple[str, str], Wording]]:
    """What a code means, and the templates of its findings."""
    wordings: dict[tuple[str, str], Wording] = {}
    texts: dict[str, Any] = _stripped({name: text for name, text in table.items() if name != "variants"})
    own = _one_line_each({name: texts.pop(name) for name in ("short", "detail") if name in texts})
    if own:
        wordings[code, ""] = Wording(**own, action=texts["action"])
    reasons: dict[str, Explanation] = {}
    for variant, of_variant in table.get("variants", {}).items():
        of: dict[str, Any] = {"action": texts["action"]} | _stripped(of_variant)
        short, detail = (of.pop(name).replace("\n", " ") for name in ("short", "detail"))
        wordings[code, variant] = Wording(short, detail, of["action"])
        if "meaning" in of:
            reasons[variant] = Explanation(**of)
    return Explanation(**texts, reasons=reasons), wordings


def _one_line_each(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text.replace("\n", " ") for name, text in _stripped(texts).items()}


def _stripped(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip("\n") for name, text in texts.items()}
