"""A model card of a run: its measured numbers as ``model-index``, and a section between two marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import ko_cpt_callbacks
from ko_cpt_callbacks import keys
from ko_cpt_callbacks.errors import ConfigurationError, error_text
from ko_cpt_callbacks.messages.catalogue import Catalogue
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.report.run_section import known_facts, progress_line, set_rows
from ko_cpt_callbacks.report.subject import Subject
from ko_cpt_callbacks.run.progress import EvalPoint

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

__all__ = ["card_text"]

_BEGIN: Final = "<!-- ko-cpt: begin -->"
_END: Final = "<!-- ko-cpt: end -->"
# What Markdown, or a hub's Markdown, would read as more than itself: marks, mentions, addresses, entities, formulas.
_MARKS: Final = re.compile(r"([\\`*_{}\[\]<>|&~#!@$]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
_HUB_NAME: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)  # ../base is a folder
_OURS: Final = tuple(f"_{metric}" for metric in (keys.EXACT_LOSS, keys.PPL, keys.BITS_PER_BYTE))


def card_text(subject: Subject, words: Catalogue, existing: str | None = None) -> str:
    """The card as text: front matter and Markdown.

    Args:
        subject: The run.
        words: Of the card's language.
        existing: A card that there is: its own words and metadata stay, and what a run says is written anew.

    Raises:
        ConfigurationError: If the front matter of the existing card cannot be read.
    """
    from huggingface_hub import ModelCard, ModelCardData  # only for who wants a card

    try:
        card = ModelCard(existing or f"---\ntags: []\n---\n\n# {_plain(subject.name)}\n", ignore_metadata_errors=False)
    except Exception as error:  # whatever YAML, or the hub's own checks, say of somebody's card
        raise ConfigurationError(f"README.md: its front matter cannot be read: {error_text(error)}") from None
    data: Any = card.data
    results = list(_results(subject))
    name = data.model_name or subject.name
    # Where a section is, an earlier run wrote it and its numbers; they are not this run's.
    known = {new.metric_name for new in results}
    earlier = _OURS if _BEGIN in card.text else ()
    kept = [
        one for one in data.eval_results or ()
        if one.metric_name not in known and not (one.metric_name or "").endswith(earlier)
    ]  # fmt: skip
    values = {**data.to_dict(), **_metadata(subject, data)}
    values.pop("model-index", None)
    if kept or results:
        values |= {"model_name": printable(name), "eval_results": [*kept, *results]}
    front = ModelCardData(**values).to_yaml()
    return f"---\n{front}\n---\n{_with_section(card.text, _section(subject, words, exact=bool(results)))}"


def _metadata(subject: Subject, data: Any) -> dict[str, Any]:
    """What a run says of its model, where the card does not."""
    tags = [*(data.tags or ())]
    found: dict[str, Any] = {"tags": tags if "ko-cpt" in tags else [*tags, "ko-cpt"]}
    base = _base(subject)
    return found | ({"base_model": base} if base is not None and data.base_model is None else {})


def _base(subject: Subject) -> str | None:
    """The base model's name on the hub; None for a local one."""
    name = subject.parts[0].judgement.asked.recorded("model").get("name_or_path") if subject.parts else None
    return name if isinstance(name, str) and _HUB_NAME.fullmatch(name) else None


def _results(subject: Subject) -> Iterator[EvalResult]:
    """The last exact numbers of every set; a Trainer's own loss depends on its batches and is none of them."""
    from huggingface_hub import EvalResult

    last: dict[str, EvalPoint] = {}
    for part in subject.parts:
        for split, seen in part.judgement.summary.splits.items():
            last[split] = seen.last
    for split, point in last.items():
        if point.metric != keys.EXACT_LOSS or not point.finite or point.value is None:
            continue
        numbers = {keys.EXACT_LOSS: point.value, keys.PPL: point.ppl, keys.BITS_PER_BYTE: point.bits_per_byte}
        types = {keys.EXACT_LOSS: "loss", keys.PPL: "perplexity", keys.BITS_PER_BYTE: keys.BITS_PER_BYTE}
        for metric, value in numbers.items():
            if value is not None:
                yield EvalResult(
                    task_type="text-generation", dataset_type=printable(split), dataset_name=printable(split),
                    metric_type=types[metric], metric_name=printable(keys.key(split, metric)), metric_value=value,
                )  # fmt: skip


def _section(subject: Subject, words: Catalogue, *, exact: bool) -> str:
    facts = subject.facts
    lines = [
        f"## {words.say('card-title')}",
        "",
        f"**{_plain(words.say(f'verdict {facts.verdict.value}'))}** {_plain(progress_line(subject, words))}",
        "",
    ]
    head, rows = set_rows(subject, words)
    lines += [*_table(head, rows), ""] if rows else [_plain(words.say("no-losses")), ""]
    found = {finding.topic: finding for _, finding in reversed(list(subject.findings))}
    for topic, one in reversed(found.items()):
        grave = _plain(words.say(f"severity {one.severity.value}"))
        lines.append(f"- **{grave}** {_plain(topic)}: {_plain(one.short(words.language))}")
    lines += [""] if found else []
    # Where files were on this machine is nothing to publish.
    local = [words.say("file")] + ([] if _base(subject) else [words.say("model name_or_path")])
    rows = [row for row in known_facts(subject, words) if row[0] not in local]
    lines += [*_table([words.say("what"), words.say("value")], rows), ""]
    lines.append(_plain(words.say("card-made" if exact else "card-judged", version=ko_cpt_callbacks.__version__)))
    return "\n".join(lines)


def _with_section(text: str, section: str) -> str:
    """The card's words with the section in its place, or behind them."""
    whole = f"{_BEGIN}\n{section}\n{_END}"
    before, begins, rest = text.partition(_BEGIN)
    _, ends, after = rest.partition(_END)
    if begins and ends:
        return f"{before}{whole}{after}"
    return f"{text.rstrip()}\n\n{whole}\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, *rows]
    made = [f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines]
    return [made[0], f"|{'---|' * len(head)}", *made[1:]]


def _plain(text: str) -> str:
    """A text as Markdown shows it: every mark stands for itself."""
    return _MARKS.sub(r"\\\1", printable(text))
