"""From a measurement to the entries of an evaluation's row: numbers for everyone, texts for our files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.hf.measure.measurement import Measurement
from ko_cpt_callbacks.metrics.row_sums import RowSums, exact_numbers, loss_numbers
from ko_cpt_callbacks.run.progress import EvalProgress
from ko_cpt_callbacks.run.retention import retention_names


def evaluation_entries(prefix: str, measured: Measurement) -> tuple[dict[str, float | int], dict[str, str]]:
    """What an evaluation's row gets.

    Args:
        prefix: The evaluation's prefix, such as ``eval`` or ``eval_ko``.
        measured: What it came to, over all ranks.

    Returns:
        Numbers, which trackers may plot; and texts (fingerprint, reasons), which they may not.
    """
    if measured.reason is not None:
        numbers: dict[str, float | int] = {}
        if measured.batches:
            numbers[keys.key(prefix, keys.NONFINITE_BATCHES)] = measured.nonfinite_batches
        return numbers, {keys.key(prefix, keys.EXACT_LOSS_ABSENT): measured.reason}
    rows, broken = measured.rows if measured.rows is not None else measured.counts, measured.nonfinite_batches
    with_bytes = rows is not None and measured.bytes_absent is None and bool((rows.bytes >= 0).all())
    if measured.rows is not None:
        numbers = exact_numbers(measured.rows, prefix, broken, with_bytes=with_bytes)
    else:
        numbers = loss_numbers(measured.nll, measured.tokens, prefix, broken, rows=rows, with_bytes=with_bytes)
    absent = keys.key(prefix, keys.BITS_PER_BYTE_ABSENT)
    if rows is None:
        return numbers, {absent: "only the loss of whole batches is known", **_why_no_loss(prefix, numbers)}
    texts = _why_no_loss(prefix, numbers)
    if measured.no_rows is not None:
        texts[keys.key(prefix, keys.ERROR_BAR_ABSENT)] = measured.no_rows
    if measured.unit is not None:
        texts[keys.key(prefix, keys.FINGERPRINT)] = f"{measured.unit}-{rows.fingerprint()}"
    if keys.key(prefix, keys.BITS_PER_BYTE) not in numbers:
        texts[absent] = _why_no_bytes(rows, measured.bytes_absent)
    return numbers, texts


def _why_no_loss(prefix: str, numbers: Mapping[str, float | int]) -> dict[str, str]:
    """The reason where everything was seen and nothing of it was to be scored."""
    if keys.key(prefix, keys.EXACT_LOSS) in numbers:
        return {}
    said = "no target was scored: the evaluation has no row, or every label in it is -100"
    return {keys.key(prefix, keys.EXACT_LOSS_ABSENT): said}


def _why_no_bytes(rows: RowSums, bytes_absent: str | None) -> str:
    if bytes_absent is not None:
        return bytes_absent
    unknown = int((rows.bytes < 0).sum())
    if unknown:
        return f"{unknown} rows score a token without known text (the unknown token, or an id out of range)"
    return "the loss is not finite, or no byte of text is scored"


def best_exact(splits: Mapping[str, EvalProgress], retention: Sequence[str]) -> tuple[int, float] | None:
    """Step and exact loss of the best evaluation of the first set that is not in ``retention``; None without one."""
    kept = {keys.key("eval", name) for name in retention_names(retention)}
    names = [name for name in splits if name not in kept] or list(splits)
    point = splits[names[0]].best if names else None
    if point is None or point.value is None or point.metric != keys.EXACT_LOSS:
        return None  # the Trainer's loss may be any quantity: the best of that is not the best model
    return point.step, point.value
