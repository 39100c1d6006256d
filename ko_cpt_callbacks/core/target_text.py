"""The text form of a target, taken apart; see `ko_cpt_callbacks.core.target`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError

__all__ = [
    "END", "EXAMPLE", "FORM", "METRICS", "OTHER_NAMES", "STEP", "TOKENS", "refused", "shortest_percent",
    "target_parts", "whole",
]  # fmt: skip

METRICS: Final = (keys.EXACT_LOSS, keys.LOSS, keys.PPL, keys.BITS_PER_BYTE)
"""What a target can be set on, as it is called in a row."""

END: Final = "end"
STEP: Final = "step"
TOKENS: Final = "tokens"
FORM: Final = "[SET_]METRIC<NUMBER[%][@end|@step:N|@tokens:N][,confirm=N][,confidence=C]"
EXAMPLE: Final = "eval_exact_loss<3.0@end"
OTHER_NAMES: Final = {"perplexity": keys.PPL, "bpb": keys.BITS_PER_BYTE, "bits_byte": keys.BITS_PER_BYTE}


def refused(where: str, found: str, expected: str, fix: str, near: str | None = None) -> ConfigurationError:
    """A mistake in five parts, on one line."""
    hint = "" if near is None else f" Did you mean {near!r}?"
    return ConfigurationError(f"target {where}: found {found}, expected {expected}; {fix}.{hint}")


def whole(text: str) -> int | None:
    """A count as people write it (``2000``, ``2_000``, ``1e9``); ``None`` where it is no whole number above 0."""
    try:
        return int(text) if int(text) > 0 else None
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 1 and number.is_integer() else None


def shortest_percent(fraction: float) -> str:
    """The fewest digits of a percentage that read back as ``fraction``."""
    for digits in range(1, 18):
        text = f"{fraction * 100:.{digits}g}"
        if "e" not in text and float(text) / 100 == fraction:
            return text
    return repr(fraction * 100)


_TEXT: Final = re.compile(
    r"(?P<name>[^\s<>=@,%]+)\s*(?P<sign><=|>=|==|=|<|>)\s*(?P<bound>[^\s@,%]+)\s*(?P<percent>%?)\s*"
    r"(?:@\s*(?P<by>[^\s,]+)\s*)?(?P<options>(?:,[^,]*)*)"
)


def target_parts(text: str, presets: Collection[str]) -> dict[str, Any]:
    """The arguments of a `ko_cpt_callbacks.core.target.Target` that a text stands for.

    Args:
        text: The text form, without blanks around it.
        presets: Names that stand for a whole target, to tell which one was probably meant.

    Raises:
        ConfigurationError: If it cannot be read; five parts, on one line.
    """
    parts = _TEXT.fullmatch(text)
    if parts is None:
        raise refused(repr(text), "a text that is no target", FORM, *_unread(text, presets))
    if parts["sign"] != "<":
        near = f"{parts['name']}<{text[parts.start('bound') :]}"
        raise refused(repr(text), f"{parts['sign']!r}", "'<': every metric is better the lower", "write <", near)
    split, metric = _split_and_metric(parts["name"], text)
    percent = bool(parts["percent"])
    bound = _parsed(parts["bound"], text)
    # The decimal text is divided as such: -30 / 100 is -0.3, -30 * 0.01 is not.
    below, options = bound / 100 if percent else bound, _options(parts["options"], text)
    return {
        "metric": metric,
        "below": below,
        "split": split,
        "by": parts["by"] or END,
        "relative": percent,
        **options,
    }


def _unread(text: str, presets: Collection[str]) -> tuple[str, str | None]:
    """The fix and the near miss for a text without the shape of a target."""
    near = next(iter(difflib.get_close_matches(text, presets, 1)), None)
    if near is None and re.fullmatch(r"[\w-]*[A-Za-z][\w-]*", text):
        # A shell takes an unquoted "<3.0@end" for a file to read from.
        return "quote it in a shell ('eval_exact_loss<3.0@end') or name a preset: " + ", ".join(presets), EXAMPLE
    return f"write for example {EXAMPLE}", near or EXAMPLE


def _split_and_metric(name: str, text: str) -> tuple[str, str]:
    for metric in METRICS:  # exact_loss before loss, of which it is no set
        if name == metric:
            return "eval", metric
        if name.endswith(f"_{metric}") and len(name) > len(metric) + 1:
            return name.removesuffix(f"_{metric}"), metric
    rest = text[len(name) :]
    near: str | None = None
    for other, metric in OTHER_NAMES.items():
        if name == other or name.endswith(f"_{other}"):
            near = f"{name.removesuffix(other)}{metric}{rest}"
    if near is None:
        known = [*METRICS, *(keys.key("eval", metric) for metric in METRICS)]
        close = difflib.get_close_matches(name, known, 1)
        near = f"{close[0]}{rest}" if close else None
    raise refused(
        repr(text), f"metric {name!r}", f"a name that ends in one of {', '.join(METRICS)}", "name one of them", near
    )


def _parsed(number: str, text: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise refused(repr(text), f"bound {number!r}", "a number", f"write for example {EXAMPLE}", EXAMPLE) from None


def _options(options: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in options.split(",")[1:]:
        name, _, value = (part.strip() for part in option.partition("="))
        try:
            if name == "confirm" and name not in found:
                found[name] = int(value)
            elif name == "confidence" and name not in found:
                found[name] = float(value)
            else:
                raise ValueError
        except ValueError:
            near = next(iter(difflib.get_close_matches(name, ("confirm", "confidence"), 1)), None)
            raise refused(
                repr(text), f"option {option!r}", "confirm=N or confidence=C, each once",
                "write for example ,confirm=2", near and f"{near}=",
            ) from None  # fmt: skip
    return found
