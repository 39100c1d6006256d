"""Where the losses of an unfinished run are heading: one line of its page, and a list of its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.forecast.chance import Chance, chance_of
from ko_cpt_callbacks.forecast.outlook import Outlook
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.run.facts import RunFacts, RunState
from ko_cpt_callbacks.run.retention import is_retention
from ko_cpt_callbacks.watch.spec import WatchSpec

if TYPE_CHECKING:
    from ko_cpt_callbacks.forecast.forecast import Forecast

__all__ = ["Heading", "heading_line", "headings"]

_WHOLE: Final = 100
"""A count of tokens or hours from which on it is shown without decimals, to three digits."""
_GOING_ON: Final = (RunState.RUNNING, RunState.UNFINISHED)


@dataclass(frozen=True, slots=True)
class Heading:
    """Where the loss of one set is heading.

    Args:
        name: The set; ``train`` where none is evaluated.
        metric: Which loss.
        ends: Its forecast.
        chances: Those of the set's targets.
        outlook: The run, for how long the rest takes.
    """

    name: str
    metric: str
    ends: Forecast
    chances: tuple[Chance, ...]
    outlook: Outlook

    def effort(self, step: int) -> dict[str, float | None]:
        """Target tokens and hours from now to a step; hours of one accelerator, or else of all processes."""
        tokens = self.outlook.tokens_until(step)
        hours = None if tokens is None else self.outlook.hours_for(tokens)
        found: dict[str, float | None] = {"tokens_to_reach": tokens, "gpu_hours_to_reach": None, "hours_to_reach": None}
        return found if hours is None else {**found, ("gpu_" if hours[1] else "") + "hours_to_reach": hours[0]}

    def as_dict(self) -> dict[str, Any]:
        """The heading as JSON values."""
        nothing = dict.fromkeys(("tokens_to_reach", "gpu_hours_to_reach", "hours_to_reach"))
        targets = [
            {**one.as_dict(), **(nothing if one.step is None else self.effort(one.step))} for one in self.chances
        ]
        return {"set": self.name, "metric": self.metric, **self.ends.as_dict(), "targets": targets}


def headings(facts: RunFacts, outlook: Outlook, spec: WatchSpec) -> list[Heading]:
    """Where each set is heading, those with targets first; none of a run that is over, or is no language model's.

    Where no set is evaluated, training is what there is.
    """
    if facts.state not in _GOING_ON or (facts.kind is not None and not facts.kind.language):
        return []
    targets = spec.targets
    sets = sorted(outlook.sets, key=lambda name: (_first(name, spec), is_retention(name, spec.retention)))
    found = []
    for name in sets or [keys.TRAIN_PREFIX]:
        curve, ends = outlook.curve(name), outlook.forecast(name)
        if curve is not None and ends is not None:
            chances = (chance_of(target, outlook) for target in targets if target.split == name)
            found.append(Heading(name, curve.metric, ends, tuple(one for one in chances if one is not None), outlook))
    return found


def _first(name: str, spec: WatchSpec) -> int:
    """Which target is the first of a set; behind all where it has none."""
    return next((place for place, target in enumerate(spec.targets) if target.split == name), len(spec.targets))


def heading_line(found: Heading, said: Catalogue) -> str:
    """A set's heading on one line: where it ends, how likely its targets are met, and when."""
    ends = found.ends
    if ends.withheld or ends.median is None:
        return said.line_of("heading-withheld", set=found.name, why=said.line_of(f"withheld-{ends.withheld[0]}"))
    values = {"median": ends.median, "lower": ends.lower, "upper": ends.upper, "level": ends.level}
    parts = [said.line_of("heading", set=found.name, last=ends.last_step, **values)]
    parts += [said.line_of("forecast-family", runs=ends.family)] if ends.family else []
    parts += (part for chance in found.chances for part in _target(found, chance, said))
    return " · ".join(parts)


def _target(found: Heading, chance: Chance, said: Catalogue) -> Iterator[str]:
    """How likely a target is met, and where it is, the step, tokens and hours from now."""
    if chance.odds is None:
        return
    if chance.step is None:
        yield said.line_of("heading-target", target=chance.target, odds=chance.odds)
        return
    yield said.line_of("heading-target-step", target=chance.target, odds=chance.odds, step=chance.step)
    for name, value in found.effort(chance.step).items():
        if value is not None:
            count = f"{float(f'{value:.3g}'):,.0f}" if value >= _WHOLE else f"{value:.3g}"
            yield said.line_of(f"heading-{name.partition('_to_')[0].replace('_', '-')}", count=count)
