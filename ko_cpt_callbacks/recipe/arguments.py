"""The arguments of each training must be the installed ``TrainingArguments``' own, of the right kind and in range.

The class itself checks hardly any of it: with a text for a learning rate it is made, and the training fails later.

Importing the class would import torch; a recipe is checked without it: annotations, and the words that an argument
knows (``cosine``, ``steps``), are read from the source. What the source cannot say (what fits together, what this
machine can do) the class is asked when a run begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ko_cpt_callbacks.errors import near_miss
from ko_cpt_callbacks.recipe.installed import ARGUMENTS, Kind, installed_arguments, installed_choices, taken_kinds
from ko_cpt_callbacks.recipe.model_schema import MOST
from ko_cpt_callbacks.run.observation import finite_number
from ko_cpt_callbacks.yaml.mistake import Key, is_number, shown
from ko_cpt_callbacks.yaml.reading import KeyMistakes, at, mapping

OWN_ARGUMENTS: Final = ("output_dir", "seed", "data_seed", "disable_tqdm", "resume_from_checkpoint", "push_to_hub")
"""What ``ko-cpt train`` decides: where things go, and how they are shown and repeated."""

INSTALLED: Final = f"the installed transformers.{ARGUMENTS}"

_WORDS: Final[Mapping[Kind, str]] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "dict": "a mapping",
    "None": "nothing",
}
# In YAML 1.2 these are texts.
_TRUTHS: Final = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class _Range:
    words: str
    holds: Callable[[float], bool]
    annotation: str = "float"
    """Of transformers 4.57 and 5.23; used where the installed class is not known."""


def _steps(number: float) -> bool:
    return 0 < number < 1 or (number >= 1 and number == int(number))


_COUNT: Final = _Range("at least 1", lambda number: number >= 1, "int")
_STEPS: Final = _Range("a whole number of at least 1, or a share of all steps, between 0 and 1", _steps)
_AMOUNT: Final = _Range("at least 0", lambda number: number >= 0)
_BETA: Final = _Range("at least 0 and less than 1", lambda number: 0 <= number < 1)
# What the Trainer, the optimizer or this package cannot use, and no installed class refuses.
_RANGES: Final[Mapping[str, _Range]] = {
    "per_device_train_batch_size": _COUNT,
    "per_device_eval_batch_size": _COUNT,
    "gradient_accumulation_steps": _COUNT,
    "logging_steps": _STEPS,
    "eval_steps": replace(_STEPS, annotation="float | None"),
    "save_steps": _STEPS,
    "max_steps": _Range("at least 1, or -1 for num_train_epochs", lambda number: number == -1 or number >= 1, "int"),
    "num_train_epochs": _Range("more than 0", lambda number: number > 0),
    "learning_rate": _AMOUNT,
    "weight_decay": _AMOUNT,
    "max_grad_norm": _AMOUNT,
    "adam_beta1": _BETA,
    "adam_beta2": _BETA,
    "adam_epsilon": _AMOUNT,
    "warmup_ratio": _Range("from 0 to 1", lambda number: 0 <= number <= 1),
    "warmup_steps": _AMOUNT,
}


def argument_mistakes(values: Any) -> KeyMistakes:
    """Names, kinds, ranges and words; where the installed class is not known, only what this module knows of itself."""
    installed, words = installed_arguments(), installed_choices()
    stated = {name: part.annotation for name, part in _RANGES.items()} if installed is None else installed
    ways: list[tuple[str, ...]] = [("base", "build", "pretraining", "arguments")]
    ways += [("stages", name, "arguments") for name in mapping(values, "stages")]
    for way in ways:
        for name, value in mapping(values, *way).items():
            yield from name_mistakes(way, [name], installed)
            if name not in OWN_ARGUMENTS and (installed is None or name in installed):
                yield from _value((*way, name), value, stated.get(name), _RANGES.get(name))
            yield from _word((*way, name), value, words.get(name, ()))
        if way[0] == "stages" and at(values, *way, "load_best_model_at_end") is True:
            expected = "false: a stage ends with its last weights, which are measured and handed on; "
            expected += "patience ends it sooner"
            yield (*way, "load_best_model_at_end"), "true", expected, None


def name_mistakes(key: Key, given: Iterable[str], known: Iterable[str] | None, where: str = INSTALLED) -> KeyMistakes:
    """Arguments that there are not, or that are not the recipe's to say; ``where`` names the class that has them."""
    free = None if known is None else [name for name in known if name not in OWN_ARGUMENTS]
    for name in given:
        if name in OWN_ARGUMENTS:
            yield (*key, name), "an argument that ko-cpt train sets itself", f"none of {', '.join(OWN_ARGUMENTS)}", None
        elif free is not None and name not in free:
            yield (*key, name), "an unknown argument", f"an argument of {where}", near_miss(name, free)


def _value(key: Key, value: Any, annotation: str | None, limits: _Range | None) -> KeyMistakes:
    """A value is of a kind that its argument takes, and in range."""
    kinds = None if annotation is None else taken_kinds(annotation)
    if kinds is not None and not _is_of(value, kinds):
        if isinstance(value, str) and _is_amount(value, kinds):
            yield key, shown(value), "a number, without quotation marks", value.strip()
            return
        expected = [_WORDS[kind] for kind in kinds if kind != "None" and not (kind == "int" and "float" in kinds)]
        yield key, shown(value), " or ".join(expected), _meant(value, kinds)
    elif limits is not None and finite_number(value) is not None:
        if not limits.holds(value):
            yield key, shown(value), limits.words, None
        elif isinstance(value, int) and value > MOST:
            yield key, shown(value), f"at most {MOST:,}", None


def _is_of(value: Any, kinds: tuple[Kind, ...]) -> bool:
    if isinstance(value, bool):  # before int, which it is to Python
        return "bool" in kinds
    if isinstance(value, int):
        return "int" in kinds or "float" in kinds
    return ("None" if value is None else type(value).__name__) in kinds


def _is_amount(text: str, kinds: tuple[Kind, ...]) -> bool:
    """Whether a text is a number that could stand there without quotation marks."""
    if not is_number(text) or not math.isfinite(float(text)):
        return False
    return "float" in kinds or ("int" in kinds and text.strip().lstrip("+-").isdecimal())


def _meant(value: Any, kinds: tuple[Kind, ...]) -> str | None:
    if isinstance(value, float) and value.is_integer() and "int" in kinds:
        return str(int(value))
    if isinstance(value, str) and "bool" in kinds:
        return _TRUTHS.get(value.strip().lower()) or near_miss(value.strip().lower(), ("true", "false"))
    return None


_SHOWN: Final = 8
"""Words that an error lists; the optimizers are some fifty."""


def _word(key: Key, value: Any, known: Sequence[str]) -> KeyMistakes:
    """A word is one that the argument knows."""
    if known and isinstance(value, str) and value not in known:
        listed = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
        begun = next((word for word in known if value and word.startswith(value)), None)
        yield key, shown(value), f"one of {listed}", begun or near_miss(value, known)
