"""The callback's arguments, checked when it is built: a mistake shows before the first step, not at the last."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from typing import Any

import transformers

from ko_cpt_callbacks.compare.baseline import Baseline
from ko_cpt_callbacks.compare.registry import baseline_data
from ko_cpt_callbacks.errors import ConfigurationError
from ko_cpt_callbacks.forecast.family import family_row
from ko_cpt_callbacks.messages.catalogue import language_of
from ko_cpt_callbacks.recipe.installed import check_release
from ko_cpt_callbacks.rules.registry import known_limits, rules_for
from ko_cpt_callbacks.run.alert import ALERTS_VARIABLE, alert_output
from ko_cpt_callbacks.run.fold import FAMILY
from ko_cpt_callbacks.run.output import USUAL, Output, output_names
from ko_cpt_callbacks.watch.argument import one_of, several, texts
from ko_cpt_callbacks.watch.plausibility import doubts_of
from ko_cpt_callbacks.watch.spec import WatchSpec

_log = logging.getLogger("ko_cpt_callbacks")


def callback_spec(
    *, baseline: str | Baseline | None = None, language: str | None = None, **arguments: Any
) -> WatchSpec:
    """What is watched, from the callback's arguments; what is to be asked twice about a target is logged as a warning.

    Args:
        baseline: An id, or the baseline itself.
        language: A language; None: that of the environment, else English.
        arguments: The others, as `WatchSpec.from_kwargs` takes them.

    Raises:
        ConfigurationError: For a value that cannot be used; names the argument, the value, and what is expected. For a
            release of transformers whose Trainer is not known.
    """
    check_release(transformers.__version__)
    spec = WatchSpec.from_kwargs(
        known_limits(),
        baseline_data,
        baseline=baseline.as_dict() if isinstance(baseline, Baseline) else baseline,
        language=_environment_language() if language is None else language,
        **arguments,
    )
    rules_for(spec)  # a stage that the baseline does not have is reported now
    for doubt in doubts_of(spec.targets, spec.task):
        _log.warning("%s", doubt.message(spec.language))
    return spec


def checked_outputs(outputs: Iterable[str | Output] | None) -> tuple[str | Output, ...]:
    """Outputs and names of outputs.

    Args:
        outputs: As it was given; None: the usual ones.

    Raises:
        ConfigurationError: For a name that is none; tells what was probably meant.
    """
    places: list[str | Output] = list(USUAL if outputs is None else several("outputs", outputs))
    for place in places:
        if not isinstance(place, Output):
            one_of("outputs", place, output_names())
    return tuple(places)


def _environment_language() -> str | None:
    """The language that the environment names; a wrong one ends no run."""
    try:
        return language_of("", None, os.environ)
    except ConfigurationError as error:
        _log.warning("%s; sentences are in English", error)
        return None


def alert_outputs(alerts: Iterable[str] | str | None, language: str) -> tuple[Output, ...]:
    """What sends findings to people; nothing where neither the argument nor the environment asks for it.

    Args:
        alerts: As it was given; None: what the environment says, of which a mistake ends no run.
        language: Of the sentences.

    Raises:
        ConfigurationError: For an argument that cannot be used; no address is in the error.
    """
    if alerts is not None:
        given = list(alerts) if isinstance(alerts, Iterable) and not isinstance(alerts, str) else alerts
        return () if given == [] else (alert_output("alerts", given, language, os.environ),)
    try:
        words = os.environ.get(ALERTS_VARIABLE, "").split()
        return (alert_output(ALERTS_VARIABLE, words, language, os.environ),) if words else ()
    except ConfigurationError as error:
        _log.warning("%s; no alert is sent", error)
        return ()


def family_notes(family: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The set-up row that holds the runs of a family; none where none are named.

    Args:
        family: Folders, ids of own baselines, or ``own``.

    Raises:
        ConfigurationError, UnreadableRunError: As `read_family` does.
    """
    named = texts("family", family)
    if named:
        from ko_cpt_callbacks.compare.own import read_family  # pydantic and YAML: not for those who have none

        yield FAMILY, family_row(read_family(named))
