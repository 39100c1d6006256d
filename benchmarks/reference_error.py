"""How well does the reference text tell two checkpoints of a run apart, and is its interval right?

``python benchmarks/reference_error.py SOURCES [--larger]``

A tiny model (``tests/tiny.py``, a byte-level tokenizer of 1,000 tokens) is trained by a Trainer from scratch, once a
seed, on a fifth of a larger text (``larger_text.py``) that the reference text has nothing of. Its middle and its end
are measured by `ko-cpt measure`'s own code on the reference text.

* **difference, error**: end less middle, bits per byte, paired; its standard error.
* **a tenth holds the whole**: of 200 draws of a tenth of the documents, those whose 95 % interval holds the difference
  on all of them, a text ten times larger. Draws are without putting back, which makes the interval 1.05 times as wide
  as it need be: of a normal mean 96.1 % would hold.
* **--larger**: both are measured on the rest of the larger text too, all documents are the whole, and it is said
  whether the interval of the reference text itself holds the difference on them, by language and by kind. Ten times as
  much of the same kinds could not be had: all documents are 3.3 times the reference text in Korean. Other manuals are
  no draw from the same documents, and the seeds share them: a count, of which no share is asked. It takes three times
  as long.

Exit status 1 where a difference is below 0.02 or an error above 0.002 bits per byte (a language), or fewer than 90 or
more than 98 % of the draws hold.

SOURCES is the folder of the archives (``make bench-reference`` fetches them). Some 20 seconds of processor time a seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import larger_text
import numpy as np
import reference_text
from numpy.typing import NDArray
from reference_text import Twin
from transformers import PrinterCallback
from transformers.utils import logging

from ko_cpt_callbacks.compare.pairing import paired_with
from ko_cpt_callbacks.measure.measurement import MeasuredModel
from ko_cpt_callbacks.measure.model import ModelChoice
from ko_cpt_callbacks.measure.run import MeasureSettings, measure_model
from ko_cpt_callbacks.measure.text import read_text_sets
from ko_cpt_callbacks.metrics.perplexity import interval
from ko_cpt_callbacks.metrics.row_sums import RowSums

sys.path.insert(0, str(reference_text.ROOT / "tests"))
STEPS, ROWS, LENGTH = 200, 16, 128
VOCABULARY, HIDDEN = 1000, 32
DRAWS, SHARE = 200, 0.1
APART, ERROR = 0.02, 0.002
LOWEST, HIGHEST = 0.90, 0.98
LANGUAGES = ("ko", "en")


def is_training(twin: Twin) -> bool:
    """A fifth of the documents, by the hash of their name."""
    return hashlib.sha256(twin[0].encode()).digest()[0] % 5 == 0


def write_texts(sources: Path, folder: Path) -> tuple[list[str], list[str]]:
    """The larger text's files, without the reference text and without what is trained on; and the latter's texts."""
    had = {domain.name: twins for domain, twins in reference_text.made(sources)}
    more = larger_text.more_documents(sources, had)
    files = []
    for place, language in enumerate(LANGUAGES, start=1):
        for domain, twins in more.items():
            file = folder / f"{language}_{domain}.jsonl"
            lines = [json.dumps({"text": twin[place]}) for twin in twins if not is_training(twin)]
            file.write_text("\n".join(lines), encoding="utf-8")
            files.append(str(file))
    return files, [text for twins in more.values() for twin in twins if is_training(twin) for text in twin[1:]]


def train(texts: list[str], seed: int, folder: Path) -> tuple[Path, Path]:
    """Folders of the model in the middle and at the end of its run."""
    import tiny

    tokenizer = trained_tokenizer(texts)
    rows = tiny.packed(tuple(texts), tokenizer, LENGTH)
    model = tiny.llama(len(tokenizer), seed=seed, hidden=HIDDEN)
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": ROWS,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": STEPS // 20,
        "logging_steps": STEPS,
        "save_strategy": "steps",
        "save_steps": STEPS // 2,
        "save_only_model": True,
        "seed": seed,
    }
    trainer = tiny.trainer(model, folder, rows, processing_class=tokenizer, **settings)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    middle, end = (folder / f"checkpoint-{step}" for step in (STEPS // 2, STEPS))
    return middle, end


def trained_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE of the training text."""
    import tiny

    tokenizer = tiny.byte_level_tokenizer.__wrapped__(300)
    return tokenizer.train_new_from_iterator(texts, VOCABULARY)


