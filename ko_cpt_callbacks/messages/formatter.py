"""A template with its values: how numbers, names and lists are shown. The same in every language.

==================  ======================================  =================
``{x:loss}``        three decimals (also bits per byte)     ``3.078``
``{x:ppl}``         three significant digits                ``21.7``
``{x:percent}``     a fraction, three significant digits    ``-31.5 %``
``{x:n}``           thousands separators                    ``12,000``
``{x:n row|rows}``  a count with its word                   ``1 row``
``{x:signed}``      a difference, three decimals            ``+0.011``
``{x:names}``       a list of names                         ``eval, test``
``{x:word}``        one of the catalogue's words            ``bits per byte``
``{x:unit}``        a unit in its short form                ``bits/byte``
``{x:notes}``       a list of notes, each its sentence
``{x:reasons}``     a list of reasons, each its sentence
``{x:labels}``      the first of them, in a few words       ``no bytes``
``{x}``             as it is                                ``eval_ko``
``[은/는]``         the particle that fits what it follows  ``는``
==================  ======================================  =================

Which form of a Korean particle fits depends on the sound before it, so it is chosen once the values are filled in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from string import Formatter
from typing import Any, Final

from ko_cpt_callbacks.messages.terminal import CUT, columns, printable, shortened, shortened_list

__all__ = [
    "WIDTH", "Shown", "fitted", "loss_text", "perplexity_text", "placeholders", "signed_text", "with_particles",
]  # fmt: skip

WIDTH: Final = 140
"""Terminal columns of a finding's line, at most."""

_NAMES_OF_NUMBERS: Final = {"NaN": "nan", "Infinity": "infinite", "-Infinity": "minus-infinite"}
_LONG: Final = 1e6
_LONGER: Final = 1e15
_COMPACT: Final = 1e5
# Columns for each name, and whether numbers become short too: tried in this order until the line fits.
_ROOMS: Final = ((None, False), (60, False), (40, False), (28, False), (20, False), (14, False), (14, True), (8, True))


@dataclass(frozen=True, slots=True)
class Shown:
    """How values are shown.

    Args:
        words: ``unknown``, ``none``, ``nan`` and other words of the language.
        notes: Sentences of notes, by key.
        reasons: Sentences of reasons, by code.
        labels: The same in a few words, of those that come first.
        room: Columns that a name, a list or a text may fill; None: as many as it needs.
        compact: Whether long numbers are shown with three significant digits.
    """

    words: Mapping[str, str]
    notes: Mapping[str, str]
    reasons: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    room: int | None = None
    compact: bool = False

    def render(self, template: str, values: Mapping[str, Any]) -> str:
        """The template with its values.

        Raises:
            KeyError: If ``values`` lacks a name of the template, or a list holds a note or reason that is not known.
        """
        shown = ""
        for text, name, spec, _ in Formatter().parse(template):
            shown += with_particles(shown, text)
            if name is not None:
                shown += self._value(values[name], self.render(spec or "", values))
        return shown

    def _value(self, value: Any, spec: str) -> str:
        if value is None:
            return self.words["unknown"]
        if isinstance(value, float) and not math.isfinite(value):
            value = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        kind, _, words = spec.partition(" ")
        if isinstance(value, str):
            return self._text(value, kind)
        if kind == "names":
            return self._names([printable(str(one)) for one in value])
        if kind == "notes":
            return "".join(f" {self.notes[note]}" for note in value)
        if kind == "reasons":
            return "".join(f" {self.render(self.reasons[item['code']], item)}" for item in value)
        if kind == "labels":
            return "".join(self.render(self.labels.get(item["code"], item["code"]), item) for item in value[:1])
        if isinstance(value, (list, tuple, dict)):
            return self._text(str(value), "")
        return self._number(value, kind, words)

    def _text(self, text: str, kind: str) -> str:
        if text in _NAMES_OF_NUMBERS:
            return self.words[_NAMES_OF_NUMBERS[text]]
        if kind in ("word", "unit"):
            return self.words.get(f"short {text}" if kind == "unit" else text, text)
        if self.room is None:
            return text
        return shortened(printable(text), self.room)

    def _names(self, names: list[str]) -> str:
        if not names:
            return self.words["none"]
        return ", ".join(names) if self.room is None else shortened_list(names, self.room)

    def _number(self, value: Any, kind: str, words: str) -> str:
        if self.compact and abs(value) >= _COMPACT:
            value, kind = value * (100 if kind == "percent" else 1), f"compact-{kind}"
        if kind == "signed":
            return signed_text(value)
        if kind == "percent":
            return _percent(value)
        if kind == "loss":
            return loss_text(value)
        if kind == "ppl":
            return perplexity_text(value)
        if kind == "n":
            shown = f"{value:,}" if abs(value) < _LONGER else _scientific(value)
            one, _, many = words.partition("|")
            return f"{shown} {one if value == 1 else many or one}" if words else shown
        if kind.startswith("compact-"):
            one, _, many = words.partition("|")
            sign = "+" if kind == "compact-signed" and value > 0 else ""
            shown = f"{sign}{_scientific(value)}{' %' if kind == 'compact-percent' else ''}"
            return f"{shown} {many or one}" if words else shown
        return format(value, kind)


