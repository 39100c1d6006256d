"""A target: what an evaluation must reach, by when, and how sure one wants to be.

Its text form is one word, quoted in a shell because of the ``<``::

    [SET_]METRIC<NUMBER[%][@DEADLINE][,confirm=N][,confidence=C]

    eval_exact_loss<3.0@end          ppl<20                  (the set eval, by the end)
    eval_ko_ppl<20@step:2000         bits_per_byte<0.9@tokens:1e9
    eval_exact_loss<-30%@end         30 % lower than at the set's first evaluation

Whether a run reached it is decided in `ko_cpt_callbacks.watch.verdict`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError, near_miss
from ko_cpt_callbacks.run.file import clip

__all__ = ["END", "LARGEST_STEP", "METRICS", "PRESETS", "TOKENS", "Target", "parse_target", "parse_targets", "refused"]

METRICS: Final = (keys.EXACT_LOSS, keys.LOSS, keys.PPL, keys.BITS_PER_BYTE)
"""What a target can be set on, as it is called in a row."""

LARGEST_STEP: Final = 2**53
"""Of steps, and of tokens. Beyond it a float does not hold every whole number: in a log such a step is damage."""

END: Final = "end"
_STEP: Final = "step"
TOKENS: Final = "tokens"
_FORM: Final = "[SET_]METRIC<NUMBER[%][@end|@step:N|@tokens:N][,confirm=N][,confidence=C]"
_EXAMPLE: Final = "eval_exact_loss<3.0@end"
_OTHER_NAMES: Final = {"perplexity": keys.PPL, "bpb": keys.BITS_PER_BYTE, "bits_byte": keys.BITS_PER_BYTE}


def refused(where: str, found: str, expected: str, fix: str, near: str | None = None) -> ConfigurationError:
    """A mistake in five parts, on one line."""
    hint = "" if near is None else f" Did you mean {near!r}?"
    return ConfigurationError(f"target {where}: found {found}, expected {expected}; {fix}.{hint}")


def _whole(text: str) -> int | None:
    """A count as people write it (``2000``, ``2_000``, ``1e9``); ``None`` where it is none from 1 to the largest."""
    number: float
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        return int(number) if 1 <= number <= LARGEST_STEP and number == int(number) else None
    return None


def _shortest_percent(fraction: float) -> str:
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


def _parts(text: str) -> dict[str, Any]:
    """The arguments of a `Target` that a text stands for."""
    parts = _TEXT.fullmatch(text)
    if parts is None:
        raise refused(repr(text), "a text that is no target", _FORM, *_unread(text))
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


def _unread(text: str) -> tuple[str, str | None]:
    """The fix and the near miss for a text without the shape of a target."""
    near = near_miss(text, PRESETS)
    if near is None and re.fullmatch(r"[\w-]*[A-Za-z][\w-]*", text):
        # A shell takes an unquoted "<3.0@end" for a file to read from.
        return "quote it in a shell ('eval_exact_loss<3.0@end') or name a preset: " + ", ".join(PRESETS), _EXAMPLE
    return f"write for example {_EXAMPLE}", near or _EXAMPLE


def _split_and_metric(name: str, text: str) -> tuple[str, str]:
    for metric in METRICS:  # exact_loss before loss, of which it is no set
        if name == metric:
            return "eval", metric
        if name.endswith(f"_{metric}") and len(name) > len(metric) + 1:
            return name.removesuffix(f"_{metric}"), metric
    rest = text[len(name) :]
    near: str | None = None
    for other, metric in _OTHER_NAMES.items():
        if name == other or name.endswith(f"_{other}"):
            near = f"{name.removesuffix(other)}{metric}{rest}"
    if near is None:
        known = [*METRICS, *(keys.key("eval", metric) for metric in METRICS)]
        close = near_miss(name, known)
        near = close and f"{close}{rest}"
    raise refused(
        repr(text), f"metric {name!r}", f"a name that ends in one of {', '.join(METRICS)}", "name one of them", near
    )


def _parsed(number: str, text: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise refused(repr(text), f"bound {number!r}", "a number", f"write for example {_EXAMPLE}", _EXAMPLE) from None


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
            near = near_miss(name, ("confirm", "confidence"))
            raise refused(
                repr(text), f"option {option!r}", "confirm=N or confidence=C, each once",
                "write for example ,confirm=2", near and f"{near}=",
            ) from None  # fmt: skip
    return found


_DEADLINES: Final = f"end, step:N or tokens:N with a whole number N from 1 to {LARGEST_STEP:,}"
_MOST_CONFIRM: Final = 1000  # evaluations in a row; chosen, not measured


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Target:
    """A number that an evaluation set must get below.

    Args:
        metric: ``exact_loss`` or ``loss`` (nats per token), ``ppl``, ``bits_per_byte``. Where a row lacks it, it is
            computed from that row's loss, and the finding says so.
        below: The bound, in the metric's unit; reached means *strictly* below. With ``relative``, the change since
            the set's first evaluation as a fraction, between -1 and 0: -0.3 for 30 % lower.
        split: The evaluation set by its prefix, as logged: ``eval``, ``eval_ko``.
        by: The deadline. ``end``: the end of training. ``step:N``, ``tokens:N``: the first evaluation at or after
            optimizer step N (N target tokens trained on). That evaluation still counts.
        confidence: How sure, between 0 and 1 (both excluded): the two-sided interval of this confidence must be
            below (met) or above (missed). 0.95 errs either way in at most 2.5 % of the cases.
        confirm: Evaluations in a row that must be below, >= 1.
        relative: Whether ``below`` is a change since the first evaluation.

    Raises:
        ConfigurationError: For a value that cannot be used; says where, what was found, what is expected, the fix,
            and what may have been meant.

    >>> Target("exact_loss", 3.0)
    Target('eval_exact_loss<3.0@end')
    >>> parse_target("eval_ko_ppl<20@step:2000").by
    'step:2000'
    """

    metric: str
    below: float
    split: str = "eval"
    by: str = END
    confidence: float = 0.95
    confirm: int = 1
    relative: bool = False

    def __post_init__(self) -> None:
        """Checks every value, and brings ``by`` and ``below`` into one form."""
        where = f"{self.split}_{self.metric}"
        if self.metric not in METRICS:
            near = _OTHER_NAMES.get(self.metric) or near_miss(self.metric, METRICS)
            raise refused(where, f"metric {self.metric!r}", f"one of {', '.join(METRICS)}", "name one of them", near)
        if not isinstance(self.split, str) or not re.fullmatch(r"[^\s<>@,=%]+", self.split):
            raise refused(
                where, f"set {self.split!r}", "the prefix of an evaluation", "name it as it is logged", "eval"
            )
        if self.split == keys.TRAIN_PREFIX:
            raise refused(
                where,
                "the training rows",
                "an evaluation set",
                "set the target on held-out text: a training loss is a mean over changing weights and has no error bar",
                f"eval_{self.metric}",
            )
        object.__setattr__(self, "below", self._bound(where))
        object.__setattr__(self, "by", self._deadline(where))
        if not _is_number(self.confidence) or not 0.0 < self.confidence < 1.0:
            percent = _is_number(self.confidence) and 1 < self.confidence < 100
            near = f"confidence={self.confidence / 100:g}" if percent else None
            raise refused(where, f"confidence={self.confidence!r}", "a number between 0 and 1", "write 0.95", near)
        whole = isinstance(self.confirm, int) and not isinstance(self.confirm, bool)
        if not whole or not 1 <= self.confirm <= _MOST_CONFIRM:
            expected = f"a whole number from 1 to {_MOST_CONFIRM:,}"
            raise refused(where, f"confirm={clip(self.confirm)}", expected, "write confirm=1")

    def _bound(self, where: str) -> float:
        found = f"bound {self.below!r}"
        if not _is_number(self.below) or not math.isfinite(self.below):
            raise refused(where, found, "a finite number", f"write for example {_EXAMPLE}")
        below = float(self.below)
        if self.relative:
            if not -1.0 < below < 0.0:
                near = f"{where}<{-abs(below):.0%}" if 0.0 < abs(below) < 1.0 else None
                raise refused(
                    where,
                    f"a change of {below:.4g}",
                    "a change since the first evaluation between -1 and 0 (-100 % and 0 %)",
                    "write how much lower, as <-30%",
                    near,
                )
        elif self.metric == keys.PPL and below <= 1.0:
            raise refused(where, found, "more than 1, because no perplexity is below 1", "raise the bound")
        elif below <= 0.0:
            near = f"{where}<{below:.0%}" if -1.0 < below < 0.0 else None
            raise refused(where, found, "more than 0", "raise the bound, or write a change as <-30%", near)
        return below

    def _deadline(self, where: str) -> str:
        kind, colon, count = str(self.by).strip().partition(":")
        if kind == END and not colon:
            return END
        number = _whole(count) if colon else None
        if kind in (_STEP, TOKENS) and number is not None:
            return f"{kind}:{number}"
        if kind in (_STEP, TOKENS) or _whole(kind) is not None:
            near = f"step:{_whole(kind)}" if _whole(kind) is not None else f"{kind}:1000"
        else:
            near = {"steps": _STEP, "token": TOKENS}.get(kind) or near_miss(kind, (END, _STEP, TOKENS)) or END
            near = near if near == END else f"{near}:{_whole(count) or 1000}"
        raise refused(where, f"deadline {clip(self.by)}", _DEADLINES, f"write for example @{near}", f"@{near}")

    @property
    def deadline_step(self) -> int | None:
        """The optimizer step of a ``step:N`` deadline."""
        return int(self.by.partition(":")[2]) if self.by.startswith(_STEP) else None

    @property
    def deadline_tokens(self) -> int | None:
        """The target tokens of a ``tokens:N`` deadline."""
        return int(self.by.partition(":")[2]) if self.by.startswith(TOKENS) else None

    @property
    def name(self) -> str:
        """The row key it is set on: ``eval_ko_ppl``."""
        return keys.key(self.split, self.metric)

    def __str__(self) -> str:
        """The text form; `parse_target` gives back an equal target."""
        bound = f"{_shortest_percent(self.below)}%" if self.relative else repr(self.below)
        confirm = "" if self.confirm == 1 else f",confirm={self.confirm}"
        confidence = "" if self.confidence == 0.95 else f",confidence={self.confidence!r}"
        return f"{self.name}<{bound}@{self.by}{confirm}{confidence}"

    def __repr__(self) -> str:
        return f"Target({str(self)!r})"


PRESETS: Final[Mapping[str, Target]] = MappingProxyType(
    {"korean-loss-3": Target(keys.EXACT_LOSS, 3.0), "korean-ppl-30": Target(keys.PPL, 30.0)}
)
"""Targets by name: the round numbers that Korean continued pretraining is often asked to reach."""


def parse_target(text: str) -> Target:
    """The target of a text, or the preset of that name.

    Args:
        text: The text form of the module's docstring, or a name in `PRESETS`.

    Raises:
        ConfigurationError: If it cannot be read; five parts, on one line.

    >>> parse_target("eval_exact_loss<-30%@end").below
    -0.3
    """
    if not isinstance(text, str):
        raise refused(repr(text), type(text).__name__, f"a text {_FORM}", f"write for example {_EXAMPLE}")
    text = text.strip()
    if text in PRESETS:
        return PRESETS[text]
    return Target(**_parts(text))


def parse_targets(values: Iterable[Target | str] | Target | str) -> tuple[Target, ...]:
    """Targets and texts of targets, each once, in their order.

    Raises:
        ConfigurationError: If one cannot be read, or two are the same.
    """
    if isinstance(values, Mapping):
        raise refused("targets", "a mapping", f"a list of texts {_FORM}", f"write for example {_EXAMPLE}")
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    found: list[Target] = []
    for value in listed:
        target = value if isinstance(value, Target) else parse_target(value)
        if target in found:
            raise refused(repr(str(target)), "the same target twice", "each once", "leave one out")
        found.append(target)
    return tuple(found)
