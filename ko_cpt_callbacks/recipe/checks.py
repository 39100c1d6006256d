"""What the parts of a recipe must agree on: names, what can be trained, numbers and where they come from.

Asked of the raw values, so that these mistakes are reported together with those of shape; a value of the wrong shape
is skipped here. What a stage watches for must exist: sets, codes, a baseline and its stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ko_cpt_callbacks.compare.reference import AUTO
from ko_cpt_callbacks.compare.registry import baseline_ids, find_baseline
from ko_cpt_callbacks.errors import BaselineError, ConfigurationError, near_miss
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.recipe.arguments import argument_mistakes
from ko_cpt_callbacks.recipe.bundle import bundled_texts
from ko_cpt_callbacks.recipe.stage_checks import model_mistakes, stage_mistakes
from ko_cpt_callbacks.recipe.text_files import NAMES, may_hold_text
from ko_cpt_callbacks.rules.registry import known_codes
from ko_cpt_callbacks.run.observation import count_from_one, finite_number
from ko_cpt_callbacks.watch.stopping import read_grace, read_patience
from ko_cpt_callbacks.watch.target import PRESETS, parse_target
from ko_cpt_callbacks.yaml.mistake import Key, Mistake, dotted, shown
from ko_cpt_callbacks.yaml.reading import KeyMistake, KeyMistakes, YamlDocument, at, entries, leaves, mapping

_SOURCE: Final = "source"
_WATCH: Final = "watch"
# Texts with a number in them.
_SAID: Final = ("grace", "min_delta")


def source_mistakes(document: YamlDocument, overridden: Sequence[Key]) -> KeyMistakes:
    """Numbers without a source, and sources without a number; of the keys that were overridden no source is asked."""
    values = document.values
    given = mapping(values, _SOURCE)
    content = {name: value for name, value in values.items() if name != _SOURCE}
    for key in _numbers(content):
        changed = any(key[: len(other)] == other for other in overridden)
        if not changed and not any(_covers(entry, dotted(key)) for entry in given):
            expected = f'"{dotted(key)}", or what it begins with, under {_SOURCE}: where it is from, or '
            yield key, "a number without a source", f'{expected}"chosen, not measured"', None
    # Of all keys, not of numbers only: a number that could not be read is a mistake of its own.
    known = [dotted(key) for key in document.lines if key and key[0] != _SOURCE]
    for entry in given:
        if entry not in known:
            found = "a source of a key that is not there"
            yield (_SOURCE, entry), found, "the key of a number", near_miss(entry, known)


def _numbers(values: Any) -> Iterator[Key]:
    """The keys of numbers; a target is one too."""
    for key, value in leaves(values):
        said = key[-2:-1] == ("targets",) or (key[-2:-1] == (_WATCH,) and key[-1] in _SAID)
        if finite_number(value) is not None or (said and isinstance(value, str)):
            yield key


def _covers(entry: str, number: str) -> bool:
    return number == entry or number.startswith((f"{entry}.", f"{entry}["))


_WAYS: Final = ("bundled", "files", "hub")
_HUB_ONLY: Final = ("revision", "config", "split")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def data_mistakes(values: Any) -> KeyMistakes:
    """Where the texts contradict each other or the task."""
    yield from _names(values)
    for name, source in mapping(values, "data", "sources").items():
        if isinstance(source, Mapping):
            key: Key = ("data", "sources", name)
            yield from _origin(key, source)
            yield from _band(key, source)
    yield from _task(values)


def _names(values: Any) -> KeyMistakes:
    """Every source that is used is given."""
    known = list(mapping(values, "data", "sources"))
    used: list[tuple[Key, Any]] = [(("data", "mix", name), name) for name in mapping(values, "data", "mix")]
    for way in (("base", "build", "tokenizer", "sources"), ("base", "build", "pretraining", "sources")):
        used.extend(((*way, number), name) for number, name in enumerate(entries(values, *way)))
    used.append((("tokenizer", "extend", "source"), at(values, "tokenizer", "extend", "source")))
    for name, part in mapping(values, "eval").items():
        used.append((("eval", name, "source"), at(part, "source")))
    for key, name in used:
        if known and isinstance(name, str) and name not in known:
            yield key, shown(name), f"one of data.sources ({', '.join(known)})", near_miss(name, known)


def _origin(key: Key, source: Mapping[str, Any]) -> KeyMistakes:
    """A source comes from one place, and what is reported of it belongs to that place."""
    given = [way for way in _WAYS if source.get(way) is not None]
    if len(given) != 1:
        yield key, " and ".join(given) or "none of bundled, files and hub", "one of bundled, files and hub", None
        return
    known = bundled_texts() if entries(source, "bundled") else ()
    for number, file in enumerate(entries(source, "bundled")):
        if isinstance(file, str) and file not in known:
            yield (*key, "bundled", number), shown(file), f"one of {', '.join(known)}", near_miss(file, known)
    named: list[tuple[Key, Any]] = [((*key, "files", n), file) for n, file in enumerate(entries(source, "files"))]
    for place, file in [*named, ((*key, "files"), source.get("files"))]:
        if isinstance(file, str) and not may_hold_text(file):
            yield place, shown(file), f"a name that ends in {NAMES}, or a folder", None
    if given == ["hub"]:
        revision = source.get("revision")
        if revision is None or (isinstance(revision, str) and not _COMMIT.fullmatch(revision)):
            yield (*key, "revision"), shown(revision), "the commit of the data set, 40 hex digits", None
        return
    for name in _HUB_ONLY:
        if source.get(name) is not None:
            yield (*key, name), f"a {name} of {given[0]}", f"no {name}: only what is on the hub has one", None


def _band(key: Key, source: Mapping[str, Any]) -> KeyMistakes:
    """A perplexity band has an inside."""
    low, high = (at(source, "filters", "perplexity", name) for name in ("low", "high"))
    if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low >= high:
        yield (*key, "filters", "perplexity", "low"), shown(low), f"less than high {shown(high)}", None


def _task(values: Any) -> KeyMistakes:
    """Prompts are there for instruction tuning, and for nothing else."""
    sources, mixed = mapping(values, "data", "sources"), mapping(values, "data", "mix")
    tuning = values.get("task") == "sft"
    for name, source in sources.items():
        key, prompt = ("data", "sources", name), at(source, "prompt")
        if not tuning and prompt is not None:
            yield (*key, "prompt"), "a prompt", "none, or task: sft", None
        elif tuning and name in mixed and entries(source, "bundled"):
            yield (*key, "bundled"), "texts without prompts", "files or hub, with prompt, for task: sft", None
        elif tuning and name in mixed and isinstance(source, Mapping) and prompt is None:
            yield (*key, "prompt"), "nothing", "the field of the prompt, for task: sft", None
    if tuning and at(values, "data", "packing") is True:
        yield ("data", "packing"), "true", "false for task: sft: an answer sees its own prompt alone", None


def consistency_mistakes(
    document: YamlDocument, sourced: Iterable[KeyMistake] = (), of_base: Iterable[KeyMistake] = ()
) -> list[Mistake]:
    """Where parts of the document contradict each other.

    Args:
        document: Overrides and defaults applied.
        sourced: What `source_mistakes` found, where a recipe has to say where its numbers are from.
        of_base: What is wrong with a base that is a folder.
    """
    values = document.values
    found = (
        *data_mistakes(values),
        *of_base,
        *model_mistakes(values),
        *stage_mistakes(values),
        *watch_mistakes(values),
        *argument_mistakes(values),
        *sourced,
    )
    return document.placed(found, hides=False)


_NEVER = (None, False, "no")


def watch_mistakes(values: Any) -> KeyMistakes:
    """What no stage can watch for."""
    sets = mapping(values, "eval")
    for name, stage in mapping(values, "stages").items():
        key: Key = ("stages", name, "watch")
        watch = mapping(stage, "watch")
        arguments = at(stage, "arguments")
        steps = count_from_one(at(arguments, "max_steps"))
        yield from _targets(key, watch, sets, steps)
        yield from _codes(key, watch)
        yield from _baseline(key, watch)
        yield from _waiting(key, watch)
        if watch.get("patience") is not None and isinstance(arguments, Mapping):
            yield from _evaluations(key, arguments)


def _targets(key: Key, watch: Mapping[str, Any], sets: Mapping[str, Any], steps: int | None) -> KeyMistakes:
    """Every target can be read, once, and its set is evaluated in time."""
    prefixes = [f"eval_{name}" for name in sets]
    learned = [name for name, part in sets.items() if at(part, "retention") is not True]
    seen = []
    for number, text in enumerate(entries(watch, "targets")):
        place = (*key, "targets", number)
        if not isinstance(text, str):
            continue
        try:
            target = parse_target(text)
        except ConfigurationError as error:
            yield place, f"{shown(text)} ({error})", "a target", None
            continue
        if target in seen:
            yield place, "the same target a second time", "each once", None
        seen.append(target)
        if steps is not None and (target.deadline_step or 0) > steps:
            expected = f"a deadline in the stage's max_steps {steps:,}, or @end"
            yield place, f"a deadline at step {target.deadline_step:,}", expected, None
        if not sets:
            continue  # what is wrong with eval is reported there
        if text.strip() in PRESETS:
            if not learned:
                yield place, f"{text.strip()} and only sets that must not be forgotten", "a set that is learned", None
        elif target.split not in prefixes:
            expected = f"a set of eval ({', '.join(prefixes)})"
            yield place, f"the set {target.split}", expected, near_miss(target.split, prefixes)


def _codes(key: Key, watch: Mapping[str, Any]) -> KeyMistakes:
    """Every code is one, and is named once."""
    named = entries(watch, "stop_on")
    for number, code in enumerate(named):
        if isinstance(code, str) and code in retired():
            now = f"{retired()[code]}, as it is called now"
            gone = "nothing: it is no finding any more; parsing the target reports it"
            expected = now if retired()[code] else gone
            yield (*key, "stop_on", number), shown(code), expected, None
        elif isinstance(code, str) and code not in known_codes():
            yield (*key, "stop_on", number), shown(code), "a finding's code", near_miss(code, known_codes())
        elif code in named[:number]:
            yield (*key, "stop_on", number), "the same code a second time", "each once", None


def _evaluations(key: Key, arguments: Mapping[str, Any]) -> KeyMistakes:
    """Patience counts evaluations: one at the stage's end is too late to stop anything."""
    if arguments.get("eval_strategy") in _NEVER:
        expected = "eval_strategy: steps with eval_steps in its arguments, or no patience"
        yield (*key, "patience"), "patience in a stage that evaluates at its end only", expected, None