def loss_text(value: float, decimals: int = 3) -> str:
    """A loss, bits per byte, or another number with so many decimals, which never fills a line."""
    return f"{value:.{decimals}f}" if abs(value) < _LONG else _scientific(value)


def signed_text(value: float) -> str:
    """A difference with its sign and 3 decimals; one that is not zero does not read as zero."""
    if abs(value) >= _LONG:
        return f"{'+' if value > 0 else ''}{_scientific(value)}"
    return f"{value:+.3f}" if abs(value) >= 0.0005 else f"{value:+.1e}" if value else "0.000"


def perplexity_text(value: float) -> str:
    """A perplexity with 3 significant digits."""
    if abs(value) >= 1e9:
        return _scientific(value)
    # "g" would show 1234 as 1.23e+03.
    return f"{float(f'{value:.3g}'):,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _scientific(value: float) -> str:
    # Decimal: a whole number may be beyond any float.
    return f"{Decimal(value):.2e}"


def _percent(value: float) -> str:
    number = value * 100
    if abs(number) >= _LONG:
        return f"{_scientific(number)} %"
    shown = f"{number:.3g}" if abs(value) < 10 else f"{number:,.0f}"
    # 99.99 % is not 100 %.
    return f"{number:.6g} %" if shown == "100" and value != 1 else f"{shown} %"


def placeholders(template: str) -> set[str]:
    """Names of the values that a template shows.

    >>> sorted(placeholders("{value:{unit}} at {step:n}"))
    ['step', 'unit', 'value']
    """
    found: set[str] = set()
    for _, name, spec, _ in Formatter().parse(template):
        if name is not None:
            found |= {name} | placeholders(spec or "")
    return found


def fitted(shown: Shown, head: str, short: str, action: str, values: Mapping[str, Any]) -> str:
    """A finding's line: ``HEAD: SHORT → ACTION`` in at most `WIDTH` columns.

    Names, lists and texts become shorter first, long numbers next; where the sentences themselves are too long, as
    those of another package may be, whole words go from their ends. No number is ever cut.

    Args:
        shown: How values are shown.
        head: Template of what stands before the colon.
        short: Template of what happened.
        action: Template of what to do.
        values: The numbers and names.
    """
    for room, compact in _ROOMS:
        tried = replace(shown, room=WIDTH if room is None else room, compact=compact)
        parts = [printable(tried.render(template, values)) for template in (head, short, action)]
        line = _joined(*parts)
        if columns(line) <= WIDTH:
            return line
    return next(_with_fewer_words(*parts))


