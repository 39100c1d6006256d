"""Words of a corpus, counted in one pass and in bounded memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from ko_cpt_callbacks.training.bpe_layout import BpeLayout

# Jamo, compatibility jamo, extended jamo A, syllables, extended jamo B.
HANGUL: Final = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
_LETTERS: Final = r"[^\W\d_]"


def count_words(
    texts: Iterable[str], layout: BpeLayout, normalizer: Any, *, only_hangul: bool, max_words: int
) -> Counter[str]:
    """How often every word was written: a run of letters, with a space where one stands in front.

    Args:
        texts: Read once.
        layout: The tokenizer that the words are for.
        normalizer: That tokenizer's; None where it has none.
        only_hangul: Whether a run ends where Hangul ends.
        max_words: Words to keep; the rarest are forgotten when there are more.
    """
    letters = f"[{HANGUL}]" if only_hangul else _LETTERS
    pattern = re.compile(f"[ {re.escape(layout.mark)}]?{letters}+")
    words: Counter[str] = Counter()
    for text in texts:
        normal = text if normalizer is None else normalizer.normalize_str(text)
        if layout.space_in_front and not normal.startswith((" ", layout.mark)):
            normal = f" {normal}"
        words.update(pattern.findall(normal.replace(layout.mark, " ")))
        if len(words) > max_words:
            words = _without_rarest(words, max_words // 2)
    return words


def _without_rarest(words: Counter[str], size: int) -> Counter[str]:
    """At most ``size`` words: those seen once are left out, then those seen twice, and so on."""
    least = 1
    while len(words) > size:
        words = Counter({word: count for word, count in words.items() if count > least})
        least += 1
    return words
