"""``ko-cpt forecast RUN``: where the losses of a run will end, how sure, and whether its targets are in reach.

Exit status: 0 forecast, or withheld with the reason; 2 an argument, a run or a file cannot be used (on stderr).
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.check.terminal import FAMILY, LANGUAGE, ONE_OBJECT, guarded, in_range, print_folded, print_json
from ko_cpt_callbacks.errors import ConfigurationError, UnreadableRunError, refuse_empty
from ko_cpt_callbacks.forecast.chance import Chance, bound_of
from ko_cpt_callbacks.forecast.family import Apart
from ko_cpt_callbacks.forecast.outlook import Curve, Outlook, Trail, outlook_of
from ko_cpt_callbacks.messages.catalogue import DEFAULT_LANGUAGE, catalogue, language_of
from ko_cpt_callbacks.metrics.perplexity import bits_per_byte, perplexity
from ko_cpt_callbacks.run.file import clip, read_text
from ko_cpt_callbacks.run.fold import Length
from ko_cpt_callbacks.run.reading import read_run
from ko_cpt_callbacks.watch.plausibility import LARGEST_GUESS, LARGEST_VOCABULARY
from ko_cpt_callbacks.watch.target import LARGEST_STEP, TOKENS, Target, parse_target

if TYPE_CHECKING:  # numpy: only for who forecasts
    from ko_cpt_callbacks.forecast.forecast import Forecast
    from ko_cpt_callbacks.forecast.schedule import Schedule

__all__ = ["forecast"]

_FORMAT: Final = 1
_COLUMNS: Final = ("step", "lr", "loss")
_HEAD: Final = ",".join(_COLUMNS)


def forecast(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run folder, checkpoint, trainer_state.json, or CSV (step,lr,loss).")
    ],
    at: Annotated[
        float | None, typer.Option(metavar="PART", help="As it was at this part of the run's steps: 0.3.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="What if it ended at step N; default: as planned.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The rate from now on: constant, cosine[:END], linear[:END], wsd[:DECAY]."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="How likely it is met: 'eval_exact_loss<3.0', or a loss. Repeatable."),
    ] = None,
    family: Annotated[list[str] | None, FAMILY] = None,
    as_json: Annotated[bool, ONE_OBJECT] = False,
    lang: Annotated[str | None, LANGUAGE] = None,
) -> None:
    """Say where the losses of a run will end, with an interval, or why that cannot be reported."""
    guarded("forecast", lambda: _forecast(run, at, steps, schedule, target or (), family or (), lang, as_json=as_json))


@dataclass(frozen=True, slots=True)
class _Question:
    """What was asked of every curve: cut at ``--at``, with the rate before and after; without an outlook of a table."""

    curves: tuple[Curve, ...]
    schedule: Schedule
    last: int
    outlook: Outlook | None = None

    def answer(self, curve: Curve, last: int | None = None) -> Forecast:
        """The forecast of a curve, to the deadline of a target where one is given."""
        from ko_cpt_callbacks.forecast.forecast import forecast as forecast_of

        found = forecast_of(curve.points, self.schedule, self.last if last is None else last, kind=curve.kind)
        if self.outlook is None or not self.outlook.family:
            return found
        if self.schedule.asked:
            return found if curve.name == keys.TRAIN_PREFIX else replace(found, apart=Apart.OTHER_SCHEDULE)
        from ko_cpt_callbacks.forecast.band import narrowed

        return narrowed(found, self.outlook, curve.name)

    def chance(self, curve: Curve, text: str, target: Target | float) -> Chance | None:
        """A target beside the forecast of its curve; None where it is another curve's."""
        if isinstance(target, float):
            return Chance(text, target, self.answer(curve))
        if target.split != curve.name:
            return None
        step = target.deadline_step
        return Chance(text, _nats(target, curve), self.answer(curve, None if step is None else min(step, self.last)))