def _joined(head: str, short: str, action: str) -> str:
    return f"{head}: {short} → {action}"


def _with_fewer_words(head: str, short: str, action: str) -> Iterator[str]:
    """Lines that fit, the longest first: words go from the end of what happened, then of what to do."""
    happened, to_do = short.split(" "), action.split(" ")
    for of_action in range(len(to_do), -1, -1):
        end = " ".join([*to_do[:of_action], *([] if of_action == len(to_do) else [CUT])])
        fewest = 0 if of_action == 0 else len(happened) // 2
        for of_short in range(len(happened), fewest - 1, -1):
            line = _joined(head, " ".join([*happened[:of_short], *([] if of_short == len(happened) else [CUT])]), end)
            if columns(line) <= WIDTH:
                yield line
    yield shortened(f"{head}: {CUT}", WIDTH)


_MARK: Final = re.compile(r"\[(은/는|이/가|을/를|과/와|으로/로|이라/라|이나/나)\]")
_FIRST_SYLLABLE: Final = 0xAC00
_LAST_SYLLABLE: Final = 0xD7A3
_FINALS: Final = 28
_RIEUL: Final = 8
_OTHER: Final = 1
_NONE: Final = 0

# 영 일 이 삼 사 오 육 칠 팔 구: the final consonant of each digit as it is read.
_DIGITS: Final = (_OTHER, _RIEUL, _NONE, _OTHER, _NONE, _NONE, _OTHER, _RIEUL, _RIEUL, _NONE)
_TRILLION_ZEROS: Final = 12  # 조, the one power of ten (of those that come up) without a final consonant
# How Koreans read Latin words that end so (chosen by ear, not measured): 모델, 스텝, 트레인, 로그.
_RIEUL_WORD: Final = re.compile(r"(?:l|le)$")
_FINAL_WORD: Final = re.compile(r"(?:[mn]e?|ng|[aeiou]?[bckp]|[aeiou]t)$")
_ACRONYM: Final = re.compile(r"(?:^|[^A-Za-z])[A-Z]+$")
_ASIDE: Final = re.compile(r"\s*\([^()]*\)$")


def with_particles(before: str, text: str) -> str:
    """``text`` with its particles chosen; ``before`` is what stands in front of it.

    >>> with_particles("eval_ko", "[은/는] ") + with_particles("3.078", "[으로/로]") + with_particles("길", "[으로/로]")
    '는 로로'
    >>> with_particles("손실", "[이/가]"), with_particles("1,000", "[을/를]"), with_particles("2 (eval)", "[과/와]")
    ('이', '을', '와')
    """
    shown = ""
    end = 0
    for mark in _MARK.finditer(text):
        shown += text[end : mark.start()]
        closed, _, open_ = mark[1].partition("/")
        final = _final(before + shown)
        shown += open_ if final == _NONE or (final == _RIEUL and closed == "으로") else closed
        end = mark.end()
    return shown + text[end:]


def _final(text: str) -> int:
    """The final consonant with which the text is read: none, rieul or another."""
    text = _ASIDE.sub("", text).rstrip(" \"'`)]}>%_…")
    last = text[-1:]
    if _FIRST_SYLLABLE <= ord(last or " ") <= _LAST_SYLLABLE:
        final = (ord(last) - _FIRST_SYLLABLE) % _FINALS
        return final if final in (_NONE, _RIEUL) else _OTHER
    if last.isascii() and last.isdigit():
        zeros = re.search(r"(?<![.\d])[1-9][\d,]*?((?:,?0)*)$", text)
        if zeros is not None and zeros[1].count("0") == _TRILLION_ZEROS:
            return _NONE
        return _DIGITS[int(last)]
    if _ACRONYM.search(text):
        return _RIEUL if last in "LR" else _OTHER if last in "MN" else _NONE
    word = text.lower()
    if _RIEUL_WORD.search(word):
        return _RIEUL
    return _OTHER if _FINAL_WORD.search(word) else _NONE
