"""Where the losses of an unfinished run will end, as curves that open towards the end."""

from __future__ import annotations

from dataclasses import dataclass

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.forecast.outlook import outlook_of
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.report.curves import splits_of
from ko_cpt_callbacks.report.line import Line, Point
from ko_cpt_callbacks.report.scale import number
from ko_cpt_callbacks.report.subject import Subject
from ko_cpt_callbacks.run.facts import RunState

__all__ = ["Fans", "fans_of"]


@dataclass(frozen=True, slots=True)
class Fans:
    """What is forecast of a run.

    Args:
        lines: A curve a set from now to its end, the interval at the end.
        withheld: A sentence for each set of which nothing is drawn, and why.
    """

    lines: tuple[Line, ...] = ()
    withheld: tuple[str, ...] = ()


def fans_of(subject: Subject, words: Catalogue) -> Fans:
    """The forecasts of the sets of a run that has not come to its end; of a staged run those of the stage it is in.

    Args:
        subject: The run.
        words: Of the page's language.
    """
    if not subject.parts or subject.facts.state not in (RunState.UNFINISHED, RunState.RUNNING):
        return Fans()
    part = subject.parts[-1]
    outlook = outlook_of(part.seen)
    splits = {split: color for color, split in enumerate(splits_of(subject, retention=False))}
    lines: list[Line] = []
    withheld: list[str] = []
    for split, color in splits.items() or ((keys.TRAIN_PREFIX, 0),):
        found = outlook.forecast(split)
        if found is None:
            continue
        name = words.say("training") if split == keys.TRAIN_PREFIX else split
        if found.withheld or found.lower is None or found.upper is None or not found.path:
            why = "; ".join(words.line_of(f"withheld-{doubt}") for doubt in found.withheld)
            withheld.append(words.say("no-forecast", name=name, why=why))
            continue
        (first, loss), *between, (last, _) = found.path
        points = [
            Point(first, loss, ends=(loss, loss)), *(Point(*one) for one in between),
            Point(last, found.median, ends=(found.lower, found.upper)),
        ]  # fmt: skip
        numbers = {
            key: number(one, "loss")
            for key, one in (("median", found.median or 0.0), ("low", found.lower), ("high", found.upper))
        }
        title = words.say("forecast-curve", name=name, step=part.offset + last, level=found.level, **numbers)
        moved = tuple(Point(part.offset + one.x, one.y, ends=one.ends) for one in points)
        lines.append(Line(title, (moved,), color, "forecast"))
    return Fans(tuple(lines), tuple(withheld))