def _forecast(
    run: str, at: float | None, steps: int | None, schedule: str | None, targets: Sequence[str],
    family: Sequence[str], lang: str | None, *, as_json: bool,
) -> None:  # fmt: skip
    language = language_of("--lang", lang, os.environ) or DEFAULT_LANGUAGE
    asked = [(text, _target(text)) for text in targets]
    question = _question(run, at, steps, schedule, family)
    names = [curve.name for curve in question.curves]
    for text, target in asked:
        if isinstance(target, Target) and target.split not in names:
            known = ", ".join(names)
            raise ConfigurationError(f"--target: found set {target.split!r} in {text!r}, expected one of {known}")
    answers = []
    for curve in question.curves:
        reached = [one for text, target in asked if (one := question.chance(curve, text, target))]
        answers.append((curve, question.answer(curve), reached))
    if as_json:
        told = [
            {"set": curve.name, "metric": curve.metric, **found.as_dict(), **_units(curve, found),
             "targets": [one.as_dict() for one in reached]}
            for curve, found, reached in answers
        ]  # fmt: skip
        print_json({"format": _FORMAT, "run": run, "what_if": question.schedule.asked, "forecasts": told})
        return
    for curve, found, reached in answers:
        print_folded(_lines(curve, found, reached, question.schedule, language))


def _question(
    run: str, at: float | None, steps: int | None, schedule: str | None, family: Sequence[str]
) -> _Question:
    from ko_cpt_callbacks.forecast.family import others
    from ko_cpt_callbacks.forecast.schedule import asked_schedule, schedule_of

    refuse_empty("RUN", run, "a path")
    in_range("--at", at, 0, 1, "a part of the run", above=True)
    in_range("--steps", steps, 1, LARGEST_STEP, "a step")
    path = Path(run)
    table = path.suffix == ".csv" and path.is_file()
    seen = () if table else tuple(read_run(path).observations())
    held = _table(path) if table else outlook_of(seen)
    curves = held.curves()
    if not curves:
        raise ConfigurationError(f"{run}: found no loss, expected training rows or evaluations with one")
    planned = max(held.planned or held.done, held.done)
    last = planned if steps is None else steps
    if last > planned and schedule is None:
        raise ConfigurationError(
            f"--steps: found {last}, beyond the {planned} of the run; say with --schedule what the rate does until then"
        )
    now = held.done if at is None else int(at * planned)
    rates = held.rates()
    if schedule is None:
        rate = schedule_of(held.ahead, rates, now, planned)
    else:
        rate = asked_schedule(schedule, rates, now, last)
    cut = tuple(curve.until(now) for curve in curves)
    outlook = None if table else outlook_of(one for one in seen if one.step <= now)
    if family:
        from ko_cpt_callbacks.compare.own import asked_family

        if outlook is None:
            raise ConfigurationError("--family: found a table, expected a run with exact losses")
        outlook = replace(outlook, family=others(asked_family(family), held))
    return _Question(cut, rate, last, outlook)


def _table(path: Path) -> Outlook:
    """The outlook of a CSV file with the columns ``step,lr,loss``; rows without a loss are of the schedule ahead.

    Raises:
        UnreadableRunError: If a column is missing, or a cell is no number; names the line.
    """
    lines = csv.reader(read_text(path).splitlines())
    try:
        head = [name.strip() for name in next(lines, [])]
        body = [(lines.line_num, cells) for cells in lines]
    except csv.Error as error:
        raise UnreadableRunError(f"{path}:{lines.line_num}: no table ({error}), expected {_HEAD}") from None
    if not set(_COLUMNS) <= set(head):
        raise UnreadableRunError(f"{path}:1: found {clip(','.join(head))}, expected the columns {_HEAD}")
    places = [head.index(name) for name in _COLUMNS]
    trail = Trail()
    for number, cells in body:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            step, rate, loss = (cells[place].strip() for place in places)
            trail = trail.add((float(step), float(loss) if loss else None, float(rate)))
            if not 0 <= float(step) <= LARGEST_STEP:
                raise ValueError
        except (ValueError, IndexError):
            line = f"{path}:{number}"
            raise UnreadableRunError(f"{line}: found {clip(','.join(cells))}, expected three numbers") from None
    if not trail:
        raise UnreadableRunError(f"{path}: found no row, expected a step, a learning rate and a loss a line")
    done = int(max((step for step, loss, _ in trail if loss is not None), default=0))
    last = int(max(step for step, _, _ in trail))
    return Outlook(trail, length=Length(done, planned=last if last > done else None))