def measured(model: Path, texts: list[str], folder: Path) -> MeasuredModel:
    """The model on a text."""
    settings = MeasureSettings(folder / ("reference" if texts == ["reference"] else "more"), context=64)
    return measure_model(ModelChoice(str(model), device="cpu"), read_text_sets(texts), settings)


def joined(parts: list[RowSums]) -> RowSums:
    """Rows of several texts, one behind the other."""
    return RowSums(**{one.name: np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(RowSums)})


def drawn(rows: RowSums, places: NDArray[np.intp]) -> RowSums:
    """Some rows."""
    return RowSums(**{one.name: getattr(rows, one.name)[places] for one in fields(RowSums)})


def less(end: RowSums, middle: RowSums) -> tuple[float, float, int]:
    """End less middle in bits per byte, its standard error, documents."""
    found = paired_with(middle, end, same_tokenizer=False)
    assert found.difference is not None and found.se is not None, found.reasons
    return found.difference, found.se, found.rows


def holding(end: RowSums, middle: RowSums, seed: int) -> float:
    """The share of draws of a tenth whose interval holds the difference on all rows."""
    rng = np.random.default_rng(seed)
    truth = less(end, middle)[0]
    held = 0
    for _ in range(DRAWS):
        places = rng.choice(len(end), round(SHARE * len(end)), replace=False)
        difference, error, _ = less(drawn(end, places), drawn(middle, places))
        low, high = interval(difference, error)
        held += low <= truth <= high
    return held / DRAWS


def one_seed(texts: list[str], files: list[str], seed: int, folder: Path) -> Iterator[tuple[Any, ...]]:
    """A line a set: its name, the difference on the reference text, that on all documents, share of draws.

    ``files`` is the larger text; empty: all documents are those of the reference text.
    """
    pair = train(texts, seed, folder)
    found = [
        [{item.name: item.rows for item in measured(one, text, folder).sets} for one in pair]
        for text in (["reference"], files)
        if text
    ]
    for name in found[0][0]:
        end, middle = (joined([each[at][name] for each in found if name in each[at]]) for at in (1, 0))
        share = holding(end, middle, seed) if name in LANGUAGES else None
        yield name, less(found[0][1][name], found[0][0][name]), less(end, middle), share


def main(arguments: list[str]) -> int:
    """Print a line a seed and set; 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path)
    parser.add_argument("--larger", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    reference_text.check_archives(asked.sources, larger_text.ARCHIVES)
    say = partial(print, flush=True)
    wrong, counts, shares = 0, {True: [0, 0], False: [0, 0]}, []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        files, texts = write_texts(asked.sources, scratch)
        say(f"trained on {sum(len(text.encode()) for text in texts):,} bytes")
        heads = (("seed set", -20), ("difference", 12), ("error", 9), ("documents", 11), ("draws hold", 12))
        heads += (("on all", 10), ("documents", 11)) if asked.larger else ()
        say("".join(f"{head:{'<' if width < 0 else '>'}{abs(width)}}" for head, width in heads))
        for seed in range(asked.seeds):
            lines = one_seed(texts, files if asked.larger else [], seed, scratch / str(seed))
            for name, (difference, error, documents), (whole, _, every), share in lines:
                language = name in LANGUAGES
                low, high = interval(difference, error)
                row = f"{seed:<5}{name:15}{difference:>+12.4f}{error:>9.4f}{documents:>11}"
                row += f"{share:>12.1%}" if language else " " * 12
                if every > documents:
                    counts[language][0] += low <= whole <= high
                    counts[language][1] += 1
                    row += f"{whole:>+10.4f}{every:>11}{'' if low <= whole <= high else '  outside'}"
                say(row)
                if language:
                    shares.append(share)
                    wrong += abs(difference) < APART or error > ERROR
    say(f"a tenth holds the whole: {np.mean(shares):.1%} of {DRAWS * len(shares):,} draws")
    for language, what in ((True, "languages"), (False, "kinds")) if asked.larger else ():
        say(f"the reference text's own interval, seeds x {what}: {counts[language][0]} of {counts[language][1]} hold")
    return int(wrong > 0 or not LOWEST <= np.mean(shares) <= HIGHEST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