def _baseline(key: Key, watch: Mapping[str, Any]) -> KeyMistakes:
    """The baseline exists and has the stage."""
    name, stage = watch.get("baseline"), watch.get("stage", AUTO)
    if name is None:
        if isinstance(stage, str) and stage != AUTO:
            expected = "the baseline that this is a stage of"
            yield (*key, "stage"), f"{shown(stage)} without a baseline", expected, None
        return
    if not isinstance(name, str):
        return
    if name not in baseline_ids():
        known = baseline_ids()
        yield (*key, "baseline"), shown(name), "an id that ko-cpt baselines lists", near_miss(name, known)
        return
    try:
        known = tuple(item.name for item in find_baseline(name).stages)
    except BaselineError as error:
        yield (*key, "baseline"), f"one that cannot be read ({error})", "a baseline", None
        return
    if isinstance(stage, str) and stage not in (AUTO, *known):
        yield (*key, "stage"), shown(stage), f"auto or a stage of {name} ({', '.join(known)})", near_miss(stage, known)


def _waiting(key: Key, watch: Mapping[str, Any]) -> KeyMistakes:
    """Grace and patience can be read."""
    grace, patience, delta = watch.get("grace"), watch.get("patience"), watch.get("min_delta")
    if isinstance(grace, str) and not _is_read(read_grace, grace):
        yield (*key, "grace"), shown(grace), "optimizer steps, or a text such as tokens:1e6", None
    if patience is None and delta is not None:
        yield (*key, "min_delta"), f"{shown(delta)} without patience", "patience with it", None
    elif isinstance(delta, str):
        if not _is_read(read_patience, 1, delta):
            yield (*key, "min_delta"), shown(delta), "nats per token (0.01), or a percentage (1%)", None
        elif not delta.strip().endswith("%"):
            yield (*key, "min_delta"), shown(delta), "a number, without quotation marks", delta.strip()


def _is_read(read: Callable[..., object], *values: Any) -> bool:
    """Whether the watch can read values: as the callback does."""
    try:
        read(*values)
    except ConfigurationError:
        return False
    return True
