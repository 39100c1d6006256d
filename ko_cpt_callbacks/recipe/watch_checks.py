"""What a stage watches for must exist: sets, codes, a baseline and its stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ko_cpt_callbacks.compare.reference import AUTO
from ko_cpt_callbacks.compare.registry import baseline_ids, find_baseline
from ko_cpt_callbacks.errors import BaselineError, ConfigurationError
from ko_cpt_callbacks.messages.catalogue import retired
from ko_cpt_callbacks.recipe.schema import Page
from ko_cpt_callbacks.rules.registry import known_codes
from ko_cpt_callbacks.watch.stopping import read_patience
from ko_cpt_callbacks.watch.target import PRESETS, Target, parse_target
from ko_cpt_callbacks.yaml.mistake import Key, near_miss, shown
from ko_cpt_callbacks.yaml.reading import Said, at, entries, mapping, whole


def watched_targets(page: Page, name: str) -> tuple[Target, ...]:
    """The targets of a stage; a preset is asked of the first set that is no retention set."""
    learnt = next((f"eval_{key}" for key, part in page.eval.items() if not part.retention), None)
    found = []
    for text in page.stages[name].watch.targets:
        target = parse_target(text)
        found.append(replace(target, split=learnt) if text.strip() in PRESETS and learnt else target)
    return tuple(found)


def callback_arguments(page: Page, name: str) -> dict[str, Any]:
    """The arguments of ``KoCPTCallback`` for a stage."""
    watch = page.stages[name].watch
    return {
        "targets": watched_targets(page, name),
        "baseline": watch.baseline,
        "stage": watch.stage,
        "task": page.task,
        "retention": tuple(key for key, part in page.eval.items() if part.retention),
        "stop_on": tuple(watch.stop_on),
        "grace": watch.grace,
        "patience": watch.patience,
        "min_delta": watch.min_delta,
    }


_NEVER = (None, False, "no")
_UNITS = ("step", "tokens")


def watch_mistakes(values: Any) -> Said:
    """What no stage can watch for."""
    sets = mapping(values, "eval")
    for name, stage in mapping(values, "stages").items():
        key: Key = ("stages", name, "watch")
        watch = mapping(stage, "watch")
        arguments = at(stage, "arguments")
        steps = whole(at(arguments, "max_steps"))
        yield from _targets(key, watch, sets, steps)
        yield from _codes(key, watch)
        yield from _baseline(key, watch)
        yield from _waiting(key, watch)
        if watch.get("patience") is not None and isinstance(arguments, Mapping):
            yield from _evaluations(key, arguments)


def _targets(key: Key, watch: Mapping[str, Any], sets: Mapping[str, Any], steps: int | None) -> Said:
    """Every target can be read, once, and its set is evaluated in time."""
    prefixes = [f"eval_{name}" for name in sets]
    learnt = [name for name, part in sets.items() if at(part, "retention") is not True]
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
            continue  # what is wrong with eval is told there
        if text.strip() in PRESETS:
            if not learnt:
                yield place, f"{text.strip()} and only sets that must not be forgotten", "a set that is learnt", None
        elif target.split not in prefixes:
            expected = f"a set of eval ({', '.join(prefixes)})"
            yield place, f"the set {target.split}", expected, near_miss(target.split, prefixes)


def _codes(key: Key, watch: Mapping[str, Any]) -> Said:
    """Every code is one, and is named once."""
    named = entries(watch, "stop_on")
    for number, code in enumerate(named):
        if isinstance(code, str) and code in retired():
            now = f"{retired()[code]}, of which it is a reason now"
            gone = "nothing: it is no finding any more; parsing the target reports it"
            expected = now if retired()[code] else gone
            yield (*key, "stop_on", number), shown(code), expected, None
        elif isinstance(code, str) and code not in known_codes():
            yield (*key, "stop_on", number), shown(code), "a finding's code", near_miss(code, known_codes())
        elif code in named[:number]:
            yield (*key, "stop_on", number), "the same code a second time", "each once", None


def _evaluations(key: Key, arguments: Mapping[str, Any]) -> Said:
    """Patience counts evaluations: one at the stage's end is too late to stop anything."""
    if arguments.get("eval_strategy") in _NEVER:
        expected = "eval_strategy: steps with eval_steps in its arguments, or no patience"
        yield (*key, "patience"), "patience in a stage that evaluates at its end only", expected, None


def _baseline(key: Key, watch: Mapping[str, Any]) -> Said:
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


def _waiting(key: Key, watch: Mapping[str, Any]) -> Said:
    """Grace and patience can be read."""
    grace, patience, delta = watch.get("grace"), watch.get("patience"), watch.get("min_delta")
    if isinstance(grace, str) and not _is_grace(grace):
        yield (*key, "grace"), shown(grace), "optimizer steps, or a text such as tokens:1e6", None
    if patience is None and delta is not None:
        yield (*key, "min_delta"), f"{shown(delta)} without patience", "patience with it", None
    elif isinstance(delta, str):
        try:
            read_patience(1, delta)
        except ConfigurationError:
            yield (*key, "min_delta"), shown(delta), "nats per token (0.01), or a percentage (1%)", None
        else:
            if not delta.strip().endswith("%"):
                yield (*key, "min_delta"), shown(delta), "a number, without quotation marks", delta.strip()


def _is_grace(text: str) -> bool:
    unit, _, number = text.partition(":")
    try:
        amount = float(number)
    except ValueError:
        return False
    return unit in _UNITS and math.isfinite(amount) and amount >= 0 and amount.is_integer()
