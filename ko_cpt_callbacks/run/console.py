"""One line per evaluation and per finding, in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ko_cpt_callbacks import keys
from ko_cpt_callbacks.messages.terminal import printable
from ko_cpt_callbacks.run.finding import Finding
from ko_cpt_callbacks.run.output import Output

__all__ = ["ConsoleOutput", "evaluation_line"]


class ConsoleOutput(Output):
    """Prints through tqdm where a progress bar is at work, so that no bar is torn.

    Args:
        language: Language of the findings' sentences.
    """

    name = "console"

    def __init__(self, language: str) -> None:
        self._language = language

    def row(self, row: Mapping[str, Any]) -> None:
        """Print an evaluation; training rows are the progress bar's."""
        if row.get(keys.KIND) == keys.KIND_EVAL:
            self._print(evaluation_line(row))

    def finding(self, finding: Finding) -> None:
        """Print its line."""
        self._print(finding.line(self._language))

    @staticmethod
    def _print(text: str) -> None:
        text = printable(text)  # set names, sentences and an error's text may hold anything
        # A terminal or pipe of few characters (LC_ALL=C) shows the code of those that it lacks.
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        tqdm = sys.modules.get("tqdm")
        if tqdm is not None:
            tqdm.tqdm.write(text, file=sys.stdout)
        else:
            print(text, flush=True)


def evaluation_line(row: Mapping[str, Any]) -> str:
    """``step 40 · eval_ko: loss 3.078 ± 0.041 · PPL 21.7 · 1.234 bits/byte · 12,345 tokens``.

    Args:
        row: An evaluation line of ``rows.jsonl``; what it lacks is left out, or replaced by the reason.
    """
    prefix = str(row.get(keys.SPLIT, "eval"))

    def get(suffix: str) -> Any:
        return row.get(keys.key(prefix, suffix))

    loss, error, ppl, bits = get(keys.EXACT_LOSS), get(keys.EXACT_LOSS_SE), get(keys.PPL), get(keys.BITS_PER_BYTE)
    parts = []
    if loss is None:
        parts.append(f"no exact loss: {get(keys.EXACT_LOSS_ABSENT) or 'not measured'}")
        if isinstance(get(keys.LOSS), (int, float)):
            parts.append(f"the Trainer's eval_loss {get(keys.LOSS):.3f}")
    elif isinstance(loss, str):
        parts.append(f"loss not finite in {get(keys.NONFINITE_BATCHES)} batches")
    else:
        parts.append(f"loss {loss:.3f}" + (f" ± {error:.3f}" if isinstance(error, (int, float)) else ""))
    if isinstance(ppl, (int, float)):
        # Three significant digits, never 1.23e+03.
        parts.append(f"PPL {float(f'{ppl:.3g}'):,.0f}" if ppl >= 100 else f"PPL {ppl:#.3g}")
    if isinstance(bits, (int, float)):
        parts.append(f"{bits:.3f} bits/byte")
    if get(keys.TOKENS) is not None:
        parts.append(f"{get(keys.TOKENS):,} tokens")
    return f"step {row.get(keys.STEP)} · {prefix}: " + " · ".join(parts)