def _target(text: str) -> Target | float:
    """A target, or a loss in nats per token for every curve."""
    try:
        number = float(text)
    except ValueError:
        target = parse_target(text)
        if target.by.startswith(TOKENS):
            expected = "expected @end or @step:N"
            raise ConfigurationError(f"--target: found a deadline in tokens in {text!r}, {expected}") from None
        return target
    if not 0 < number <= LARGEST_GUESS:
        near = f"; did you mean 'eval_ppl<{number:g}'?" if LARGEST_GUESS < number <= LARGEST_VOCABULARY else ""
        raise ConfigurationError(
            f"--target: found {clip(text)}, expected a loss above 0, at most the {LARGEST_GUESS:.2f} of a model that "
            f"guesses, or a target such as 'eval_ppl<20'{near}"
        )
    return number


def _nats(target: Target, curve: Curve) -> float:
    """The bound of a target as a loss.

    Raises:
        ConfigurationError: If it is of another loss than the curve, or in bytes that no row has.
    """
    if target.metric in (keys.LOSS, keys.EXACT_LOSS) and target.metric != curve.metric:
        expected = str(target).replace(f"{target.split}_{target.metric}", keys.key(target.split, curve.metric), 1)
        raise ConfigurationError(
            f"--target: found {target}, but what is forecast of {curve.name} is {curve.metric}; write {expected}"
        )
    bound = bound_of(target, replace(curve, metric=keys.EXACT_LOSS) if target.metric == keys.PPL else curve)
    if bound is None:
        raise ConfigurationError(f"--target: {target} needs the bytes of the text and an exact loss; no row has both")
    if target.metric == keys.PPL and curve.metric != keys.EXACT_LOSS:
        same = f"{keys.key(target.split, curve.metric)}<{bound:.4g}@{target.by}"
        raise ConfigurationError(
            f"--target: found {target}, but a perplexity is that of an exact loss, and of {curve.name} there is none; "
            f"write {same}"
        )
    return bound


def _units(curve: Curve, found: Forecast) -> dict[str, Any]:
    """The same in perplexity and, where the bytes are known, bits per byte."""
    names = ("median", "lower", "upper")
    losses = [found.median, found.lower, found.upper]
    ppl = [None if loss is None or not perplexity(loss) < math.inf else perplexity(loss) for loss in losses]
    told: dict[str, Any] = {"perplexity": dict(zip(names, ppl, strict=True))}
    if (reach := curve.bytes_per_token) is not None:
        bits = [None if loss is None else bits_per_byte(loss, reach) for loss in losses]
        told[keys.BITS_PER_BYTE] = dict(zip(names, bits, strict=True))
    return told


def _lines(
    curve: Curve, found: Forecast, reached: Sequence[Chance], schedule: Schedule, language: str
) -> Iterator[str]:
    said = catalogue(language)
    where = {"set": curve.name, "step": found.now, "last": found.last_step}
    if found.median is None:
        yield said.line_of("forecast-none", **where)
    else:
        values = {"median": found.median, "lower": found.lower, "upper": found.upper, "level": found.level}
        ppl = perplexity(found.median)
        yield said.line_of("forecast", **where, **values, ppl=ppl, schedule=said.line_of(f"schedule-{schedule.kind}"))
    if schedule.asked:
        yield "  " + said.line_of("forecast-what-if")
    if found.family:
        yield "  " + said.line_of("forecast-family", runs=found.family)
    elif found.apart is not None:
        yield "  " + said.line_of("forecast-family-withheld", why=str(found.apart))
    # A probability is one of a target: where none was asked for, none is missing.
    name = "forecast-withheld" if reached else "forecast-why" if found.median is None else "forecast-doubt"
    for doubt in found.withheld:
        yield "  " + said.line_of(name, why=said.line_of(f"withheld-{doubt}"))
    for one in reached:
        if one.odds is not None:
            name = "forecast-target" if one.step is None else "forecast-target-step"
            yield "  " + said.line_of(name, target=one.target, odds=one.odds, step=one.step)
        elif one.by.last_step < found.last_step and found.now is not None and one.by.last_step <= found.now:
            yield "  " + said.line_of("forecast-target-passed", target=one.target, step=one.by.last_step)
