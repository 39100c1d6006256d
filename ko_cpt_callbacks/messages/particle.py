"""Korean particles, whose form depends on the sound before them: 은/는, 이/가, 을/를, 과/와, 으로/로.

A Korean template writes ``{split}[은/는]``; which of the two stands there is known once the value is filled in.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["with_particles"]

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
