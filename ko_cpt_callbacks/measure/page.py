"""What ``ko-cpt measure`` prints: a table for each model, a ladder of several, where the bits are; a card's rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.compare.registry import find_baseline
from ko_cpt_callbacks.measure.document import DocumentSums, SplitBy
from ko_cpt_callbacks.measure.measurement import MeasuredModel, MeasuredSet
from ko_cpt_callbacks.messages.terminal import columns, printable, shortened
from ko_cpt_callbacks.metrics.perplexity import interval

__all__ = ["document_lines", "ladder_lines", "markdown_lines", "model_lines", "part_lines", "published_lines"]

_NONE: Final = "–"
_NAME: Final = 16
_WORST: Final = 10
_LN2: Final = math.log(2.0)
_TOKENIZERS: Final = ("kotokenlab-0.5b-base", "kotokenlab-30k", "eeve-korean", "redwhale", "polyglot-ko-12.8b")
"""Baselines whose tokenizers stand beside the measured one's: Qwen2.5's, the same with 30,000 tokens of Korean in the
place of others, two that extend SOLAR's, and one made for Korean alone, of which nothing was read."""
_HEAD: Final = ("nats/token", "PPL", "bits/byte", "bytes/token", "tokens/char")
_WIDTHS: Final = (15, 9, 14, 12, 12)


def model_lines(model: MeasuredModel) -> Iterator[str]:
    """The numbers of a model, a line a set; at most 80 columns."""
    facts = model.facts
    front = "no token in front" if facts["prefix"] is None else f"{printable(facts['prefix'])} in front"
    yield f"{_label(model)}: {facts['parameters']:,} parameters, {_kind(model)}"
    yield f"  {shortened(printable(facts['text']), 78)}"
    yield f"  windows of {facts['window']} tokens, {front}, {facts['context']} or more of context"
    yield f"  {'':{_NAME}}" + "".join(f"{name:>{width}}" for name, width in zip(_HEAD, _WIDTHS, strict=True))
    for item in model.sets:
        cells = "".join(f"{cell:>{width}}" for cell, width in zip(_cells(item), _WIDTHS, strict=True))
        yield f"  {_padded(item.name)}{cells}"
    absent = {item.entries.get(keys.BITS_PER_BYTE_ABSENT) for item in model.sets} - {None}
    for reason in sorted(map(str, absent)):
        yield f"  no bits per byte: {printable(reason)}"
    if model.changed:
        yield f"  {model.changed} documents: the tokenizer changes their text; counted are the bytes of what it made"


def published_lines(models: Sequence[MeasuredModel]) -> Iterator[str]:
    """UTF-8 bytes per token that were published of five tokenizers on Korean; nothing where no set is Korean."""
    if not any("ko" in model.facts["languages"].values() for model in models):
        return
    yield "bytes per token as published, each on a Korean text of its own (baselines show)"
    for name in _TOKENIZERS:
        known = find_baseline(name)
        ends = (known.bytes_per_token_low, known.bytes_per_token_high)
        told = dict.fromkeys("not stated" if end is None else f"{end:.3f}" for end in ends)
        yield f"  {name:24}{' to '.join(told)}"


def _cut(model: MeasuredModel) -> str:
    return f"windows of {model.facts['window']} tokens, {model.facts['context']} of context"


def _padded(name: str) -> str:
    """A set's name in its column."""
    shown = shortened(printable(name), _NAME)
    return shown + " " * (_NAME - columns(shown))


def _label(model: MeasuredModel) -> str:
    """The name of its folder of results."""
    return shortened(printable(model.facts["label"]), 32)


def _kind(model: MeasuredModel) -> str:
    kinds = ", ".join(model.facts["dtypes"])
    quantization = model.facts["quantization"]
    return kinds if quantization == "none" else f"{quantization} ({kinds})"


def _cells(item: MeasuredSet) -> tuple[str, ...]:
    return (
        _with_error(item, keys.EXACT_LOSS, keys.EXACT_LOSS_SE),
        _number(item.number(keys.PPL), ".3g"),
        _with_error(item, keys.BITS_PER_BYTE, keys.BITS_PER_BYTE_SE),
        _number(item.bytes_per_token, ".3f"),
        _number(item.tokens_per_character, ".3f"),
    )


def _number(value: float | None, form: str) -> str:
    return _NONE if value is None else f"{value:{form}}"


def _with_error(item: MeasuredSet, name: str, error: str) -> str:
    value, se = item.number(name), item.number(error)
    if value is None:
        return _NONE
    return f"{value:.3f}" if se is None else f"{value:.3f} ±{se:.3f}"


def ladder_lines(models: Sequence[MeasuredModel]) -> Iterator[str]:
    """Every later model beside the first: bits per byte on the same documents, with the 95 % interval."""
    first = models[0]
    yield f"bits per byte less those of {_label(first)}, the same documents, 95 % interval"
    for model in models[1:]:
        yield f"  {_label(model)}"
        if _cut(model) != _cut(first):  # more text before a token is fewer bits, under any model
            yield f"    cut another way: {_cut(model)};"
            yield f"    the first: {_cut(first)}"
        for name, paired in model.against(first).items():
            head = f"    {_padded(name)}"
            if paired.difference is None:
                yield f"{head}not paired: {', '.join(paired.reasons)}"
            elif paired.se is None:
                yield f"{head}{paired.difference:+.4f}, {paired.rows} documents"
            else:
                low, high = interval(paired.difference, paired.se)
                yield f"{head}{paired.difference:+.4f} [{low:+.4f}, {high:+.4f}], {paired.rows} documents"


def part_lines(models: Sequence[MeasuredModel], by: SplitBy) -> Iterator[str]:
    """Where the bits are: a part's share of the bytes and of the bits, and bits per byte of it."""
    for model in models:
        yield f"{_label(model)}, by {by}"
        if by is SplitBy.POSITION:
            yield "  bytes of the document before it"
        elif by is SplitBy.VOCABULARY:
            old = model.facts.get("old_rows")
            yield "  old tokens are not known: give --base" if old is None else f"  new tokens: ids from {old:,} on"
        for item in model.sets:
            parts = item.parts(by)
            if not parts:
                continue
            bits, size = (sum(sums[at] for sums in parts.values()) for at in (0, 1))
            yield f"  {printable(item.name)}"
            yield f"    {'':{_NAME - 2}}{'bytes':>10}{'of bytes':>10}{'of bits':>10}{'bits/byte':>11}"
            for name, (own, count) in parts.items():
                shares = f"{_share(count, size):>10}{_share(own, bits):>10}"
                yield f"    {name:{_NAME - 2}}{count:>10,}{shares}{_number(own / count if count else None, '.3f'):>11}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else _NONE


def document_lines(models: Sequence[MeasuredModel]) -> Iterator[str]:
    """The documents with most bits per byte; of two models also those that changed most."""
    for model in models:
        worst = sorted(_documents(model), key=lambda item: -_bits(item))[:_WORST]
        yield f"{_label(model)}, most bits per byte"
        yield from (f"  {_bits(item):7.3f}  {item.bytes:>7,} bytes  {printable(item.id)}" for item in worst)
    for model in models[1:]:
        before = {(item.set, item.id): item for item in _documents(models[0]) if item.bytes > 0}
        pairs = [(before[item.set, item.id], item) for item in _documents(model) if (item.set, item.id) in before]
        most = sorted(pairs, key=lambda pair: -abs(_bits(pair[1]) - _bits(pair[0])))[:_WORST]
        yield f"{_label(model)} less {_label(models[0])}, bits per byte that changed most"
        for old, new in most:
            yield f"  {_bits(new) - _bits(old):+7.3f}  {new.bytes:>7,} bytes  {printable(new.id)}"


def _documents(model: MeasuredModel) -> list[DocumentSums]:
    return [one for item in model.sets if not item.total for one in item.documents if one.bytes > 0]


def _bits(item: DocumentSums) -> float:
    return item.nll / _LN2 / item.bytes


def markdown_lines(models: Sequence[MeasuredModel]) -> Iterator[str]:
    """A table for a model card, a row for each model and language; a set where it is alone in its language."""
    facts = models[0].facts
    cuts = dict.fromkeys(map(_cut, models))
    yield "| model | text | bits per byte | nats per token | perplexity | bytes per token |"
    yield "|---|---|---|---|---|---|"
    for model in models:
        languages = tuple(f"{item.name}_" for item in model.sets if item.total)
        for item in model.sets:
            if not item.total and item.name.startswith(languages):
                continue  # in its language's total
            loss, ppl, bits, size, _ = _cells(item)
            yield f"| {_cell(_label(model))} | {_cell(item.name)} | {bits} | {loss} | {ppl} | {size} |"
    yield ""
    yield (
        f"Text: {_cell(facts['text'])} (SHA-256 {facts['text_sha256'][:12]}), {' or '.join(cuts)}. "
        "± is the standard error, the document as cluster."
    )


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
